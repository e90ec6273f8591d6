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
