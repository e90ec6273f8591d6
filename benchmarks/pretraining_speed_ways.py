"""One optimizer step of ELECTRA, our way and Hugging Face's ways: what benchmarks/pretraining_speed.py times.

No command of its own; see `python -m benchmarks.pretraining_speed --help`.

Steps of both: (1) forward and backward of each micro-batch of the step; (2) clipping at norm 1; (3) Adam with decoupled
decay, torch's fused one on both sides. Dropout is 0.1, hidden and attention, on both sides.

Hugging Face has no pretraining of ELECTRA: its two heads in a loop as users write it (padded batches, the generator's
head over all positions, one categorical sample at each masked position by Gumbel's trick).
"""

import math
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

from pretraining.batch import MaskedBatch
from pretraining.compiling import compile_networks, resolve_compile
from pretraining.config import Config
from pretraining.model import discriminator_shape, generator_shape
from pretraining.objectives import build_objective

IGNORED = -100  # label of positions that Hugging Face's loss leaves out
DISCRIMINATOR_WEIGHT = 50.0


class Setting(NamedTuple):
    """How a network is held and run; one copy in memory for each."""

    way: str  # ours or hf
    attention: str  # eager or sdpa; ours has its own choice
    execution: str  # eager or compile
    precision: str  # fp32, bf16 (weights) or autocast


class Variant(NamedTuple):
    """One row of the table."""

    setting: Setting
    padding: str  # none, longest (of the micro-batch) or maximum (--length)
    micro_batch: int  # samples

    def name(self) -> str:
        parts = [*self.setting, self.padding, str(self.micro_batch)]
        return " ".join(part for part in parts if part not in ("own", "none"))


@dataclass
class Way:
    """A network, its optimizer, and the precision it is run in."""

    setting: Setting
    modules: nn.ModuleDict
    optimizer: torch.optim.Optimizer
    parameters: list[nn.Parameter]
    masters: list[torch.Tensor]  # fp32 copies of half-precision weights; empty where there are none
    device: torch.device

    def context(self) -> Any:
        if self.setting.precision != "autocast":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)


def make_way(setting: Setting, config: Config, vocabulary: int, device: torch.device) -> Way:
    """Build the networks of a setting with random weights."""
    torch.manual_seed(0)
    if setting.way == "ours":
        modules = nn.ModuleDict({"objective": build_objective(config.model, vocabulary, seed=0)})
    else:
        modules = hugging_face_models(setting, config, vocabulary)
    modules.to(device).train()
    if setting.precision == "bf16":
        modules.to(torch.bfloat16)
    parameters = [parameter for parameter in modules.parameters() if parameter.requires_grad]
    # Ours keeps fp32 masters of bf16 weights, as DeepSpeed does; Hugging Face's way gets the cheaper step without.
    keeps_masters = setting.way == "ours" and setting.precision == "bf16"
    masters = [p.detach().float() for p in parameters] if keeps_masters else []
    adam = torch.optim.AdamW(masters or parameters, lr=1e-4, eps=1e-6, weight_decay=0.01, fused=True)
    if setting.execution == "compile" and setting.way == "ours":
        compile_networks(modules["objective"], resolve_compile("on", device.type, 0), setting.precision, "on")
    elif setting.execution == "compile":
        for module in modules.values():
            module.compile(dynamic=True)  # the whole network, as users do
    return Way(setting, modules, adam, parameters, masters, device)


def hugging_face_models(setting: Setting, config: Config, vocabulary: int) -> nn.ModuleDict:
    """`ElectraForMaskedLM` and `ElectraForPreTraining` with shared embeddings."""
    import transformers

    def electra_config(shape: Any) -> Any:
        return transformers.ElectraConfig(
            vocab_size=vocabulary,
            embedding_size=shape.embedding_size,
            hidden_size=shape.hidden_size,
            num_hidden_layers=shape.num_layers,
            num_attention_heads=shape.num_attention_heads,
            intermediate_size=shape.ffn_hidden_size,
            hidden_dropout_prob=shape.hidden_dropout,
            attention_probs_dropout_prob=shape.attention_dropout,
            attn_implementation=setting.attention,
        )

    generator = transformers.ElectraForMaskedLM(electra_config(generator_shape(config.model)))
    discriminator = transformers.ElectraForPreTraining(electra_config(discriminator_shape(config.model)))
    discriminator.electra.embeddings = generator.electra.embeddings
    return nn.ModuleDict({"generator": generator, "discriminator": discriminator})


def run_step(way: Way, batches: list[MaskedBatch], padded_to: int | None) -> torch.Tensor:
    """One optimizer step; returns its loss, on the device. padded_to: word pieces, None for the longest sample."""
    total = torch.zeros((), device=way.device)
    for batch in batches:
        with way.context():
            if way.setting.way == "ours":
                loss, _ = way.modules["objective"](batch.to(way.device))
            else:
                loss = hugging_face_loss(way, batch, padded_to) / len(batches)
        loss.backward()
        total += loss.detach().float()
    targets = way.masters or way.parameters
    if way.masters:
        for master, parameter in zip(way.masters, way.parameters, strict=True):
            master.grad = parameter.grad.float()
    nn.utils.clip_grad_norm_(targets, 1.0)
    way.optimizer.step()
    if way.masters:
        with torch.no_grad():
            torch._foreach_copy_(way.parameters, way.masters)
    for parameter in way.parameters:
        parameter.grad = None
    return total


def hugging_face_loss(way: Way, batch: MaskedBatch, padded_to: int | None) -> torch.Tensor:
    """ELECTRA's loss with the two heads on a padded batch."""
    original, masked, types, labels, real = (
        tensor.to(way.device, non_blocking=True) for tensor in padded_inputs(batch, padded_to)
    )
    inputs = {"attention_mask": real, "token_type_ids": types}
    output = way.modules["generator"](input_ids=masked, labels=labels, **inputs)
    chosen = labels != IGNORED
    with torch.no_grad():
        logits = output.logits[chosen].float()
        noise = -torch.log(-torch.log(torch.rand_like(logits).clamp_(1e-9, 1 - 1e-7)))
        corrupted = masked.clone()
        corrupted[chosen] = (logits + noise).argmax(-1)
        replaced = (corrupted != original).long()
    discriminator = way.modules["discriminator"](input_ids=corrupted, labels=replaced, **inputs)
    return output.loss + DISCRIMINATOR_WEIGHT * discriminator.loss


def padded_inputs(batch: MaskedBatch, padded_to: int | None) -> tuple[torch.Tensor, ...]:
    """(original ids, generator ids, segments, labels, attention mask), int64 [S, L] each."""
    longest = padded_to or max(batch.lengths)
    labels = torch.full_like(batch.input_ids, IGNORED)
    labels[batch.masked_positions] = batch.input_ids[batch.masked_positions]
    rows = (batch.input_ids, batch.generator_ids, batch.token_type_ids, labels, torch.ones_like(batch.input_ids))
    fills = (0, 0, 0, IGNORED, 0)
    padded = []
    for flat, fill in zip(rows, fills, strict=True):
        table = flat.new_full((len(batch.lengths), longest), fill)
        for row, sample in zip(table, flat.split(batch.lengths), strict=True):
            row[: len(sample)] = sample
        padded.append(table)
    return tuple(padded)


def check_finite(loss: float, name: str) -> None:
    """Raise ValueError where a way computed nonsense: its speed would mean nothing."""
    if not math.isfinite(loss):
        raise ValueError(f"{name}: the loss is {loss}, so its speed means nothing")
