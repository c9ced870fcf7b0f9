"""The generative model and its geometry. Importing this package does not import torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trackvae.errors import InputError, UsageError

if TYPE_CHECKING:
    from trackvae.appearance import AppearanceModel
    from trackvae.config import ModelConfig
    from trackvae.vae import VAE

__version__ = "0.1.0"
__all__ = ["InputError", "UsageError", "__version__", "load"]


def load(encoder: str | Path = "default") -> AppearanceModel | tuple[VAE, ModelConfig]:
    """A trained model, for :class:`reid.Embedder`.

    Args:
        encoder: ``default``, which comes with this software; a file of ``trackvae fit`` or of
            ``trackvae train``, or the folder of such a run.

    Raises:
        InputError: there is none, or it is damaged; weights of ``trackvae train`` need torch.
    """
    from trackvae.appearance import encoder_file, is_appearance_model, read_appearance_model

    path = encoder_file(encoder)
    if is_appearance_model(path):
        return read_appearance_model(path)
    try:
        from trackvae.storage import load as load_weights

        return load_weights(path)
    except ImportError as error:
        raise InputError(
            f"{path}: weights of trackvae train need torch ({error}): pip install 'trackvae[torch]'"
        ) from error
