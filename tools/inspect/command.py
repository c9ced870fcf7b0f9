"""``trackvae inspect``: what a trained model has learned, on one page."""

from __future__ import annotations

import json as json_format
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from tyro.conf import OmitArgPrefixes, arg

from tools.data import DataFlags, open_data
from tools.flags import check_seed, open_flag
from tools.train.folder import RUN_FILE, read_run
from tools.train.machine import check_torch
from trackvae.errors import InputError, UsageError
from trackvae.files import write_text

if TYPE_CHECKING:
    from trackvae.config import ModelConfig
    from training.data import DataSet

_FIGURES_FILE, _PAGE_FILE = "figures.json", "index.html"


@dataclass(frozen=True)
class Inspect:
    """Show what a model has learned: one HTML page, its pictures, its figures as JSON.

    Reconstructions, samples of the prior, the latent space, a straight line through it, what each
    dimension carries, how flat the decoder is, and bounds on the likelihood, all on data that it
    was not trained on. DATA is taken as in training where run.json lies beside the weights.
    """

    weights: Annotated[Path, tyro.conf.Positional, arg(metavar="WEIGHTS")]
    """model.safetensors of trackvae train, or its folder."""
    data: Annotated[str, tyro.conf.Positional, arg(metavar="DATA")]
    """What to look at it with; as for trackvae train."""
    out: Annotated[Path | None, open_flag("DIR")] = None
    """Folder of the page; inspect beside the weights if left
    out."""
    json: bool = False
    """Print the figures as JSON."""
    examples: int = 1000
    """Observations that are looked at, at most."""
    samples: int = 100
    """Of each, for the bound on the likelihood."""
    seed: Annotated[int | None, open_flag("INT")] = None
    """Of the split and all samples; that of the training if
    left out."""
    taken: Annotated[OmitArgPrefixes[DataFlags], arg(name="data")] = field(
        default_factory=DataFlags
    )

    def run(self) -> int:
        """Make the page; the exit code."""
        check_torch("inspect")
        from trackvae.storage import load

        for name in ("examples", "samples"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name} is {getattr(self, name)}, expected 1 or more")
        if self.seed is not None:
            check_seed(self.seed)
        weights = self.weights / "model.safetensors" if self.weights.is_dir() else self.weights
        model, config = load(weights)
        run = read_run(weights.parent) if (weights.parent / RUN_FILE).is_file() else {}
        data, seed = self._open(run, config, weights)
        out = self.out or weights.parent / "inspect"
        from tools.inspect.report import Inspection

        inspection = Inspection(model, config, data, self.examples, seed)
        figures = inspection.measure(self.samples)
        if run:
            figures["training"] = run.get("figures", {})
        text = json_format.dumps(figures, indent=1, allow_nan=False) + "\n"
        write_text(out / _FIGURES_FILE, text)
        page = out / _PAGE_FILE
        inspection.write(page, figures, title=f"{weights.parent.name}: {self.data}")
        if self.json:
            print(text, end="")
        else:
            for name, value in inspection.rows(figures):
                print(f"{name}: {value}")
            print(page)
        return 0

    def _open(
        self, run: Mapping[str, Any], config: ModelConfig, weights: Path
    ) -> tuple[DataSet, int]:
        """DATA as in training, but for the flags that are given, and the seed.

        Raises:
            InputError: its examples are not of the model's shape.
        """
        settings = run.get("settings", {})
        flags = self.taken.over(settings)
        seed = settings.get("seed", 0) if self.seed is None else self.seed
        if not isinstance(seed, int):
            raise InputError(f"{weights.parent / RUN_FILE}: damaged (seed is {seed!r}); delete it")
        data = open_data(self.data, flags, seed)
        if data.shape != config.observation:
            raise InputError(
                f"{self.data}: its examples are {_shape(data.shape)}, those of {weights} "
                f"{_shape(config.observation)}; see --size, --grey"
            )
        return data, seed


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(str(side) for side in shape)
