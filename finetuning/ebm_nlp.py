"""EBM-NLP (PICO): participants, interventions and outcomes in abstracts of trials. Macro-F1 over words.

    python -m finetuning.ebm_nlp --model DIR_OR_NAME --data DIR --output DIR --seeds 5
    python -m finetuning.ebm_nlp --train-split dev --nonstandard-split ...      # where there is no train file

Citation: Nye et al., "A corpus with multi-level annotations of patients, interventions and outcomes to support
language processing for medical literature", ACL 2018. 4,993 abstracts.

Metric: the F1 of each class (P, I, O) over words, averaged over the three. The entity-level F1 is given beside it,
where neighbouring words of a class are one entity.

Files, read as they are distributed: data/pico/ebmnlp of github.com/allenai/scibert: train.txt, dev.txt, test.txt;
`token POS O tag` divided by blanks, tags O, I-PAR, I-INT and I-OUT without any B, `-DOCSTART- (PMID)`; or the files
that BLURB's data generation makes (train.tsv, devel.tsv, test.tsv), whose labels are the starting spans only. The
corpus' own layout, documents/*.tokens with annotations/, is not read: make one of these forms of it first.

| variant           | train / dev / test                              |
| ----------------- | ----------------------------------------------- |
| EBM-NLP (SciBERT) | 3,842 / 960 / 191 abstracts                     |
| EBM-NLP (BLURB)   | 339,167 / 85,321 / 16,364 words of P, I or O    |

Published scores that may stand beside ours are in BENCHMARK below, each with its source.
BioELECTRA (BioNLP 2021), base, was finetuned with a learning rate of 2e-4, 3 epochs and batches of
32; rate and batch size are the defaults here for ELECTRA-base. More epochs may be run, for the dev score says
when to stop.
"""

from functools import partial

from finetuning import command, tagging
from finetuning.config import FinetuneConfig
from finetuning.splits import Benchmark, Variant

PUBMEDBERT = "BLURB, arXiv:2007.15779"

BENCHMARK = Benchmark(
    name="EBM-NLP",
    variants=(
        Variant("EBM-NLP (SciBERT)", {"documents": (3842, 960, 191)}),
        Variant(
            "EBM-NLP (BLURB)",
            {"tagged words": (339167, 85321, 16364)},
            published=(
                ("BioBERT", 73.18, PUBMEDBERT),
                ("PubMedBERT", 73.38, PUBMEDBERT),
                ("BioM-ELECTRA-base", 74.23, "BLURB, github.com/salrowili/BioM-Transformers, one run"),
            ),
        ),
    ),
    defaults=FinetuneConfig(epochs=5, patience=2, batch_size=32),
    electra_base_rate=2e-4,
    prepare=partial(tagging.prepare, token_level=True),
    score_file=partial(tagging.score_file, token_level=True),
    add_flags=tagging.add_flags,
)


def main(arguments: list[str] | None = None) -> None:
    """Command line; `arguments` stands for sys.argv[1:]."""
    command.main(BENCHMARK, __doc__, arguments)


if __name__ == "__main__":
    main()
