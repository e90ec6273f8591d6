"""Which distribution of DDI 2013 a folder holds, and its examples. Nothing to run here.

Used by finetuning.ddi, which says what the distributions are; each is known by the names and headers of its files,
and none is guessed from a folder's name.
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from finetuning import relations
from finetuning.ddi_files import NEGATIVE, PROTOCOLS, TYPES, UNTYPED, is_original, read_split
from finetuning.relation_files import Marks, check_alike, find_split, read_tables
from finetuning.relation_inputs import Distribution, pair_sizes
from finetuning.splits import SPLITS

SPELLINGS = {
    **{spelling: NEGATIVE for spelling in ("false", "False", "0", "DDI-false")},
    **{f"{prefix}{kind}": kind for kind in TYPES for prefix in ("", "DDI-")},
}
PLACEHOLDERS = Marks("@DRUG$", "@DRUG$", "@DRUG-DRUG$")
HEADER = ("index", "sentence", "label")  # of BLUE's files
SCORED = "positive pairs in dev and test"  # of BLURB's train split the number is not published
OF_ORIGINAL = {"blurb": "DDI (BLURB)", "original": "DDI 2013"}


def add_flags(parser: ArgumentParser) -> None:
    """The flags of relation benchmarks, and how the corpus is divided."""
    relations.add_flags(parser)
    parser.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        default="blurb",
        help="How the corpus' own XML is divided: with BLURB's dev documents, or all to train on and no dev; of no "
        "account for files made ready (default: blurb).",
    )


def from_original(folder: Path, wanted: dict[str, str], protocol: str) -> Distribution:
    """The pairs of the corpus' own XML."""
    if protocol == "original":
        wanted = {split: source for split, source in wanted.items() if source != "dev"}
        if "train" not in wanted:
            raise ValueError("--protocol original has no dev split, so do not name it")
    files = {split: read_split(folder, source, protocol) for split, source in wanted.items()}
    found = pair_sizes(files, NEGATIVE)
    if protocol == "blurb":
        found = {"pairs": found["pairs"], SCORED: found["positive pairs"][1:]}
    return Distribution(
        name=OF_ORIGINAL[protocol],
        folds=[files],
        found=found,
        spellings=SPELLINGS,
        negative=NEGATIVE,
        marks=PLACEHOLDERS,
        predictions="semeval",
        unlearnable=(UNTYPED,),
    )


def from_tables(folder: Path, wanted: dict[str, str]) -> Distribution:
    """The ready-made tables of BLUE or BLURB (SciFive's)."""
    files, marks = read_tables(folder, wanted, SPELLINGS, (PLACEHOLDERS,))
    headers = {split: file.header for split, file in files.items()}
    check_alike(files, headers, "headers")
    found = pair_sizes(files, NEGATIVE)
    if headers["train"] == HEADER:
        name = "DDI (BLUE)"
        found = {"positive pairs": found["positive pairs"], "pairs in dev and test": found["pairs"][1:]}
    else:
        name, found = "DDI (BLURB)", {"pairs": found["pairs"], SCORED: found["positive pairs"][1:]}
    return Distribution(name, [files], found, SPELLINGS, NEGATIVE, marks)


def read(options: Namespace, wanted: dict[str, str]) -> Distribution:
    """The examples of --data; ValueError says what is missing or wrong."""
    folder = options.data
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder: --data takes the folder that holds the benchmark's files")
    if is_original(folder):
        if any(find_split(folder, split) for split in SPLITS):
            raise ValueError(f"{folder} holds both ready-made files and the corpus' XML: give a folder with only one")
        return from_original(folder, wanted, options.protocol)
    return from_tables(folder, wanted)
