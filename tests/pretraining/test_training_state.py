"""Every file of ds_configs/ trains on two ranks, and what is saved of it goes on bit by bit in an engine made anew."""

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from deepspeed.accelerator import get_accelerator

from pretraining import engine as engine_module
from pretraining import training_state
from pretraining.config import Config, batch_arithmetic
from pretraining.data import rank_share, training_steps
from pretraining.ds_config import load_ds_config, merge_ds_config, precision
from pretraining.metrics import summarize
from pretraining.objectives import build_objective
from tests.conftest import REPOSITORY
from tests.tiny import VOCAB_SIZE, make_corpus, open_samples, tiny_config
from tests.training_runs import on_ranks

BEFORE, AFTER = 3, 2  # steps
FILES = sorted(path.stem for path in (REPOSITORY / "ds_configs").glob("*.json"))
LAMB = "zero0_autocast with lamb"
# One of each kind among the fast tests; all of them take minutes.
FAST = ("zero1_bf16", "zero3_fp16", "zero2_bf16_offload", LAMB)
SETTINGS = {
    "seq_length": 32,
    "global_batch_size": 8,
    "micro_batch_size": 2,
    "lr": 2e-3,
    "lr_warmup_iters": 0,
    "hidden_dropout": 0.1,
    "attention_dropout": 0.1,
    "adam_bias_correction": True,
}


def make_engine(config: Config, name: str, weights: dict[str, torch.Tensor] | None = None) -> engine_module.Engine:
    """An engine under a file of ds_configs/, with fresh weights or these."""
    _, world_size, device = engine_module.start_ranks()
    micro, accumulation = batch_arithmetic(config.optimizer, world_size)
    settings = load_ds_config(REPOSITORY / "ds_configs" / f"{name}.json")
    merged = merge_ds_config(settings, micro, accumulation, world_size, config.optimizer.clip_grad)
    objective = build_objective(config.model, VOCAB_SIZE, config.run.seed)
    if weights:
        with torch.no_grad():
            for parameter_name, parameter in objective.named_parameters():
                parameter.copy_(weights[parameter_name])
    return engine_module.initialize(objective, config.optimizer, merged, device)


def run_steps(engine: engine_module.Engine, config: Config, first: int, steps: int) -> list[float]:
    """Losses of these steps."""
    share = rank_share(engine.rank, engine.world_size, engine.accumulation)
    optimizer, losses = config.optimizer, []
    batches = training_steps(open_samples(config), first * 8, 8, optimizer.micro_batch_size, share)
    for step in range(first, first + steps):
        sums, _ = engine_module.train_step(engine, next(batches), optimizer.lr, config.run.seed, step)
        losses.append(summarize(engine_module.reduce_sums(sums), (1.0, 50.0))["loss"])
    return losses


def tensors_of(engine: engine_module.Engine) -> dict[str, torch.Tensor]:
    """Weights and moments by name, on rank 0."""
    parts = {kind: training_state.whole_tensors(engine, kind) for kind in (None, *training_state.MOMENTS)}
    return {f"{kind}/{name}": tensor for kind, tensors in parts.items() for name, tensor in tensors.items()}


def stop_and_go(config: Config, name: str, folder: Path) -> dict[str, Any]:
    """Some steps, a save, more steps; and the same more steps by an engine made from what was saved."""
    # DeepSpeed asks whether a CPU is quick in fp16; torch computes it on any.
    type(get_accelerator()).is_fp16_supported = lambda self: True
    folder.mkdir(exist_ok=True)
    engine = make_engine(config, name)
    losses = run_steps(engine, config, 0, BEFORE)
    counters = training_state.save_state(engine, folder)
    engine_module.barrier()
    losses += run_steps(engine, config, BEFORE, AFTER)
    whole = tensors_of(engine)
    engine.deepspeed.destroy()

    weights = safetensors.torch.load_file(folder / training_state.WEIGHTS)
    again = make_engine(config, name, weights)
    training_state.load_state(again, folder, counters)
    losses_again = run_steps(again, config, BEFORE, AFTER)
    parts = tensors_of(again)
    again.deepspeed.destroy()
    return {
        "losses": losses,
        "losses_again": losses_again,
        "counters": counters,
        "different": [key for key in whole if not torch.equal(whole[key], parts[key])],
        "compared": len(whole),
    }


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    corpus = make_corpus(tmp_path_factory.mktemp("corpus"), documents=100)
    open_samples(tiny_config(*corpus, **SETTINGS))  # the sample map, which ranks would build both
    return corpus


@pytest.fixture(scope="module")
def fp32(corpus: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run_file(corpus, tmp_path_factory.mktemp("fp32"), "zero1_fp32")


def run_file(corpus: tuple[Path, Path], folder: Path, name: str) -> dict[str, Any]:
    """What rank 0 of two says of `stop_and_go` under a file."""
    file, *optimizer = name.split(" with ")
    config = tiny_config(*corpus, **SETTINGS, optimizer=optimizer[0] if optimizer else "adam")
    return on_ranks(folder / "out", 2, stop_and_go, config, file, folder / "state")[0]


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in [*FILES, LAMB]]
)
def test_a_file_trains_and_goes_on_bit_by_bit(
    corpus: tuple[Path, Path], fp32: dict[str, Any], tmp_path: Path, name: str
) -> None:
    result = run_file(corpus, tmp_path, name)
    assert result["different"] == [] and result["compared"] > 60
    assert result["losses_again"] == result["losses"][BEFORE:]
    assert result["losses"][-1] < 0.95 * result["losses"][0]
    kept = precision(load_ds_config(REPOSITORY / "ds_configs" / f"{name.split()[0]}.json"))
    if kept == "fp16":
        assert result["counters"]["loss_scale"]["cur_iter"] >= BEFORE
        return  # its first steps look for the loss scale
    assert result["counters"] == {"optimizer_steps": BEFORE}
    assert result["losses"][0] == pytest.approx(fp32["losses"][0], rel=1e-5 if kept == "fp32" else 0.02)
    if name != LAMB:
        assert result["losses"] == pytest.approx(fp32["losses"], rel=1e-5 if kept == "fp32" else 0.02)
