"""Made scenes: the truth is what is painted, and the detector errs as often as it was told to."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from tracker.io.mot import BoxTable, read_boxes
from tracker.io.seqinfo import read_seqinfo
from tracker.synthetic import Scene, SceneConfig
from tracker.synthetic.detections import DetectorErrors, detect
from tracker.synthetic.figures import POSES, body
from tracker.synthetic.render import Stage
from tracker.synthetic.sprites import SpriteBook
from tracker.synthetic.wardrobe import dress
from trackvae.arrays import FloatArray
from trackvae.errors import InputError, UsageError

SMALL = SceneConfig(width=480, height=270, frames=40, figures=6, seed=5)
_PLAIN = {"noise": 0.0, "light": 0.0, "shadows": False}


def _same(a: BoxTable, b: BoxTable) -> bool:
    names = ("frames", "ids", "boxes", "scores", "classes", "visibility")
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in names)


@pytest.fixture(scope="module")
def crowd() -> Scene:
    """Half a minute in which figures hide each other, leave and return; boxes only."""
    return Scene(
        replace(SMALL, width=320, height=180, frames=250, frame_rate=10.0, figures=8, seed=3)
    )


@pytest.mark.parametrize("camera", ["static", "pan", "handheld"])
def test_the_same_seed_gives_the_same_scene_and_another_seed_another(camera: str) -> None:
    config = replace(SMALL, width=320, height=180, camera=camera, frames=8)
    one, two, other = Scene(config), Scene(config), Scene(replace(config, seed=6))
    two.image(8)  # what was painted before must not matter
    assert _same(one.ground_truth, two.ground_truth)
    assert _same(one.detections, two.detections)
    assert np.array_equal(one.image(7), two.image(7))
    assert not _same(one.ground_truth, other.ground_truth)
    assert not np.array_equal(one.image(7), other.image(7))


def _alpha(scene: Scene, stage: Stage, *, props: bool = False) -> FloatArray:
    """How opaque a stage is in every pixel ``(H, W)``: painted before black and before white.

    What shows through differs by 255 between the two pictures, what is covered by nothing.
    """
    renderer = scene._renderer
    kept = renderer._backdrop
    pictures = []
    for grey in (0, 255):
        plain = np.full_like(kept.image, grey)
        renderer._backdrop = replace(kept, image=plain, props=kept.props if props else ())
        pictures.append(renderer.image(stage, 1.0, 1).astype(int))
    renderer._backdrop = kept
    return 255 - (pictures[1] - pictures[0]).min(axis=2)


def _only(stage: Stage, rows: npt.NDArray[np.bool_]) -> Stage:
    columns = (stage.identity, stage.pose, stage.foot, stage.size, stage.facing, stage.boxes)
    return Stage(*(column[rows] for column in columns), stage.camera)


@pytest.mark.parametrize("camera", ["static", "handheld"])
def test_boxes_are_tight_on_what_is_painted(camera: str) -> None:
    """Every figure alone: the box of its painted silhouette is that of the ground truth."""
    scene = Scene(replace(SMALL, width=640, height=360, figures=8, camera=camera, **_PLAIN))
    truth = scene.ground_truth
    checked = 0
    for frame in (2, 15, 31):
        stage = scene._stage(frame)
        for identity in stage.identity.tolist():
            rows = (truth.frames == frame) & (truth.ids == identity + 1)
            box = truth.boxes[rows][0]
            if (box[:2] < 1).any() or (box[2:] > (639, 359)).any():
                continue
            y, x = np.nonzero(_alpha(scene, _only(stage, stage.identity == identity)) >= 128)
            painted = [x.min(), y.min(), x.max() + 1, y.max() + 1]
            np.testing.assert_allclose(painted, box, atol=1.0)
            checked += 1
    assert checked >= 8


def test_every_pose_of_every_look_fills_its_extent() -> None:
    """Sprites of many looks: the silhouette's bounding box is the polygons', within a pixel."""
    from tracker.synthetic.shapes import extent

    looks = dress(10, np.random.default_rng(1))
    book = SpriteBook(looks, 200.0)
    for identity, look in enumerate(looks):
        for pose in (0, 1, 7, 19, POSES // 2 + 4, POSES - 6):
            sprite = book.get(identity, pose)
            y, x = np.nonzero(sprite.levels[0][..., 3] >= 128)
            ox, oy = sprite.origin
            painted = [x.min() - ox, oy - y.max() - 1, x.max() + 1 - ox, oy - y.min()]
            np.testing.assert_allclose(painted, 200.0 * extent(body(look, pose)), atol=1.0)


def test_pictures_have_the_size_asked_for_and_hold_something() -> None:
    scene = Scene(replace(SMALL, width=322, height=182, frames=3))
    pictures = list(scene.frames())
    assert [p.shape for p in pictures] == [(182, 322, 3)] * 3
    assert all(p.dtype == np.uint8 and p.std() > 20 for p in pictures)


def test_a_lone_figure_is_fully_visible_until_it_leaves_or_is_hidden() -> None:
    config = SceneConfig(width=480, height=270, frames=200, figures=1, density=1.0, seed=2)
    truth = Scene(config).ground_truth
    inside = (truth.boxes[:, :2] > 1).all(axis=1) & (truth.boxes[:, 2:] < (479, 269)).all(axis=1)
    assert np.median(truth.visibility[inside]) == 1.0  # furniture hides it for a while only
    assert (truth.visibility[~inside] < 1.0).mean() > 0.9


def test_visibility_is_the_share_of_the_silhouette_that_is_painted() -> None:
    """Against pictures: a figure alone, and all that stands before it."""
    scene = Scene(replace(SMALL, figures=8, density=1.0, seed=9, **_PLAIN))
    truth = scene.ground_truth
    boxes, shown = truth.boxes, truth.visibility
    inside = (boxes[:, :2] > 1).all(axis=1) & (boxes[:, 2:] < (479, 269)).all(axis=1)
    crossing = np.flatnonzero(inside & (shown > 0.1) & (shown < 0.9))
    assert len(crossing) > 20
    for row in crossing[:: len(crossing) // 12].tolist():
        stage = scene._stage(int(truth.frames[row]))
        me = stage.identity == truth.ids[row] - 1
        feet = stage.foot[me][0, 1]
        backdrop = scene._renderer._backdrop
        near = tuple(item for item in backdrop.props if item.foot[1] > feet)
        scene._renderer._backdrop = replace(backdrop, props=near)
        before = _alpha(scene, _only(stage, stage.foot[:, 1] > feet), props=True) >= 128
        scene._renderer._backdrop = backdrop
        whole = _alpha(scene, _only(stage, me)) >= 128
        seen = np.count_nonzero(whole & ~before) / np.count_nonzero(whole)
        assert abs(seen - shown[row]) < 0.02


def test_a_nearer_figure_that_crosses_lowers_visibility() -> None:
    """Two figures and no furniture: the farther is hidden, the nearer never."""
    scene = Scene(replace(SMALL, figures=2, frames=10, density=1.0))
    renderer = scene._renderer
    renderer._backdrop = replace(renderer._backdrop, props=())
    seen = []
    for gap in range(-80, 81, 4):
        foot = np.array([[240.0, 180.0], [240.0 + gap, 200.0]])
        boxes = np.array([[210.0, 80.0, 270.0, 180.0], [210.0 + gap, 90.0, 270.0 + gap, 200.0]])
        two = np.array([0, 1])
        stage = Stage(two, two, foot, np.array([100.0, 110.0]), two * 2 - 1, boxes, scene.camera[0])
        shown, inside = renderer.visibility(stage)
        assert shown[1] == 1.0
        assert (inside == 1.0).all()
        seen.append(shown[0])
    assert seen[0] == seen[-1] == 1.0
    assert min(seen[15:26]) < 0.35
    assert seen.index(min(seen)) in range(15, 26)


def test_figures_leave_and_come_back_as_themselves(crowd: Scene) -> None:
    truth = crowd.ground_truth
    assert set(truth.ids.tolist()) == set(range(1, 9))
    returned = 0
    for identity in range(1, 9):
        frames = truth.frames[truth.ids == identity]
        returned += int((np.diff(frames) > 10).sum())
        boxes = truth.boxes[truth.ids == identity]
        steps = np.abs(np.diff(boxes.mean(axis=1)))[np.diff(frames) == 1]
        assert (steps < 15).all()  # between two frames nobody jumps
    assert returned >= 3


def test_density_is_the_share_of_time_in_the_scene() -> None:
    scenes = [
        Scene(SceneConfig(frames=4000, figures=20, density=share, seed=1)) for share in (0.3, 0.8)
    ]
    shares = [scene._walks.present.mean() for scene in scenes]
    np.testing.assert_allclose(shares, [0.3, 0.8], atol=0.06)


def test_rows_lie_in_the_picture_and_nearer_figures_are_larger(crowd: Scene) -> None:
    truth = crowd.ground_truth
    assert (truth.boxes[:, 2:] > 0).all()
    assert (truth.boxes[:, :2] < (320, 180)).all()
    assert (np.diff(truth.frames) >= 0).all()
    height = truth.boxes[:, 3] - truth.boxes[:, 1]
    share = height / (truth.boxes[:, 3] - crowd._world.horizon)
    for identity in range(1, 9):  # as a ground plane wants it, but for the bob of the gait
        rows = truth.ids == identity
        assert np.ptp(share[rows]) < 0.08 * np.median(share[rows])


def test_a_faultless_detector_reports_the_visible_truth(crowd: Scene) -> None:
    truth = crowd.ground_truth
    size = (crowd.config.width, crowd.config.height)
    found = detect(truth, 250, size, crowd.config.perfect().errors, np.random.default_rng(0))
    visible = truth.select(truth.visibility > 0)
    assert np.array_equal(np.unique(found.frames), np.unique(visible.frames))
    for frame in (1, 60, 140, 250):
        expected, got = visible.boxes[visible.rows(frame)], found.boxes[found.rows(frame)]
        assert np.array_equal(np.sort(expected, axis=0), np.sort(got, axis=0))
    assert len(found) == len(visible)


def _many(visibility: FloatArray) -> BoxTable:
    rows = len(visibility)
    boxes = np.tile([100.0, 50.0, 140.0, 150.0], (rows, 1))
    frames = np.arange(rows) // 10 + 1
    return BoxTable.of(frames, np.arange(rows) % 10, boxes, visibility=visibility)


def test_the_detector_errs_as_often_as_it_was_told_to() -> None:
    """Misses, false alarms and jitter within six standard errors, for the seen and the hidden."""
    rng = np.random.default_rng(8)
    rows, frames = 60_000, 6_000
    miss, hidden_misses, alarms, jitter = 0.07, 0.8, 0.4, 0.04
    errors = DetectorErrors(miss, hidden_misses, 0.0, jitter, 0.1)
    for visibility in (1.0, 0.5, 0.1):
        found = detect(_many(np.full(rows, visibility)), frames, (640, 480), errors, rng)
        expected = (1 - miss) * (1 - hidden_misses * (1 - visibility))
        error = np.sqrt(expected * (1 - expected) / rows)
        assert abs(len(found) / rows - expected) < 6 * error
        centre = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2 - (120.0, 100.0)
        growth = np.log((found.boxes[:, 2:] - found.boxes[:, :2]) / (40.0, 100.0))
        for noise in (*(centre / (40.0, 100.0)).T, *growth.T):
            assert abs(noise.std() - jitter) < 6 * jitter / np.sqrt(2 * len(found))
            assert abs(noise.mean()) < 6 * jitter / np.sqrt(len(found))
        assert found.scores.min() > 0
        assert found.scores.max() <= 1
    nothing = replace(errors, false_alarms_per_frame=alarms)
    false = detect(BoxTable.empty(), frames, (640, 480), nothing, rng)
    assert abs(len(false) / frames - alarms) < 6 * np.sqrt(alarms / frames)
    assert (false.boxes[:, :2] >= 0).all()
    assert (false.boxes[:, 2:] <= (640, 480)).all()


@pytest.mark.parametrize("camera", ["pan", "handheld"])
def test_the_camera_moves_the_background_and_the_boxes_alike(camera: str) -> None:
    """Corners of an empty street, followed by optical flow, move as ``scene.camera`` says."""
    config = SceneConfig(camera=camera, frames=60, figures=0, seed=4, **_PLAIN)
    scene = Scene(config)
    for frame in (5, 30):
        before, after = (
            cv2.cvtColor(scene.image(f), cv2.COLOR_BGR2GRAY) for f in (frame, frame + 2)
        )
        corners = cv2.goodFeaturesToTrack(before, 300, 0.05, 12)
        moved, ok, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, None)
        good = ok.ravel() == 1
        seen = (moved - corners).reshape(-1, 2)[good]
        at = corners.reshape(-1, 2)[good] + 0.5
        old, new = scene.camera[frame - 1], scene.camera[frame + 1]
        world = (at - old[1:]) / old[0]
        expected = new[0] * world + new[1:] - at
        assert np.abs(expected).max() > 0.2
        np.testing.assert_allclose(
            np.median(seen - expected, axis=0), 0.0, atol=0.1 + 0.02 * np.abs(expected).max()
        )
    walkers = Scene(replace(config, figures=3, density=1.0))
    still = Scene(replace(config, figures=3, density=1.0))
    still.camera[:] = [1.0, 0.0, 0.0]
    a, b = walkers._stage(40), still._stage(40)
    for identity in a.identity.tolist():
        if identity in b.identity:
            box = b.boxes[b.identity == identity].reshape(2, 2)
            shown = walkers.camera[39, 0] * box + walkers.camera[39, 1:]
            np.testing.assert_allclose(a.boxes[a.identity == identity].reshape(2, 2), shown)


def test_figures_are_told_apart_by_their_colours() -> None:
    """A crop's nearest colour histogram, among crops taken elsewhere, is the same identity's."""
    scene = Scene(replace(SMALL, frames=80, figures=12, density=1.0, seed=1))
    truth = scene.ground_truth
    features, ids = [], []
    for frame in range(1, 80, 13):
        image, rows = scene.image(frame), truth.rows(frame)
        for box, identity, seen in zip(
            truth.boxes[rows], truth.ids[rows], truth.visibility[rows], strict=True
        ):
            if seen < 0.9:
                continue
            x0, y0, x1, y1 = np.clip(np.rint(box), 0, (480, 270, 480, 270)).astype(int)
            inner = image[y0:y1, x0 + (x1 - x0) // 4 : x1 - (x1 - x0) // 4]
            stripes = np.array_split(inner, 4)
            histograms = [
                cv2.calcHist([np.ascontiguousarray(s)], [0, 1, 2], None, [4] * 3, [0, 256] * 3)
                for s in stripes
            ]
            features.append(np.sqrt(np.concatenate([h.ravel() / h.sum() for h in histograms])))
            ids.append(identity)
    gaps = np.linalg.norm(np.array(features)[:, None] - np.array(features)[None], axis=2)
    np.fill_diagonal(gaps, np.inf)
    label = np.array(ids)
    assert len(set(ids)) >= 8
    assert (label[gaps.argmin(axis=1)] == label).mean() > 0.9


def test_a_written_scene_reads_back(tmp_path: Path) -> None:
    scene = Scene(replace(SMALL, frames=6))
    calls: list[tuple[int, int]] = []
    folder = scene.write(
        tmp_path / "MADE-01", progress=lambda done, all_: calls.append((done, all_))
    )
    assert calls == [(k, 6) for k in range(1, 7)]
    info = read_seqinfo(folder / "seqinfo.ini")
    assert (info.name, info.length, info.width, info.height) == ("MADE-01", 6, 480, 270)
    assert (info.frame_rate, info.image_ext) == (25.0, ".jpg")
    truth = read_boxes(folder / "gt" / "gt.txt", unique_ids=True)
    assert np.array_equal(truth.ids, scene.ground_truth.ids)
    np.testing.assert_allclose(truth.boxes, scene.ground_truth.boxes, atol=1.1e-3)
    np.testing.assert_allclose(truth.visibility, scene.ground_truth.visibility, atol=6e-4)
    assert (truth.classes == 1).all()
    found = read_boxes(folder / "det" / "det.txt")
    assert (found.ids == -1).all()
    np.testing.assert_allclose(found.boxes, scene.detections.boxes, atol=1.1e-3)
    names = sorted(path.name for path in (folder / "img1").iterdir())
    assert names == [f"{k:06d}.jpg" for k in range(1, 7)]
    picture = cv2.imread(str(folder / "img1" / "000004.jpg")).astype(int)
    assert np.abs(picture - scene.image(4)).mean() < 4  # JPEG's own loss
    with pytest.raises(InputError, match="not empty"):
        scene.write(folder)
    scene.write(folder, images="none", overwrite=True)
    assert not (folder / "img1").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["MADE-01"]  # nothing temporary stays


@pytest.mark.parametrize(
    "stranger",
    ["notes.txt", "img1/family.jpg", "det/yolo.txt", "gt/old/gt.txt", "weights/a.pt", "other.mp4"],
)
def test_overwriting_a_scene_takes_nothing_else_with_it(tmp_path: Path, stranger: str) -> None:
    scene, folder = Scene(replace(SMALL, frames=2)), tmp_path / "MADE"
    for images in ("png", "mp4", "jpg"):
        scene.write(folder, images=images, overwrite=True)
    (folder / ".DS_Store").write_text("left by a Mac")
    scene.write(folder, images="none", overwrite=True)
    path = folder / stranger
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text("dear to somebody")
    named = folder / Path(stranger).parts[0] if "weights" in stranger else path
    named = named.parent if "old" in stranger else named
    with pytest.raises(InputError) as caught:
        scene.write(folder, overwrite=True)
    assert str(caught.value).startswith(f"{named}: not of a made scene")
    assert path.read_text() == "dear to somebody"
    assert [p.name for p in tmp_path.iterdir()] == ["MADE"]


def test_a_sequence_that_we_did_not_make_is_never_overwritten(tmp_path: Path) -> None:
    scene, folder = Scene(replace(SMALL, frames=2)), tmp_path / "MOT16-09"
    scene.write(folder, images="none")
    ini = folder / "seqinfo.ini"
    ini.write_text(ini.read_text().replace("maker=trackvae\n", ""))
    with pytest.raises(InputError, match=r"MOT16-09: not overwritten.*maker=trackvae"):
        scene.write(folder, overwrite=True)
    (tmp_path / "link").symlink_to(folder / "gt")
    with pytest.raises(InputError, match=r"link.gt\.txt: not of a made scene"):
        scene.write(tmp_path / "link", overwrite=True)


def test_a_swap_that_fails_leaves_the_old_scene(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, folder = Scene(replace(SMALL, frames=2)), tmp_path / "MADE"
    scene.write(folder, images="png")
    rename = os.replace

    def fail(source: Path, target: Path) -> None:
        if source.is_dir() and source.suffix == ".part":
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(InputError, match=r"cannot be written \(No space left on device\)"):
        scene.write(folder, images="none", overwrite=True)
    assert (folder / "img1" / "000002.png").is_file()
    assert [p.name for p in tmp_path.iterdir()] == ["MADE"]


def test_a_scene_as_a_video_has_its_frames(tmp_path: Path) -> None:
    import av

    scene = Scene(replace(SMALL, frames=8))
    folder = scene.write(tmp_path / "clip", images="mp4")
    with av.open(str(folder / "clip.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert float(stream.average_rate) == 25.0
        pictures = [frame.to_ndarray(format="bgr24") for frame in container.decode(stream)]
    assert len(pictures) == 8
    assert np.abs(pictures[5].astype(int) - scene.image(6)).mean() < 8


def test_an_interrupted_writing_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, _: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Scene(replace(SMALL, frames=6)).write(tmp_path / "cut", progress=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"camera": "drone"}, "camera is 'drone', expected one of static, pan, handheld"),
        ({"frames": 0}, "frames is 0, expected 1 to"),
        ({"density": 1.5}, "density is 1.5, expected 0.05 to 1"),
        ({"miss_rate": -0.1}, "miss_rate is -0.1, expected 0 to 1"),
        ({"jitter": float("nan")}, "jitter is nan"),
        ({"light": float("nan")}, "light is nan"),
    ],
)
def test_what_cannot_be_made_is_refused(setting: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        SceneConfig(**setting)


def test_frames_and_kinds_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    scene = Scene(replace(SMALL, width=481, frames=3))
    with pytest.raises(UsageError, match="frame 4 asked for, the scene has 1 to 3"):
        scene.image(4)
    with pytest.raises(UsageError, match="images is 'gif'"):
        scene.write(tmp_path / "x", images="gif")
    with pytest.raises(UsageError, match="even sides, the picture is 481x270"):
        scene.write(tmp_path / "x", images="mp4")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        scene.write(tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_importing_the_generator_is_light() -> None:
    code = "import sys, tracker.synthetic; print([m for m in ('cv2', 'av') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
