#!/usr/bin/env bash
# Builds NVIDIA's apex from its own repository, with its CUDA extensions, for the torch of this environment.
#
#   bash launch/install_apex.sh             (PYTHON=path for another environment than .venv; APEX_REF=tag or commit;
#                                            APEX_SOURCE=folder or URL of the repository; MAX_JOBS=n for the compiler)
#
# Steps: (1) refuse PyPI's package of that name, a torch without CUDA, and a machine without nvcc of torch's version;
# (2) fetch the sources into a folder that is removed again; (3) pip builds and installs; (4) the kernels are imported.
# apex is optional: without it torch's own kernels run, and the table at a run's start says so.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="${PYTHON:-$root/.venv/bin/python}"

fail() {
    echo "error: $*" >&2
    exit 1
}

[[ -x "$(command -v "$python")" ]] || fail "there is no $python; run bash launch/environment.sh first, or set PYTHON"
python="$(command -v "$python")"
[[ $python == /* ]] || python="$PWD/$python" # the imports below are tried in another folder
# torch first: the extensions need its libraries, which no search path names.
imports='import torch, fused_layer_norm_cuda; from apex.normalization.fused_layer_norm import fused_layer_norm_affine'
extensions_load() { (cd "$root" && "$python" -c "$imports"); } # not in the sources, whose folder would be imported
verdict="$(PYTHONPATH="$root" "$python" -c 'from pretraining.fused import nvidia_apex; print(nvidia_apex()[1])')" ||
    fail "$python has no torch; run bash launch/environment.sh first"
case $verdict in
    *Pyramid*) fail "$verdict" ;;
    version*)
        extensions_load ||
            fail "the CUDA extensions of the installed apex do not load; $python -m pip uninstall apex, and try again"
        echo "NVIDIA's apex is installed already, $verdict"
        exit 0
        ;;
esac
wanted="$("$python" -c 'import torch; print(torch.version.cuda or "")')"
[[ -n $wanted ]] || fail "the torch of $python is a build without CUDA; apex is for NVIDIA GPUs"
compiler="${CUDA_HOME:+$CUDA_HOME/bin/}nvcc"
command -v "$compiler" >/dev/null || fail "no nvcc was found; install the CUDA toolkit $wanted, or set CUDA_HOME"
found="$("$compiler" --version | sed -n 's/.*release \([0-9.]*\).*/\1/p')" ||
    fail "$compiler does not run; install the CUDA toolkit $wanted, or set CUDA_HOME"
[[ ${found%%.*} == "${wanted%%.*}" ]] || fail "nvcc is CUDA $found and torch was built with $wanted; set CUDA_HOME"

sources="$(mktemp -d)"
trap 'rm -rf "$sources"' EXIT
git clone --quiet --recurse-submodules "${APEX_SOURCE:-https://github.com/NVIDIA/apex}" "$sources/apex" ||
    fail "the repository of apex could not be fetched; set APEX_SOURCE to a copy of it"
if [[ -n ${APEX_REF:-} ]]; then
    git -C "$sources/apex" checkout --quiet "$APEX_REF" || fail "apex has no tag or commit $APEX_REF"
fi
echo "building apex $(git -C "$sources/apex" rev-parse --short HEAD) for CUDA $wanted; this takes minutes" >&2
APEX_CPP_EXT=1 APEX_CUDA_EXT=1 "$python" -m pip install --no-build-isolation --no-deps "$sources/apex" ||
    fail "apex did not build; the messages above say why (MAX_JOBS=4 needs less memory)"
extensions_load || fail "apex was installed without its CUDA extensions"
echo "NVIDIA's apex is installed; a run uses its LayerNorm where a self-test finds it equal and faster"
