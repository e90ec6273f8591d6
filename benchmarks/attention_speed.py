"""Speed of attention on a CPU, forward and backward: torch's kernel, the reference, and the one that runs.

    OMP_NUM_THREADS=1 python -m benchmarks.attention_speed

One layer of `small` (4 heads of 64) on as many word pieces as a micro-batch has, in fp32 and bf16, without dropout and
with 0.1. Each way in turn, --rounds times after one to warm up; printed are the medians in milliseconds of the
process's own seconds, as a Markdown table: what benchmarks/NOTES.md keeps.
"""

import argparse
import itertools
import statistics
import time

import torch
from torch.nn import functional as F

from pretraining.allocator import keep_freed_memory
from pretraining.attention import Attention, attention_by_sample, attention_written_out

HEADS, WIDTH = 4, 64
SAMPLES = ((16, 128), (4, 512))  # samples, word pieces of each
HEADER = (
    "| samples, dropout | torch's `scaled_dot_product_attention` | `attention_by_sample` | `attention_written_out` |\n"
    "| --- | --- | --- | --- |"
)


def attention_of_torch(
    qkv: torch.Tensor, lengths: tuple[int, ...], cu_seqlens: torch.Tensor, dropout_probability: float
) -> torch.Tensor:
    """torch's scaled dot product on samples of one length: qkv [T, 3, H, D] -> [T, H, D]."""
    samples = qkv.view(len(lengths), lengths[0], *qkv.shape[1:])
    query, key, value = samples.permute(2, 0, 3, 1, 4)  # [samples, H, L, D] each
    return (
        F.scaled_dot_product_attention(query, key, value, dropout_p=dropout_probability).transpose(1, 2).flatten(0, 1)
    )


WAYS: tuple[Attention, ...] = (attention_of_torch, attention_by_sample, attention_written_out)


def milliseconds(count: int, length: int, dtype: torch.dtype, probability: float, rounds: int) -> list[float]:
    """Medians of forward and backward for each of WAYS."""
    lengths = (length,) * count
    qkv = torch.randn(count * length, 3, HEADS, WIDTH).to(dtype).requires_grad_()
    gradient = torch.randn(count * length, HEADS, WIDTH).to(dtype)
    bounds = torch.arange(0, count * length + 1, length, dtype=torch.int32)
    taken: list[list[float]] = [[] for _ in WAYS]
    for _ in range(rounds + 1):
        for attention, spent in zip(WAYS, taken, strict=True):
            qkv.grad = None
            began = time.process_time()
            attention(qkv, lengths, bounds, probability).backward(gradient)
            spent.append(1e3 * (time.process_time() - began) / torch.get_num_threads())
    return [statistics.median(spent[1:]) for spent in taken]


def main(arguments: list[str] | None = None) -> None:
    """Command line; `arguments` stands for sys.argv[1:]."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--rounds", type=int, default=9, help="Timed passes of each way (default: %(default)s).")
    options = parser.parse_args(arguments)
    keep_freed_memory(torch.device("cpu"))  # as the trainer does
    print(HEADER)
    for dtype, (count, length), probability in itertools.product((torch.float32, torch.bfloat16), SAMPLES, (0.0, 0.1)):
        cells = [f"{value:.1f}" for value in milliseconds(count, length, dtype, probability, options.rounds)]
        kind = "fp32" if dtype == torch.float32 else "bf16"
        print(f"| {kind}, {count} x {length}, {probability or 'none'} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
