"""Score a file of predictions, made by anyone, with the scorer that trained models are scored with.

    python -m finetuning.score BENCHMARK --data DIR --predictions FILE [--split test]

BENCHMARK is the name of a benchmark script (bc5cdr, chemprot, ...); `--help` behind it shows its own flags. The file
is in the benchmark's submission format, which is what a finetuning run writes as seed_0.predictions.*.

1. Read the gold annotations of the split as the benchmark's training does, and check their sizes.
2. Read the predictions; what does not belong to the split is refused, in a sentence that names it.
3. Print the scores as JSON, fractions of 1, every class with its own. What is said of the files goes to the error
   stream, so that the output is JSON and nothing else.
"""

import argparse
import importlib
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from finetuning.splits import Benchmark

BENCHMARKS = (
    "ncbi_disease", "bc5cdr", "jnlpba", "bc2gm", "linnaeus", "s800", "bc4chemd", "bionlp13cg", "ner", "ebm_nlp",
    "chemprot", "ddi", "gad", "euadr",
    "bioasq", "pubmedqa", "squad",
    "hoc", "pubmed_rct", "ohsumed", "mednli", "mnli",
    "biosses", "clinical_sts",
)  # fmt: skip


def open_benchmark(name: str) -> Benchmark:
    """BENCHMARK of finetuning.<name>."""
    return importlib.import_module(f"finetuning.{name}").BENCHMARK


def make_parser(benchmark: Benchmark, name: str) -> argparse.ArgumentParser:
    """The flags of one benchmark: the shared ones and its own."""
    parser = argparse.ArgumentParser(
        prog=f"python -m finetuning.score {name}",
        description=f"Score predictions on {benchmark.name}, as `python -m finetuning.{name}` scores its own.",
        allow_abbrev=False,
    )
    parser.add_argument("--data", required=True, type=Path, help="Folder with the benchmark's files as distributed.")
    parser.add_argument(
        "--predictions", required=True, type=Path, help="File (brat: folder) in the benchmark's submission format."
    )
    parser.add_argument("--split", default="test", help="Split that was predicted (default: test).")
    parser.add_argument(
        "--nonstandard-split", action="store_true", help="Score on files of other than the published sizes."
    )
    if benchmark.add_flags:
        benchmark.add_flags(parser)
    return parser


def score(name: str, arguments: list[str]) -> dict[str, Any]:
    """The scores of a predictions file; ValueError or OSError for a user's mistake."""
    benchmark = open_benchmark(name)
    options = make_parser(benchmark, name).parse_args(arguments)
    # Flags of training that the readers look at; a file of predictions has no train split to stand in for.
    options.train_split = None
    if not options.predictions.exists():  # brat predictions are a folder
        raise ValueError(f"--predictions {options.predictions} does not exist")
    return benchmark.score_file(benchmark, options)


def main(arguments: list[str] | None = None) -> None:
    """Command line; `arguments` stands for sys.argv[1:]."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("benchmark", choices=BENCHMARKS, metavar="BENCHMARK", help=", ".join(BENCHMARKS))
    name = parser.parse_args(arguments[:1]).benchmark
    try:
        with redirect_stdout(sys.stderr):
            scores = score(name, arguments[1:])
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(json.dumps(scores, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
