"""NCBI-disease: diseases in PubMed abstracts. Entity-level F1 (exact span, as conlleval's).

    python -m finetuning.ncbi_disease --model DIR_OR_NAME --data DIR --output DIR --seeds 5

Citation: Doğan, Leaman and Lu, "NCBI disease corpus: a resource for disease name recognition and concept
normalization", Journal of Biomedical Informatics 2014, 47:1-10. 793 abstracts.

Files, read as they are distributed:
- NCBI-disease of BioBERT's NERdata (github.com/dmis-lab/biobert): train.tsv, devel.tsv, test.tsv, tags B, I, O;
- NCBI-disease-IOB and -IOBES of github.com/cambridgeltl/MTL-Bioinformatics-2016: the same, with a type;
- the same abstracts as in ELECTRAMed's repository (github.com/gmpoli/electramed), a few sentences cut in two;
- the original NCBI{train,develop,test}set_corpus.txt in PubTator's form (www.ncbi.nlm.nih.gov/CBBresearch/Dogan):
  sentences and words are then cut here, and the four classes of mentions are one. One abstract is twice in train.

| variant                    | train / dev / test              | entities train / dev / test |
| -------------------------- | ------------------------------- | --------------------------- |
| NCBI-disease               | 5,424 / 923 / 940 sentences     | 5,134 / 787 / 960           |
| NCBI-disease, recut        | 5,429 / 923 / 941 sentences     | 5,134 / 787 / 960           |
| NCBI-disease (PubTator)    | 593 / 100 / 100 abstracts       | 5,145 / 787 / 960           |

Published scores that may stand beside ours are in BENCHMARK below, each with its source; ELECTRAMed's 87.54 is on the
recut sentences and stands beside those alone.
BioELECTRA (BioNLP 2021), base, was finetuned with a learning rate of 2e-4, 5 epochs and batches of 32; rate and batch
size are the defaults here for ELECTRA-base. More epochs may be run, for the dev score says when to stop.
"""

from finetuning import command, tagging
from finetuning.config import FinetuneConfig
from finetuning.splits import Benchmark, Variant
from finetuning.tags import UNTYPED

PUBMEDBERT = "BLURB, arXiv:2007.15779"
LINKBERT = "BLURB, arXiv:2203.15827"
BIOM = "BLURB, github.com/salrowili/BioM-Transformers, one run"
ELECTRAMED = "arXiv:2104.09585"
CLASSES = ("CompositeMention", "DiseaseClass", "Modifier", "SpecificDisease")

BENCHMARK = Benchmark(
    name="NCBI-disease",
    variants=(
        Variant(
            "NCBI-disease",
            {"sentences": (5424, 923, 940), "entities": (5134, 787, 960)},
            rename={UNTYPED: "Disease"},
            published=(
                ("BioBERT", 89.13, PUBMEDBERT),
                ("PubMedBERT", 87.82, PUBMEDBERT),
                ("BioELECTRA", 89.38, "BLURB, BioNLP 2021"),
                ("BioLinkBERT-base", 88.18, LINKBERT),
                ("BioLinkBERT-large", 88.76, LINKBERT),
                ("BioM-ELECTRA-base", 88.79, BIOM),
            ),
        ),
        Variant(
            "NCBI-disease, recut",
            {"sentences": (5429, 923, 941), "entities": (5134, 787, 960)},
            rename={UNTYPED: "Disease"},
            published=(("ELECTRAMed-base", 87.54, ELECTRAMED),),
        ),
        Variant(
            "NCBI-disease (PubTator)",
            {"documents": (593, 100, 100), "entities": (5145, 787, 960)},
            rename=dict.fromkeys(CLASSES, "Disease"),
        ),
    ),
    defaults=FinetuneConfig(epochs=20, patience=5, batch_size=32),
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
