"""A Slurm of two nodes on this machine: munged, slurmctld and two slurmd on 127.0.0.1, from a folder of their own.

    from tests.launch.real_slurm import slurm  # noqa: F401, the fixture: variables under which its commands find it

    submitted = sbatch(slurm, tmp_path / "log", "--nodes=2", "launch/slurm.sbatch", *flags)

Debian's slurm-wlm is enough, which brings munge; no service, account or cgroup is touched. Steps: (1) a key, a
slurm.conf, the four daemons; (2) the tests; (3) all jobs are cancelled, and the daemons end once no job is left;
whatever is still there then, a slurmstepd for one, is killed and is a failure.
"""

import getpass
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.distributed import _free_port
from tests.launch.launches import REPOSITORY, clean_environment, marked, wait_until

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel", "squeue")
TWO_RANKS = ["--gpus-per-node=0", "--ntasks-per-node=2", "--cpus-per-task=1"]
TWO_NODES = ["--gpus-per-node=0", "--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=1"]
# OverTimeLimit: Slurm looks at limits every 30 s, and a limit has at least a minute.
SLURM_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SwitchType=switch/none
MpiDefault=none
OverTimeLimit=1
SlurmdParameters=config_overrides
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2
PartitionName=all Nodes=n1,n2 Default=YES
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A Slurm of two nodes of two CPUs; yields the environment in which its commands find it."""
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    if missing:
        pytest.skip(f"install Debian's slurm-wlm: {', '.join(missing)} not found")
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("munge", "state", "spool/n1", "spool/n2"):
        (folder / name).mkdir(parents=True)
    configuration = folder / "slurm.conf"
    host, ports = socket.gethostname().split(".")[0], [_free_port() for _ in range(3)]
    configuration.write_text(SLURM_CONF.format(host=host, user=getpass.getuser(), folder=folder, ports=ports))
    # The nodes' names mean nothing to this machine's resolver: rank 0's address is said.
    environment = clean_environment(SLURM_CONF=str(configuration), THREADS_PER_RANK="1", MASTER_ADDR="127.0.0.1")
    daemons: list[subprocess.Popen] = []
    try:
        daemons += _start_daemons(folder, environment)
        wait_until(
            lambda: show(environment, "node").count("State=IDLE") == 2, f"Slurm (logs in {folder})", timeout_s=30
        )
        yield environment
        _cancel_jobs(environment)
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(30)
        left = _started_here(environment, configuration)
        for process in left:
            os.kill(process, signal.SIGKILL)
        assert not left, f"what Slurm started was still there and has been killed: {left} (logs in {folder})"


def _start_daemons(folder: Path, environment: dict[str, str]) -> list[subprocess.Popen]:
    munge = folder / "munge"
    (munge / "key").write_bytes(os.urandom(1024))
    (munge / "key").chmod(0o400)
    files = [f"--{kind}={munge / name}" for kind, name in (("key-file", "key"), ("socket", "socket"))]
    files += [f"--{kind}-file={munge / kind}" for kind in ("pid", "log", "seed")]
    commands = {
        # --force: the socket is in a folder that other users cannot enter, which is meant.
        "munged": ["munged", "--foreground", "--force", *files],
        "slurmctld": ["slurmctld", "-D"],
        "n1": ["slurmd", "-D", "-N", "n1"],
        "n2": ["slurmd", "-D", "-N", "n2"],
    }
    daemons = []
    for name, command in commands.items():
        with (folder / f"{name}.out").open("w") as output:
            daemons.append(subprocess.Popen(command, env=environment, stdout=output, stderr=output))
        if name == "munged":
            wait_until((munge / "socket").exists, f"munged (its words are in {folder / 'munged.out'})", timeout_s=10)
    return daemons


def _cancel_jobs(environment: dict[str, str]) -> None:
    """End all jobs and wait until their last processes have ended: slurmd leaves them behind."""

    def jobs() -> list[str]:
        command = ["squeue", "--noheader", "--format=%A"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()

    if jobs():
        subprocess.run(["scancel", "--quiet", *jobs()], env=environment, capture_output=True)
        wait_until(lambda: not jobs(), "end of all jobs", timeout_s=60)


def _started_here(environment: dict[str, str], configuration: Path) -> list[int]:
    """Processes of this Slurm and its jobs: slurmstepd has no mark, but the configuration that it was given."""
    found, words = set(marked(environment)), f"SLURM_CONF={configuration}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if words in (folder / "environ").read_bytes().split(b"\0") and (folder / "cmdline").read_bytes():
                found.add(int(folder.name))
        except OSError:
            continue  # it has ended, or is somebody else's
    return sorted(found)


def show(environment: dict[str, str], kind: str, *names: str) -> str:
    """What scontrol says of nodes or jobs."""
    command = ["scontrol", "show", kind, *names]
    return subprocess.run(command, env=environment, capture_output=True, text=True).stdout


def sbatch(environment: dict[str, str], log: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Submit a job from the repository; its log goes to this file."""
    command = ["sbatch", "--parsable", "--output", str(log), *arguments]
    return subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)


def limit_time(environment: dict[str, str], number: str) -> None:
    """Set a running job's limit to the next full minute of its time, however long it took to start."""
    hours, minutes, _ = re.search(r"RunTime=(\d+):(\d+):(\d+)", show(environment, "job", number)).groups()
    change = f"TimeLimit={60 * int(hours) + int(minutes) + 1}"
    subprocess.run(["scontrol", "update", f"JobId={number}", change], env=environment, check=True)


def wait_for_restart(environment: dict[str, str], number: str, restarts: int, *changes: str) -> None:
    """Wait until Slurm has queued a job again for the so-manyeth time, and have it start at once.

    Slurm lets such a job wait for two minutes. changes: of the job, as `scontrol update` takes them.
    """

    wait_until(lambda: re.search(rf"Restarts={restarts}\b", show(environment, "job", number)), f"restart {restarts}")

    def runs() -> bool:
        facts = show(environment, "job", number)
        if "JobState=PENDING" in facts:  # its last processes have ended
            time.sleep(3)  # Slurm revokes the credential of a job that starts in the second of its end
            command = ["scontrol", "update", f"JobId={number}", "StartTime=now", *changes]
            subprocess.run(command, env=environment, capture_output=True)
        return bool(re.search("JobState=(RUNNING|COMPLETED)", facts))

    wait_until(runs, f"start of job {number}")
