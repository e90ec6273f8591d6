"""MedNLI: does a sentence follow from one of a patient's record, contradict it, or neither? Accuracy.

    python -m finetuning.mednli --model DIR_OR_NAME --data DIR --output DIR --seeds 5

Citation: Romanov and Shivade, "Lessons from natural language inference in the clinical domain", EMNLP 2018,
arXiv:1808.06752.

Files, read as they are distributed, after registration, by physionet.org/content/mednli: mli_train_v1.jsonl,
mli_dev_v1.jsonl, mli_test_v1.jsonl; or BLUE's train.tsv, dev.tsv, test.tsv of them (index, sentence1, sentence2,
label).

| variant | pairs train / dev / test |
| ------- | ------------------------ |
| MedNLI  | 11,232 / 1,395 / 1,422   |

A model finetuned on MNLI (finetuning.mnli, --model .../model) goes on from there with its head: the labels are the
same. Published scores that may stand beside ours are in BENCHMARK below, each with its source.
BioELECTRA (BioNLP 2021) was finetuned with 3 epochs and batches of 32; the rate is known of a large model only (5e-5),
so it is by the model's size here. More epochs may be run, for the dev score says when to stop.
"""

from argparse import Namespace
from functools import partial

from finetuning import command, texts
from finetuning.config import FinetuneConfig
from finetuning.pair_files import NLI_LABELS, read_nli
from finetuning.splits import Benchmark, Variant
from finetuning.text_files import read_splits
from finetuning.text_labels import Settings
from finetuning.text_scores import ACCURACY, accuracy_scores

NAMES = {split: (f"mli_{split}_v1.jsonl", f"{split}.tsv") for split in ("train", "dev", "test")}
BLUE = "BLUE, arXiv:1906.05474"


def read(options: Namespace) -> texts.Files:
    """JSON lines or tsv."""
    return read_splits(options, NAMES, read_nli)


def settings(variant: Variant, files: texts.Files) -> Settings:
    """Three labels, in the order that MNLI has too."""
    return Settings("single", ACCURACY, accuracy_scores, texts.write_column, NLI_LABELS, benchmark="MedNLI")


CORPUS = texts.Corpus(read, settings)
BENCHMARK = Benchmark(
    name="MedNLI",
    variants=(
        Variant(
            "MedNLI",
            {"pairs": (11232, 1395, 1422)},
            published=(
                ("BioBERT", 80.5, BLUE),
                ("BlueBERT-base (P+M)", 84.0, BLUE),
                ("BioELECTRA", 86.34, "BioNLP 2021"),
                ("SciFive-large", 86.57, "arXiv:2106.03598"),
            ),
        ),
    ),
    defaults=FinetuneConfig(epochs=10, patience=3, batch_size=32, max_length=128),
    prepare=partial(texts.prepare, corpus=CORPUS),
    score_file=partial(texts.score_file, corpus=CORPUS),
)


def main(arguments: list[str] | None = None) -> None:
    """Command line; `arguments` stands for sys.argv[1:]."""
    command.main(BENCHMARK, __doc__, arguments)


if __name__ == "__main__":
    main()
