"""BioASQ's exact answers, from files to a Task, scores and a submission. Nothing to run here; run finetuning.bioasq.

1. Find and read test set and training files (finetuning.bioasq_sets).
2. factoid and list: spans in the contexts (finetuning.span_qa). A question's answers on all its contexts are pooled:
   of the same text, case aside, the probabilities are added, as BioBERT's transform_n2b_factoid.py does. A factoid
   question gets the five likeliest answers, a list question those at least --list-share as likely as the likeliest.
3. yesno: the question and its snippets as a pair of texts (finetuning.bioasq_yesno, which also reads BLURB's
   ready-made examples).
4. Score with BioASQ's measures: each batch, the mean of the batches, and pooled over the questions.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from finetuning import bioasq_yesno, ranks, span_qa, text_inputs, texts
from finetuning.bioasq_files import KINDS, read_submission, write_submission
from finetuning.bioasq_scores import METRICS, MOST, batch_scores
from finetuning.bioasq_sets import (
    QuestionSet,
    TrainingSet,
    answerable,
    context_texts,
    find_training_files,
    joint_record,
    read_question_set,
    read_training_set,
    read_yesno_training_set,
    say_without_context,
    set_examples,
    snippet_texts,
    yesno_examples,
)
from finetuning.command import Prepared
from finetuning.config import FinetuneConfig
from finetuning.loop import Task
from finetuning.span_inputs import Answers
from finetuning.splits import Benchmark, Sizes, recognise
from finetuning.squad_files import Example

LONGEST_ANSWER = 100  # characters; BioBERT's script drops longer ones too


def clean_answer(text: str) -> str:
    """An answer without marks around it; "" if its parentheses do not match: then it was cut at the wrong place."""
    text = text.strip(" \t\n,.;:")
    if text.startswith("(") and text.endswith(")") and text.count("(") == text.count(")") == 1:
        text = text[1:-1].strip()
    return text if text.count("(") == text.count(")") else ""


def pool_answers(parts: Iterable[Answers]) -> list[tuple[str, float]]:
    """The answers to one question on all its contexts, likeliest first; see step 2 of the module."""
    totals: dict[str, float] = {}
    written: dict[str, str] = {}
    found = sorted((answer for part in parts for answer in part.answers), key=lambda answer: -answer.probability)
    for answer in found:
        text = clean_answer(answer.text)
        if text and len(text) <= LONGEST_ANSWER:
            written.setdefault(text.lower(), text)
            totals[text.lower()] = totals.get(text.lower(), 0.0) + answer.probability
    ranked = sorted(totals.items(), key=lambda item: -item[1])  # stable: of equals the likeliest span first
    if not ranked and found:  # none is well formed: still better than no answer
        return [(found[0].text, found[0].probability)]
    return [(written[key], total) for key, total in ranked]


def choose_answers(ranked: list[tuple[str, float]], kind: str, list_share: float) -> list[str]:
    """The answers to submit, of those that `pool_answers` gives."""
    if kind == "factoid":
        return [text for text, _ in ranked[:MOST]]
    return [text for text, total in ranked if total >= list_share * ranked[0][1]]


def exact_answers(examples: list[Example], found: list[Answers], kind: str, list_share: float) -> dict[str, list[str]]:
    """question id -> its answers, likeliest first."""
    parts: dict[str, list[Answers]] = {}
    for example, answers in zip(examples, found, strict=True):
        parts.setdefault(example.id, []).append(answers)
    return {name: choose_answers(pool_answers(part), kind, list_share) for name, part in parts.items()}


def spans_task(
    examples: dict[str, list[Example]],
    sets: dict[str, QuestionSet],
    kind: str,
    options: Namespace,
    config: FinetuneConfig,
) -> Task:
    """The Task of factoid or list questions; `sets` are test and perhaps dev."""

    def answers_of(split: str, found: list[Answers]) -> dict[str, list[str]]:
        return exact_answers(examples[split], found, kind, options.list_share)

    def score(split: str, found: list[Answers]) -> dict[str, Any]:
        submitted = {name: tuple((text,) for text in texts) for name, texts in answers_of(split, found).items()}
        return batch_scores(sets[split].batches, submitted, kind)

    return span_qa.span_task(
        examples,
        options.model,
        config,
        span_qa.settings_from(options, unanswerable=False),
        score=score,
        write=lambda found, path: write_submission(answers_of("test", found), kind, path),
        record={"benchmark": f"BioASQ {kind}", "metric": METRICS[kind]},
    )


def yesno_task(
    examples: dict[str, list[text_inputs.Example]],
    sets: dict[str, QuestionSet],
    options: Namespace,
    config: FinetuneConfig,
) -> Task:
    """The Task of yes/no questions; `sets` are test and perhaps dev."""

    def score(split: str, answers: dict[str, str]) -> dict[str, Any]:
        return batch_scores(sets[split].batches, {name: ((word,),) for name, word in answers.items()}, "yesno")

    return bioasq_yesno.yesno_task(
        examples,
        options.model,
        config,
        METRICS["yesno"],
        score=score,
        write=lambda answers, path: write_submission(answers, "yesno", path),
    )


def make_examples(
    paths: list[Path], sets: dict[str, QuestionSet], kind: str
) -> tuple[dict[str, list[Any]], TrainingSet]:
    """The examples of each split, train first, and the training set."""
    asked = [question for part in sets.values() for question in part.every_kind]
    if kind != "yesno":
        training = read_training_set(paths, kind, asked)
        return {
            "train": training.examples,
            **{split: set_examples(part, split) for split, part in sets.items()},
        }, training
    training = read_yesno_training_set(paths, asked)
    examples = {split: yesno_examples(part.questions) for split, part in sets.items()}
    for split, part in sets.items():
        say_without_context(part, split, len(examples[split]))
    return {"train": training.examples, **examples}, training


def set_record(test: QuestionSet, examples: list[Any], kind: str) -> dict[str, Any]:
    """What results.json says of the test or dev split."""
    found = {} if kind == "yesno" else {"questions with a golden answer in their contexts": answerable(test, examples)}
    counts = {
        "questions": len(test.questions),
        "examples": len(examples),
        **found,
        "batches": {name: len(questions) for name, questions in test.batches.items()},
    }
    return joint_record([*test.golden, *test.contexts], counts)


def train_record(training: TrainingSet) -> dict[str, Any]:
    """What results.json says of the training split."""
    counts = {"questions": training.questions, "examples": len(training.examples), "left out": training.left_out}
    return joint_record(training.files, counts)


def sizes_of(test: QuestionSet, kind: str) -> Sizes:
    """The questions of each batch, by which a published test set is known."""
    return {f"{kind} questions": tuple(len(questions) for questions in test.batches.values())}


def paths_of(options: Namespace) -> list[Path]:
    """Where the test set is: --test, or --data."""
    return options.test or [options.data]


def prepare(benchmark: Benchmark, options: Namespace, config: FinetuneConfig) -> Prepared:
    """Read, check and turn into inputs as the flags say."""
    if kind_is_ready_made(options):
        return texts.prepare(benchmark, options, config, bioasq_yesno.CORPUS)
    if options.train_split:
        raise ValueError("--train-split has no use here: name the training files with --train")
    if not 0 < options.list_share <= 1:
        raise ValueError(f"--list-share {options.list_share} is out of range: above 0, at most 1")
    kind = options.question_type
    if options.train_on_dev and options.dev and kind != "yesno":
        raise ValueError(
            f"--train-on-dev: where the answers to --dev's {kind} questions are in their contexts is only looked for "
            "in training files, so name those of --dev with --train too, and leave --dev and this flag out"
        )
    sets = {"test": read_question_set(paths_of(options), options.edition, kind)}
    test = sets["test"]
    name = " ".join(filter(None, (benchmark.name, test.edition, kind)))
    variant = recognise(benchmark, sizes_of(test, kind), options.data, options.nonstandard_split, name)
    if options.dev:
        sets["dev"] = read_question_set(options.dev, options.edition, kind)
    paths = find_training_files(options.train, options.data, test.edition, kind)
    examples, training = make_examples(paths, sets, kind)
    make_task = yesno_task if kind == "yesno" else partial(spans_task, kind=kind)
    records = {split: set_record(part, examples[split], kind) for split, part in sets.items()}
    return Prepared(
        variant=variant,
        tasks=[make_task(examples, sets, options=options, config=config)],
        metric=METRICS[kind],
        split={"train": train_record(training), **records},
        texts={
            "train": training.texts,
            **{split: shown_texts(part, examples[split], kind) for split, part in sets.items()},
        },
    )


def shown_texts(test: QuestionSet, examples: list[Any], kind: str) -> list[tuple[str, str]]:
    """(document id, text) of what the model is shown of a test or dev set."""
    return snippet_texts(test.questions) if kind == "yesno" else context_texts(examples)


def kind_is_ready_made(options: Namespace) -> bool:
    """Whether --data has yes/no examples made by others (BLURB's, Bio-ELECTRA's)."""
    return options.question_type == "yesno" and not options.test and bioasq_yesno.is_ready_made(options.data)


def score_file(benchmark: Benchmark, options: Namespace) -> dict[str, Any]:
    """BioASQ's scores of --predictions, a submission in BioASQ's form, on the golden files."""
    if kind_is_ready_made(options):
        return texts.score_file(benchmark, options, bioasq_yesno.CORPUS)
    if options.split != "test":
        raise ValueError(f"--split {options.split}: golden files are a test set; name other ones with --test")
    kind = options.question_type
    test = read_question_set(paths_of(options), options.edition, kind)
    recognise(benchmark, sizes_of(test, kind), options.data, options.nonstandard_split)
    submitted = read_submission(options.predictions, {question.id: question for question in test.every_kind})
    many = sum(len(submitted.get(question.id, ())) > MOST for question in test.questions)
    if kind == "factoid" and many:
        ranks.say(f"{many} questions have more than {MOST} answers: only the first {MOST} count, as in BioASQ's rules")
    return batch_scores(test.batches, submitted, kind)


def add_flags(parser: ArgumentParser) -> None:
    """BioASQ's flags and those of the family."""
    parser.add_argument(
        "--question-type", choices=KINDS, default="factoid", help="Which questions to answer (default: factoid)."
    )
    parser.add_argument(
        "--edition", metavar="7b", help="Which edition to test on (default: the latest that the folder has)."
    )
    parser.add_argument(
        "--train", nargs="+", type=Path, metavar="FILE", help="Training files, in place of the edition's in --data."
    )
    parser.add_argument(
        "--test", nargs="+", type=Path, metavar="PATH", help="Golden files, and SQuAD-like ones with contexts, or "
        "folders of them, in place of those in --data.",
    )  # fmt: skip
    parser.add_argument(
        "--dev", nargs="+", type=Path, metavar="PATH", help="The same, for choosing the epoch; without it the last "
        "epoch counts.",
    )  # fmt: skip
    parser.add_argument(
        "--list-share",
        type=float,
        default=0.3,
        metavar="SHARE",
        help="A list question gets the answers at least this share as likely as the likeliest (default: 0.3).",
    )
    span_qa.add_flags(parser)
