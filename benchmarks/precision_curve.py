"""Whether one training's losses stay where those of others are that differ by their seed: bf16 beside three in fp32.

    flags="--preset base --global-batch-size 32 --train-iters 500 --lr-warmup-iters 50 --log-interval 25"
    export DATA_PATH=PREFIX TOKENIZER=DIR
    for seed in 0 1 2; do
        bash launch/pretrain.sh $flags --deepspeed-config ds_configs/zero1_fp32.json --seed $seed --save RUNS/fp32-$seed
    done
    bash launch/pretrain.sh $flags --deepspeed-config ds_configs/zero1_bf16.json --seed 0 --save RUNS/bf16-0
    python -m benchmarks.precision_curve --run RUNS/bf16-0 --references RUNS/fp32-* --output benchmarks/curves/NAME

Steps: (1) read the training rows of each run's metrics.jsonl, after the first, whose loss hardly depends on anything;
(2) at each, compare the run's losses with the range of the references; (3) write NAME.md, NAME.json and NAME.png. The
run sees the samples of the reference with its seed, so how far the two are apart is told beside what seeds do. A fourth
seed, too, would be within the range of three at half of the rows only.
"""

import argparse
import json
import statistics
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

from benchmarks.pretraining_curve import describe_origin, without_folders

LOSSES = ("loss", "generator_loss", "discriminator_loss")
MAY_DIFFER = ("seed", "save", "load", "deepspeed_config")  # of a run's settings; the rest have to be equal


def settings_of(run: Path) -> dict[str, Any]:
    """The run's settings by name, but those that may differ."""
    groups = json.loads((run / "config.json").read_text(encoding="utf-8"))
    return {name: value for group in groups.values() for name, value in group.items() if name not in MAY_DIFFER}


def training_rows(run: Path) -> dict[int, dict[str, float]]:
    """Step -> losses, of the training rows after the first."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["kind"] == "train"][1:]
    return {row["step"]: {name: row[name] for name in LOSSES if row.get(name) is not None} for row in rows}


def read_runs(run: Path, references: list[Path]) -> list[dict[int, dict[str, float]]]:
    """The rows of the run and of each reference; ValueError where they do not belong together."""
    if len(references) < 2:
        raise ValueError(f"--references names {len(references)} run: seeds have a range from two on, three are better")
    settings = settings_of(run)
    for other in references:
        theirs = settings_of(other)
        different = sorted(name for name in settings | theirs if settings.get(name) != theirs.get(name))
        if different:
            raise ValueError(f"{other} was trained with another {different[0]} than {run}: compare runs of one recipe")
    rows = [training_rows(one) for one in (run, *references)]
    for other, found in zip(references, rows[1:], strict=True):
        if not rows[0] or found.keys() != rows[0].keys():
            raise ValueError(f"{other} has not the log lines of {run}, two or more: let both run to their end")
    return rows


def compare(rows: list[dict[int, dict[str, float]]], name: str, same_seed: int | None) -> dict[str, Any]:
    """One loss of the run (rows[0]) beside the references': how many rows are inside, how far the others are out.

    same_seed: which of the references has the run's seed.
    """
    steps = list(rows[0])
    ours, *theirs = [[one[step][name] for step in steps] for one in rows]
    ranges = [(min(values), max(values)) for values in zip(*theirs, strict=True)]
    outside = [max(low - value, value - high, 0.0) for value, (low, high) in zip(ours, ranges, strict=True)]

    def apart(one: list[float], other: list[float]) -> float:
        return statistics.median(abs(a - b) for a, b in zip(one, other, strict=True))

    return {
        "rows": len(steps),
        "inside": outside.count(0.0),
        "furthest_outside": max(outside),
        "apart_from_same_seed": None if same_seed is None else apart(ours, theirs[same_seed]),
        "seeds_apart": statistics.median(apart(*pair) for pair in combinations(theirs, 2)),
        "table": [[step, *low_high, value] for step, low_high, value in zip(steps, ranges, ours, strict=True)],
    }


def report(run: Path, compared: dict[str, dict[str, Any]]) -> str:
    """The Markdown page."""
    command = without_folders((run / "command.txt").read_text(encoding="utf-8"))
    lines = [f"# {run.name} beside other seeds", "", describe_origin(run), "", "```", command, "```", ""]
    lines += ["| loss | rows within the range | furthest outside | from the same seed, median | two seeds, median |"]
    lines += ["| --- | ---: | ---: | ---: | ---: |"]
    for name, found in compared.items():
        same = found["apart_from_same_seed"]
        lines.append(
            f"| {name.replace('_', ' ')} | {found['inside']} of {found['rows']} | {found['furthest_outside']:.4f} | "
            f"{'none of it' if same is None else f'{same:.4f}'} | {found['seeds_apart']:.4f} |"
        )
    for name, found in compared.items():
        lines += ["", f"| step | {name.replace('_', ' ')} of the references | of the run |", "| ---: | --- | ---: |"]
        lines += [f"| {step:,} | {low:.4f} to {high:.4f} | {value:.4f} |" for step, low, high, value in found["table"]]
    return "\n".join(lines) + "\n"


def plot(compared: dict[str, dict[str, Any]], path: Path) -> None:
    """Each loss over the steps, on the range of the references."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(compared), figsize=(4 * len(compared), 3.4), layout="constrained")
    for axis, (name, found) in zip(axes if len(compared) > 1 else [axes], compared.items(), strict=True):
        steps, low, high, ours = zip(*found["table"], strict=True)
        axis.fill_between(steps, low, high, alpha=0.3, label="range of the references")
        axis.plot(steps, ours, label="run")
        axis.set(title=name.replace("_", " "), xlabel="step")
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision_curve", description=__doc__.split("\n")[0])
    parser.add_argument("--run", required=True, type=Path, metavar="PATH", help="Folder of the run that is judged.")
    parser.add_argument(
        "--references", required=True, type=Path, nargs="+", metavar="PATH",
        help="Folders of runs with the same settings but for the seed, and other precision.",
    )  # fmt: skip
    parser.add_argument("--output", required=True, type=Path, metavar="PATH", help="Where to write, without ending.")
    options = parser.parse_args()
    try:
        rows = read_runs(options.run, options.references)
        seed, *seeds = [
            json.loads((run / "config.json").read_text(encoding="utf-8"))["run"]["seed"]
            for run in (options.run, *options.references)
        ]
        same = seeds.index(seed) if seed in seeds else None
        compared = {name: compare(rows, name, same) for name in LOSSES if name in next(iter(rows[0].values()))}
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.with_suffix(".md").write_text(report(options.run, compared), encoding="utf-8")
        options.output.with_suffix(".json").write_text(json.dumps(compared, indent=1) + "\n", encoding="utf-8")
        plot(compared, options.output.with_suffix(".png"))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    loss = compared["loss"]
    print(
        f"loss within the range of {len(seeds)} seeds at {loss['inside']} of {loss['rows']} rows; {options.output}.md"
    )


if __name__ == "__main__":
    main()
