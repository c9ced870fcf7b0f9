"""What flags of several commands share: how they are shown, what they take, what they refuse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tyro

from trackvae.errors import UsageError

_SEEDS = 2**32  # those of every generator here
_SLOWEST, _FASTEST = 1e-3, 1e4  # frames a second that anybody could mean


def open_flag(metavar: str) -> Any:
    """For ``Annotated``: shows ``metavar``, and no ``(default: None)``; the text says what it is.

    Args:
        metavar: what the flag takes, e.g. ``INT`` or ``{a,b}``.
    """
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="")


def check_seed(seed: int) -> None:
    """Refuse a seed that the generators do not take.

    Raises:
        UsageError: it is below 0 or has more than 32 bits.
    """
    if not 0 <= seed < _SEEDS:
        raise UsageError(f"--seed is {seed}, expected 0 to {_SEEDS - 1}")


def check_frame_rate(rate: float | None) -> None:
    """Refuse a rate that nobody can mean; None was not given.

    Raises:
        UsageError: so.
    """
    if rate is not None and not _SLOWEST <= rate <= _FASTEST:
        raise UsageError(f"--frame-rate is {rate}, expected {_SLOWEST:g} to {_FASTEST:g} a second")


def assignments(texts: Sequence[str], flag: str) -> dict[str, str]:
    """``name=value`` texts as a dictionary.

    Raises:
        UsageError: one is not of that form.
    """
    settings = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"{flag} {text!r} is not of the form name=value")
        settings[name.replace("-", "_")] = value
    return settings
