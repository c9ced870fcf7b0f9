"""Crops in, embeddings out: the embedder, the gallery, re-identification metrics."""
