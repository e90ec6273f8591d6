"""Sixteen questions on four contexts in the words of the tiny tokenizer, and files in SQuAD's and BioASQ's form."""

import json
from pathlib import Path

CONTEXTS = [
    "Naloxone reverses high blood pressure. Lithium carbonate caused liver failure.",
    "No change was seen with lithium carbonate and cocaine. The patients improved.",
    "Patients with liver failure improved, and cocaine caused no change in blood.",
    "Cocaine seizures were treated with naloxone; high blood pressure was seen.",
]
# (context, question, answer); the same question has other answers on other contexts
QUESTIONS = [
    (0, "reverses high blood pressure", "Naloxone"),
    (0, "naloxone reverses", "high blood pressure"),
    (0, "caused liver failure", "Lithium carbonate"),
    (0, "lithium carbonate caused", "liver failure"),
    (1, "was seen", "No change"),
    (1, "change with", "lithium carbonate and cocaine"),
    (1, "improved", "The patients"),
    (1, "patients", "improved"),
    (2, "improved", "Patients with liver failure"),
    (2, "caused no change", "cocaine"),
    (2, "cocaine caused", "no change"),
    (2, "change in", "blood"),
    (3, "were treated", "Cocaine seizures"),
    (3, "treated with", "naloxone"),
    (3, "was seen", "high blood pressure"),
    (3, "cocaine", "seizures"),
]


def squad(impossible: tuple[int, ...] = (), version: str = "1.1") -> dict:
    """The sixteen as one SQuAD file, one article a context; those of `impossible` have no answer."""
    articles = []
    for number, context in enumerate(CONTEXTS):
        items = []
        for i, (where, question, answer) in enumerate(QUESTIONS):
            if where == number:
                item = {"id": f"q{i}", "question": question}
                answers = [{"text": answer, "answer_start": context.index(answer)}]
                if version == "2.0":
                    item["is_impossible"] = i in impossible
                items.append({**item, "answers": [] if i in impossible else answers})
        articles.append({"title": f"article {number}", "paragraphs": [{"context": context, "qas": items}]})
    return {"version": version, "data": articles}


def write_json(path: Path, content: object) -> Path:
    """`content` as a JSON file; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def write_squad(folder: Path, impossible: tuple[int, ...] = (), version: str = "1.1") -> Path:
    """A folder in which train = dev."""
    for split in ("train", "dev"):
        write_json(folder / f"{split}-v{version}.json", squad(impossible, version))
    return folder


def question_id(number: int) -> str:
    """An id as BioASQ has them: 24 hexadecimal digits."""
    return f"{number:024x}"


# Makes another text of a question, and no other word piece: a test question may not be trained on, ours has to be.
UNSEEN = "\u200b"


def golden(first: int, kind: str = "factoid", mark: str = "") -> dict:
    """Eight questions from number `first` on in BioASQ's own form, each with its context as the only snippet.

    Of kind "yesno" those on contexts 0 and 1 are "yes"; of kind "list" the answer is a list of one. `mark` is put
    after each question.
    """
    questions = []
    for i in range(first, first + 8):
        where, body, answer = QUESTIONS[i % 16]
        exact = ("yes" if where < 2 else "no") if kind == "yesno" else [[answer, f"synonym of {answer}"]]
        snippet = {"text": CONTEXTS[where], "document": f"http://www.ncbi.nlm.nih.gov/pubmed/{100 + where}"}
        questions.append(
            {"id": question_id(i), "type": kind, "body": body + mark, "exact_answer": exact, "snippets": [snippet]}
        )
    summary = {"id": question_id(100 + first), "type": "summary", "body": "what is seen", "ideal_answer": ["x"]}
    return {"questions": [*questions, summary]}


def squad_form(first: int, answers: bool, mark: str = "") -> dict:
    """The same eight questions as BioBERT's files have them; test files have no answers."""
    paragraphs = []
    for i in range(first, first + 8):
        where, question, answer = QUESTIONS[i % 16]
        item = {"id": f"{question_id(i)}_{i % 3:03d}", "question": question + mark}
        if answers:
            item["answers"] = [{"text": answer, "answer_start": CONTEXTS[where].index(answer)}]
        paragraphs.append({"context": CONTEXTS[where], "qas": [item]})
    return {"version": "BioASQ6b", "data": [{"title": "BioASQ6b", "paragraphs": paragraphs}]}


def write_bioasq(folder: Path, kind: str = "factoid") -> Path:
    """Two batches of 7b (questions 0 to 15), and a training file of the same questions under other ids."""
    for batch in (0, 1):
        write_json(folder / f"7B{batch + 1}_golden.json", golden(8 * batch, kind))
        if kind == "factoid":
            write_json(folder / f"BioASQ-test-factoid-7b-{batch + 1}.json", squad_form(8 * batch, answers=False))
    train = golden(16, kind, UNSEEN)
    train["questions"] += golden(24, kind, UNSEEN)["questions"]
    write_json(folder / f"BioASQ-train-{kind}-7b.json", train)
    return folder
