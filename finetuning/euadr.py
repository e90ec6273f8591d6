"""EU-ADR: is a gene associated with a disease, in sentences of PubMed abstracts. F1 of "yes" (1), mean of ten folds.

    python -m finetuning.euadr --model DIR_OR_NAME --data DIR --output DIR --seeds 5

Citation: van Mulligen et al., "The EU-ADR corpus: annotated drugs, diseases, targets, and their relationships",
Journal of Biomedical Informatics 2012; the folds are BioBERT's (Lee et al., Bioinformatics 2020).

Files: folders 1 ... 10 of BioBERT's release (github.com/dmis-lab/biobert, datasets/RE/euadr), with @GENE$ and
@DISEASE$ in every sentence: train.tsv without a header, test.tsv with one, dev.tsv empty. So there is no dev split, and
all epochs are run. The test sentences of the ten folds are all sentences, each once.

| variant           | sentences                                              |
| ----------------- | ------------------------------------------------------ |
| EU-ADR (10 folds) | 355, of them 262 of class 1; 35 to 37 in a fold's test |

To answer "yes" always has an F1 of about 85: a score below that has learned nothing.
"""

from functools import partial

from finetuning import command, gene_disease_reading, relations
from finetuning.config import FinetuneConfig
from finetuning.splits import Benchmark, Variant

READ = partial(gene_disease_reading.read, name="EU-ADR")
BENCHMARK = Benchmark(
    name="EU-ADR",
    variants=(Variant("EU-ADR (10 folds)", {gene_disease_reading.IN_FOLDS: (355,)}),),
    defaults=FinetuneConfig(epochs=10, batch_size=16, max_length=128),
    prepare=partial(relations.prepare, read=READ),
    score_file=partial(relations.score_file, read=READ),
    add_flags=relations.add_flags,
)


def main(arguments: list[str] | None = None) -> None:
    """Command line; `arguments` stands for sys.argv[1:]."""
    command.main(BENCHMARK, __doc__, arguments)


if __name__ == "__main__":
    main()
