"""``trackvae inspect``: figures of a trained model, the pictures, the page."""
