"""What a run says before it starts: parameters, operations against torch's own count, memory, batch arithmetic."""

import json

import pytest
from torch.utils.flop_counter import FlopCounterMode

from pretraining.ds_config import merge_ds_config
from pretraining.objectives import OBJECTIVES, build_objective
from pretraining.plan import count_parameters, describe_run, table, training_flops_per_token
from tests.full_batch import full_batch
from tests.tiny import VOCAB_SIZE, tiny_config

LENGTH, MASKED, SAMPLES = 64, 10, 8


@pytest.mark.parametrize("objective_name", sorted(OBJECTIVES))
def test_operations_are_those_that_torch_counts(objective_name: str) -> None:
    config = tiny_config(objective=objective_name, mask_prob=MASKED / LENGTH)
    objective, batch = build_objective(config.model, VOCAB_SIZE, seed=0), full_batch(LENGTH, SAMPLES, MASKED)
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
    assert "attention_written_out" in text or "attention_jagged" in text
    assert "train_batch_size" not in text  # the JSON is printed by --dry-run alone


def test_a_dry_run_prints_the_json_that_deepspeed_gets() -> None:
    config = tiny_config(dry_run=True, deepspeed_config="mine.json")
    merged = merge_ds_config({"zero_optimization": {"stage": 1}}, micro=16, accumulation=1, world=1, clip=1.0)
    text = describe_run(config, build_objective(config.model, VOCAB_SIZE, seed=0), merged, world_size=1)
    assert json.loads(text.split("DeepSpeed JSON\n")[1]) == merged


def test_columns_line_up() -> None:
    assert table([("a", "1"), ("long name", "22")]) == "  a          1\n  long name  22"
