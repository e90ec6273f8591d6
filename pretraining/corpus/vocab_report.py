"""Compare vocabularies on the same text: how finely they cut it, what they do not know, how long samples become.

    python -m pretraining.corpus.vocab_report --tokenizer DIR... --input DOCUMENTS [--terms FILE...] [--plot FILE]

Steps: (1) read the first --documents documents of a stage's folder, and the distinct terms of --terms: entities of a
benchmark's tagged file (a word and its tag a line, as finetuning reads them) or one term a line; (2) encode both with
every tokenizer; (3) print a table, a column a vocabulary, and draw the distribution of document lengths if asked.

Vocabularies of all types are compared alike.
A word is what blanks separate and has a letter in it. Lengths are in word pieces, without special tokens.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer
from tqdm import tqdm

from pretraining.corpus.documents import normalise_text, read_documents
from pretraining.corpus.tokenizer import kind_of, load_tokenizer, special_tokens

LENGTHS = (128, 256, 512)  # of samples: which share of the documents is longer


@dataclass
class Cut:
    """What a vocabulary makes of a text or of terms."""

    kind: str
    words: int
    lengths: np.ndarray  # word pieces of each document or term, int64 [N]
    unknown: int  # pieces that are [UNK]

    @property
    def pieces_per_word(self) -> float:
        return self.lengths.sum() / max(1, self.words)


def cut(tokenizer: Tokenizer, texts: list[str]) -> Cut:
    """Encode texts, each by itself."""
    unknown_id, unknown, lengths = special_tokens(tokenizer).unk, 0, []
    for start in tqdm(range(0, len(texts), 1000), desc="encode", unit="batch", disable=None):
        for encoding in tokenizer.encode_batch_fast(texts[start : start + 1000], add_special_tokens=False):
            lengths.append(len(encoding.ids))
            unknown += encoding.ids.count(unknown_id)
    words = sum(any(character.isalpha() for character in word) for text in texts for word in text.split())
    return Cut(kind_of(tokenizer), words, np.array(lengths, np.int64), unknown)


def read_terms(path: Path) -> Iterator[str]:
    """The terms of a file: entities of a tagged file (B, I, O or IOBES, tabs between columns), or one term a line."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 at byte {error.start:,}") from None
    if not any("\t" in line for line in lines):
        yield from filter(None, map(normalise_text, lines))
        return
    words: list[str] = []
    for line in [*lines, ""]:
        word, tab, rest = line.partition("\t")
        tag = rest.split("\t")[-1][:1] if tab else "O"
        if words and tag in "OBS":
            yield normalise_text(" ".join(words))
            words = []
        if tag not in "O" and tab:
            words.append(word)


def report(cuts: dict[str, Cut], terms: dict[str, Cut], sizes: dict[str, int]) -> str:
    """The table, in Markdown; a column a vocabulary."""
    rows: list[tuple[str, list[str]]] = [
        ("type", [one.kind for one in cuts.values()]),
        ("entries", [f"{size:,}" for size in sizes.values()]),
        ("word pieces a word", [f"{one.pieces_per_word:.3f}" for one in cuts.values()]),
        ("unknown pieces", [f"{one.unknown / max(1, one.lengths.sum()):.4%}" for one in cuts.values()]),
        ("word pieces a document, mean", [f"{one.lengths.mean():.0f}" for one in cuts.values()]),
    ]
    for share in (50, 90, 99):
        rows.append((f"{share} % have at most", [f"{np.percentile(one.lengths, share):.0f}" for one in cuts.values()]))
    for length in LENGTHS:
        longer = [f"{(one.lengths > length - 2).mean():.1%}" for one in cuts.values()]
        rows.append((f"documents that need more than a sample of {length}", longer))
    if terms:
        rows += [
            ("terms", [f"{len(one.lengths):,}" for one in terms.values()]),
            ("terms of a single piece", [f"{(one.lengths == 1).mean():.1%}" for one in terms.values()]),
            ("word pieces a word of terms", [f"{one.pieces_per_word:.3f}" for one in terms.values()]),
            ("unknown pieces in terms", [f"{one.unknown:,}" for one in terms.values()]),
        ]
    head = ["| | " + " | ".join(cuts) + " |", "| --- |" + " ---: |" * len(cuts)]
    return "\n".join(head + [f"| {name} | {' | '.join(cells)} |" for name, cells in rows])


def plot(cuts: dict[str, Cut], path: Path) -> None:
    """The share of documents of each length, a line a vocabulary."""
    try:
        import matplotlib
    except ImportError:
        raise ValueError("--plot needs matplotlib: pip install matplotlib, or leave the flag out") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    longest = max(float(np.percentile(one.lengths, 99)) for one in cuts.values())
    edges = np.linspace(0, longest, 61)
    for name, one in cuts.items():
        shares = np.histogram(one.lengths, edges)[0] / len(one.lengths)
        axes.plot(edges[:-1], shares, drawstyle="steps-post", label=f"{name} (mean {one.lengths.mean():.0f})")
    for length in LENGTHS:
        if length < longest:
            axes.axvline(length - 2, color="0.8", zorder=0)
    axes.set(xlabel="word pieces of a document", ylabel="share of documents", xlim=(0, longest))
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120, bbox_inches="tight")
    pyplot.close(figure)


def compare(folders: list[Path], texts: list[str], terms: list[str]) -> tuple[dict, dict, dict]:
    """Cuts of the text, cuts of the terms (empty without any) and sizes, by the folder's name."""
    tokenizers: dict[str, Tokenizer] = {}
    for folder in folders:
        name = folder.name if folder.name not in tokenizers else str(folder)
        tokenizers[name] = load_tokenizer(folder)
    cuts = {name: cut(tokenizer, texts) for name, tokenizer in tokenizers.items()}
    of_terms = {name: cut(tokenizer, terms) for name, tokenizer in tokenizers.items()} if terms else {}
    return cuts, of_terms, {name: one.get_vocab_size() for name, one in tokenizers.items()}


def _distinct(terms: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(terms))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m pretraining.corpus.vocab_report", description="Compare vocabularies on the same text."
    )
    add = parser.add_argument
    add("--tokenizer", type=Path, nargs="+", required=True, metavar="DIR", help="Tokenizer folders to compare.")
    add("--input", type=Path, required=True, metavar="DIR", help="The text: a folder of documents, of any stage.")
    add("--documents", type=int, default=10_000, metavar="N", help="How many documents to read, from the first on.")
    add("--terms", type=Path, nargs="+", default=[], metavar="FILE",
        help="Terms that should stay whole: a benchmark's tagged files, or files of one term a line.")  # fmt: skip
    add("--plot", type=Path, metavar="FILE", help="Draw the lengths of the documents (.png, .svg, .pdf).")
    options = parser.parse_args()
    try:
        if options.documents < 1:
            raise ValueError(f"--documents {options.documents}: give 1 or more")
        texts = [document.text for document in islice(read_documents(options.input), options.documents)]
        if not texts:
            raise ValueError(f"{options.input} holds no document")
        terms = _distinct(term for path in options.terms for term in read_terms(path))
        if options.terms and not terms:
            raise ValueError(f"{options.terms[0]} holds no term: expected a word and its tag a line, or a term a line")
        cuts, of_terms, sizes = compare(options.tokenizer, texts, terms)
        if options.plot:
            plot(cuts, options.plot)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(report(cuts, of_terms, sizes))


if __name__ == "__main__":
    main()
