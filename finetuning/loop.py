"""Finetune an encoder on one task: batches, learning rates, the training loop and prediction.

Shared by every benchmark; run one of those, for example

    python -m finetuning.bc5cdr --model DIR --data DIR --output DIR --seeds 5

A family module (finetuning.tagging, ...) hands over a `Task`: the model inputs of each split and the
functions that make a batch, run the model, give the loss and score the outputs. Then

1. every epoch goes through the training inputs in batches of similar length, padded to the longest of the
   batch;
2. AdamW takes one step a batch, each layer with its own learning rate (finetuning.optim);
3. after every epoch the dev split is scored; the best epoch is kept, and training ends when `patience` epochs
   brought nothing better; without a dev split all epochs are run and the last is kept; a run whose loss or weights are
   not finite, or whose kept epoch scores 0 or gives one and the same answer to all of dev (`Task.collapse`), failed;
4. finetuning.results repeats this for several seeds and writes the scores.
"""

import itertools
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from finetuning import ranks
from finetuning.config import FinetuneConfig
from finetuning.optim import make_optimizer, prepare_layers, set_step

Feature = dict[str, Any]  # one model input: "input_ids" and what its family needs besides
Batch = dict[str, Any]  # tensors, and "items": how many things the summed loss is over
POOL_BATCHES = 50  # batches are cut from a shuffled pool of so many, sorted by length


@dataclass(frozen=True)
class Task:
    """What a benchmark family gives to the loop; outputs are one array [rows, ...] an input, in order."""

    features: dict[str, list[Feature]]  # the inputs of train, test and, unless every epoch shall be run, dev
    make_model: Callable[[], nn.Module]  # a fresh one; draws the head from torch's current seed
    collate: Callable[[list[Feature]], Batch]  # pads to the longest
    forward: Callable[[nn.Module, Batch], Tensor]  # rows of all inputs of the batch one after another
    rows: Callable[[Feature], int]  # how many of those rows are this input's
    loss: Callable[[Tensor, Batch], Tensor]  # summed over the batch's items
    score: Callable[[str, list[np.ndarray]], dict[str, Any]]  # split, its outputs -> scores
    metric: str  # the score that chooses the epoch and goes into the table
    save: Callable[[nn.Module, Path], None]  # as a Hugging Face folder
    write_predictions: Callable[[list[np.ndarray], Path], None]  # of the test split, in the official format
    predictions_suffix: str = "tsv"  # of that file's name
    dev_trained_too: list[Feature] = field(default_factory=list)  # more inputs of dev, where it is trained on as well
    collapse: Callable[[list[np.ndarray]], str | None] = lambda _: None  # outputs of dev -> why they say nothing


@dataclass
class Fit:
    """How one training went. `failure` says why it counts as failed, or is None."""

    history: list[dict[str, float]] = field(default_factory=list)  # epoch, loss, dev (if there is one), seconds
    best_epoch: int = 0  # the last one where there is no dev split
    dev: dict[str, Any] | None = None  # scores of the best epoch; None if the training broke down, or without dev
    failure: str | None = None
    trained: bool = False  # all epochs went well, so that there is something to test


def choose_device() -> torch.device:
    """The GPU if there is one, otherwise the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def epoch_batches(lengths: list[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Indices of all inputs in batches of similar length; the order is a function of seed and epoch alone."""
    chance = random.Random(f"{seed} {epoch}")
    order = list(range(len(lengths)))
    chance.shuffle(order)
    pool = POOL_BATCHES * batch_size
    batches = []
    for start in range(0, len(order), pool):
        part = sorted(order[start : start + pool], key=lambda i: lengths[i])
        batches += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    chance.shuffle(batches)
    return batches


def run_model(model: nn.Module, task: Task, batch: Batch, bf16: bool) -> Tensor:
    """The model's outputs in fp32, [rows of the batch, ...]."""
    device = next(model.parameters()).device
    batch.update({name: value.to(device) for name, value in batch.items() if isinstance(value, Tensor)})
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        return task.forward(model, batch).float()


def progress(batches: list[list[int]], text: str) -> tqdm:
    """A bar on a terminal, of rank 0 only."""
    return tqdm(batches, desc=text, leave=False, disable=None if ranks.rank() == 0 else True)


def predict(
    model: nn.Module, task: Task, features: list[Feature], config: FinetuneConfig, at_once: int = 0
) -> list[np.ndarray]:
    """Outputs [rows, ...] for each input, in the order of `features`; every rank gets all of them.

    `at_once` inputs go through the model together; 0: twice as many as in training, which needs more memory.
    """
    model.eval()
    order = sorted(range(len(features)), key=lambda i: len(features[i]["input_ids"]))
    size = at_once or 2 * max(1, config.batch_size // config.gradient_accumulation)
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    ours: dict[int, np.ndarray] = {}
    with torch.inference_mode():
        for chosen in progress(ranks.share(batches), "predict"):
            batch = task.collate([features[i] for i in chosen])
            rows = run_model(model, task, batch, config.bf16).cpu()
            parts = rows.split([task.rows(features[i]) for i in chosen])
            ours |= {i: part.numpy() for i, part in zip(chosen, parts, strict=True)}
    outputs: dict[int, np.ndarray] = {}
    for part in ranks.gather(ours):
        outputs |= part
    return [outputs[i] for i in range(len(features))]


def train_epoch(
    model: nn.Module, task: Task, config: FinetuneConfig, batches: list[list[int]], update: Callable[[], None]
) -> float:
    """One pass over the batches, `update` after each; the mean loss of an item (not finite if one is not)."""
    model.train()
    features = task.features["train"]
    summed, items = torch.zeros((), dtype=torch.float64), 0
    for chosen in progress(batches, "train"):
        ours = ranks.share(chosen)
        size = max(1, math.ceil(len(ours) / config.gradient_accumulation))
        parts = [task.collate([features[i] for i in ours[k : k + size]]) for k in range(0, len(ours), size)]
        count = sum(part["items"] for part in parts)
        # Divided by the items of the whole batch: the number of parts does not change the gradient. Where other
        # ranks have some of them, these are known only once the gradients are added up, so by the inputs till then.
        scale = count if ranks.world() == 1 else len(chosen)
        for part in parts:
            loss = task.loss(run_model(model, task, part, config.bf16), part) / scale
            loss.backward()
            summed = summed.to(loss.device) + loss.detach() * scale  # read once an epoch: no wait for the GPU each step
        ranks.sum_gradients(model, scale, count)
        items += count
        update()
    summed, items = ranks.total(torch.stack([summed.cpu(), torch.tensor(items, dtype=torch.float64)])).tolist()
    return summed / items


def finite_weights(model: nn.Module) -> bool:
    """Whether no weight that is trained is infinite or not a number."""
    sums = [parameter.detach().double().sum() for parameter in model.parameters() if parameter.requires_grad]
    return bool(torch.stack(sums).isfinite().all())


def fit(model: nn.Module, task: Task, config: FinetuneConfig, seed: int) -> Fit:
    """Train `model` on the train split, on all ranks; it ends up with the weights of the epoch best on dev.

    Ends early when the loss or the weights are not finite (`failure` says so) or dev has not improved for
    `config.patience` epochs. Without a dev split it runs all epochs and keeps the last.
    """
    lengths = [len(feature["input_ids"]) for feature in task.features["train"]]
    total_steps = config.epochs * math.ceil(len(lengths) / config.batch_size)
    prepare_layers(model, config)
    ranks.start_together(model, seed)
    optimizer = make_optimizer(model, config)
    steps = itertools.count()

    def update() -> None:
        nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        set_step(optimizer, next(steps), total_steps, config)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    result, best_weights = Fit(), None
    for epoch in range(1, config.epochs + 1):
        started = time.perf_counter()
        loss = train_epoch(model, task, config, epoch_batches(lengths, config.batch_size, seed, epoch), update)
        # A gradient that overflows in an epoch's last step spoils the weights, and no loss shows it any more.
        broken = "loss was" if not math.isfinite(loss) else "weights were" if not finite_weights(model) else ""
        if broken:
            result.failure, result.dev = f"the {broken} not finite in epoch {epoch}", None
            return result
        outputs = predict(model, task, task.features["dev"], config) if "dev" in task.features else []
        dev = task.score("dev", outputs) if "dev" in task.features else {}
        row = {"epoch": epoch, "loss": loss, "seconds": round(time.perf_counter() - started, 1)}
        result.history.append({**row, **({"dev": dev[task.metric]} if dev else {})})
        score = f"dev {task.metric} {dev[task.metric]:.4f}, " if dev else ""
        ranks.say(f"seed {seed} epoch {epoch}: loss {loss:.4f}, {score}{row['seconds']} s")
        if not dev:
            result.best_epoch = epoch
        elif result.dev is None or dev[task.metric] > result.dev[task.metric]:
            result.dev, result.best_epoch = dev, epoch
            result.failure = task.collapse(outputs)
            best_weights = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
        elif epoch - result.best_epoch >= config.patience:
            break
    result.trained = True
    if best_weights is not None:
        model.load_state_dict(best_weights)
        if result.dev[task.metric] == 0:
            result.failure = f"the dev score was 0 in all {len(result.history)} epochs"
    return result
