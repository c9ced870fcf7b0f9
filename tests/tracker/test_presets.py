"""Presets: every declared search space is reachable, and settings are parsed or refused."""

from dataclasses import replace

import numpy as np
import pytest

from tests.tracker.oracles import agreement, follow
from tracker import Tracker
from tracker.calibration import Calibration, Logistic
from tracker.io.mot import BoxTable
from tracker.presets import PRESETS, Range, preset
from tracker.synthetic import box_stream
from trackvae.errors import UsageError


@pytest.mark.parametrize("name", PRESETS)
def test_every_end_of_the_search_space_is_a_setting(name):
    config = preset(name)
    assert config.search
    for setting, space in config.search.items():
        ends = (space.low, space.high) if isinstance(space, Range) else space
        for end in ends:
            assert config.with_settings({setting: end}).settings()[setting] == end


@pytest.mark.parametrize("name", PRESETS)
def test_the_search_space_holds_the_preset_itself(name):
    config = preset(name)
    for setting, space in config.search.items():
        value = config.settings()[setting]
        if isinstance(space, Range):
            assert space.low <= value <= space.high
        else:
            assert value in space


@pytest.mark.parametrize("name", PRESETS)
def test_settings_survive_being_written_as_text(name):
    config = preset(name)
    assert config.with_settings({k: str(v) for k, v in config.settings().items()}) == config


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("min_hits", "2.5", "a whole number"),
        ("max_age", "nan", "a number"),
        ("per_class", "maybe", "yes or no"),
        ("camera_motion", "gps", "one of none, flow, ecc"),
        ("iou.max_cost", "none", "a number"),
    ],
)
def test_values_that_a_setting_cannot_take(setting, value, expected):
    with pytest.raises(UsageError, match=f"{setting} is {value!r}, expected {expected}"):
        preset("sort").with_settings({setting: value})


# --- fmvae-sort: DeepSORT, with a distance and a threshold that come from the video


def calibrated(threshold):
    """One object's up to a squared Euclidean distance of ``threshold``."""
    distance = Logistic(-8.0 / threshold, 8.0)
    return Calibration(distance, Logistic(0.0, 1.0), 0.7, "euclidean", 100, 100)


def stream(seed, frames=80):
    """A crowd with looks, as one table; one in four detections misses."""
    seen = [f.detections for f in box_stream(12, frames, seed, embedding_dim=16, miss_rate=0.25)]
    numbers = np.concatenate([np.full(len(some), n) for n, some in enumerate(seen, start=1)])
    looks = np.concatenate([some.embeddings for some in seen])
    boxes = np.concatenate([some.boxes for some in seen])
    return BoxTable.of(numbers, np.full(len(numbers), -1), boxes, embeddings=looks)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_fmvae_sort_is_deepsort_with_the_threshold_that_the_calibration_says(seed):
    """A pair is refused where the match probability falls below one half."""
    table, threshold = stream(seed), 0.7
    first, second = preset("deepsort").stages
    by_hand = replace(
        preset("deepsort"),
        metric="euclidean",
        stages=(replace(first, max_cost=threshold), second),
    )
    expected = follow(Tracker(by_hand), table, 80)
    found = follow(Tracker("fmvae-sort", calibration=calibrated(threshold)), table, 80)
    assert len(found) > 300
    assert agreement(expected, found) == 1.0


def test_fmvae_sort_keeps_more_identities_than_motion_alone():
    table = stream(3)
    many = {
        name: int(follow(Tracker(name, calibration=calibration), table, 80).ids.max())
        for name, calibration in (("fmvae-sort", calibrated(0.7)), ("sort", None))
    }
    assert many["fmvae-sort"] < many["sort"] / 2


def test_fmvae_sort_calibrates_itself_to_the_scale_of_its_embeddings():
    """Embeddings three times as long have nine times the threshold, and the same tracks."""
    table = stream(4, frames=160)
    longer = replace(table, embeddings=3 * table.embeddings)
    trackers = [Tracker("fmvae-sort") for _ in range(2)]
    tracks = [follow(t, some, 160) for t, some in zip(trackers, (table, longer), strict=True)]
    one, other = (tracker.calibration.threshold(0.5) for tracker in trackers)
    assert other == pytest.approx(9 * one, rel=1e-3)
    assert agreement(*tracks) == 1.0
