"""Reading ahead: a thread decodes the next frames while the caller works on this one."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")

# How often a waiting thread looks whether the other side has gone. Waiting with a timeout keeps
# Ctrl-C working on every platform; without one Windows does not interrupt a blocked queue.
_WAKE_SECONDS = 0.2


class _Done:
    """The last thing in the queue: the source is at its end, or raised ``error``."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


class _Channel(Generic[T]):
    """A bounded queue that either side can leave without leaving the other one waiting."""

    def __init__(self, depth: int, newest_only: bool) -> None:
        self._queue: queue.Queue[T | _Done] = queue.Queue(maxsize=depth)
        self._newest_only = newest_only
        self.closed = threading.Event()

    def put(self, item: T | _Done) -> None:
        while not self.closed.is_set():
            try:
                self._queue.put(item, timeout=_WAKE_SECONDS if not self._newest_only else 0.001)
                return
            except queue.Full:
                if self._newest_only:
                    with suppress(queue.Empty):
                        self._queue.get_nowait()

    def get(self) -> T | _Done:
        while True:
            with suppress(queue.Empty):
                return self._queue.get(timeout=_WAKE_SECONDS)


def read_ahead(
    open_items: Callable[[], Iterator[T]], depth: int = 4, *, newest_only: bool = False
) -> Iterator[T]:
    """The items of ``open_items()``, in order, made by a thread of their own.

    An exception of the source is raised here, after the items before it. When the caller stops
    early the thread ends after the item it is making; it is a daemon, so that a source that
    blocks (a camera that went away) holds up neither Ctrl-C nor the end of the program.

    Args:
        open_items: makes the iterator; called in the thread, which alone touches it.
        depth: items made ahead at most, ≥ 1; this bounds the memory.
        newest_only: of a live source, drop the oldest waiting item rather than wait: a tracker
            slower than the camera then sees fewer frames, not older and older ones.
    """
    channel: _Channel[T] = _Channel(depth, newest_only)
    thread = threading.Thread(
        target=_produce, args=(open_items, channel), name="read-ahead", daemon=True
    )
    thread.start()
    try:
        while True:
            item = channel.get()
            if isinstance(item, _Done):
                if item.error is not None:
                    raise item.error
                return
            yield item
    finally:
        channel.closed.set()


def _produce(open_items: Callable[[], Iterator[T]], channel: _Channel[T]) -> None:
    """Put every item into the channel, then the end or the error."""
    end = _Done()
    try:
        items = open_items()
        try:
            for item in items:
                channel.put(item)
                if channel.closed.is_set():
                    break
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()
    except BaseException as error:
        end = _Done(error)
    channel.put(end)
