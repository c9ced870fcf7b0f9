"""Comparing two trackers' outputs, and running a tracker over a table of detections."""

from collections import Counter

import numpy as np

from tracker import Tracker
from tracker.io.mot import BoxTable


def follow(tracker: Tracker, table: BoxTable, length: int) -> BoxTable:
    """Results of a tracker on the detections of frames 1 to ``length``."""
    frames, ids, boxes = [], [], []
    for frame in range(1, length + 1):
        tracks = tracker.update(table.detections(frame))
        frames.append(np.full(len(tracks), frame))
        ids.append(tracks.ids)
        boxes.append(tracks.boxes)
    return BoxTable.of(np.concatenate(frames), np.concatenate(ids), np.concatenate(boxes))


def agreement(reference: BoxTable, got: BoxTable, tolerance: float = 0.5) -> float:
    """Share of (frame, id) pairs that are equal up to one renaming of the ids.

    Two boxes are the same where every coordinate agrees within ``tolerance`` pixels. The
    denominator is the longer of the two outputs: what either has alone counts as different.
    """
    same = []
    for frame in range(1, reference.last_frame + 1):
        a, b = reference.rows(frame), got.rows(frame)
        distance = np.abs(reference.boxes[a][:, None] - got.boxes[b][None]).max(axis=2)
        i, j = np.nonzero(distance <= tolerance)
        same += list(zip(reference.ids[a][i].tolist(), got.ids[b][j].tolist(), strict=True))
    name, taken, equal = {}, set(), 0
    for (theirs, ours), count in Counter(same).most_common():
        if theirs not in name and ours not in taken:
            name[theirs] = ours
            taken.add(ours)
            equal += count
    return equal / max(len(reference), len(got))
