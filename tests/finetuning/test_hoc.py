"""HoC from files to scores: by abstract, by sentence, document-level numbers by hand, predictions of anyone."""

import json
from argparse import Namespace

import pytest
import torch
from sklearn.metrics import f1_score

from finetuning import hoc
from finetuning.classification import predict_texts
from finetuning.config import FinetuneConfig
from finetuning.hoc_files import HALLMARKS
from finetuning.text_inputs import Example
from finetuning.text_labels import score_labels
from tests.finetuning.test_leaks import ABSTRACT
from tests.finetuning.text_samples import DATA, error_of, run, score, sizes_of, unpack, write_hoc, write_splits

ORIGINAL = {"unit": None, "splits": None}
APOPTOSIS, GROWTH, ENERGY = HALLMARKS[7], HALLMARKS[8], HALLMARKS[2]


@pytest.mark.parametrize("unit", ["abstract", "sentence"])
def test_files_to_results(tiny_model, tmp_path, unit):
    data = write_hoc(tmp_path / "data")
    results = run(hoc, tiny_model, data, tmp_path / "out", "--unit", unit)
    assert (results["variant"], results["metric"], results["nonstandard_split"]) == ("HoC", "micro-F1", True)
    assert results["split"]["train"]["abstracts"] == 2
    assert results["split"]["train"]["inputs"] == (2 if unit == "abstract" else 5)
    predictions = results["folder"] / "seed_0.predictions.tsv"
    assert predictions.read_text().startswith("index\tlabels\n104_s0\t")
    scored = score(hoc, data, predictions, unit=unit, splits=None)
    assert scored["micro-F1"] == results["seeds"][0]["score"]
    assert scored["examples with a label"] == 1


def test_labels_of_a_documents_sentences_are_united():
    """Two documents of two sentences each, worked by hand."""
    examples = [
        Example("a", (APOPTOSIS,), document="1"),
        Example("b", (GROWTH,), document="1"),
        Example("c", (), document="2"),
        Example("d", (ENERGY,), document="2"),
    ]
    settings = hoc.settings(hoc.BENCHMARK.variants[0], {})
    # document 1: gold {apoptosis, growth}, predicted {apoptosis}; document 2: gold {energy}, predicted {energy, growth}
    scores = score_labels(examples, [(APOPTOSIS,), (APOPTOSIS,), (ENERGY, GROWTH), (ENERGY,)], settings)
    assert scores["micro-F1"] == pytest.approx(2 * 2 / (3 + 3))
    # BLUE: precision 1 and 1/2, recall 1/2 and 1
    assert scores["example-based F1"] == pytest.approx(0.75)
    gold = [[name in one for name in HALLMARKS] for one in ((APOPTOSIS, GROWTH), (ENERGY,))]
    ours = [[name in one for name in HALLMARKS] for one in ((APOPTOSIS,), (ENERGY, GROWTH))]
    assert scores["micro-F1"] == pytest.approx(f1_score(gold, ours, average="micro"))


def test_metric_is_that_of_the_protocol():
    blurb, blue = hoc.BENCHMARK.variants
    assert hoc.settings(blurb, {}).metric == "micro-F1"
    assert hoc.settings(blue, {}).metric == "example-based F1"
    assert not {row[1] for row in blurb.published} & {row[1] for row in blue.published}


def test_predictions_of_anyone(tmp_path):
    data = write_splits(tmp_path / "data", "an abstract .\t7|8\nanother .\t10\n", ["train_blurb.tsv", "test_blurb.tsv"])
    write_splits(data, "one .\t0\n", ["dev_blurb.tsv"])
    path = tmp_path / "ours.tsv"
    path.write_text(f"index\tlabels\n2_s0\t\n1_s0\t{APOPTOSIS},{ENERGY}\n")
    assert score(hoc, data, path, **ORIGINAL)["micro-F1"] == pytest.approx(0.5)
    for text, message in {
        f"1_s0\t{APOPTOSIS}\n": "no prediction for 1 of 2 examples (first: 2_s0)",
        "1_s0\tapoptosis\n": "line 1: 'apoptosis' is none of the labels",
        "3_s0\t\n": "line 1: '3_s0' is not an index of this split",
        "1_s0\t\n1_s0\t\n": "line 2: '1_s0' has a prediction already",
        "1_s0\n": "line 1 ('1_s0') is not `index<TAB>label`",
    }.items():
        path.write_text(text)
        with pytest.raises(ValueError) as refused:
            score(hoc, data, path, **ORIGINAL)
        assert message in str(refused.value)


def test_abstracts_of_blurbs_files_are_found_in_the_corpus_by_their_text(tiny_model, tmp_path):
    """A line's number is no PMID: neither record 1 nor the abstract under another id may mislead."""
    names = [f"{split}_blurb.tsv" for split in ("train", "dev", "test")]
    data = write_splits(tmp_path / "data", f"{ABSTRACT}\t7|8\nanother .\t10\n", names)
    for name, text in (("in", f"A title.\n{ABSTRACT}"), ("out", "nothing of it")):
        corpus = tmp_path / f"{name}.jsonl"
        corpus.write_text(json.dumps({"id": "1" if name == "out" else "777", "text": text}) + "\n")
        found = run(hoc, tiny_model, data, tmp_path / name, "--corpus", str(corpus))["leaks"]["corpus"]
        assert (found["test_documents"], found["test_texts"]) == (0, 2)
        assert found["seen_texts"] == (name == "in")


@pytest.mark.parametrize("unit", ["abstract", "sentence"])
def test_new_abstracts_are_shown_as_the_model_was_trained(tiny_model, tmp_path, unit):
    """By sentence: the labels of all sentences alone, each as likely as in the likeliest one."""
    flags = {"unit": unit, "splits": None, "train_split": None, "nonstandard_split": True}
    options = Namespace(data=write_hoc(tmp_path / "data"), model=str(tiny_model), **flags)
    (task,) = hoc.BENCHMARK.prepare(hoc.BENCHMARK, options, FinetuneConfig()).tasks
    torch.manual_seed(1)
    network = task.make_model()
    for weight in network.parameters():
        weight.data *= 3  # or all sentences would be much alike
    task.save(network, tmp_path / "model")
    assert json.loads((tmp_path / "model" / "task.json").read_text())["unit"] == unit
    sentences = ["Naloxone reverses blood pressure.", "Cocaine caused seizures.", "No change was seen."]
    whole, *alone, empty = predict_texts(
        tmp_path / "model", [{"text": one} for one in (" ".join(sentences), *sentences, "")], 2
    )
    union = {label for one in alone for label in one["labels"]}
    highest = {name: max(one["probabilities"][name] for one in alone) for name in HALLMARKS}
    assert any(set(one["labels"]) != union for one in alone)
    if unit == "sentence":
        assert set(whole["labels"]) == union
        assert whole["probabilities"] == pytest.approx(highest, abs=2e-4)
    else:
        assert whole["probabilities"] != pytest.approx(highest, abs=1e-2)
    assert set(empty["probabilities"]) == set(HALLMARKS)


def test_other_sizes_are_refused(tiny_model, tmp_path):
    message = error_of(hoc, tiny_model, write_hoc(tmp_path / "data"), tmp_path / "out")
    assert "HoC (BLURB) has 1,295 / 186 / 371 abstracts; HoC (BLUE) has 1,108 / 157 / 315 abstracts" in message
    assert "found 2 / 1 / 1 abstracts" in message


def test_files_as_distributed(tmp_path):
    folder = unpack("cls/HoC.tar.xz", tmp_path)
    expected = ("HoC (BLURB)", True, {"abstracts": (1295, 186, 371)})
    splits = DATA / "cls" / "HoC_blurb_splits.tsv"
    assert sizes_of(hoc, folder, unit="sentence", splits=splits) == expected
    assert sizes_of(hoc, folder / "blurb_scifive", **ORIGINAL) == expected
