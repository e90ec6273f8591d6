"""Read full texts of PubMed Central (JATS XML) into documents.

    python -m pretraining.corpus.pmc --input PATH... --output DIR [--license "CC BY" CC0] [--workers N]

Steps: each input, a package as PMC distributes it (.tar.gz, read as a stream and never unpacked to disk) or a file
(.nxml, .xml, gzip or not; also in folders of a folder), is parsed article by article, one task a package or some
hundred files; each article becomes one document (jats.py says what is text and what is metadata); --license keeps those
under the licences named; of articles with the same PMC id the last stands; the manifest comes last. The result does not
depend on the number of workers.

No DTD is loaded, no entity resolved, nothing fetched. An article that is broken ends the run, or with `--skip-broken`
is left out, counted and listed in the manifest.
"""

import argparse
import io
import json
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy
from lxml import etree

from pretraining.corpus.document_steps import ReadFiles
from pretraining.corpus.documents import Document, find_files, read_manifest
from pretraining.corpus.engine import LOCAL, Engine, add_engine_flags, add_output_flag, read_engine
from pretraining.corpus.jats import read_article
from pretraining.corpus.stages import Run, describe_file, run_stage, running_stage
from pretraining.corpus.writing import write_whole
from pretraining.corpus.xml_files import PARSER_OPTIONS, check_head, naming, open_xml

ARTICLES = (".nxml", ".xml", ".nxml.gz", ".xml.gz")
PACKAGES = (".tar.gz", ".tgz", ".tar")
SUFFIXES = (*ARTICLES, *PACKAGES)
FILES_A_SHARD = 500  # single files that become one shard together
LARGEST_ARTICLE = 200_000_000  # bytes of XML; the largest of PMC is a tenth of it, more is a bomb
# `<` and `=` of one article, each up to 240 bytes of memory; 20 MB of small table cells have 4 million
MOST_MARKS = 6_000_000


class StrictMember(tarfile.TarInfo):
    """A member whose header must be whole: tarfile takes a cut or damaged one after the first for the archive's end."""

    @classmethod
    def fromtarfile(cls, package: tarfile.TarFile) -> tarfile.TarInfo:
        """Read the next header. Raises ReadError unless it is one or the two empty blocks of the end."""
        try:
            return super().fromtarfile(package)
        except tarfile.EOFHeaderError:
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from None


def read_articles(path: Path, skipped: list[str] | None = None) -> Iterator[tuple[str, etree._Element]]:
    """Yield (name, `article` element) of a file or package. Broken articles are added to `skipped`, if given."""
    try:
        for name, content in _contents(path):
            try:
                with naming(name, lambda: "its start"):
                    articles = _parse(name, content)
            except ValueError as error:
                if skipped is None:
                    raise
                skipped.append(str(error))
                continue
            yield from ((name, article) for article in articles)
    except ValueError as error:  # the package itself, from here on
        if skipped is None:
            raise
        skipped.append(str(error))


def _contents(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and XML of each file in a package, or of the file itself."""
    if not path.name.endswith(PACKAGES):
        with naming(path, lambda: "its start"), open_xml(path) as file:
            content = file.read(LARGEST_ARTICLE + 1)
        yield str(path), content
        return
    last = "its start"
    try:
        # gzip's own reader: tarfile's does not look at the checksum and ends at the first of several gzip members
        with naming(path, lambda: last), open_xml(path) as stream:
            with tarfile.open(fileobj=stream, mode="r|", tarinfo=StrictMember) as package:
                for member in package:
                    name = member.name.rpartition("/")[2]  # `._x.nxml` is what macOS leaves beside x.nxml, not XML
                    if member.isfile() and name.endswith((".nxml", ".xml")) and not name.startswith("."):
                        file = package.extractfile(member)
                        yield f"{path}:{member.name}", file.read(LARGEST_ARTICLE + 1)
                        last = member.name
            while stream.read(1 << 20):  # the checksum comes after the end of the archive
                pass
    except tarfile.TarError as error:
        raise ValueError(f"{path} is cut short or damaged after {last} (tar: {error}); fetch it again") from None


def _parse(name: str, content: bytes) -> list[etree._Element]:
    """The articles of one XML file, names without namespace."""
    if len(content) > LARGEST_ARTICLE:
        raise ValueError(f"{name} unpacks to more than {LARGEST_ARTICLE:,} bytes, which no article does; leave it out")
    if content.count(b"<") + content.count(b"=") > MOST_MARKS:
        raise ValueError(f"{name} has more than {MOST_MARKS:,} tags and attributes, which no article has; leave it out")
    check_head(name, io.BytesIO(content), "PMC")
    root = etree.parse(io.BytesIO(content), etree.XMLParser(**PARSER_OPTIONS)).getroot()
    for element in root.iter(etree.Element):
        element.tag = element.tag.rpartition("}")[2]
    articles = [root] if root.tag == "article" else root.findall(".//article")
    if not articles:
        raise ValueError(f"{name} is not PMC XML, its root is <{root.tag}>; leave it out")
    return articles


class ReadArticles(ReadFiles):
    """Yield the documents of a package or some files a task, and write their ids beside them."""

    def __init__(self, groups: list[list[Path]], folder: Path, licences: tuple[str, ...], skip_broken: bool) -> None:
        super().__init__(groups, folder, skip_broken)
        self.licences = licences
        self.ids: list[str] = []

    def read(self, path: Path, counts: Counter, source: dict) -> Iterator[Document]:
        """Yield the documents of one input."""
        skipped: list[str] | None = [] if self.skip_broken else None
        for name, article in read_articles(path, skipped):
            counts["articles"] += 1
            document, reason = read_article(article, Path(name).name, counts)
            if document is not None and self.licences and document.metadata["license"] not in self.licences:
                document, reason = None, "license"
            if document is None:
                counts[f"dropped_{reason}"] += 1
            else:
                self.ids.append(document.id)
                yield document
        if skipped:
            counts["broken_articles"] += len(skipped)
            source["broken"] = skipped

    def finish(self, rank: int) -> None:
        """Write the ids, in the order of the documents."""
        write_whole(ids_path(self.folder, rank), json.dumps(self.ids).encode())


def ids_path(folder: Path | str, rank: int) -> Path:
    """Where the ids of a task's documents are."""
    return Path(folder) / f"{rank:05d}.ids.json"


def _folders(path: Path) -> list[Path]:
    """A folder and those in it that hold articles: a mirror has one for each 10,000.

    An empty one among folders alone is left in, for `find_files` to name; beside files, folders may hold anything.
    """
    inside = sorted(one for one in path.iterdir() if not one.name.startswith(".")) if path.is_dir() else []
    folders = [one for one in inside if one.is_dir()]
    if folders and len(folders) == len(inside):
        return folders
    return [path, *(one for one in folders if any(file.name.endswith(SUFFIXES) for file in one.iterdir()))]


def make_groups(files: list[Path]) -> list[list[Path]]:
    """The inputs of each shard: a package each, single files some hundred together, in the order given."""
    groups: list[list[Path]] = []
    for path in files:
        package = path.name.endswith(PACKAGES)
        alone = not groups or package or groups[-1][0].name.endswith(PACKAGES)
        if alone or len(groups[-1]) == FILES_A_SHARD:
            groups.append([])
        groups[-1].append(path)
    return groups


def convert(
    inputs: list[Path],
    output: Path,
    *,
    engine: Engine = LOCAL,
    licences: tuple[str, ...] = (),
    skip_broken: bool = False,
) -> dict:
    """Read PMC packages, files and folders into `output`; return the manifest."""
    groups = make_groups(find_files([folder for path in inputs for folder in _folders(path)], SUFFIXES))
    with running_stage(
        output,
        "pmc",
        engine=engine,
        tasks=[[describe_file(path) for path in group] for group in groups],
        options={"license": list(licences), "skip_broken": skip_broken},
        sentences=False,
        packages=("lxml",),
    ) as run:
        run.read(ReadArticles(groups, run.work / "read", licences, skip_broken))
        run.publish(_keep_last(run, len(groups)))
        if not any(entry["documents"] for entry in run.stage.files):
            raise ValueError(f"no article of {groups[0][0]} (of {len(run.stage.sources)} inputs) became a document")
    return read_manifest(output)


def _keep_last(run: Run, tasks: int) -> list[tuple[Path, dict]]:
    """Take articles out of the shards that come again later; return the shards."""
    ids = [json.loads(ids_path(run.work / "read", rank).read_bytes()) for rank in range(tasks)]
    last = {identity: (rank, place) for rank, one in enumerate(ids) for place, identity in enumerate(one)}
    masks = {}
    for rank, one in enumerate(ids):
        mask = numpy.array([last[identity] == (rank, place) for place, identity in enumerate(one)], bool)
        run.stage.counts["dropped_repeated"] += int((~mask).sum())
        if not mask.all():
            masks[rank] = mask
    return run.keep(masks, tasks)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m pretraining.corpus.pmc", description="Read full texts of PubMed Central into documents."
    )
    add = parser.add_argument
    add("--input", nargs="+", type=Path, required=True, metavar="PATH",
        help="packages (.tar.gz) or files (.nxml, .xml, gzip or not), folders of them, read by name, or folders of "
        "such folders, as launch/download_pubmed.sh makes")  # fmt: skip
    add_output_flag(parser)
    add("--license", nargs="+", default=[], metavar="NAME",
        help="keep articles under these licences only, such as 'CC BY' CC0 'CC BY-NC' other none "
        "(default: all; the licence is in each document's metadata)")  # fmt: skip
    add("--skip-broken", action="store_true",
        help="leave out articles that are cut short or not well-formed, and name them in the manifest; without this "
        "flag such an article ends the run")  # fmt: skip
    add_engine_flags(parser)
    args = parser.parse_args()
    run_stage(
        lambda: convert(
            args.input,
            args.output,
            engine=read_engine(args),
            licences=tuple(args.license),
            skip_broken=args.skip_broken,
        ),
        args.output,
    )


if __name__ == "__main__":
    # Under its own name, by which tasks in other processes find its steps.
    from pretraining.corpus import pmc

    pmc.main()
