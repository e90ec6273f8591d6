"""Speed of ELECTRA pretraining beside Hugging Face's two ELECTRA heads: real word pieces a second, same samples.

    python -m benchmarks.pretraining_speed --size small --length 512 [--corpus PREFIX] [--output FILE.json]

1. Samples of at most --length word pieces of a corpus, or of made-up documents as long as PubMed abstracts.
2. The machine's own rate of matrix products, in each precision that is measured.
3. Peers one after another: Hugging Face {eager, sdpa} x {eager, compile} x {fp32, bf16 weights, autocast} x {padded to
   the longest, to the maximum} x micro-batch {8, 16, 32}. After a step to warm up, ours and the variants of a setting
   take turns, --rounds times, one optimizer step each, on the same samples (pretraining_speed_ways.py: what a step is).
4. A table of medians, best first, with the memory of a step above what lies there between steps, and as the last line
   one JSON object: `ratio` is ours over the best peer, both from the same turns; `gemm_share` is our share of the rate
   of 2.; `loader_ratio` is how many times as fast as our model the loader alone makes batches, the median of three
   passes; `rows`; `left_out` names what the time did not allow, `failed` what broke, and why.

Real word pieces are all but padding. FLOPs are those of matrix products that the work needs (pretraining/plan.py:
backward twice the forward, heads at masked positions only, attention by the sum of squared lengths), the same for all.
On a machine that others use too, --clock processor counts the seconds of this process's threads instead of the wall's.
"""

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.pretraining_speed_data import VOCABULARY, fault_of_flags, loader_rate, open_text, steps
from benchmarks.pretraining_speed_machine import StepMemory, clock_of, describe_machine
from benchmarks.pretraining_speed_ways import Setting, Variant, Way, check_finite, make_way, run_step
from pretraining.allocator import keep_freed_memory
from pretraining.batch import MaskedBatch
from pretraining.config import PRESETS, Config
from pretraining.data import Samples
from pretraining.ds_config import precision_of_hardware
from pretraining.meter import measure_peak_flops, synchronize
from pretraining.plan_time import training_flops_per_token

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "autocast": torch.bfloat16}
HOPELESS = 0.5  # a peer below this share of the best one so far is not repeated


@dataclass
class Row:
    """Measurements of one variant; ours has been measured in turn with it."""

    seconds: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    samples: list[int] = field(default_factory=list)
    flops: list[float] = field(default_factory=list)
    step_bytes: int = 0

    def add(self, other: "Row") -> None:
        """Take over the measurements of another row."""
        for name in ("seconds", "tokens", "samples", "flops"):
            getattr(self, name).extend(getattr(other, name))
        self.step_bytes = max(self.step_bytes, other.step_bytes)

    def rate(self) -> float:
        """Real word pieces a second, the median of the steps."""
        return statistics.median(t / s for t, s in zip(self.tokens, self.seconds, strict=True))

    def samples_rate(self) -> float:
        return statistics.median(n / s for n, s in zip(self.samples, self.seconds, strict=True))

    def flops_rate(self) -> float:
        return statistics.median(f / s for f, s in zip(self.flops, self.seconds, strict=True))


@dataclass
class Bench:
    """What all measurements of a run share."""

    config: Config
    samples: Samples
    batch_size: int
    rounds: int
    vocabulary: int
    device: torch.device
    deadline: float  # of time.monotonic
    clock: Callable[[], float]  # seconds

    def measure(self, way: Way, variant: Variant, batches: list[MaskedBatch], row: Row | None) -> float:
        """Time one step and write it into the row, if there is one. Returns real word pieces a second."""
        padded_to = self.config.data.seq_length if variant.padding == "maximum" else None
        synchronize(self.device)
        began = self.clock()
        loss = run_step(way, batches, padded_to)
        synchronize(self.device)
        seconds = self.clock() - began
        check_finite(float(loss), variant.name())
        tokens = sum(len(batch.input_ids) for batch in batches)
        if row is not None:
            lengths = [length for batch in batches for length in batch.lengths]
            flops = sum(n * training_flops_per_token(self.config, self.vocabulary, n) for n in lengths)
            row.seconds.append(seconds)
            row.tokens.append(tokens)
            row.samples.append(len(lengths))
            row.flops.append(flops)
        return tokens / seconds

    def run_group(self, ours: tuple[Way, Variant], peer: Setting | None, variants: list[Variant]) -> dict[Variant, Row]:
        """Ours and the variants of one setting in turns. Returns their rows; ours under its own variant."""
        group = [ours[1], *variants]
        ways = {ours[1]: ours[0]}
        if peer is not None:
            way = make_way(peer, self.config, self.vocabulary, self.device)
            ways |= dict.fromkeys(variants, way)
        streams = {variant: steps(self.samples, self.batch_size, variant.micro_batch) for variant in group}
        rows = {variant: Row() for variant in group}
        memory = StepMemory(self.device)
        first: dict[Variant, float] = {}
        for variant in (ours[1], *variants[:1]):  # compilers, and the optimizers' moments, which are no step's own
            self.measure(ways[variant], variant, next(steps(self.samples, self.batch_size, variant.micro_batch)), None)
        for variant in group:  # to warm up: allocators, and who is worth repeating
            memory.reset()
            first[variant] = self.measure(ways[variant], variant, next(streams[variant]), None)
            rows[variant].step_bytes = memory.read()
        for turn in range(self.rounds):
            for variant in group:
                hopeless = variant is not ours[1] and first[variant] < HOPELESS * max(first[v] for v in variants)
                batches = next(streams[variant])
                if turn == 0 or not hopeless:
                    self.measure(ways[variant], variant, batches, rows[variant])
            if time.monotonic() > self.deadline:
                break
        return rows


def peer_settings(options: argparse.Namespace) -> list[tuple[Setting, list[Variant]]]:
    """The peers that the flags name, by setting."""
    products = itertools.product(options.attention, options.execution, options.precision)
    settings = [Setting("hf", *choice) for choice in products]
    return [
        (setting, [Variant(setting, *choice) for choice in itertools.product(options.padding, options.micro_batch)])
        for setting in settings
    ]


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure as the flags say; everything that is printed."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    keep_freed_memory(device)  # as the trainer does; all ways have it
    config = Config()
    config.model.preset, config.data.seq_length = options.size, options.length
    config.fill_from_preset()
    cut = (options.length, config.data.mask_prob, options.full_samples)
    samples = open_text(options.corpus, folder, options.vocab_size, cut)
    deadline, clock = time.monotonic() + 60 * options.minutes, clock_of(options.clock)
    bench = Bench(config, samples, options.batch_size, options.rounds, options.vocab_size, device, deadline, clock)

    setting = Setting("ours", "own", options.our_execution, options.our_precision)
    ours = make_way(setting, config, options.vocab_size, device), Variant(setting, "none", options.our_micro_batch)
    precisions = dict.fromkeys([options.our_precision, *([] if options.no_peers else options.precision)])
    rates = {name: [measure_peak_flops(device, DTYPES[name], clock)] for name in precisions}
    own, rows, ratios, left_out, failed = Row(), {}, {}, [], {}
    for peer, variants in [] if options.no_peers else peer_settings(options):
        if time.monotonic() > deadline:
            left_out += [variant.name() for variant in variants]
            continue
        try:
            measured = bench.run_group(ours, peer, variants)
        except Exception as error:  # of a compiler, of the memory: hours of measurements do not go with it
            failed |= dict.fromkeys([variant.name() for variant in variants], first_line(error))
            print(f"{' '.join(peer)} failed: {first_line(error)}", file=sys.stderr)
            continue
        mine = measured.pop(ours[1])
        own.add(mine)
        rows |= measured
        ratios |= {variant: mine.rate() / row.rate() for variant, row in measured.items()}
        for variant, row in measured.items():
            print(f"{variant.name()}: {row.rate():,.0f} word pieces/s, ours {mine.rate():,.0f}", file=sys.stderr)
    if not own.seconds:
        own = bench.run_group(ours, None, [])[ours[1]]
    for name in precisions:
        rates[name].append(measure_peak_flops(device, DTYPES[name], clock))
    best_rates = {name: max(measured) for name, measured in rates.items()}
    return {
        **describe_machine(device),
        "size": options.size,
        "length": options.length,
        "corpus": options.corpus or "made up, lengths of PubMed abstracts",
        "batch_size": options.batch_size,
        "clock": options.clock,
        "ratio": min(ratios.values(), default=None),
        "gemm_share": own.flops_rate() / best_rates[options.our_precision],
        "gemm_flops": best_rates,
        "loader_ratio": loader_rate(samples, options.batch_size, options.our_micro_batch, clock) / own.rate(),
        "left_out": left_out,
        "failed": failed,
        "rows": [
            row_numbers(variant, row, best_rates[variant.setting.precision], ratios.get(variant))
            for variant, row in sorted([(ours[1], own), *rows.items()], key=lambda pair: -pair[1].rate())
        ],
    }


def first_line(error: Exception) -> str:
    """Kind and first line of an error: a compiler's words are pages."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no words'])[0]}"


def row_numbers(variant: Variant, row: Row, gemm_rate: float, ratio: float | None) -> dict[str, Any]:
    """One row for people and for JSON."""
    return {
        "name": variant.name(),
        "tokens_per_second": row.rate(),
        "samples_per_second": row.samples_rate(),
        "model_flops": row.flops_rate(),
        "gemm_share": row.flops_rate() / gemm_rate,
        "step_bytes": row.step_bytes,
        "steps": len(row.seconds),
        "ours_over_it": ratio,
    }


def table(result: dict[str, Any]) -> str:
    """The rows as Markdown."""
    lines = [
        "| way | word pieces/s | samples/s | GFLOP/s | of matrix products | step GiB | steps | ours is faster by |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in result["rows"]:
        faster = f"{row['ours_over_it']:.2f}" if row["ours_over_it"] else ""
        lines.append(
            f"| {row['name']} | {row['tokens_per_second']:,.0f} | {row['samples_per_second']:,.1f} "
            f"| {row['model_flops'] / 1e9:,.1f} | {row['gemm_share']:.1%} | {row['step_bytes'] / 2**30:.2f} "
            f"| {row['steps']} | {faster} |"
        )
    return "\n".join(lines)


def default_precision() -> str:
    """bf16 where the trainer would take half precision, else fp32."""
    return "fp32" if precision_of_hardware() == "fp32" else "bf16"


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--size", required=True, choices=list(PRESETS), help="Preset of both networks.")
    add("--length", required=True, type=int, help="Longest sample in word pieces.")
    add("--corpus", help="Prefix of an indexed corpus (left out: made-up documents).")
    add("--full-samples", action="store_true", help="Only samples of full length: what published figures count.")
    add("--vocab-size", type=int, default=VOCABULARY, help="Rows of the word table (default: %(default)s).")
    add("--batch-size", type=int, default=32, help="Samples of one optimizer step (default: %(default)s).")
    add("--rounds", type=int, default=3, help="Timed steps of each variant (default: %(default)s).")
    add("--minutes", type=float, default=60.0, help="No new peer begins after these (default: %(default)s).")
    add("--our-micro-batch", type=int, default=32, help="Samples of our micro-batch (default: %(default)s).")
    choices = ("fp32", "bf16", "autocast")
    add("--our-precision", choices=choices, default=default_precision(), help="Default here: %(default)s.")
    execution = "compile" if torch.cuda.is_available() else "eager"
    add("--our-execution", choices=("eager", "compile"), default=execution, help="Default here: %(default)s.")
    add("--clock", choices=("wall", "processor"), default="wall", help="Whose seconds count (default: %(default)s).")
    add("--no-peers", action="store_true", help="Measure ours alone.")
    for name, every in (("attention", ("eager", "sdpa")), ("execution", ("eager", "compile")), ("precision", choices)):
        add(f"--{name}", nargs="+", choices=every, default=every, help="Peers to measure (default: all).")
    add("--padding", nargs="+", choices=("longest", "maximum"), default=("longest", "maximum"), help="Likewise.")
    add("--micro-batch", nargs="+", type=int, default=(8, 16, 32), help="Likewise (default: 8 16 32).")
    add("--output", type=Path, help="JSON file for all measurements.")
    options = parser.parse_args(arguments)
    if fault := fault_of_flags(options):
        parser.error(fault)
    return options


def main(arguments: list[str] | None = None) -> None:
    """Command line; `arguments` stands for sys.argv[1:]."""
    options = parse(arguments)
    try:
        with tempfile.TemporaryDirectory() as folder:
            result = run(options, Path(folder))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    if options.output:
        options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"{result['size']}, length {result['length']}, {result['device']}, commit {result['commit']}\n")
    print(table(result))
    for name, reason in result["failed"].items():
        print(f"\nfailed: {name}: {reason}")
    print(f"\nThe loader alone is {result['loader_ratio']:,.0f} times as fast as the model.")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
