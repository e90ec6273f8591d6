"""Any entity annotations of your own, with a train and a test split. Entity-level F1 (exact span and type).

    python -m finetuning.ner --model DIR_OR_NAME --data DIR --output DIR --seeds 5

Nothing is refused for its size, and the result stands apart from the published benchmarks in the table, under the
name of the folder. --data holds, for train, dev (may be absent) and test, one of

- token files: train.tsv, devel.tsv or dev.tsv, test.tsv (or .txt, .conll): the token first, its tag last, a blank
  line after each sentence; IOB2, IOB1, IOBES, BILOU or bare IO tags, with types or without;
- PubTator files with train, dev and test in their names;
- brat folders with train, dev and test in their names: a .txt and a .ann for each document.

Texts of the last two are cut into sentences and words here; entities that tags cannot say (of several pieces, the
inner ones of nested ones, ends inside a word) are counted, said, and stay in the score as missed.
"""

from finetuning import command, tagging
from finetuning.config import FinetuneConfig
from finetuning.splits import Benchmark

BENCHMARK = Benchmark(
    name="NER",
    variants=(),
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
