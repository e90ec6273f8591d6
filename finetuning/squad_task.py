"""SQuAD and files in its form, from a folder to a Task and to scores. Nothing to run here; run finetuning.squad.

1. Find the splits in --data: train*.json, dev*.json, test*.json. Without a test file dev is the test split.
2. A single file is cut into --folds parts by article (or question); each part is the test split once.
3. Score the best answer of each question; where questions may have no answer, "" is predicted when the
   no-answer score is above --no-answer-threshold, and the best threshold and its F1 are reported beside.
4. Predictions are written as SQuAD's scripts read them: {id: text}, and for 2.0 {id: no-answer score} beside.
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from finetuning import ranks, span_qa, splits
from finetuning.command import Prepared
from finetuning.config import FinetuneConfig
from finetuning.loop import Task
from finetuning.results import write_json
from finetuning.span_inputs import Answers
from finetuning.splits import SPLITS, Benchmark, recognise
from finetuning.squad_files import Example, SquadFile, best_threshold, read_squad, squad_scores
from finetuning.text_files import hidden, read_object

METRIC = "F1"
THRESHOLDS = {"joint": -2.75, "plain": 0.0}  # google-research/electra's, Hugging Face's


def find_files(data: Path, needed: tuple[str, ...] = ("train", "test")) -> dict[str, Path]:
    """The file of each split, or {"all": file} where there is one file only; ValueError if it is unclear."""
    if data.is_file():
        return {"all": data}
    if not data.is_dir():
        raise ValueError(f"--data {data} is not there: give the folder with the files")
    files = sorted(path for path in data.glob("*.json") if not hidden(path))
    found: dict[str, Path] = {}
    for split in SPLITS:
        of_split = [path for path in files if path.name.lower().startswith(split)]
        if len(of_split) > 1:
            names = " and ".join(path.name for path in of_split)
            raise ValueError(f"{data} has {names}: keep one version of SQuAD in a folder")
        if of_split:
            found[split] = of_split[0]
    if not found and len(files) == 1:
        return {"all": files[0]}
    if "test" not in found and "dev" in found and "dev" not in needed:
        found["test"] = found.pop("dev")
    absent = [split for split in needed if split not in found]
    if absent:
        raise ValueError(f"{data} has no {' and no '.join(absent)} file: expected train*.json and dev*.json")
    return {split: found[split] for split in SPLITS if split in found}


def read_files(paths: dict[str, Path]) -> dict[str, SquadFile]:
    """The files of the splits, checked; says how many offsets were wrong."""
    files = {split: read_squad(path) for split, path in paths.items()}
    for file in files.values():
        unknown = [example.id for example in file.examples if example.answers is None]
        if unknown:
            raise ValueError(f"{file.path}, question {unknown[0]}, has no answers: nothing to learn from or to score")
        if file.repaired or file.unusable:
            ranks.say(
                f"{file.path.name}: {file.repaired + file.unusable} answers are not where the file says; "
                f"{file.repaired} found, {file.unusable} not (not trained on, but scored)"
            )
    return files


def fold_examples(examples: list[Example], folds: int) -> list[dict[str, list[Example]]]:
    """For each fold its train and test examples; articles go to the folds in turn and stay whole.

    Where there are fewer articles than folds (bio_electra's BioASQ file is a single one), questions do: the same
    question on several contexts is then in one fold.
    """
    articles = dict.fromkeys(example.document for example in examples)
    by_article = len(articles) >= folds
    units = [example.document if by_article else example.question for example in examples]
    order = {unit: i for i, unit in enumerate(dict.fromkeys(units))}
    if not 2 <= folds <= len(order):
        raise ValueError(f"--folds {folds} does not fit: the file has {len(order)} questions; give 2 up to that")
    numbers = [order[unit] % folds for unit in units]
    return [
        {
            "train": [example for example, number in zip(examples, numbers, strict=True) if number != fold],
            "test": [example for example, number in zip(examples, numbers, strict=True) if number == fold],
        }
        for fold in range(folds)
    ]


def predicted_texts(examples: list[Example], found: list[Answers], threshold: float | None) -> dict[str, str]:
    """id -> best answer; "" where the no-answer score is above `threshold` (None: always answer)."""
    texts = {}
    for example, answers in zip(examples, found, strict=True):
        none = not answers.answers or threshold is not None and answers.no_answer > threshold
        texts[example.id] = "" if none else answers.answers[0].text
    return texts


def score_answers(examples: list[Example], found: list[Answers], threshold: float | None) -> dict[str, Any]:
    """SQuAD's scores; with a threshold also the best one."""
    scores = squad_scores(examples, predicted_texts(examples, found, threshold))
    if threshold is None:
        return scores
    no_answer = {example.id: answers.no_answer for example, answers in zip(examples, found, strict=True)}
    best = best_threshold(examples, predicted_texts(examples, found, None), no_answer)
    return {**scores, **best, "no-answer threshold": threshold}


def write_answers(examples: list[Example], found: list[Answers], threshold: float | None, path: Path) -> None:
    """Predictions in the official form; with a threshold also the no-answer scores, in a file beside."""
    write_json(path, predicted_texts(examples, found, threshold))
    if threshold is not None:
        no_answer = {example.id: answers.no_answer for example, answers in zip(examples, found, strict=True)}
        write_json(path.with_suffix(".no-answer.json"), no_answer)


def squad_task(examples: dict[str, list[Example]], benchmark: str, options: Namespace, config: FinetuneConfig) -> Task:
    """The Task of one split into train, test and perhaps dev."""
    unanswerable = any(example.answers == () for part in examples.values() for example in part)
    settings = span_qa.settings_from(options, unanswerable)
    threshold = options.no_answer_threshold
    if threshold is None:
        threshold = THRESHOLDS[settings.head]
    threshold = threshold if unanswerable else None
    return span_qa.span_task(
        examples,
        options.model,
        config,
        settings,
        score=lambda split, found: score_answers(examples[split], found, threshold),
        write=lambda found, path: write_answers(examples["test"], found, threshold, path),
        record={"benchmark": benchmark, "metric": METRIC, "threshold": threshold},
    )


def split_record(file: SquadFile) -> dict[str, Any]:
    """What results.json says of one split."""
    return {
        "file": file.path.name,
        "sha256": file.sha256,
        "questions": len(file.examples),
        "without answer": sum(example.answers == () for example in file.examples),
        "contexts": len({example.context for example in file.examples}),
        "articles": len({example.document for example in file.examples}),
        "wrong offsets": file.repaired + file.unusable,
        "unusable offsets": file.unusable,
    }


def prepare(benchmark: Benchmark, options: Namespace, config: FinetuneConfig) -> Prepared:
    """Read, check and turn into inputs as the flags say."""
    if options.train_split:
        raise ValueError("--train-split has no use here: with one file only, use --folds")
    files = read_files(find_files(options.data))
    if ("all" in files) != bool(options.folds):
        use = "has one file: add --folds 5" if "all" in files else "has a train file: leave --folds out"
        raise ValueError(f"--data {options.data} {use}")
    sizes = {"questions": tuple(len(file.examples) for file in files.values())}
    name = f"{benchmark.name} ({options.data.stem})"
    variant = recognise(benchmark, sizes, options.data, options.nonstandard_split, name)
    if options.folds:
        parts = fold_examples(files["all"].examples, options.folds)
    else:
        parts = [{split: file.examples for split, file in files.items()}]
    return Prepared(
        variant=variant,
        tasks=[squad_task(part, benchmark.name, options, config) for part in parts],
        metric=METRIC,
        split={split: split_record(file) for split, file in files.items()},
        texts={split: [("", text) for text in distinct_contexts(file)] for split, file in files.items()},
    )


def distinct_contexts(file: SquadFile) -> list[str]:
    """Each context once, in order."""
    return list(dict.fromkeys(example.context for example in file.examples))


def score_file(benchmark: Benchmark, options: Namespace) -> dict[str, Any]:
    """Scores of --predictions, {id: text} as SQuAD's scripts read it, on --split of --data."""
    paths = find_files(options.data, needed=(options.split,))
    (file,) = read_files({"gold": paths.get("all") or paths[options.split]}).values()
    predictions = read_object(options.predictions, "SQuAD's predictions, id -> answer")
    known = {example.id for example in file.examples}
    for name, text in predictions.items():
        if name not in known:
            raise ValueError(f"{options.predictions} answers question {name}, which is not in {file.path}")
        if not isinstance(text, str):
            raise ValueError(f"{options.predictions}, question {name}: the answer is no text")
    found = {"questions": len(file.examples)}
    splits.check_split(benchmark, options.split, found, file.path, options.nonstandard_split)
    return squad_scores(file.examples, predictions)


def add_flags(parser: ArgumentParser) -> None:
    """SQuAD's flags and those of the family."""
    span_qa.add_flags(parser)
    parser.add_argument(
        "--no-answer-threshold",
        type=float,
        metavar="SCORE",
        help="Answer with nothing above this no-answer score, where questions may have no answer (default: -2.75 "
        "for the joint head, as google-research/electra; 0 for the plain one).",
    )
    parser.add_argument(
        "--folds",
        type=int,
        default=0,
        metavar="K",
        help="Cross-validate a single file, cut by article (or by question).",
    )
