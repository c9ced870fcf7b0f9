"""Documents and pictures: nothing linked that is not there, no picture that nobody is shown."""

import re
import subprocess
import sys
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


def test_the_program_in_the_document_of_state_space_models_runs(tmp_path):
    text = Path(ROOT, "docs", "state-space.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert "steps=800" in program
    short = program.replace("steps=800", "steps=4")
    done = subprocess.run(
        [sys.executable, "-c", short], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert re.fullmatch(r"mean squared error [\d.]+", done.stdout.strip().splitlines()[-1]), done
    assert (tmp_path / "circles.safetensors").is_file()
