"""The real files in ../shared/data, for the tests that read them: they are never copied into this repository."""

import gzip
import lzma
import tarfile
from pathlib import Path

import pytest

from tests.tar_files import extract

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


def unpack(name: str, folder: Path) -> Path:
    """Unpack SHARED/name (a tar, xz or gz) into `folder`; returns the one folder in it. Skips if it is not there."""
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    opened = lzma.open(path) if name.endswith(".xz") else gzip.open(path)
    with opened as stream, tarfile.open(fileobj=stream) as tar:
        extract(tar, folder)
    (inside,) = (path for path in folder.iterdir() if path.is_dir())
    return inside


def shared_folder(name: str) -> Path:
    """The folder SHARED/name, read as it is; skips if it is not there."""
    path = SHARED / name
    if not path.is_dir():
        pytest.skip(f"{path} is not there")
    return path
