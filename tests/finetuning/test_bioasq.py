"""BioASQ from files to results: batches, submissions, stages after SQuAD, yes/no, refusals."""

import json
from argparse import Namespace

import pytest
import torch
from safetensors.torch import load_file

from finetuning import bioasq, command, squad
from finetuning.bioasq_scores import METRICS
from finetuning.bioasq_task import choose_answers, clean_answer, pool_answers, prepare, score_file
from finetuning.config import config_from
from finetuning.span_inputs import Answer, Answers
from tests.finetuning.archives import unpack
from tests.finetuning.questions import (
    QUESTIONS,
    UNSEEN,
    golden,
    question_id,
    squad_form,
    write_bioasq,
    write_json,
    write_squad,
)

QUICK = "--learning-rate 5e-3 --layer-decay 1 --batch-size 8 --seeds 1 --nonstandard-split".split()


def run(model, data, output, *more):
    arguments = ["--model", model, "--data", data, "--output", output, *QUICK, *more]
    bioasq.main([str(argument) for argument in arguments])
    (folder,) = {path.parent for path in output.rglob("results.json")}
    return folder, json.loads((folder / "seed_0.json").read_text())


def error_of(model, data, output, *more):
    """The message of a run that is refused."""
    with pytest.raises(SystemExit) as stopped:
        bioasq.main([str(one) for one in ["--model", model, "--data", data, "--output", output, *more]])
    assert isinstance(stopped.value.code, str) and "\n" not in stopped.value.code
    return stopped.value.code


def options_of(model, data, *more):
    """Parsed flags, as the command line gives them."""
    arguments = [str(one) for one in ["--model", model, "--data", data, "--output", "none", *more]]
    return command.make_parser(bioasq.benchmark_for(arguments), "").parse_args(arguments)


def score(data, predictions, *more):
    options = options_of("none", data, "--nonstandard-split", *more)
    return score_file(bioasq.BENCHMARK, Namespace(**vars(options), predictions=predictions, split="test"))


def test_factoid_from_files_to_submission(tiny_model, tmp_path):
    """Learned by heart; every golden answer counts; the submission scores as training did."""
    data = write_bioasq(tmp_path / "data")
    folder, seed = run(tiny_model, data, tmp_path / "out", "--epochs", 60)
    scores = seed["test"]
    assert scores["strict accuracy (batch mean)"] == scores["strict accuracy (pooled)"] == 1.0
    assert scores["MRR (pooled)"] == 1.0 and (scores["questions"], scores["missing"]) == (16, 0)
    assert {name: batch["questions"] for name, batch in scores["batches"].items()} == {"7b-1": 8, "7b-2": 8}
    split = seed["run"]["split"]
    assert (split["train"]["questions"], split["train"]["examples"]) == (14, 16)  # two questions are asked twice
    assert (split["test"]["questions"], split["test"]["batches"]) == (16, {"7b-1": 8, "7b-2": 8})
    submission = json.loads((folder / "seed_0.predictions.json").read_text())["questions"]
    assert {one["id"]: one["exact_answer"][0][0] for one in submission} == {
        question_id(i): answer for i, (_, _, answer) in enumerate(QUESTIONS)
    }
    for one in submission:
        texts = [names[0].lower() for names in one["exact_answer"]]
        assert 1 <= len(texts) <= 5 and len(set(texts)) == len(texts)
    again = score(data, folder / "seed_0.predictions.json")
    assert again == scores
    assert folder.parent.name == "bioasq-7b-factoid-nonstandard"


def test_list_questions_and_dev(tiny_model, tmp_path):
    data = write_bioasq(tmp_path / "data", "list")
    more = ["--question-type", "list", "--epochs", 60, "--patience", 60, "--list-share", 0.9]
    more += ["--dev", data]
    folder, seed = run(tiny_model, data, tmp_path / "out", *more)
    assert seed["test"]["F1 (batch mean)"] == 1.0 == seed["dev"]["F1 (pooled)"]
    assert seed["run"]["metric"] == "F1 (batch mean)"
    assert all(
        one["type"] == "list" for one in json.loads((folder / "seed_0.predictions.json").read_text())["questions"]
    )


def test_yes_and_no(tiny_model, tmp_path):
    data = write_bioasq(tmp_path / "data", "yesno")
    folder, seed = run(tiny_model, data, tmp_path / "out", "--question-type", "yesno", "--epochs", 60)
    scores = seed["test"]
    assert scores["accuracy (pooled)"] == scores["macro-F1 (pooled)"] == 1.0
    # each batch has one of the answers only: the F1 of the other is 0, as in the program
    assert scores["batches"]["7b-1"] == {"accuracy": 1.0, "macro-F1": 0.5, "F1 yes": 1.0, "F1 no": 0.0, "questions": 8}
    submission = json.loads((folder / "seed_0.predictions.json").read_text())["questions"]
    assert [one["exact_answer"] for one in submission] == ["yes"] * 8 + ["no"] * 8
    assert score(data, folder / "seed_0.predictions.json", "--question-type", "yesno") == scores
    assert seed["run"]["config"]["max_length"] == 512  # the defaults of yes/no


def test_after_squad(tiny_model, tmp_path):
    """The second stage starts with encoder and head of the first, and loses nothing of what it knew."""
    squad.main(
        [
            *("--model", str(tiny_model), "--data", str(write_squad(tmp_path / "squad"))),
            *("--output", str(tmp_path / "first"), *QUICK, "--epochs", "60"),
        ]
    )
    (model,) = (tmp_path / "first").rglob("model")
    data = write_bioasq(tmp_path / "data")
    options = options_of(model, data, "--nonstandard-split")
    task = prepare(bioasq.BENCHMARK, options, config_from(options)).tasks[0]
    torch.manual_seed(3)
    ours = task.make_model()
    head = load_file(model / "qa_head.safetensors")
    assert set(head) == set(ours.head.state_dict())
    assert all(torch.equal(value, head[name]) for name, value in ours.head.state_dict().items())
    # the same questions: one epoch with next to no learning rate is enough
    _, seed = run(model, data, tmp_path / "second", "--epochs", 1, "--learning-rate", 1e-9)
    assert seed["test"]["strict accuracy (pooled)"] == 1.0
    _, fresh = run(tiny_model, data, tmp_path / "fresh", "--epochs", 1, "--learning-rate", 1e-9)
    assert fresh["test"]["strict accuracy (pooled)"] < 0.3  # a head of random weights


def test_training_files_by_name_and_test_files_elsewhere(tiny_model, tmp_path):
    data = write_bioasq(tmp_path / "data")
    train = write_json(tmp_path / "t.json", squad_form(40, answers=True, mark=UNSEEN))
    options = options_of(
        tiny_model, tmp_path, "--nonstandard-split", "--train", train, "--test", data / "7B2_golden.json"
    )
    prepared = prepare(bioasq.BENCHMARK, options, config_from(options))
    assert prepared.split["train"]["file"] == "t.json"
    assert prepared.split["test"]["batches"] == {"7b-2": 8}
    assert prepared.variant.name == "BioASQ 7b factoid" and not prepared.variant.standard
    assert prepared.texts["test"][0] == ("pmid:102", prepared.texts["test"][0][1])


def spans(*found):
    return Answers([Answer(text, 0, len(text), probability) for text, probability in found], 0.0)


def test_answers_are_pooled_over_contexts():
    parts = [spans(("TNF", 0.5), ("IL-6", 0.3), ("(p53)", 0.2)), spans(("il-6.", 0.4), ("x" * 101, 0.9), ("a (b", 0.8))]
    ranked = pool_answers(parts)
    assert [text for text, _ in ranked] == ["il-6", "TNF", "p53"]  # the likelier way to write it
    assert [total for _, total in ranked] == pytest.approx([0.7, 0.5, 0.2])
    assert choose_answers([(str(i), 1.0) for i in range(9)], "factoid", 0.3) == list("01234")
    assert choose_answers([("a", 1.0), ("b", 0.4), ("c", 0.2)], "list", 0.3) == ["a", "b"]
    assert pool_answers([spans(("a (b", 0.1))]) == [("a (b", 0.1)]  # better than nothing
    assert pool_answers([spans()]) == [] and choose_answers([], "list", 0.3) == []


@pytest.mark.parametrize(
    ("text", "clean"),
    [("TNF.", "TNF"), ("(TNF)", "TNF"), ("TNF (alpha)", "TNF (alpha)"), ("(a) and (b)", "(a) and (b)"), ("TNF (", "")],
)
def test_marks_around_an_answer(text, clean):
    assert clean_answer(text) == clean


def test_refusals(tiny_model, tmp_path):
    data = write_bioasq(tmp_path / "data")
    output = tmp_path / "out"
    message = error_of(tiny_model, data, output)
    assert "39 / 25 / 29 / 34 / 35 factoid questions" in message and "found 8 / 8 factoid questions" in message
    more = ["--nonstandard-split"]
    assert "name the training files" in error_of(tiny_model, data, output, *more, "--train-split", "test")
    assert "--list-share 0.0 is out" in error_of(tiny_model, data, output, *more, "--list-share", 0)
    (data / "BioASQ-train-factoid-7b.json").write_text("{")
    assert "BioASQ-train-factoid-7b.json line 1 is not JSON" in error_of(tiny_model, data, output, *more)
    write_json(data / "BioASQ-train-factoid-7b.json", golden(0))
    message = error_of(tiny_model, data, output, *more)
    assert "BioASQ-train-factoid-7b.json: no factoid question to train on" in message
    message = error_of(tiny_model, data, output, *more, "--train", tmp_path / "absent.json")
    assert "absent.json" in message
    yesno = write_bioasq(tmp_path / "yesno", "yesno")
    train = write_json(tmp_path / "t.json", squad_form(0, answers=True))
    message = error_of(tiny_model, yesno, output, *more, "--question-type", "yesno", "--train", train)
    assert "t.json is in SQuAD's form" in message


def test_dev_questions_without_marked_answers_are_not_said_to_be_trained_on(tiny_model, tmp_path):
    """Their answers are strings, not spans: they can be scored, and trained on by --train alone."""
    data = write_bioasq(tmp_path / "data")
    dev = write_json(tmp_path / "dev" / "7B9_golden.json", golden(32, mark=UNSEEN * 2))
    flags = [*QUICK, "--dev", dev, "--train-on-dev"]
    message = error_of(tiny_model, data, tmp_path / "out", *flags)
    assert "--train-on-dev" in message and "name those of --dev with --train too" in message
    named = ["--train", data / "BioASQ-train-factoid-7b.json", dev, "--epochs", 1]
    _, seed = run(tiny_model, data, tmp_path / "out", *named)
    assert seed["run"]["split"]["train"]["examples"] == 24  # 16 and 8


def test_a_test_set_of_other_sizes_is_only_scored_if_told(tmp_path):
    data = write_bioasq(tmp_path / "data")
    submission = write_json(tmp_path / "p.json", {"questions": []})
    options = options_of("none", data)
    with pytest.raises(ValueError, match="not a published split of BioASQ.*found 8 / 8 factoid questions"):
        score_file(bioasq.BENCHMARK, Namespace(**vars(options), predictions=submission, split="test"))
    assert score(data, submission)["missing"] == 16


def test_another_split_than_the_golden_files_is_not_scored_in_silence(tmp_path):
    data = write_bioasq(tmp_path / "data")
    submission = write_json(tmp_path / "p.json", {"questions": []})
    options = options_of("none", data, "--nonstandard-split")
    for split in ("dev", "train"):
        with pytest.raises(ValueError, match=f"^--split {split}: golden files are a test set"):
            score_file(bioasq.BENCHMARK, Namespace(**vars(options), predictions=submission, split=split))


def test_more_than_five_answers_are_said(tmp_path, capsys):
    data = write_bioasq(tmp_path / "data")
    answers = [["x"], ["y"], ["z"], ["v"], ["w"], [QUESTIONS[0][2]]]
    content = {"questions": [{"id": question_id(0), "type": "factoid", "exact_answer": answers}]}
    scores = score(data, write_json(tmp_path / "s.json", content))
    assert scores["lenient accuracy (pooled)"] == 0 and scores["missing"] == 15
    assert "1 questions have more than 5 answers" in capsys.readouterr().out


def test_shared_files_run_as_the_published_7b(tiny_model, tmp_path):
    """BioBERT's folder with bio_electra's training examples: inputs of the published test set."""
    data = unpack("qa/BioASQ_4b-7b.tar.xz", tmp_path / "one")
    electra = unpack("qa/bioasq_bio_electra.tar.xz", tmp_path / "two")
    options = options_of(tiny_model, data, "--train", electra / "dev.json")
    prepared = prepare(bioasq.BENCHMARK, options, config_from(options))
    assert prepared.variant.name == "BioASQ 7b factoid" and prepared.variant.standard
    assert prepared.variant.published[0][:2] == ("BioM-ELECTRA-large, SQuAD 2.0 first", 50.10)
    assert prepared.split["test"]["examples"] == 98 + 56 + 84 + 90 + 79
    # 129 by the bare substring; "anticoagulant", "foot" and "adipokine" are there only inside longer words
    assert prepared.split["test"]["questions with a golden answer in their contexts"] == 126
    assert prepared.split["train"]["questions"] == 177
    assert len({one["example"] for one in prepared.tasks[0].features["test"]}) == 407


def test_shared_golden_files_run_as_yes_and_no(tiny_model, tmp_path):
    """7b with the golden files of 4b to 6b to train on; BLURB's ready-made examples."""
    data = unpack("qa/BioASQ_4b-7b.tar.xz", tmp_path / "one")
    blurb = unpack("qa/bioasq_yesno_blurb_scifive.tar.xz", tmp_path / "two")
    train = [data / f"{edition}B{batch}_golden.json" for edition in (4, 5, 6) for batch in range(1, 6)]
    options = options_of(tiny_model, data, "--question-type", "yesno", "--train", *train)
    prepared = prepare(bioasq.BENCHMARK, options, config_from(options))
    assert prepared.variant.name == "BioASQ 7b yesno" and prepared.variant.standard
    assert (prepared.split["train"]["questions"], prepared.split["test"]["questions"]) == (393, 140)
    assert prepared.texts["test"][0][0].startswith("pmid:")
    options = options_of(tiny_model, blurb, "--question-type", "yesno")
    prepared = prepare(bioasq.BENCHMARK, options, config_from(options))
    assert prepared.variant.name == "BioASQ 7b yes/no (BLURB)"
    assert [len(prepared.tasks[0].features[split]) for split in ("train", "dev", "test")] == [670, 75, 140]


def test_published_factoid_scores_are_means_of_batches_as_ours_are():
    """Others, and those whose papers do not say what they are, may not stand in the table."""
    assert METRICS["factoid"].endswith("(batch mean)")
    rows = [row for variant in bioasq.BENCHMARK.variants if "factoid" in variant.name for row in variant.published]
    assert rows and all("mean of its five batches" in source for _, _, source in rows)
