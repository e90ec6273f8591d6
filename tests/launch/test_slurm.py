"""launch/slurm.sbatch: what it asks srun for, when the job queues itself again, and a real Slurm where there is one.

The real one is a slurmctld and a slurmd of this test's own on 127.0.0.1, from a slurm.conf in a temporary folder:
Debian's package is enough; no service, account, munge key or cgroup is touched.
"""

import getpass
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.distributed import _free_port
from tests.launch.launches import (
    MARK,
    REPOSITORY,
    clean_environment,
    error_lines,
    marked,
    run,
    wait_until,
    write_program,
)
from tests.run_folders import read_rows, run_state
from tests.tiny import make_corpus
from tests.training_runs import flags_of

SBATCH = REPOSITORY / "launch" / "slurm.sbatch"
TWO_CPU_RANKS = ["--gpus-per-node=0", "--ntasks-per-node=2", "--cpus-per-task=1"]
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel")
SLURM_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SwitchType=switch/none
MpiDefault=none
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=2
PartitionName=all Nodes={host} Default=YES
"""


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


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A Slurm of one node and two CPUs; yields the environment in which its commands find it."""
    if not all(map(shutil.which, PROGRAMS)):
        pytest.skip("install Debian's slurm-wlm")
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("state", "spool"):
        (folder / name).mkdir()
    configuration = folder / "slurm.conf"
    configuration.write_text(
        SLURM_CONF.format(
            host=socket.gethostname().split(".")[0],
            user=getpass.getuser(),
            folder=folder,
            controller_port=_free_port(),
            node_port=_free_port(),
        )
    )
    environment = clean_environment(SLURM_CONF=str(configuration), THREADS_PER_RANK="1")
    daemons = []
    try:
        for name in ("slurmctld", "slurmd"):
            with (folder / f"{name}.out").open("w") as output:
                command = [name, "-D", "-f", str(configuration)]
                daemons.append(subprocess.Popen(command, env=environment, stdout=output, stderr=output))
        wait_until(lambda: "State=IDLE" in show(environment, "node"), f"Slurm (logs in {folder})", timeout_s=30)
        yield environment
    finally:
        jobs = re.findall(r"JobId=(\d+)", show(environment, "job"))
        subprocess.run(["scancel", "--quiet", *jobs], env=environment, capture_output=True)
        # Jobs' processes carry the mark too: slurmd starts them.
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(30)
        wait_until(lambda: not marked(environment), f"end of what Slurm started ({environment[MARK]})")


def show(environment: dict[str, str], kind: str, *names: str) -> str:
    """What scontrol says of nodes or jobs."""
    command = ["scontrol", "show", kind, *names]
    return subprocess.run(command, env=environment, capture_output=True, text=True).stdout


def sbatch(environment: dict[str, str], log: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Submit launch/slurm.sbatch from the repository as two ranks without GPUs."""
    command = ["sbatch", "--parsable", *TWO_CPU_RANKS, "--output", str(log), *arguments]
    return subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_a_real_job_is_stopped_queues_itself_again_and_finishes(slurm: dict[str, str], tmp_path: Path) -> None:
    folder, log = tmp_path / "run", tmp_path / "log"
    flags = flags_of(make_corpus(tmp_path), folder, train_iters=200)
    submitted = sbatch(slurm, log, "launch/slurm.sbatch", *flags)
    assert submitted.returncode == 0, submitted.stderr
    number = submitted.stdout.strip()
    metrics = folder / "metrics.jsonl"
    wait_until(lambda: metrics.exists() and len(read_rows(metrics)) > 3, "step")
    subprocess.run(["scancel", "--signal=USR1", number], env=slurm, check=True)  # as before the time limit
    wait_until(lambda: "Restarts=1" in show(slurm, "job", number), "restart")
    state = run_state(folder)
    assert (state["status"], state["reason"]) == ("stopped", "signal SIGUSR1"), log.read_text()

    def completed() -> bool:
        facts = show(slurm, "job", number)
        if "JobState=PENDING" in facts:
            subprocess.run(["scontrol", "update", f"JobId={number}", "StartTime=now"], env=slurm, check=True)
        return "JobState=COMPLETED" in facts

    # Slurm lets a job wait for two minutes before it starts again; within the same second it would be refused.
    time.sleep(5)
    wait_until(completed, "end of the job")
    assert run_state(folder)["status"] == "finished", log.read_text()
    assert [row["step"] for row in read_rows(metrics) if row["kind"] == "train"] == list(range(1, 201))
    assert "stopped after step" in log.read_text()  # the first start's log is still there


@pytest.mark.slow
def test_a_real_job_with_a_mistake_ends_with_its_status(slurm: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    flags = ["--data-path", str(tmp_path / "c"), "--tokenizer", str(tmp_path), "--save", str(tmp_path / "run")]
    submitted = sbatch(slurm, log, "--wait", "launch/slurm.sbatch", *flags)
    assert submitted.returncode == 1, log.read_text()
    assert len(re.findall("^error: ", log.read_text(), re.MULTILINE)) == 1, log.read_text()
    assert "Restarts=0" in show(slurm, "job", submitted.stdout.split()[0])
    assert not (tmp_path / "run").exists()
