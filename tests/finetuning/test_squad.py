"""SQuAD from files to results: both heads learn sixteen examples, official predictions, folds, refusals."""

import json
import lzma
import random
import shutil
from argparse import Namespace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AlbertConfig, AutoModel, BertConfig, DebertaV2Config, ModernBertConfig, RobertaConfig

from finetuning import command, span_qa, squad
from finetuning.config import config_from
from finetuning.squad_files import read_squad, squad_scores
from finetuning.squad_task import find_files, fold_examples, prepare, score_file
from tests.finetuning.archives import SHARED
from tests.finetuning.questions import CONTEXTS, QUESTIONS, write_json, write_squad
from tests.finetuning.questions import squad as squad_content

QUICK = "--learning-rate 3e-3 --layer-decay 1 --batch-size 8 --seeds 1".split()


def run(model, data, output, *more):
    arguments = ["--model", model, "--data", data, "--output", output, *QUICK, "--nonstandard-split", *more]
    squad.main([str(argument) for argument in arguments])
    (folder,) = {path.parent for path in output.rglob("results.json")}
    return folder, json.loads((folder / "seed_0.json").read_text())


def error_of(model, data, output, *more):
    """The message of a run that is refused."""
    with pytest.raises(SystemExit) as stopped:
        squad.main([str(one) for one in ["--model", model, "--data", data, "--output", output, *QUICK, *more]])
    assert isinstance(stopped.value.code, str) and "\n" not in stopped.value.code
    return stopped.value.code


def options_of(model, data, *more):
    """Parsed flags, as the command line gives them."""
    arguments = ["--model", model, "--data", data, "--output", "none", *more]
    return command.make_parser(squad.BENCHMARK, "").parse_args([str(argument) for argument in arguments])


@pytest.mark.parametrize("head", ["joint", "plain"])
@pytest.mark.parametrize("impossible", [(), (3, 7, 11)])
def test_both_heads_learn_sixteen_examples(tiny_model, tmp_path, head, impossible):
    """Spans, and which questions have no answer; then the saved model answers the same on texts."""
    data = write_squad(tmp_path / "data", impossible, "2.0" if impossible else "1.1")
    more = ["--qa-head", head, "--epochs", 100, "--no-answer-threshold", 0]
    folder, seed = run(tiny_model, data, tmp_path / "out", *more)
    assert seed["test"]["F1"] == seed["test"]["exact match"] == 1.0
    assert seed["test"]["questions"] == 16 and seed["test"]["missing"] == 0
    predictions = json.loads((folder / "seed_0.predictions.json").read_text())
    right = {f"q{i}": "" if i in impossible else answer for i, (_, _, answer) in enumerate(QUESTIONS)}
    assert predictions == right
    assert seed["run"]["split"]["test"]["file"] == f"dev-v{'2.0' if impossible else '1.1'}.json"
    assert seed["run"]["split"]["train"]["questions"] == 16
    assert seed["run"]["split"]["train"]["without answer"] == len(impossible)
    if impossible:
        assert seed["test"]["unanswerable"] == {"F1": 1.0, "exact match": 1.0, "questions": 3}
        assert seed["test"]["best F1"] == 1.0
        scores = json.loads((folder / "seed_0.predictions.no-answer.json").read_text())
        assert {name for name, score in scores.items() if score > 0} == {"q3", "q7", "q11"}
    records = [
        {"question": question, "text": CONTEXTS[where], "n": i} for i, (where, question, _) in enumerate(QUESTIONS)
    ]
    found = list(span_qa.predict_texts(folder / "model", records, batch_size=4))
    assert [one["n"] for one in found] == list(range(16))
    with pytest.raises(ValueError, match='a record needs a "question" and a "text"'):
        list(span_qa.predict_texts(folder / "model", [{"text": "no question"}], batch_size=4))
    for one, (where, _, answer) in zip(found, QUESTIONS, strict=True):
        if impossible:
            assert one["answerable"] is (one["n"] not in impossible)
        if one["n"] not in impossible:
            best = one["answers"][0]
            assert best["text"] == answer == CONTEXTS[where][best["start"] : best["end"]]
            assert 0.5 < best["probability"] <= 1


def test_an_untrained_head_scores_at_chance(tiny_model, tmp_path):
    """A learning rate of 1e-12: about what spans drawn at random get, far from what is learned."""
    data = write_squad(tmp_path / "data")
    chance = random.Random(0)
    examples = read_squad(data / "dev-v1.1.json").examples
    drawn = []
    for _ in range(200):
        guesses = {}
        for example in examples:
            words = example.context.split()
            start = chance.randrange(len(words))
            guesses[example.id] = " ".join(words[start : start + chance.randint(1, len(words))])
        drawn.append(squad_scores(examples, guesses)["F1"])
    mean = sum(drawn) / len(drawn)
    for head in ("joint", "plain"):
        _, seed = run(tiny_model, data, tmp_path / head, "--qa-head", head, "--epochs", 1, "--learning-rate", 1e-12)
        assert abs(seed["test"]["F1"] - mean) < 0.25
        assert seed["test"]["exact match"] < 0.2


def test_dev_and_test_files_and_early_stopping(tiny_model, tmp_path):
    data = tmp_path / "data"
    for split in ("train", "dev", "test"):
        write_json(data / f"{split}.json", squad_content())
    folder, seed = run(tiny_model, data, tmp_path / "out", "--epochs", 12)
    assert seed["dev"]["F1"] > 0 and len(seed["history"]) == 12
    assert seed["run"]["split"]["dev"]["file"] == "dev.json"
    _, more = run(tiny_model, data, tmp_path / "out2", "--epochs", 1, "--train-on-dev")
    assert more["dev"] is None


def test_one_file_is_cross_validated_by_article(tiny_model, tmp_path):
    path = write_json(tmp_path / "one.json", squad_content())
    folder, seed = run(tiny_model, path, tmp_path / "out", "--folds", 2, "--epochs", 1)
    assert [fold["test"]["questions"] for fold in seed["folds"]] == [8, 8]
    answered = [json.loads((folder / f"seed_0.fold_{i}.predictions.json").read_text()) for i in (0, 1)]
    assert sorted(answered[0] | answered[1]) == sorted(f"q{i}" for i in range(16))
    assert set(answered[0]) == {f"q{i}" for i in (0, 1, 2, 3, 8, 9, 10, 11)}  # articles 0 and 2
    assert folder.parent.name == "squad-one-nonstandard"


def test_folds_keep_articles_whole():
    examples = [Namespace(document=name, question=str(i // 2)) for i, name in enumerate("aabcccddeeea")]
    for folds in (2, 3, 5):
        parts = fold_examples(examples, folds)
        for part in parts:
            assert not {one.document for one in part["train"]} & {one.document for one in part["test"]}
            assert len(part["train"]) + len(part["test"]) == 12 and part["test"]
        assert sum(len(part["test"]) for part in parts) == 12
    for part in fold_examples(examples, 6):  # fewer articles than folds: questions stay whole
        assert not {one.question for one in part["train"]} & {one.question for one in part["test"]}
        assert len(part["test"]) == 2
    with pytest.raises(ValueError, match="--folds 7 does not fit: the file has 6 questions"):
        fold_examples(examples, 7)


def test_the_second_stage_begins_where_the_first_ended(tiny_model, tmp_path):
    """--model of the stage before: encoder and head are its."""
    data = write_squad(tmp_path / "data", (3,), "2.0")
    folder, _ = run(tiny_model, data, tmp_path / "first", "--epochs", 2)
    options = options_of(folder / "model", write_squad(tmp_path / "next"), "--nonstandard-split")
    task = prepare(squad.BENCHMARK, options, config_from(options)).tasks[0]
    torch.manual_seed(7)
    model = task.make_model()
    head = load_file(folder / "model" / "qa_head.safetensors")
    ours = {name: value for name, value in model.head.state_dict().items()}
    assert ours and all(torch.equal(value, head[name]) for name, value in ours.items())
    encoder = load_file(folder / "model" / "model.safetensors")
    assert all(torch.equal(value, model.network.state_dict()[name]) for name, value in encoder.items())


@pytest.mark.parametrize("head", ["joint", "plain"])
@pytest.mark.parametrize("kind", [BertConfig, AlbertConfig, RobertaConfig, ModernBertConfig, DebertaV2Config])
def test_other_encoders_take_both_heads(tiny_model, tmp_path, kind, head):
    """A random encoder of another architecture, saved without a head, with the tiny tokenizer beside it."""
    folder = shutil.copytree(tiny_model, tmp_path / "other")
    config = kind(
        vocab_size=40,
        embedding_size=8,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=80,
        pad_token_id=0,
    )
    AutoModel.from_config(config).save_pretrained(folder)
    data = write_squad(tmp_path / "data", (3,), "2.0")
    more = ["--qa-head", head, "--epochs", 2, "--layer-decay", 0.9, "--dropout", 0.1, "--gradient-accumulation", 2]
    written, seed = run(folder, data, tmp_path / "out", *more, "--bf16", "--reinit-layers", 1)
    assert seed["failed"] is None and seed["history"][1]["loss"] < seed["history"][0]["loss"]
    record = [{"question": "was seen", "text": CONTEXTS[1]}]
    (answered,) = span_qa.predict_texts(written / "model", record, batch_size=1)
    assert answered["answers"][0]["text"] in CONTEXTS[1]


def test_sizes_of_the_published_splits_are_wanted(tiny_model, tmp_path):
    message = error_of(tiny_model, write_squad(tmp_path / "data"), tmp_path / "out")
    assert "SQuAD 1.1 has 87,599 / 10,570 questions; SQuAD 2.0 has 130,319 / 11,873 questions" in message
    assert "found 16 / 16 questions" in message and "--nonstandard-split" in message


def test_unclear_folders_are_refused(tiny_model, tmp_path):
    data = write_squad(tmp_path / "data")
    write_squad(data, (3,), "2.0")
    assert "train-v1.1.json and train-v2.0.json: keep one version" in error_of(tiny_model, data, tmp_path / "out")
    assert "is not there" in error_of(tiny_model, tmp_path / "none", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    assert "no train and no test file" in error_of(tiny_model, tmp_path / "empty", tmp_path / "out")
    one = write_json(tmp_path / "one" / "xquad.json", squad_content())
    (one.parent / "._xquad.json").write_bytes(b"\x00\x05\x16\x07")  # what macOS leaves
    assert "has one file: add --folds 5" in error_of(tiny_model, one.parent, tmp_path / "out", "--nonstandard-split")
    more = ["--nonstandard-split", "--folds", "3"]
    assert "leave --folds out" in error_of(tiny_model, write_squad(tmp_path / "two"), tmp_path / "out", *more)
    more = ["--nonstandard-split", "--train-split", "dev"]
    assert "use --folds" in error_of(tiny_model, tmp_path / "two", tmp_path / "out", *more)
    more = ["--nonstandard-split", "--max-answer-length", "0"]
    assert "--max-answer-length 0" in error_of(tiny_model, tmp_path / "two", tmp_path / "out", *more)
    assert find_files(tmp_path / "two")["test"].name == "dev-v1.1.json"


def test_questions_without_answers_are_refused(tiny_model, tmp_path):
    data = write_squad(tmp_path / "data")
    content = squad_content()
    del content["data"][2]["paragraphs"][0]["qas"][1]["answers"]
    write_json(data / "dev-v1.1.json", content)
    message = error_of(tiny_model, data, tmp_path / "out", "--nonstandard-split")
    assert "dev-v1.1.json, question q9, has no answers" in message
    for article in content["data"]:
        for item in article["paragraphs"][0]["qas"]:
            item["answers"] = [{"text": "absent", "answer_start": 3}]
    write_json(data / "train-v1.1.json", content)
    write_json(data / "dev-v1.1.json", squad_content())
    message = error_of(tiny_model, data, tmp_path / "out", "--nonstandard-split")
    assert "no question with an answer in its context: nothing to learn from" in message


def test_wrong_offsets_are_said(tiny_model, tmp_path, capsys):
    data = write_squad(tmp_path / "data")
    content = squad_content()
    items = content["data"][0]["paragraphs"][0]["qas"]
    items[0]["answers"][0]["answer_start"] += 1
    items[1]["answers"][0]["text"] = "absent"
    write_json(data / "train-v1.1.json", content)
    _, seed = run(tiny_model, data, tmp_path / "out", "--epochs", 1)
    said = capsys.readouterr().out
    assert "train-v1.1.json: 2 answers are not where the file says; 1 found, 1 not" in said
    assert "train: 1 gold answers are not in their contexts or too long to be found: left out of training" in said
    assert seed["run"]["split"]["train"]["wrong offsets"] == 2
    assert seed["run"]["split"]["train"]["unusable offsets"] == 1


def score(data, predictions, split="test", nonstandard=True):
    options = Namespace(data=data, predictions=predictions, split=split, nonstandard_split=nonstandard)
    return score_file(squad.BENCHMARK, options)


def test_a_file_of_predictions_is_scored_as_training_scored_it(tiny_model, tmp_path):
    data = write_squad(tmp_path / "data", (3, 7), "2.0")
    folder, seed = run(tiny_model, data, tmp_path / "out", "--epochs", 8)
    scores = score(data, folder / "seed_0.predictions.json")
    assert scores == {name: seed["test"][name] for name in scores} and "F1" in scores
    with pytest.raises(ValueError, match="p.json answers question q99, which is not in .*dev-v2.0.json"):
        score(data, write_json(tmp_path / "p.json", {"q0": "", "q99": "x"}))
    (tmp_path / "p.json").write_text('{"q0": "", "q1": "x", "q0": "y"}')
    with pytest.raises(ValueError, match="p.json has 'q0' more than once"):
        score(data, tmp_path / "p.json")
    with pytest.raises(ValueError, match="p.json, question q0: the answer is no text"):
        score(data, write_json(tmp_path / "p.json", {"q0": 3}))
    assert score(data, folder / "seed_0.predictions.json", "dev") == scores  # the dev file is there, by its own name
    with pytest.raises(ValueError, match="has no other file"):
        score(data, folder / "seed_0.predictions.json", "other")
    (data / "train-v2.0.json").unlink()  # not needed to score, and the file itself will do
    assert score(data, folder / "seed_0.predictions.json") == scores
    assert score(data / "dev-v2.0.json", folder / "seed_0.predictions.json") == scores
    assert score(data, write_json(tmp_path / "p.json", {"q0": "Naloxone"}))["missing"] == 15
    with pytest.raises(
        ValueError,
        match=r"dev-v2.0.json is no published test split of SQuAD: expected 10,570 questions, or 11,873 questions; "
        "found 16 questions.*--nonstandard-split",
    ):
        score(data, folder / "seed_0.predictions.json", nonstandard=False)


@pytest.mark.parametrize(
    ("name", "folds", "questions"),
    [("xquad.en", 5, 1190), pytest.param("200423_covidQA", 3, 1380, marks=pytest.mark.slow)],
)
def test_shared_files_become_inputs(tiny_model, tmp_path, name, folds, questions):
    path = SHARED / "qa" / f"{name}.json.xz"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    (tmp_path / f"{name}.json").write_bytes(lzma.open(path).read())
    options = options_of(tiny_model, tmp_path, "--folds", folds, "--nonstandard-split", "--max-answer-length", 60)
    prepared = prepare(squad.BENCHMARK, options, config_from(options))
    assert prepared.split["all"]["questions"] == questions and not prepared.variant.standard
    tests = [task.features["test"] for task in prepared.tasks]
    assert len(tests) == folds
    assert sum(len({feature["example"] for feature in features}) for features in tests) == questions
    assert max(len(feature["input_ids"]) for features in tests for feature in features) <= 64
    assert len(prepared.texts["all"]) == prepared.split["all"]["contexts"]
