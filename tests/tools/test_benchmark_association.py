"""The benchmarks' own machinery: peers get the same input, ours equals them, ratios are right."""

import json

import numpy as np
import pytest

from tests.tracker.oracles import agreement
from tools.benchmark import appearance, kernels
from tools.benchmark.contenders import Contender, filterpy_sort, original_deepsort, ours, results_of
from tools.benchmark.report import Clock, paired_ratio, spread, use_one_thread
from tools.benchmark.sequences import load
from tools.benchmark.timing import in_turns, native_inputs
from tools.results import machine
from tracker.synthetic import box_stream
from trackvae.errors import InputError


def scene(objects, frames, seed=0, dim=0):
    stream = box_stream(objects, frames, seed, embedding_dim=dim)
    return [frame.detections for frame in stream]


@pytest.mark.parametrize("seed", [0, 1])
def test_sort_equals_one_filterpy_filter_a_track(seed):
    frames = scene(12, 120, seed)
    theirs, mine = results_of(filterpy_sort(), frames), results_of(ours("sort"), frames)
    assert agreement(theirs, mine, tolerance=1e-6) == 1.0


@pytest.mark.parametrize(("tracks", "entries"), [(1, 1), (4, 9), (40, 12)])
def test_every_way_of_comparing_appearance_agrees(tracks, entries):
    case = appearance.make_case(tracks, entries, np.random.default_rng(0))
    mine = case.memory.distances(case.slots, case.queries, case.wanted)
    product = appearance.one_product(case)
    np.testing.assert_allclose(mine[case.wanted], product[case.wanted], atol=1e-5)
    near = product < appearance.LIMIT
    found = appearance.search(appearance.build(case), case)
    assert near.any()
    np.testing.assert_allclose(found[near], product[near], atol=1e-5)
    assert np.isinf(found[product > appearance.LIMIT + 1e-5]).all()


def test_dense_and_sparse_kernels_agree():
    """The benchmark itself compares them and stops at a difference."""
    rows = kernels.measure(40, repeats=1)
    assert [row["method"] for row in rows] == ["overlap", "assignment", "gate", "filter"]


def test_each_repeat_runs_everybody_in_the_opposite_order(monkeypatch):
    monkeypatch.setattr("tools.benchmark.timing._LEAST_SECONDS", 1e-9)
    order = []

    def contender(name):
        def start():
            order.append(name)
            return lambda frame: None

        return Contender(name, "none", lambda d: d, start, lambda n, a: a)

    group = [contender("a"), contender("b")]
    rates = in_turns(group, native_inputs(group, scene(2, 5)), repeats=2)
    assert order == ["a", "b", "a", "b", "b", "a"]  # the first two warm up
    assert {name: len(values) for name, values in rates.items()} == {"a": 2, "b": 2}


def test_a_ratio_is_taken_within_each_repeat():
    """The machine was four times slower in the second repeat, for both."""
    assert paired_ratio([100.0, 25.0, 90.0], [50.0, 12.5, 30.0]) == 2.0
    assert spread([3.0, 1.0, 2.0]) == {
        "median": 2.0,
        "min": 1.0,
        "max": 3.0,
        "values": [3.0, 1.0, 2.0],
    }


def test_a_report_says_how_it_was_made(tmp_path):
    Clock().save({"name": "x", "rows": []}, ("numpy", "no-such-package"), tmp_path / "x.json")
    report = json.loads((tmp_path / "x.json").read_text())
    assert report["versions"]["numpy"] == np.__version__
    assert report["versions"]["no-such-package"] == "not installed"
    assert report["machine"] == machine()
    assert {"date", "wall_seconds", "load_average_at_start"} <= set(report)


def test_one_thread_starts_the_module_again_only_where_needed(monkeypatch):
    calls = []
    monkeypatch.setattr("os.execve", lambda path, args, env: calls.append((args, env)))
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    use_one_thread("some.module")
    assert calls == []
    monkeypatch.delenv("OMP_NUM_THREADS")
    use_one_thread("some.module")
    ((args, env),) = calls
    assert args[1:3] == ["-m", "some.module"]
    assert env["OMP_NUM_THREADS"] == "1"


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(InputError, match=r"MOT17-09-SDP\.npz: no such file; give --data"):
        load(tmp_path, "MOT17-09-SDP")
    with pytest.raises(InputError, match="give a checkout of nwojke/deep_sort"):
        original_deepsort(tmp_path)
