"""The BLURB score: a published row gives its published score, and only BLURB's variants count."""

from importlib import import_module

import pytest

from finetuning import bioasq_yesno, blurb, table
from tests.finetuning.result_samples import results, write_all

# PubMedBERT's row and its score, 81.16, as in arXiv:2007.15779.
PUBMEDBERT = {
    "BC5CDR chemical": 93.33,
    "BC5CDR disease": 85.62,
    "NCBI-disease": 87.82,
    "BC2GM": 84.52,
    "JNLPBA (BLURB, one type)": 79.10,
    "EBM-NLP (BLURB)": 73.38,
    "ChemProt (BLURB)": 77.24,
    "DDI (BLURB)": 82.36,
    "GAD (BLURB)": 83.96,
    "BIOSSES": 92.30,
    "HoC (BLURB)": 82.32,
    "PubMedQA": 55.84,
    "BioASQ 7b yes/no (BLURB)": 87.56,
}
SCRIPTS = "bc5cdr ncbi_disease bc2gm jnlpba ebm_nlp chemprot ddi gad biosses hoc pubmedqa".split()


def contents(model="ours", **more):
    """A result for each part."""
    return [results(name, model, score / 100, **more) for name, score in PUBMEDBERT.items()]


@pytest.mark.parametrize("wide", [False, True])
def test_published_row_gives_the_published_score(tmp_path, wide):
    write_all(tmp_path, contents())
    rows, line = table.make_table([tmp_path], wide).split("\n\n")
    assert rows.startswith("| ")
    assert line == (
        "BLURB score of ours: 81.16, the mean of entities 86.08, PICO 73.38, relations 81.19, similarity 92.30, "
        "documents 82.32, questions 71.70.\n"
    )


def test_parts_are_variants_of_the_scripts_with_blurbs_published_scores():
    variants = [variant for name in SCRIPTS for variant in import_module(f"finetuning.{name}").BENCHMARK.variants]
    variants += bioasq_yesno.VARIANTS
    assert len(blurb.PARTS) == len(set(blurb.PARTS)) == 13
    for part in blurb.PARTS:
        named = [variant for variant in variants if variant.name == part]
        sources = {source for variant in named for *_, source in variant.published}
        assert named and all(variant.standard for variant in named)
        assert any(source.startswith("BLURB") for source in sources), part
        assert not any("BLUE" in source for source in sources), part


@pytest.mark.parametrize(
    ("model", "source", "score"),
    [
        ("BioBERT", "BLURB, arXiv:2007.15779", 80.34),
        ("BioM-ELECTRA-base", "BLURB, github.com/salrowili/BioM-Transformers, one run", 82.46),
    ],
)
def test_a_published_row_is_whole_and_of_one_source(model, source, score):
    """One row of the wide table, not two, and no dash where the paper has a score; the score of BioBERT is published,
    that of the other follows from its parts.
    """
    rows = {}
    for name in (*SCRIPTS, "bioasq"):
        for variant in import_module(f"finetuning.{name}").BENCHMARK.variants:
            for row in variant.published:
                if row[0] == model and variant.name in blurb.PARTS:
                    rows[variant.name] = row
    assert set(rows) == set(blurb.PARTS)
    assert {where for *_, where in rows.values()} == {source}
    families = blurb.family_means({name: row[1] for name, row in rows.items()})
    assert round(sum(families.values()) / len(families), 2) == score


def test_missing_parts_are_named_if_half_are_there():
    found = contents()
    assert blurb.lines(found[:6]) == []
    (line,) = blurb.lines(found[:7])
    assert line == (
        "BLURB score of ours: not computed, for 6 of 13 parts are missing: DDI (BLURB), GAD (BLURB), BIOSSES, "
        "HoC (BLURB), PubMedQA, BioASQ 7b yes/no (BLURB)."
    )
    (line,) = blurb.lines([*found[:12], results("BioASQ 7b yes/no (BLURB)", "ours", None)])
    assert line.endswith("1 of 13 parts are missing: BioASQ 7b yes/no (BLURB) (every run failed).")


@pytest.mark.parametrize("other", [{"nonstandard_split": True}, {"train_on_dev": True}, {"variant": "GAD (10 folds)"}])
def test_another_protocol_does_not_count(other):
    found = [{**part, **other} if part["variant"] == "GAD (BLURB)" else part for part in contents()]
    (line,) = blurb.lines(found)
    assert line == "BLURB score of ours: not computed, for 1 of 13 parts are missing: GAD (BLURB)."


def test_models_are_not_mixed_and_doubtful_ones_are_said():
    found = contents("b") + contents("a", model_fingerprint="one") + contents("half")[:6]
    found[13]["model_fingerprint"] = "two"
    first, second = blurb.lines(found)
    assert first.startswith("BLURB score of a: 81.16,")
    assert first.endswith(" The parts were finetuned from 2 different models of this name.")
    assert second.startswith("BLURB score of b: 81.16,") and "different" not in second
    (line,) = blurb.lines([*contents(), results("BC2GM", "ours", 0.9)])
    assert line.startswith("BLURB score of ours: not computed, for it has several results of BC2GM;")
