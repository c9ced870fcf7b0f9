"""The command ``trackvae``: which subcommand is meant, and how errors reach the user."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Protocol, cast

from trackvae import __version__
from trackvae.errors import InputError, UsageError


class Command(Protocol):
    """What every subcommand is: a dataclass of its flags that can run."""

    def run(self) -> int:
        """Do it; the exit code."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code (0 done, 1 failed, 2 wrong usage, 130 Ctrl-C)."""
    try:
        return _parse(sys.argv[1:] if arguments is None else arguments).run()
    except InputError as error:
        print(f"trackvae: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return _reader_has_gone()
    except SystemExit as stop:
        if isinstance(stop.__context__, BrokenPipeError):  # rich turns it into exit code 1
            return _reader_has_gone()
        raise


def _reader_has_gone() -> int:
    """``trackvae ... | head`` is no failure; what is still to be flushed goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _parse(arguments: Sequence[str]) -> Command:
    """The command that the arguments name.

    Raises:
        UsageError: they name none. tyro explains that in a box of many lines; the first of them
            says what is wrong.
    """
    import tyro

    from tools.demo import Demo
    from tools.embed import Embed
    from tools.evaluate import Evaluate
    from tools.fit.command import Fit
    from tools.gallery import GalleryCommand
    from tools.info import Info
    from tools.inspect.command import Inspect
    from tools.plan import Plan
    from tools.reid_eval.command import ReidEval
    from tools.reproduce.command import Reproduce
    from tools.track import Track
    from tools.train.command import Train

    if list(arguments) == ["--version"]:
        print(f"trackvae {__version__}")
        raise SystemExit(0)
    commands = (
        Annotated[Demo, tyro.conf.subcommand("demo")]
        | Annotated[Track, tyro.conf.subcommand("track")]
        | Annotated[Evaluate, tyro.conf.subcommand("eval")]
        | Annotated[Info, tyro.conf.subcommand("info")]
        | Annotated[Fit, tyro.conf.subcommand("fit")]
        | Annotated[Train, tyro.conf.subcommand("train")]
        | Annotated[Inspect, tyro.conf.subcommand("inspect")]
        | Annotated[Plan, tyro.conf.subcommand("plan")]
        | Annotated[Embed, tyro.conf.subcommand("embed")]
        | Annotated[GalleryCommand, tyro.conf.subcommand("gallery")]
        | Annotated[ReidEval, tyro.conf.subcommand("reid-eval")]
        | Annotated[Reproduce, tyro.conf.subcommand("reproduce")]
    )
    explained = io.StringIO()
    try:
        with contextlib.redirect_stderr(explained):
            command = tyro.cli(
                commands,
                prog="trackvae",
                description="Follow objects through video, score tracks, learn appearance.",
                args=list(arguments),
                config=(tyro.conf.FlagCreatePairsOff,),
            )
            return cast(Command, command)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise UsageError(_first_part(explained.getvalue())) from None


def _first_part(box: str) -> str:
    """What stands in tyro's box above its first rule, in one line."""
    lines = [line.strip("│ ") for line in box.splitlines() if not line.startswith(("╭", "╰"))]
    rule = next((n for n, line in enumerate(lines) if line.startswith("─")), len(lines))
    said = " ".join(" ".join(lines[:rule]).split()).rstrip(".")
    return f"{said or 'wrong usage'}; see trackvae --help"


if __name__ == "__main__":
    sys.exit(main())
