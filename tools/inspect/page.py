"""One HTML page that holds everything: text, tables and pictures; it needs no network."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TypeAlias

from trackvae.files import write_text

Row: TypeAlias = tuple[str, str]

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1c; --paper: #fff; --soft: #5a5a5a; --line: #ddd; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --paper: #17181a; --soft: #a8a8a8; --line: #3a3b3e; }
}
body { color: var(--ink); background: var(--paper); max-width: 62rem; margin: 2rem auto;
  padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin-bottom: 0.2rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2rem 0 0.4rem; }
p { max-width: 48rem; } .lead, figcaption { color: var(--soft); }
figure { margin: 0.6rem 0; } figcaption { font-size: 0.9rem; max-width: 48rem; }
img { max-width: 100%; height: auto; background: #fff; border: 1px solid var(--line);
  border-radius: 6px; }
table { border-collapse: collapse; } th { text-align: left; font-weight: 500; }
th, td { padding: 0.2rem 1.2rem 0.2rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; overflow-wrap: anywhere; }
td { font-variant-numeric: tabular-nums; }
"""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page.

    Attributes:
        title: its heading.
        text: a paragraph, or nothing.
        picture: PNG file, which is put into the page; or None.
        alt: what the picture shows, for those who do not see it.
        rows: a table of names and values, or nothing.
    """

    title: str
    text: str = ""
    picture: Path | None = None
    alt: str = ""
    rows: Sequence[Row] = ()


def write_page(path: Path, title: str, lead: str, sections: Sequence[Section]) -> None:
    """Write the page, whole or not at all.

    Raises:
        InputError: it cannot be written.
    """
    body = "\n".join(_section(section) for section in sections)
    write_text(
        path,
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f'<h1>{escape(title)}</h1>\n<p class="lead">{escape(lead)}</p>\n{body}\n'
        "</main>\n</body>\n</html>\n",
    )


def _section(section: Section) -> str:
    parts = [f"<section>\n<h2>{escape(section.title)}</h2>"]
    if section.picture is not None:
        image = base64.b64encode(section.picture.read_bytes()).decode("ascii")
        parts.append(
            f'<figure>\n<img src="data:image/png;base64,{image}" alt="{escape(section.alt)}">\n'
            f"<figcaption>{escape(section.text)}</figcaption>\n</figure>"
        )
    elif section.text:
        parts.append(f"<p>{escape(section.text)}</p>")
    if section.rows:
        cells = "\n".join(
            f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>'
            for name, value in section.rows
        )
        parts.append(f"<table>\n<tbody>\n{cells}\n</tbody>\n</table>")
    return "\n".join([*parts, "</section>"])
