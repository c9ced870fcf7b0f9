"""A model looked at with data: figures, pictures, and the page that holds them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tools.inspect.measure import (
    encode,
    flatness,
    likelihood_bound,
    measured_part,
    observations,
    some_rows,
    summary,
)
from tools.inspect.page import Row, Section, write_page
from tools.inspect.sheet import draw_curves, draw_information, draw_latent, draw_rows
from trackvae.arrays import FloatArray

if TYPE_CHECKING:
    from torch import Tensor

    from trackvae.config import ModelConfig
    from trackvae.vae import VAE
    from training.data import DataSet

_COLUMNS, _PAIRS, _SAMPLE_ROWS = 10, 3, 3  # of a sheet of images
_CURVES = 8  # panels of a sheet of vectors
_STEPS = 8  # points of the line between its ends
_BOUND_EXAMPLES = 200  # observations whose likelihood is bounded


class Inspection:
    """One model, one data set."""

    def __init__(
        self, model: VAE, config: ModelConfig, data: DataSet, examples: int, seed: int
    ) -> None:
        """Encode what is looked at.

        Args:
            model: on the CPU, in evaluation mode.
            config: what it was built of.
            data: of the model's shape; its test part is looked at, another where that is empty.
            examples: of them at most, spread evenly over the part.
            seed: of all samples.
        """
        self._model, self._config, self._data, self._seed = model, config, data, seed
        self._part = measured_part(data)
        self._rows = some_rows(data, self._part, examples)
        dtype = next(model.parameters()).dtype
        self._x = observations(data, self._part, self._rows).to(dtype)
        self._codes = encode(model, self._x, seed)
        self._z = self._codes.posterior.mean.to(dtype)  # (N, D)

    # --- figures

    def measure(self, samples: int) -> dict[str, Any]:
        """Every figure, plain values for JSON.

        Args:
            samples: of the bound on the likelihood.
        """
        from training.monitors import information_per_dimension, kl_per_dimension

        posterior = self._codes.posterior
        bounded = self._x[:_BOUND_EXAMPLES]
        figures = summary(self._codes, self._part)
        figures |= {
            "data": self._data.name,
            "note": self._data.note,
            "negative_log_likelihood_bound": {
                "value": likelihood_bound(self._model, bounded, samples, self._seed),
                "samples": samples,
                "examples": len(bounded),
            },
            "information": information_per_dimension(posterior).tolist(),
            "flatness": flatness(self._model, self._z),
            "model": self._config.to_dict(),
        }
        if self._config.prior == "normal":
            figures["kl_per_dimension"] = kl_per_dimension(posterior).tolist()
        return figures

    def rows(self, figures: Mapping[str, Any]) -> list[Row]:
        """The figures in words."""
        bound, flat = figures["negative_log_likelihood_bound"], figures["flatness"]
        of = f"on {figures['count']} observations ({figures['part']} part), at one sample each"
        return [
            ("error", f"{figures['error']:.4g} (root of the mean squared error) {of}"),
            ("rate", f"{figures['rate']:.4g} nats"),
            ("negative ELBO", f"{figures['negative_elbo']:.5g} nats {self._likelihood()}"),
            (
                "negative log-likelihood",
                f"at most {bound['value']:.5g} nats: the importance-weighted bound of "
                f"{bound['samples']} samples on {bound['examples']} observations "
                f"{self._likelihood()}",
            ),
            ("active units", f"{figures['active_units']} of {figures['latent']}"),
            (
                "condition number",
                f"{_quartiles(flat['condition_number'])} of the decoder's metric at "
                f"{flat['points']} points (1: flat)",
            ),
            (
                "magnification factor",
                f"{_quartiles(flat['normalised_mf'])} of its mean (1 everywhere: flat)",
            ),
            ("relative flatness", f"{_number(flat['relative_flatness'])} (0: flat)"),
        ]

    def _likelihood(self) -> str:
        config = self._config
        if config.likelihood == "bernoulli":
            return "(bernoulli)"
        return f"(gaussian, sigma {float(self._model.likelihood.sigma):.3g})"  # type: ignore[arg-type]

    # --- the page

    def write(self, page: Path, figures: Mapping[str, Any], *, title: str) -> None:
        """Draw every picture beside the page, and write it."""
        folder = page.parent
        sections = [
            Section("Figures", rows=self.rows(figures)),
            self._reconstructions(folder / "reconstructions.png"),
            self._samples(folder / "samples.png"),
            self._latent(folder / "latent.png"),
            self._line(folder / "line.png"),
            self._information(folder / "information.png", figures),
            Section("Model", rows=[(k, _plain(v)) for k, v in figures["model"].items()]),
        ]
        lead = f"{self._data.name}: {self._data.note}" if self._data.note else self._data.name
        write_page(page, title, lead, sections)

    def _reconstructions(self, path: Path) -> Section:
        panels = _PAIRS * _COLUMNS if self._images else _CURVES
        chosen = np.linspace(0, len(self._x) - 1, min(panels, len(self._x))).round().astype(int)
        original, decoded = self._x[chosen].numpy(), self._decode(self._z[chosen])
        if self._images:
            rows: list[tuple[str, npt.NDArray[Any]]] = []
            for first in range(0, len(chosen), _COLUMNS):
                some = slice(first, first + _COLUMNS)
                if len(original[some]) < min(_COLUMNS, len(chosen)):
                    break  # every row is as long as the first
                rows += [("original", original[some]), ("decoded", decoded[some])]
            draw_rows(path, rows)
        else:
            pairs = [[a, b] for a, b in zip(original, decoded, strict=True)]
            draw_curves(path, pairs, ("original", "decoded"))
        error = math.sqrt(float(np.mean((original - decoded) ** 2)))
        text = (
            f"Observations of the {self._part} part, and what is decoded from the means of their "
            f"posteriors; root of the mean squared error of those shown: {error:.3g}."
        )
        return Section("Reconstructions", text, path, f"{len(chosen)} pairs. {text}")

    def _samples(self, path: Path) -> Section:
        import torch

        count = _SAMPLE_ROWS * _COLUMNS if self._images else _CURVES
        noise = torch.Generator().manual_seed(self._seed)
        drawn = self._model.sample(count, noise).numpy()
        if self._images:
            draw_rows(path, [("", part) for part in np.split(drawn, _SAMPLE_ROWS)])
        else:
            draw_curves(path, [[curve] for curve in drawn], ("",))
        names = {
            "normal": "the standard normal",
            "vhp": "the learned hierarchical",
            "vamp": "the Vamp",
        }
        text = (
            f"Decoded samples of {names[self._config.prior]} prior: what the model takes for data."
        )
        return Section("Samples", text, path, f"{count} decoded samples of the prior")

    def _latent(self, path: Path) -> Section:
        z = self._codes.posterior.mean.numpy()
        labels = self._data.labels.get(self._part)
        labels = None if labels is None else labels[self._rows]
        dims = z.shape[1]
        names, background = [f"z{n}" for n in range(min(dims, 2))], None
        if dims > 2:
            z, shares = _principal(z)
            names = [f"component {n + 1} ({share:.0%})" for n, share in enumerate(shares)]
            text = (
                f"Posterior means on their first two principal components, which hold "
                f"{shares.sum():.0%} of the variance in {dims} dimensions"
            )
        else:
            text = "Posterior means"
            if dims == 2:
                background = self._magnification
                text += (
                    "; behind them dark where the decoder stretches space, light where it shrinks"
                )
        draw_latent(path, z, names, labels, self._data.label_names, background)
        text += "." if labels is None else "; coloured by label, which training has not seen."
        return Section("Latent space", text, path, f"Scatter plot of {len(z)} points. {text}")

    def _line(self, path: Path) -> Section:
        import torch

        from trackvae.geometry import straight_line

        distance = torch.linalg.vector_norm(self._z - self._z[0], dim=1)
        other = int(distance.argsort()[len(distance) // 2])
        line = self._decode(straight_line(self._z[0], self._z[other], _STEPS))
        ends = self._x[[0, other]].numpy()
        if self._images:
            draw_rows(path, [("", np.concatenate([ends[:1], line, ends[1:]]))])
            text = (
                "First and last two observations; between them what is decoded along the straight "
                "line from the code of one to that of the other."
            )
        else:
            middle = ("",) * (_STEPS - 2)
            draw_curves(path, [list(line)], ("start", *middle, "end"), columns=1)
            text = (
                "What is decoded along the straight line between the codes of two observations, "
                "from dark to light."
            )
        return Section("A straight line", text, path, f"{_STEPS} decodings. {text}")

    def _information(self, path: Path, figures: Mapping[str, Any]) -> Section:
        from training.monitors import active_units

        information = np.array(figures["information"])
        active = active_units(self._codes.posterior.mean).numpy()
        draw_information(path, information, active)
        text = (
            "What each dimension tells of an observation if both are gaussian, "
            f"{information.sum():.3g} nats in all; {active.sum()} of {len(active)} dimensions are "
            "active (variance of the posterior mean above 0.01)."
        )
        kl = figures.get("kl_per_dimension")
        if kl is not None:
            text += f" KL divergence from the standard normal prior: {sum(kl):.3g} nats in all."
        return Section("Use of the dimensions", text, path, f"Bar chart. {text}")

    # --- parts

    @property
    def _images(self) -> bool:
        return len(self._config.observation) == 3

    def _decode(self, z: Tensor) -> npt.NDArray[Any]:
        import torch

        with torch.no_grad():
            decoded: npt.NDArray[Any] = self._model.decode(z).float().numpy()
        return decoded

    def _magnification(self, places: FloatArray) -> FloatArray:
        """MF at (M, 2) places over its mean at the data, (M,)."""
        import torch

        from trackvae.geometry import log_magnification_factor, metric_tensor

        with torch.no_grad():
            there = torch.from_numpy(places).to(self._z.dtype)
            at_data = metric_tensor(self._model.decode, self._z[:_BOUND_EXAMPLES]).double()
            log_mean = log_magnification_factor(at_data).logsumexp(0) - math.log(len(at_data))
            log_mf = log_magnification_factor(metric_tensor(self._model.decode, there).double())
        factor: FloatArray = (log_mf - log_mean).exp().numpy()
        return factor


def _principal(z: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(N, D) on its first two principal components, (N, 2), and their shares of the variance."""
    centred = z - z.mean(axis=0)
    _, spread, axes = np.linalg.svd(centred, full_matrices=False)
    shares = spread**2 / max(float((spread**2).sum()), 1e-300)
    return centred @ axes[:2].T, shares[:2]


def _quartiles(values: list[float | None]) -> str:
    return f"{_number(values[1])} (quartiles {_number(values[0])} to {_number(values[2])})"


def _number(value: float | None) -> str:
    return "singular" if value is None else f"{value:.3g}"


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
