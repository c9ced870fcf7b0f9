"""The two ways in which a user's input can be wrong, each carrying one line that says so.

The command line prints the line and exits with the error's ``exit_code``; nobody sees a traceback
for bad input. Bugs keep raising ordinary exceptions.
"""

from __future__ import annotations


class InputError(ValueError):
    """Something that the user gave us cannot be used: a file, a line in it, an array.

    The message names the place (``file:line`` where there is one), what was found there, and what
    would be right.
    """

    exit_code = 1


class UsageError(InputError):
    """The program was asked for something that does not exist: a preset, a setting, a detector."""

    exit_code = 2
