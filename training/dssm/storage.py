"""State-space models on disk: weights and, as JSON, the configuration, in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trackvae.errors import UsageError
from trackvae.settings import did_you_mean
from trackvae.storage import configuration_errors, read_configured, take_up
from trackvae.tensors import write_tensors
from training.dssm.dks import DKS, DKSConfig
from training.dssm.dvbs import DVBS, DVBSConfig
from training.dssm.ekvae import EKVAE, EKVAEConfig
from training.dssm.kvae import KVAE, KVAEConfig
from training.dssm.model import StateSpaceModel
from training.dssm.rssm import RSSM, RSSMConfig

_ENTRY = "trackvae.dssm"  # of the file's metadata
_KINDS: dict[str, tuple[type[Any], type[Any]]] = {
    "ekvae": (EKVAEConfig, EKVAE),
    "dvbs": (DVBSConfig, DVBS),
    "dks": (DKSConfig, DKS),
    "kvae": (KVAEConfig, KVAE),
    "rssm": (RSSMConfig, RSSM),
}


def build(kind: str, settings: Mapping[str, Any]) -> StateSpaceModel:
    """A fresh model, its weights drawn from torch's global generator.

    Args:
        kind: ``ekvae``, ``dvbs``, ``dks``, ``kvae``, ``rssm``.
        settings: of its configuration's fields, by name; lists stand for tuples, as JSON has them.
            The others are those of the pendulum.

    Raises:
        UsageError: no such kind or field, or a model that cannot be.
    """
    if kind not in _KINDS:
        raise UsageError(
            f"no state-space model {kind!r}{did_you_mean(kind, _KINDS)}; there are "
            f"{', '.join(_KINDS)}"
        )
    config_of, model_of = _KINDS[kind]
    wrong = settings.keys() - config_of.__dataclass_fields__.keys()
    if wrong:
        raise UsageError(f"{kind} has no setting {sorted(wrong)[0]!r}")
    plain = {name: tuple(v) if isinstance(v, list) else v for name, v in settings.items()}
    model: StateSpaceModel = model_of(config_of(**plain))
    return model


def save(path: str | Path, model: StateSpaceModel) -> None:
    """Write a model, whole or not at all.

    Args:
        path: a ``.safetensors`` file.
        model: one of ours; its weights are taken as they are, on the CPU.

    Raises:
        InputError: the file cannot be written.
        UsageError: a model of another kind.
    """
    kind = next((name for name, (_, made) in _KINDS.items() if type(model) is made), None)
    if kind is None:
        raise UsageError(f"a {type(model).__name__} cannot be saved: expected {', '.join(_KINDS)}")
    about = {"kind": kind, "settings": asdict(model.config)}  # type: ignore[call-overload]
    write_tensors(path, model.state_dict(), {_ENTRY: json.dumps(about)})


def load(path: str | Path) -> StateSpaceModel:
    """Read a model, on the CPU and in evaluation mode.

    Args:
        path: a file that :func:`save` wrote.

    Raises:
        InputError: the file is missing, damaged, not one of ours, its weights do not belong to its
            configuration, or hold NaN or infinity.
    """
    weights, held = read_configured(path, _ENTRY, "state-space model's")
    with configuration_errors(path):
        about = json.loads(held)
        model = build(about["kind"], about["settings"])
    take_up(path, model, weights)
    return model.eval()
