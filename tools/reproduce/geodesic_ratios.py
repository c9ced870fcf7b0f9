"""The length ratios of Tables 5.1 and 5.2 with continuous geodesics: the graph's floor removed.

The models are those of ``table-5.1`` and ``table-5.2``, and so are the pairs; only the geodesics
are others. A path on a graph turns at its nodes and is too long even where the space is flat, which
takes 3% from both ratios with 12 neighbours; a curve that relaxes has no such floor.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tools.reproduce import flat_digits, flat_motion
from tools.reproduce.experiment import Context, Outcome, row
from tools.reproduce.flatness import encoded, pairs, run_settings, train_part
from tools.reproduce.geodesic_study import FULL, QUICK, Protocol, shorter, uniform_graph

if TYPE_CHECKING:
    from trackvae.vae import VAE
    from training.data import DataSet

TITLE = "Tables 5.1 and 5.2: length ratios with continuous geodesics"
SEEDS = 3

METHODS = ("VHP-FMVAE", "VHP-VAE")
_THESIS = {
    "table-5.1": {
        "VHP-FMVAE": ("0.93 ± 0.03", "1.02 ± 0.06"),
        "VHP-VAE": ("0.82 ± 0.10", "1.23 ± 0.20"),
    },
    "table-5.2": {
        "VHP-FMVAE": ("0.92 ± 0.05", "1.01 ± 0.08"),
        "VHP-VAE": ("0.70 ± 0.31", "1.13 ± 0.22"),
    },
}
_WHAT = {"table-5.1": "human motion", "table-5.2": "MNIST"}


def run(context: Context) -> Outcome:
    """Two models a seed and table, on the pairs of that table."""
    protocol = QUICK if context.quick else FULL
    rows: list[dict[str, Any]] = []
    notes = {}
    for table, what in _WHAT.items():
        data = _open(context, table)
        notes[what] = data.note
        for method in METHODS:
            found = [_part(context, table, method, seed, data, protocol) for seed in context.seeds]
            rows += _rows(f"{method}, {what}", found, _THESIS[table][method])
    config = {
        "models": "those of table-5.1 and table-5.2, from their parts",
        "pairs": "the same 100 pairs of encoded test observations a seed",
        "graph": f"{protocol.nodes} uniform nodes and half as many encodings, "
        f"{protocol.neighbours} neighbours",
        "continuous": "the shorter of two curves of relaxation, from the graph's path and from the "
        "straight line",
        "data": notes,
        "protocol": asdict(protocol),
    }
    return Outcome(rows, config)


def _open(context: Context, table: str) -> DataSet:
    if table == "table-5.1":
        return flat_motion.open_motions(context)[0]
    return flat_digits._open(context)[0]


def _settings(
    context: Context, table: str, method: str, seed: int, data: DataSet
) -> dict[str, Any]:
    """Those of the table's own run, so that its trained model is found."""
    if table == "table-5.1":
        steps = 300 if context.quick else 3_500
        kappa = flat_motion._QUICK_KAPPA if context.quick else flat_motion._KAPPA
        return run_settings(data, flat_motion.METHODS[method], steps, seed, kappa)
    steps = 200 if context.quick else 4_000
    kappa = flat_digits._QUICK_KAPPA if context.quick else flat_digits._KAPPA
    flatness = flat_digits.METHODS[method]
    return run_settings(data, flatness, steps, seed, kappa, likelihood="bernoulli")


def _part(
    context: Context, table: str, method: str, seed: int, data: DataSet, protocol: Protocol
) -> dict[str, Any]:
    home = table + ("-quick" if context.quick else "")
    there = replace(context, work=context.work.parent / home)
    settings = _settings(context, table, method, seed, data)
    model, ended = train_part(there, f"{method.lower()}-{seed}", settings, data)
    key = {"trained": ended, "protocol": asdict(protocol), "seed": seed}
    return context.part(
        f"{table}-{method.lower()}-{seed}",
        key,
        lambda _: measure(model.requires_grad_(False), data, protocol, seed),
    )


def measure(model: VAE, data: DataSet, protocol: Protocol, seed: int) -> dict[str, Any]:
    """Both ratios of each pair, by the graph and by relaxation, and the graph's floor."""
    from training.geodesics import Chain, Path, floor, on_graph, solve

    z, test = encoded(model, data.values("train")), encoded(model, data.values("test"))
    start, end = pairs(test, protocol.pairs, seed)
    rows = np.random.default_rng(seed).permutation(len(z))[: protocol.nodes]
    graph = uniform_graph(model.decode, z[rows], protocol)
    chain = Chain(points=protocol.points, steps=protocol.steps)
    path = solve(model.decode, start, end, Path(256), initial=on_graph(graph))
    relaxed = shorter(
        solve(model.decode, start, end, chain, initial=on_graph(graph)),
        solve(model.decode, start, end, chain),
    )
    found: dict[str, Any] = {"floor": floor(graph, start, end).tolist()}
    for name, geodesics in (("graph", path), ("continuous", relaxed)):
        found[name] = {
            "latent": geodesics.latent_ratio.tolist(),
            "observation": geodesics.observation_ratio.tolist(),
        }
    converged = relaxed.converged
    return found | {"converged": float(converged.float().mean())}


def _rows(
    method: str, found: list[dict[str, Any]], thesis: tuple[str, str]
) -> list[dict[str, Any]]:
    rows = []
    for kind in ("continuous", "graph"):
        for space, theirs in zip(("latent", "observation"), thesis, strict=True):
            values = [np.asarray(m[kind][space]) for m in found]
            rows.append(
                row(
                    method,
                    f"length ratio, {space} ({kind})",
                    [float(np.nanmean(v)) for v in values],
                    theirs,
                    std_of_pairs=float(np.nanstd(np.concatenate(values))),
                )
            )
    rows.append(row(method, "floor of the graph", [float(np.nanmean(m["floor"])) for m in found]))
    rows.append(
        row(method, "share of continuous searches that converged", [m["converged"] for m in found])
    )
    return rows
