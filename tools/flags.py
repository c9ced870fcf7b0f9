"""What flags of several commands share: how an open default is shown, which seeds there are."""

from __future__ import annotations

from typing import Any

import tyro

from trackvae.errors import UsageError

_SEEDS = 2**32  # those of every generator here


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
