"""How often each word stands in a blend of document folders: streamed, in bounded memory, exact; no command here.

Steps of `count_words`: (1) workers count what blanks separate, shard by shard, cut it into the words of the kind of
vocabulary, and write sorted runs, a new one whenever a count has grown to `DISTINCT_UNITS`; (2) the runs of a folder
are merged, `FAN_IN` at a time, into one; (3) the folders' runs are merged into a stream of blended counts, of which
the `max_words` most frequent words are kept; what is left out is counted.

Counts are Python's integers, beyond 64 bits where need be. With weights, a word's count is the sum over the folders of
count x weight / words of the folder, scaled so that one occurrence in the folder that is weighed least counts 1: what
matters is the ratio of the weights. Without weights, counts add up. The result depends on text and weights alone.

A run is a file of lines `COUNT WORD`, sorted by word; a word has neither blank nor line feed.
"""

import heapq
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import groupby
from math import lcm
from operator import itemgetter
from pathlib import Path

from pretraining.corpus.documents import read_manifest, read_shard
from pretraining.corpus.tokenizer import normalizer_of, pre_tokenizer_of
from pretraining.corpus.workers import map_in_order
from pretraining.corpus.writing import naming_file

DISTINCT_UNITS = 1 << 19  # counted in memory by a worker, about 100 MB, before it writes a run
FAN_IN = 64  # runs merged at a time: open files
LONGEST_WORD = 100  # characters; a longer one is no word (BERT makes it [UNK]), and costs the trainers much


@dataclass(frozen=True)
class Words:
    """What a word is: the kind of vocabulary, and the clean-up."""

    kind: str
    lowercase: bool
    strip_accents: bool


@dataclass(frozen=True)
class CountJob:
    """One shard to count, and where its runs go: runs-NUMBER.0, runs-NUMBER.1, ..."""

    shard: Path
    number: int
    folder: Path
    words: Words
    sha256: str | None = None  # of the shard


@dataclass
class WordCounts:
    """Blended counts: of the words that are kept, sorted, and of all characters."""

    words: dict[str, int] = field(default_factory=dict)
    characters: Counter = field(default_factory=Counter)
    total: int = 0  # occurrences of all words
    distinct: int = 0
    left_out: Counter = field(default_factory=Counter)  # occurrences, by reason


def count_words(
    folders: list[Path], weights: list[float] | None, words: Words, work: Path, *, workers: int, max_words: int
) -> WordCounts:
    """The blended counts of these stage folders; `work` is a folder for temporary files, which goes at the end.

    Raises ValueError for a folder that is not a stage's, and for one without a word where there are weights.
    """
    shutil.rmtree(work, ignore_errors=True)
    try:
        runs, totals = [], []
        for number, folder in enumerate(folders):
            own = work / str(number)
            own.mkdir(parents=True)
            jobs = [
                CountJob(folder / entry["name"], place, own, words, entry["sha256"])
                for place, entry in enumerate(read_manifest(folder)["files"])
            ]
            counted = map_in_order(count_shard, jobs, workers=workers, description="count words", unit="shard")
            parts = [run for of_shard in counted for run in of_shard]
            run, total = _merge_all(parts, own, workers)
            if weights and not total:
                raise ValueError(f"{folder} holds no word, so that it cannot be weighed; leave it out")
            runs.append(run)
            totals.append(total)
        return select_words(blend_runs(runs, factors(weights, totals)), max_words)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def count_shard(job: CountJob) -> list[Path]:
    """Write the words of one shard as runs; return their paths."""
    runs: list[Path] = []
    units: Counter = Counter()

    def spill() -> None:
        runs.append(job.folder / f"runs-{job.number:05d}.{len(runs)}")
        _write_run(runs[-1], sorted(cut_units(units, job.words).items()))
        units.clear()

    for document in read_shard(job.shard, job.sha256):
        for line in document.text.split("\n"):  # not the whole text: it may be as long as a corpus
            units.update(line.split(" "))
            if len(units) >= DISTINCT_UNITS:
                spill()
    spill()
    return runs


def cut_units(units: Counter, words: Words) -> Counter:
    """Counts of words from counts of what blanks separate."""
    normalizer = normalizer_of(words.kind, words.lowercase, words.strip_accents)
    pre_tokenizer = pre_tokenizer_of(words.kind)
    counts: Counter = Counter()
    for unit, count in units.items():
        for word, _ in pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(unit)):
            counts[word] += count
    return counts


def factors(weights: list[float] | None, totals: list[int]) -> list[Fraction]:
    """What one occurrence in each folder counts, of which `totals` are the words: at least 1."""
    if weights is None:
        return [Fraction(1)] * len(totals)
    # Weights as they were typed: 0.7 and 0.3 are 7 and 3.
    shares = [Fraction(repr(weight)) / total for weight, total in zip(weights, totals, strict=True)]
    return [share / min(shares) for share in shares]


def blend_runs(runs: list[Path], factors: list[Fraction]) -> Iterator[tuple[str, int]]:
    """(word, blended count, rounded to the nearest) from a run a folder, in the order of the words."""
    denominator = lcm(*(factor.denominator for factor in factors))
    numerators = [int(factor * denominator) for factor in factors]
    streams = map(_multiplied, map(_read_run, runs), numerators)
    for word, counts in _summed(streams):
        yield word, (2 * counts + denominator) // (2 * denominator)


def select_words(stream: Iterable[tuple[str, int]], max_words: int) -> WordCounts:
    """The `max_words` most frequent words of a sorted stream, the first ones of those that are equally frequent."""
    found = WordCounts()

    def considered() -> Iterator[tuple[str, int]]:
        for word, count in stream:
            found.total += count
            found.distinct += 1
            if len(word) > LONGEST_WORD:
                found.left_out["too_long"] += count
                continue
            for character in word:
                found.characters[character] += count
            yield word, count

    kept = heapq.nlargest(max_words, considered(), key=itemgetter(1))
    found.words = dict(sorted(kept))
    found.left_out["rare"] = found.total - found.left_out["too_long"] - sum(found.words.values())
    return found


def merge_runs(job: tuple[list[Path], Path]) -> tuple[Path, int]:
    """Merge sorted runs into a new one and remove them; return its path and the sum of its counts."""
    runs, target = job
    total = 0

    def counted() -> Iterator[tuple[str, int]]:
        nonlocal total
        for word, count in _summed([_read_run(run) for run in runs]):
            total += count
            yield word, count

    _write_run(target, counted())
    for run in runs:
        run.unlink()
    return target, total


def _merge_all(runs: list[Path], folder: Path, workers: int) -> tuple[Path, int]:
    """Merge runs, a tree of merges, into one; return its path and the sum of its counts."""
    level = 0
    while len(runs) > FAN_IN:
        level += 1
        jobs = [
            (runs[start : start + FAN_IN], folder / f"merged-{level}.{start}") for start in range(0, len(runs), FAN_IN)
        ]
        merged = map_in_order(merge_runs, jobs, workers=workers, description="merge counts", unit="merge")
        runs = [run for run, _ in merged]
    return merge_runs((runs, folder / "merged"))


def _multiplied(stream: Iterable[tuple[str, int]], factor: int) -> Iterator[tuple[str, int]]:
    for word, count in stream:
        yield word, count * factor


def _summed(streams: Iterable[Iterable[tuple[str, int]]]) -> Iterator[tuple[str, int]]:
    """(word, sum of its counts) from streams that are sorted by word."""
    for word, entries in groupby(heapq.merge(*streams, key=itemgetter(0)), key=itemgetter(0)):
        yield word, sum(count for _, count in entries)


def _write_run(path: Path, counts: Iterable[tuple[str, int]]) -> None:
    with naming_file(path), open(path, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{count} {word}\n" for word, count in counts)


def _read_run(path: Path) -> Iterator[tuple[str, int]]:
    # newline="\n": a word may be one of the other characters that Python counts as line ends.
    with open(path, encoding="utf-8", newline="\n") as file:
        for line in file:
            count, _, word = line[:-1].partition(" ")
            yield word, int(count)
