"""Memory of one rank, part by part, from sizes alone: weights, gradients, optimizer, buffers, activations; and a
checkpoint's size on disk.

Steps: (1) `meta_objective` makes the objective without its numbers; (2) `state_bytes` counts what DeepSpeed keeps at a
ZeRO stage, padding included: to the byte, tested against its own tensors on two ranks; (3) `activation_bytes` counts
what autograd keeps for the backward pass of one micro-batch: within 15 %, tested against what autograd saves.

Shapes: T word pieces of a micro-batch, L length of a sample, W width, F feed-forward width, H heads, E embedding width,
V vocabulary, M masked positions.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pretraining.config import Config, ModelConfig
from pretraining.ds_config import offloads_optimizer, offloads_parameters, precision, zero_stage
from pretraining.model import EncoderShape, discriminator_shape, generator_shape
from pretraining.objectives import OBJECTIVES
from pretraining.optim import parameter_groups

BYTES_PER_ELEMENT = {"bf16": 2, "fp16": 2, "autocast": 4, "fp32": 4}
ALIGNMENT = 2  # DeepSpeed pads the parameters of stages 1 and 2 to this many elements times the ranks, group by group
LARGEST_BUCKET = 500_000_000  # elements, where the JSON says nothing, and always for BF16_Optimizer
MOMENTS = 2


@dataclass(frozen=True)
class StateBytes:
    """Bytes of the rank that holds most: on its device, and in the host's memory where the JSON offloads."""

    weights: int
    gradients: int
    optimizer: int  # fp32 master copy and two moments
    buffers: int  # in which gradients are gathered for the network
    host: int = 0

    @property
    def total(self) -> int:
        """Bytes on the device."""
        return self.weights + self.gradients + self.optimizer + self.buffers


def meta_objective(config: ModelConfig, vocab_size: int) -> nn.Module:
    """The objective with shapes and no numbers, whatever its size."""
    with torch.device("meta"):
        return OBJECTIVES[config.objective](config, vocab_size)


def count_parameters(module: nn.Module) -> dict[str, int]:
    """Parameters of each part of an objective, shared ones in the part that owns them."""
    seen: set[int] = set()
    counts = {}
    for name, child in module.named_children():
        own = [p for p in child.parameters() if id(p) not in seen]
        seen |= {id(p) for p in own}
        counts[name] = sum(size_of(p) for p in own)
    return counts


def size_of(parameter: nn.Parameter) -> int:
    """Elements of the whole parameter, also where ZeRO stage 3 has taken it apart."""
    return getattr(parameter, "ds_numel", parameter.numel())


def group_sizes(module: nn.Module) -> list[list[int]]:
    """Elements of each parameter, by optimizer group: decayed and not."""
    return [[size_of(p) for p in group["params"]] for group in parameter_groups(module, 0.0)]


def state_bytes(groups: list[list[int]], settings: dict[str, Any], world_size: int) -> StateBytes:
    """What DeepSpeed 0.19.8 keeps on one rank between micro-batches, just before an optimizer step.

    groups: elements of each parameter by optimizer group; settings: the DeepSpeed JSON. With an offloaded optimizer the
    host's part is that of a run with gradient accumulation.
    """
    stage, kind = zero_stage(settings), precision(settings)
    total, element = sum(map(sum, groups)), BYTES_PER_ELEMENT[kind]
    if stage == 0:
        return StateBytes(element * total, element * total, 4 * MOMENTS * total, 0)
    zero = settings["zero_optimization"]
    accumulated = 4 if settings.get("data_types", {}).get("grad_accum_dtype") == "fp32" else element
    bucket = zero.get("reduce_bucket_size", LARGEST_BUCKET) * (2 if zero.get("overlap_comm") else 1)
    if stage == 3:
        shard = sum(-(-size // world_size) for group in groups for size in group)  # each parameter is padded by itself
        weights, gradients = element * shard, accumulated * shard
        buffers = element * bucket if zero.get("contiguous_gradients", True) else 0
    else:
        padded = [-(-sum(group) // (ALIGNMENT * world_size)) * ALIGNMENT * world_size for group in groups]
        shard, weights = sum(padded) // world_size, element * sum(padded)
        buffers = element * min(bucket, total)
        if stage == 1 and kind == "bf16" and accumulated == 4:
            # BF16_Optimizer: all gradients in fp32, those of one micro-batch in bf16 too, and no bucket of its own.
            gradients, buffers = 4 * sum(padded) + element * total, 4 * min(LARGEST_BUCKET, total)
        elif accumulated != element:
            gradients = accumulated * shard
        else:
            gradients = element * max(_overlapping(groups, padded, world_size))
    optimizer, host = 4 * (1 + MOMENTS) * shard, 0
    if offloads_optimizer(settings):
        host, optimizer = optimizer + 4 * shard, 0  # with the fp32 gradients of the step
        if stage == 3:
            host, gradients = host + gradients, 0  # and those that the micro-batches add to
        else:
            # New weights on their way to the device, a buffer for the largest gradient on either side, and what the
            # micro-batches add up: on the device in fp32, or on the host, whole where a rank's share touches them.
            largest = max(map(max, groups))
            host, added = host + element * (shard + largest), gradients
            if accumulated == element:
                host, added = host + gradients, 0
            gradients = added + element * largest
    if offloads_parameters(settings):
        host, weights = host + weights, 0
    return StateBytes(weights, gradients, optimizer, buffers, host)


def _overlapping(groups: list[list[int]], padded: list[int], world_size: int) -> list[int]:
    """Elements of the parameters that a rank's share touches, by rank: DeepSpeed keeps their gradients whole."""
    touched = [0] * world_size
    for sizes, length in zip(groups, padded, strict=True):
        share, start = length // world_size, 0
        for size in sizes:
            for rank in range(start // share, (start + size - 1) // share + 1):
                touched[rank] += size
            start += size
    return touched


def checkpoint_bytes(parameters: int) -> int:
    """A checkpoint's tensors on disk: weights and two moments in fp32."""
    return 4 * (1 + MOMENTS) * parameters


def activation_bytes(config: Config, vocab_size: int, settings: dict[str, Any], micro: int, device_type: str) -> int:
    """Bytes that autograd keeps for the backward pass of one micro-batch of full samples.

    With --recompute-activations: the layers' inputs, and one layer whole, which the backward pass computes again.
    """
    kind, length = precision(settings), config.data.seq_length
    size = 2 if kind == "autocast" else BYTES_PER_ELEMENT[kind]
    tokens, masked = micro * length, round(micro * length * config.data.mask_prob)
    main, small = discriminator_shape(config.model), generator_shape(config.model)
    predictor = small if config.model.objective == "electra" else main
    again = config.run.recompute_activations
    total = tokens * _encoder_bytes(main, length, size, device_type, again)
    if again:
        total += tokens * _layer_bytes(main, length, size, device_type)
    total += masked * _vocabulary_bytes(predictor, vocab_size, size)
    if config.model.objective == "electra":
        total += tokens * _encoder_bytes(small, length, size, device_type, again)
        # Discriminator head: around its GELU two widths, its score and the label in fp32.
        total += tokens * (2 * main.hidden_size * size + 8)
    return round(total)


def _mask_bytes(size: int, device_type: str) -> int:
    """Bytes of a value's dropout mask: as wide as the value on CPUs (dropout.py), a byte on GPUs."""
    return size if device_type == "cpu" else 1


def _layer_bytes(shape: EncoderShape, length: int, size: int, device_type: str) -> float:
    """Bytes per word piece of one layer. `size`: bytes of an element."""
    width, ffn, heads = shape.hidden_size, shape.ffn_hidden_size, shape.num_attention_heads
    mask_size = _mask_bytes(size, device_type)
    mask, attention_mask = mask_size * (shape.hidden_dropout > 0), mask_size * (shape.attention_dropout > 0)
    # The layer's input, query, key, value, context, twice the sum before LayerNorm, the first LayerNorm's output.
    layer = size * (8 * width + 2 * ffn) + 2 * mask * width
    if device_type == "cpu":
        # attention_written_out keeps the softmax, and with dropout its mask.
        layer += heads * length * (size + attention_mask)
    else:
        layer += 4 * heads  # flash attention keeps one logarithm a row
    return layer


def _encoder_bytes(shape: EncoderShape, length: int, size: int, device_type: str, again: bool) -> float:
    """Bytes per word piece of embeddings and layers; again: of the layers only their inputs."""
    width = shape.hidden_size
    layer = size * width if again else _layer_bytes(shape, length, size, device_type)
    mask = _mask_bytes(size, device_type) * (shape.hidden_dropout > 0)
    embedding = size * shape.embedding_size + mask * shape.embedding_size
    projected = size * shape.embedding_size if shape.embedding_size != width else 0
    return embedding + projected + shape.num_layers * layer + size * width


def _vocabulary_bytes(shape: EncoderShape, vocab_size: int, size: int) -> float:
    """Bytes per masked position of the generator's head: its four widths and the fp32 logarithms of the softmax."""
    return size * (shape.hidden_size + 3 * shape.embedding_size) + 4 * vocab_size
