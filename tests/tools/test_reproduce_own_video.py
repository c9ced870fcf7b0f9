"""``own-video``: the README's two commands on a made scene, before and after."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch")

from tools.cli import main
from tools.reproduce import own_video
from trackvae.errors import InputError


def test_before_and_after_are_scored_timed_and_drawn(tmp_path, monkeypatch):
    ends = (own_video.METHODS[0], own_video.METHODS[-1])
    monkeypatch.setattr(own_video, "METHODS", ends)
    flags = ["--quick", "--data", str(tmp_path / "none"), "--work", str(tmp_path / "work")]
    assert main(["reproduce", "own-video", *flags, "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "results" / "own-video.json").read_text())
    before, after = found["table"]
    assert (before["method"], before["fit (s)"]) == ("SORT", None)
    assert after["method"] == "trackvae, fitted"
    assert after["fit (s)"] > 0
    rows = {(row["method"], row["metric"]): row["ours"]["values"] for row in found["rows"]}
    for line in (before, after):
        for name in ("IDF1", "HOTA", "IDs"):
            assert rows[line["method"], f"{name} made"] == [line[name]]
    for picture in ("before-and-after.jpg", "identities-made.png"):
        drawn = tmp_path / "docs" / "figures" / "own-video" / picture
        assert drawn.stat().st_size > 10_000


def test_a_command_that_fails_is_told_with_its_own_words(tmp_path):
    found = r"tools\.cli track .*nothing\.avi.* failed: .*nothing\.avi"
    with pytest.raises(InputError, match=found):
        own_video._command("track", tmp_path / "nothing.avi", tmp_path / "out", ())
