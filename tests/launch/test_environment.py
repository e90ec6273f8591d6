"""The environment that makes itself: what it does the first and the second time, and what it refuses.

Installing for real takes minutes and the network; here a stand-in for Python notes what pip was asked for.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from launch import check_packages

PINS = {"torch": "2.13.0", "lxml": "6.1.3", "ninja": "1.13.2"}


def run_environment(root: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value for name, value in os.environ.items() if name not in ("PYTHON", "CXX", "TORCH_EXTENSIONS_DIR")
    }
    return subprocess.run(
        ["bash", str(root / "launch" / "environment.sh"), *arguments],
        env=environment | {"TORCH_BUILD": "cpu"} | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture
def copy_of_repository(repository: Path, tmp_path: Path) -> Path:
    """The files that environment.sh needs, in a place without .venv, and a stand-in for Python.

    bin/python3 makes environments that hold a copy of itself; it takes every pip command as done and writes
    it to pip.txt, and every check as passed. While a file named `pip-fails` is there, its pip fails.
    """
    for name in (
        "requirements.txt",
        "tests/requirements.txt",
        "launch/environment.sh",
        "launch/check_packages.py",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((repository / name).read_bytes())
    stand_in = tmp_path / "bin" / "python3"
    stand_in.parent.mkdir()
    stand_in.write_text(
        f"""#!/bin/bash
case "$*" in
"-m venv --clear "*)
    rm -rf "$4"
    mkdir -p "$4/bin"
    cp "$0" "$4/bin/python"
    echo venv >>"{tmp_path}/pip.txt" ;;
"-m pip "*)
    echo "$*" >>"{tmp_path}/pip.txt"
    [[ ! -f "{tmp_path}/pip-fails" ]] ;;
*ShareMemCommBuilder*)
    for operator in deepspeed_shm_comm fused_adam; do
        mkdir -p "$TORCH_EXTENSIONS_DIR/$operator"
        touch "$TORCH_EXTENSIONS_DIR/$operator/$operator.so"
    done
    echo operators >>"{tmp_path}/pip.txt" ;;
*version*torch*) exit 1 ;;
esac
"""
    )
    stand_in.chmod(0o755)
    return tmp_path


def steps(root: Path, **variables: str) -> list[str]:
    """Runs environment.sh with the stand-in first on the PATH; returns what it did since the last time."""
    log = root / "pip.txt"
    log.write_text("")
    result = run_environment(root, "tests", PATH=f"{root / 'bin'}:{os.environ['PATH']}", **variables)
    assert result.returncode == 0, result.stderr
    return log.read_text().splitlines()


def test_first_run_installs_and_second_does_nothing(copy_of_repository: Path) -> None:
    first = steps(copy_of_repository)
    assert first[0] == "venv" and first[-1] == "operators"
    assert "whl/cpu torch==2.13.0+cpu" in first[1]  # the CPU build, before anything pulls in another
    assert any(line.endswith("/tests/requirements.txt") for line in first)
    assert steps(copy_of_repository) == []


def test_an_interrupted_installation_is_made_again(copy_of_repository: Path) -> None:
    first = steps(copy_of_repository)
    (copy_of_repository / ".venv" / "installing").touch()  # as after a kill -9 of pip
    assert steps(copy_of_repository) == first
    (copy_of_repository / ".venv" / "torch_extensions" / "fused_adam" / "fused_adam.so").unlink()
    assert steps(copy_of_repository) == ["operators"]


def test_changed_requirements_are_installed(copy_of_repository: Path) -> None:
    steps(copy_of_repository)
    with (copy_of_repository / "tests" / "requirements.txt").open("a") as requirements:
        requirements.write("new-package==1.0  # a reason\n")
    assert any("tests/requirements.txt" in line for line in steps(copy_of_repository))


def test_a_gpu_that_appears_replaces_the_cpu_build(copy_of_repository: Path) -> None:
    steps(copy_of_repository)
    later = steps(copy_of_repository, TORCH_BUILD="cuda")
    assert any(line.endswith("torch==2.13.0") for line in later)
    assert steps(copy_of_repository, TORCH_BUILD="cuda") == []


def test_a_failing_pip_is_one_sentence_and_leaves_no_stamp(copy_of_repository: Path) -> None:
    (copy_of_repository / "pip-fails").touch()
    path = f"{copy_of_repository / 'bin'}:{os.environ['PATH']}"
    result = run_environment(copy_of_repository, PATH=path)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("error: pip could not install torch==2.13.0")
    (copy_of_repository / "pip-fails").unlink()
    assert "venv" in steps(copy_of_repository)


@pytest.mark.parametrize(
    ("there", "found"),
    [
        ({"python3": "3, 14", "python3.12": "3, 12"}, "python3.12"),
        ({"python3": "3, 12", "python3.13": "3, 13"}, "python3"),
        ({"python3": "3, 10", "python3.14": "3, 14"}, "python3.14"),  # better than none
    ],
)
def test_a_python_of_the_tested_versions_comes_first(
    repository: Path, tmp_path: Path, there: dict[str, str], found: str
) -> None:
    for name, version in there.items():
        code = f"import sys; sys.version_info = ({version}, 0)\\n"
        (tmp_path / name).write_text(f"#!/bin/bash\nexec {sys.executable} -c $'{code}'\"$2\"\n")
        (tmp_path / name).chmod(0o755)
    for program in ("bash", "dirname"):
        (tmp_path / program).symlink_to(shutil.which(program))
    command = f"source {repository}/launch/environment.sh && environment_find_python"
    result = subprocess.run(["bash", "-c", command], env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert result.stdout == f"{tmp_path / found}\n", result.stderr


def test_no_python_no_compiler(copy_of_repository: Path) -> None:
    empty = copy_of_repository / "empty"
    empty.mkdir()
    for program in ("bash", "dirname", "cat", "sha256sum", "cut", "mkdir", "rm"):
        found = subprocess.run(["which", program], capture_output=True, text=True, check=True).stdout.strip()
        (empty / program).symlink_to(found)
    result = run_environment(copy_of_repository, PATH=str(empty))
    assert result.returncode == 1 and "no Python 3.11" in result.stderr
    (empty / "python3").symlink_to(copy_of_repository / "bin" / "python3")
    result = run_environment(copy_of_repository, PATH=str(empty))
    assert result.returncode == 1 and "error: no C++ compiler was found" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "variables", "message"),
    [
        (["test"], {}, "takes nothing or 'tests', not 'test'"),
        ([], {"PYTHON": "/no/such/python"}, "PYTHON is '/no/such/python', which is not a program"),
        ([], {"PYTHON": "false"}, "not Python 3.11 or later"),
    ],
)
def test_refusals(copy_of_repository: Path, arguments: list[str], variables: dict[str, str], message: str) -> None:
    result = run_environment(copy_of_repository, *arguments, **variables)
    assert result.returncode == 1
    assert message in result.stderr
    assert not (copy_of_repository / ".venv").exists()


def test_a_given_environment_is_checked(repository: Path, tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("# comment\ntorch==2.13.0  # why\nno-such-package==1.0  # why\n")
    result = subprocess.run(
        [sys.executable, str(repository / "launch" / "check_packages.py"), str(requirements)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: {sys.executable} lacks no-such-package; install with: ")
    assert result.stderr.endswith(" no-such-package==1.0\n")
    assert f"pip install torch=={check_packages.installed_version('torch')} " in result.stderr


def test_versions_of_a_given_environment() -> None:
    assert check_packages.check(PINS, dict(PINS), "python") == []
    notes = check_packages.check(PINS, PINS | {"torch": "2.14.0a0+git", "lxml": "7.0"}, "python")
    assert notes == [
        "note: torch is 2.14.0a0+git, tested with 2.13.0",
        "note: lxml is 7.0, tested with 6.1.3",
    ]
    with pytest.raises(ValueError, match="has torch 2.9.1, and 2.13.0 or later is needed"):
        check_packages.check(PINS, PINS | {"torch": "2.9.1"}, "python")
    with pytest.raises(ValueError, match="has no torch"):
        check_packages.check(PINS, PINS | {"torch": None}, "python")
    with pytest.raises(ValueError, match="lacks lxml, ninja; install with"):
        check_packages.check(PINS, PINS | {"lxml": None, "ninja": None}, "python")
