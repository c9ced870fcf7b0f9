"""What a training run is made of: from the command's flags and the data to configurations."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, cast

import numpy as np
import tyro

from tools.flags import open_flag
from trackvae.errors import UsageError

if TYPE_CHECKING:
    from trackvae.config import ModelConfig, Network
    from training.data import DataSet
    from training.objectives import Flatness
    from training.schedules import Schedule
    from training.trainer import TrainConfig

Kind: TypeAlias = Literal["vae", "iwae", "vhp-vae", "fmvae"]
ScheduleName: TypeAlias = Literal["rewo", "geco", "warm-up", "elbo"]

_CONSTRAINED = ("rewo", "geco")
_SCHEDULES: dict[Kind, ScheduleName] = {
    "vae": "warm-up",
    "iwae": "elbo",
    "vhp-vae": "rewo",
    "fmvae": "rewo",
}
_IWAE_SAMPLES = 8
_ETA = 100.0  # condition number 9.9 -> 1.09 on the pendulum
_WARM_UP = 0.2  # of the steps
_FINAL_RATE = 0.2  # of the learning rate, on a cosine
_NU, _TAU, _ALPHA, _BETA = 0.015, 3.0, 0.95, 0.01  # of the relative constraint: no scale to tune
_LARGE_LATENT = 64  # where nobody asks for a picture of the latent space
_CONVOLVED, _CONVOLUTION_STRIDE = 32, 16  # smallest side of an image, and what divides every side
_PILOT = 0.25  # of the steps, for a kappa that nobody gave
_LEAST_PILOT = 200  # steps; fewer say little: 0.65 where the run itself reaches 0.26 (gait)
PILOT_BETA = 0.01  # as in REWO's initial phase
_PILOT_SLACK = 1.1  # kappa beside the root of the error that the pilot reaches


@dataclass(frozen=True)
class ModelFlags:
    """Encoder, decoder and likelihood."""

    latent: Annotated[int | None, open_flag("INT")] = None
    """Dimensions of z. Left out: 2, which can be drawn; 64
    for images that are convolved."""
    network: Annotated[str | None, open_flag("NAME")] = None
    """mlp, gated-mlp, gated-conv, faces-conv, vgg16,
    crop-conv. Left out: crop-conv for images of at least
    32 pixels with sides that 16 divides, else mlp."""
    activation: Annotated[str, tyro.conf.arg(metavar="NAME")] = "silu"
    """Between the layers: elu, gelu, silu, softplus, tanh;
    relu is not smooth, which flatness needs."""
    likelihood: Annotated[
        Literal["bernoulli", "gaussian"] | None, open_flag("{bernoulli,gaussian}")
    ] = None
    """Of the observations. Left out: bernoulli for pixels
    that are all 0 or 1, else gaussian."""


@dataclass(frozen=True)
class ObjectiveFlags:
    """What is minimised."""

    kappa: Annotated[float | None, open_flag("FLOAT")] = None
    """Error that is tolerated: root of the mean squared error
    over the dimensions of an observation. Left out: 1.1 times
    what the same networks reach in a short run of
    reconstruction alone (a quarter of --steps more, 200 at
    the least). With
    warm-up and elbo it is the sigma of a gaussian likelihood;
    left out, sigma follows the error."""
    schedule: Annotated[ScheduleName | None, open_flag("{rewo,geco,warm-up,elbo}")] = None
    """Weight of the reconstruction: rewo and geco hold the
    error at kappa, warm-up anneals it over a fifth of the
    steps, elbo leaves it. Left out: rewo for vhp-vae and
    fmvae, warm-up for vae, elbo for iwae."""
    eta: Annotated[float | None, open_flag("FLOAT")] = None
    """Weight of the flatness regulariser of fmvae; 100 if
    left out."""
    samples: Annotated[int | None, open_flag("INT")] = None
    """Importance samples of the bound of iwae; 8 if left
    out."""


@dataclass(frozen=True)
class Plan:
    """A training run, as data.

    Attributes:
        model: configuration of the networks.
        schedule: name of the schedule.
        kappa: tolerated error, or None where it is still to be found.
        train: configuration of the trainer.
        eta: weight of the flatness regulariser; 0: none.
    """

    model: ModelConfig
    schedule: ScheduleName
    kappa: float | None
    train: TrainConfig
    eta: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"model": self.model.to_dict()}

    @property
    def constrained(self) -> bool:
        """Whether the schedule holds the error below kappa."""
        return self.schedule in _CONSTRAINED

    @property
    def needs_kappa(self) -> bool:
        """Whether training waits for a kappa."""
        return self.kappa is None and self.constrained

    def with_kappa(self, kappa: float) -> Plan:
        """The same run with another kappa; where nothing holds it, it is the gaussian's sigma."""
        if self.constrained or self.model.likelihood != "gaussian":
            return replace(self, kappa=kappa)
        return replace(self, kappa=kappa, model=replace(self.model, sigma=kappa))

    def make_schedule(self) -> Schedule:
        """A fresh schedule."""
        from training.schedules import GECO, REWO, FixedBeta, WarmUp

        if self.schedule == "elbo":
            return FixedBeta(1.0)
        if self.schedule == "warm-up":
            return WarmUp(max(1, round(_WARM_UP * self.train.steps)))
        kappa = self.kappa or 0.0  # a run without one is refused by the schedule itself
        shared: dict[str, Any] = {"nu": _NU, "alpha": _ALPHA, "beta": _BETA, "relative": True}
        return GECO(kappa, **shared) if self.schedule == "geco" else REWO(kappa, tau=_TAU, **shared)

    def make_flatness(self) -> Flatness | None:
        """A fresh regulariser, or None."""
        from training.objectives import Flatness, FlatnessConfig

        return Flatness(FlatnessConfig(self.eta)) if self.eta else None

    def pilot(self) -> Plan:
        """A short run of reconstruction alone, which shows what error can be reached."""
        steps = max(_LEAST_PILOT, round(_PILOT * self.train.steps))
        model = replace(self.model, prior="normal", sigma=1.0)
        train = replace(self.train, steps=steps, samples=1)
        return replace(self, model=model, schedule="elbo", train=train, eta=0.0)


def kappa_of(errors: list[float]) -> float:
    """A kappa that can be met, from the errors of the pilot's steps: of their last fifth."""
    last = errors[-max(1, len(errors) // 5) :]
    return float(_PILOT_SLACK * np.sqrt(np.mean(last)))


def make_plan(
    kind: Kind, data: DataSet, model: ModelFlags, objective: ObjectiveFlags, train: TrainConfig
) -> Plan:
    """Settle everything that the flags leave open.

    Raises:
        UsageError: flags that mean nothing, or nothing for this kind of model.
    """
    from trackvae.config import ModelConfig
    from trackvae.networks import ACTIVATIONS

    check_objective(kind, objective)
    if model.activation not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise UsageError(f"--activation is {model.activation!r}, expected one of {known}")
    network = model.network or _network_for(data.shape)
    convolved = network not in ("mlp", "gated-mlp")
    schedule = objective.schedule or _SCHEDULES[kind]
    config = ModelConfig(
        observation=data.shape,
        latent=model.latent or (_LARGE_LATENT if convolved else 2),
        network=cast("Network", network),  # the configuration itself tells of a wrong one
        activation=model.activation,
        likelihood=model.likelihood or _likelihood_for(data),
        constraint="squared",
        sigma=1.0 if schedule in _CONSTRAINED else "optimal",
        prior="vhp" if kind in ("vhp-vae", "fmvae") else "normal",
    )
    _check_values(data, config)
    if objective.kappa and schedule not in _CONSTRAINED and config.likelihood == "bernoulli":
        raise UsageError(
            f"--kappa means nothing to --schedule {schedule} with a bernoulli likelihood: neither "
            "holds an error; leave it out, or choose rewo or geco"
        )
    samples = (objective.samples or _IWAE_SAMPLES) if kind == "iwae" else 1
    rate = _FINAL_RATE * train.learning_rate
    plan = Plan(
        model=config,
        schedule=schedule,
        kappa=None,
        train=replace(train, samples=samples, final_learning_rate=rate),
        eta=(objective.eta or _ETA) if kind == "fmvae" else 0.0,
    )
    return plan if objective.kappa is None else plan.with_kappa(objective.kappa)


def check_objective(kind: Kind, objective: ObjectiveFlags) -> None:
    """Refuse what means nothing, before any data are read.

    Raises:
        UsageError: a value out of range, or a flag of another kind of model.
    """
    for name in ("kappa", "eta"):
        value = getattr(objective, name)
        if value is not None and not (value > 0 and np.isfinite(value)):
            raise UsageError(f"--{name} is {value}, expected a positive number")
    if objective.samples is not None and objective.samples < 1:
        raise UsageError(f"--samples is {objective.samples}, expected 1 or more")
    if objective.eta is not None and kind != "fmvae":
        raise UsageError(f"--eta is of the flatness regulariser; --model is {kind}, not fmvae")
    if objective.samples is not None and kind != "iwae":
        raise UsageError(f"--samples is of the importance-weighted bound; --model is {kind}")


def _network_for(shape: tuple[int, ...]) -> str:
    sides = shape[1:]
    image = len(shape) == 3 and min(sides) >= _CONVOLVED
    return "crop-conv" if image and not any(s % _CONVOLUTION_STRIDE for s in sides) else "mlp"


def _likelihood_for(data: DataSet) -> Literal["bernoulli", "gaussian"]:
    """Bernoulli for pixels of two values, and for those that are to be drawn as such."""
    if len(data.shape) != 3:
        return "gaussian"
    high = 255 if data.train.dtype == np.uint8 else 1
    two = data.binarisation is not None or bool(np.isin(data.train, (0, high)).all())
    return "bernoulli" if two else "gaussian"


def _check_values(data: DataSet, config: ModelConfig) -> None:
    if config.likelihood == "bernoulli" and len(data.shape) != 3:
        raise UsageError(f"{data.name}: bernoulli is for pixels in [0, 1], these are vectors")
