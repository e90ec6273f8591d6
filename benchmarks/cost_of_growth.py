"""What growth costs: word pieces a second by size, length, ZeRO stage, number of ranks, and recomputed activations.

    torchrun --nproc-per-node=2 -m benchmarks.cost_of_growth --size tiny small --length 128 256 --stage 0 1 2 3

Steps: (1) made-up documents as long as PubMed abstracts (pretraining_speed_data.py), cut to each length; (2) for each
combination an engine with fresh weights, a step to warm up, and --steps steps of the trainer's own, one micro-batch a
rank; (3) a row of a Markdown table as soon as it is measured: medians, and the memory that a step needs on rank 0 above
what lies there between steps.

On a machine that others use too, --clock processor counts the seconds that the ranks' processes computed, the mean of
the ranks, instead of the wall's: as if each rank had a core to itself. Waiting for another rank counts where DeepSpeed
waits by asking again and again. Engines of one start leave tensors behind, those of base a gigabyte each: start
anew for each size, and of base for each length.
"""

import argparse
import itertools
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist

from benchmarks.pretraining_speed_data import VOCABULARY, open_text
from benchmarks.pretraining_speed_machine import StepMemory, clock_of, describe_machine
from pretraining import engine as engine_module
from pretraining.batch import MaskedBatch
from pretraining.config import PRESETS, Config
from pretraining.data import rank_share, training_steps
from pretraining.ds_config import REPOSITORY, load_ds_config, merge_ds_config
from pretraining.meter import synchronize
from pretraining.model import recompute_activations
from pretraining.objectives import build_objective

HEADER = (
    "| size | length | ranks | ZeRO | activations | word pieces/s | step memory, MiB |\n"
    "| --- | --- | --- | --- | --- | --- | --- |"
)


def make_engine(config: Config, file: Path) -> engine_module.Engine:
    """An engine with fresh weights, one micro-batch a rank and step."""
    _, world_size, device = engine_module.start_ranks()
    micro = config.optimizer.micro_batch_size
    merged = merge_ds_config(load_ds_config(file), micro, 1, world_size, config.optimizer.clip_grad)
    objective = build_objective(config.model, VOCABULARY, config.run.seed)
    if config.run.recompute_activations:
        recompute_activations(objective)
    return engine_module.initialize(objective, config.optimizer, merged, device)


def measure(
    engine: engine_module.Engine, batches: Iterator[list[MaskedBatch]], steps: int, clock_name: str
) -> tuple[float, float]:
    """(word pieces a second of all ranks, MiB that a step needs on this rank)."""
    clock, memory, rates = clock_of(clock_name), StepMemory(engine.device), []
    for step in range(steps + 1):
        if step == 1:  # the first one has warmed up
            memory.reset()
        mine = next(batches)
        synchronize(engine.device)
        began = clock()
        engine_module.train_step(engine, mine, 1e-4, 0, step)
        synchronize(engine.device)
        spent = clock() - began
        numbers = torch.tensor([sum(len(b.input_ids) for b in mine), spent], dtype=torch.float64).to(engine.device)
        dist.all_reduce(numbers)
        if step:
            tokens, seconds = numbers.tolist()
            rates.append(tokens / (seconds / engine.world_size))
    return statistics.median(rates), memory.read() / 2**20


def configuration(size: str, length: int, recompute: bool, micro: int, world_size: int) -> Config:
    config = Config()
    config.model.preset, config.data.seq_length = size, length
    config.optimizer.micro_batch_size, config.optimizer.global_batch_size = micro, micro * world_size
    config.run.recompute_activations = recompute
    return config.fill_from_preset()


def run(options: argparse.Namespace, folder: Path) -> None:
    """Measure and print as the flags say."""
    rank, world_size, device = engine_module.start_ranks()
    if rank == 0:
        facts = describe_machine(device)
        machine = f"{facts['device']}, {facts['threads']} threads a rank"
        print(f"{machine}, torch {facts['torch']}, commit {facts['commit']}, {options.clock} seconds")
        print(HEADER, flush=True)
    for size, length in itertools.product(options.size, options.length):
        place = folder / f"{size}-{length}-{rank}"  # each rank its own: they are small and the same
        place.mkdir()
        samples = open_text(None, place, VOCABULARY, (length, PRESETS[size]["mask_prob"], False))
        for stage, recompute in itertools.product(options.stage, options.recompute):
            config = configuration(size, length, recompute == "on", options.micro_batch_size, world_size)
            engine = make_engine(config, REPOSITORY / "ds_configs" / f"zero{stage}_{options.precision}.json")
            batch = config.optimizer.global_batch_size
            batches = training_steps(samples, 0, batch, options.micro_batch_size, rank_share(rank, world_size, 1))
            rate, needed = measure(engine, batches, options.steps, options.clock)
            batches.close()
            engine.deepspeed.destroy()
            if rank == 0:
                kept = "recomputed" if recompute == "on" else "kept"
                cells = (size, length, world_size, stage, kept, f"{rate:,.0f}", f"{needed:,.0f}")
                print(f"| {' | '.join(map(str, cells))} |", flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cost_of_growth", description=__doc__.split("\n")[0], allow_abbrev=False
    )
    add = parser.add_argument
    add("--size", nargs="+", choices=list(PRESETS), default=["tiny", "small", "base"], help="Presets.")
    add("--length", nargs="+", type=int, default=[128, 256, 512], help="Longest samples in word pieces.")
    add("--stage", nargs="+", type=int, choices=range(4), default=[0, 1, 2, 3], help="ZeRO stages.")
    add("--recompute", nargs="+", choices=("off", "on"), default=["off", "on"], help="--recompute-activations or not.")
    add("--precision", default="fp32", choices=("fp32", "bf16"), help="Of ds_configs/ (default: %(default)s).")
    add("--micro-batch-size", type=int, default=8, help="Samples of a rank and step (default: %(default)s).")
    add("--steps", type=int, default=3, help="Timed steps, of which the median counts (default: %(default)s).")
    add("--clock", choices=("wall", "processor"), default="wall", help="Whose seconds count (default: %(default)s).")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run(options, Path(folder))
    engine_module.end_rank(0)


if __name__ == "__main__":
    main()
