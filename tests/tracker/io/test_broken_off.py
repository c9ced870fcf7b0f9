"""Files that are shorter than they say: every byte that is missing is counted."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tracker.io.media import make_video
from tracker.io.broken_off import missing_bytes

FAST_START = {"movflags": "faststart"}  # the pictures come last


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("v.avi", "mjpeg", None),
        ("v.mp4", "libx264", FAST_START),
        ("v.mov", "libx264", FAST_START),
        ("v.mkv", "libx264", None),
    ],
)
def test_missing_bytes_are_those_cut_off(
    tmp_path: Path, name: str, codec: str, options: dict[str, str] | None
) -> None:
    path = make_video(tmp_path / name, 20, codec=codec, options=options)
    data = path.read_bytes()
    for cut in (0, 1, 100, 600):
        path.write_bytes(data[: len(data) - cut])
        assert missing_bytes(path) == cut
    path.write_bytes(data + b"something behind it")
    assert missing_bytes(path) == 0


def test_long_forms_and_unknown_lengths(tmp_path: Path) -> None:
    def box(length: int, name: bytes, body: bytes = b"") -> bytes:
        return length.to_bytes(4, "big") + name + body

    def riff(length: int, body: bytes) -> bytes:
        return b"RIFF" + length.to_bytes(4, "little") + body

    ebml = b"\x1a\x45\xdf\xa3\x84abcd\x18\x53\x80\x67"
    cases = [
        (box(8, b"ftyp") + box(1, b"mdat", (1 << 33).to_bytes(8, "big")), (1 << 33) - 16),
        (box(8, b"ftyp") + box(0, b"mdat", bytes(99)), 0),  # up to the end
        (riff(4, b"AVI ") + riff(90, b"AVIX" + bytes(36)), 50),  # the second part, OpenDML
        (riff(0, b"AVI " + bytes(50)), 0),  # a recorder that was killed before it knew
        (ebml + b"\x01" + (500).to_bytes(7, "big") + bytes(100), 400),
        (ebml + b"\x01" + b"\xff" * 7 + bytes(100), 0),  # a live recording
    ]
    for content, missing in cases:
        (tmp_path / "v").write_bytes(content)
        assert missing_bytes(tmp_path / "v") == missing
    assert missing_bytes(tmp_path / "none") == missing_bytes(tmp_path) == 0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([b"RIFF", bytes(3) + b"\x08ftyp", b"\x1a\x45\xdf\xa3", b""]),
    st.binary(max_size=60),
)
def test_any_bytes_have_an_answer(tmp_path: Path, start: bytes, rest: bytes) -> None:
    (tmp_path / "v").write_bytes(start + rest)
    assert missing_bytes(tmp_path / "v") >= 0
