"""The planner's tables and its plot.

Steps: (1) `Plan` holds what is planned; (2) `memory_table` and `scaling_rows` compute; (3) `describe_plan` writes
Markdown; (4) `plot_scaling` draws the speed-up.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from pretraining.config import Config, batch_arithmetic
from pretraining.ds_config import offloads_optimizer, offloads_parameters, precision, zero_stage
from pretraining.plan_memory import (
    activation_bytes,
    checkpoint_bytes,
    count_parameters,
    group_sizes,
    state_bytes,
)
from pretraining.plan_time import (
    GPUS,
    Cluster,
    StepTime,
    network_bytes,
    network_limit,
    scaling,
    step_seconds,
    training_flops_per_token,
)

GIB = 2**30
MOST_GPUS = 1024
USABLE_MEMORY = 0.9  # the rest is CUDA's, the allocator's and the libraries'


@dataclass(frozen=True)
class Plan:
    """What is planned: the run, its cluster, what a GPU of it reaches and why that is thought."""

    config: Config
    settings: dict[str, Any]
    objective: nn.Module
    vocab_size: int
    length: float  # mean word pieces of a sample
    gpus: int
    gpu: str
    cluster: Cluster
    basis: str
    price: float | None

    @property
    def parameters(self) -> int:
        return sum(map(sum, group_sizes(self.objective)))

    def step(self, gpus: int) -> StepTime:
        sizes = (self.parameters, self.vocab_size)
        return step_seconds(self.config, self.settings, sizes, self.length, self.cluster, gpus)

    def hours(self, step: StepTime) -> float:
        return self.config.optimizer.train_iters * step.total / 3600


def markdown(header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    """A Markdown table, numbers to the right."""
    lines = [header, ("---", *["---:"] * (len(header) - 1)), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def memory_table(plan: Plan) -> str:
    """Memory of a rank in GiB by ZeRO stage, at the precision of the plan; the host's where the JSON offloads."""
    rows, groups = [], group_sizes(plan.objective)
    micro, kind = plan.config.optimizer.micro_batch_size, precision(plan.settings)
    activations = activation_bytes(plan.config, plan.vocab_size, plan.settings, micro, "cuda")
    limit = USABLE_MEMORY * GPUS[plan.gpu][2] * 1e9
    offloads = offloads_optimizer(plan.settings) or offloads_parameters(plan.settings)
    lowest = 1 if kind in ("bf16", "fp16") else 0  # what ds_config.py does not refuse
    if offloads:
        lowest = 3 if offloads_parameters(plan.settings) else 2
    for stage in range(lowest, 4):
        zero = plan.settings.get("zero_optimization", {}) | {"stage": stage}
        states = state_bytes(groups, plan.settings | {"zero_optimization": zero}, plan.gpus)
        parts = [states.weights, states.gradients, states.optimizer, states.buffers, activations]
        here = " (this plan)" if stage == zero_stage(plan.settings) else ""
        fits = "yes" if sum(parts) <= limit else "no"
        host = [f"{states.host / GIB:.2f}"] if offloads else []
        rows.append((f"{stage}{here}", *(f"{part / GIB:.2f}" for part in [*parts, sum(parts)]), fits, *host))
    header = ("ZeRO stage", "weights", "gradients", "optimizer", "buffers", "activations", "total", "fits")
    return markdown((*header, *(["of the host"] if offloads else [])), rows)


def scaling_rows(plan: Plan) -> list[tuple[int, StepTime, float]]:
    """(GPUs, step time, efficiency) to 1,024 GPUs, the global batch unchanged."""
    sizes = (plan.parameters, plan.vocab_size)
    times = scaling(plan.config, plan.settings, sizes, plan.length, plan.cluster, MOST_GPUS)
    return [(gpus, time, times[0][1].total / (gpus * time.total)) for gpus, time in times]


def describe_plan(plan: Plan) -> str:
    """The plan as Markdown."""
    config, optimizer, step = plan.config, plan.config.optimizer, plan.step(plan.gpus)
    counts, hours = count_parameters(plan.objective), plan.hours(step)
    tokens = optimizer.train_iters * optimizer.global_batch_size * plan.length
    work = tokens * training_flops_per_token(config, plan.vocab_size, plan.length)
    micro, accumulation = batch_arithmetic(optimizer, plan.gpus)
    sent = network_bytes(plan.parameters, plan.settings, plan.gpus, accumulation)
    sizes = (plan.parameters, plan.vocab_size)
    limit = network_limit(config, plan.settings, sizes, plan.length, plan.cluster)
    network = f"{plan.cluster.network_bytes_per_second * 8 / 1e9:g} Gbit/s a node"
    facts = [
        ("parameters", ", ".join(f"{name} {count:,}" for name, count in counts.items())),
        ("total", f"{plan.parameters:,}; a checkpoint takes {checkpoint_bytes(plan.parameters) / GIB:.2f} GiB"),
        ("batch", f"{micro} samples x {plan.gpus} GPUs x {accumulation} accumulation = {optimizer.global_batch_size}"),
        ("word pieces", f"{tokens:.4g} in {optimizer.train_iters:,} steps, {plan.length:.0f} a sample"),
        ("work", f"{work / 1e18:.4g} EFLOP at {plan.basis}"),
        ("step", f"{step.total:.4g} s: computing {step.compute:.4g}, links in a node {step.node:.4g}, network "
         f"{step.network:.4g}; each GPU sends {sent / 1e6:,.0f} MB"),
        ("time", f"{hours:,.1f} h, {hours * plan.gpus:,.0f} GPU hours"
         + (f", costs {hours * plan.gpus * plan.price:,.0f}" if plan.price else "")),
        ("network", f"the limit from {limit} nodes on ({network})" if limit else f"never the limit ({network})"),
    ]  # fmt: skip
    rows = [
        (gpus, f"{time.total:.4g}", f"{time.compute:.4g}", f"{time.node:.3g}", f"{time.network:.3g}", f"{share:.0%}",
         f"{plan.hours(time):,.1f}")
        for gpus, time, share in scaling_rows(plan)
    ]  # fmt: skip
    title = f"{config.model.preset} {config.model.objective} on {plan.gpus} x {plan.gpu}, {precision(plan.settings)}"
    return "\n\n".join([
        f"# {title}",
        markdown(("what", "value"), facts).replace("---:", "---"),
        "Memory of a GPU, GiB:",
        memory_table(plan),
        "Scaling, the same global batch:",
        markdown(("GPUs", "s a step", "computing", "in a node", "network", "efficiency", "hours"), rows),
    ])  # fmt: skip


def plot_scaling(plan: Plan, path: Path) -> None:
    """Speed-up against GPUs, beside the ideal. Raises ValueError where matplotlib is missing."""
    try:
        import matplotlib
    except ImportError:
        raise ValueError("--plot needs matplotlib: pip install matplotlib, or leave --plot out") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = scaling_rows(plan)
    gpus = [count for count, _, _ in rows]
    figure, axis = pyplot.subplots(figsize=(6, 4), layout="constrained")
    axis.loglog(gpus, gpus, linestyle="--", color="gray", label="ideal", base=2)
    axis.loglog(gpus, [share * count for count, _, share in rows], marker="o", label="predicted", base=2)
    axis.set(title=f"{plan.config.model.preset} on {plan.gpu}", xlabel="GPUs", ylabel="speed-up over one GPU")
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
