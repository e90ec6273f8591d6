"""Unpacking archives in tests, on every Python that is supported."""

import tarfile
from pathlib import Path


def extract(archive: tarfile.TarFile, folder: Path) -> None:
    """Unpack all of it, nothing outside the folder; the Python 3.11.2 of Debian 12 has no filters yet."""
    archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)
    archive.extractall(folder)
