#!/usr/bin/env bash
# Runs the tests, in an environment that it makes itself (launch/environment.sh).
#
#   bash tests/run.sh            the fast tests: minutes
#   bash tests/run.sh all        fast and slow tests, ruff (lint and format), shellcheck of every shell file
#   bash tests/run.sh slow       the slow tests alone
#   bash tests/run.sh gpu        the tests that need an NVIDIA GPU
#
# Fast tests run two at a time (pytest-xdist; tests/conftest.py says which ones may meet), the others one after another:
# they look at the clock, start daemons and hosts, or fill a GPU.
# Any further arguments go to pytest: bash tests/run.sh fast -k masking -x. One at a time, for --pdb say: -n 0
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root"

which_tests=fast
case "${1:-}" in
fast | all | slow | gpu)
    which_tests="$1"
    shift
    ;;
esac

# shellcheck source=launch/environment.sh
source launch/environment.sh
prepare_environment tests

# Tests start two ranks on two cores, and sums in one thread come out the same on every machine.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

lint_status=0
if [[ $which_tests == all ]]; then
    "$PYTHON" -m ruff check . || lint_status=1
    "$PYTHON" -m ruff format --check . || lint_status=1
    find . \( -name .git -o -name .venv -o -name .cache \) -prune -o \
        \( -name '*.sh' -o -name '*.sbatch' -o -path './.ci/run' \) -type f -print0 |
        xargs -0 shellcheck || lint_status=1
fi

status=5 # pytest's word for "no tests": an error only where it stays the last one
run_tests() {
    local ended=0
    "$PYTHON" -m pytest "$@" || ended=$?
    [[ $ended != 2 ]] || exit 2 # interrupted
    [[ $ended == 5 || ($status != 0 && $status != 5) ]] || status=$ended
}

case "$which_tests" in
fast | all) run_tests -m "not slow and not gpu" -n 2 "$@" ;;&
all) run_tests -m "slow or gpu" "$@" ;;
slow) run_tests -m "slow and not gpu" "$@" ;;
gpu) run_tests -m gpu "$@" ;;
esac
if [[ $status == 0 && $lint_status != 0 ]]; then
    echo "error: the tests passed, but ruff or shellcheck did not; their words are above the tests." >&2
    exit 1
fi
exit "$status"
