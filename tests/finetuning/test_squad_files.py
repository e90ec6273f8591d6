"""SQuAD's form: what is read, repaired, refused; its measure against the rules written out again."""

import collections
import json
import lzma
import random
import re
import string

import pytest

from finetuning.squad_files import best_threshold, find_answer, normalise, read_squad, squad_scores
from tests.finetuning.archives import SHARED
from tests.finetuning.questions import QUESTIONS, squad, write_json


def item(answers, **more):
    """A file with one question on one context."""
    qas = [{"id": 7, "question": "Which drug?", "answers": answers, **more}]
    return {"data": [{"title": "t", "paragraphs": [{"context": "a cat, a hat; a cat", "qas": qas}]}]}


def test_reads_versions_and_numbers_as_ids(tmp_path):
    file = read_squad(write_json(tmp_path / "a.json", squad((3,), "2.0")))
    assert len(file.examples) == len(QUESTIONS) == 16
    assert file.has_unanswerable and file.examples[3].answers == ()
    assert file.examples[0].answers == ((0, "Naloxone"),)
    assert [example.document for example in file.examples[::4]] == [f"article {i}" for i in range(4)]
    assert (file.repaired, file.unusable) == (0, 0)
    (example,) = read_squad(write_json(tmp_path / "b.json", item([{"text": "hat", "answer_start": 9}]))).examples
    assert example.id == "7"
    without = item([])
    del without["data"][0]["paragraphs"][0]["qas"][0]["answers"]
    assert read_squad(write_json(tmp_path / "c.json", without)).examples[0].answers is None


@pytest.mark.parametrize(
    ("offset", "text", "expected"),
    [
        (9, "hat", (9, "hat")),
        (10, "hat", (9, "hat")),  # one off
        (9, " hat", (9, "hat")),  # a blank too many, as in COVID-QA
        (0, "hat", (9, "hat")),  # far off, but there is only one
        (12, "cat", (16, "cat")),  # the nearer of two
        (9, "cat", (-1, "cat")),  # two, neither near
        (3, "dog", (-1, "dog")),
        (-4, "hat", (9, "hat")),
        (400, "hat", (9, "hat")),
    ],
)
def test_wrong_offsets(offset, text, expected):
    assert find_answer("a cat, a hat; a cat", offset, text) == expected


def test_repairs_are_counted(tmp_path):
    answers = [
        {"text": "hat", "answer_start": 9},
        {"text": " hat", "answer_start": 9},
        {"text": "x", "answer_start": 9},
    ]
    file = read_squad(write_json(tmp_path / "a.json", item(answers)))
    assert file.examples[0].answers == ((9, "hat"), (9, "hat"), (-1, "x"))
    assert (file.repaired, file.unusable) == (1, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 1 is not JSON"),
        ('{\n"data": [}', "line 2 is not JSON"),
        ("[]", "holds no JSON object"),
        ("{}", "has no list 'data'"),
        ('{"data": []}', "has no question in it"),
        ('{"data": [{}]}', "article 1, has no list 'paragraphs'"),
        ('{"data": [{"paragraphs": [{"qas": []}]}]}', "article 1, paragraph 1 has no context or no qas"),
        ('{"data": [{"paragraphs": [{"context": "x", "qas": [{}]}]}]}', "has a question without id"),
        ('{"data": [{"paragraphs": [{"context": "x", "qas": [{"id": "q9"}]}]}]}', "question q9, has no text"),
        (json.dumps(item([{"text": "hat"}])), "question 7, has an answer without text or answer_start"),
        (json.dumps(item([{"text": " ", "answer_start": 1}])), "question 7, has an answer without text"),
        (json.dumps(item([{"text": "hat", "answer_start": 9}], is_impossible="false")), "7, has is_impossible 'false'"),
        (
            json.dumps(item([{"text": "hat", "answer_start": 9}], is_impossible=True)),
            "is_impossible, yet has an answer",
        ),
        (json.dumps(item([], is_impossible=False)), "question 7, has no answer, yet is not marked is_impossible"),
    ],
)
def test_broken_files_are_one_sentence_with_the_place(tmp_path, content, message):
    path = tmp_path / "broken.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="broken.json") as caught:
        read_squad(path)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_other_encodings_and_repeated_ids(tmp_path):
    path = tmp_path / "latin.json"
    path.write_bytes(b'{"data":\n"\xe9"}')
    with pytest.raises(ValueError, match="latin.json line 2 is not UTF-8"):
        read_squad(path)
    content = squad()
    content["data"][1]["paragraphs"][0]["qas"][0]["id"] = "q0"
    with pytest.raises(ValueError, match="has question q0 more than once"):
        read_squad(write_json(tmp_path / "twice.json", content))


# The rules of evaluate-v1.1.py and evaluate-v2.0.py, written out again.


def official_normalise(text):
    text = "".join(c for c in text.lower() if c not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def official_f1(gold, predicted, empty_agree):
    gold, predicted = official_normalise(gold).split(), official_normalise(predicted).split()
    if empty_agree and (len(gold) == 0 or len(predicted) == 0):
        return int(gold == predicted)
    same = sum((collections.Counter(gold) & collections.Counter(predicted)).values())
    if same == 0:
        return 0
    precision, recall = same / len(predicted), same / len(gold)
    return 2 * precision * recall / (precision + recall)


def official(examples, predictions, version_2):
    exact, f1 = {}, {}
    for example in examples:
        golds = [text for _, text in example.answers]
        if version_2:
            golds = [gold for gold in golds if official_normalise(gold)] or [""]
        given = predictions[example.id]
        exact[example.id] = max(int(official_normalise(gold) == official_normalise(given)) for gold in golds)
        f1[example.id] = max(official_f1(gold, given, version_2) for gold in golds)
    return exact, f1


def official_best(examples, predictions, f1, no_answer):
    has_answer = {example.id: bool(example.answers) for example in examples}
    current = best = sum(not has for has in has_answer.values())
    threshold = 0.0
    for name in sorted(no_answer, key=lambda key: no_answer[key]):
        current += f1[name] if has_answer[name] else (-1 if predictions[name] else 0)
        if current > best:
            best, threshold = current, no_answer[name]
    return best / len(f1), threshold


WORDS = ["the", "a", "An", "drug", "Drug,", "(liver)", "failure", "-", "high", "blood", "  ", "of", "TNF-α"]


def random_text(chance):
    return " ".join(chance.choice(WORDS) for _ in range(chance.randint(1, 4)))


@pytest.mark.parametrize("version_2", [False, True])
def test_scores_are_the_official_ones_on_random_predictions(tmp_path, version_2):
    chance = random.Random(3)
    for _ in range(40):
        qas = []
        for i in range(12):
            answers = [{"text": f"x {random_text(chance)}"[2 * (chance.random() < 0.9) :], "answer_start": 0}]
            answers = [one for one in answers * chance.randint(1, 3) if one["text"].strip()]
            impossible = version_2 and (i == 0 or chance.random() < 0.3)
            more = {"is_impossible": True, "answers": []} if impossible else {"answers": answers}
            qas.append({"id": f"q{i}", "question": "?", **more})
        qas = [qa for qa in qas if qa["answers"] or qa.get("is_impossible")]
        content = {"data": [{"title": "t", "paragraphs": [{"context": "no matter", "qas": qas}]}]}
        examples = read_squad(write_json(tmp_path / "r.json", content)).examples
        given = {example.id: random_text(chance) for example in examples}
        for example in examples:
            if chance.random() < 0.4:
                given[example.id] = example.answers[-1][1].lower() if example.answers else ""
        exact, f1 = official(examples, given, version_2)
        ours = squad_scores(examples, given)
        assert ours["exact match"] == pytest.approx(sum(exact.values()) / len(exact))
        assert ours["F1"] == pytest.approx(sum(f1.values()) / len(f1))
        if version_2:
            no = [example.id for example in examples if not example.answers]
            assert ours["unanswerable"]["F1"] == pytest.approx(sum(f1[name] for name in no) / len(no))
            scores = {example.id: chance.random() for example in examples}
            best, threshold = official_best(examples, given, f1, scores)
            assert best_threshold(examples, given, scores) == {
                "best F1": pytest.approx(best),
                "best F1 threshold": threshold,
            }


def test_scores_by_hand(tmp_path):
    examples = read_squad(write_json(tmp_path / "a.json", squad((3,), "2.0"))).examples
    right = {f"q{i}": answer for i, (_, _, answer) in enumerate(QUESTIONS)} | {"q3": ""}
    assert squad_scores(examples, right)["F1"] == 1.0
    scores = squad_scores(examples, right | {"q0": "the naloxone!", "q1": "blood", "q3": "x"})
    assert scores["exact match"] == 14 / 16  # articles, case and marks do not count
    assert scores["F1"] == pytest.approx((14 + 0.5) / 16)  # "blood" of "high blood pressure": 2 * 1 / (1 + 3)
    assert scores["unanswerable"] == {"exact match": 0.0, "F1": 0.0, "questions": 1}
    del right["q5"]
    scores = squad_scores(examples, right)
    assert (scores["missing"], scores["F1"], scores["questions"]) == (1, 15 / 16, 16)
    assert normalise("The  TNF-α, a cytokine.") == "tnfα cytokine"


def unpacked(name, tmp_path):
    """A shared file, unpacked; skips where there is none."""
    archive = SHARED / "qa" / name
    if not archive.is_file():
        pytest.skip(f"{archive} is not there")
    path = tmp_path / name.removesuffix(".xz")
    path.write_bytes(lzma.open(archive).read())
    return path


def test_xquad_as_distributed(tmp_path):
    file = read_squad(unpacked("xquad.en.json.xz", tmp_path))
    assert len(file.examples) == 1190
    assert len({example.context for example in file.examples}) == 240
    assert len({example.document for example in file.examples}) == 48
    assert (file.repaired, file.unusable, file.has_unanswerable) == (0, 0, False)
    assert all(example.context.startswith(text, at) for example in file.examples for at, text in example.answers)


def test_covid_qa_as_distributed(tmp_path):
    """Whole articles, numbers as ids; 234 of 1,380 offsets are wrong, each is found."""
    file = read_squad(unpacked("200423_covidQA.json.xz", tmp_path))
    assert len(file.examples) == 1380
    assert len({example.document for example in file.examples}) == 98
    assert max(len(example.context.split()) for example in file.examples) == 9528
    assert (file.repaired, file.unusable) == (234, 0)
    assert all(example.context.startswith(text, at) for example in file.examples for at, text in example.answers)
