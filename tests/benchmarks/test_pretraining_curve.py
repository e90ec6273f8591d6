"""The curve of a finished run: its table, thirds and regression, on a training of eight steps."""

import json
import sys
from pathlib import Path

import pytest

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
    thirds = [
        (rows[0]["discriminator_auc"] + rows[1]["discriminator_auc"]) / 2,
        *(row["discriminator_auc"] for row in rows[2:]),
    ]
    assert f"AUC of the three thirds of the run: {', '.join(f'{value:.4f}' for value in thirds)}" in page
    assert f"| {rows[-1]['discriminator_auc']:.4f} | {rows[-1]['generator_accuracy']:.3f} |" in page.splitlines()[-1]


def test_a_folder_that_is_no_run_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["pretraining_curve", "--run", str(tmp_path), "--output", str(tmp_path / "curve")])
    with pytest.raises(SystemExit, match=f"error: .*{tmp_path.name}"):
        pretraining_curve.main()
