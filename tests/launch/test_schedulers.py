"""launch/submit.sh, pbs.sh, lsf.sh and env.sh with stand-ins for what the schedulers bring: what is asked of them."""

import shlex
import subprocess
import time
from pathlib import Path

import pytest

from tests.launch.launches import REPOSITORY, clean_environment, error_lines, run, start, write_program

RECORD = '#!/bin/bash\n{{ printf "%s\\n" "$PWD" "$@"; }} >>"{folder}/{name}.txt"\n{more}\n'
LAUNCH = REPOSITORY / "launch"


def stand_in(folder: Path, name: str, more: str = "") -> None:
    """A program that writes down where it was called and its arguments."""
    write_program(folder / "bin" / name, RECORD.format(folder=folder, name=name, more=more))


def asked(folder: Path, name: str) -> list[str]:
    """Folder and arguments of all calls of a stand-in."""
    return (folder / f"{name}.txt").read_text().splitlines()


def environment(folder: Path, **variables: str) -> dict[str, str]:
    found = clean_environment(**variables)
    return found | {"PATH": f"{folder / 'bin'}:{found['PATH']}"}


# ---- submit.sh ----


def submit(folder: Path, *arguments: str, status: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
    variables = {"RUNS": str(folder / "runs"), **variables}
    return run(["bash", LAUNCH / "submit.sh", *arguments], environment(folder, **variables), folder, status)


def test_a_run_is_submitted_from_a_copy_of_the_code(tmp_path: Path) -> None:
    stand_in(tmp_path, "sbatch", 'env >"$(dirname "$0")/../env.txt"; echo 41')
    config = tmp_path / "my.json"
    config.write_text("{}")
    settings = {"DATA_PATH": "corpus/x", "DEEPSPEED_CONFIG": str(config)}
    result = submit(tmp_path, "first", "--nodes=2", "--", "--preset", "base", SCHEDULER="slurm", **settings)
    code = tmp_path / "runs" / "first" / "code"
    assert "submitted first, job 1 of 1: 41" in result.stdout
    words = asked(tmp_path, "sbatch")
    assert words[0] == str(code)
    assert words[-4:] == ["--nodes=2", "launch/slurm.sbatch", "--preset", "base"]
    assert (code / "pretraining" / "train.py").is_file() and (code / "ds_configs").is_dir()
    assert not list(code.rglob("__pycache__"))
    variables = dict(line.partition("=")[::2] for line in (tmp_path / "env.txt").read_text().splitlines())
    assert variables["SAVE"] == str(tmp_path / "runs" / "first")
    assert variables["PRETRAINING_ROOT"] == str(code)
    assert variables["DATA_PATH"] == str(tmp_path / "corpus" / "x")
    assert variables["DEEPSPEED_CONFIG"] == str(code / "deepspeed_config.json")
    assert variables["PRETRAINING_SUBMISSION"].startswith("first-")
    # an edit changes nothing for a run that was submitted once
    config.write_text('{"edited": 1}')
    (code / "pretraining" / "train.py").write_text("as submitted")
    again = submit(tmp_path, "first", SCHEDULER="slurm", **settings)
    assert "using the copy of the code" in again.stdout
    assert (code / "pretraining" / "train.py").read_text() == "as submitted"
    assert (code / "deepspeed_config.json").read_text() == "{}"


def test_paths_mean_the_same_in_the_folder_of_the_job(tmp_path: Path) -> None:
    stand_in(tmp_path, "sbatch", "echo 1")
    (tmp_path / "my.json").write_text("{}")
    flags = ["--data-path", "0.7", "a/x", "0.3", "b", "--tokenizer=t", "--deepspeed-config", "my.json", "--lr", "1e-4"]
    submit(tmp_path, "first", "--", *flags, SCHEDULER="slurm", RUNS="there")
    words = asked(tmp_path, "sbatch")
    assert words[0] == str(tmp_path / "there" / "first" / "code")
    assert words[words.index("launch/slurm.sbatch") + 1 :] == [
        "--data-path", "0.7", str(tmp_path / "a/x"), "0.3", str(tmp_path / "b"),
        "--tokenizer", str(tmp_path / "t"), "--lr", "1e-4",
    ]  # fmt: skip
    assert (tmp_path / "there/first/code/deepspeed_config.json").read_text() == "{}"
    # one of the repository's, as the trainer finds it; given after the first submission, it is not dropped
    submit(tmp_path, "third", "--", "--stage-data-to", "scratch", SCHEDULER="slurm")
    assert asked(tmp_path, "sbatch")[-1] == str(tmp_path / "scratch")
    submit(tmp_path, "third", "--", "--deepspeed-config", "ds_configs/zero2_bf16.json", SCHEDULER="slurm")
    copied = tmp_path / "runs/third/code/deepspeed_config.json"
    assert copied.read_text() == (REPOSITORY / "ds_configs/zero2_bf16.json").read_text()
    result = submit(tmp_path, "second", "--", "--save", "x", SCHEDULER="slurm", status=1)
    assert "--save is the folder of the run here" in result.stderr


def test_a_blend_in_one_word_means_the_same_in_the_folder_of_the_job(tmp_path: Path) -> None:
    """As DATA_PATH has it: weights stay, prefixes become absolute; a prefix with blanks is one prefix."""
    stand_in(tmp_path, "sbatch", 'env >"$(dirname "$0")/../env.txt"; echo 1')
    absolute = f"0.7 {tmp_path}/a/x 0.3 {tmp_path}/b"
    for given, means in {"0.7 a/x 0.3 b": absolute, "a b/c": f"{tmp_path}/a b/c", "7": f"{tmp_path}/7"}.items():
        submit(tmp_path, "first", "--", "--data-path", "0.7 a/x 0.3 b", SCHEDULER="slurm", DATA_PATH=given)
        variables = dict(line.partition("=")[::2] for line in (tmp_path / "env.txt").read_text().splitlines())
        assert variables["DATA_PATH"] == means
        assert asked(tmp_path, "sbatch")[-1] == absolute


@pytest.mark.parametrize(
    ("scheduler", "program", "answer", "dependencies"),
    [
        ("slurm", "sbatch", "echo $((40 + $(grep -c parsable {}/sbatch.txt)))", ["afterany:41", "afterany:42"]),
        ("pbs", "qsub", "echo $(grep -c '^-V' {}/qsub.txt).host", ["depend=afterany:1.host", "depend=afterany:2.host"]),
        ("lsf", "bsub", 'echo "Job <$(grep -c "^-J" {}/bsub.txt)> is submitted."', ["ended(1)", "ended(2)"]),
    ],
)
def test_chains_by_dependency(
    scheduler: str, program: str, answer: str, dependencies: list[str], tmp_path: Path
) -> None:
    stand_in(tmp_path, program, answer.format(tmp_path))
    result = submit(tmp_path, "a", "--chain", "3", "-q", "long", "--", "--lr", "1e-4", SCHEDULER=scheduler)
    assert result.stdout.count("submitted a, job") == 3
    words = asked(tmp_path, program)
    assert [word for word in words if word in dependencies] == dependencies
    assert words.count("long") == 3


def test_dry_run_and_mistakes(tmp_path: Path) -> None:
    result = submit(tmp_path, "a", "--chain", "2", SCHEDULER="pbs", DRY_RUN="1")
    assert result.stderr.count("qsub -V") == 2
    for arguments, variables, message in (
        ((), {}, "give a NAME"),
        (("../a",), {}, "give a NAME"),
        (("a", "--chain", "x"), {}, "--chain 'x'"),
        (("a",), {"SCHEDULER": "cron"}, "SCHEDULER is 'cron'"),
        (("b",), {"SCHEDULER": "slurm", "DEEPSPEED_CONFIG": "none.json"}, "none.json does not exist"),
    ):
        result = submit(tmp_path, *arguments, status=1, **variables)
        assert len(error_lines(result)) == 1 and message in result.stderr
    assert not (tmp_path / "runs" / "b" / "code").exists()


# ---- pbs.sh and lsf.sh ----


@pytest.fixture
def hosts(tmp_path: Path) -> Path:
    path = tmp_path / "hosts"
    path.write_text("node1\nnode1\nnode2\nnode2\n")
    return path


def test_pbs_starts_ranks_by_mpiexec_and_knows_its_time_limit(tmp_path: Path, hosts: Path) -> None:
    stand_in(tmp_path, "mpiexec", 'echo "$MASTER_ADDR $MASTER_PORT" >"$(dirname "$0")/../address.txt"; exit 75')
    stand_in(tmp_path, "qstat", 'echo "    Resource_List.walltime = 03:20:00"')
    variables = {
        "PBS_NODEFILE": str(hosts),
        "PBS_JOBID": "123.server",
        "PBS_O_WORKDIR": str(REPOSITORY),
        "PRETRAIN_FLAGS": shlex.join(["--save", "a b"]),
    }
    run(["bash", LAUNCH / "pbs.sh"], environment(tmp_path, **variables), tmp_path, 75)
    words = asked(tmp_path, "mpiexec")
    assert words[1:] == [
        "bash", str(LAUNCH / "pretrain.sh"), "--exit-duration-in-mins", "180", "--save", "a b"
    ]  # fmt: skip
    assert (tmp_path / "address.txt").read_text() == "node1 29623\n"


@pytest.mark.parametrize(
    ("variables", "answer", "minutes"),
    [
        ({"PBS_WALLTIME": "12000"}, "", "180"),  # Torque
        ({}, "Resource_List.walltime = 3600", "54"),
        ({}, "Resource_List.walltime = 30:00", "27"),
        ({}, "", None),  # compute nodes without qstat
        ({"PRETRAIN_FLAGS": "--exit-duration-in-mins=7"}, "", "7"),
    ],
)
def test_a_time_limit_that_pbs_does_not_tell_is_missed_aloud(
    variables: dict[str, str], answer: str, minutes: str | None, tmp_path: Path, hosts: Path
) -> None:
    stand_in(tmp_path, "mpiexec")
    stand_in(tmp_path, "qstat", f"echo '    {answer}'" if answer else "exit 127")
    found = environment(
        tmp_path, PBS_NODEFILE=str(hosts), PBS_O_WORKDIR=str(REPOSITORY), MPIEXEC_FLAGS="-n 4 -ppn 2", **variables
    )
    result = run(["bash", LAUNCH / "pbs.sh"], found, tmp_path)
    words = " ".join(asked(tmp_path, "mpiexec")[1:]).replace("=", " ")
    assert words.startswith("-n 4 -ppn 2 bash ")
    assert words.endswith(f" --exit-duration-in-mins {minutes}" if minutes else "pretrain.sh")
    assert ("warning: qstat tells no time limit here: give --exit-duration" in result.stderr) == (minutes is None)


@pytest.mark.parametrize("program", ["jsrun", "mpiexec"])
def test_lsf_starts_ranks_and_passes_its_warning_on(program: str, tmp_path: Path, hosts: Path) -> None:
    noted = 'folder="$(dirname "$0")/.."; echo "$MASTER_ADDR" >"$folder/address"; touch "$folder/started"; '
    wait = noted + "trap 'exit 75' USR1; while true; do sleep 0.1; done"
    stand_in(tmp_path, program, wait)
    hosts.write_text("batch1\nnode9\nnode9\nnode2\nnode2\n")  # rank 0's is the first, not the least
    variables = {"LSB_DJOB_HOSTFILE": str(hosts), "LSB_JOBID": "9", "LS_SUBCWD": str(REPOSITORY), "RANKS_PER_NODE": "2"}
    found = environment(tmp_path, **variables, PRETRAIN_FLAGS="--lr 1e-4 ")
    process = start(["bash", LAUNCH / "lsf.sh"], found, tmp_path)
    while not (tmp_path / "started").exists():
        time.sleep(0.05)
    process.send_signal(10)  # USR1, ten minutes before the limit
    assert process.wait(20) == 75
    words = asked(tmp_path, program)[1:]
    assert words[-4:] == ["bash", str(LAUNCH / "pretrain.sh"), "--lr", "1e-4"]
    assert (tmp_path / "address").read_text() == "node9\n"
    assert words[:2] == ["-n", "4"]  # two hosts of two ranks: the batch host has none


@pytest.mark.parametrize("name", ["pbs.sh", "lsf.sh"])
def test_directives_name_no_site(name: str) -> None:
    text = (LAUNCH / name).read_text()
    mark = {"pbs.sh": "#PBS", "lsf.sh": "#BSUB"}[name]
    lines = text.splitlines()
    directives = [line for line in lines if line.startswith(mark)]
    first_command = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    assert directives and not any(line.startswith(mark) for line in lines[first_command:])
    assert not any(word in "".join(directives) for word in (" -q ", " -A ", " -P ", "filesystems", "queue"))
    if name == "lsf.sh":
        assert {"#BSUB -Q 75", "#BSUB -r"} <= set(directives)  # a run that stopped is queued again


@pytest.mark.parametrize("name", ["pbs.sh", "lsf.sh"])
def test_a_missing_repository_is_one_sentence(name: str, tmp_path: Path) -> None:
    found = environment(tmp_path, PBS_O_WORKDIR=str(tmp_path), LS_SUBCWD=str(tmp_path))
    result = run(["bash", LAUNCH / name], found, tmp_path, 1)
    assert len(error_lines(result)) == 1 and "PRETRAINING_ROOT" in result.stderr


# ---- env.sh ----


@pytest.mark.parametrize("name", ["SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID"])
def test_starts_of_a_job_are_counted_under_its_number_or_that_of_its_chain(name: str, tmp_path: Path) -> None:
    show = 'ROOT=/r; source "$1"; env'
    for chain, found in (({}, "17"), ({"PRETRAINING_SUBMISSION": "a-1"}, "a-1")):
        variables = environment(tmp_path, **{name: "17"}, **chain)
        output = run(["bash", "-c", show, "bash", LAUNCH / "env.sh"], variables, tmp_path).stdout.splitlines()
        assert f"PRETRAINING_SUBMISSION={found}" in output and "STARTS_WITHOUT_PROGRESS=3" in output


SHOW = 'ROOT=/r; source "$1"; printf "%s\\n" "${RANK_COMMAND[@]}" "${NCCL_SOCKET_IFNAME:-}" "${TMPDIR:-}"'


def site(folder: Path, status: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
    return run(["bash", "-c", SHOW, "bash", LAUNCH / "env.sh"], environment(folder, **variables), folder, status)


def test_what_a_site_sets(tmp_path: Path) -> None:
    assert site(tmp_path, TMPDIR="/t").stdout.split("\n") == ["bash", "/r/launch/pretrain.sh", "", "/t", ""]
    (tmp_path / "site").write_text("INTERFACE=ib0\nSCRATCH=/local\n")
    lines = site(tmp_path, SITE_ENV=str(tmp_path / "site")).stdout.split("\n")
    assert lines[-3:] == ["ib0", "/local", ""]
    image = tmp_path / "image.sif"
    image.touch()
    stand_in(tmp_path, "apptainer")
    data = {"SAVE": str(tmp_path / "not" / "yet"), "DATA_PATH": str(tmp_path / "bin" / "corpus")}
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    flags = f"--data-path 0.5 {tmp_path}/a/x 0.5 {tmp_path}/bin/y --tensorboard-dir={tmp_path}/b/c/d --lr 1e-4"
    container = {"CONTAINER": str(image), "BIND": "/data", "SCRATCH": "/local", "PRETRAIN_FLAGS": flags}
    words = site(tmp_path, **container, **data).stdout.split("\n")
    assert words[0].endswith("bin/apptainer")
    seen = ["/r", "/data", "/local", str(tmp_path), *(str(tmp_path / name) for name in ("bin", "a", "b"))]
    assert words[1:4] == ["exec", "--nv", "--bind"] and words[4].split(",") == seen
    assert words[7:10] == [str(image), "bash", "/r/launch/pretrain.sh"]
    container = {"CONTAINER": str(image), "PRETRAIN_FLAGS": "--lr 1e-4"}
    blend = {"DATA_PATH": f"0.7 {tmp_path}/a/x 0.3 {tmp_path}/bin/y"}  # in one word, as the variable has it
    seen = ["/r", str(tmp_path / "a"), str(tmp_path / "bin")]
    assert site(tmp_path, **container, **blend).stdout.split("\n")[4].split(",") == seen
    (tmp_path / "a" / "c d").mkdir()
    words = site(tmp_path, **container, DATA_PATH=f"{tmp_path}/a/c d/x").stdout.split("\n")
    assert words[4] == f"/r,{tmp_path}/a/c d"
    result = site(tmp_path, 1, CONTAINER="missing.sif")
    assert len(error_lines(result)) == 1 and "missing.sif does not exist" in result.stderr


def test_what_a_site_brings_may_ask_for_variables_that_are_not_set(tmp_path: Path) -> None:
    """The scripts that source env.sh have `set -u`, by which /etc/profile, conda and some modules would end a job."""
    (tmp_path / "site").write_text('[ -n "$NOBODY_HAS_SET_THIS" ] || INTERFACE=ib0\n')
    (tmp_path / "modules").write_text('module() { echo "$1 $2 $NOR_THIS"; }\n')
    script = 'source "$2"; set -u; ROOT=/r; source "$1"; echo "$INTERFACE"; echo "$NOR_THIS"'
    words = ["bash", "-c", script, "bash", LAUNCH / "env.sh", tmp_path / "modules"]
    variables = environment(tmp_path, SITE_ENV=str(tmp_path / "site"), MODULES="cuda")
    result = subprocess.run(words, env=variables, capture_output=True, text=True)
    assert result.stdout == "load cuda \nib0\n" and "NOR_THIS: unbound variable" in result.stderr  # strict again


# ---- containers ----


def test_both_containers_are_built_by_the_same_steps() -> None:
    """They cannot be built by a test; what they install can be compared, and exists."""
    docker = (LAUNCH / "containers" / "Dockerfile").read_text()
    apptainer = (LAUNCH / "containers" / "pretraining.def").read_text()

    def commands(text: str, start: str) -> list[str]:
        return sorted(line.strip(" \\&;") for line in text.splitlines() if line.strip().startswith(start))

    assert commands(docker.replace("RUN ", ""), "python3 -m pip") == commands(apptainer, "python3 -m pip")
    for words in ("apt-get install -y", "git clone --depth 1 https://github.com/NVIDIA/apex", "APEX_CUDA_EXT=1"):
        assert words in docker and words in apptainer
    (base,) = (line.split()[1] for line in docker.splitlines() if line.startswith("FROM "))
    assert f"From: {base}" in apptainer
