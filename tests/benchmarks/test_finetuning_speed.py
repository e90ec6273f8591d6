"""The benchmark of finetuning, a tiny model on made-up sentences: both ways do the same; ratios are of medians."""

import json
from functools import partial

import pytest
from transformers import ElectraConfig

from benchmarks import finetuning_speed
from benchmarks.finetuning_speed import our_way, run_ner_way, table
from finetuning.config import FinetuneConfig
from finetuning.entity_files import read_splits
from tests.finetuning.samples import write_benchmark

pytest.importorskip("accelerate")
TINY = {
    "embedding_size": 8,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A folder of eight sentences; the random model is a tiny one instead of `small`."""
    monkeypatch.setattr(finetuning_speed, "ElectraConfig", partial(ElectraConfig, **TINY))
    return write_benchmark(tmp_path / "data", "iob")


def test_both_ways_measure_every_round_and_write_it(data, tmp_path, capsys):
    output = tmp_path / "speed.json"
    line = ["--data", data, "--rounds", 2, "--batch-size", 4, "--output", output]
    finetuning_speed.main([str(part) for part in line])
    results = json.loads(output.read_text())
    sentences = read_splits(data)["train"].sentences
    assert results["sentences"] == len(sentences)
    assert results["words"] == sum(len(one.words) for one in sentences)
    assert (results["model"], results["batch_size"], results["bf16"]) == ("random ELECTRA small", 4, False)
    rates = results["sentences_per_second"]
    assert set(rates) == {"finetuning", "run_ner"}
    for parts in rates.values():
        assert set(parts) == {"train", "predict"}
        assert all(len(values) == 2 and min(values) > 0 for values in parts.values())
    assert capsys.readouterr().out.strip().endswith(table(rates))


def test_both_ways_predict_every_word(data, tmp_path):
    sentences = read_splits(data)["train"].sentences
    config = FinetuneConfig(batch_size=4, epochs=1, learning_rate=1e-3, layer_decay=1.0)
    model = str(tmp_path / "tiny")
    finetuning_speed.write_random_model(tmp_path / "tiny", sentences)
    train, predict = our_way(sentences, model, config)
    ours = predict(train())
    train, predict = run_ner_way(sentences, model, config, str(tmp_path / "trainer"))
    theirs = predict(train())
    words = sum(len(one.words) for one in sentences)
    assert sum(len(rows) for rows in ours) == (theirs.label_ids != -100).sum() == words
    labels = len({tag for one in sentences for tag in one.tags})
    assert {rows.shape[-1] for rows in ours} == {theirs.predictions.shape[-1]} == {labels}
    assert len(ours) == len(theirs.predictions) == len(sentences)
    assert theirs.predictions.shape[1] == finetuning_speed.PADDED_TO


def test_ratio_is_of_medians():
    rates = {
        "finetuning": {"train": [30.0, 10.0, 100.0], "predict": [8.0, 8.0, 1.0]},
        "run_ner": {"train": [10.0, 1.0, 40.0], "predict": [2.0, 100.0, 4.0]},
    }
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table(rates).splitlines()[2:]]
    assert rows == [["train", "30.0", "10.0", "3.00"], ["predict", "8.0", "4.0", "2.00"]]


def test_what_is_wrong_is_one_sentence(tmp_path):
    with pytest.raises(SystemExit) as stopped:
        finetuning_speed.main(["--data", str(tmp_path)])
    assert stopped.value.code.startswith(f"error: {tmp_path} has no train file")
    assert "\n" not in stopped.value.code
