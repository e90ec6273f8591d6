"""Read the Hallmarks of Cancer corpus (HoC) in the three forms in which it is distributed. Nothing to run here.

Used by finetuning.hoc.

- The original (github.com/sb895/Hallmarks-of-Cancer): `text/PMID.txt`, one sentence a line, and `labels/PMID.txt`, one
  line: `<` stands before the labels of each sentence, `AND` between several, `--` between a hallmark and what is below
  it (only the hallmark counts); `NULL` or nothing is no label. It has no split: a list of PMIDs gives it;
- SciFive's form of BLURB's examples: `abstract<TAB>0|8`, numbers of hallmarks in alphabetical order, 10 for none;
  no PMIDs, so that a document is called `line 1`, `line 2`, ...;
- BLUE's: a header with `index` (PMID_s0, ...), `sentence` and `labels` (`0_0,1_1,...` or names): one sentence a line.

An abstract has the labels of all its sentences.
"""

from argparse import Namespace
from pathlib import Path

from finetuning.ranks import say
from finetuning.text_files import (
    TextFile,
    checksum,
    find_splits,
    hidden,
    not_empty,
    numbered_lines,
    read_table,
    read_text,
    refuse_train_split,
)
from finetuning.text_inputs import Example

HALLMARKS = (
    "activating invasion and metastasis",
    "avoiding immune destruction",
    "cellular energetics",
    "enabling replicative immortality",
    "evading growth suppressors",
    "genomic instability and mutation",
    "inducing angiogenesis",
    "resisting cell death",
    "sustaining proliferative signaling",
    "tumor promoting inflammation",
)
SPLIT_LIST = "HoC_blurb_splits.tsv"
SPLITS = ("train", "dev", "test")
SCIFIVE = {split: (f"{split}_blurb.tsv",) for split in SPLITS}
BLUE = {split: (f"{split}.tsv",) for split in SPLITS}


def in_order(labels: set[str]) -> tuple[str, ...]:
    """The hallmarks in their order."""
    return tuple(name for name in HALLMARKS if name in labels)


def cell_labels(cell: str, place: str) -> set[str]:
    """Hallmarks of one sentence's cell; ValueError naming the place for another label."""
    labels = set()
    for label in cell.split("AND"):
        name = label.split("--")[0].strip().lower()
        if name in ("", "null"):
            continue
        if name not in HALLMARKS:
            raise ValueError(f"{place}: {name!r} is none of the ten hallmarks: correct it")
        labels.add(name)
    return labels


def read_document(folder: Path, pmid: str) -> list[tuple[str, set[str]]]:
    """(sentence, its labels) of one abstract of the original files."""
    text, labels = folder / "text" / f"{pmid}.txt", folder / "labels" / f"{pmid}.txt"
    for path in (text, labels):
        if not path.is_file():
            raise ValueError(f"{path} is not there, but {pmid} is in the list of splits: get the whole corpus")
    sentences = [line.strip() for _, line in numbered_lines(text) if line.strip()]
    cells = read_text(labels).strip("\r\n").split("<")[1:]  # nothing is before the first `<`
    if len(cells) != len(sentences) or not sentences:
        raise ValueError(f"{labels} has labels of {len(cells)} sentences, {text.name} has {len(sentences)} sentences")
    return [
        (sentence, cell_labels(cell, f"{labels} sentence {i}"))
        for i, (sentence, cell) in enumerate(zip(sentences, cells, strict=True), start=1)
    ]


def split_lists(options: Namespace) -> list[Path]:
    """The files that say which abstract is in which split; ValueError if there are none.

    They are --splits, HoC_blurb_splits.tsv, BLUE's *_docid.txt, or BLURB's examples in a folder blurb_scifive.
    """
    folder, given = options.data, options.splits
    if given and not given.is_file():
        raise ValueError(f"--splits {given} is not a file")
    for path in (given, folder / SPLIT_LIST, folder.parent / SPLIT_LIST):
        if path and path.is_file():
            return [path]
    for name in ("{}_docid.txt", "blurb_scifive/{}_blurb.tsv"):
        lists = [folder / name.format(split) for split in SPLITS]
        if all(path.is_file() for path in lists):
            return lists
    raise ValueError(
        f"{folder} has text/ and labels/, but no list of splits: put {SPLIT_LIST} (a header, then pmid<TAB>split) or "
        "BLUE's train_docid.txt, dev_docid.txt and test_docid.txt there, or name one with --splits"
    )


def split_ids(folder: Path, lists: list[Path]) -> dict[str, list[str]]:
    """PMIDs of each split, from the files of `split_lists`; ValueError naming what is wrong in them."""
    if len(lists) == 1:
        ids: dict[str, list[str]] = {split: [] for split in SPLITS}
        for number, row in read_table(lists[0], ("pmid", "split")):
            if row["split"] not in ids:
                raise ValueError(f"{lists[0]} line {number}: split {row['split']!r} is none of {', '.join(SPLITS)}")
            ids[row["split"]].append(row["pmid"])
        return ids
    found = {
        split: [line.strip() for _, line in numbered_lines(path)] for split, path in zip(SPLITS, lists, strict=True)
    }
    if lists[0].suffix == ".tsv":  # the abstracts themselves: known by their text
        pmids = {whole_text(path): path.stem for path in (folder / "text").glob("*.txt") if not hidden(path)}
        texts = {split: [line.partition("\t")[0].strip() for line in part] for split, part in found.items()}
        absent = [text for part in texts.values() for text in part if text and text not in pmids]
        if absent:
            raise ValueError(
                f"{lists[0].parent} has {len(absent)} abstracts that {folder / 'text'} has not: {absent[0]!r}"
            )
        found = {split: [pmids.get(text, "") for text in part] for split, part in texts.items()}
    return {split: [pmid for pmid in part if pmid] for split, part in found.items()}


def whole_text(path: Path) -> str:
    """The sentences of an abstract's file, one after another."""
    return " ".join(line.strip() for _, line in numbered_lines(path) if line.strip())


def examples_of(pmid: str, sentences: list[tuple[str, set[str]]], unit: str) -> list[Example]:
    """The sentences of a document, or all of it, as examples."""
    if unit == "sentence":
        return [
            Example(sentence, in_order(labels), document=pmid, index=f"{pmid}_s{i}")
            for i, (sentence, labels) in enumerate(sentences)
        ]
    labels = set().union(*(labels for _, labels in sentences))
    return [Example(" ".join(text for text, _ in sentences), in_order(labels), document=pmid, index=f"{pmid}_s0")]


def read_original(options: Namespace, unit: str) -> dict[str, TextFile]:
    """The original files, divided by a list of PMIDs."""
    lists = split_lists(options)
    ids = split_ids(options.data, lists)
    files = {}
    split_of: dict[str, str] = {}
    for split, part in ids.items():
        for pmid in part:
            if split_of.setdefault(pmid, split) != split:
                raise ValueError(f"{lists[0]} has PMID {pmid} in {split_of[pmid]} and in {split}: correct it")
        if len(set(part)) != len(part):
            raise ValueError(f"{lists[0]} has a PMID twice in {split}: correct it")
        examples = [example for pmid in part for example in examples_of(pmid, read_document(options.data, pmid), unit)]
        not_empty(lists[0], examples, f"PMIDs of {split}")
        digest = checksum(options.data / kind / f"{pmid}.txt" for pmid in part for kind in ("text", "labels"))
        files[split] = TextFile(options.data, digest, examples, {"abstracts": len(part)})
    others = [path for path in (options.data / "text").glob("*.txt") if not hidden(path) and path.stem not in split_of]
    if others:
        say(f"{len(others)} abstracts of {options.data} are in no split of {lists[0].name} and left out")
    return files


def read_scifive(path: Path) -> TextFile:
    """`abstract<TAB>numbers`; ValueError naming the line with another number."""
    examples = []
    for number, row in read_table(path, ("abstract", "labels"), header=False):
        numbers = row["labels"].split("|")
        if not all(one.isdigit() and int(one) <= len(HALLMARKS) for one in numbers):
            raise ValueError(f"{path} line {number}: labels {row['labels']!r} are not numbers from 0 to 10: correct it")
        names = {HALLMARKS[int(one)] for one in numbers if int(one) < len(HALLMARKS)}
        examples.append(Example(row["abstract"], in_order(names), document=f"line {number}", index=f"{number}_s0"))
    not_empty(path, examples, "lines `abstract<TAB>numbers of hallmarks`")
    return TextFile(path, checksum([path]), examples, {"abstracts": len(examples)})


def blue_labels(text: str, place: str) -> set[str]:
    """`0_0,1_1,...` (hallmark 1 holds) or names divided by commas."""
    names = set()
    for part in filter(None, (one.strip() for one in text.split(","))):
        number, _, holds = part.partition("_")
        if number.isdigit() and holds in ("0", "1") and int(number) < len(HALLMARKS):
            names |= {HALLMARKS[int(number)]} if holds == "1" else set()
        else:
            names |= cell_labels(part, place)
    return names


def read_blue(path: Path, unit: str) -> TextFile:
    """One sentence a line with its document's id before the `_` of its index."""
    documents: dict[str, list[tuple[str, set[str]]]] = {}
    for number, row in read_table(path, ("index", "sentence", "labels")):
        labels = blue_labels(row["labels"], f"{path} line {number}")
        documents.setdefault(row["index"].partition("_")[0], []).append((row["sentence"], labels))
    examples = [one for pmid, part in documents.items() for one in examples_of(pmid, part, unit)]
    not_empty(path, examples, "lines of index, sentence and labels")
    return TextFile(path, checksum([path]), examples, {"abstracts": len(documents)})


def read_hoc(options: Namespace) -> dict[str, TextFile]:
    """The splits in whichever form --data has; sentences, where the files label them and --unit is not abstract."""
    folder, unit = options.data, options.unit or "sentence"
    if (folder / "text").is_dir() and (folder / "labels").is_dir():
        refuse_train_split(options)
        return read_original(options, unit)
    if any((folder / name).is_file() for (name,) in BLUE.values()):
        return {split: read_blue(path, unit) for split, path in find_splits(options, BLUE).items()}
    if options.unit == "sentence":
        raise ValueError(f"--unit sentence: {folder} has no labels of sentences; get the corpus' text/ and labels/")
    return {split: read_scifive(path) for split, path in find_splits(options, SCIFIVE).items()}
