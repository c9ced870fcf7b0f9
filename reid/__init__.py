"""Crops in, embeddings out: the embedder, the gallery, re-identification metrics."""

from reid.crops import cut
from reid.descriptors import ColourStripes
from reid.embedder import Embedder
from reid.gallery import Gallery, Matches
from reid.onnx_backend import export_onnx

__all__ = ["ColourStripes", "Embedder", "Gallery", "Matches", "cut", "export_onnx"]
