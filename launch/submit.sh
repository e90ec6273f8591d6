#!/usr/bin/env bash
# Submit a pretraining to the scheduler, from a copy of the code, so that a queued run is not changed by an edit.
#
#   DATA_PATH=... TOKENIZER=... launch/submit.sh NAME [--chain N] [flags of sbatch, qsub or bsub] [-- flags of pretrain.sh]
#
# Steps: (1) copy the code, ds_configs and the DeepSpeed JSON in use to RUNS/NAME/code (a copy that is there is used again,
# so that the same command continues a run with the code it began with); (2) find the scheduler (SCHEDULER=slurm, pbs or lsf
# decides otherwise); (3) submit its script from there, with SAVE=RUNS/NAME; --chain N submits N jobs, each of which
# starts when the one before it has ended, however it ended, and goes on from its checkpoint.
# RUNS is the folder of runs (default: runs in the repository); DRY_RUN=1 prints the commands and submits nothing.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
fail() {
    echo "error: $*" >&2
    exit 1
}

name="${1:-}"
[[ $name =~ ^[A-Za-z0-9][A-Za-z0-9._-]*$ ]] ||
    fail "give a NAME for the run (letters, digits, . _ -) as the first argument, not '$name'"
shift
chain=1 scheduler_flags=() pretrain_flags=()
while [ $# -gt 0 ]; do
    case $1 in
    --chain)
        chain="${2:-}"
        [[ $chain =~ ^[1-9][0-9]*$ ]] || fail "--chain '$chain' is not a number of jobs"
        shift 2
        ;;
    --)
        shift
        pretrain_flags=("$@")
        break
        ;;
    *)
        scheduler_flags+=("$1")
        shift
        ;;
    esac
done

scheduler="${SCHEDULER:-}"
if [ -z "$scheduler" ]; then
    if command -v sbatch >/dev/null; then
        scheduler=slurm
    elif command -v qsub >/dev/null; then
        scheduler=pbs
    elif command -v bsub >/dev/null; then
        scheduler=lsf
    else
        fail "none of sbatch, qsub and bsub is on the PATH; submit from a login node, or set SCHEDULER"
    fi
fi
[[ $scheduler == slurm || $scheduler == pbs || $scheduler == lsf ]] ||
    fail "SCHEDULER is '$scheduler'; it must be slurm, pbs or lsf"

absolute() { # absolute PREFIX: what it means in the folder of the job, too; of "0.7 A 0.3 B", in one word, each prefix
    local words number
    read -ra words <<<"$1"
    if ((${#words[@]} == 1)) || [[ ! ${words[0]:-} =~ ^[0-9.]+$ ]]; then
        realpath -m "$1"
        return
    fi
    for ((number = 1; number < ${#words[@]}; number += 2)); do
        words[number]=$(realpath -m "${words[number]}")
    done
    echo "${words[*]}"
}

runs=$(realpath -m "${RUNS:-$root/runs}")
# The job starts in another folder: paths are made absolute, in variables and in flags, and the DeepSpeed JSON is copied.
for ((place = 0; place < ${#pretrain_flags[@]}; place++)); do
    flag="${pretrain_flags[place]}" value="${pretrain_flags[place + 1]:-}"
    if [[ $flag == --*=* ]]; then
        pretrain_flags=("${pretrain_flags[@]:0:place}" "${flag%%=*}" "${flag#*=}" "${pretrain_flags[@]:place+1}")
        flag="${pretrain_flags[place]}" value="${pretrain_flags[place + 1]}"
    fi
    case $flag in
    --deepspeed-config)
        DEEPSPEED_CONFIG="$value"
        pretrain_flags=("${pretrain_flags[@]:0:place}" "${pretrain_flags[@]:place+2}")
        place=$((place - 1))
        ;;
    --tokenizer | --load | --init-from | --data-cache-path | --stage-data-to | --tensorboard-dir)
        pretrain_flags[place + 1]=$(realpath -m "$value")
        ;;
    --data-path) # a prefix, or weights and prefixes
        for ((number = place + 1; number < ${#pretrain_flags[@]}; number++)); do
            [[ ${pretrain_flags[number]} == --* ]] && break
            [[ ${pretrain_flags[number]} =~ ^[0-9.]+$ ]] ||
                pretrain_flags[number]=$(absolute "${pretrain_flags[number]}")
        done
        ;;
    --save)
        fail "--save is the folder of the run here: RUNS/NAME; leave the flag out"
        ;;
    esac
done
SAVE="$runs/$name"
code="$SAVE/code"
if [ -n "${DEEPSPEED_CONFIG:-}" ]; then
    [ -f "$DEEPSPEED_CONFIG" ] || DEEPSPEED_CONFIG="$root/$DEEPSPEED_CONFIG" # as the trainer looks for it
    [ -f "$DEEPSPEED_CONFIG" ] || fail "DEEPSPEED_CONFIG ${DEEPSPEED_CONFIG#"$root/"} does not exist"
fi
if [ -d "$code" ]; then
    echo "using the copy of the code in $code, made when this run was first submitted"
else
    mkdir -p "$SAVE"
    rm -rf "$code.partial"
    mkdir "$code.partial"
    for folder in pretraining launch ds_configs requirements.txt; do
        cp -R "$root/$folder" "$code.partial/"
    done
    find "$code.partial" -name __pycache__ -type d -prune -exec rm -rf {} +
    git -C "$root" rev-parse HEAD >"$code.partial/commit" 2>/dev/null || echo unknown >"$code.partial/commit"
    mv "$code.partial" "$code"
fi
if [ -n "${DEEPSPEED_CONFIG:-}" ] && [ ! -f "$code/deepspeed_config.json" ]; then
    cp "$DEEPSPEED_CONFIG" "$code/deepspeed_config.json.partial"
    mv "$code/deepspeed_config.json.partial" "$code/deepspeed_config.json"
fi
[ -f "$code/deepspeed_config.json" ] && export DEEPSPEED_CONFIG="$code/deepspeed_config.json"
if [ -z "${PYTHON:-}" ] && [ -x "$root/.venv/bin/python" ]; then
    PYTHON="$root/.venv/bin/python"
    export PYTHON TORCH_EXTENSIONS_DIR="${TORCH_EXTENSIONS_DIR:-$root/.venv/torch_extensions}"
fi
for variable in DATA_PATH TOKENIZER; do # the job starts in another folder
    if [ -n "${!variable:-}" ]; then
        export "$variable=$(absolute "${!variable}")"
    fi
done
PRETRAIN_FLAGS=""
[ ${#pretrain_flags[@]} -gt 0 ] && printf -v PRETRAIN_FLAGS '%q ' "${pretrain_flags[@]}"
# All jobs of the chain are one: starts without progress are counted over them.
PRETRAINING_SUBMISSION="$name-$(date +%s)"
export SAVE PRETRAIN_FLAGS PRETRAINING_ROOT="$code" PRETRAINING_SUBMISSION

submit() { # submit PREVIOUS: prints the number of the job
    local previous=$1 command
    case $scheduler in
    slurm)
        command=(sbatch --parsable --job-name "$name" --output "$SAVE/%x-%j.log" "${scheduler_flags[@]}")
        [ -n "$previous" ] && command+=(--dependency "afterany:$previous")
        command+=(launch/slurm.sbatch "${pretrain_flags[@]}")
        ;;
    pbs)
        command=(qsub -V -N "$name" -o "$SAVE/" "${scheduler_flags[@]}")
        [ -n "$previous" ] && command+=(-W "depend=afterany:$previous")
        command+=(launch/pbs.sh)
        ;;
    lsf)
        command=(bsub -J "$name" -o "$SAVE/$name-%J.log" "${scheduler_flags[@]}")
        [ -n "$previous" ] && command+=(-w "ended($previous)")
        ;;
    esac
    if [ -n "${DRY_RUN:-}" ]; then
        printf '%q ' "${command[@]}" >&2
        [ "$scheduler" = lsf ] && printf '< launch/lsf.sh' >&2
        printf '\n' >&2
        echo "${previous:-0}1"
    elif [ "$scheduler" = lsf ]; then
        (cd "$code" && "${command[@]}" <launch/lsf.sh) | sed -n 's/^Job <\([0-9]*\)>.*/\1/p'
    else
        (cd "$code" && "${command[@]}")
    fi
}

previous=""
for ((number = 1; number <= chain; number++)); do
    previous=$(submit "$previous")
    [ -n "$previous" ] || fail "the scheduler gave no number for job $number; its words are above"
    echo "submitted $name, job $number of $chain: $previous"
done
