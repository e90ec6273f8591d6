"""Memory of a rank against real tensors: DeepSpeed's own on two ranks to the byte, autograd's within 15 %."""

import pytest
import torch

from pretraining import engine as engine_module
from pretraining.config import Config
from pretraining.ds_config import (
    REPOSITORY,
    load_ds_config,
    merge_ds_config,
    offloads_optimizer,
    offloads_parameters,
)
from pretraining.model import recompute_activations
from pretraining.objectives import OBJECTIVES, build_objective
from pretraining.plan_memory import (
    activation_bytes,
    checkpoint_bytes,
    count_parameters,
    group_sizes,
    meta_objective,
    state_bytes,
)
from tests.distributed import run_distributed
from tests.full_batch import full_batch
from tests.tiny import VOCAB_SIZE, tiny_config

# DeepSpeed has no fp16 on CPUs without such instructions; its bookkeeping is bf16's of stage 2.
CONFIGS = ["zero0_fp32", "zero1_fp32", "zero2_fp32", "zero3_fp32", "zero1_bf16", "zero2_bf16", "zero3_bf16",
           "zero2_bf16_offload", "zero3_bf16_offload", "zero2_fp32 offload"]  # fmt: skip


def settings_of(name: str) -> dict:
    """A file of ds_configs/, or one whose optimizer is moved to the host."""
    file, _, offload = name.partition(" ")
    settings = load_ds_config(REPOSITORY / "ds_configs" / f"{file}.json")
    if offload:
        settings["zero_optimization"]["offload_optimizer"] = {"device": "cpu"}
    return settings


def bytes_of(tensors: list[torch.Tensor]) -> int:
    """Bytes of the storages behind these tensors, each once."""
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


def gradients_kept(optimizer: object, objective: torch.nn.Module) -> list[torch.Tensor]:
    """The gradients that DeepSpeed holds before a step, wherever its optimizers keep them."""
    kept = [p.grad for p in objective.parameters() if p.grad is not None]
    kept += getattr(optimizer, "fp32_groups_gradients_flat", [])  # BF16_Optimizer
    for part in getattr(optimizer, "averaged_gradients", {}).values():  # stages 1 to 3
        kept += [gradient for gradient in part or [] if gradient is not None]
    if hasattr(optimizer, "grad_partitions_flat_buffer"):  # stage 3
        kept.append(optimizer.grad_partitions_flat_buffer)
    return [gradient for gradient in kept if isinstance(gradient, torch.Tensor)]


def moved_to_the_host(optimizer: object) -> list[torch.Tensor]:
    """What DeepSpeed keeps on the CPU besides master copy and moments where the JSON offloads the optimizer."""
    masters = getattr(optimizer, "single_partition_of_fp32_groups", [])  # stage 2
    kept = [*masters, *getattr(optimizer, "fp32_partitioned_groups_flat", [])]
    kept = [tensor.grad for tensor in kept if tensor.grad is not None]
    if hasattr(optimizer, "accumulated_grads_in_cpu"):
        kept += [*optimizer.accumulated_grads_in_cpu.values(), *optimizer.param_buffer_of_bit16_for_cpu_offload_groups]
        kept.append(optimizer.temp_grad_buffer_for_cpu_offload)
    return kept


def measure_states(names: list[str]) -> list[tuple[int, int, int, int]]:
    """Bytes of (weights, gradients, master copy and moments, the host's) on this rank, after two micro-batches of a
    second step. On CPU ranks what is offloaded lies beside the rest: it is told apart by its names.
    """
    results = []
    engine_module.start_ranks()
    for name in names:
        config = tiny_config()
        objective = build_objective(config.model, VOCAB_SIZE, seed=0)
        settings = settings_of(name)
        merged = merge_ds_config(settings, micro=8, accumulation=2, world=2, clip=1.0)
        if "zero_optimization" in merged:
            merged["zero_optimization"]["reduce_bucket_size"] = 1_000_000
        engine = engine_module.initialize(objective, config.optimizer, merged, torch.device("cpu"))
        for step in range(2):
            for micro in range(2):
                engine.deepspeed.backward(engine.deepspeed(full_batch(16, 2, 3))[0])
                if (step, micro) != (1, 1):
                    engine.deepspeed.step()
        optimizer = engine.deepspeed.optimizer
        inner = getattr(optimizer, "optimizer", optimizer)
        weights = [getattr(p, "ds_tensor", p.data) for p in objective.parameters()]
        states = [t for state in inner.state.values() for key, t in state.items() if key in ("exp_avg", "exp_avg_sq")]
        if engine.stage:
            states += (
                getattr(optimizer, "fp32_partitioned_groups_flat", None)
                or getattr(optimizer, "single_partition_of_fp32_groups", None)
                or optimizer.fp32_groups_flat_partition
            )
        gradients, host = gradients_kept(optimizer, objective), []
        if offloads_optimizer(settings):
            host = [*states, *moved_to_the_host(optimizer)]
            if engine.stage == 3:
                host, gradients = [*host, *gradients], []
            else:
                gradients.append(optimizer.temp_grad_buffer_for_gpu_offload)
            states = []
        if offloads_parameters(settings):
            host, weights = [*host, *weights], []
        results.append(tuple(map(bytes_of, (weights, gradients, states, host))))
    return results


def test_states_are_those_of_deepspeed_to_the_byte() -> None:
    ranks = run_distributed(measure_states, 2, CONFIGS, timeout_s=240)
    objective = build_objective(tiny_config().model, VOCAB_SIZE, seed=0)
    for number, name in enumerate(CONFIGS):
        expected = state_bytes(group_sizes(objective), settings_of(name), 2)
        measured = [max(rank[number][part] for rank in ranks) for part in range(4)]
        assert measured == [expected.weights, expected.gradients, expected.optimizer, expected.host], name


SHAPES = {
    "tiny": ({"preset": "tiny"}, 64, 8, 500),
    "small": ({"preset": "small", "seq_length": 128}, 128, 2, 8000),
    "base-like": ({"preset": "base", "num_layers": 3}, 512, 1, 30522),
}


def saved_bytes(config: Config, length: int, samples: int, vocab_size: int) -> int:
    """Bytes of the storages that autograd saves in a forward pass, parameters and the batch itself not counted."""
    objective = build_objective(config.model, vocab_size, seed=0)
    if config.run.recompute_activations:
        recompute_activations(objective)
    batch = full_batch(length, samples, round(config.data.mask_prob * length), vocab_size)
    known = {p.untyped_storage().data_ptr() for p in objective.parameters()}
    known |= {t.untyped_storage().data_ptr() for t in batch if isinstance(t, torch.Tensor)}
    saved: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss, _ = objective(batch)
    total = sum(t.untyped_storage().nbytes() for address, t in saved.items() if address not in known)
    assert loss.requires_grad
    return total


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
@pytest.mark.parametrize("shape", ["tiny", "small", pytest.param("base-like", marks=pytest.mark.slow)])
def test_activations_are_what_autograd_saves(shape: str, objective: str, dropout: float) -> None:
    settings, length, samples, vocab_size = SHAPES[shape]
    config = tiny_config(**settings, objective=objective, hidden_dropout=dropout, attention_dropout=dropout)
    expected = activation_bytes(config, vocab_size, {}, samples, "cpu")
    measured = saved_bytes(config, length, samples, vocab_size)
    assert expected == pytest.approx(measured, rel=0.15)
    assert activation_bytes(config, vocab_size, {}, 2 * samples, "cpu") == pytest.approx(2 * expected, rel=0.02)


def test_recomputed_activations_are_the_layers_inputs_and_one_layer() -> None:
    config = tiny_config(objective="mlm", num_layers=4)
    kept = activation_bytes(config, VOCAB_SIZE, {}, 8, "cpu")
    config.model.num_layers = 5
    layer = activation_bytes(config, VOCAB_SIZE, {}, 8, "cpu") - kept
    config.model.num_layers, config.run.recompute_activations = 4, True
    inputs = (
        4 * (8 * config.data.seq_length) * config.model.hidden_size * 4
    )  # checkpoint holds them outside of autograd
    measured = saved_bytes(config, config.data.seq_length, 8, VOCAB_SIZE)
    expected = activation_bytes(config, VOCAB_SIZE, {}, 8, "cpu")
    assert expected == pytest.approx(measured + inputs + layer, rel=0.15)
    assert expected < 0.6 * kept


@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
def test_parameters_without_numbers_are_the_real_ones(objective: str) -> None:
    config = tiny_config(objective=objective).model
    real, meta = build_objective(config, VOCAB_SIZE, seed=0), meta_objective(config, VOCAB_SIZE)
    assert count_parameters(meta) == count_parameters(real)
    assert group_sizes(meta) == group_sizes(real)
    assert checkpoint_bytes(sum(map(sum, group_sizes(meta)))) == 12 * sum(p.numel() for p in real.parameters())
