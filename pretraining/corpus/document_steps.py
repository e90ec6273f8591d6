"""Steps of datatrove pipelines that read and write documents, for every stage; there is no command here.

A stage's first pipeline is a reader, what it does to each document, and a writer. One task is one input file, some
files, or one shard, whatever the number of workers, so the result depends on the input alone. Every file that a task
leaves gets its name when it is whole (datatrove's writers use the final name from the first byte); a task that is
repeated writes the same bytes again.

Beside the shards of task 7 stand 00007.json, their entries for the manifest, and 00007.sources.json, those of the input
files. What was read and dropped are datatrove's statistics of the reader.
"""

import json
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy
from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep

from pretraining.corpus import documents
from pretraining.corpus.writing import write_whole


class ReadFiles(PipelineStep):
    """Yield the documents of the input files of this rank. A reader says in `read` how.

    With `skip_broken` a ValueError is the end of a file; it is counted, and said in the file's entry.
    """

    type, name = "READER", "files"

    def __init__(self, groups: Sequence[Sequence[Path]], folder: Path, skip_broken: bool = False) -> None:
        super().__init__()
        self.groups = tuple(tuple(map(str, group)) for group in groups)
        self.folder, self.skip_broken = str(folder), skip_broken

    @abstractmethod
    def read(self, path: Path, counts: Counter, source: dict) -> Iterator[documents.Document]:
        """Yield one file's documents; add to `counts`, and to `source` what is to stand in its entry."""

    def finish(self, rank: int) -> None:
        """Called when all files of a rank are read."""

    def inputs(self, rank: int) -> list[Path]:
        """What a task reads, for the error of a process that is killed."""
        return [Path(path) for path in self.groups[rank]]

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Yield the documents."""
        counts: Counter = Counter()
        sources = []
        Path(self.folder).mkdir(parents=True, exist_ok=True)
        for path in self.inputs(rank):
            sources.append(documents.source_entry(path))
            try:
                for document in self.read(path, counts, sources[-1]):
                    yield Document(document.text, document.id, metadata=document.metadata)
            except ValueError as error:
                if not self.skip_broken:
                    raise
                counts["broken_files"] += 1
                earlier = sources[-1].get("broken")  # records that the reader left out
                sources[-1]["broken"] = [*earlier, str(error)] if earlier else str(error)
        for name, number in counts.items():
            if number:
                self.stat_update(name, value=number)
        self.finish(rank)
        write_whole(Path(self.folder) / f"{rank:05d}.sources.json", json.dumps(sources).encode())


class ReadShard(PipelineStep):
    """Yield the documents of the shard of this rank, and compare it with the SHA-256 of its manifest, if given."""

    type, name = "READER", "documents"

    def __init__(self, shards: Sequence[Path], digests: Sequence[str] = ()) -> None:
        super().__init__()
        self.shards, self.digests = tuple(map(str, shards)), tuple(digests)

    def inputs(self, rank: int) -> list[Path]:
        """What a task reads, for the error of a process that is killed."""
        return [Path(self.shards[rank])]

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Yield the documents."""
        number = 0
        for document in documents.read_shard(self.shards[rank], self.digests[rank] if self.digests else None):
            number += 1
            yield Document(document.text, document.id, metadata=document.metadata)
        self.stat_update("documents", value=number)


class WriteShard(PipelineStep):
    """Write the shard of this rank, or with `shard_characters` several of about so much text."""

    type, name = "WRITER", "documents"

    def __init__(self, folder: Path, shard_characters: int | None = None) -> None:
        super().__init__()
        self.folder, self.shard_characters = str(folder), shard_characters

    def own(self, data: Iterable[Document]) -> Iterable[Document]:
        """The documents as they are written; datatrove's have all that ours have."""
        return data

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> None:
        """Take all documents."""
        folder = Path(self.folder)
        folder.mkdir(parents=True, exist_ok=True)
        if self.shard_characters is None:
            entries = [documents.write_shard(folder, rank, self.own(data))]
        else:
            (parts := folder / f"{rank:05d}").mkdir(exist_ok=True)
            entries = documents.write_shards(parts, self.own(data), self.shard_characters)
        write_whole(folder / f"{rank:05d}.json", json.dumps(entries).encode())


class KeepLines(PipelineStep):
    """Write shards of `source` again with what the masks say: task 7 the shard masks[7], a bool for each document."""

    type, name = "WRITER", "documents that stand"

    def __init__(self, masks: Sequence[Path], source: Path, folder: Path) -> None:
        super().__init__()
        self.masks, self.source, self.folder = tuple(map(str, masks)), str(source), str(folder)

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        """Write the shard."""
        folder, mask = Path(self.folder), Path(self.masks[rank])
        folder.mkdir(parents=True, exist_ok=True)
        number = int(mask.stem)
        keep = numpy.load(mask, allow_pickle=False).tolist()
        entry = documents.keep_lines(Path(self.source) / documents.shard_name(number), folder, number, keep)
        write_whole(folder / f"{number:05d}.json", json.dumps([entry]).encode())


def read_entries(folder: Path, rank: int) -> list[tuple[Path, dict]]:
    """The shards that one task wrote, with their entries."""
    entries = json.loads((folder / f"{rank:05d}.json").read_bytes())
    parts = folder / f"{rank:05d}"
    return [((parts if parts.is_dir() else folder) / entry["name"], entry) for entry in entries]


def read_sources(folder: Path, tasks: int) -> list[dict]:
    """The entries of all input files, in order."""
    return [one for rank in range(tasks) for one in json.loads((folder / f"{rank:05d}.sources.json").read_bytes())]
