"""Starts launch/pretrain.sh as people and schedulers do, and looks at what is left of it.

    result = run(["bash", PRETRAIN, *flags], clean_environment(PRESET="tiny"), cwd=tmp_path)

    stub = write_stub(tmp_path)                   # a stand-in for Python: no training, only the bash part
    result = run(["bash", PRETRAIN], stub.environment(), cwd=tmp_path)
    assert stub.ranks()[0]["arguments"] == [...]

Every process started here carries a mark in its environment, by which it is found and ended.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
PRETRAIN = REPOSITORY / "launch" / "pretrain.sh"
MARK = "TEST_LAUNCH_ID"
# What launchers, schedulers and users set, and launch/pretrain.sh reads.
PREFIXES = (
    "SLURM_",
    "SRUN_",
    "SBATCH_",
    "OMPI_",
    "PMI_",
    "PALS_",
    "MPI_",
    "TORCHELASTIC_",
    "CROSS_",
    "MASTER_",
    "PBS_",
    "LSB_",
    "JSM_",
)
NAMES = (
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "LOCAL_SIZE", "GROUP_RANK", "OMP_NUM_THREADS"),
    *(
        "THREADS_PER_RANK",
        "PRETRAINING_RUN_ID",
        "PRETRAINING_ROOT",
        "PRETRAINING_SUBMISSION",
        "PYTHON",
        "PYTHONPATH",
        "PRESET",
        "OBJECTIVE",
    ),
    *("DATA_PATH", "TOKENIZER", "SPLIT", "SEQ_LENGTH", "MICRO_BATCH_SIZE", "GLOBAL_BATCH_SIZE", "TRAIN_ITERS"),
    *("LR", "LR_WARMUP_ITERS", "SAVE", "SEED", "DEEPSPEED_CONFIG"),
)

# Stands for Python. As DeepSpeed's runner it starts two ranks, after a while if told so, and dies of any signal without
# passing it on; as the trainer it writes down its arguments and variables, may wait for a signal, and ends as told.
STUB = """\
import json, os, signal, subprocess, sys, time
from pathlib import Path

arguments, folder = sys.argv[1:], Path(__file__).parent
def note(name, facts):  # whole or not at all: the test reads while this runs
    (folder / (name + ".part")).write_text(json.dumps(facts))
    (folder / (name + ".part")).rename(folder / (name + ".json"))
if arguments[0] == "-c":
    os.execv(sys.executable, [sys.executable, *arguments])
if "deepspeed.launcher.runner" in arguments:
    note("launcher", dict(pid=os.getpid(), arguments=arguments))
    time.sleep(float(os.environ.get("STUB_DELAY_S", 0)))
    script = next(number for number, word in enumerate(arguments) if word.endswith(".sh"))
    ranks = [
        subprocess.Popen(["bash", *arguments[script:]], env=os.environ | dict(RANK=str(rank), WORLD_SIZE="2"))
        for rank in range(2)
    ]
    sys.exit(max(rank.wait() for rank in ranks))

rank, ending, got = os.environ.get("RANK", "0"), os.environ.get("STUB_ENDING", "finished"), []
if "STUB_WAITS" in os.environ:
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        signal.signal(number, lambda number, frame: got.append(signal.Signals(number).name))
facts = dict(arguments=arguments, environment=dict(os.environ))
note(f"rank{rank}", facts)
while "STUB_WAITS" in os.environ and not got:
    time.sleep(0.05)
time.sleep(0.3 if got else 0)  # a checkpoint
note(f"rank{rank}", facts | dict(signals=got))
if rank == "0" and ending != "never":
    save = Path([value for flag, value in zip(arguments, arguments[1:]) if flag == "--save"][-1])
    save.mkdir(parents=True, exist_ok=True)
    state = dict(status="stopped" if got else ending, step=1, launch=os.environ.get("PRETRAINING_RUN_ID", ""))
    (save / "run_state.json").write_text(json.dumps(state))
sys.exit(75 if got else int(os.environ.get("STUB_STATUS", 0)))
"""


class Stub:
    """A stand-in for Python in a folder of its own, and what was asked of it."""

    def __init__(self, folder: Path):
        self.folder = folder

    def environment(self, **variables: str) -> dict[str, str]:
        """Variables under which launch/pretrain.sh uses the stand-in."""
        return clean_environment(**({"PYTHON": str(self.folder / "python"), "DATA_PATH": "c"} | variables))

    def ranks(self) -> list[dict[str, Any]]:
        """Arguments, variables and received signals of each rank."""
        return [json.loads(path.read_text()) for path in sorted(self.folder.glob("rank*.json"))]

    def launcher(self) -> dict[str, Any] | None:
        """Arguments and process id of DeepSpeed's runner, or None where it was not asked for."""
        path = self.folder / "launcher.json"
        return json.loads(path.read_text()) if path.exists() else None


def write_stub(folder: Path) -> Stub:
    """A new stand-in for Python."""
    stub = folder / "stub"
    stub.mkdir()
    write_program(stub / "python", f"#!{sys.executable}\n{STUB}")
    return Stub(stub)


def write_program(path: Path, text: str) -> Path:
    """An executable file."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


def clean_environment(**variables: str) -> dict[str, str]:
    """This process's variables without those that decide about a launch, then the given ones; CPU ranks."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIXES) and name not in NAMES}
    here = {
        "PYTHON": sys.executable,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "DS_ACCELERATOR": "cpu",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONDONTWRITEBYTECODE": "1",
        MARK: uuid.uuid4().hex,
    }
    if shutil.which("nvidia-smi"):
        here["LOCAL_SIZE"] = "2"
    return kept | here | variables


def start(command: list[str | Path], environment: dict[str, str], cwd: Path) -> subprocess.Popen[str]:
    """Start a command in a process group of its own, as from a terminal: no signal is ignored.

    Under nohup, or behind a shell's &, this process ignores HUP or INT; bash cannot trap what it was started to ignore.
    """

    def default_signals() -> None:
        for number in (signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)

    return subprocess.Popen(
        [str(part) for part in command],
        env=environment,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=default_signals,
    )


def finish(
    process: subprocess.Popen[str], environment: dict[str, str], timeout_s: float = 300
) -> subprocess.CompletedProcess[str]:
    """Wait for a command; nothing that it started may be left then, and whatever is left is killed."""
    try:
        output, errors = process.communicate(timeout=timeout_s)
        assert marked(environment) == [], f"still there: {marked(environment)}\n{output}\n{errors}"
    finally:
        for pid in marked(environment):
            os.kill(pid, signal.SIGKILL)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def run(
    command: list[str | Path], environment: dict[str, str], cwd: Path, status: int | None = 0
) -> subprocess.CompletedProcess[str]:
    """Start a command and wait for it; it must end with this status (None: any) and leave no process behind."""
    result = finish(start(command, environment, cwd), environment)
    if status is not None:
        assert result.returncode == status, f"status {result.returncode}\n{result.stdout}\n{result.stderr}"
    return result


def marked(environment: dict[str, str], words: str = "") -> list[int]:
    """Process ids of what was started under this environment and has these words in its command line."""
    found, mark = [], f"{MARK}={environment[MARK]}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if mark in (folder / "environ").read_bytes().split(b"\0") and command and words in command:
                found.append(int(folder.name))
        except OSError:
            continue  # it has ended, or is somebody else's
    return sorted(found)


def wait_until(condition: Callable[[], Any], what: str, timeout_s: float = 300) -> Any:
    """The first true value of the condition; raises TimeoutError naming what was waited for."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.1)
    raise TimeoutError(f"no {what} after {timeout_s:g} s")


def error_lines(result: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines that begin with `error: `."""
    return [line for line in result.stderr.splitlines() if line.startswith("error: ")]
