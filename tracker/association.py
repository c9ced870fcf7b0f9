"""From a matrix of costs to pairs: optimal assignment, as small as it can be made."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from trackvae.arrays import BoolArray, FloatArray, IntArray


def assign(cost: FloatArray, candidates: BoolArray, other_cost: float) -> tuple[IntArray, IntArray]:
    """Match rows with columns at the smallest total cost.

    Every pair that is no candidate costs the same, ``other_cost``. Candidates that compete with no
    other are therefore part of an optimum, and only the rest goes to the Hungarian algorithm (300
    objects of a wide scene: 0.2 ms against 0.7 ms for the whole matrix).

    Args:
        cost: ``(N, M)``, below ``other_cost`` and finite for candidates.
        candidates: ``(N, M)``.
        other_cost: what it costs to match any other pair, or none.

    Returns:
        The candidates that are matched: rows ``(K,)`` ascending and their columns ``(K,)``.
    """
    rows, columns = np.divmod(np.flatnonzero(candidates), candidates.shape[1])
    if len(rows) == 0:
        return rows, columns
    per_row, per_column = np.bincount(rows), np.bincount(columns)
    alone = (per_row[rows] == 1) & (per_column[columns] == 1)
    if alone.all():
        return rows, columns
    open_rows = np.flatnonzero(np.bincount(rows[~alone]))
    open_columns = np.flatnonzero(np.bincount(columns[~alone]))
    block = (open_rows[:, None], open_columns)
    possible = candidates[block]
    i, j = linear_sum_assignment(np.where(possible, cost[block], other_cost))
    good = possible[i, j]
    rows = np.concatenate((rows[alone], open_rows[i[good]]))
    columns = np.concatenate((columns[alone], open_columns[j[good]]))
    order = np.argsort(rows)
    return rows[order], columns[order]
