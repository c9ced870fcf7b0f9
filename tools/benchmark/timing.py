"""Timing trackers against each other: in turns, warmed up, frames a second of each repeat."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Mapping
from typing import Any

from tools.benchmark.contenders import Contender
from tracker.detections import Detections

_WARM_UP_FRAMES = 30
_LEAST_SECONDS = 0.4


def native_inputs(contenders: list[Contender], frames: list[Detections]) -> dict[str, list[Any]]:
    """Every contender's own form of the frames, made before the clock runs."""
    return {c.name: [c.prepare(detections) for detections in frames] for c in contenders}


def one_run(contender: Contender, native: list[Any], skip: int = 0) -> float:
    """Frames a second of a fresh tracker; the first ``skip`` frames are not timed.

    A fast tracker is started over on the same frames, lest a moment's disturbance decide.
    """
    frames, seconds = 0, 0.0
    while seconds < _LEAST_SECONDS:
        step = contender.start()
        for frame in native[:skip]:
            step(frame)
        gc.collect()
        start = time.perf_counter()
        for frame in native[skip:]:
            step(frame)
        seconds += time.perf_counter() - start
        frames += len(native) - skip
    return frames / seconds


def in_turns(
    contenders: list[Contender],
    inputs: Mapping[str, list[Any]],
    repeats: int,
    skip: int = 0,
    label: str = "",
) -> dict[str, list[float]]:
    """Frames a second of every contender in every repeat.

    Each repeat runs all of them, in the opposite order of the repeat before, so that a machine that
    gets slower or faster treats them alike.
    """
    for contender in contenders:
        one_run(contender, inputs[contender.name][:_WARM_UP_FRAMES])
    rates: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for repeat in range(repeats):
        for contender in contenders if repeat % 2 == 0 else contenders[::-1]:
            _say(f"{label}: {repeat + 1} of {repeats}, {contender.name}")
            rates[contender.name].append(one_run(contender, inputs[contender.name], skip))
    _say("")
    return rates


def _say(text: str) -> None:
    """One line of progress that the next one replaces."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
