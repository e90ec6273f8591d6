"""BioASQ's yes/no questions: ready-made files, a dev file that is the test file, the Task of official questions."""

import json
from argparse import Namespace
from functools import partial

import pytest

from finetuning import bioasq_yesno, command, mnli, texts
from finetuning.bioasq_yesno import CORPUS, VARIANTS, is_ready_made, read_ready_made, yesno_task
from finetuning.config import FinetuneConfig
from finetuning.loop import fit, predict
from finetuning.splits import Benchmark
from finetuning.text_inputs import Example
from tests.finetuning.text_samples import NLI, nli_lines, run, score, sizes_of, unpack, write_splits

BENCHMARK = Benchmark(
    name="BioASQ",
    variants=VARIANTS,
    defaults=FinetuneConfig(),
    prepare=partial(texts.prepare, corpus=CORPUS),
    score_file=partial(texts.score_file, corpus=CORPUS),
)
SCRIPT = Namespace(BENCHMARK=BENCHMARK, CORPUS=CORPUS, main=partial(command.main, BENCHMARK, "BioASQ"))
SCIFIVE = "question: does lithium reverse seizures? context: no change was seen .\tno\n"
SCIFIVE += "question: are patients treated? context: patients were treated with lithium .\tyes\n"
FILES = ["train_blurb.tsv", "dev_blurb.tsv", "test_blurb.tsv"]


def write_scifive(folder):
    write_splits(folder, SCIFIVE, FILES)
    return write_splits(folder, SCIFIVE.replace("no change", "change"), ["dev_blurb.tsv"])


def test_scifive_files_to_results(tiny_model, tmp_path):
    data = write_scifive(tmp_path / "data")
    assert is_ready_made(data) and not is_ready_made(tmp_path)
    example = read_ready_made(Namespace(data=data, train_split=None))["train"].examples[1]
    assert (example.text_a, example.text_b, example.label) == (
        "are patients treated?",
        "patients were treated with lithium .",
        "yes",
    )
    results = run(SCRIPT, tiny_model, data, tmp_path / "out")
    assert results["metric"] == "accuracy"
    predictions = results["folder"] / "seed_0.predictions.tsv"
    assert score(SCRIPT, data, predictions)["accuracy"] == results["seeds"][0]["score"]


@pytest.mark.parametrize("line", ["question: q context: c\tmaybe", "question: q\tyes", "q context: c\tyes"])
def test_broken_scifive_lines_are_named(tmp_path, line):
    data = write_splits(tmp_path / "data", SCIFIVE + line + "\n", FILES)
    with pytest.raises(ValueError, match="train_blurb.tsv line 3 is not `question: ... context: ...<TAB>yes` or no"):
        read_ready_made(Namespace(data=data, train_split=None))


def test_dev_that_is_the_test_is_left_out(tmp_path, capsys):
    text = "yesno_label\tquestion\tideal_answer\n" + "1\tIs it?\tYes.\n0\tWas it?\tNo.\n" * 10
    data = write_splits(tmp_path / "data", text, ["yesno_train.tsv", "yesno_dev.tsv", "yesno_test.tsv"])
    files = read_ready_made(Namespace(data=data, train_split=None))
    assert list(files) == ["train", "test"]
    assert "warning: " in capsys.readouterr().out
    (data / "yesno_dev.tsv").write_text(text.replace("Was", "Were"))
    assert list(read_ready_made(Namespace(data=data, train_split=None))) == ["train", "dev", "test"]
    (data / "yesno_train.tsv").write_text(text.replace("0\t", "no\t"))
    with pytest.raises(ValueError, match="yesno_train.tsv line 3: yesno_label is 'no', expected 0 or 1"):
        read_ready_made(Namespace(data=data, train_split=None))


def questions():
    """16 questions whose answer is in their snippets alone."""
    words = ["naloxone", "lithium", "cocaine", "patients"]
    return [
        Example(f"was {one} seen", "yes" if other in words[:2] else "no", f"{other} was seen", index=f"q{one}{other}")
        for one in words
        for other in words
    ]


def test_task_of_official_questions_learns_and_writes(tiny_model, tmp_path):
    examples = questions()
    config = FinetuneConfig(
        learning_rate=5e-3, layer_decay=1.0, batch_size=4, epochs=30, patience=30, dropout=0.0, warmup_fraction=0.05
    )
    asked = []

    def scored(split, answers):
        asked.append((split, len(answers)))
        return {"right": sum(answers[one.index] == one.label for one in examples) / len(examples)}

    task = yesno_task(
        {split: examples for split in ("train", "dev", "test")},
        str(tiny_model),
        config,
        "right",
        scored,
        lambda answers, path: path.write_text(json.dumps(answers)),
    )
    network = task.make_model()
    assert fit(network, task, config, seed=0).dev["right"] == 1.0
    assert set(asked) == {("dev", 16)}
    assert task.predictions_suffix == "json"
    task.write_predictions(predict(network, task, task.features["test"], config), tmp_path / "p.json")
    assert json.loads((tmp_path / "p.json").read_text()) == {one.index: one.label for one in examples}


def test_a_stage_of_mnli_before(tiny_model, tmp_path):
    """Three labels there, two here: the encoder goes on, the last layer is new."""
    names = ["multinli_1.0_train.jsonl", "multinli_1.0_dev_matched.jsonl", "multinli_1.0_dev_mismatched.jsonl"]
    write_splits(tmp_path / "mnli", nli_lines(), names[:1])
    data = write_splits(tmp_path / "mnli", nli_lines(NLI[3:]), names[1:])  # of one class: to answer it always is right
    first = run(mnli, tiny_model, data, tmp_path / "first")
    line = SCIFIVE.splitlines(keepends=True)[1]
    data = write_splits(tmp_path / "data", line, FILES)
    write_splits(data, line.replace("lithium", "cocaine"), FILES[1:2])
    results = run(SCRIPT, first["folder"] / "model", data, tmp_path / "second")
    task = json.loads((results["folder"] / "model" / "task.json").read_text())
    assert task["labels"] == list(bioasq_yesno.LABELS)


def test_files_as_distributed(tmp_path):
    scifive = unpack("qa/bioasq_yesno_blurb_scifive.tar.xz", tmp_path / "a")
    assert sizes_of(SCRIPT, scifive) == ("BioASQ 7b yes/no (BLURB)", True, {"questions": (670, 75, 140)})
    bio_electra = unpack("qa/bioasq_bio_electra.tar.xz", tmp_path / "b")
    assert sizes_of(SCRIPT, bio_electra) == ("BioASQ yes/no, ideal answers", True, {"questions": (728, 128)})
