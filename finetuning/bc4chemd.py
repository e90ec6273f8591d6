"""BC4CHEMD (CHEMDNER): chemicals in PubMed abstracts. Entity-level F1 (exact span, as conlleval's).

    python -m finetuning.bc4chemd --model DIR_OR_NAME --data DIR --output DIR --seeds 5

Citation: Krallinger et al., "The CHEMDNER corpus of chemicals and drugs and its annotation principles", Journal of
Cheminformatics 2015, 7(Suppl 1):S2. 10,000 abstracts with 84,355 mentions.

Files, read as they are distributed: BC4CHEMD of BioBERT's NERdata (github.com/dmis-lab/biobert): train.tsv,
devel.tsv, test.tsv, tags B, I, O; or BC4CHEMD, -IOB and -IOBES of github.com/cambridgeltl/MTL-Bioinformatics-2016:
the same, with a type. The split is known by its sentences alone: cutting words and sentences lost a few mentions,
and how many the token files have is nowhere published that we know of.

| variant  | sentences train / dev / test |
| -------- | ---------------------------- |
| BC4CHEMD | 30,682 / 30,639 / 26,364     |

Published: BioBERT-MRC 92.92 (arXiv:2009.01560), which reads entities as answers to questions; what it was trained
on was not checked, so the table does not set it beside ours. Default batch size as tuned for Bio-ELECTRA (SDP 2020);
learning rate by the model's size.
"""

from finetuning import command, tagging
from finetuning.config import FinetuneConfig
from finetuning.splits import Benchmark, Variant
from finetuning.tags import UNTYPED

BENCHMARK = Benchmark(
    name="BC4CHEMD",
    variants=(Variant("BC4CHEMD", {"sentences": (30682, 30639, 26364)}, rename={UNTYPED: "Chemical"}),),
    defaults=FinetuneConfig(epochs=20, patience=3, batch_size=64),
    prepare=tagging.prepare,
    score_file=tagging.score_file,
    add_flags=tagging.add_flags,
)


def main(arguments: list[str] | None = None) -> None:
    """Command line; `arguments` stands for sys.argv[1:]."""
    command.main(BENCHMARK, __doc__, arguments)


if __name__ == "__main__":
    main()
