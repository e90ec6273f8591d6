"""DDI 2013: interactions of two drugs in sentences of DrugBank and MEDLINE. Micro-F1 over the four types.

    python -m finetuning.ddi --model DIR_OR_NAME --data DIR --output DIR --seeds 5

Citation: Herrero-Zazo et al., "The DDI corpus: an annotated corpus with pharmacological substances and drug-drug
interactions", Journal of Biomedical Informatics 2013; Segura-Bedmar et al., "SemEval-2013 Task 9", 2013. Types:
mechanism, effect, advise, int.

Protocols, which do not compare (see finetuning.ddi_files for how they are divided), and their files:
- DDI (BLURB), arXiv:2007.15779: DDICorpus-2013.zip of github.com/isegura/DDICorpus, unpacked; or
  {train,dev,test}_blurb.tsv with label2id.tsv of github.com/justinphan3110/SciFive, biot5x/data/ddi;
- DDI (BLUE), arXiv:1906.05474: its release (github.com/ncbi-nlp/BLUE_Benchmark), train, dev and test as .tsv, or .csv
  in github.com/gmpoli/electramed; it cannot be built from the XML;
- DDI 2013: the corpus as SemEval divided it, with `--protocol original`; no dev split, so that all epochs are run.

| variant     | pairs train / dev / test | positive ones         |
| ----------- | ------------------------ | --------------------- |
| DDI (BLURB) | 25,296 / 2,496 / 5,716   | 3,552 / 469 / 979     |
| DDI (BLUE)  | - / 7,244 / 5,761        | 2,937 / 1,004 / 979   |
| DDI 2013    | 27,792 / none / 5,716    | 4,021 / none / 979    |

Published scores are in BENCHMARK below.
BioELECTRA (BioNLP 2021), base, was finetuned with a learning rate of 1.5e-4, 3 epochs and batches of
32; rate and batch size are the defaults here for ELECTRA-base. More epochs may be run, for the dev score says
when to stop; on BLUE's files 5 to 10 are known (github.com/sy-wada/blue_benchmark_with_transformers).
"""

from functools import partial

from finetuning import command, ddi_reading, relations
from finetuning.config import FinetuneConfig
from finetuning.splits import Benchmark, Variant

BENCHMARK = Benchmark(
    name="DDI",
    variants=(
        Variant(
            "DDI (BLURB)",
            {"pairs": (25296, 2496, 5716), ddi_reading.SCORED: (469, 979)},
            published=(
                ("BioBERT", 80.88, "BLURB, arXiv:2007.15779"),
                ("PubMedBERT", 82.36, "BLURB, arXiv:2007.15779"),
                ("BioLinkBERT-base", 82.72, "BLURB, arXiv:2203.15827"),
                ("BioLinkBERT-large", 83.35, "BLURB, arXiv:2203.15827"),
                ("BioM-ELECTRA-base", 82.71, "BLURB, github.com/salrowili/BioM-Transformers, one run"),
            ),
        ),
        Variant(
            "DDI (BLUE)",
            {"positive pairs": (2937, 1004, 979), "pairs in dev and test": (7244, 5761)},
            published=(
                ("BlueBERT-large (P)", 79.9, "BLUE, arXiv:1906.05474"),
                ("ELECTRAMed-base", 79.13, "BLUE, arXiv:2104.09585"),
            ),
        ),
        Variant("DDI 2013", {"pairs": (27792, 5716), "positive pairs": (4021, 979)}),
    ),
    defaults=FinetuneConfig(epochs=10, patience=3, batch_size=32, max_length=256),
    electra_base_rate=1.5e-4,
    prepare=partial(relations.prepare, read=ddi_reading.read),
    score_file=partial(relations.score_file, read=ddi_reading.read),
    add_flags=ddi_reading.add_flags,
)


def main(arguments: list[str] | None = None) -> None:
    """Command line; `arguments` stands for sys.argv[1:]."""
    command.main(BENCHMARK, __doc__, arguments)


if __name__ == "__main__":
    main()
