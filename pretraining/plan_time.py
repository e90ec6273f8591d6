"""Work and time of a training step from sizes alone: FLOPs, bytes on each link, seconds, on any number of nodes.

Steps: (1) `training_flops_per_token` counts matrix products, backward twice the forward; (2) `network_bytes` says what
each rank sends in a step at a ZeRO stage; (3) `step_seconds` adds computation and ring times; (4) `network_limit` finds
the number of nodes from which on exchanging takes longer than computing.

Rates of GPUs are the makers' figures for dense products; what share of them a run reaches must be measured: give a run
(--measured-run), or a share (--measured-mfu).
"""

from dataclasses import dataclass
from typing import Any

from pretraining.config import Config
from pretraining.ds_config import precision, zero_stage
from pretraining.model import EncoderShape, discriminator_shape, generator_shape
from pretraining.plan_memory import BYTES_PER_ELEMENT

# Name: peak TFLOP/s dense in half precision and in fp32, memory in GB, GB/s to the GPUs of its node (one direction).
GPUS: dict[str, tuple[float, float, float, float]] = {
    "t4": (65, 8.1, 16, 12),
    "v100": (125, 15.7, 32, 150),
    "a100": (312, 19.5, 80, 300),
    "l40s": (362, 91.6, 48, 25),
    "h100": (989, 67, 80, 450),
    "h200": (989, 67, 141, 450),
    "b200": (2250, 80, 180, 900),
}
ASSUMED_MFU = {"tiny": 0.02, "small": 0.15, "base": 0.30, "large": 0.40}  # where nothing was measured
LINK_LATENCY_S = {"node": 5e-6, "network": 20e-6}  # of one hop of a ring


@dataclass(frozen=True)
class Cluster:
    """GPUs, their rate as it is reached, and their links."""

    gpus_per_node: int
    flops_per_second: float  # reached by one GPU in training
    node_bytes_per_second: float  # one GPU to the next within a node
    network_bytes_per_second: float  # one node to the next


@dataclass(frozen=True)
class StepTime:
    """Seconds of one optimizer step: computing, within nodes, between nodes."""

    compute: float
    node: float
    network: float

    @property
    def total(self) -> float:
        return self.compute + max(self.node, self.network)  # a ring runs at the pace of its slowest link


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


def network_bytes(parameters: int, settings: dict[str, Any], world_size: int, accumulation: int) -> float:
    """Bytes that each rank sends in an optimizer step, by ring algorithms.

    A ring over N ranks sends (N-1)/N of the data for a reduce-scatter or an all-gather and twice that for an
    all-reduce. Stage 0, and stage 1 with bf16 and fp32 accumulation (DeepSpeed's BF16_Optimizer): one all-reduce of
    the gradients. Stages 1 and 2: a reduce-scatter of the gradients, at stage 2 after every micro-batch. Stages 1 and
    2 gather the new weights once. Stage 3 gathers weights for every forward and backward pass.
    """
    stage, element = zero_stage(settings), BYTES_PER_ELEMENT[precision(settings)]
    sent = 4 if settings.get("communication_data_type") == "fp32" else element
    fp32_accumulation = settings.get("data_types", {}).get("grad_accum_dtype") == "fp32"
    all_reduce = stage == 0 or (stage == 1 and precision(settings) == "bf16" and fp32_accumulation)
    gradients = sent * (2 if all_reduce else 1) * (accumulation if stage >= 2 else 1)
    weights = {0: 0, 1: element, 2: element, 3: 2 * element * accumulation}[stage]
    return parameters * (gradients + weights) * (world_size - 1) / world_size


def ring_hops(parameters: int, settings: dict[str, Any], world_size: int, accumulation: int) -> float:
    """How many messages follow each other in a step: 2 (N-1) for each bucket of gradients, and for the weights."""
    stage = zero_stage(settings)
    bucket = settings.get("zero_optimization", {}).get("reduce_bucket_size", parameters)
    buckets = max(1, -(-parameters // bucket)) * (accumulation if stage >= 2 else 1)
    return 2 * (world_size - 1) * buckets


def step_seconds(config: Config, settings: dict[str, Any], sizes: tuple[int, int], length: float, cluster: Cluster,
                 gpus: int) -> StepTime:  # fmt: skip
    """Seconds of one optimizer step on this many GPUs. sizes: parameters and vocabulary; length: mean of samples.

    Where the global batch is smaller than the number of GPUs, each GPU still has one sample to do.
    """
    parameters, vocab_size = sizes
    batch, micro = config.optimizer.global_batch_size, config.optimizer.micro_batch_size or 32
    share = max(1.0, batch / gpus)
    compute = share * length * training_flops_per_token(config, vocab_size, length) / cluster.flops_per_second
    accumulation = max(1, round(share / micro))
    sent = network_bytes(parameters, settings, gpus, accumulation)
    hops = ring_hops(parameters, settings, gpus, accumulation)
    nodes = -(-gpus // cluster.gpus_per_node)
    within = sent / cluster.node_bytes_per_second + hops * LINK_LATENCY_S["node"] if gpus > 1 else 0.0
    between = 0.0
    if nodes > 1:  # the rings together cross each node's network once
        crossing = hops * nodes / gpus  # a tree or hierarchical ring pays the network's latency once a node
        between = sent / cluster.network_bytes_per_second + crossing * LINK_LATENCY_S["network"]
    return StepTime(compute, within, between)


def scaling(config: Config, settings: dict[str, Any], sizes: tuple[int, int], length: float, cluster: Cluster,
            most_gpus: int = 1024) -> list[tuple[int, StepTime]]:  # fmt: skip
    """(GPUs, step time) for 1, 2, 4, ... GPUs."""
    counts = [2**power for power in range(most_gpus.bit_length()) if 2**power <= most_gpus]
    return [(gpus, step_seconds(config, settings, sizes, length, cluster, gpus)) for gpus in counts]


def network_limit(config: Config, settings: dict[str, Any], sizes: tuple[int, int], length: float, cluster: Cluster,
                  most_nodes: int = 1024) -> int | None:  # fmt: skip
    """The least number of nodes on which exchanging takes longer than computing; None where there is none."""
    for nodes in range(2, most_nodes + 1):
        time = step_seconds(config, settings, sizes, length, cluster, nodes * cluster.gpus_per_node)
        if time.network > time.compute:
            return nodes
    return None
