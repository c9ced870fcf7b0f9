"""What the models with auxiliary variables share: q(a|x), and covariances that may be lost.

EKVAE and KVAE encode each observation by itself; a Kalman filter infers states from what was
encoded (sections 4.2 and 4.4.3).
"""

from __future__ import annotations

import torch
from torch import Tensor

from trackvae.distributions import Gaussian
from trackvae.networks import GaussianHead
from training.dssm.batch import SequenceBatch
from training.dssm.kalman import factor
from training.dssm.model import StateSpaceModel


class AuxiliaryModel(StateSpaceModel):
    """A model whose states are inferred from auxiliary variables a in closed form.

    Attributes:
        encoder: q(a|x), of single observations.
        lost: covariances that were not positive definite so far. What follows from one is NaN, so
            that the trainer passes over that step or stops.
    """

    encoder: GaussianHead
    lost: Tensor

    def factors(self, covariance: Tensor) -> Tensor:
        """Cholesky factors of ``(..., D, D)``, see :func:`training.dssm.kalman.factor`."""
        L, lost = factor(covariance)
        with torch.no_grad():
            self.lost += lost
        return L

    def _static(self, x: SequenceBatch, generator: torch.Generator | None) -> Tensor:
        """Means of a, or, given a generator, samples: ``(B, T, D_a)``."""
        self.check(x, finite=True)
        q: Gaussian = self.encoder(x.observations)
        return q.mean if generator is None else q.sample(None, generator)
