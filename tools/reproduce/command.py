"""``trackvae reproduce``: a table or figure of the thesis made again, ours beside its own."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, cast

import tyro

from tools.flags import open_flag
from tools.reproduce.experiment import Context, Experiment, data_root
from tools.results import save_results
from trackvae.errors import UsageError
from trackvae.settings import did_you_mean

EXPERIMENTS = {
    "table-3.1": "tools.reproduce.pendulum",
    "table-3.2": "tools.reproduce.likelihood",
    "table-3.2-others": "tools.reproduce.likelihood_others",
    "figures-3.6-3.11": "tools.reproduce.interpolation",
    "table-4.1": "tools.reproduce.state_space",
    "figure-4.4": "tools.reproduce.annealing",
    "table-4.2": "tools.reproduce.reacher",
    "table-4.3": "tools.reproduce.memories",
    "figures-4.19-4.21": "tools.reproduce.policies",
    "observation-noise": "tools.reproduce.noise",
    "table-5.1": "tools.reproduce.flat_motion",
    "table-5.2": "tools.reproduce.flat_digits",
    "table-5.3": "tools.reproduce.tracking",
    "flatness-high-d": "tools.reproduce.flat_crops",
    "figures-5.1-5.3": "tools.reproduce.geodesic_pendulum",
    "figures-5.4-5.6": "tools.reproduce.geodesic_digits",
    "figures-5.7-5.9": "tools.reproduce.geodesic_arm",
    "figures-5.10-5.12": "tools.reproduce.geodesic_walk",
    "geodesic-ratios": "tools.reproduce.geodesic_ratios",
    "recognition": "tools.reproduce.recognition",
    "default-encoder": "tools.reproduce.default_encoder",
    "own-video": "tools.reproduce.own_video",
}
_PACKAGES = ("trackvae", "torch", "numpy", "scipy", "lightning-fabric")
_WIDTH = 160  # of the table where no terminal says its own
_QUICK_OUT = Path("runs/quick")  # so that a quick run never replaces the results of a full one


@dataclass(frozen=True)
class Reproduce:
    """Make a table or group of figures of the thesis again, ours printed beside its figure.

    Writes results/NAME.json and docs/figures/NAME/ under --out. What is finished is kept under
    --work, so that a run that was interrupted goes on where it stopped.
    """

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
    """table-3.1, table-3.2, table-3.2-others, figures-3.6-3.11, table-4.1,
    figure-4.4, table-4.2, table-4.3, figures-4.19-4.21, observation-noise,
    table-5.1, table-5.2, table-5.3, flatness-high-d, recognition, default-encoder, own-video,
    figures-5.1-5.3, figures-5.4-5.6, figures-5.7-5.9, figures-5.10-5.12, geodesic-ratios."""
    quick: bool = False
    """Minutes instead of hours, to see that it works; under runs/quick unless --out is given."""
    seeds: Annotated[int | None, open_flag("INT")] = None
    """How many; each experiment has its own default."""
    data: Path = field(default_factory=data_root)
    """Folder that holds mnist, omniglot, mocap, mot, mot17; without it made stand-ins are used."""
    out: Annotated[Path | None, open_flag("DIR")] = None
    """Folder for results/ and docs/figures/; here by default."""
    work: Path = Path("runs/reproduce")
    """Folder for finished parts, weights and checkpoints."""

    def run(self) -> int:
        """Run the experiment; the exit code, 130 after Ctrl-C."""
        if self.name not in EXPERIMENTS:
            known = ", ".join(EXPERIMENTS)
            hint = did_you_mean(self.name, EXPERIMENTS)
            raise UsageError(f"nothing is called {self.name!r}{hint}; expected one of {known}")
        if self.seeds is not None and self.seeds < 1:
            raise UsageError(f"--seeds is {self.seeds}, expected 1 or more")
        experiment = cast(Experiment, importlib.import_module(EXPERIMENTS[self.name]))
        out = self.out or (_QUICK_OUT if self.quick else Path())
        context = self._context(experiment, out)
        start = time.perf_counter()
        try:
            outcome = experiment.run(context)
        except KeyboardInterrupt:
            print(
                f"\ninterrupted; the same command goes on with what is finished ({context.work})",
                file=sys.stderr,
            )
            return 130
        path = out / "results" / f"{self.name}.json"
        save_results(
            path,
            name=self.name,
            title=experiment.TITLE,
            quick=self.quick,
            rows=outcome.rows,
            config=outcome.config,
            packages=_PACKAGES,
            wall_seconds=time.perf_counter() - start,
            seeds=context.seeds,
            **outcome.more,
        )
        _show(experiment.TITLE, outcome.rows)
        print(f"{path}; figures under {context.figures}")
        return 0

    def _context(self, experiment: Experiment, out: Path) -> Context:
        """What the flags ask of the experiment."""
        count = self.seeds or (1 if self.quick else experiment.SEEDS)
        return Context(
            quick=self.quick,
            seeds=tuple(range(count)),
            work=self.work / (self.name + ("-quick" if self.quick else "")),
            figures=out / "docs" / "figures" / self.name,
            data=self.data,
            say=lambda line: print(line, flush=True),
        )


def _show(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Ours beside the thesis's."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in ("method", "metric", "ours (median)", "mean ± std", "thesis", "note"):
        table.add_column(
            column, justify="left" if column in ("method", "metric", "note") else "right"
        )
    for row in rows:
        ours = row["ours"]
        spread = f"{ours['mean']:.3g} ± {ours['std']:.2g}" if len(ours["values"]) > 1 else ""
        thesis = "–" if row["thesis"] is None else str(row["thesis"])
        table.add_row(
            row["method"], row["metric"], f"{ours['median']:.4g}", spread, thesis, row["note"]
        )
    console = Console()
    Console(width=None if console.is_terminal else _WIDTH).print(table)
