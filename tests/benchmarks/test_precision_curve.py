"""A run's losses beside other seeds': on rows made by hand, and on short trainings in fp32 and bf16."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import precision_curve
from tests.run_folders import read_rows
from tests.tiny import make_corpus
from tests.training_runs import flags_of, train


def test_rows_by_hand() -> None:
    ours, same, other = ([1.0, 2.0, 5.0], [1.5, 1.0, 4.0], [0.5, 2.5, 3.0])
    rows = [
        {step: {"loss": value} for step, value in zip((10, 20, 30), one, strict=True)} for one in (ours, same, other)
    ]
    found = precision_curve.compare(rows, "loss", same_seed=0)
    assert (found["rows"], found["inside"], found["furthest_outside"]) == (3, 2, 1.0)
    assert found["apart_from_same_seed"] == 1.0  # of 0.5, 1, 1
    assert found["seeds_apart"] == 1.0  # of 1, 1.5, 1
    assert found["table"] == [[10, 0.5, 1.5, 1.0], [20, 1.0, 2.5, 2.0], [30, 3.0, 4.0, 5.0]]
    below = [{1: {"loss": 0.0}}, {1: {"loss": 1.0}}, {1: {"loss": 2.0}}]
    assert precision_curve.compare(below, "loss", None)["furthest_outside"] == 1.0


def test_bf16_beside_fp32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    corpus = make_corpus(tmp_path, documents=40)
    runs = {"bf16": (1, "zero1_bf16"), "first": (1, "zero1_fp32"), "second": (2, "zero1_fp32")}
    for name, (seed, deepspeed) in runs.items():
        changes = {"seed": seed, "deepspeed_config": f"ds_configs/{deepspeed}.json"}
        flags = flags_of(corpus, tmp_path / name, train_iters=4, log_interval=1, eval_iters=0, **changes)
        assert train(tmp_path / f"out {name}", 1, flags).statuses == [0]
    output = tmp_path / "curves" / "bf16"
    command = ["--run", "bf16", "--references", "first", "second", "--output", "curves/bf16"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["precision_curve", *command])
    precision_curve.main()

    numbers = json.loads(output.with_suffix(".json").read_text(encoding="utf-8"))
    bf16, first, second = (read_rows(tmp_path / name / "metrics.jsonl")[1:] for name in runs)
    for name in ("loss", "generator_loss", "discriminator_loss"):
        expected = [
            [row["step"], min(a[name], b[name]), max(a[name], b[name]), row[name]]
            for row, a, b in zip(bf16, first, second, strict=True)
        ]
        assert numbers[name]["table"] == expected and len(expected) == 3
        assert numbers[name]["apart_from_same_seed"] < numbers[name]["seeds_apart"]
    assert capsys.readouterr().out.startswith(
        f"loss within the range of 2 seeds at {numbers['loss']['inside']} of 3 rows"
    )
    page = output.with_suffix(".md").read_text(encoding="utf-8")
    assert "| discriminator loss |" in page and str(tmp_path) not in page
    assert output.with_suffix(".png").stat().st_size > 10_000

    config = json.loads((tmp_path / "second" / "config.json").read_text(encoding="utf-8"))
    config["optimizer"]["lr"] *= 2
    (tmp_path / "second" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(SystemExit, match="second was trained with another lr than bf16"):
        precision_curve.main()


def test_runs_that_have_no_range_or_not_the_same_rows(tmp_path: Path) -> None:
    names = ("run", "one", "two")
    for name, steps in zip(names, (3, 3, 2), strict=True):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text('{"run": {"seed": 1}}', encoding="utf-8")
        rows = [json.dumps({"kind": "train", "step": step, "loss": 1.0}) for step in range(steps)]
        (tmp_path / name / "metrics.jsonl").write_text("\n".join(rows), encoding="utf-8")
    run, one, two = (tmp_path / name for name in names)
    with pytest.raises(ValueError, match="--references names 1 run"):
        precision_curve.read_runs(run, [one])
    with pytest.raises(ValueError, match="two has not the log lines of .*run"):
        precision_curve.read_runs(run, [one, two])
