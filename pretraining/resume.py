"""What a run starts from: fresh weights, published ones (--init-from), a checkpoint's (--finetune), its own (--load).

A run goes on from the same command on any number of ranks, at any ZeRO stage and with any micro-batch that its global
batch allows: order, samples, masks and sampling noise are functions of seed and step, and a checkpoint knows no ranks.

Steps of going on: (1) `find_resume` finds the checkpoint, refuses that of another run and settles the micro-batch;
`refuse_other_step` compares what the ranks have found; (2) `load_before_engine` fills the module; (3) after the engine
is made, training_state.py puts the fp32 weights and the moments into it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pretraining import checkpoint
from pretraining import engine as engine_module
from pretraining.config import Config, largest_micro_batch
from pretraining.hf_weights import load_published_weights
from pretraining.training_state import check_state


@dataclass
class Resume:
    """A checkpoint to go on from, and what its manifest says."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def step(self) -> int:
        return self.manifest["step"]

    @property
    def counters(self) -> dict[str, Any]:
        return self.manifest["counters"]

    def describe_move(self, here: dict[str, int]) -> str:
        """What changed in how the work is spread, for people; empty where nothing did."""
        there = self.manifest["layout"]
        moved = [
            f"{name.replace('_', ' ')} {there[name]} -> {here[name]}" for name in here if here[name] != there[name]
        ]
        return f"going on with {', '.join(moved)}: the same samples and masks in every step" if moved else ""


def find_resume(config: Config, facts: dict[str, str], precision: str, world_size: int) -> Resume | None:
    """What --load goes on from; None for a run that starts at step 0: --load equals an empty --save, or --finetune.

    Raises ValueError where the checkpoint is of another run. Where --micro-batch-size is left out, it becomes the
    checkpoint's if the ranks allow it: dropout is seeded by the micro-batch.
    """
    run, optimizer = config.run, config.optimizer
    if not run.load or run.finetune:
        return None
    same_folder = run.save and Path(run.load).resolve() == Path(run.save).resolve()
    if same_folder and not checkpoint.has_run(Path(run.save)):
        return None
    folder = checkpoint.find_checkpoint(run.load)
    found = Resume(folder, checkpoint.refuse_other_run(folder, config, facts, precision))
    if optimizer.micro_batch_size is None:
        before = found.manifest["layout"]["micro_batch_size"]
        optimizer.micro_batch_size = largest_micro_batch(optimizer.global_batch_size, world_size, before)
    return found


def refuse_other_step(step: int) -> None:
    """Raise ValueError where a rank would go on from another step than rank 0; every rank must call it."""
    first = engine_module.from_rank_zero(step)

    def compare() -> None:
        if step != first:
            raise ValueError(
                f"this host sees the checkpoint of step {step:,}, that of rank 0 the one of step {first:,}: another "
                "run writes there, or the file system is slow to show what was written; give the same command again"
            )

    engine_module.on_every_rank(compare)


def load_before_engine(config: Config, objective: torch.nn.Module, vocab_size: int, resume: Resume | None) -> None:
    """Fill the objective with the weights to start from; rank 0 checks the files of a checkpoint to go on from."""
    if config.run.init_from:
        load_published_weights(config.run.init_from, objective, config, vocab_size)
    if config.run.finetune:
        checkpoint.load_weights(checkpoint.find_checkpoint(config.run.load), objective)
    if resume:
        engine_module.on_rank_zero(lambda: checkpoint.verify_files(resume.folder, resume.manifest))
        engine_module.on_rank_zero(lambda: check_state(resume.folder, objective))
        checkpoint.load_weights(resume.folder, objective, verified=True)
