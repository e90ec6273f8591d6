"""Relations, texts, pairs and questions from the real files as they are to results.json, and their predictions scored.

Entities and PICO have theirs in test_entity_benchmarks.
"""

import importlib
import json
import lzma
import zipfile
from pathlib import Path
from typing import Any

import pytest

from finetuning.score import score
from tests.finetuning.archives import SHARED, shared_folder, unpack

QUICK = (
    "--epochs 1 --seeds 1 --batch-size 128 --learning-rate 3e-3 --max-length 64 --overlap 16 --model-name tiny".split()
)
SPLITS = str(SHARED / "cls" / "HoC_blurb_splits.tsv")
GOLDEN = [f"BioASQ/{edition}B{batch}_golden.json" for edition in (5, 6) for batch in range(1, 6)]
NONSTANDARD = ["--nonstandard-split"]
# (benchmark, files below shared/data, variant, its own flags, flags of the run alone)
RUNS = [
    ("chemprot", "re/chemprot_blurb_scifive.tar.xz", "ChemProt (BLURB)", [], []),
    ("chemprot", "re/chemprot_scibert_jsonl.tar.xz", "ChemProt (SciBERT)", [], []),
    ("ddi", "re/DDICorpus-2013.zip", "DDI (BLURB)", [], []),
    ("ddi", "re/ddi2013_blue_electramed_dev_test.tar.xz", "DDI (BLUE)", NONSTANDARD, ["--train-split", "dev"]),
    ("euadr", "re/biobert_euadr_10fold.tar.xz", "EU-ADR (10 folds)", [], []),
    ("hoc", "cls/HoC.tar.xz", "HoC (BLURB)", ["--splits", SPLITS], []),
    ("pubmed_rct", "cls/nicta_piboso.tar.xz", "NICTA-PIBOSO", [], []),
    ("ohsumed", "cls/ohsumed_single_23.tar.xz", "OHSUMED, single label", [], []),
    ("biosses", "sts", "BIOSSES", [], []),
    ("biosses", "sts/biosses_blurb_scifive.tar.xz", "BIOSSES", [], []),
    ("pubmedqa", "qa/pubmedqa_ori_pqal_sample20.json", "PubMedQA", NONSTANDARD, []),
    ("squad", "qa/xquad.en.json.xz", "SQuAD (data)", NONSTANDARD, ["--folds", "2"]),
    ("bioasq", "qa/BioASQ_4b-7b.tar.xz", "BioASQ 7b yesno", ["--question-type", "yesno"], ["--train", *GOLDEN]),
    ("bioasq", "qa/bioasq_yesno_blurb_scifive.tar.xz", "BioASQ 7b yes/no (BLURB)", ["--question-type", "yesno"], []),
]  # fmt: skip


def data_of(name: str, folder: Path) -> Path:
    """What --data is to name: shared files as they are, archives unpacked below `folder`."""
    if name.endswith(".tar.xz"):
        return unpack(name, folder)
    if "." not in name:
        return shared_folder(name)
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    if name.endswith(".zip"):
        zipfile.ZipFile(path).extractall(folder)
        return next(folder.iterdir())
    if name.endswith(".xz"):
        (folder / path.stem).write_bytes(lzma.open(path).read())
        return folder
    return path


def check_folds(benchmark: str, arguments: list[str], seed: dict[str, Any], folder: Path) -> None:
    """Each fold's predictions score as its test did; of SQuAD's form, by the number of questions right."""
    assert len(seed["folds"]) > 1
    for number, fold in enumerate(seed["folds"], start=1):
        (path,) = folder.glob(f"seed_0.fold_{number - 1}.predictions.*")
        found = score(benchmark, [*arguments, "--predictions", str(path)])
        if benchmark == "squad":  # all questions count there, and those of other folds are missing
            answered = len(json.loads(path.read_text()))
            share = answered / (answered + found["missing"])
            assert found["F1"] == pytest.approx(fold["test"]["F1"] * share)
        else:
            assert found["folds"] == {str(number): fold["test"]}


@pytest.mark.slow
@pytest.mark.parametrize(("benchmark", "data", "name", "own", "more"), RUNS, ids=[Path(row[1]).name for row in RUNS])
def test_every_distribution_runs_to_a_score(tiny_model, tmp_path, benchmark, data, name, own, more):
    """One epoch of a tiny random model, and the predictions scored."""
    (tmp_path / "data").mkdir()
    folder = data_of(data, tmp_path / "data")
    more = [str(tmp_path / "data" / one) if one in GOLDEN else one for one in more]
    output = tmp_path / "out"
    command = ["--model", str(tiny_model), "--data", str(folder), "--output", str(output), *QUICK, *own, *more]
    importlib.import_module(f"finetuning.{benchmark}").main(command)
    (path,) = output.glob("*/tiny/seed_0.json")
    seed = json.loads(path.read_text())
    assert seed["run"]["variant"] == name
    assert seed["run"]["nonstandard_split"] == ("--nonstandard-split" in own)
    arguments = ["--data", str(folder), *own]
    if "folds" in seed:
        check_folds(benchmark, arguments, seed, path.parent)
        return
    (predictions,) = path.parent.glob("seed_0.predictions.*")
    assert score(benchmark, [*arguments, "--predictions", str(predictions)]) == seed["test"]
