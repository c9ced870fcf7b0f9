"""Policies learned inside a model of a system, tested on the system (thesis, section 4.3.2).

A goal is an observation: its position is what the encoder makes of it, its velocity what the
smoother makes of a sequence. Where a state's dimensions are static or dynamic (section 4.3.1) the
distance to a goal in the one or the other is a reward (Eq. 4.32, 4.33), and since the transition
can be differentiated, so can the sum of rewards along a predicted path (Eq. 4.34). The system
itself is not touched before the test.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from trackvae.arrays import FloatArray
from trackvae.errors import InputError, UsageError
from trackvae.networks import mlp
from training.data.dataset import as_float
from training.data.systems import Environment
from training.dssm.batch import SequenceBatch
from training.dssm.ekvae import EKVAE

Reward = Callable[[Tensor], Tensor]  # states (..., D_z) to (...)


class Policy(nn.Module):
    """``pi(u | z)``: a fully-connected network whose controls stay within a limit.

    It is deterministic: noise would only keep the maximum of Eq. 4.34 from being reached.
    """

    location: Tensor
    scale: Tensor

    def __init__(
        self, states: Tensor, controls: int, limit: float, hidden: tuple[int, ...] = (64, 64)
    ) -> None:
        """Make one, its weights drawn from torch's global generator.

        Args:
            states: ``(N, D_z)``, of the kind that it will see, to standardise them by.
            controls: D_u.
            limit: of a control's size, in the unit that the model sees.
            hidden: units.

        Raises:
            UsageError: a limit that is not positive.
        """
        super().__init__()
        if not limit > 0:
            raise UsageError(f"controls within {limit}, expected a positive limit")
        self.limit = limit
        # smooth, since the policy is differentiated through many of its own decisions
        self.network = mlp(states.shape[1], hidden, controls, "tanh")
        self.register_buffer("location", states.mean(0))
        self.register_buffer("scale", states.std(0).clamp_min(1e-6))

    def forward(self, z: Tensor) -> Tensor:
        """Controls ``(..., D_u)`` in states ``(..., D_z)``."""
        return self.limited(self.wanted(z))

    def wanted(self, z: Tensor) -> Tensor:
        """What the network would do without a limit, ``(..., D_u)``."""
        wanted: Tensor = self.network((z - self.location) / self.scale)
        return wanted

    def limited(self, wanted: Tensor) -> Tensor:
        """Controls of what is wanted, within the limit."""
        return self.limit * torch.tanh(wanted)


def position_reward(model: EKVAE, goal: Tensor) -> Reward:
    """Eq. 4.32: minus the squared distance of a state's static dimensions to a goal ``(D_a,)``."""
    return lambda z: -(model.emission(z) - goal).square().sum(-1)


def velocity_reward(model: EKVAE, goal: Tensor) -> Reward:
    """Eq. 4.33: minus that of its dynamic dimensions to a goal ``(D_z - D_a,)``."""
    dims = dynamic_dimensions(model)
    return lambda z: -(z[..., dims] - goal).square().sum(-1)


def dynamic_dimensions(model: EKVAE) -> list[int]:
    """The dimensions of z that are not static.

    Raises:
        UsageError: there are none.
    """
    dims = [dim for dim in range(model.latent) if dim not in model.config.static]
    if not dims:
        raise UsageError("all dimensions of the model's state are static: it has no velocity")
    return dims


@torch.no_grad()
def encoded_position(model: EKVAE, observation: Tensor) -> Tensor:
    """p_g: the mean of q(a|x) for an observation ``(*event)``, ``(D_a,)``."""
    mean: Tensor = model.encoder(observation.unsqueeze(0)).mean[0]
    return mean


@torch.no_grad()
def encoded_velocity(model: EKVAE, shown: SequenceBatch) -> Tensor:
    """v_g: the smoothed dynamic dimensions, ``(D_z - D_a,)``, mean over sequences and steps.

    Args:
        model: the model.
        shown: sequences that move with the wanted velocity all the time.
    """
    z = model.smooth(shown).mean[..., dynamic_dimensions(model)]
    if shown.mask is None:
        return z.mean((0, 1))
    return z[shown.mask].mean(0)


@dataclass(frozen=True)
class PolicyConfig:
    """How a policy is learned.

    The last three are not in the thesis. A swing-up against a torque weaker than gravity (7 of
    9.81; 200 steps, 10 starts on the real pendulum) failed at all of them without the cut, for the
    gradient of a few paths that explodes is all that Adam sees; at 4 with the cut alone, which it
    held where torque and gravity balance; with all three at 1 or none.

    Attributes:
        limit: of a control's size, in the unit that the model sees.
        horizon: H, steps that are looked ahead.
        steps: of the optimiser.
        batch: predicted paths in each.
        learning_rate: Adam's, at the start; it falls to a tenth by a cosine.
        hidden: units of the policy.
        seed: of the weights, the paths' beginnings and the transition's noise.
        cut: largest gradient of a path's return by a state on it, where rewards are in units of
            their mean at the start and states in standard deviations.
        carried: share of the paths that begin where others ended in the step before, so that a
            policy meets again what it gets itself into.
        saturation: price of what is wanted beyond the limit: its square, per step, in units of the
            mean reward. A policy that presses against its limit learns no more.
    """

    limit: float = 1.0
    horizon: int = 40
    steps: int = 300
    batch: int = 64
    learning_rate: float = 1e-2
    hidden: tuple[int, ...] = (64, 64)
    seed: int = 0
    cut: float = 25.0
    carried: float = 0.5
    saturation: float = 0.025

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        if self.horizon < 2 or self.steps < 1 or self.batch < 1:
            raise UsageError(
                f"horizon {self.horizon}, {self.steps} steps of {self.batch}: expected a horizon "
                "of 2 or more, and at least one step of one path"
            )
        if not 0 <= self.carried < 1:
            raise UsageError(f"carried is {self.carried}, expected a share from 0 to below 1")


@dataclass(frozen=True)
class Learned:
    """A policy and how it came about.

    Attributes:
        policy: to act by.
        returns: the mean of J / (H - 1) over the batch, at each step of the optimiser.
        skipped: steps whose gradient was not finite, which were left out.
    """

    policy: Policy
    returns: tuple[float, ...]
    skipped: int


def learn_policy(
    model: EKVAE, starts: Tensor, reward: Reward, config: PolicyConfig | None = None
) -> Learned:
    """Maximise Eq. 4.34 over the policy; the model stays as it is.

    Args:
        model: its transition is all that is used.
        starts: ``(N, D_z)``, states that paths begin in; N from 2 on.
        reward: of a state; its unit does not matter, nor its sign.
        config: how.

    Raises:
        UsageError: fewer than two starts; starts or their rewards that are not finite; starts that
            are all worth nothing, as if each were the goal.
        InputError: no step had a finite gradient.
    """
    config = config or PolicyConfig()
    unit = _unit(starts, reward)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        policy = Policy(starts, model.controls, config.limit, config.hidden).to(starts)
    generator = torch.Generator(starts.device).manual_seed(config.seed)
    optimiser = torch.optim.Adam(policy.parameters(), lr=config.learning_rate)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimiser, config.steps, 0.1 * config.learning_rate
    )
    returns, skipped, kept = [], 0, round(config.carried * config.batch)
    frozen = [p for p in model.parameters() if p.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        ends = starts[:0]
        for _ in range(config.steps):
            rows = torch.randint(len(starts), (config.batch,), generator=generator)
            carried = ends[torch.randperm(len(ends), generator=generator)[:kept]]
            begun = torch.cat([carried, starts[rows[len(carried) :]]])
            found = follow(model, policy, begun, reward, config.horizon, generator, config.cut)
            optimiser.zero_grad()
            price = config.saturation * found.pressure.mean()
            (price - found.rewards.mean() / unit).backward()  # type: ignore[no-untyped-call]
            norm = nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
            if bool(norm.isfinite()):
                optimiser.step()
                falling.step()
                ends = found.ends.detach()
            else:
                skipped += 1
            returns.append(float(found.rewards.detach().mean()))
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
    if skipped == config.steps:
        raise InputError(
            f"none of {skipped} steps had a finite gradient; look at the model's transition, or "
            "give a shorter horizon"
        )
    return Learned(policy, tuple(returns), skipped)


def _unit(starts: Tensor, reward: Reward) -> float:
    """What rewards are measured in: their mean size where paths begin."""
    if starts.dim() != 2 or len(starts) < 2 or not bool(starts.isfinite().all()):
        raise UsageError(
            f"starts are {tuple(starts.shape)}, expected finite states (2 or more, D_z)"
        )
    unit = float(reward(starts).abs().mean())
    if not (math.isfinite(unit) and unit > 0):
        raise UsageError(f"the mean size of the starts' rewards is {unit}, expected more than 0")
    return unit


@dataclass(frozen=True, eq=False)
class Path:
    """What a policy's paths through the model came to.

    Attributes:
        rewards: (B,), mean over the H - 1 states after the first: J / (H - 1) of Eq. 4.34.
        pressure: (B,), mean square of what the policy wanted, before its limit.
        ends: (B, D_z), the last states.
    """

    rewards: Tensor
    pressure: Tensor
    ends: Tensor


def follow(
    model: EKVAE,
    policy: Policy,
    starts: Tensor,
    reward: Reward,
    horizon: int,
    generator: torch.Generator | None = None,
    cut: float = math.inf,
) -> Path:
    """Let a policy act in the model: what Eq. 4.34 takes the expectation of.

    Args:
        model: its transition is used.
        policy: decides.
        starts: ``(B, D_z)``, where the paths begin.
        reward: of a state.
        horizon: H.
        generator: every step is sampled from the transition; None: its mean is taken.
        cut: see :class:`PolicyConfig`, of the gradient of the mean over paths of what is made of
            rewards; it changes gradients alone.
    """
    most = cut / (len(starts) * (horizon - 1))  # of the mean over paths and steps

    def shortened(gradient: Tensor) -> Tensor:
        norm = (gradient * policy.scale).norm(dim=-1, keepdim=True)
        return gradient * (most / norm.clamp_min(most))

    z = starts
    total, pressure = starts.new_zeros(len(starts)), starts.new_zeros(len(starts))
    for _ in range(horizon - 1):
        wanted = policy.wanted(z)
        following, _ = model.step(z, policy.limited(wanted))
        z = following.mean if generator is None else following.sample(None, generator)
        if math.isfinite(cut) and z.requires_grad:
            z.register_hook(shortened)  # type: ignore[no-untyped-call]
        total = total + reward(z)
        pressure = pressure + wanted.square().sum(-1)
    return Path(total / (horizon - 1), pressure / (horizon - 1), z)


@dataclass(frozen=True)
class Episode:
    """What happened when a policy acted on a system.

    Attributes:
        observations: (B, T + 1, *event).
        controls: (B, T, D_u), in the unit that the model sees.
        states: (B, T + 1, D_s), true ones.
        believed: (B, T, D_z), the filtered states that were acted upon.
    """

    observations: npt.NDArray[np.float32]
    controls: npt.NDArray[np.float32]
    states: FloatArray
    believed: npt.NDArray[np.float32]


@torch.no_grad()
def act(
    model: EKVAE,
    policy: Policy,
    world: Environment,
    steps: int,
    *,
    starts: FloatArray | None = None,
    window: int = 15,
) -> Episode:
    """Let a policy act on a real system of which it sees observations alone.

    Args:
        model: its filter says where the system is.
        policy: decides.
        world: the system, any number of copies.
        steps: T.
        starts: (B, D_s) where the copies start; None: drawn.
        window: the filter looks back so many observations, which bounds what a step costs.
    """
    if steps < 1 or window < 1:
        raise UsageError(f"{steps} steps with a window of {window}, expected at least 1 of both")
    seen, states = [as_float(world.reset(starts))], [world.states]
    done: list[Tensor] = []
    believed: list[Tensor] = []
    for t in range(steps):
        first = max(0, t + 1 - window)
        observations = torch.from_numpy(np.stack(seen[first:], axis=1))
        controls = observations.new_zeros(world.count, t - first, model.controls)
        if t > first:
            controls = torch.stack(done[first:], dim=1)
        z = model.filter(SequenceBatch(observations, controls)).mean[:, -1]
        u = policy(z)
        believed.append(z)
        done.append(u)
        seen.append(as_float(world.step(u.numpy())))
        states.append(world.states)
    return Episode(
        np.stack(seen, axis=1),
        torch.stack(done, dim=1).numpy(),
        np.stack(states, axis=1),
        torch.stack(believed, dim=1).numpy(),
    )
