"""Repeat a finetuning with several seeds and write what came of it; a stopped run goes on where it was.

Shared by every benchmark; nothing to run here. In the output folder:

- `seed_0.json`, ...: scores, history and settings of one seed, written when it is done;
- `seed_0.predictions.tsv`, ...: its test predictions, for inspection;
- `model/`: the model of the seed with the best dev score, a Hugging Face folder;
- `results.json`, written last: mean and standard deviation over the seeds, for finetuning.table.

Scores are fractions (1.0 is perfect); the table prints percent. A failed run (loss not finite, or a dev score
of 0) is listed with its reason, counted, and left out of the mean. The standard deviation is that of a sample
(n - 1).
"""

import json
import os
import platform
import shlex
import shutil
import statistics
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from finetuning.config import FinetuneConfig
from finetuning.loop import Task, choose_device, fit, predict

NOT_COMPARED = {"model"}  # the name it is called by; its checksum is compared instead


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write beside `path` first, then rename: under the final name there is never half a file."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=1, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """The object in `path`; ValueError if it is broken."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): delete it") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a JSON object: delete it")
    return content


def differences(one: dict[str, Any], other: dict[str, Any], prefix: str = "") -> list[str]:
    """What two run descriptions differ in, as `config.epochs (3, now 5)`."""
    found = []
    for key in sorted(set(one) | set(other)):
        before, now = one.get(key), other.get(key)
        if isinstance(before, dict) and isinstance(now, dict):
            found += differences(before, now, f"{prefix}{key}.")
        elif before != now and prefix + key not in NOT_COMPARED:
            found.append(f"{prefix}{key} ({before}, now {now})")
    return found


def finished_seeds(output: Path, run: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """Seeds already done in `output`; ValueError if they were done with other settings, data or weights."""
    done = {}
    for path in sorted(output.glob("seed_*.json")):
        content = read_json(path)
        other = differences(content.get("run", {}), run)
        if other:
            raise ValueError(
                f"--output {output} has results of another run, which differ in {other[0]}: choose another"
            )
        done[content["seed"]] = content
    return done


def check_seeds(output: Path, run: dict[str, Any]) -> None:
    """Refuse an output folder of another run before any long work; see `finished_seeds`."""
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output {output} is a file: give a folder")
    finished_seeds(output, plain(run))


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
    temporary, final = output / "model.tmp", output / "model"
    shutil.rmtree(temporary, ignore_errors=True)
    task.save(model, temporary)
    shutil.rmtree(final, ignore_errors=True)
    temporary.replace(final)


def run_seed(task: Task, config: FinetuneConfig, output: Path, seed: int, best_dev: float) -> dict[str, Any]:
    """Train and test with one seed; saves the model if its dev score is above `best_dev`."""
    started = time.perf_counter()
    make_deterministic(seed)
    model = task.make_model().to(choose_device())
    result = fit(model, task, config, seed)
    test = None
    if result.dev is not None:
        outputs = predict(model, task, task.features["test"], config)
        test = task.score("test", outputs)
        task.write_predictions(outputs, output / f"seed_{seed}.predictions.tsv")
    if result.failure is None and result.dev[task.metric] > best_dev:
        save_model(task, model, output)
    return {
        "seed": seed,
        "failed": result.failure,
        "test": test,
        "dev": result.dev,
        "best_epoch": result.best_epoch,
        "history": result.history,
        "seconds": round(time.perf_counter() - started, 1),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu ({platform.machine()})",
    }


def run_seeds(task: Task, run: dict[str, Any], config: FinetuneConfig, output: Path, seeds: int) -> dict[str, Any]:
    """Run seeds 0 ... seeds - 1 that are not in `output` yet, and write and return results.json.

    `run` says what is run (benchmark, variant, model, split, config ...) and goes into every file. ValueError
    if `output` holds seeds of a run that differs in any of it.
    """
    if seeds < 1:
        raise ValueError(f"--seeds {seeds}: at least one seed is needed")
    check_seeds(output, run)
    run = plain(run)
    output.mkdir(parents=True, exist_ok=True)
    done = finished_seeds(output, run)
    for seed in range(seeds):
        if seed in done:
            tqdm.write(f"seed {seed} is already in {output}")
            continue
        best_dev = max((other["dev"][task.metric] for other in done.values() if not other["failed"]), default=-1.0)
        done[seed] = {**run_seed(task, config, output, seed, best_dev), "run": run}
        write_json(output / f"seed_{seed}.json", done[seed])
    results = {**run, **summary([done[seed] for seed in range(seeds)], task.metric)}
    write_json(output / "results.json", {**results, "versions": versions(), "command": command()})
    return results


def summary(runs: list[dict[str, Any]], metric: str) -> dict[str, Any]:
    """Mean, standard deviation and number of failed runs, and one line for each seed."""
    good = [run["test"][metric] for run in runs if not run["failed"]]
    best = max((run for run in runs if not run["failed"]), key=lambda run: run["dev"][metric], default=None)
    return {
        "mean": statistics.fmean(good) if good else None,
        "std": statistics.stdev(good) if len(good) > 1 else None,
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
    }


def versions() -> dict[str, str]:
    """Versions of what the scores depend on."""
    packages = ("torch", "transformers", "tokenizers", "numpy", "seqeval")
    return {"python": platform.python_version(), **{package: version(package) for package in packages}}


def command() -> str:
    """The command line as it was typed, `python -m` included."""
    module = getattr(sys.modules.get("__main__"), "__spec__", None)
    program = f"python -m {module.name}" if module else f"python {sys.argv[0]}"
    return " ".join([program, shlex.join(sys.argv[1:])])
