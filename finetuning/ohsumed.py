"""OHSUMED, the part with a single label: the cardiovascular disease class of an abstract. Accuracy.

    python -m finetuning.ohsumed --model DIR_OR_NAME --data DIR --output DIR --seeds 5

Citations: Hersh et al., "OHSUMED: an interactive retrieval evaluation and new large test collection for research",
SIGIR 1994; the part and its split are those of Yao et al., "Graph convolutional networks for text classification",
AAAI 2019, arXiv:1809.05679.

Files, read as they are distributed: the folders training/ and test/ of ohsumed_single_23 in
github.com/yao8839836/text_gcn, in each a folder for each class (C01 ... C23) with a file for each abstract: a line
with the title, then a sentence a line.

| variant                | documents train / test |
| ---------------------- | ---------------------- |
| OHSUMED, single label  | 3,357 / 4,043          |

There is no dev split: every tenth training document of each class is held out for it, about as many as the paper holds
out at random; --train-on-dev trains on all. The macro-F1 over the 23 classes is reported beside the accuracy.
"""

from argparse import Namespace
from functools import partial

from finetuning import command, texts
from finetuning.config import FinetuneConfig
from finetuning.splits import Benchmark, Variant
from finetuning.text_files import read_class_folders, refuse_train_split
from finetuning.text_labels import Settings
from finetuning.text_scores import ACCURACY, accuracy_scores

FOLDERS = {"train": "training", "test": "test"}


def read(options: Namespace) -> texts.Files:
    """Training and test folders."""
    refuse_train_split(options)
    for folder in FOLDERS.values():
        if not (options.data / folder).is_dir():
            raise ValueError(f"{options.data} has no folder {folder}: expected training/C01 ... and test/C01 ...")
    return {split: read_class_folders(options.data / folder) for split, folder in FOLDERS.items()}


def settings(variant: Variant, files: texts.Files) -> Settings:
    """The classes there are, in alphabetical order."""
    labels = tuple(sorted({example.label for file in files.values() for example in file.examples}))
    return Settings("single", ACCURACY, accuracy_scores, texts.write_column, labels, benchmark="OHSUMED")


CORPUS = texts.Corpus(read, settings)
BENCHMARK = Benchmark(
    name="OHSUMED",
    variants=(Variant("OHSUMED, single label", {"documents": (3357, 4043)}),),
    defaults=FinetuneConfig(epochs=20, patience=5, batch_size=32),
    prepare=partial(texts.prepare, corpus=CORPUS),
    score_file=partial(texts.score_file, corpus=CORPUS),
)


def main(arguments: list[str] | None = None) -> None:
    """Command line; `arguments` stands for sys.argv[1:]."""
    command.main(BENCHMARK, __doc__, arguments)


if __name__ == "__main__":
    main()
