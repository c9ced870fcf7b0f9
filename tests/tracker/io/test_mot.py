"""MOT text: what is written reads back, nothing crashes the reader, a complaint has its line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tracker.detections import Tracks
from tracker.io.mot import BoxTable, format_tracks, read_boxes, read_length, write_boxes
from tracker.io.npz import read_npz
from tracker.io.seqinfo import MOST_FRAMES, SequenceInfo, read_seqinfo, write_seqinfo
from trackvae.errors import InputError

# Files of one test are overwritten example after example, on purpose.
many = settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

pixels = st.integers(-4_000_000, 4_000_000).map(lambda n: n / 1000)
sides = st.integers(0, 4_000_000).map(lambda n: n / 1000)
rows = st.lists(
    st.tuples(
        st.integers(1, 30),  # frame
        st.integers(-1, 2**40),  # id
        pixels, pixels, sides, sides,
        st.integers(-10**5, 10**5).map(lambda n: n / 1000),  # score
        st.integers(-1, 12),  # class
        st.integers(0, 1000).map(lambda n: n / 1000),  # visibility
    ),
    max_size=20,
)  # fmt: skip


def table_of(rows: list[tuple[float, ...]]) -> BoxTable:
    values = np.array(rows, dtype=np.float64).reshape(len(rows), 9)
    boxes = values[:, 2:6].copy()
    boxes[:, 2:] += boxes[:, :2]
    whole = values[:, [0, 1, 7]].astype(np.int64)
    return BoxTable.of(whole[:, 0], whole[:, 1], boxes, values[:, 6], whole[:, 2], values[:, 8])


@many
@given(rows)
def test_ground_truth_reads_back_as_written(tmp_path: Path, rows: list[tuple[float, ...]]) -> None:
    table, path = table_of(rows), tmp_path / "gt.txt"
    write_boxes(path, table, ground_truth=True)
    again = read_boxes(path)
    for name in ("frames", "ids", "classes"):
        np.testing.assert_array_equal(getattr(again, name), getattr(table, name))
    for name in ("boxes", "scores", "visibility"):  # three decimals are written, six digits
        np.testing.assert_allclose(getattr(again, name), getattr(table, name), rtol=1e-6, atol=2e-3)


@many
@given(rows)
def test_writing_what_was_read_changes_no_byte(
    tmp_path: Path, rows: list[tuple[float, ...]]
) -> None:
    first, second = tmp_path / "a.txt", tmp_path / "b.txt"
    write_boxes(first, table_of(rows))
    write_boxes(second, read_boxes(first))
    assert second.read_bytes() == first.read_bytes()


def test_format_tracks_writes_the_lines_that_write_boxes_does(tmp_path: Path) -> None:
    boxes = np.array([[10.5, 20, 40.25, 90], [-3, 0, 5, 7.125]])
    ids, scores = np.array([4, 2]), np.array([0.5, 138.9])
    tracks = Tracks(ids, boxes, scores, np.array([-1, -1]), np.array([0, -1]))
    path = tmp_path / "r.txt"
    write_boxes(path, BoxTable.of(np.array([7, 7]), ids, boxes, scores))
    assert format_tracks(7, tracks) == path.read_text()
    assert (
        format_tracks(7, tracks).splitlines()[0] == "7,4,10.500,20.000,29.750,70.000,0.5,-1,-1,-1"
    )


def read_or_complain(path: Path) -> str:
    """The reader's complaint, or "" where it reads; anything but InputError fails the test."""
    try:
        table = read_boxes(path, unique_ids=True)
    except InputError as error:
        return str(error)
    assert np.isfinite(table.boxes).all()
    assert (table.frames >= 1).all()
    assert (np.diff(table.frames) >= 0).all()
    return ""


cells = st.one_of(
    st.sampled_from(["1", "-1", "0", "1.5", "1e400", "nan", "inf", "9007199254740993", "1_0", "-"]),
    st.sampled_from(["", " ", "'1'", "٣", "½", "1\x00", "一", "\u2028", "\x0c", "#"]),
    st.integers(-(10**30), 10**30).map(str),
    st.floats().map(str),
    st.text(max_size=3),
)
lines = st.lists(st.lists(cells, max_size=12).map(",".join), max_size=6)


@many
@given(lines, st.sampled_from(["\n", "\r\n", "\r", "\x0b", "\u2029"]))
@example(["1,1,1,1,1,1", "1,2,1,1,1"], "\n")
@example(["1,1,1,1,1,1#,1"], "\n")
@example(["1,1,1e308,1,1e308,1,1"], "\n")
@example(["1,1,1,1,1,1,1,nan,1"], "\n")
@example(["1 2 3 4 5 6", "1 2 3 4 5 6 7"], "\n")
def test_no_text_crashes_the_reader(tmp_path: Path, lines: list[str], end: str) -> None:
    path = tmp_path / "det.txt"
    path.write_bytes(end.join(lines).encode("utf-8", "surrogatepass"))
    complaint = read_or_complain(path)
    assert not complaint or complaint.startswith(f"{path}:")
    assert "\n" not in complaint


@many
@given(st.binary(max_size=200))
@example(b"\xff\xfe1\x00,\x00")
@example(b"\xef\xbb\xbf1,1,1,1,1,1\n")
@example(b"1,1,1,1,1,1\n\x1a")
def test_no_bytes_crash_the_reader(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "det.txt"
    path.write_bytes(data)
    assert "\n" not in read_or_complain(path)


good = "1,1,10,20,30,40,0.9,-1,-1,-1\n"


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (good + "1,2,10,20,30\n", 2, "5 columns, the lines before have 10"),
        (good + "\n1,2,10,abc,30,40,1,-1,-1,-1\n", 3, "column 4 is 'abc', expected a number"),
        (good + "1,2,10,nan,30,40,1,-1,-1,-1\n", 2, "column 4 is nan, expected a finite number"),
        (good + "2,2,10,20,inf,40,1,-1,-1,-1\n", 2, "column 5 is inf, expected a finite number"),
        (good + "2,2,10,20,-30,40,1,-1,-1,-1\n", 2, "negative width or height"),
        ("0,1,10,20,30,40,1,-1,-1,-1\n", 1, "frame is 0; frames count from 1"),
        ("\n\n1.5,1,10,20,30,40,1,-1,-1,-1\n", 3, "frame is 1.5, expected a whole number"),
        (good + "1,2.5,10,20,30,40,1,-1,-1,-1\n", 2, "id or class is not a whole number"),
        ("1,1,10,20,30,40,1,1.5,1\n", 1, "id or class is not a whole number"),
        ("7\n", 1, "1 columns, expected 6 to 10"),
        ("1,2,3,4,5,6,7,8,9,10,11\n", 1, "11 columns, expected 6 to 10"),
        (good + good, 2, "id 1 stands twice in frame 1"),
        ("hello\n", 1, "column 1 is 'hello'"),
    ],
)
def test_complaint_names_file_and_line(tmp_path: Path, text: str, line: int, says: str) -> None:
    path = tmp_path / "det.txt"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_boxes(path, unique_ids=True)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert says in str(caught.value)


def test_binary_file_names_the_line_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "det.txt"
    path.write_bytes(good.encode() * 2 + b"\x80\x81\n")
    with pytest.raises(InputError, match=r"det\.txt:3: not a text file"):
        read_boxes(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_boxes(tmp_path / "none.txt")
    with pytest.raises(InputError, match="cannot be read"):
        read_boxes(tmp_path)


def test_frames_out_of_order_are_sorted_and_keep_their_order_within() -> None:
    frames = np.array([2, 1, 2, 1])
    table = BoxTable.of(frames, np.array([10, 11, 12, 13]), np.zeros((4, 4)))
    assert table.ids.tolist() == [11, 13, 10, 12]
    assert table.ids[table.rows(2)].tolist() == [10, 12]
    assert len(table.detections(3)) == 0


@pytest.mark.parametrize(
    ("line", "label", "seen"),
    [
        ("1,1,0,0,5,5,1,7,0.25", 7, 0.25),
        ("1,1,0,0,5,5,1,4.5,-7,0", -1, 1.0),
        ("1,1,0,0,5,5,1", -1, 1),
    ],
)
def test_nine_columns_have_a_class_and_ten_do_not(
    tmp_path: Path, line: str, label: int, seen: float
) -> None:
    (tmp_path / "gt.txt").write_text(line)
    table = read_boxes(tmp_path / "gt.txt")
    assert table.classes.tolist() == [label]
    assert table.visibility.tolist() == [seen]


@given(
    st.text("abcXYZ09-_ .%", min_size=1).map(str.strip).filter(bool),
    st.one_of(st.none(), st.integers(1, 10**6)),
    st.integers(1, 4000).map(lambda n: n / 8),
)
@many
def test_seqinfo_reads_back_as_written(
    tmp_path: Path, name: str, length: int | None, rate: float
) -> None:
    info = SequenceInfo(name, length, rate, 1920, 1080, "img2", ".png")
    write_seqinfo(tmp_path / "seqinfo.ini", info)
    assert read_seqinfo(tmp_path / "seqinfo.ini") == info


def seqinfo_of(cells: list[str]) -> bytes:
    return ("[Sequence]\nseqLength=" + "\n".join(cells)).encode("utf-8", "replace")


@many
@given(st.one_of(st.binary(max_size=120), st.lists(cells).map(seqinfo_of)))
def test_no_bytes_crash_the_seqinfo_reader(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "seqinfo.ini"
    path.write_bytes(data)
    complaint = str(path)
    try:
        read_seqinfo(path)
    except InputError as error:
        complaint = str(error)
    assert complaint.startswith(str(path))
    assert "\n" not in complaint


def test_npz_with_features_reads_back_and_bad_ones_are_named(tmp_path: Path) -> None:
    path = tmp_path / "det.npz"
    arrays = {
        "frame": np.array([2, 1]),
        "tlwh": np.array([[1.0, 2, 3, 4], [5, 6, 7, 8]]),
        "score": np.array([0.5, 0.25]),
        "feature": np.arange(6, dtype=np.float32).reshape(2, 3),
    }
    np.savez(path, **arrays)
    table = read_npz(path)
    assert table.frames.tolist() == [1, 2]
    assert table.boxes.tolist() == [[5, 6, 12, 14], [1, 2, 4, 6]]
    assert table.embeddings is not None
    assert table.embeddings.tolist() == [[3, 4, 5], [0, 1, 2]]
    for wrong, says in (
        ({"tlwh": arrays["tlwh"][:1]}, "different lengths"),
        ({"tlwh": -arrays["tlwh"]}, "row 0 is no detection: "),
        ({"tlwh": arrays["tlwh"] * np.nan}, "row 0 is no detection: "),
        ({"frame": np.array([1.5, 2])}, "row 0 is no detection: "),
        ({"frame": np.array(["a", "b"])}, "expected numbers"),
        ({"score": np.array(["a", "b"])}, "expected numbers"),
        ({"score": np.array([np.nan, 1])}, "row 0 is no detection: score is nan"),
        ({"frame": np.array(3)}, "lengths"),
        ({"feature": np.zeros(2)}, "feature has type float64"),
    ):
        np.savez(path, **{**arrays, **wrong})
        with pytest.raises(InputError, match=says) as caught:
            read_npz(path)
        assert str(caught.value).startswith(str(path))
    path.write_bytes(b"PK\x03\x04junk")
    with pytest.raises(InputError, match=r"not a readable \.npz"):
        read_npz(path)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("sequence", "detections", "truth"),
    [("MOT16-09", 5976, 8830), ("TUD-Campus", 322, 359), ("PETS09-S2L1", 5578, 4650)],
)
def test_real_files_read_whole(real_data: Path, sequence: str, detections: int, truth: int) -> None:
    folder = real_data / "data" / "mot" / sequence
    assert len(read_boxes(folder / "det" / "det.txt")) == detections
    assert len(read_boxes(folder / "gt" / "gt.txt", unique_ids=True)) == truth


def test_what_is_no_npz_is_told_without_a_word_of_pickles(tmp_path: Path) -> None:
    path = tmp_path / "det.npz"
    contents = {"text": b"1,-1,1,1,5,5,1\n" * 9, "empty": b"", "cut": b""}
    np.savez(path, frame=np.arange(50), tlwh=np.zeros((50, 4)))
    contents["cut"] = path.read_bytes()[:300]
    np.save(tmp_path / "a.npy", np.zeros(3))
    contents["array"] = (tmp_path / "a.npy").read_bytes()
    for content in contents.values():
        path.write_bytes(content)
        with pytest.raises(InputError) as caught:
            read_npz(path)
        assert str(caught.value) == f"{path}: not a readable .npz; numpy.savez writes one"
    np.savez(path, frame=np.array([{}], dtype=object), tlwh=np.zeros((1, 4)))
    with pytest.raises(InputError, match="it holds Python objects; expected arrays of numbers"):
        read_npz(path)
    with pytest.raises(InputError, match="Is a directory"):
        read_npz(tmp_path)


def test_the_length_of_a_file_is_its_last_frame_within_reason(tmp_path: Path) -> None:
    path = tmp_path / "det.txt"
    path.write_text("")
    assert read_length(path) == 0
    path.write_text("7,-1,1,1,5,5,1\n2,-1,1,1,5,5,1\n")
    assert read_length(path) == 7
    path.write_text(f"7,-1,1,1,5,5,1\n{MOST_FRAMES + 1},-1,1,1,5,5,1\n")
    with pytest.raises(InputError, match=r"det\.txt:2: frame is 2000001; a sequence has at most"):
        read_length(path)
    assert len(read_boxes(path)) == 2  # of a camera that ran for days
