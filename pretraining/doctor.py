"""The preflight: is everything there that a run needs? A table with what to do, in under a minute.

    python -m pretraining.doctor [flags of launch/pretrain.sh] [--hostfile FILE]
    deepspeed --module pretraining.doctor [flags]          torchrun --nproc-per-node=N -m pretraining.doctor [flags]
    srun python -m pretraining.doctor [flags]              mpiexec -n N python -m pretraining.doctor [flags]

Steps: (1) every rank looks at its own machine (doctor_machine.py) and one rank a host at the files (doctor_files.py);
(2) the ranks meet at rank 0, and every host calls every other (doctor_hosts.py): nothing waits longer than --timeout;
(3) one all-reduce with a known sum, timed; (4) rank 0 prints the table, and all end with the same status: 0, or 1 where
there is a problem.
"""

import argparse
import json
import os
import socket
import sys
import threading
import time
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed as dist

from pretraining import doctor_files, doctor_hosts, doctor_machine
from pretraining.config import Config
from pretraining.corpus.tokenizer import load_tokenizer, vocabulary_size
from pretraining.doctor_report import PROBLEM, Row, guarded, merge_ranks, note, ok, problem, report
from pretraining.ds_config import find_ds_config, load_ds_config, precision, precision_of_hardware
from pretraining.flags import read_arguments
from pretraining.machine import uses_gpu
from pretraining.ranks import map_rank_variables, refuse_partial_launch

DEADLINE_SECONDS = 58  # whatever hangs: the process ends then


@dataclass
class Preflight:
    """This rank's place and what it has found."""

    config: Config
    rank: int
    local_rank: int
    world_size: int
    backend: str
    timeout_s: float
    rows: list[Row] = field(default_factory=list)
    server: socket.socket | None = None

    @property
    def place(self) -> tuple[int, int, int]:
        return self.rank, self.local_rank, self.world_size

    @property
    def host(self) -> str:
        return socket.gethostname()


def build_parser() -> argparse.ArgumentParser:
    """The preflight's own flags; all others are launch/pretrain.sh's."""
    parser = argparse.ArgumentParser(
        prog="python -m pretraining.doctor",
        description="Look for what would stop a run: versions, devices, kernels, compilers, hosts, ports, network, "
        "clocks, disks, corpus, batch arithmetic. Takes the flags of launch/pretrain.sh, under any launcher.",
        allow_abbrev=False,
    )
    parser.add_argument("--hostfile", metavar="FILE", help="DeepSpeed's hostfile: try ssh to each host in it.")
    parser.add_argument("--whole-corpus", action="store_true", help="Read all of the corpus, whatever it takes.")
    parser.add_argument(
        "--timeout", type=float, default=15.0, metavar="SECONDS", help="How long to wait for other ranks. Default: 15."
    )
    return parser


def look_here(preflight: Preflight, own: argparse.Namespace) -> list[Row]:
    """What a rank finds out alone."""
    config, run = preflight.config, preflight.config.run
    rows = doctor_machine.versions()
    kind, settings = precision_of_hardware(), {}
    try:
        run.deepspeed_config = find_ds_config(run.deepspeed_config)
        settings = load_ds_config(run.deepspeed_config)
        kind = precision(settings)
        rows.append(ok("DeepSpeed JSON", Path(run.deepspeed_config).name))
    except ValueError as error:
        rows.append(problem("DeepSpeed JSON", str(error), "see ds_configs/README.md"))
    rows += doctor_machine.devices(preflight.local_rank, kind)
    rows += doctor_machine.kernels(config, settings)
    if preflight.local_rank == 0:
        rows += doctor_machine.compilers()
    rows += guarded("launch", "start one rank per GPU on every node", lambda: look_at_launch(preflight))
    world = preflight.world_size
    if preflight.rank == 0:
        rows += guarded("flags", "change the flag", lambda: config.check() or [ok("flags", "can work together")])
        rows += guarded("batch", "change one of the three", lambda: doctor_files.batch(config, world))
        if own.hostfile:
            rows += guarded("ssh", "mend the hostfile", lambda: doctor_hosts.ssh(own.hostfile))
    if preflight.local_rank == 0:
        rows += look_at_files(preflight, own.whole_corpus)
    return rows


def look_at_launch(preflight: Preflight) -> list[Row]:
    """Ranks against what is allocated. Raises ValueError where nodes would idle."""
    refuse_partial_launch(os.environ)
    return [ok("launch", f"{preflight.world_size} rank{'s' if preflight.world_size > 1 else ''}, {preflight.backend}")]


def look_at_files(preflight: Preflight, whole_corpus: bool) -> list[Row]:
    """Corpus, memory and the disk of --save; once a host."""
    config, rows = preflight.config, []
    vocab_size = 30_522
    if config.data.data_path and config.data.tokenizer:
        cure = "make or copy the corpus again, with its tokenizer"
        found = guarded("corpus", cure, lambda: doctor_files.corpus(config, whole_corpus))
        rows += found
        if found[0].state != PROBLEM:
            vocab_size = vocabulary_size(load_tokenizer(config.data.tokenizer))
    else:
        rows.append(note("corpus", "not looked at", "give --data-path and --tokenizer"))
    ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("LOCAL_SIZE") or preflight.world_size)
    try:
        available = doctor_files.available_bytes(ranks_here)
        rows += doctor_files.memory(config, vocab_size, preflight.world_size, available)
    except ValueError:
        pass  # the row on the batch or on the DeepSpeed JSON says why
    if config.run.save:
        cure = "give --save a folder that can be written to"
        rows += guarded("disk of --save", cure, lambda: doctor_files.save_space(config, vocab_size))
    else:
        rows.append(note("disk of --save", "not looked at", "give --save"))
    return rows


def meet(preflight: Preflight, store: dist.TCPStore, address: str) -> dict[int, dict[str, Any]]:
    """{rank: host, address, port} of the ranks that came in time, the same on all of them."""
    server, port = doctor_hosts.serve(address)
    preflight.server = server  # answers until the process ends
    mine = {"host": preflight.host, "identity": doctor_hosts.host_identity(), "address": address, "port": port}
    store.set(f"doctor/hello/{preflight.rank}", json.dumps(mine))
    if preflight.rank == 0:
        deadline = time.monotonic() + preflight.timeout_s
        names = [f"doctor/hello/{rank}" for rank in range(preflight.world_size)]
        while not store.check(names) and time.monotonic() < deadline:
            time.sleep(0.1)
        here = [rank for rank, name in enumerate(names) if store.check([name])]
        store.set("doctor/here", json.dumps(here))
    store.wait(["doctor/here"], timedelta(seconds=2 * preflight.timeout_s))
    return {rank: json.loads(store.get(f"doctor/hello/{rank}")) for rank in json.loads(store.get("doctor/here"))}


def missing_rows(preflight: Preflight, here: dict[int, dict[str, Any]]) -> list[Row]:
    """A problem that names the ranks which did not come."""
    missing = sorted(set(range(preflight.world_size)) - set(here))
    if not missing:
        return [ok("ranks", f"all {preflight.world_size} met at rank 0")]
    came = ", ".join(dict.fromkeys(f"{place['host']} {place['address']}" for place in here.values()))
    where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    seen = f"ranks {', '.join(map(str, missing))} did not reach {where} within {preflight.timeout_s:g} s; there: {came}"
    return [problem("ranks", seen, "look at what these ranks print; open the port; start as many ranks as WORLD_SIZE")]


def call_others(here: dict[int, dict[str, Any]], rank: int) -> tuple[str, dict[str, tuple[str, float]]]:
    """(this host's name and address, what it found when it called the others); one rank a host calls."""
    first: dict[str, int] = {}
    for other, place in sorted(here.items()):
        first.setdefault(place["identity"], other)
    label = {other: f"{here[other]['host']} ({here[other]['address']})" for other in first.values()}
    if rank not in label:
        return "", {}
    others = {label[r]: (here[r]["address"], here[r]["port"]) for r in label if r != rank}
    return label[rank], doctor_hosts.call_hosts(others)


def save_is_shared(preflight: Preflight, store: dist.TCPStore, several_hosts: bool) -> list[Row]:
    """Whether all hosts see the same folder at --save: rank 0 leaves a file there for a moment."""
    if not several_hosts or not preflight.config.run.save:
        return []
    marker = None
    if preflight.rank == 0:
        marker = doctor_files.nearest_folder(preflight.config.run.save) / f".doctor-shared-{os.getpid()}"
        try:
            marker.touch()
        except OSError:
            pass  # the row on the disk says so
        store.set("doctor/marker", str(marker))
    path, deadline = Path(store.get("doctor/marker").decode()), time.monotonic() + 3
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.2)  # file systems over a network show new names late
    found = path.exists()
    wait_for_all(preflight, store, "marker-seen")
    if marker:
        marker.unlink(missing_ok=True)
    if not found:
        cure = "give --save a folder on a file system that all hosts share"
        return [problem("--save is shared", f"{preflight.host} does not see rank 0's {path.parent}", cure)]
    return [ok("--save is shared", "all hosts see it")] if preflight.rank == 0 else []


def wait_for_all(preflight: Preflight, store: dist.TCPStore, name: str) -> None:
    """A barrier over the store."""
    store.set(f"doctor/{name}/{preflight.rank}", "")
    names = [f"doctor/{name}/{rank}" for rank in range(preflight.world_size)]
    store.wait(names, timedelta(seconds=preflight.timeout_s))


def look_together(preflight: Preflight, store: dist.TCPStore, address: str) -> list[Row]:
    """What the ranks find out together; rank 0's rows are complete, others' are their own."""
    here = meet(preflight, store, address)
    rows = missing_rows(preflight, here) if preflight.rank == 0 else []
    if len(here) < preflight.world_size:
        return rows
    name, calls = call_others(here, preflight.rank)
    store.set(f"doctor/calls/{preflight.rank}", json.dumps([name, calls]))
    wait_for_all(preflight, store, "called")
    every = [json.loads(store.get(f"doctor/calls/{rank}")) for rank in here]
    pairs = doctor_hosts.pair_rows({host: found for host, found in every if host})
    rows += pairs if preflight.rank == 0 else []
    if pairs[0].state == PROBLEM:
        skipped = note("all-reduce", "not tried", "mend the pairs of hosts first")
        return rows + [skipped] * (preflight.rank == 0)
    rows += save_is_shared(preflight, store, len({place["identity"] for place in here.values()}) > 1)
    return rows + doctor_hosts.all_reduce(preflight.backend, preflight.place, store, preflight.timeout_s)


def gather(preflight: Preflight, store: dist.TCPStore) -> list[Row]:
    """Rows of all ranks that came, on all of them; rank 0 prints the table."""
    store.set(f"doctor/rows/{preflight.rank}", json.dumps([preflight.host, preflight.rows]))
    here = json.loads(store.get("doctor/here"))
    store.wait([f"doctor/rows/{rank}" for rank in here], timedelta(seconds=2 * preflight.timeout_s))
    found = {rank: json.loads(store.get(f"doctor/rows/{rank}")) for rank in here}
    merged = merge_ranks({rank: (host, [Row(*row) for row in rows]) for rank, (host, rows) in found.items()})
    # A launcher ends all ranks when one ends with 1: none ends before the table is printed, and rank 0, whose store it
    # is, ends last.
    if preflight.rank == 0:
        print(report(merged), flush=True)
        store.set("doctor/printed", "")
        store.wait([f"doctor/bye/{rank}" for rank in here if rank], timedelta(seconds=preflight.timeout_s))
    else:
        store.wait(["doctor/printed"], timedelta(seconds=preflight.timeout_s))
        store.set(f"doctor/bye/{preflight.rank}", "")
    return merged


def give_up(preflight: Preflight) -> None:
    """At the deadline: print what is known and end, whatever hangs."""
    cure = "look at the rows above; NCCL_DEBUG=INFO says more"
    hangs = problem("deadline", f"{preflight.host}: not ready after {DEADLINE_SECONDS} s", cure)
    print(report([*preflight.rows, hangs]), flush=True)
    os._exit(1)


def examine(arguments: list[str]) -> list[Row]:
    """All rows; those of all ranks where they could meet. Raises ValueError at a flag that nobody knows."""
    own, rest = build_parser().parse_known_args(arguments)
    config = read_arguments(rest)
    map_rank_variables(os.environ)
    backend = "nccl" if uses_gpu() else "gloo"
    places = (int(os.environ[name]) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"))
    preflight = Preflight(config, *places, backend, own.timeout)
    timer = threading.Timer(DEADLINE_SECONDS, give_up, [preflight])
    timer.daemon = True
    timer.start()
    elsewhere = preflight.world_size > 1 and not os.environ["MASTER_ADDR"].startswith(("127.", "localhost"))
    address, rows = doctor_hosts.own_address(os.environ, backend, elsewhere)
    preflight.rows += rows
    preflight.rows += look_here(preflight, own)
    began = time.monotonic()
    try:
        store = doctor_hosts.open_store(os.environ, own.timeout)
        preflight.rows += look_together(preflight, store, address)
        return gather(preflight, store)
    except (ValueError, RuntimeError) as error:
        cure = "open this port between the hosts, or set MASTER_ADDR and MASTER_PORT to ones that are free and reached"
        preflight.rows.append(problem("port of rank 0", str(error).splitlines()[0], cure))
        print(report(preflight.rows), flush=True)
        # A launcher ends all ranks when one ends: rank 0 has to say first who is missing.
        if preflight.rank:
            time.sleep(max(0.0, began + own.timeout + 5 - time.monotonic()))
        return preflight.rows


def main() -> None:
    """Command line: prints the table; exit status 1 where there is a problem."""
    try:
        rows = examine(sys.argv[1:])
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    sys.stdout.flush()
    os._exit(any(row.state == PROBLEM for row in rows))  # NCCL may hang at a regular end


if __name__ == "__main__":
    main()
