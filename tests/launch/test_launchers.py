"""launch/pretrain.sh under bash, torchrun, srun and deepspeed: the same run, and how it ends when something is killed.

Each launch costs seconds (every rank imports torch and DeepSpeed), so they are few, and looked at from all sides. The
fast ones are the two that the README promises: bash and deepspeed.
"""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.distributed import _free_port
from tests.launch.launches import (
    PRETRAIN,
    REPOSITORY,
    clean_environment,
    error_lines,
    finish,
    marked,
    run,
    start,
    wait_until,
    write_program,
)
from tests.run_folders import metric_rows, read_rows, run_state
from tests.tiny import make_corpus
from tests.training_runs import flags_of

# A stand-in for srun: N copies of a command with the variables of a Slurm step, its own options dropped.
SRUN = """\
#!/bin/bash
while [[ $1 == -* ]]; do shift; done
for rank in 0 1; do
    SLURM_STEP_ID=0 SLURM_PROCID=$rank SLURM_LOCALID=$rank SLURM_NTASKS=2 SLURM_STEP_TASKS_PER_NODE=2 \\
        SLURM_STEP_NODELIST=127.0.0.1 "$@" &
done
status=0
for rank in 0 1; do wait -n || status=$?; done
exit "$status"
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A made-up indexed corpus and its tokenizer."""
    return make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def by_bash(corpus: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run of ten steps by `bash launch/pretrain.sh`, the corpus given as variables. Returns its folder and output."""
    folder = tmp_path_factory.mktemp("bash")
    flags = flags_of(corpus, folder / "run", train_iters=10, data_path=None, tokenizer=None)
    variables = {"DATA_PATH": str(corpus[0]), "TOKENIZER": str(corpus[1]), "THREADS_PER_RANK": "1", "TRAIN_ITERS": "99"}
    result = run(["bash", PRETRAIN, *flags], clean_environment(**variables), folder)
    return folder / "run", result.stdout


def test_bash_trains_on_two_ranks(by_bash: tuple[Path, str]) -> None:
    folder, output = by_bash
    assert run_state(folder) | {"launch": "", "reason": ""} == {
        "status": "finished",
        "step": 10,  # the flag, not TRAIN_ITERS
        "launch": "",
        "reason": "",
    }
    rows = metric_rows(folder)
    assert [row["step"] for row in rows if row["kind"] == "train"] == list(range(1, 11))
    assert rows[-1]["kind"] == "validation"
    manifest = json.loads(next(folder.glob("checkpoints/*/manifest.json")).read_text(encoding="utf-8"))
    assert manifest["layout"]["ranks"] == 2, output


@pytest.mark.slow
def test_torchrun(corpus: tuple[Path, Path], by_bash: tuple[Path, str], tmp_path: Path) -> None:
    launcher = ["torchrun", "--nproc-per-node=2", f"--master-port={_free_port()}", "--no-python", "launch/pretrain.sh"]
    flags = flags_of(corpus, tmp_path / "run", train_iters=10)
    run([*launcher, *flags], clean_environment(THREADS_PER_RANK="1"), REPOSITORY)
    assert run_state(tmp_path / "run")["status"] == "finished"
    assert metric_rows(tmp_path / "run") == metric_rows(by_bash[0])


@pytest.mark.slow
def test_srun(corpus: tuple[Path, Path], by_bash: tuple[Path, str], tmp_path: Path) -> None:
    srun = write_program(tmp_path / "bin" / "srun", SRUN)
    environment = clean_environment(THREADS_PER_RANK="1", SLURM_JOB_ID="7", MASTER_PORT=str(_free_port()))
    run([srun, "bash", PRETRAIN, *flags_of(corpus, tmp_path / "run", train_iters=10)], environment, tmp_path)
    assert run_state(tmp_path / "run")["status"] == "finished"
    assert metric_rows(tmp_path / "run") == metric_rows(by_bash[0])


@pytest.mark.slow
@pytest.mark.parametrize("mpiexec", ["mpiexec.openmpi", "mpiexec.mpich"])
def test_mpi(mpiexec: str, corpus: tuple[Path, Path], by_bash: tuple[Path, str], tmp_path: Path) -> None:
    if not shutil.which(mpiexec):
        pytest.skip(f"{mpiexec} is not installed (Debian: openmpi-bin, mpich)")
    as_root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    environment = clean_environment(THREADS_PER_RANK="1", MASTER_PORT=str(_free_port()), **as_root)
    command = [mpiexec, *(["--oversubscribe"] if "openmpi" in mpiexec else []), "-n", "2", "bash", PRETRAIN]
    run([*command, *flags_of(corpus, tmp_path / "run", train_iters=10)], environment, tmp_path)
    assert run_state(tmp_path / "run")["status"] == "finished"
    assert metric_rows(tmp_path / "run") == metric_rows(by_bash[0])


def test_deepspeed(corpus: tuple[Path, Path], by_bash: tuple[Path, str], tmp_path: Path) -> None:
    command = ["deepspeed", "--master_port", str(_free_port()), "launch/pretrain.sh"]
    environment = clean_environment(THREADS_PER_RANK="1", PYTHON="false")  # its own Python is used, whatever is set
    environment.pop("LOCAL_SIZE", None)
    result = run([*command, *flags_of(corpus, tmp_path / "run", train_iters=10)], environment, REPOSITORY)
    assert run_state(tmp_path / "run")["status"] == "finished"
    ours, theirs = metric_rows(tmp_path / "run"), metric_rows(by_bash[0])
    assert [row["step"] for row in ours] == [row["step"] for row in theirs]
    assert [row["loss"] for row in ours] == pytest.approx([row["loss"] for row in theirs], rel=1e-3)
    if not shutil.which("nvidia-smi") and not shutil.which("numactl"):
        assert "LOCAL_SIZE=2 deepspeed" in result.stdout  # one device was found: how to have two


def test_help_prints_the_flags_and_starts_no_launcher(tmp_path: Path) -> None:
    result = run(["bash", PRETRAIN, "--help"], clean_environment(), tmp_path)
    assert "--data-path" in result.stdout and "--train-iters" in result.stdout
    assert "deepspeed.launcher" not in result.stdout + result.stderr and error_lines(result) == []


@pytest.mark.slow
def test_again_there_is_nothing_to_do_and_a_broken_run_goes_on(corpus: tuple[Path, Path], tmp_path: Path) -> None:
    command = ["bash", PRETRAIN, *flags_of(corpus, tmp_path / "run", train_iters=10)]
    run(["bash", PRETRAIN, *command[2:], "--exit-duration-in-mins", "0"], clean_environment(), tmp_path, status=75)
    assert run_state(tmp_path / "run")["status"] == "stopped"
    run(command, clean_environment(), tmp_path)
    rows = read_rows(tmp_path / "run" / "metrics.jsonl")
    assert [row["step"] for row in rows if row["kind"] == "train"] == list(range(1, 11))
    again = run(command, clean_environment(), tmp_path)
    assert "nothing to do" in again.stdout
    assert read_rows(tmp_path / "run" / "metrics.jsonl") == rows


@pytest.mark.slow
def test_dry_run_and_mistakes_write_nothing(corpus: tuple[Path, Path], tmp_path: Path) -> None:
    command = ["bash", PRETRAIN, *flags_of(corpus, tmp_path / "run", train_iters=10)]
    result = run([*command, "--dry-run"], clean_environment(), tmp_path)
    assert "parameters" in result.stdout
    result = run([*command, "--learning-rat", "1"], clean_environment(), tmp_path, status=1)
    (line,) = error_lines(result)
    assert "--learning-rat" in line and "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_term_saves_a_checkpoint_and_the_same_command_goes_on(corpus: tuple[Path, Path], tmp_path: Path) -> None:
    command = ["bash", PRETRAIN, *flags_of(corpus, tmp_path / "run", train_iters=200)]
    environment = clean_environment()
    process = start(command, environment, tmp_path)
    metrics = tmp_path / "run" / "metrics.jsonl"
    wait_until(lambda: metrics.exists() and len(read_rows(metrics)) > 3, "step")
    process.terminate()
    result = finish(process, environment)
    assert result.returncode == 75, result.stdout + result.stderr
    state = run_state(tmp_path / "run")
    assert state["status"] == "stopped" and state["reason"] == "signal SIGTERM" and 3 < state["step"] < 200
    run(command, clean_environment(), tmp_path)
    rows = [row["step"] for row in read_rows(metrics) if row["kind"] == "train"]
    assert rows == list(range(1, 201))


@pytest.mark.slow
def test_trainers_stop_by_themselves_when_the_launcher_is_killed(corpus: tuple[Path, Path], tmp_path: Path) -> None:
    environment = clean_environment()
    process = start(["bash", PRETRAIN, *flags_of(corpus, tmp_path / "run", train_iters=200)], environment, tmp_path)
    metrics = tmp_path / "run" / "metrics.jsonl"
    wait_until(lambda: metrics.exists() and len(read_rows(metrics)) > 3, "step")
    for pid in marked(environment, "-m deepspeed.launcher.launch"):
        os.kill(pid, signal.SIGKILL)
    result = finish(process, environment)
    assert result.returncode == 75, result.stdout + result.stderr
    state = run_state(tmp_path / "run")
    assert state["status"] == "stopped" and "launcher" in state["reason"]
    assert (tmp_path / "run" / "checkpoints" / "latest").exists() or list((tmp_path / "run").rglob("latest"))


@pytest.mark.slow
def test_a_killed_rank_ends_the_run_and_is_no_success(corpus: tuple[Path, Path], tmp_path: Path) -> None:
    environment = clean_environment()
    process = start(["bash", PRETRAIN, *flags_of(corpus, tmp_path / "run", train_iters=200)], environment, tmp_path)
    metrics = tmp_path / "run" / "metrics.jsonl"
    wait_until(lambda: metrics.exists() and len(read_rows(metrics)) > 3, "step")
    os.kill(marked(environment, "-m pretraining.train")[-1], signal.SIGKILL)
    assert finish(process, environment).returncode not in (0, 75)
