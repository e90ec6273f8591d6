"""Split documents into sentences, one a line.

    python -m pretraining.corpus.sentences --input DIR --output DIR [--workers N]

Steps: each shard of --input (what a reader or the filter wrote) is read as a stream by one task, each line of a
document is a paragraph and is split into sentences, and the shard is written again with one sentence a line. Where the
input's manifest says that its lines are sentences already, they stay as they are.

The splitter is a page of rules for English biomedical prose, `_ends_sentence`, because no library that needs no
download did as well: benchmarks/README.md has errors and speeds beside three of them, as measured by
`python -m benchmarks.sentence_splitters`. The errors on the entity corpus there guided the rules, those on the others
did not. A boundary missed costs little: the index cuts and carries on; a false one splits a name.
"""

import argparse
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep

from pretraining.corpus.document_steps import ReadShard, WriteShard
from pretraining.corpus.documents import read_manifest
from pretraining.corpus.engine import LOCAL, Engine, add_engine_flags, add_output_flag, read_engine
from pretraining.corpus.stages import FIRST, run_stage, running_stage, stage_sources

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


class SplitSentences(PipelineStep):
    """Make documents of one sentence a line from documents of one paragraph a line.

    are_sentences: for each task, whether its lines are sentences already; those only get counted.
    """

    type, name = "FORMAT", "sentences"

    def __init__(self, are_sentences: list[bool]) -> None:
        super().__init__()
        self.are_sentences = tuple(are_sentences)

    def run(self, data: Iterable[Document], rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Yield the documents."""
        number, as_they_are = 0, self.are_sentences[rank]
        for document in data:
            if as_they_are:
                number += document.text.count("\n") + 1
            else:
                lines = [s for paragraph in document.text.split("\n") for s in split_paragraph(paragraph) if s]
                document.text = "\n".join(lines)
                number += len(lines)
            yield document
        self.stat_update("sentences", value=number)


def convert(inputs: list[Path], output: Path, *, engine: Engine = LOCAL) -> dict:
    """Split the documents of the folders, in this order, into sentences, in `output`; return the manifest."""
    sources = stage_sources(inputs)
    for folder, source in zip(inputs, sources, strict=True):
        if source["manifest"]["stage"] == "sentences":
            raise ValueError(f"--input {folder} was written by this stage already; use it as it is")
    shards = [
        (folder / entry["name"], source["manifest"]["sentences"], entry)
        for folder, source in zip(inputs, sources, strict=True)
        for entry in source["manifest"]["files"]
    ]
    with running_stage(
        output,
        "sentences",
        engine=engine,
        tasks=[[are_sentences, entry] for _, are_sentences, entry in shards],
        options={},
        sentences=True,
    ) as run:
        split = SplitSentences([are_sentences for _, are_sentences, _ in shards])
        reader = ReadShard([path for path, _, _ in shards], [entry["sha256"] for _, _, entry in shards])
        run.tasks(FIRST, [reader, split, WriteShard(run.work / FIRST)], len(shards), unit="shard")
        run.stage.counts = run.counts(FIRST, str(split))
        run.stage.sources = sources
        run.publish(run.shards(len(shards)))
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
        help="folders that a reader or the filter wrote; their documents follow one another",
    )
    add_output_flag(parser)
    add_engine_flags(parser)
    args = parser.parse_args()
    run_stage(lambda: convert(args.input, args.output, engine=read_engine(args)), args.output)


if __name__ == "__main__":
    # Under its own name, by which tasks in other processes find its steps.
    from pretraining.corpus import sentences

    sentences.main()
