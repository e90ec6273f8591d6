"""Read PubMed XML (baseline files, update files, what efetch returns) into documents.

    python -m pretraining.corpus.pubmed --input BASELINE UPDATES... --output DIR [--workers N] [--titles-only keep]

Steps: each input file, gzip or not by its content, is parsed as a stream in constant memory, one worker process a
file; each record becomes one document (pubmed_records.py says what is text and what is metadata), each input file one
shard; of each PMID the record that stands is kept, deletions applied (revisions.py), so give the baseline first
and the updates after it, in their order (folders are read by name, which is PubMed's order); the manifest comes
last. The result does not depend on the number of workers.

No DTD is loaded, no entity resolved, nothing fetched; a DTD inside a file is an error, for PubMed has none. A file that
is broken ends the run, or with `--skip-broken` gives the documents before the break and is counted and listed.
"""

import argparse
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy

from pretraining.corpus.documents import (
    Document,
    find_files,
    keep_lines,
    read_manifest,
    run_stage,
    source_entry,
    write_shard,
    writing_stage,
)
from pretraining.corpus.pubmed_records import Record, read_record
from pretraining.corpus.record_elements import iterate_records
from pretraining.corpus.revisions import FileRecords, record_key, standing
from pretraining.corpus.workers import map_in_order, usable_cores
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


@dataclass
class ReadFile:
    """What a worker hands back of one input file."""

    entry: dict  # the shard's entry in the manifest
    source: dict  # the input file's
    counts: Counter  # what was read and dropped
    records: FileRecords


def convert_file(job: tuple[int, Path], output: Path, titles_only: str, skip_broken: bool) -> ReadFile:
    """Write the shard of one input file; `job` is the shard's number and the file."""
    number, path = job
    counts: Counter = Counter()
    keys, written = array("q"), array("b")
    deletions: dict[int, int] = {}
    broken: list[str] = []

    def documents() -> Iterator[Document]:
        try:
            for item in read_records(path, titles_only, counts):
                if not isinstance(item, Record):
                    deletions.update(dict.fromkeys(item, len(keys)))
                    continue
                if item.pmid:
                    keys.append(record_key(item.pmid, item.version))
                    written.append(item.document is not None)
                if item.document is not None:
                    yield item.document
        except ValueError as error:
            if not skip_broken:
                raise
            broken.append(str(error))

    entry = write_shard(output, number, documents())
    source = source_entry(path)
    if broken:
        counts["broken_files"] += 1
        source["broken"] = broken[0]
    records = FileRecords(numpy.array(keys, numpy.int64), numpy.array(written, bool), deletions)
    return ReadFile(entry, source, counts, records)


def convert(
    inputs: list[Path], output: Path, *, workers: int = 1, titles_only: str = "drop", skip_broken: bool = False
) -> dict:
    """Read PubMed files and folders into `output`, one shard a file; return the manifest."""
    files = find_files(inputs, SUFFIXES)
    options = {"titles_only": titles_only, "skip_broken": skip_broken}
    with writing_stage(output, "pubmed", options=options, sentences=False, packages=["lxml"]) as stage:
        job = partial(convert_file, output=stage.output, titles_only=titles_only, skip_broken=skip_broken)
        read = list(map_in_order(job, list(enumerate(files)), workers=workers, description="PubMed"))
        stage.sources = [one.source for one in read]
        stage.counts = sum((one.counts for one in read), Counter())
        stage.files = _keep_what_stands(read, stage.output, stage.counts, workers)
        if not any(entry["documents"] for entry in stage.files):
            raise ValueError(f"no record of {files[0]} (of {len(files)} files) became a document")
    return read_manifest(output)


def _keep_what_stands(read: list[ReadFile], output: Path, counts: Counter, workers: int) -> list[dict]:
    """Take documents out of the shards that were deleted or replaced later; return the shards' entries."""
    deleted, replaced = standing([one.records for one in read])
    entries, jobs = [one.entry for one in read], []
    for number, one in enumerate(read):
        written = one.records.written
        counts["dropped_deleted"] += int(deleted[number][written].sum())
        counts["dropped_replaced"] += int(replaced[number][written].sum())
        gone = (deleted[number] | replaced[number])[written]
        if gone.any():
            jobs.append((number, ~gone))
    kept = map_in_order(partial(_rewrite, output=output), jobs, workers=workers, description="Revisions")
    for (number, _), entry in zip(jobs, kept, strict=True):
        entries[number] = entry
    return entries


def _rewrite(job: tuple[int, numpy.ndarray], output: Path) -> dict:
    number, keep = job
    return keep_lines(output, number, keep.tolist())


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m pretraining.corpus.pubmed", description="Read PubMed XML into documents."
    )
    add = parser.add_argument
    add("--input", nargs="+", type=Path, required=True, metavar="PATH",
        help="PubMed XML files, gzip or not, or folders of them (*.xml and *.xml.gz, by name)")  # fmt: skip
    add("--output", type=Path, required=True, metavar="DIR",
        help="the folder to write; an earlier result is replaced")  # fmt: skip
    add("--titles-only", choices=["keep", "drop"], default="drop",
        help="what to do with records that have a title but no abstract (default: drop)")  # fmt: skip
    add("--skip-broken", action="store_true",
        help="of a file that is cut short or not well-formed keep the documents before the break, and name it in the "
        "manifest; without this flag such a file ends the run")  # fmt: skip
    add("--workers", type=int, default=usable_cores(), metavar="N",
        help="processes, one file each (default: the cores there are)")  # fmt: skip
    args = parser.parse_args()
    run_stage(
        lambda: convert(
            args.input, args.output, workers=args.workers, titles_only=args.titles_only, skip_broken=args.skip_broken
        ),
        args.output,
    )


if __name__ == "__main__":
    main()
