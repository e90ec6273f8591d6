"""How stages run: killed anywhere they go on, the result is the same; what changed is done anew, and nothing else."""

import fcntl
import itertools
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from pretraining.corpus import documents, encode, executors, pmc, pubmed, records, sentences, stages, text
from pretraining.corpus.code_digest import digest_of_code
from pretraining.corpus.documents import Document, read_documents, write_shard, writing_stage
from pretraining.corpus.engine import Engine
from pretraining.corpus.filter import Plan, filter_corpus
from pretraining.corpus.index import build_index
from pretraining.corpus.selection import Rules
from pretraining.corpus.word_counts import Words, count_words
from tests.launch.launches import wait_until
from tests.launch.test_slurm import slurm  # noqa: F401
from tests.pretraining.corpus.test_index import write_tokenizer_folder

ARTICLE = (
    '<PubmedArticle><MedlineCitation><PMID Version="1">{0}</PMID><Article><ArticleTitle>Title {0}.</ArticleTitle>'
    "<Abstract><AbstractText>The cell {0} was seen. It held.</AbstractText></Abstract></Article></MedlineCitation>"
    "</PubmedArticle>"
)
FULL_TEXT = (
    '<article><front><article-meta><article-id pub-id-type="pmc">{0}</article-id><title-group><article-title>Full {0}.'
    "</article-title></title-group></article-meta></front><body><p>The dose {1}.</p></body></article>"
)
SETS = [("pmc-articleset", [(1, "a"), (2, "a")]), ("pmc-articleset", [(2, "b"), (3, "b")])]


def write_pubmed(folder: Path, files: int = 4) -> Path:
    """Files of three records each; each but the first repeats a PMID of the one before."""
    folder.mkdir()
    for number in range(files):
        found = "".join(ARTICLE.format(pmid) for pmid in range(2 * number + 1, 2 * number + 4))
        (folder / f"{number}.xml").write_text(f"<PubmedArticleSet>{found}</PubmedArticleSet>")
    return folder


def write_pmc(folder: Path) -> Path:
    folder.mkdir()
    for number, (root, articles) in enumerate(SETS):
        found = "".join(FULL_TEXT.format(*article) for article in articles)
        (folder / f"{number}.nxml").write_text(f"<{root}>{found}</{root}>")
    return folder


def write_lines(folder: Path, name: str, line: str) -> Path:
    folder.mkdir()
    for number in range(3):
        (folder / name.format(number)).write_text("\n".join(line.format(number, n) for n in range(20)) + "\n")
    return folder


def write_stage(folder: Path, sentences: bool = False) -> Path:
    with writing_stage(folder, "pubmed", options={}, sentences=sentences) as stage:
        for shard in range(3):
            found = (Document(f"{shard}-{n}", f"title {n}.\nA rat. The end of {n}.") for n in range(shard * 5))
            stage.files.append(write_shard(folder, shard, found))
    return folder


@pytest.fixture(params=["pubmed", "pmc", "text", "records", "sentences", "index"])
def convert(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """A stage over several tasks, to be called with a name below tmp_path for its output and an engine."""
    monkeypatch.setattr(pmc, "FILES_A_SHARD", 1)
    monkeypatch.setattr(text, "SHARD_CHARACTERS", 500)  # bytes of files for a task, characters for a shard
    monkeypatch.setattr(records, "SHARD_CHARACTERS", 500)
    monkeypatch.setattr(encode, "CHUNK_BYTES", 200)
    monkeypatch.setattr(encode, "TASK_BYTES", 500)
    kind, source = request.param, tmp_path / "in"
    if kind == "pubmed":
        write_pubmed(source)
        return lambda output, engine: pubmed.convert([source], output, engine=engine)
    if kind == "pmc":
        write_pmc(source)
        return lambda output, engine: pmc.convert([source], output, engine=engine)
    if kind == "text":
        write_lines(source, "{}.txt", "A sentence of {}.\n\nNumber {}.")
        return lambda output, engine: text.convert([source], output, engine=engine)
    if kind == "records":
        write_lines(source, "{}.jsonl", '{{"id": "{}-{}", "text": "A note of some length."}}')
        return lambda output, engine: records.convert([source], output, engine=engine)
    write_stage(source, kind == "index")
    if kind == "sentences":
        return lambda output, engine: sentences.convert([source], output, engine=engine)
    tokenizer = write_tokenizer_folder(tmp_path / "tokenizer")
    return lambda output, engine: build_index(source, tokenizer, str(output / "c"), engine)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def run_and_kill(operations: int, function: Callable[[], object]) -> int:
    """Run a function in a process that is killed (SIGKILL) before its nth change of the file system; its status."""
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    count = itertools.count(1)

    def counted(operation: Callable) -> Callable:
        def call(*arguments, **named):
            if next(count) == operations:
                os.kill(os.getpid(), signal.SIGKILL)
            return operation(*arguments, **named)

        return call

    for owner, names in (
        (Path, ("rename", "unlink", "mkdir")),
        (os, ("link", "replace", "fsync", "rmdir")),
        (shutil, ("rmtree",)),
        (executors.LocalPipelineExecutor, ("mark_rank_as_completed",)),
    ):
        for name in names:
            setattr(owner, name, counted(getattr(owner, name)))
    try:
        function()
    finally:
        os._exit(0)


def test_killed_again_and_again_a_stage_goes_on_to_the_same_bytes(convert: Callable, tmp_path: Path) -> None:
    (tmp_path / "undisturbed").mkdir()
    convert(tmp_path / "undisturbed" / "out", Engine())
    (tmp_path / "killed").mkdir()
    kills = 0
    for operations in itertools.count(1, 2):
        if run_and_kill(operations, lambda: convert(tmp_path / "killed" / "out", Engine())) == 0:
            break
        kills += 1
    assert kills > 5
    assert contents(tmp_path / "killed") == contents(tmp_path / "undisturbed")
    assert sorted(path.name for path in (tmp_path / "killed").iterdir()) == ["out"]


def test_any_number_of_workers_writes_the_same(convert: Callable, tmp_path: Path) -> None:
    for workers in (1, 3):
        (tmp_path / str(workers)).mkdir()
        convert(tmp_path / str(workers) / "out", Engine(workers=workers))
    assert contents(tmp_path / "1") == contents(tmp_path / "3")


def test_a_task_that_is_done_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken file ends the run; once it is mended, it and those after it are read, and no other."""
    source = write_pubmed(tmp_path / "in")
    pubmed.convert([source], tmp_path / "whole")
    good = (source / "2.xml").read_text()
    (source / "2.xml").write_text("<PubmedArticleSet><PubmedArticle>")
    with pytest.raises(ValueError, match=r"2\.xml is not well-formed"):
        pubmed.convert([source], tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    (source / "2.xml").write_text(good)
    read = []
    records_of = pubmed.read_records
    monkeypatch.setattr(pubmed, "read_records", lambda path, *rest: read.append(path.name) or records_of(path, *rest))
    pubmed.convert([source], tmp_path / "out")
    assert read == ["2.xml", "3.xml"]
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_another_plan_or_a_changed_file_begins_anew(tmp_path: Path) -> None:
    source = write_pubmed(tmp_path / "in")
    assert run_and_kill(30, lambda: pubmed.convert([source], tmp_path / "out")) != 0
    assert (tmp_path / "out.work").is_dir() and (tmp_path / "out" / "unfinished.json").is_file()
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"out holds files not made by this stage \(records\)"):
        records.convert([write_lines(tmp_path / "rows", "{}.jsonl", '{{"text": "a"}}')], tmp_path / "out")
    shutil.rmtree(tmp_path / "rows")
    assert contents(tmp_path) == before  # another stage's mistake costs nothing
    (source / "0.xml").write_text(f"<PubmedArticleSet>{ARTICLE.format(77)}</PubmedArticleSet>")
    (source / "1.xml").unlink()
    pubmed.convert([source], tmp_path / "out", titles_only="keep")
    assert [one.id for one in read_documents(tmp_path / "out")] == ["77", "5", "6", "7", "8", "9"]
    assert not (tmp_path / "out.work").exists()


def test_other_code_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a release before wrote is not mixed with what this one writes."""
    source = write_pubmed(tmp_path / "in")
    assert run_and_kill(30, lambda: pubmed.convert([source], tmp_path / "out")) != 0
    assert list((tmp_path / "out.work" / "tasks" / "read" / "completions").iterdir())
    monkeypatch.setattr(stages, "digest_of_code", lambda: "another release")
    read = []
    records_of = pubmed.read_records
    monkeypatch.setattr(pubmed, "read_records", lambda path, *rest: read.append(path.name) or records_of(path, *rest))
    pubmed.convert([source], tmp_path / "out")
    assert read == ["0.xml", "1.xml", "2.xml", "3.xml"]
    assert capsys.readouterr().err.count("out.work: begun anew, for the code of the corpus stages has changed") == 1


def test_one_byte_of_the_code_is_other_code(tmp_path: Path) -> None:
    for path in Path(stages.__file__).parent.glob("*.py"):
        shutil.copy(path, tmp_path)
    assert digest_of_code(tmp_path) == digest_of_code()
    with open(tmp_path / "jats.py", "ab") as file:
        file.write(b"\n")
    assert digest_of_code(tmp_path) != digest_of_code()


def test_an_input_that_changed_after_all_tasks_were_done_is_not_missed(tmp_path: Path) -> None:
    """The second pass depends on all files: a revision that one of them no longer holds must not be applied."""
    source = write_pubmed(tmp_path / "in", files=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages.Run, "publish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pubmed.convert([source], tmp_path / "out")
    (source / "1.xml").write_text(f"<PubmedArticleSet>{ARTICLE.format(1)}{ARTICLE.format(9)}</PubmedArticleSet>")
    pubmed.convert([source], tmp_path / "out")
    assert [one.id for one in read_documents(tmp_path / "out")] == ["2", "3", "1", "9"]


def test_what_an_earlier_input_left_of_later_tasks_goes(tmp_path: Path) -> None:
    output, plan = tmp_path / "out", {"stage": "filter"}
    with pytest.raises(KeyboardInterrupt), stages.work_folder(output, plan, ["one", "two"], Engine()) as work:
        for name in ("tasks/read/completions/00000", "tasks/read/completions/00001", "tasks/select/completions/00000",
                     "read/00000.json", "removed/rules/00000.jsonl"):  # fmt: skip
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            (work / name).touch()
        raise KeyboardInterrupt
    with stages.work_folder(output, plan, ["one", "another"], Engine()) as work:
        found = {str(path.relative_to(work)) for path in work.rglob("*") if path.is_file()}
    assert found == {"plan.json", "read/00000.json", "tasks/read/completions/00000"}


def test_two_runs_of_one_output_and_foreign_work_are_refused(tmp_path: Path) -> None:
    source = write_pubmed(tmp_path / "in")
    with open(tmp_path / ".out.lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match=r"another run writes --output .*out; wait"):
            pubmed.convert([source], tmp_path / "out")
    (tmp_path / "out.work").mkdir()
    (tmp_path / "out.work" / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"out\.work was not made by this stage"):
        pubmed.convert([source], tmp_path / "out")
    assert (tmp_path / "out.work" / "thesis.txt").exists() and not (tmp_path / "out").exists()


@pytest.mark.parametrize("operations", range(1, 14))
def test_a_stage_killed_while_it_replaces_an_earlier_result_can_be_repeated(tmp_path: Path, operations: int) -> None:
    def write(found: str) -> None:
        with writing_stage(tmp_path / "o", "test", options={}, sentences=False) as stage:
            stage.files = [write_shard(stage.output, 0, [Document("1", found)])]

    if operations % 2:  # else in a new folder
        write("old")
    run_and_kill(operations, lambda: write("never read"))
    write("new")
    assert [document.text for document in read_documents(tmp_path / "o")] == ["new"]
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["documents-00000.jsonl", documents.MANIFEST]


def test_wrong_engines_are_one_sentence() -> None:
    with pytest.raises(ValueError, match="--workers 0"):
        Engine(workers=0)
    with pytest.raises(ValueError, match="--sbatch account is not NAME=VALUE"):
        Engine(sbatch=("account",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "/nowhere")
        with pytest.raises(ValueError, match="--engine slurm: this machine has no sbatch"):
            Engine("slurm")


@pytest.mark.slow
def test_what_a_killed_run_left_to_slurm_is_waited_for(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    slurm: dict[str, str],  # noqa: F811
    capfd: pytest.CaptureFixture[str],
) -> None:
    """All tasks are one job of the array here, each with counts of its own."""
    source = write_pubmed(tmp_path / "in")
    pubmed.convert([source], tmp_path / "local")
    monkeypatch.setenv("SLURM_CONF", slurm["SLURM_CONF"])
    monkeypatch.setattr(executors, "LARGEST_ARRAY", 1)
    engine, name = Engine("slurm", sbatch=("mem-per-cpu=0",)), executors.job_name(tmp_path / "out.work")
    pid = os.fork()
    if not pid:
        pubmed.convert([source], tmp_path / "out", engine=engine)
        os._exit(0)
    wait_until(lambda: executors.list_jobs(name), "a job")
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    pubmed.convert([source], tmp_path / "out", engine=engine)
    assert f"waiting for the Slurm jobs {name} of an earlier run" in capfd.readouterr().err
    assert contents(tmp_path / "out") == contents(tmp_path / "local")


def test_a_task_does_not_copy_the_paths_of_all_tasks(tmp_path: Path) -> None:
    """Of a mirror of PMC, millions; statistics and what else a step writes are its own."""
    reader = text.ReadText([[tmp_path / "a.txt"], [tmp_path / "b.txt"]], tmp_path, "document-per-line", False)
    (own,) = executors.for_one_task([reader])
    assert own is not reader and own.groups is reader.groups
    own.stat_update("lines", value=1)
    assert own.stats["lines"].total == 1 and "lines" not in reader.stats.stats


@pytest.mark.parametrize("kind", ["filter", "sentences", "vocab", "index"])
def test_a_shard_that_is_not_the_one_of_its_manifest_is_refused(kind: str, tmp_path: Path) -> None:
    """One letter of the text, so that all sizes stay: a damaged disk, an edit in place."""
    source, output = write_stage(tmp_path / "in", sentences=True), tmp_path / "out"
    stages_of = {
        "filter": lambda: filter_corpus(Plan((source,), Rules()), output, Engine()),
        "sentences": lambda: sentences.convert([source], output, engine=Engine()),
        "vocab": lambda: count_words([source], None, Words("bpe", True, True), output, workers=1, max_words=9),
        "index": lambda: build_index(source, write_tokenizer_folder(tmp_path / "tokenizer"), str(output), Engine()),
    }
    shard = source / "documents-00001.jsonl"
    shard.write_bytes(shard.read_bytes().replace(b"A rat", b"A cat", 1))
    with pytest.raises(ValueError, match=r"documents-00001\.jsonl was changed since its stage wrote it"):
        stages_of[kind]()
    assert not (output / "manifest.json").exists() and not Path(f"{output}.json").exists()
