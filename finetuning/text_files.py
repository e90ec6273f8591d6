"""Read texts and their labels as the community distributes them. Nothing to run here.

Used by the text benchmarks (finetuning.pubmed_rct, finetuning.ohsumed, ...). Here are what all readers share, and

- `read_blocks`: PubMed RCT's form: `###id`, then lines `LABEL<TAB>sentence`, then a blank line;
- `read_class_folders`: a folder for each class, a file for each text (OHSUMED);
- `read_table`: columns divided by tabs, with or without a header.

Pairs of texts are read by finetuning.pair_files, HoC by finetuning.hoc_files, PubMedQA by finetuning.pubmedqa_files.
"""

import hashlib
import json
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from finetuning.text_inputs import Example

HELD_OUT = 10  # every so many-th training example is the dev split, where a benchmark has none


@dataclass(frozen=True)
class TextFile:
    """One split: its examples, where they are from, and what is counted in it."""

    path: Path  # a file, or the folder of several
    sha256: str
    examples: list[Example]
    counts: dict[str, int]  # by which the published split is known; the first is the unit that the table shows
    notes: dict[str, int | str] = field(default_factory=dict)  # more for results.json, such as what was left out


def read_text(path: Path) -> str:
    """The text of a UTF-8 file without byte-order mark; ValueError naming the line that is not UTF-8."""
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path} line {line} is not UTF-8: convert the file to UTF-8") from None


def read_object(path: Path, form: str) -> dict[str, Any]:
    """The JSON object in `path`; ValueError where it is none (`form` says what it should be) or has a name twice."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            ((name, _),) = Counter(name for name, _ in pairs).most_common(1)
            raise ValueError(f"{path} has {name!r} more than once in one object: keep one")
        return dict(pairs)

    try:
        content = json.loads(read_text(path), object_pairs_hook=once)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} line {error.lineno} is not JSON: {error.msg}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no JSON object: expected the form of {form}")
    return content


def numbered_lines(path: Path) -> list[tuple[int, str]]:
    """Lines with their numbers from 1, without line ends; a last empty one is left out."""
    lines = read_text(path).split("\n")  # not splitlines(): it also breaks at characters such as U+0085
    if not lines[-1]:
        lines.pop()
    return [(number, line.rstrip("\r")) for number, line in enumerate(lines, start=1)]


def checksum(paths: Iterable[Path]) -> str:
    """SHA-256 of one file, or of several with their names."""
    paths = sorted(paths)
    if len(paths) == 1:
        return hashlib.sha256(paths[0].read_bytes()).hexdigest()
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.parent.name}/{path.name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def hidden(path: Path) -> bool:
    """Whether the file is one that macOS puts into archives (`._name`, `.DS_Store`), or otherwise hidden."""
    return path.name.startswith(".")


def find_splits(options: Namespace, names: dict[str, tuple[str, ...]]) -> dict[str, Path]:
    """The file of each split in --data, `names` being those that it may have; dev may be absent.

    With --train-split NAME the file of that split is the one to train on, and no longer what it was. ValueError if
    train or test is absent, or a split has two files.
    """
    found = {}
    for split, candidates in names.items():
        there = [options.data / name for name in candidates if (options.data / name).is_file()]
        if len(there) > 1:
            files = " and ".join(path.name for path in there)
            raise ValueError(f"{options.data} has {files}: keep only the one that is the {split} split")
        if there:
            found[split] = there[0]
    chosen = getattr(options, "train_split", None)
    if chosen:
        if chosen not in found:
            raise ValueError(f"--train-split {chosen}: {options.data} has only {', '.join(found) or 'none of them'}")
        found["train"] = found.pop(chosen)
    for split in ("train", "test"):
        if split not in found:
            hint = "; or name another with --train-split" if split == "train" else ""
            raise ValueError(f"{options.data} has no {split} file: expected one of {', '.join(names[split])}{hint}")
    return {split: found[split] for split in ("train", "dev", "test") if split in found}


def refuse_train_split(options: Namespace) -> None:
    """ValueError where the files themselves say which split is which."""
    if getattr(options, "train_split", None):
        raise ValueError(f"--train-split {options.train_split} is of no use here: leave the flag out")


def read_splits(
    options: Namespace, names: dict[str, tuple[str, ...]], read: Callable[[Path], TextFile]
) -> dict[str, TextFile]:
    """Each split's file as `read` reads it."""
    return {split: read(path) for split, path in find_splits(options, names).items()}


def not_empty(path: Path, examples: list[Example], expected: str) -> list[Example]:
    """The examples; ValueError if there is none."""
    if not examples:
        raise ValueError(f"{path} has nothing in it: expected {expected}")
    return examples


def hold_out(file: TextFile) -> tuple[TextFile, TextFile]:
    """Train and dev, where there is no dev split: every tenth example of each label, in the file's order, is dev."""
    seen: Counter = Counter()
    train, dev = [], []
    for example in file.examples:
        group = example.label if isinstance(example.label, str) else ""
        seen[group] += 1
        (train if seen[group] % HELD_OUT else dev).append(example)
    if not dev:
        raise ValueError(f"{file.path} has too few examples to hold out a dev split: at least {HELD_OUT} of one label")
    unit = next(iter(file.counts))
    return tuple(
        replace(file, examples=part, counts={unit: len(part)}, notes={**file.notes, "part": name})
        for part, name in ((train, f"all but every {HELD_OUT}th"), (dev, f"every {HELD_OUT}th of each label"))
    )


def read_blocks(path: Path, labels: Collection[str] | None = None) -> TextFile:
    """Sentences of abstracts; ValueError naming the line that is none of the three kinds, or not in `labels`."""
    examples, number_of = [], Counter()
    document = None
    for number, line in numbered_lines(path):
        if line.startswith("###"):
            document = line[3:].strip()
            number_of[document] += 0
        elif not line.strip():
            document = None
        else:
            label, tab, sentence = line.partition("\t")
            if document is None:
                raise ValueError(
                    f"{path} line {number} ({line[:40]!r}) comes before a line `###id`: add its abstract's"
                )
            if not (tab and label.strip() and sentence.strip()):
                raise ValueError(f"{path} line {number} ({line[:40]!r}) is not `LABEL<TAB>sentence`: correct it")
            if labels is not None and label.strip() not in labels:
                raise ValueError(f"{path} line {number}: label {label!r} is none of {', '.join(labels)}: correct it")
            index = f"{document}_{number_of[document]}"
            number_of[document] += 1
            examples.append(Example(sentence.strip(), label.strip(), document=document, index=index))
    not_empty(path, examples, "lines `###id` and `LABEL<TAB>sentence`")
    return TextFile(path, checksum([path]), examples, {"sentences": len(examples), "abstracts": len(number_of)})


def read_class_folders(folder: Path) -> TextFile:
    """Texts in folders named after their class; the lines of a file (a title, then sentences) are joined by blanks."""
    examples, seen = [], {}
    paths = sorted(path for path in folder.glob("*/*") if path.is_file() and not hidden(path))
    for path in paths:
        name = path.parent.name
        if path.name in seen:
            raise ValueError(
                f"{path} is in {seen[path.name]} too: this is the collection with several classes a text; get the one "
                "with a single class"
            )
        seen[path.name] = name
        text = " ".join(line.strip() for line in read_text(path).split("\n"))
        if not text.strip():
            raise ValueError(f"{path} is empty: delete it or put its text back")
        examples.append(Example(text.strip(), name, index=path.name))
    not_empty(folder, examples, "a folder for each class with a file for each text")
    return TextFile(folder, checksum(paths), examples, {"documents": len(examples)})


def read_table(path: Path, columns: Iterable[str], header: bool = True) -> list[tuple[int, dict[str, str]]]:
    """Lines of tab-divided columns as (line number, cells by column name); blank lines are passed over.

    With a header `columns` are those that must be in it; without, they are the names of all columns. ValueError
    naming the line with more or fewer cells. Quotes are characters like others.
    """
    columns, rows = list(columns), numbered_lines(path)
    if header:
        names = [name.strip() for name in rows[0][1].split("\t")] if rows else []
        absent = [name for name in columns if name not in names]
        if absent:
            raise ValueError(f"{path} line 1 has no column {', '.join(absent)}: expected a header with its name")
        columns, rows = names, rows[1:]
    found = []
    for number, line in rows:
        if not line.strip():
            continue
        cells = line.split("\t")
        if len(cells) != len(columns):
            raise ValueError(
                f"{path} line {number} has {len(cells)} columns ({line[:60]!r}): expected {len(columns)} "
                f"({', '.join(columns)}), divided by tabs"
            )
        found.append((number, dict(zip(columns, (cell.strip() for cell in cells), strict=True))))
    return found
