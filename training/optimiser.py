"""Adam over two groups of parameters: what is trained throughout, and what is trained later."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn


class Optimiser:
    """Adam, with a learning rate of their own for the parameters that join in later.

    Its state is kept by the parameters' numbers in the model, whatever their groups.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        later: Iterable[nn.Parameter],
        *,
        learning_rate: float,
        later_rate: float = 1.0,
        clip: float | None = None,
        fused: bool = False,
    ) -> None:
        """Take over a model's parameters.

        Args:
            parameters: all of them, in the model's order.
            later: those that REWO does not train in its initial phase.
            learning_rate: at the start.
            later_rate: factor on it for the later ones.
            clip: largest norm of all gradients together; None: as they are.
            fused: in one kernel: 0.19 ms a step for the pendulum's network against 0.67.
        """
        self.parameters, self.later = list(parameters), list(later)
        self._clip = clip
        self._groups = self._grouped(later_rate)
        self._adam = torch.optim.Adam(
            [{"params": [self.parameters[i] for i in rows]} for rows, _ in self._groups],
            lr=learning_rate,
            fused=fused,
        )

    def _grouped(self, factor: float) -> list[tuple[list[int], float]]:
        """Numbers of the parameters that share a learning rate, and its factor."""
        everything = list(range(len(self.parameters)))
        if factor == 1.0:
            return [(everything, 1.0)]
        late = {id(parameter) for parameter in self.later}
        last = [i for i in everything if id(self.parameters[i]) in late]
        return [([i for i in everything if i not in last], 1.0), (last, factor)]

    def differentiate(self, loss: Tensor, *, train_later: bool) -> None:
        """Gradients of everything that is to be trained; the others have none.

        Args:
            loss: a scalar.
            train_later: whether the later parameters are trained by it.
        """
        for parameter in self.parameters:
            parameter.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        if not train_later:
            for parameter in self.later:
                parameter.grad = None  # Adam passes over what has no gradient

    def clip(self, *, watch: bool) -> float:
        """Clip the gradients; their norm before that.

        Args:
            watch: the norm is wanted where nothing is clipped, too; else it is 0 there.
        """
        if self._clip is None and not watch:
            return 0.0
        most = math.inf if self._clip is None else self._clip
        return float(torch.nn.utils.clip_grad_norm_(self.parameters, most))

    def step(self, learning_rate: float) -> None:
        """One step."""
        for group, (_, factor) in zip(self._adam.param_groups, self._groups, strict=True):
            group["lr"] = factor * learning_rate
        self._adam.step()

    def forget(self, parameter: Tensor) -> None:
        """Drop the moments of a parameter that was rewritten: they are those of other weights."""
        self._adam.state.pop(parameter, None)

    def moments(self) -> dict[int, Mapping[str, Any]]:
        """Adam's, by the parameter's number in the model."""
        found = self._adam.state_dict()["state"]
        return {row: found[place] for place, row in self._places() if place in found}

    def restore(self, moments: Mapping[int, Mapping[str, Any]]) -> None:
        """Take up those of another run."""
        state = {place: moments[row] for place, row in self._places() if row in moments}
        groups = self._adam.state_dict()["param_groups"]
        self._adam.load_state_dict({"state": state, "param_groups": groups})

    def _places(self) -> list[tuple[int, int]]:
        """Each parameter's number in Adam, and in the model."""
        return list(enumerate(row for rows, _ in self._groups for row in rows))
