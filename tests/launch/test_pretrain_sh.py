"""launch/pretrain.sh: valid bash and Python; settings, ranks, threads, signals, exit statuses.

Tested with a stand-in for Python, in tenths of a second, because all of this is decided before Python starts;
test_launchers.py has the same file under the real launchers.
"""

import ast
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from pretraining.ranks import LOCAL_SIZES
from tests.launch.launches import (
    PRETRAIN,
    REPOSITORY,
    Stub,
    finish,
    marked,
    run,
    start,
    wait_until,
    write_program,
    write_stub,
)
from tests.run_folders import run_state

CORES = len(os.sched_getaffinity(0))
STEP = {"SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_NTASKS": "4"}


@pytest.fixture
def stub(tmp_path: Path) -> Stub:
    """A stand-in for Python."""
    return write_stub(tmp_path)


def value(arguments: list[str], flag: str) -> str | None:
    """The last value of a flag, which is the one that counts."""
    values = [after for before, after in zip(arguments, arguments[1:], strict=False) if before == flag]
    return values[-1] if values else None


# ---- the file ----


def test_the_file_is_bash_and_python() -> None:
    text = PRETRAIN.read_text(encoding="utf-8")
    subprocess.run(["bash", "-n", PRETRAIN], check=True)
    tree = ast.parse(text)
    assert ast.get_docstring(tree, clean=False).startswith(':"\n# Pretrain')
    assert [type(node) for node in tree.body] == [ast.Expr, ast.If, ast.Pass]  # the bash part, main, the end word
    assert text.count('"' * 3) == 2 and "'" * 3 not in text
    assert "\\" not in text.rpartition('"' * 3)[0]


@pytest.mark.parametrize("path", [*sorted(REPOSITORY.glob("launch/*.sh")), REPOSITORY / "tests" / "run.sh"], ids=str)
def test_scripts_are_valid_and_executable(path: Path) -> None:
    subprocess.run(["bash", "-n", path], check=True)
    assert os.access(path, os.X_OK)
    if (REPOSITORY / ".git").exists():
        listed = subprocess.run(["git", "ls-files", "-s", path], cwd=REPOSITORY, capture_output=True, text=True)
        assert listed.stdout.startswith("100755 "), "git does not know that the file is executable"


# ---- ranks and threads, without training ----


@pytest.mark.parametrize(
    "variables",
    [
        {"RANK": "0", "WORLD_SIZE": "2"},
        STEP,
        {"OMPI_COMM_WORLD_RANK": "1"},
        {"PMI_RANK": "1"},
    ],
    ids=lambda variables: next(iter(variables)),
)
def test_a_process_of_a_launcher_becomes_the_trainer(stub: Stub, tmp_path: Path, variables: dict[str, str]) -> None:
    run(["bash", PRETRAIN, "--local_rank=0", "--seed", "3"], stub.environment(**variables), tmp_path)
    assert stub.launcher() is None
    (rank,) = stub.ranks()
    assert rank["arguments"][:3] == ["-u", "-m", "pretraining.train"]
    assert rank["arguments"][-3:] == ["--local_rank=0", "--seed", "3"]
    assert rank["environment"]["PYTHONPATH"].split(":")[0] == str(REPOSITORY)


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NTASKS": "2"},  # a batch script
        {"SLURM_STEP_ID": "4294967291", "SLURM_PROCID": "0", "SLURM_NTASKS": "2"},  # the same, as a step
        {"SLURM_STEP_ID": "4294967290", "SLURM_PROCID": "0", "SLURM_NTASKS": "2"},  # a shell inside salloc
        {"LOCAL_SIZE": "4"},
    ],
)
def test_any_other_process_starts_the_launcher(stub: Stub, tmp_path: Path, variables: dict[str, str]) -> None:
    run(["bash", PRETRAIN, "--seed", "3"], stub.environment(**variables), tmp_path)
    arguments = stub.launcher()["arguments"]
    assert arguments[:2] == ["-m", "deepspeed.launcher.runner"] and arguments[-3:] == [str(PRETRAIN), "--seed", "3"]
    assert int(value(arguments, "--master_port")) > 1024
    ranks = stub.ranks()
    assert [rank["environment"]["RANK"] for rank in ranks] == ["0", "1"]
    assert {rank["environment"]["LOCAL_SIZE"] for rank in ranks} == {variables.get("LOCAL_SIZE", "2")}


@pytest.mark.parametrize(
    ("body", "ranks"),
    [("exit 9", "2"), ("echo 'No devices found.'", "2"), ("echo 'GPU 0: H100'; echo 'GPU 1: H100'", None)],
)
def test_a_gpu_is_one_that_answers(stub: Stub, tmp_path: Path, body: str, ranks: str | None) -> None:
    program = write_program(tmp_path / "bin" / "nvidia-smi", f"#!/bin/sh\n{body}\n")
    environment = stub.environment(PATH=f"{program.parent}:{os.environ['PATH']}")
    environment.pop("LOCAL_SIZE", None)
    run(["bash", PRETRAIN], environment, tmp_path)
    assert stub.ranks()[0]["environment"].get("LOCAL_SIZE") == ranks


@pytest.mark.parametrize(
    ("variables", "threads"),
    [
        ({"LOCAL_WORLD_SIZE": "1"}, CORES),
        *(({name: "2"}, max(1, CORES // 2)) for name in LOCAL_SIZES),
        ({"LOCAL_SIZE": "100000"}, 1),
        ({"OMP_NUM_THREADS": "5"}, 5),
        ({"OMP_NUM_THREADS": "5", "THREADS_PER_RANK": "3"}, 3),
        ({"OMP_NUM_THREADS": "1", "TORCHELASTIC_RUN_ID": "x"}, CORES),  # torchrun set it
        (STEP | {"SLURM_STEP_TASKS_PER_NODE": "2(x2)"}, max(1, CORES // 2)),
        (STEP | {"SLURM_STEP_TASKS_PER_NODE": "2(x2)", "SLURM_CPUS_PER_TASK": "7"}, 7),  # nproc counts only these
        ({"LOCAL_SIZE": "2", "SLURM_STEP_ID": "0", "SLURM_CPUS_PER_TASK": "7"}, max(1, CORES // 2)),  # shared by ranks
    ],
)
def test_threads_of_a_rank(stub: Stub, tmp_path: Path, variables: dict[str, str], threads: int) -> None:
    launched = {} if "SLURM_PROCID" in variables else {"RANK": "0", "WORLD_SIZE": "2"}
    run(["bash", PRETRAIN], stub.environment(**launched, **variables), tmp_path)
    assert stub.ranks()[0]["environment"]["OMP_NUM_THREADS"] == str(threads)


def test_ninja_of_an_environment_that_is_not_activated_is_found(stub: Stub, tmp_path: Path) -> None:
    ninja = write_program(stub.folder / "ninja", "#!/bin/sh\n")
    environment = stub.environment(RANK="0", WORLD_SIZE="1")
    run(["bash", PRETRAIN], environment, tmp_path)
    found = shutil.which("ninja", path=stub.ranks()[0]["environment"]["PATH"])
    assert found == str(ninja)


# ---- settings, without training ----


def test_settings_are_variables_or_flags_and_flags_win(stub: Stub, tmp_path: Path) -> None:
    variables = {
        "PRESET": "base",
        "OBJECTIVE": "mlm",
        "DATA_PATH": "corpus/a b",
        "TOKENIZER": "t",
        "SPLIT": "8,1,1",
        "SEQ_LENGTH": "64",
        "MICRO_BATCH_SIZE": "4",
        "GLOBAL_BATCH_SIZE": "16",
        "TRAIN_ITERS": "7",
        "LR": "1e-3",
        "LR_WARMUP_ITERS": "2",
        "SAVE": "runs/a b",
        "SEED": "9",
        "DEEPSPEED_CONFIG": "d.json",
    }
    environment = stub.environment(RANK="0", WORLD_SIZE="1", **variables)
    run(["bash", PRETRAIN, "--lr", "2", "--split", "1,0,0"], environment, tmp_path)
    arguments = stub.ranks()[0]["arguments"]
    for name, given in variables.items():
        expected = {"LR": "2", "SPLIT": "1,0,0"}.get(name, given)
        assert value(arguments, "--" + name.lower().replace("_", "-")) == expected
    assert value(arguments, "--load") == "runs/a b"  # the same command again goes on


@pytest.mark.parametrize(
    ("flags", "save", "load"),
    [
        ([], "runs/small", "runs/small"),
        (["--preset", "base"], "runs/base", "runs/base"),
        (["--preset=base"], "runs/base", "runs/base"),
        (["--save", "x"], "x", "x"),
        (["--save=x"], "x", "x"),
        (["--load", "y"], "runs/small", "y"),
        (["--init-from", "z"], "runs/small", None),
    ],
)
def test_folders_of_a_run(stub: Stub, tmp_path: Path, flags: list[str], save: str, load: str | None) -> None:
    copy = copy_of_launch(tmp_path / "copy")
    run(["bash", copy, *flags], stub.environment(RANK="0", WORLD_SIZE="1"), tmp_path)
    arguments = stub.ranks()[0]["arguments"]
    root = str(copy.parents[1]) + "/"
    assert (value(arguments, "--save") or "").removeprefix(root) == save
    assert value(arguments, "--load") == (load if load in (None, "x", "y") else root + load)


def copy_of_launch(root: Path) -> Path:
    """launch/pretrain.sh in a checkout of its own, in which nothing has been made yet."""
    (root / "launch").mkdir(parents=True)
    shutil.copy2(PRETRAIN.parent / "environment.sh", root / "launch")
    return Path(shutil.copy2(PRETRAIN, root / "launch" / "pretrain.sh"))


@pytest.mark.parametrize("variables", [{}, *({"RANK": str(rank), "WORLD_SIZE": "2"} for rank in range(2))], ids=str)
def test_without_a_corpus_one_sentence_says_what_to_set(stub: Stub, tmp_path: Path, variables: dict[str, str]) -> None:
    environment = stub.environment(**variables)
    del environment["DATA_PATH"]
    result = run(["bash", copy_of_launch(tmp_path / "copy")], environment, tmp_path, status=1)
    lines = result.stderr.splitlines()
    if variables.get("RANK") == "1":
        assert lines == []  # another rank says so
    else:
        assert len(lines) == 1 and lines[0].startswith("error: set DATA_PATH=")
        assert "TOKENIZER=" in lines[0] and "launch/quickstart.sh" in lines[0]
    assert stub.launcher() is None and stub.ranks() == []


@pytest.mark.parametrize(("ranks", "batch"), [("1", None), ("2", None), ("3", "18"), ("6", "18"), ("7", "21")])
def test_with_nothing_set_the_sample_corpus_is_used(stub: Stub, tmp_path: Path, ranks: str, batch: str | None) -> None:
    copy = copy_of_launch(tmp_path / "copy")
    sample = tmp_path / "copy" / "runs" / "quickstart"
    sample.mkdir(parents=True)
    (sample / "corpus.json").touch()
    environment = stub.environment(RANK="0", WORLD_SIZE=ranks)
    del environment["DATA_PATH"]
    run(["bash", copy], environment, tmp_path)
    arguments = stub.ranks()[0]["arguments"]
    assert value(arguments, "--data-path") == str(sample / "corpus")
    assert value(arguments, "--tokenizer") == str(sample / "tokenizer")
    assert value(arguments, "--preset") == "tiny"
    assert value(arguments, "--save") == str(tmp_path / "copy" / "runs" / "sample-tiny")
    assert value(arguments, "--global-batch-size") == batch


# ---- exit statuses and signals, without training ----


@pytest.mark.parametrize(
    ("ending", "launcher_status", "flags", "status"),
    [
        ("finished", "0", [], 0),
        ("finished", "1", [], 0),
        ("stopped", "0", [], 75),
        ("stopped", "1", [], 75),
        ("invalid", "70", [], 70),
        ("running", "3", [], 3),
        ("running", "0", [], 1),  # a launcher that was killed reports success
        ("never", "1", [], 1),
        ("never", "0", [], 1),
        ("never", "0", ["--dry-run"], 0),
    ],
)
def test_the_status_is_that_of_the_run(
    stub: Stub, tmp_path: Path, ending: str, launcher_status: str, flags: list[str], status: int
) -> None:
    (tmp_path / "run").mkdir()
    old = '{"status": "finished", "step": 9, "launch": "1-1"}\n'  # an earlier run's, which says nothing about this one
    (tmp_path / "run" / "run_state.json").write_text(old)
    environment = stub.environment(SAVE="run", STUB_ENDING=ending, STUB_STATUS=launcher_status)
    run(["bash", PRETRAIN, *flags], environment, tmp_path, status)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGINT", "SIGHUP"])
def test_signals_reach_the_trainers(stub: Stub, tmp_path: Path, name: str) -> None:
    environment = stub.environment(SAVE="run", STUB_WAITS="1")
    process = start(["bash", PRETRAIN], environment, tmp_path)
    wait_until(lambda: len(stub.ranks()) == 2, "trainers")
    # As a terminal does: Ctrl-C goes to all of the foreground group, in which the launcher must not be.
    os.killpg(process.pid, getattr(signal, name))
    assert finish(process, environment, 20).returncode == 75
    assert [rank["signals"] for rank in stub.ranks()] == [[name.replace("HUP", "TERM")]] * 2
    assert run_state(tmp_path / "run")["status"] == "stopped"


def test_a_signal_before_the_trainers_is_kept_for_them(stub: Stub, tmp_path: Path) -> None:
    environment = stub.environment(SAVE="run", STUB_WAITS="1", STUB_DELAY_S="1")
    process = start(["bash", PRETRAIN], environment, tmp_path)
    wait_until(stub.launcher, "launcher")
    process.terminate()
    assert finish(process, environment, 20).returncode == 75
    assert stub.ranks()[0]["signals"] in ([], ["SIGTERM"])  # [] where it came before the trainer could note it


def test_trainers_outlive_a_killed_launcher_and_are_waited_for(stub: Stub, tmp_path: Path) -> None:
    environment = stub.environment(SAVE="run", STUB_WAITS="1")
    process = start(["bash", PRETRAIN], environment, tmp_path)
    wait_until(lambda: len(stub.ranks()) == 2, "trainers")
    os.kill(stub.launcher()["pid"], signal.SIGKILL)
    for pid in wait_until(lambda: marked(environment, "-m pretraining.train"), "trainers"):
        os.kill(pid, signal.SIGTERM)
    assert finish(process, environment, 20).returncode == 75
