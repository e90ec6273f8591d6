"""Find BioASQ's test and training files, and make examples of them. Nothing to run here; run finetuning.bioasq.

1. A folder may hold several editions, as BioBERT's does. Names say what is what: "golden" (7B1_golden.json) has the
   answers, "test" (BioASQ-test-factoid-7b-1.json) the contexts of a test set, "train" is to train on; a file for
   another kind of question is passed over. Files named by the user may be called anything.
2. Each golden file is a batch; contexts are matched to it by the ids of the questions.
3. Training questions that are in the test or dev set are left out. All that is left out is counted and said.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetuning import ranks, text_inputs
from finetuning.bioasq_files import (
    KINDS,
    Question,
    QuestionFile,
    context_examples,
    find_words,
    question_id,
    read_file,
    same_questions,
    training_examples,
)
from finetuning.squad_files import Example, SquadFile

EDITION = re.compile(r"(?<!\d)(\d{1,2})b(?=[\W\d_]|phase)", re.IGNORECASE)
BATCH = re.compile(r"(?<!\d)(\d{1,2})b(\d+)_golden", re.IGNORECASE)
ROLES = {"golden": "golden", "train": "train", "test": "contexts"}  # word in the name -> what the file is


@dataclass(frozen=True)
class QuestionSet:
    """The golden questions of one kind, and their contexts."""

    edition: str  # "7b", or "" where the names of the files do not say
    batches: dict[str, list[Question]]  # by batch, those of the kind
    golden: list[QuestionFile]
    contexts: list[SquadFile]

    @property
    def questions(self) -> list[Question]:
        """Those of the kind, of all batches."""
        return [question for batch in self.batches.values() for question in batch]

    @property
    def every_kind(self) -> list[Question]:
        """All questions of the golden files."""
        return [question for file in self.golden for question in file.questions]


@dataclass(frozen=True)
class TrainingSet:
    """Examples to train on, the files they come from, and counts of what was left out."""

    examples: list[Example] | list[text_inputs.Example]
    files: list[QuestionFile | SquadFile]
    left_out: dict[str, int]
    questions: int
    texts: list[tuple[str, str]]  # (document id, text) of each context


def edition_of(path: Path) -> str:
    """The edition in a file's name, "7b" of 7B1_golden.json; "" if there is none."""
    found = EDITION.search(path.name)
    return f"{int(found[1])}b" if found else ""


def batch_name(path: Path) -> str:
    """`7b-1` of 7B1_golden.json; the file's name without .json where it has another form."""
    found = BATCH.search(path.name)
    return f"{int(found[1])}b-{found[2]}" if found else path.stem


def role_of(path: Path, kind: str) -> str:
    """What a file is by its name: "golden", "train", "contexts", or "": none of these, or of another kind."""
    name = path.name.lower()
    if name.startswith(".") or (kind not in name and any(other in name for other in KINDS)):
        return ""
    return next((role for word, role in ROLES.items() if word in name), "")


def find_edition(folder: Path, wanted: str | None) -> str:
    """`wanted`, or the latest edition of which `folder` has golden files."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is not there: give the folder with BioASQ's files")
    editions = {edition_of(path) for path in folder.glob("*.json") if role_of(path, "") == "golden"}
    if not editions:
        raise ValueError(f"{folder} has no golden file: expected such as 7B1_golden.json to 7B5_golden.json")
    edition = wanted or max(editions, key=lambda name: int(name[:-1] or 0))
    if edition not in editions:
        raise ValueError(f"{folder} has no golden file of --edition {edition}, only of {', '.join(sorted(editions))}")
    return edition


def files_in(folder: Path, edition: str, kind: str, roles: tuple[str, ...]) -> list[Path]:
    """The files of one edition that have one of `roles` by their names."""
    paths = sorted(folder.glob("*.json"))
    return [path for path in paths if edition_of(path) == edition and role_of(path, kind) in roles]


def read_question_set(places: list[Path], edition: str | None, kind: str) -> QuestionSet:
    """The questions of `kind` in `places`, files or folders; ValueError if there is nothing to score."""
    paths = []
    for place in places:
        if place.is_file():
            paths.append(place)
        else:
            paths += files_in(place, find_edition(place, edition), kind, ("golden", "contexts"))
    files = [read_file(path) for path in paths]
    golden = [file for file in files if isinstance(file, QuestionFile)]
    if not golden:
        raise ValueError(f"{paths[0]} has no golden answers: give the golden files (such as 7B1_golden.json) as well")
    batches = {batch_name(file.path): kind_questions(file, kind) for file in golden}
    batches = {name: questions for name, questions in batches.items() if questions}
    if not batches:
        raise ValueError(f"{golden[0].path} and the other golden files have no {kind} question")
    editions = {edition_of(file.path) for file in golden}
    contexts = [file for file in files if isinstance(file, SquadFile)]
    return QuestionSet(editions.pop() if len(editions) == 1 else "", batches, golden, contexts)


def kind_questions(file: QuestionFile, kind: str) -> list[Question]:
    """The questions of `kind` in a golden file; ValueError for one without an exact answer."""
    questions = [question for question in file.questions if question.kind == kind]
    for question in questions:
        if question.answers is None:
            raise ValueError(f"{file.path}, question {question.id}, has no exact_answer: it is not a golden file")
        if not question.answers:
            ranks.say(f"{file.path.name}, question {question.id}: the exact answer is blank, so none can be right")
    return questions


def find_training_files(named: list[Path] | None, data: Path, edition: str, kind: str) -> list[Path]:
    """`named` (--train), or the one training file of the edition in `data`."""
    if named:
        return named
    found = files_in(data, edition, kind, ("train",)) if data.is_dir() else []
    if len(found) != 1:
        names = f" ({', '.join(path.name for path in found)})" if found else ""
        raise ValueError(
            f"--data {data} has {len(found) or 'no'} training files for {kind} questions of {edition or 'its edition'}"
            f"{names}: expected one, such as BioASQ-train-{kind}-{edition or '7b'}.json; name others with --train"
        )
    return found


def usable_examples(file: SquadFile) -> list[Example]:
    """The examples of a SQuAD-like training file; ValueError if they have no answers, as in a test file."""
    for example in file.examples:
        if not example.answers:
            raise ValueError(f"{file.path}, question {example.id}, has no answer: it is not a training file")
    return file.examples


def read_training_set(paths: Iterable[Path], kind: str, test: list[Question]) -> TrainingSet:
    """What to train on for factoid or list questions, none of them in `test`; says what is left out."""
    examples, files, without = [], [], 0
    for path in paths:
        file = read_file(path)
        files.append(file)
        if isinstance(file, SquadFile):
            examples += usable_examples(file)
        else:
            found, unanswered = training_examples(file.questions, kind)
            examples += found
            without += unanswered
    distinct = {(example.question, example.context, example.answers): example for example in examples}
    is_test = same_questions(test)
    kept = [example for example in distinct.values() if not is_test(example.id, example.question)]
    shared = {question_id(one.id) for one in distinct.values()} - {question_id(one.id) for one in kept}
    left_out = {
        f"{kind} questions without an answer in a snippet": without,
        "repeated examples": len(examples) - len(distinct),
        "questions of the test or dev set": len(shared),
    }
    asked = len({example.question for example in kept})
    return say_left_out(TrainingSet(kept, files, left_out, asked, context_texts(kept)), kind)


def read_yesno_training_set(paths: Iterable[Path], test: list[Question]) -> TrainingSet:
    """The yes/no questions to train on, none of them in `test`; says what is left out."""
    files = [read_file(path) for path in paths]
    for file in files:
        if isinstance(file, SquadFile):
            raise ValueError(f"{file.path} is in SQuAD's form: yes/no questions are read from BioASQ's own JSON")
    questions = [question for file in files for question in file.questions if question.kind == "yesno"]
    distinct = {question.id: question for question in questions}
    usable = [question for question in distinct.values() if question.answers and question.snippets]
    is_test = same_questions(test)
    kept = [question for question in usable if not is_test(question.id, question.body)]
    left_out = {
        "yesno questions without answer or snippet": len(distinct) - len(usable),
        "repeated questions": len(questions) - len(distinct),
        "questions of the test or dev set": len(usable) - len(kept),
    }
    return say_left_out(TrainingSet(yesno_examples(kept), files, left_out, len(kept), snippet_texts(kept)), "yesno")


def yesno_examples(questions: list[Question]) -> list[text_inputs.Example]:
    """Question and snippets as a pair, with the answer as label."""
    return [
        text_inputs.Example(
            question.body,
            question.answers[0][0],
            "\n".join(text for _, text in question.snippets),
            index=question.id,
        )
        for question in questions
        if question.snippets
    ]


def say_left_out(training: TrainingSet, kind: str) -> TrainingSet:
    """Print what was left out; ValueError if nothing is left."""
    said = ", ".join(f"{number:,} {name}" for name, number in training.left_out.items() if number)
    if said:
        ranks.say(f"train: left out {said}")
    if not training.examples:
        raise ValueError(f"{', '.join(str(file.path) for file in training.files)}: no {kind} question to train on")
    return training


def set_examples(test: QuestionSet, split: str) -> list[Example]:
    """Each question of the set on each of its contexts; says how many have none."""
    known = {question.id for question in test.every_kind}
    examples = context_examples(test.questions, test.contexts, known)
    say_without_context(test, split, len({example.id for example in examples}))
    return examples


def answerable(test: QuestionSet, examples: list[Example]) -> int:
    """How many questions have a golden answer, as words, in one of their contexts: more cannot be answered right."""
    golden = {question.id: [name for group in question.answers or () for name in group] for question in test.questions}
    return len({one.id for one in examples if any(find_words(one.context, name) for name in golden[one.id])})


def say_without_context(test: QuestionSet, split: str, answered: int) -> None:
    """Print how many questions cannot be answered."""
    without = len(test.questions) - answered
    if without:
        ranks.say(f"{split}: {without} questions have no context: they count as wrong")


def context_texts(examples: list[Example]) -> list[tuple[str, str]]:
    """(document id, text) of each context once, in order."""
    return list({one.context: (one.document, one.context) for one in examples}.values())


def snippet_texts(questions: list[Question]) -> list[tuple[str, str]]:
    """(document id, text) of each snippet."""
    return [snippet for question in questions for snippet in question.snippets]


def joint_record(files: list[QuestionFile | SquadFile], counts: dict[str, Any]) -> dict[str, Any]:
    """What results.json says of one split: names and checksums of its files, and counts."""
    return {
        "file": ", ".join(file.path.name for file in files),
        "sha256": ", ".join(file.sha256 for file in files),
        **counts,
    }
