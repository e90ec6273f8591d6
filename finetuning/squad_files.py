"""Read questions on contexts in SQuAD's JSON, and score answers as SQuAD does (exact match, F1). Nothing to run here.

Used by finetuning.squad and, for BioBERT's files in the same form, by finetuning.bioasq_files.

1. SQuAD 1.1 and 2.0 and files that look like them: ids may be numbers, answers may be absent (BioASQ's test
   files), contexts may be whole articles.
2. An answer's offset is checked against the context. Where it is wrong, the answer, without the blanks around
   it, is looked for within NEAR characters of the offset, and otherwise in the whole context, where it has to
   be there once. Repaired and unusable offsets are counted; an unusable one is not trained on, but is scored,
   since scores compare texts. COVID-QA's first release has 234 wrong offsets of 1,380, each by a blank.
3. Scores are those of SQuAD's own evaluation scripts, 1.1 or 2.0, except that a question without a prediction
   counts as wrong in 2.0 as well.
"""

import re
import string
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetuning.text_files import checksum, read_object

NEAR = 5  # characters by which an offset may miss its answer and still mean this occurrence
ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True)
class Example:
    """One question on one context."""

    id: str
    question: str
    context: str
    answers: tuple[tuple[int, str], ...] | None  # (offset in characters or -1, text); () no answer; None not known
    document: str = ""  # title or number of the article


@dataclass(frozen=True)
class SquadFile:
    """One file's examples, its checksum, and what was wrong in it."""

    path: Path
    examples: list[Example]
    sha256: str
    repaired: int = 0  # answers whose offset was wrong and could be set right
    unusable: int = 0  # answers whose offset was wrong and could not: not for training

    @property
    def has_unanswerable(self) -> bool:
        """Whether some question is said to have no answer, as in SQuAD 2.0."""
        return any(example.answers == () for example in self.examples)


def find_answer(context: str, offset: int, text: str) -> tuple[int, str]:
    """The answer with a right offset: (offset, text), repaired if need be; (-1, text) if it cannot be."""
    if offset >= 0 and context[offset : offset + len(text)] == text:
        return offset, text
    bare = text.strip()
    start = max(0, offset - NEAR)
    near = [i for i in range(start, offset + NEAR + 1) if context.startswith(bare, i)]
    if near:
        return min(near, key=lambda i: abs(i - offset)), bare
    if context.count(bare) == 1:
        return context.index(bare), bare
    return -1, text


def read_answers(item: dict[str, Any], context: str, where: str) -> tuple[tuple[int, str], ...] | None:
    """The answers of one entry of `qas`; ValueError says what is wrong with it."""
    given = item.get("answers")
    if not isinstance(item.get("is_impossible"), bool | None):
        raise ValueError(f"{where} has is_impossible {item['is_impossible']!r}: expected true or false")
    if item.get("is_impossible") and given:
        raise ValueError(f"{where} is marked is_impossible, yet has an answer: correct one of the two")
    if item.get("is_impossible") or given is None:
        return () if item.get("is_impossible") else None
    if not isinstance(given, list) or not given and "is_impossible" in item:
        raise ValueError(f"{where} has no answer, yet is not marked is_impossible: correct or remove it")
    answers = []
    for answer in given:
        text, offset = (answer.get("text"), answer.get("answer_start")) if isinstance(answer, dict) else (None, None)
        if not isinstance(text, str) or not text.strip() or not isinstance(offset, int):
            raise ValueError(f"{where} has an answer without text or answer_start: correct or remove it")
        answers.append(find_answer(context, offset, text))
    return tuple(answers)


def read_paragraph(paragraph: Any, document: str, where: str) -> list[Example]:
    """The examples of one entry of `paragraphs`; `where` names file, article and paragraph."""
    context = paragraph.get("context") if isinstance(paragraph, dict) else None
    questions = paragraph.get("qas") if isinstance(paragraph, dict) else None
    if not isinstance(context, str) or not context.strip() or not isinstance(questions, list):
        raise ValueError(f"{where} has no context or no qas: expected SQuAD's form")
    examples = []
    for item in questions:
        if not isinstance(item, dict) or not isinstance(item.get("id"), str | int):
            raise ValueError(f"{where} has a question without id: expected SQuAD's form")
        here = f"{where}, question {item['id']},"
        if not isinstance(item.get("question"), str) or not item["question"].strip():
            raise ValueError(f"{here} has no text: correct or remove it")
        answers = read_answers(item, context, here)
        examples.append(Example(str(item["id"]), item["question"], context, answers, document))
    return examples


def read_squad(path: Path) -> SquadFile:
    """All examples of a file in SQuAD's form; ValueError names file and question where it is broken."""
    content = read_object(path, "SQuAD")
    articles = content.get("data")
    if not isinstance(articles, list):
        raise ValueError(f"{path} has no list 'data': expected SQuAD's form")
    examples = []
    for number, article in enumerate(articles, start=1):
        paragraphs = article.get("paragraphs") if isinstance(article, dict) else None
        if not isinstance(paragraphs, list):
            raise ValueError(f"{path}, article {number}, has no list 'paragraphs': expected SQuAD's form")
        document = str(article.get("title") or number)
        for place, paragraph in enumerate(paragraphs, start=1):
            examples += read_paragraph(paragraph, document, f"{path}, article {number}, paragraph {place}")
    if not examples:
        raise ValueError(f"{path} has no question in it")
    twice = [name for name, count in Counter(example.id for example in examples).items() if count > 1]
    if twice:
        raise ValueError(f"{path} has question {twice[0]} more than once: every question needs an id of its own")
    repaired, unusable = count_repairs(content, examples)
    return SquadFile(path, examples, checksum([path]), repaired, unusable)


def count_repairs(content: dict[str, Any], examples: list[Example]) -> tuple[int, int]:
    """How many answers have another offset than in the file, and how many have none."""
    items = (item for article in content["data"] for part in article["paragraphs"] for item in part["qas"])
    repaired = unusable = 0
    for item, example in zip(items, examples, strict=True):
        for given, (offset, text) in zip(item.get("answers") or [], example.answers or (), strict=False):
            unusable += offset < 0
            repaired += offset >= 0 and (offset, text) != (given["answer_start"], given["text"])
    return repaired, unusable


def normalise(text: str) -> str:
    """Lower case without punctuation, articles and doubled blanks: what SQuAD compares."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def token_f1(gold: str, predicted: str, version_2: bool) -> float:
    """F1 over the words of two answers; two empty ones agree in SQuAD 2.0 and do not in 1.1."""
    ours, theirs = normalise(predicted).split(), normalise(gold).split()
    if version_2 and not (ours and theirs):
        return float(ours == theirs)
    same = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * same / (len(ours) + len(theirs)) if same else 0.0


def question_scores(example: Example, predicted: str, version_2: bool) -> tuple[float, float]:
    """(exact match, F1) of one answer: the best over the gold answers; "" means no answer."""
    golds = [text for _, text in example.answers or ()]
    if version_2:
        golds = [text for text in golds if normalise(text)] or [""]
    exact = max(float(normalise(gold) == normalise(predicted)) for gold in golds)
    return exact, max(token_f1(gold, predicted, version_2) for gold in golds)


def mean_scores(scores: list[tuple[float, float]]) -> dict[str, float]:
    """Mean exact match and F1."""
    count = max(1, len(scores))
    return {"exact match": sum(exact for exact, _ in scores) / count, "F1": sum(f1 for _, f1 in scores) / count}


def squad_scores(examples: list[Example], predictions: dict[str, str]) -> dict[str, Any]:
    """SQuAD's scores of `predictions` (id -> text, "" for no answer) as fractions.

    The rules are those of 2.0 if some question has no answer, and of 1.1 otherwise. A question without a
    prediction counts as wrong and is counted in "missing".
    """
    version_2 = any(example.answers == () for example in examples)
    scores, parts = [], {"answerable": [], "unanswerable": []}
    for example in examples:
        predicted = predictions.get(example.id)
        score = (0.0, 0.0) if predicted is None else question_scores(example, predicted, version_2)
        scores.append(score)
        parts["answerable" if example.answers else "unanswerable"].append(score)
    missing = sum(example.id not in predictions for example in examples)
    found: dict[str, Any] = {**mean_scores(scores), "questions": len(examples), "missing": missing}
    if version_2:
        found |= {name: {**mean_scores(part), "questions": len(part)} for name, part in parts.items()}
    return found


def best_threshold(examples: list[Example], best: dict[str, str], no_answer: dict[str, float]) -> dict[str, float]:
    """The threshold on the no-answer score that would have been best for F1, and the F1 it gives.

    `best` is the best answer of each question that is not "no answer"; above the threshold "" is predicted.
    Found with the gold answers, as SQuAD 2.0's script does: an upper bound, never the score of a model.
    """
    score = sum(example.answers == () for example in examples)  # all unanswered
    highest, threshold = float(score), 0.0
    for example in sorted(examples, key=lambda one: no_answer[one.id]):
        text = best[example.id]
        if example.answers:
            score += question_scores(example, text, True)[1]
        elif text:
            score -= 1
        if score > highest:
            highest, threshold = score, no_answer[example.id]
    return {"best F1": highest / len(examples), "best F1 threshold": threshold}
