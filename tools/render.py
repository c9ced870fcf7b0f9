"""Put the figures of ``results/`` into the README's and the docs' tables.

    python -m tools.render [--check]

A document says where a table belongs and which columns it has:

    <!-- results: benchmark-association | tracker, frames/s, ratio -->
    <!-- end of results -->

What stands between the two lines is replaced by a table of the rows of
``results/benchmark-association.json`` and a line that says when and on what they were measured.
``ours.median:.3f as frames/s`` reaches into a row, says how its numbers are written and names the
column; ``name/other`` as the table's name takes the list ``other`` of the file instead of
``rows``. A third part chooses rows: ``| where metric = angle error (rad)``.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trackvae.errors import InputError
from trackvae.files import write_text

ROOT = Path(__file__).resolve().parents[1]
_BLOCK = re.compile(
    r"(<!-- results: (?P<name>[\w./-]+) \| (?P<columns>[^>|]*?)"
    r"(?: \| where (?P<key>[\w.]+) = (?P<value>[^>|]*?))? -->\n)(?P<table>.*?)"
    r"(<!-- end of results -->)",
    re.DOTALL,
)


def rendered(document: str, results: Path) -> str:
    """The document's text with its tables made anew.

    Raises:
        InputError: a table's file is missing or lacks one of its columns.
    """

    def table(block: re.Match[str]) -> str:
        name, _, rows = block["name"].partition("/")
        path = results / f"{name}.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: no results for a table ({error})") from error
        columns = [column.strip() for column in block["columns"].split(",")]
        chosen = [
            row
            for row in content.get(rows or "rows", [])
            if block["key"] is None or str(_reach(row, block["key"])) == block["value"]
        ]
        if not chosen:
            raise InputError(f"{path}: no {rows or 'rows'} for {block[1].strip()}")
        return f"{block[1]}{_table(path, content, chosen, columns)}<!-- end of results -->"

    return _BLOCK.sub(table, document)


def _table(
    path: Path, content: dict[str, Any], chosen: Sequence[Any], columns: Sequence[str]
) -> str:
    said = [column.partition(" as ")[0] for column in columns]
    heads = [column.partition(" as ")[2] or column.partition(":")[0] for column in columns]
    keys, forms = zip(*(key.partition(":")[::2] for key in said), strict=True)
    rows = [[_reach(row, key) for key in keys] for row in chosen]
    for key, *values in zip(keys, *rows, strict=True):
        if all(value is None for value in values):
            raise InputError(f"{path}: its rows have no {key!r}")
    numeric = [all(map(_is_number, values)) for values in zip(*rows, strict=True)]
    lines = [_line(heads), _line(["---:" if right else "---" for right in numeric])]
    lines += [
        _line([_cell(value, form) for value, form in zip(row, forms, strict=True)]) for row in rows
    ]
    return "\n".join([*lines, "", _source(path, content)]) + "\n"


def _reach(row: Any, key: str) -> Any:
    """``row["a"]["b"]`` for ``a.b``, None where there is no such thing."""
    for part in key.split("."):
        row = row.get(part) if isinstance(row, dict) else None
    return row


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _cell(value: object, form: str = "") -> str:
    """Whole numbers from 100 on, one digit from 10, two below; a dash for nothing."""
    if value is None:
        return "–"
    if form and isinstance(value, float):
        return format(value, form)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
        return f"{value:,.{digits}f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _source(path: Path, content: dict[str, Any]) -> str:
    said = [f"`results/{path.name}`", content.get("date"), content.get("machine")]
    return f"<sub>{', '.join(str(part) for part in said if part)}</sub>"


def documents() -> list[Path]:
    """The README and everything in ``docs/`` that may hold tables."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]


def main(arguments: Sequence[str] | None = None) -> int:
    """Render, or check; 1 where a document does not agree with the results."""
    parser = argparse.ArgumentParser(prog="tools.render", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing, report differences")
    check = parser.parse_args(arguments).check
    stale = 0
    try:
        for path in documents():
            before = path.read_text(encoding="utf-8")
            after = rendered(before, ROOT / "results")
            if before == after:
                continue
            stale += 1
            if check:
                print(f"{path}: differs from results/; run python -m tools.render")
            else:
                write_text(path, after)
    except InputError as error:
        print(f"render: {error}", file=sys.stderr)
        return error.exit_code
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
