"""The preflight for real: under each launcher, and between hosts that are network namespaces with addresses of their
own (root and `ip` needed): healthy, a pair that cannot talk, a host that is cut off.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pretraining.ds_config import REPOSITORY
from tests.tiny import make_corpus

pytestmark = pytest.mark.slow
DOCTOR = ["-m", "pretraining.doctor"]
RANK_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture
def flags(tmp_path: Path) -> list[str]:
    prefix, tokenizer = make_corpus(tmp_path, documents=20)
    return [
        *("--preset", "tiny", "--global-batch-size", "12", "--data-path", str(prefix), "--tokenizer", str(tokenizer)),
        *("--save", str(tmp_path / "run"), "--deepspeed-config", "ds_configs/zero1_fp32.json", "--timeout", "20"),
    ]


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in RANK_VARIABLES}
    path = f"{Path(sys.executable).parent}:{kept['PATH']}"
    return kept | {"PATH": path, "PYTHONPATH": str(REPOSITORY), "DS_ACCELERATOR": "cpu"} | more


@pytest.mark.parametrize("launcher", ["torchrun", "deepspeed", "mpiexec.openmpi", "mpiexec.mpich"])
def test_two_ranks_under_a_launcher(launcher: str, flags: list[str]) -> None:
    if shutil.which(launcher, path=environment()["PATH"]) is None:
        pytest.skip(f"{launcher} is not installed")
    commands = {
        "torchrun": ["torchrun", "--nproc-per-node=2", *DOCTOR],
        "deepspeed": ["deepspeed", "--num_gpus=2", "--module", "pretraining.doctor"],
        "mpiexec.openmpi": ["mpiexec.openmpi", "--allow-run-as-root", "--oversubscribe", "-n", "2", "python", *DOCTOR],
        "mpiexec.mpich": ["mpiexec.mpich", "-n", "2", "python", *DOCTOR],
    }
    command = [*commands[launcher], *flags]
    result = subprocess.run(command, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("no problem found") == 1 and "all 2 met at rank 0" in result.stdout
    assert "gloo, 8 MiB over 2 ranks" in result.stdout
    command[command.index("12")] = "13"
    result = subprocess.run(command, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, timeout=120)
    assert result.returncode != 0 and "| batch | PROBLEM | --global-batch-size 13" in result.stdout


class Hosts:
    """Three network namespaces on one bridge, 10.77.0.1 to 10.77.0.3, the interface named `fabric` in each."""

    def __init__(self) -> None:
        self.names = [f"doctor{os.getpid()}n{number}" for number in (1, 2, 3)]
        self.bridge = f"db{os.getpid()}"[:15]

    def start(self) -> None:
        self.ip("link", "add", self.bridge, "type", "bridge")
        self.ip("link", "set", self.bridge, "up")
        for number, name in enumerate(self.names, 1):
            outside = f"dv{os.getpid()}{number}"[-15:]
            self.ip("netns", "add", name)
            self.ip("link", "add", outside, "type", "veth", "peer", "name", "fabric", "netns", name)
            self.ip("link", "set", outside, "master", self.bridge, "up")
            self.ip("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", "fabric")
            self.ip("-n", name, "link", "set", "fabric", "up")
            self.ip("-n", name, "link", "set", "lo", "up")

    @staticmethod
    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True, text=True)

    def stop(self) -> None:
        for words in [("netns", "del", name) for name in self.names] + [("link", "del", self.bridge)]:
            subprocess.run(["ip", *words], capture_output=True)

    def examine(self, flags: list[str]) -> tuple[list[int], list[str], float]:
        """(exit statuses, tables, seconds) of one rank on each host."""
        processes, began = [], time.monotonic()
        for rank, name in enumerate(self.names):
            places = {"RANK": str(rank), "LOCAL_RANK": "0", "WORLD_SIZE": "3", "LOCAL_WORLD_SIZE": "1"}
            places |= {"MASTER_ADDR": "10.77.0.1", "MASTER_PORT": "29511", "GLOO_SOCKET_IFNAME": "fabric"}
            command = ["ip", "netns", "exec", name, sys.executable, *DOCTOR, *flags]
            processes.append(
                subprocess.Popen(command, cwd=REPOSITORY, env=environment(**places), stdout=subprocess.PIPE, text=True)
            )
        try:
            tables = [process.communicate(timeout=120)[0] for process in processes]
        finally:
            for process in processes:
                process.kill()
        return [process.returncode for process in processes], tables, time.monotonic() - began


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    if os.geteuid() or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and Debian's iproute2")
    made = Hosts()
    try:
        made.start()
    except subprocess.CalledProcessError as error:
        made.stop()
        pytest.skip(f"no network namespaces here: {error.stderr.strip()}")
    yield made
    made.stop()


def test_two_hosts_and_a_third_in_good_health(hosts: Hosts, flags: list[str]) -> None:
    statuses, tables, seconds = hosts.examine(flags)
    assert statuses == [0, 0, 0], tables
    assert "6 connections between 3 hosts" in tables[0] and "no problem found" in tables[0]
    assert tables[1:] == ["", ""] and seconds < 60


def test_two_hosts_that_cannot_talk_are_named(hosts: Hosts, flags: list[str]) -> None:
    """Both reach rank 0, but not each other: training would hang in its first collective."""
    hosts.ip("-n", hosts.names[1], "route", "add", "blackhole", "10.77.0.3/32")
    statuses, tables, seconds = hosts.examine(flags)
    assert statuses == [1, 1, 1] and seconds < 60
    row = next(line for line in tables[0].splitlines() if line.startswith("| pairs of hosts | PROBLEM"))
    assert "(10.77.0.2) -> " in row and "(10.77.0.3): " in row and "10.77.0.1" not in row
    assert "1 problem found" in tables[0]


def test_one_of_two_hosts_that_is_cut_off(hosts: Hosts, flags: list[str]) -> None:
    hosts.ip("-n", hosts.names[2], "link", "set", "fabric", "down")
    statuses, tables, seconds = hosts.examine(flags)
    assert statuses == [1, 1, 1] and seconds < 60
    assert "| ranks | PROBLEM | ranks 2 did not reach 10.77.0.1:29511" in tables[0]
    assert "cannot reach rank 0 at 10.77.0.1:29511: Network is unreachable" in tables[2]
