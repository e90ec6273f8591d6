"""The curve of a finished run: its table, thirds and regression, on a training of eight steps."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import pretraining_curve
from tests.run_folders import read_rows
from tests.tiny import make_corpus
from tests.training_runs import flags_of, train


def test_a_finished_run_becomes_a_page_a_table_and_a_plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, output = tmp_path / "run", tmp_path / "curves" / "eight-steps"
    corpus = make_corpus(tmp_path, documents=40)
    settings = {"train_iters": 8, "eval_interval": 2, "eval_iters": 4, "split": "60,40,0"}
    assert train(tmp_path / "out", 1, flags_of(corpus, run, **settings)).statuses == [0]
    monkeypatch.setattr(sys, "argv", ["pretraining_curve", "--run", str(run), "--output", str(output)])
    pretraining_curve.main()

    rows = [row for row in read_rows(run / "metrics.jsonl") if row["kind"] == "validation"]
    numbers = json.loads(output.with_suffix(".json").read_text(encoding="utf-8"))
    assert [row["discriminator_auc"] for row in numbers["validation"]] == [row["discriminator_auc"] for row in rows]
    assert [row["step"] for row in rows] == [2, 4, 6, 8] and 0 < numbers["regression_auc"] < 1
    assert output.with_suffix(".png").stat().st_size > 10_000

    page = output.with_suffix(".md").read_text(encoding="utf-8")
    assert f"--data-path {corpus[0].name} " in page and str(tmp_path) not in page
    facts = json.loads((run / "machine.json").read_text(encoding="utf-8"))
    assert facts["commit"] and facts["torch"] == torch.__version__
    machine = f"{facts['device']}, {facts['cores']} cores, torch {facts['torch']}"
    assert f"Run at commit {facts['commit']}; {machine}." in page.splitlines()
    thirds = [
        (rows[0]["discriminator_auc"] + rows[1]["discriminator_auc"]) / 2,
        *(row["discriminator_auc"] for row in rows[2:]),
    ]
    assert f"AUC of the three thirds of the run: {', '.join(f'{value:.4f}' for value in thirds)}" in page
    assert f"| {rows[-1]['discriminator_auc']:.4f} | {rows[-1]['generator_accuracy']:.3f} |" in page.splitlines()[-1]


def test_a_run_of_before_machine_json_is_said_to_be_analysed_here(tmp_path: Path) -> None:
    assert pretraining_curve.describe_origin(tmp_path).startswith("Analysed at commit ")


def test_no_folder_is_left_in_a_command() -> None:
    command = "/code/train.py --save /a/b/run --load=/a/c/old --data-path 0.5 /d/one 0.5 /d/two --split 9,1,0\n"
    expected = "train.py --save run --load=old --data-path 0.5 one 0.5 two --split 9,1,0"
    assert pretraining_curve.without_folders(command) == expected


def test_neighbours_of_three_word_pieces() -> None:
    """Vocabulary of 4: columns 0 to 3 the word piece, 4 to 7 its left one, 8 to 11 its right one; the ends meet."""
    features = pretraining_curve.neighbour_features(np.array([1, 3, 2]), 4).toarray()
    ones = [np.flatnonzero(row).tolist() for row in features]
    assert ones == [[1, 4 + 2, 8 + 3], [3, 4 + 1, 8 + 2], [2, 4 + 3, 8 + 1]]
    assert features.shape == (3, 12) and features.sum() == 9


def test_a_folder_that_is_no_run_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["pretraining_curve", "--run", str(tmp_path), "--output", str(tmp_path / "curve")])
    with pytest.raises(SystemExit, match=f"error: .*{tmp_path.name}"):
        pretraining_curve.main()
