#!/usr/bin/env bash
# Pretrain under LSF, without ssh: jsrun (or mpiexec, where there is no jsrun) starts one rank per GPU.
#
#   bsub -nnodes 2 -W 120 < launch/lsf.sh            (DATA_PATH, TOKENIZER, SAVE in the environment)
#   launch/submit.sh NAME -nnodes 2 -W 120 -- --preset base
#
# What is given to bsub wins over the lines below; no site's names stand here, and launch/env.sh reads modules, container
# and interface. LSF passes no flags to a script: PRETRAIN_FLAGS holds them, shell-quoted. RANKS_PER_NODE (default 6) and
# CORES_PER_RANK (default 7) describe a node. Ten minutes before the time limit LSF sends USR1: the ranks save a checkpoint
# and end with status 75, with which LSF queues the job again.
#BSUB -J pretraining
#BSUB -W 24:00
#BSUB -o pretraining-%J.log
#BSUB -wa USR1 -wt 10
#BSUB -r
#BSUB -Q 75
set -uo pipefail

ROOT="${PRETRAINING_ROOT:-${LS_SUBCWD:-$PWD}}"
if [ ! -f "$ROOT/launch/pretrain.sh" ]; then
    echo "error: $ROOT/launch/pretrain.sh is not there: submit from the repository, or set PRETRAINING_ROOT" >&2
    exit 1
fi
# shellcheck source=launch/env.sh
source "$ROOT/launch/env.sh"
cd "$ROOT" || exit 1

ranks="${RANKS_PER_NODE:-6}"
# The hosts of the job without the one that runs this script, where LSF gives one of its own for that.
mapfile -t hosts < <(awk '!seen[$0]++' "${LSB_DJOB_HOSTFILE:-/dev/null}") # each once, in order: rank 0's is the first
compute=()
for host in "${hosts[@]}"; do
    [[ $host == *batch* ]] || compute+=("$host")
done
MASTER_ADDR="${compute[0]:-127.0.0.1}"
MASTER_PORT=$((29500 + ${LSB_JOBID:-0} % 10000))
export MASTER_ADDR MASTER_PORT

if command -v jsrun >/dev/null; then
    start=(jsrun -n "$((${#compute[@]} * ranks))" -r "$ranks" -a 1 -g 1 -c "${CORES_PER_RANK:-7}" -b rs)
else
    start=(mpiexec -n "$((${#compute[@]} * ranks))")
fi
# LSF's warning reaches this script; the ranks get it from here.
status=0
"${start[@]}" "${RANK_COMMAND[@]}" "${flags[@]}" &
step=$!
trap 'kill -USR1 "$step" 2>/dev/null' USR1 TERM
wait "$step" || status=$?
while kill -0 "$step" 2>/dev/null; do # a signal ends `wait` before the step has ended
    status=0
    wait "$step" || status=$?
done
exit "$status"
