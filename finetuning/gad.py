"""GAD: is a gene associated with a disease, in sentences of the Genetic Association Database. F1 of "yes" (1).

    python -m finetuning.gad --model DIR_OR_NAME --data DIR --output DIR --seeds 5

Citation: Bravo et al., "Extraction of relations between genes and diseases from text and large-scale data analysis",
BMC Bioinformatics 2015. The labels come from the database's records of the papers, not from readers of the sentences.

Files, with @GENE$ and @DISEASE$ in every sentence:
- GAD (BLURB), arXiv:2007.15779: {train,dev,test}_blurb.tsv of github.com/justinphan3110/SciFive, biot5x/data/GAD, or
  the same two columns as train.tsv, dev.tsv, test.tsv; it is the first of the ten folds, a tenth of it taken for dev;
- GAD (10 folds): folders 1 ... 10 of BioBERT's release (github.com/dmis-lab/biobert), train.tsv without and test.tsv
  with a header. No dev split: all epochs are run. The score of a seed is the mean over the folds.

| variant        | sentences train / dev / test        |
| -------------- | ----------------------------------- |
| GAD (BLURB)    | 4,261 / 535 / 534                   |
| GAD (10 folds) | 5,330 in all, a tenth in each test  |

Published scores are in BENCHMARK below; PubMedBERT's is left out, being 83.96 in its paper and 82.34 in later ones.
BioELECTRA (BioNLP 2021), base, was finetuned with a learning rate of 2e-4, 5 epochs and batches of
32; rate and batch size are the defaults here for ELECTRA-base. More epochs may be run, for the dev score says
when to stop.
"""

from functools import partial

from finetuning import command, gene_disease_reading, relations
from finetuning.config import FinetuneConfig
from finetuning.splits import Benchmark, Variant

READ = partial(gene_disease_reading.read, name="GAD")
BENCHMARK = Benchmark(
    name="GAD",
    variants=(
        Variant(
            "GAD (BLURB)",
            {"sentences": (4261, 535, 534)},
            published=(
                ("BioBERT", 82.36, "BLURB, arXiv:2007.15779"),
                ("BioLinkBERT-base", 84.39, "BLURB, arXiv:2203.15827"),
                ("BioLinkBERT-large", 84.90, "BLURB, arXiv:2203.15827"),
                ("BioM-ELECTRA-base", 85.44, "BLURB, github.com/salrowili/BioM-Transformers, one run"),
            ),
        ),
        Variant("GAD (10 folds)", {gene_disease_reading.IN_FOLDS: (5330,)}),
    ),
    defaults=FinetuneConfig(epochs=10, patience=3, batch_size=32, max_length=128),
    electra_base_rate=2e-4,
    prepare=partial(relations.prepare, read=READ),
    score_file=partial(relations.score_file, read=READ),
    add_flags=relations.add_flags,
)


def main(arguments: list[str] | None = None) -> None:
    """Command line; `arguments` stands for sys.argv[1:]."""
    command.main(BENCHMARK, __doc__, arguments)


if __name__ == "__main__":
    main()
