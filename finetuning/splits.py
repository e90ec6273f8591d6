"""Is this the published split of a benchmark? Known by its sizes, never by the folder's name. Nothing to run
here.

Two data sets under one name have made scores incomparable before (JNLPBA, BLUE's and BLURB's ChemProt), so
every benchmark lists the sizes of its published variants, and files of other sizes are refused unless the
user says that they are meant (`--nonstandard-split`); the result then carries that mark.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetuning.config import FinetuneConfig

SPLITS = ("train", "dev", "test")
Sizes = dict[str, tuple[int, ...]]  # what is counted ("sentences", "Chemical") -> its number in each split


@dataclass(frozen=True)
class Variant:
    """One published form of a benchmark, known by its sizes in train, dev and test."""

    name: str  # what the table calls it; two protocols never share a name
    sizes: Sizes
    rename: dict[str, str] | None = None  # labels or types that get another name than in the files
    published: tuple[tuple[str, float, str], ...] = ()  # (model, score in percent, source)
    standard: bool = True  # a published split: only then may a score stand beside published ones


@dataclass(frozen=True)
class Benchmark:
    """What a benchmark script says of itself; the two functions are its family's and are given the Benchmark."""

    name: str
    variants: tuple[Variant, ...]  # none: every folder is a data set of its own (finetuning.ner)
    defaults: FinetuneConfig
    prepare: Callable[["Benchmark", Namespace, FinetuneConfig], Any]  # read, check, build: a command.Prepared
    score_file: Callable[["Benchmark", Namespace], dict[str, Any]]  # --data, --predictions, --split -> scores
    add_flags: Callable[[ArgumentParser], None] | None = None  # its own flags and its family's
    electra_base_rate: float = 0.0  # learning rate published for it with ELECTRA-base; 0: none is, so by size


def describe(sizes: Sizes) -> str:
    """Sizes in words: `4,560 / 4,581 / 4,797 sentences, 5,203 / 5,347 / 5,385 Chemical`."""
    return ", ".join(f"{' / '.join(f'{number:,}' for number in numbers)} {name}" for name, numbers in sizes.items())


def recognise(benchmark: Benchmark, found: Sizes, folder: Path, nonstandard: bool, name: str = "") -> Variant:
    """The published variant whose sizes are `found`, those of the files in `folder`.

    Other sizes are a ValueError with the sizes expected and found, or, if `nonstandard`, a variant of their
    own without published scores, called `name` (else as the only variant that counts the same things, else as
    the benchmark). A label or type that no variant has is refused in either case: it is another benchmark.
    """
    for variant in benchmark.variants:
        if variant.sizes == found:
            return variant
    alike = [variant for variant in benchmark.variants if set(variant.sizes) == set(found)]
    known = sorted(set().union(*(variant.sizes for variant in benchmark.variants)))
    strange = sorted(set(found) - set(known)) if known else []
    if strange:
        raise ValueError(f"{folder} has {', '.join(strange)}; {benchmark.name} has only {', '.join(known)}")
    if benchmark.variants and not nonstandard:
        wanted = "; ".join(f"{variant.name} has {describe(variant.sizes)}" for variant in alike or benchmark.variants)
        order = " (train / dev / test)" if all(len(numbers) == 3 for numbers in found.values()) else ""
        raise ValueError(
            f"{folder} is not a published split of {benchmark.name}: expected{order} {wanted}; "
            f"found {describe(found)}; get the published files, or add --nonstandard-split to score these "
            "as a split of their own"
        )
    fallback = alike[0].name if len(alike) == 1 else benchmark.name
    return Variant(name or fallback, found, standard=False)


def check_split(benchmark: Benchmark, split: str, found: dict[str, int], path: Path, nonstandard: bool) -> None:
    """ValueError if what is counted in one split of `path` is that of no published variant and not `nonstandard`.

    For files of which this split alone has to be there; a variant is compared in the counts that it has.
    """
    place = {"train": 0, "dev": 1}.get(split, -1)
    shared = [
        {name: variant.sizes[name][place] for name in found if len(variant.sizes.get(name, ())) > max(place, 0)}
        for variant in benchmark.variants
    ]
    known = [sizes for sizes in shared if sizes]
    if nonstandard or not known or any(all(found[name] == size for name, size in one.items()) for one in known):
        return
    wanted = dict.fromkeys(" and ".join(f"{size:,} {name}" for name, size in one.items()) for one in known)
    counted = {name: size for name, size in found.items() if any(name in one for one in known)}
    raise ValueError(
        f"{path} is no published {split} split of {benchmark.name}: expected {', or '.join(wanted)}; found "
        f"{' and '.join(f'{size:,} {name}' for name, size in counted.items())}; get the published files, or add "
        "--nonstandard-split to score these as a split of their own"
    )
