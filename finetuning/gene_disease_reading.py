"""Sentences with a gene and a disease, GAD's and EU-ADR's, as BioBERT and BLURB distribute them. Nothing to run here.

Used by finetuning.gad and finetuning.euadr. Class 1 is an association, 0 is none; the score is the F1 of class 1.
"""

from argparse import Namespace

from finetuning.relation_files import Marks, fold_folders, read_folds, read_tables
from finetuning.relation_inputs import Distribution

PLACEHOLDERS = Marks("@GENE$", "@DISEASE$", "@GENE-DISEASE$")
SPELLINGS = {"0": "0", "1": "1"}
METRIC = "F1"
IN_FOLDS = "sentences of 10 folds"


def read(options: Namespace, wanted: dict[str, str], name: str) -> Distribution:
    """BioBERT's ten folds, if --data has the folders 1 ... 10, or else one split; ValueError says what is wrong."""
    folder = options.data
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder: --data takes the folder that holds the benchmark's files")
    if fold_folders(folder):
        if getattr(options, "train_split", None) == "dev":
            raise ValueError("--train-split dev: the folds have no dev split, so leave the flag out")
        folds = read_folds(folder, SPELLINGS, PLACEHOLDERS)
        found = {IN_FOLDS: (sum(len(files["test"].relations) for files in folds),)}
        name = f"{name} (10 folds)"
    else:
        files, _ = read_tables(folder, wanted, SPELLINGS, (PLACEHOLDERS,))
        folds, name = [files], f"{name} (BLURB)"
        found = {"sentences": tuple(len(file.relations) for file in files.values())}
    return Distribution(name, folds, found, SPELLINGS, "0", PLACEHOLDERS, METRIC)
