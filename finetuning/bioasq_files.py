"""Read BioASQ's questions: its own JSON, and the SQuAD-like files made from it. Nothing to run here.

Used by finetuning.bioasq.

- BioASQ's own: {"questions": [...]}, as training files and golden files of all editions: factoid, list, yesno and
  summary questions, with snippets of abstracts; exact_answer is a list of lists of synonyms.
- SQuAD-like (BioBERT's BioASQ-train-*.json and BioASQ-test-*.json, bio_electra's dev.json): one entry for each
  question on each of its contexts; ids are `<question>_<nnn>` or `<question>:<n>`, test files have no answers.

1. Which of the two a file is shows in its content, not in its name.
2. From BioASQ's own files contexts are the snippets: for training those in which an exact answer stands as words.
3. Training questions that are in the test set, by id or by text, are left out and counted.
4. Submissions are written as BioASQ takes them: up to five different answers to a factoid question.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from finetuning.results import write_json
from finetuning.squad_files import Example, SquadFile, read_squad
from finetuning.text_files import checksum, read_object

KINDS = ("factoid", "list", "yesno")
OTHER_KINDS = ("summary",)  # have no exact answer
PART_ID = re.compile(r"([0-9a-f]{24})[_:]\d+")
PUBMED = re.compile(r"/pubmed/(\d+)")

Groups = tuple[tuple[str, ...], ...]  # answers, each with its synonyms


@dataclass(frozen=True)
class Question:
    """One question as BioASQ has it."""

    id: str
    kind: str
    body: str
    answers: Groups | None  # (("yes",),) for yes/no; None where the file has none, () where it is blank (in 4B5)
    snippets: tuple[tuple[str, str], ...]  # (document id such as "pmid:123" or "", text), each text once


@dataclass(frozen=True)
class QuestionFile:
    """One file in BioASQ's own form."""

    path: Path
    questions: list[Question]
    sha256: str


def read_groups(given: Any, kind: str, where: str) -> Groups | None:
    """The exact answer of a question: answers and their synonyms; ValueError if it has another form."""
    if given is None or kind in OTHER_KINDS:
        return None
    if kind == "yesno":
        word = given[0] if isinstance(given, list) and given else given
        name = word.strip().lower().rstrip(".") if isinstance(word, str) else ""
        if name not in ("yes", "no"):
            raise ValueError(f"{where} has the exact answer {str(given)[:40]!r}: expected yes or no")
        return ((name,),)
    given = [given] if isinstance(given, str) else given
    if not isinstance(given, list):
        raise ValueError(f"{where} has the exact answer {str(given)[:40]!r}: expected a list")
    if all(isinstance(answer, str) for answer in given):  # early files: a factoid's synonyms, a list's answers
        groups = [given] if kind == "factoid" else [[answer] for answer in given]
    else:
        groups = [[answer] if isinstance(answer, str) else answer for answer in given]
    if not all(isinstance(group, list) and all(isinstance(name, str) for name in group) for group in groups):
        raise ValueError(f"{where} has the exact answer {str(given)[:40]!r}: expected lists of texts")
    kept = tuple(tuple(name for name in group if name.strip()) for group in groups)
    return tuple(group for group in kept if group)


def read_snippets(given: Any, where: str) -> tuple[tuple[str, str], ...]:
    """(document id, text) of each snippet, the same text once."""
    found: dict[str, str] = {}
    if not isinstance(given, list | None):
        raise ValueError(f"{where} has the snippets {str(given)[:40]!r}: expected a list")
    for snippet in given or []:
        text = snippet.get("text") if isinstance(snippet, dict) else None
        if not isinstance(text, str):
            raise ValueError(f"{where} has a snippet without text: expected BioASQ's form")
        number = PUBMED.search(str(snippet.get("document", "")))
        if text.strip():
            found.setdefault(text.strip(), f"pmid:{number[1]}" if number else "")
    return tuple((document, text) for text, document in found.items())


def read_question(item: Any, path: Path, number: int) -> Question:
    """One entry of "questions"; ValueError names file and question where it is broken."""
    if not isinstance(item, dict) or not isinstance(item.get("id"), str):
        raise ValueError(f"{path}, question {number} of the file, has no id: expected BioASQ's form")
    where = f"{path}, question {item['id']},"
    kind = item.get("type")
    if kind not in KINDS + OTHER_KINDS:
        raise ValueError(f"{where} has type {kind!r}: expected {', '.join(KINDS + OTHER_KINDS)}")
    body = item.get("body")
    if not isinstance(body, str) or not body.strip():
        raise ValueError(f"{where} has no body: expected BioASQ's form")
    answers = read_groups(item.get("exact_answer"), kind, where)
    return Question(item["id"], kind, body.strip(), answers, read_snippets(item.get("snippets"), where))


def read_file(path: Path) -> QuestionFile | SquadFile:
    """A file in either form; ValueError names file and question where it is broken."""
    content = read_object(path, "BioASQ or SQuAD")
    if "questions" not in content:
        if "data" not in content:
            raise ValueError(f"{path} has neither 'questions' (BioASQ's form) nor 'data' (SQuAD's form)")
        return read_squad(path)
    if not isinstance(content["questions"], list) or not content["questions"]:
        raise ValueError(f"{path} has no question in it")
    questions = [read_question(item, path, number) for number, item in enumerate(content["questions"], start=1)]
    seen: set[str] = set()
    for question in questions:
        if question.id in seen:
            raise ValueError(f"{path} has question {question.id} more than once")
        seen.add(question.id)
    return QuestionFile(path, questions, checksum([path]))


def question_id(example_id: str) -> str:
    """The BioASQ question that an example of a SQuAD-like file belongs to."""
    part = PART_ID.fullmatch(example_id)
    return part[1] if part else example_id


def find_words(text: str, answer: str) -> tuple[int, str] | None:
    """Where `answer` stands in `text` as words of its own, case aside, and how it is written there."""
    found = re.search(rf"(?<!\w){re.escape(answer.strip())}(?!\w)", text, re.IGNORECASE)
    return (found.start(), found[0]) if found else None


def snippet_answers(groups: Groups, text: str, kind: str) -> list[tuple[int, str]]:
    """(offset, text) of what to train on in a snippet: of a factoid one answer, of a list each that is there.

    Of synonyms the longest that is there counts ("tumour necrosis factor alpha" before "tumour necrosis factor").
    """
    found = []
    for group in groups:
        places = (find_words(text, name) for name in sorted(group, key=len, reverse=True))
        found += [place for place in places if place][:1]
    return found[:1] if kind == "factoid" else list(dict.fromkeys(found))


def training_examples(questions: list[Question], kind: str) -> tuple[list[Example], int]:
    """One example for each snippet and answer in it, and the number of questions without any."""
    examples, without = [], 0
    for question in questions:
        if question.kind != kind:
            continue
        before = len(examples)
        for document, text in question.snippets:
            for answer in snippet_answers(question.answers or (), text, kind):
                examples.append(Example(question.id, question.body, text, (answer,), document))
        without += len(examples) == before
    return examples, without


def context_examples(questions: list[Question], contexts: list[SquadFile], known: set[str]) -> list[Example]:
    """What to answer: each question on each of its contexts, those of the SQuAD-like files, else its snippets.

    An example's id is that of its question. ValueError for an entry of those files whose question is not `known`;
    known questions of another kind are passed over.
    """
    given: dict[str, list[Example]] = {name: [] for name in known}
    for file in contexts:
        for example in file.examples:
            name = question_id(example.id)
            if name not in given:
                raise ValueError(
                    f"{file.path}, question {example.id}, is not in the golden files: give those of the same batches"
                )
            given[name].append(replace(example, id=name, answers=None))
    examples = []
    for question in questions:
        own = [Example(question.id, question.body, text, None, document) for document, text in question.snippets]
        examples += given[question.id] or own
    return examples


def same_questions(test: list[Question]) -> Callable[[str, str], bool]:
    """Whether an id or a text is that of a question in `test`: such a one may not be trained on."""
    ids = {question.id for question in test}
    bodies = {question.body.lower() for question in test}
    return lambda name, text: question_id(name) in ids or text.strip().lower() in bodies


def write_submission(answers: dict[str, Any], kind: str, path: Path) -> None:
    """BioASQ's submission form: {"questions": [{"id", "type", "exact_answer", "ideal_answer"}]}.

    `answers`: id -> "yes" or "no", or the answers in order, each alone in a list (no synonyms, since BioASQ 5).
    """
    questions = [
        {
            "id": name,
            "type": kind,
            "exact_answer": answer if kind == "yesno" else [[text] for text in answer],
            "ideal_answer": "",
        }
        for name, answer in answers.items()
    ]
    write_json(path, {"questions": questions})


def read_submission(path: Path, known: dict[str, Question]) -> dict[str, Groups]:
    """id -> exact answer of a submission; ValueError for a question that is not in `known`, or there twice.

    Of synonyms in a submitted answer only the first counts, as BioASQ's own program has it since BioASQ 5.
    """
    content = read_object(path, "a submission to BioASQ")
    if not isinstance(content.get("questions"), list):
        raise ValueError(f"{path} has no list 'questions': expected a submission to BioASQ")
    found: dict[str, Groups] = {}
    for number, item in enumerate(content["questions"], start=1):
        name = item.get("id") if isinstance(item, dict) else None
        if not isinstance(name, str) or name not in known:
            raise ValueError(f"{path}, question {number} of the file ({name}), is not in the golden files")
        if name in found:
            raise ValueError(f"{path} answers question {name} twice: keep one answer")
        given = item.get("exact_answer")
        if known[name].kind == "yesno":
            given = given if isinstance(given, list) else [given]
        if not isinstance(given, list | None):
            raise ValueError(f"{path}, question {name}: expected a list as exact_answer")
        found[name] = tuple(first_name(answer) for answer in given or ())
    return found


def first_name(answer: Any) -> tuple[str]:
    """The text of one submitted answer, alone or first in a list; "" if there is none, which keeps its rank."""
    name = answer[0] if isinstance(answer, list) and answer else answer
    return (name if isinstance(name, str) else "",)
