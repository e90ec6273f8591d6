"""Copies of the corpus on a node's own disk (--stage-data-to DIR): random reads do not go to a shared file system.

    DIR/NAME/          the files under their own names, and staged.json, written last: sizes, times, SHA-256
    DIR/.NAME.lock     held by the one process of the node that copies; the others wait for it

Steps: (1) take the node's lock; it ends with its holder, however that ends; (2) where a whole copy is there and as it
was left, use it; (3) otherwise look for space, copy under a partial name while the SHA-256 is taken, compare with the
corpus's manifest; (4) rename. Copies are never deleted: schedulers clear a job's own folder, and others may use them.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MARKER = "staged.json"
PIECE_BYTES = 8 << 20


def stage_files(sources: dict[Path, str | None], folder: str | Path, name: str) -> Path:
    """Copy files, given with their SHA-256 where it is known, into a folder of a node's own disk.

    name: of the folder of the copies, which is returned; it tells them from all others, by a part of a checksum.
    Raises ValueError where the disk has not the space, the folder is somebody else's or a checksum differs.
    """
    folder = Path(folder)
    copies = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / f".{name}.lock"):
            if not _is_whole(copies, sources):
                _copy(sources, copies)
    except OSError as error:
        raise ValueError(f"--stage-data-to {folder}: {error}; give a folder on this node's own disk") from None
    return copies


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that other processes of this node wait for."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_whole(copies: Path, sources: dict[Path, str | None]) -> bool:
    """Whether the copies are there as they were left. Raises ValueError where another user made them."""
    try:
        marker = json.loads((copies / MARKER).read_text(encoding="utf-8"))
        facts = {path.name: _facts(copies / path.name) for path in sources}
    except (OSError, ValueError):
        return False
    if copies.stat().st_uid != os.getuid():
        raise ValueError(f"{copies} belongs to another user: give --stage-data-to a folder of your own")
    return isinstance(marker, dict) and all(
        isinstance(marker.get(path.name), dict)
        and marker[path.name] == facts[path.name] | {"sha256": digest or marker[path.name].get("sha256")}
        and marker[path.name]["bytes"] == path.stat().st_size
        for path, digest in sources.items()
    )


def _facts(path: Path) -> dict[str, int]:
    """Size and time of change of a file: what changes with it."""
    found = path.stat()
    return {"bytes": found.st_size, "changed_ns": found.st_mtime_ns}


def _copy(sources: dict[Path, str | None], copies: Path) -> None:
    """Copy all files under a partial name, check them, and give the folder its name."""
    partial = copies.with_name(f".{copies.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed; nobody else is in here
    needed, free = sum(path.stat().st_size for path in sources), shutil.disk_usage(copies.parent).free
    if needed > free:
        raise ValueError(
            f"--stage-data-to {copies.parent} has {free / 2**30:.2f} GiB free, and {needed / 2**30:.2f} GiB are to be "
            "copied: give another folder, or leave the flag out"
        )
    partial.mkdir(mode=0o700)
    try:
        marker = {}
        for path, expected in sources.items():
            digest = _copy_one(path, partial / path.name)
            if expected and digest != expected:
                raise ValueError(
                    f"{path} is damaged (its checksum is not the manifest's): make or copy the corpus again"
                )
            marker[path.name] = _facts(partial / path.name) | {"sha256": digest}
        (partial / MARKER).write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8")
        shutil.rmtree(copies, ignore_errors=True)
        os.replace(partial, copies)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _copy_one(source: Path, copy: Path) -> str:
    """Copy a file; its SHA-256, of what was read."""
    digest = hashlib.sha256()
    with source.open("rb") as reading, copy.open("wb") as writing:
        while piece := reading.read(PIECE_BYTES):
            digest.update(piece)
            writing.write(piece)
        writing.flush()
        os.fsync(writing.fileno())
    copy.chmod(0o400)  # a mapped file that is cut off ends its readers without a word
    return digest.hexdigest()
