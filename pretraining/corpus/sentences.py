"""Split documents into sentences, one a line.

    python -m pretraining.corpus.sentences --input DIR --output DIR [--workers N]

Steps: each shard of --input (what `pubmed` or `text` wrote) is read as a stream by one worker process, each
line of a document is a paragraph and is split into sentences, and the shard is written again with one
sentence a line. Where the input's manifest says that its lines are sentences already, they stay as they
are.

The splitter is a page of rules for English biomedical prose, `_ends_sentence`, because no library that needs no
download did as well: benchmarks/README.md has errors and speeds beside three of them, as measured by
`python -m benchmarks.sentence_splitters`. The errors on the entity corpus there guided the rules, those on the others
did not. A boundary missed costs little: the index cuts and carries on; a false one splits a name.
"""

import argparse
import re
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from pretraining.corpus.documents import (
    MANIFEST,
    Document,
    list_shards,
    read_manifest,
    read_shard,
    run_stage,
    source_entry,
    write_shard,
    writing_stage,
)
from pretraining.corpus.workers import map_in_order, usable_cores

# a full stop, question or exclamation mark, what closes after it, a blank; or a full stop without the blank
CANDIDATE = re.compile(r"[.?!](?:[)\]\"'”’]* (?=\S)|(?<=[a-z]{4}\.)(?=[A-Z][a-z]+ ))")
# Abbreviations after which a sentence goes on. Case counts: `NO.` and `MS.` may end one, `No.` and `Ms.` not.
ABBREVIATIONS = frozenset(
    """
    fig figs Fig Figs eq eqs Eq Eqs eqn eqns ref refs Ref Refs no nos No Nos vol vols Vol pp ed eds Tab
    Suppl suppl ser Ser sect Sect chap Chap approx ca cf vs viz al resp incl excl esp eg ie etc sp spp
    ssp subsp var nov gen cv bv pv str Dr Prof Mr Mrs Ms St Jr Sr Inc Ltd Co Corp Dept Univ Biol Chem
    Mol Cell Natl Acad Sci Proc Am Med Clin Exp Res Immunol Biochem Biophys Int Rev Lett Ann Dev Environ
    Mutagen Physiol Pharmacol Microbiol
    """.split()
)
DOTTED = re.compile(r"[A-Za-z](?:\.[A-Za-z])+")  # i.e  i.v  b.i.d  U.S  J.F
# Units end a sentence after a number (`for 24 h. The cells`), and are abbreviations elsewhere (`min. 3`).
UNITS = frozenset("h d s g l M C L F K U min hr hrs wk mo yr sec max kg mg ml mM".split())
# Sentences that start in lower case: p53, mRNA, c-Myc, alpha-Tocopherol, 9-cis
LOWER_START = re.compile(r"[a-z]{1,3}[0-9A-Z]|[a-z]{1,2}-|(?:alpha|beta|gamma|delta|kappa|cis|trans|tert)-")
LIST_ITEM = re.compile(r"\((?:[ivx]+|[a-z])\) ?[A-Z]")  # (ii) Expression of
CITATION = re.compile(r"\((?:18|19|20)\d\d|\d+(?:\(\d+\))?(?:[:;]|, ?(?=\d{3}))\d")  # (1998)   274, 11060   98:795


def split_paragraph(paragraph: str) -> list[str]:
    """Return the sentences of one paragraph, whose white space is normalised."""
    sentences, start = [], 0
    for match in CANDIDATE.finditer(paragraph):
        if _ends_sentence(paragraph, match):
            sentences.append(paragraph[start : match.end()].rstrip(" "))
            start = match.end()
    sentences.append(paragraph[start:])
    return sentences


def _ends_sentence(text: str, match: re.Match) -> bool:
    """Return whether a sentence ends at a candidate, judged by the word before and the word after."""
    previous, _, last = text[max(0, match.start() - 60) : match.start()].rpartition(" ")
    after = text[match.end() : match.end() + 40]
    closed = len(match.group().rstrip(" ")) > 1
    if not _may_start(after, after_word=last, closed=closed):
        return False
    if text[match.start()] != ".":
        return True
    word = last.lstrip("([\"'“‘")
    if CITATION.match(after) or DOTTED.fullmatch(word):
        return False
    if closed:
        return True
    return not _is_abbreviation(word, last, previous, after)


def _may_start(after: str, *, after_word: str, closed: bool) -> bool:
    """Return whether a sentence may start with `after`."""
    if LIST_ITEM.match(after):
        return True
    first = after.lstrip("([\"'“‘")
    if first[:1].isdigit():  # not inside a number that was written with a blank: P < 0. 01
        return bool(after_word) and not re.search(r"(?:^|\D)0$", after_word)
    if first[:1].islower():
        return not closed and LOWER_START.match(first) is not None
    return first[:1].isalpha()


def _is_abbreviation(word: str, last: str, previous: str, after: str) -> bool:
    """Return whether the full stop after `word` belongs to it; `previous` is the text before the word."""
    if word in UNITS and re.search(r"[\d)°]$", previous):
        return False
    if word in ABBREVIATIONS or word in UNITS and len(word) > 1:
        return True
    if len(word) > 1 or not word.isalpha():
        return False
    # One letter: the end of a name (`NF-kappa B`, `degrees C`, `protein kinase C`); else initials or a genus.
    return word != last or word.islower() or not re.search(r"[a-z]{4}$", previous) or after[1:2] == "."


# ---- the command ----


def split_documents(documents: Iterator[Document], counts: Counter) -> Iterator[Document]:
    """Yield documents with one sentence a line from documents with one paragraph a line."""
    for document in documents:
        lines = [s for paragraph in document.text.split("\n") for s in split_paragraph(paragraph) if s]
        counts["sentences"] += len(lines)
        yield Document(document.id, "\n".join(lines), document.metadata)


def convert_shard(job: tuple[int, Path, bool], output: Path) -> tuple[dict, Counter]:
    """Write one shard again with one sentence a line; return its entry for the manifest and the counts.

    job: number of the shard to write, shard to read, whether its lines are sentences already.
    """
    number, path, are_sentences = job
    counts: Counter = Counter()

    def unchanged() -> Iterator[Document]:
        for document in read_shard(path):
            counts["sentences"] += document.text.count("\n") + 1
            yield document

    documents = unchanged() if are_sentences else split_documents(read_shard(path), counts)
    return write_shard(output, number, documents), counts


def convert(sources: list[Path], output: Path, *, workers: int = 1) -> dict:
    """Split the documents of the folders, in this order, into sentences, in `output`; return the manifest."""
    jobs, manifests = [], []
    for source in sources:
        manifest = read_manifest(source)
        manifests.append(manifest)
        if manifest["stage"] == "sentences":
            raise ValueError(f"--input {source} was written by this stage already; use it as it is")
        jobs += [(shard, manifest["sentences"]) for shard in list_shards(source)]
    with writing_stage(output, "sentences", options={}, sentences=True) as stage:
        job = partial(convert_shard, output=stage.output)
        numbered = [(number, *rest) for number, rest in enumerate(jobs)]
        for entry, counts in map_in_order(job, numbered, workers=workers, description="Sentences", unit="shard"):
            stage.files.append(entry)
            stage.counts.update(counts)
        stage.sources = [
            {
                **source_entry(source / MANIFEST),
                "name": f"{source.resolve().name}/{MANIFEST}",
                "manifest": manifest,
            }
            for source, manifest in zip(sources, manifests, strict=True)
        ]
    return read_manifest(output)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m pretraining.corpus.sentences",
        description="Split documents into sentences, one a line.",
    )
    parser.add_argument(
        "--input",
        type=Path,
        nargs="+",
        required=True,
        metavar="DIR",
        help="folders that pubmed or text wrote; their documents follow one another",
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="the folder to write; an earlier result is replaced",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=usable_cores(),
        help="processes, one shard each (default: the cores there are)",
    )
    args = parser.parse_args()
    run_stage(lambda: convert(args.input, args.output, workers=args.workers), args.output)


if __name__ == "__main__":
    main()
