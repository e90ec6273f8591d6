"""BioASQ's measures of exact answers, as its own program computes them (-phaseB -e 5). Nothing to run here.

Used by finetuning.bioasq. The program is github.com/BioASQ/Evaluation-Measures, evaluation.EvaluatorTask1b.

- factoid: strict accuracy (the first answer is right), lenient accuracy (one of five is), mean reciprocal rank of
  the first right one. An answer is right if it is a golden synonym, case aside, character by character.
- list: precision, recall and F1 of each question, then their means. A golden answer counts once.
- yesno: accuracy, and the mean of the F1 of yes and of no.

Scores are given for each batch, as their mean over the batches, and pooled over all questions of all batches:
papers report either. A question without an answer counts as wrong here; the program leaves it out.
"""

from statistics import fmean
from typing import Any

from finetuning.bioasq_files import Groups, Question

MOST = 5  # answers to a factoid question that BioASQ takes
METRICS = {
    "factoid": "strict accuracy (batch mean)",
    "list": "F1 (batch mean)",
    "yesno": "accuracy (pooled)",
}


def factoid_measures(golden: Groups, submitted: Groups) -> dict[str, float]:
    """Of one question."""
    right = {name.lower() for group in golden for name in group}
    ranks = [i for i, group in enumerate(submitted[:MOST], start=1) if group[0].lower() in right]
    first = ranks[0] if ranks else 0
    return {
        "strict accuracy": float(first == 1),
        "lenient accuracy": float(first > 0),
        "MRR": 1 / first if first else 0.0,
    }


def list_measures(golden: Groups, submitted: Groups) -> dict[str, float]:
    """Of one question. A second golden answer with a synonym of a found one is not missed, as in the program."""
    open_groups = [{name.lower() for name in group} for group in golden]
    names = [group[0].lower() for group in submitted]
    right = 0
    for name in names:
        match = next((group for group in open_groups if name in group), None)
        if match is not None:
            open_groups.remove(match)
            right += 1
    missed, left = 0, list(names)
    for group in open_groups:
        again = next((name for name in left if name in group), None)
        if again is None:
            missed += 1
        else:
            left.remove(again)
    precision = right / len(names) if names else 0.0
    recall = right / (right + missed) if right else 0.0
    f1 = 2 * precision * recall / (precision + recall) if right else 0.0
    return {"precision": precision, "recall": recall, "F1": f1}


def yesno_scores(questions: list[Question], submitted: dict[str, Groups]) -> dict[str, float]:
    """Of a set of questions; an answer counts by the word in it, "yes" before "no"; another is wrong for both."""
    right = {"yes": 0, "no": 0}
    wrong = {"yes": 0, "no": 0}
    for question in questions:
        given = submitted[question.id][0][0].lower() if submitted.get(question.id) else ""
        answer = next((word for word in ("yes", "no") if word in given), "none")
        gold = question.answers[0][0]
        (right if answer == gold else wrong)[gold] += 1
    # With two labels a wrong answer is one missed for its own label and one too many for the other.
    errors = sum(wrong.values())
    f1 = {word: 2 * right[word] / (2 * right[word] + errors) if right[word] else 0.0 for word in right}
    accuracy = sum(right.values()) / len(questions) if questions else 0.0
    return {"accuracy": accuracy, "macro-F1": fmean(f1.values()), "F1 yes": f1["yes"], "F1 no": f1["no"]}


def set_scores(questions: list[Question], submitted: dict[str, Groups], kind: str) -> dict[str, float]:
    """The measures of `kind` over a set of questions, all of that kind and with golden answers."""
    if kind == "yesno":
        return yesno_scores(questions, submitted)
    measures = factoid_measures if kind == "factoid" else list_measures
    rows = [measures(question.answers, submitted.get(question.id, ())) for question in questions]
    return {name: fmean(row[name] for row in rows) for name in rows[0]}


def batch_scores(batches: dict[str, list[Question]], submitted: dict[str, Groups], kind: str) -> dict[str, Any]:
    """All scores: `NAME (batch mean)`, `NAME (pooled)`, each batch, and how many questions have no answer."""
    questions = [question for batch in batches.values() for question in batch]
    pooled = set_scores(questions, submitted, kind)
    each = {name: {**set_scores(batch, submitted, kind), "questions": len(batch)} for name, batch in batches.items()}
    return {
        **{f"{name} (batch mean)": fmean(batch[name] for batch in each.values()) for name in pooled},
        **{f"{name} (pooled)": value for name, value in pooled.items()},
        "questions": len(questions),
        "missing": sum(not submitted.get(question.id) for question in questions),
        "batches": each,
    }
