"""Read PubMed XML (baseline files, update files, what efetch returns) into documents.

    python -m pretraining.corpus.pubmed --input BASELINE UPDATES... --output DIR [--workers N] [--titles-only keep]

Steps: each input file, gzip or not by its content, is parsed as a stream in bounded memory (record_elements.py), one
task a file; each record becomes one document (pubmed_records.py says what is text and what is metadata), each input
file one shard; of each PMID the record that stands is kept, deletions applied (revisions.py), so give the baseline
first and the updates after it, in their order (folders are read by name, which is PubMed's order); the manifest comes
last. The result does not depend on the number of workers.

No DTD is loaded, no entity resolved, nothing fetched; a DTD inside a file is an error, for PubMed has none. A file that
is broken ends the run, or with `--skip-broken` gives the documents before the break and is counted and listed.
"""

import argparse
from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy

from pretraining.corpus.document_steps import ReadFiles
from pretraining.corpus.documents import Document, find_files, read_manifest
from pretraining.corpus.engine import LOCAL, Engine, add_engine_flags, add_output_flag, read_engine
from pretraining.corpus.pubmed_records import Record, read_record
from pretraining.corpus.record_elements import iterate_records
from pretraining.corpus.revisions import FileRecords, record_key, standing
from pretraining.corpus.stages import Run, describe_file, run_stage, running_stage
from pretraining.corpus.xml_files import check_head, naming, open_xml

SUFFIXES = (".xml", ".xml.gz")
ROOTS = ("PubmedArticleSet", "PubmedArticle", "PubmedBookArticleSet", "PubmedBookArticle")


def read_pubmed(path: Path | str, counts: Counter | None = None, titles_only: str = "drop") -> Iterator[Document]:
    """Yield the documents of one PubMed XML file, repeated PMIDs and all; add to `counts` what was read and dropped.

    `titles_only` ("keep" or "drop") decides on records without an abstract. Raises ValueError if broken.
    """
    for item in read_records(path, titles_only, Counter() if counts is None else counts):
        if isinstance(item, Record) and item.document is not None:
            yield item.document


def read_records(path: Path | str, titles_only: str, counts: Counter) -> Iterator[Record | list[int]]:
    """Yield the records of one file in their order, and as a list of PMIDs each DeleteCitation."""
    path, last = Path(path), "its start"
    with naming(path, lambda: last):
        with open_xml(path) as file:
            root = check_head(path, file, "PubMed")
        if root not in ROOTS:
            raise ValueError(f"{path} is not PubMed XML, its root is <{root}>; leave it out")
        for element in iterate_records(path):
            if element.tag == "DeleteCitation":
                pmids = [int(one.text) for one in element.findall("PMID") if (one.text or "").isdecimal()]
                counts["deletions"] += len(pmids)
                yield pmids
                continue
            counts["records"] += 1
            record = read_record(element, path.name, titles_only)
            if record.document is None:
                counts[f"dropped_{record.reason}"] += 1
            yield record
            last = f"PMID {record.pmid}"


# ---- the command ----


class ReadPubmed(ReadFiles):
    """Yield the documents of one file a task, and write the records and deletions in it beside them."""

    records: FileRecords  # of the file read last

    def __init__(self, files: list[Path], folder: Path, titles_only: str, skip_broken: bool) -> None:
        super().__init__([[path] for path in files], folder, skip_broken)
        self.titles_only = titles_only

    def read(self, path: Path, counts: Counter, source: dict) -> Iterator[Document]:
        """Yield the documents of a file."""
        keys, written = array("q"), array("b")
        deletions: dict[int, int] = {}
        try:
            for item in read_records(path, self.titles_only, counts):
                if not isinstance(item, Record):
                    deletions.update(dict.fromkeys(item, len(keys)))
                    continue
                if item.pmid:
                    keys.append(record_key(item.pmid, item.version))
                    written.append(item.document is not None)
                if item.document is not None:
                    yield item.document
        finally:  # those before the break count where broken files are skipped
            self.records = FileRecords(numpy.array(keys, numpy.int64), numpy.array(written, bool), deletions)

    def finish(self, rank: int) -> None:
        """Write what was found."""
        self.records.write(Path(self.folder) / f"{rank:05d}.npz")


def convert(
    inputs: list[Path],
    output: Path,
    *,
    engine: Engine = LOCAL,
    titles_only: str = "drop",
    skip_broken: bool = False,
) -> dict:
    """Read PubMed files and folders into `output`, one shard a file; return the manifest."""
    files = find_files(inputs, SUFFIXES)
    with running_stage(
        output,
        "pubmed",
        engine=engine,
        tasks=[describe_file(path) for path in files],
        options={"titles_only": titles_only, "skip_broken": skip_broken},
        sentences=False,
        packages=("lxml",),
    ) as run:
        run.read(ReadPubmed(files, run.work / "read", titles_only, skip_broken))
        run.publish(_keep_what_stands(run, len(files)))
        if not any(entry["documents"] for entry in run.stage.files):
            raise ValueError(f"no record of {files[0]} (of {len(files)} files) became a document")
    return read_manifest(output)


def _keep_what_stands(run: Run, files: int) -> list[tuple[Path, dict]]:
    """Take documents out of the shards that were deleted or replaced later; return the shards."""
    read = [FileRecords.read(run.work / "read" / f"{number:05d}.npz") for number in range(files)]
    deleted, replaced = standing(read)
    masks = {}
    for number, records in enumerate(read):
        gone = (deleted[number] | replaced[number])[records.written]
        run.stage.counts["dropped_deleted"] += int(deleted[number][records.written].sum())
        run.stage.counts["dropped_replaced"] += int(replaced[number][records.written].sum())
        if gone.any():
            masks[number] = ~gone
    return run.keep(masks, files)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m pretraining.corpus.pubmed", description="Read PubMed XML into documents."
    )
    add = parser.add_argument
    add("--input", nargs="+", type=Path, required=True, metavar="PATH",
        help="PubMed XML files, gzip or not, or folders of them (*.xml and *.xml.gz, by name)")  # fmt: skip
    add_output_flag(parser)
    add("--titles-only", choices=["keep", "drop"], default="drop",
        help="what to do with records that have a title but no abstract (default: drop)")  # fmt: skip
    add("--skip-broken", action="store_true",
        help="of a file that is cut short or not well-formed keep the documents before the break, and name it in the "
        "manifest; without this flag such a file ends the run")  # fmt: skip
    add_engine_flags(parser)
    args = parser.parse_args()
    run_stage(
        lambda: convert(
            args.input,
            args.output,
            engine=read_engine(args),
            titles_only=args.titles_only,
            skip_broken=args.skip_broken,
        ),
        args.output,
    )


if __name__ == "__main__":
    # Under its own name, by which tasks in other processes find its steps.
    from pretraining.corpus import pubmed

    pubmed.main()
