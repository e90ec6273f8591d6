"""Look for better settings before the seeds are run: `--search N`. Nothing to run here; for example

    python -m finetuning.bc5cdr --model DIR --data DIR --output DIR --search 20

1. Trial 0 has the settings as given; later ones are Optuna's, from the ranges in SPACE (a Tree-structured Parzen
   Estimator, after RANDOM_TRIALS random ones).
   A batch larger than the given one goes through the model in parts of the given size, so that it fits in memory.
2. Each trial trains seed 0 and is judged by its dev score; the test split takes no part.
3. After each, search.json is written beside the results: a search that was stopped goes on, and gives what an
   undisturbed one gives, since each suggestion follows from the trials before it alone.
4. The seeds then run with the settings of the best trial, which results.json holds.
"""

import math
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from finetuning import ranks
from finetuning.config import FinetuneConfig
from finetuning.loop import Task, choose_device, fit
from finetuning.result_files import read_json
from finetuning.results import differences, make_deterministic, plain, write_json

# What is searched: (least, most, step); step 0 is a logarithmic scale. Epochs are times the given number.
SPACE = {
    "learning_rate": (1e-5, 1e-3, 0),
    "layer_decay": (0.6, 1.0, 0.05),
    "dropout": (0.0, 0.3, 0.05),
    "encoder_dropout": (0.0, 0.3, 0.05),
    "batch_size": (8, 16, 32, 64),
    "epochs": (0.5, 1.0, 1.5, 2.0),
}
RANDOM_TRIALS = 5
FAILED_SCORE = -1.0  # what Optuna is told of a training that failed: below any score


def searched(config: FinetuneConfig) -> list[str]:
    """The settings of SPACE to search: not the encoder's dropout where the model has not one value for it."""
    return [name for name in SPACE if getattr(config, name) is not None]


def distributions(config: FinetuneConfig) -> dict[str, Any]:
    """SPACE as Optuna has it, for a run with these settings."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    def scale(name: str) -> FloatDistribution:
        least, most, step = SPACE[name]
        return FloatDistribution(least, most, step=step) if step else FloatDistribution(least, most, log=True)

    epochs = sorted({max(1, round(config.epochs * times)) for times in SPACE["epochs"]})
    return {
        **{name: scale(name) for name in searched(config) if name not in ("batch_size", "epochs")},
        "batch_size": CategoricalDistribution(SPACE["batch_size"]),
        "epochs": CategoricalDistribution(epochs),
    }


def suggest(trials: list[dict[str, Any]], config: FinetuneConfig) -> dict[str, Any]:
    """The settings to try next, a function of the trials so far; ValueError if Optuna is not installed."""
    try:
        import optuna
    except ImportError:
        raise ValueError("--search needs Optuna: pip install -r requirements.txt, or leave the flag out") from None
    if not trials:
        return {name: getattr(config, name) for name in searched(config)}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = distributions(config)
    sampler = optuna.samplers.TPESampler(seed=len(trials), n_startup_trials=RANDOM_TRIALS)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for trial in trials:
        value = FAILED_SCORE if trial["dev"] is None else trial["dev"]
        try:
            known = optuna.trial.create_trial(params=trial["settings"], distributions=space, value=value)
        except ValueError:
            continue  # the given settings may lie outside the ranges
        study.add_trial(known)
    found = study.ask(space).params
    return {**found, "learning_rate": float(f"{found['learning_rate']:.3g}")}


def with_settings(config: FinetuneConfig, settings: dict[str, Any]) -> FinetuneConfig:
    """`config` with these settings, no more inputs at once than it has: a larger batch goes through in more parts."""
    at_once = max(1, config.batch_size // config.gradient_accumulation)
    parts = max(1, math.ceil(settings["batch_size"] / at_once))
    return replace(config, **settings, gradient_accumulation=parts)


def run_trial(tasks: list[Task], config: FinetuneConfig) -> dict[str, Any]:
    """Train seed 0 on each task; the mean dev score, or None and the reason."""
    started, scores, failure = time.perf_counter(), [], None
    for task in tasks:
        make_deterministic(0)
        result = fit(task.make_model().to(choose_device()), task, config, seed=0)
        if result.failure:
            failure = result.failure
            break
        scores.append(result.dev[task.metric])
    dev = None if failure else sum(scores) / len(scores)
    return {"dev": dev, "failed": failure, "seconds": round(time.perf_counter() - started, 1)}


def best_of(trials: list[dict[str, Any]]) -> int:
    """Number of the best trial, the earliest of equals; ValueError if all failed."""
    good = [number for number, trial in enumerate(trials) if trial["dev"] is not None]
    if not good:
        raise ValueError(
            f"--search: all {len(trials)} trials failed, the last one since {trials[-1]['failed']}: a larger --search "
            "goes on from them; to start from other settings, such as more --epochs, name another --output"
        )
    return max(good, key=lambda number: (trials[number]["dev"], -number))


def read_trials(path: Path, run: dict[str, Any]) -> list[dict[str, Any]]:
    """The trials in search.json; ValueError if they are of another run."""
    if not path.exists():
        return []
    content = read_json(path)
    if other := differences(content.get("run", {}), run):
        raise ValueError(f"{path} is the search of another run, which differs in {other[0]}: choose another --output")
    return content["trials"]


def search(
    prepare: Any, config: FinetuneConfig, run: dict[str, Any], path: Path, count: int
) -> tuple[FinetuneConfig, dict[str, Any]]:
    """The best settings of `count` trials, and what results.json says of the search.

    `prepare(config)` gives the tasks for these settings; `run` describes the run with the settings as given.
    """
    run = plain(run)
    trials = ranks.from_first(lambda: read_trials(path, run))[:count]
    while len(trials) < count:
        settings = ranks.from_first(lambda: suggest(trials, config))
        tried = with_settings(config, settings)
        tasks = ranks.agree(lambda tried=tried: prepare(tried))
        if not all("dev" in task.features for task in tasks):
            raise ValueError("--search: this benchmark has no dev split to judge settings by, so leave the flag out")
        ranks.say(f"trial {len(trials)}: " + ", ".join(f"{name} {value:g}" for name, value in settings.items()))
        trials.append({"settings": settings, **run_trial(tasks, tried)})
        write_json(path, {"run": run, "space": plain(SPACE), "given": asdict(config), "trials": trials})
    best = best_of(trials)
    ranks.say(f"search: trial {best} of {count} is the best, dev {trials[best]['dev']:.4f}: {trials[best]['settings']}")
    record = {"trials": count, "failed": sum(trial["dev"] is None for trial in trials), "best": best}
    return with_settings(config, trials[best]["settings"]), record
