"""Tags of words and the entities they stand for, in the schemes that the community's files have. Nothing to run here.

| scheme | an entity of two words, then one of one word | where                                        |
| ------ | -------------------------------------------- | -------------------------------------------- |
| IOB2   | B-X I-X B-X                                  | most files                                   |
| IOB1   | I-X I-X B-X (B only after another entity)    | CoNLL 2003, SciBERT                          |
| IOBES  | B-X E-X S-X; BILOU writes L and U for E and S | MTL-Bioinformatics-2016                     |
| IO     | I-X I-X I-X (neighbours are one)             | EBM-NLP                                      |

Spans are read as conlleval reads them; inside the program every tag is IOB2.
"""

from functools import cache

Span = tuple[int, int, str]  # first word, one after the last word, type

SCHEMES = ("IOB2", "IOB1", "IOBES", "IO")
UNTYPED = "Entity"  # the type given to bare B and I tags
BILOU = {"L": "E", "U": "S"}


@cache
def split_tag(tag: str) -> tuple[str, str]:
    """`B-Chemical` -> (`B`, `Chemical`); `B` -> (`B`, ""); ValueError if it is no tag of one of the schemes."""
    prefix, _, entity_type = tag.partition("-")
    prefix = BILOU.get(prefix, prefix)
    if prefix not in ("O", "B", "I", "E", "S") or (prefix == "O" and entity_type) or tag.endswith("-"):
        raise ValueError(f"unknown tag {tag!r}: expected O, or B, I, E, S, L or U, alone or with -TYPE")
    return prefix, entity_type


def iob_spans(tags: list[str]) -> list[Span]:
    """Entities of IOB tags as conlleval reads them: one starts at B, and at I after O or another type."""
    spans: list[Span] = []
    start, current = 0, None
    for i, tag in enumerate([*tags, "O"]):
        prefix, entity_type = tag[0], tag[2:]
        if current is not None and (prefix != "I" or entity_type != current):
            spans.append((start, i, current))
            current = None
        if prefix != "O" and current is None:
            start, current = i, entity_type
    return spans


def iob2_tags(spans: list[Span], length: int) -> list[str]:
    """The IOB2 tags of `length` words with these entities."""
    tags = ["O"] * length
    for start, end, entity_type in spans:
        tags[start:end] = [f"I-{entity_type}"] * (end - start)
        tags[start] = f"B-{entity_type}"
    return tags


def as_iob2(tags: list[str], scheme: str) -> list[str]:
    """IOB2 tags, a type on each, of the same entities; `scheme` is one of SCHEMES."""
    if scheme == "IOBES":
        tags = [{"E": "I", "S": "B"}.get(tag[0], tag[0]) + tag[1:] for tag in tags]
    spans = [(start, end, entity_type or UNTYPED) for start, end, entity_type in iob_spans(tags)]
    return iob2_tags(spans, len(tags))


def first_fault(tags: list[str], scheme: str, before: str = "O", after: str = "O") -> int | None:
    """Index of the first tag that IOB2 or IOBES does not allow where it stands, or None.

    `before` and `after` are the tags on both sides, where an entity may go on over the sentence's ends.
    """
    inside = before[1:] if before[0] in "BI" else None  # "-TYPE" ("" for bare tags) of an entity that may go on
    for i, tag in enumerate([*tags, after]):
        prefix, suffix = tag[0], tag[1:]
        goes_on = prefix in "IE" and suffix == inside
        if prefix in "IE" and not goes_on:
            return min(i, len(tags) - 1)
        if scheme == "IOBES" and inside is not None and not goes_on:
            return i - 1  # the last word of an entity is not marked E
        inside = suffix if prefix in "BI" else None
    return None
