"""Measurements against peers, each with the command that makes it (benchmarks/README.md)."""
