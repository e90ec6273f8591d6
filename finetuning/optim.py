"""Which weights a finetuning changes, and how fast. Nothing to run here; used by finetuning.loop.

1. The lowest layers may stay as they are (`--freeze-layers`), the top ones may start anew (`--reinit-layers`).
2. AdamW, with a learning rate for each layer: the head's, less by a factor for every layer down.
3. All learning rates rise linearly from 0 to their peak and fall linearly to 0.
4. Without Adam's bias correction where asked (`--no-bias-correction`), as google-research/electra has it.
"""

import re

import torch
from torch import nn

from finetuning.config import FinetuneConfig

BETAS = (0.9, 0.999)  # Adam's, everywhere in the BERT family
LAYER = re.compile(r"\.(?:layers?|albert_layer_groups)\.(\d+)\.")


def layer_depths(names: list[str], prefix: str) -> dict[str, int]:
    """Depth of each parameter: embeddings 0, layer i (from 0) i + 1, head the number of layers + 1.

    `prefix` is the model's `base_model_prefix`: what does not start with it is the head. Parts of the encoder
    that are neither embeddings nor a numbered layer (a last normalisation) go with the top layer. ALBERT's
    shared layers are one.
    """
    numbers = {name: int(found[1]) for name in names if name.startswith(prefix + ".") and (found := LAYER.search(name))}
    top = max(numbers.values(), default=-1) + 1
    depths = {}
    for name in names:
        if not name.startswith(prefix + "."):
            depths[name] = top + 1
        elif name in numbers:
            depths[name] = numbers[name] + 1
        else:
            depths[name] = 0 if "embedding" in name else top
    return depths


def model_depths(model: nn.Module) -> dict[str, int]:
    """`layer_depths` of a model's parameters; a network of our own says with `base_model_prefix`, as those of
    transformers do, which of its attributes is the encoder.
    """
    return layer_depths([name for name, _ in model.named_parameters()], getattr(model, "base_model_prefix", ""))


def layer_learning_rates(depths: dict[str, int], config: FinetuneConfig) -> dict[str, float]:
    """Peak learning rate of each parameter: config.learning_rate for the head, less by the decay for each
    layer down.

    With the reference's exponent everything below the head is one decay lower: a pooler that
    google-research/electra no longer has is still counted (its issues 51 and 64).
    """
    head = max(depths.values())
    extra = int(config.reference_layer_decay_exponent)
    steps_down = {name: head - depth + (extra if depth < head else 0) for name, depth in depths.items()}
    return {name: config.learning_rate * config.layer_decay**steps for name, steps in steps_down.items()}


def prepare_layers(model: nn.Module, config: FinetuneConfig) -> None:
    """Freeze and re-initialise the layers that `config` names; draws from torch's current seed.

    ValueError if the model has fewer layers.
    """
    if not config.freeze_layers and not config.reinit_layers:
        return
    depths = model_depths(model)
    layers = max(depths.values()) - 1
    asked = config.freeze_layers + config.reinit_layers
    if asked > layers:
        shared = " (ALBERT's shared ones count once)" if "albert" in getattr(model, "base_model_prefix", "") else ""
        raise ValueError(
            f"--freeze-layers {config.freeze_layers} and --reinit-layers {config.reinit_layers} are {asked} layers, "
            f"but the model has {layers}{shared}"
        )
    if config.reinit_layers:
        reinitialise(model, layers - config.reinit_layers)
    for name, parameter in model.named_parameters():
        if config.freeze_layers and depths[name] <= config.freeze_layers:
            parameter.requires_grad_(False)


@torch.no_grad()
def reinitialise(model: nn.Module, kept: int) -> None:
    """Draw the encoder's layers above the lowest `kept` anew, by the architecture's own rule, and its pooler.

    A pooler was trained with the top layer for a pretraining objective, so it goes too, as in "Revisiting
    Few-sample BERT Fine-tuning" (arXiv:2006.05987).
    """
    encoder = getattr(model, model.base_model_prefix)
    for name, module in encoder.named_modules():
        found = LAYER.search(f".{name}.")
        if (found and int(found[1]) >= kept) or f".{name}.".startswith(".pooler."):
            for parameter in module.parameters(recurse=False):
                parameter._is_hf_initialized = False  # transformers leaves alone what it has loaded
        else:
            continue
        encoder._init_weights(module)


def make_optimizer(model: nn.Module, config: FinetuneConfig) -> torch.optim.AdamW:
    """AdamW over what is trained, with one group for each (peak learning rate, weight decay)."""
    depths = model_depths(model)
    assert config.layer_decay == 1 or len(set(depths.values())) > 1, "the model's base_model_prefix is not set"
    rates = layer_learning_rates(depths, config)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decay = config.weight_decay if parameter.ndim > 1 else 0.0  # biases and normalisation weights are vectors
            groups.setdefault((rates[name], decay), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": group, "lr": rate, "weight_decay": decay, "peak": rate, "decay": decay}
            for (rate, decay), group in groups.items()
        ],
        betas=BETAS,
        eps=config.adam_epsilon,
        fused=True,  # one pass over the weights, on CPUs too
    )


def schedule_factor(step: int, total: int, warmup_fraction: float) -> float:
    """Learning rate of step 0, 1, ... total - 1 as a share of the peak: linear up, then down."""
    warmup = int(total * warmup_fraction)
    if step < warmup:
        return (step + 1) / warmup
    return (total - step) / max(1, total - warmup)


def set_step(optimizer: torch.optim.AdamW, step: int, total: int, config: FinetuneConfig) -> None:
    """Set what the next `optimizer.step()`, number `step` from 0, uses.

    torch's AdamW always corrects the bias of its means m and v:

        w <- w - lr * decay * w - lr * (m / c1) / (sqrt(v / c2) + eps),    c1 = 1 - beta1^t, c2 = 1 - beta2^t.

    With eps / sqrt(c2) for eps, lr * c1 / sqrt(c2) for lr and decay * sqrt(c2) / c1 for the decay the same
    formula is w <- w - lr * decay * w - lr * m / (sqrt(v) + eps): the one without correction, exactly.
    """
    factor = schedule_factor(step, total, config.warmup_fraction)
    ratio, root = 1.0, 1.0
    if not config.bias_correction:
        root = (1 - BETAS[1] ** (step + 1)) ** 0.5
        ratio = (1 - BETAS[0] ** (step + 1)) / root
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor * ratio
        group["weight_decay"] = group["decay"] / ratio
        group["eps"] = config.adam_epsilon / root
