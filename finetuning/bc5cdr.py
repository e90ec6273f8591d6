"""BC5CDR: chemicals and diseases in PubMed abstracts. Entity-level F1 (exact span and type, as conlleval's).

    python -m finetuning.bc5cdr --model DIR_OR_NAME --data DIR --output DIR --seeds 5

Citation: Li et al., "BioCreative V CDR task corpus: a resource for chemical disease relation extraction",
Database 2016, baw068. 500 abstracts each for train, dev and test.

Files, read as they are distributed:
- BC5CDR-chem and BC5CDR-disease of BioBERT's NERdata (github.com/dmis-lab/biobert): train.tsv, devel.tsv and
  test.tsv (train_dev.tsv is not needed); one type each, tags B, I, O;
- BC5CDR-IOB, BC5CDR-IOBES, BC5CDR-chem-IOB, ... of github.com/cambridgeltl/MTL-Bioinformatics-2016: the same with
  types, one or both;
- data/ner/bc5cdr of github.com/allenai/scibert: train.txt, dev.txt, test.txt; both types merged into one, as
  ELECTRAMed used them. Neighbouring mentions of one word each are one entity there: so there are fewer;
- "recut" are the same abstracts as ELECTRAMed's repository (github.com/gmpoli/electramed) has them, a few sentences cut
  in two, in two columns: only mentions of several words begin with a B, so add --tag-scheme IOB1;
- BioCreative's own CDR_{Training,Development,Test}Set.PubTator.txt: sentences and words are then cut here.

| variant                            | sentences train / dev / test | entities train / dev / test                   |
| ---------------------------------- | ---------------------------- | --------------------------------------------- |
| BC5CDR chemical                    | 4,560 / 4,581 / 4,797        | 5,203 / 5,347 / 5,385                         |
| BC5CDR disease                     | 4,560 / 4,581 / 4,797        | 4,182 / 4,246 / 4,424                         |
| BC5CDR chemical+disease            | 4,560 / 4,581 / 4,797        | the two rows above                            |
| BC5CDR merged                      | 3,942 / 3,949 / 4,139        | 9,270 / 9,455 / 9,662                         |
| BC5CDR merged, recut               | 3,951 / 3,957 / 4,145        | 9,270 / 9,457 / 9,662                         |
| BC5CDR chemical+disease (PubTator) | 500 / 500 / 500 abstracts    | as chemical; 4,182 / 4,244 / 4,424 diseases   |

Published scores that may stand beside ours are in BENCHMARK below, each with its source. Those of the BLURB papers are
on the same abstracts and entities, with sentences and words split in BLURB's own way; ELECTRAMed's 90.03 is on the
recut sentences and stands beside those alone.
BioELECTRA (BioNLP 2021), base, was finetuned with a learning rate of 2e-4 on chemicals and 1e-4 on diseases, 5 epochs
and batches of 16. Batch size is the default here, the rate is by the model's size (base: 1e-4): for chemicals add
--learning-rate 2e-4. More epochs may be run, for the dev score says when to stop.
"""

from finetuning import command, tagging
from finetuning.config import FinetuneConfig
from finetuning.splits import Benchmark, Variant
from finetuning.tags import UNTYPED

SENTENCES = (4560, 4581, 4797)
CHEMICALS = (5203, 5347, 5385)
DISEASES = (4182, 4246, 4424)
PUBMEDBERT = "BLURB, arXiv:2007.15779"
BIOELECTRA = "BLURB, BioNLP 2021"
LINKBERT = "BLURB, arXiv:2203.15827"
BIOM = "BLURB, github.com/salrowili/BioM-Transformers, one run"
ELECTRAMED = "arXiv:2104.09585"

PUBLISHED_CHEMICALS = (
    ("BioBERT", 92.85, PUBMEDBERT),
    ("PubMedBERT", 93.33, PUBMEDBERT),
    ("BioELECTRA", 93.60, BIOELECTRA),
    ("BioLinkBERT-base", 93.75, LINKBERT),
    ("BioLinkBERT-large", 94.04, LINKBERT),
    ("BioM-ELECTRA-base", 93.22, BIOM),
)
PUBLISHED_DISEASES = (
    ("BioBERT", 84.70, PUBMEDBERT),
    ("PubMedBERT", 85.62, PUBMEDBERT),
    ("BioELECTRA", 85.84, BIOELECTRA),
    ("BioLinkBERT-base", 86.10, LINKBERT),
    ("BioLinkBERT-large", 86.39, LINKBERT),
    ("BioM-ELECTRA-base", 85.21, BIOM),
)


def one_type(kind: str, counts: tuple[int, int, int], published: tuple) -> tuple[Variant, Variant]:
    """Chemicals or diseases alone: BioBERT's files with bare tags, MTL's with the type."""
    name, rename = f"BC5CDR {kind.lower()}", {UNTYPED: kind}
    return tuple(Variant(name, {"sentences": SENTENCES, typed: counts}, rename, published) for typed in (UNTYPED, kind))


BENCHMARK = Benchmark(
    name="BC5CDR",
    variants=(
        *one_type("Chemical", CHEMICALS, PUBLISHED_CHEMICALS),
        *one_type("Disease", DISEASES, PUBLISHED_DISEASES),
        Variant("BC5CDR chemical+disease", {"sentences": SENTENCES, "Chemical": CHEMICALS, "Disease": DISEASES}),
        Variant(
            "BC5CDR merged",
            {"sentences": (3942, 3949, 4139), UNTYPED: (9270, 9455, 9662)},
        ),
        Variant(
            "BC5CDR merged, recut",
            {"sentences": (3951, 3957, 4145), UNTYPED: (9270, 9457, 9662)},
            published=(("ELECTRAMed-base", 90.03, ELECTRAMED),),
        ),
        Variant(
            "BC5CDR chemical+disease (PubTator)",
            {"documents": (500, 500, 500), "Chemical": CHEMICALS, "Disease": (4182, 4244, 4424)},
        ),
    ),
    defaults=FinetuneConfig(epochs=20, patience=5, batch_size=16),
    prepare=tagging.prepare,
    score_file=tagging.score_file,
    add_flags=tagging.add_flags,
)


def main(arguments: list[str] | None = None) -> None:
    """Command line; `arguments` stands for sys.argv[1:]."""
    command.main(BENCHMARK, __doc__, arguments)


if __name__ == "__main__":
    main()
