"""Small scenes for the evaluation's tests: boxes of 10 by 10 pixels on one line."""

from __future__ import annotations

import numpy as np

from tracker.io.mot import BoxTable

SIDE = 10.0


def scene(*rows: tuple[int, int, float], classes=None, marks=None) -> BoxTable:
    """A table of (frame, id, left) rows; classes and marks one a row."""
    frames, ids, lefts = (np.array(column) for column in zip(*rows, strict=True))
    boxes = np.stack([lefts, np.zeros(len(rows)), lefts + SIDE, np.full(len(rows), SIDE)], axis=1)
    return BoxTable.of(frames, ids, boxes, scores=marks, classes=classes)


# Two objects, A = 1 at 0 and B = 2 at 100, for three frames. Track 1 follows A, then track 3 does
# (a switch); track 2 follows B with a gap (a miss, a fragmentation); track 9 follows nobody.
TWO_OBJECTS = scene((1, 1, 0), (1, 2, 100), (2, 1, 0), (2, 2, 100), (3, 1, 0), (3, 2, 100))
THREE_TRACKS = scene((1, 1, 0), (1, 2, 100), (2, 1, 0), (2, 9, 500), (3, 3, 0), (3, 2, 100))
