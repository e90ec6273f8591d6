"""launch/slurm.sbatch: what it asks srun for, when the job queues itself again, and a real Slurm where there is one.

The real one has two nodes (tests/launch/real_slurm.py).
"""

import re
import shutil
import subprocess
from functools import partial
from pathlib import Path

import pytest

from tests.launch.launches import REPOSITORY, clean_environment, error_lines, run, wait_until, write_program
from tests.launch.real_slurm import TWO_NODES, TWO_RANKS, limit_time, sbatch, show, slurm, wait_for_restart  # noqa: F401
from tests.run_folders import read_rows, run_state
from tests.tiny import make_corpus
from tests.training_runs import flags_of, start_training

PATIENCE_S = 900  # on a machine that has other work to do
SBATCH = REPOSITORY / "launch" / "slurm.sbatch"


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """Stand-ins for srun and scontrol that write down their arguments; srun ends with SRUN_STATUS."""
    for name, status in (("srun", '"${SRUN_STATUS:-0}"'), ("scontrol", "0")):
        text = f'#!/bin/bash\nprintf "%s\\n" "$@" >"{tmp_path / name}.txt"\nexit {status}\n'
        write_program(tmp_path / "bin" / name, text)
    return tmp_path / "bin"


def job(programs: Path, *flags: str, status: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a copy of slurm.sbatch as Slurm does, in a batch script's environment."""
    copy = shutil.copy(SBATCH, programs.parent / "slurm_script")
    batch = {"SLURM_JOB_ID": "17", "SLURM_PROCID": "0", "SLURM_NTASKS": "2", "SLURM_SUBMIT_DIR": str(REPOSITORY)}
    environment = clean_environment(**(batch | variables))
    environment["PATH"] = f"{programs}:{environment['PATH']}"
    return run(["bash", copy, *flags], environment, programs.parent, status)


def test_every_task_is_a_rank_with_its_cores_and_the_flags(programs: Path) -> None:
    job(programs, "--seed", "3", "--save", "a b", SLURM_CPUS_PER_TASK="6")
    words = (programs.parent / "srun.txt").read_text().splitlines()
    start = words.index("bash")
    assert words[start:] == ["bash", str(REPOSITORY / "launch" / "pretrain.sh"), "--seed", "3", "--save", "a b"]
    # A rank that is first to end with 75 must not take the others' checkpoint, and srun's status, with it.
    assert set(words[:start]) == {"--kill-on-bad-exit=0", "--wait=60", "--cpus-per-task=6"}
    assert not (programs.parent / "scontrol.txt").exists()


@pytest.mark.parametrize("status", [0, 1, 70, 75, 137, 143])
def test_only_a_run_that_stopped_is_queued_again(programs: Path, status: int) -> None:
    job(programs, status=status, SRUN_STATUS=str(status))
    asked = programs.parent / "scontrol.txt"
    assert (asked.read_text().split() if asked.exists() else None) == (["requeue", "17"] if status == 75 else None)


def test_a_missing_repository_is_one_sentence(programs: Path) -> None:
    result = job(programs, status=1, SLURM_SUBMIT_DIR=str(programs))
    assert result.stderr.splitlines() == error_lines(result) and len(error_lines(result)) == 1
    assert str(programs) in result.stderr and "PRETRAINING_ROOT" in result.stderr
    assert not (programs.parent / "srun.txt").exists()
    job(programs, SLURM_SUBMIT_DIR=str(programs), PRETRAINING_ROOT=str(REPOSITORY))


def test_what_is_asked_of_slurm() -> None:
    text = SBATCH.read_text(encoding="utf-8")
    subprocess.run(["bash", "-n", SBATCH], check=True)
    lines = text.splitlines()
    asked = [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH")]
    assert {"--requeue", "--open-mode=append"} <= set(asked)  # a job that goes on keeps its log
    (signal,) = (line for line in asked if line.startswith("--signal="))
    assert re.fullmatch(r"--signal=USR1@\d+", signal)  # without B:, which would reach the script and no rank
    first_command = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    assert not any(line.startswith("#SBATCH") for line in lines[first_command:])  # Slurm does not read those
    assert not re.search(r"--(partition|account|qos|constraint|nodelist|mail)", "".join(asked))


# ---- a real Slurm ----


def losses(folder: Path) -> dict[int, float]:
    """The loss of every step so far."""
    path = folder / "metrics.jsonl"
    rows = read_rows(path) if path.exists() else []
    return {row["step"]: row["loss"] for row in rows if row["kind"] == "train"}


def steps_after(folder: Path, step: int) -> bool:
    """Whether a run has got some steps beyond this one."""
    return max(losses(folder), default=0) > step + 3


def submit(environment: dict[str, str], log: Path, *arguments: str) -> str:
    """Submit a job; its number."""
    submitted = sbatch(environment, log, *arguments)
    assert submitted.returncode == 0, submitted.stderr
    return submitted.stdout.strip()


@pytest.mark.slow
def test_a_real_slurm_job_is_stopped_queues_itself_again_and_finishes(
    slurm: dict[str, str],  # noqa: F811
    tmp_path: Path,
) -> None:
    folder, log = tmp_path / "run", tmp_path / "log"
    flags = flags_of(make_corpus(tmp_path), folder, train_iters=200)
    number = submit(slurm, log, *TWO_RANKS, "launch/slurm.sbatch", *flags)
    wait_until(partial(steps_after, folder, 0), "step", PATIENCE_S)
    subprocess.run(["scancel", "--signal=USR1", number], env=slurm, check=True)
    wait_for_restart(slurm, number, 1)
    assert "stopped after step" in log.read_text()
    wait_until(lambda: "JobState=COMPLETED" in show(slurm, "job", number), "end of the job", PATIENCE_S)
    assert run_state(folder)["status"] == "finished", log.read_text()
    assert list(losses(folder)) == list(range(1, 201))
    assert "stopped after step" in log.read_text()  # the first start's log is still there


@pytest.mark.slow
def test_a_real_slurm_job_on_two_nodes_goes_on_by_itself_as_if_never_interrupted(
    slurm: dict[str, str],  # noqa: F811
    tmp_path: Path,
) -> None:
    """USR1, `scontrol requeue` and the time limit, one after another; no loss differs from an undisturbed run's."""
    corpus, folder, log = make_corpus(tmp_path), tmp_path / "run", tmp_path / "log"
    many = {"train_iters": 100_000, "hidden_dropout": 0.1}  # more than there is time for
    number = submit(slurm, log, *TWO_NODES, "--time=60", "--signal=USR1@5", "launch/slurm.sbatch",
                    *flags_of(corpus, folder, **many))  # fmt: skip
    wait_until(partial(steps_after, folder, 0), "step", PATIENCE_S)
    assert "NodeList=n[1-2]" in show(slurm, "job", number)
    stops = []

    def goes_on(restarts: int, signal_name: str, *changes: str) -> None:
        wait_for_restart(slurm, number, restarts, *changes)
        state = re.findall(r"stopped after step ([\d,]+) \(signal (\w+)\)", log.read_text())[restarts - 1]
        assert state[1] == signal_name, log.read_text()
        stops.append(int(state[0].replace(",", "")))
        wait_until(partial(steps_after, folder, stops[-1]), f"step after restart {restarts}", PATIENCE_S)

    subprocess.run(["scancel", "--signal=USR1", number], env=slurm, check=True)
    goes_on(1, "SIGUSR1")
    subprocess.run(["scontrol", "requeue", number], env=slurm, check=True)
    goes_on(2, "SIGTERM")
    limit_time(slurm, number)
    goes_on(3, "SIGUSR1", "TimeLimit=60")  # Slurm warned of the limit
    subprocess.run(["scancel", number], env=slurm, check=True)
    wait_until(lambda: "JobState=CANCELLED" in show(slurm, "job", number), "end of the job", PATIENCE_S)
    assert stops == sorted(set(stops))

    ours = losses(folder)
    undisturbed = start_training(tmp_path / "out", 2, flags_of(corpus, tmp_path / "whole", **many))
    try:
        whole = partial(losses, tmp_path / "whole")
        wait_until(lambda: None not in undisturbed.statuses or len(whole()) > len(ours), "last step", PATIENCE_S)
    finally:
        undisturbed.end()
    theirs = losses(tmp_path / "whole")
    assert list(ours) == list(range(1, len(ours) + 1)) and len(ours) > stops[-1] + 3
    assert ours == {step: theirs[step] for step in ours}, undisturbed.report()


@pytest.mark.slow
def test_a_real_slurm_job_with_a_mistake_ends_with_its_status(slurm: dict[str, str], tmp_path: Path) -> None:  # noqa: F811
    log = tmp_path / "log"
    flags = ["--data-path", str(tmp_path / "c"), "--tokenizer", str(tmp_path), "--save", str(tmp_path / "run")]
    submitted = sbatch(slurm, log, "--wait", *TWO_RANKS, "launch/slurm.sbatch", *flags)
    assert submitted.returncode == 1, log.read_text()
    assert len(re.findall("^error: ", log.read_text(), re.MULTILINE)) == 1, log.read_text()
    assert "Restarts=0" in show(slurm, "job", submitted.stdout.split()[0])
    assert not (tmp_path / "run").exists()
