#!/usr/bin/env bash
# shellcheck disable=SC2317,SC2329  # functions called by traps; the Python part
""":"
# Pretrain an encoder, on one CPU or many nodes. This file is valid bash and valid Python, so all of these start it:
#
#   deepspeed launch/pretrain.sh [flags]                  one rank per GPU (or, without GPUs, per NUMA node)
#   bash launch/pretrain.sh [flags]                       the same, started from here; two ranks where there is no GPU
#   torchrun --nproc-per-node=N --no-python launch/pretrain.sh [flags]
#   srun bash launch/pretrain.sh [flags]                  one task per GPU; see launch/slurm.sbatch
#   mpiexec bash launch/pretrain.sh [flags]               OpenMPI's or MPICH's; jsrun likewise: launch/pbs.sh, launch/lsf.sh
#
# Every setting below can be given as a variable (PRESET=base DATA_PATH=... bash launch/pretrain.sh) or as a flag behind
# the command, which wins; --help lists the flags. With nothing set it trains on the sample corpus of launch/quickstart.sh.
#
# Steps: (1) settings -> flags; (2) inside a launcher: become this rank of the trainer; (3) otherwise start DeepSpeed,
# pass signals on to the trainers (DeepSpeed does not), and return the status that the run itself wrote.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [ -z "${PYTHON:-}" ]; then
    PYTHON=python3
    [ -x "$ROOT/.venv/bin/python" ] && PYTHON="$ROOT/.venv/bin/python"
fi
# DeepSpeed looks for ninja on the PATH, where that of an environment that nobody activated is not.
beside=$(dirname "$PYTHON")
if [ -x "$beside/ninja" ] && [ "$(command -v ninja)" != "$beside/ninja" ]; then
    PATH="$(cd "$beside" && pwd):$PATH"
fi
# shellcheck source=launch/environment.sh
source "$ROOT/launch/environment.sh" # has_gpu
export PYTHON PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"
export TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE="${HF_HUB_OFFLINE:-1}"
# DeepSpeed compiles its small C++ operators once; launch/environment.sh has put them here.
if [ -z "${TORCH_EXTENSIONS_DIR:-}" ] && [ -d "$ROOT/.venv/torch_extensions" ]; then
    export TORCH_EXTENSIONS_DIR="$ROOT/.venv/torch_extensions"
fi

given() { # given FLAG ARGUMENTS...: whether the flag stands among the arguments
    local flag=$1 argument
    shift
    for argument in "$@"; do
        case $argument in "$flag" | "$flag"=*) return 0 ;; esac
    done
    return 1
}

value_of() { # value_of FLAG ARGUMENTS...: the last value of the flag, or nothing
    local flag=$1 value="" previous="" argument
    shift
    for argument in "$@"; do
        case $argument in "$flag"=*) value=${argument#*=} ;; esac
        [ "$previous" = "$flag" ] && value=$argument
        previous=$argument
    done
    printf %s "$value"
}

if given --help "$@" || given -h "$@"; then
    exec "$PYTHON" -m pretraining.train --help
fi

# ---- settings: the recipe of the preset, the corpus, the run --------------------------------------------------------
SAMPLE="$ROOT/runs/quickstart"
DATA_ARGS=() MODEL_ARGS=() OPTIMIZER_ARGS=() RUN_ARGS=()
if ! given --data-path "$@" && [ -z "${DATA_PATH:-}" ]; then
    if [ ! -f "$SAMPLE/corpus.json" ]; then
        if [ "${RANK:-${SLURM_PROCID:-0}}" = 0 ]; then # every rank finds this out, and one says so
            {
                printf %s "error: set DATA_PATH=PREFIX of an indexed corpus and TOKENIZER=FOLDER of its tokenizer "
                echo "(or the flags --data-path and --tokenizer), or make the sample corpus: bash launch/quickstart.sh"
            } >&2
        fi
        exit 1
    fi
    # The sample corpus: a model for it, and a run of a minute, unless said otherwise.
    DATA_PATH="$SAMPLE/corpus" TOKENIZER="${TOKENIZER:-$SAMPLE/tokenizer}" PRESET="${PRESET:-tiny}"
    TRAIN_ITERS="${TRAIN_ITERS:-200}" SPLIT="${SPLIT:-90,9,1}"
    ranks="${WORLD_SIZE:-1}"
    if [ "$PRESET" = tiny ] && [ $((16 % ranks)) != 0 ]; then # the samples of a step are shared out evenly
        GLOBAL_BATCH_SIZE="${GLOBAL_BATCH_SIZE:-$(((16 + ranks - 1) / ranks * ranks))}"
    fi
    SAVE="${SAVE:-$ROOT/runs/sample-$(value_of --preset --preset "$PRESET" "$@")}"
fi
PRESET=$(value_of --preset --preset "${PRESET:-small}" "$@")
MODEL_ARGS+=(--preset "$PRESET")
[ -n "${OBJECTIVE:-}" ] && MODEL_ARGS+=(--objective "$OBJECTIVE")

[ -n "${DATA_PATH:-}" ] && DATA_ARGS+=(--data-path "$DATA_PATH")
[ -n "${TOKENIZER:-}" ] && DATA_ARGS+=(--tokenizer "$TOKENIZER")
[ -n "${SPLIT:-}" ] && DATA_ARGS+=(--split "$SPLIT")
[ -n "${SEQ_LENGTH:-}" ] && DATA_ARGS+=(--seq-length "$SEQ_LENGTH")

[ -n "${MICRO_BATCH_SIZE:-}" ] && OPTIMIZER_ARGS+=(--micro-batch-size "$MICRO_BATCH_SIZE")
[ -n "${GLOBAL_BATCH_SIZE:-}" ] && OPTIMIZER_ARGS+=(--global-batch-size "$GLOBAL_BATCH_SIZE")
[ -n "${TRAIN_ITERS:-}" ] && OPTIMIZER_ARGS+=(--train-iters "$TRAIN_ITERS")
[ -n "${LR:-}" ] && OPTIMIZER_ARGS+=(--lr "$LR")
[ -n "${LR_WARMUP_ITERS:-}" ] && OPTIMIZER_ARGS+=(--lr-warmup-iters "$LR_WARMUP_ITERS")

# A run goes on from its own folder by default: the same command again resumes it.
SAVE=$(value_of --save --save "${SAVE:-$ROOT/runs/$PRESET}" "$@")
RUN_ARGS+=(--save "$SAVE")
if ! given --load "$@" && ! given --init-from "$@"; then
    RUN_ARGS+=(--load "$SAVE")
fi
[ -n "${DEEPSPEED_CONFIG:-}" ] && RUN_ARGS+=(--deepspeed-config "$DEEPSPEED_CONFIG")
[ -n "${SEED:-}" ] && RUN_ARGS+=(--seed "$SEED")
ARGS=("${MODEL_ARGS[@]}" "${DATA_ARGS[@]}" "${OPTIMIZER_ARGS[@]}" "${RUN_ARGS[@]}" "$@")

# ---- inside a launcher: this process becomes one rank ---------------------------------------------------------------
ranks_here() { # how many ranks this node has
    local mpi=(OMPI_COMM_WORLD_LOCAL_SIZE JSM_NAMESPACE_LOCAL_SIZE MPI_LOCALNRANKS PALS_LOCAL_SIZE) name count=""
    for name in LOCAL_WORLD_SIZE LOCAL_SIZE "${mpi[@]}"; do # as in pretraining/ranks.py
        count="${count:-${!name:-}}"
    done
    [ -z "$count" ] && [ -n "${SLURM_STEP_ID:-}" ] && count="${SLURM_STEP_TASKS_PER_NODE:-1}"
    count="${count%%[!0-9]*}"
    printf %s "${count:-1}"
}

cores_of_a_rank() {
    if [ -z "${RANK:-}" ] && [ -n "${SLURM_STEP_ID:-}" ] && [ -n "${SLURM_CPUS_PER_TASK:-}" ]; then
        printf %s "$SLURM_CPUS_PER_TASK" # a task is bound to its own cores: nproc counts these and not the node's
    else
        printf %s $(($(nproc) / $(ranks_here)))
    fi
}

is_rank() {
    [ -n "${RANK:-}" ] && [ -n "${WORLD_SIZE:-}" ] && return 0
    # A step's tasks are ranks; a batch script and the shell of salloc, whose steps have the highest numbers, are not.
    [ -n "${SLURM_PROCID:-}" ] && [ "${SLURM_STEP_ID:-4294967291}" -lt 4294967290 ] && return 0
    [ -n "${OMPI_COMM_WORLD_RANK:-}" ] && return 0
    [ -n "${JSM_NAMESPACE_RANK:-}" ] && return 0
    [ -n "${PMI_RANK:-}" ]
}

if is_rank; then
    # No launcher sets a rank's threads to its share of the cores: DeepSpeed sets nothing, torchrun sets 1.
    [ -n "${TORCHELASTIC_RUN_ID:-}" ] && unset OMP_NUM_THREADS
    threads="${THREADS_PER_RANK:-${OMP_NUM_THREADS:-$(cores_of_a_rank)}}"
    export OMP_NUM_THREADS="$((threads > 1 ? threads : 1))"
    if [ -n "${CROSS_SIZE:-}" ] && [ "${WORLD_SIZE:-}" = 1 ] && ! has_gpu; then
        echo "DeepSpeed found one device (without GPUs it counts NUMA nodes); LOCAL_SIZE=2 deepspeed ... gives two ranks"
    fi
    exec "$PYTHON" -u -m pretraining.train "${ARGS[@]}"
fi

# ---- outside: start DeepSpeed, pass signals on, tell the truth about how it ended ------------------------------------
if ! has_gpu; then
    export LOCAL_SIZE="${LOCAL_SIZE:-2}" DS_ACCELERATOR="${DS_ACCELERATOR:-cpu}"
fi
PRETRAINING_RUN_ID="$$-$(date +%s)"
export PRETRAINING_RUN_ID

trainers() { # process ids of this run: those that carry its mark and are no launcher
    local folder
    for folder in /proc/[0-9]*; do
        if grep -qz "^PRETRAINING_RUN_ID=$PRETRAINING_RUN_ID$" "$folder/environ" 2>/dev/null &&
            tr "[:cntrl:]" " " <"$folder/cmdline" 2>/dev/null | grep -q -- "-m pretraining.train"; then
            echo "${folder#/proc/}"
        fi
    done
}

asked="" undelivered=""
pass_on() { # the runner would die of the signal and leave its trainers running
    local process
    asked=$1 undelivered=$1
    for process in $(trainers); do
        kill -s "$1" "$process" 2>/dev/null && undelivered=""
    done
    return 0
}
for name in TERM USR1 INT; do
    # shellcheck disable=SC2064  # the name is meant to be filled in now
    trap "pass_on $name" "$name"
done
trap "pass_on TERM" HUP # the terminal is gone

state_before=$(cat "$SAVE/run_state.json" 2>/dev/null || true)
# A port of its own, so that two runs on one machine do not meet.
find_port='import socket; probe = socket.socket(); probe.bind(("127.0.0.1", 0)); print(probe.getsockname()[1])'
port="${MASTER_PORT:-$("$PYTHON" -c "$find_port")}"
set -m # a process group of its own: Ctrl-C reaches this script alone, and DeepSpeed does not cut a checkpoint short
"$PYTHON" -m deepspeed.launcher.runner --log_level error --master_port "$port" "$ROOT/launch/pretrain.sh" "$@" &
runner=$!
set +m
status=0
wait "$runner" || status=$?
while kill -0 "$runner" 2>/dev/null; do # a signal ends `wait` before the runner has ended
    if [ -n "$undelivered" ]; then # it came before there was a trainer
        sleep 0.5
        pass_on "$undelivered"
    else
        status=0
        wait "$runner" || status=$?
    fi
done
while [ -n "$(trainers)" ]; do sleep 0.2; done

state=$(cat "$SAVE/run_state.json" 2>/dev/null || true)
case $state in
    *"$PRETRAINING_RUN_ID"*) ;;
    *) # the trainer never began: the launcher knows why, unless it was killed, which it reports as success
        [ -n "$asked" ] && exit 75
        [ "$status" = 0 ] && [ "$state" = "$state_before" ] && ! given --dry-run "$@" && status=1
        exit "$status"
        ;;
esac
case $state in
    *finished*) exit 0 ;;
    *stopped*) exit 75 ;;
    *invalid*) exit 70 ;;
    *) exit "$((status ? status : 1))" ;; # killed: a launcher that was killed reports success
esac
: <<"pass"
"""

if __name__ == "__main__":
    import os
    import sys

    os.environ["PYTHON"] = sys.executable
    os.execvp("bash", ["bash", os.path.abspath(__file__), *sys.argv[1:]])
pass
