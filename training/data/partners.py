"""Examples that show the same thing: one of them is encoded, another one is decoded.

A tracklet's crops differ in pose, light and background, and show one object. A model that has to
decode another crop than the one it saw cannot earn anything by keeping those (the other-crop
objective; with a linear model and one latent per object it is PLDA, Ioffe 2006).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trackvae.arrays import IntArray
from trackvae.errors import UsageError


@dataclass(frozen=True, slots=True, eq=False)
class Partners:
    """Draws for each example another one of its group.

    As with :class:`training.data.binarise.DynamicBinarisation` there is no state: seed, epoch and
    rows say what is drawn, so that a resumed run draws what the uninterrupted one does.

    Attributes:
        order: (N,) the examples, group by group.
        place: (N,) of each example in ``order``.
        start: (N,) where its group begins there.
        size: (N,) of its group.
        seed: of the draws.
    """

    order: IntArray
    place: IntArray
    start: IntArray
    size: IntArray
    seed: int = 0

    @classmethod
    def of(cls, groups: IntArray, seed: int = 0) -> Partners:
        """Of the examples' groups (N,), any whole numbers.

        Raises:
            UsageError: another shape.
        """
        if groups.ndim != 1 or groups.dtype.kind not in "iu":
            raise UsageError(f"groups are {groups.dtype} {groups.shape}, expected integers (N,)")
        order = np.argsort(groups, kind="stable")
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        _, start, index, size = np.unique(
            groups[order], return_index=True, return_inverse=True, return_counts=True
        )
        return cls(order, place, start[index][place], size[index][place], seed)

    def draw(self, rows: IntArray, epoch: int) -> IntArray:
        """Another example of each one's group, all equally likely; itself where it is alone.

        Args:
            rows: (B,), of the examples.
            epoch: which pass over them, from 0.
        """
        generator = np.random.default_rng((self.seed, epoch, *rows.tolist()))
        size = self.size[rows]
        ahead = 1 + (generator.random(len(rows)) * (size - 1)).astype(np.int64)
        return self.order[self.start[rows] + (self.place[rows] - self.start[rows] + ahead) % size]
