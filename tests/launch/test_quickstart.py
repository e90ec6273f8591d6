"""launch/quickstart.sh: what it refuses before it starts, its folders and its ranks; once on real files.

What is decided before a stage starts is tested with stand-ins for Python and DeepSpeed that note what is asked;
tests/test_readme.py runs the whole on made-up files.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.finetuning.archives import shared_folder, unpack
from tests.launch.launches import REPOSITORY, clean_environment, write_program

QUICKSTART = REPOSITORY / "launch" / "quickstart.sh"
# The environment's checks and the stages pass at once; the benchmark is read by the real Python where READS is set.
PYTHON = f"""#!/bin/bash
case "$*" in
*read_variant*) [[ -z ${{READS:-}} ]] || exec "{sys.executable}" "$@" ;;
*socket*) echo 29999 ;;
*) echo "python $*" >>"$ASKED" ;;
esac
"""
DEEPSPEED = """#!/bin/bash
echo "deepspeed $* [ranks ${LOCAL_SIZE:-} on ${DS_ACCELERATOR:-} ${CUDA_VISIBLE_DEVICES-all}]" >>"$ASKED"
"""


def write_file(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def quickstart(folder: Path, *flags: str, status: int = 0, **variables: str) -> tuple[str, str]:
    """(what it says, what the stand-ins were asked for) of the quickstart, called in `folder`."""
    for name, text in (("python", PYTHON), ("deepspeed", DEEPSPEED)):
        write_program(folder / "bin" / name, text)
    for operator in ("deepspeed_shm_comm", "fused_adam"):  # compiled already
        write_file(folder / "extensions" / operator / f"{operator}.so", "")
    write_file(folder / "asked", "")
    here = {"PYTHON": str(folder / "bin" / "python"), "ASKED": str(folder / "asked")}
    here |= {"PATH": f"{folder}/bin:{os.environ['PATH']}", "TORCH_EXTENSIONS_DIR": str(folder / "extensions")}
    environment = clean_environment(**here, TORCH_BUILD="cpu")
    for name in ("DS_ACCELERATOR", "CUDA_VISIBLE_DEVICES", "LOCAL_SIZE"):
        environment.pop(name, None)
    result = subprocess.run(
        ["bash", QUICKSTART, *flags], env=environment | variables, cwd=folder, capture_output=True, text=True
    )
    assert result.returncode == status, result.stdout + result.stderr
    return result.stdout + result.stderr, (folder / "asked").read_text()


def test_own_files_are_taken_from_the_folder_that_it_is_called_in(tmp_path: Path) -> None:
    _, asked = quickstart(tmp_path, PUBMED="xml", BENCHMARK="benchmark", OUTPUT="out")
    assert f"corpus.pubmed --input {tmp_path}/xml --output {tmp_path}/out/documents" in asked
    assert f"--data {tmp_path}/benchmark --output {tmp_path}/out/finetuning" in asked


def test_a_benchmark_that_is_not_there_is_refused_before_the_first_step(tmp_path: Path) -> None:
    said, asked = quickstart(tmp_path, status=1, PUBMED="xml", BENCHMARK="nowhere", OUTPUT="out", READS="1")
    assert said.startswith(f"error: BENCHMARK: {tmp_path}/nowhere is not a folder") and said.count("\n") == 1
    assert "corpus.pubmed" not in asked and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_benchmark_of_other_sizes_is_taken_and_said_to_be(tmp_path: Path) -> None:
    for split in ("train", "devel", "test"):
        write_file(tmp_path / "benchmark" / f"{split}.tsv", "Aspirin\tB\nhelped\tO\n.\tO\n\n")
    said, asked = quickstart(tmp_path, PUBMED="xml", BENCHMARK="benchmark", OUTPUT="out", READS="1")
    assert "has other sizes than BC5CDR as published, so its scores will be marked nonstandard" in said
    assert "--nonstandard-split" in asked


@pytest.mark.parametrize(
    ("body", "visible", "ranks"),
    [
        ("exit 9", None, "[ranks 2 on cpu all]"),
        ("echo 'GPU 0: H100'", None, "[ranks  on  0]"),
        ("for i in 0 1 2; do echo GPU $i: H100; done", None, "[ranks  on  0,1]"),
        ("for i in 0 1 2; do echo GPU $i: H100; done", "2,1", "[ranks  on  2,1]"),
        ("for i in $(seq 0 6); do echo GPU $i: H100; done", None, "[ranks  on  0,1,2,3]"),
    ],
)
def test_ranks_are_gpus_that_divide_the_batch_or_two_cpu_ranks(
    tmp_path: Path, body: str, visible: str | None, ranks: str
) -> None:
    write_program(tmp_path / "bin" / "nvidia-smi", f"#!/bin/sh\n{body}\n")
    given = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert ranks in quickstart(tmp_path, OUTPUT="out", **given)[1]


def test_other_settings_in_the_same_folder_are_refused_with_a_cure(tmp_path: Path) -> None:
    quickstart(tmp_path, OUTPUT="out", TRAIN_ITERS="2")
    quickstart(tmp_path, OUTPUT="out", TRAIN_ITERS="2", EPOCHS="3")
    said, asked = quickstart(tmp_path, status=1, OUTPUT="out", TRAIN_ITERS="3")
    assert said.startswith(f"error: {tmp_path}/out was made with PUBMED=") and said.count("\n") == 1
    assert "TRAIN_ITERS=2, not PUBMED=" in said and said.endswith("; give another OUTPUT=FOLDER or remove it\n")
    assert "sample_data" not in asked
    assert "--train-iters 3 " in quickstart(tmp_path, OUTPUT="other", TRAIN_ITERS="3")[1]


@pytest.mark.slow
def test_on_real_files_it_ends_with_a_row_of_the_published_split(tmp_path: Path) -> None:
    benchmark = unpack("ner/biobert_BC5CDR-chem.tar.xz", tmp_path / "benchmark")
    variables = {"PUBMED": str(shared_folder("pubmed_xml/baseline")), "BENCHMARK": str(benchmark)}
    variables |= {"OUTPUT": str(tmp_path / "out"), "TRAIN_ITERS": "20", "EPOCHS": "1"}
    result = subprocess.run(
        ["bash", QUICKSTART], env=clean_environment(**variables), cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    (row,) = (line for line in (tmp_path / "out" / "table.md").read_text().splitlines() if "| quickstart |" in line)
    assert row.startswith("| BC5CDR chemical | quickstart |") and "4,560 / 4,581 / 4,797 sentences" in row
    assert "nonstandard" not in row and "marked nonstandard" not in result.stdout
