"""MedNLI from files to scores; a stage of MNLI before it hands on its head."""

import torch
from safetensors.torch import load_file

from finetuning import mednli, mnli
from tests.finetuning.text_samples import NLI, error_of, nli_lines, run, score, write_splits

FILES = [f"mli_{split}_v1.jsonl" for split in ("train", "dev", "test")]


def test_files_to_results(tiny_model, tmp_path):
    data = write_splits(tmp_path / "data", nli_lines(), FILES)
    results = run(mednli, tiny_model, data, tmp_path / "out")
    assert (results["variant"], results["metric"]) == ("MedNLI", "accuracy")
    assert results["split"]["test"]["pairs"] == 4
    predictions = results["folder"] / "seed_0.predictions.tsv"
    assert predictions.read_text().startswith("index\tlabel\np0\t")
    assert score(mednli, data, predictions)["accuracy"] == results["seeds"][0]["score"]


def test_a_stage_of_mnli_before(tiny_model, tmp_path):
    """MNLI's model is --model as it is; head and encoder go on, so that nothing is drawn anew."""
    names = ["multinli_1.0_train.jsonl", "multinli_1.0_dev_matched.jsonl", "multinli_1.0_dev_mismatched.jsonl"]
    write_splits(tmp_path / "mnli", nli_lines(), names[:1])
    data = write_splits(tmp_path / "mnli", nli_lines(NLI[3:]), names[1:])  # of one class: to answer it always is right
    first = run(mnli, tiny_model, data, tmp_path / "first")
    data = write_splits(tmp_path / "data", nli_lines(NLI[3:]), FILES)
    stage = first["folder"] / "model"
    second = run(mednli, stage, data, tmp_path / "second", "--epochs", "1", "--learning-rate", "1e-12")
    before = load_file(stage / "model.safetensors")
    after = load_file(second["folder"] / "model" / "model.safetensors")
    assert set(before) == set(after) and "classifier.out_proj.weight" in before
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, atol=1e-6, rtol=0)


def test_other_files_are_refused(tiny_model, tmp_path):
    data = write_splits(tmp_path / "data", nli_lines(), FILES)
    message = error_of(mednli, tiny_model, data, tmp_path / "out")
    assert "expected (train / dev / test) MedNLI has 11,232 / 1,395 / 1,422 pairs; found 4 / 4 / 4 pairs" in message
    (data / FILES[0]).write_text(nli_lines([("a", "b", "maybe")]))
    message = error_of(mednli, tiny_model, data, tmp_path / "out", "--nonstandard-split")
    assert "mli_train_v1.jsonl line 1: gold_label is 'maybe', expected one of entailment" in message
