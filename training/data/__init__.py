"""Data sets: made ones (pendulum, glyphs, gait), MNIST, OMNIGLOT, folders, motion capture.

Sequences of dynamic systems (the actuated pendulum, the reacher) are data sets of their own kind.
"""

from training.data.actuated import actuated_pendulum
from training.data.binarise import BINARISATIONS, Binarisation, DynamicBinarisation
from training.data.dataset import PARTS, DataSet, Part, Standardisation, split
from training.data.gait import gait
from training.data.glyphs import glyphs
from training.data.images import binarised, idx_images, image_folder, mnist, omniglot
from training.data.mocap import cmu
from training.data.opening import MADE, LoadOptions, load
from training.data.partners import Partners
from training.data.pendulum import pendulum
from training.data.reacher import reacher
from training.data.sequences import Sequences, SequenceSet

__all__ = [
    "BINARISATIONS",
    "MADE",
    "PARTS",
    "Binarisation",
    "DataSet",
    "DynamicBinarisation",
    "LoadOptions",
    "Part",
    "Partners",
    "SequenceSet",
    "Sequences",
    "Standardisation",
    "actuated_pendulum",
    "binarised",
    "cmu",
    "gait",
    "glyphs",
    "idx_images",
    "image_folder",
    "load",
    "mnist",
    "omniglot",
    "pendulum",
    "reacher",
    "split",
]
