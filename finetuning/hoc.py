"""Hallmarks of Cancer (HoC): which of ten hallmarks an abstract is about. Micro-F1 over abstracts and hallmarks.

    python -m finetuning.hoc --model DIR_OR_NAME --data DIR --output DIR --seeds 5

Citation: Baker et al., "Automatic semantic classification of scientific literature according to the hallmarks of
cancer", Bioinformatics 2016, 32(3):432-440.

Files, read as they are distributed (finetuning.hoc_files):
- text/ and labels/ of github.com/sb895/Hallmarks-of-Cancer, with a list of splits: HoC_blurb_splits.tsv (pmid, split)
  in the folder or beside it, BLUE's train_docid.txt, dev_docid.txt, test_docid.txt, or --splits FILE;
- train_blurb.tsv, dev_blurb.tsv, test_blurb.tsv of SciFive (github.com/justinphan3110/SciFive): BLURB's examples;
- train.tsv, dev.tsv, test.tsv of BLUE (github.com/ncbi-nlp/BLUE_Benchmark): a sentence a line.

| variant     | abstracts train / dev / test | metric                                                            |
| ----------- | ---------------------------- | ----------------------------------------------------------------- |
| HoC (BLURB) | 1,295 / 186 / 371            | micro-F1 over all decisions, abstracts without a label included   |
| HoC (BLUE)  | 1,108 / 157 / 315            | example-based F1; the corpus has only abstracts with a label      |

Both numbers are reported for either variant; only the one in the table may stand beside its published scores.

The score is over abstracts, and an abstract has the labels of its sentences. Where the files label sentences (the
original ones and BLUE's) the model is trained on sentences, and an abstract gets the labels found in any of them, as
BLUE and BioLinkBERT have it; --unit abstract takes the abstract as one input, as SciFive has it and its files allow
nothing else. finetuning.predict shows a model its unit, too, and cuts new abstracts into sentences itself
(finetuning.words). Sentences say more: a bag of words has a micro-F1 of 68.7 with them, 63.2 with abstracts.

Published scores that may stand beside ours are in BENCHMARK below, each with its source.
BioELECTRA (BioNLP 2021), base, was finetuned with a learning rate of 2e-4, 5 epochs and batches of
32; rate and batch size are the defaults here for ELECTRA-base. More epochs may be run, for the dev score says
when to stop.
"""

from argparse import ArgumentParser
from functools import partial
from pathlib import Path

from finetuning import command, texts
from finetuning.config import FinetuneConfig
from finetuning.hoc_files import HALLMARKS, read_hoc
from finetuning.splits import Benchmark, Variant
from finetuning.text_inputs import Example, Label
from finetuning.text_labels import Settings, united
from finetuning.text_scores import EXAMPLE_F1, MICRO_F1, multilabel_scores

BLUE = "HoC (BLUE)"
BLUE_PAPER = "BLUE, arXiv:1906.05474"


def add_flags(parser: ArgumentParser) -> None:
    """The flags that only HoC has."""
    parser.add_argument("--splits", type=Path, metavar="FILE", help="List of splits: a header, then pmid<TAB>split.")
    parser.add_argument(
        "--unit",
        choices=("abstract", "sentence"),
        help="What one input is; scores are over abstracts in either case (default: sentence where the files have "
        "labels of sentences, else abstract).",
    )


def settings(variant: Variant, files: texts.Files) -> Settings:
    """Ten labels; the metric is that of the variant's protocol."""
    return Settings(
        kind="multi",
        metric=EXAMPLE_F1 if variant.name == BLUE else MICRO_F1,
        score=partial(multilabel_scores, labels=HALLMARKS),
        write=write_predictions,
        labels=HALLMARKS,
        by_document=True,
        benchmark="HoC",
        record={"unit": unit_of(files)},
    )


def unit_of(files: texts.Files) -> str:
    """What one input is: a sentence where documents have several."""
    several = any(len(file.examples) > file.counts["abstracts"] for file in files.values())
    return "sentence" if several else "abstract"


def write_predictions(examples: list[Example], predicted: list[Label], path: Path) -> None:
    """BLUE's form, one line an abstract: `index<TAB>labels`, the labels divided by commas."""
    texts.write_column(*united(examples, predicted), path, "labels")


def read_predictions(path: Path, examples: list[Example], settings: Settings) -> list[Label]:
    """Labels of each abstract (lines `index<TAB>labels`), at its first example; none at its others."""
    documents, _ = united(examples, [one.label for one in examples])
    found = dict(zip((one.document for one in documents), texts.read_column(path, documents, settings), strict=True))
    return [found.pop(example.document, ()) for example in examples]


CORPUS = texts.Corpus(read_hoc, settings, read_predictions, documents="pmid:")
BENCHMARK = Benchmark(
    name="HoC",
    variants=(
        Variant(
            "HoC (BLURB)",
            {"abstracts": (1295, 186, 371)},
            published=(
                ("BioBERT", 81.54, "BLURB, arXiv:2007.15779"),
                ("PubMedBERT", 82.32, "BLURB, arXiv:2007.15779"),
                ("BioLinkBERT-base", 84.35, "BLURB, arXiv:2203.15827"),
                ("BioLinkBERT-large", 84.87, "BLURB, arXiv:2203.15827"),
                ("BioM-ELECTRA-base", 84.14, "BLURB, github.com/salrowili/BioM-Transformers, one run"),
            ),
        ),
        Variant(
            BLUE,
            {"abstracts": (1108, 157, 315)},
            published=(
                ("BioBERT", 82.9, BLUE_PAPER),
                ("BlueBERT-base (P)", 85.3, BLUE_PAPER),
                ("BlueBERT-large (P)", 87.3, BLUE_PAPER),
            ),
        ),
    ),
    defaults=FinetuneConfig(epochs=40, patience=10, batch_size=32),
    electra_base_rate=2e-4,
    prepare=partial(texts.prepare, corpus=CORPUS),
    score_file=partial(texts.score_file, corpus=CORPUS),
    add_flags=add_flags,
)


def main(arguments: list[str] | None = None) -> None:
    """Command line; `arguments` stands for sys.argv[1:]."""
    command.main(BENCHMARK, __doc__, arguments)


if __name__ == "__main__":
    main()
