"""Our speed beside the peers', measured in one run: ``python -m tools.benchmark.NAME``."""
