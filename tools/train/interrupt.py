"""Ctrl-C that waits for the end of a step, so that what is saved then is whole."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stopped(Exception):  # noqa: N818  (no error)
    """Ctrl-C, told between two steps."""


@contextmanager
def stop_after_step() -> Iterator[Callable[[], bool]]:
    """Note Ctrl-C instead of raising KeyboardInterrupt; pressed a second time it stops at once.

    Yields:
        Whether it was pressed. Whoever asks between two steps raises :class:`Stopped`.
    """
    pressed = False

    def note(number: int, frame: object) -> None:  # noqa: ARG001
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)
