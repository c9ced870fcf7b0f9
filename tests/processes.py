"""Programs that a test starts and stops."""

import signal
import subprocess
import sys
from typing import Any


def _heed_ctrl_c() -> None:
    """A program started in the background of a shell ignores SIGINT; so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start_python(*arguments: str, **options: Any) -> "subprocess.Popen[str]":
    """Python as a process that Ctrl-C stops, whatever started the tests; its output in pipes."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=None if sys.platform == "win32" else _heed_ctrl_c,
        **options,
    )
