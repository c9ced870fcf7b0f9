"""``trackvae train``: learn a model from data; what was begun can be gone on with."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import OmitArgPrefixes, arg

from tools.data import DataFlags, open_data
from tools.flags import check_seed
from tools.train.folder import RunFolder
from tools.train.machine import MachineFlags, check_torch, make_fabric
from tools.train.plan import Kind, ModelFlags, ObjectiveFlags, check_objective, make_plan
from trackvae.errors import UsageError


@dataclass(frozen=True)
class Train:
    """Learn a model without labels: writes DIR/model.safetensors, logs and a checkpoint.

    DATA is a folder of images, an idx file or a folder of MNIST's, an .npz (images or x), a .zip
    of OMNIGLOT, motion capture, MOT sequences (their boxes are cut out), or a made set: pendulum,
    glyphs, gait. Ctrl-C leaves a checkpoint; the same command with --resume goes on from there and
    ends where the uninterrupted run would have.
    """

    data: Annotated[str, tyro.conf.Positional, arg(metavar="DATA")]
    """What to learn from."""
    model: Kind
    """vae; iwae: importance-weighted; vhp-vae: with a learned
    hierarchical prior; fmvae: and a flat latent space."""
    out: Annotated[Path, arg(metavar="DIR")]
    """Folder of the run."""
    resume: bool = False
    """Go on with the run in DIR."""
    restarts: int = 0
    """Start again with other first weights, at most so often,
    where the representation comes out folded or collapsed."""
    steps: int = 4000
    """Batches in all."""
    batch_size: int = 64
    """Observations a batch."""
    learning_rate: float = 1e-3
    """Of Adam at the start; falls to a fifth on a cosine."""
    seed: int = 0
    """Of the split, the first weights, the order, the noise."""
    taken: Annotated[OmitArgPrefixes[DataFlags], arg(name="data")] = field(
        default_factory=DataFlags
    )
    networks: Annotated[OmitArgPrefixes[ModelFlags], arg(name="model")] = field(
        default_factory=ModelFlags
    )
    objective: Annotated[OmitArgPrefixes[ObjectiveFlags], arg(name="objective")] = field(
        default_factory=ObjectiveFlags
    )
    machine: Annotated[OmitArgPrefixes[MachineFlags], arg(name="machine")] = field(
        default_factory=MachineFlags
    )

    def run(self) -> int:
        """Train; the exit code."""
        from tools.train.run import Run

        check_torch("train")
        self._check()
        folder = RunFolder(self.out)
        data = open_data(self.data, self.taken, self.seed)
        plan = make_plan(self.model, data, self.networks, self.objective, self._train_config())
        fabric = make_fabric(self.machine)
        finished = False
        if fabric.is_global_zero:
            finished = folder.begin(self._settings(), data, resume=self.resume)
        look = f"trackvae inspect {folder.weights} {self.data}"
        if fabric.broadcast(finished):
            if fabric.is_global_zero:
                print(f"{self.out}: this run is finished; look at it by {look}")
            return 0
        run = Run(self.model, folder, data, plan, fabric, resume=self.resume, look=look)
        return run.run(self.restarts)

    def _check(self) -> None:
        """What can be told before any data are read."""
        check_objective(self.model, self.objective)
        check_seed(self.seed)
        _ = self.taken.sides, self._train_config()
        if self.networks.latent is not None and self.networks.latent < 1:
            raise UsageError(f"--latent is {self.networks.latent}, expected 1 or more")
        if self.restarts < 0:
            raise UsageError(f"--restarts is {self.restarts}, expected 0 or more")
        self.machine.check()
        data, out = Path(self.data).resolve(), self.out.resolve()
        if data.is_dir() and out.is_relative_to(data):
            raise UsageError(
                f"--out {self.out} lies in DATA, whose images would later be those of the run too; "
                "choose a folder outside it"
            )

    def _train_config(self) -> Any:
        from training.trainer import TrainConfig

        return TrainConfig(
            steps=self.steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            seed=self.seed,
            checkpoint_every=self.machine.checkpoint_every,
        )

    def _settings(self) -> dict[str, Any]:
        """Everything that decides what the result is, by the flags' names."""
        given = {
            name: getattr(self, name)
            for name in ("model", "steps", "batch_size", "learning_rate", "seed", "restarts")
        }
        parts = (self.taken, self.networks, self.objective, self.machine)
        return given | {name: value for part in parts for name, value in asdict(part).items()}
