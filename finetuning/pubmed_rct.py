"""PubMed RCT and corpora of its form: the role of each sentence of an abstract. Weighted F1.

    python -m finetuning.pubmed_rct --model DIR_OR_NAME --data DIR --output DIR --seeds 3

Citations: Dernoncourt and Lee, "PubMed 200k RCT: a dataset for sequential sentence classification in medical
abstracts", IJCNLP 2017, arXiv:1710.06071. Kim et al., "Automatic classification of sentences to support evidence based
medicine", BMC Bioinformatics 2011 (NICTA-PIBOSO; the split is that of the ALTA 2012 task and of Jin and Szolovits,
EMNLP 2018).

Files, read as they are distributed (`###id`, then `LABEL<TAB>sentence`, then a blank line):
- PubMed_20k_RCT or PubMed_200k_RCT of github.com/Franck-Dernoncourt/pubmed-rct, with or without numbers replaced by
  @ (the table tells them apart): train.txt, dev.txt, test.txt;
- train_clean.txt, dev_clean.txt and test_clean.txt of github.com/jind11/HSLN-Joint-Sentence-Classification.

| variant         | abstracts train / dev / test | sentences train / dev / test   |
| --------------- | ---------------------------- | ------------------------------ |
| PubMed 20k RCT  | 15,000 / 2,500 / 2,500       | 180,040 / 30,212 / 30,135      |
| PubMed 200k RCT | 190,654 / 2,500 / 2,500      | 2,211,861 / 28,932 / 29,493    |
| NICTA-PIBOSO    | 720 / 80 / 200               | 6,979 / 801 / 1,991            |

Each sentence is classified alone, as plain encoders do; systems that see the whole abstract score higher. The metric is
that of the corpus' authors, F1 of each class weighted by its sentences; the accuracy (which is the micro-F1 that others
report) and the plain mean over the classes are beside it. Other files of this form run with --nonstandard-split, with
labels of their own.
"""

from argparse import Namespace
from dataclasses import replace
from functools import partial
from pathlib import Path

from finetuning import command, texts
from finetuning.config import FinetuneConfig
from finetuning.splits import Benchmark, Variant
from finetuning.text_files import read_blocks, read_splits
from finetuning.text_inputs import Example, Label
from finetuning.text_labels import Settings
from finetuning.text_scores import WEIGHTED_F1, accuracy_scores

RCT = ("BACKGROUND", "OBJECTIVE", "METHODS", "RESULTS", "CONCLUSIONS")
PIBOSO = ("background", "population", "intervention", "outcome", "study design", "other")
NAMES = {split: (f"{split}.txt", f"{split}_clean.txt") for split in ("train", "dev", "test")}


def read(options: Namespace) -> texts.Files:
    """The splits; labels other than the two corpora's are refused, unless the split is a nonstandard one."""
    labels = None if options.nonstandard_split else RCT + PIBOSO
    return read_splits(options, NAMES, partial(read_blocks, labels=labels))


def named(variant: Variant, files: texts.Files) -> Variant:
    """PubMed RCT with numbers replaced by @ has the sizes of the one without: told by its text."""
    sentences = [example.text_a for example in files["test"].examples]
    no_digits = not any(character.isdigit() for text in sentences for character in text)
    replaced = no_digits and any("@" in text for text in sentences)
    return replace(variant, name=f"{variant.name} (numbers as @)") if replaced else variant


def settings(variant: Variant, files: texts.Files) -> Settings:
    """Labels in the order of their corpus, those of other files in alphabetical order."""
    labels = {example.label for file in files.values() for example in file.examples}
    known = next((one for one in (RCT, PIBOSO) if labels <= set(one)), tuple(sorted(labels)))
    return Settings("single", WEIGHTED_F1, accuracy_scores, write_predictions, known, benchmark="PubMed RCT")


def write_predictions(examples: list[Example], predicted: list[Label], path: Path) -> None:
    """The corpus' own form, with the predicted labels."""
    lines, document = [], None
    for example, label in zip(examples, predicted, strict=True):
        if example.document != document:
            lines += ([""] if lines else []) + [f"###{example.document}"]
            document = example.document
        lines.append(f"{label}\t{example.text_a}")
    texts.write_lines(path, lines)


def read_predictions(path: Path, examples: list[Example], settings: Settings) -> list[Label]:
    """Labels of a file of the corpus' form; its sentences must be those of the split."""
    found = read_blocks(path).examples
    for gold, ours in zip(examples, found, strict=False):
        if (gold.document, gold.text_a) != (ours.document, ours.text_a):
            raise ValueError(f"{path}: sentence {ours.index} is not {gold.index} of the split: {ours.text_a[:40]!r}")
    if len(found) != len(examples):
        raise ValueError(f"{path} has {len(found)} sentences, the split has {len(examples)}")
    return [one.label for one in found]


CORPUS = texts.Corpus(read, settings, read_predictions, documents="pmid:", names=named)
BENCHMARK = Benchmark(
    name="PubMed RCT",
    variants=(
        Variant("PubMed 20k RCT", {"sentences": (180040, 30212, 30135), "abstracts": (15000, 2500, 2500)}),
        Variant("PubMed 200k RCT", {"sentences": (2211861, 28932, 29493), "abstracts": (190654, 2500, 2500)}),
        Variant("NICTA-PIBOSO", {"sentences": (6979, 801, 1991), "abstracts": (720, 80, 200)}),
    ),
    defaults=FinetuneConfig(epochs=5, patience=2, batch_size=32, max_length=128),
    prepare=partial(texts.prepare, corpus=CORPUS),
    score_file=partial(texts.score_file, corpus=CORPUS),
)


def main(arguments: list[str] | None = None) -> None:
    """Command line; `arguments` stands for sys.argv[1:]."""
    command.main(BENCHMARK, __doc__, arguments)


if __name__ == "__main__":
    main()
