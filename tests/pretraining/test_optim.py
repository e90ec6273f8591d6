"""Learning rates as numbers, parameter groups, and the published recipes and sizes as data."""

import pytest
import torch
from torch import nn

from pretraining.config import PRESETS, OptimizerConfig
from pretraining.objectives import build_objective
from pretraining.optim import Lamb, learning_rate, parameter_groups
from pretraining.plan import count_parameters
from tests.tiny import tiny_config

PUBLISHED_VOCABULARY = 30_522

# Clark et al., ICLR 2020, tables 6 and 7, `configure_pretraining.py` and `training_utils.py` of the reference code.
RECIPES = {
    "small": {
        "num_layers": 12, "hidden_size": 256, "ffn_hidden_size": 1024, "num_attention_heads": 4,
        "embedding_size": 128,
        "mask_prob": 0.15, "seq_length": 128, "global_batch_size": 128, "train_iters": 1_000_000, "lr": 5e-4,
    },
    "base": {
        "num_layers": 12, "hidden_size": 768, "ffn_hidden_size": 3072, "num_attention_heads": 12,
        "embedding_size": 768,
        "mask_prob": 0.15, "seq_length": 512, "global_batch_size": 256, "train_iters": 766_000, "lr": 2e-4,
    },
    "large": {
        "num_layers": 24, "hidden_size": 1024, "ffn_hidden_size": 4096, "num_attention_heads": 16,
        "embedding_size": 1024,
        "mask_prob": 0.25, "seq_length": 512, "global_batch_size": 2048, "train_iters": 400_000, "lr": 2e-4,
    },
}  # fmt: skip
GENERATORS = {"small": (64, 256, 1), "base": (256, 1024, 4), "large": (256, 1024, 4)}  # width, feed-forward, heads
# Millions of parameters: of the published model, and what the generator adds to it.
MILLIONS = {"small": (13.5, 0.6), "base": (109.5, 9.9), "large": (335.1, 19.5)}


@pytest.mark.parametrize("preset", RECIPES)
def test_presets_are_the_paper_s(preset: str) -> None:
    assert {name: PRESETS[preset][name] for name in RECIPES[preset]} == RECIPES[preset]
    assert PRESETS[preset]["lr_warmup_iters"] == 10_000
    model = tiny_config(preset=preset).model
    generator = model.generator_hidden_size, model.generator_ffn_hidden_size, model.generator_num_attention_heads
    assert generator == GENERATORS[preset]


def test_defaults_are_the_reference_s() -> None:
    config = tiny_config(preset="small", hidden_dropout=0.1, attention_dropout=0.1)
    optimizer, model, data = config.optimizer, config.model, config.data
    assert (optimizer.adam_beta1, optimizer.adam_beta2, optimizer.adam_eps) == (0.9, 0.999, 1e-6)
    assert (optimizer.weight_decay, optimizer.clip_grad, optimizer.adam_bias_correction) == (0.01, 1.0, False)
    assert (model.generator_loss_weight, model.discriminator_loss_weight, model.sampling_temperature) == (
        1.0,
        50.0,
        1.0,
    )
    assert (model.layernorm_epsilon, model.init_method_std, model.max_position_embeddings) == (1e-12, 0.02, 512)
    assert (data.short_seq_prob, data.one_segment_prob) == (0.05, 0.1)
    defaults = type(model)()
    assert (defaults.hidden_dropout, defaults.attention_dropout, defaults.preset) == (0.1, 0.1, "small")


@pytest.mark.parametrize("preset", MILLIONS)
def test_numbers_of_parameters_are_the_published_ones(preset: str) -> None:
    with torch.device("meta"):
        objective = build_objective(tiny_config(preset=preset).model, PUBLISHED_VOCABULARY, seed=0)
    counts = count_parameters(objective)
    main = counts["embeddings"] + counts["encoder"] + counts["discriminator_head"]
    extra = counts["generator"] + counts["generator_head"]
    assert (round(main / 1e6, 1), round(extra / 1e6, 1)) == MILLIONS[preset]
    assert sum(counts.values()) == sum(parameter.numel() for parameter in objective.parameters())


def test_learning_rates_as_numbers() -> None:
    """Warm-up and decay multiply, and step 0 has rate 0."""
    rates = [learning_rate(step, 1.0, 4, 10) for step in range(11)]
    assert rates == pytest.approx([0, 0.9 / 4, 0.8 * 2 / 4, 0.7 * 3 / 4, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0], abs=1e-15)
    assert learning_rate(5_000, 5e-4, 10_000, 1_000_000) == pytest.approx(5e-4 * 0.5 * 0.995, rel=1e-12)
    assert learning_rate(10_000, 5e-4, 10_000, 1_000_000) == pytest.approx(5e-4 * 0.99, rel=1e-12)
    assert learning_rate(999_999, 5e-4, 10_000, 1_000_000) == pytest.approx(5e-10, rel=1e-9)
    assert learning_rate(2_000_000, 5e-4, 10_000, 1_000_000) == 0.0


def test_without_warm_up_the_first_rate_is_the_peak() -> None:
    assert [learning_rate(step, 2.0, 0, 4) for step in range(5)] == [2.0, 1.5, 1.0, 0.5, 0.0]


@pytest.mark.parametrize("objective_name", ["electra", "mlm"])
def test_decay_is_on_matrices_and_embeddings_only(objective_name: str) -> None:
    objective = build_objective(tiny_config(objective=objective_name).model, 100, seed=0)
    decayed, undecayed = parameter_groups(objective, 0.01)
    assert decayed["weight_decay"] == 0.01 and undecayed["weight_decay"] == 0.0
    names = {id(parameter): name for name, parameter in objective.named_parameters()}
    both = [id(parameter) for group in (decayed, undecayed) for parameter in group["params"]]
    assert sorted(both) == sorted(names)  # every parameter in one group, the tied table once
    for parameter in decayed["params"]:
        name = names[id(parameter)]
        assert name.endswith("weight") and "norm" not in name and parameter.dim() == 2, name
    for parameter in undecayed["params"]:
        assert names[id(parameter)].endswith("bias") or "norm" in names[id(parameter)]
    kept = {names[id(parameter)] for parameter in decayed["params"]}
    assert {"embeddings.word.weight", "embeddings.position.weight", "embeddings.token_type.weight"} <= kept
    norms = sum(isinstance(child, nn.LayerNorm) for child in objective.modules())
    assert sum("norm" in names[id(parameter)] for parameter in undecayed["params"]) == 2 * norms


def test_optimizer_fields_are_flags_with_the_published_names() -> None:
    assert {"lr", "weight_decay", "clip_grad", "adam_eps", "lr_warmup_iters"} <= set(vars(OptimizerConfig()))


def lamb_in_float64(weights: torch.Tensor, gradients: list, settings: dict) -> torch.Tensor:
    """Algorithm 2 of You et al. (ICLR 2020) written out for one tensor, in float64; phi is the identity."""
    x, m, v = weights.double(), torch.zeros_like(weights).double(), torch.zeros_like(weights).double()
    beta1, beta2 = settings["betas"]
    for step, gradient in enumerate(gradients, start=1):
        g = gradient.double()
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        scale = (1 - beta1**step, 1 - beta2**step) if settings["bias_correction"] else (1, 1)
        r = (m / scale[0]) / ((v / scale[1]) ** 0.5 + settings["eps"])
        direction = r + settings["weight_decay"] * x
        norms = float((x**2).sum()) ** 0.5, float((direction**2).sum()) ** 0.5
        ratio = norms[0] / norms[1] if settings["weight_decay"] and norms[0] > 0 and norms[1] > 0 else 1.0
        x = x - settings["lr"] * ratio * direction
    return x


@pytest.mark.parametrize("bias_correction", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
@pytest.mark.parametrize("start", ["random", "zero"])
def test_lamb_is_the_paper_s(bias_correction: bool, weight_decay: float, start: str) -> None:
    generator = torch.Generator().manual_seed(5)
    weights = torch.randn(7, 5, generator=generator) * (start == "random")
    gradients = [torch.randn(7, 5, generator=generator) for _ in range(5)]
    settings = {"lr": 0.1, "betas": (0.9, 0.999), "eps": 1e-6, "weight_decay": weight_decay}
    settings["bias_correction"] = bias_correction
    parameter = nn.Parameter(weights.clone())
    group = {"params": [parameter], "weight_decay": weight_decay}
    optimizer = Lamb([group], bias_correction=bias_correction)
    optimizer.param_groups[0]["lr"] = 0.1
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
    torch.testing.assert_close(parameter.double(), lamb_in_float64(weights, gradients, settings), rtol=1e-5, atol=1e-6)


@pytest.mark.gpu
def test_lamb_is_deepspeed_s() -> None:
    """DeepSpeed's kernel, which runs on GPUs only; its bounds of the ratio, 0.01 and 10, are not reached here."""
    from deepspeed.ops.lamb import FusedLamb

    generator = torch.Generator().manual_seed(6)
    weights = torch.randn(33, 9, generator=generator).cuda()
    pair = [nn.Parameter(weights.clone()) for _ in range(2)]
    theirs = FusedLamb([pair[0]], lr=0.01, bias_correction=True, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.01)
    ours = Lamb([{"params": [pair[1]], "weight_decay": 0.01}], bias_correction=True)
    ours.param_groups[0]["lr"] = 0.01
    for _ in range(5):
        gradient = torch.randn(33, 9, generator=generator).cuda()
        for parameter, optimizer in zip(pair, (theirs, ours), strict=True):
            parameter.grad = gradient.clone()
            optimizer.step()
    torch.testing.assert_close(pair[1], pair[0], rtol=1e-4, atol=1e-5)
