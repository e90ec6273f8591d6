"""BioASQ's two forms: what is read, matched, left out and refused; every shared file as it is distributed."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from finetuning import bioasq
from finetuning.bioasq_files import (
    context_examples,
    find_words,
    question_id,
    read_file,
    read_submission,
    same_questions,
    snippet_answers,
    training_examples,
    write_submission,
)
from finetuning.bioasq_sets import (
    batch_name,
    edition_of,
    find_training_files,
    read_question_set,
    read_training_set,
    role_of,
    set_examples,
)
from tests.finetuning.archives import unpack
from tests.finetuning.questions import CONTEXTS, QUESTIONS, golden, squad_form, write_bioasq, write_json
from tests.finetuning.questions import question_id as hexadecimal


def broken(path, change, kind="factoid"):
    """A golden file whose first question `change` has changed."""
    content = golden(0, kind)
    change(content["questions"][0])
    return write_json(path, content)


def test_own_form(tmp_path):
    file = read_file(write_json(tmp_path / "a.json", golden(0)))
    assert Counter(question.kind for question in file.questions) == {"factoid": 8, "summary": 1}
    first = file.questions[0]
    assert first.answers == (("Naloxone", "synonym of Naloxone"),)
    assert first.snippets == (("pmid:100", CONTEXTS[0]),)
    assert file.questions[-1].answers is None
    assert read_file(write_json(tmp_path / "b.json", golden(0, "yesno"))).questions[0].answers == (("yes",),)


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("factoid", [["a", "b"]], (("a", "b"),)),
        ("factoid", ["a", "b"], (("a", "b"),)),  # early files
        ("factoid", "a", (("a",),)),
        ("factoid", [["a", " "], []], (("a",),)),
        ("factoid", [[" "]], ()),  # as in 4B5_golden.json
        ("list", [["a", "b"], ["c"]], (("a", "b"), ("c",))),
        ("list", ["a", "c"], (("a",), ("c",))),
        ("list", [["a"], "c"], (("a",), ("c",))),
        ("yesno", "Yes", (("yes",),)),
        ("yesno", ["no"], (("no",),)),
        ("yesno", "No.", (("no",),)),
    ],
)
def test_forms_of_exact_answers(tmp_path, kind, given, expected):
    path = broken(tmp_path / "a.json", lambda item: item.update(exact_answer=given), kind)
    assert read_file(path).questions[0].answers == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda item: item.pop("id"), "question 1 of the file, has no id"),
        (lambda item: item.update(type="essay"), f"question {hexadecimal(0)}, has type 'essay'"),
        (lambda item: item.update(body=" "), f"question {hexadecimal(0)}, has no body"),
        (lambda item: item.update(exact_answer=[[3]]), f"question {hexadecimal(0)}, has the exact answer '[[3]]'"),
        (lambda item: item.update(exact_answer=3), "expected a list"),
        (lambda item: item.update(type="yesno"), "expected yes or no"),
        (lambda item: item.update(snippets=[{}]), f"question {hexadecimal(0)}, has a snippet without text"),
        (lambda item: item.update(snippets=5), f"question {hexadecimal(0)}, has the snippets '5': expected a list"),
        (lambda item: item.update(id=hexadecimal(1)), f"has question {hexadecimal(1)} more than once"),
    ],
)
def test_broken_files_are_one_sentence_with_file_and_question(tmp_path, change, message):
    with pytest.raises(ValueError, match="broken.json") as caught:
        read_file(broken(tmp_path / "broken.json", change))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_other_content_is_refused(tmp_path):
    for content, message in [
        ('{"x": 1}', "neither 'questions'"),
        ('{"questions": []}', "no question"),
        ("{", "line 1"),
    ]:
        (tmp_path / "x.json").write_text(content)
        with pytest.raises(ValueError, match=f"x.json.*{message}"):
            read_file(tmp_path / "x.json")


def test_ids_of_parts():
    assert question_id("5c5f56501a4c55d80b00002a_000") == "5c5f56501a4c55d80b00002a"
    assert question_id("58edf567eda5a57672000011:15") == "58edf567eda5a57672000011"
    assert question_id("own_001") == "own_001"


def test_answers_are_words_of_the_snippet():
    assert find_words("insulin in the blood", "In") == (8, "in")
    assert find_words("insulin", "in") is None
    assert find_words("(TNF-α)", "tnf-α") == (1, "TNF-α")
    groups = (("TNF", "TNF alpha"), ("IL-6",))
    text = "IL-6 and tnf Alpha and TNF"
    assert snippet_answers(groups, text, "factoid") == [(9, "tnf Alpha")]  # the longest synonym of the first
    assert snippet_answers(groups, text, "list") == [(9, "tnf Alpha"), (0, "IL-6")]


def test_training_examples_from_snippets(tmp_path):
    content = golden(0)
    content["questions"][0]["snippets"].append({"text": "nothing here"})
    content["questions"][1]["snippets"] = [{"text": "nothing here"}]
    content["questions"][2]["snippets"] *= 2  # the same text twice is one snippet
    examples, without = training_examples(read_file(write_json(tmp_path / "a.json", content)).questions, "factoid")
    assert without == 1
    assert [example.id for example in examples] == [hexadecimal(i) for i in range(8) if i != 1]
    for example in examples:
        ((start, text),) = example.answers
        assert example.context.startswith(text, start)
    assert training_examples(read_file(tmp_path / "a.json").questions, "list") == ([], 0)


def test_contexts_are_matched_by_question(tmp_path):
    questions = read_file(write_json(tmp_path / "g.json", golden(0))).questions
    asked = [question for question in questions if question.kind == "factoid"]
    known = {question.id for question in questions}
    content = squad_form(0, answers=False)
    content["data"][0]["paragraphs"] = content["data"][0]["paragraphs"][:3]
    extra = {"id": f"{hexadecimal(0)}_009", "question": "?"}
    content["data"][0]["paragraphs"].append({"context": "another context", "qas": [extra]})
    contexts = read_file(write_json(tmp_path / "c.json", content))
    examples = context_examples(asked, [contexts], known)
    assert Counter(example.id for example in examples)[hexadecimal(0)] == 2
    assert len(examples) == 9  # 3 + 1 from the file, the other 5 questions have their snippets
    assert all(example.answers is None for example in examples)
    content["data"][0]["paragraphs"][1]["qas"][0]["id"] = f"{hexadecimal(77)}_000"
    strange = read_file(write_json(tmp_path / "strange.json", content))
    with pytest.raises(ValueError, match=f"strange.json, question {hexadecimal(77)}_000, is not in the golden files"):
        context_examples(asked, [strange], known)


def test_test_questions_are_left_out_by_id_and_by_text(tmp_path, capsys):
    test = read_file(write_json(tmp_path / "g.json", golden(0))).questions
    is_test = same_questions(test)
    assert is_test(f"{hexadecimal(3)}_001", "?") and is_test("other", f" {QUESTIONS[3][1].upper()} ")
    assert not is_test(hexadecimal(9), "something else")
    content = golden(4)
    for i, item in enumerate(content["questions"]):
        item["body"] = QUESTIONS[0][1] if i == 7 else f"{item['body']} {i}"
    training = read_training_set([write_json(tmp_path / "t.json", content)], "factoid", test)
    # questions 4 to 7 by id, 11 by its text
    assert sorted({example.id for example in training.examples}) == [hexadecimal(i) for i in (8, 9, 10)]
    assert training.left_out["questions of the test or dev set"] == 5
    assert "train: left out 5 questions of the test or dev set" in capsys.readouterr().out
    with pytest.raises(ValueError, match="no factoid question to train on"):
        read_training_set([tmp_path / "g.json"], "factoid", test)


def test_repeated_examples_and_test_files_as_training_files(tmp_path, capsys):
    path = write_json(tmp_path / "t.json", squad_form(0, answers=True))
    other = write_json(tmp_path / "u.json", squad_form(4, answers=True))
    training = read_training_set([path, other], "factoid", [])
    assert training.left_out["repeated examples"] == 4 and len(training.examples) == 12
    assert "left out 4 repeated examples" in capsys.readouterr().out
    bare = write_json(tmp_path / "bare.json", squad_form(0, answers=False))
    with pytest.raises(ValueError, match=f"bare.json, question {hexadecimal(0)}_000, has no answer"):
        read_training_set([bare], "factoid", [])


@pytest.mark.parametrize(
    ("name", "edition", "batch", "role"),
    [
        ("7B1_golden.json", "7b", "7b-1", "golden"),
        ("13B2_golden.json", "13b", "13b-2", "golden"),
        ("BioASQ-test-factoid-7b-3.json", "7b", None, "contexts"),
        ("BioASQ-train-factoid-7b.json", "7b", None, "train"),
        ("BioASQ-train-list-7b-snippet-annotated.json", "7b", None, ""),
        ("BioASQ-training7b.json", "7b", None, "train"),
        ("BioASQ-task7bPhaseB-testset1.json", "7b", None, "contexts"),
        ("._7B1_golden.json", "7b", None, ""),
        ("dev.json", "", None, ""),
    ],
)
def test_names_of_files(name, edition, batch, role):
    path = Path("folder") / name
    assert edition_of(path) == edition
    assert role_of(path, "factoid") == role
    if batch:
        assert batch_name(path) == batch


def test_question_sets_from_folders_and_files(tmp_path):
    data = write_bioasq(tmp_path / "data")
    write_json(data / "6B1_golden.json", golden(40))
    test = read_question_set([data], None, "factoid")
    assert (test.edition, list(test.batches), len(test.contexts)) == ("7b", ["7b-1", "7b-2"], 2)
    assert len(test.questions) == 16 and len(test.every_kind) == 18
    assert list(read_question_set([data], "6b", "factoid").batches) == ["6b-1"]
    one = read_question_set([data / "7B2_golden.json"], None, "factoid")
    assert len(one.questions) == 8 and len(set_examples(one, "test")) == 8
    with pytest.raises(ValueError, match="no golden file of --edition 9b, only of 6b, 7b"):
        read_question_set([data], "9b", "factoid")
    with pytest.raises(ValueError, match="BioASQ-test-factoid-7b-1.json has no golden answers"):
        read_question_set([data / "BioASQ-test-factoid-7b-1.json"], None, "factoid")
    with pytest.raises(ValueError, match="7B1_golden.json and the other golden files have no yesno question"):
        read_question_set([data], None, "yesno")
    with pytest.raises(ValueError, match="none is not there"):
        read_question_set([tmp_path / "none"], None, "factoid")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty has no golden file"):
        read_question_set([tmp_path / "empty"], None, "factoid")
    broken(data / "7B1_golden.json", lambda item: item.pop("exact_answer"))
    with pytest.raises(ValueError, match=f"7B1_golden.json, question {hexadecimal(0)}, has no exact_answer"):
        read_question_set([data], None, "factoid")


def test_training_files_are_found_or_named(tmp_path):
    data = write_bioasq(tmp_path / "data")
    assert find_training_files(None, data, "7b", "factoid") == [data / "BioASQ-train-factoid-7b.json"]
    with pytest.raises(ValueError, match="has no training files for list questions of 7b: .*BioASQ-train-list-7b.json"):
        find_training_files(None, data, "7b", "list")
    write_json(data / "BioASQ-training7b.json", golden(16))
    with pytest.raises(ValueError, match="2 training files .*BioASQ-train-factoid-7b.json, BioASQ-training7b.json"):
        find_training_files(None, data, "7b", "factoid")
    assert find_training_files([Path("x.json")], data, "7b", "factoid") == [Path("x.json")]


def test_questions_without_context_are_said(tmp_path, capsys):
    path = broken(tmp_path / "7B1_golden.json", lambda item: item.update(snippets=[]))
    test = read_question_set([path], None, "factoid")
    assert len(set_examples(test, "test")) == 7
    assert "test: 1 questions have no context: they count as wrong" in capsys.readouterr().out


def test_submissions_written_and_read(tmp_path):
    known = {question.id: question for question in read_file(write_json(tmp_path / "g.json", golden(0))).questions}
    answers = {hexadecimal(0): ["Naloxone", "x"], hexadecimal(1): ["y"]}
    write_submission(answers, "factoid", tmp_path / "s.json")
    content = json.loads((tmp_path / "s.json").read_text())
    assert content["questions"][0] == {
        "id": hexadecimal(0),
        "type": "factoid",
        "exact_answer": [["Naloxone"], ["x"]],
        "ideal_answer": "",
    }
    assert read_submission(tmp_path / "s.json", known) == {
        hexadecimal(0): (("Naloxone",), ("x",)),
        hexadecimal(1): (("y",),),
    }
    # of synonyms only the first counts; an empty answer keeps its rank
    content["questions"][0]["exact_answer"] = [[], ["x", "Naloxone"], "z"]
    assert read_submission(write_json(tmp_path / "t.json", content), known)[hexadecimal(0)] == (("",), ("x",), ("z",))
    content["questions"][1]["id"] = hexadecimal(55)
    with pytest.raises(ValueError, match=f"u.json, question 2 of the file .{hexadecimal(55)}., is not in the golden"):
        read_submission(write_json(tmp_path / "u.json", content), known)
    content["questions"][1]["id"] = {}
    with pytest.raises(ValueError, match="u.json, question 2 of the file .{}., is not in the golden"):
        read_submission(write_json(tmp_path / "u.json", content), known)
    content["questions"][1]["id"] = hexadecimal(0)
    with pytest.raises(ValueError, match=f"u.json answers question {hexadecimal(0)} twice"):
        read_submission(write_json(tmp_path / "u.json", content), known)
    with pytest.raises(ValueError, match="v.json has no list 'questions'"):
        read_submission(write_json(tmp_path / "v.json", {}), known)
    yes = {
        question.id: question for question in read_file(write_json(tmp_path / "y.json", golden(0, "yesno"))).questions
    }
    write_submission({hexadecimal(0): "yes"}, "yesno", tmp_path / "w.json")
    assert read_submission(tmp_path / "w.json", yes) == {hexadecimal(0): (("yes",),)}


def test_bioasq_as_distributed(tmp_path, capsys):
    """All 20 batches: 1,997 questions, the published numbers of each kind, contexts for every factoid question."""
    folder = unpack("qa/BioASQ_4b-7b.tar.xz", tmp_path)
    variants = {variant.name: variant for variant in bioasq.BENCHMARK.variants}
    total = 0
    for edition in ("4b", "5b", "6b", "7b"):
        for kind in ("factoid", "list", "yesno"):
            test = read_question_set([folder], edition, kind)
            assert test.edition == edition and len(test.batches) == 5
            sizes = {f"{kind} questions": tuple(len(questions) for questions in test.batches.values())}
            assert variants[f"BioASQ {edition} {kind}"].sizes == sizes
            if kind != "yesno":
                assert len(test.contexts) == (5 if kind == "factoid" else 0)
                assert {example.id for example in set_examples(test, "test")} == {one.id for one in test.questions}
        total += len(test.every_kind)
        factoid = read_question_set([folder], edition, "factoid")
        assert len(factoid.questions) == {"4b": 161, "5b": 150, "6b": 161, "7b": 162}[edition]
        # factoid contexts are BioBERT's, one for each entry of its files
        entries = [len(file.examples) for file in factoid.contexts]
        assert len(set_examples(factoid, "test")) == sum(entries)
        if edition == "7b":
            assert entries == [98, 56, 84, 90, 79]
    assert total == 1997
    assert "4B5_golden.json, question 571e4523bb137a4b0c00000c: the exact answer is blank" in capsys.readouterr().out


def test_bio_electra_examples_without_the_test_questions(tmp_path, capsys):
    data = unpack("qa/BioASQ_4b-7b.tar.xz", tmp_path / "one")
    path = unpack("qa/bioasq_bio_electra.tar.xz", tmp_path / "two") / "dev.json"
    file = read_file(path)
    assert len(file.examples) == 1809 and len({question_id(example.id) for example in file.examples}) == 214
    assert (file.repaired, file.unusable) == (0, 0)
    test = read_question_set([data], "7b", "factoid")
    training = read_training_set([path], "factoid", test.every_kind)
    assert training.left_out["questions of the test or dev set"] == 36
    assert "36 questions of the test or dev set" in capsys.readouterr().out
    ids = {question_id(example.id) for example in training.examples}
    assert len(ids) == 214 - 36 and not ids & {question.id for question in test.every_kind}


def test_earlier_editions_as_training_files(tmp_path):
    """Golden files of 4b to 6b give examples for 7b: answers stand where the offsets say, as words."""
    folder = unpack("qa/BioASQ_4b-7b.tar.xz", tmp_path)
    paths = [folder / f"{edition}B{batch}_golden.json" for edition in (4, 5, 6) for batch in range(1, 6)]
    test = read_question_set([folder], "7b", "factoid")
    for kind, without in (("factoid", 47 + 35 + 42), ("list", 2 + 3 + 4)):
        training = read_training_set(paths, kind, test.every_kind)
        assert training.left_out[f"{kind} questions without an answer in a snippet"] == without
        for example in random.Random(0).sample(training.examples, 100):
            ((start, text),) = example.answers
            assert example.context.startswith(text, start)
            assert not example.context[max(0, start - 1) : start].isalnum()
