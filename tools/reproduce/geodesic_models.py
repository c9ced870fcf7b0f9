"""What figures 5.1 to 5.12 share: importance-weighted autoencoders of two latents, and their data.

The models are those of Table A.7 with smaller networks. They are trained by the parts of
:mod:`tools.reproduce.flatness`; encodings are drawn by importance resampling (5.1.1.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from tools.reproduce.experiment import Context
from tools.reproduce.flatness import train_part

if TYPE_CHECKING:
    from torch import Tensor

    from trackvae.vae import VAE
    from training.data import DataSet

REDUCED = (
    "widths, samples and steps as in settings (Table A.7: 512 wide, K = 50 or 15, Adam 1e-4 or "
    "1e-3); a fixed sigma, since one that is learned from 1 stays where the posterior collapsed"
)
_SIR = 64  # importance samples that an encoding is drawn from
_AT_ONCE = 512


@dataclass(frozen=True)
class Recipe:
    """How one experiment's model is trained.

    Attributes:
        hidden: units of the encoder; the decoder's in reverse.
        samples: K of the importance-weighted bound (Eq. 5.7).
        sigma: of the Gaussian likelihood, in units of the data.
        steps: of batches of 64; Adam 1e-3 to 1e-4 on a cosine.
        quick: steps where few minutes are to do.
        likelihood: ``gaussian`` or ``bernoulli``.
    """

    hidden: tuple[int, ...]
    samples: int
    sigma: float
    steps: int
    quick: int
    likelihood: str = "gaussian"


def iwae_settings(recipe: Recipe, data: DataSet, seed: int, *, quick: bool) -> dict[str, Any]:
    """All that a training run depends on, as plain values for :func:`train_part`."""
    from trackvae.config import ModelConfig

    model = ModelConfig(
        observation=data.shape,
        hidden=recipe.hidden,
        activation="tanh",
        likelihood=cast(Any, recipe.likelihood),
        sigma=recipe.sigma,
        prior="normal",
    )
    return {
        "model": model.to_dict(),
        "schedule": {"kind": "elbo"},
        "train": {
            "steps": recipe.quick if quick else recipe.steps,
            "batch_size": 64,
            "learning_rate": 1e-3,
            "final_learning_rate": 1e-4,
            "samples": recipe.samples,
            "seed": seed,
        },
        "flatness": None,
        "data": data.note,
    }


def trained_iwae(
    context: Context, recipe: Recipe, data: DataSet, seed: int
) -> tuple[VAE, dict[str, Any]]:
    """A model whose weights take no gradient, and how its training ended."""
    settings = iwae_settings(recipe, data, seed, quick=context.quick)
    model, ended = train_part(context, f"iwae-{data.name}-{seed}", settings, data)
    return model.requires_grad_(False), ended


def resampled(model: VAE, x: np.ndarray[Any, Any], seed: int) -> Tensor:
    """Encodings (N, D) by sequential importance resampling (5.1.1.2, Algorithm 1).

    q(z|x) of an IWAE is a proposal; the latent representation is what its weights make of it.
    """
    import torch

    from trackvae.bounds import sir

    generator = torch.Generator().manual_seed(seed)
    blocks = (x[first : first + _AT_ONCE] for first in range(0, len(x), _AT_ONCE))
    return torch.cat([sir(model, torch.from_numpy(b), _SIR, 1, generator)[0] for b in blocks])


def spread_rows(count: int, wanted: int, seed: int) -> np.ndarray[Any, Any]:
    """``wanted`` of ``count`` rows at random, in order; all where there are fewer."""
    rng = np.random.default_rng(seed)
    return np.sort(rng.choice(count, min(wanted, count), replace=False))


def with_model(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a training's settings that a results file shows."""
    return {name: settings[name] for name in ("model", "train")}


def seen_values(data: DataSet, count: int, seed: int) -> np.ndarray[Any, Any]:
    """So many observations of the training part, all over it: what nodes are encodings of."""
    return data.values("train")[spread_rows(len(data.train), count, seed)]


def encoded_nodes(model: VAE, data: DataSet, count: int, seed: int) -> Tensor:
    """Their encodings, (N, 2), resampled (section 5.1.1.2)."""
    return resampled(model, seen_values(data, count, seed), seed)


def random_ends(model: VAE, data: DataSet, pairs: int, seed: int) -> tuple[Tensor, Tensor]:
    """Encodings of so many pairs of the test part, (P, 2) each."""
    rng, x = np.random.default_rng(seed), data.values("test")
    rows = np.array([rng.choice(len(x), 2, replace=False) for _ in range(pairs)])
    return resampled(model, x[rows[:, 0]], seed), resampled(model, x[rows[:, 1]], seed + 1)
