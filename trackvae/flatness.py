"""The regulariser that makes the latent space flat: ``E ||G - c^2 1||_F^2`` (thesis, 5.2.2).

A step of Algorithm 4 with it reads::

    z = mixup(z, rho_0=0.2)                       # Eq. 5.14
    sketch = random_projection(decoder, z)        # or exact, finite_difference, as_printed
    c2 = average.step(sketch)                     # Eq. 5.15; average = MovingScale()
    loss = loss + eta * relative_penalty(sketch, c2)

An estimator is a function ``(decoder, z, generator) -> Sketch``; its settings are keywords
(``functools.partial`` binds them). A sketch holds what G does to a few vectors; the penalties and
the scaling factor are functions of that alone, the same for all estimators.

What the penalty is worth depends on c^2. *Given* c^2, the sketches of :func:`exact` and
:func:`random_projection` give it without bias, value and gradient. c^2 from the very probes of a
random sketch of N rows is correlated with them, and the absolute penalty is then too low by
``Var(v^T G v) / (N D_z)`` with one probe a row; so take it from other probes
(:func:`independent_scale`) or from earlier steps (:class:`MovingScale`), both detached. The
absolute penalty falls with the fourth power of the decoder's scale, so that it is partly met by
shrinking J; the relative one, with c^2 of the same decoder, has no scale.

Schedules, eta and when to start (after REWO's initial phase; from step 0 it stalls) belong to
``training``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from trackvae.geometry import Decoder, metric_product, metric_tensor, push_forward


class Sketch(NamedTuple):
    """What the metric tensor does to P vectors at each of N points.

    Attributes:
        probes: (P, N, D_z), v with ``weight * sum_p v v^T = 1``, or so in expectation.
        images: (P, N, D_z), an estimate of G v, with its graph.
        weight: of each probe in a sum: 1 for a basis, 1 / P for random probes.
    """

    probes: Tensor
    images: Tensor
    weight: float

    def mean_diagonal(self) -> Tensor:
        """``tr(G) / D_z`` of each row, (N,)."""
        trace = self.weight * (self.probes * self.images).sum((0, 2))
        return trace / self.probes.shape[2]


class Estimator(Protocol):
    """Looks at G at some points."""

    def __call__(
        self, decoder: Decoder, z: Tensor, generator: torch.Generator | None = None
    ) -> Sketch:
        """Take (N, D_z) points; draw whatever is random from the generator (z's device)."""
        ...


def mixup(z: Tensor, rho_0: float, generator: torch.Generator | None = None) -> Tensor:
    """``g(z_i, z_j, rho) = (1 - rho) z_i + rho z_j`` (Eq. 5.14), to regularise between data too.

    As in Algorithm 4 the z_j are the shuffled batch, and each row draws its own
    ``rho ~ U(-rho_0, 1 + rho_0)``; rho_0 > 0 reaches beyond the edge of the data.

    Args:
        z: (N, D_z), samples of the posterior; their gradient is kept.
        rho_0: at least 0; the thesis gives no value.
        generator: on z's device.

    Returns:
        (N, D_z).

    Raises:
        ValueError: rho_0 is negative.
    """
    if not rho_0 >= 0:
        raise ValueError(f"rho_0 is {rho_0}, expected 0 or more")
    other = z[torch.randperm(len(z), generator=generator, device=z.device)]
    uniform = torch.rand(len(z), 1, generator=generator, device=z.device, dtype=z.dtype)
    return torch.lerp(z, other, uniform * (1 + 2 * rho_0) - rho_0)


def some_rows(z: Tensor, count: int | None, generator: torch.Generator | None = None) -> Tensor:
    """``count`` rows drawn without replacement: a penalty on them is unbiased for that on all.

    Args:
        z: (N, D_z).
        count: at least 1; None, or N and more: all rows, as they are.
        generator: on z's device.

    Returns:
        (min(count, N), D_z).

    Raises:
        ValueError: count is less than 1.
    """
    if count is not None and count < 1:
        raise ValueError(f"count is {count}, expected 1 or more")
    if count is None or count >= len(z):
        return z
    return z[torch.randperm(len(z), generator=generator, device=z.device)[:count]]


def exact(
    decoder: Decoder,
    z: Tensor,
    generator: torch.Generator | None = None,  # noqa: ARG001
) -> Sketch:
    """G itself, from the whole Jacobian: D_z jvps; for few latent dimensions."""
    return _from_metric(metric_tensor(decoder, z))


def finite_difference(
    decoder: Decoder,
    z: Tensor,
    generator: torch.Generator | None = None,  # noqa: ARG001
    *,
    step: float = 1e-2,
) -> Sketch:
    """``J^(i) = (f(z + h e_i) - f(z)) / h`` with a fixed h: D_z + 1 decoder passes, no jvp.

    Exact for a linear decoder; otherwise its error is of order h f''. In float32 h below 1e-3 loses
    more to rounding than it gains.
    """
    steps = torch.full_like(z, step)
    J = _differences(decoder, z, steps) / step
    return _from_metric(J.mT @ J)


def as_printed(
    decoder: Decoder,
    z: Tensor,
    generator: torch.Generator | None = None,
    *,
    sigma: float = 1e-2,
    samples: int = 1,
) -> Sketch:
    """The thesis's stochastic approximation as it stands in 5.2.2.1; kept for comparison: biased.

    ``J^(i) = E_{eps ~ N(0, sigma^2)} [f(z + eps e_i) - f(z)] / sigma``, the expectation as a mean
    over ``samples``. To first order the difference is ``eps J^(i)``: with one sample G_ij comes
    multiplied by ``eps_i eps_j / sigma^2``, right on the diagonal in the mean, but its square is
    not, and the penalty is too high by ``2 sum_i G_ii^2`` (measured: 2.8 where the exact value is
    0.58). With more samples eps averages to 0 before the square and G vanishes as 1 / samples. A
    fixed step, or division by the drawn eps, is right: :func:`finite_difference`.

    Args:
        decoder: ``z (N, D_z) -> x (N, ...)``.
        z: (N, D_z).
        generator: on z's device.
        sigma: standard deviation of eps.
        samples: eps per row and dimension.
    """
    noise = torch.randn(samples, *z.shape, generator=generator, dtype=z.dtype, device=z.device)
    J = torch.stack([_differences(decoder, z, eps) for eps in sigma * noise]).mean(0) / sigma
    return _from_metric(J.mT @ J)


def random_projection(
    decoder: Decoder,
    z: Tensor,
    generator: torch.Generator | None = None,
    *,
    probes: int = 1,
) -> Sketch:
    """``G v`` for random signs v: unbiased, at a price that does not grow with D_z.

    ``E ||(G - c^2 1) v||^2 = ||G - c^2 1||_F^2`` for any v with ``E[v v^T] = 1``; one jvp and one
    vjp a probe. This is what makes the penalty affordable in 128 dimensions.

    Args:
        decoder: ``z (N, D_z) -> x (N, ...)``.
        z: (N, D_z).
        generator: on z's device.
        probes: P, per row, at least 1; the variance falls as 1 / P.
    """
    v = _random_signs(probes, z, generator)
    return Sketch(v, metric_product(decoder, z, v), 1 / probes)


ESTIMATORS: dict[str, Estimator] = {
    "exact": exact,
    "finite-difference": finite_difference,
    "as-printed": as_printed,
    "random-projection": random_projection,
}


def scaling_factor(sketch: Sketch) -> Tensor:
    """``c^2`` (Eq. 5.15) from a sketch, detached, (): the mean of G's diagonals.

    As Algorithm 4 has it. For a random sketch see the module's note on whose probes it may use. An
    empty batch has none: nan.
    """
    return sketch.mean_diagonal().detach().mean()


def independent_scale(
    decoder: Decoder, z: Tensor, generator: torch.Generator | None = None, *, probes: int = 1
) -> Tensor:
    """``c^2`` (Eq. 5.15) from probes of its own: ``E ||J v||^2 = tr(G)``, one jvp each, no graph.

    Args:
        decoder: ``z (N, D_z) -> x (N, ...)``.
        z: (N, D_z).
        generator: on z's device.
        probes: per row, at least 1.

    Returns:
        (), detached.
    """
    with torch.no_grad():
        signs = _random_signs(probes, z, generator)
        traces = [push_forward(decoder, z, v).square().sum(1) for v in signs]  # each (N,)
        return torch.stack(traces).mean() / z.shape[1]


class MovingScale:
    """``c^2`` as a moving average over earlier steps, hence independent of this step's probes.

    Attributes:
        value: the average so far, (), or None before the first step.
    """

    def __init__(self, momentum: float = 0.9) -> None:
        """Keep ``momentum`` of the old average at each step, in [0, 1)."""
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum is {momentum}, expected 0 to below 1")
        self.momentum = momentum
        self.value: Tensor | None = None

    def step(self, sketch: Sketch, together: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """The average before this sketch, (), detached; then take the sketch in.

        The first call has no past and returns the sketch's own. A sketch whose c^2 is not finite
        (an empty batch) is not taken in. ``together`` takes the mean over several processes.
        """
        new = scaling_factor(sketch)
        if together is not None:
            new = together(new)
        if self.value is None:
            self.value = new if bool(new.isfinite()) else None
            return new
        old = self.value.to(new)
        mixed = self.momentum * old + (1 - self.momentum) * new
        self.value = torch.where(new.isfinite(), mixed, old)
        return old

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to go on exactly."""
        return {"value": None if self.value is None else float(self.value)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state of another run."""
        value = state["value"]
        self.value = None if value is None else torch.tensor(value, dtype=torch.float64)


def absolute_penalty(sketch: Sketch, c2: Tensor) -> Tensor:
    """``mean_n ||G_n - c^2 1||_F^2``: F_reg of the thesis (below Eq. 5.14).

    Args:
        sketch: of N points.
        c2: (), detached.

    Returns:
        (); 0 for an empty batch.
    """
    return _mean_rows(sketch, sketch.images - c2 * sketch.probes)


def relative_penalty(sketch: Sketch, c2: Tensor) -> Tensor:
    """``mean_n ||G_n / c^2 - 1||_F^2 / D_z``: the same without the scale of x and the count of z.

    With c^2 detached its value has no scale, but its gradient has: along the decoder's own scale s
    it is ``d / d log s = 4 x penalty``, a pull to shrink J that ends only where J is flat. With
    ``c2 = sketch.mean_diagonal().mean()``, not detached, that pull is 0 for every estimator.

    Args:
        sketch: of N points.
        c2: (); 0 (a decoder that ignores z) gives the penalty 1, not nan.

    Returns:
        (); 0 for an empty batch.
    """
    c2 = c2.clamp_min(torch.finfo(c2.dtype).tiny)
    return _mean_rows(sketch, sketch.images / c2 - sketch.probes) / sketch.probes.shape[2]


def _mean_rows(sketch: Sketch, residual: Tensor) -> Tensor:
    """Weighted sum over probes, mean over rows, of squared (P, N, D_z) residuals."""
    rows = residual.shape[1]
    return sketch.weight * residual.square().sum() / max(rows, 1)


def _from_metric(G: Tensor) -> Sketch:
    """The sketch of (N, D_z, D_z) on the basis: its columns."""
    basis = torch.eye(G.shape[-1], dtype=G.dtype, device=G.device)
    return Sketch(basis[:, None].expand(-1, len(G), -1), G.permute(2, 0, 1), 1.0)


def _differences(decoder: Decoder, z: Tensor, steps: Tensor) -> Tensor:
    """``f(z + s_i e_i) - f(z)`` for every dimension i, with (N, D_z) steps: (N, D_x, D_z)."""
    moved = z + torch.diag_embed(steps).transpose(0, 1)  # (D_z, N, D_z)
    x = decoder(torch.cat([z[None], moved]).flatten(0, 1))
    x = x.reshape(z.shape[1] + 1, len(z), x.shape[1:].numel())  # (1 + D_z, N, D_x)
    return (x[1:] - x[0]).permute(1, 2, 0)


def _random_signs(probes: int, z: Tensor, generator: torch.Generator | None) -> Tensor:
    """(P, N, D_z) of -1 and 1."""
    if probes < 1:
        raise ValueError(f"probes is {probes}, expected 1 or more")
    v = torch.empty(probes, *z.shape, dtype=z.dtype, device=z.device)
    return v.bernoulli_(0.5, generator=generator).mul_(2).sub_(1)
