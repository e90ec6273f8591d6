#!/usr/bin/env bash
# The Python environment of this repository, made when it is missing and reused when it is there.
#
#   bash launch/environment.sh [tests]        makes it; `tests` also installs tests/requirements.txt
#   source launch/environment.sh              in a script, and then: prepare_environment [tests], or has_gpu
#
# prepare_environment does this, and sets PYTHON, PATH, PYTHONPATH and the caches for what follows in the script:
#   1. PYTHON=path given: that environment is used as it is. Its torch is checked and never replaced, and missing
#      packages are named. Nothing is installed.
#   2. otherwise .venv in the repository root: made if it is not there, its packages installed if the requirements
#      changed. Without an NVIDIA GPU torch is the CPU build; TORCH_BUILD=cuda or TORCH_BUILD=cpu decides otherwise
#      (a login node without a GPU, say).
#   3. DeepSpeed's C++ operators for CPUs are compiled once, before several processes want them at the same time.
# It may be killed at any point: the next run finishes the work. Every failure is one sentence and exit status 1.

environment_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
environment_cpu_index="https://download.pytorch.org/whl/cpu"

environment_say() { printf '%s\n' "$*" >&2; }

environment_fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# Prints a Python on the PATH: one of 3.11 to 3.13, for which all packages are built, or else a later one.
environment_find_python() {
    local candidate newest
    for newest in 13 99; do
        for candidate in python3 python3.13 python3.12 python3.11 python3.14 python; do
            if "$candidate" -c "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, $newest))" \
                >/dev/null 2>&1; then
                command -v "$candidate"
                return
            fi
        done
    done
    environment_fail "no Python 3.11 or later was found on the PATH; install one, or set PYTHON=path to one that" \
        "has the packages of requirements.txt."
}

environment_check_compiler() {
    command -v "${CXX:-c++}" >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null ||
        environment_fail "no C++ compiler was found, and DeepSpeed compiles its operators with one; install g++" \
            "(Debian, Ubuntu: apt install g++) or set CXX=path."
}

# Whether this machine has an NVIDIA GPU that answers: the program alone is there on login nodes, too.
has_gpu() { [[ "$(nvidia-smi -L 2>/dev/null || true)" == GPU* ]]; }

# Prints which build of torch this machine wants: cpu or cuda.
environment_wanted_torch() {
    local build="${TORCH_BUILD:-}"
    if [[ -z $build ]]; then
        has_gpu && build=cuda || build=cpu
    fi
    [[ $build == cpu || $build == cuda ]] || environment_fail "TORCH_BUILD is '$build'; it must be cpu or cuda."
    printf '%s' "$build"
}

# Makes .venv afresh if there is none, if it is of another place or Python, or if an installation was interrupted
# (pip does not notice a package that was half copied, so nothing of it is trusted; pip's cache keeps the downloads).
environment_make_venv() {
    local venv="$1" python
    if [[ -f $venv/made-for && ! -f $venv/installing && "$(cat "$venv/made-for")" == "$venv" ]] &&
        "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        return
    fi
    python="$(environment_find_python)"
    environment_check_compiler
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        environment_fail "$python cannot make environments; install its venv module (Debian, Ubuntu: apt install" \
            "python3-venv)."
    environment_say "Making .venv with $python ..."
    "$python" -m venv --clear "$venv" || environment_fail "$python could not make $venv; see the lines above."
    printf '%s' "$venv" >"$venv/made-for"
}

environment_pip() { "$environment_root/.venv/bin/python" -m pip install -qq --no-input "$@" >&2; }

# Installs torch alone and first. On Linux, PyPI's build brings several GB of CUDA, so a machine without a GPU asks
# PyTorch's own index for the CPU build, and takes the usual build only where that index cannot be reached.
environment_install_torch() {
    local venv="$1" build="$2" pin installed
    pin="$(sed -n 's/^\(torch==[^ ]*\).*/\1/p' "$environment_root/requirements.txt")"
    installed="$("$venv/bin/python" -c 'import importlib.metadata as m; print(m.version("torch"))' 2>/dev/null || true)"
    if [[ $build == cpu && "torch==$installed" != "$pin"* ]]; then
        # --no-deps: one question to that index, so that a firewall that drops packets costs 40 s, not minutes.
        environment_pip --no-deps --timeout 20 --retries 1 --extra-index-url "$environment_cpu_index" "$pin+cpu" \
            2>"$venv/torch-cpu.log" && return
        environment_say "The CPU build of torch could not be had from $environment_cpu_index" \
            "(.venv/torch-cpu.log); taking pip's own $pin, which may bring several GB of CUDA packages."
    fi
    if [[ $build == cuda && $installed == *+cpu ]]; then
        "$venv/bin/python" -m pip uninstall --quiet --yes torch >&2
    fi
    environment_pip "$pin" || environment_fail "pip could not install $pin; its reason is above."
}

# Installs requirement files into .venv unless the stamp of the last time says that it is done.
environment_install() {
    local venv="$1" name="$2" stamp="$1/requirements-$2.done" build="cpu" wanted file
    shift 2
    wanted="$(cat "$@" | sha256sum | cut -d ' ' -f 1)"
    [[ -f $venv/torch-build ]] && build="$(cat "$venv/torch-build")"
    # A CUDA build also runs without a GPU, so only the other direction is a reason to install again.
    [[ $build == cuda ]] || build="$(environment_wanted_torch)"
    [[ -f $stamp && "$(cat "$stamp")" == "$wanted $build" ]] && return
    environment_check_compiler
    environment_say "Installing $name requirements into .venv, with the $build build of torch; this takes minutes ..."
    touch "$venv/installing"
    rm -rf "$venv/torch_extensions"
    environment_install_torch "$venv" "$build"
    for file in "$@"; do
        environment_pip -r "$file" || environment_fail "pip could not install ${file#"$environment_root"/}; its reason" \
            "is above."
    done
    printf '%s' "$build" >"$venv/torch-build"
    rm -f "$venv/installing"
    printf '%s' "$wanted $build" >"$stamp.partial"
    mv "$stamp.partial" "$stamp"
}

# Compiles the C++ operators that DeepSpeed needs on CPUs, where they are not compiled yet. Left to the training
# processes, two of them race, and one that is killed leaves a lock that makes every later process wait for ever.
environment_build_operators() {
    local operator missing=0
    mkdir -p "$TORCH_EXTENSIONS_DIR"
    find "$TORCH_EXTENSIONS_DIR" -name lock -mmin +10 -delete
    for operator in deepspeed_shm_comm fused_adam; do
        [[ -f $TORCH_EXTENSIONS_DIR/$operator/$operator.so ]] || missing=1
    done
    [[ $missing == 1 ]] || return 0
    environment_check_compiler
    environment_say "Compiling DeepSpeed's operators for CPUs, once ..."
    rm -rf "$TORCH_EXTENSIONS_DIR/deepspeed_shm_comm" "$TORCH_EXTENSIONS_DIR/fused_adam"
    DS_ACCELERATOR=cpu "$PYTHON" -c '
from deepspeed.ops.op_builder.cpu import FusedAdamBuilder, ShareMemCommBuilder
ShareMemCommBuilder().load(verbose=False)
FusedAdamBuilder().load(verbose=False)
' >"$TORCH_EXTENSIONS_DIR/build.log" 2>&1 ||
        environment_fail "DeepSpeed's operators could not be compiled; the compiler's words are in" \
            "$TORCH_EXTENSIONS_DIR/build.log."
}

# Usage: prepare_environment [tests]
prepare_environment() {
    local kind="${1:-}" venv="$environment_root/.venv" files=("$environment_root/requirements.txt") build
    [[ -z $kind || $kind == tests ]] ||
        environment_fail "prepare_environment takes nothing or 'tests', not '$kind'."
    [[ $kind == tests ]] && files+=("$environment_root/tests/requirements.txt")

    # One at a time; the second waits for the first.
    exec 9<"$environment_root/launch/environment.sh"
    if command -v flock >/dev/null; then
        flock 9
    fi
    if [[ -n ${PYTHON:-} && $PYTHON != "$venv/bin/python" ]]; then
        command -v "$PYTHON" >/dev/null || environment_fail "PYTHON is '$PYTHON', which is not a program."
        PYTHON="$(command -v "$PYTHON")"
        "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
            environment_fail "PYTHON is '$PYTHON', which is not Python 3.11 or later."
        "$PYTHON" "$environment_root/launch/check_packages.py" "${files[@]}" || exit 1
        : "${TORCH_EXTENSIONS_DIR:=$environment_root/.cache/torch_extensions}"
    else
        environment_make_venv "$venv"
        environment_install "$venv" program "$environment_root/requirements.txt"
        [[ $kind == tests ]] && environment_install "$venv" tests "${files[@]}"
        PYTHON="$venv/bin/python"
        : "${TORCH_EXTENSIONS_DIR:=$venv/torch_extensions}"
    fi
    PATH="$(dirname "$PYTHON"):$PATH" # the deepspeed, ninja and tensorboard commands of this environment
    PYTHONPATH="$environment_root${PYTHONPATH:+:$PYTHONPATH}"
    TOKENIZERS_PARALLELISM="${TOKENIZERS_PARALLELISM:-false}" # no threads in processes that fork
    export PYTHON PATH PYTHONPATH TORCH_EXTENSIONS_DIR TOKENIZERS_PARALLELISM
    build="$(environment_wanted_torch)"
    if [[ $build == cpu ]]; then
        environment_build_operators
    fi
    exec 9<&-
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    set -euo pipefail
    prepare_environment "$@"
    environment_say "The environment is ready: $PYTHON"
fi
