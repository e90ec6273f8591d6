"""The command line that every benchmark shares. Nothing to run here; run a benchmark, for example

    python -m finetuning.bc5cdr --model DIR --data DIR --output DIR --seeds 5

or on several GPUs, each with a part of every batch (finetuning.ranks),

    deepspeed --num_gpus 4 --module finetuning.bc5cdr --model DIR --data DIR --output DIR --seeds 5

1. Read and check the files and build the model inputs: the benchmark's own `prepare`.
2. Count texts that the splits, and test and the pretraining corpus, share: finetuning.leaks.
3. Look for better settings, if asked: finetuning.search.
4. Train and test with every seed: finetuning.results.
5. Print the mean of the test scores; any mistake of the user ends the program with one sentence and status 1.
"""

import argparse
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from finetuning import encoder, ranks
from finetuning.config import FinetuneConfig, add_arguments, config_from
from finetuning.leaks import guard
from finetuning.loop import Task
from finetuning.results import check_output, run_folder, run_seeds
from finetuning.search import search
from finetuning.splits import Benchmark, Variant

# The flags of make_parser that are neither a benchmark's own nor of FinetuneConfig.
SHARED = frozenset(
    ("model", "data", "output", "seeds", "model_name", "nonstandard_split", "train_split", "train_on_dev")
    + ("local_rank", "search", "corpus")
)


@dataclass
class Prepared:
    """A benchmark read, checked and turned into model inputs."""

    variant: Variant
    tasks: list[Task]  # one, or one a fold: the score of a seed is then the mean over the folds
    metric: str  # the same in every task
    split: dict[str, dict[str, Any]]  # of each split "file", "sha256" and counts; the table shows the first count
    texts: dict[str, list[tuple[str, str]]]  # of each split (document id such as "pmid:123" or "", text)


def make_parser(benchmark: Benchmark, description: str) -> argparse.ArgumentParser:
    """The shared flags, the benchmark's own and one for each field of FinetuneConfig."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--model", required=True, help="Hugging Face encoder: a folder (an export), or a hub name.")
    parser.add_argument("--data", required=True, type=Path, help="Folder with the benchmark's files as distributed.")
    parser.add_argument(
        "--output",
        required=True,
        type=Path,
        help="Folder of all results; this run writes into BENCHMARK/MODEL below it.",
    )
    parser.add_argument("--seeds", type=int, default=5, help="Number of runs, seeds 0, 1, ... (default: 5).")
    parser.add_argument("--model-name", help="What the table calls the model (default: the value of --model).")
    parser.add_argument(
        "--nonstandard-split",
        action="store_true",
        help="Run on files of other than the published sizes; the result is marked, apart in the table.",
    )
    parser.add_argument(
        "--train-split",
        metavar="NAME",
        help="Train on the files of this split, where there are none of the train split (needs --nonstandard-split).",
    )
    parser.add_argument(
        "--train-on-dev",
        action="store_true",
        help="Train on train and dev together, --epochs long, and keep the last epoch (no early stopping).",
    )
    parser.add_argument("--local_rank", help=argparse.SUPPRESS)  # from the deepspeed launcher; LOCAL_RANK has it too
    parser.add_argument(
        "--search",
        type=int,
        default=0,
        metavar="N",
        help="First try N settings on the dev split (finetuning.search), then run the seeds with the best of them.",
    )
    parser.add_argument(
        "--corpus",
        type=Path,
        metavar="PATH",
        help="Pretraining corpus, to count the test documents in it: a folder of the corpus tools, .jsonl or text.",
    )
    if benchmark.add_flags:
        benchmark.add_flags(parser)
    add_arguments(parser, benchmark.defaults)
    return parser


def with_dev_in_train(task: Task) -> Task:
    """The task with the dev inputs among those of train (pairs in the other order, too), and no dev split."""
    rest = {split: features for split, features in task.features.items() if split not in ("train", "dev")}
    train = task.features["train"] + task.features["dev"] + task.dev_trained_too
    return replace(task, features={"train": train, **rest}, dev_trained_too=[])


def flag_value(value: Any) -> Any:
    """A flag's value as results.json has it; of files only the names: their checksums are in "split", and the same
    files may lie elsewhere when a run goes on, such as in a job's own scratch folder.
    """
    if isinstance(value, list):
        return [flag_value(one) for one in value]
    if isinstance(value, Path):
        return value.name
    return value if isinstance(value, (int, float, type(None))) else str(value)


def own_flags(options: argparse.Namespace, config: FinetuneConfig) -> dict[str, Any]:
    """The values of the flags that only this benchmark and its family have: they decide a run as settings do."""
    own = {name: value for name, value in vars(options).items() if name not in SHARED and not hasattr(config, name)}
    return {name: flag_value(value) for name, value in own.items()}


def describe_run(
    benchmark: Benchmark, prepared: Prepared, options: argparse.Namespace, config: FinetuneConfig, checksum: str
) -> dict[str, Any]:
    """What is run: goes into every file of results, and tells one run from another in the same folder."""
    return {
        "benchmark": benchmark.name,
        "variant": prepared.variant.name,
        "model": options.model_name or options.model,
        "model_fingerprint": checksum,
        "metric": prepared.metric,
        "nonstandard_split": not prepared.variant.standard,
        "published": [list(row) for row in prepared.variant.published],
        "split": prepared.split,
        "train_split": options.train_split,
        "train_on_dev": options.train_on_dev,
        "flags": own_flags(options, config),
        "config": asdict(config),
    }


def check_flags(options: argparse.Namespace) -> None:
    """ValueError for flags that make no sense, before any file is read."""
    if options.seeds < 1:
        raise ValueError(f"--seeds {options.seeds}: at least one seed is needed")
    if options.search < 0:
        raise ValueError(f"--search {options.search}: give the number of settings to try, or 0 for none")
    if options.train_split and not options.nonstandard_split:
        raise ValueError(f"--train-split {options.train_split} is not the published way: add --nonstandard-split")
    check_output(options.output)


def open_benchmark(
    benchmark: Benchmark, options: argparse.Namespace
) -> tuple[Prepared, FinetuneConfig, dict[str, Any]]:
    """All that may be refused, flags, model and files; and the settings and the description of the run."""
    check_flags(options)
    settings = encoder.load_config(options.model)
    rate = benchmark.electra_base_rate if settings.model_type == "electra" else 0.0  # it is published for no other
    config = config_from(options).for_hidden_size(settings.hidden_size, rate)
    config = replace(config, encoder_dropout=encoder.encoder_dropout(settings, config.encoder_dropout))
    prepared = benchmark.prepare(benchmark, options, config)
    if options.train_on_dev and not all(task.features.get("dev") for task in prepared.tasks):
        raise ValueError("--train-on-dev: this benchmark has no dev split, so leave the flag out")
    checksum = encoder.fingerprint(options.model, settings)
    return prepared, config, describe_run(benchmark, prepared, options, config, checksum)


def run(benchmark: Benchmark, options: argparse.Namespace) -> tuple[dict[str, Any], Path]:
    """Read, check, train and score as the flags say; returns what results.json holds, and its folder."""
    prepared, config, description = ranks.agree(lambda: open_benchmark(benchmark, options))
    tasks, folder = prepared.tasks, run_folder(options.output, description)
    inputs = {split: sum(len(task.features[split]) for task in tasks) for split in tasks[0].features}
    mark = "" if prepared.variant.standard else " (nonstandard split)"
    ranks.say(f"{prepared.variant.name}{mark}: inputs {inputs}")
    leaks = ranks.from_first(lambda: guard(prepared.texts, options.corpus, prepared.split, folder / "leaks.json"))
    description["leaks"] = leaks
    if options.search:

        def prepare(tried: FinetuneConfig) -> list[Task]:
            return benchmark.prepare(benchmark, options, tried).tasks

        config, record = search(prepare, config, description, folder / "search.json", options.search)
        tasks = ranks.agree(lambda: prepare(config))
        description |= {"config": asdict(config), "search": record}
    if options.train_on_dev:
        tasks = [with_dev_in_train(task) for task in tasks]
    return run_seeds(tasks, description, config, folder, options.seeds), folder


def main(benchmark: Benchmark, description: str, arguments: list[str] | None = None) -> None:
    """Command line of a benchmark; a user's mistake ends it with one sentence and exit status 1."""
    options = make_parser(benchmark, description).parse_args(arguments)
    with ranks.joined():
        try:
            results, folder = run(benchmark, options)
        except (ValueError, OSError) as error:
            sys.exit(f"error: {error}" if ranks.rank() == 0 else 1)
        mean = "none (every run failed)" if results["mean"] is None else f"{100 * results['mean']:.2f}"
        spread = "" if results["std"] is None else f" ± {100 * results['std']:.2f}"
        ranks.say(
            f"{results['variant']}: {results['metric']} {mean}{spread} on test, {len(results['seeds'])} seeds, "
            f"{results['failed']} failed; written to {folder / 'results.json'}"
        )
