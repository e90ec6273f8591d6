"""Parameter groups and the learning rate of a step as pure functions (ELECTRA's `optimization.py`), and LAMB.

Adam with decoupled decay 0.01, epsilon 1e-6 outside the square root and no bias correction is DeepSpeed's `FusedAdam`
(engine.py makes it): it runs on CPUs and GPUs at every ZeRO stage; torch's AdamW cannot leave out the correction.
LAMB is ours, because DeepSpeed's runs on GPUs only.
"""

from collections.abc import Callable
from typing import Any

import torch
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


class Lamb(torch.optim.Optimizer):
    """LAMB for large batches (You et al., ICLR 2020, algorithm 2): Adam's step, scaled to the norm of each tensor.

    Whole fp32 tensors only: a rank that holds a slice knows no norm of the tensor. As in the authors' code, tensors
    without decay (biases, LayerNorm) are not scaled, and neither is one whose weights or step are all zero.
    """

    def __init__(
        self,
        parameters: list[dict[str, Any]],
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        bias_correction: bool = False,
    ):
        super().__init__(parameters, {"lr": 0.0, "betas": betas, "eps": eps, "bias_correction": bias_correction})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        """One step of every parameter that has a gradient; nothing waits for the device."""
        assert closure is None, "the engine computes the loss"
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step_one(parameter, group)

    def _step_one(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        state, gradient, (beta1, beta2) = self.state[parameter], parameter.grad, group["betas"]
        if not state:
            state.update(step=0, exp_avg=torch.zeros_like(parameter), exp_avg_sq=torch.zeros_like(parameter))
        state["step"] += 1
        first = state["exp_avg"].mul_(beta1).add_(gradient, alpha=1 - beta1)
        second = state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        if group["bias_correction"]:
            first = first / (1 - beta1 ** state["step"])
            second = second / (1 - beta2 ** state["step"])
        update = first / second.sqrt().add_(group["eps"])
        if group["weight_decay"]:
            update.add_(parameter, alpha=group["weight_decay"])
            of_weights, of_update = parameter.norm(), update.norm()
            ratio = torch.where((of_weights > 0) & (of_update > 0), of_weights / of_update, 1.0)
            update.mul_(ratio)
        parameter.add_(update, alpha=-group["lr"])
