"""Repeat a finetuning with several seeds and write what came of it; a stopped run goes on where it was.

Shared by every benchmark; nothing to run here. In <output>/<benchmark variant>/<model>/:

- `seed_0.json`, ...: scores, history and settings of one seed, written when it is done; where a benchmark has
  folds, `seed_0.fold_0.json`, ... before it;
- `seed_0.predictions.tsv`, ...: its test predictions, in the benchmark's own format;
- `model/`: the model with the best dev score of all seeds, a Hugging Face folder;
- `results.json`, written last: mean and standard deviation over the seeds, for finetuning.table.

Scores are fractions (1.0 is perfect); the table prints percent. A failed run (loss or weights not finite, a dev
score of 0, or one class as the answer to every text of dev, which may score 50 to 85) is listed with its reason,
counted, and left out of the mean; where there is no dev split nobody judges that, for the test split is not there to
choose runs by. The standard deviation is that of a sample (n - 1).
"""

import json
import math
import os
import platform
import re
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from finetuning import ranks
from finetuning.config import FinetuneConfig
from finetuning.loop import Task, choose_device, fit, predict
from finetuning.provenance import provenance
from finetuning.result_files import read_json

# The name that it is called by (its checksum is compared), others' scores, and what is said beside the scores.
NOT_COMPARED = {"model", "published", "search", "leaks"}
PART_KEYS = ("seed", "failed", "test", "dev", "best_epoch", "history", "seconds", "ranks", "device")
PART_FILE = re.compile(r"seed_\d+(\.fold_\d+)?\.json")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write beside `path` first, then rename: under the final name there is never half a file. Rank 0 writes."""
    if ranks.rank() != 0:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=1, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def differences(one: dict[str, Any], other: dict[str, Any], prefix: str = "") -> list[str]:
    """What two run descriptions differ in, as `config.epochs (3, now 5)`."""
    found = []
    for key in sorted(set(one) | set(other)):
        before, now = one.get(key), other.get(key)
        if prefix + key in NOT_COMPARED:
            continue
        if isinstance(before, dict) and isinstance(now, dict):
            found += differences(before, now, f"{prefix}{key}.")
        elif before != now:
            found.append(f"{prefix}{key} ({before}, now {now})")
    return found


def slug(text: str) -> str:
    """A folder's name for `text`: lower case, anything but letters, digits, dot, plus and minus is a minus."""
    name = re.sub(r"[^a-z0-9.+-]+", "-", text.lower())[-100:].strip("-.")
    if not name:
        raise ValueError(f"{text!r} has no letter or digit to name a folder of results by: give --model-name")
    return name


def run_folder(output: Path, run: dict[str, Any]) -> Path:
    """Where the run that `run` describes writes: below `output` by benchmark variant and model."""
    mark = "-nonstandard" if run["nonstandard_split"] else ""
    return output / (slug(run["variant"]) + mark) / slug(run["model"])


def check_output(output: Path) -> None:
    """Refuse an output folder that cannot be one before any long work."""
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output {output} is a file: give a folder")


def finished_parts(folder: Path, run: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By name (`seed_0`, `seed_0.fold_1`) what is done already; ValueError if with other settings, data or
    weights.
    """
    done = {}
    for path in sorted(folder.glob("seed_*.json")):
        if not PART_FILE.fullmatch(path.name):
            continue
        content = read_json(path)
        other = differences(content.get("run", {}), run)
        if other:
            raise ValueError(
                f"{folder} has results of another run, which differ in {other[0]}: choose another --output or "
                "--model-name, or delete it"
            )
        done[path.stem] = content
    return done


def plain(content: Any) -> Any:
    """As it will be read back from JSON (tuples are lists, keys are strings)."""
    return json.loads(json.dumps(content))


def make_deterministic(seed: int) -> None:
    """Seed the head, the dropout and, on a GPU, ask for kernels that give the same result each time."""
    if torch.cuda.is_available():
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
    torch.manual_seed(seed)


def save_model(task: Task, model: torch.nn.Module, output: Path) -> None:
    """Put `model` into output/model, replacing what is there only once the new one is whole."""
    temporary, final, before = output / "model.tmp", output / "model", output / "model.old"
    shutil.rmtree(temporary, ignore_errors=True)
    task.save(model, temporary)
    shutil.rmtree(before, ignore_errors=True)
    if final.exists():
        final.replace(before)
    temporary.replace(final)
    shutil.rmtree(before, ignore_errors=True)


def clear_remains(folder: Path) -> None:
    """What a run killed while it wrote has left: half a file or model; a model that was moved away is put back."""
    before = folder / "model.old"
    if before.exists() and not (folder / "model").exists():
        before.replace(folder / "model")
    for path in [before, *folder.glob("*.tmp")]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def preference(part: dict[str, Any], metric: str) -> float:
    """By what the model to keep is chosen: the dev score; without a dev split all are equal, the first is kept."""
    if part["failed"]:
        return -math.inf
    return part["dev"][metric] if part["dev"] else 0.0


def run_part(task: Task, config: FinetuneConfig, seed: int, prefix: Path, best: float) -> dict[str, Any]:
    """Train and test once; writes predictions, and the model if it ranks above `best`.

    `prefix` is the path of the part's files without what follows the name (`.../seed_0`).
    """
    started = time.perf_counter()
    make_deterministic(seed)
    model = task.make_model().to(choose_device())
    result = fit(model, task, config, seed)
    part = {"seed": seed, "failed": result.failure, "test": None, "dev": result.dev}
    if result.trained:
        outputs = predict(model, task, task.features["test"], config)
        part["test"] = task.score("test", outputs)
        predictions = prefix.with_name(f"{prefix.name}.predictions.{task.predictions_suffix}")
        if ranks.rank() == 0:
            task.write_predictions(outputs, predictions)
    if preference(part, task.metric) > best and ranks.rank() == 0:
        save_model(task, model, prefix.parent)
    return {
        **part,
        "best_epoch": result.best_epoch,
        "history": result.history,
        "seconds": round(time.perf_counter() - started, 1),
        "ranks": ranks.world(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu ({platform.machine()})",
    }


def mean_of_folds(folds: list[dict[str, Any]], metric: str) -> dict[str, Any]:
    """One seed's record from those of its folds: the mean scores; failed if a fold failed."""

    def mean(split: str) -> dict[str, float] | None:
        scores = [flat_scores(fold[split]) for fold in folds if fold[split]]
        if len(scores) < len(folds):
            return None
        return {name: statistics.fmean(row[name] for row in scores) for name in common(scores)}

    failures = [f"fold {i}: {fold['failed']}" for i, fold in enumerate(folds) if fold["failed"]]
    return {
        "seed": folds[0]["seed"],
        "failed": "; ".join(failures) or None,
        "test": mean("test"),
        "dev": mean("dev"),
        "best_epoch": [fold["best_epoch"] for fold in folds],
        "seconds": round(sum(fold["seconds"] for fold in folds), 1),
        "ranks": folds[0]["ranks"],
        "device": folds[0]["device"],
        "folds": folds,
    }


def open_folder(folder: Path, run: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """`finished_parts`, in a folder that is there and has no remains of a killed run."""
    done = finished_parts(folder, run)
    folder.mkdir(parents=True, exist_ok=True)
    clear_remains(folder)
    return done


def run_seeds(
    tasks: list[Task], run: dict[str, Any], config: FinetuneConfig, folder: Path, seeds: int
) -> dict[str, Any]:
    """Run seeds 0 ... seeds - 1 that are not in `folder` yet, and write and return results.json.

    With several tasks (folds) each seed trains on every one, and its score is their mean. `run` says what is
    run (benchmark, variant, model, split, config ...) and goes into every file. ValueError if `folder` holds
    results of a run that differs in any of it.
    """
    run, metric = plain(run), tasks[0].metric
    done = ranks.from_first(lambda: open_folder(folder, run))
    for seed in range(seeds):
        if f"seed_{seed}" in done:
            ranks.say(f"seed {seed} is already in {folder}")
            continue
        names = [f"seed_{seed}.fold_{i}" for i in range(len(tasks))] if len(tasks) > 1 else [f"seed_{seed}"]
        for name, task in zip(names, tasks, strict=True):
            if name in done:
                continue
            best = max((preference(part, metric) for part in done.values() if "folds" not in part), default=-math.inf)
            done[name] = {**run_part(task, config, seed, folder / name, best), "run": run, **provenance()}
            write_json(folder / f"{name}.json", done[name])
        if len(tasks) > 1:
            folds = [{key: done[name][key] for key in PART_KEYS} for name in names]
            done[f"seed_{seed}"] = {**mean_of_folds(folds, metric), "run": run, **provenance()}
            write_json(folder / f"seed_{seed}.json", done[f"seed_{seed}"])
    results = {**run, **summary([done[f"seed_{seed}"] for seed in range(seeds)], metric), **provenance()}
    write_json(folder / "results.json", results)
    return results


def flat_scores(scores: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """All numbers in a task's scores, those of classes too, as `types.Chemical.f1-score`."""
    flat = {}
    for name, value in scores.items():
        if isinstance(value, dict):
            flat |= flat_scores(value, f"{prefix}{name}.")
        elif isinstance(value, (int, float)):
            flat[prefix + name] = value
    return flat


def common(rows: list[dict[str, float]]) -> list[str]:
    """The names that every row has, in the order of the first."""
    return [name for name in rows[0] if all(name in row for row in rows)]


def spread(values: list[float]) -> float | None:
    """Standard deviation of a sample (n - 1); None for fewer than two."""
    return statistics.stdev(values) if len(values) > 1 else None


def summary(runs: list[dict[str, Any]], metric: str) -> dict[str, Any]:
    """Mean, standard deviation and number of failed runs, one line for each seed, and every other score."""
    rows = [flat_scores(run["test"]) for run in runs if not run["failed"]]
    good = [row[metric] for row in rows]
    columns = {name: [row[name] for row in rows] for name in common(rows)} if rows else {}
    best = max((run for run in runs if not run["failed"]), key=lambda run: preference(run, metric), default=None)
    return {
        "mean": statistics.fmean(good) if good else None,
        "std": spread(good),
        "failed": len(runs) - len(good),
        "seeds": [
            {
                "seed": run["seed"],
                "score": run["test"][metric] if run["test"] else None,
                "dev": run["dev"][metric] if run["dev"] else None,
                "best_epoch": run["best_epoch"],
                "failed": run["failed"],
            }
            for run in runs
        ],
        "best_seed": best["seed"] if best else None,
        "scores": {name: {"mean": statistics.fmean(values), "std": spread(values)} for name, values in columns.items()},
    }
