"""What the preflight looks at between machines, with plain sockets and short waits: names, interfaces, rank 0's port,
every pair of hosts, clocks, ssh.

Steps: (1) `own_address` says under which address this host will be reached; (2) `open_store` meets the other ranks at
MASTER_ADDR:MASTER_PORT; (3) `serve` answers on a port of its own while `call_hosts` connects to all others, so that a
pair that cannot talk has a name; the answers carry the time, which gives the clocks' difference; (4) `all_reduce` adds
a known sum up over all ranks.
"""

import fcntl
import os
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from pretraining.doctor_report import Row, ok, problem

CONNECT_SECONDS = 5.0
REDUCE_BYTES = {"gloo": 8 << 20, "nccl": 256 << 20}
CLOCK_SECONDS = 5.0  # apart: more, and locks, logs and credentials (munge: 300 s) go wrong
SIOCGIFADDR = 0x8915  # of Linux's ioctl: the IPv4 address of an interface
SSH_OPTIONS = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=5")


def interfaces() -> dict[str, str]:
    """{interface: IPv4 address} of this host."""
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(probe.fileno(), SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
                found[name] = socket.inet_ntoa(answer[20:24])
            except OSError:
                pass  # it has none
    return found


def own_address(environment: Mapping[str, str], backend: str, hosts_expected: bool) -> tuple[str, list[Row]]:
    """(address by which the backend will offer this host to others, rows). hosts_expected: rank 0 is elsewhere."""
    variable = f"{backend.upper()}_SOCKET_IFNAME"
    known, named = interfaces(), environment.get(variable, "").lstrip("=").split(",")[0]
    listed = ", ".join(f"{name} {address}" for name, address in known.items())
    host = socket.gethostname()
    if named and not named.startswith("^"):
        matching = [address for name, address in known.items() if name.startswith(named)]
        if not matching:
            seen = f"{variable}={named} is no interface with an address here: {listed}"
            return "127.0.0.1", [problem("address", seen, f"set {variable} to one of them, the same on all hosts")]
        return matching[0], [ok("address", f"{host} {matching[0]} ({named})")]
    try:
        address = socket.gethostbyname(host)
    except OSError:
        address = "127.0.0.1"
    if address.startswith("127."):  # usual in /etc/hosts
        outside = [value for value in known.values() if not value.startswith("127.")]
        if hosts_expected and backend == "gloo":
            seen = f"the name {host} leads to {address}, where other hosts cannot reach it ({listed})"
            cure = f"set {variable} to the interface between the hosts, or mend /etc/hosts"
            return outside[0] if outside else address, [problem("address", seen, cure)]
        address = outside[0] if outside and hosts_expected else address
    return address, [ok("address", f"{host} {address}")]


def is_here(address: str) -> bool:
    """Whether this is an address or a name of this host."""
    try:
        return socket.gethostbyname(address) in {*interfaces().values(), "127.0.0.1", "127.0.1.1"}
    except OSError:
        return False


def wait_for_port(address: str, port: int, seconds: float) -> None:
    """Wait until somebody listens there. Raises ValueError saying why nobody is reached."""
    host, deadline = socket.gethostname(), time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((address, port), timeout=CONNECT_SECONDS).close()
            return
        except OSError as error:
            if time.monotonic() + 0.2 > deadline:
                why = str(error.strerror or error)
                raise ValueError(f"{host} cannot reach rank 0 at {address}:{port}: {why}") from None
        time.sleep(0.2)


def open_store(environment: Mapping[str, str], seconds: float) -> dist.TCPStore:
    """The place where ranks leave words for each other: rank 0 listens at MASTER_ADDR:MASTER_PORT (torchrun's agent
    does it already). Raises ValueError where the port is taken or rank 0 is not reached in time.
    """
    address, port = environment["MASTER_ADDR"], int(environment["MASTER_PORT"])
    rank, world = int(environment["RANK"]), int(environment["WORLD_SIZE"])
    listens = rank == 0 and environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    if listens:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", port))
            except OSError as error:
                raise ValueError(f"{socket.gethostname()} cannot listen on port {port}: {error.strerror}") from None
    else:
        wait_for_port(address, port, seconds)
    limit = timedelta(seconds=seconds)
    return dist.TCPStore(address, port, world, is_master=listens, timeout=limit, wait_for_workers=False)


def serve(address: str) -> tuple[socket.socket, int]:
    """Answer every connection with this host's time, in a thread, until the socket is closed: (socket, port)."""
    server = socket.create_server((address, 0), backlog=1024)

    def answer() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return  # closed: the check is over
            with connection:
                connection.sendall(struct.pack("!d", time.time()))

    threading.Thread(target=answer, daemon=True).start()
    return server, server.getsockname()[1]


def call_host(address: str, port: int) -> tuple[str, float]:
    """(reason why not, or "", seconds by which the other clock is ahead)."""
    try:
        before = time.time()
        with socket.create_connection((address, port), timeout=CONNECT_SECONDS) as connection:
            connection.settimeout(CONNECT_SECONDS)
            answer = connection.recv(8, socket.MSG_WAITALL)
        if len(answer) < 8:
            return "the connection was cut", 0.0
        return "", struct.unpack("!d", answer)[0] - (before + time.time()) / 2
    except OSError as error:
        return str(error.strerror or error), 0.0


def call_hosts(others: dict[str, tuple[str, int]]) -> dict[str, tuple[str, float]]:
    """`call_host` for {host: (address, port)}, all at once."""
    if not others:
        return {}
    with ThreadPoolExecutor(min(64, len(others))) as pool:
        return dict(zip(others, pool.map(lambda place: call_host(*place), others.values()), strict=True))


def pair_rows(calls: dict[str, dict[str, tuple[str, float]]]) -> list[Row]:
    """Rows on pairs and clocks from {host: {other host: (reason, clock difference)}}."""
    if len(calls) < 2:
        return [ok("pairs of hosts", "one host")]
    failed = [f"{a} -> {b}: {reason}" for a, more in calls.items() for b, (reason, _) in more.items() if reason]
    count = len(calls) * (len(calls) - 1)
    rows = [ok("pairs of hosts", f"{count} connections between {len(calls)} hosts")]
    if failed:
        cure = "open all ports between these hosts (firewall, routes), or name their common interface"
        rows = [problem("pairs of hosts", "; ".join(failed), f"{cure} in NCCL_SOCKET_IFNAME and GLOO_SOCKET_IFNAME")]
    apart = {
        f"{b} is {ahead:+.1f} s from {a}": abs(ahead)
        for a, more in calls.items() for b, (reason, ahead) in more.items() if not reason
    }  # fmt: skip
    wrong = [words for words, seconds in apart.items() if seconds > CLOCK_SECONDS]
    if wrong:
        rows.append(problem("clocks", "; ".join(wrong), "set the clocks: chronyc makestep, or ask for NTP"))
    elif apart:
        rows.append(ok("clocks", f"at most {max(apart.values()):.3f} s apart"))
    return rows


def all_reduce(backend: str, place: tuple[int, int, int], store: dist.Store, seconds: float) -> list[Row]:
    """One all-reduce with a known sum, and its bandwidth as a ring's: 2 (N-1) / N x bytes / seconds.

    place: rank, local rank, world size; seconds: how long a collective may take.
    """
    (rank, local_rank, world), count = place, REDUCE_BYTES[backend] // 4
    if world == 1:
        return [ok("all-reduce", "one rank")]
    cure = f"set {backend.upper()}_SOCKET_IFNAME on all hosts; NCCL_DEBUG=INFO says more"
    limit = timedelta(seconds=seconds)
    try:
        own_keys = dist.PrefixStore("doctor/group", store)
        dist.init_process_group(backend, store=own_keys, rank=rank, world_size=world, timeout=limit)
        device = torch.device("cuda", local_rank) if backend == "nccl" else torch.device("cpu")
        for _ in range(2):  # the first opens the connections
            values = torch.full((count,), float(rank + 1), device=device)
            dist.barrier()
            began = time.monotonic()
            dist.all_reduce(values)
            total = float(values.max()), float(values.min())  # waits for the device
            took = time.monotonic() - began
    except (RuntimeError, ValueError) as error:  # torch's DistError is a RuntimeError
        return [problem("all-reduce", f"{socket.gethostname()}: {str(error).splitlines()[0][:200]}", cure)]
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
    if total != (world * (world + 1) / 2,) * 2:
        return [problem("all-reduce", f"the sum is wrong: {total}", "the network or a driver damages data: leave it")]
    if rank:
        return []
    rate = 2 * (world - 1) / world * 4 * count / took
    return [ok("all-reduce", f"{backend}, {4 * count >> 20} MiB over {world} ranks, {rate / 1e9:.2f} GB/s")]


def read_hostfile(path: Path) -> list[str]:
    """Hosts of a DeepSpeed hostfile (`name slots=N` a line). Raises ValueError where a line is something else."""
    hosts = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        if len(words) != 2 or not words[1].startswith("slots=") or not words[1][6:].isdigit():
            raise ValueError(f"{path}, line {number}: {line!r} is not of the form `name slots=N`")
        if words[0] in hosts:
            raise ValueError(f"{path}, line {number}: {words[0]} stands twice")
        hosts.append(words[0])
    if not hosts:
        raise ValueError(f"{path} names no host")
    return hosts


def ssh(hostfile: str) -> list[Row]:
    """Whether every host of the hostfile is entered by ssh without a password, as `deepspeed --hostfile` does."""
    hosts = read_hostfile(Path(hostfile))
    if shutil.which("ssh") is None or (shutil.which("pdsh") is None and len(hosts) > 1):
        return [problem("ssh", "ssh or pdsh is missing", "install both, or start with srun or torchrun")]

    def enter(host: str) -> str:
        command = ["ssh", *SSH_OPTIONS, host, "true"]
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=3 * CONNECT_SECONDS)
        except subprocess.TimeoutExpired:
            return f"{host}: no answer"
        last = (result.stderr.strip().splitlines() or [f"status {result.returncode}"])[-1]
        return f"{host}: {last}" if result.returncode else ""

    with ThreadPoolExecutor(32) as pool:
        failed = [words for words in pool.map(enter, hosts) if words]
    if failed:
        cure = "ssh-copy-id to these hosts and accept their keys once, or start with srun or torchrun"
        return [problem("ssh", "; ".join(failed), cure)]
    return [ok("ssh", f"{len(hosts)} hosts without a password")]


def host_identity() -> str:
    """What two ranks on the same host have in common: its name, and the network that its processes see."""
    return f"{socket.gethostname()}/{os.readlink('/proc/self/ns/net')}"
