"""What a file of ds_configs/ costs on this machine: memory of states, time of a step, size and time of a checkpoint.

    torchrun --nproc-per-node=2 -m benchmarks.deepspeed_configs FILE --data-path PREFIX --tokenizer DIR

A start for each file, because DeepSpeed keeps tensors of an engine that is gone. Steps: (1) an engine, and some steps
on the same samples; (2) the bytes of all tensors that rank 0 holds between two steps; (3) a checkpoint by parameter
name, as the trainer writes it, and DeepSpeed's own shards with the weights in fp32 beside them, each saved and loaded;
(4) a row of a Markdown table. Step times are medians: compare them within one hour of one machine only.
"""

import argparse
import gc
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch
from deepspeed.accelerator import get_accelerator

from pretraining import engine as engine_module
from pretraining import training_state
from pretraining.config import Config, DataConfig, ModelConfig, OptimizerConfig, RunConfig, batch_arithmetic
from pretraining.data import rank_share, training_steps
from pretraining.ds_config import load_ds_config, merge_ds_config
from pretraining.objectives import build_objective
from pretraining.train import open_corpus, open_samples

HEADER = (
    "| file | states, bytes a parameter | step, s | checkpoint, bytes a parameter | saved, s | loaded, s "
    "| with shards, bytes | saved, s | loaded, s |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)


def tensor_bytes() -> int:
    """Bytes of all tensors of this process, shared storages once."""
    gc.collect()
    storages = {}
    for item in gc.get_objects():
        if issubclass(type(item), torch.Tensor):
            storage = item.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def timed(work: Callable[[], object]) -> float:
    """Seconds until every rank has done it."""
    engine_module.barrier()
    began = time.monotonic()
    work()
    engine_module.barrier()
    return time.monotonic() - began


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def checkpoint_costs(engine: engine_module.Engine, folder: Path) -> list[tuple[int, float, float]]:
    """(bytes, seconds to save, seconds to load) of a checkpoint by name and of DeepSpeed's shards with fp32 weights."""
    by_name, counters = folder / "state", {}
    if engine.rank == 0:
        by_name.mkdir(parents=True)
    saved = timed(lambda: counters.update(training_state.save_state(engine, by_name)))
    loaded = timed(lambda: training_state.load_state(engine, by_name, counters))

    def save_shards() -> None:
        engine.deepspeed.save_checkpoint(str(folder), tag="shards", save_latest=False)
        weights = training_state.whole_tensors(engine)
        if engine.rank == 0:
            safetensors.torch.save_file(weights, folder / "shards" / training_state.WEIGHTS)

    shards_saved = timed(save_shards)
    shards_loaded = timed(lambda: engine.deepspeed.load_checkpoint(str(folder), tag="shards"))
    return [
        (folder_bytes(by_name), saved, loaded),
        (folder_bytes(folder / "shards"), shards_saved, shards_loaded),
    ]


def measure(config: Config, file: Path, steps: int, scratch: Path) -> str:
    """A row of the table."""
    rank, world_size, device = engine_module.start_ranks()
    corpus, before = open_corpus(config), tensor_bytes()
    micro, accumulation = batch_arithmetic(config.optimizer, world_size)
    settings = load_ds_config(file)
    merged = merge_ds_config(settings, micro, accumulation, world_size, config.optimizer.clip_grad)
    objective = build_objective(config.model, corpus.vocab_size, config.run.seed)
    parameters = sum(parameter.numel() for parameter in objective.parameters())
    engine = engine_module.initialize(objective, config.optimizer, merged, device)
    share = rank_share(rank, world_size, accumulation)
    samples = open_samples(config, corpus, "training")
    batches = next(training_steps(samples, 0, config.optimizer.global_batch_size, micro, share))
    seconds = [
        timed(lambda step=step: engine_module.train_step(engine, batches, 1e-4, config.run.seed, step))
        for step in range(steps)
    ]
    states = (tensor_bytes() - before) / parameters
    costs = checkpoint_costs(engine, scratch)
    cells = [f"`{file.name}`", f"{states:.1f}", f"{statistics.median(seconds):.2f}"]
    cells += [cell for size, *times in costs for cell in (f"{size / parameters:.1f}", *(f"{t:.2f}" for t in times))]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.deepspeed_configs", description=__doc__.split("\n")[0])
    parser.add_argument("file", type=Path, help="DeepSpeed JSON.")
    parser.add_argument("--data-path", required=True, help="Prefix of an indexed corpus.")
    parser.add_argument("--tokenizer", required=True, help="Folder of its tokenizer.")
    parser.add_argument("--preset", default="small", help="Model size.")
    parser.add_argument("--seq-length", type=int, default=64, help="Longest sample in word pieces.")
    parser.add_argument("--global-batch-size", type=int, default=8, help="Samples in one step.")
    parser.add_argument("--micro-batch-size", type=int, default=4, help="Samples in one forward pass of a rank.")
    parser.add_argument("--steps", type=int, default=5, help="Steps whose median is taken.")
    given = parser.parse_args()
    config = Config(
        ModelConfig(preset=given.preset),
        DataConfig(data_path=given.data_path, tokenizer=given.tokenizer, seq_length=given.seq_length, split="1,0,0"),
        OptimizerConfig(global_batch_size=given.global_batch_size, micro_batch_size=given.micro_batch_size),
        RunConfig(),
    ).fill_from_preset()
    # DeepSpeed asks whether a CPU is quick in fp16; torch computes it on any.
    type(get_accelerator()).is_fp16_supported = lambda self: True
    rank, _, _ = engine_module.start_ranks()
    scratch = [tempfile.mkdtemp() if rank == 0 else ""]
    torch.distributed.broadcast_object_list(scratch)
    row = measure(config, given.file, given.steps, Path(scratch[0]))
    if rank == 0:
        print(f"{HEADER}\n{row}", flush=True)
        shutil.rmtree(scratch[0])
    engine_module.end_rank(0)


if __name__ == "__main__":
    main()
