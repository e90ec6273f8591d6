"""ClinicalSTS (MedSTS, n2c2 2019): how alike two sentences of patient records are, from 0 to 5. Pearson's correlation.

    python -m finetuning.clinical_sts --model DIR_OR_NAME --data DIR --output DIR --seeds 5

Citations: Wang et al., "MedSTS: a resource for clinical semantic textual similarity", Language Resources and Evaluation
2020, arXiv:1808.09397; Wang et al., "The 2019 n2c2/OHNLP track on clinical semantic textual similarity: overview", JMIR
Medical Informatics 2020, 8(11):e23375.

Files, read as they are distributed to those who have registered:
- clinicalSTS2019.train.txt (two sentences and a score, divided by tabs), clinicalSTS2019.test.txt (two sentences) and
  clinicalSTS2019.test.gs.sim.txt (a score a line) of n2c2 2019;
- train.tsv, dev.tsv and test.tsv of BLUE's MedSTS, with a header (sentence1, sentence2, score).

| variant               | pairs train / dev / test |
| --------------------- | ------------------------ |
| ClinicalSTS (BLUE)    | 675 / 75 / 318           |
| ClinicalSTS n2c2 2019 | 1,642 / - / 412          |

n2c2 has no dev split: every tenth training pair is held out for it; --train-on-dev trains on all. Scores are published
with decimals, as they are here. Each training pair is seen in both orders.
BioELECTRA (BioNLP 2021), base, was finetuned with a learning rate of 5e-5, 10 epochs and batches of
32; rate and batch size are the defaults here for ELECTRA-base. More epochs may be run, for the dev score says
when to stop.
"""

from argparse import Namespace
from functools import partial

from finetuning import command, texts
from finetuning.config import FinetuneConfig
from finetuning.pair_files import pair, read_similarity, score_of
from finetuning.splits import Benchmark, Variant
from finetuning.text_files import TextFile, checksum, numbered_lines, read_splits, read_table, refuse_train_split
from finetuning.text_labels import Settings
from finetuning.text_scores import PEARSON, pearson_scores

HIGHEST = 5.0
NAMES = {split: (f"{split}.tsv",) for split in ("train", "dev", "test")}
TRAIN, TEST, GOLD = (f"clinicalSTS2019.{name}.txt" for name in ("train", "test", "test.gs.sim"))


def read_n2c2(options: Namespace) -> texts.Files:
    """The shared task's files; the test scores are in one of their own."""
    refuse_train_split(options)
    test, gold = options.data / TEST, options.data / GOLD
    for path in (test, gold):
        if not path.is_file():
            raise ValueError(f"{path} is not there: put it beside {TRAIN}")
    rows = read_table(test, ("sentence1", "sentence2"), header=False)
    scores = [(number, line.strip()) for number, line in numbered_lines(gold) if line.strip()]
    if len(rows) != len(scores):
        raise ValueError(f"{gold} has {len(scores)} scores, {test.name} has {len(rows)} pairs: they must be as many")
    examples = [
        pair(
            (row["sentence1"], row["sentence2"]),
            score_of(text, HIGHEST, f"{gold} line {line}"),
            str(number),
            f"{test} line {number}",
        )
        for (number, row), (line, text) in zip(rows, scores, strict=True)
    ]
    return {
        "train": read_similarity(options.data / TRAIN, HIGHEST),
        "test": TextFile(test, checksum([test, gold]), examples, {"pairs": len(examples)}),
    }


def read(options: Namespace) -> texts.Files:
    """n2c2's files if they are there, else BLUE's."""
    if (options.data / TRAIN).is_file():
        return read_n2c2(options)
    return read_splits(options, NAMES, partial(read_similarity, highest=HIGHEST))


def settings(variant: Variant, files: texts.Files) -> Settings:
    """A number; predictions in BLUE's form, `index<TAB>score`."""
    write = partial(texts.write_column, name="score")
    return Settings("regression", PEARSON, pearson_scores, write, both_orders=True, benchmark="ClinicalSTS")


CORPUS = texts.Corpus(read, settings)
BLUE = "BLUE, arXiv:1906.05474"
BENCHMARK = Benchmark(
    name="ClinicalSTS",
    variants=(
        Variant(
            "ClinicalSTS (BLUE)",
            {"pairs": (675, 75, 318)},
            published=(("BioBERT", 84.5, BLUE), ("BlueBERT-base (P)", 84.5, BLUE), ("BlueBERT-base (P+M)", 84.8, BLUE)),
        ),
        Variant("ClinicalSTS n2c2 2019", {"pairs": (1642, 412)}),
    ),
    defaults=FinetuneConfig(epochs=20, patience=5, batch_size=32),
    electra_base_rate=5e-5,
    prepare=partial(texts.prepare, corpus=CORPUS),
    score_file=partial(texts.score_file, corpus=CORPUS),
)


def main(arguments: list[str] | None = None) -> None:
    """Command line; `arguments` stands for sys.argv[1:]."""
    command.main(BENCHMARK, __doc__, arguments)


if __name__ == "__main__":
    main()
