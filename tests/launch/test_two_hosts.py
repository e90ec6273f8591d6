"""Two hosts for real (tests/launch/two_hosts.py): torchrun and `deepspeed`, over ssh and without, give the run of a
single host; a host that is cut off ends the run within the time that --distributed-timeout-minutes states, and the next
start ends as if nothing had happened.
"""

from pathlib import Path
from typing import Any

import pytest

from tests.launch.launches import PRETRAIN, REPOSITORY, clean_environment, marked, run, start, wait_until
from tests.launch.two_hosts import INTERFACE, Hosts, two_hosts
from tests.run_folders import metric_rows, run_state
from tests.tiny import make_corpus
from tests.training_runs import flags_of, start_training

pytestmark = pytest.mark.slow
PORT = "29571"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def one_host(corpus: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """Metrics of ten steps of two ranks on one host."""
    return undisturbed(corpus, tmp_path_factory.mktemp("one"), train_iters=10)


def undisturbed(corpus: tuple[Path, Path], folder: Path, **settings: Any) -> list[dict]:
    """Metrics of a run of two ranks on one host."""
    run = start_training(folder / "out", 2, flags_of(corpus, folder / "whole", **settings)).wait(timeout_s=900)
    assert run.statuses == [0, 0], run.report()
    return metric_rows(folder / "whole")


def variables(**more: str) -> dict[str, str]:
    return clean_environment(THREADS_PER_RANK="1", GLOO_SOCKET_IFNAME=INTERFACE, **more)


def torchrun(hosts: Hosts, number: int, flags: list[str]) -> list[str]:
    launcher = [
        "torchrun", "--nnodes=2", f"--node-rank={number}", "--nproc-per-node=1",
        f"--master-addr={hosts.addresses[0]}", f"--master-port={PORT}", "--no-python", str(PRETRAIN),
    ]  # fmt: skip
    return hosts.command(number, [*launcher, *flags])


def test_torchrun_on_two_hosts(corpus: tuple[Path, Path], one_host: list[dict], tmp_path: Path) -> None:
    environment = variables()
    flags = flags_of(corpus, tmp_path / "run", train_iters=10)
    with two_hosts(tmp_path) as hosts:
        processes = [start(torchrun(hosts, number, flags), environment, REPOSITORY) for number in (0, 1)]
        results = [process.communicate(timeout=900) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], results
    assert metric_rows(tmp_path / "run") == one_host


def test_deepspeed_without_ssh_on_two_hosts(corpus: tuple[Path, Path], one_host: list[dict], tmp_path: Path) -> None:
    """The same command on each host, but for --node_rank."""
    environment = variables()
    flags = flags_of(corpus, tmp_path / "run", train_iters=10)
    with two_hosts(tmp_path) as hosts:
        (tmp_path / "hosts").write_text("".join(f"{address} slots=1\n" for address in hosts.addresses))
        command = ["deepspeed", f"--hostfile={tmp_path / 'hosts'}", "--no_ssh", f"--master_addr={hosts.addresses[0]}"]
        processes = [
            start(hosts.command(number, [*command, f"--node_rank={number}", PRETRAIN, *flags]), environment, REPOSITORY)
            for number in (0, 1)
        ]
        results = [process.communicate(timeout=900) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], results
    assert metric_rows(tmp_path / "run") == one_host


def test_deepspeed_with_a_hostfile_on_two_hosts(
    corpus: tuple[Path, Path], one_host: list[dict], tmp_path: Path
) -> None:
    with two_hosts(tmp_path, ssh=True) as hosts:
        environment = variables(DS_ENV_FILE=str(tmp_path / "variables"))
        environment["PATH"] = f"{tmp_path / 'bin'}:{environment['PATH']}"
        # What DeepSpeed does not pass on by itself. It takes no blank line and no comment in this file.
        names = ("PATH", "PYTHON", "DS_ACCELERATOR", "THREADS_PER_RANK", "GLOO_SOCKET_IFNAME", "TEST_LAUNCH_ID")
        kept = [f"{name}={environment[name]}" for name in names]
        (tmp_path / "variables").write_text("\n".join([*kept, f"TORCH_EXTENSIONS_DIR={extensions(environment)}"]))
        (tmp_path / "hosts").write_text("".join(f"{address} slots=1\n" for address in hosts.addresses))
        command = ["deepspeed", f"--hostfile={tmp_path / 'hosts'}", f"--master_addr={hosts.addresses[0]}", PRETRAIN]
        flags = flags_of(corpus, tmp_path / "run", train_iters=10)
        run(hosts.command(0, [*command, *flags]), environment, REPOSITORY)
    assert metric_rows(tmp_path / "run") == one_host


def extensions(environment: dict[str, str]) -> str:
    """Where DeepSpeed's compiled operators are, so that the other host does not compile them again."""
    return environment.get("TORCH_EXTENSIONS_DIR") or str(REPOSITORY / ".venv" / "torch_extensions")


def test_a_host_that_is_cut_off_ends_the_run_of_two_hosts_and_the_next_start_goes_on(
    corpus: tuple[Path, Path], tmp_path: Path
) -> None:
    environment = variables()
    folder = tmp_path / "run"
    steps = {"train_iters": 400, "save_interval": 5, "hidden_dropout": 0.1}
    flags = flags_of(corpus, folder, load=folder, distributed_timeout_minutes=0.25, **steps)
    with two_hosts(tmp_path) as hosts:
        processes = [start(torchrun(hosts, number, flags), environment, REPOSITORY) for number in (0, 1)]
        wait_until(lambda: any(folder.glob("checkpoints/step_*/manifest.json")), "checkpoint", timeout_s=900)
        hosts.cut(1)
        outputs = [process.communicate(timeout=300) for process in processes]
        assert all(process.returncode != 0 for process in processes), outputs
        words = "".join(text for output in outputs for text in output)
        assert f"no answer from {hosts.addresses[1]} (seen from {hosts.addresses[0]})" in words, words[-3000:]
        wait_until(lambda: not marked(environment), "end of all ranks", timeout_s=60)
        hosts.mend()
        assert run_state(folder)["step"] < 400
        processes = [start(torchrun(hosts, number, flags), environment, REPOSITORY) for number in (0, 1)]
        results = [process.communicate(timeout=900) for process in processes]
    assert [process.returncode for process in processes] == [0, 0] and run_state(folder)["status"] == "finished", (
        results
    )
    assert metric_rows(folder) == undisturbed(corpus, tmp_path, **steps)
