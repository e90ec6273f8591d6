"""Pretrain: indexed corpus -> checkpoints. The entry point of every rank, started by launch/pretrain.sh.

    deepspeed launch/pretrain.sh --data-path corpus/pubmed --tokenizer corpus/tokenizer --save runs/small

Steps: (1) parse flags, check the corpus against the tokenizer; (2) sample maps, built once by rank 0; (3)
objective, engine, and weights: fresh, resumed (--load), taken over (--load --finetune) or published ones
(--init-from); (4) the loop: one optimizer step, then once in a while log, validate, save, stop. This is the only
file that knows all others.
"""

import json
import os
import socket
import sys
import time
from pathlib import Path

import torch

from pretraining import checkpoint, training_state
from pretraining import engine as engine_module
from pretraining.compiling import compile_networks, resolve_compile
from pretraining.config import Config, batch_arithmetic
from pretraining.corpora import open_corpus, open_samples, stage_corpus
from pretraining.data import Samples, rank_share, training_steps
from pretraining.ds_config import (
    check_optimizer,
    find_ds_config,
    load_ds_config,
    merge_ds_config,
    precision,
    zero_stage,
)
from pretraining.evaluation import evaluate
from pretraining.flags import parse_arguments
from pretraining.machine import machine_facts, uses_gpu
from pretraining.meter import Meter, rank_peak_flops, synchronize
from pretraining.metrics import add_sums, summarize
from pretraining.model import recompute_activations
from pretraining.objectives import build_objective
from pretraining.optim import learning_rate
from pretraining.plan import describe_run
from pretraining.profiling import StepProfile
from pretraining.ranks import map_rank_variables, place_of, refuse_partial_launch
from pretraining.reachability import own_address, silent_hosts
from pretraining.restarts import note_start, refuse_endless_restarts
from pretraining.resume import find_resume, load_before_engine, refuse_other_step
from pretraining.run_lock import lock_run
from pretraining.run_log import EXIT_FINISHED, EXIT_INVALID, EXIT_STOPPED, RunLog, write_state
from pretraining.stopping import StopRequest


def refuse_overwriting(config: Config) -> None:
    """Raise ValueError where --save is no folder, or a fresh run would write into the folder of another."""
    save = Path(config.run.save)
    if save.exists() and not save.is_dir():
        raise ValueError(f"--save {save} is a file; give a folder")
    goes_on = (
        config.run.load and not config.run.finetune and Path(config.run.load).resolve().is_relative_to(save.resolve())
    )
    if checkpoint.has_run(save) and not goes_on:
        raise ValueError(f"--save {save} holds a run already: give --load {save} to go on, or another folder")


class Trainer:
    """The loop and what it needs; `run` returns the exit status."""

    def __init__(
        self,
        config: Config,
        engine: engine_module.Engine,
        splits: tuple[Samples, Samples | None],
        facts: dict[str, str],
        first_step: int,
    ):
        self.config, self.engine, self.facts = config, engine, facts
        self.step = first_step
        optimizer = config.optimizer
        self.micro_batch_size, accumulation = batch_arithmetic(optimizer, engine.world_size)
        samples, self.validation = splits
        self.batches = training_steps(
            samples,
            first_step * optimizer.global_batch_size,
            optimizer.global_batch_size,
            self.micro_batch_size,
            rank_share(engine.rank, engine.world_size, accumulation),
        )
        self.folder = Path(config.run.save)
        board = Path(config.run.tensorboard_dir or self.folder / "tensorboard")
        self.log = RunLog(self.folder, board, engine.rank, first_step, optimizer.train_iters)
        self.stop = StopRequest(config.run.exit_duration_in_mins)
        self.loss_weights = (config.model.generator_loss_weight, config.model.discriminator_loss_weight)
        self.saved_step = first_step
        self.profile = StepProfile(self.folder / "profile" if config.run.profile and engine.rank == 0 else None)
        vocab_size = engine.module.embeddings.word.num_embeddings
        ranks = (engine.rank, engine.world_size)
        peak_flops = rank_peak_flops(config.run.peak_tflops, engine.device, engine.precision)
        self.meter = Meter(config, vocab_size, ranks, engine.world_size * peak_flops)

    def run(self) -> int:
        """Train to the last step or to a request to stop. Returns EXIT_FINISHED or EXIT_STOPPED."""
        run, last = self.config.run, self.config.optimizer.train_iters
        if self.step >= last:
            self.log.say(f"nothing to do: step {self.step:,} of {last:,} is reached")
            self._state("finished")
            return EXIT_FINISHED
        sums, clock, waited = None, time.monotonic(), 0.0
        self._state("running")
        while self.step < last:
            asked = time.monotonic()
            batches = next(self.batches)
            waited += time.monotonic() - asked
            rate = learning_rate(self.step, self.config.optimizer.lr, self.config.optimizer.lr_warmup_iters, last)
            more, norm = engine_module.train_step(self.engine, batches, rate, run.seed, self.step)
            sums, self.step = add_sums(sums, more), self.step + 1
            self.meter.add(batches)
            if self.profile.advance():
                self.log.say(f"profile {self.folder / 'profile'}: trace.json, operators.md")
            self.log.advance()
            if self.step % run.log_interval == 0 or self.step == last:
                synchronize(self.engine.device)  # what a GPU has still to do belongs to the seconds of these steps
                self._log(sums, rate, norm, (time.monotonic() - clock, waited))
                sums, clock, waited = None, time.monotonic(), 0.0
            paused = time.monotonic()
            if self.validation and run.eval_interval and self.step % run.eval_interval == 0 and self.step < last:
                self._validate()
            if run.save_interval and self.step % run.save_interval == 0 and self.step < last:
                self._save()
            clock += time.monotonic() - paused  # tokens/s are training's
            if self.step < last and engine_module.any_rank(self.stop.wanted(), self.engine.device):
                self._save()
                self.log.say(
                    f"stopped after step {self.step:,} ({self.stop.reason or 'another rank asked'}): --load goes on"
                )
                self._state("stopped")
                return EXIT_STOPPED
        if self.profile.profiler is not None:
            self.log.say("no profile: --profile takes 4 steps")
        self.profile.close()
        if self.validation:
            self._validate()
        self._save()
        self._state("finished")
        return EXIT_FINISHED

    def _log(
        self, sums: engine_module.Sums, rate: float, norm: torch.Tensor | float, seconds: tuple[float, float]
    ) -> None:
        sums = engine_module.reduce_sums(sums | self.meter.sums(self.engine.device))
        numbers = summarize(sums, self.loss_weights)
        numbers |= {"learning_rate": rate, "gradient_norm": float(norm)}
        numbers |= self.meter.numbers(sums, *seconds, self.step)
        self.log.write("train", self.step, numbers)

    def _validate(self) -> None:
        most = self.config.run.eval_iters * self.config.optimizer.global_batch_size
        numbers = evaluate(self.engine, self.validation, most, self.micro_batch_size, self.loss_weights)
        self.log.write("validation", self.step, numbers)

    def _save(self) -> None:
        if self.saved_step == self.step:
            return
        began = time.monotonic()
        state = {"step": self.step, "consumed_samples": self.step * self.config.optimizer.global_batch_size}
        folder = checkpoint.save_checkpoint(self.engine, self.folder, self.config, state, self.facts)
        self.saved_step = self.step
        self.stop.saved_in(time.monotonic() - began)
        self.log.say(f"checkpoint {folder} ({time.monotonic() - began:.1f} s)")

    def _state(self, status: str) -> None:
        if self.engine.rank == 0:
            write_state(self.folder, status, self.step, reason=self.stop.reason)


def prepare_run_folder(config: Config, merged: dict, device: torch.device, first_step: int) -> None:
    """Lock the folder, write what this run was made from and on, and note its start.

    config.json, ds_config.json, command.txt, machine.json.
    """
    folder = Path(config.run.save)
    folder.mkdir(parents=True, exist_ok=True)
    lock_run(folder)
    refuse_overwriting(config)  # another run may have been here while this one waited
    checkpoint.write_atomically(folder / "config.json", json.dumps(config.to_dict(), indent=2) + "\n")
    checkpoint.write_atomically(folder / "ds_config.json", json.dumps(merged, indent=2) + "\n")
    checkpoint.write_atomically(folder / "command.txt", " ".join(sys.argv) + "\n")
    checkpoint.write_atomically(folder / "machine.json", json.dumps(machine_facts(device), indent=2) + "\n")
    note_start(folder, first_step)


def train(config: Config) -> int:
    """Run this rank's part of the training. Returns the exit status; raises ValueError for users' mistakes."""
    config.run.deepspeed_config = find_ds_config(config.run.deepspeed_config)
    settings = load_ds_config(config.run.deepspeed_config)
    check_optimizer(config.run.deepspeed_config, settings, config.optimizer.optimizer)
    corpus = open_corpus(config)
    map_rank_variables(os.environ)
    refuse_partial_launch(os.environ)
    world_size = int(os.environ["WORLD_SIZE"])
    resume = find_resume(config, corpus.facts, precision(settings), world_size)
    first_step = resume.step if resume else 0
    micro, accumulation = batch_arithmetic(config.optimizer, world_size)
    merged = merge_ds_config(settings, micro, accumulation, world_size, config.optimizer.clip_grad)
    device_type = "cuda" if uses_gpu() else "cpu"
    compiled = resolve_compile(config.run.compile, device_type, zero_stage(merged))
    objective = build_objective(config.model, corpus.vocab_size, config.run.seed)
    if config.run.recompute_activations:
        recompute_activations(objective)
    if config.run.dry_run:
        if int(os.environ["RANK"]) == 0:
            print(describe_run(config, objective, merged, world_size))
        return EXIT_FINISHED
    refuse_overwriting(config)
    if first_step < config.optimizer.train_iters:
        refuse_endless_restarts(Path(config.run.save), first_step)

    rank, _, device = engine_module.start_ranks(config.run.distributed_timeout_minutes)
    addresses = engine_module.addresses_of_ranks(device)
    refuse_other_step(first_step)
    load_before_engine(config, objective, corpus.vocab_size, resume)
    stage_corpus(config, corpus)
    splits = open_samples(config, corpus, "training"), None
    if config.run.eval_iters:
        splits = splits[0], open_samples(config, corpus, "validation")
    engine = engine_module.initialize(objective, config.optimizer, merged, device)
    engine_module.limit_waiting(config.run.distributed_timeout_minutes)
    compiled = compile_networks(engine.module, compiled, engine.precision, config.run.compile)
    if resume:
        training_state.load_state(engine, resume.folder, resume.counters)
    # Nothing is written under --save before everything that can be refused has been looked at.
    engine_module.on_rank_zero(lambda: prepare_run_folder(config, merged, device, first_step))
    if rank == 0:
        print(describe_run(config, objective, merged, world_size, first_step, compiled), flush=True)
        if resume and (moved := resume.describe_move(checkpoint.layout(engine))):
            print(moved, flush=True)
    return run_to_the_end(Trainer(config, engine, splits, corpus.facts, first_step), addresses)


def run_to_the_end(trainer: Trainer, addresses: list[str]) -> int:
    """Run the loop and say why it broke off, where it did. addresses: of the ranks' hosts."""
    try:
        return trainer.run()
    except engine_module.NonFiniteError as error:
        trainer._state("invalid")
        if trainer.engine.rank == 0:
            print(f"error: {error}", file=sys.stderr, flush=True)
        return EXIT_INVALID
    except RuntimeError as error:  # a collective that failed: torch's words name no host
        silent = silent_hosts(addresses)
        if not silent:
            raise
        if os.environ["LOCAL_RANK"] == "0":
            hosts = f"{', '.join(silent)} (seen from {own_address(os.environ['MASTER_ADDR'])})"
            words = f"error: after step {trainer.step:,} no answer from {hosts}: {error}"
            print(f"{words}; the same command goes on from the last checkpoint", file=sys.stderr, flush=True)
        os._exit(1)  # closing the process group would wait for the others
    finally:
        trainer.log.close()


def say_mistake(error: Exception, common: bool) -> None:
    """Say it once: rank 0 does, and, where it is not common to all ranks, the first rank of every other host.

    What is missing or damaged on one host alone would otherwise end the run without a word.
    """
    rank, local_rank, _ = place_of(os.environ)
    if rank == "0" or (local_rank == "0" and not common):
        host = "" if rank == "0" else f"{socket.gethostname()}: "
        print(f"error: {host}{error}", file=sys.stderr, flush=True)


def main() -> None:
    """Command line: exit status 0 finished, 75 stopped with a checkpoint, 70 not finite, 1 a user's mistake."""
    common = True  # flags are the same on all ranks
    try:
        config = parse_arguments(sys.argv[1:])
        common = False
        status = train(config)
    except (ValueError, OSError) as error:
        say_mistake(error, common or isinstance(error, engine_module.CommonError))
        status = 1
    engine_module.end_rank(status)


if __name__ == "__main__":
    main()
