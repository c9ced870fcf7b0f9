"""One BLAS thread for small matrices.

A frame's products are far too small to share: a second thread gains nothing, and beside a busy
process every product waits for both (deep-sort-realtime then falls from 527 frames/s to 26; ours
does not, with few products large enough to be shared; ``results/benchmark-neighbour.json``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from threadpoolctl import ThreadpoolController


@lru_cache(maxsize=1)
def _libraries() -> list[Any]:
    """What controls each BLAS that is loaded; looking for them takes 2 ms."""
    controllers: list[Any] = ThreadpoolController().select(user_api="blas").lib_controllers
    return controllers


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """A context in which BLAS uses one thread.

    As ``ThreadpoolController.limit``, which describes every library anew (19 us against 5).
    """
    before = [(library, library.num_threads) for library in _libraries()]
    changed = [(library, threads) for library, threads in before if threads != 1]
    for library, _ in changed:
        library.set_num_threads(1)
    try:
        yield
    finally:
        for library, threads in changed:
            library.set_num_threads(threads)
