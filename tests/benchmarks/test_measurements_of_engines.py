"""benchmarks/cost_of_growth.py and deepspeed_configs.py on one rank and tiny shapes: a row of numbers each."""

import importlib
import sys
from pathlib import Path

import pytest

from tests.tiny import make_corpus
from tests.training_runs import start

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]


def command(module: str, arguments: list[str]) -> None:
    """`python -m MODULE ARGUMENTS` in a rank."""
    sys.argv = [module, *arguments]
    importlib.import_module(module).main()


def measure(folder: Path, module: str, *arguments: object) -> dict[str, str]:
    """The only row of the table that it prints, by column."""
    run = start(folder, 1, command, f"benchmarks.{module}", [str(part) for part in arguments]).wait(300)
    assert run.statuses == [0], run.report()
    header, line, row = [part for part in run.output().splitlines() if part.startswith("|")]
    cells = [[cell.strip() for cell in part.strip("|").split("|")] for part in (header, row)]
    assert line.count("|") == header.count("|") == row.count("|")
    return dict(zip(*cells, strict=True))


def test_cost_of_growth(tmp_path: Path) -> None:
    flags = [
        "--size",
        "tiny",
        "--length",
        32,
        "--stage",
        1,
        "--recompute",
        "off",
        "--micro-batch-size",
        2,
        "--steps",
        1,
    ]
    row = measure(tmp_path / "out", "cost_of_growth", *flags)
    shape = {"size": "tiny", "length": "32", "ranks": "1", "ZeRO": "1", "activations": "kept"}
    assert {name: row[name] for name in shape} == shape
    assert float(row["word pieces/s"].replace(",", "")) > 0
    assert 0 <= float(row["step memory, MiB"].replace(",", "")) < 500


def test_costs_of_a_deepspeed_json(tmp_path: Path) -> None:
    prefix, tokenizer = make_corpus(tmp_path, documents=20)
    file = ROOT / "ds_configs" / "zero1_fp32.json"
    shape = ["--preset", "tiny", "--seq-length", 32, "--global-batch-size", 4, "--micro-batch-size", 2, "--steps", 1]
    row = measure(tmp_path / "out", "deepspeed_configs", file, "--data-path", prefix, "--tokenizer", tokenizer, *shape)
    assert row["file"] == "`zero1_fp32.json`"
    assert 12 <= float(row["states, bytes a parameter"]) < 40  # weights and two moments in fp32 at least
    assert float(row["checkpoint, bytes a parameter"]) == pytest.approx(12, abs=1)
    assert float(row["step, s"]) >= 0
