"""What the experiments share: settings, parts that survive a kill, rows beside the thesis's figure.

An experiment is a module with ``TITLE``, ``SEEDS`` (how many by default) and
``run(context) -> Outcome``. It computes in parts (one training run, one evaluation), each through
:meth:`Context.part`, so that a run that was killed goes on with the part where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from trackvae.errors import InputError
from trackvae.files import write_text

_MADE, _MADE_QUICK = 240, 60  # frames of a made sequence


@dataclass(frozen=True)
class Context:
    """How an experiment is to be run, and where its things go.

    Attributes:
        quick: minutes instead of hours; shows that it works, its figures mean little.
        seeds: of everything random.
        work: folder for finished parts, weights and checkpoints; is kept between runs.
        figures: folder for the figures.
        data: folder that holds ``mnist``, ``omniglot``, ``mocap``, ``mot``; may be absent, and
            then the made stand-ins are used, which the results say.
        say: prints one line.
    """

    quick: bool
    seeds: tuple[int, ...]
    work: Path
    figures: Path
    data: Path
    say: Callable[[str], None] = print
    _named: set[Path] = field(default_factory=set, init=False, repr=False, compare=False)

    def part(
        self,
        name: str,
        settings: Mapping[str, Any],
        compute: Callable[[Path], Mapping[str, Any]],
    ) -> dict[str, Any]:
        """A piece of work that is done once: its result, from disk where it is there already.

        One line says which of the two it is, the first time that a run asks for it.

        Args:
            name: of the part, e.g. ``rewo-seed-3``; the name of its folder.
            settings: all that its result depends on, plain values; other settings, other folder.
            compute: is given the part's folder (for checkpoints, weights, arrays, which it may
                find there again), and returns plain values for JSON.
        """
        key = json.dumps(dict(settings), sort_keys=True)
        digest = hashlib.sha256(key.encode()).hexdigest()[:10]
        folder = self.work / f"{name}-{digest}"
        done = folder / "part.json"
        there, named = done.is_file(), folder in self._named
        self._named.add(folder)
        if there:
            try:
                result = dict(json.loads(done.read_text(encoding="utf-8"))["result"])
            except (OSError, ValueError, KeyError) as error:
                raise InputError(f"{done}: damaged ({error}); delete its folder") from error
            if not named:  # else this run has done it, or has said so
                self.say(f"{name}: done before")
            return result
        folder.mkdir(parents=True, exist_ok=True)
        self.say(f"{name} ...")
        result = dict(compute(folder))
        content = {"name": name, "settings": dict(settings), "result": result}
        write_text(done, json.dumps(content, indent=1) + "\n")
        return result

    def source(self, name: str) -> Path | None:
        """The folder of a real data set (``mnist``, ...), or None where it is absent."""
        folder = self.data / name
        return folder if folder.is_dir() else None


@dataclass(frozen=True)
class Outcome:
    """What an experiment found.

    Attributes:
        rows: made by :func:`row`.
        config: the settings that the figures depend on, reductions and data included.
        more: further lists or values for the file.
    """

    rows: Sequence[Mapping[str, Any]]
    config: Mapping[str, Any]
    more: Mapping[str, Any] = field(default_factory=dict)


def some_seeds(context: Context, own: int, usual: int) -> tuple[int, ...]:
    """Seeds of a row that has fewer than its experiment; all where more than usual are asked for.

    Args:
        context: of the experiment.
        own: how many the row has.
        usual: how many the experiment has by default.
    """
    return context.seeds if len(context.seeds) > usual else context.seeds[:own]


class Experiment(Protocol):
    """A module of this package that can be run."""

    TITLE: str
    SEEDS: int

    def run(self, context: Context) -> Outcome:
        """Compute everything, draw the figures."""
        ...


def row(
    method: str,
    metric: str,
    values: Sequence[float],
    thesis: float | str | None = None,
    note: str = "",
    **more: Any,
) -> dict[str, Any]:
    """One line of a table: ours over the seeds, beside the thesis's figure.

    Args:
        method: e.g. ``VHP + REWO``.
        metric: with its unit.
        values: one for each seed.
        thesis: its figure, None where it has none.
        note: what was reduced, or why it falls short.
        **more: further plain values.
    """
    numbers = [float(value) for value in values]
    return {
        "method": method,
        "metric": metric,
        "ours": {
            "median": statistics.median(numbers),
            "mean": statistics.fmean(numbers),
            "std": statistics.stdev(numbers) if len(numbers) > 1 else 0.0,
            "values": numbers,
        },
        "thesis": thesis,
        "note": note,
        **more,
    }


def by_method(
    rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]
) -> list[dict[str, Any]]:
    """One line for each method: medians beside the thesis's figures.

    Args:
        rows: made by :func:`row`.
        columns: what stands in the line, by the metric that it is; metrics without one are left
            out.

    Returns:
        Of each ``method`` its ``seeds``, every column's median, and ``thesis``, with the same
        columns.
    """
    lines: dict[str, dict[str, Any]] = {}
    for found in rows:
        if found["metric"] not in columns:
            continue
        line = lines.setdefault(found["method"], {"method": found["method"], "thesis": {}})
        column = columns[found["metric"]]
        line["seeds"] = len(found["ours"]["values"])
        line[column], line["thesis"][column] = found["ours"]["median"], found["thesis"]
    return list(lines.values())


def made_sequence(context: Context, seed: int = 0) -> Path:
    """A scene of drawn figures with frames, detections and ground truth, where none is held."""
    from tracker.synthetic import Scene, SceneConfig

    folder = context.work / (f"made-{seed}" if seed else "made")
    if not (folder / "gt" / "gt.txt").is_file():
        frames = _MADE_QUICK if context.quick else _MADE
        size = SceneConfig(width=320, height=180, frames=frames)
        scene = Scene(replace(size, figures=5, density=1.0, seed=seed))
        scene.write(folder, images="png")
    return folder


def data_root() -> Path:
    """``data`` under TRACKVAE_DATA, or under ``../shared`` beside the project."""
    beside = Path(__file__).resolve().parents[3] / "shared"
    return Path(os.environ.get("TRACKVAE_DATA", beside)) / "data"
