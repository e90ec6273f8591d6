"""MultiNLI: does a sentence follow from another, contradict it, or neither? Accuracy on the matched dev set.

    python -m finetuning.mnli --model DIR_OR_NAME --data DIR --output DIR --seeds 1

Citation: Williams et al., "A broad-coverage challenge corpus for sentence understanding through inference", NAACL 2018,
arXiv:1704.05426. Here it is mostly a stage before: its model is the --model of finetuning.bioasq (yes/no questions) or
finetuning.mednli.

Files, read as they are distributed: multinli_1.0_train.jsonl, multinli_1.0_dev_matched.jsonl and
multinli_1.0_dev_mismatched.jsonl of cims.nyu.edu/~sbowman/multinli, or GLUE's train.tsv, dev_matched.tsv and
dev_mismatched.tsv. Pairs without a majority of the annotators are left out, as in GLUE.

| variant        | pairs train / mismatched dev / matched dev |
| -------------- | ------------------------------------------ |
| MNLI (matched) | 392,702 / 9,832 / 9,815                    |

The test labels are not public, so papers report the matched dev set. It is the test split here, and the mismatched one
chooses the epoch: the epoch is not chosen on what is reported.
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

NAMES = {
    "train": ("multinli_1.0_train.jsonl", "train.tsv"),
    "dev": ("multinli_1.0_dev_mismatched.jsonl", "dev_mismatched.tsv"),
    "test": ("multinli_1.0_dev_matched.jsonl", "dev_matched.tsv"),
}
ELECTRA = "github.com/google-research/electra, median of many runs"


def read(options: Namespace) -> texts.Files:
    """JSON lines or GLUE's tsv."""
    return read_splits(options, NAMES, read_nli)


def settings(variant: Variant, files: texts.Files) -> Settings:
    """Three labels; predictions in GLUE's form, `index<TAB>prediction`."""
    write = partial(texts.write_column, name="prediction")
    return Settings("single", ACCURACY, accuracy_scores, write, NLI_LABELS, benchmark="MNLI")


CORPUS = texts.Corpus(read, settings)
BENCHMARK = Benchmark(
    name="MNLI",
    variants=(
        Variant(
            "MNLI (matched)",
            {"pairs": (392702, 9832, 9815)},
            published=(
                ("ELECTRA-small", 81.3, ELECTRA),
                ("ELECTRA-base", 88.8, ELECTRA),
                ("ELECTRA-large", 90.9, ELECTRA),
            ),
        ),
    ),
    defaults=FinetuneConfig(epochs=3, patience=3, batch_size=32, max_length=128),
    prepare=partial(texts.prepare, corpus=CORPUS),
    score_file=partial(texts.score_file, corpus=CORPUS),
)


def main(arguments: list[str] | None = None) -> None:
    """Command line; `arguments` stands for sys.argv[1:]."""
    command.main(BENCHMARK, __doc__, arguments)


if __name__ == "__main__":
    main()
