"""Prediction on new text from the command line: what is read, what is written, what is refused."""

import io
import json
import shutil
import sys

import pytest
from safetensors.torch import load_file, save_file

from finetuning import chemprot, classification, predict, squad, tagging
from finetuning.classification import classification_task
from finetuning.config import FinetuneConfig
from finetuning.conll import TaggedFile
from finetuning.tagging import tagging_task
from finetuning.text_inputs import Example
from finetuning.text_labels import Settings
from finetuning.text_scores import ACCURACY, accuracy_scores
from finetuning.texts import write_column
from tests.finetuning.questions import write_squad
from tests.finetuning.relation_samples import original_chemprot, write
from tests.finetuning.test_tagging import sentences
from tests.finetuning.text_samples import QUICK


@pytest.fixture(scope="module")
def model(tiny_model, tmp_path_factory):
    """An untrained tagger, saved as a run saves it."""
    files = {split: TaggedFile(None, sentences(), "", typed=True) for split in ("train", "test")}
    task = tagging_task(files, str(tiny_model), FinetuneConfig())
    folder = tmp_path_factory.mktemp("predict") / "model"
    task.save(task.make_model(), folder)
    return folder


def run(model, text, tmp_path, *more):
    """The JSON lines for an input file of this text."""
    (tmp_path / "in.txt").write_text(text, encoding="utf-8")
    output = tmp_path / "out.jsonl"
    predict.main(["--model", str(model), "--input", str(tmp_path / "in.txt"), "--output", str(output), *more])
    assert not list(tmp_path.glob("*.tmp"))
    return [json.loads(line) for line in output.read_text(encoding="utf-8").strip().split("\n")]


def error_of(*arguments):
    with pytest.raises(SystemExit) as stopped:
        predict.main([str(argument) for argument in arguments])
    assert isinstance(stopped.value.code, str) and "\n" not in stopped.value.code
    return stopped.value.code


def test_lines_of_text(model, tmp_path, capsys):
    rows = run(model, "\ufeffNaloxone reverses it.\n\n  \nβ-blockers\u2028and α\n", tmp_path, "--batch-size", "2")
    assert [row["text"] for row in rows] == ["Naloxone reverses it.", "β-blockers\u2028and α"]
    for row in rows:
        assert set(row) == {"text", "entities"}
        assert all(row["text"][one["start"] : one["end"]] == one["text"] for one in row["entities"])
    assert "2 texts written to" in capsys.readouterr().out


def test_json_lines_keep_what_else_they_hold(model, tmp_path):
    rows = run(model, '{"text": "Naloxone\\nand", "pmid": 7}\n{"text": ""}\n', tmp_path)
    assert rows[0]["text"] == "Naloxone\nand" and rows[0]["pmid"] == 7
    assert rows[1] == {"text": "", "entities": []}


def test_standard_input_to_standard_output(model, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("Naloxone α\n".encode())))
    predict.main(["--model", str(model), "--output", "-"])
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["text"] == "Naloxone α"


def test_mistakes_are_one_sentence_and_leave_no_output(model, tiny_model, tmp_path):
    output = tmp_path / "out.jsonl"
    text = tmp_path / "in.txt"
    text.write_text('{"text": "a"}\nnot json\n')
    assert f"{text} line 2 is not JSON" in error_of("--model", model, "--input", text, "--output", output)
    text.write_text('{"text": "a"}\n{"texts": "b"}\n')
    assert 'line 2 is not an object with "text"' in error_of("--model", model, "--input", text, "--output", output)
    text.write_bytes(b"\xff\n")
    assert "is not UTF-8" in error_of("--model", model, "--input", text, "--output", output)
    assert "has no task.json: give the `model` folder" in error_of("--model", tiny_model, "--output", output)
    assert "No such file" in error_of("--model", model, "--input", tmp_path / "none", "--output", output)
    assert "--batch-size 0" in error_of("--model", model, "--output", output, "--batch-size", "0")
    assert not output.exists()


def test_unknown_family(tmp_path):
    (tmp_path / "task.json").write_text('{"family": "os"}')
    assert "has family 'os'; known are tagging" in error_of("--model", tmp_path, "--output", "-")


def test_every_family_can_predict():
    for family in predict.FAMILIES:
        module = pytest.importorskip(f"finetuning.{family}")
        assert callable(module.predict_texts)


@pytest.fixture(scope="module")
def pair_model(tiny_model, tmp_path_factory):
    """An untrained classifier of pairs."""
    return classifier(tiny_model, tmp_path_factory.mktemp("pairs"), [Example("naloxone", "yes", "cocaine")])


def classifier(tiny_model, folder, examples):
    """The folder of an untrained classifier of texts like these."""
    settings = Settings("single", ACCURACY, accuracy_scores, write_column, ("yes", "no"))
    splits = {split: examples for split in ("train", "test")}
    task = classification_task(splits, str(tiny_model), FinetuneConfig(), settings)
    task.save(task.make_model(), folder / "model")
    return folder / "model"


def test_classified_lines_keep_what_else_they_hold(pair_model, tmp_path):
    (row,) = run(pair_model, '{"text": "Naloxone", "text_b": "and", "pmid": 7}\n', tmp_path)
    assert set(row) == {"text", "text_b", "pmid", "label", "probabilities"}
    assert (row["text"], row["text_b"], row["pmid"]) == ("Naloxone", "and", 7)


def test_related_lines_keep_what_else_they_hold(tiny_model, tmp_path):
    """The text comes back as it was given, not as the model was shown it."""
    data = write(tmp_path / "data", original_chemprot())
    arguments = ["--model", str(tiny_model), "--data", str(data), "--output", str(tmp_path / "out"), *QUICK]
    chemprot.main([*arguments, "--nonstandard-split", "--epochs", "9", "--model-name", "m"])
    (folder,) = tmp_path.glob("out/*/m/model")
    given = {"text": "Naloxone reverses renin", "arguments": [[0, 8], [18, 23]], "pmid": 7}
    (row,) = run(folder, json.dumps(given) + "\n", tmp_path)
    assert {name: row[name] for name in given} == given
    assert set(row) - set(given) == {"label", "probabilities"}


@pytest.mark.parametrize(
    "arguments", [[1, 2], "abc", [[None, 1], [1, 2]], [[0, 1], [1, 2], [2, 3]], [[0, 1], [2, 9]], [["0", "1"], [1, 2]]]
)
def test_wrong_arguments_are_one_sentence_with_the_line(tiny_model, tmp_path, arguments):
    model = classifier(tiny_model, tmp_path, [Example("naloxone", "yes")])
    text = tmp_path / "in.txt"
    text.write_text('{"text": "abc"}\n' + json.dumps({"text": "abc", "arguments": arguments}) + '\n{"text": "abc"}\n')
    message = error_of("--model", model, "--input", text, "--output", tmp_path / "out.jsonl")
    assert message.startswith(f'error: {text} line 2: "arguments" {arguments} are not two spans')


def test_a_record_that_lacks_something_is_named_by_its_line(pair_model, tmp_path):
    text = tmp_path / "in.txt"
    text.write_text('{"text": "abc", "text_b": "d"}\n\n{"text": "abc"}\n{"text": "abc", "text_b": "d"}\n')
    message = error_of("--model", pair_model, "--input", text, "--output", tmp_path / "out.jsonl")
    assert (
        message
        == f'error: {text} line 3: this model was trained on pairs of texts: each record needs a "text_b" '
        + ('(or "question")')
    )


def test_what_a_model_of_single_texts_is_not_shown(tiny_model, tmp_path):
    """Its answer is that for the text alone, whatever else the line holds."""
    model = classifier(tiny_model, tmp_path, [Example("naloxone", "yes")])
    more = {"question": "was liver failure seen", "text_b": "liver failure"}
    rows = run(model, "".join(json.dumps({"text": "Naloxone", **one}) + "\n" for one in ({}, more)), tmp_path)
    assert rows[0]["probabilities"] == rows[1]["probabilities"]
    assert rows[1]["question"] == more["question"]


def test_half_a_character_is_refused(model, tmp_path):
    text = tmp_path / "in.txt"
    text.write_text('{"text": "a"}\n{"text": "b", "title": "\\ud83d"}\n{"text": "\\ud83d\\ude00"}\n')
    message = error_of("--model", model, "--input", text, "--output", tmp_path / "out.jsonl")
    assert f"{text} line 2 has \\ud83d, half a character" in message
    rows = run(model, '{"text": "\\ud83d\\ude00 naloxone"}\n', tmp_path)
    assert rows[0]["text"] == "\N{GRINNING FACE} naloxone"


def test_the_batch_size_is_the_number_of_inputs_at_once(model, pair_model, tmp_path, monkeypatch):
    sizes = []
    for module in (tagging, classification):
        real = module.collate
        monkeypatch.setattr(
            module,
            "collate",
            lambda some, *more, real=real, **named: sizes.append(len(some)) or real(some, *more, **named),
        )
    run(model, "naloxone\n" * 5, tmp_path, "--batch-size", "2")
    run(pair_model, '{"text": "naloxone", "text_b": "and"}\n' * 5, tmp_path, "--batch-size", "2")
    assert sizes == [2, 2, 1] * 2


def drop_weights(folder, *starts):
    """Take the weights whose names start so out of the folder's file."""
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if not name.startswith(starts)}
    assert len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("family", ["tagging", "classification"])
def test_a_model_without_its_head_answers_nothing(model, pair_model, tmp_path, family):
    """Transformers would draw one, and only warn."""
    folder = shutil.copytree(model if family == "tagging" else pair_model, tmp_path / "model")
    drop_weights(folder, "classifier")
    (tmp_path / "in.txt").write_text('{"text": "a", "text_b": "b"}\n')
    arguments = ["--model", folder, "--input", tmp_path / "in.txt", "--output", tmp_path / "out.jsonl"]
    assert "weights or has them in another shape (first: classifier" in error_of(*arguments)
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("head", ["joint", "plain"])
def test_a_model_of_questions_without_its_head_answers_nothing(tiny_model, tmp_path, head):
    data = write_squad(tmp_path / "data")
    arguments = ["--model", str(tiny_model), "--data", str(data), "--output", str(tmp_path / "out"), *QUICK]
    squad.main([*arguments, "--nonstandard-split", "--epochs", "1", "--model-name", "m", "--qa-head", head])
    (folder,) = tmp_path.glob("out/*/m/model")
    record = json.dumps({"text": "Naloxone reverses", "question": "what reverses"}) + "\n"
    assert run(folder, record, tmp_path)[0]["answers"]
    again = ["--model", folder, "--input", tmp_path / "in.txt", "--output", tmp_path / "again.jsonl"]
    if head == "plain":
        drop_weights(folder, "qa_outputs")
        assert "first: qa_outputs" in error_of(*again)
    else:
        (folder / "qa_head.safetensors").write_bytes(b"")
        assert "qa_head.safetensors is broken" in error_of(*again)
        (folder / "qa_head.safetensors").unlink()
        assert "lacks its head, qa_head.safetensors" in error_of(*again)


def test_where_the_output_cannot_be_is_said_before_anything_is_predicted(model, tmp_path):
    text = tmp_path / "in.txt"
    text.write_text("naloxone\n")
    (tmp_path / "folder").mkdir()
    for output, reason in ((tmp_path / "folder", "is a folder"), (tmp_path / "no" / "x", "which is no folder")):
        message = error_of("--model", model, "--input", text, "--output", output)
        assert message.startswith(f"error: --output {output} ") and reason in message
    text.write_text('{"text": "a"}\nb\n')
    error_of("--model", model, "--input", text, "--output", tmp_path / "out.jsonl")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "in.txt"]
