"""One run of ``trackvae fit``: observe each video, join tracklets, learn, save, say what came."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np

from tools.fit.folder import FitFolder
from tools.fit.learning import Learned, LearnOptions, Objects, Observed, join, learn
from tools.fit.observe import MOST_NUMBERS, observe, read_observed, write_observed
from tools.progress import progress
from tools.results import machine, versions
from tracker.linking import NONE
from trackvae import __version__
from trackvae.errors import InputError

if TYPE_CHECKING:
    from reid.descriptors import Descriptor
    from tracker.pipeline import DetectedSource
    from training.trainer import Report

_PACKAGES = ("trackvae", "torch", "numpy", "scipy", "safetensors")
_TIMED_FRAMES = 20  # with crops, before the minutes are told
_LATEST = 200  # frame at which they are told in any case
# Measured with one thread: PETS09-S2L1's 4,232 crops are joined in 28 s, most of it for products
# of N x N matrices; a step of 128 crops takes 12 ms; the three products of _pace 67 ms.
_JOIN_SECONDS = 28 / 4232**2
_STEP_SECONDS = 0.012
_PACE_SECONDS = 0.067


class Run:
    """One call of the command, with everything opened and the folder taken."""

    def __init__(
        self, folder: FitFolder, opened: Sequence[DetectedSource], options: LearnOptions
    ) -> None:
        """Take everything that a run needs."""
        from reid.descriptors import by_name

        self._folder, self._opened, self._options = folder, opened, options
        self._descriptor: Descriptor = by_name(options.features)
        self._seconds: dict[str, float] = dict(folder.note("seconds") or {})

    def run(self) -> int:
        """Go through the stages; 130 after Ctrl-C."""
        try:
            observed = self._observe_all()
            with self._timed("join"), _one_thread():
                objects = self._join(observed)
            joined = np.unique(objects.ids[objects.ids != NONE])
            _say(f"joined: {len(joined)} objects")
            with self._timed("train"), _one_thread():
                learned = self._learn(observed, objects)
            self._save(learned)
        except KeyboardInterrupt:
            print(
                f"\ninterrupted; the same command goes on from here ({self._folder.path})",
                file=sys.stderr,
            )
            return 130
        return 0

    # --- observing

    def _observe_all(self) -> list[Observed]:
        """The crops of every video; those that an earlier call has observed are read."""
        before = [self._before(number) for number in range(1, len(self._opened) + 1)]
        pairs = list(zip(self._opened, before, strict=True))
        forecast = _Forecast(
            [source.source.info.length for source, crops in pairs if crops is None],
            sum(len(crops.ids) for crops in before if crops is not None),
            MOST_NUMBERS // self._descriptor.dim,
            self._options.steps,
        )
        observed = []
        for number, (source, crops) in enumerate(pairs, 1):
            found = crops
            if found is None:
                with self._timed("observe"):
                    found = self._observe(source, forecast)
                    write_observed(self._folder.observed(number), found)
            _say(
                f"{found.name}: {len(found.ids)} crops in {len(np.unique(found.ids))} tracklets"
                + (", observed before" if crops is not None else "")
            )
            observed.append(found)
        forecast.observed(sum(len(one.ids) for one in observed))
        return observed

    def _before(self, number: int) -> Observed | None:
        """A video's crops from an earlier call; None where there are none that can be read."""
        try:
            return read_observed(self._folder.observed(number), self._descriptor.dim)
        except InputError:
            return None

    def _observe(self, source: DetectedSource, forecast: _Forecast) -> Observed:
        name, length = source.source.name, source.source.info.length
        with progress(f"crops of {name}", length) as advance:

            def on_frame(frame: int, crops: int) -> None:
                advance(frame, f"({crops})")
                forecast.frame(frame, crops)

            most = MOST_NUMBERS // len(self._opened)
            return observe(source, self._descriptor, most=most, on_frame=on_frame)

    # --- learning

    def _join(self, observed: Sequence[Observed]) -> Objects:
        with progress("joining tracklets", self._options.rounds, "rounds") as advance:
            return join(observed, self._options, on_round=advance)

    def _learn(self, observed: Sequence[Observed], objects: Objects) -> Learned:
        """Train, from the last state on where there is one."""
        with progress("learning", self._options.steps, "steps") as advance:
            return learn(
                observed,
                self._options,
                objects=objects,
                folder=self._folder.path,
                on_step=lambda report: advance(report.step, _note(report)),
            )

    # --- after

    def _save(self, learned: Learned) -> None:
        """Write encoder, model and account; say what came."""
        from trackvae.storage import save

        options = {name: value for name, value in asdict(self._options).items() if name != "seed"}
        card = learned.made | {
            "seed": self._options.seed,
            "options": options,
            "version": __version__,
            "date": self._folder.note("begun"),
        }
        save(self._folder.model, learned.model, learned.config)
        replace(learned.encoder, card=card).save(self._folder.encoder)
        self._folder.write(
            finished=True,
            made=learned.made,
            seconds=self._seconds,
            versions=versions(_PACKAGES),
            machine=machine(),
        )
        met = learned.made["kappa_met_at"]
        if met is None:
            print(
                f"warning: kappa was not met in {self._options.steps} steps, so the prior and the "
                "flatness had no part; give more --steps and another --out",
                file=sys.stderr,
            )
        else:
            _say(f"learned: kappa met at step {met} of {self._options.steps}")
        spent = sum(self._seconds.values())
        _say(f"{self._folder.encoder} after {spent:.0f} s; {how_to_use(self._folder)}")

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        """Note how long a stage takes, over all calls that were not killed in it."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self._seconds[stage] = round(self._seconds.get(stage, 0.0) + spent, 1)
            self._folder.write(seconds=self._seconds)


class _Forecast:
    """Says once, in one line, how long it will take."""

    def __init__(self, lengths: Sequence[int | None], known: int, most: int, steps: int) -> None:
        """Take what is known before the first frame.

        Args:
            lengths: frames of the videos that are to be observed; None where unknown.
            known: crops that were observed before.
            most: crops in all.
            steps: of training.
        """
        counted = [length for length in lengths if length is not None]
        self._frames = sum(counted) if len(counted) == len(lengths) else None
        self._known, self._most, self._steps = known, most, steps
        self._start, self._crops, self._timed = 0.0, 0, 0
        self._said = False

    def frame(self, number: int, crops: int) -> None:
        """A frame of the first video is done, with so many crops by now."""
        if self._said or (crops == 0 and number < _LATEST):
            return
        if self._timed == 0:  # the first one with crops also loads what describes them
            self._start, self._crops = time.perf_counter(), crops
        elif self._timed == _TIMED_FRAMES:
            spent = time.perf_counter() - self._start
            self._tell(spent / _TIMED_FRAMES, (crops - self._crops) / _TIMED_FRAMES)
        self._timed += 1

    def observed(self, crops: int) -> None:
        """Everything is observed; of a short video, or of an earlier call, nothing was said yet."""
        if not self._said:
            self._frames, self._known = 0, crops
            self._tell(0.0, 0.0)

    def _tell(self, each: float, crops: float) -> None:
        """Say it, from the seconds and crops of a frame."""
        self._said = True
        frames, crops_in_all = self._frames, float(self._most)
        if frames is not None:
            crops_in_all = min(self._known + crops * frames, crops_in_all)
        pace = _pace()
        rest = _JOIN_SECONDS * pace * crops_in_all**2
        rest += _STEP_SECONDS * pace * self._steps
        then = f"joining tracklets and {self._steps} steps"
        if frames is None:
            _say(f"{1000 * each:.0f} ms a frame; after the last one {_minutes(rest)} for {then}")
        else:
            beside = f"{frames} frames at {1000 * each:.0f} ms, " if frames else ""
            _say(f"this will take {_minutes(each * frames + rest)}: {beside}{then}")


def _pace() -> float:
    """How many times longer than where it was measured a product takes, here and now."""
    matrix = np.full((1024, 1024), 0.5, np.float32)
    with _one_thread():
        start = time.perf_counter()
        for _ in range(3):
            matrix @ matrix
        return (time.perf_counter() - start) / _PACE_SECONDS


@contextmanager
def _one_thread() -> Iterator[None]:
    """A context in which products use one thread: the bits do not depend on the cores.

    A step is too small to be shared: beside two busy processes on two cores, 400 steps took 80 s
    with two threads and 19 s with one.
    """
    import scipy.sparse.linalg  # noqa: F401  brings a BLAS of its own, for the whitening
    import torch
    from threadpoolctl import threadpool_limits

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)


def how_to_use(folder: FitFolder) -> str:
    """The commands that take the encoder."""
    use = f"--encoder {folder.path}"
    return f"use it by trackvae track ... {use}, or trackvae reid-eval ... {use}"


def _minutes(seconds: float) -> str:
    if seconds < 50:
        return "less than a minute"
    minutes = max(round(seconds / 60), 1)
    return f"about {minutes} minute{'s' if minutes > 1 else ''}"


def _note(report: Report) -> str:
    ratio = report.constraint
    return "" if ratio is None else f"error {ratio:.2f} of kappa²"


def _say(line: str) -> None:
    print(line, flush=True)
