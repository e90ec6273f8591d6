"""The cost table: all stages run, and what it says follows from what was measured."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.corpus_cost import Cost, table

ROOT = Path(__file__).resolve().parents[2]


def test_the_table_scales_to_a_million_and_to_pubmed():
    lines = table([Cost("download (gzip)", 0.0, 40_000_000, 0), Cost("read", 9.0, 50_000_000, 60_000_000)], 30_000)
    assert "| read | 300 | 1.67 | 60 | 3.2 | 63 |" in lines.splitlines()
    assert "| all | 300 | 3.00 |  | 3.2 | 114 |" in lines.splitlines()


@pytest.mark.slow
def test_all_stages_are_measured():
    command = [sys.executable, "-m", "benchmarks.corpus_cost", "--records", "500"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    rows = [line.split(" | ") for line in result.stdout.splitlines() if line.startswith("| ")][2:]
    names = ["download (gzip)", "read", "filter", "split", "vocabulary", "index", "all"]
    assert [row[0] for row in rows] == [f"| {name}" for name in names]
    assert all(float(row[1].replace(",", "")) > 0 and int(row[3]) > 20 for row in rows[1:6])
