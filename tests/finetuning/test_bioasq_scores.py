"""BioASQ's measures against the rules of its own program, written out again from EvaluatorTask1b (-e 5)."""

import random

import pytest

from finetuning.bioasq_files import Question
from finetuning.bioasq_scores import batch_scores, set_scores

WORDS = ["TNF", "tnf", "IL-6", "il6", "p53", "P53", "yes", "liver", "the liver", "", "α"]


class ExactAnswer:
    """As in the program: answers, each a list of synonyms, in lower case."""

    def __init__(self, lists):
        self.lists = [[name.lower() for name in names] for names in lists]

    def contains(self, names, remove):
        for i, answer in enumerate(self.lists):
            if any(ours == theirs for ours in answer for theirs in names):
                if remove:
                    del self.lists[i]
                return True
        return False


def official_factoid(golden, submitted):
    golden, submitted = ExactAnswer(golden), ExactAnswer([[names[0]] for names in submitted])
    strict = float(bool(submitted.lists) and golden.contains(submitted.lists[0], False))
    lenient = float(any(golden.contains(names, False) for names in submitted.lists))
    mrr = next((1 / (i + 1) for i, names in enumerate(submitted.lists) if golden.contains(names, False)), 0.0)
    return {"strict accuracy": strict, "lenient accuracy": lenient, "MRR": mrr}


def official_list(golden, submitted):
    golden, submitted = ExactAnswer(golden), ExactAnswer([[names[0]] for names in submitted])
    measures = {"precision": 0.0, "recall": 0.0, "F1": 0.0}
    if not submitted.lists:
        return measures
    tp = fp = fn = 0.0
    for names in list(submitted.lists):
        if golden.contains(names, True):
            tp += 1
        else:
            fp += 1
    for names in list(golden.lists):
        if not submitted.contains(names, True):
            fn += 1
    measures["precision"] = tp / (tp + fp)
    if fn + tp:
        measures["recall"] = tp / (tp + fn)
    if measures["precision"] and measures["recall"]:
        total = measures["precision"] + measures["recall"]
        measures["F1"] = 2 * measures["precision"] * measures["recall"] / total
    return measures


def official_yesno(pairs):
    """Confusion counts for each label, as ConfusionMatrix has them; a word that is neither is "none"."""

    def parse(text):
        text = text.lower()
        return "yes" if "yes" in text else "no" if "no" in text else "none"

    right = [golden == parse(given) for golden, given in pairs]
    f1 = {}
    for label in ("yes", "no"):
        tp = sum(ok for ok, (golden, _) in zip(right, pairs, strict=True) if golden == label)
        fp = sum(not ok for ok, (golden, _) in zip(right, pairs, strict=True) if golden == label)
        fn = sum(not ok for ok, (golden, _) in zip(right, pairs, strict=True) if golden != label)
        f1[label] = 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 0.0
    accuracy = sum(right) / len(right)
    return {"accuracy": accuracy, "macro-F1": (f1["yes"] + f1["no"]) / 2, "F1 yes": f1["yes"], "F1 no": f1["no"]}


def question(name, kind, answers):
    return Question(name, kind, "?", tuple(map(tuple, answers)), ())


def random_groups(chance, most):
    return [[chance.choice(WORDS) for _ in range(chance.randint(1, 3))] for _ in range(chance.randint(1, most))]


@pytest.mark.parametrize(("kind", "official"), [("factoid", official_factoid), ("list", official_list)])
def test_random_answers_score_as_in_the_program(kind, official):
    chance = random.Random(5)
    for _ in range(200):
        golden = {f"q{i}": random_groups(chance, 4) for i in range(chance.randint(1, 6))}
        submitted = {
            name: [names[:1] for names in random_groups(chance, 5)] if chance.random() < 0.9 else [] for name in golden
        }
        questions = [question(name, kind, answers) for name, answers in golden.items()]
        given = {name: tuple(map(tuple, answers)) for name, answers in submitted.items()}
        rows = [official(golden[name], submitted[name]) for name in golden]
        expected = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
        assert set_scores(questions, given, kind) == pytest.approx(expected)


def test_random_yes_and_no_score_as_in_the_program():
    chance = random.Random(6)
    words = ["yes", "no", "Yes.", "NO", "maybe", "unknown", "none"]
    for _ in range(200):
        pairs = [(chance.choice(["yes", "yes", "no"]), chance.choice(words)) for _ in range(chance.randint(1, 9))]
        questions = [question(f"q{i}", "yesno", [[golden]]) for i, (golden, _) in enumerate(pairs)]
        given = {f"q{i}": ((answer,),) for i, (_, answer) in enumerate(pairs)}
        assert set_scores(questions, given, "yesno") == pytest.approx(official_yesno(pairs))


def test_factoid_by_hand():
    questions = [question("a", "factoid", [["TNF", "tumour necrosis factor"], ["cachectin"]])]
    for answers, expected in [
        (["tnf"], (1, 1, 1)),
        (["x", "Cachectin"], (0, 1, 1 / 2)),
        (["x", "y", "z", "v", "TNF"], (0, 1, 1 / 5)),
        (["x", "y", "z", "v", "w", "TNF"], (0, 0, 0)),  # a sixth answer is none
        (["TNF "], (0, 0, 0)),  # character by character
        ([], (0, 0, 0)),
    ]:
        scores = set_scores(questions, {"a": tuple((text,) for text in answers)}, "factoid")
        assert tuple(scores.values()) == pytest.approx(expected)


def test_list_by_hand():
    questions = [question("a", "list", [["x", "ex"], ["y"], ["z"]])]
    scores = set_scores(questions, {"a": (("EX",), ("x",), ("y",), ("w",))}, "list")
    # x and ex are one golden answer: the second of them is wrong
    assert scores == pytest.approx({"precision": 2 / 4, "recall": 2 / 3, "F1": 2 * (1 / 2 * 2 / 3) / (1 / 2 + 2 / 3)})
    questions = [question("a", "list", [["x"], ["x", "y"]])]
    # the program does not miss a golden answer that shares a synonym with an answer given
    assert set_scores(questions, {"a": (("x",),)}, "list")["recall"] == 1.0


def test_batches_their_mean_and_pooled():
    batches = {
        "7b-1": [question("a", "factoid", [["x"]])],
        "7b-2": [question(name, "factoid", [["x"]]) for name in "bcd"],
    }
    scores = batch_scores(batches, {"a": (("x",),), "b": (("y",), ("x",)), "c": ()}, "factoid")
    assert scores["batches"]["7b-1"] == {"strict accuracy": 1.0, "lenient accuracy": 1.0, "MRR": 1.0, "questions": 1}
    assert scores["batches"]["7b-2"]["MRR"] == pytest.approx(1 / 6)
    assert scores["strict accuracy (batch mean)"] == 0.5
    assert scores["strict accuracy (pooled)"] == 0.25
    assert scores["MRR (batch mean)"] == pytest.approx((1 + 1 / 6) / 2)
    assert scores["MRR (pooled)"] == pytest.approx(1.5 / 4)
    assert (scores["questions"], scores["missing"]) == (4, 2)  # an empty answer and none at all


def test_the_published_means_of_biom_electra_large():
    """Five batches of salrowili/BioM-Transformers: 50.10 / 61.18 as their mean, 50.00 / 61.11 pooled."""
    sizes = (39, 25, 29, 34, 35)
    strict = (51.28, 56.00, 41.38, 64.71, 37.14)
    lenient = (56.41, 64.00, 51.72, 82.35, 51.43)
    batches, given = {}, {}
    for i, (size, first, any_) in enumerate(zip(sizes, strict, lenient, strict=True)):
        batches[f"7b-{i}"] = [question(f"{i}.{j}", "factoid", [["x"]]) for j in range(size)]
        right, later = round(size * first / 100), round(size * any_ / 100)
        for j in range(size):
            given[f"{i}.{j}"] = (("x",),) if j < right else (("y",), ("x",)) if j < later else (("y",),)
    scores = batch_scores(batches, given, "factoid")
    assert round(100 * scores["strict accuracy (batch mean)"], 2) == 50.10
    assert round(100 * scores["lenient accuracy (batch mean)"], 2) == 61.18
    assert round(100 * scores["strict accuracy (pooled)"], 2) == 50.00
    assert round(100 * scores["lenient accuracy (pooled)"], 2) == 61.11
