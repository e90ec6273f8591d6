"""Every entity benchmark on the real files as they are distributed: which variant they are, and their sizes."""

import importlib
import json
from argparse import Namespace

import pytest

from finetuning import bc5cdr, jnlpba, ncbi_disease, tagging
from finetuning.entity_files import COUNTS, sizes
from tests.finetuning.archives import shared_folder, unpack

CHEMICALS, DISEASES = (5203, 5347, 5385), (4182, 4246, 4424)
BC5CDR = (4560, 4581, 4797)
NCBI = ((5424, 923, 940), {"Disease": (5134, 787, 960)})
# (benchmark, files under ner/ or pico/, variant, scheme or form, sentences, entities)
STANDARD = [
    ("bc5cdr", "ner/biobert_BC5CDR-chem.tar.xz", "BC5CDR chemical", "IOB2", BC5CDR, {"Chemical": CHEMICALS}),
    ("bc5cdr", "ner/biobert_BC5CDR-disease.tar.xz", "BC5CDR disease", "IOB2", BC5CDR, {"Disease": DISEASES}),
    (
        "bc5cdr",
        "ner/mtl_BC5CDR-IOB.tar.xz",
        "BC5CDR chemical+disease",
        "IOB2",
        BC5CDR,
        {"Chemical": CHEMICALS, "Disease": DISEASES},
    ),
    (
        "bc5cdr",
        "ner/mtl_BC5CDR-IOBES.tar.xz",
        "BC5CDR chemical+disease",
        "IOBES",
        BC5CDR,
        {"Chemical": CHEMICALS, "Disease": DISEASES},
    ),
    (
        "bc5cdr",
        "ner/scibert_bc5cdr_iob1_4col.tar.xz",
        "BC5CDR merged",
        "IOB1",
        (3942, 3949, 4139),
        {"Entity": (9270, 9455, 9662)},
    ),
    (
        "bc5cdr",
        "ner/original_BC5CDR",
        "BC5CDR chemical+disease (PubTator)",
        "PubTator",
        (4560, 4576, 4807),
        {"Chemical": CHEMICALS, "Disease": (4182, 4244, 4424)},
    ),
    ("ncbi_disease", "ner/biobert_NCBI-disease.tar.xz", "NCBI-disease", "IOB2", *NCBI),
    ("ncbi_disease", "ner/mtl_NCBI-disease-IOBES.tar.xz", "NCBI-disease", "IOBES", *NCBI),
    (
        "bc2gm",
        "ner/biobert_BC2GM.tar.xz",
        "BC2GM",
        "IOB2",
        (12574, 2519, 5038),
        {"Gene": (15197, 3061, 6325)},
    ),
    (
        "jnlpba",
        "ner/biobert_JNLPBA.tar.xz",
        "JNLPBA (BioBERT, one type)",
        "IOB2",
        (14690, 3856, 3856),
        {"Entity": (32178, 8575, 6241)},
    ),
    (
        "jnlpba",
        "ner/original_JNLPBA_standoff.tar.xz",
        "JNLPBA (5 types, standoff)",
        "brat",
        (18976, 0, 3989),
        jnlpba.WITHOUT_DEV,
    ),
    (
        "bionlp13cg",
        "ner/mtl_BioNLP13CG-IOB.tar.xz",
        "BioNLP13-CG",
        "IOB2",
        (3033, 1003, 1906),
        None,
    ),
]
WITHOUT_TRAIN = [
    (
        "jnlpba",
        "ner/mtl_JNLPBA.tar.xz",
        "JNLPBA 5 types",
        "IOB2",
        (1739, 0, 3856),
        {name: (dev, 0, test) for name, (_, dev, test) in jnlpba.WITH_DEV.items()},
    ),
    (
        "jnlpba",
        "ner/mtl_JNLPBA-IOBES.tar.xz",
        "JNLPBA 5 types",
        "IOBES",
        (1713, 0, 3800),
        {name: (dev, 0, test) for name, (_, dev, test) in jnlpba.WITH_DEV.items()},
    ),
    (
        "ebm_nlp",
        "pico/ebmnlp_scibert_dev_test.tar.xz",
        "EBM-NLP int+out+par",
        "IO",
        (7049, 0, 2064),
        {"INT": (6332, 0, 1521), "OUT": (6577, 0, 1403), "PAR": (3652, 0, 621)},
    ),
    (
        "ncbi_disease",
        "ner/original_NCBI-disease",
        "NCBI-disease disease",
        "PubTator",
        (5803, 0, 975),
        None,
    ),
]


def options_of(data, **settings):
    standard = {"tag_scheme": None, "train_split": None, "merge_types": False, "nonstandard_split": False}
    return Namespace(data=data, **{**standard, **settings})


def data_of(name, tmp_path):
    return unpack(name, tmp_path) if name.endswith(".tar.xz") else shared_folder(name)


def check(benchmark, options, name, scheme, sentences, entities):
    benchmark = importlib.import_module(f"finetuning.{benchmark}").BENCHMARK
    files, variant = tagging.read_variant(benchmark, options)
    assert variant.name == name
    found = sizes(files)
    assert {scheme} <= {files["test"].scheme, files["test"].form}
    assert found["sentences"] == sentences
    types = {kind: numbers for kind, numbers in found.items() if kind not in COUNTS}
    assert types == entities or entities is None
    assert found["entities"] == tuple(map(sum, zip(*types.values(), strict=True)))
    return found, variant


@pytest.mark.parametrize(("benchmark", "data", "name", "scheme", "sentences", "entities"), STANDARD)
def test_files_as_distributed(tmp_path, benchmark, data, name, scheme, sentences, entities):
    options = options_of(data_of(data, tmp_path))
    _, variant = check(benchmark, options, name, scheme, sentences, entities)
    assert variant.standard


@pytest.mark.parametrize(("benchmark", "data", "name", "scheme", "sentences", "entities"), WITHOUT_TRAIN)
def test_files_without_train_or_dev(tmp_path, benchmark, data, name, scheme, sentences, entities):
    split = None if benchmark == "ncbi_disease" else "dev"
    options = options_of(data_of(data, tmp_path), train_split=split, nonstandard_split=True)
    found, variant = check(benchmark, options, name, scheme, sentences, entities)
    assert not variant.standard and variant.published == ()
    if benchmark == "ebm_nlp":
        assert found["documents"] == (960, 0, 191)
        assert found["tagged words"] == (87913, 0, 11908)
    with pytest.raises(ValueError, match="no train file|is not a published split of NCBI-disease: expected .*PubTator"):
        tagging.read_variant(importlib.import_module(f"finetuning.{benchmark}").BENCHMARK, options_of(options.data))


def test_five_types_merged_are_blurbs_jnlpba(tmp_path):
    """The train file is not there, so that only the counts of dev and test are looked at."""
    options = options_of(unpack("ner/mtl_JNLPBA.tar.xz", tmp_path), train_split="dev", nonstandard_split=True)
    options.merge_types = True
    files, _ = tagging.read_variant(jnlpba.BENCHMARK, options)
    (blurb,) = (one for one in jnlpba.BENCHMARK.variants if "BLURB" in one.name)
    assert [file.entity_counts()["Entity"] for file in files.values()] == list(blurb.sizes["Entity"][1:])


def test_blurbs_jnlpba_is_known_by_its_entities():
    (blurb,) = (one for one in jnlpba.BENCHMARK.variants if "BLURB" in one.name)
    five = jnlpba.WITH_DEV.values()
    assert blurb.sizes["Entity"] == tuple(map(sum, zip(*five, strict=True)))
    found = {"documents": (0, 0, 0), "sentences": (9, 9, 9), "entities": (46750, 4551, 8662), **blurb.sizes}
    assert tagging.comparable(found, blurb) == blurb.sizes


@pytest.mark.slow
@pytest.mark.parametrize(("benchmark", "data", "name"), [row[:3] for row in STANDARD + WITHOUT_TRAIN])
def test_every_distribution_runs_to_a_score(tiny_model, tmp_path, benchmark, data, name):
    """One epoch of a tiny random model, from the files as they are to results.json, and the predictions scored."""
    module = importlib.import_module(f"finetuning.{benchmark}")
    folder = data_of(data, tmp_path)
    flags = ["--epochs", "1", "--seeds", "1", "--learning-rate", "3e-3", "--model-name", "tiny"]
    more = {}
    if (benchmark, data, name) in [row[:3] for row in WITHOUT_TRAIN]:
        more = {"nonstandard_split": True, "train_split": None if benchmark == "ncbi_disease" else "dev"}
        flags += ["--nonstandard-split", *(["--train-split", "dev"] if more["train_split"] else [])]
    output = tmp_path / "out"
    module.main(["--model", str(tiny_model), "--data", str(folder), "--output", str(output), *flags])
    (path,) = output.glob("*/tiny/seed_0.json")
    seed = json.loads(path.read_text())
    assert seed["run"]["variant"] == name
    test = seed["test"]
    assert test["entities"] == sum(seed["run"]["split"]["test"]["entities"].values())
    (predictions,) = path.parent.glob("seed_0.predictions.*")
    options = options_of(folder, predictions=predictions, split="test", **more)
    assert module.BENCHMARK.score_file(module.BENCHMARK, options) == test


def test_scores_on_recut_sentences_stand_beside_those_alone():
    for module, score in ((bc5cdr, 90.03), (ncbi_disease, 87.54)):
        named = {one.name for one in module.BENCHMARK.variants for _, value, _ in one.published if value == score}
        assert len(named) == 1 and named.pop().endswith(", recut")
