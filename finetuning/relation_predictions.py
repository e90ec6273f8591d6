"""Predicted relations as files: written after training, read for scoring. Nothing to run here.

Used by finetuning.relations. Three formats:

- "table": a header and `index<TAB>label` for each row of the test file, in BLUE's spelling of the labels; the index is
  the file's own, or the number of the row from 0;
- "semeval": the official lines of SemEval-2013 task 9, `sentence|entity|entity|1|effect` or `...|0|null`, one for
  each pair;
- "biocreative": the official lines of BioCreative VI, `PMID<TAB>CPR:3<TAB>Arg1:T1<TAB>Arg2:T2`, one for each
  predicted relation; what is not named is none.

A file of any of them is known by its first line.
"""

from collections import defaultdict
from pathlib import Path

from finetuning.relation_files import Relation, read_lines
from finetuning.text_inputs import Example, Label

TABLE_HEADER = "index\tlabel"
Predictions = dict[str, list[str]]  # index of a pair -> its labels, in file order


def table_lines(examples: list[Example], predicted: list[Label]) -> list[str]:
    """`index<TAB>label` under a header."""
    rows = [f"{example.index}\t{label}" for example, label in zip(examples, predicted, strict=True)]
    return [TABLE_HEADER, *rows]


def semeval_lines(examples: list[Example], predicted: list[Label], negative: str) -> list[str]:
    """One line a pair; the examples' index is `sentence|entity|entity`."""
    answers = ["0|null" if label == negative else f"1|{label}" for label in predicted]
    return [f"{example.index}|{answer}" for example, answer in zip(examples, answers, strict=True)]


def biocreative_lines(examples: list[Example], predicted: list[Label], negative: str) -> list[str]:
    """One line a predicted relation; the examples' index is `PMID.T1.T2`."""
    lines = []
    for example, label in zip(examples, predicted, strict=True):
        pmid, first, second = example.index.split(".")
        lines += [f"{pmid}\t{label}\tArg1:{first}\tArg2:{second}"] if label != negative else []
    return list(dict.fromkeys(lines))


def semeval_index(sentence: str, first: str, second: str) -> str:
    """The two entities may stand in either order."""
    return "|".join([sentence, *sorted((first, second))])


def format_of(line: str) -> str:
    """Which of the formats begins with this line."""
    if line.count("|") == 4 and "\t" not in line:
        return "semeval"
    return "biocreative" if len(line.split("\t")) == 4 else "table"


def parse_line(line: str, kind: str, negative: str) -> tuple[str, str] | None:
    """(index, label) of one line, None if it is not of this format."""
    if kind == "semeval":
        cells = line.strip().split("|")
        if len(cells) != 5 or cells[3] not in ("0", "1"):
            return None
        return semeval_index(*cells[:3]), cells[4] if cells[3] == "1" else negative
    cells = [cell.strip() for cell in line.split("\t")]
    if kind == "biocreative":
        if len(cells) != 4 or cells[2][:5] != "Arg1:" or cells[3][:5] != "Arg2:":
            return None
        return f"{cells[0]}.{cells[2][5:]}.{cells[3][5:]}", cells[1]
    return (cells[0], cells[-1]) if len(cells) in (2, 3) and cells[0] else None


def read_predictions(path: Path, spellings: dict[str, str], negative: str) -> tuple[str, Predictions]:
    """The format of a file and the labels it gives, in our spelling; ValueError names a line that is wrong."""
    lines, _ = read_lines(path)
    kind = format_of(lines[0]) if lines else "biocreative"  # no line at all: no relation predicted
    predictions = defaultdict(list)
    for number, line in enumerate(lines, start=1):
        header = [cell.strip().lower() for cell in line.split("\t")]
        if number == 1 and kind == "table" and header[0] == "index" and header[-1] in ("label", "prediction"):
            continue
        parsed = parse_line(line, kind, negative)
        if parsed is None:
            raise ValueError(f"{path} line {number} is {line[:60]!r}: expected the {kind} format of the lines before")
        index, label = parsed
        if label != negative and label not in spellings:
            raise ValueError(f"{path} line {number} has the label {label!r}: expected {', '.join(spellings)}")
        predictions[index].append(spellings.get(label, label))
    return kind, dict(predictions)


def in_order(
    relations: list[Relation], kind: str, predictions: Predictions, negative: str, path: Path
) -> tuple[list[str], int]:
    """The predicted label of each relation, and how many predicted pairs are none of them.

    Where an index stands on several rows, its labels go to them in turn; one label is for all of them. ValueError if a
    pair has no prediction, except in the biocreative format, where it is predicted to be none.
    """
    labels, asked = [], defaultdict(int)
    for relation in relations:
        index = semeval_index(*relation.index.split("|")) if kind == "semeval" else relation.index
        found = predictions.get(index, [negative] if kind == "biocreative" else [])
        if not found:
            raise ValueError(f"{path} has no prediction for {relation.index}: each pair of the file needs one")
        labels.append(found[min(asked[index], len(found) - 1)])
        asked[index] += 1
    others = [index for index in predictions if index not in asked]
    if others and kind != "biocreative":
        raise ValueError(f"{path} has a prediction for {others[0]}, which is no pair of the test file")
    return labels, len(others)
