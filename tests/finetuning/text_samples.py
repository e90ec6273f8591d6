"""Small text benchmarks in the community's formats, written by hand, and how a script is run on one."""

import json
import lzma
import tarfile
from argparse import Namespace
from pathlib import Path

import pytest

from finetuning.texts import read_variant
from tests.tar_files import extract

DATA = Path(__file__).parents[3] / "shared" / "data"
QUICK = "--learning-rate 3e-3 --layer-decay 1 --batch-size 4 --epochs 2 --patience 9 --seeds 1".split()
SPLITS = ("train", "dev", "test")

# (abstract, sentences with their hallmarks as HoC's original files write them)
HOC = {
    "101": ["naloxone reverses blood pressure .|", "liver failure was seen .|Resisting cell death--Apoptosis"],
    "102": [
        "cocaine caused seizures .|Inducing angiogenesis--By deregulating angiogenesis ANDCellular energetics-- ",
        "patients improved .| NULL",
        "no change was seen .|  Resisting cell death--Necrosis ANDResisting cell death",
    ],
    "103": ["patients with lithium carbonate improved .|", "no change .|NULL"],
    "104": ["lithium caused liver failure .|Sustaining proliferative signaling"],
}

RCT = """###227508
BACKGROUND\tNaloxone reverses high blood pressure .
METHODS\tpatients with lithium carbonate were treated .
RESULTS\tno change was seen .

###227509
OBJECTIVE\tlithium caused liver failure .
CONCLUSIONS\tpatients improved .
"""

NLI = [  # premise, hypothesis, label
    ("patients improved with lithium", "patients improved", "entailment"),
    ("patients improved with lithium", "no change was seen", "contradiction"),
    ("patients were treated with cocaine", "seizures were seen", "neutral"),
    ("liver failure was seen", "liver failure", "entailment"),
]

SIMILAR = [  # two sentences and a score
    ("patients improved", "the patients improved", 3.8),
    ("liver failure was seen", "no change was seen", 1.2),
    ("lithium caused seizures", "seizures were seen with lithium", 2.0),
    ("cocaine", "high blood pressure", 0.0),
]

PUBMEDQA = {
    str(100 + i): {
        "QUESTION": f"does lithium reverse {word} ?",
        "CONTEXTS": ["patients were treated with lithium .", f"{word} was seen ."],
        "LONG_ANSWER": "improved",
        "final_decision": label,
    }
    for i, (word, label) in enumerate(
        zip(["seizures", "cocaine", "failure", "pressure"] * 5, ["yes", "no", "yes", "maybe"] * 5, strict=True)
    )
}


def write_hoc(folder: Path) -> Path:
    """text/ and labels/ with a list of splits: two abstracts for training, one for dev, one for the test."""
    for name in ("text", "labels"):
        (folder / name).mkdir(parents=True)
        (folder / name / "._101.txt").write_bytes(b"\x00\x05\x16\x07 Mac OS X")
    for pmid, lines in HOC.items():
        sentences, cells = zip(*(line.split("|") for line in lines), strict=True)
        (folder / "text" / f"{pmid}.txt").write_text("\n".join(sentences) + "\n")
        (folder / "labels" / f"{pmid}.txt").write_text("< " + "<".join(cells))
    rows = ["pmid\tsplit\tlabels", "101\ttrain\t", "102\ttrain\t", "103\tdev\t", "104\ttest\t"]
    (folder / "HoC_blurb_splits.tsv").write_text("\n".join(rows) + "\n")
    return folder


def write_splits(folder: Path, text: str, names: list[str]) -> Path:
    """The same text in each of the files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def nli_lines(rows=NLI) -> str:
    """As MedNLI and MultiNLI have them."""
    return "".join(
        json.dumps({"pairID": f"p{i}", "sentence1": one, "sentence2": two, "gold_label": label, "label": "ignored"})
        + "\n"
        for i, (one, two, label) in enumerate(rows)
    )


def run(module, model, data: Path, output: Path, *more: str) -> dict:
    """results.json of a run on files of nonstandard sizes, called tiny, the only one of its variant in `output`."""
    arguments = ["--model", str(model), "--data", str(data), "--output", str(output), "--model-name", "tiny"]
    module.main([*arguments, *QUICK, "--nonstandard-split", *more])
    (path,) = output.glob("*/tiny/results.json")
    return json.loads(path.read_text()) | {"folder": path.parent}


def score(module, data: Path, predictions: Path, **more) -> dict:
    """What `finetuning.score` gives for a file of test predictions."""
    flags = {"split": "test", "nonstandard_split": True, "train_split": None, **more}
    return module.BENCHMARK.score_file(module.BENCHMARK, Namespace(data=data, predictions=predictions, **flags))


def sizes_of(module, data: Path, **more) -> tuple[str, bool, dict]:
    """Name of the variant that the files are, whether it is a published one, and its sizes."""
    flags = {"data": data, "nonstandard_split": False, "train_split": None, **more}
    _, variant = read_variant(module.BENCHMARK, Namespace(**flags), module.CORPUS)
    return variant.name, variant.standard, variant.sizes


def error_of(module, model, data: Path, output: Path, *more: str) -> str:
    """The one sentence of a run that is refused."""
    with pytest.raises(SystemExit) as stopped:
        module.main(["--model", str(model), "--data", str(data), "--output", str(output), *QUICK, *more])
    assert isinstance(stopped.value.code, str) and "\n" not in stopped.value.code
    assert not output.exists()
    return stopped.value.code


def unpack(archive: str, folder: Path) -> Path:
    """Unpack one of the shared archives; the test is skipped where it is not there."""
    path = DATA / archive
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    with lzma.open(path) as stream, tarfile.open(fileobj=stream) as tar:
        extract(tar, folder)
    (top,) = folder.iterdir()
    return top
