#!/usr/bin/env bash
# All corpus stages in order: PMC, PubMed, records, plain text -> documents -> filter -> sentences -> vocabulary -> index.
#
#   PUBMED="BASELINE UPDATES" OUTPUT=DIR bash launch/prepare_corpus.sh --language eng --duplicates pmid exact near
#   ENGINE=slurm PUBMED=... OUTPUT=DIR bash launch/prepare_corpus.sh        the tasks of every stage as Slurm job arrays
#
# Flags go to the filter (python -m pretraining.corpus.filter --help). By the environment: PUBMED, PMC, RECORDS, TEXT (what
# the readers take as --input, several apart by blanks), TEXT_LAYOUT (the text reader's --layout), PUBMED_FLAGS, PMC_FLAGS,
# RECORDS_FLAGS, TEXT_FLAGS (further flags of the readers, such as "--license CC0 --skip-broken"), OUTPUT, VOCAB_SIZE
# (30522), VOCAB_FLAGS, WORKERS (the cores there are; tasks at a time), ENGINE (local or slurm), ENGINE_FLAGS (such as
# "--partition cpu --sbatch account=lab", for every stage), SRUN_FLAGS (for the vocabulary, which is one job), PYTHON.
#
# With `--duplicates pmid` the full text of an article stands and its abstract in PubMed goes: the filter keeps the first
# input, and the order is PMC, PubMed, records, text.
#
# A stage that is done, with the same command on the same input, is not done again, wherever its tasks ran; one that was
# killed goes on, task by task. Run the same command again after whatever happened: the result is the same to the byte.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)" # no cd: paths, those in flags too, are the caller's

PYTHON="${PYTHON:-$root/.venv/bin/python}"
OUTPUT="${OUTPUT:?set OUTPUT to the folder to write}"
ENGINE="${ENGINE:-local}"
WORKERS="${WORKERS:-$(nproc)}"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" TOKENIZERS_PARALLELISM="${TOKENIZERS_PARALLELISM:-true}"
read -ra pubmed <<<"${PUBMED:-}"
read -ra pmc <<<"${PMC:-}"
read -ra records <<<"${RECORDS:-}"
read -ra text <<<"${TEXT:-}"
read -ra pubmed_flags <<<"${PUBMED_FLAGS:-}"
read -ra pmc_flags <<<"${PMC_FLAGS:-}"
read -ra records_flags <<<"${RECORDS_FLAGS:-}"
read -ra text_flags <<<"${TEXT_FLAGS:-}"
read -ra vocab_flags <<<"${VOCAB_FLAGS:-}"
read -ra engine_flags <<<"${ENGINE_FLAGS:-}"
read -ra srun_flags <<<"${SRUN_FLAGS:-}"

case "$ENGINE" in
local) on_one_node=() ;;
slurm) on_one_node=(srun --ntasks=1 "--cpus-per-task=$WORKERS" "${srun_flags[@]}") ;;
*) echo "error: ENGINE=$ENGINE is neither local nor slurm" >&2 && exit 1 ;;
esac
if ((${#pubmed[@]} + ${#pmc[@]} + ${#records[@]} + ${#text[@]} == 0)); then
    echo "error: nothing to read; set PUBMED, PMC, RECORDS or TEXT to files or folders" >&2 && exit 1
fi

# What a stage reads, a line each: names, sizes and times of raw files (of a mirror of PMC, millions); the manifests of
# earlier stages by content.
describe() {
    local path
    for path in "$@"; do
        if [[ -f $path/manifest.json ]]; then
            sha256sum <"$path/manifest.json"
        elif [[ -e $path ]]; then
            find -L "$path" -type f -not -name '.*' -printf '%p %s %T@\n' | LC_ALL=C sort | sha256sum
        else
            echo "error: $path does not exist; check PUBMED, PMC, RECORDS and TEXT" >&2 && return 1
        fi
    done
}

# read_files ARRAY FLAG...: put into an array the files that flags name, which decide the result as the input does.
read_files() {
    local -n found="$1"
    local argument flag=
    shift
    for argument in "$@"; do
        [[ $argument != --* ]] || flag="${argument%%=*}"
        argument="${argument#--*=}"
        # what is left out is written to the file of --removed
        if [[ $flag != --removed && -e $argument ]]; then found+=("$argument"); fi
    done
}

# stage NAME RESULT INPUT... -- COMMAND...: run a command, after ${launcher[@]} and with ${engine[@]} behind it, unless RESULT
# is there and was made by it from the same input.
stage() {
    local name="$1" result="$2" inputs=() stamp
    shift 2
    while [[ $1 != -- ]]; do inputs+=("$1") && shift; done
    shift
    stamp="$(printf '%q ' "$@" && echo && describe "${inputs[@]}")" || exit 1
    if [[ -f $result && -f $OUTPUT/.$name.stamp && $(<"$OUTPUT/.$name.stamp") == "$stamp" ]]; then
        echo "$name: done already"
        return
    fi
    rm -f "$OUTPUT/.$name.stamp"
    "${launcher[@]}" "$@" "${engine[@]}"
    printf '%s\n' "$stamp" >"$OUTPUT/.$name.stamp.partial"
    mv "$OUTPUT/.$name.stamp.partial" "$OUTPUT/.$name.stamp"
}

mkdir -p "$OUTPUT"
launcher=()
engine=(--engine "$ENGINE" --workers "$WORKERS" "${engine_flags[@]}")
documents=()
# of equal PMIDs the filter keeps the first --input: full texts come before the abstracts of the same articles
if ((${#pmc[@]})); then
    stage pmc "$OUTPUT/pmc/manifest.json" "${pmc[@]}" -- \
        "$PYTHON" -m pretraining.corpus.pmc --input "${pmc[@]}" --output "$OUTPUT/pmc" "${pmc_flags[@]}"
    documents+=("$OUTPUT/pmc")
fi
if ((${#pubmed[@]})); then
    stage pubmed "$OUTPUT/pubmed/manifest.json" "${pubmed[@]}" -- \
        "$PYTHON" -m pretraining.corpus.pubmed --input "${pubmed[@]}" --output "$OUTPUT/pubmed" "${pubmed_flags[@]}"
    documents+=("$OUTPUT/pubmed")
fi
if ((${#records[@]})); then
    stage records "$OUTPUT/records/manifest.json" "${records[@]}" -- \
        "$PYTHON" -m pretraining.corpus.records --input "${records[@]}" --output "$OUTPUT/records" "${records_flags[@]}"
    documents+=("$OUTPUT/records")
fi
if ((${#text[@]})); then
    stage text "$OUTPUT/text/manifest.json" "${text[@]}" -- "$PYTHON" -m pretraining.corpus.text \
        --input "${text[@]}" --layout "${TEXT_LAYOUT:?set it, see pretraining.corpus.text --help}" --output "$OUTPUT/text" \
        "${text_flags[@]}"
    documents+=("$OUTPUT/text")
fi
filter_files=() vocab_files=()
read_files filter_files "$@"
read_files vocab_files "${vocab_flags[@]}"
stage filter "$OUTPUT/filtered/manifest.json" "${documents[@]}" "${filter_files[@]}" -- "$PYTHON" -m pretraining.corpus.filter \
    --input "${documents[@]}" --output "$OUTPUT/filtered" "$@"
stage sentences "$OUTPUT/sentences/manifest.json" "$OUTPUT/filtered" -- \
    "$PYTHON" -m pretraining.corpus.sentences --input "$OUTPUT/filtered" --output "$OUTPUT/sentences"
tasks=("${engine[@]}") launcher=("${on_one_node[@]}") engine=(--workers "$WORKERS") # one program, on one machine
stage vocab "$OUTPUT/tokenizer/tokenizer.json" "$OUTPUT/sentences" "${vocab_files[@]}" -- "$PYTHON" -m pretraining.corpus.vocab \
    --input "$OUTPUT/sentences" --output "$OUTPUT/tokenizer" --vocab-size "${VOCAB_SIZE:-30522}" "${vocab_flags[@]}"
launcher=() engine=("${tasks[@]}")
stage index "$OUTPUT/corpus.json" "$OUTPUT/sentences" "$OUTPUT/tokenizer" -- "$PYTHON" -m pretraining.corpus.index \
    --input "$OUTPUT/sentences" --tokenizer "$OUTPUT/tokenizer" --output-prefix "$OUTPUT/corpus"
