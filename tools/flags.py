"""How a flag is shown in --help whose default depends on the data or on other flags."""

from __future__ import annotations

from typing import Any

import tyro


def open_flag(metavar: str) -> Any:
    """For ``Annotated``: shows ``metavar``, and no ``(default: None)``; the text says what it is.

    Args:
        metavar: what the flag takes, e.g. ``INT`` or ``{a,b}``.
    """
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="")
