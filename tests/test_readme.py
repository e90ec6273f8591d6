"""Every command of the README, run in its order in a fresh copy of the repository; and what the quickstart promises.

The slow tests run the quickstart in full (minutes), then each further command on what it made, and show that its
benchmark is learnable but not trivial: an encoder with random weights scores well below the pretrained one.
"""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import transformers

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^```bash\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
QUICKSTART = "bash launch/quickstart.sh\n"
MINUTES = 10  # of the quickstart, on two cores
MARGIN = 0.10  # of entity-level F1, between every seed of the pretrained encoder and the best one with random weights
# Stand-ins for Slurm: one node, two tasks. A real Slurm is used in tests/launch/test_slurm.py where there is one.
STUBS = {
    "sbatch": 'while [[ $1 != *.sbatch ]]; do shift; done\nSLURM_SUBMIT_DIR=$PWD SLURM_JOB_ID=1 bash "$@"\n',
    "srun": """while [[ $1 == --* ]]; do shift; done
export SLURM_STEP_ID=0 SLURM_NTASKS=2 SLURM_STEP_TASKS_PER_NODE=2 SLURM_STEP_NODELIST=127.0.0.1
for rank in 0 1; do SLURM_PROCID=$rank SLURM_LOCALID=$rank "$@" & tasks+=($!); done
for task in "${tasks[@]}"; do wait "$task" || exit; done
""",
}


def test_the_readme_has_the_two_commands_and_no_placeholder() -> None:
    assert COMMANDS[:2] == [QUICKSTART, "bash tests/run.sh\n"]
    assert "@@" not in README


@pytest.mark.parametrize("module", sorted(set(re.findall(r"python -m ([\w.]+)", "".join(COMMANDS)))))
def test_every_stage_command_has_help(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process: one of its own would import torch again for each."""
    monkeypatch.setattr(sys, "argv", [module, "--help"])
    with pytest.raises(SystemExit) as stopped:
        importlib.import_module(module).main()
    assert stopped.value.code == 0 and "usage" in capsys.readouterr().out.lower()


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the files that git has, and nothing else."""
    folder = tmp_path_factory.mktemp("checkout") / "repository"
    files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    for name in files.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def run(command: str, checkout: Path) -> str:
    """Run one block of commands as a user would; its output, after checking that it went well."""
    stubs = checkout.parent / "stubs"
    stubs.mkdir(exist_ok=True)
    for name, body in STUBS.items():
        (stubs / name).write_text("#!/usr/bin/env bash\nset -e\n" + body)
        (stubs / name).chmod(0o755)
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SLURM") and name not in ("OMP_NUM_THREADS", "RANK", "WORLD_SIZE")
    }
    environment |= {
        "PYTHON": sys.executable,
        "PYTHONPATH": str(checkout),
        "PATH": f"{stubs}:{Path(sys.executable).parent}:{environment['PATH']}",
        "PYTEST_ADDOPTS": "--collect-only -q",  # the README's test command would run this test again
    }
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command], cwd=checkout, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, f"{command}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
    return result.stdout


@pytest.fixture(scope="module")
def quickstart(checkout: Path) -> str:
    return run(QUICKSTART, checkout)


@pytest.mark.slow
def test_the_quickstart_ends_with_a_table_the_model_and_tensorboard(checkout: Path, quickstart: str) -> None:
    assert (checkout / "runs/quickstart/table.md").read_text(encoding="utf-8").strip() in quickstart
    assert "runs/quickstart/exported/discriminator" in quickstart
    assert "tensorboard --logdir runs/quickstart/pretraining/tensorboard" in quickstart
    assert int(re.search(r"^Finished in (\d+) min \d+ s ", quickstart, re.MULTILINE).group(1)) < MINUTES


@pytest.mark.slow
def test_a_random_encoder_scores_well_below_the_pretrained_one(checkout: Path, quickstart: str) -> None:
    exported = checkout / "runs/quickstart/exported/discriminator"
    random_folder = checkout / "runs/random"
    shutil.copytree(exported, random_folder)
    transformers.set_seed(0)
    config = transformers.AutoConfig.from_pretrained(exported)
    transformers.ElectraForPreTraining(config).save_pretrained(random_folder)
    command = next(command for command in COMMANDS if "finetuning.bc5cdr" in command)
    command = command.replace("runs/quickstart/exported/discriminator", "runs/random")
    run(command.replace("runs/quickstart/finetuning", "runs/random-finetuning"), checkout)

    def scores(folder: str) -> list[float]:
        results = json.loads(next((checkout / folder).rglob("results.json")).read_text())
        return [seed["score"] or 0.0 for seed in results["seeds"]]

    assert min(scores("runs/quickstart/finetuning")) > max(scores("runs/random-finetuning")) + MARGIN


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS[1:], ids=lambda command: command.split("\n")[0][:60])
def test_command_of_the_readme(command: str, checkout: Path, quickstart: str) -> None:
    run(command, checkout)
