"""What a run is computed on: device, precision, processes; and whether torch is there at all."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from trackvae.errors import InputError, UsageError
from trackvae.settings import did_you_mean

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_DEVICES = ("auto", "cpu", "cuda", "mps")
_PRECISIONS = ("32-true", "bf16-mixed")  # what the trainer has


@dataclass(frozen=True)
class MachineFlags:
    """What it runs on."""

    device: Annotated[str, tyro.conf.arg(metavar="NAME")] = "auto"
    """auto, cpu, cuda or mps."""
    devices: int = 1
    """Processes, each with a batch of its own; torchrun knows
    better."""
    precision: Annotated[str, tyro.conf.arg(metavar="NAME")] = "32-true"
    """32-true or bf16-mixed."""
    checkpoint_every: int = 200
    """Steps between checkpoints: what a kill can lose."""

    def check(self) -> None:
        """Refuse what means nothing.

        Raises:
            UsageError: a word that is not known, or a number out of range.
        """
        _check_word("--device", self.device, _DEVICES)
        _check_word("--precision", self.precision, _PRECISIONS)
        if self.devices < 1:
            raise UsageError(f"--devices is {self.devices}, expected 1 or more")
        if self.checkpoint_every < 1:
            raise UsageError(f"--checkpoint-every is {self.checkpoint_every}, expected 1 or more")


def make_fabric(machine: MachineFlags) -> Fabric:
    """Device, precision and processes.

    Raises:
        InputError: this machine has no such device, or not so many.
    """
    from lightning_fabric import Fabric

    try:
        fabric = Fabric(
            accelerator=machine.device,
            devices=machine.devices,
            precision=machine.precision,  # type: ignore[arg-type]
        )
        fabric.launch()
    except (RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())
        raise InputError(
            f"--device {machine.device} --devices {machine.devices} --precision "
            f"{machine.precision}: cannot be had here ({said})"
        ) from error
    return fabric


def check_torch(command: str) -> None:
    """Say what to install where the packages of the model are missing.

    Raises:
        InputError: one is.
    """
    # torch itself calls it, when its derivatives are first used
    warnings.filterwarnings("ignore", ".*torch.jit.script. is deprecated", FutureWarning)
    try:
        import lightning_fabric  # noqa: F401
        import matplotlib  # noqa: F401
        import safetensors  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"trackvae {command} needs torch ({error}): pip install 'trackvae[torch]'"
        ) from error


def _check_word(flag: str, word: str, known: tuple[str, ...]) -> None:
    if word not in known:
        raise UsageError(
            f"{flag} is {word!r}{did_you_mean(word, known)}, expected {', '.join(known)}"
        )
