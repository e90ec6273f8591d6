#!/usr/bin/env bash
# Speed of pretraining on one GPU: parity of the kernels, then ours for base and large, then Hugging Face beside it.
#
#   bash benchmarks/gpu.sh [OUTPUT_FOLDER]      (PYTHON=path: torch 2.11 or later, numpy; GPU_SECONDS=460: for all)
#
# Steps, in less than eight minutes together: each has a limit of its own and no more than what is left of GPU_SECONDS;
# a failure does not end the others:
#   1. the kernels that fused.py picks, as a table, and their self-tests
#   2. ours, word pieces and samples a second: base at lengths 512 and 128, large at 512, on full samples, compiled;
#      base at 512 also without
#   3. ours beside Hugging Face's heads on abstracts, base at 512, where transformers is installed
#   4. a table at the end; everything as JSON in OUTPUT_FOLDER (left out: a folder that is removed again)
# It installs nothing, writes nothing outside OUTPUT_FOLDER and needs neither deepspeed nor datatrove.
set -euo pipefail

SECONDS=0 # bash counts on from here
budget="${GPU_SECONDS:-460}"
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="${PYTHON:-python3}"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"

if ! timeout --kill-after=5 60 "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
    echo "error: $python sees no GPU through torch; set PYTHON to one that does" >&2
    exit 1
fi
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
output="${1:-$scratch/output}"
mkdir -p "$output"
# What Python, compilers and the driver keep goes with the folder; compiled once, a kernel serves the later steps too.
export TMPDIR="$scratch" PYTHONDONTWRITEBYTECODE=1
export TORCHINDUCTOR_CACHE_DIR="$scratch/inductor" TRITON_CACHE_DIR="$scratch/triton" CUDA_CACHE_PATH="$scratch/cuda"

failed=0
step() { # step SECONDS NAME COMMAND...: run within a limit, its output in OUTPUT_FOLDER/NAME.log
    local limit=$1 name=$2 left=$((budget - SECONDS))
    shift 2
    if ((left < 10)); then
        echo "error: $name is left out: the $budget s are over" >&2
        failed=1
        return
    fi
    ((limit <= left)) || limit=$left
    echo "$name ..." >&2
    if ! timeout --kill-after=5 "$limit" "$@" >"$output/$name.log" 2>&1; then
        echo "error: $name failed or took more than $limit s; the end of $output/$name.log:" >&2
        tail -n 15 "$output/$name.log" >&2
        failed=1
    fi
}

kernels='
import torch
from pretraining.compiling import resolve_compile
from pretraining.fused import kernel_table
compiled = resolve_compile("auto", "cuda", 1)
for row in [*kernel_table("cuda", False, torch.bfloat16, 0.1), ("compile", compiled.name, compiled.why)]:
    print("| " + " | ".join(row) + " |")
'
step 40 kernels "$python" -c "$kernels"
ours() { # ours SIZE LENGTH BATCH SECONDS EXECUTION
    local name="ours-$1-$2-$5"
    step "$4" "$name" "$python" -m benchmarks.pretraining_speed --size "$1" --length "$2" --no-peers \
        --our-execution "$5" --full-samples --batch-size "$3" --our-micro-batch "$3" --our-precision bf16 --rounds 10 \
        --output "$output/$name.json"
}
ours base 512 64 110 compile
ours base 512 64 50 eager
ours base 128 256 80 compile
ours large 512 32 110 compile
if timeout --kill-after=5 30 "$python" -c 'import transformers' 2>/dev/null; then
    step 130 peers-base-512 "$python" -m benchmarks.pretraining_speed --size base --length 512 --batch-size 32 \
        --attention sdpa --execution eager --precision bf16 autocast --micro-batch 32 --rounds 5 --minutes 1.5 \
        --output "$output/peers-base-512.json"
fi

echo
echo "| operation | what runs | why |"
echo "| --- | --- | --- |"
grep '^|' "$output/kernels.log" || true # what libraries warn of is in the file
for log in "$output"/ours-*.log "$output"/peers-*.log; do
    [[ -f $log ]] || continue
    echo
    grep -v '^{' "$log" || true # the last line is the JSON that has a file of its own
done
exit "$failed"
