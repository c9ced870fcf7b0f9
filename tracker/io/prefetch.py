"""Reading ahead: a thread decodes the next frames while the caller works on this one."""

from __future__ import annotations

import atexit
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Generic, TypeVar

T = TypeVar("T")

# How often a waiting thread looks whether the other side has gone. Waiting with a timeout keeps
# Ctrl-C working on every platform; without one Windows does not interrupt a blocked queue.
_WAKE_SECONDS = 0.2

# How long a thread may take over the item it is making when nobody wants it any more. A 4K picture
# decodes in 0.1 s; a camera that went away may never answer.
_PATIENCE_SECONDS = 3.0
_LIVE_PATIENCE_SECONDS = 1.0


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


class _Reading:
    """A thread that fills a channel, for as long as somebody takes from it."""

    def __init__(self, thread: threading.Thread, channel: _Channel[Any], patience: float) -> None:
        self._thread = thread
        self._channel = channel
        self._patience = patience
        self._deadline: float | None = None

    def ask_to_stop(self) -> None:
        """Tell the thread that nobody takes any more."""
        if self._deadline is None:
            self._deadline = time.monotonic() + self._patience
        self._channel.closed.set()

    def wait(self) -> None:
        """Wait for the thread's end, not for ever; a second call waits for what is left."""
        thread = self._thread
        # The collector may close us in any thread, also in ours.
        if thread.is_alive() and thread is not threading.current_thread():
            thread.join(max(0.0, (self._deadline or 0.0) - time.monotonic()))
        if not thread.is_alive():
            _READINGS.discard(self)


_READINGS: set[_Reading] = set()  # whose threads may still run


@atexit.register
def _stop_all() -> None:
    """End the threads of iterators that nobody closed, before the interpreter goes.

    A thread that comes back from a decoder into an interpreter that is going is killed in the
    middle of C++, which aborts the process and loses its exit code.
    """
    readings = list(_READINGS)
    for reading in readings:
        reading.ask_to_stop()
    for reading in readings:
        reading.wait()


def read_ahead(
    open_items: Callable[[], Iterator[T]], depth: int = 4, *, newest_only: bool = False
) -> Iterator[T]:
    """The items of ``open_items()``, in order, made by a thread of their own.

    An exception of the source is raised here, after the items before it. When the caller stops
    early, or the program ends, the item in the making is waited for; but the thread is a daemon
    and the wait is short, so that a source that blocks (a camera that went away) holds up neither
    Ctrl-C nor the end of the program.

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
    patience = _LIVE_PATIENCE_SECONDS if newest_only else _PATIENCE_SECONDS
    reading = _Reading(thread, channel, patience)
    _READINGS.add(reading)
    try:
        thread.start()
        while True:
            item = channel.get()
            if isinstance(item, _Done):
                if item.error is not None:
                    raise item.error
                return
            yield item
    finally:
        reading.ask_to_stop()
        reading.wait()


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
