"""The files of an entity benchmark, whatever their form, as tagged sentences. Nothing to run here.

1. Find the file or folder of each split in --data: token files under their usual names (SPLIT_FILES), PubTator files
   with train, dev or test in their name (as CDR_TrainingSet.PubTator.txt, NCBItestset_corpus.txt; .gz and .xz too),
   or folders with train, dev or test in their name that hold brat's .txt and .ann files.
2. Read them: finetuning.conll or finetuning.standoff.
3. Tag the sentences of PubTator and brat texts. What tags cannot say is kept in `missed`: entities of several pieces,
   all but the longest of entities that overlap, entities that begin or end inside a word or cross the end of a
   sentence. They are in no sentence, are counted and said, and stay among the gold entities, so that every model
   misses them.
"""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from finetuning import conll, standoff
from finetuning.conll import Sentence, TaggedFile
from finetuning.splits import SPLITS, Benchmark, Sizes
from finetuning.tags import UNTYPED, iob2_tags
from finetuning.words import sentence_places, word_places

SPLIT_FILES = {
    "train": ("train.tsv", "train.txt", "train.conll", "Genia4ERtask1.iob2"),
    "dev": ("devel.tsv", "dev.tsv", "dev.txt", "devel.txt", "dev.conll"),
    "test": ("test.tsv", "test.txt", "test.conll", "Genia4EReval1.iob2"),
}
FALLBACK = ".iob2"  # JNLPBA's original names; the test set also lies beside MTL's files
PACKED = ("", ".gz", ".xz")
COUNTS = ("documents", "sentences", "entities", "tagged words")  # keys of sizes that are no types


def find_split(folder: Path, split: str) -> Path | None:
    """The one file or brat folder that holds `split`, or None; ValueError if there is more than one."""
    names = [name + packed for name in SPLIT_FILES[split] for packed in PACKED]
    found = [folder / name for name in names if (folder / name).is_file()]
    if len(found) > 1:
        found = [path for path in found if FALLBACK not in path.suffixes]
    if not found:
        likely = [path for path in sorted(folder.iterdir()) if split in path.name.lower() and path.name[0] != "."]
        found = [path for path in likely if path.is_dir() and standoff.annotation_files(path)]
        found += [path for path in likely if path.is_file() and standoff.is_pubtator(path)]
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise ValueError(f"{folder} has {names}: keep only the one that is the {split} split")
    return found[0] if found else None


def find_splits(folder: Path, train_split: str | None = None) -> dict[str, Path]:
    """Where each split of the benchmark in `folder` is; dev may be absent.

    `train_split` names the split to train on instead of train; it is then no dev split any more. ValueError says
    what is missing.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder: --data takes the folder that holds train, dev and test")
    if train_split not in (None, "train", "dev"):
        raise ValueError(f"--train-split {train_split}: only dev can stand for train, and test is what is scored")
    sources = {split: split for split in SPLITS}
    if train_split == "dev":
        sources = {"train": "dev", "test": "test"}
    found = {split: find_split(folder, source) for split, source in sources.items()}
    for split, source in sources.items():
        if found[split] is None and split != "dev":
            cure = " (--train-split dev --nonstandard-split trains on dev instead)" if source == "train" else ""
            raise ValueError(
                f"{folder} has no {source} file: expected one of {', '.join(SPLIT_FILES[source])}, or a PubTator file "
                f"or brat folder with {source} in its name{cure}"
            )
    found = {split: path for split, path in found.items() if path is not None}
    for split, path in found.items():
        twin = next((other for other in found if other != split and found[other] == path), None)
        if twin:
            raise ValueError(f"{path} would be both {split} and {twin} by its name: rename it to the one that it is")
    return found


def read_splits(folder: Path, scheme: str | None = None, train_split: str | None = None) -> dict[str, TaggedFile]:
    """Train, dev (if there is one) and test of the benchmark in `folder`, as sentences with IOB2 tags.

    `scheme` is one of tags.SCHEMES, or None to find it. ValueError (which file and line, what to do) if a split is
    missing or broken.
    """
    paths = find_splits(folder, train_split)
    forms = {split: form_of(path) for split, path in paths.items()}
    if len(set(forms.values())) > 1:
        raise ValueError(f"{folder}: {', '.join(f'{s} is {f}' for s, f in forms.items())}: they are not one data set")
    if "CoNLL" in forms.values():
        return conll.read_files(paths, scheme)
    if scheme:
        raise ValueError(f"--tag-scheme {scheme}: {folder} has no tags but {forms['train']} annotations")
    readers = {"brat": standoff.read_brat, "PubTator": standoff.read_pubtator}
    return {split: tag_texts(readers[forms[split]](path), forms[split]) for split, path in paths.items()}


def form_of(path: Path) -> str:
    """CoNLL, PubTator or brat."""
    return "brat" if path.is_dir() else "PubTator" if standoff.is_pubtator(path) else "CoNLL"


def tag_texts(source: standoff.Standoff, form: str) -> TaggedFile:
    """Sentences and IOB2 tags of texts with character spans, and what tags cannot say of them."""
    documents = source.documents
    file = TaggedFile(source.path, [], source.sha256, scheme="IOB2", form=form, typed=True, notes=source.notes)
    file.documents, file.texts = [one.id for one in documents], [one.text for one in documents]
    reasons: Counter[str] = Counter()
    for index, document in enumerate(documents):
        sentences, missed = tag_text(document, index)
        file.sentences += sentences
        file.missed += [(index, entity) for entity, _ in missed]
        reasons.update(reason for _, reason in missed)
    if not file.sentences:
        raise ValueError(f"{source.path} has no text in it")
    if file.missed:
        total = sum(len(one.entities) for one in documents)
        details = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        file.notes.append(
            f"{len(file.missed)} of {total:,} entities cannot be tagged ({details}): they count as gold that is missed"
        )
    return file


def tag_text(document: standoff.Document, index: int) -> tuple[list[Sentence], list[tuple[standoff.Entity, str]]]:
    """The sentences of one text with IOB2 tags, and the entities that are not in them, each with the reason."""
    places = [word_places(document.text, *place) for place in sentence_places(document.text)]
    first = {start: (i, k) for i, words in enumerate(places) for k, (start, _) in enumerate(words)}
    last = {end: (i, k + 1) for i, words in enumerate(places) for k, (_, end) in enumerate(words)}
    spans: list[list[tuple[int, int, str]]] = [[] for _ in places]
    taken: set[tuple[int, int]] = set()
    missed = []
    for entity in sorted(document.entities, key=lambda one: one.pieces[0][0] - one.pieces[-1][1]):
        start, end = first.get(entity.pieces[0][0]), last.get(entity.pieces[-1][1])
        reason = misfit(entity, len(document.text), start, end)
        words = set() if reason else {(start[0], k) for k in range(start[1], end[1])}
        if not reason and words & taken:
            reason = "overlap a longer one"
        if reason:
            missed.append((entity, reason))
        else:
            taken |= words
            spans[start[0]].append((start[1], end[1], entity.type))
    sentences = [
        Sentence([document.text[a:b] for a, b in words], iob2_tags(spans[i], len(words)), i, index, words)
        for i, words in enumerate(places)
    ]
    return sentences, missed


def misfit(entity: standoff.Entity, length: int, start: tuple | None, end: tuple | None) -> str:
    """Why no tags of words can stand for the entity, or "": `start` and `end` are its (sentence, word), if any."""
    if any(not 0 <= first < last <= length for first, last in entity.pieces):
        return "with offsets outside of the text"
    if len(entity.pieces) > 1:
        return "in several pieces"
    if start is None or end is None:
        return "with an end inside a word"
    return "" if start[0] == end[0] else "across the end of a sentence"


def sizes(files: dict[str, TaggedFile]) -> Sizes:
    """What COUNTS names, and the entities of each type, in train, dev and test (0 where there is no dev)."""
    present = {split: files[split] for split in SPLITS if split in files}
    counts = {split: file.entity_counts() for split, file in present.items()}
    types = sorted(set().union(*counts.values()))

    def each(count: Any) -> tuple[int, ...]:
        return tuple(count(split) if split in present else 0 for split in SPLITS)

    return {
        "documents": each(lambda split: len(present[split].documents)),
        "sentences": each(lambda split: len(present[split].sentences)),
        "entities": each(lambda split: sum(counts[split].values())),
        "tagged words": each(lambda split: sum(tag != "O" for one in present[split].sentences for tag in one.tags)),
        **{name: each(lambda split, name=name: counts[split].get(name, 0)) for name in types},
    }


def rename_types(files: dict[str, TaggedFile], rename: dict[str, str]) -> None:
    """Give the entities in `files` other names of their types; several may become one."""
    for file in files.values():
        for sentence in file.sentences:
            sentence.tags[:] = [
                f"{tag[:2]}{rename.get(tag[2:], tag[2:])}" if tag != "O" else tag for tag in sentence.tags
            ]
        file.missed = [
            (document, replace(entity, type=rename.get(entity.type, entity.type))) for document, entity in file.missed
        ]


def own_types(benchmark: Benchmark) -> dict[str, str]:
    """What types are called in a data set that is no published variant: as in all variants that rename them.

    NCBI-disease's four classes of mentions are one there too. Bare tags are left: of what, their files do not say.
    """
    names: dict[str, set[str]] = {}
    for variant in benchmark.variants:
        for kind, name in (variant.rename or {}).items():
            names.setdefault(kind, set()).add(name)
    return {kind: next(iter(own)) for kind, own in names.items() if len(own) == 1 and kind != UNTYPED}


def learned_types(files: dict[str, TaggedFile], learned: tuple[str, ...]) -> list[str]:
    """The types of entity in the splits to train on, sorted."""
    return sorted({name for split in learned if split in files for name in files[split].entity_counts()})


def note_unknown_types(files: dict[str, TaggedFile], learned: tuple[str, ...]) -> None:
    """Note in each split the entities of types that the splits to train on lack: no model can predict them."""
    known = learned_types(files, learned)
    for file in files.values():
        for name, count in file.entity_counts().items():
            if name not in known:
                file.notes.append(
                    f"{count} entities are of type {name}, which is not in {' or '.join(learned)}: they count as gold "
                    "that is missed"
                )


def record(file: TaggedFile) -> dict[str, Any]:
    """What results.json says of one split."""
    return {
        "file": file.path.name,
        "sha256": file.sha256,
        "sentences": len(file.sentences),
        "documents": len(file.documents),
        "words": sum(len(sentence.words) for sentence in file.sentences),
        "entities": file.entity_counts(),
        "form": file.form,
        "columns": file.columns,
        "scheme": file.scheme,
        "notes": file.notes,
    }


def texts(file: TaggedFile) -> list[tuple[str, str]]:
    """(id, text) of each document, for the search for duplicates; of each sentence where there are no documents.

    Ids of PubTator files and numbers in DOCSTART lines are PubMed's; those of the original JNLPBA, `MEDLINE:95369245`,
    are not, so that its documents have no id here and are sought by their text.
    """
    if not file.documents:
        return [("", " ".join(sentence.words)) for sentence in file.sentences]
    parts = file.texts or [""] * len(file.documents)
    if not file.texts:
        for sentence in file.sentences:
            parts[sentence.document] += " ".join(sentence.words) + " "
    known = file.form != "brat"
    ids = [f"pmid:{name}" if known and name.isdigit() else "" for name in file.documents]
    return [(name, part.strip()) for name, part in zip(ids, parts, strict=True)]
