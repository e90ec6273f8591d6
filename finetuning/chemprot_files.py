"""ChemProt from BioCreative's own files: abstracts, entities and relations -> candidate pairs. Nothing to run here.

Used by finetuning.chemprot_reading. The folder is ChemProt_Corpus as it comes out of its archives: for each split
`chemprot_<training|development|test>_abstracts.tsv`, `_entities.tsv` and `_relations.tsv` (or
`_gold_standard.tsv`), with `_gs` at the end of the test files' names, in subfolders or not.

1. Read the three files of a split. Offsets count from the title's first character; one tab stands between title and
   abstract, and counts as one.
2. Cut each abstract into sentences (finetuning.chemprot_sentences).
3. Every chemical with every gene of the same sentence is a candidate pair. Its class is that of the relations file
   if it is one of the five that are evaluated (CPR:3, 4, 5, 6 and 9), otherwise `false`.

Two protocols make examples of these pairs:

- "blurb": one class a pair, the last in the file if there are several; two entities are one placeholder where they
  share a character. BLURB's examples, exactly (tests/finetuning/test_chemprot.py);
- "blue": a pair with several evaluated classes is an example for each; entities that touch are one placeholder, too.
  BLUE cut its sentences with a spaCy model of 2018, after writing Greek letters out, which shifts its offsets: this
  cannot be had again. With the sentences of here 95 % of its dev pairs are the same, so that the sizes differ and
  the result is not BLUE's (its own files are).

A gold relation across sentences is no candidate. The official scores count it as missed; how many there are is in
`counts`.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from finetuning.chemprot_sentences import sentences
from finetuning.relation_files import Relation, RelationFile, Span, read_lines
from finetuning.relation_inputs import as_one, together

NAMES = {"train": "training", "dev": "development", "test": "test"}
EVALUATED = ("CPR:3", "CPR:4", "CPR:5", "CPR:6", "CPR:9")
NEGATIVE = "false"
PROTOCOLS = ("blurb", "blue")
KINDS = {"CHEMICAL": "CHEMICAL", "GENE": "GENE", "GENE-Y": "GENE", "GENE-N": "GENE"}

Pair = tuple[str, str]  # ids of a chemical and a gene in an abstract


@dataclass(frozen=True)
class Entity:
    """One annotated mention."""

    name: str  # T1, T2 ... within the abstract
    kind: str  # "CHEMICAL" or "GENE"
    span: Span


@dataclass
class Corpus:
    """One split of the original files, by PMID."""

    path: Path  # of the abstracts
    sha256: str  # of the three files' checksums
    texts: dict[str, str]
    entities: dict[str, list[Entity]]
    relations: dict[str, dict[Pair, list[str]]]  # all classes, those that are not evaluated too, in file order

    def gold(self) -> set[tuple[str, str, Pair]]:
        """(PMID, class, pair) of all evaluated relations, across sentences too: what BioCreative's scorer counts."""
        return {
            (pmid, label, pair)
            for pmid, pairs in self.relations.items()
            for pair, labels in pairs.items()
            for label in labels
            if label in EVALUATED
        }


def find_file(folder: Path, split: str, kinds: tuple[str, ...]) -> Path | None:
    """The one file of `folder` or below it with these contents, None if there is none."""
    names = {f"chemprot_{NAMES[split]}_{kind}{end}.tsv" for kind in kinds for end in ("", "_gs")}
    found = sorted(path for path in folder.rglob("chemprot_*.tsv") if path.name in names)
    if len(found) > 1:
        raise ValueError(f"{folder} has {found[0]} and {found[1]}: keep only one of them")
    return found[0] if found else None


def is_original(folder: Path) -> bool:
    """Whether `folder` holds BioCreative's own files."""
    return any(find_file(folder, split, ("abstracts",)) for split in NAMES)


def cells_of(path: Path, columns: tuple[int, ...], content: str) -> tuple[list[tuple[int, list[str]]], str]:
    """(line number, cells) of each line, and the file's SHA-256; ValueError names a line of other columns."""
    lines, checksum = read_lines(path)
    rows = []
    for number, line in enumerate(lines, start=1):
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) not in columns:
            raise ValueError(f"{path} line {number} has {len(cells)} columns ({line[:60]!r}): expected {content}")
        rows.append((number, cells))
    if not rows:
        raise ValueError(f"{path} is empty: expected {content} on each line")
    return rows, checksum


def read_texts(path: Path) -> tuple[dict[str, str], str]:
    """PMID -> title, tab, abstract as the offsets count them; and the file's SHA-256."""
    lines, checksum = read_lines(path)
    texts = {}
    for number, line in enumerate(lines, start=1):
        pmid, _, text = line.partition("\t")
        if not pmid.strip().isdigit() or text.count("\t") != 1:
            raise ValueError(f"{path} line {number} ({line[:60]!r}): expected a PMID, a title and an abstract, by tabs")
        if pmid in texts:
            raise ValueError(f"{path} line {number}: PMID {pmid} stands there a second time")
        texts[pmid] = text
    if not texts:
        raise ValueError(f"{path} is empty: expected a PMID, a title and an abstract on each line")
    return texts, checksum


def read_entities(path: Path, texts: dict[str, str]) -> tuple[dict[str, list[Entity]], str]:
    """The entities of each PMID in file order; ValueError names a line whose offsets do not hold its mention."""
    rows, checksum = cells_of(path, (6,), "PMID, T<n>, type, start, end, mention")
    entities = defaultdict(list)
    for number, (pmid, name, kind, start, end, mention) in rows:
        if pmid not in texts:
            raise ValueError(f"{path} line {number}: PMID {pmid} is in no line of the abstracts file")
        if kind not in KINDS:
            raise ValueError(f"{path} line {number} has the type {kind!r}: expected one of {', '.join(KINDS)}")
        if not (start.isdigit() and end.isdigit()) or texts[pmid][int(start) : int(end)].strip() != mention:
            raise ValueError(
                f"{path} line {number}: characters {start}-{end} of PMID {pmid} are not {mention[:40]!r}: correct "
                "the offsets (they count from the title's first character)"
            )
        entities[pmid].append(Entity(name, KINDS[kind], (int(start), int(end))))
    return dict(entities), checksum


def read_relations(
    path: Path, entities: dict[str, list[Entity]]
) -> tuple[dict[str, dict[Pair, list[str]]], str]:  # fmt: skip
    """The classes of each related pair of each PMID; ValueError names a line with an unknown entity."""
    content = "PMID, CPR:<n>, [Y or N, type,] Arg1:T<n>, Arg2:T<n>"
    rows, checksum = cells_of(path, (4, 6), content)
    known = {pmid: {entity.name for entity in part} for pmid, part in entities.items()}
    relations = defaultdict(lambda: defaultdict(list))
    for number, cells in rows:
        pmid, label, first, second = cells[0], cells[1], cells[-2], cells[-1]
        if not label.startswith("CPR:") or first[:5] != "Arg1:" or second[:5] != "Arg2:":
            raise ValueError(f"{path} line {number} ({' '.join(cells)[:60]!r}): expected {content}")
        pair = (first[5:], second[5:])
        for name in pair:
            if name not in known.get(pmid, ()):
                raise ValueError(
                    f"{path} line {number}: entity {name} of PMID {pmid} is in no line of the entities file: is that "
                    "file complete?"
                )
        relations[pmid][pair].append(label)
    return {pmid: dict(pairs) for pmid, pairs in relations.items()}, checksum


def read_corpus(folder: Path, split: str) -> Corpus:
    """One split of the original files; ValueError says what is missing or wrong."""
    paths = {kind: find_file(folder, split, (kind,)) for kind in ("abstracts", "entities")}
    paths["relations"] = find_file(folder, split, ("relations", "gold_standard"))
    absent = [kind for kind, path in paths.items() if path is None]
    if absent:
        raise ValueError(f"{folder} has no chemprot_{NAMES[split]}_{absent[0]}.tsv (or ..._gs.tsv), nor below it")
    texts, first = read_texts(paths["abstracts"])
    entities, second = read_entities(paths["entities"], texts)
    relations, third = read_relations(paths["relations"], entities)
    return Corpus(paths["abstracts"], f"{first} {second} {third}", texts, entities, relations)


def candidates(corpus: Corpus) -> list[tuple[str, Span, Entity, Entity]]:
    """(PMID, sentence, chemical, gene) of every candidate pair, in the order of the files."""
    found = []
    for pmid, text in corpus.texts.items():
        mentions = corpus.entities.get(pmid, [])
        for start, end in sentences(text) if mentions else ():
            inside = [entity for entity in mentions if start <= entity.span[0] and entity.span[1] <= end]
            chemicals = [entity for entity in inside if entity.kind == "CHEMICAL"]
            genes = [entity for entity in inside if entity.kind == "GENE"]
            found += [(pmid, (start, end), *pair) for pair in product(chemicals, genes)]
    return found


def labels_of(classes: list[str], protocol: str) -> list[str]:
    """The labels of the examples of a pair that the relations file gives these classes."""
    if protocol == "blurb":
        return [classes[-1] if classes and classes[-1] in EVALUATED else NEGATIVE]
    return list(dict.fromkeys(label for label in classes if label in EVALUATED)) or [NEGATIVE]


def build(folder: Path, split: str, protocol: str) -> RelationFile:
    """The examples of one split by "blurb" or "blue", as raw text with arguments (chemical, gene)."""
    assert protocol in PROTOCOLS, protocol
    corpus = read_corpus(folder, split)
    relations, hit = [], set()
    for pmid, (start, end), chemical, gene in candidates(corpus):
        pair = (chemical.name, gene.name)
        spans = [(entity.span[0] - start, entity.span[1] - start) for entity in (chemical, gene)]
        if together(*spans, touching=protocol == "blue"):
            spans = as_one(*spans)
        for label in labels_of(corpus.relations.get(pmid, {}).get(pair, []), protocol):
            index = f"{pmid}.{chemical.name}.{gene.name}"
            text = corpus.texts[pmid][start:end]
            relations.append(Relation(text, label, (spans[0], spans[1]), index, f"pmid:{pmid}"))
            hit.add((pmid, label, pair))
    counts = Counter({"gold relations": len(corpus.gold()), "not among the pairs": len(corpus.gold() - hit)})
    return RelationFile(corpus.path, corpus.sha256, relations, "raw", counts=dict(counts))
