"""Table 3.2's other columns: OMNIGLOT, dynamic MNIST and Fashion-MNIST, where they are held."""

from __future__ import annotations

from tools.reproduce.experiment import Context, Outcome
from tools.reproduce.likelihood import DATA, columns

TITLE = "Table 3.2, OMNIGLOT, dynamic MNIST, Fashion-MNIST: negative test log-likelihood"
SEEDS = 1


def run(context: Context) -> Outcome:
    """Every column but static MNIST's."""
    return columns(context, [name for name in DATA if name != "static-mnist"])
