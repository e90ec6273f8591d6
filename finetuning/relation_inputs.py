"""A relation benchmark's files as read, and its sentences as the model sees them. Nothing to run here.

Used by finetuning.relations, which says what the styles are.
"""

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass

from finetuning.relation_files import Marks, Relation, RelationFile, Span
from finetuning.splits import Sizes
from finetuning.text_inputs import Example
from finetuning.text_scores import MICRO_F1

INPUTS = ("anonymised", "marker", "raw")
HEADS = ("cls", "marker", "mention")
MARKERS = ("[E1]", "[/E1]", "[E2]", "[/E2]", "[E1-E2]", "[/E1-E2]")  # before and after each argument, and both


@dataclass(frozen=True)
class Distribution:
    """A benchmark's files, read."""

    name: str  # of the variant, if it is none of the published ones
    folds: list[dict[str, RelationFile]]  # one, or ten
    found: Sizes  # as finetuning.splits.recognise compares them
    spellings: dict[str, str]  # every label that may stand in a file of predictions -> the class
    negative: str | None  # the class that is no relation; None where all are
    marks: Marks
    metric: str = MICRO_F1
    markers: tuple[str, ...] = MARKERS
    input: str = "anonymised"  # what --input is, unless given
    predictions: str = "table"  # format of the predictions
    unlearnable: tuple[str, ...] = ()  # labels that are left out of training, their class being unknown
    gold: frozenset[tuple[str, str]] | None = None  # (index, class) of all gold relations, where some are no pair

    def classes(self) -> list[str]:
        """All classes, "no relation" first; unlearnable ones only where dev or test has them."""
        names = dict.fromkeys([self.negative] * bool(self.negative) + list(self.spellings.values()))
        there = {one.label for files in self.folds for split in files if split != "train"
                 for one in files[split].relations}  # fmt: skip
        return [name for name in names if name not in self.unlearnable] + sorted(there & set(self.unlearnable))


Reader = Callable[[Namespace, dict[str, str]], Distribution]  # options, split -> the split whose file it is


def pair_sizes(files: dict[str, RelationFile], negative: str | None) -> Sizes:
    """Pairs and those of them that are relations, in each split."""
    return {
        "pairs": tuple(len(file.relations) for file in files.values()),
        "positive pairs": tuple(sum(one.label != negative for one in file.relations) for file in files.values()),
    }


def together(first: Span, second: Span, touching: bool) -> bool:
    """Whether two mentions share a character (or, if `touching`, have nothing between them)."""
    gap = max(first[0], second[0]) - min(first[1], second[1])
    return gap <= 0 if touching else gap < 0


def as_one(first: Span, second: Span) -> tuple[Span, Span]:
    """Both arguments as the one stretch that holds them."""
    whole = (min(first[0], second[0]), max(first[1], second[1]))
    return whole, whole


def render(
    relation: Relation, style: str, placeholders: Marks | None, markers: tuple[str, ...]
) -> tuple[str, tuple[Span, Span], tuple[Span, Span]]:
    """The sentence as the model sees it, the characters of the start markers in it (of the arguments where there are
    none) and those of the arguments.

    `placeholders` replace the mentions if the style is "anonymised"; None if they stand there already.
    """
    first, second = relation.arguments
    roles = [(first, 2)] if first == second else sorted([(first, 0), (second, 1)])
    text, done, starts, inner = "", 0, {}, {}
    for (start, end), role in roles:
        content = relation.text[start:end]
        if style == "anonymised" and placeholders:
            content = (placeholders.first, placeholders.second, placeholders.both)[role]
        opening, closing = (f"{markers[2 * role]} ", f" {markers[2 * role + 1]}") if style == "marker" else ("", "")
        text += relation.text[done:start]
        begin = len(text) + len(opening)
        inner[role] = (begin, begin + len(content))
        starts[role] = (len(text), begin - 1) if opening else inner[role]
        text += opening + content + closing
        done = end
    order = (2, 2) if first == second else (0, 1)
    text += relation.text[done:]
    return text, tuple(starts[role] for role in order), tuple(inner[role] for role in order)


def make_examples(file: RelationFile, data: Distribution, style: str, head: str) -> list[Example]:
    """The sentences of one split as the model sees them; ValueError if the files do not allow this style or head."""
    if style == "raw" and file.form == "anonymised":
        raise ValueError(f"--input raw: {file.path} has placeholders instead of the mentions, so take another input")
    if style == "raw" and head == "marker":
        raise ValueError("--head marker: raw text has no markers, so take --head mention, or --input marker")
    examples = []
    for one in file.relations:
        text, arguments = one.text, None
        if one.arguments:
            text, starts, inner = render(one, style, None if file.form == "anonymised" else data.marks, data.markers)
            arguments = starts if head == "marker" else inner
        elif head != "cls" or style == "marker":
            raise ValueError(
                f"{file.path}: row {one.index} ({one.text[:60]!r}) shows no argument by "
                f"{' '.join(data.marks.names())}, so take --head cls and --input anonymised"
            )
        examples.append(Example(text, one.label, document=one.document, arguments=arguments, index=one.index))
    return examples
