"""The meter of a run: word pieces and samples a second, padding avoided, FLOP/s and their share of the peak, balance.

Steps: (1) `measure_peak_flops`, once, where --peak-tflops states none; (2) `add` notes the lengths of a step's
micro-batches, which are on the host: nothing waits for the device; (3) `sums` puts this rank's counts among the
metric sums, so that the log's one all-reduce adds them up too; (4) `numbers` turns the totals into a log line.

FLOPs are those of plan.training_flops_per_token for each sample's own length; padding would not count.
"""

import statistics
import time
from collections.abc import Callable

import torch

from pretraining.batch import MaskedBatch
from pretraining.config import Config
from pretraining.fused import compute_dtype
from pretraining.plan_time import training_flops_per_token

PRODUCT_SIZE = {"cuda": 8192, "cpu": 1024}  # rows of the matrices: large enough for the full rate
# Products from one look at the clock to the next, some 10 ms: a GPU waits between single ones, and takes as long to
# leave its idle clock rate.
PRODUCTS_IN_A_ROW = {"cuda": 10, "cpu": 1}
SLOW_PRODUCT_S = 0.5  # in bf16, a CPU without its instructions takes 2.3 s: warm or not makes no difference then


def synchronize(device: torch.device) -> None:
    """Wait for the device, so that a clock reads what was computed."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def rank_peak_flops(stated_tflops: float | None, device: torch.device, precision: str) -> float:
    """FLOP/s that this rank's device could reach: stated by --peak-tflops, or measured in the precision of the run."""
    return stated_tflops * 1e12 if stated_tflops else measure_peak_flops(device, compute_dtype(precision))


def measure_peak_flops(
    device: torch.device, dtype: torch.dtype, clock: Callable[[], float] = time.perf_counter, repeats: int = 3
) -> float:
    """Floating-point operations a second of a square matrix product, the median of some; 2 n^3 operations each."""
    size = PRODUCT_SIZE[device.type]
    # Random numbers: constant ones let a GPU clock higher. From a generator of their own: dropout has torch's.
    generator = torch.Generator(device).manual_seed(0)
    left, right = (torch.randn(size, size, device=device, generator=generator).to(dtype) for _ in range(2))
    result = torch.empty_like(left)

    def products() -> float:
        synchronize(device)
        began = clock()
        for _ in range(PRODUCTS_IN_A_ROW[device.type]):
            torch.matmul(left, right, out=result)
        synchronize(device)
        return (clock() - began) / PRODUCTS_IN_A_ROW[device.type]

    return 2 * size**3 / max(warm_seconds(products, device.type, repeats), 1e-9)


def warm_seconds(measure: Callable[[], float], device_type: str, repeats: int) -> float:
    """The median of `repeats` measurements behind one to warm up.

    On a CPU one that takes longer than SLOW_PRODUCT_S is not repeated; a GPU's first one loads the library.
    """
    first = measure()
    if device_type == "cpu" and first > SLOW_PRODUCT_S:
        return first
    return statistics.median(measure() for _ in range(repeats))


class Meter:
    """Counts of this rank since the last log line, and of the whole run for the time left.

    peak_flops: of all ranks' devices together, or None where it is not known: then there is no MFU.
    """

    def __init__(self, config: Config, vocab_size: int, ranks: tuple[int, int], peak_flops: float | None):
        self.rank, self.world_size = ranks
        self.length, self.steps = config.data.seq_length, config.optimizer.train_iters
        # FLOPs of a sample of n word pieces are fixed * n + squared * n^2.
        self.fixed_flops = training_flops_per_token(config, vocab_size, 0)
        self.squared_flops = training_flops_per_token(config, vocab_size, 1) - self.fixed_flops
        self.peak_flops = peak_flops
        self.tokens_of_steps: list[int] = []
        self.samples, self.flops = 0, 0.0
        self.all_steps, self.all_tokens = 0, 0.0

    def add(self, batches: list[MaskedBatch]) -> None:
        """Count the micro-batches of one step of this rank."""
        lengths = [length for batch in batches for length in batch.lengths]
        self.tokens_of_steps.append(sum(lengths))
        self.samples += len(lengths)
        self.flops += sum(self.fixed_flops * n + self.squared_flops * n * n for n in lengths)

    def sums(self, device: torch.device) -> dict[str, torch.Tensor]:
        """This rank's counts since the last call, to be added up over ranks; float64, and starts anew."""
        rank_tokens = torch.zeros(self.world_size, len(self.tokens_of_steps), dtype=torch.float64)
        rank_tokens[self.rank] = torch.tensor(self.tokens_of_steps, dtype=torch.float64)
        work = torch.tensor([self.samples, self.flops], dtype=torch.float64)
        self.tokens_of_steps, self.samples, self.flops = [], 0, 0.0
        return {"rank_tokens": rank_tokens.to(device), "work": work.to(device)}

    def numbers(
        self, sums: dict[str, torch.Tensor], seconds: float, seconds_waited: float, step: int
    ) -> dict[str, float]:
        """The meter's part of a log line, from sums over all ranks and seconds since the last line."""
        samples, flops = sums["work"].tolist()
        tokens = float(sums["rank_tokens"].sum())
        self.all_steps += sums["rank_tokens"].shape[1]
        self.all_tokens += tokens
        numbers = {
            "tokens_per_second": tokens / seconds,
            "samples_per_second": samples / seconds,
            "pad_share_avoided": 1 - tokens / (samples * self.length),
            "data_wait_share": seconds_waited / seconds,
            "rank_imbalance": imbalance(sums["rank_tokens"]),
            "model_tflops": flops / seconds / 1e12,
            # Word pieces that are left, at the pace of this line; steps differ in length, so by word pieces.
            "seconds_left": (self.steps - step) * self.all_tokens / self.all_steps * seconds / tokens,
        }
        if self.peak_flops:
            numbers["mfu"] = flops / seconds / self.peak_flops
        return numbers


def imbalance(rank_tokens: torch.Tensor) -> float:
    """Word pieces of the slowest rank over those of the mean rank, the mean over steps, less one: the time lost.

    rank_tokens float64 [ranks, steps].
    """
    return float((rank_tokens.amax(0) / rank_tokens.mean(0)).mean()) - 1
