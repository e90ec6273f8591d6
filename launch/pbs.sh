#!/usr/bin/env bash
# Pretrain under PBS, without ssh: mpiexec starts one rank per GPU on every node.
#
#   qsub -V -l select=2:ncpus=64:ngpus=4:mpiprocs=4 launch/pbs.sh           (DATA_PATH, TOKENIZER, SAVE in the environment)
#   launch/submit.sh NAME --chain 5 -l select=2:... -- --preset base        the same, five jobs one after another
#
# What is given to qsub wins over the lines below; no site's names stand here, and launch/env.sh reads modules, container
# and interface. PBS passes no flags to a script: PRETRAIN_FLAGS holds them, shell-quoted; MPIEXEC_FLAGS holds those of
# mpiexec, for one that does not know the job's ranks (Cray's: "-n 8 -ppn 4"). PBS sends no warning before the time
# limit, so the run is told how many minutes it has and saves a checkpoint in time; a job of a chain goes on with it.
#PBS -N pretraining
#PBS -l select=1:ncpus=8:mpiprocs=8
#PBS -l walltime=24:00:00
#PBS -j oe
#PBS -r y
set -uo pipefail

# PBS runs a copy of this file, so the repository is the folder that it was submitted from.
ROOT="${PRETRAINING_ROOT:-${PBS_O_WORKDIR:-$PWD}}"
if [ ! -f "$ROOT/launch/pretrain.sh" ]; then
    echo "error: $ROOT/launch/pretrain.sh is not there: submit from the repository, or set PRETRAINING_ROOT" >&2
    exit 1
fi
# shellcheck source=launch/env.sh
source "$ROOT/launch/env.sh"
cd "$ROOT" || exit 1

# 90 % of the time limit, for what comes before the first step and for the last checkpoint.
limit="${PBS_WALLTIME:-}" # seconds; Torque's
if [ -z "$limit" ]; then
    limit=$(qstat -f "${PBS_JOBID:-}" 2>/dev/null | sed -n 's/.*Resource_List.walltime = //p')
fi
if [[ $limit =~ ^(([0-9]+):)?([0-9]+):([0-9]+)$ ]]; then
    limit=$((10#${BASH_REMATCH[2]:-0} * 3600 + 10#${BASH_REMATCH[3]} * 60 + 10#${BASH_REMATCH[4]}))
fi
if [[ $limit =~ ^[0-9]+$ ]]; then
    flags=(--exit-duration-in-mins "$((limit * 9 / 600))" "${flags[@]}")
elif [[ " ${flags[*]} " != *" --exit-duration-in-mins"* ]]; then
    echo "warning: qstat tells no time limit here: give --exit-duration-in-mins, or PBS ends this run between checkpoints" >&2
fi
# Ranks that mpiexec starts have no address of rank 0: it is the first host of the list.
MASTER_ADDR=$(head -n 1 "$PBS_NODEFILE")
job=${PBS_JOBID:-0}
job=${job%%.*} # 123.server, 123[4].server
digits=0000${job//[!0-9]/}
MASTER_PORT=$((29500 + 10#${digits: -4}))
export MASTER_ADDR MASTER_PORT

status=0
# shellcheck disable=SC2086  # one word a flag
mpiexec ${MPIEXEC_FLAGS:-} "${RANK_COMMAND[@]}" "${flags[@]}" || status=$?
exit "$status"
