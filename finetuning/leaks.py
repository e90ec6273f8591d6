"""The leak guard: texts that train, dev and test share, and test texts that the encoder saw in pretraining.

Part of every run, with `--corpus PATH` for the second; nothing to run here.

1. `duplicates`: texts equal but for case and white space, within each split and between any two.
2. `seen_in_corpus` reads the corpus once, document by document, and keeps only the test texts in memory. PATH is a
   folder that a stage of the corpus tools wrote (documents-*.jsonl), a .jsonl file of such records, or a text file.
   - Test documents whose PMID is known (ids `pmid:123`) are looked up by it, in a corpus of records with PMIDs; in
     records without one, such as full texts among the abstracts, by the beginnings of all their texts, as below.
   - Other texts are looked up by their first KEY_LENGTH letters and digits: what the community's files change most,
     blanks, punctuation and case, plays no part. A text of fewer than SHORTEST is not judged, and counted. The rest of
     a text is not compared, so one that the corpus quotes from its start counts as seen; one whose beginning was
     edited is missed.
3. Finding a few thousand keys in every document would be slow. Each key is filed under its longest pair of words, and
   a document is only searched for the keys whose pair it has: hardly any but those that are there. Measured: 8,000
   abstracts a second on one core, so that all of PubMed takes little more than an hour.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

from finetuning import ranks
from finetuning.result_files import read_json
from finetuning.results import plain, write_json

KEY_LENGTH = 100
SHORTEST = 40  # letters and digits; below, a sentence such as "The patient was discharged home." is everybody's
BLOCK_CHARACTERS = 1_000_000  # of a text file, searched at once
WORD = re.compile(r"[^\W_]+")

METHOD = 3  # what an older way of looking found is looked up anew: it missed documents

Texts = dict[str, list[tuple[str, str]]]  # of each split (document id or "", text)


def duplicates(texts: Texts) -> dict[str, int]:
    """Of each split the texts that repeat an earlier one (`train`), of each pair those of the later split that the
    earlier one has too (`train-test`).
    """
    normal = {split: [" ".join(text.casefold().split()) for _, text in rows] for split, rows in texts.items()}
    distinct = {split: set(rows) for split, rows in normal.items()}
    found = {split: len(rows) - len(distinct[split]) for split, rows in normal.items()}
    for one, other in combinations(normal, 2):
        found[f"{one}-{other}"] = sum(text in distinct[one] for text in normal[other])
    return found


def duplicates_line(found: dict[str, int], texts: Texts) -> str:
    """`duplicates` in one line for people."""
    within = [f"{found[split]:,} within {split} ({len(rows):,} texts)" for split, rows in texts.items()]
    between = [f"{found[f'{one}-{other}']:,} of {other} are in {one}" for one, other in combinations(texts, 2)]
    return "exact duplicates: " + ", ".join([*between, *within])


def corpus_files(path: Path) -> list[Path]:
    """The files of the corpus; ValueError if there is none."""
    files = sorted(path.glob("documents-*.jsonl")) if path.is_dir() else [path]
    if not files or not path.exists():
        raise ValueError(
            f"--corpus {path}: give a folder with documents-*.jsonl (of the corpus tools), a .jsonl or a text file"
        )
    return files


def read_corpus(path: Path) -> Iterator[tuple[str, str]]:
    """(PMID or "", text) of every document of the corpus; ValueError if a record is broken."""
    for file in corpus_files(path):
        yield from read_records(file) if file.suffix == ".jsonl" else read_blocks(file)


def read_records(path: Path) -> Iterator[tuple[str, str]]:
    """The documents of one file of JSON lines; the PMID is in the metadata, or the id if that is a number."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                record = json.loads(line)
                text, metadata = record["text"], record.get("metadata") or {}
                pmid = str(metadata.get("pmid") or record.get("pmid") or record.get("id") or "")
            except (ValueError, KeyError, TypeError, AttributeError):
                raise ValueError(f"{path} line {number} is not a JSON object with a text: correct --corpus") from None
            yield pmid if pmid.isdecimal() else "", text


def read_blocks(path: Path) -> Iterator[tuple[str, str]]:
    """A text file in blocks; each begins with the end of the one before, so that nothing is cut in two."""
    with path.open(encoding="utf-8", errors="replace") as file:
        end = ""
        while block := file.read(BLOCK_CHARACTERS):
            yield "", end + block
            end = block[-10 * KEY_LENGTH :]


def key_of(text: str) -> tuple[str, tuple[str, str]] | None:
    """The first letters and digits of a text, and the longest pair of neighbouring words among them; None if they
    are too few.
    """
    words, length = [], 0
    for word in WORD.findall(text.casefold()):
        words.append(word)
        length += len(word)
        if length >= KEY_LENGTH:
            break
    whole = words[:-1] if length > KEY_LENGTH else words  # the last word is cut
    pairs = list(pairwise(whole))
    if length < SHORTEST or not pairs:
        return None
    return "".join(words)[:KEY_LENGTH], max(pairs, key=lambda pair: len(pair[0]) + len(pair[1]))


def seen_in_corpus(texts: list[tuple[str, str]], corpus: Path) -> dict[str, Any]:
    """How many of these documents the corpus has: by PMID, where they and its records have them, else by text."""
    by_pmid: dict[str, list[int]] = defaultdict(list)
    by_pair: dict[tuple[str, str], set[str]] = defaultdict(set)
    keys = [key_of(text) for _, text in texts]
    for i, (name, _) in enumerate(texts):
        if name.startswith("pmid:"):
            by_pmid[name.removeprefix("pmid:")].append(i)
        if found := keys[i]:
            by_pair[found[1]].add(found[0])
    documents, pmids, seen = 0, 0, set()
    seen_keys: dict[bool, set[str]] = {True: set(), False: set()}  # by whether the record has a PMID
    for pmid, text in read_corpus(corpus):
        documents += 1
        pmids += bool(pmid)
        if pmid in by_pmid:
            seen.add(pmid)
        if pmid and sum(map(len, by_pmid.values())) == len(texts):
            continue  # all can be told by PMID
        words = WORD.findall(text.casefold())
        if common := by_pair.keys() & set(pairwise(words)):
            letters = "".join(words)
            seen_keys[bool(pmid)] |= {key for pair in common for key in by_pair[pair] if key in letters}
    known = {i for rows in by_pmid.values() for i in rows} if pmids else set()
    others = [key for i, key in enumerate(keys) if i not in known]
    # A record with another PMID is another document, even if it begins with the same sentence.
    rows_seen = {i for i, key in enumerate(keys) if key and key[0] in seen_keys[False]}
    by_text = {pmid for pmid, rows in by_pmid.items() if rows_seen & set(rows)} - seen
    any_seen = seen_keys[True] | seen_keys[False]
    return {
        "corpus": str(corpus),
        "corpus_documents": documents,
        "test_documents": len(by_pmid) if pmids else 0,
        "seen_documents": len(seen | by_text) if pmids else 0,
        "seen_documents_by_text": len(by_text) if pmids else 0,
        "test_texts": len(others),
        "seen_texts": sum(key is not None and key[0] in any_seen for key in others),
        "too_short_texts": sum(key is None for key in others),
    }


def seen_line(found: dict[str, Any]) -> str:
    """`seen_in_corpus` in one line for people."""
    parts = []
    if found["test_documents"]:
        by_text = found["seen_documents_by_text"]
        among = f" ({by_text:,} of them by text, in records without PMID)" if by_text else ""
        parts.append(f"{found['seen_documents']:,} of {found['test_documents']:,} test documents, by PMID{among}")
    if found["test_texts"]:
        parts.append(
            f"{found['seen_texts']:,} of {found['test_texts']:,} test texts, by their first {KEY_LENGTH} letters and "
            f"digits ({found['too_short_texts']:,} too short to tell)"
        )
    return f"in the pretraining corpus {found['corpus']}: " + ", ".join(parts or ["no test text to look for"])


def corpus_bytes(corpus: Path | None) -> int | None:
    """The size of the corpus: another one under the same path is looked through again."""
    if corpus is None:
        return None
    return sum(file.stat().st_size for file in corpus_files(corpus))


def guard(texts: Texts, corpus: Path | None, split: dict[str, Any], path: Path) -> dict[str, Any]:
    """Both checks, each said in one line; kept in `path`, since a large corpus takes long to look through.

    `split` are the records of the files that the texts are from, by which an older `path` is known to be of the
    same. Returns {"duplicates": ..., "corpus": None or ...}.
    """
    asked = {"method": METHOD, "split": plain(split), "corpus_path": str(corpus), "corpus_bytes": corpus_bytes(corpus)}
    found = read_json(path) if path.exists() else {}
    if any(found.get(name) != value for name, value in asked.items()):
        # A benchmark of folds has no test split: all of it is test at some time.
        tested = texts.get("test") or [row for rows in texts.values() for row in rows]
        seen = seen_in_corpus(tested, corpus) if corpus else None
        found = {**asked, "duplicates": duplicates(texts), "corpus": seen}
        write_json(path, found)
    ranks.say(duplicates_line(found["duplicates"], texts))
    if found["corpus"]:
        ranks.say(seen_line(found["corpus"]))
    return {name: found[name] for name in ("duplicates", "corpus")}
