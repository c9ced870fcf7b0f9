"""Composition: the command line, one thin module a command, and the benchmarks."""
