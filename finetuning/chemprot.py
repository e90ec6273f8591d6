"""ChemProt: relations between chemicals and genes in PubMed abstracts. Micro-F1 over the classes that are relations.

    python -m finetuning.chemprot --model DIR_OR_NAME --data DIR --output DIR --seeds 5

Citation: Krallinger et al., "Overview of the BioCreative VI chemical-protein interaction Track", 2017. 1,020, 612 and
800 abstracts; CPR:3 (upregulation), 4 (inhibition), 5 (agonist), 6 (antagonist) and 9 (substrate) are evaluated.

Protocols, which do not compare (see finetuning.chemprot_files for how BLUE and BLURB differ), and their files:
- ChemProt (BLURB), arXiv:2007.15779: built exactly from BioCreative's own files (ChemProt_Corpus,
  biocreative.bioinformatics.udel.edu), or {train,dev,test}_blurb.tsv with label2id.tsv of
  github.com/justinphan3110/SciFive, biot5x/data/chemprot;
- ChemProt (BLUE), arXiv:1906.05474: its release (github.com/ncbi-nlp/BLUE_Benchmark), train, dev and test as .tsv, or
  .csv in github.com/gmpoli/electramed;
- ChemProt (bio_electra): github.com/SciCrunch/bio_electra; pairs of a sentence splitter of its own;
- ChemProt (SciBERT): data/text_classification/chemprot of github.com/allenai/scibert; relations only, 13 classes.

| variant                | pairs train / dev / test | positive ones         | score                            |
| ---------------------- | ------------------------ | --------------------- | -------------------------------- |
| ChemProt (BLURB)       | 18,035 / 11,268 / 15,745 | 4,112 / 2,408 / 3,430 | micro-F1 of 5 classes            |
| ChemProt (BLUE)        | - / 11,820 / -           | 4,154 / 2,416 / 3,458 | micro-F1 of 5 classes            |
| ChemProt (bio_electra) | 16,521 / 10,361 / 14,396 | 4,132 / 2,412 / 3,441 | micro-F1 of 5 classes            |
| ChemProt (SciBERT)     | 4,169 / 2,427 / 3,469    | all                   | micro-F1 of 13 classes: accuracy |

Published scores are in BENCHMARK below.
BioELECTRA (BioNLP 2021), base, was finetuned with a learning rate of 1e-4, 5 epochs and batches of
32; rate and batch size are the defaults here for ELECTRA-base. More epochs may be run, for the dev score says
when to stop; small models were trained for 10 (Bio-ELECTRA, SDP 2020).
"""

from functools import partial

from finetuning import chemprot_reading, command, relations
from finetuning.config import FinetuneConfig
from finetuning.splits import Benchmark, Variant

BENCHMARK = Benchmark(
    name="ChemProt",
    variants=(
        Variant(
            "ChemProt (BLURB)",
            {"pairs": (18035, 11268, 15745), "positive pairs": (4112, 2408, 3430)},
            published=(
                ("BioBERT", 76.14, "BLURB, arXiv:2007.15779"),
                ("PubMedBERT", 77.24, "BLURB, arXiv:2007.15779"),
                ("BioLinkBERT-base", 77.57, "BLURB, arXiv:2203.15827"),
                ("BioLinkBERT-large", 79.98, "BLURB, arXiv:2203.15827"),
                ("BioM-ELECTRA-base", 78.41, "BLURB, github.com/salrowili/BioM-Transformers, one run"),
            ),
        ),
        Variant(
            "ChemProt (BLUE)",
            {"positive pairs": (4154, 2416, 3458), "pairs in dev": (11820,)},
            published=(
                ("BlueBERT-large (P)", 74.4, "BLUE, arXiv:1906.05474"),
                ("ELECTRAMed-base", 72.94, "BLUE, arXiv:2104.09585"),
            ),
        ),
        Variant("ChemProt (bio_electra)", {"pairs": (16521, 10361, 14396), "positive pairs": (4132, 2412, 3441)}),
        Variant(
            "ChemProt (SciBERT)",
            {"pairs": (4169, 2427, 3469)},
            published=(("BioMed-RoBERTa-base", 83.0, "SciBERT's setting, arXiv:2004.10964"),),
        ),
    ),
    defaults=FinetuneConfig(epochs=10, patience=3, batch_size=32, max_length=256),
    electra_base_rate=1e-4,
    prepare=partial(relations.prepare, read=chemprot_reading.read),
    score_file=partial(relations.score_file, read=chemprot_reading.read),
    add_flags=chemprot_reading.add_flags,
)


def main(arguments: list[str] | None = None) -> None:
    """Command line; `arguments` stands for sys.argv[1:]."""
    command.main(BENCHMARK, __doc__, arguments)


if __name__ == "__main__":
    main()
