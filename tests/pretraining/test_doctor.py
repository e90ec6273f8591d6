"""Each row of the preflight: what breaks exactly that thing makes that row a problem, and nothing else does."""

import os
import shutil
import socket
import struct
import threading
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from pretraining import doctor_files, doctor_hosts, doctor_machine
from pretraining.corpus.indexed import corpus_path
from pretraining.doctor import Preflight, build_parser, look_at_launch, look_here, save_is_shared
from pretraining.doctor_report import OK, PROBLEM, Row, guarded, merge_ranks, ok, problem, report
from tests.distributed import run_distributed
from tests.tiny import VOCAB_SIZE, make_corpus, tiny_config


def problems(rows: list[Row]) -> list[str]:
    """Names of the rows that are problems; each of them has a cure."""
    assert all(row.cure for row in rows if row.state == PROBLEM)
    return [row.check for row in rows if row.state == PROBLEM]


@pytest.fixture
def corpus(tmp_path: Path) -> tuple[Path, Path]:
    return make_corpus(tmp_path, documents=20)


@pytest.fixture
def healthy(corpus: tuple[Path, Path], tmp_path: Path):
    return tiny_config(*corpus, save=str(tmp_path / "run"), deepspeed_config="ds_configs/zero1_fp32.json")


def alone(config) -> Preflight:
    return Preflight(config, rank=0, local_rank=0, world_size=1, backend="gloo", timeout_s=5)


# The machine


def test_a_healthy_machine_has_no_problem(healthy, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    rows = look_here(alone(healthy), build_parser().parse_args([]))
    assert problems(rows) == [], report(rows)
    checks = {row.check for row in rows}
    assert checks >= {
        "versions",
        "device",
        "kernels",
        "compiler",
        "flags",
        "batch",
        "corpus",
        "memory",
        "disk of --save",
    }
    assert sorted(tmp_path.rglob("*")) == before  # nothing is left behind


def test_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor_machine.importlib.metadata.version
    monkeypatch.setattr(
        doctor_machine.importlib.metadata, "version", lambda name: "0.9.0" if name == "deepspeed" else real(name)
    )
    rows = doctor_machine.versions()
    assert problems(rows) == ["versions"] and "deepspeed 0.9.0" in rows[0].seen and "torch" not in rows[0].seen


def test_bf16_without_the_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_machine, "precision_of_hardware", lambda: "fp32")
    assert problems(doctor_machine.devices(0, "bf16")) == ["precision"]
    assert problems(doctor_machine.devices(0, "fp32")) == []


def test_more_ranks_than_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delenv("DS_ACCELERATOR", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    rows = doctor_machine.devices(2, "bf16")
    assert problems(rows) == ["device"] and "local rank 2, but 2 GPUs" in rows[0].seen


def test_gpus_that_torch_does_not_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter([Path("/dev/nvidia0")]))
    monkeypatch.delenv("DS_ACCELERATOR", raising=False)
    assert problems(doctor_machine.devices(0, "fp32")) == ["device"]
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    assert problems(doctor_machine.devices(0, "fp32")) == []


def test_a_wrong_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor_machine.resolve_attention("cpu", torch.float32, False)
    broken = real._replace(run=lambda *given: 1.01 * real.run(*given))
    monkeypatch.setattr(doctor_machine, "resolve_attention", lambda *given: broken)
    assert problems(doctor_machine.kernels(tiny_config(), {})) == ["kernels"]


def test_the_kernels_are_those_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    lamb = doctor_machine.kernels(tiny_config(optimizer="lamb"), {})[0].seen
    assert "optimizer: Lamb" in lamb and "FusedAdam" not in lamb
    assert "optimizer: DeepSpeed FusedAdam" in doctor_machine.kernels(tiny_config(), {})[0].seen
    asked, real = [], doctor_machine.resolve_attention
    monkeypatch.setattr(doctor_machine, "resolve_attention", lambda *given: asked.append(given) or real(*given))
    config = tiny_config(hidden_size=96, num_attention_heads=2, attention_dropout=0.1)
    assert problems(doctor_machine.kernels(config, {"bf16": {"enabled": True}})) == []
    assert asked == [("cpu", torch.bfloat16, True, 48)]


def test_heads_that_do_not_divide_the_width_are_left_to_the_flags() -> None:
    for heads in (0, 7):
        assert doctor_machine.kernels(tiny_config(num_attention_heads=heads), {}) == []


@pytest.mark.parametrize("missing", ["compiler", "ninja"])
def test_a_missing_build_tool(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = {"compiler": ("c++", "g++"), "ninja": ("ninja",)}[missing]
    real = shutil.which
    monkeypatch.setattr(doctor_machine.shutil, "which", lambda name: None if name in gone else real(name))
    monkeypatch.delenv("CXX", raising=False)
    rows = doctor_machine.compilers()
    assert problems(rows) == ["compiler"] and f"no {'ninja' if missing == 'ninja' else 'C++'}" in rows[0].seen


def test_a_compiler_that_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho no headers >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    rows = doctor_machine.compilers()
    assert problems(rows) == ["compiler"] and "no headers" in rows[0].seen


def test_a_lock_of_a_killed_build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    lock = tmp_path / "fused_adam" / "lock"
    lock.parent.mkdir()
    lock.touch()
    assert problems(doctor_machine.compilers()) == []  # a build that is running
    os.utime(lock, (0, time.time() - 3600))
    assert problems(doctor_machine.compilers()) == ["compiler"]


# Flags and files


def test_nodes_that_would_idle(healthy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "2")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert problems(guarded("launch", "cure", lambda: look_at_launch(alone(healthy)))) == ["launch"]


def test_batch_arithmetic(healthy) -> None:
    assert problems(guarded("batch", "cure", lambda: doctor_files.batch(healthy, 4))) == []
    assert problems(guarded("batch", "cure", lambda: doctor_files.batch(healthy, 3))) == ["batch"]


def test_too_little_memory(healthy) -> None:
    assert problems(doctor_files.memory(healthy, VOCAB_SIZE, 1, 2**34)) == []
    assert problems(doctor_files.memory(healthy, VOCAB_SIZE, 1, 2**20)) == ["memory"]


@pytest.mark.parametrize("what", ["bin", "idx", "cut", "tokenizer", "manifest", "missing"])
def test_a_damaged_corpus(healthy, what: str, tmp_path: Path) -> None:
    prefix = healthy.data.data_path
    assert problems(doctor_files.corpus(healthy, whole=True)) == []
    if what in ("bin", "idx"):
        with corpus_path(prefix, f".{what}").open("r+b") as file:
            file.seek(-9, os.SEEK_END)
            byte = file.read(1)
            file.seek(-9, os.SEEK_END)
            file.write(bytes([byte[0] ^ 1]))
    elif what == "cut":
        path = corpus_path(prefix, ".bin")
        os.truncate(path, path.stat().st_size - 2)
    elif what == "tokenizer":
        healthy.data.tokenizer = str(make_corpus(tmp_path / "other", documents=2, vocab_size=400)[1])
    else:
        corpus_path(prefix, ".json" if what == "manifest" else ".bin").unlink()
    assert problems(guarded("corpus", "cure", lambda: doctor_files.corpus(healthy, whole=False))) == ["corpus"]


def test_a_slow_disk_under_the_corpus(healthy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_files, "read_speed", lambda path: 100.0)
    rows = doctor_files.corpus(healthy, whole=False)
    assert [row.state for row in rows] == [OK, "note"] and "samples of" in rows[0].seen


def test_a_full_disk_and_a_folder_that_cannot_be_written(healthy, monkeypatch: pytest.MonkeyPatch) -> None:
    def look() -> list[str]:
        return problems(guarded("disk of --save", "cure", lambda: doctor_files.save_space(healthy, VOCAB_SIZE)))

    assert look() == []
    with monkeypatch.context() as context:
        usage = shutil._ntuple_diskusage(10**9, 10**9, 1000)
        context.setattr(doctor_files.shutil, "disk_usage", lambda path: usage)
        assert look() == ["disk of --save"]
    healthy.run.save = "/proc/run"
    assert look() == ["disk of --save"]


# Hosts


def test_a_name_that_leads_to_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostbyname", lambda name: "127.0.1.1")
    assert problems(doctor_hosts.own_address({}, "gloo", True)[1]) == ["address"]
    assert problems(doctor_hosts.own_address({}, "gloo", False)[1]) == []
    address, rows = doctor_hosts.own_address({"GLOO_SOCKET_IFNAME": "lo"}, "gloo", True)
    assert (address, problems(rows)) == ("127.0.0.1", [])


def test_an_interface_that_is_not_there() -> None:
    _, rows = doctor_hosts.own_address({"GLOO_SOCKET_IFNAME": "ib9"}, "gloo", True)
    assert problems(rows) == ["address"] and "lo 127.0.0.1" in rows[0].seen


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(taken.getsockname()[1]), "RANK": "0", "WORLD_SIZE": "2"}
        with pytest.raises(ValueError, match="cannot listen on port .*in use"):
            doctor_hosts.open_store(place, 2)


def test_rank_zero_that_nobody_hears_of() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": "1", "WORLD_SIZE": "2"}
    began = time.monotonic()
    with pytest.raises(ValueError, match=f"cannot reach rank 0 at 127.0.0.1:{port}: Connection refused"):
        doctor_hosts.open_store(place, 1)
    assert time.monotonic() - began < 20  # a second, on a busy machine a few; torch's own patience is minutes


def test_a_pair_that_cannot_talk_is_named() -> None:
    server, port = doctor_hosts.serve("127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        gone = closed.getsockname()[1]
    found = doctor_hosts.call_hosts({"b (1.1.1.2)": ("127.0.0.1", port), "c (1.1.1.3)": ("127.0.0.1", gone)})
    server.close()
    assert found["b (1.1.1.2)"][0] == ""
    rows = doctor_hosts.pair_rows({"a": found, "b (1.1.1.2)": {"a": ("", 0.0)}})
    assert problems(rows) == ["pairs of hosts"]
    assert "a -> c (1.1.1.3): Connection refused" in rows[0].seen and "b" not in rows[0].seen.split("->")[1]


def test_a_clock_that_is_wrong() -> None:
    server = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        connection, _ = server.accept()
        connection.sendall(struct.pack("!d", time.time() + 90))
        connection.close()

    threading.Thread(target=answer, daemon=True).start()
    found = doctor_hosts.call_host("127.0.0.1", server.getsockname()[1])
    server.close()
    rows = doctor_hosts.pair_rows({"a": {"b": found}, "b": {"a": ("", 0.0)}})
    assert problems(rows) == ["clocks"] and "b is +90.0 s from a" in rows[1].seen


def test_ssh_to_every_host_of_the_hostfile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, body in (("ssh", 'case "$*" in *n2*) echo "Permission denied" >&2; exit 255 ;; esac'), ("pdsh", "")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    hostfile = tmp_path / "hosts"
    hostfile.write_text("n1 slots=2\nn3 slots=2 # a remark\n")
    assert problems(doctor_hosts.ssh(str(hostfile))) == []
    hostfile.write_text("n1 slots=2\nn2 slots=2\n")
    rows = doctor_hosts.ssh(str(hostfile))
    assert problems(rows) == ["ssh"] and rows[0].seen == "n2: Permission denied"
    for text in ("n1\n", "n1 slots=2\nn1 slots=2\n", "\n"):
        hostfile.write_text(text)
        assert problems(guarded("ssh", "cure", lambda: doctor_hosts.ssh(str(hostfile)))) == ["ssh"]


def reduce_on_ranks(folder: str, breaks: str) -> list[list]:
    """Rows of the all-reduce, with a rank that stays away or one whose sum is wrong; and of the shared --save."""
    rank, world = int(os.environ["RANK"]), 2
    store = dist.distributed_c10d._get_default_store()
    dist.destroy_process_group()
    if breaks == "wrong":
        original = dist.all_reduce
        dist.all_reduce = lambda values: original(values).__class__ and values.mul_(1.5)
    rows = []
    if not (breaks == "away" and rank == 1):
        rows = doctor_hosts.all_reduce("gloo", (rank, rank, world), dist.PrefixStore(breaks, store), 4)
    config = tiny_config(save=f"{folder}/run")
    preflight = Preflight(config, rank, rank, world, "gloo", 20)
    if breaks == "not shared" and rank == 1:
        exists = Path.exists
        Path.exists = lambda self: ".doctor-shared" not in self.name and exists(self)
    rows += save_is_shared(preflight, store, True) if breaks in ("nothing", "not shared") else []
    # The store is rank 0's: it must outlive what the other one still asks, and rank 1 what rank 0 waits for.
    time.sleep({"away": 6 * rank}.get(breaks, 2 * (rank == 0)))
    return [list(row) for row in rows]


@pytest.mark.parametrize(
    ("breaks", "expected"),
    [("nothing", []), ("away", ["all-reduce"]), ("wrong", ["all-reduce"]), ("not shared", ["--save is shared"])],
)
def test_all_reduce_and_a_shared_folder(tmp_path: Path, breaks: str, expected: list[str]) -> None:
    by_rank = run_distributed(reduce_on_ranks, 2, str(tmp_path), breaks, timeout_s=60)
    rows = [Row(*row) for rank in by_rank for row in rank]
    assert sorted(set(problems(rows))) == expected
    if not expected:
        assert any("GB/s" in row.seen for row in rows)


# The table


def test_rows_that_differ_name_their_hosts() -> None:
    same, here, there = ok("a", "1"), ok("b", "2"), problem("b", "3", "cure")
    merged = merge_ranks({0: ("n1", [same, here]), 1: ("n2", [same, there]), 2: ("n2", [same, there])})
    assert merged == [same, here._replace(seen="n1: 2"), there._replace(seen="n2: 3")]
    assert report(merged).splitlines()[-1] == "1 problem found"
    assert report([same]).splitlines()[2:] == ["| a | ok | 1 |  |", "", "no problem found"]
