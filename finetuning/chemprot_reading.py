"""Which distribution of ChemProt a folder holds, and its examples. Nothing to run here.

Used by finetuning.chemprot, which says what the distributions are; each is known by the names and headers of its
files, and none is guessed from a folder's name.
"""

import re
from argparse import ArgumentParser, Namespace
from pathlib import Path

from finetuning import relations
from finetuning.chemprot_files import EVALUATED, NEGATIVE, PROTOCOLS, build, is_original, read_corpus
from finetuning.relation_files import Marks, RelationFile, check_alike, find_split, read_tables, split_paths
from finetuning.relation_inputs import MARKERS, Distribution, pair_sizes
from finetuning.relation_json import read_json_lines

SPELLINGS = {"false": NEGATIVE, "False": NEGATIVE, "0": NEGATIVE, **{name: name for name in EVALUATED}}
PLACEHOLDERS = Marks("@CHEMICAL$", "@GENE$", "@CHEM-GENE$")
# bio_electra has none of its own for two mentions that overlap: there one of the two stands alone (45 sentences).
BIO_ELECTRA = Marks("BC6ENTC", "BC6ENTG", "BC6ENTCG")
FINE_CLASSES = (
    "INHIBITOR SUBSTRATE INDIRECT-DOWNREGULATOR INDIRECT-UPREGULATOR ACTIVATOR ANTAGONIST PRODUCT-OF AGONIST "
    "DOWNREGULATOR UPREGULATOR SUBSTRATE_PRODUCT-OF AGONIST-ACTIVATOR AGONIST-INHIBITOR"
).split()
SCIBERT_MARKERS = ("[[", "]]", "<<", ">>", *MARKERS[4:])
BLUE_HEADER, BIO_ELECTRA_HEADER = ("index", "sentence", "label"), ("sentence", "label")
PMID = re.compile(r"(\d+)\.T\d+\.T\d+$")
OF_ORIGINAL = {"blurb": "ChemProt (BLURB)", "blue": "ChemProt (BLUE)"}


def add_flags(parser: ArgumentParser) -> None:
    """The flags of relation benchmarks, and how the original files become pairs."""
    relations.add_flags(parser)
    parser.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        default="blurb",
        help="How BioCreative's own files become pairs; of no account for files made ready (default: blurb).",
    )


def from_original(folder: Path, wanted: dict[str, str], protocol: str) -> Distribution:
    """The pairs of BioCreative's own files."""
    files = {split: build(folder, source, protocol) for split, source in wanted.items()}
    last = list(wanted.values())[-1]
    gold = {(f"{pmid}.{'.'.join(pair)}", label) for pmid, label, pair in read_corpus(folder, last).gold()}
    return Distribution(
        name=OF_ORIGINAL[protocol],
        folds=[files],
        found=pair_sizes(files, NEGATIVE),
        spellings=SPELLINGS,
        negative=NEGATIVE,
        marks=PLACEHOLDERS,
        predictions="biocreative",
        gold=frozenset(gold),
    )


def from_scibert(paths: dict[str, Path]) -> Distribution:
    """SciBERT's JSON lines, with its own markers unless --input says otherwise."""
    spellings = {name: name for name in FINE_CLASSES}
    files = {split: read_json_lines(path, spellings) for split, path in paths.items()}
    return Distribution(
        name="ChemProt (SciBERT)",
        folds=[files],
        found={"pairs": pair_sizes(files, None)["pairs"]},
        spellings=spellings,
        negative=None,
        marks=PLACEHOLDERS,
        markers=SCIBERT_MARKERS,
        input="marker",
    )


def from_tables(folder: Path, wanted: dict[str, str]) -> Distribution:
    """The ready-made tables of BLUE, BLURB (SciFive's) or bio_electra."""
    files, marks = read_tables(folder, wanted, SPELLINGS, (PLACEHOLDERS, BIO_ELECTRA), PMID)
    headers = {split: file.header for split, file in files.items()}
    check_alike(files, headers, "headers")
    found = pair_sizes(files, NEGATIVE)
    if headers["train"] == BLUE_HEADER:
        name, found = "ChemProt (BLUE)", blue_sizes(files, found)
    else:
        name = "ChemProt (bio_electra)" if headers["train"] == BIO_ELECTRA_HEADER else "ChemProt (BLURB)"
    return Distribution(name, [files], found, SPELLINGS, NEGATIVE, marks)


def blue_sizes(files: dict[str, RelationFile], found: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """What is published of BLUE's sizes: the positive pairs; the pairs of the dev split are those of its file."""
    dev = {"pairs in dev": (len(files["dev"].relations),)} if "dev" in files else {}
    return {"positive pairs": found["positive pairs"], **dev}


def read(options: Namespace, wanted: dict[str, str]) -> Distribution:
    """The examples of --data; ValueError says what is missing or wrong."""
    folder = options.data
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder: --data takes the folder that holds the benchmark's files")
    if is_original(folder):
        if any(find_split(folder, source) for source in wanted.values()):
            raise ValueError(f"{folder} holds both ready-made and BioCreative's own files: give a folder with only one")
        return from_original(folder, wanted, options.protocol)
    paths = split_paths(folder, wanted)
    if all(path.suffix == ".txt" for path in paths.values()):
        return from_scibert(paths)
    return from_tables(folder, wanted)
