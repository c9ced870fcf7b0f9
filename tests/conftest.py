"""What many tests need: the real data, where it is present."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

# No test fails because a machine is slow.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


def _data_root() -> Path:
    default = Path(__file__).resolve().parents[2] / "shared"
    return Path(os.environ.get("TRACKVAE_DATA", default))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with ``data/``, ``models/`` and ``reference/``; skips where it is absent."""
    root = _data_root()
    if not (root / "data" / "mot").is_dir():
        pytest.skip(f"no real sequences under {root} (set TRACKVAE_DATA)")
    return root
