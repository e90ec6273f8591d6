"""Read pairs of sentences with a label or a number. Nothing to run here.

Used by finetuning.mednli, .mnli, .biosses and .clinical_sts. What is read as it is:

- JSON lines of MedNLI and MultiNLI (`sentence1`, `sentence2`, `gold_label`, `pairID`), and GLUE's and BLUE's tsv with
  a header (`sentence1`, `sentence2`, `gold_label` or `label`, `pairID` or `index`); a pair whose `gold_label` is `-`
  (no majority of the annotators) is left out, as in GLUE, and counted;
- tsv of similarity: BLUE's with a header (`sentence1`, `sentence2`, `score`), n2c2's of two sentences and a score,
  SciFive's `s1: ... s2: ...<TAB>score`;
- BIOSSES' two Word files.
"""

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from lxml import etree

from finetuning.ranks import say
from finetuning.text_files import TextFile, checksum, not_empty, numbered_lines, read_table
from finetuning.text_inputs import Example

NLI_LABELS = ("entailment", "neutral", "contradiction")
NO_MAJORITY = "-"
WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
MOST_XML = 50_000_000  # bytes of a Word file's text, unpacked; BIOSSES has 456 KB


def pair(texts: tuple[Any, Any], label: Any, index: str, place: str) -> Example:
    """An Example; ValueError naming the `place` if a text is not there."""
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError(f"{place}: a pair needs two sentences, got {str(texts)[:80]}: correct it")
    return Example(texts[0].strip(), label, texts[1].strip(), index=index)


def with_indexes(examples: list[Example]) -> list[Example]:
    """The examples as they are, or numbered from 1 where two have the same index."""
    if len({example.index for example in examples}) == len(examples):
        return examples
    return [replace(example, index=str(number)) for number, example in enumerate(examples, start=1)]


def nli_records(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Lines of JSON or of a table as (line number, fields)."""
    if path.suffix == ".tsv":
        return read_table(path, ("sentence1", "sentence2"))
    records = []
    for number, line in numbered_lines(path):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path} line {number} is not JSON ({error}): correct it") from None
        if not isinstance(record, dict):
            raise ValueError(f"{path} line {number} is not a JSON object: correct it")
        records.append((number, record))
    return records


def read_nli(path: Path) -> TextFile:
    """Pairs with one of NLI_LABELS; ValueError naming the line that has another or lacks a sentence."""
    examples, without = [], 0
    for number, record in nli_records(path):
        label = record.get("gold_label", record.get("label"))
        if label == NO_MAJORITY:
            without += 1
            continue
        if label not in NLI_LABELS:
            raise ValueError(f"{path} line {number}: gold_label is {label!r}, expected one of {', '.join(NLI_LABELS)}")
        index = str(record.get("index", record.get("pairID", number)))
        texts = (record.get("sentence1"), record.get("sentence2"))
        examples.append(pair(texts, label, index, f"{path} line {number}"))
    examples = not_empty(path, with_indexes(examples), "pairs of sentences with a gold_label")
    if without:
        say(f"{path.name}: {without} pairs without a majority of the annotators (gold_label -) are left out")
    notes = {"pairs without a gold label, left out": without} if without else {}
    return TextFile(path, checksum([path]), examples, {"pairs": len(examples)}, notes)


def score_of(text: str, highest: float, place: str) -> float:
    """A number from 0 to `highest`; ValueError naming the place if it is none."""
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{place}: the score {text!r} is not a number: correct it") from None
    if not 0 <= number <= highest:
        raise ValueError(f"{place}: the score {text} is outside 0 to {highest:g}: correct it")
    return number


def similarity_rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """(line number, sentence1, sentence2, score, perhaps index) of one of the forms of tsv."""
    lines = [line for _, line in numbered_lines(path) if line.strip()]
    if not lines:
        return []
    if lines[0].startswith("s1:"):
        rows = []
        for number, row in read_table(path, ("pair", "score"), header=False):
            first, found, second = row["pair"].removeprefix("s1:").partition(" s2: ")
            if not found:
                raise ValueError(f"{path} line {number} is not `s1: ... s2: ...<TAB>score`: correct it")
            rows.append((number, {"sentence1": first, "sentence2": second, "score": row["score"]}))
        return rows
    if "sentence1" in lines[0].split("\t"):
        return read_table(path, ("sentence1", "sentence2", "score"))
    return read_table(path, ("sentence1", "sentence2", "score"), header=False)


def read_similarity(path: Path, highest: float) -> TextFile:
    """Pairs with a score from 0 to `highest`; ValueError naming the line that is wrong."""
    examples = []
    for number, row in similarity_rows(path):
        place = f"{path} line {number}"
        label = score_of(row["score"], highest, place)
        examples.append(pair((row["sentence1"], row["sentence2"]), label, row.get("index", str(number)), place))
    examples = not_empty(path, with_indexes(examples), "lines of two sentences and a score")
    return TextFile(path, checksum([path]), examples, {"pairs": len(examples)})


def word_table(path: Path) -> list[list[str]]:
    """Cells of the first table of a Word file (.docx); ValueError if it has none.

    Entities are not resolved and nothing is fetched; paragraphs of a cell are joined by a blank.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo("word/document.xml").file_size > MOST_XML:
                raise ValueError(f"{path} is too large for a table of sentences: is it the right file?")
            data = archive.read("word/document.xml")
        root = etree.fromstring(data, etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False))
    except (zipfile.BadZipFile, KeyError, etree.XMLSyntaxError) as error:
        raise ValueError(f"{path} is not a Word file (.docx): {error}") from None
    table = next(root.iter(f"{WORD}tbl"), None)
    if table is None:
        raise ValueError(f"{path} has no table in it: is it the right file?")

    def text(cell: etree._Element) -> str:
        paragraphs = ("".join(run.text or "" for run in part.iter(f"{WORD}t")) for part in cell.iter(f"{WORD}p"))
        return " ".join(" ".join(paragraphs).split())

    return [[text(cell) for cell in row.findall(f"{WORD}tc")] for row in table.iter(f"{WORD}tr")]


def read_word_pairs(pairs: Path, scores: Path, highest: float) -> dict[int, Example]:
    """BIOSSES' pairs by their number; the score is the mean of the annotators'."""
    means = {}
    for row in word_table(scores)[1:]:
        place = f"{scores} row {row[0] if row else '?'}"
        if len(row) < 2 or not row[0].isdigit():
            raise ValueError(f"{place}: expected a number and the annotators' scores")
        numbers = [score_of(cell, highest, place) for cell in row[1:]]
        means[int(row[0])] = round(sum(numbers) / len(numbers), 4)
    examples = {}
    for row in word_table(pairs)[1:]:
        place = f"{pairs} row {row[0] if row else '?'}"
        if len(row) != 3 or not row[0].isdigit() or int(row[0]) not in means:
            raise ValueError(f"{place}: expected a number with a score in {scores.name}, and two sentences")
        examples[int(row[0])] = pair((row[1], row[2]), means[int(row[0])], row[0], place)
    if set(means) != set(examples):
        raise ValueError(
            f"{scores} has scores of pairs that {pairs.name} has not: {sorted(set(means) - set(examples))}"
        )
    return examples
