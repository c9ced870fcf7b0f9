"""Presets: every declared search space is reachable, and settings are parsed or refused."""

import pytest

from tracker.presets import PRESETS, Range, preset
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
