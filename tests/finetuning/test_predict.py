"""Prediction on new text from the command line: what is read, what is written, what is refused."""

import io
import json
import sys

import pytest

from finetuning import predict
from finetuning.config import FinetuneConfig
from finetuning.conll import TaggedFile
from finetuning.tagging import tagging_task
from tests.finetuning.test_tagging import sentences


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
