"""launch/finetune_all.sh with a stand-in for Python that writes down what it was asked to run."""

import os
import re
import subprocess
from argparse import Namespace
from pathlib import Path

import pytest

from finetuning import bioasq_task, bioasq_yesno, blurb
from finetuning.command import make_parser
from finetuning.score import BENCHMARKS, open_benchmark
from finetuning.splits import Benchmark
from finetuning.tagging import read_variant as read_tags
from finetuning.texts import read_variant as read_texts

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "launch" / "finetune_all.sh"


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """Notes its arguments and leaves a result, as a benchmark would; fails for hoc."""
    path = tmp_path / "python"
    path.write_text(
        f'#!/usr/bin/env bash\necho "$*" >>{tmp_path}/calls\n[[ $* != *finetuning.hoc* ]] || exit 1\n'
        "mkdir -p out/variant/model\ntouch out/variant/model/results.json\n"
    )
    path.chmod(0o755)
    return path


def run(python: Path, folders: list[str], *arguments: str, **environment: str) -> tuple[int, str, list[str]]:
    """Status, output and the calls of a run with these benchmark folders."""
    data = python.parent / "data"
    for name in folders:
        (data / name).mkdir(parents=True, exist_ok=True)
    (python.parent / "calls").unlink(missing_ok=True)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    result = subprocess.run(
        ["bash", SCRIPT, "model", data, "out", *arguments],
        capture_output=True, text=True, cwd=python.parent, env={**clean, "PYTHON": str(python), **environment},
    )  # fmt: skip
    calls = python.parent / "calls"
    return result.returncode, result.stdout + result.stderr, calls.read_text().splitlines() if calls.exists() else []


def test_each_benchmark_that_has_a_folder_is_run_and_then_the_table(python: Path) -> None:
    status, output, calls = run(python, ["bc5cdr-chem", "bioasq"], "--seeds", "2")
    data = python.parent / "data"
    assert status == 0, output
    assert calls == [
        f"-m finetuning.bc5cdr --model model --data {data}/bc5cdr-chem --output out --seeds 2",
        f"-m finetuning.bioasq --model model --data {data}/bioasq --output out --question-type yesno --seeds 2",
        f"-m finetuning.bioasq --model model --data {data}/bioasq --output out --question-type factoid --seeds 2",
        f"-m finetuning.bioasq --model model --data {data}/bioasq --output out --question-type list --seeds 2",
        "-m finetuning.table out",
    ]
    assert "4 benchmark(s) finished, 0 failed, 36 without a folder" in output and "ncbi-disease" in output


def test_one_that_fails_does_not_stop_the_others(python: Path) -> None:
    status, output, calls = run(python, ["hoc", "pubmedqa"])
    assert status == 1 and "1 benchmark(s) finished, 1 failed: hoc (hoc)" in output
    assert [call.split()[1] for call in calls] == ["finetuning.hoc", "finetuning.pubmedqa", "finetuning.table"]


def test_a_task_of_an_array_runs_its_own(python: Path) -> None:
    chosen = "bc5cdr one;hoc two --epochs 3"
    status, output, calls = run(python, ["one", "two"], BENCHMARKS=chosen, SLURM_ARRAY_TASK_ID="0")
    assert status == 0 and [call.split()[1] for call in calls] == ["finetuning.bc5cdr", "finetuning.table"], output
    status, output, calls = run(python, ["one", "two"], BENCHMARKS=chosen, SLURM_ARRAY_TASK_ID="2")
    assert status == 1 and not calls and "--array names task 2, and the list has 2 benchmarks" in output


def test_a_task_of_an_array_without_a_folder_is_no_failure_and_prints_the_table(python: Path) -> None:
    task = {"BENCHMARKS": "bc5cdr one;gad two", "SLURM_ARRAY_TASK_ID": "1"}
    status, output, calls = run(python, ["one"], **task)
    assert status == 0 and not calls and "0 failed, 1 without a folder" in output and output.endswith(": two\n")
    (python.parent / "out" / "variant" / "other model").mkdir(parents=True)
    (python.parent / "out" / "variant" / "other model" / "results.json").touch()
    status, output, calls = run(python, ["one"], **task)
    assert status == 0 and calls == ["-m finetuning.table out"], output


def test_a_task_of_an_array_that_fails_is_a_failure(python: Path) -> None:
    status, output, calls = run(python, ["one"], BENCHMARKS="hoc one", SLURM_ARRAY_TASK_ID="0")
    assert status == 1 and [call.split()[1] for call in calls] == ["finetuning.hoc"], output


def test_a_table_that_cannot_be_made_is_said_and_hides_nothing(python: Path) -> None:
    """A loop counts it; a task of an array did its own work, while others may be writing what the table reads."""
    python.write_text(python.read_text() + "[[ $* != *finetuning.table* ]] || exit 1\n")
    status, output, _ = run(python, ["gad"])
    assert status == 1 and "1 benchmark(s) finished, 1 failed: the table, 39 without a folder" in output
    status, output, _ = run(python, ["gad"], BENCHMARKS="gad gad", SLURM_ARRAY_TASK_ID="0")
    assert status == 0 and "1 benchmark(s) finished, 0 failed, 0 without a folder" in output


def test_nothing_to_run_is_no_success(python: Path) -> None:
    status, output, calls = run(python, [])
    assert status == 1 and not calls and "0 benchmark(s) finished, 0 failed, 40 without a folder" in output


def benchmark_lines() -> list[str]:
    """The lines of the script's list: benchmark, folder, flags."""
    return SCRIPT.read_text(encoding="utf-8").split("LIST=")[1].split("}")[0].split("\n")[1:-1]


def test_the_list_has_every_benchmark_and_the_array_covers_it() -> None:
    lines = benchmark_lines()
    assert {line.split()[0] for line in lines} == set(BENCHMARKS) - {"ner"}  # ner is for data of one's own
    assert len(set(lines)) == len(lines)
    assert re.findall(r"--array=0-(\d+)", SCRIPT.read_text(encoding="utf-8")) == [str(len(lines) - 1)]


BLURB = {  # line of the list -> the part of the BLURB score that the right files in its folder give
    "bc5cdr bc5cdr-chem": "BC5CDR chemical",
    "bc5cdr bc5cdr-disease": "BC5CDR disease",
    "ncbi_disease ncbi-disease": "NCBI-disease",
    "bc2gm bc2gm": "BC2GM",
    "jnlpba jnlpba-blurb --merge-types": "JNLPBA (BLURB, one type)",
    "ebm_nlp ebm-nlp": "EBM-NLP (BLURB)",
    "chemprot chemprot": "ChemProt (BLURB)",
    "ddi ddi": "DDI (BLURB)",
    "gad gad": "GAD (BLURB)",
    "biosses biosses": "BIOSSES",
    "hoc hoc": "HoC (BLURB)",
    "pubmedqa pubmedqa": "PubMedQA",
    "bioasq bioasq-blurb --question-type yesno": "BioASQ 7b yes/no (BLURB)",
}


def test_every_part_of_the_blurb_score_has_a_line_of_its_own() -> None:
    assert set(BLURB) <= set(benchmark_lines()) and sorted(BLURB.values()) == sorted(blurb.PARTS)
    for line, part in BLURB.items():
        assert part in [variant.name for variant in open_benchmark(line.split()[0]).variants], line
    text = SCRIPT.read_text(encoding="utf-8").split("#SBATCH")[0]
    folders = text.split("For the BLURB score:")[1].split("with BLURB's files")[0]
    assert all(re.search(rf"\b{line.split()[1]}\b", folders) for line in BLURB)


OTHERS = {  # line of the list -> what the right files in its folder are, which none of BLURB's lines runs
    "ncbi_disease ncbi-disease-recut": "NCBI-disease, recut",
    "bc5cdr bc5cdr-merged --tag-scheme IOB1": "BC5CDR merged, recut",
    "jnlpba jnlpba": "JNLPBA (5 types)",
    "chemprot chemprot-blue": "ChemProt (BLUE)",
    "chemprot chemprot-scibert": "ChemProt (SciBERT)",
    "ddi ddi-blue": "DDI (BLUE)",
    "gad gad-folds": "GAD (10 folds)",
    "hoc hoc-blue": "HoC (BLUE)",
    "clinical_sts clinical-sts": "ClinicalSTS (BLUE)",
    "mednli mednli": "MedNLI",
    "mnli mnli": "MNLI (matched)",
    "squad squad": "SQuAD 1.1",
    "squad squad2": "SQuAD 2.0",
    "bioasq bioasq --question-type yesno": "BioASQ 7b yesno",
    "bioasq bioasq --question-type factoid": "BioASQ 7b factoid",
    "bioasq bioasq-4b --question-type factoid": "BioASQ 4b factoid",
    "bioasq bioasq-5b --question-type factoid": "BioASQ 5b factoid",
    "bioasq bioasq-6b --question-type factoid": "BioASQ 6b factoid",
}


def test_every_protocol_with_published_scores_has_a_line_of_its_own() -> None:
    lines = benchmark_lines()
    assert set(OTHERS) <= set(lines)
    variants = {line: {one.name: one for one in open_benchmark(line.split()[0]).variants} for line in lines}
    assert all(name in variants[line] for line, name in OTHERS.items())
    published = {name for of_line in variants.values() for name, one in of_line.items() if one.published}
    assert published <= {*BLURB.values(), *OTHERS.values()}
    text = SCRIPT.read_text(encoding="utf-8").split("#SBATCH")[0]
    folders = {line.split()[1] for line in OTHERS if line.split()[1] not in ("clinical-sts", "mednli", "mnli")}
    assert all(re.search(rf"\b{folder}\b", text) for folder in folders)


def options_of(line: str, data: Path) -> tuple[Benchmark, Namespace]:
    """The benchmark of a line of the list, and what its command line says."""
    name, _, *flags = line.split()
    benchmark = open_benchmark(name)
    parser = make_parser(benchmark, "")
    return benchmark, parser.parse_args(["--model", "m", "--data", str(data), "--output", "out", *flags])


def test_five_types_become_blurbs_jnlpba_by_the_flags_of_its_line(tmp_path: Path) -> None:
    types = ("DNA", "RNA", "cell_line", "cell_type", "protein")
    for name, entities in (("train", 46750), ("devel", 4551), ("test", 8662)):
        lines = (f"word\tB-{types[number % 5]}" + "\n" * (number % 50 == 0) for number in range(entities))
        (tmp_path / f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    _, variant = read_tags(*options_of("jnlpba jnlpba-blurb --merge-types", tmp_path))
    assert (variant.name, variant.standard) == ("JNLPBA (BLURB, one type)", True)


def test_electrameds_files_by_the_flags_of_their_line(tmp_path: Path) -> None:
    """Two columns, a blank between them; a mention of one word is a bare I, as no scheme but IOB1 has it."""
    for name, sentences, entities in (("train", 3951, 9270), ("dev", 3957, 9457), ("test", 4145, 9662)):
        blocks = [["Tricuspid B-Entity\nregurgitation I-Entity\n"] for _ in range(sentences)]
        for number in range(entities - sentences):
            blocks[number % sentences].append("and O\nlithium I-Entity\n")
        (tmp_path / f"{name}.txt").write_text("\n".join(map("".join, blocks)), encoding="utf-8")
    benchmark, options = options_of("bc5cdr bc5cdr-merged --tag-scheme IOB1", tmp_path)
    _, variant = read_tags(benchmark, options)
    assert (variant.name, variant.standard) == ("BC5CDR merged, recut", True)
    options.tag_scheme = None
    with pytest.raises(ValueError, match="'I-Entity' of word 'lithium' is not possible there in IOB2: .* IOB1"):
        read_tags(benchmark, options)


def test_blurbs_yes_no_questions_by_the_flags_of_their_line(tmp_path: Path) -> None:
    for name, questions in (("train", 670), ("dev", 75), ("test", 140)):
        line = "question: Is it so? context: It is.\tyes\n"
        (tmp_path / f"{name}_blurb.tsv").write_text(line * questions, encoding="utf-8")
    benchmark, options = options_of("bioasq bioasq-blurb --question-type yesno", tmp_path)
    assert bioasq_task.kind_is_ready_made(options)
    _, variant = read_texts(benchmark, options, bioasq_yesno.CORPUS)
    assert (variant.name, variant.standard) == ("BioASQ 7b yes/no (BLURB)", True)
