#!/usr/bin/env bash
# The whole chain in minutes: PubMed XML -> corpus -> vocabulary -> index -> pretraining -> Hugging Face folders ->
# finetuning -> table. On two CPU ranks, or on the GPUs there are.
#
#   bash launch/quickstart.sh                                          on made-up abstracts and a made-up benchmark
#   PUBMED=PATH BENCHMARK=PATH bash launch/quickstart.sh               on PubMed XML files and BC5CDR files of yours
#
# With another VOCAB_SIZE or TRAIN_ITERS, give another OUTPUT: a run does not go on with other settings.
# BC5CDR: the published files in any of their forms (finetuning/bc5cdr.py), or others in these forms, of any size.
#
# Variables: OUTPUT (folder), VOCAB_SIZE, TRAIN_ITERS, SEEDS, EPOCHS. Any further arguments are flags of the pretraining.
# Killed or finished, the same command goes on from where it was: training resumes, finished seeds are not run again.
set -euo pipefail

for name in PUBMED BENCHMARK OUTPUT; do # of the folder that the command is given in
    if [[ -n ${!name:-} ]]; then printf -v "$name" %s "$(realpath -ms -- "${!name}")"; fi
done
cd "$(dirname "${BASH_SOURCE[0]}")/.."
started=$SECONDS
# shellcheck source=launch/environment.sh
source launch/environment.sh
prepare_environment
installed=$SECONDS

if [[ -n ${PUBMED:-} || -n ${BENCHMARK:-} ]]; then
    if [[ -z ${PUBMED:-} || -z ${BENCHMARK:-} ]]; then
        echo "error: set both PUBMED=PATH (PubMed XML files) and BENCHMARK=PATH (a folder of BC5CDR files), or neither" >&2
        exit 1
    fi
    name="$(printf '%s\n' "$PUBMED" "$BENCHMARK" | cksum | cut -d ' ' -f 1)"
    OUTPUT="${OUTPUT:-runs/quickstart-$name}"
    seeds=1 epochs=3 vocab_size=3000
else
    OUTPUT="${OUTPUT:-runs/quickstart}"
    PUBMED="$OUTPUT/sample/pubmed" BENCHMARK="$OUTPUT/sample/benchmark"
    seeds=2 epochs=12 vocab_size=1600
fi

step() { printf '\n== %s\n' "$*"; }

# Finetuning comes last, so its files are read once before all else.
read_benchmark='
import sys
from finetuning import bc5cdr, command, tagging

flags = ["--model", "", "--data", sys.argv[1], "--output", "", "--nonstandard-split"]
options = command.make_parser(bc5cdr.BENCHMARK, "").parse_args(flags)
try:
    _, variant = tagging.read_variant(bc5cdr.BENCHMARK, options)
except (ValueError, OSError) as error:
    sys.exit(f"error: BENCHMARK: {error}")
if not variant.standard:
    print(f"{sys.argv[1]} has other sizes than BC5CDR as published, so its scores will be marked nonstandard.")
'

VOCAB_SIZE="${VOCAB_SIZE:-$vocab_size}" TRAIN_ITERS="${TRAIN_ITERS:-1200}"
settings="PUBMED=$PUBMED VOCAB_SIZE=$VOCAB_SIZE TRAIN_ITERS=$TRAIN_ITERS"
if [[ -f $OUTPUT/settings && $(<"$OUTPUT/settings") != "$settings" ]]; then
    echo "error: $OUTPUT was made with $(<"$OUTPUT/settings"), not $settings; give another OUTPUT=FOLDER or remove it" >&2
    exit 1
fi

if [[ $PUBMED == "$OUTPUT/sample/pubmed" ]]; then
    step "Made-up abstracts in PubMed XML and a made-up benchmark (nothing in them is real)"
    "$PYTHON" launch/sample_data.py --output "$OUTPUT/sample"
else
    "$PYTHON" -c "$read_benchmark" "$BENCHMARK"
fi
mkdir -p "$OUTPUT"
printf '%s\n' "$settings" >"$OUTPUT/settings.partial"
mv "$OUTPUT/settings.partial" "$OUTPUT/settings"

step "PubMed XML -> documents"
"$PYTHON" -m pretraining.corpus.pubmed --input "$PUBMED" --output "$OUTPUT/documents"

step "Documents -> sentences"
"$PYTHON" -m pretraining.corpus.sentences --input "$OUTPUT/documents" --output "$OUTPUT/sentences"

step "Sentences -> vocabulary"
"$PYTHON" -m pretraining.corpus.vocab --input "$OUTPUT/sentences" --output "$OUTPUT/tokenizer" \
    --vocab-size "$VOCAB_SIZE"

step "Sentences -> indexed corpus"
"$PYTHON" -m pretraining.corpus.index --input "$OUTPUT/sentences" --tokenizer "$OUTPUT/tokenizer" \
    --output-prefix "$OUTPUT/corpus"

step "Pretraining: ELECTRA, small enough for a laptop"
if has_gpu; then
    # As many GPUs as divide the 32 samples of a step: the first 1, 2, 4, ... of those that there are.
    IFS=, read -ra gpus <<<"${CUDA_VISIBLE_DEVICES-$(seq -s , 0 $(($(nvidia-smi -L | grep -c '^GPU') - 1)))}"
    ranks=1
    while ((2 * ranks <= ${#gpus[@]} && ranks < 32)); do ranks=$((2 * ranks)); done
    CUDA_VISIBLE_DEVICES="$(IFS=, && echo "${gpus[*]:0:ranks}")"
    export CUDA_VISIBLE_DEVICES
else
    export LOCAL_SIZE="${LOCAL_SIZE:-2}" DS_ACCELERATOR=cpu
fi
# A port of its own, so that two runs on one machine do not meet.
find_port='import socket; probe = socket.socket(); probe.bind(("127.0.0.1", 0)); print(probe.getsockname()[1])'
port="$("$PYTHON" -c "$find_port")"
# Many small steps of short samples: a few minutes are enough to learn which kind of word stands where.
deepspeed --log_level error --master_port "$port" launch/pretrain.sh --preset tiny --num-layers 3 --hidden-size 128 --ffn-hidden-size 512 --embedding-size 128 \
    --data-path "$OUTPUT/corpus" --tokenizer "$OUTPUT/tokenizer" --split 90,9,1 --seq-length 64 --mask-prob 0.25 \
    --global-batch-size 32 --train-iters "$TRAIN_ITERS" --lr 1e-3 --lr-warmup-iters 50 --log-interval 50 \
    --eval-interval 200 --eval-iters 4 --save-interval 400 --save "$OUTPUT/pretraining" --load "$OUTPUT/pretraining" "$@"

step "Checkpoint -> Hugging Face folders"
"$PYTHON" -m pretraining.export --load "$OUTPUT/pretraining" --output "$OUTPUT/exported"

step "Finetuning: entity recognition in BC5CDR's format"
"$PYTHON" -m finetuning.bc5cdr --model "$OUTPUT/exported/discriminator" --model-name "quickstart" --data "$BENCHMARK" \
    --output "$OUTPUT/finetuning" --seeds "${SEEDS:-$seeds}" --epochs "${EPOCHS:-$epochs}" --batch-size 8 \
    --learning-rate 1e-3 --layer-decay 1 --nonstandard-split # where they are: published sizes get no mark

step "Table"
"$PYTHON" -m finetuning.table "$OUTPUT/finetuning" --output "$OUTPUT/table.md"

cat <<END

Finished in $(((SECONDS - installed) / 60)) min $(((SECONDS - installed) % 60)) s (and $((installed - started)) s for the environment).
  the encoder   $OUTPUT/exported/discriminator   (transformers.AutoModel loads it)
  the table     $OUTPUT/table.md
  the curves    $(dirname "$PYTHON")/tensorboard --logdir $OUTPUT/pretraining/tensorboard   (opens on localhost)
END
