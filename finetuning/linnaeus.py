"""LINNAEUS: species in full texts of PubMed Central. Entity-level F1 (exact span, as conlleval's).

    python -m finetuning.linnaeus --model DIR_OR_NAME --data DIR --output DIR --seeds 5

Citation: Gerner, Nenadic and Bergman, "LINNAEUS: a species name identification system for biomedical literature",
BMC Bioinformatics 2010, 11:85. 100 articles, divided 50 / 17 / 33 by the makers of the token files.

Files, read as they are distributed: linnaeus of BioBERT's NERdata (github.com/dmis-lab/biobert): train.tsv,
devel.tsv, test.tsv, tags B, I, O; or linnaeus-IOB and -IOBES of github.com/cambridgeltl/MTL-Bioinformatics-2016:
the same, with a type. The split is known by its sentences alone: how many entities the token files have is nowhere
published that we know of.

| variant  | sentences train / dev / test |
| -------- | ---------------------------- |
| LINNAEUS | 11,935 / 4,078 / 7,142       |

Published: BioFLAIR 87.02 (arXiv:1908.05760); whether on this split was not checked, so the table does not set it
beside ours. Default batch size as tuned for Bio-ELECTRA (SDP 2020); learning rate by the model's size.
"""

from finetuning import command, tagging
from finetuning.config import FinetuneConfig
from finetuning.splits import Benchmark, Variant
from finetuning.tags import UNTYPED

BENCHMARK = Benchmark(
    name="LINNAEUS",
    variants=(Variant("LINNAEUS", {"sentences": (11935, 4078, 7142)}, rename={UNTYPED: "Species"}),),
    defaults=FinetuneConfig(epochs=10, patience=3, batch_size=32),
    prepare=tagging.prepare,
    score_file=tagging.score_file,
    add_flags=tagging.add_flags,
)


def main(arguments: list[str] | None = None) -> None:
    """Command line; `arguments` stands for sys.argv[1:]."""
    command.main(BENCHMARK, __doc__, arguments)


if __name__ == "__main__":
    main()
