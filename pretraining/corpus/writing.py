"""Files that are whole or not there, and what stands in the error when a disk is full; there is no command here.

Steps: `with open_whole(path) as file` or `write_whole(path, content)`. `with naming_file(path)` stands round what else
writes, so that the error of a full disk, which names no file where it comes from `write` or `close`, becomes one
sentence that does.
"""

import errno
import glob
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # disk full, quota used up, larger than files may be


@contextmanager
def naming_file(path: Path | str) -> Iterator[None]:
    """Raise the error of a full disk as one that names `path`, the name that the file was to get."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise OSError(f"{path} cannot be written: {error.strerror}; make room and run the same command again") from None


@contextmanager
def open_whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that gets its name only when it is whole and on disk."""
    # A name of its own for each writer: what a killed run left, or the end of it, is in nobody's way.
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with naming_file(path), open(partial, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that gets its name only when it is whole and on disk."""
    with open_whole(path) as file:
        file.write(content)


def remove_partials(path: Path) -> None:
    """Remove what killed writers of a file left; for a caller that knows of no other writer."""
    for partial in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        partial.unlink(missing_ok=True)
