"""What a run will be, before it starts: parameters, memory, work, hours, network, cost.

    python -m pretraining.plan --model base --gpus 64 --gpu h200 --price-per-gpu-hour 3
    deepspeed launch/pretrain.sh --dry-run

Steps: (1) flags of our own, then those of launch/pretrain.sh; (2) what a GPU reaches: measured or assumed; (3) memory
(plan_memory.py) and time (plan_time.py) as tables and a plot (plan_report.py). `describe_run` builds the text that
every run prints at its start and that `--dry-run` prints alone.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from torch import nn

from pretraining.compiling import resolve_compile
from pretraining.config import Config, batch_arithmetic, require
from pretraining.corpus.tokenizer import load_tokenizer, vocabulary_size
from pretraining.ds_config import find_ds_config, load_ds_config, offloads_optimizer, precision, zero_stage
from pretraining.flags import read_arguments
from pretraining.fused import Choice, kernel_table
from pretraining.machine import uses_gpu
from pretraining.plan_memory import activation_bytes, count_parameters, group_sizes, meta_objective, state_bytes
from pretraining.plan_report import GIB, Plan, describe_plan, plot_scaling
from pretraining.plan_time import ASSUMED_MFU, GPUS, Cluster, training_flops_per_token

PUBLISHED_VOCABULARY = 30_522  # BERT's and ELECTRA's, where no --tokenizer and no --vocab-size say otherwise


def table(rows: list[tuple[str, ...]]) -> str:
    """Rows as aligned text columns."""
    widths = [max(len(str(row[column])) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  " + "  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def describe_run(
    config: Config,
    objective: nn.Module,
    merged: dict[str, Any],
    world_size: int,
    first_step: int = 0,
    compiled: Choice | None = None,
) -> str:
    """The text at the start of a run. compiled: what became of --compile; left out, before anything ran: what will."""
    counts = count_parameters(objective)
    total, vocab_size = sum(counts.values()), objective.embeddings.word.num_embeddings
    micro, accumulation = merged["train_micro_batch_size_per_gpu"], merged["gradient_accumulation_steps"]
    optimizer, device = config.optimizer, "cuda" if uses_gpu() else "cpu"
    tokens = optimizer.train_iters * optimizer.global_batch_size * config.data.seq_length
    work = tokens * training_flops_per_token(config, vocab_size, config.data.seq_length)
    kernels = kernel_table(device, config, precision(merged), offloads_optimizer(merged))
    compiled = compiled or resolve_compile(config.run.compile, device, zero_stage(merged))
    kernels.insert(-1, ("compile", compiled.name, compiled.why))
    states = state_bytes(group_sizes(objective), merged, world_size)
    activations = activation_bytes(config, vocab_size, merged, micro, device)
    lines = [
        f"{config.model.preset} {config.model.objective}, vocabulary {vocab_size:,}, length {config.data.seq_length}",
        "parameters",
        table([(name, f"{count:,}") for name, count in counts.items()] + [("total", f"{total:,}")]),
        f"batch: {micro} samples x {world_size} ranks x {accumulation} accumulation = {optimizer.global_batch_size} "
        f"samples a step; steps {first_step:,} to {optimizer.train_iters:,}; at most {tokens:,} word pieces, "
        f"{work / 1e18:.3g} EFLOP",
        f"ZeRO stage {zero_stage(merged)}, {precision(merged)} ({Path(config.run.deepspeed_config).name}); "
        "memory of a rank, estimated: "
        f"{states.total / GIB:.2f} GiB states + up to {activations / GIB:.2f} GiB activations"
        + (f"; {states.host / GIB:.2f} GiB of the host's" if states.host else ""),
        "kernels",
        table(kernels),
    ]
    if config.run.dry_run:
        lines += ["DeepSpeed JSON", json.dumps(merged, indent=2)]
    return "\n".join(lines)


def build_parser() -> argparse.ArgumentParser:
    """The planner's own flags; all others are launch/pretrain.sh's."""
    parser = argparse.ArgumentParser(
        prog="python -m pretraining.plan",
        description="Predict memory, hours, network and cost of a pretraining run. Any flag of launch/pretrain.sh "
        "(--global-batch-size, --seq-length, --train-iters, --deepspeed-config ...) changes the run that is planned.",
        allow_abbrev=False,
    )
    parser.add_argument("--model", "--preset", dest="model", default="small", help="Preset. Default: small.")
    parser.add_argument("--gpus", type=int, default=1, metavar="N", help="GPUs of the run. Default: 1.")
    parser.add_argument("--gpu", choices=sorted(GPUS), default="h100", help="Their kind. Default: h100.")
    parser.add_argument("--gpus-per-node", type=int, default=8, metavar="N", help="Default: 8.")
    parser.add_argument(
        "--network-gbit", type=float, default=200.0, metavar="X",
        help="Gigabits a second that one node sends to another, all its adapters together. Default: 200.",
    )  # fmt: skip
    parser.add_argument(
        "--vocab-size", type=int, metavar="N", help=f"Default: that of --tokenizer, or {PUBLISHED_VOCABULARY}."
    )
    parser.add_argument(
        "--mean-length", type=float, metavar="X",
        help="Mean word pieces of a sample. Default: the measured run's, or full samples.",
    )  # fmt: skip
    parser.add_argument(
        "--measured-mfu", type=float, metavar="X",
        help="Share of the GPU's peak that training reached, between 0 and 1. Without it and --measured-run the share "
        f"is assumed: {', '.join(f'{name} {share}' for name, share in ASSUMED_MFU.items())}.",
    )  # fmt: skip
    parser.add_argument(
        "--measured-run", metavar="RUN",
        help="Run folder on such GPUs, with micro-batches of about as many word pieces: its speed and its samples' "
        "mean length count.",
    )  # fmt: skip
    parser.add_argument("--price-per-gpu-hour", type=float, metavar="X", help="Adds the cost, in the same currency.")
    parser.add_argument("--plot", metavar="FILE", help="Draw the scaling to 1,024 GPUs (needs matplotlib).")
    return parser


def measured_run(run: Path, vocab_size: int) -> tuple[float, float, float]:
    """(FLOP/s of one rank while computing, mean word pieces of a sample, share of full length) of a run folder.

    Medians over the log lines after the first, which holds what is made once; validation and checkpoints are in none.
    """
    try:
        config = Config.from_dict(json.loads((run / "config.json").read_text(encoding="utf-8")))
        merged = json.loads((run / "ds_config.json").read_text(encoding="utf-8"))
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        rows = [row for row in rows if row["kind"] == "train"][1:]
        rate = statistics.median(row["tokens_per_second"] for row in rows)
        length = statistics.median(row["tokens_per_second"] / row["samples_per_second"] for row in rows)
        ranks = merged["train_batch_size"] // (
            merged["train_micro_batch_size_per_gpu"] * merged["gradient_accumulation_steps"]
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"--measured-run {run}: no run with two log lines or more there ({error})") from None
    flops = rate * training_flops_per_token(config, vocab_size, length) / ranks
    return flops, length, length / config.data.seq_length


def make_plan(arguments: list[str]) -> tuple[Plan, str | None]:
    """Command line -> (plan, file of the plot). Raises ValueError in one sentence."""
    own, rest = build_parser().parse_known_args(arguments)
    config = read_arguments(["--preset", own.model, *rest])
    for name in ("gpus", "gpus_per_node", "network_gbit", "mean_length", "measured_mfu", "vocab_size"):
        value = getattr(own, name)
        require(value is None or value > 0, f"--{name.replace('_', '-')} is {value}; give a number above 0")
    require(
        not (own.measured_run and own.measured_mfu), "--measured-run and --measured-mfu both say the speed: give one"
    )
    require(own.measured_mfu is None or own.measured_mfu < 1, f"--measured-mfu {own.measured_mfu} is no share below 1")
    half, full, _, link = GPUS[own.gpu]
    default = f"ds_configs/zero1_{'fp16' if own.gpu in ('t4', 'v100') else 'bf16'}.json"
    config.run.deepspeed_config = find_ds_config(config.run.deepspeed_config or default)
    settings = load_ds_config(config.run.deepspeed_config)
    vocab_size = own.vocab_size or PUBLISHED_VOCABULARY
    if config.data.tokenizer and not own.vocab_size:
        vocab_size = vocabulary_size(load_tokenizer(config.data.tokenizer))
    config.optimizer.micro_batch_size, _ = batch_arithmetic(config.optimizer, own.gpus)

    peak = (full if precision(settings) == "fp32" else half) * 1e12
    length = float(config.data.seq_length)
    if own.measured_run:
        rate, _, fill = measured_run(Path(own.measured_run), vocab_size)
        length, basis = length * fill, f"{rate / 1e12:.3g} TFLOP/s a GPU, measured in {own.measured_run}"
    else:
        share = own.measured_mfu or ASSUMED_MFU[own.model]
        rate = share * peak
        word = "as given" if own.measured_mfu else "ASSUMED, not measured"
        basis = f"{rate / 1e12:.3g} TFLOP/s a GPU, {share:.0%} of the peak of {own.gpu} ({word})"
    cluster = Cluster(own.gpus_per_node, rate, link * 1e9, own.network_gbit * 1e9 / 8)
    objective = meta_objective(config.model, vocab_size)
    length = min(own.mean_length or length, float(config.data.seq_length))
    return Plan(config, settings, objective, vocab_size, length, own.gpus, own.gpu, cluster, basis,
                own.price_per_gpu_hour), own.plot  # fmt: skip


def main() -> None:
    """Command line: prints the plan; exit status 1 at a user's mistake."""
    try:
        plan, plot = make_plan(sys.argv[1:])
        print(describe_plan(plan))
        if plot:
            plot_scaling(plan, Path(plot))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
