"""One BLAS thread for small matrices.

A frame's products are far too small to share: a second thread gains nothing, and beside a busy
process it costs up to ten times the frame rate, because every product waits for both threads.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any

from threadpoolctl import ThreadpoolController


@lru_cache(maxsize=1)
def _controller() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")  # looking for libraries takes 2 ms


def one_blas_thread() -> AbstractContextManager[Any]:
    """A context in which BLAS uses one thread."""
    return _controller().limit(limits=1)
