"""launch/finetune_all.sh with a stand-in for Python that writes down what it was asked to run."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from finetuning.score import BENCHMARKS

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "launch" / "finetune_all.sh"


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """Notes its arguments; fails for hoc."""
    path = tmp_path / "python"
    path.write_text(f'#!/usr/bin/env bash\necho "$*" >>{tmp_path}/calls\n[[ $* != *finetuning.hoc* ]]\n')
    path.chmod(0o755)
    return path


def run(python: Path, folders: list[str], *arguments: str, **environment: str) -> tuple[int, str, list[str]]:
    """Status, output and the calls of a run with these benchmark folders."""
    data = python.parent / "data"
    for name in folders:
        (data / name).mkdir(parents=True, exist_ok=True)
    (python.parent / "calls").unlink(missing_ok=True)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    result = subprocess.run(
        ["bash", SCRIPT, "model", data, "out", *arguments],
        capture_output=True, text=True, env={**clean, "PYTHON": str(python), **environment},
    )  # fmt: skip
    calls = python.parent / "calls"
    return result.returncode, result.stdout + result.stderr, calls.read_text().splitlines() if calls.exists() else []


def test_each_benchmark_that_has_a_folder_is_run_and_then_the_table(python: Path) -> None:
    status, output, calls = run(python, ["bc5cdr-chem", "bioasq"], "--seeds", "2")
    data = python.parent / "data"
    assert status == 0, output
    assert calls == [
        f"-m finetuning.bc5cdr --model model --data {data}/bc5cdr-chem --output out --seeds 2",
        f"-m finetuning.bioasq --model model --data {data}/bioasq --output out --question-type yesno --seeds 2",
        f"-m finetuning.bioasq --model model --data {data}/bioasq --output out --question-type factoid --seeds 2",
        "-m finetuning.table out",
    ]
    assert "3 benchmark(s) finished, 0 failed, 12 without a folder" in output and "ncbi-disease" in output


def test_one_that_fails_does_not_stop_the_others(python: Path) -> None:
    status, output, calls = run(python, ["hoc", "pubmedqa"])
    assert status == 1 and "1 benchmark(s) finished, 1 failed: hoc (hoc)" in output
    assert [call.split()[1] for call in calls] == ["finetuning.hoc", "finetuning.pubmedqa", "finetuning.table"]


def test_a_task_of_an_array_runs_its_own(python: Path) -> None:
    chosen = "bc5cdr one;hoc two --epochs 3"
    status, output, calls = run(python, ["one", "two"], BENCHMARKS=chosen, SLURM_ARRAY_TASK_ID="0")
    assert status == 0 and [call.split()[1] for call in calls] == ["finetuning.bc5cdr", "finetuning.table"], output
    status, output, calls = run(python, ["one", "two"], BENCHMARKS=chosen, SLURM_ARRAY_TASK_ID="2")
    assert status == 1 and not calls and "--array names task 2, and the list has 2 benchmarks" in output


def test_nothing_to_run_is_no_success(python: Path) -> None:
    status, output, calls = run(python, [])
    assert status == 1 and not calls and "0 benchmark(s) finished, 0 failed, 15 without a folder" in output


def test_the_list_names_scripts_that_are_there_and_the_array_covers_it() -> None:
    text = SCRIPT.read_text(encoding="utf-8")
    lines = text.split("LIST=")[1].split("}")[0].split("\n")[1:-1]
    assert {line.split()[0] for line in lines} <= set(BENCHMARKS)
    assert re.findall(r"--array=0-(\d+)", text) == [str(len(lines) - 1)]
