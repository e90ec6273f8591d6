"""A task of milliseconds: points on a line, labelled by their sign, with one small network and no transformers."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from finetuning.config import FinetuneConfig
from finetuning.loop import Batch, Feature, Task

METRIC = "accuracy"
CONFIG = FinetuneConfig(learning_rate=0.05, layer_decay=1.0, epochs=3, patience=3, batch_size=8, dropout=0.0)


def make_points(count: int, seed: int) -> list[Feature]:
    """Inputs of 1 to 7 ids; the label says if their first number is above 0, and one in ten is wrong."""
    chance = np.random.default_rng(seed)
    points = []
    for _ in range(count):
        x = chance.normal(size=3).astype(np.float32)
        label = int(x[0] > 0) if chance.random() > 0.1 else int(x[0] <= 0)
        points.append({"input_ids": [0] * int(chance.integers(1, 8)), "x": x, "label": label})
    return points


class Network(nn.Module):
    """One hidden layer, which counts as the encoder, and a head."""

    base_model_prefix = "body"

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(3, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.body(x)))


def collate(features: list[Feature]) -> Batch:
    labels = torch.tensor([feature["label"] for feature in features])
    return {"x": torch.tensor(np.stack([feature["x"] for feature in features])), "labels": labels, "items": len(labels)}


def forward(model: nn.Module, batch: Batch) -> Tensor:
    return model(batch["x"])


def loss(logits: Tensor, batch: Batch) -> Tensor:
    return nn.functional.cross_entropy(logits, batch["labels"], reduction="sum")


def rows(feature: Feature) -> int:
    return 1


def score(features: dict[str, list[Feature]], split: str, outputs: list[np.ndarray]) -> dict:
    right = [bool(row[0].argmax() == one["label"]) for row, one in zip(outputs, features[split], strict=True)]
    return {METRIC: sum(right) / len(right), "classes": {"all": {"right": sum(right)}}}


def save(model: nn.Module, folder: Path) -> None:
    folder.mkdir()
    torch.save(model.state_dict(), folder / "weights.pt")


def write_predictions(outputs: list[np.ndarray], path: Path) -> None:
    path.write_text(json.dumps([int(row[0].argmax()) for row in outputs]))


def toy_task(train: int = 40, dev: int = 20, test: int = 30, seed: int = 0) -> Task:
    """The task; `dev` 0 gives it no dev split. Picklable, so that ranks can be given it."""
    sizes = {"train": train, "dev": dev, "test": test}
    features = {split: make_points(size, seed + i) for i, (split, size) in enumerate(sizes.items()) if size}
    return Task(
        features=features,
        make_model=Network,
        collate=collate,
        forward=forward,
        rows=rows,
        loss=loss,
        score=partial(score, features),
        metric=METRIC,
        save=save,
        write_predictions=write_predictions,
        predictions_suffix="json",
    )
