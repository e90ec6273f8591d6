"""PMIDs and texts of benchmark files as they are distributed, for decontamination; there is no command here.

Steps: `find_pmids(paths)` and `find_texts(paths)` read files and folders (with what is below them). PMIDs are found in

    PubTator         12345678|t|Title          PubMed-RCT      ###12345678
    BioASQ           pubmed/12345678           BioC, JSON      <id>12345678</id>   "pmid": 12345678
    PubMedQA         "12345678": {             tables          12345678<TAB>   12345678.T1.T2<TAB>   12345678_s0<TAB>
    SciBERT's NER    -DOCSTART- (12345678)     JSON            "id": "12345678"   "id": "12345678.T1"
    addresses        pubmed.ncbi.nlm.nih.gov/12345678/
    brat, HoC, ...   the name of a file, 12345678.txt

Texts are lines (PubTator's without their head), fields of tables, strings in JSON, XML's text, and the sentences of
files with one token a line. Too much found is harmless (a document more is left out of a corpus of millions), so
nothing is asked of the format.
"""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lxml import etree

PMID = r"([1-9]\d{4,7})"
PMIDS = re.compile(
    rf"^{PMID}(?:[._][\w.]+)?(?=\||\t)|^###{PMID}\s*$|^-DOCSTART- \(([1-9]\d{{0,7}})\)"
    rf"|pubmed(?:\.ncbi\.nlm\.nih\.gov)?/{PMID}\b|<id>{PMID}</id>"
    rf"|\"pmid\"\s*:\s*\"?{PMID}\b|\"id\"\s*:\s*\"{PMID}[\"._]|\"{PMID}\"\s*:",
    re.MULTILINE | re.IGNORECASE,
)
FILE_NAME = re.compile(rf"{PMID}(?:[._-].*)?")
PUBTATOR = re.compile(r"\d+\|[ta]\|")


def list_files(paths: Iterable[str]) -> list[Path]:
    """The files among and below `paths`, sorted; hidden ones are not taken."""
    found: set[Path] = set()
    for path in map(Path, paths):
        if not path.exists():
            raise ValueError(f"--benchmark {path} does not exist; give the files of a benchmark or their folder")
        inside = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
        found.update(p for p in inside if not p.name.startswith("."))
    return sorted(found)


def find_pmids(paths: Iterable[str]) -> frozenset[str]:
    """All PMIDs in the files."""
    found: set[str] = set()
    for path in list_files(paths):
        if match := FILE_NAME.fullmatch(path.name):
            found.add(match[1])
        for groups in PMIDS.findall(_read(path)):
            found.update(group for group in groups if group)
    return frozenset(found)


def find_texts(paths: Iterable[str]) -> Iterator[str]:
    """All texts in the files, of whatever length."""
    for path in list_files(paths):
        text = _read(path)
        if path.suffix == ".json":
            yield from _strings(_parse_json(path, text))
        elif path.suffix == ".xml":
            yield from _xml_texts(path, text)
        else:
            yield from _lines(text)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"--benchmark: {path} is no UTF-8 text; unpack it, or leave it out") from None


def _parse_json(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"--benchmark: {path} is not JSON ({error}); leave it out or fetch it again") from None


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)


def _xml_texts(path: Path, text: str) -> Iterator[str]:
    parser = etree.XMLParser(load_dtd=False, no_network=True, resolve_entities=False, huge_tree=False)
    try:
        root = etree.fromstring(text.encode("utf-8"), parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise ValueError(f"--benchmark: {path} is not well-formed XML ({error}); fetch it again") from None
    for element in root.iter():
        if isinstance(element.tag, str):
            yield from (part for part in (element.text, *element.attrib.values()) if part)


def _lines(text: str) -> Iterator[str]:
    """Lines, fields of lines, JSON lines, and the tokens of sentences joined."""
    tokens: list[str] = []
    for line in [*text.splitlines(), ""]:
        line = line.strip()
        if line.startswith("{") and line.endswith("}"):
            try:
                yield from _strings(json.loads(line))
                continue
            except ValueError:
                pass
        fields = PUBTATOR.sub("", line).split("\t")
        if line and " " not in fields[0] and len(fields) <= 4:
            tokens.append(fields[0])
        elif tokens:
            yield " ".join(tokens)
            tokens = []
        yield from fields
