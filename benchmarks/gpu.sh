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
#   4. tables at the end, the last one beside the aims for an H200; everything as JSON in OUTPUT_FOLDER (left out: a
#      folder that is removed again), where the files of an earlier call are replaced
# It installs nothing, writes nothing outside OUTPUT_FOLDER and needs neither deepspeed nor datatrove. Whether bf16's
# losses stay where fp32's are is benchmarks/precision_curve.py's: it needs whole runs, and deepspeed.
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
rm -f "$output"/{kernels,ours-*,peers-*}.{log,json} # of an earlier call: a step that is left out has no numbers
# What Python, compilers and the driver keep goes with the folder; compiled once, a kernel serves the later steps too.
export TMPDIR="$scratch" PYTHONDONTWRITEBYTECODE=1
export TORCHINDUCTOR_CACHE_DIR="$scratch/inductor" TRITON_CACHE_DIR="$scratch/triton" CUDA_CACHE_PATH="$scratch/cuda"

failed=0
within() { # within SECONDS: so many, or what is left
    local left=$((budget - SECONDS))
    echo $(($1 < left ? $1 : left))
}
step() { # step SECONDS NAME COMMAND...: run within a limit, its output in OUTPUT_FOLDER/NAME.log
    local limit name=$2
    limit="$(within "$1")"
    shift 2
    if ((limit < 10)); then
        echo "error: $name is left out: the $budget s are over" >&2
        failed=1
        return
    fi
    echo "$name ..." >&2
    if ! timeout --kill-after=5 "$limit" "$@" >"$output/$name.log" 2>&1; then
        echo "error: $name failed or took more than $limit s; the end of $output/$name.log:" >&2
        tail -n 15 "$output/$name.log" >&2
        failed=1
    fi
}

# The optimizer of the measurement is torch's: the trainer's comes with deepspeed.
kernels='
from pretraining.compiling import resolve_compile
from pretraining.config import Config
from pretraining.fused import kernel_table
config = Config()
config.model.preset = "base"
compiled = resolve_compile("auto", "cuda", 1)
rows = kernel_table("cuda", config.fill_from_preset(), "bf16", False)[:-1]
rows += [("compile", compiled.name, compiled.why), ("optimizer", "torch AdamW, fused", "measured without DeepSpeed")]
for row in rows:
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
look="$(within 30)"
if ((look > 0)) && timeout --kill-after=5 "$look" "$python" -c 'import transformers' 2>/dev/null; then
    step 130 peers-base-512 "$python" -m benchmarks.pretraining_speed --size base --length 512 --batch-size 32 \
        --attention sdpa --execution eager --precision bf16 autocast --micro-batch 32 --rounds 5 --minutes 1.5 \
        --output "$output/peers-base-512.json"
fi

echo
echo "| operation | what runs | why |"
echo "| --- | --- | --- |"
grep -s '^|' "$output/kernels.log" || true # what libraries warn of is in the file
for log in "$output"/ours-*.log "$output"/peers-*.log; do
    [[ -f $log ]] || continue
    echo
    grep -v '^{' "$log" || true # the last line is the JSON that has a file of its own
done
aims='
import json, pathlib, sys
print("| size, length | layers | full samples/s | aim on an H200 | of matrix products | aim |")
print("| --- | --- | --- | --- | --- | --- |")
for size, length, layers, speed, share in (
    ("base", 512, "compile", 1150, 0.5),
    ("base", 512, "eager", 1150, 0.5),
    ("base", 128, "compile", 5000, 0.5),
    ("large", 512, "compile", 410, 0.58),
):
    file, cells = pathlib.Path(sys.argv[1], f"ours-{size}-{length}-{layers}.json"), ("not measured", "not measured")
    if file.exists():
        row = json.loads(file.read_text())["rows"][0]
        cells = "{:,.0f}".format(row["samples_per_second"]), "{:.1%}".format(row["gemm_share"])
    print(f"| {size}, {length} | {layers} | {cells[0]} | {speed:,} | {cells[1]} | {share:.0%} |")
'
echo
timeout --kill-after=1 10 "$python" -c "$aims" "$output" || failed=1
exit "$failed"
