"""The generative model and its geometry. Importing this package does not import torch."""

from trackvae.errors import InputError, UsageError

__version__ = "0.1.0"
__all__ = ["InputError", "UsageError", "__version__"]
