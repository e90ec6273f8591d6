"""Two hosts on this machine: network namespaces with addresses of their own, joined by a cable, an sshd in each.

    with two_hosts(folder) as hosts:
        hosts.command(0, ["torchrun", ...])     # the words that run a command on the first host
        hosts.cut(1)                            # pull the second host's cable

Needs root, `ip`, and for ssh also `sshd` and `pdsh`; skips with a reason where they are missing. The interface bears
the same name on both sides, because GLOO_SOCKET_IFNAME is one value for all ranks.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.launch.launches import wait_until, write_program

INTERFACE = "veth-test"
NETWORK = "10.213.77"
SSHD_CONFIG = """\
Port 22
ListenAddress {address}
HostKey {folder}/key
AuthorizedKeysFile {folder}/key.pub
PidFile {folder}/sshd{number}.pid
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication no
"""
SSH_CONFIG = """\
Host *
    IdentityFile {folder}/key
    IdentitiesOnly yes
    StrictHostKeyChecking no
    UserKnownHostsFile {folder}/known_hosts
    LogLevel ERROR
"""


class Hosts:
    """The two hosts; numbers are 0 and 1."""

    def __init__(self, folder: Path):
        self.folder = folder
        mark = os.getpid()
        self.names = [f"test{mark}a", f"test{mark}b"]
        self.addresses = [f"{NETWORK}.1", f"{NETWORK}.2"]

    def command(self, number: int, words: list[str | Path]) -> list[str]:
        """The words that run a command on a host."""
        return ["ip", "netns", "exec", self.names[number], *map(str, words)]

    def cut(self, number: int) -> None:
        """Pull the cable of a host."""
        _ip("-n", self.names[number], "link", "set", INTERFACE, "down")

    def mend(self) -> None:
        """Put the cables back."""
        for name in self.names:
            _ip("-n", name, "link", "set", INTERFACE, "up")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@contextmanager
def two_hosts(folder: Path, ssh: bool = False) -> Iterator[Hosts]:
    """Set the hosts up and take them down; with `ssh` each runs an sshd, and folder/bin/ssh knows the key."""
    missing = [name for name in ("ip", *(("sshd", "ssh", "pdsh") if ssh else ())) if not _find(name)]
    if os.geteuid() != 0 or missing:
        pytest.skip(f"two hosts need root and {', '.join(missing) or 'network namespaces'}")
    hosts = Hosts(folder)
    daemons: list[subprocess.Popen] = []
    try:
        try:
            for name in hosts.names:
                _ip("netns", "add", name)
            _ip("link", "add", INTERFACE, "netns", hosts.names[0], "type", "veth", "peer", INTERFACE,
                "netns", hosts.names[1])  # fmt: skip
        except subprocess.CalledProcessError as error:
            pytest.skip(f"this machine makes no network namespaces: {error.stderr.strip()}")
        for name, address in zip(hosts.names, hosts.addresses, strict=True):
            _ip("-n", name, "address", "add", f"{address}/24", "dev", INTERFACE)
            for device in ("lo", INTERFACE):
                _ip("-n", name, "link", "set", device, "up")
        if ssh:
            daemons = _start_sshd(hosts)
        yield hosts
    finally:
        for daemon in daemons:
            daemon.terminate()
            daemon.wait(10)
        for name in hosts.names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)


def _start_sshd(hosts: Hosts) -> list[subprocess.Popen]:
    folder = hosts.folder
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key"], check=True)
    (folder / "ssh_config").write_text(SSH_CONFIG.format(folder=folder))
    write_program(folder / "bin" / "ssh", f'#!/bin/bash\nexec {_find("ssh")} -F "{folder}/ssh_config" "$@"\n')
    Path("/run/sshd").mkdir(exist_ok=True)  # sshd's empty folder, which its service makes at boot
    daemons = []
    for number, address in enumerate(hosts.addresses):
        config = folder / f"sshd{number}"
        config.write_text(SSHD_CONFIG.format(address=address, folder=folder, number=number))
        with (folder / f"sshd{number}.log").open("w") as log:
            command = hosts.command(number, [_find("sshd"), "-D", "-e", "-f", config])
            daemons.append(subprocess.Popen(command, stdout=log, stderr=log))

    def answers() -> bool:
        checks = [hosts.command(1 - n, [folder / "bin" / "ssh", a, "true"]) for n, a in enumerate(hosts.addresses)]
        return all(subprocess.run(check, capture_output=True).returncode == 0 for check in checks)

    wait_until(answers, f"answer of both sshd (logs in {folder})", timeout_s=20)
    return daemons


def _find(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
