"""BIOSSES: how alike two biomedical sentences are, from 0 to 4. Pearson's correlation.

    python -m finetuning.biosses --model DIR_OR_NAME --data DIR --output DIR --seeds 10

Citation: Sogancioglu et al., "BIOSSES: a semantic sentence similarity estimation system for the biomedical domain",
Bioinformatics 2017, 33(14):i49-i58. The score of a pair is the mean of five annotators'.

Files, read as they are distributed:
- Annotation-Pairs.docx and Annotator-Scores.docx of BIOSSES-Dataset.rar (unpacked), divided as in BLURB;
- train_blurb.tsv, dev_blurb.tsv, test_blurb.tsv of SciFive (github.com/justinphan3110/SciFive): BLURB's examples,
  `s1: ... s2: ...<TAB>score`;
- train.tsv, dev.tsv, test.tsv of BLUE (github.com/ncbi-nlp/BLUE_Benchmark), with a header.

| variant | pairs train / dev / test |
| ------- | ------------------------ |
| BIOSSES | 64 / 16 / 20             |

The test set is of 20 pairs, so that a few seeds say little: BLURB's papers take the mean of ten. Each training pair is
seen in both orders, as BioELECTRA does. Published scores that may stand beside ours are in BENCHMARK below, each with
its source.
BioELECTRA (BioNLP 2021), base, was finetuned with a learning rate of 1.5e-4, 60 epochs and batches of
16; these are the
defaults here for ELECTRA-base.
"""

from argparse import Namespace
from functools import partial

from finetuning import command, texts
from finetuning.config import FinetuneConfig
from finetuning.pair_files import read_similarity, read_word_pairs
from finetuning.splits import Benchmark, Variant
from finetuning.text_files import TextFile, checksum, read_splits, refuse_train_split
from finetuning.text_labels import Settings
from finetuning.text_scores import PEARSON, pearson_scores

HIGHEST = 4.0
NAMES = {split: (f"{split}_blurb.tsv", f"{split}.tsv") for split in ("train", "dev", "test")}
# Numbers of BLURB's (and BLUE's) pairs in the Word files; the others are for training.
DEV = frozenset((2, 8, 9, 24, 40, 41, 47, 63, 68, 72, 80, 82, 88, 90, 91, 100))
TEST = frozenset((7, 20, 22, 23, 25, 33, 38, 49, 52, 57, 59, 64, 69, 70, 71, 81, 83, 89, 96, 97))


def read_word_files(options: Namespace) -> texts.Files:
    """The original Word files, divided by the numbers of the pairs."""
    refuse_train_split(options)
    paths = [options.data / "Annotation-Pairs.docx", options.data / "Annotator-Scores.docx"]
    pairs = read_word_pairs(*paths, HIGHEST)
    split_of = {number: "dev" if number in DEV else "test" if number in TEST else "train" for number in pairs}
    parts = {split: [pairs[i] for i in sorted(pairs) if split_of[i] == split] for split in ("train", "dev", "test")}
    return {
        split: TextFile(paths[0], checksum(paths), part, {"pairs": len(part)}) for split, part in parts.items() if part
    }


def read(options: Namespace) -> texts.Files:
    """The Word files if they are there, else a tsv for each split."""
    if (options.data / "Annotation-Pairs.docx").is_file():
        return read_word_files(options)
    return read_splits(options, NAMES, partial(read_similarity, highest=HIGHEST))


def settings(variant: Variant, files: texts.Files) -> Settings:
    """A number; predictions in BLUE's form, `index<TAB>score`."""
    write = partial(texts.write_column, name="score")
    return Settings("regression", PEARSON, pearson_scores, write, both_orders=True, benchmark="BIOSSES")


CORPUS = texts.Corpus(read, settings)
BENCHMARK = Benchmark(
    name="BIOSSES",
    variants=(
        Variant(
            "BIOSSES",
            {"pairs": (64, 16, 20)},
            published=(
                ("BioBERT", 89.52, "BLURB, arXiv:2007.15779"),
                ("PubMedBERT", 92.30, "BLURB, arXiv:2007.15779"),
                ("BioM-ELECTRA-base", 89.67, "BLURB, github.com/salrowili/BioM-Transformers, one run"),
            ),
        ),
    ),
    defaults=FinetuneConfig(epochs=60, patience=20, batch_size=16),
    electra_base_rate=1.5e-4,
    prepare=partial(texts.prepare, corpus=CORPUS),
    score_file=partial(texts.score_file, corpus=CORPUS),
)


def main(arguments: list[str] | None = None) -> None:
    """Command line; `arguments` stands for sys.argv[1:]."""
    command.main(BENCHMARK, __doc__, arguments)


if __name__ == "__main__":
    main()
