"""Crops in, embeddings out: the embedder, the gallery, re-identification metrics."""

from reid.descriptors import ColourStripes

__all__ = ["ColourStripes"]
