"""BioNLP13-CG: sixteen types of entities of cancer genetics. Entity-level F1 (exact span and type, as conlleval's).

    python -m finetuning.bionlp13cg --model DIR_OR_NAME --data DIR --output DIR --seeds 5

Citation: Pyysalo, Ohta and Ananiadou, "Overview of the Cancer Genetics (CG) task of BioNLP Shared Task 2013",
BioNLP-ST 2013. 600 abstracts.

Files, read as they are distributed: BioNLP13CG-IOB and -IOBES of github.com/cambridgeltl/MTL-Bioinformatics-2016:
train.tsv, devel.tsv, test.tsv. The original folders (.txt and .a1, 2013.bionlp-st.org) have other counts, as words
and sentences are cut here: they need --nonstandard-split.

| variant     | sentences train / dev / test | entities train / dev / test                |
| ----------- | ---------------------------- | ------------------------------------------ |
| BioNLP13-CG | 3,033 / 1,003 / 1,906        | 10,826 / 3,616 / 6,881; by type, see below |

Published scores: none that the table could set beside ours. Learning rate by the model's size.
"""

from finetuning import command, tagging
from finetuning.config import FinetuneConfig
from finetuning.splits import Benchmark, Variant

TYPES = {
    "Amino_acid": (40, 33, 62),
    "Anatomical_system": (21, 3, 17),
    "Cancer": (1226, 432, 924),
    "Cell": (1939, 540, 1013),
    "Cellular_component": (294, 95, 180),
    "Developing_anatomical_structure": (13, 5, 17),
    "Gene_or_gene_product": (4028, 1360, 2520),
    "Immaterial_anatomical_entity": (52, 19, 31),
    "Multi-tissue_structure": (416, 138, 303),
    "Organ": (194, 71, 156),
    "Organism": (901, 296, 518),
    "Organism_subdivision": (47, 12, 39),
    "Organism_substance": (145, 36, 102),
    "Pathological_formation": (96, 44, 88),
    "Simple_chemical": (1097, 446, 727),
    "Tissue": (317, 86, 184),
}

BENCHMARK = Benchmark(
    name="BioNLP13-CG",
    variants=(Variant("BioNLP13-CG", {"sentences": (3033, 1003, 1906), **TYPES}),),
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
