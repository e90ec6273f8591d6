"""launch/quickstart.sh: what it refuses before it starts, its folders and its ranks; once on real files.

What is decided before a stage starts is tested with stand-ins for Python and DeepSpeed that note what is asked;
tests/test_readme.py runs the whole on made-up files.
"""

import os
import subprocess
import sys
from pathlib import Path

from tests.launch.launches import REPOSITORY, clean_environment, write_program

QUICKSTART = REPOSITORY / "launch" / "quickstart.sh"
# The environment's checks and the stages pass at once; the benchmark is read by the real Python.
PYTHON = f"""#!/bin/bash
case "$*" in
*read_variant*) exec "{sys.executable}" "$@" ;;
*find_port* | *socket*) echo 29999 ;;
*) echo "python $*" >>"$ASKED" ;;
esac
"""
DEEPSPEED = """#!/bin/bash
echo "deepspeed $* [ranks ${LOCAL_SIZE:-} on ${DS_ACCELERATOR:-} ${CUDA_VISIBLE_DEVICES-all}]" >>"$ASKED"
"""


def quickstart(folder: Path, *flags: str, status: int = 0, **variables: str) -> tuple[str, str]:
    """(standard error, what the stand-ins were asked for) of the quickstart, called in `folder`."""
    for name, text in (("python", PYTHON), ("deepspeed", DEEPSPEED)):
        write_program(folder / "bin" / name, text)
    (folder / "asked").write_text("")
    here = {"PYTHON": str(folder / "bin" / "python"), "ASKED": str(folder / "asked")}
    here |= {"PATH": f"{folder}/bin:{os.environ['PATH']}", "TORCH_EXTENSIONS_DIR": str(folder / "extensions")}
    environment = clean_environment(**here, TORCH_BUILD="cpu")
    for name in ("DS_ACCELERATOR", "CUDA_VISIBLE_DEVICES", "LOCAL_SIZE"):
        environment.pop(name, None)
    result = subprocess.run(
        ["bash", QUICKSTART, *flags], env=environment | variables, cwd=folder, capture_output=True, text=True
    )
    assert result.returncode == status, result.stdout + result.stderr
    return result.stderr, (folder / "asked").read_text()


def write_benchmark(folder: Path) -> Path:
    """A benchmark in BC5CDR's format that has not the published sizes."""
    folder.mkdir()
    for split in ("train", "devel", "test"):
        (folder / f"{split}.tsv").write_text("Aspirin\tB\nhelped\tO\n.\tO\n\n")
    return folder


def test_relative_paths_are_those_of_the_folder_that_it_is_called_in(tmp_path: Path) -> None:
    write_benchmark(tmp_path / "benchmark")
    _, asked = quickstart(tmp_path, PUBMED="xml", BENCHMARK="benchmark", OUTPUT="out")
    assert f"corpus.pubmed --input {tmp_path}/xml --output {tmp_path}/out/documents" in asked
    assert f"--data {tmp_path}/benchmark --output {tmp_path}/out/finetuning" in asked
