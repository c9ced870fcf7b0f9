"""What a state-space model is judged by: regressions on the true states, and predictions.

The same for every model and system; labels (true states) are used here alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from trackvae.arrays import FloatArray

if TYPE_CHECKING:
    from torch import Tensor

    from training.data.sequences import Sequences
    from training.dssm.batch import SequenceBatch
    from training.dssm.model import States, StateSpaceModel

GIVEN = 5  # observations that a prediction starts from (section 4.4.2.1)
_DRAWS = 7001  # seed of all samples that an evaluation takes
_FEWEST = 20  # states of a sector, for a regression on four regressors
_EXPLODED = 1.0  # error of a prediction that is no number any more: white where black was


def r_squared(
    train: FloatArray, train_truth: FloatArray, test: FloatArray, test_truth: FloatArray
) -> float:
    """R^2 of an ordinary least squares regression, fitted on one part and judged on another.

    Args:
        train: ``(N, D)``, with what they are to explain ``(N,)``.
        train_truth: see above.
        test: ``(M, D)``, likewise.
        test_truth: see above.

    Returns:
        At most 1; below 0 where the mean of the test part would be better.
    """
    weights, *_ = np.linalg.lstsq(_with_constant(train), train_truth, rcond=None)
    residual = test_truth - _with_constant(test) @ weights
    spread = test_truth - test_truth.mean()
    return float(1.0 - residual @ residual / (spread @ spread))


def generated_error(model: StateSpaceModel, seen: Sequences, count: int = 300) -> float:
    """How far first images that a model generates are from anything that it was shown.

    Args:
        model: in evaluation mode.
        seen: what it was trained on, ``(N, T, *event)``.
        count: of images drawn from p(z_1).

    Returns:
        Median over them of the mean squared error to the nearest image.
    """
    import torch

    with torch.no_grad():
        z = model.prior.sample(count, torch.Generator().manual_seed(_DRAWS))  # type: ignore[operator]
        drawn = model.decode(z).flatten(1).double()
    known = torch.from_numpy(seen.values()).flatten(0, 1).flatten(1).double()
    return float(torch.cdist(drawn, known).amin(1).square().median() / drawn.shape[1])


def _with_constant(values: FloatArray) -> FloatArray:
    return np.concatenate([values.astype(np.float64), np.ones((len(values), 1))], axis=1)


def angle_and_velocity(
    train: FloatArray, train_states: FloatArray, test: FloatArray, test_states: FloatArray
) -> dict[str, float]:
    """The three regressions of section 4.4.2.1.

    Args:
        train: latents ``(N, T, D_z)`` to fit on, and their true angles and velocities
            ``(N, T, 2 J)``, the J angles first.
        train_states: see above.
        test: latents to judge on, likewise.
        test_states: see above.

    Returns:
        ``angle``: mean R^2 of sine and cosine over the joints; ``velocity``: mean over the joints;
        with more than one joint also ``angle_1``, ``velocity_1`` and so on.
    """
    z, z_test = (values.reshape(-1, values.shape[-1]) for values in (train, test))
    truth, truth_test = (s.reshape(-1, s.shape[-1]) for s in (train_states, test_states))
    joints, found = truth.shape[-1] // 2, {}
    for joint in range(joints):
        waves = [
            r_squared(z, wave(truth[:, joint]), z_test, wave(truth_test[:, joint]))
            for wave in (np.sin, np.cos)
        ]
        found[f"angle_{joint + 1}"] = float(np.mean(waves))
        speed = joints + joint
        found[f"velocity_{joint + 1}"] = r_squared(z, truth[:, speed], z_test, truth_test[:, speed])
    means = {
        kind: float(np.mean([found[f"{kind}_{joint + 1}"] for joint in range(joints)]))
        for kind in ("angle", "velocity")
    }
    return means if joints == 1 else {**means, **found}


def turning_velocity(
    train: FloatArray, train_states: FloatArray, test: FloatArray, test_states: FloatArray
) -> float:
    """R^2 of the velocity where the regression may turn with the true angle.

    The weights are trigonometric polynomials of the angle, of second order. A model can hold the
    velocity in another direction at each angle (a twisted barrel): one plane for all angles then
    explains nothing of it, and this does. The angle alone explains next to nothing.

    Args:
        train: latents ``(N, T, D_z)`` and true (angle, velocity) ``(N, T, 2)`` to fit on.
        train_states: see above.
        test: to judge on, likewise.
        test_states: see above.
    """

    def features(latents: FloatArray, states: FloatArray) -> FloatArray:
        angle = states[..., :1].reshape(-1, 1)
        waves = [np.ones_like(angle), *(f(k * angle) for k in (1, 2) for f in (np.sin, np.cos))]
        z = _with_constant(latents.reshape(-1, latents.shape[-1]))
        product = z[:, :, None] * np.concatenate(waves, axis=1)[:, None]
        return product.reshape(len(z), -1)

    return r_squared(
        features(train, train_states),
        train_states[..., 1].ravel(),
        features(test, test_states),
        test_states[..., 1].ravel(),
    )


def velocity_coherence(latents: FloatArray, states: FloatArray, sectors: int = 24) -> float:
    """Whether the velocity lies in one direction of the latent space at all angles.

    The length of the mean, over sectors of the angle, of the unit vector along which the velocity
    moves the latents there: 1 for the barrel of the thesis's figures, near 0 where that direction
    turns once around on the way round the angles, or points one way in one half and the other way
    in the other.

    Args:
        latents: ``(N, T, D_z)``.
        states: their true angles and velocities, ``(N, T, 2)``.
        sectors: of equal angle.
    """
    z = latents.reshape(-1, latents.shape[-1]).astype(np.float64)
    angle, velocity = states.reshape(-1, states.shape[-1])[:, :2].T
    sector = (np.mod(angle, 2 * np.pi) * sectors / (2 * np.pi)).astype(int) % sectors
    units = []
    for place in range(sectors):
        here = sector == place
        if here.sum() < _FEWEST:
            continue
        waves = [np.ones(here.sum()), np.sin(angle[here]), np.cos(angle[here]), velocity[here]]
        slope = np.linalg.lstsq(np.stack(waves, axis=1), z[here], rcond=None)[0][-1]
        units.append(slope / max(np.linalg.norm(slope), 1e-12))
    return float(np.linalg.norm(np.mean(units, axis=0))) if units else 0.0


def measure(
    model: StateSpaceModel, train: Sequences, test: Sequences, given: int = GIVEN
) -> dict[str, float]:
    """Everything that Table 4.1 has of one model, on sequences it was not trained on.

    Args:
        model: in evaluation mode.
        train: to fit the regressions on.
        test: to report on.
        given: observations that predictions start from.

    Returns:
        ``elbo`` and ``rate`` (nats a step), ``angle`` and ``velocity`` (R^2), ``mse`` and
        ``mse_median`` of predictions from samples of the smoothed first state, ``mse_of_mean`` and
        ``mse_of_mean_median`` from its mean, ``reconstruction`` (mean squared error).
    """
    import torch

    from training.dssm.batch import SequenceBatch

    held, seen = SequenceBatch.of(test), SequenceBatch.of(train)
    with torch.no_grad():
        terms = model.terms(held, torch.Generator().manual_seed(_DRAWS))
        smooth = [model.smooth(part).mean.numpy() for part in (seen, held)]
    found = {
        "elbo": float(terms.elbo.mean()) / test.steps,
        "rate": float(terms.rate.mean()) / test.steps,
        "reconstruction": float(terms.error.mean()),
        **angle_and_velocity(smooth[0], train.states, smooth[1], test.states),
    }
    for name, sampled in (("mse", True), ("mse_of_mean", False)):
        errors = prediction_errors(model, held, given=given, sampled=sampled)
        found |= {name: float(errors.mean()), f"{name}_median": float(np.median(errors))}
    return found


def prediction_errors(
    model: StateSpaceModel,
    held: SequenceBatch,
    *,
    given: int = GIVEN,
    sampled: bool = True,
    start: Literal["smoothed", "filtered"] = "smoothed",
) -> npt.NDArray[np.float64]:
    """Mean squared error of each sequence's prediction, per pixel and step, ``(N,)``.

    ``smoothed``: all T steps are predicted from ``z_1 ~ q(z_1 | x_{1:given}, u_{1:given-1})``.
    ``filtered``: the steps from ``given`` on, from ``z_given`` given the same observations, with
    the model's memory as it is there (Table 4.3).
    A prediction that is not finite counts as an error of 1.

    Args:
        model: in evaluation mode.
        held: N sequences.
        given: observations that are known.
        sampled: the first state is drawn, as in the thesis; False: its mean is taken.
        start: see above.
    """
    import torch

    first = 0 if start == "smoothed" else given - 1
    with torch.no_grad():
        states = getattr(model, "smooth" if start == "smoothed" else "filter")(held.first(given))
        z, memory = start_state(states, first, sampled=sampled)
        path = model.predict(z, held.controls[:, first:], memory=memory)
        errors = (model.decode(path) - held.observations[:, first:]).square()
    found = errors.flatten(1).mean(1).double().numpy()
    return np.where(np.isfinite(found), found, _EXPLODED)


def start_state(states: States, step: int, *, sampled: bool) -> tuple[Tensor, Tensor | None]:
    """State ``(N, D_z)`` and memory of one step, drawn with a fixed seed or the mean."""
    import torch

    mean, memory = states.at(step)
    if not sampled:
        return mean, memory
    return states.sample(torch.Generator().manual_seed(_DRAWS))[:, step], memory
