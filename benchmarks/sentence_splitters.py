"""Sentence splitters for biomedical prose, on boundaries that people marked: ours beside pysbd, syntok and blingfire.

    python -m benchmarks.sentence_splitters --tokens JNLPBA/test.tsv --texts JNLPBA_standoff [--labelled PIBOSO.txt...]
        [--sections DOCUMENTS...] [--ways ours blingfire] [--rounds 3] [--json FILE]

1. Read passages with their true boundaries:
   - entities: tokens of --tokens, a sentence a block, a document after each -DOCSTART- line (JNLPBA's `test.tsv`),
     found again in the untouched text of --texts (brat `.txt` files, title on the first line); titles are left out;
   - labelled: sentences of --labelled (PubMed RCT's form: ###id, label<TAB>sentence), tokens joined as in print; the
     ends of sentences that were cut off (NICTA-PIBOSO has some) are none;
   - sections: structured abstracts of --sections (folders that `pretraining.corpus.pubmed` or `pmc` wrote), labels
     taken off, joined; only the ends of sections are known, so other boundaries are neither right nor false.
2. --rounds times in turn, split all passages with every way; time: processor seconds of this process, best round.
3. Count boundaries that are right, false and missed, between the characters that are not blanks; precision, recall, F1.
4. Print Markdown, a table of the errors and one of the speeds, and with --json write the same as JSON.
"""

import argparse
import itertools
import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from tqdm import tqdm

from pretraining.corpus.documents import normalise_text, read_documents
from pretraining.corpus.sentences import split_paragraph

Splitter = Callable[[str], list[str]]
STOP = re.compile(r"[.?!][)\]\"'”’]*$")  # what a sentence ends with
LABEL = re.compile(r"[A-Z][A-Za-z /&,-]{2,40}: ")  # of a section, as our readers write it


@dataclass(frozen=True)
class Passage:
    """Text, and after how many characters that are no blanks a sentence ends; the end of the text is none."""

    text: str
    ends: frozenset[int]
    partial: bool = False  # there are more boundaries than are known


@dataclass
class Errors:
    """Boundaries of one way on one kind of passages."""

    right: int = 0
    false: int = 0
    missed: int = 0
    partial: bool = False

    @property
    def recall(self) -> float:
        return self.right / max(1, self.right + self.missed)

    @property
    def precision(self) -> float | None:
        return None if self.partial else self.right / max(1, self.right + self.false)

    @property
    def f1(self) -> float | None:
        return None if self.partial else 2 * self.right / max(1, 2 * self.right + self.false + self.missed)


# ---- the ways ----


def open_ways(names: Iterable[str]) -> dict[str, Splitter]:
    """Each splitter by name, as its own documentation calls it; ValueError for one that is not installed."""
    openers = {"ours": lambda: split_paragraph, "pysbd": _pysbd, "syntok": _syntok, "blingfire": _blingfire}
    ways = {}
    for name in names:
        try:
            ways[name] = openers[name]()
        except ImportError:
            raise ValueError(f"{name} is not installed: pip install {name}, or leave it out of --ways") from None
    return ways


def _pysbd() -> Splitter:
    import pysbd

    return pysbd.Segmenter(language="en", clean=False).segment


def _syntok() -> Splitter:
    from syntok import segmenter
    from syntok.tokenizer import Tokenizer

    def split(text: str) -> list[str]:
        # By offsets: its tokens are not always the text's ("can't" is "can" and "not").
        tokens = Tokenizer(emit_hyphen_or_underscore_sep=True, replace_not_contraction=False).tokenize(text)
        starts = [sentence[0].offset for sentence in segmenter.split(tokens) if sentence]
        return [text[start:end] for start, end in zip(starts, [*starts[1:], len(text)], strict=True)]

    return split


def _blingfire() -> Splitter:
    import blingfire

    return lambda text: blingfire.text_to_sentences(text).split("\n")


# ---- the passages ----


def entity_passages(tokens: Iterable[Path], texts: Path) -> Iterator[Passage]:
    """Abstracts whose sentences a corpus of entities marks, with their untouched text."""
    known = {}
    for path in sorted(texts.rglob("*.txt")):
        text = path.read_text(encoding="utf-8")
        known[re.sub(r"\s", "", text)] = text
    for path in tokens:
        for document in re.split(r"^-DOCSTART-.*\n", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
            blocks = [block for block in document.split("\n\n") if block.strip()]
            sentences = ["".join(line.split("\t")[0] for line in block.strip().split("\n")) for block in blocks]
            sentences = [sentence.replace("``", '"').replace("''", '"') for sentence in sentences]
            title, _, abstract = known.get("".join(sentences), "").strip().partition("\n")
            ends, length = _ends(sentences), len(re.sub(r"\s", "", title))
            if abstract and length in ends:
                yield Passage(normalise_text(abstract), frozenset(end - length for end in ends if end > length))


def labelled_passages(paths: Iterable[Path]) -> Iterator[Passage]:
    """Abstracts in PubMed RCT's form."""
    for path in paths:
        for block in re.split(r"^###.*\n", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
            sentences = [join_tokens(line.split("\t", 1)[1]) for line in block.split("\n") if "\t" in line]
            whole = [bool(STOP.search(sentence)) for sentence in sentences]
            if len(sentences) > 1:
                yield Passage(" ".join(sentences), frozenset(itertools.compress(_ends(sentences), whole)))


def section_passages(folders: Iterable[Path]) -> Iterator[Passage]:
    """Structured abstracts: the lines with labels below the title."""
    for folder in folders:
        for document in read_documents(folder):
            labelled = itertools.takewhile(LABEL.match, document.text.split("\n")[1:])
            sections = [LABEL.sub("", line, count=1) for line in labelled]
            if len(sections) > 1 and all(STOP.search(section) for section in sections):
                yield Passage(" ".join(sections), frozenset(_ends(sections)), partial=True)


def join_tokens(sentence: str) -> str:
    """A sentence of tokens with blanks between, as in print."""
    sentence = re.sub(r" ([.,;:?!%)\]])", r"\1", re.sub(r"([(\[]) ", r"\1", normalise_text(sentence)))
    return re.sub(r" (['’]s\b)", r"\1", re.sub(r"(?<=\w) ([-/–]) (?=\w)", r"\1", sentence))


def _ends(sentences: Iterable[str]) -> list[int]:
    """After how many characters that are no blanks each sentence but the last ends."""
    lengths = [len(re.sub(r"\s", "", sentence)) for sentence in sentences]
    return [sum(lengths[:number]) for number in range(1, len(lengths)) if lengths[number]]


# ---- measuring ----


def count_errors(split: list[list[str]], passages: list[Passage]) -> Errors:
    """Compare the boundaries between the sentences of each passage with the true ones."""
    errors = Errors(partial=any(passage.partial for passage in passages))
    for sentences, passage in zip(split, passages, strict=True):
        found = set(_ends(sentences))
        errors.right += len(found & passage.ends)
        errors.missed += len(passage.ends - found)
        errors.false += 0 if passage.partial else len(found - passage.ends)
    return errors


def split_and_time(
    ways: dict[str, Splitter], texts: list[str], rounds: int
) -> tuple[dict[str, list[list[str]]], dict[str, float]]:
    """Sentences of each text by each way, and the processor seconds of its best round; rounds alternate."""
    split, best = {}, dict.fromkeys(ways, float("inf"))
    for _ in tqdm(range(rounds), desc="rounds", disable=None):
        for name, way in ways.items():
            began = time.process_time()
            split[name] = [way(text) for text in texts]
            best[name] = min(best[name], time.process_time() - began)
    return split, best


def report(errors: dict[str, dict[str, Errors]], speeds: dict[str, float], about: dict[str, str]) -> str:
    """The tables in Markdown: errors by kind of passages and way, and speeds."""
    lines = ["| passages | way | precision | recall | F1 | false | missed |", "| --- | --- |" + " ---: |" * 5]
    for kind, described in about.items():
        name = f"{kind}: {described}"
        for way, by_kind in errors.items():
            one = by_kind[kind]
            known = ["", "", ""] if one.partial else [f"{one.precision:.4f}", f"{one.f1:.4f}", f"{one.false:,}"]
            lines.append(
                f"| {name} | {way} | {known[0]} | {one.recall:.4f} | {known[1]} | {known[2]} | {one.missed:,} |"
            )
            name = ""
    lines += ["", "| way | MB of text a second | of the fastest |", "| --- | ---: | ---: |"]
    lines += [f"| {way} | {speed:.3g} | {speed / max(speeds.values()):.3g} |" for way, speed in speeds.items()]
    return "\n".join(lines)


def measure(passages: dict[str, list[Passage]], ways: dict[str, Splitter], rounds: int) -> dict:
    """All figures: what the passages are, the errors by way and kind, megabytes of text a second."""
    about = {
        kind: f"{len(found):,} abstracts, {sum(len(one.ends) for one in found):,} boundaries"
        for kind, found in passages.items()
    }
    texts = [passage.text for found in passages.values() for passage in found]
    split, seconds = split_and_time(ways, texts, rounds)
    errors: dict[str, dict[str, Errors]] = {}
    for name, sentences in split.items():
        remaining = iter(sentences)
        errors[name] = {
            kind: count_errors(list(itertools.islice(remaining, len(found))), found) for kind, found in passages.items()
        }
    size_mb = sum(len(text.encode()) for text in texts) / 1e6
    return {"about": about, "errors": errors, "mb_per_s": {name: size_mb / spent for name, spent in seconds.items()}}


def _as_json(found: dict) -> dict:
    rows = {
        way: {
            kind: {**asdict(one), "precision": one.precision, "recall": one.recall, "f1": one.f1}
            for kind, one in by_kind.items()
        }
        for way, by_kind in found["errors"].items()
    }
    versions = {way: version(way) for way in found["errors"] if way != "ours"}
    return {"passages": found["about"], "errors": rows, "mb_per_s": found["mb_per_s"], "versions": versions}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sentence_splitters", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--tokens", type=Path, nargs="+", default=[], metavar="FILE", help="Entities: a token and its tag a line.")
    add("--texts", type=Path, metavar="DIR", help="The untouched texts of those documents, .txt files, in any folder.")
    add("--labelled", type=Path, nargs="+", default=[], metavar="FILE", help="Files in PubMed RCT's form.")
    add("--sections", type=Path, nargs="+", default=[], metavar="DIR", help="Folders of documents with sections.")
    add("--ways", nargs="+", default=["ours", "blingfire", "syntok", "pysbd"], metavar="NAME", help="What to compare.",
        choices=["ours", "blingfire", "syntok", "pysbd"])  # fmt: skip
    add("--rounds", type=int, default=3, help="Measurements of the speed; the best counts.")
    add("--json", type=Path, metavar="FILE", help="Write the figures there, too.")
    options = parser.parse_args()
    try:
        if bool(options.tokens) != bool(options.texts):
            raise ValueError("--tokens and --texts belong together; give both")
        passages = {
            "entities": list(entity_passages(options.tokens, options.texts)) if options.tokens else [],
            "labelled": list(labelled_passages(options.labelled)),
            "sections": list(section_passages(options.sections)),
        }
        given = {"entities": options.tokens, "labelled": options.labelled, "sections": options.sections}
        for kind, paths in given.items():
            if paths and not passages[kind]:
                raise ValueError(f"{paths[0]} gives no abstract of two sentences; see --help for its form")
        passages = {kind: found for kind, found in passages.items() if found}
        if not passages or options.rounds < 1:
            raise ValueError("nothing to measure: give --tokens, --labelled or --sections, and --rounds of 1 or more")
        found = measure(passages, open_ways(options.ways), options.rounds)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(report(found["errors"], found["mb_per_s"], found["about"]))
    if options.json:
        options.json.write_text(json.dumps(_as_json(found), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
