#!/usr/bin/env bash
# Every benchmark for one model: as a loop, or as a Slurm array with one benchmark a task; then the table.
#
#   bash launch/finetune_all.sh MODEL DATA OUTPUT [flags of every run]
#   sbatch --array=0-39 --gpus-per-task=1 launch/finetune_all.sh MODEL DATA OUTPUT [flags of every run]
#
# MODEL is a Hugging Face encoder, DATA a folder with one folder for each benchmark of the list below, OUTPUT where the
# results of all models go. Steps: (1) a benchmark whose folder is missing is skipped, and counted at the end; (2) finished
# seeds are not run again, so the same command goes on where it was; (3) a benchmark that fails does not stop the others,
# and the exit status says how it went; (4) the table of all results in OUTPUT (in an array: the one printed last).
#
# Folders: each as its script says (python -m finetuning.hoc --help). For the BLURB score: bc5cdr-chem, bc5cdr-disease,
# ncbi-disease, bc2gm, jnlpba-blurb (MTL's five types, made one), ebm-nlp, chemprot, ddi, gad, biosses, hoc, pubmedqa
# and bioasq-blurb, with BLURB's files where there are several forms. jnlpba is for types as the files have them, bioasq
# for the latest edition of BioASQ's golden files in it, bc5cdr for chemicals and diseases together, squad for 1.1. What
# would not go together has folders of its own: ncbi-disease-recut and bc5cdr-merged (as ELECTRAMed has them),
# chemprot-blue, chemprot-scibert, ddi-blue, hoc-blue, gad-folds, squad2, bioasq-4b, bioasq-5b and bioasq-6b.
#
# The list can be replaced: BENCHMARKS="bc5cdr bc5cdr-chem;hoc hoc --epochs 20" (script, folder in DATA, its own flags).
#SBATCH --job-name=finetuning
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --output=%x-%A-%a.log
set -euo pipefail

LIST="${BENCHMARKS:-
ncbi_disease ncbi-disease
bc5cdr bc5cdr
bc5cdr bc5cdr-chem
bc5cdr bc5cdr-disease
bc2gm bc2gm
jnlpba jnlpba
jnlpba jnlpba-blurb --merge-types
linnaeus linnaeus
s800 s800
bc4chemd bc4chemd
bionlp13cg bionlp13cg
ebm_nlp ebm-nlp
chemprot chemprot
ddi ddi
gad gad
euadr euadr
biosses biosses
clinical_sts clinical-sts
hoc hoc
pubmed_rct pubmed-rct
ohsumed ohsumed
mednli mednli
mnli mnli
squad squad
pubmedqa pubmedqa
bioasq bioasq --question-type yesno
bioasq bioasq --question-type factoid
bioasq bioasq --question-type list
bioasq bioasq-blurb --question-type yesno
ncbi_disease ncbi-disease-recut
bc5cdr bc5cdr-merged --tag-scheme IOB1
chemprot chemprot-blue
chemprot chemprot-scibert
ddi ddi-blue
hoc hoc-blue
gad gad-folds
squad squad2
bioasq bioasq-4b --question-type factoid
bioasq bioasq-5b --question-type factoid
bioasq bioasq-6b --question-type factoid
}"

if [[ $# -lt 3 || $1 == -* ]]; then
    sed -n '2,/^$/p' "${BASH_SOURCE[0]}" | grep -v '^#SBATCH' | sed 's/^# \{0,1\}//; /^set /d'
    [[ ${1:-} == -h || ${1:-} == --help ]] && exit 0
    exit 1
fi
MODEL=$1 DATA=$2 OUTPUT=$3
shift 3

# sbatch runs a copy of this file, so the repository is the folder that it was submitted from.
ROOT="${PRETRAINING_ROOT:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}"
[[ -f $ROOT/launch/finetune_all.sh ]] || ROOT="${SLURM_SUBMIT_DIR:-$PWD}"
if [[ -z ${PYTHON:-} ]]; then
    PYTHON=python3
    [[ -x $ROOT/.venv/bin/python ]] && PYTHON="$ROOT/.venv/bin/python"
fi
export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}" TOKENIZERS_PARALLELISM=false

mapfile -t lines < <(tr ';' '\n' <<<"$LIST" | sed 's/^ *//' | grep -v '^$')
if [[ -n ${SLURM_ARRAY_TASK_ID:-} ]]; then
    if ((SLURM_ARRAY_TASK_ID >= ${#lines[@]})); then
        echo "error: --array names task $SLURM_ARRAY_TASK_ID, and the list has ${#lines[@]} benchmarks, from 0" >&2
        exit 1
    fi
    lines=("${lines[SLURM_ARRAY_TASK_ID]}")
fi

skipped=() failed=() finished=0
for line in "${lines[@]}"; do
    read -r benchmark folder flags <<<"$line"
    if [[ ! -d $DATA/$folder ]]; then
        skipped+=("$folder")
        continue
    fi
    printf '\n== %s (%s)\n' "$benchmark" "$folder"
    # shellcheck disable=SC2086  # the flags of the list are several words
    if "$PYTHON" -m "finetuning.$benchmark" --model "$MODEL" --data "$DATA/$folder" --output "$OUTPUT" $flags "$@"; then
        finished=$((finished + 1))
    else
        failed+=("$benchmark ($folder)")
    fi
done

if [[ -d $OUTPUT && -n $(find "$OUTPUT" -name results.json -print -quit) ]]; then
    printf '\n== Table\n'
    # Another task of an array may be writing meanwhile; what has been finetuned is finished all the same.
    "$PYTHON" -m finetuning.table "$OUTPUT" || [[ -n ${SLURM_ARRAY_TASK_ID:-} ]] || failed+=("the table")
fi
printf '\n%s benchmark(s) finished, %s failed%s, %s without a folder in %s%s\n' "$finished" "${#failed[@]}" \
    "${failed[*]:+: ${failed[*]}}" "${#skipped[@]}" "$DATA" "${skipped[*]:+: ${skipped[*]}}"
# A task of an array that has nothing to do is no failure; a whole list without one folder is a mistake.
[[ ${#failed[@]} == 0 ]] && { ((finished)) || [[ -n ${SLURM_ARRAY_TASK_ID:-} ]]; }
