"""Read records with fields into documents: JSON lines, Parquet, and MEDLINE text (PubMed's nbib).

    python -m pretraining.corpus.records --input PATH... --output DIR [--text-field abstract] [--id-field doi]

Steps: each file, by its ending (.jsonl, .parquet, .medline, .nbib; all but Parquet also packed by gzip or xz), is
read record by record, one task a file or some small ones; each record becomes one document; the documents are written
to shards of about 32 million characters, and the manifest last. The result does not depend on the number of workers.
Nothing is fetched: private records need no network.

| what the record holds | kept as | why |
| --- | --- | --- |
| JSON lines and Parquet: --text-field (default text) | text, a paragraph a line | |
| --id-field (default id) | identifier | without one the file's name and the number of the record |
| `metadata`, if it holds fields, else all other fields | metadata | filters select by `date`, `mesh` and more |
| MEDLINE: TI, AB | text: title, then abstract | brackets round a translated title are taken off |
| PMID, DP, LA, JT, IS, PT, RIN, MH, OT | metadata, as of PubMed's XML | |
| MEDLINE: TT, OAB, all other fields | nothing | translations; not prose |
| records without text (MEDLINE: without abstract) | nothing, counted | a title alone is no sample |

A broken record ends the run. With `--skip-broken` it is left out, counted, and listed in the manifest; MEDLINE text,
and a file that is cut or not UTF-8, ends at the break then.
"""

import argparse
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

from pretraining.corpus.document_steps import ReadFiles
from pretraining.corpus.documents import Document, find_files, normalise_text, read_manifest
from pretraining.corpus.engine import LOCAL, Engine, add_engine_flags, add_output_flag, read_engine
from pretraining.corpus.pubmed_records import RETRACTED, clean_title, month_and_day
from pretraining.corpus.stages import describe_file, run_stage, running_stage
from pretraining.corpus.text import SHARD_CHARACTERS, make_groups, read_lines

JSON_LINES = (".jsonl", ".jsonl.gz", ".jsonl.xz")
PARQUET = (".parquet",)
MEDLINE = (".medline", ".nbib", ".medline.gz", ".nbib.gz", ".medline.xz", ".nbib.xz")
SUFFIXES = (*JSON_LINES, *PARQUET, *MEDLINE)
BROKEN_LISTED = 20  # broken records that a file's entry in the manifest names; all are counted
# MEDLINE's tags of lists and what they are called in the documents of PubMed's XML
LISTS = {"LA": "language", "PT": "publication_types", "OT": "keywords"}


def read_records(
    path: Path, text_field: str, id_field: str, counts: Counter, skip: Callable[[ValueError], None] | None = None
) -> Iterator[Document]:
    """Yield the documents of one file; add to `counts` what was read and dropped.

    Raises ValueError if broken; what is broken in one row of JSON lines or Parquet alone goes to `skip`, if given.
    """
    if path.name.endswith(MEDLINE):
        rows: Iterator[tuple[int, Any]] = enumerate(_read_medline(path), 1)
    else:
        rows = _read_parquet(path) if path.name.endswith(PARQUET) else _read_json_lines(path)
    for number, row in rows:
        counts["records"] += 1
        try:
            if path.name.endswith(MEDLINE):
                document, reason = _medline_document(row)
            else:
                document, reason = _row_document(row, number, path, text_field, id_field)
        except ValueError as error:
            if skip is None:
                raise
            skip(error)
            continue
        if document is None:
            counts[f"dropped_{reason}"] += 1
        else:
            document.metadata = {"source": path.name, **document.metadata}
            yield document


def _read_json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield number and value of each line, None where it is not JSON."""
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        yield number, row


def _read_parquet(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield number and fields of each row, None where they cannot be converted."""
    try:
        from pyarrow import ArrowInvalid, parquet
    except ImportError:
        raise ValueError(f"{path} is Parquet, which needs pyarrow: pip install pyarrow") from None
    try:
        number = 0
        for batch in parquet.ParquetFile(path).iter_batches(batch_size=1000):
            for row in _batch_rows(batch):
                number += 1
                yield number, row
    except (ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} is no Parquet file, or is damaged ({str(error).splitlines()[0]})") from None


def _batch_rows(batch: Any) -> Iterator[dict[str, Any] | None]:
    """The rows of a batch of Parquet; strings are not known to be UTF-8 before they are converted."""
    try:
        rows = batch.to_pylist()
    except (ValueError, OverflowError):
        rows = None
    if rows is not None:
        yield from rows
    else:
        for number in range(batch.num_rows):
            try:
                row = batch.slice(number, 1).to_pylist()[0]
            except (ValueError, OverflowError):
                row = None
            yield row


def _row_document(row: Any, number: int, path: Path, text_field: str, id_field: str) -> tuple[Document | None, str]:
    if not isinstance(row, dict):
        kind, what = ("row", "cannot be read") if path.name.endswith(PARQUET) else ("line", "is no JSON object")
        raise ValueError(f"{path}, {kind} {number}, {what}; leave the file out or mend the {kind}")
    if text_field not in row:
        fields = ", ".join(sorted(row)) or "none"
        raise ValueError(f"{path}, record {number}, has no field {text_field!r} ({fields}); name it by --text-field")
    text = row[text_field]
    if text is not None and not isinstance(text, str):
        raise ValueError(f"{path}, record {number}: {text_field!r} is no text; name another field by --text-field")
    lines = [line for part in (text or "").splitlines() if (line := normalise_text(part))]
    if not lines:
        return None, "no_text"
    known = row.get("metadata")
    if not isinstance(known, dict):
        known = {name: value for name, value in row.items() if name not in (text_field, id_field)}
    known = {name: value for name, value in known.items() if value not in (None, "", []) and _is_plain(value)}
    identifier = row.get(id_field)
    identifier = f"{path.name.partition('.')[0]}:{number}" if identifier in (None, "") else str(identifier)
    document = Document(identifier, "\n".join(lines), known)
    try:
        orjson.dumps([document.id, document.text, document.metadata])
    except TypeError as error:  # half a surrogate pair, an integer of more than 64 bits
        raise ValueError(f"{path}, record {number}, cannot be kept ({error}); mend the record") from None
    return document, ""


def _is_plain(value: Any) -> bool:
    """Whether a value can stand in JSON as it is: no bytes, dates or nested records."""
    return isinstance(value, str | int | float | bool) or (
        isinstance(value, list) and all(isinstance(one, str | int | float | bool) for one in value)
    )


def _read_medline(path: Path) -> Iterator[dict[str, list[str]]]:
    """Yield the fields of each record: lines `TAG - value`, continued by lines of six blanks; a blank line ends it."""
    record: dict[str, list[str]] = defaultdict(list)
    tag = ""
    for number, line in enumerate(read_lines(path), 1):
        line = line.rstrip("\r\n")
        if not line.strip():
            if record:
                yield record
            record, tag = defaultdict(list), ""
        elif line.startswith("      ") and tag:
            record[tag][-1] += " " + line.strip()
        elif line[4:6] == "- " or line[4:] == "-":
            tag = line[:4].strip()
            record[tag].append(line[6:].strip())
        else:
            raise ValueError(f"{path}, line {number}, is no line of a MEDLINE record (`TAG - value`)")
    if record:
        yield record


def _medline_document(record: dict[str, list[str]]) -> tuple[Document | None, str]:
    pmid = "".join(record["PMID"][:1])
    if not (pmid.isascii() and pmid.isdigit()):
        return None, "no_pmid"
    title = clean_title(normalise_text(" ".join(record["TI"])))
    abstract = normalise_text(" ".join(record["AB"]))
    if not abstract:
        return None, "no_abstract"
    found: dict[str, Any] = {"pmid": pmid, "date": _medline_date(" ".join(record["DP"]))}
    found |= {name: [normalise_text(value) for value in record[tag]] for tag, name in LISTS.items()}
    found["mesh"] = [value.replace("*", "").partition("/")[0] for value in record["MH"]]
    found["journal"] = normalise_text(" ".join(record["JT"]))
    found["issn"] = list(dict.fromkeys(value.partition(" ")[0] for value in record["IS"]))
    found["retracted"] = RETRACTED in record["PT"] or bool(record["RIN"])  # "Retraction in": where the notice is
    text = f"{title}\n{abstract}" if title else abstract
    return Document(pmid, text, {name: value for name, value in found.items() if value}), ""


def _medline_date(words: str) -> str | None:
    """`2002 Sep 3`, `2002 Sep-Oct`, `2002 Winter` -> YYYY-MM-DD, YYYY-MM or YYYY."""
    match = re.match(r"((?:1[5-9]|20)\d\d)\b ?([A-Z][a-z]{2})?(?: (\d{1,2})\b)?", words)
    return match[1] + month_and_day(match[2], match[3]) if match else None


class ReadRecords(ReadFiles):
    """Yield the documents of files of records."""

    def __init__(
        self, groups: list[list[Path]], folder: Path, text_field: str, id_field: str, skip_broken: bool
    ) -> None:
        super().__init__(groups, folder, skip_broken)
        self.text_field, self.id_field = text_field, id_field

    def read(self, path: Path, counts: Counter, source: dict) -> Iterator[Document]:
        """Yield the documents of one file."""

        def skip(error: ValueError) -> None:
            counts["broken_records"] += 1
            if len(listed := source.setdefault("broken", [])) < BROKEN_LISTED:
                listed.append(str(error))

        return read_records(path, self.text_field, self.id_field, counts, skip if self.skip_broken else None)


def convert(
    inputs: list[Path],
    output: Path,
    *,
    engine: Engine = LOCAL,
    text_field: str = "text",
    id_field: str = "id",
    skip_broken: bool = False,
) -> dict:
    """Read files and folders of records into `output`; return the manifest."""
    files = find_files(inputs, SUFFIXES)
    unknown = [path for path in files if not path.name.endswith(SUFFIXES)]
    if unknown:
        raise ValueError(f"{unknown[0]}: the ending says the format; known are {', '.join(SUFFIXES)}")
    groups = make_groups(files)
    with running_stage(
        output,
        "records",
        engine=engine,
        tasks=[[describe_file(path) for path in group] for group in groups],
        options={"text_field": text_field, "id_field": id_field, "skip_broken": skip_broken},
        sentences=False,
    ) as run:
        run.read(ReadRecords(groups, run.work / "read", text_field, id_field, skip_broken), SHARD_CHARACTERS)
        run.publish(run.shards(len(groups)))
        if not run.stage.files:
            raise ValueError(f"no record of {files[0]} (of {len(files)} files) became a document")
    return read_manifest(output)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m pretraining.corpus.records", description="Read JSON lines, Parquet and MEDLINE text."
    )
    add = parser.add_argument
    add("--input", nargs="+", type=Path, required=True, metavar="PATH",
        help=f"files, or folders of them, by name: {', '.join(SUFFIXES)}")  # fmt: skip
    add_output_flag(parser)
    add("--text-field", default="text", metavar="NAME", help="field that holds the text (default: text)")
    add("--id-field", default="id", metavar="NAME", help="field that holds the identifier (default: id)")
    add("--skip-broken", action="store_true",
        help="leave broken records of JSON lines and Parquet out, and of a file broken otherwise keep the documents "
        "before the break; both are named in the manifest; without this flag such a file ends the run")  # fmt: skip
    add_engine_flags(parser)
    args = parser.parse_args()
    run_stage(
        lambda: convert(
            args.input,
            args.output,
            engine=read_engine(args),
            text_field=args.text_field,
            id_field=args.id_field,
            skip_broken=args.skip_broken,
        ),
        args.output,
    )


if __name__ == "__main__":
    # Under its own name, by which tasks in other processes find its steps.
    from pretraining.corpus import records

    records.main()
