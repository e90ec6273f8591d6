"""The command line of `pretraining.corpus.filter`; there is no command here."""

import argparse
import re
from dataclasses import fields
from pathlib import Path

from pretraining.corpus.duplicates import KINDS
from pretraining.corpus.engine import add_engine_flags, add_output_flag
from pretraining.corpus.selection import Rules

DATE = re.compile(r"\d{4}(-\d{2}(-\d{2})?)?")


def make_parser() -> argparse.ArgumentParser:
    """The parser of all flags."""
    parser = argparse.ArgumentParser(
        prog="python -m pretraining.corpus.filter",
        description="Choose the documents of a corpus. A killed run goes on with the same command.",
    )
    add = parser.add_argument
    add("--input", nargs="+", type=Path, required=True, metavar="DIR", help="Folders that earlier stages wrote.")
    add_output_flag(parser)
    add("--removed", type=Path, metavar="FILE", help="Write what is left out to this file, JSON lines with the reason.")
    _add_rules(parser.add_argument_group("rules"))
    add_engine_flags(parser)
    return parser


def _add_rules(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--language", nargs="+", metavar="CODE", help="Keep documents in one of these languages (ISO 639-2: eng).")
    add("--date-from", metavar="DATE", help="Keep what appeared from then on: YYYY, YYYY-MM or YYYY-MM-DD.")
    add("--date-to", metavar="DATE", help="Keep what appeared until then, a year or month until its end.")
    add("--min-characters", type=int, metavar="N", help="Keep texts of at least N characters.")
    add("--max-characters", type=int, metavar="N", help="Keep texts of at most N characters.")
    add("--publication-type", nargs="+", metavar="TYPE", help='Keep documents of one of these types ("Review").')
    add("--exclude-publication-type", nargs="+", metavar="TYPE", help="Leave out documents of any of these types.")
    add("--drop-retracted", action="store_true", help="Leave out what was retracted.")
    add("--mesh", nargs="+", metavar="TERM", help="Keep documents with one of these MeSH terms.")
    add("--keyword", nargs="+", metavar="WORD", help="Keep documents with one of these keywords of their authors.")
    add("--allow-pmids", metavar="FILE", help="Keep only the PMIDs in this file, one a line.")
    add("--deny-pmids", metavar="FILE", help="Leave out the PMIDs in this file, one a line.")
    add("--benchmark", nargs="+", metavar="PATH",
        help="Leave out documents whose PMID is in these benchmark files or folders, or that share 12 words in a row "
        "with them (numbers, case and punctuation aside).")  # fmt: skip
    add("--no-ngrams", action="store_true", help="Of --benchmark use the PMIDs only.")
    add("--journal-metric", metavar="CSV", help="A file with the columns issn and metric, of any metric of journals.")
    add("--journal-minimum", type=float, metavar="X", help="Keep documents of journals with a metric of at least X.")
    add("--journal-control", action="store_true",
        help="Instead keep as many documents as that would, at random from all journals (its control).")  # fmt: skip
    add("--duplicates", nargs="+", choices=KINDS, default=(),
        help="Leave out documents with a PMID (pmid) or a text (exact) that an earlier --input has, and near "
        "duplicates by MinHash (near).")  # fmt: skip
    add("--sample", type=float, metavar="PERCENT",
        help="Keep this part of the documents, by a hash of the id: always the same, smaller samples inside larger "
        "ones.")  # fmt: skip


def read_rules(arguments: argparse.Namespace) -> Rules:
    """The rules that the flags say. Raises ValueError for those that contradict each other."""
    given = {field.name: getattr(arguments, field.name) for field in fields(Rules)}
    for name in ("date_from", "date_to"):
        if given[name] is not None and not DATE.fullmatch(given[name]):
            raise ValueError(f"--{name.replace('_', '-')} {given[name]} is no date; write YYYY, YYYY-MM or YYYY-MM-DD")
    if given["sample"] is not None and not 0 < given["sample"] <= 100:
        raise ValueError(f"--sample {given['sample']} is no percentage; give more than 0 and at most 100")
    if (given["journal_metric"] is None) != (given["journal_minimum"] is None):
        raise ValueError("--journal-metric and --journal-minimum go together; give both")
    if given["journal_control"] and given["journal_metric"] is None:
        raise ValueError("--journal-control needs --journal-metric and --journal-minimum, whose size it takes")
    return Rules(
        **{
            name: tuple(value) if isinstance(value, list) else value
            for name, value in given.items()
            if value is not None
        }
    )
