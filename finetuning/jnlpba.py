"""JNLPBA: molecular biology entities in PubMed abstracts. Entity-level F1 (exact span and type, as conlleval's).

    python -m finetuning.jnlpba --model DIR_OR_NAME --data DIR --output DIR --seeds 5
    python -m finetuning.jnlpba --merge-types ...      # five types as one: BLURB's protocol

Citation: Kim et al., "Introduction to the bio-entity recognition task at JNLPBA", JNLPBA 2004. 2,000 abstracts of
the GENIA corpus for training, 404 for test.

Several data sets go by this name, and their scores do not compare. Read as they are distributed:
- JNLPBA of github.com/cambridgeltl/MTL-Bioinformatics-2016: train.tsv, devel.tsv, test.tsv, IOB2 with the types
  protein, DNA, RNA, cell_line and cell_type; 200 abstracts of the training set are dev. (In the files of its
  JNLPBA-IOBES each blank line is one token late, so that its sentences are others: those need --nonstandard-split.)
- the same without dev: Genia4ERtask1.iob2 and Genia4EReval1.iob2 (www.geniaproject.org), or the brat folders of
  github.com/spyysalo/jnlpba, whose sentences and words are cut here; every epoch is run, the last is kept;
- BLURB's files, or MTL's with --merge-types: all five types are one;
- JNLPBA of BioBERT's NERdata (github.com/dmis-lab/biobert): protein, DNA and RNA as one type, the cell types
  dropped, words cut at hyphens, and another part of the training set is dev.

| variant                      | train / dev / test                | entities train / dev / test |
| ---------------------------- | --------------------------------- | --------------------------- |
| JNLPBA (5 types)             | 16,807 / 1,739 / 3,856 sentences  | 46,750 / 4,551 / 8,662      |
| JNLPBA (5 types, no dev)     | 18,546 / - / 3,856 sentences      | 51,301 / - / 8,662          |
| JNLPBA (5 types, standoff)   | 2,000 / - / 404 abstracts         | 51,301 / - / 8,662          |
| JNLPBA (BLURB, one type)     |                                   | 46,750 / 4,551 / 8,662      |
| JNLPBA (BioBERT, one type)   | 14,690 / 3,856 / 3,856 sentences  | 32,178 / 8,575 / 6,241      |

Published scores that may stand beside ours are in BENCHMARK below, each with its source; SciBERT and ELECTRAMed
cut a few sentences in two.
BioELECTRA (BioNLP 2021), base, was finetuned with a learning rate of 2e-4, 5 epochs and batches of
32; rate and batch size are the defaults here for ELECTRA-base. More epochs may be run, for the dev score says
when to stop.
"""

from finetuning import command, tagging
from finetuning.config import FinetuneConfig
from finetuning.splits import Benchmark, Variant
from finetuning.tags import UNTYPED

PUBMEDBERT = "BLURB, arXiv:2007.15779"
LINKBERT = "BLURB, arXiv:2203.15827"
BIOM = "BLURB, github.com/salrowili/BioM-Transformers, one run"
WITH_DEV = {
    "DNA": (8481, 1052, 1056),
    "RNA": (844, 107, 118),
    "cell_line": (3430, 400, 500),
    "cell_type": (6192, 526, 1921),
    "protein": (27803, 2466, 5067),
}
WITHOUT_DEV = {name: (train + dev, 0, test) for name, (train, dev, test) in WITH_DEV.items()}

BENCHMARK = Benchmark(
    name="JNLPBA",
    variants=(
        Variant(
            "JNLPBA (5 types)",
            {"sentences": (16807, 1739, 3856), **WITH_DEV},
            published=(
                ("SciBERT", 77.28, "arXiv:1903.10676"),
                ("BioMed-RoBERTa-base", 75.20, "arXiv:2004.10964"),
                ("ELECTRAMed-base", 73.65, "arXiv:2104.09585"),
            ),
        ),
        Variant("JNLPBA (5 types, no dev)", {"sentences": (18546, 0, 3856), **WITHOUT_DEV}),
        Variant("JNLPBA (5 types, standoff)", {"documents": (2000, 0, 404), **WITHOUT_DEV}),
        Variant(
            "JNLPBA (BLURB, one type)",
            {UNTYPED: (46750, 4551, 8662)},
            published=(
                ("BioBERT", 78.55, PUBMEDBERT),
                ("PubMedBERT", 79.10, PUBMEDBERT),
                ("BioELECTRA", 80.17, "BLURB, BioNLP 2021"),
                ("BioLinkBERT-base", 79.03, LINKBERT),
                ("BioLinkBERT-large", 80.06, LINKBERT),
                ("BioM-ELECTRA-base", 79.55, BIOM),
            ),
        ),
        Variant("JNLPBA (BioBERT, one type)", {"sentences": (14690, 3856, 3856), UNTYPED: (32178, 8575, 6241)}),
    ),
    defaults=FinetuneConfig(epochs=10, patience=3, batch_size=32),
    electra_base_rate=2e-4,
    prepare=tagging.prepare,
    score_file=tagging.score_file,
    add_flags=tagging.add_flags,
)


def main(arguments: list[str] | None = None) -> None:
    """Command line; `arguments` stands for sys.argv[1:]."""
    command.main(BENCHMARK, __doc__, arguments)


if __name__ == "__main__":
    main()
