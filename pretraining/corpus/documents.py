"""Documents, and the folders in which the corpus stages hand them on.

Used by every stage of `pretraining.corpus`; there is no command here. A stage writes one folder:

    documents-00000.jsonl    one {"id", "text", "metadata"} object a line (datatrove's Document), UTF-8
    documents-00001.jsonl
    manifest.json            written last: what made the folder, its files (sizes, hashes), what was dropped

Steps of a stage that writes: `with writing_stage(...) as stage`, then `write_shard` for each shard or `write_shards`
for a stream; what they return goes to `stage.files`. Stages of many tasks do so by `stages.running_stage`.
Steps of a stage that reads: `read_documents(folder)`, or `list_shards(folder)` and `read_shard(path)`.

A text has paragraphs on lines of their own, or one sentence a line if the manifest says `"sentences": true`.
"""

import hashlib
import json
import platform
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson

from pretraining.corpus.code_digest import digest_of_code
from pretraining.corpus.writing import open_whole, write_whole

MANIFEST = "manifest.json"
# Says which stage is at work in a folder without a manifest, so that a run that was killed can be repeated.
UNFINISHED = "unfinished.json"
OURS = re.compile(r"documents-\d{5,}\.jsonl|manifest\.json|unfinished\.json")
PARTIAL = re.compile(rf"\.({OURS.pattern})\.[0-9a-f]{{8}}\.partial")


@dataclass(slots=True)
class Document:
    """One document: its identifier, its text in lines, and whatever else is known of it."""

    id: str
    text: str
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass
class Stage:
    """A stage's output folder while it is being written; what is set here ends up in the manifest."""

    output: Path
    name: str
    files: list[dict] = field(default_factory=list)  # what write_shard returned, in the order of the shards
    sources: list[dict] = field(default_factory=list)  # what was read
    counts: Counter = field(default_factory=Counter)  # what was read, kept and dropped, with reasons


def normalise_text(text: str) -> str:
    """Return `text` in NFC, without control and format characters, Unicode white space runs as one blank."""
    # Nearly all text is as it shall be, and to see that takes a quarter of the time: a printable text has no white
    # space but blanks, and ASCII is in NFC.
    if not text.isprintable() or "  " in text or text[:1] == " " or text[-1:] == " ":
        text = " ".join(text.split())
        if not text.isprintable():  # rare
            text = " ".join("".join(c for c in text if unicodedata.category(c) not in ("Cc", "Cf")).split())
    return text if text.isascii() else unicodedata.normalize("NFC", text)


# ---- reading ----


def read_manifest(folder: Path | str) -> dict:
    """Return the manifest of a stage's folder, once its files are known to be there in full (by size)."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; give the --output folder of an earlier corpus stage")
    path = folder / MANIFEST
    if not path.is_file():
        raise ValueError(f"{folder} has no {MANIFEST}: the stage that writes it did not finish; run it again")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        files = [(entry["name"], entry["bytes"]) for entry in manifest["files"]]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is no manifest of documents; run its stage again") from None
    for name, size in files:
        file = folder / name
        found = file.stat().st_size if file.is_file() else None
        if found != size:
            state = "is missing" if found is None else f"has {found} bytes"
            raise ValueError(f"{file} {state}, {path} says {size} bytes; run the stage that writes it again")
    return manifest


def list_shards(folder: Path | str) -> list[Path]:
    """Return the shard files of a stage's folder in order, after the checks of `read_manifest`."""
    return [Path(folder) / entry["name"] for entry in read_manifest(folder)["files"]]


def read_shard(path: Path | str, sha256: str | None = None) -> Iterator[Document]:
    """Yield the documents of one shard file. Raises ValueError, at the end, if it has not the SHA-256 that is given."""
    digest = hashlib.sha256()
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            if sha256 is not None:
                digest.update(line)
            try:
                record = orjson.loads(line)
                document = Document(record["id"], record["text"], record["metadata"])
            except (ValueError, KeyError, TypeError):
                raise ValueError(f"{path}, line {number}, is no document; run its stage again") from None
            yield document
    if sha256 not in (None, digest.hexdigest()):
        raise changed_shard(path)


def changed_shard(path: Path | str) -> ValueError:
    """The error for a shard that is another file than its manifest says."""
    return ValueError(f"{path} was changed since its stage wrote it (SHA-256); run that stage again")


def read_documents(folder: Path | str) -> Iterator[Document]:
    """Yield all documents of a stage's folder in order."""
    for path in list_shards(folder):
        yield from read_shard(path)


# ---- writing ----


@contextmanager
def writing_stage(
    output: Path | str, name: str, *, options: dict, sentences: bool, packages: Iterable[str] = ()
) -> Iterator[Stage]:
    """Open `output` for the stage `name`; write the manifest at the end, or remove everything after an error.

    An earlier output of the same stage is replaced, its manifest first; anything else is refused.
    `options` are the flags that decide the result, `packages` the distributions whose versions it depends on.
    """
    output = Path(output)
    _clear(output, name)
    output.mkdir(parents=True, exist_ok=True)
    _write_json(output / UNFINISHED, {"stage": name})
    stage, code = Stage(output, name), digest_of_code()
    try:
        yield stage
        _write_json(
            output / MANIFEST,
            {
                "stage": name,
                "sentences": sentences,
                "documents": sum(entry["documents"] for entry in stage.files),
                "files": stage.files,
                "sources": stage.sources,
                "options": options,
                "counts": dict(sorted(stage.counts.items())),
                "versions": {"python": platform.python_version(), **{p: version(p) for p in packages}},
                "code": code,
            },
        )
    except BaseException:
        _remove_files(output)
        raise
    (output / UNFINISHED).unlink()


def shard_name(number: int) -> str:
    """The name of a shard."""
    return f"documents-{number:05d}.jsonl"


def write_shard(output: Path, number: int, documents: Iterable[Document]) -> dict:
    """Write one shard, under its own name only when whole; return its entry for the manifest."""
    return _write_lines(output / shard_name(number), map(_to_line, documents))


def keep_lines(shard: Path, output: Path, number: int, keep: Iterable[bool]) -> dict:
    """Write those documents of a shard that `keep` says, in order, as another shard; return its entry."""
    with open(shard, "rb") as lines:
        kept = (line for line, stays in zip(lines, keep, strict=True) if stays)
        return _write_lines(output / shard_name(number), kept)


def _to_line(document: Document) -> bytes:
    record = {"id": document.id, "text": document.text, "metadata": document.metadata}
    return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)


def _write_lines(path: Path, lines: Iterable[bytes]) -> dict:
    digest, count, size = hashlib.sha256(), 0, 0
    with open_whole(path) as file:
        for line in lines:
            file.write(line)
            digest.update(line)
            count, size = count + 1, size + len(line)
    return {"name": path.name, "documents": count, "bytes": size, "sha256": digest.hexdigest()}


def write_shards(output: Path, documents: Iterable[Document], shard_characters: int) -> list[dict]:
    """Write documents as shards of about `shard_characters` characters of text each; return their entries."""
    remaining = iter(documents)
    entries: list[dict] = []

    def one_shard(first: Document) -> Iterator[Document]:
        yield first
        characters = len(first.text)
        while characters < shard_characters and (following := next(remaining, None)) is not None:
            yield following
            characters += len(following.text)

    while (first := next(remaining, None)) is not None:
        entries.append(write_shard(output, len(entries), one_shard(first)))
    return entries


def summary(manifest: dict) -> str:
    """Return one line for people: what a stage kept, and what it did not keep and why."""
    counts = ", ".join(f"{name.replace('_', ' ')} {number:,}" for name, number in manifest["counts"].items() if number)
    files = len(manifest["files"])
    return f"{manifest['stage']}: {manifest['documents']:,} documents in {files:,} file(s); {counts}"


def source_entry(path: Path) -> dict:
    """Return a file's entry for a manifest's "sources": its name, size and hash."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": digest}


def find_files(inputs: Iterable[Path | str], suffixes: tuple[str, ...]) -> list[Path]:
    """Return the files to read: files as given, folders as their files with `suffixes`, sorted by name."""
    found: list[Path] = []
    for path in map(Path, inputs):
        if path.is_dir():
            # names with a leading dot are what macOS archives leave behind (._x.xml), not data
            inside = [p for p in path.iterdir() if p.name.endswith(suffixes) and not p.name.startswith(".")]
            if not inside:
                wanted = ", ".join(f"*{suffix}" for suffix in suffixes)
                raise ValueError(f"{path} has no file that matches {wanted}; give the folder that holds them")
            found += sorted(inside, key=lambda p: p.name)
        elif path.is_file():
            found.append(path)
        else:
            raise ValueError(f"{path} does not exist; check --input")
    return found


def require_replaceable(output: Path, name: str) -> None:
    """Refuse a folder that holds anything but an earlier output of the stage `name`."""
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output {output} is a file; name a new folder")
    if not output.exists() or all(PARTIAL.fullmatch(path.name) for path in output.iterdir()):
        return  # nothing there, or killed before it said whose it is
    marker = next((output / m for m in (MANIFEST, UNFINISHED) if (output / m).is_file()), None)
    try:
        made_by = json.loads(marker.read_text(encoding="utf-8"))["stage"] if marker else None
    except (ValueError, KeyError, TypeError):
        made_by = None
    foreign = [p.name for p in output.iterdir() if not _is_ours(p)]
    if made_by != name or foreign:
        what = f"{foreign[0]}," if foreign else "files"
        raise ValueError(f"--output {output} holds {what} not made by this stage ({name}); name a new folder")


def _clear(output: Path, name: str) -> None:
    """Remove an earlier output of the stage `name`, or refuse a folder that holds anything else."""
    require_replaceable(output, name)
    if output.exists() and any(output.iterdir()):
        # The manifest goes first and says whose the rest is: until all is gone, the marker says it.
        _write_json(output / UNFINISHED, {"stage": name})
        _remove_files(output)


def _is_ours(path: Path) -> bool:
    return OURS.fullmatch(path.name) is not None or PARTIAL.fullmatch(path.name) is not None


def _remove_files(output: Path) -> None:
    """Remove a stage's files: the manifest first, lest the rest be taken for whole; the marker last."""
    (output / MANIFEST).unlink(missing_ok=True)
    for path in output.iterdir():
        if _is_ours(path) and path.name != UNFINISHED:
            path.unlink()
    (output / UNFINISHED).unlink(missing_ok=True)


def _write_json(path: Path, content: dict) -> None:
    write_whole(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode("utf-8"))
