"""What a run says before it starts: parameters, operations against torch's own count, memory, batch arithmetic."""

import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pretraining.batch import MaskedBatch
from pretraining.ds_config import merge_ds_config
from pretraining.objectives import OBJECTIVES, build_objective
from pretraining.plan import (
    activation_bytes,
    count_parameters,
    describe_run,
    state_bytes,
    table,
    training_flops_per_token,
)
from tests.tiny import VOCAB_SIZE, tiny_config

LENGTH, MASKED, SAMPLES = 64, 10, 8


def full_batch() -> MaskedBatch:
    """Samples of full length, the same number of masked positions in each."""
    tokens = LENGTH * SAMPLES
    ids = torch.randint(5, VOCAB_SIZE, (tokens,), generator=torch.Generator().manual_seed(0))
    positions = torch.cat([start + torch.arange(1, MASKED + 1) for start in range(0, tokens, LENGTH)])
    return MaskedBatch(
        input_ids=ids,
        generator_ids=ids,
        token_type_ids=torch.zeros_like(ids),
        position_ids=torch.arange(LENGTH).repeat(SAMPLES),
        cu_seqlens=torch.arange(0, tokens + 1, LENGTH, dtype=torch.int32),
        masked_positions=positions,
        replacement_uniforms=torch.full((len(positions),), 0.5, dtype=torch.float64),
        lengths=(LENGTH,) * SAMPLES,
        global_masked=float(len(positions)),
        global_tokens=float(tokens),
        index=0,
        sample_ids=(),
    )


@pytest.mark.parametrize("objective_name", sorted(OBJECTIVES))
def test_operations_are_those_that_torch_counts(objective_name: str) -> None:
    config = tiny_config(objective=objective_name, mask_prob=MASKED / LENGTH)
    objective, batch = build_objective(config.model, VOCAB_SIZE, seed=0), full_batch()
    with FlopCounterMode(display=False) as counter:
        objective(batch)[0].backward()
    expected = training_flops_per_token(config, VOCAB_SIZE, LENGTH) * LENGTH * SAMPLES
    assert counter.get_total_flops() == pytest.approx(expected, rel=1e-3)


def test_operations_by_hand() -> None:
    """`tiny` at length 64, vocabulary 500: widths 64 and 32, embeddings 32, two layers each."""
    config = tiny_config()
    discriminator = 2 * (8 * 64**2 + 4 * 64 * 256 + 4 * 64 * 64) + 2 * 32 * 64 + 2 * 64**2 + 2 * 64
    generator = 2 * (8 * 32**2 + 4 * 32 * 128 + 4 * 64 * 32) + 0.15 * 2 * 32 * (32 + 500)
    assert training_flops_per_token(config, 500, 64) == pytest.approx(3 * (discriminator + generator), rel=1e-12)


@pytest.mark.parametrize("objective_name", sorted(OBJECTIVES))
def test_parameters_are_counted_once_where_they_are_owned(objective_name: str) -> None:
    objective = build_objective(tiny_config(objective=objective_name).model, VOCAB_SIZE, seed=0)
    counts = count_parameters(objective)
    assert sum(counts.values()) == sum(parameter.numel() for parameter in objective.parameters())
    assert counts["embeddings"] == (VOCAB_SIZE + 512 + 2 + 2) * 32
    predictor = 32 if objective_name == "electra" else 64
    assert counts["generator_head"] == predictor * 32 + 32 + 2 * 32 + VOCAB_SIZE  # the tied table is not its own


@pytest.mark.parametrize(
    "settings, world_size, bytes_per_parameter",
    [
        ({}, 1, 4 + 4 + 8),
        ({}, 4, 4 + 4 + 8),
        ({"zero_optimization": {"stage": 1}}, 4, 4 + 4 + 8 / 4),
        ({"zero_optimization": {"stage": 2}}, 4, 4 + 4 / 4 + 8 / 4),
        ({"zero_optimization": {"stage": 3}}, 4, (4 + 4 + 8) / 4),
        ({"zero_optimization": {"stage": 1}, "bf16": {"enabled": True}}, 4, 2 + 2 + 12 / 4),
        ({"zero_optimization": {"stage": 3}, "fp16": {"enabled": True}}, 2, (2 + 2 + 12) / 2),
    ],
)
def test_bytes_of_states(settings: dict, world_size: int, bytes_per_parameter: float) -> None:
    assert state_bytes(1000, settings, world_size) == pytest.approx(1000 * bytes_per_parameter)


def test_activations_grow_with_the_micro_batch_and_halve_in_half_precision() -> None:
    config, half = tiny_config(), {"bf16": {"enabled": True}}
    assert activation_bytes(config, {}, 8) == 8 * activation_bytes(config, {}, 1) > 0
    assert activation_bytes(config, half, 1) == activation_bytes(config, {}, 1) / 2


def test_the_text_of_a_run() -> None:
    config = tiny_config(train_iters=1000, global_batch_size=16, deepspeed_config="folder/mine.json")
    objective = build_objective(config.model, VOCAB_SIZE, seed=0)
    settings = {"zero_optimization": {"stage": 2}, "bf16": {"enabled": True}}
    merged = merge_ds_config(settings, micro=4, accumulation=2, world=2, clip=1.0)
    text = describe_run(config, objective, merged, world_size=2, first_step=300)
    assert "tiny electra, vocabulary 500, length 64" in text
    assert "4 samples x 2 ranks x 2 accumulation = 16 samples a step; steps 300 to 1,000" in text
    assert f"at most {1000 * 16 * 64:,} word pieces" in text
    assert "ZeRO stage 2, bf16 (mine.json); memory of a rank, estimated: " in text
    for name, count in count_parameters(objective).items():
        assert f"{name} " in text and f"{count:,}" in text
    assert "attention_by_sample" in text or "attention_jagged" in text
    assert "train_batch_size" not in text  # the JSON is printed by --dry-run alone


def test_a_dry_run_prints_the_json_that_deepspeed_gets() -> None:
    config = tiny_config(dry_run=True, deepspeed_config="mine.json")
    merged = merge_ds_config({"zero_optimization": {"stage": 1}}, micro=16, accumulation=1, world=1, clip=1.0)
    text = describe_run(config, build_objective(config.model, VOCAB_SIZE, seed=0), merged, world_size=1)
    assert json.loads(text.split("DeepSpeed JSON\n")[1]) == merged


def test_columns_line_up() -> None:
    assert table([("a", "1"), ("long name", "22")]) == "  a          1\n  long name  22"
