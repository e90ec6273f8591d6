"""What a run tells people: the log line, metrics.jsonl, TensorBoard, the progress bar, run_state.json.

Only rank 0 writes. Steps: (1) `RunLog` opens the files and, after a resume, drops rows of steps that will be run
again; (2) `write` adds one row to all of them; (3) `close` ends them. `write_state` replaces run_state.json, which
wrappers and schedulers read: launchers' own exit codes do not tell the truth.
"""

import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from pretraining.checkpoint import write_atomically

METRICS, STATE = "metrics.jsonl", "run_state.json"
# Exit statuses, after sysexits.h: wrappers requeue on 75 only.
EXIT_FINISHED, EXIT_STOPPED, EXIT_INVALID = 0, 75, 70
# Order and format of the log line's numbers.
COLUMNS = (
    ("loss", "loss", "{:.3f}"),
    ("generator_loss", "gen", "{:.3f}"),
    ("discriminator_loss", "disc", "{:.4f}"),
    ("discriminator_auc", "auc", "{:.4f}"),
    ("discriminator_precision", "prec", "{:.3f}"),
    ("discriminator_recall", "recall", "{:.3f}"),
    ("accuracy_above_majority", "acc+", "{:+.4f}"),
    ("generator_accuracy", "gen acc", "{:.3f}"),
    ("learning_rate", "lr", "{:.2e}"),
    ("gradient_norm", "norm", "{:.2f}"),
    ("tokens_per_second", "tok/s", "{:,.0f}"),
    ("samples_per_second", "smp/s", "{:,.1f}"),
    ("pad_share_avoided", "no pad", "{:.1%}"),
    ("data_wait_share", "wait", "{:.1%}"),
    ("rank_imbalance", "imbal", "{:.1%}"),
    ("model_tflops", "TFLOP/s", "{:.3g}"),
    ("mfu", "mfu", "{:.1%}"),
)


def write_state(run: Path, status: str, step: int, **more: Any) -> None:
    """Replace run_state.json. status: running, finished, stopped (go on with --load) or invalid (do not requeue)."""
    launch = os.environ.get(
        "PRETRAINING_RUN_ID", ""
    )  # of launch/pretrain.sh: tells this run's state from an older one's
    write_atomically(run / STATE, json.dumps({"status": status, "step": step, "launch": launch, **more}) + "\n")


def duration(seconds: float) -> str:
    """Seconds as 2d 03h, 3h 04m, 5m 06s."""
    seconds = round(seconds)
    for big, small, big_unit, small_unit in (
        (86400, 3600, "d", "h"),
        (3600, 60, "h", "m"),
        (60, 1, "m", "s"),
    ):
        if seconds >= big:
            return f"{seconds // big}{big_unit} {seconds % big // small:02d}{small_unit}"
    return f"{seconds}s"


class RunLog:
    """Log of rank 0; on other ranks every method does nothing."""

    def __init__(self, run: Path, tensorboard: Path, rank: int, first_step: int, last_step: int):
        self.active = rank == 0
        if not self.active:
            return
        self.last_step = last_step
        self.rows = self._open_metrics(run / METRICS, first_step)
        # TensorBoard forgets this step and later ones of an earlier try.
        self.board = SummaryWriter(str(tensorboard), purge_step=first_step + 1)
        self.bar = tqdm(
            total=last_step,
            initial=first_step,
            unit="step",
            disable=not sys.stderr.isatty(),
            dynamic_ncols=True,
        )
        self.started = time.monotonic()

    @staticmethod
    def _open_metrics(path: Path, first_step: int) -> Any:
        """metrics.jsonl for appending, without rows of steps that this run will do again."""
        if path.exists():
            kept = [line for line in path.read_text(encoding="utf-8").splitlines() if _step_of(line) <= first_step]
            write_atomically(path, "".join(line + "\n" for line in kept))
        return path.open("a", encoding="utf-8", buffering=1)

    def write(self, kind: str, step: int, numbers: dict[str, float]) -> None:
        """One row: kind is "train" or "validation"."""
        if not self.active:
            return
        # JSON has neither NaN (precision of no positives) nor infinity (gradient norm of a step that fp16 skipped).
        known = {name: value for name, value in numbers.items() if math.isfinite(value)}
        seconds = round(time.monotonic() - self.started, 1)  # of this start of the run
        row = {
            "kind": kind,
            "step": step,
            "time": round(time.time(), 3),
            "seconds": seconds,
            **dict.fromkeys(numbers),
            **known,
        }
        self.rows.write(json.dumps(row) + "\n")
        for name, value in known.items():
            self.board.add_scalar(f"{kind}/{name}", value, step)
        self.board.flush()
        shown = "  ".join(f"{label} {form.format(known[name])}" for name, label, form in COLUMNS if name in known)
        left = f"  left {duration(known['seconds_left'])}" if "seconds_left" in known else ""
        self.say(f"{kind:<10} step {step:,}/{self.last_step:,}  {shown}{left}")

    def say(self, line: str) -> None:
        """A line on standard output, above the progress bar."""
        if self.active:
            with tqdm.external_write_mode(file=sys.stdout):
                print(line, flush=True)

    def advance(self) -> None:
        """Move the progress bar by one step."""
        if self.active:
            self.bar.update()

    def close(self) -> None:
        """End files and bar."""
        if self.active:
            self.bar.close()
            self.board.close()
            self.rows.close()


def _step_of(line: str) -> float:
    """Step of a metrics row; a line cut off by a kill counts as one to drop."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")
