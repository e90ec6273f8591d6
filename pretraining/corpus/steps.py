"""Steps of the filter's datatrove pipelines: rules, decontamination, what is removed; there is no command here.

One task is one shard, whatever the number of workers, so the result depends on the input alone; `document_steps` has
the steps that read and write. Rules are a filter of datatrove's; de-duplication and the search for n-grams are
datatrove's own, with words cut at blanks, for the tokenizers that it takes for English need spaCy.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy
import orjson
from datatrove.data import Document
from datatrove.pipeline.decont.n_grams import NGramsDecontConfig, NGramsDecontFilter
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.utils.hashing import HashConfig
from datatrove.utils.text import ngrams, simplify_text
from datatrove.utils.word_tokenizers import WordTokenizer

from pretraining.corpus.benchmark_files import find_texts
from pretraining.corpus.document_steps import ReadShard, WriteShard
from pretraining.corpus.selection import Rules, Selection, id_hash
from pretraining.corpus.writing import naming_file, write_whole

INPUT = "number of the --input"  # in the metadata while a pipeline runs
HASH = HashConfig(precision=64, hash_fc="sha1")  # datatrove's default hash needs a package more
NOT_OURS = {INPUT, "duplicate_count", "filter_reason"}  # what pipelines put into the metadata


class BlankTokenizer(WordTokenizer):
    """Words are what stands between blanks."""

    def word_tokenize(self, text: str) -> list[str]:
        """Return the words."""
        return text.split()

    def sent_tokenize(self, text: str) -> list[str]:
        """Return the lines."""
        return text.split("\n")

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        """Return the whole text as one span; no step of ours asks for spans."""
        return [(0, len(text))]


class ReadInput(ReadShard):
    """Yield the documents of the shard of this rank. `shards`: path, number of the --input that it belongs to."""

    def __init__(self, shards: list[tuple[str, int]], digests: Sequence[str] = ()) -> None:
        super().__init__([Path(path) for path, _ in shards], digests)
        self.numbers = tuple(number for _, number in shards)

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Yield the documents."""
        for document in super().run(data, rank, world_size):
            document.metadata[INPUT] = self.numbers[rank]
            yield document


class WriteKept(WriteShard):
    """Write the shard of this rank with the metadata that documents came with."""

    def own(self, data: Iterable[Document]) -> Iterator[Document]:
        """The documents as they are written."""
        for document in data:
            document.metadata = own_metadata(document)
            yield document


class RemovedWriter:
    """What a filter of datatrove's leaves out goes to a file of its rank, one JSON object a line, with the reason."""

    def __init__(self, folder: Path, reason: str | None = None) -> None:
        self.folder, self.reason = str(folder), reason
        self.file: BinaryIO | None = None

    def __enter__(self) -> "RemovedWriter":
        return self

    def write(self, document: Document, rank: int = 0) -> None:
        """Write one document."""
        if self.file is None:
            Path(self.folder).mkdir(parents=True, exist_ok=True)
            self.final = Path(self.folder) / f"{rank:05d}.jsonl"
            self.file = open(self.final.with_suffix(".partial"), "wb")  # noqa: SIM115
        reason = self.reason or document.metadata["filter_reason"]
        record = {"id": document.id, "reason": reason, "text": document.text, "metadata": own_metadata(document)}
        with naming_file(self.final):  # else the error of a full disk names the file of what stays, open as well
            self.file.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.file is not None:
            with naming_file(self.final):
                self.file.close()
            self.file = None
            if kind is None:
                self.final.with_suffix(".partial").rename(self.final)


class Select(BaseFilter):
    """Keep what the rules keep."""

    name = "rules"

    def __init__(self, rules: Rules, exclusion_writer: RemovedWriter | None = None) -> None:
        super().__init__(exclusion_writer)
        self.rules = rules
        self._selection: Selection | None = None

    @property
    def selection(self) -> Selection:
        """The rules with their files read, once in each task."""
        if self._selection is None:
            self._selection = Selection(self.rules)
        return self._selection

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """Return whether a document stays, or False and the reason."""
        reason = self.selection.reason(doc)
        return True if reason is None else (False, reason)


class SelectJournals(Select):
    """Keep documents of journals with the metric asked for, or those whose hash is at most `control`."""

    name = "journals"

    def __init__(self, rules: Rules, control: int | None, exclusion_writer: RemovedWriter | None = None) -> None:
        super().__init__(rules, exclusion_writer)
        self.control = control

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """Return whether a document stays, or False and the reason."""
        if self.control is not None:
            return True if id_hash(doc.id) <= self.control else (False, "journal_control")
        return True if self.selection.passes_journal(doc) else (False, "journal")


class CountJournals(Select):
    """Write the hashes of all documents (uint64) after the number of those whose journal passes."""

    name = "count of journals"

    def __init__(self, rules: Rules, folder: Path) -> None:
        super().__init__(rules)
        self.folder = str(folder)

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> None:
        """Take all documents."""
        passing, hashes = 0, []
        for document in data:
            passing += self.selection.passes_journal(document)
            hashes.append(id_hash(document.id))
        Path(self.folder).mkdir(parents=True, exist_ok=True)
        write_whole(Path(self.folder) / f"{rank:05d}.uint64", numpy.array([passing, *hashes], numpy.uint64).tobytes())


def control_threshold(folder: Path, tasks: int) -> int:
    """The hash up to which there are as many documents as pass by their journal, from what CountJournals wrote."""
    counted = [numpy.fromfile(folder / f"{rank:05d}.uint64", numpy.uint64) for rank in range(tasks)]
    wanted = sum(int(one[0]) for one in counted)
    hashes = numpy.concatenate([one[1:] for one in counted])
    return int(numpy.partition(hashes, wanted - 1)[wanted - 1]) if wanted else -1


def find_contaminated(folder: Path, exclusion_writer: RemovedWriter | None) -> NGramsDecontFilter:
    """datatrove's filter for the n-grams in `folder`."""
    config = NGramsDecontConfig(hash_config=HASH)
    return NGramsDecontFilter(str(folder), config, exclusion_writer, BlankTokenizer())


def write_ngrams(benchmark: tuple[str, ...], folder: Path) -> int:
    """Write the n-grams of benchmark files as datatrove's indexer does, which needs lighteval; return how many."""
    folder.mkdir(parents=True, exist_ok=True)
    step = find_contaminated(folder, None)
    hashes: set[int] = set()
    for text in find_texts(benchmark):
        words = step.tokenizer.word_tokenize(simplify_text(text, step.config.norm_config))
        hashes.update(step.hash_func(" ".join(words_of_one)) for words_of_one in ngrams(words, step.config.n_grams))
    array = numpy.array(sorted(hashes), dtype=step.config.hash_config.np_descr)
    write_whole(folder / "benchmark.index.hashes", array.tobytes())
    return len(hashes)


def own_metadata(document: Document) -> dict[str, Any]:
    """The metadata that a document came with."""
    return {name: value for name, value in document.metadata.items() if name not in NOT_OURS}
