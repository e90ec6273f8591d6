"""Encoders under a head that gives one row of scores a text. Nothing to run here.

Used by finetuning.classification. Two heads:

- "cls": transformers' own AutoModelForSequenceClassification of the architecture, so that the saved folder is
  opened by transformers alone. For ELECTRA it has a dense layer with GELU between the [CLS] vector and the last
  linear layer, which google-research/electra has not; BERT's is the pooler that was pretrained with it;
- "markers": the [CLS] vector and the mean vectors of the two marked arguments, one after another, dropout, one
  linear layer (BLURB's markers with mention pooling; with the markers' own characters as arguments it is the
  entity-start head of Baldini Soares et al. 2019, with [CLS] beside it). Transformers has no such class: the saved
  folder holds the encoder, which transformers opens, and the linear layer in `head.safetensors`.

A stage before leaves its encoder in the folder: its head goes on with it only if it had the same labels.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from finetuning import encoder
from finetuning.loop import Batch

HEADS = ("cls", "markers")
HEAD_FILE = "head.safetensors"
WINDOWS_AT_ONCE = 64  # a batch with more windows goes through the encoder in parts, so that memory stays bounded


class MarkerHead(nn.Module):
    """An encoder and one linear layer on [CLS] and the two marked arguments."""

    base_model_prefix = "encoder"

    def __init__(self, network: PreTrainedModel, labels: int, dropout: float) -> None:
        super().__init__()
        self.encoder = network
        self.config = network.config
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(3 * network.config.hidden_size, labels)
        reset_linear(self.classifier, network.config)

    def forward(self, marks: Tensor, **inputs: Tensor) -> Tensor:
        """Scores [W, labels] of inputs [W, T]; marks [W, 2, T] are the weights of the arguments' word pieces."""
        hidden = self.encoder(**inputs).last_hidden_state
        vectors = torch.cat([hidden[:, :1], marks.to(hidden.dtype) @ hidden], dim=1)
        return self.classifier(self.dropout(vectors.flatten(1)))

    def _init_weights(self, module: nn.Module) -> None:
        """As the encoder initialises its layers."""
        self.encoder._init_weights(module)


def reset_linear(layer: nn.Linear, config: Any) -> None:
    """Draw the weights anew as these architectures do: normal, zero bias."""
    nn.init.normal_(layer.weight, std=getattr(config, "initializer_range", 0.02))
    nn.init.zeros_(layer.bias)


def make_model(
    model: str,
    head: str,
    labels: list[str],
    problem: str,
    dropout: float,
    encoder_dropout: float | None = None,
    whole: bool = False,
) -> nn.Module:
    """The encoder `model` under a head for `labels`; `problem` is transformers' problem_type.

    The last linear layer is drawn from torch's current seed, unless the folder has one of the same kind for the same
    labels; if `whole` it has to have one, or a ValueError says so.
    """
    names = {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    before = encoder.load_config(model)
    same = list(before.id2label.values()) == labels and getattr(before, "problem_type", None) == problem
    if head == "markers":
        # The class for tokens is the one whose encoder comes without a pooler, which would be left over here.
        network = encoder.load_model(AutoModelForTokenClassification, model, encoder_dropout, **names).base_model
        network.config.problem_type = problem
        network = MarkerHead(network, len(labels), dropout)
        if same and (Path(model) / HEAD_FILE).is_file():
            load_head(network, Path(model))
        return network
    names["problem_type"] = problem
    if whole and not same:
        raise ValueError(f"{model}: config.json and task.json name other labels, so they are not of one model")
    network = encoder.load_model(AutoModelForSequenceClassification, model, encoder_dropout, whole, **names)
    for name, module in network.named_modules():
        if name.startswith(network.base_model_prefix + "."):
            continue
        if isinstance(module, nn.Dropout):  # the architectures' settings for this one go by different names
            module.p = dropout
        if isinstance(module, nn.Linear) and module.out_features == len(labels) and not same:
            reset_linear(module, network.config)
    return network


def add_tokens(network: nn.Module, tokenizer: PreTrainedTokenizerBase, pieces: dict[str, list[int]]) -> None:
    """Room for the tokenizer's added tokens; each begins as the mean of the word pieces that it was before."""
    base = network.encoder if isinstance(network, MarkerHead) else network
    table = base.get_input_embeddings()
    if len(tokenizer) > table.num_embeddings:
        with encoder.quiet_transformers():
            table = base.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        for token, ids in pieces.items():
            table.weight[tokenizer.convert_tokens_to_ids(token)] = table.weight[ids].mean(dim=0)


def forward(network: nn.Module, batch: Batch, pool: str) -> Tensor:
    """Scores [features, labels]: those of a feature's windows, their mean or (pool "max") the highest of each label."""
    names = [name for name in ("input_ids", "attention_mask", "token_type_ids", "marks") if name in batch]

    def scores(*tensors: Tensor) -> Tensor:
        output = network(**dict(zip(names, tensors, strict=True)))
        return output if isinstance(output, Tensor) else output.logits

    rows = sum(batch["windows"])
    if rows <= WINDOWS_AT_ONCE or rows == len(batch["windows"]):
        logits = scores(*(batch[name] for name in names))
    else:
        parts = zip(*(batch[name].split(WINDOWS_AT_ONCE) for name in names), strict=True)
        if network.training:
            logits = torch.cat([checkpoint(scores, *part, use_reentrant=False) for part in parts])
        else:
            logits = torch.cat([scores(*part) for part in parts])
    if rows == len(batch["windows"]):
        return logits
    grouped = logits.split(batch["windows"])
    return torch.stack([part.amax(dim=0) if pool == "max" else part.mean(dim=0) for part in grouped])


def save(network: nn.Module, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """A Hugging Face folder, with `head.safetensors` beside the encoder where the head is ours."""
    with encoder.quiet_transformers():
        if isinstance(network, MarkerHead):
            network.encoder.save_pretrained(folder)
            save_file(network.classifier.state_dict(), folder / HEAD_FILE)
        else:
            network.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def load_head(network: MarkerHead, folder: Path) -> None:
    """Take the linear layer that `save` has written; ValueError if it does not fit."""
    try:
        network.classifier.load_state_dict(load_file(folder / HEAD_FILE))
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{folder / HEAD_FILE} does not hold the head of this model: {reason}") from error


def load(folder: Path, head: str, labels: list[str], problem: str) -> nn.Module:
    """The model that `save` has written, in evaluation mode; ValueError if its head is not there or does not fit."""
    if head == "markers" and not (folder / HEAD_FILE).is_file():
        raise ValueError(f"{folder} has no {HEAD_FILE}: the head of the model is missing")
    return make_model(str(folder), head, labels, problem, 0.0, whole=True).eval()
