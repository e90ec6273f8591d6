"""What a run ran on: the commit where git knows it, the device, and no failure where nothing is known."""

import subprocess
from pathlib import Path

import pytest
import torch

from pretraining import machine
from pretraining.ds_config import precision_of_hardware


def test_the_commit_is_that_of_the_code_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        line = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()

    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "--message", "one")
    monkeypatch.setattr(machine, "REPOSITORY", tmp_path)
    assert git("rev-parse", "HEAD").startswith(machine.commit_of_code())
    (tmp_path / "copy").mkdir()  # of the code, inside another repository
    monkeypatch.setattr(machine, "REPOSITORY", tmp_path / "copy")
    assert machine.commit_of_code() == "unknown"


@pytest.mark.parametrize("error", [FileNotFoundError("git"), subprocess.TimeoutExpired("git", 10)])
def test_git_that_is_missing_or_slow_fails_no_run(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*arguments: object, **more: object) -> None:
        raise error

    monkeypatch.setattr(machine.subprocess, "run", run)
    facts = machine.machine_facts(torch.device("cpu"))
    assert facts["commit"] == "unknown" and facts["torch"] == torch.__version__
    instructions = facts["device"].rsplit("(", 1)[1].rstrip(")").split(", ")
    assert instructions[0] == torch.backends.cpu.get_cpu_capability()
    assert ("avx512_bf16" in instructions) == bool(torch.cpu.get_capabilities().get("avx512_bf16"))


def test_deepspeed_s_word_decides_what_a_machine_with_gpus_trains_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise its CPU would get a GPU's precision, layers compiled for it, and a profile of nothing."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delenv("DS_ACCELERATOR", raising=False)
    assert machine.uses_gpu()
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    assert not machine.uses_gpu()
    instructions = {"fp32": {}, "bf16": {"avx512_bf16": True}}
    for precision, found in instructions.items():
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=found: found)
        assert precision_of_hardware() == precision
