"""Speed of reading PubMed: ours beside lxml's bare parser (the limit) and pubmed_parser (the peer).

    python -m benchmarks.corpus_speed [--xml PATH...] [--records 30000] [--rounds 3]

1. Make one file of --records records by repeating those of --xml (PubMed files; left out: made-up ones), with PMIDs of
   their own.
2. In turn, --rounds times, one process and one core: lxml.etree.iterparse that clears every record and does nothing
   else; one task of `pretraining.corpus.pubmed`, which parses, cleans and writes JSON lines;
   `pubmed_parser.parse_medline_xml` over the same file, its records thrown away.
3. Print medians of processor time and of wall time and the ratios as a table, and the peak memory of our reader. Wall
   times count where nothing else runs on the machine; on a shared one only processor times can be compared.
"""

import argparse
import gzip
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from lxml import etree

from launch.sample_data import write_sample_data
from pretraining.corpus.document_steps import WriteShard
from pretraining.corpus.documents import find_files
from pretraining.corpus.pubmed import SUFFIXES, ReadPubmed

OURS, THEIRS = "ours: parse, clean, write", "pubmed_parser"
PEAK_OF_OURS = """
import re, sys
from pathlib import Path
from benchmarks.corpus_speed import ours
ours(Path(sys.argv[1]), Path(sys.argv[2]))
print(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
"""


def add_input_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that `write_input` reads."""
    parser.add_argument("--xml", type=Path, nargs="+", help="PubMed XML files or folders to repeat records of.")
    parser.add_argument("--records", type=int, default=30_000, help="Records in the measured file.")


def write_input(options: argparse.Namespace, folder: Path) -> Path:
    """Write the file to measure with below `folder`; return its path."""
    if not options.xml:
        write_sample_data(folder / "sample", abstracts=500, seed=1)
    path = folder / "measured.xml"
    repeat_records(find_files(options.xml or [folder / "sample" / "pubmed"], SUFFIXES), path, options.records)
    return path


def repeat_records(files: list[Path], path: Path, records: int) -> None:
    """Write `records` PubmedArticle elements, those of `files` over and over, each with a PMID of its own."""
    found = []
    for file in files:
        with gzip.open(file) if file.suffix == ".gz" else open(file, "rb") as stream:
            root = etree.parse(stream).getroot()
        found += [etree.tostring(one, encoding="utf-8") for one in root.iter("PubmedArticle")]
    with open(path, "wb") as output:
        output.write(b'<?xml version="1.0" encoding="utf-8"?>\n<PubmedArticleSet>\n')
        for number in range(records):
            pmid = str(10_000_000 + number).encode()
            record = found[number % len(found)]
            output.write(re.sub(rb"(<PMID[^>]*>)\d+", lambda match, pmid=pmid: match[1] + pmid, record, count=1))
        output.write(b"</PubmedArticleSet>\n")


def bare(path: Path) -> None:
    """Parse and clear, nothing else."""
    for _, element in etree.iterparse(path, events=("end",), tag="PubmedArticle"):
        element.clear()
        while element.getprevious() is not None:
            del element.getparent()[0]


def ours(path: Path, folder: Path) -> None:
    """One task of the pubmed stage."""
    WriteShard(folder).run(ReadPubmed([path], folder, "drop", False).run())


def theirs(path: Path) -> None:
    """pubmed_parser, as its README calls it; it opens everything as gzip, so it is handed the file itself."""
    import pubmed_parser

    opened, gzip.open = gzip.open, open
    try:
        for _ in pubmed_parser.parse_medline_xml(str(path)):
            pass
    finally:
        gzip.open = opened


def seconds(function: Callable[[], object]) -> tuple[float, float]:
    """Processor and wall seconds of a call."""
    processor, wall = time.process_time(), time.perf_counter()
    function()
    return time.process_time() - processor, time.perf_counter() - wall


def table(times: dict[str, list[tuple[float, float]]], megabytes: float) -> str:
    """Medians of each way, against the first of them, the limit."""
    medians = {way: [statistics.median(clock) for clock in zip(*rounds, strict=True)] for way, rounds in times.items()}
    limit = next(iter(medians.values()))
    lines = [
        "| way | processor s | MB/s | of lxml alone | wall s | of lxml alone |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for way, (processor, wall) in medians.items():
        figures = f"{processor:.2f} | {megabytes / processor:.0f} | {processor / limit[0]:.2f}"
        lines.append(f"| {way} | {figures} | {wall:.2f} | {wall / limit[1]:.2f} |")
    by_processor, by_wall = (theirs / ours for theirs, ours in zip(medians[THEIRS], medians[OURS], strict=True))
    lines.append(f"\nours is {by_processor:.1f} times as fast as pubmed_parser (by wall time {by_wall:.1f})")
    return "\n".join(lines)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.corpus_speed", description=__doc__.split("\n")[0])
    add_input_flags(parser)
    parser.add_argument("--rounds", type=int, default=3, help="Measurements of each; the median counts.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = write_input(options, folder)
        ways = {
            "lxml iterparse alone": lambda: bare(path),
            OURS: lambda: ours(path, folder),
            THEIRS: lambda: theirs(path),
        }
        times: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        for _ in range(options.rounds):
            for way, function in ways.items():
                times[way].append(seconds(function))
        command = [sys.executable, "-c", PEAK_OF_OURS, str(path), str(folder)]
        peak_kib = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        size = path.stat().st_size / 1e6
    print(f"{options.records:,} records, {size:.0f} MB, {options.rounds} rounds, one process\n")
    print(f"{table(times, size)}; peak memory {peak_kib * 1024 / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
