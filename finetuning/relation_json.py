"""Read SciBERT's relation files: a JSON object a line, with the two arguments in `[[ ]]` and `<< >>`. Nothing to run
here.

Used by finetuning.chemprot. In ChemProt `[[ ]]` stands around the chemical, `<< >>` around the gene; no two arguments
overlap, and every line is an interaction of one of 13 kinds.
"""

import json
import re
from pathlib import Path

from finetuning.relation_files import Relation, RelationFile, Span, read_lines

MARKED = re.compile(r"(.*?)(<<|\[\[) (.*?) (>>|\]\])(.*?)(<<|\[\[) (.*?) (>>|\]\])(.*)", re.DOTALL)


def read_json_lines(path: Path, spellings: dict[str, str]) -> RelationFile:
    """SciBERT's lines as raw text: `[[ x ]]` is the first argument, `<< y >>` the second; ValueError names the
    line that is not so.
    """
    lines, checksum = read_lines(path)
    relations = []
    for number, line in enumerate(lines, start=1):
        try:
            content = json.loads(line)
            marked, label = content["text"], content["label"]
            if not (isinstance(marked, str) and isinstance(label, str)):
                raise TypeError
        except (ValueError, KeyError, TypeError):
            raise ValueError(
                f'{path} line {number} is not a JSON object with texts "text" and "label": {line[:60]!r}'
            ) from None
        if label not in spellings:
            raise ValueError(f"{path} line {number} has the label {label!r}: expected one of {', '.join(spellings)}")
        unmarked = unmark(marked)
        if unmarked is None:
            raise ValueError(f"{path} line {number} has not one << ... >> and one [[ ... ]]: {marked[:60]!r}")
        relations.append(Relation(unmarked[0], spellings[label], unmarked[1], index=str(number - 1)))
    if not relations:
        raise ValueError(f"{path} is empty: expected a JSON object on each line")
    return RelationFile(path, checksum, relations, "raw")


def unmark(marked: str) -> tuple[str, tuple[Span, Span]] | None:
    """The text without `<< >>` and `[[ ]]`, and the characters of what stood in `[[ ]]` and `<< >>`."""
    found = MARKED.fullmatch(marked)
    if found is None or {found[2] + found[4], found[6] + found[8]} != {"<<>>", "[[]]"}:
        return None
    before, first, middle, second, after = found[1], found[3], found[5], found[7], found[9]
    one = (len(before), len(before) + len(first))
    other = (one[1] + len(middle), one[1] + len(middle) + len(second))
    spans = (one, other) if found[2] == "[[" else (other, one)
    return before + first + middle + second + after, spans
