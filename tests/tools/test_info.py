"""``trackvae info``: says what is there, names what is wrong, and fails only where nothing is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tracker.io.media import make_images, make_sequence, make_video
from tools.info import Info
from tracker.io.check import check_boxes, check_source
from trackvae.errors import InputError

GOOD = "{frame},{id},10,10,20,30,{score},-1,-1,-1\n"


def write(path: Path, *rows: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{row}\n" for row in rows))
    return path


def shown(capsys: pytest.CaptureFixture[str], source: Path, *, code: int = 0, **flags: bool) -> str:
    """What the command prints, in one line of single spaces."""
    assert Info(str(source), **flags).run() == code
    return " ".join(capsys.readouterr().out.split())


def test_a_sequence_is_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_sequence(tmp_path / "a", 10, seqinfo="seqLength=10")
    rows = [f"{n},{i},{i * 20},0,5,5,{int(i < 3)},1,1" for i in (1, 2, 3) for n in (1, 2, 5 + i)]
    write(path / "gt" / "gt.txt", *rows)
    out = shown(capsys, path)
    for part in (
        "kind sequence", "frames 10", "size 96 x 64", "rate 5 frames/s", "duration 2.0 s",
        "10 boxes in 10 frames (1 to 10), 1.0 a frame, at most 1", "scores 0.5 to 0.5",
        "9 boxes in 5 frames (1 to 8), 1.8 a frame, at most 3", "3 identities",
        "9 columns: MOT16/17/20 ground truth", "3 boxes are marked 0: not scored",
        "5 of 10 frames have no box; the longest gap is 3 after frame 2",
        "3 of 3 identities are away and come back", "no problems found",
    ):  # fmt: skip
        assert part in out


def test_every_problem_of_a_text_file_has_its_line(tmp_path: Path) -> None:
    path = write(
        tmp_path / "gt.txt",
        "1,1,10,10,20,30,1",
        "1,2,10,10,-20,30,1",  # 2 negative
        "",
        "1,1,12,10,20,30,1",  # 4 again
        "2,1,nan,10,20,30,1",  # 5 not finite
        "0,1,10,10,20,30,1",  # 6 frame 0
        "3,1,900,10,20,30,1",  # 7 outside
        "99,1,10,10,20,30,1",  # 8 after the end
        "4,1,10,10,0,30,1",  # 9 no area
        "4,2,ten,10,20,30,1",  # 10 no numbers
        "5,1,10,10",  # 11 ragged
        "4,2,10,10,20,inf,1",  # 12 not finite
        "1000000000,1,10,10,20,30,1",  # 13 a slip
        "4,2.5,10,10,20,30,1",  # 14 half an id
    )
    report = check_boxes(path, size=(640, 480), length=10)
    assert set(report.problems) == {
        f"{path}:10: not numbers",
        f"{path}:11: not 7 columns as the lines before",
        f"{path}:5: not a finite number, or far too large; also in lines 12",
        f"{path}:6: no frame number from 1 on",
        f"{path}:13: frame number above 2000000",
        f"{path}:14: id or class is not a whole number",
        f"{path}:2: negative width or height",
        f"{path}:9: box without area",
        f"{path}:4: id twice in a frame",
        f"{path}:7: box outside the image of 640 x 480",
        f"{path}:8: frame after the last, 10",
    }
    assert report.boxes == 5


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("0,-1,10,10,20,30,1", "no frame number from 1 on"),
        ("2,-1,abc,10,20,30,1", "not numbers"),
        ("2,-1,10,10,-20,30,1", "negative width or height"),
        ("2,-1,10,10,nan,30,1", "not a finite number, or far too large"),
        ("2,-1.5,10,10,20,30,1", "id or class is not a whole number"),
        ("2,-1,10,10", "not 7 columns as the lines before"),
        ("1000000000,-1,10,10,20,30,1", "frame number above 2000000"),
    ],
)
@pytest.mark.parametrize("good", [True, False])
def test_a_bad_line_is_told_once_and_is_no_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, says: str, good: bool
) -> None:
    path = make_sequence(tmp_path / "a", 3, images=False)
    det = write(path / "det" / "det.txt", *["1,-1,10,10,20,30,1"] * good, line)
    says = "not 6 to 10 columns" if not good and "columns" in says else says
    for source in (path, det):
        out = shown(capsys, source)
        assert "1 problem found:" in out
        assert out.endswith(f"{det}:{1 + good}: {says}")


def test_detections_may_repeat_no_box_and_go_by_frame(tmp_path: Path) -> None:
    rows = [
        GOOD.format(frame=f, id=-1, score=s).strip() for f, s in ((1, 3), (1, 2), (3, 1), (2, 1))
    ]
    report = check_boxes(write(tmp_path / "det.txt", *rows), identities=False)
    path = tmp_path / "det.txt"
    assert report.problems == (
        f"{path}:4: frame before that of the line above",
        f"{path}:2: the same box twice in a frame",
    )
    assert report.notes == ("scores are not probabilities: a threshold is on their own scale",)
    assert report.scores == (1, 3)


def test_many_places_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "det.txt", "1,1,1,1,1,1", *["x"] * 40)
    assert check_boxes(path).problems == (f"{path}:2: not numbers; also in lines 3, 4 and 37 more",)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=150), st.lists(st.lists(st.floats().map(str), max_size=11).map(
    ",".join), max_size=5).map(lambda lines: "\n".join(lines).encode())))  # fmt: skip
def test_no_bytes_crash_the_check(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "det.txt"
    path.write_bytes(data)
    for identities in (True, False):
        report = check_boxes(path, size=(640, 480), length=9, identities=identities)
        assert report.boxes or report.problems


def test_missing_images_and_a_wrong_seqinfo_are_problems(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_sequence(tmp_path / "a", 9, seqinfo="seqLength=9\nimWidth=640\nimHeight=480")
    (path / "img1" / "000004.png").unlink()
    (path / "img1" / "000006.png").unlink()
    out = shown(capsys, path)
    assert "000004.png: missing image, 2 in all (also 000006.png)" in out
    assert "seqinfo.ini: 640 x 480, but the first frame is 96 x 64" in out
    assert "2 problems found" in out  # and no frame of det.txt comes "after the last, 7"
    (path / "seqinfo.ini").unlink()
    assert "1 problem found" in shown(capsys, path)
    (path / "seqinfo.ini").write_text("[Sequence]\nseqLength=9\n")
    make_images(path / "img1", [f"{n:06d}.png" for n in range(1, 13)])
    assert "seqLength is 9, but there are 12 images" in shown(capsys, path)


def test_what_cannot_be_opened_still_shows_its_text_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_sequence(tmp_path / "a", 3, seqinfo="seqLength=abc")
    out = shown(capsys, path)
    assert "seqLength is 'abc'" in out
    assert "3 boxes in 3 frames" in out
    (path / "det" / "det.txt").unlink()
    with pytest.raises(InputError, match="seqLength is 'abc'"):
        Info(str(path)).run()


def test_decoding_finds_broken_images_and_videos(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = make_images(tmp_path / "i", ["1.png", "2.png", "3.png"])
    (images / "2.png").write_bytes((images / "2.png").read_bytes()[:100])
    assert "no problems found" in shown(capsys, images)
    assert "2.png: a broken image" in shown(capsys, images, decode=True)
    video = make_video(tmp_path / "v.avi", 20, codec="mjpeg")
    assert "no problems found" in shown(capsys, video, decode=True)
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    assert "broken off after frame" in shown(capsys, video, decode=True)


@pytest.mark.parametrize("inside", [True, False])
def test_a_video_that_breaks_off_is_told_without_decoding(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], inside: bool
) -> None:
    source = make_sequence(tmp_path / "a", 20, images=False) if inside else tmp_path / "v.avi"
    video = make_video(source / "a.avi" if inside else source, 20, codec="mjpeg")
    assert "no problems found" in shown(capsys, source)
    video.write_bytes(video.read_bytes()[:-700])
    told = f"{video}: broken off: its header promises 700 bytes more"
    assert f"1 problem found: {told}" in shown(capsys, source)
    assert "1 problem found" in shown(capsys, source, decode=True)  # told by either, not by both
    mp4 = make_video(tmp_path / "w.mp4", 20)
    mp4.write_bytes(mp4.read_bytes().partition(b"moov")[0])
    with pytest.raises(InputError, match="broken off before its index was written"):
        Info(str(mp4)).run()


def test_text_files_on_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = write(tmp_path / "r.txt", *[f"{n},1,0,0,5,5,1,-1,-1,-1" for n in range(1, 4)])
    assert "3 boxes in 3 frames" in shown(capsys, results)
    empty = write(tmp_path / "e.txt")
    assert "holds no boxes" in shown(capsys, empty)


def test_folder_of_many_is_a_table_with_every_problem_below(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_sequence(tmp_path / "s2", 3)
    make_sequence(tmp_path / "s10", 4, images=False)
    write(tmp_path / "s10" / "gt" / "gt.txt", "1,7,0,0,5,-5,1")
    (tmp_path / "v.mp4").write_bytes(b"junk" * 99)
    out = shown(capsys, tmp_path)
    assert "s2 sequence 3 96 x 64 5 3" in out
    assert "s10 no images 4 ? 5 4 0 1" in out
    assert "v.mp4 unreadable" in out
    assert f"{tmp_path}/s10/gt/gt.txt:1: negative width or height" in out
    assert "v.mp4: no video that can be decoded" in out


def test_a_folder_with_nothing_readable_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(b"junk" * 99)
    assert "2 problems found" in shown(capsys, tmp_path, code=1)
    with pytest.raises(InputError, match="no such file"):
        Info(str(tmp_path / "none")).run()


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "boxes", "people", "frames"),
    [("MOT16-09", 5976, 43, 525), ("PETS09-S2L1", 5578, 19, 795), ("TUD-Campus", 322, 8, 71)],
)
def test_real_sequences_have_no_problems(
    real_data: Path, name: str, boxes: int, people: int, frames: int
) -> None:
    report = check_source(real_data / "data" / "mot" / name)
    assert report.all_problems == ()
    assert report.source is not None
    assert report.detections is not None
    assert report.ground_truth is not None
    assert (report.detections.boxes, report.ground_truth.identities) == (boxes, people)
    assert report.source.info.length == frames
    assert np.isfinite(report.detections.scores).all()
