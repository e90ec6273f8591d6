"""Scores of entities and of tagged words, and the prediction files that they are read from. Nothing to run here.

- Entity-level F1: an entity is right if both ends and the type are; all entities of the file are in the count, those
  that no tags can stand for as well. Equal to conlleval and to seqeval (strict, IOB2), which the tests compare.
- Token-level macro-F1 (PICO): the F1 of each class over words, averaged over the classes; O is none.

A predictions file is `token<TAB>...<TAB>tag` (the last column counts; conlleval reads `token<TAB>gold<TAB>predicted`)
for token files, and PubTator, or a folder of brat's .ann files, for texts.
"""

from collections import Counter
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

from finetuning import standoff
from finetuning.conll import Sentence, TaggedFile, check_tags, read_file
from finetuning.tags import UNTYPED, as_iob2, iob_spans

ENTITY_F1 = "entity-level F1"
TOKEN_F1 = "token-level macro-F1"

Key = tuple[Hashable, ...]  # what makes two entities the same; the type comes last


def f1_scores(right: int, found: int, there: int) -> dict[str, float]:
    """Precision, recall and F1 from counts; 0 where there is nothing to divide by."""
    return {
        "precision": right / found if found else 0.0,
        "recall": right / there if there else 0.0,
        "f1-score": 2 * right / (found + there) if found + there else 0.0,
    }


def entity_scores(gold: Iterable[Key], predicted: Iterable[Key]) -> dict[str, Any]:
    """Precision, recall, F1 over all entities (micro) and number of gold ones, and the same by type."""
    gold, predicted = Counter(gold), Counter(predicted)
    right, found, there = (Counter() for _ in range(3))
    for counts, keys in ((right, gold & predicted), (found, predicted), (there, gold)):
        for key, number in keys.items():
            counts[key[-1]] += number
    types = {
        name: {**f1_scores(right[name], found[name], there[name]), "entities": there[name]}
        for name in sorted(found | there)
    }
    total = f1_scores(right.total(), found.total(), there.total())
    return {ENTITY_F1: total.pop("f1-score"), **total, "entities": there.total(), "types": types}


def token_scores(gold: list[list[str]], predicted: list[list[str]], classes: Iterable[str]) -> dict[str, Any]:
    """Macro-F1 over `classes` of the words' types, and precision, recall, F1 and gold words of each; IOB tags."""
    pairs = Counter(
        (one[2:], other[2:])
        for there, found in zip(gold, predicted, strict=True)
        for one, other in zip(there, found, strict=True)
    )
    scores = {}
    for name in sorted(classes):
        found = sum(count for (_, other), count in pairs.items() if other == name)
        there = sum(count for (one, _), count in pairs.items() if one == name)
        scores[name] = {**f1_scores(pairs[name, name], found, there), "words": there}
    mean = sum(score["f1-score"] for score in scores.values()) / len(scores)
    return {TOKEN_F1: mean, "words": sum(score["words"] for score in scores.values()), "classes": scores}


def tag_keys(tags: list[list[str]]) -> list[Key]:
    """The entities of tagged sentences: (sentence, first word, one after the last, type)."""
    return [(i, *span) for i, one in enumerate(tags) for span in iob_spans(one)]


def missed_keys(file: TaggedFile) -> list[Key]:
    """The entities that no tags can stand for, as keys that no prediction has."""
    return [("missed", i, entity.type) for i, (_, entity) in enumerate(file.missed)]


def score_tags(file: TaggedFile, predicted: list[list[str]], classes: Iterable[str] | None = None) -> dict[str, Any]:
    """Scores of predicted tags (IOB, read as conlleval does) on a split; with `classes`, token-level ones first."""
    gold = [sentence.tags for sentence in file.sentences]
    entities = entity_scores(tag_keys(gold) + missed_keys(file), tag_keys(predicted))
    return entities if classes is None else {**token_scores(gold, predicted, classes), **entities}


def write_tags(sentences: list[Sentence], predicted: list[list[str]], path: Path) -> None:
    """`token<TAB>gold<TAB>predicted`, a blank line after each sentence: what `conlleval -d '\\t'` reads."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8", newline="\n") as file:
        for sentence, tags in zip(sentences, predicted, strict=True):
            for row in zip(sentence.words, sentence.tags, tags, strict=True):
                file.write("\t".join(row) + "\n")
            file.write("\n")
    temporary.replace(path)


def write_spans(file: TaggedFile, predicted: list[list[str]], path: Path) -> None:
    """The entities of predicted tags as PubTator, for a split of texts."""
    spans: list[list[tuple[int, int, str]]] = [[] for _ in file.documents]
    for sentence, tags in zip(file.sentences, predicted, strict=True):
        spans[sentence.document] += [
            (sentence.offsets[start][0], sentence.offsets[end - 1][1], kind) for start, end, kind in iob_spans(tags)
        ]
    standoff.write_pubtator(zip(file.documents, file.texts, spans, strict=True), path)


def read_tags(path: Path, gold: TaggedFile, rename: dict[str, str]) -> list[list[str]]:
    """The predicted IOB2 tags of each sentence of `gold` in a file of tokens; blank lines in it do not matter.

    Types get the variant's names; bare tags that of the only type there is. ValueError at the first other token.
    """
    ours = read_file(path)
    check_tags(ours)
    scheme = "IOBES" if any(tag[0] in "ES" for one in ours.sentences for tag in one.tags) else "IOB1"
    rows = (
        (word, tag, one.line + i)
        for one in ours.sentences
        for i, (word, tag) in enumerate(zip(one.words, one.tags, strict=True))
    )
    kinds = list(gold.entity_counts())
    bare = {UNTYPED: kinds[0]} if ours.typed is False and len(kinds) == 1 else {}
    result = []
    for sentence in gold.sentences:
        tags = []
        for i, word in enumerate(sentence.words):
            found, tag, line = next(rows, ("", "O", "(its end)"))
            if found != word:
                raise ValueError(
                    f"{path} line {line} has {found!r} where {gold.path} line {sentence.line + i} has {word!r}: the "
                    "predictions must be of the same tokens in the same order"
                )
            tags.append(tag)
        names = {**rename, **bare}
        tags = as_iob2(tags, scheme)
        result.append([tag if tag == "O" else f"{tag[:2]}{names.get(tag[2:], tag[2:])}" for tag in tags])
    surplus = next(rows, None)
    if surplus:
        raise ValueError(f"{path} line {surplus[2]}: {gold.path} has no more tokens")
    return result


def read_spans(path: Path, gold: TaggedFile, rename: dict[str, str]) -> list[Key]:
    """Predicted entities, (document, pieces, type), of a PubTator file or a folder of brat's .ann files.

    Documents are known by their id, one that is there twice by its turn. ValueError for a document that the gold
    files do not have; one without predictions may be absent.
    """
    if path.is_dir():
        files = standoff.annotation_files(path)
        if not files:
            raise ValueError(f"{path} has no .ann file: expected brat's, one for each document with predictions")
        found = [(one.stem, standoff.read_annotations(one)[0]) for one in files]
    else:
        found = [(one.id, one.entities) for one in standoff.read_pubtator(path).documents]
    places = numbered(gold.documents)
    texts = dict(zip(places, gold.texts, strict=True))
    keys = []
    for place, (name, entities) in zip(numbered([name for name, _ in found]), found, strict=True):
        if place not in texts:
            raise ValueError(f"{path} has document {name}, which {gold.path} has not (or not as often)")
        whole = [standoff.joined(one, texts[place]) for one in entities]
        keys += [(place, one.pieces, rename.get(one.type, one.type)) for one in whole]
    return keys


def check_types(predicted: set[str], files: Iterable[TaggedFile], path: Path) -> None:
    """ValueError if no predicted type is one of the data set's: other names or bare tags would score 0."""
    known = sorted(set().union(*(file.entity_counts() for file in files)))
    if predicted and not predicted & set(known):
        raise ValueError(
            f"{path} has entities of type {', '.join(sorted(predicted))}, the data set of {', '.join(known)}: give "
            "them the same names"
        )


def span_keys(file: TaggedFile) -> list[Key]:
    """The gold entities of a split of texts, all of them, as `read_spans` gives the predicted ones."""
    places = list(numbered(file.documents))
    keys = [
        (places[one.document], ((one.offsets[start][0], one.offsets[end - 1][1]),), kind)
        for one in file.sentences
        for start, end, kind in iob_spans(one.tags)
    ]
    return keys + [(places[document], entity.pieces, entity.type) for document, entity in file.missed]


def numbered(names: list[str]) -> dict[tuple[str, int], None]:
    """(name, how many there were before) of each, in order."""
    seen: Counter[str] = Counter()
    places = {}
    for name in names:
        places[name, seen[name]] = None
        seen[name] += 1
    return places
