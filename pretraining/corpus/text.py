"""Read plain text into documents.

    python -m pretraining.corpus.text --input PATH... --output DIR [--layout LAYOUT] [--skip-broken]

Layouts (a line with nothing but white space is a blank line):
    sentence-per-line    one sentence a line, a blank line between documents: as ELECTRAMed had it (default)
    paragraph-per-line   the same with paragraphs
    document-per-line    one document a line, of one paragraph
    document-per-file    one document a file, one paragraph a line, blank lines passed over: PMC<id>.txt

| what the file holds | kept as | why |
| --- | --- | --- |
| a line | text, in its place | headings (`ABSTRACT.METHODS:`) too: what is prose, whoever wrote the file decided |
| white space, a run of it | one blank | |
| blank lines | nothing | in the first two layouts they end a document |
| control and format characters, a byte order mark | nothing | soft hyphens and their like split words |
| letters with combining marks | NFC | else a word would have two spellings |
| the file's name, the number of the first line | identifier; the name is `source`, too | |
| documents without text | nothing | |

Steps: each file, .gz and .xz unpacked (by content), is read line by line, one task a file or some small ones; white
space is normalised in each line; the documents are written to shards of about 32 million characters, and the manifest
last. The result does not depend on the number of workers. The manifest of the first layout says that its lines are
sentences: `sentences` leaves them as they are, and `vocab` and `index` may take them as they are. A document must fit
into memory; files need not. A file that is damaged or not UTF-8 ends the run, or with `--skip-broken` gives the
documents before the break and is counted and listed in the manifest.
"""

import argparse
import gzip
import lzma
import multiprocessing
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from pretraining.corpus.document_steps import ReadFiles
from pretraining.corpus.documents import Document, find_files, normalise_text, read_manifest
from pretraining.corpus.engine import LOCAL, Engine, add_engine_flags, add_output_flag, read_engine
from pretraining.corpus.stages import describe_file, run_stage, running_stage

SUFFIXES = (".txt", ".txt.gz", ".txt.xz")
LAYOUTS = ("sentence-per-line", "paragraph-per-line", "document-per-line", "document-per-file")
SHARD_CHARACTERS = 32_000_000  # as much text as a shard of a PubMed baseline file
LONGEST_LINE = 50_000_000  # bytes; longer is no text, and its words would take ten times the memory
LONGEST_DOCUMENT = 200_000_000  # characters; longer is a file in another layout


def read_text(path: Path | str, layout: str = LAYOUTS[0], counts: Counter | None = None) -> Iterator[Document]:
    """Yield the documents of one text file in the given layout; add to `counts` what was read.

    An identifier is the file's name without its endings, and `:` and the number of the document's first line
    where a file holds several. Raises ValueError if the file is empty, damaged, or not UTF-8.
    """
    path, counts = Path(path), Counter() if counts is None else counts
    stem = path.name
    for ending in (".gz", ".xz", ".txt"):
        stem = stem.removesuffix(ending)
    lines: list[str] = []
    first_line = characters = 0

    def document() -> Document:
        identifier = stem if layout == "document-per-file" else f"{stem}:{first_line}"
        return Document(identifier, "\n".join(lines), {"source": path.name})

    for number, line in enumerate(read_lines(path), 1):
        line = normalise_text(line)
        if line:
            counts["lines"] += 1
            first_line = first_line if lines else number
            lines.append(line)
            characters += len(line) + 1
            if characters > LONGEST_DOCUMENT:
                raise ValueError(f"{path}, line {first_line}: a document without end; choose another --layout")
        ends = layout == "document-per-line" or not line and layout != "document-per-file"
        if ends and lines:
            yield document()
            lines, characters = [], 0
    if lines:
        yield document()


def read_lines(path: Path) -> Iterator[str]:
    """Yield a file's lines, unpacked and decoded, the errors named."""
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty; leave it out")
    with open(path, "rb") as packed:
        start = packed.read(6)
        packed.seek(0)
        # in one process only: bars of several would run over each other; a task's sys.stderr goes nowhere
        shown = {"disable": True if multiprocessing.parent_process() else None, "file": sys.__stderr__}
        bar = {"total": path.stat().st_size, "desc": path.name, "leave": False, **shown}
        with tqdm.wrapattr(packed, "read", bytes=True, **bar) as counted:
            try:
                lines = _unpack(counted, packed, start)
                for number, line in enumerate(iter(partial(lines.readline, LONGEST_LINE), b""), 1):
                    if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
                        raise ValueError(
                            f"{path}, line {number}, is longer than {LONGEST_LINE:,} bytes, which no line of text is; "
                            "leave the file out or break its lines"
                        )
                    # utf-8-sig: Windows editors put a byte order mark at the head
                    yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                where = f"byte 0x{error.object[error.start]:02x}"
                raise ValueError(f"{path}, line {number}: {where} is not UTF-8; convert the file to UTF-8") from None
            except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError) as error:
                raise ValueError(f"{path} is cut short or damaged ({error}); fetch or pack it again") from None


def _unpack(counted: BinaryIO, packed: BinaryIO, start: bytes) -> BinaryIO:
    """Return a stream of the unpacked bytes; `counted` is `packed` with a progress bar."""
    if start.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=counted)
    if start == b"\xfd7zXZ\x00":
        return lzma.LZMAFile(counted)
    return packed


class ReadText(ReadFiles):
    """Yield the documents of text files."""

    def __init__(self, groups: list[list[Path]], folder: Path, layout: str, skip_broken: bool) -> None:
        super().__init__(groups, folder, skip_broken)
        self.layout = layout

    def read(self, path: Path, counts: Counter, source: dict) -> Iterator[Document]:
        """Yield the documents of one file."""
        return read_text(path, self.layout, counts)


def make_groups(files: list[Path]) -> list[list[Path]]:
    """The files of each task: in their order, as many as make about a shard."""
    groups: list[list[Path]] = []
    size = 0  # of the last group, in bytes
    for path in files:
        if not groups or size >= SHARD_CHARACTERS:
            groups.append([])
            size = 0
        groups[-1].append(path)
        size += path.stat().st_size
    return groups


def convert(
    inputs: list[Path], output: Path, *, engine: Engine = LOCAL, layout: str = LAYOUTS[0], skip_broken: bool = False
) -> dict:
    """Read text files and folders into `output`; return the manifest."""
    files = find_files(inputs, SUFFIXES)
    groups = make_groups(files)
    with running_stage(
        output,
        "text",
        engine=engine,
        tasks=[[describe_file(path) for path in group] for group in groups],
        options={"layout": layout, "skip_broken": skip_broken},
        sentences=layout == "sentence-per-line",
    ) as run:
        run.read(ReadText(groups, run.work / "read", layout, skip_broken), SHARD_CHARACTERS)
        run.publish(run.shards(len(groups)))
        if not run.stage.files:
            raise ValueError(f"{files[0]} (of {len(files)} files) has no text; check --input")
    return read_manifest(output)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m pretraining.corpus.text", description="Read plain text into documents."
    )
    parser.add_argument(
        "--input", nargs="+", type=Path, required=True, metavar="PATH",
        help="text files (UTF-8, also packed by gzip or xz), or folders of *.txt, *.txt.gz, *.txt.xz",
    )  # fmt: skip
    add_output_flag(parser)
    parser.add_argument(
        "--layout", choices=LAYOUTS, default=LAYOUTS[0],
        help="what a line is; in the first two layouts a blank line ends a document (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--skip-broken", action="store_true",
        help="of a file that is damaged, not UTF-8 or without line ends keep the documents before the break, and name "
        "it in the manifest; without this flag such a file ends the run",
    )  # fmt: skip
    add_engine_flags(parser)
    args = parser.parse_args()
    run_stage(
        lambda: convert(
            args.input, args.output, engine=read_engine(args), layout=args.layout, skip_broken=args.skip_broken
        ),
        args.output,
    )


if __name__ == "__main__":
    # Under its own name, by which tasks in other processes find its steps.
    from pretraining.corpus import text

    text.main()
