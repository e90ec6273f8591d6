"""Is this the published split of a benchmark? Known by its sizes, never by the folder's name. Nothing to run
here.

Two data sets under one name have made scores incomparable before (JNLPBA, BLUE's and BLURB's ChemProt), so
every benchmark lists the sizes of its published variants, and files of other sizes are refused unless the
user says that they are meant (`--nonstandard-split`); the result then carries that mark.
"""

from dataclasses import dataclass
from typing import Any

from finetuning.config import FinetuneConfig
from finetuning.conll import UNTYPED, TaggedFile

SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class Variant:
    """One published form of a benchmark, known by its sizes: (train, dev, test)."""

    name: str
    sentences: tuple[int, int, int]
    entities: dict[str, tuple[int, int, int]]  # by the type in the files; UNTYPED where the tags are bare
    rename: dict[str, str] | None = None  # types that get another name than in the files
    published: tuple[tuple[str, float, str], ...] = ()  # (model, score in percent, source)
    standard: bool = True  # a published split: only then may a score stand beside published ones


@dataclass(frozen=True)
class Benchmark:
    """What a benchmark script says of itself."""

    name: str
    variants: tuple[Variant, ...]
    defaults: FinetuneConfig


def sizes(files: dict[str, TaggedFile]) -> tuple[tuple[int, ...], dict[str, tuple[int, ...]]]:
    """Sentences, and entities of each type, in train, dev and test."""
    counts = [files[split].entity_counts() for split in SPLITS]
    types = sorted(set().union(*counts))
    sentences = tuple(len(files[split].sentences) for split in SPLITS)
    return sentences, {name: tuple(count.get(name, 0) for count in counts) for name in types}


def describe(sentences: tuple[int, ...], entities: dict[str, tuple[int, ...]]) -> str:
    """Sizes in words: `4,560 / 4,581 / 4,797 sentences, 5,203 / 5,347 / 5,385 Chemical`."""
    parts = [(sentences, "sentences"), *((numbers, name) for name, numbers in entities.items())]
    return ", ".join(" / ".join(f"{number:,}" for number in numbers) + f" {name}" for numbers, name in parts)


def recognise(benchmark: Benchmark, files: dict[str, TaggedFile], nonstandard: bool) -> Variant:
    """The published variant that the files are; its types are renamed in `files`.

    Other sizes are a ValueError with the sizes expected and found, or, if `nonstandard`, a variant of their
    own without published scores. Types that no variant has are refused in either case: it is another
    benchmark.
    """
    found = sizes(files)
    folder = files["train"].path.parent
    for variant in benchmark.variants:
        if (variant.sentences, variant.entities) == found:
            return rename_types(variant, files)
    known = set().union(*(variant.entities for variant in benchmark.variants))
    strange = sorted(set(found[1]) - known)
    if strange:
        raise ValueError(f"{folder} has entities of type {', '.join(strange)}; {benchmark.name} has {sorted(known)}")
    alike = [variant for variant in benchmark.variants if set(variant.entities) == set(found[1])]
    if not nonstandard:
        wanted = "; ".join(
            f"{variant.name} has {describe(variant.sentences, variant.entities)}"
            for variant in alike or benchmark.variants
        )
        raise ValueError(
            f"{folder} is not a published split of {benchmark.name}: expected (train / dev / test) {wanted}; "
            f"found {describe(*found)}; get the published files, or add --nonstandard-split to score these "
            "as a split of their own"
        )
    empty = [split for split in SPLITS if not files[split].entity_counts()]
    if empty:
        raise ValueError(f"{files[empty[0]].path} has no entity: there is nothing to learn or to score")
    names = "untyped" if set(found[1]) == {UNTYPED} else "+".join(found[1]).lower()
    return Variant(f"{benchmark.name} {names}", *found, standard=False)


def rename_types(variant: Variant, files: dict[str, TaggedFile]) -> Variant:
    """Give the entities in `files` the variant's names of their types (bare tags then have one)."""
    for old, new in (variant.rename or {}).items():
        for file in files.values():
            for sentence in file.sentences:
                sentence.tags[:] = [tag[:2] + new if tag[2:] == old else tag for tag in sentence.tags]
    return variant


def split_record(file: TaggedFile) -> dict[str, Any]:
    """What results.json says of one split."""
    return {
        "file": file.path.name,
        "sha256": file.sha256,
        "columns": file.columns,
        "scheme": file.scheme,
        "sentences": len(file.sentences),
        "words": sum(len(sentence.words) for sentence in file.sentences),
        "entities": file.entity_counts(),
    }
