#!/usr/bin/env bash
# What differs from site to site, in variables; sourced by slurm.sbatch, pbs.sh and lsf.sh on every job.
#
#   MODULES     modules to load, separated by blanks
#   CONTAINER   an Apptainer or Singularity image (launch/containers/); ranks then run inside it, the scheduler outside
#   BIND        further folders that the container sees, separated by commas; the repository, SCRATCH and the folders of
#               SAVE, DATA_PATH, TOKENIZER and of every flag with a path are always among them
#   INTERFACE   network interface of the ranks' traffic, such as ib0
#   SCRATCH     node-local folder for caches and temporary files
#   STARTS_WITHOUT_PROGRESS   how often a job, or a chain, may start in a row without a new checkpoint (3; 0: any number)
#   SITE_ENV    a file of your own with more such lines, sourced first
#
# It sets flags, those of the script that sources it, or, for schedulers that pass no arguments to a script, what
# launch/submit.sh has put, shell-quoted, into PRETRAIN_FLAGS; and RANK_COMMAND, the words that start one rank
# (launch/pretrain.sh, in the container if there is one).

shell_options=$-
set +u # what sites, conda and modules bring asks for variables that nobody has set
# shellcheck source=/dev/null
if [ -n "${SITE_ENV:-}" ]; then
    source "$SITE_ENV"
fi
if [ -n "${MODULES:-}" ]; then
    # shellcheck disable=SC2086  # one word a module
    module load $MODULES
fi
[[ $shell_options != *u* ]] || set -u
if [ -n "${INTERFACE:-}" ]; then
    export NCCL_SOCKET_IFNAME="$INTERFACE" GLOO_SOCKET_IFNAME="$INTERFACE"
fi
if [ -n "${SCRATCH:-}" ]; then
    export TMPDIR="$SCRATCH" TRITON_CACHE_DIR="$SCRATCH/triton"
fi
export HF_HUB_OFFLINE=1 # compute nodes have no network, and a run needs none
# What belongs together, for pretraining/restarts.py: a chain has its name from launch/submit.sh, a job is queued again
# under its number.
job="${SLURM_JOB_ID:-${PBS_JOBID:-${LSB_JOBID:-}}}"
export PRETRAINING_SUBMISSION="${PRETRAINING_SUBMISSION:-$job}" STARTS_WITHOUT_PROGRESS="${STARTS_WITHOUT_PROGRESS:-3}"

# shellcheck disable=SC2034  # pbs.sh and lsf.sh use it
flags=("$@")
if [ -n "${PRETRAIN_FLAGS:-}" ]; then
    eval "flags=($PRETRAIN_FLAGS)"
fi

RANK_COMMAND=(bash "$ROOT/launch/pretrain.sh")
if [ -n "${CONTAINER:-}" ]; then
    runtime=$(command -v apptainer || command -v singularity || true)
    if [ -z "$runtime" ]; then
        echo "error: CONTAINER is $CONTAINER, but neither apptainer nor singularity is on the PATH (MODULES may load it)" >&2
        exit 1
    fi
    if [ ! -e "$CONTAINER" ]; then
        echo "error: CONTAINER $CONTAINER does not exist; build it from launch/containers/pretraining.def" >&2
        exit 1
    fi
    seen="$ROOT${BIND:+,$BIND}${SCRATCH:+,$SCRATCH}"
    read -ra prefixes <<<"${DATA_PATH:-}"
    [[ ${prefixes[0]:-} =~ ^[0-9.]+$ ]] || prefixes=("${DATA_PATH:-}") # not weights and prefixes: one, blanks and all
    for place in "${SAVE:-}" "${prefixes[@]}" "${TOKENIZER:-}" "${flags[@]#--*=}"; do
        [[ $place == */* ]] || continue
        # The nearest folder that exists: SAVE is not there before the first start, a corpus is a prefix.
        until [ -d "$place" ]; do place=$(dirname "$place"); done
        place=$(realpath "$place")
        [[ $place == / || ,$seen, == *,"$place",* ]] || seen+=",$place"
    done
    # The environment of the job goes in with it: rank variables and NCCL's settings are in there.
    RANK_COMMAND=("$runtime" exec --nv --bind "$seen" --env PYTHON=python3 "$CONTAINER" "${RANK_COMMAND[@]}")
fi
