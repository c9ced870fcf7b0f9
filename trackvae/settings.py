"""Settings given as text: ``name=value`` read by the type of a dataclass's field."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterable
from typing import Any, Literal

from trackvae.errors import UsageError

_BOOLEANS = {"1": True, "true": True, "yes": True, "on": True}
_BOOLEANS |= {"0": False, "false": False, "no": False, "off": False}
_WANTED = {bool: "yes or no", int: "a whole number", float: "a number"}


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the nearest known word, or nothing where none is near."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def parse_value(name: str, value: object, kind: Any) -> Any:
    """``value`` as a field's type.

    Args:
        name: of the setting, for the message.
        value: text is parsed (``person,car`` for a tuple, ``none`` where None is allowed); a value
            of the right type is taken as it is.
        kind: the field's annotation: bool, int, float, str, ``tuple[str, ...]``, a Literal, or one
            of them ``| None``.

    Raises:
        UsageError: the field cannot take it.
    """
    origin = typing.get_origin(kind)
    if origin is Literal:
        choices = typing.get_args(kind)
        if value in choices:
            return value
        raise UsageError(f"{name} is {value!r}, expected one of {', '.join(choices)}")
    if origin in (types.UnionType, typing.Union):
        if value is None or str(value).strip().lower() == "none":
            return None
        kind = next(k for k in typing.get_args(kind) if k is not types.NoneType)
        return parse_value(name, value, kind)
    if origin is tuple:
        words = value.split(",") if isinstance(value, str) else value
        words = words if isinstance(words, Iterable) else (words,)
        return tuple(word for word in (str(item).strip() for item in words) if word)
    try:
        if kind is bool:
            return value if isinstance(value, bool) else _BOOLEANS[str(value).strip().lower()]
        if kind is str:
            return str(value)
        number = float(value)  # type: ignore[arg-type]
        if number != number or (kind is int and number != int(number)):
            raise ValueError
        return kind(number)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise UsageError(f"{name} is {value!r}, expected {_WANTED[kind]}") from None
