"""Documents and pictures: nothing linked that is not there, no picture that nobody is shown."""

import re
from pathlib import Path

import pytest

from tools.render import ROOT, documents

LINK = re.compile(r"\]\((?!https?:)([^)#]+)\)")


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_every_link_leads_to_a_file(path):
    missing = [link for link in LINK.findall(path.read_text()) if not (path.parent / link).exists()]
    assert not missing


def test_every_figure_is_linked_from_a_document():
    linked = {
        (path.parent / link).resolve()
        for path in documents()
        for link in LINK.findall(path.read_text())
    }
    figures = {path.resolve() for path in Path(ROOT, "docs", "figures").rglob("*.png")}
    assert figures <= linked, sorted(str(path.relative_to(ROOT)) for path in figures - linked)
