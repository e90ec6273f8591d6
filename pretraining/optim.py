"""Optimizer settings as pure functions: parameter groups and the learning rate of a step (ELECTRA's `optimization.py`).

Adam with decoupled decay 0.01, epsilon 1e-6 outside the square root and no bias correction is DeepSpeed's `FusedAdam`
(engine.py makes it): it runs on CPUs and GPUs at every ZeRO stage; torch's AdamW cannot leave out the correction.
"""

from typing import Any

from torch import nn


def learning_rate(step: int, peak: float, warmup_steps: int, total_steps: int) -> float:
    """Learning rate of the optimizer step with this number, from 0: linear decay and linear warm-up, *multiplied*.

    As in the reference, step 0 has rate 0 if there is a warm-up: peak * (1 - t/T) * min(1, t/warmup).
    """
    warmup = min(1.0, step / warmup_steps) if warmup_steps else 1.0
    return peak * max(0.0, 1.0 - step / total_steps) * warmup


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: decayed (matrices and embeddings) and not (biases and LayerNorm), as the reference excludes by
    name.
    """
    norms = {id(p) for child in module.modules() if isinstance(child, nn.LayerNorm) for p in child.parameters()}
    decayed, undecayed = [], []
    for name, parameter in module.named_parameters():
        (undecayed if name.endswith("bias") or id(parameter) in norms else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": undecayed, "weight_decay": 0.0}]
