"""The time budget: stages do not count twice, nothing is lost, and watching changes no track."""

import numpy as np
import pytest

from reid.descriptors import ColourStripes
from tools.benchmark import end_to_end
from tools.benchmark.end_to_end import Stopwatch, Timing, Way, budget_of, rows_of, run_once
from tracker import Tracker
from tracker.io.sinks import MotTextSink
from tracker.pipeline import follow, open_source, rehearse
from tracker.presets import preset
from tracker.synthetic import Scene, SceneConfig
from trackvae.errors import InputError


class Clock:
    """Time that passes only where it is said."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(end_to_end.time, "process_time", lambda: self.now)

    def work(self, seconds, then=lambda: None):
        def do():
            self.now += seconds
            then()

        return do


def test_a_stage_does_not_count_what_it_calls(monkeypatch):
    clock, watch = Clock(monkeypatch), Stopwatch()
    decode = watch.timed("decode", clock.work(5.0))
    associate = watch.timed("associate", clock.work(2.0, then=decode))
    with watch.running("the rest"):
        clock.work(1.0)()
        associate()
        associate()
    assert watch.seconds == {"the rest": 1.0, "associate": 4.0, "decode": 10.0}


def test_all_that_a_whole_stage_does_is_its_own(monkeypatch):
    clock, watch = Clock(monkeypatch), Stopwatch(frozenset({"calibrate"}))
    predict = watch.timed("predict", clock.work(2.0))
    watch.timed("calibrate", clock.work(3.0, then=predict))()
    predict()
    assert watch.seconds == {"calibrate": 5.0, "predict": 2.0}


def test_an_error_ends_a_stage_too(monkeypatch):
    clock, watch = Clock(monkeypatch), Stopwatch()

    def fail():
        raise InputError("no")

    with watch.running("the rest"), pytest.raises(InputError):
        watch.timed("decode", clock.work(1.0, then=fail))()
    with watch.running("write"):
        clock.work(2.0)()
    assert watch.seconds == {"decode": 1.0, "the rest": 0.0, "write": 2.0}


def test_rates_and_shares_by_hand():
    ours = [Timing(10, 20, {"decode": 1.0, "embed": 1.0}), Timing(10, 20, {"decode": 3.0})]
    peer = [Timing(5, 9, {"decode": 1.0, "embed": 4.0})] * 2
    found = {"ours": ours, "peer": peer}
    by = {
        (row["method"], row["metric"]): row for row in rows_of({"ours": ours[:1], "peer": peer[:1]})
    }
    assert by["ours", "frames/s"]["ours"]["median"] == 5.0
    assert by["ours", "frames/s"]["ratio"] == 5.0
    assert by["ours", "frames/s, decoded already"]["ours"]["median"] == 10.0
    assert by["peer", "frames/s, decoded already"]["ours"]["median"] == 1.25
    lines = {(line["method"], line["stage"]): line for line in budget_of(found)}
    assert lines["ours", "decode"]["ms"] == 200.0
    assert lines["ours", "all"]["ms"] == 250.0
    assert lines["peer", "embed"]["share"] == 80.0
    assert ("ours", "write") not in lines


def test_watching_changes_no_track(tmp_path):
    scene = Scene(SceneConfig(width=320, height=180, frames=60, figures=6, density=1.0))
    opened = open_source(scene.write(tmp_path / "street"))
    way = Way("ours", "trackvae", ColourStripes())
    timing = run_once(way, opened.source, opened.detector, tmp_path / "watched.txt")
    described, collected = rehearse(opened, preset("trackvae"), ColourStripes(), frames=60)
    tracker = Tracker(
        "trackvae",
        embedder=ColourStripes(),
        calibration=collected.fit(),
        frame_rate=opened.source.info.frame_rate,
    )
    follow(described, tracker, [MotTextSink(tmp_path / "alone.txt")])
    assert (tmp_path / "watched.txt").read_bytes() == (tmp_path / "alone.txt").read_bytes()
    boxes = np.loadtxt(tmp_path / "watched.txt", delimiter=",")
    assert (timing.frames, timing.boxes) == (60, len(boxes))
    assert set(timing.seconds) <= set(end_to_end.STAGES)
    assert min(timing.seconds[stage] for stage in ("decode", "embed", "calibrate")) > 0
