"""Reading ahead: nothing is changed, little is held, and no thread outlives what it is for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from tests.processes import start_python
from tracker.detections import Frame
from tracker.io.prefetch import read_ahead
from trackvae.errors import InputError


def frames_up_to(last: int, made: list[int]) -> Iterator[Frame]:
    for n in range(1, last + 1):
        made.append(n)
        yield Frame(n, float(n))


def test_read_ahead_changes_nothing_and_holds_little() -> None:
    made: list[int] = []
    ahead = read_ahead(lambda: frames_up_to(500, made), depth=3)
    for n, frame in enumerate(ahead, start=1):
        assert frame.index == n
        assert made[-1] <= n + 3 + 1  # the queue, and the one in the thread's hands
    assert len(made) == 500


def test_read_ahead_raises_what_the_source_raised_after_its_items() -> None:
    def broken() -> Iterator[Frame]:
        yield from (Frame(n, 0.0) for n in (1, 2, 3))
        raise InputError("frame 4 is broken")

    ahead = read_ahead(broken)
    assert [next(ahead).index for _ in range(3)] == [1, 2, 3]
    with pytest.raises(InputError, match="frame 4 is broken"):
        next(ahead)


def test_leaving_early_ends_the_thread_and_closes_the_source() -> None:
    closed = threading.Event()

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    for _ in zip(read_ahead(endless), range(5), strict=False):
        pass
    ahead = read_ahead(endless)
    next(ahead)
    closed.clear()
    ahead.close()  # type: ignore[attr-defined]
    assert closed.is_set()
    assert not [t for t in threading.enumerate() if t.name == "read-ahead"]


def test_newest_only_drops_the_oldest_and_keeps_the_order() -> None:
    ready = threading.Event()

    def camera() -> Iterator[int]:
        yield from range(100)
        ready.set()

    ahead = read_ahead(camera, depth=2, newest_only=True)
    first = next(ahead)
    assert ready.wait(5)  # nobody reads, and the camera is not held up
    time.sleep(0.1)
    rest = list(ahead)
    assert rest == sorted(rest)
    assert first < 100
    assert len(rest) <= 3
    assert 99 in rest or len(rest) == 1


_WAITER = """
import time
from tracker.io.prefetch import read_ahead
def stuck():
    yield 1
    print("waiting", flush=True)
    time.sleep(60)
    yield 2
list(read_ahead(stuck))
"""


@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT")
def test_ctrl_c_does_not_wait_for_a_source_that_blocks() -> None:
    process = start_python("-c", _WAITER)
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    assert errors.rstrip().endswith("KeyboardInterrupt")


# A decoder in C++, slow enough that a program in a hurry leaves while it is at work.
_LEAVER = """
import sys
import cv2
import numpy as np
from tracker.io.prefetch import read_ahead
noise = np.random.default_rng(0).integers(0, 255, (1200, 1600, 3), np.uint8)
data = cv2.imencode(".png", noise)[1]
def pictures():
    yield None
    while True:
        yield cv2.imdecode(data, cv2.IMREAD_COLOR)
def leave(ahead):
    for _ in ahead:
        break
how = sys.argv[1]
ahead = read_ahead(pictures)
next(ahead)
next(ahead)
if how == "kept open":
    sys.exit(7)
elif how == "left by break":
    leave(read_ahead(pictures))
    del ahead
    sys.exit(7)
elif how == "error in the loop":
    for _ in ahead:
        raise ValueError("wrong")
"""


@pytest.mark.parametrize(
    ("how", "code"), [("kept open", 7), ("left by break", 7), ("error in the loop", 1)]
)
def test_leaving_while_a_picture_is_decoded_keeps_the_exit_code(how: str, code: int) -> None:
    # Without waiting, 30 runs of 32 were aborted (SIGABRT).
    found = []
    for _ in range(10):
        done = subprocess.run([sys.executable, "-c", _LEAVER, how], capture_output=True, text=True)
        found.append((done.returncode, "terminate" in done.stderr))
    assert found == [(code, False)] * 10


_ABANDONED = """
import sys, time
from tracker.io.prefetch import read_ahead
def camera():
    yield 1
    time.sleep(60)
live = read_ahead(camera, newest_only=True)
next(live)
print("leaving", flush=True)
sys.exit(7)
"""


def test_a_camera_that_never_answers_does_not_hold_up_the_end() -> None:
    done = subprocess.run([sys.executable, "-c", _ABANDONED], capture_output=True, timeout=20)
    assert done.returncode == 7
