"""Where the reader of PMC finds its files: in a folder, in the folders of a mirror, in both at once."""

from pathlib import Path

import pytest

from pretraining.corpus.documents import read_documents
from pretraining.corpus.pmc import convert
from tests.pretraining.corpus.test_pmc import article, write


def pmcids(output: Path) -> list[str]:
    return sorted(document.id for document in read_documents(output))


def folder_of(path: Path, *numbers: int) -> Path:
    path.mkdir()
    for number in numbers:
        write(path, article(pmcid=f"PMC{number}"), f"PMC{number}.nxml")
    return path


def test_the_folders_of_a_mirror(tmp_path: Path) -> None:
    mirror = folder_of(tmp_path / "mirror")
    folder_of(mirror / "PMC0001", 1, 2)
    folder_of(mirror / "PMC0002", 3)
    convert([mirror], tmp_path / "out")
    assert pmcids(tmp_path / "out") == ["PMC1", "PMC2", "PMC3"]


def test_folders_beside_files_are_read_too_and_pictures_are_not(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "articles", 1)
    folder_of(folder / "more", 2, 3)
    (folder_of(folder / "figures") / "f1.jpg").write_bytes(b"")
    convert([folder], tmp_path / "out")
    assert pmcids(tmp_path / "out") == ["PMC1", "PMC2", "PMC3"]


def test_an_empty_folder_of_a_mirror_is_named(tmp_path: Path) -> None:
    mirror = folder_of(tmp_path / "mirror")
    folder_of(mirror / "PMC0001", 1)
    folder_of(mirror / "PMC0002")
    with pytest.raises(ValueError, match="PMC0002"):
        convert([mirror], tmp_path / "out")
