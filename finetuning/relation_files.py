"""Read relation examples that someone has made ready, one sentence and its label a line. Nothing to run here.

Used by finetuning.chemprot, ddi, gad and euadr. What is read as it is distributed:

- BLUE: `index<TAB>sentence<TAB>label` under a header, with a byte order mark or CRLF or neither, in files named
  .tsv or .csv; the cells are always divided by tabs, and quotes are text;
- BLURB as SciFive's repository has it: `sentence<TAB>class number`, no header, the names of the classes in
  `label2id.tsv` (`CPR:3<TAB>1`); GAD's classes are 0 and 1 and have no such file;
- bio_electra: `sentence<TAB>label` under a header, CRLF;
- BioBERT: folders 1 ... 10, one a fold, with `train.tsv` (no header, two columns), `test.tsv` (header, three
  columns) and an empty `dev.tsv`.

1. Find the file of each split, or the ten folders.
2. Read its rows; a header is known by its words, a line that has other columns than the rest is an error.
3. Find the two arguments in each sentence by their placeholders, and give the labels one spelling.
"""

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from finetuning.ranks import say
from finetuning.text_files import checksum, numbered_lines

SPLIT_FILES = {
    "train": ("train.tsv", "train.csv", "train_blurb.tsv", "train.txt"),
    "dev": ("dev.tsv", "devel.tsv", "dev.csv", "dev_blurb.tsv", "dev.txt"),
    "test": ("test.tsv", "test.csv", "test_blurb.tsv", "test.txt"),
}
HEADERS = {("index", "sentence", "label"), ("sentence", "label")}
FOLDS = 10

Span = tuple[int, int]  # first character, one after the last


@dataclass(frozen=True)
class Marks:
    """The placeholders of a data set: of the first argument, the second, and both where they overlap."""

    first: str
    second: str
    both: str

    def names(self) -> tuple[str, ...]:
        """Each once."""
        return tuple(dict.fromkeys((self.first, self.second, self.both)))


@dataclass(frozen=True)
class Relation:
    """A sentence with two arguments and the class of their relation.

    `arguments` are their characters, in the order of their roles; the same span twice where they overlap and so are
    one thing. None where a ready-made text shows neither.
    """

    text: str
    label: str
    arguments: tuple[Span, Span] | None
    index: str = ""  # of the pair, as its file calls it
    document: str = ""  # "pmid:123" where known


@dataclass
class RelationFile:
    """One split: its relations, and whether their texts are "raw" or "anonymised" (have placeholders)."""

    path: Path
    sha256: str
    relations: list[Relation]
    form: str
    header: tuple[str, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)  # what else results.json should say

    def label_counts(self) -> dict[str, int]:
        """How many relations have each label, in alphabetical order."""
        return dict(sorted(Counter(relation.label for relation in self.relations).items()))


@dataclass(frozen=True)
class Row:
    """One line of a table: its number in the file, and the cells."""

    line: int
    index: str
    sentence: str
    label: str


def find_split(folder: Path, split: str) -> Path | None:
    """The one file of `folder` that holds `split`, None if there is none; ValueError if there is more than one."""
    assert split in SPLIT_FILES, split
    found = [folder / name for name in SPLIT_FILES[split] if (folder / name).is_file()]
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise ValueError(f"{folder} has {names}: keep only the one that is the {split} split")
    return found[0] if found else None


def read_lines(path: Path) -> tuple[list[str], str]:
    """The lines of `path` without their ends (empty ones at the end left out), and its SHA-256."""
    lines = [line for _, line in numbered_lines(path)]
    while lines and not lines[-1].strip():
        lines.pop()
    return lines, checksum([path])


def read_table(path: Path) -> tuple[list[Row], tuple[str, ...], str]:
    """The rows of a table of two or three columns, its header (() without one) and its SHA-256.

    ValueError names the line that has other columns, or an empty cell.
    """
    lines, digest = read_lines(path)
    if not lines:
        raise ValueError(f"{path} is empty: expected a sentence, a tab and its label on each line")
    cells = [line.split("\t") for line in lines]
    header = tuple(cell.strip().lower() for cell in cells[0])
    header = header if header in HEADERS else ()
    rows, columns = [], len(header) or len(cells[0])
    for number, row in enumerate(cells, start=1):
        if number == 1 and header:
            continue
        if len(row) != columns or columns not in (2, 3):
            expected = f"{columns}" if columns in (2, 3) else "2 (sentence, label) or 3 (index, sentence, label)"
            raise ValueError(
                f"{path} line {number} has {len(row)} columns ({lines[number - 1][:60]!r}): expected {expected}, "
                "divided by tabs"
            )
        if not all(cell.strip() for cell in row):
            raise ValueError(f"{path} line {number} has an empty cell ({lines[number - 1][:60]!r}): fill it or drop it")
        rows.append(Row(number, row[0] if columns == 3 else str(len(rows)), row[-2], row[-1].strip()))
    if not rows:
        raise ValueError(f"{path} has a header and no line below it: is the file complete?")
    return rows, header, digest


def class_numbers(folder: Path) -> dict[str, str]:
    """Number -> name of each class as label2id.tsv says; nothing where there is no such file."""
    path = folder / "label2id.tsv"
    if not path.is_file():
        return {}
    names = {}
    for number, line in enumerate(read_lines(path)[0], start=1):
        cells = line.split("\t")
        if len(cells) != 2 or not cells[1].isdigit() or cells[1] in names:
            raise ValueError(f"{path} line {number} is {line[:60]!r}: expected a class, a tab and a number of its own")
        names[cells[1]] = cells[0]
    return names


def one_label(row: Row, path: Path, numbers: dict[str, str], spellings: dict[str, str]) -> str:
    """The label of `row` in our spelling; ValueError if it is none of the benchmark's."""
    label = numbers.get(row.label, row.label)
    if label not in spellings:
        known = ", ".join(dict.fromkeys([*numbers, *spellings]))
        raise ValueError(f"{path} line {row.line} has the label {row.label!r}: expected one of {known}")
    return spellings[label]


def locate(text: str, marks: Marks) -> tuple[Span, Span] | None:
    """Where the placeholders of both arguments are; of several of one kind the first. None if there is none.

    One alone is both arguments, as bio_electra writes mentions that overlap.
    """
    both = text.find(marks.both)
    if both >= 0:
        return ((both, both + len(marks.both)),) * 2
    found = {mark: [at.span() for at in re.finditer(re.escape(mark), text)] for mark in (marks.first, marks.second)}
    if marks.first == marks.second:
        pair = found[marks.first][:2]
    else:
        pair = found[marks.first][:1] + found[marks.second][:1]
    return (pair[0], pair[-1]) if pair else None


def choose_marks(rows: list[Row], choices: tuple[Marks, ...]) -> Marks:
    """The placeholders that most sentences have."""
    return max(choices, key=lambda marks: sum(locate(row.sentence, marks) is not None for row in rows))


def read_ready_made(
    path: Path, spellings: dict[str, str], choices: tuple[Marks, ...], document: re.Pattern | None = None
) -> tuple[RelationFile, Marks]:
    """A table of sentences with placeholders, and which those are.

    `spellings` are the labels in the file and the names they get; `document` finds the PMID in an index. Sentences
    without a placeholder are kept, without arguments, and counted.
    """
    rows, header, digest = read_table(path)
    numbers = class_numbers(path.parent)
    marks = choose_marks(rows, choices)
    relations = []
    for row in rows:
        pmid = document.match(row.index) if document else None
        relations.append(
            Relation(
                text=row.sentence,
                label=one_label(row, path, numbers, spellings),
                arguments=locate(row.sentence, marks),
                index=row.index,
                document=f"pmid:{pmid[1]}" if pmid else "",
            )
        )
    bare = sum(relation.arguments is None for relation in relations)
    if bare:
        say(f"warning: {bare} of {len(rows)} sentences of {path} have no {' or '.join(marks.names())}: they are kept")
    counts = {"without placeholders": bare} if bare else {}
    return RelationFile(path, digest, relations, "anonymised", header, counts), marks


def wanted_splits(train_split: str | None) -> dict[str, str]:
    """Split -> the split whose file is read for it: train from `train_split`, if given, which is then no dev split."""
    if train_split not in (None, "train", "dev"):
        raise ValueError(f"--train-split {train_split}: expected dev, the other split that has labels to train on")
    if train_split == "dev":
        return {"train": "dev", "test": "test"}
    return {split: split for split in SPLIT_FILES}


def split_paths(folder: Path, wanted: dict[str, str]) -> dict[str, Path]:
    """The file of each wanted split; ValueError if one is not there."""
    paths = {}
    for split, source in wanted.items():
        path = find_split(folder, source)
        if path is None:
            names = ", ".join(SPLIT_FILES[source])
            cure = ""
            if split == "train" and find_split(folder, "dev"):
                cure = "; --nonstandard-split --train-split dev trains on the dev file"
            raise ValueError(f"{folder} has no {source} file: expected one of {names}{cure}")
        paths[split] = path
    return paths


def read_tables(
    folder: Path,
    wanted: dict[str, str],
    spellings: dict[str, str],
    choices: tuple[Marks, ...],
    document: re.Pattern | None = None,
) -> tuple[dict[str, RelationFile], Marks]:
    """The tables of the wanted splits (see `read_ready_made`) and their placeholders; ValueError if they differ."""
    files, marks = {}, {}
    for split, path in split_paths(folder, wanted).items():
        files[split], marks[split] = read_ready_made(path, spellings, choices, document)
    check_alike(files, {split: one.names() for split, one in marks.items()}, "placeholders")
    return files, marks["train"]


def check_alike(files: dict[str, RelationFile], traits: dict[str, object], name: str) -> None:
    """ValueError if a trait, called `name`, is not the same in all files: they are of different distributions."""
    for split, trait in traits.items():
        if trait != traits["train"]:
            raise ValueError(
                f"{files['train'].path} and {files[split].path} are of different distributions: their {name} are "
                f"{traits['train']} and {trait}"
            )


def fold_folders(folder: Path) -> list[Path]:
    """The folders 1 ... 10 of `folder`, [] if it has none of them; ValueError if some are not there."""
    found = [folder / str(i) for i in range(1, FOLDS + 1) if (folder / str(i)).is_dir()]
    if found and len(found) != FOLDS:
        absent = [str(i) for i in range(1, FOLDS + 1) if folder / str(i) not in found]
        raise ValueError(f"{folder} has no folder {', '.join(absent)}: the folds are in folders 1 ... {FOLDS}")
    return found


def read_folds(folder: Path, spellings: dict[str, str], marks: Marks) -> list[dict[str, RelationFile]]:
    """The splits of each of BioBERT's folds; an index is `<fold>.<index in the file>`.

    A dev file that is empty is none. One with the same sentences as the test file is not used, which is said: the
    epoch would be chosen on the test data.
    """
    folds = []
    for place in fold_folders(folder):
        paths = {split: find_split(place, split) for split in SPLIT_FILES}
        for split in ("train", "test"):
            if paths[split] is None:
                raise ValueError(f"{place} has no {split} file: expected one of {', '.join(SPLIT_FILES[split])}")
        if paths["dev"] and not read_lines(paths["dev"])[0]:
            paths["dev"] = None
        files = {split: read_ready_made(path, spellings, (marks,))[0] for split, path in paths.items() if path}
        for file in files.values():
            file.relations = [replace(one, index=f"{place.name}.{one.index}") for one in file.relations]
        if "dev" in files and [one.text for one in files["dev"].relations] == [
            one.text for one in files["test"].relations
        ]:
            say(f"warning: {paths['dev']} has the sentences of {paths['test']}: it is not used")
            del files["dev"]
        folds.append(files)
    return folds
