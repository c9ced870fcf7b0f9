"""The command ``trackvae``: which subcommand is meant, and how errors reach the user."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Sequence
from typing import Annotated, TypeAlias

import tyro

from tools.demo import Demo
from tools.evaluate import Evaluate
from tools.info import Info
from tools.track import Track
from trackvae.errors import InputError, UsageError

Command: TypeAlias = (
    Annotated[Demo, tyro.conf.subcommand("demo", prefix_name=False)]
    | Annotated[Track, tyro.conf.subcommand("track", prefix_name=False)]
    | Annotated[Evaluate, tyro.conf.subcommand("eval", prefix_name=False)]
    | Annotated[Info, tyro.conf.subcommand("info", prefix_name=False)]
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code (0 done, 1 failed, 2 wrong usage, 130 Ctrl-C)."""
    try:
        return _parse(arguments).run()
    except InputError as error:
        print(f"trackvae: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe has gone: head, less
        sys.stderr.close()
        return 0


def _parse(arguments: Sequence[str] | None) -> Command:
    """The command that the arguments name.

    Raises:
        UsageError: they name none. tyro explains that in a box of many lines; the first of them
            says what is wrong.
    """
    explained = io.StringIO()
    try:
        with contextlib.redirect_stderr(explained):
            return tyro.cli(
                Command,
                prog="trackvae",
                description="Follow objects through video, and score the tracks.",
                args=arguments,
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise UsageError(_first_part(explained.getvalue())) from None


def _first_part(box: str) -> str:
    """What stands in tyro's box above its first rule, in one line."""
    lines = [line.strip("│ ") for line in box.splitlines() if not line.startswith(("╭", "╰"))]
    rule = next((n for n, line in enumerate(lines) if line.startswith("─")), len(lines))
    said = " ".join(" ".join(lines[:rule]).split())
    return f"{said or 'wrong usage'}; see trackvae --help"


if __name__ == "__main__":
    sys.exit(main())
