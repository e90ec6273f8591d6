"""The index stage beside bare `tokenizers`; its memory over ten times the input; maps of 30 million documents.

    python -m benchmarks.index_speed --input SENTENCES_DIR --tokenizer DIR --work DIR [--repeat N] [--rounds N]

Steps: (1) repeat the documents of the input until they are worth measuring; (2) in turns, index them with one process a
core and call `encode_batch_fast` on the same sentences with as many threads, which reads and writes nothing; medians of
both; (3) index them once more and ten times as many, each in a process of its own, for the peak memory of parent and
largest worker; (4) a sample map of documents with made-up lengths (`--documents`), built as the trainer builds it.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pretraining.corpus.documents import read_documents, write_shards, writing_stage
from pretraining.corpus.engine import Engine
from pretraining.corpus.index import build_index
from pretraining.corpus.tokenizer import load_tokenizer
from pretraining.corpus.workers import usable_cores
from pretraining.sample_map import RECORD, SPECIALS_PER_SAMPLE, build_sample_map

SHARD_CHARACTERS = 8 << 20
SENTENCES_PER_CALL = 4096  # of encode_batch_fast; its encodings do not fit into memory all at once
SENTENCES_PER_DOCUMENT = 10


def repeat_documents(source: Path, output: Path, times: int) -> Path:
    """A stage folder with the documents of another one, `times` times."""
    documents = (document for _ in range(times) for document in read_documents(source))
    with writing_stage(output, "sentences", options={"repeated": times}, sentences=True) as stage:
        stage.files = write_shards(output, documents, SHARD_CHARACTERS)
    return output


def seconds_of_index(source: Path, tokenizer: Path, prefix: Path, workers: int) -> float:
    """Wall time of the whole index stage, the start of its processes included."""
    began = time.monotonic()
    build_index(source, tokenizer, str(prefix), Engine(workers=workers))
    return time.monotonic() - began


def seconds_of_tokenizer(sentences: list[str], folder: Path) -> float:
    """Wall time of `encode_batch_fast` alone, with its own threads (RAYON_NUM_THREADS)."""
    tokenizer = load_tokenizer(folder)
    os.environ["TOKENIZERS_PARALLELISM"] = "true"  # the index stage turns it off in its own processes
    began = time.monotonic()
    for start in range(0, len(sentences), SENTENCES_PER_CALL):
        tokenizer.encode_batch_fast(sentences[start : start + SENTENCES_PER_CALL], add_special_tokens=False)
    return time.monotonic() - began


def peak_mib_of_index(source: Path, tokenizer: Path, prefix: Path, workers: int) -> tuple[float, float]:
    """Peak memory in MiB of the index stage's own process and of its largest worker, in a process of its own."""
    code = (
        "import json, resource, sys; from pathlib import Path; from pretraining.corpus.engine import Engine\n"
        "from pretraining.corpus.index import build_index\n"
        "if __name__ == '__main__':\n"
        "    build_index(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], Engine(workers=int(sys.argv[4])))\n"
        "    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)\n"
        "    print(json.dumps([resource.getrusage(one).ru_maxrss / 1024 for one in whose]))\n"
    )
    script = prefix.with_name("peak.py")  # started from a file, so that workers can import their main module
    script.write_text(code, encoding="utf-8")
    command = [sys.executable, str(script), *map(str, (source, tokenizer, prefix, workers))]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return tuple(json.loads(result.stdout))


class _Starts:
    """document_starts of documents that all have the same number of sentences; nothing is stored."""

    def __getitem__(self, rows: slice) -> np.ndarray:
        return np.arange(rows.start, rows.stop) * SENTENCES_PER_DOCUMENT


@dataclass
class _Lengths:
    """sentence_lengths: a pattern over and over; nothing else is stored."""

    pattern: np.ndarray

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self.pattern[np.arange(rows.start, rows.stop) % len(self.pattern)]


@dataclass
class SyntheticCorpus:
    """As much of an IndexedCorpus as sample maps read: sentences of 10 to 40 word pieces, ten a document."""

    sentence_lengths: _Lengths
    document_starts: _Starts


def measure_sample_map(folder: Path, documents: int, seq_length: int) -> tuple[float, float, int]:
    """(seconds, processor seconds, samples) of the map of so many documents; the file is removed again."""
    pattern = np.random.default_rng(0).integers(10, 41, 1_000_003).astype(np.int32)
    path = folder / "speed.samples"
    began, processor_began = time.monotonic(), time.process_time()
    corpus = SyntheticCorpus(_Lengths(pattern), _Starts())
    build_sample_map(corpus, path, (0, documents), (seq_length - SPECIALS_PER_SAMPLE, 0.05, 1))
    seconds, processor = time.monotonic() - began, time.process_time() - processor_began
    samples = path.stat().st_size // RECORD.itemsize
    path.unlink()
    return seconds, processor, samples


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.index_speed", description="Time the index stage.")
    parser.add_argument("--input", type=Path, required=True, metavar="DIR", help="What the sentences stage wrote.")
    parser.add_argument("--tokenizer", type=Path, required=True, metavar="DIR", help="A tokenizer folder.")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="A folder for what is written.")
    parser.add_argument("--repeat", type=int, default=20, metavar="N", help="How often the input is repeated.")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="Alternating rounds. Default: 3.")
    parser.add_argument("--documents", type=int, default=30_000_000, metavar="N", help="Of the sample map.")
    arguments = parser.parse_args()
    work, workers = arguments.work, usable_cores()
    work.mkdir(parents=True, exist_ok=True)
    os.environ["RAYON_NUM_THREADS"] = str(workers)  # read when the threads start, at the first call

    for seq_length in (512, 128):
        seconds, processor, samples = measure_sample_map(work, arguments.documents, seq_length)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"| sample map, {arguments.documents:,} documents, {seq_length} | {samples:,} samples | {seconds:.0f} s, "
              f"{processor:.0f} s of one core, peak {peak:.0f} MiB |", flush=True)  # fmt: skip

    source = repeat_documents(arguments.input, work / "sentences", arguments.repeat)
    sentences = [line for document in read_documents(source) for line in document.text.split("\n") if line.strip()]
    ours, bare = [], []
    for _ in range(arguments.rounds):
        bare.append(seconds_of_tokenizer(sentences, arguments.tokenizer))
        ours.append(seconds_of_index(source, arguments.tokenizer, work / "corpus", workers))
    rates = [len(sentences) / statistics.median(seconds) for seconds in (ours, bare)]
    print(f"| sentences/s, {workers} processes or threads | {rates[0]:,.0f} | {rates[1]:,.0f} bare | "
          f"ratio {rates[0] / rates[1]:.2f} |", flush=True)  # fmt: skip

    del sentences
    small = peak_mib_of_index(source, arguments.tokenizer, work / "corpus", workers)
    large = repeat_documents(arguments.input, work / "sentences", 10 * arguments.repeat)
    print(f"| peak MiB of parent, worker | {small[0]:.0f}, {small[1]:.0f} | over ten times the input ", end="")
    print("| {:.0f}, {:.0f} |".format(*peak_mib_of_index(large, arguments.tokenizer, work / "corpus", workers)))


if __name__ == "__main__":
    main()
