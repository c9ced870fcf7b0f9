"""Sources: every kind gives its frames in order, and says in one line what is wrong with it."""

from __future__ import annotations

import functools
import os
import re
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tracker.io.media import make_images, make_sequence, make_video, number_of, picture
from tracker.detections import Frame
from tracker.io.sources import Source, list_sources, open_frames
from trackvae.errors import InputError
from trackvae.images import natural_key


def numbers(source: Source) -> list[int]:
    """What the pictures say, after checking that the frames count from 1."""
    frames = list(source)
    assert [frame.index for frame in frames] == list(range(1, len(frames) + 1))
    return [number_of(frame.image) for frame in frames]


def read_until_complaint(frames: Iterable[Frame]) -> tuple[list[int], str]:
    """The numbers of the frames that came, and the one line after them."""
    seen = []
    try:
        for frame in frames:
            seen.append(number_of(frame.image))
    except InputError as error:
        return seen, str(error)
    pytest.fail(f"no complaint after {len(seen)} frames")


def complaint(source: str | Path | int) -> str:
    """The one line that opening or reading ``source`` ends with."""
    with pytest.raises(InputError) as caught:
        list(open_frames(source))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Videos


def place_of_packet(path: Path, number: int) -> tuple[int, int]:
    """Where in the file the packet with this number, from 0, begins, and its size."""
    with av.open(str(path)) as container:
        packet = [p for p in container.demux(video=0) if p.size][number]
        return packet.pos or 0, packet.size


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "libx264"), ("b.avi", "mjpeg"), ("c.mkv", "libx264"), ("d.avi", "mpeg4")],
)
def test_video_gives_every_frame_once_and_again(tmp_path: Path, name: str, codec: str) -> None:
    source = open_frames(make_video(tmp_path / name, 20, codec=codec))
    assert (source.name, source.kind, source.has_images) == (name[0], "video", True)
    info = source.info
    assert (info.length, info.frame_rate, info.width, info.height) == (20, 10, 96, 64)
    assert numbers(source) == list(range(1, 21))
    assert numbers(source) == list(range(1, 21))
    assert [f.timestamp for f in source] == pytest.approx(np.arange(20) / 10, abs=1e-3)


def test_variable_frame_rate_keeps_its_times(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.5, 0.52, 1.7, 1.8]
    source = open_frames(make_video(tmp_path / "v.mkv", 6, times=times))
    assert [f.timestamp for f in source] == pytest.approx(times, abs=2e-3)
    assert numbers(source) == [1, 2, 3, 4, 5, 6]


def test_quarter_turn_in_the_file_turns_the_picture(tmp_path: Path) -> None:
    path = make_video(tmp_path / "v.mp4", 3)
    data = bytearray(path.read_bytes())
    one, minus = (1 << 16).to_bytes(4, "big"), (-1 << 16).to_bytes(4, "big", signed=True)
    # tkhd: the matrix a b u c d v x y w; a quarter turn clockwise is a=0 b=1 c=-1 d=0.
    at = data.index(b"tkhd") + 4 + 40
    zero = bytes(4)
    data[at : at + 20] = zero + one + zero + minus + zero
    path.write_bytes(data)
    source = open_frames(path)
    assert (source.info.width, source.info.height) == (64, 96)
    image = next(iter(source)).image
    assert image is not None
    expected = np.rot90(picture(1), -1)
    assert np.abs(image.astype(int) - expected).mean() < 6


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("v.avi", "mjpeg", None),
        ("v.mkv", "libx264", None),
        ("v.mp4", "libx264", {"movflags": "faststart"}),
    ],
)
def test_video_that_breaks_off_gives_its_good_frames_then_names_the_last(
    tmp_path: Path, name: str, codec: str, options: dict[str, str] | None
) -> None:
    path = make_video(tmp_path / name, 20, codec=codec, options=options)
    at, size = place_of_packet(path, 12)
    path.write_bytes(path.read_bytes()[: at + size // 2])
    seen, said = read_until_complaint(open_frames(path))
    assert 9 < len(seen) < 14
    assert f"{path}: broken off after frame {len(seen)}; its header promises" in said
    assert seen[:-1] == list(range(1, len(seen)))  # the last may be cut itself


def test_avi_that_breaks_off_is_told_whether_its_index_is_there_or_not(tmp_path: Path) -> None:
    whole = make_video(tmp_path / "v.avi", 60, codec="mjpeg").read_bytes()
    for number in (20, 40, 58):  # without its index FFmpeg guesses the duration from the size
        at, size = place_of_packet(tmp_path / "v.avi", number)
        path = tmp_path / f"cut{number}.avi"
        path.write_bytes(whole[: at + size])
        seen, said = read_until_complaint(open_frames(path))
        assert seen == list(range(1, number + 2))
        assert f"broken off after frame {number + 1}; its header promises 60 frames" in said


def test_avi_may_count_a_few_frames_that_its_recorder_dropped(tmp_path: Path) -> None:
    path = make_video(tmp_path / "v.avi", 100, codec="mjpeg")
    data = bytearray(path.read_bytes())
    at = data.index(b"vids") + 32  # strh: dwLength is 32 bytes after the stream's type
    for counted, complains in ((100, False), (104, False), (112, True)):
        data[at : at + 4] = counted.to_bytes(4, "little")
        path.write_bytes(data)
        if complains:
            assert "broken off after frame 100; its header promises 112" in complaint(path)
        else:
            assert numbers(open_frames(path))[-1] == 100 % 64


def test_damage_in_the_middle_is_passed_over_and_told_at_the_end(tmp_path: Path) -> None:
    path = make_video(tmp_path / "v.mp4", 20)
    at, size = place_of_packet(path, 9)
    data = bytearray(path.read_bytes())
    data[at : at + size] = bytes(size)
    path.write_bytes(data)
    seen, said = read_until_complaint(open_frames(path))
    assert re.search(r"v\.mp4: damaged after frame \d+: 1 packets cannot be decoded", said)
    assert len(seen) == 19
    assert seen == sorted(seen)
    assert seen[-1] == 20


def test_files_that_are_no_video(tmp_path: Path) -> None:
    whole = make_video(tmp_path / "v.mp4").read_bytes()
    cases = {
        "empty.mp4": (b"", "an empty file (0 bytes)"),
        "headless.mp4": (whole[: whole.index(b"moov") - 4], "before its index was written"),
        "junk.mp4": (b"hello world " * 50, "no video that can be decoded"),
        "notes.txt": (b"1,1,2,3,4,5,6\n" * 9, "a text file, no video"),
        "notes.nfo": (b"some text, long enough to be drawn\n" * 90, "holds no video"),
    }
    for name, (data, says) in cases.items():
        (tmp_path / name).write_bytes(data)
        assert says in complaint(tmp_path / name)
        assert complaint(tmp_path / name).startswith(f"{tmp_path / name}: ")
    assert "no such file or folder" in complaint(tmp_path / "none.mp4")
    assert "File name too long" in complaint("n" * 5000)


def test_video_without_frames(tmp_path: Path) -> None:
    path = make_video(tmp_path / "v.mkv", 0)
    assert "v.mkv" in complaint(path)


# Images


def test_images_come_in_natural_order(tmp_path: Path) -> None:
    names = ["img1.png", "img2.jpg", "img9.bmp", "img10.PNG", "img010.webp", "img100.tiff"]
    make_images(tmp_path / "a", names)
    (tmp_path / "a" / "._img3.png").write_bytes(b"a file that a Mac leaves")
    source = open_frames(tmp_path / "a", frame_rate=4)
    assert (source.name, source.kind, source.info.length) == ("a", "images", 6)
    # 10 and 010 are the same number; the name decides, "0" before "1".
    assert numbers(source) == [1, 2, 3, 5, 4, 6]
    assert [f.timestamp for f in source] == [0, 0.25, 0.5, 0.75, 1, 1.25]


@given(st.lists(st.integers(0, 10**12), unique=True))
def test_natural_order_is_that_of_the_numbers(values: list[int]) -> None:
    names = [f"frame{value}.png" for value in values]
    assert sorted(names, key=natural_key) == [f"frame{v}.png" for v in sorted(values)]


@given(st.lists(st.text(min_size=1).filter(lambda t: "/" not in t and "\0" not in t)))
def test_any_names_can_be_ordered(names: list[str]) -> None:
    ordered = sorted(names, key=natural_key)
    names.reverse()
    assert sorted(names, key=natural_key) == ordered


def test_images_of_different_sizes_pass_through(tmp_path: Path) -> None:
    import cv2

    make_images(tmp_path, ["1.png"])
    cv2.imwrite(str(tmp_path / "2.png"), picture(2, 60, 40))
    shapes = [f.image.shape for f in open_frames(tmp_path) if f.image is not None]
    assert shapes == [(64, 96, 3), (40, 60, 3)]


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.95])
def test_broken_image_is_named_after_the_good_ones(
    tmp_path: Path, suffix: str, keep: float
) -> None:
    make_images(tmp_path, [f"{n}{suffix}" for n in range(1, 5)])
    third = tmp_path / f"3{suffix}"
    third.write_bytes(third.read_bytes()[: int(third.stat().st_size * keep)])
    seen, said = read_until_complaint(open_frames(tmp_path))
    assert seen == [1, 2]
    assert re.match(rf"{third}: .*(broken image|empty file)", said)


def test_one_image_is_a_source_of_one_frame(tmp_path: Path) -> None:
    make_images(tmp_path, ["only.png"])
    assert numbers(open_frames(tmp_path / "only.png")) == [1]


# MOT sequences


def test_sequence_takes_its_name_from_the_folder_and_the_rest_from_seqinfo(tmp_path: Path) -> None:
    path = make_sequence(tmp_path / "MOT-1", 5, seqinfo="seqLength=5\nname=other")
    source = open_frames(path)
    assert (source.name, source.kind, source.info.name) == ("MOT-1", "sequence", "MOT-1")
    assert source.detections_path == path / "det" / "det.txt"
    assert source.ground_truth_path is None
    assert (source.info.frame_rate, source.info.width, source.info.height) == (5, 96, 64)
    assert numbers(source) == [1, 2, 3, 4, 5]
    assert [f.timestamp for f in source] == [0, 0.2, 0.4, 0.6, 0.8]


def test_sequence_with_images_elsewhere_and_without_seqinfo(tmp_path: Path) -> None:
    path = make_sequence(tmp_path / "a", 3, seqinfo="imDir=frames")
    (path / "img1").rename(path / "frames")
    assert numbers(open_frames(path)) == [1, 2, 3]
    (path / "frames").rename(path / "img1")
    (path / "seqinfo.ini").unlink()
    source = open_frames(path, frame_rate=8)
    assert (source.kind, source.info.frame_rate, source.info.length) == ("sequence", 8, 3)
    assert numbers(source) == [1, 2, 3]


def test_missing_images_are_named_at_open(tmp_path: Path) -> None:
    path = make_sequence(tmp_path / "a", 9, seqinfo="seqLength=9")
    for number in (4, 7):
        (path / "img1" / f"00000{number}.png").unlink()
    with pytest.raises(InputError, match=r"000004\.png: this image is missing and 1 more"):
        open_frames(path)
    (path / "seqinfo.ini").unlink()  # the gap shows without it
    with pytest.raises(InputError, match=r"000004\.png: this image is missing and 1 more"):
        open_frames(path)
    make_images(path / "img1", [f"{n:06d}.png" for n in range(1, 9)])
    (path / "img1" / "000009.png").unlink()
    (path / "seqinfo.ini").write_text("[Sequence]\nseqLength=9\n")
    with pytest.raises(
        InputError, match=r"000009\.png: this image is missing; seqinfo\.ini says 9"
    ):
        open_frames(path)


def test_images_beyond_the_sequence_are_left_out_and_numbers_may_start_anywhere(
    tmp_path: Path,
) -> None:
    path = make_sequence(tmp_path / "a", 6, seqinfo="seqLength=4")
    assert numbers(open_frames(path)) == [1, 2, 3, 4]
    (path / "img1" / "000001.png").unlink()
    (path / "img1" / "000002.png").unlink()
    assert numbers(open_frames(path)) == [3, 4, 5, 6]


def test_sequence_with_a_video_in_place_of_images(tmp_path: Path) -> None:
    path = make_sequence(tmp_path / "a", 20, seqinfo="seqLength=20", images=False)
    make_video(path / "whatever.avi", 20, codec="mjpeg")
    source = open_frames(path)
    assert (source.info.width, source.info.frame_rate) == (96, 5)
    assert [f.timestamp for f in source] == pytest.approx(np.arange(20) / 5)
    assert numbers(source) == list(range(1, 21))
    make_video(path / "second.avi", 3, codec="mjpeg")
    assert "several videos" in complaint(path)
    make_video(path / "a.avi", 12, codec="mjpeg")
    assert "ends after frame 12; seqinfo.ini says 20" in complaint(path)


def test_sequence_without_images_has_frames_without_images(tmp_path: Path) -> None:
    path = make_sequence(tmp_path / "a", 7, images=False)
    source = open_frames(path)
    assert (source.has_images, source.info.length) == (False, 7)
    assert [(f.index, f.image) for f in source] == [(n, None) for n in range(1, 8)]
    (path / "seqinfo.ini").write_text("[Sequence]\nseqLength=9\nframeRate=5")
    assert [f.timestamp for f in open_frames(path)] == pytest.approx(np.arange(9) / 5)


def test_a_slip_makes_no_endless_sequence(tmp_path: Path) -> None:
    path = make_sequence(tmp_path / "a", 3, images=False)
    det = path / "det" / "det.txt"
    det.write_text("1,-1,1,1,5,5,1\n\n2000000,-1,1,1,5,5,1\n")
    assert open_frames(path).info.length == 2_000_000
    det.write_text("1,-1,1,1,5,5,1\n\n1000000000,-1,1,1,5,5,1\n2,-1,1,1,5,5,1\n")
    assert complaint(path) == f"{det}:3: frame is 1000000000; a sequence has at most 2000000"
    (path / "seqinfo.ini").write_text("[Sequence]\nseqLength=1000000000\n")
    assert "seqinfo.ini: seqLength is 1000000000, expected at most 2000000" in complaint(path)


def test_images_named_by_dates_are_counted_not_filled_up(tmp_path: Path) -> None:
    path = make_sequence(tmp_path / "a", 2, images=False)
    make_images(path / "img1", ["20240102030405678.png", "20240102030405999.png"])
    assert numbers(open_frames(path)) == [1, 2]


def test_malformed_seqinfo_is_named(tmp_path: Path) -> None:
    path = make_sequence(tmp_path / "a", 2, seqinfo="seqLength=abc")
    assert "seqinfo.ini: seqLength is 'abc', expected a number" in complaint(path)


# Folders of many


def test_folder_of_many_lists_its_sources_in_natural_order(tmp_path: Path) -> None:
    for name in ("seq10", "seq2"):
        make_sequence(tmp_path / "train" / name, 2)
    make_images(tmp_path / "pictures", ["1.png"])
    make_video(tmp_path / "b.mp4", 2)
    make_video(tmp_path / "a.mp4", 2)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "README.md").write_text("not a source")
    found = list_sources(tmp_path)
    assert [Path(str(p)).relative_to(tmp_path).as_posix() for p in found] == [
        "a.mp4", "b.mp4", "pictures", "train/seq2", "train/seq10",
    ]  # fmt: skip
    assert [open_frames(p).name for p in found] == ["a", "b", "pictures", "seq2", "seq10"]
    assert "a folder of 5 sources, such as a.mp4" in complaint(tmp_path)


def test_single_sources_list_themselves(tmp_path: Path) -> None:
    sequence = make_sequence(tmp_path / "s", 2)
    images = make_images(tmp_path / "i", ["1.png", "2.png"])
    for source in (sequence, images, "0", 0, "rtsp://host/x", tmp_path / "none.mp4"):
        assert list_sources(source) == [source]


def test_folders_that_say_nothing_clear(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="empty; expected images, img1/"):
        list_sources(tmp_path)
    assert "empty; expected images" in complaint(tmp_path)
    make_images(tmp_path, ["1.png"])
    make_video(tmp_path / "v.mp4", 2)
    with pytest.raises(InputError, match="holds 1 images and 1 videos"):
        list_sources(tmp_path)


# Addresses and cameras


class _Server(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """The address under which ``tmp_path`` is served, on this machine only."""
    handler = functools.partial(_Server, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_address_is_read_like_a_file(tmp_path: Path, site: str) -> None:
    make_video(tmp_path / "street 1.mp4", 20, options={"movflags": "faststart"})
    source = open_frames(f"{site}/street%201.mp4?token=1")
    assert (source.kind, source.name, source.live) == ("stream", "street_201", False)
    assert source.info.length == 20
    assert numbers(source) == list(range(1, 21))
    assert numbers(source) == list(range(1, 21))  # connects again


def test_address_that_cannot_be_opened(site: str) -> None:
    assert "none.mp4: cannot be opened" in complaint(f"{site}/none.mp4")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for scheme in ("rtsp", "http"):
        said = complaint(f"{scheme}://user:secret@127.0.0.1:{port}/x")
        assert "secret" not in said
        assert said.startswith(f"{scheme}://...@127.0.0.1:{port}/x: cannot be opened")


def test_address_that_never_answers_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracker.io.video_source._TIMEOUT_SECONDS", 0.5)
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        start = time.monotonic()
        for scheme in ("http", "rtsp"):
            assert "no answer" in complaint(f"{scheme}://127.0.0.1:{mute.getsockname()[1]}/x")
        assert time.monotonic() - start < 5


def test_camera_that_is_not_there_and_a_folder_named_like_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert complaint("97") == "webcam 97: cannot be opened (none there, or in use elsewhere)"
    assert complaint(97) == complaint("97")
    assert capfd.readouterr().err == ""
    monkeypatch.chdir(tmp_path)
    make_images(tmp_path / "0000", ["1.png"])
    assert open_frames("0000").kind == "images"


def test_no_file_stays_open(tmp_path: Path) -> None:
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("counts open files in /proc")
    path = make_video(tmp_path / "v.mp4", 20)
    list(open_frames(path))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        list(open_frames(path))
        list_sources(tmp_path)
    assert len(os.listdir("/proc/self/fd")) <= before + 1


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "length", "size"), [("PETS09-S2L1", 795, (768, 576)), ("MOT16-09", 525, (1920, 1080))]
)
def test_real_sequences(real_data: Path, name: str, length: int, size: tuple[int, int]) -> None:
    from tracker.io.seqinfo import read_seqinfo

    folder = real_data / "data" / "mot" / name
    source, said = open_frames(folder), read_seqinfo(folder / "seqinfo.ini")
    assert (source.info.width, source.info.height) == size == (said.width, said.height)
    assert source.info.length == said.length == length
    if name == "PETS09-S2L1":
        assert open_frames(folder / "PETS09-S2L1.avi").info.length == length
        assert sum(1 for _ in source) == length
