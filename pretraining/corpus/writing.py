"""What stands in the error when a disk is full; there is no command here.

Steps: `with naming_file(path)` round what writes, so that the error of a full disk, which names no file where it comes
from `write` or `close`, becomes one sentence that does.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
