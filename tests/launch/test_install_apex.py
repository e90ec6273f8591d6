"""launch/install_apex.sh refuses what cannot work, in one sentence, before anything is fetched; benchmarks/gpu.sh too.

The build itself needs CUDA's compiler and the network.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Stands for an interpreter: what `python -c` prints, and whether apex's extensions load (0); and nvcc's version.
PYTHON = """#!/usr/bin/env bash
case "$2" in
    *nvidia_apex*) echo "{verdict}" ;;
    *torch.version.cuda*) echo "{cuda}" ;;
    *fused_layer_norm_affine) exit {loads} ;;
    *) echo "unexpected: $*" >&2; exit 1 ;;
esac
"""
NVCC = """#!/usr/bin/env bash
echo "Cuda compilation tools, release 12.4, V12.4.131"
"""
GIT = """#!/usr/bin/env bash
echo "no network" >&2
exit 128
"""


def run(script: str, folder: Path, **programs: str) -> subprocess.CompletedProcess:
    for name, content in programs.items():
        (folder / name).write_text(content)
        (folder / name).chmod(0o755)
    environment = {"PATH": f"{folder}:/usr/bin:/bin", "HOME": os.environ.get("HOME", "/")}
    environment["PYTHON"] = str(folder / "python") if "python" in programs else sys.executable
    return subprocess.run(["bash", script], cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("verdict", "cuda", "programs", "words"),
    [
        ("the installed apex is PyPI's Pyramid toolkit, not NVIDIA's: pip uninstall apex", "12.4", {},
         "PyPI's Pyramid toolkit, not NVIDIA's: pip uninstall apex"),
        ("version 0.1", "12.4", {}, "the CUDA extensions of the installed apex do not load"),
        ("not installed", "", {}, "a build without CUDA"),
        ("not installed", "12.4", {"nvcc": "#!/usr/bin/env bash\nexit 127\n"}, "nvcc does not run"),
        ("not installed", "13.0", {"nvcc": NVCC}, "nvcc is CUDA 12.4 and torch was built with 13.0"),
        ("not installed", "12.8", {"nvcc": NVCC, "git": GIT}, "could not be fetched; set APEX_SOURCE"),
    ],
)  # fmt: skip
def test_what_cannot_be_built_is_refused(
    verdict: str, cuda: str, programs: dict[str, str], words: str, tmp_path: Path
) -> None:
    python = PYTHON.format(verdict=verdict, cuda=cuda, loads=1)
    result = run("launch/install_apex.sh", tmp_path, python=python, **programs)
    assert result.returncode != 0 and words in result.stderr
    assert result.stderr.strip().splitlines()[-1].startswith("error: ")


def test_apex_that_is_there_is_left_alone(tmp_path: Path) -> None:
    result = run("launch/install_apex.sh", tmp_path, python=PYTHON.format(verdict="version 0.1", cuda="12.4", loads=0))
    assert result.returncode == 0 and "is installed already, version 0.1" in result.stdout


def test_the_gpu_measurement_without_a_gpu_says_so(tmp_path: Path) -> None:
    result = run("benchmarks/gpu.sh", tmp_path, python="#!/usr/bin/env bash\nexit 1\n")
    assert result.returncode == 1 and "sees no GPU through torch" in result.stderr


def test_a_build_is_tried_with_torch_s_libraries_loaded(tmp_path: Path) -> None:
    """An extension that is imported before torch finds no libc10.so, however well it was built (NVIDIA/apex#1934)."""
    python = """#!/usr/bin/env bash
case "$*" in
    *nvidia_apex*) echo "not installed" ;;
    *torch.version.cuda*) echo 12.4 ;;
    "-m pip install"*) [[ $APEX_CPP_EXT$APEX_CUDA_EXT == 11 ]] ;;
    "-c import torch, "*fused_layer_norm_affine) ;;
    *) echo "ImportError: libc10.so: cannot open shared object file" >&2; exit 1 ;;
esac
"""
    git = "#!/usr/bin/env bash\necho 0123abc\n"
    result = run("launch/install_apex.sh", tmp_path, python=python, nvcc=NVCC, git=git)
    assert result.returncode == 0, result.stderr
    assert "apex is installed" in result.stdout
    # A path that is not absolute is that of the folder that the script is called in, to the end.
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHON": "./python"}
    arguments = ["bash", str(ROOT / "launch/install_apex.sh")]
    result = subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def measure_on_a_gpu(folder: Path, **variables: str) -> subprocess.CompletedProcess:
    """benchmarks/gpu.sh with an interpreter that finds a GPU, says where it was told to write, and writes there.

    What it gives `timeout` is in folder / "limits".
    """
    python, timeout = folder / "python", folder / "timeout"
    timeout.write_text(f'#!/usr/bin/env bash\necho "$*" >>"{folder}/limits"\nexec /usr/bin/timeout "$@"\n')
    timeout.chmod(0o755)
    python.write_text(
        f"""#!/usr/bin/env bash
[[ $* == *"aim on an H200"* ]] && exec "{sys.executable}" "$@"
"""
        """[[ $* == *is_available* ]] && exit 0
[[ $* == *"import transformers"* ]] && exit 1
touch "$TMPDIR/corpus"
mkdir -p "$TORCHINDUCTOR_CACHE_DIR" "$TRITON_CACHE_DIR" "$CUDA_CACHE_PATH"
[[ $1 == -c ]] && echo "a library warns" && echo "| attention | one | fast |"
[[ $1 == -m ]] && echo "| ours | 1 |" && echo "{}"
exit 0
"""
    )
    python.chmod(0o755)
    (folder / "tmp").mkdir(exist_ok=True)
    environment = {"PATH": f"{folder}:/usr/bin:/bin", "PYTHON": str(python), "TMPDIR": str(folder / "tmp"), **variables}
    arguments = ["bash", "benchmarks/gpu.sh", str(folder / "output")]
    return subprocess.run(arguments, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_the_gpu_measurement_writes_in_its_folder_alone(tmp_path: Path) -> None:
    result = measure_on_a_gpu(tmp_path)
    assert result.returncode == 0, result.stderr
    assert not list((tmp_path / "tmp").iterdir())
    logs = {path.name for path in (tmp_path / "output").iterdir()}
    assert logs == {
        "kernels.log",
        "ours-base-512-compile.log",
        "ours-base-512-eager.log",
        "ours-base-128-compile.log",
        "ours-large-512-compile.log",
    }
    assert result.stdout.count("| ours | 1 |") == 4 and "{}" not in result.stdout
    assert "| attention | one | fast |" in result.stdout and "warns" not in result.stdout
    assert "| large, 512 | compile | not measured | 410 | not measured | 58% |" in result.stdout


def test_the_gpu_measurement_ends_with_its_time(tmp_path: Path) -> None:
    """The limits of its steps alone left no room for imports and compilers' last seconds."""
    result = measure_on_a_gpu(tmp_path, GPU_SECONDS="5")
    assert result.returncode == 1 and "ours-large-512-compile is left out: the 5 s are over" in result.stderr
    assert not list((tmp_path / "output").iterdir())


def test_the_gpu_measurement_looks_for_peers_within_its_time(tmp_path: Path) -> None:
    """Half a minute for the import behind the last step ended after the eight minutes."""
    measure_on_a_gpu(tmp_path, GPU_SECONDS="20")
    (looked,) = [line for line in (tmp_path / "limits").read_text().splitlines() if "import transformers" in line]
    assert int(looked.split()[1]) <= 20


def test_the_gpu_measurement_shows_no_numbers_of_an_earlier_call(tmp_path: Path) -> None:
    (tmp_path / "output").mkdir()
    row = {"samples_per_second": 1200.4, "gemm_share": 0.512}
    for name in ("ours-large-512-compile", "peers-base-512"):
        (tmp_path / f"output/{name}.log").write_text("| an earlier call |\n")
        (tmp_path / f"output/{name}.json").write_text(json.dumps({"rows": [row]}))
    result = measure_on_a_gpu(tmp_path, GPU_SECONDS="5")
    assert "an earlier call" not in result.stdout and "1,200" not in result.stdout


def test_the_gpu_measurement_ends_beside_the_aims(tmp_path: Path) -> None:
    """Its own lines, on what pretraining_speed writes."""
    (aims,) = re.findall(r"^aims='\n(.*?)^'$", (ROOT / "benchmarks/gpu.sh").read_text(), re.MULTILINE | re.DOTALL)
    row = {"samples_per_second": 1200.4, "gemm_share": 0.512}
    (tmp_path / "ours-base-512-compile.json").write_text(json.dumps({"rows": [row]}))
    result = subprocess.run([sys.executable, "-c", aims, str(tmp_path)], capture_output=True, text=True, check=True)
    lines = result.stdout.splitlines()
    assert lines[2:4] == [
        "| base, 512 | compile | 1,200 | 1,150 | 51.2% | 50% |",
        "| base, 512 | eager | not measured | 1,150 | not measured | 50% |",
    ]
    assert len(lines) == 6


KERNELS_BLOCKED = """
import sys
for name in ("deepspeed", "transformers", "datatrove", "tokenizers", "apex"):
    sys.modules[name] = None
"""


def test_the_gpu_measurement_s_table_of_kernels_is_made_without_deepspeed() -> None:
    """Its own lines, here too: without a GPU every kernel fails its self-test and the references run."""
    (lines,) = re.findall(r"^kernels='\n(.*?)^'$", (ROOT / "benchmarks/gpu.sh").read_text(), re.MULTILINE | re.DOTALL)
    result = subprocess.run([sys.executable, "-c", KERNELS_BLOCKED + lines], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    rows = [line.split("|")[1].strip() for line in result.stdout.splitlines() if line.startswith("|")]
    assert {"attention", "LayerNorm", "vocabulary", "compile"} <= set(rows) and rows[-1] == "optimizer"
    assert "DeepSpeed" not in result.stdout.splitlines()[-1].split("|")[2]
