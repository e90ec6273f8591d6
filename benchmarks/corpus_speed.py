"""Speed of reading PubMed: ours beside lxml's bare parser (the limit) and pubmed_parser (the peer).

    python -m benchmarks.corpus_speed [--xml PATH...] [--records 30000] [--rounds 3]

1. Make one file of --records records by repeating those of --xml (PubMed files; left out: made-up ones), with PMIDs of
   their own.
2. In turn, --rounds times, one process and one core: lxml.etree.iterparse that clears every record and does nothing
   else; one task of `pretraining.corpus.pubmed`, which parses, cleans and writes JSON lines;
   `pubmed_parser.parse_medline_xml` over the same file, its records thrown away.
3. Print medians of the processor time and the ratios as a table, and the peak memory of our reader.
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

PEAK_OF_OURS = """
import re, sys
from pathlib import Path
from benchmarks.corpus_speed import ours
ours(Path(sys.argv[1]), Path(sys.argv[2]))
print(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
"""


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


def seconds(function: Callable[[], object]) -> float:
    began = time.process_time()
    function()
    return time.process_time() - began


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.corpus_speed", description=__doc__.split("\n")[0])
    parser.add_argument("--xml", type=Path, nargs="+", help="PubMed XML files or folders to repeat records of.")
    parser.add_argument("--records", type=int, default=30_000, help="Records in the measured file.")
    parser.add_argument("--rounds", type=int, default=3, help="Measurements of each; the median counts.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not options.xml:
            write_sample_data(folder / "sample", abstracts=500, seed=1)
        path = folder / "measured.xml"
        repeat_records(find_files(options.xml or [folder / "sample" / "pubmed"], SUFFIXES), path, options.records)
        ways = {
            "lxml iterparse alone": lambda: bare(path),
            "ours: parse, clean, write": lambda: ours(path, folder),
            "pubmed_parser": lambda: theirs(path),
        }
        times: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(options.rounds):
            for way, function in ways.items():
                times[way].append(seconds(function))
        command = [sys.executable, "-c", PEAK_OF_OURS, str(path), str(folder)]
        peak_kib = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        size = path.stat().st_size / 1e6
    medians = {way: statistics.median(values) for way, values in times.items()}
    limit = medians["lxml iterparse alone"]
    print(f"{options.records:,} records, {size:.0f} MB, {options.rounds} rounds, processor seconds of one core\n")
    print("| way | s | MB/s | of lxml alone |\n| --- | --- | --- | --- |")
    for way, median in medians.items():
        print(f"| {way} | {median:.2f} | {size / median:.0f} | {median / limit:.2f} |")
    print(f"\nours is {medians['pubmed_parser'] / medians['ours: parse, clean, write']:.1f} times as fast as "
          f"pubmed_parser; peak memory {peak_kib / 1000:.0f} MB")  # fmt: skip


if __name__ == "__main__":
    main()
