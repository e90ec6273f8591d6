"""BC2GM: gene mentions in single sentences of PubMed abstracts. Entity-level F1 (exact span, as conlleval's).

    python -m finetuning.bc2gm --model DIR_OR_NAME --data DIR --output DIR --seeds 5

Citation: Smith et al., "Overview of BioCreative II gene mention recognition", Genome Biology 2008, 9(Suppl 2):S2.

Files, read as they are distributed: BC2GM of BioBERT's NERdata (github.com/dmis-lab/biobert): train.tsv, devel.tsv,
test.tsv, tags B, I, O; or BC2GM-IOB and -IOBES of github.com/cambridgeltl/MTL-Bioinformatics-2016: the same, with a
type. The official scorer of BioCreative also accepts alternative spans, so that scores from it are higher.

| variant | sentences train / dev / test | entities train / dev / test |
| ------- | ---------------------------- | --------------------------- |
| BC2GM   | 12,574 / 2,519 / 5,038       | 15,197 / 3,061 / 6,325      |

Published scores that may stand beside ours are in BENCHMARK below, each with its source.
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

BENCHMARK = Benchmark(
    name="BC2GM",
    variants=(
        Variant(
            "BC2GM",
            {"sentences": (12574, 2519, 5038), "entities": (15197, 3061, 6325)},
            rename={UNTYPED: "Gene", "GENE": "Gene"},
            published=(
                ("BioBERT", 83.82, PUBMEDBERT),
                ("PubMedBERT", 84.52, PUBMEDBERT),
                ("BioLinkBERT-base", 84.90, LINKBERT),
                ("BioLinkBERT-large", 85.18, LINKBERT),
                ("BioM-ELECTRA-base", 84.14, BIOM),
            ),
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
