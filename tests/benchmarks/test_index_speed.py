"""The benchmark of the index stage runs from end to end."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pretraining.corpus.documents import Document, write_shard, writing_stage
from tests.tiny import make_tokenizer


@pytest.mark.slow
def test_every_table_row_has_its_figures(tmp_path: Path, repository: Path) -> None:
    with writing_stage(tmp_path / "sentences", "sentences", options={}, sentences=True) as stage:
        documents = [Document(str(number), "w1 w2 w3 .\nw4 w5 .") for number in range(20)]
        stage.files.append(write_shard(stage.output, 0, documents))
    folders = ["--input", tmp_path / "sentences", "--tokenizer", make_tokenizer(tmp_path / "tokenizer")]
    small = ["--repeat", "2", "--rounds", "1", "--documents", "1000"]
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.index_speed", *folders, "--work", tmp_path / "work", *small],
        cwd=repository, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    rows = result.stdout.splitlines()
    assert [row.split("|")[1].split(",")[0].strip() for row in rows] == [
        "sample map", "sample map", "sentences/s", "peak MiB of parent"
    ]  # fmt: skip
    assert re.search(r"\| ratio \d+\.\d\d \|$", rows[2])
    assert re.search(r"\| \d+, \d+ \| over ten times the input \| \d+, \d+ \|$", rows[3])
