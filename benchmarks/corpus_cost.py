"""What a corpus costs: processor time, disk and memory of each stage for a million citations, and for all of PubMed.

    python -m benchmarks.corpus_cost [--xml PATH...] [--records 30000] [--vocab-size 1600]

1. Make one gzip file of --records records by repeating those of --xml (PubMed files; left out: made-up ones), with
   PMIDs of their own: as large as one of PubMed's 1,300.
2. Run the stages on it as commands, one process each: read, filter (by PMID), split, vocabulary, index.
3. Print a table for a million citations, and for all of PubMed: the same, times 38. Processor time, so that other
   work on the machine matters little; the peak memory of the process.

Time and disk grow with the citations, memory but for words and revisions does not. Repeated records have few different
words, so the vocabulary's memory and the time of its training, which text does not add to, are those of few words. The
texts are equal, so the filter looks for equal PMIDs alone, of which there are none.
"""

import argparse
import gzip
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.corpus_speed import add_input_flags, write_input

# Runs a module as `python -m` does and writes down the peak of its own memory; the system's figure for a child begins
# with that of its parent.
WITH_PEAK = """
import re, runpy, sys
peak, module = sys.argv.pop(1), sys.argv.pop(1)
runpy.run_module(module, run_name="__main__", alter_sys=True)
with open(peak, "w") as file:
    file.write(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
"""
ROOT = Path(__file__).resolve().parents[1]
PUBMED_MILLIONS = 38
MILLION = 1_000_000


@dataclass
class Cost:
    """What one stage takes for the measured records."""

    stage: str
    processor_seconds: float
    disk_bytes: int  # of what it leaves and what grows with the text
    peak_bytes: int  # of memory


def run(stage: str, command: list, results: list[Path], work: Path) -> Cost:
    """Run the command of a stage with one worker; `results`: what it leaves that grows with the text."""
    peak = work / "peak"
    arguments = [sys.executable, "-c", WITH_PEAK, peak, *command]
    process = subprocess.Popen(list(map(str, arguments)), cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"error: the stage `{stage}` failed; its message stands above")
    files = [file for path in results for file in (path, *path.rglob("*")) if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    return Cost(stage, usage.ru_utime + usage.ru_stime, size, int(peak.read_text()) * 1024)


def measure(xml: Path, work: Path, vocab_size: int) -> list[Cost]:
    """Run all stages in `work`."""
    documents, filtered, sentences, tokenizer = (work / n for n in ("documents", "filtered", "sentences", "tokenizer"))
    corpus, stages, one = work / "corpus", "pretraining.corpus", ["--workers", 1]
    read = [f"{stages}.pubmed", "--input", xml, "--output", documents, *one]
    select = [f"{stages}.filter", "--input", documents, "--output", filtered, "--duplicates", "pmid", *one]
    split = [f"{stages}.sentences", "--input", filtered, "--output", sentences, *one]
    vocabulary = [f"{stages}.vocab", "--input", sentences, "--output", tokenizer, "--vocab-size", vocab_size, *one]
    index = [f"{stages}.index", "--input", sentences, "--tokenizer", tokenizer, "--output-prefix", corpus, *one]
    index_files = [corpus.with_suffix(suffix) for suffix in (".bin", ".idx", ".ids")]
    return [
        Cost("download (gzip)", 0.0, xml.stat().st_size, 0),
        run("read", read, [documents], work),
        run("filter", select, [filtered], work),
        run("split", split, [sentences], work),
        run("vocabulary", vocabulary, [], work),
        run("index", index, index_files, work),
    ]


def table(costs: list[Cost], records: int) -> str:
    """The costs for a million citations and for PubMed, in Markdown."""
    scale = MILLION / records
    lines = [
        "| stage | core-seconds | disk, GB | peak memory, MB | all of PubMed: core-hours | disk, GB |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    total = Cost("all", sum(one.processor_seconds for one in costs), sum(one.disk_bytes for one in costs), 0)
    for cost in (*costs, total):
        seconds, gigabytes = cost.processor_seconds * scale, cost.disk_bytes * scale / 1e9
        peak = f"{cost.peak_bytes / 1e6:.0f}" if cost.peak_bytes else ""
        whole = f"{seconds * PUBMED_MILLIONS / 3600:.1f} | {gigabytes * PUBMED_MILLIONS:.0f}"
        lines.append(f"| {cost.stage} | {seconds:,.0f} | {gigabytes:.2f} | {peak} | {whole} |")
    return "\n".join(lines)


def machine() -> str:
    """The processor's name, as Linux has it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.corpus_cost", description=__doc__.split("\n")[0])
    add_input_flags(parser)
    parser.add_argument("--vocab-size", type=int, default=1_600, help="Entries of the vocabulary that is trained.")
    options = parser.parse_args()
    revision = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        plain, packed = write_input(options, work), work / "measured.xml.gz"
        with open(plain, "rb") as source, gzip.open(packed, "wb", compresslevel=6) as target:
            shutil.copyfileobj(source, target, 1 << 20)
        plain.unlink()
        costs = measure(packed, work, options.vocab_size)
    print(f"A million citations, measured with {options.records:,}, commit {revision.stdout.strip()}, {machine()}\n")
    print(table(costs, options.records))


if __name__ == "__main__":
    main()
