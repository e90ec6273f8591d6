"""What a run will be, before it starts: parameters, batch arithmetic, merged DeepSpeed JSON, kernels, memory, work.

    deepspeed launch/pretrain.sh --dry-run

Steps: `describe_run` builds the text that every run prints at its start and `--dry-run` prints alone. FLOPs are
counted with the usual formula: matrix products only, backward twice the forward (benchmarks/README.md).
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pretraining.config import Config
from pretraining.ds_config import offloads_optimizer, precision, zero_stage
from pretraining.fused import compute_dtype, kernel_table
from pretraining.model import EncoderShape, discriminator_shape, generator_shape

BYTES_PER_ELEMENT = {"bf16": 2, "fp16": 2, "autocast": 4, "fp32": 4}
GIB = 2**30


def table(rows: list[tuple[str, ...]]) -> str:
    """Rows as aligned text columns."""
    widths = [max(len(str(row[column])) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  " + "  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def count_parameters(module: nn.Module) -> dict[str, int]:
    """Parameters of each part of an objective, shared ones in the part that owns them."""
    seen: set[int] = set()
    counts = {}
    for name, child in module.named_children():
        own = [p for p in child.parameters() if id(p) not in seen]
        seen |= {id(p) for p in own}
        counts[name] = sum(getattr(p, "ds_numel", p.numel()) for p in own)
    return counts


def encoder_flops(shape: EncoderShape, length: float) -> float:
    """Forward floating-point operations per word piece in samples of this length, matrix products only."""
    width, ffn = shape.hidden_size, shape.ffn_hidden_size
    layers = shape.num_layers * (8 * width**2 + 4 * width * ffn + 4 * length * width)
    project = 2 * shape.embedding_size * width if shape.embedding_size != width else 0
    return layers + project


def training_flops_per_token(config: Config, vocab_size: int, length: float) -> float:
    """Training operations per word piece: three times the forward pass; heads at masked positions only."""
    main, small = discriminator_shape(config.model), generator_shape(config.model)
    predictor = small if config.model.objective == "electra" else main
    head = config.data.mask_prob * 2 * main.embedding_size * (predictor.hidden_size + vocab_size)
    forward = encoder_flops(main, length) + head
    if config.model.objective == "electra":
        forward += encoder_flops(small, length) + 2 * main.hidden_size**2 + 2 * main.hidden_size
    return 3 * forward


def state_bytes(parameters: int, merged: dict[str, Any], world_size: int) -> float:
    """Bytes of weights, gradients and optimizer states on one rank, by ZeRO stage."""
    stage, kind = zero_stage(merged), precision(merged)
    half = kind in ("bf16", "fp16")
    weights, gradients = BYTES_PER_ELEMENT[kind], 4 if merged.get("data_types") or not half else 2
    optimizer = 12 if half else 8  # fp32 master copy and two moments, or the moments alone
    shares = [world_size if stage >= needed else 1 for needed in (3, 2, 1)]
    return parameters * sum(size / share for size, share in zip((weights, gradients, optimizer), shares, strict=True))


def activation_bytes(config: Config, merged: dict[str, Any], micro: int) -> float:
    """A rough upper figure for the activations of one micro-batch of full samples, both networks."""
    size, length = BYTES_PER_ELEMENT[precision(merged)], config.data.seq_length
    total = 0.0
    for shape in (discriminator_shape(config.model), generator_shape(config.model)):
        # Per word piece and layer about 16 widths and two feed-forward widths are kept; attention keeps three squares.
        per_token = 16 * shape.hidden_size + 2 * shape.ffn_hidden_size + 3 * shape.num_attention_heads * length
        total += shape.num_layers * per_token * size
    return total * micro * length


def describe_run(
    config: Config, objective: nn.Module, merged: dict[str, Any], world_size: int, first_step: int = 0
) -> str:
    """The text at the start of a run."""
    counts = count_parameters(objective)
    total, vocab_size = sum(counts.values()), objective.embeddings.word.num_embeddings
    micro, accumulation = merged["train_micro_batch_size_per_gpu"], merged["gradient_accumulation_steps"]
    optimizer, device = config.optimizer, "cuda" if torch.cuda.is_available() else "cpu"
    tokens = optimizer.train_iters * optimizer.global_batch_size * config.data.seq_length
    work = tokens * training_flops_per_token(config, vocab_size, config.data.seq_length)
    dtype = compute_dtype(precision(merged))
    kernels = kernel_table(device, optimizer.adam_bias_correction, dtype, config.model.attention_dropout)
    if optimizer.optimizer == "lamb":
        kernels[-1] = ("optimizer", "Lamb", "ours, on whole fp32 tensors")
    elif offloads_optimizer(merged):
        kernels[-1] = ("optimizer", "DeepSpeed CPUAdam", "the DeepSpeed JSON offloads it")
    memory = state_bytes(total, merged, world_size), activation_bytes(config, merged, micro)
    lines = [
        f"{config.model.preset} {config.model.objective}, vocabulary {vocab_size:,}, length {config.data.seq_length}",
        "parameters",
        table([(name, f"{count:,}") for name, count in counts.items()] + [("total", f"{total:,}")]),
        f"batch: {micro} samples x {world_size} ranks x {accumulation} accumulation = {optimizer.global_batch_size} "
        f"samples a step; steps {first_step:,} to {optimizer.train_iters:,}; at most {tokens:,} word pieces, "
        f"{work / 1e18:.3g} EFLOP",
        f"ZeRO stage {zero_stage(merged)}, {precision(merged)} ({Path(config.run.deepspeed_config).name}); "
        "memory of a rank, estimated: "
        f"{memory[0] / GIB:.2f} GiB states + up to {memory[1] / GIB:.2f} GiB activations",
        "kernels",
        table(kernels),
    ]
    if config.run.dry_run:
        lines += ["DeepSpeed JSON", json.dumps(merged, indent=2)]
    return "\n".join(lines)
