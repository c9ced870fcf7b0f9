"""The house: packages import in one direction only, torch only where it is used."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ALLOWED = {
    "trackvae": set(),
    "training": {"trackvae"},
    "reid": {"trackvae"},
    "tracker": {"trackvae", "reid"},
    "tools": {"trackvae", "training", "reid", "tracker"},
}
FILES = [path for package in ALLOWED for path in sorted((ROOT / package).rglob("*.py"))]


def imports(path, *, only_at_import):
    """Top-level names that a file imports; with ``only_at_import`` not those inside functions."""
    found, nodes = set(), [ast.parse(path.read_text(encoding="utf-8"))]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").split(".")[0])
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        inside = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        if not (only_at_import and (inside or typing_only)):
            nodes += ast.iter_child_nodes(node)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_package_imports_only_from_those_to_its_left(path):
    package = path.relative_to(ROOT).parts[0]
    others = imports(path, only_at_import=False) & set(ALLOWED) - {package}
    assert others <= ALLOWED[package]


def test_torch_is_imported_only_by_the_model_and_its_training():
    needs = {str(p.relative_to(ROOT)) for p in FILES if "torch" in imports(p, only_at_import=True)}
    assert all(name.split("/")[0] in ("trackvae", "training") for name in needs)
    light = ("errors", "files", "arrays", "settings", "storage", "__init__")
    assert not needs & {f"trackvae/{name}.py" for name in light}
