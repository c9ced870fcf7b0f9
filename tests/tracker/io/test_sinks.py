"""Sinks: files that are valid after every frame, replaced whole, and drawn so that one can tell."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tracker.io.media import number_of, picture
from tracker.detections import Frame, Tracks
from tracker.io.annotate import Annotator, contact_sheet
from tracker.io.mot import read_boxes
from tracker.io.sinks import JsonLinesSink, MotTextSink, Sink
from tracker.io.sources import open_frames
from tracker.io.video_sink import VideoSink
from trackvae.errors import InputError


def tracks_of(*rows: tuple[int, float, float, float, float]) -> Tracks:
    """Tracks from (id, left, top, right, bottom)."""
    table = np.array(rows, dtype=np.float64).reshape(len(rows), 5)
    count = len(rows)
    return Tracks(
        table[:, 0].astype(np.int64),
        table[:, 1:],
        np.full(count, 0.5),
        np.full(count, -1),
        np.arange(count) - 1,  # the first is carried by its motion alone
    )


NONE = tracks_of()
TWO = tracks_of((1, 10, 10, 30, 50), (2, 40.5, 12, 61.5, 48.25))


def sink_of(kind: str) -> Callable[[Path], Sink]:
    makers: dict[str, Callable[[Path], Sink]] = {
        "r.txt": MotTextSink,
        "r.jsonl": JsonLinesSink,
        "r.mp4": lambda path: VideoSink(path, 10),
    }
    return makers[kind]


ALL = pytest.mark.parametrize("kind", ["r.txt", "r.jsonl", "r.mp4"])


# The text forms


def test_mot_text_is_valid_after_every_frame(tmp_path: Path) -> None:
    path = tmp_path / "new" / "r.txt"
    with MotTextSink(path) as sink:
        for n in range(1, 6):
            sink.write(Frame(n, n / 10), NONE if n == 3 else TWO)
            table = read_boxes(path, unique_ids=True)
            assert len(table) == 2 * (n - (n >= 3))
    assert table.frames.tolist() == [1, 1, 2, 2, 4, 4, 5, 5]
    np.testing.assert_allclose(table.boxes[:2], TWO.boxes)
    assert path.read_text().startswith("1,1,10.000,10.000,20.000,40.000,0.5,-1,-1,-1\n")


def test_results_without_any_track_are_an_empty_file(tmp_path: Path) -> None:
    with MotTextSink(tmp_path / "r.txt") as sink:
        sink.write(Frame(1, 0.0), NONE)
    assert (tmp_path / "r.txt").read_bytes() == b""


def test_json_lines_say_everything(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with JsonLinesSink(path) as sink:
        sink.write(Frame(1, 0.0), TWO)
        sink.write(Frame(2, 0.04), NONE)
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    assert first == {
        "frame": 1,
        "timestamp": 0.0,
        "tracks": [
            {"id": 1, "tlwh": [10, 10, 20, 40], "score": 0.5, "class": -1, "detection": None},
            {"id": 2, "tlwh": [40.5, 12, 21, 36.25], "score": 0.5, "class": -1, "detection": 0},
        ],
    }
    assert second == {"frame": 2, "timestamp": 0.04, "tracks": []}


boxes = st.lists(st.lists(st.floats(-5000, 5000), min_size=4, max_size=4), max_size=6)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(boxes, min_size=1, max_size=5))
def test_both_text_forms_hold_the_same_boxes(
    tmp_path: Path, frames: list[list[list[float]]]
) -> None:
    texts = (MotTextSink(tmp_path / "r.txt"), JsonLinesSink(tmp_path / "r.jsonl"))
    for n, corners in enumerate(frames, start=1):
        rows = [(i + 1, a, b, a + abs(c), b + abs(d)) for i, (a, b, c, d) in enumerate(corners)]
        for sink in texts:
            sink.write(Frame(n, n / 10), tracks_of(*rows))
    for sink in texts:
        sink.close()
    table = read_boxes(tmp_path / "r.txt", unique_ids=True)
    lines = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    flat = [[line["frame"], t["id"], *t["tlwh"]] for line in lines for t in line["tracks"]]
    again = np.array(flat, dtype=np.float64).reshape(len(flat), 6)
    assert again[:, 0].tolist() == table.frames.tolist()
    assert again[:, 1].tolist() == table.ids.tolist()
    again[:, 4:] += again[:, 2:4]
    np.testing.assert_allclose(again[:, 2:], table.boxes, atol=2e-3)


# What was there, and what cannot be written


@ALL
def test_what_was_there_stays_until_there_is_something_new(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    path.write_bytes(b"an earlier result")

    def fail_before_the_first_frame() -> None:
        with sink_of(kind)(path):
            assert path.read_bytes() == b"an earlier result"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_before_the_first_frame()
    assert path.read_bytes() == b"an earlier result"
    with sink_of(kind)(path) as sink:
        sink.write(Frame(1, 0.0, picture(1)), TWO)
    assert b"earlier" not in path.read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == [kind]  # nothing else is left lying


@pytest.mark.parametrize("kind", ["r.txt", "r.jsonl"])
@pytest.mark.parametrize("by_hand", [True, False])
def test_a_source_without_frames_leaves_an_empty_result_and_no_old_one(
    tmp_path: Path, kind: str, by_hand: bool
) -> None:
    path = tmp_path / kind
    path.write_bytes(b"an earlier result")
    sink = sink_of(kind)(path)
    if by_hand:
        sink.close()
    else:
        with sink:
            pass
    assert path.read_bytes() == b""
    assert [p.name for p in tmp_path.iterdir()] == [kind]
    with pytest.raises(ValueError, match="closed"):  # it would begin the file anew
        sink.write(Frame(1, 0.0), TWO)


@ALL
def test_closing_twice_and_after_an_error_is_fine(tmp_path: Path, kind: str) -> None:
    def run() -> None:
        with sink_of(kind)(tmp_path / kind) as sink:
            sink.write(Frame(1, 0.0, picture(1)), TWO)
            sink.close()
            sink.close()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert (tmp_path / kind).stat().st_size > 50


@ALL
def test_unwritable_outputs_are_named_at_open(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "d" / kind
    folder.mkdir(parents=True)
    with pytest.raises(InputError, match="it is a folder") as caught:
        sink_of(kind)(folder)
    assert str(caught.value).startswith(f"{folder}: cannot be written")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be written \(.*file is not a folder\)"):
        sink_of(kind)(tmp_path / "file" / kind)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / kind)
        with pytest.raises(InputError, match="not an ordinary file"):
            sink_of(kind)(tmp_path / kind)


@ALL
def test_folder_without_rights_is_named_at_open(tmp_path: Path, kind: str) -> None:
    if os.name == "nt" or os.geteuid() == 0:
        pytest.skip("nothing is forbidden to root")
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot be written"):
        sink_of(kind)(tmp_path / kind)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_full_disk_is_one_line_and_keeps_the_frames_before(tmp_path: Path) -> None:
    sink = MotTextSink(tmp_path / "r.txt")
    sink.write(Frame(1, 0.0), TWO)
    file = sink._file
    assert file._file is not None
    os.dup2(os.open("/dev/full", os.O_WRONLY), file._file)
    with pytest.raises(InputError, match="No space left"):
        sink.write(Frame(2, 0.1), TWO)
    sink.close()
    assert read_boxes(tmp_path / "r.txt").frames.tolist() == [1, 1]


# The video


def decoded(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


@pytest.mark.parametrize(("width", "height"), [(96, 64), (97, 63), (1, 1), (640, 101)])
def test_video_is_what_a_browser_plays(tmp_path: Path, width: int, height: int) -> None:
    path = tmp_path / "v.mp4"
    with VideoSink(path, 10) as sink:
        for n in range(25):
            sink.write(Frame(n + 1, n / 10, np.full((height, width, 3), 9 * n, np.uint8)), NONE)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height) == (width + width % 2, height + height % 2)
        assert (stream.frames, stream.average_rate) == (25, 10)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # starts before it is loaded
    assert b"moof" not in data  # no fragments are left: every player can seek
    frames = decoded(path)
    assert [f.time for f in frames] == pytest.approx(np.arange(25) / 10, abs=1e-3)
    for n, frame in enumerate(frames):
        assert np.abs(frame.to_ndarray(format="bgr24").astype(int) - 9 * n).mean() < 5


def test_video_keeps_a_variable_rate_and_survives_times_that_stand_still(tmp_path: Path) -> None:
    times = [0.0, 0.03, 0.5, 0.5, 0.4, 2.0]
    with VideoSink(tmp_path / "v.mp4", 10) as sink:
        for n, seconds in enumerate(times, start=1):
            sink.write(Frame(n, seconds, picture(n)), NONE)
    source = open_frames(tmp_path / "v.mp4")
    assert [number_of(f.image) for f in source] == [1, 2, 3, 4, 5, 6]
    assert [f.timestamp for f in source] == pytest.approx([0, 0.03, 0.5, 0.5, 0.5, 2], abs=2e-3)


def test_wide_video_is_scaled_and_other_sizes_fit_in(tmp_path: Path) -> None:
    with VideoSink(tmp_path / "v.mp4", 10, max_width=100) as sink:
        sink.write(Frame(1, 0.0, np.full((300, 400, 3), 200, np.uint8)), NONE)
        sink.write(Frame(2, 0.1, np.full((400, 100, 3), 200, np.uint8)), NONE)
        sink.write(Frame(3, 0.2, np.full((30, 100, 3), 200, np.uint8)), NONE)
    first, tall, wide = (f.to_ndarray(format="gray") for f in decoded(tmp_path / "v.mp4"))
    assert first.shape == tall.shape == wide.shape == (76, 100)  # 75 made even
    assert first.mean() > 190
    assert tall[40, 50] > 180 > 60 > tall[40, 10]  # bars left and right
    assert wide[38, 50] > 180 > 60 > wide[5, 50]  # above and below


def test_drawing_leaves_the_frame_as_it_was(tmp_path: Path) -> None:
    image = picture(5)
    with VideoSink(tmp_path / "v.mp4", 10) as sink:
        sink.write(Frame(1, 0.0, image), TWO)
    np.testing.assert_array_equal(image, picture(5))
    assert np.abs(decoded(tmp_path / "v.mp4")[0].to_ndarray(format="bgr24") - image).max() > 50


def test_video_needs_images_and_an_mp4(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match="frame 3 has no image"),
        VideoSink(tmp_path / "v.mp4", 10) as sink,
    ):
        sink.write(Frame(3, 0.0), TWO)
    with pytest.raises(InputError, match=r"is an \.mp4 file"):
        VideoSink(tmp_path / "v.avi", 10)


# Killed


_VICTIM = """
import sys, time
import numpy as np
from tests.tracker.io.media import picture
from tests.tracker.io.test_sinks import TWO, sink_of
from tracker.detections import Frame
from pathlib import Path
kind, path = sys.argv[1], Path(sys.argv[2])
sink = sink_of(kind)(path)
for n in range(1, 100_000):
    sink.write(Frame(n, n / 10, picture(n % 64)), TWO)
    if n == 150:
        print("started", flush=True)
"""


@ALL
@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_killed_run_leaves_whole_frames(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    victim = subprocess.Popen(
        [sys.executable, "-c", _VICTIM, kind, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert victim.stdout is not None
    assert victim.stdout.readline() == "started\n"
    time.sleep(0.1)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    if kind == "r.txt":
        frames = read_boxes(path, unique_ids=True).frames
        assert frames.tolist() == [n for n in range(1, len(frames) // 2 + 1) for _ in TWO.ids]
        assert len(frames) >= 300
    elif kind == "r.jsonl":
        lines = path.read_text().split("\n")
        assert lines.pop() == ""
        assert [json.loads(line)["frame"] for line in lines] == list(range(1, len(lines) + 1))
        assert len(lines) >= 150
    else:
        seen = [number_of(frame.image) for frame in open_frames(path)]
        assert len(seen) >= 50
        assert seen == [n % 64 for n in range(1, len(seen) + 1)]


# Pictures


def test_a_track_keeps_its_colour_and_its_neighbour_has_another() -> None:
    def colour(identity: int, left: float, annotator: Annotator) -> list[int]:
        canvas = np.zeros((240, 320, 3), np.uint8)
        drawn = annotator.draw(
            canvas, tracks_of((9, 0, 0, 1, 1), (identity, left, 60, left + 60, 200))
        )
        return [int(v) for v in drawn[150, int(left)]]

    one = Annotator(trail=0)
    first = [colour(n, 100, one) for n in range(1, 13)]
    assert [colour(n, 200, Annotator(trail=0)) for n in range(1, 13)] == first
    assert len({tuple(c) for c in first}) == 12


def test_trails_follow_the_living_and_memory_forgets_the_dead() -> None:
    annotator = Annotator(trail=10)
    canvas = np.zeros((200, 400, 3), np.uint8)
    for n in range(300):
        left = 100 + n % 20
        rows = ((n // 5, left, 50, left + 20, 90), (1000, n, 100, n + 20, 140))
        drawn = annotator.draw(canvas.copy(), tracks_of(*rows))
    # The trail of track 1000: its feet of the last frames, nothing where it was long ago.
    assert drawn[140, 299 + 10 - 8].any()
    assert not drawn[140, :200].any()
    assert annotator._tools is not None
    trace = annotator._tools._trace
    assert trace is not None
    assert len(trace.trace.xy) <= 2 * 11


@pytest.mark.parametrize("box", [(-50, -50, -10, -10), (90, 60, 500, 900), (5, 5, 5, 5),
                                 (-1e300, 0, 1e300, 9)])  # fmt: skip
def test_boxes_out_of_the_picture_can_be_drawn(box: tuple[float, float, float, float]) -> None:
    image = Annotator().draw(picture(1), tracks_of((1, *box), (2, *box)))
    assert image.shape == (64, 96, 3)


@pytest.mark.parametrize("corner", [(-40, -30), (150, 20), (310, 100), (-40, 100), (100, -30)])
def test_labels_stay_in_the_picture(corner: tuple[int, int]) -> None:
    left, top = corner
    canvas = np.zeros((240, 320, 3), np.uint8)
    drawn = Annotator(trail=0).draw(canvas, tracks_of((1, left, top, left + 60, top + 90)))
    # Track 1 is green with white letters; its box alone has nothing white.
    assert (drawn.min(axis=2) > 120).sum() > 10


def test_contact_sheet_puts_the_frames_in_rows(tmp_path: Path) -> None:
    colours = [(0, 0, 255), (0, 255, 0), (255, 0, 0), (255, 255, 0), (255, 0, 255)]
    frames = [np.full((60, 80, 3), c, np.uint8) for c in colours]
    contact_sheet(frames, tmp_path / "s.png", columns=3, width=320, captions=list("abcde"))
    sheet = cv2.imread(str(tmp_path / "s.png"))
    assert sheet.shape[1] == 320
    middle_rows = (18 + 42, sheet.shape[0] - 40)
    found = [tuple(sheet[y, x].tolist()) for y in middle_rows for x in (55, 160, 265)]
    assert found[:5] == colours
    assert found[5] == (24, 24, 24)
    for bad, says in (("s.mp4", "is a .png or .jpg"), ("s.png/x.png", "cannot be written")):
        with pytest.raises(InputError, match=says):
            contact_sheet(frames, tmp_path / bad)
    with pytest.raises(InputError, match="no frames"):
        contact_sheet([], tmp_path / "s.png")
