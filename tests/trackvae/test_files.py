"""Files are written whole or not at all, and what stands in the way is told in one line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trackvae.errors import InputError
from trackvae.files import atomic_path, write_text


def test_a_block_that_raises_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    write_text(path, "old")

    def write_half() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            assert (temporary.parent, temporary.suffix) == (path.parent, ".txt")
            raise KeyError

    with pytest.raises(KeyError):
        write_half()
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]
    assert path.read_text() == "old"


def test_what_stands_in_the_way_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for path in (file / "a.txt", file / "b" / "a.txt"):
        with pytest.raises(InputError) as caught:
            write_text(path, "")
        assert str(caught.value) == f"{path}: cannot be written ({file} is not a folder)"
    for path in (tmp_path, Path(""), Path("..")):
        with pytest.raises(InputError, match="cannot be written, it is a folder"):
            write_text(path, "")
    with pytest.raises(InputError, match="cannot be written"):
        write_text(tmp_path / ("n" * 300), "")


def test_a_rename_or_a_write_that_fails_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "a.txt"
    write_text(path, "old")
    for owner, name in ((os, "replace"), (Path, "write_text")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, fail)
            with pytest.raises(InputError) as caught:
                write_text(path, "new")
        assert str(caught.value) == f"{path}: cannot be written (No space left on device)"
        assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
        assert path.read_text() == "old"
