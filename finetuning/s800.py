"""Species-800 (S800): species in PubMed abstracts. Entity-level F1 (exact span, as conlleval's).

    python -m finetuning.s800 --model DIR_OR_NAME --data DIR --output DIR --seeds 5

Citation: Pafilis et al., "The SPECIES and ORGANISMS resources for fast and accurate identification of taxonomic
names in text", PLoS ONE 2013, 8(6):e65390. 800 abstracts.

Files, read as they are distributed: s800 of BioBERT's NERdata (github.com/dmis-lab/biobert): train.tsv, devel.tsv,
test.tsv, tags B, I, O (made from github.com/spyysalo/s800). The split is known by its sentences alone: how many
entities the token files have is nowhere published that we know of.

| variant     | sentences train / dev / test |
| ----------- | ---------------------------- |
| Species-800 | 5,733 / 830 / 1,630          |

Published: BioFLAIR 82.44 (arXiv:1908.05760); whether on this split was not checked, so the table does not set it
beside ours. Learning rate by the model's size.
"""

from finetuning import command, tagging
from finetuning.config import FinetuneConfig
from finetuning.splits import Benchmark, Variant
from finetuning.tags import UNTYPED

BENCHMARK = Benchmark(
    name="Species-800",
    variants=(Variant("Species-800", {"sentences": (5733, 830, 1630)}, rename={UNTYPED: "Species"}),),
    defaults=FinetuneConfig(epochs=20, patience=5, batch_size=32),
    prepare=tagging.prepare,
    score_file=tagging.score_file,
    add_flags=tagging.add_flags,
)


def main(arguments: list[str] | None = None) -> None:
    """Command line; `arguments` stands for sys.argv[1:]."""
    command.main(BENCHMARK, __doc__, arguments)


if __name__ == "__main__":
    main()
