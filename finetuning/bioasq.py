"""BioASQ task b, phase B: exact answers to questions of biomedical experts. BioASQ's own measures.

    python -m finetuning.bioasq --model DIR_OR_NAME --data DIR --output DIR --seeds 5
    python -m finetuning.bioasq --question-type yesno --edition 6b --train BioASQ-training6b.json ...

Best after a first stage: --model is then the `model/` of finetuning.squad (factoid, list) or finetuning.mnli
(yesno).

Citation: Tsatsaronis et al., "An overview of the BIOASQ large-scale biomedical semantic indexing and question
answering competition", BMC Bioinformatics 16:138, 2015.

Files: --data is a folder with the golden files of an edition (7B1_golden.json to 7B5_golden.json, from
participants-area.bioasq.org), and if you have them BioBERT's SQuAD-like files (github.com/dmis-lab/biobert):
BioASQ-train-factoid-7b.json, and BioASQ-test-factoid-7b-1.json to -5.json with the contexts. Without test files
the contexts are the snippets of the golden files. Other training files, in either form, are named with --train:
BioASQ's own training JSON, the golden files of earlier editions, or bio_electra's; questions that are in the test
set are left out. For yesno --data may also be a folder of ready-made examples, BLURB's or Bio-ELECTRA's
(finetuning.bioasq_yesno). BioASQ lets its participants train on anything, so only the test questions are checked:

| edition | factoid questions in the 5 batches | list               | yesno              |
| ------- | ---------------------------------- | ------------------ | ------------------ |
| 4b      | 39 / 31 / 26 / 31 / 34 = 161       | 11/21/21/15/20     | 28/32/25/21/27     |
| 5b      | 25 / 31 / 26 / 33 / 35 = 150       | 22/15/15/13/22     | 17/27/31/29/26     |
| 6b      | 31 / 21 / 32 / 33 / 44 = 161       | 11/18/13/15/14     | 32/26/25/27/20     |
| 7b      | 39 / 25 / 29 / 34 / 35 = 162       | 12/17/25/22/12     | 29/30/23/23/35     |

Later editions run with --nonstandard-split. Scores are given for each batch, as their mean, and pooled over the
questions; those in BENCHMARK below are of the same kind as ours. Of the other kind, factoid 7b, pooled (strict
accuracy / lenient accuracy / MRR, github.com/dmis-lab/bioasq8b): BioBERT 31.48 / 45.68 / 37.13, BioBERT after SQuAD
40.12 / 59.26 / 48.34. Of one kind or the other, since their papers do not say which, strict accuracy on factoid 7b:
ELECTRAMed-base 44.62 (arXiv:2104.09585), BioMegatron (best) 47.4 (arXiv:2010.06060).
For yes/no questions BioELECTRA (BioNLP 2021), base, was finetuned with a learning rate of 2e-4, 20 epochs and batches
of 32: the defaults here for ELECTRA-base.
"""

from argparse import ArgumentParser
from dataclasses import replace

from finetuning import bioasq_task, bioasq_yesno, command
from finetuning.config import FinetuneConfig
from finetuning.splits import Benchmark, Variant

COUNTS = {
    "4b": {"factoid": (39, 31, 26, 31, 34), "list": (11, 21, 21, 15, 20), "yesno": (28, 32, 25, 21, 27)},
    "5b": {"factoid": (25, 31, 26, 33, 35), "list": (22, 15, 15, 13, 22), "yesno": (17, 27, 31, 29, 26)},
    "6b": {"factoid": (31, 21, 32, 33, 44), "list": (11, 18, 13, 15, 14), "yesno": (32, 26, 25, 27, 20)},
    "7b": {"factoid": (39, 25, 29, 34, 35), "list": (12, 17, 25, 22, 12), "yesno": (29, 30, 23, 23, 35)},
}
BIOM = "github.com/salrowili/BioM-Transformers, mean of its five batches"
DMIS = "github.com/dmis-lab/bioasq8b"
PUBLISHED = {
    ("7b", "factoid"): (
        ("BioM-ELECTRA-large, SQuAD 2.0 first", 50.10, BIOM),
        ("BioM-ALBERT-xxlarge, SQuAD 2.0 first", 51.90, BIOM),
    ),
    ("7b", "yesno"): (
        ("BERT", 64.29, DMIS),
        ("RoBERTa", 65.00, DMIS),
        ("BioBERT", 69.29, DMIS),
        ("BioBERT, MNLI first", 90.71, DMIS),
    ),
}

# ELECTRAMed's script: batches of 32, length 384, 3 epochs, 5e-5. The reference head has no dropout before it.
SPANS = FinetuneConfig(learning_rate=5e-5, epochs=3, batch_size=32, max_length=384, overlap=128, dropout=0.0)
# BioELECTRA's for yes/no: batches of 32, length 512, 20 epochs, with ELECTRA-base 2e-4 (below).
YESNO = FinetuneConfig(epochs=20, batch_size=32, max_length=512)

BENCHMARK = Benchmark(
    name="BioASQ",
    variants=(
        *(
            Variant(
                f"BioASQ {edition} {kind}", {f"{kind} questions": sizes}, published=PUBLISHED.get((edition, kind), ())
            )
            for edition, kinds in COUNTS.items()
            for kind, sizes in kinds.items()
        ),
        *bioasq_yesno.VARIANTS,
    ),
    defaults=SPANS,
    prepare=bioasq_task.prepare,
    score_file=bioasq_task.score_file,
    add_flags=bioasq_task.add_flags,
)


def benchmark_for(arguments: list[str] | None) -> Benchmark:
    """BENCHMARK with the defaults of the kind of question that is asked for."""
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--question-type")
    options, _ = parser.parse_known_args(arguments)
    return replace(BENCHMARK, defaults=YESNO, electra_base_rate=2e-4) if options.question_type == "yesno" else BENCHMARK


def main(arguments: list[str] | None = None) -> None:
    """Command line; `arguments` stands for sys.argv[1:]."""
    command.main(benchmark_for(arguments), __doc__, arguments)


if __name__ == "__main__":
    main()
