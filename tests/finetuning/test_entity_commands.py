"""Entity benchmarks from the command line: texts, PICO, a data set of one's own, scoring of files, the baseline."""

import json
import re
from argparse import Namespace
from pathlib import Path

import pytest

from benchmarks import entity_baseline
from benchmarks.entity_baseline import entity_dictionary, find_entities
from finetuning import bc4chemd, ebm_nlp, linnaeus, ner, ranks, s800, tagging
from finetuning.config import FinetuneConfig
from finetuning.conll import Sentence, TaggedFile
from tests.finetuning.archives import unpack
from tests.finetuning.samples import SENTENCES, pairs, write_benchmark
from tests.finetuning.test_entity_files import write_pubtator

QUICK = "--learning-rate 3e-3 --layer-decay 1 --batch-size 4 --epochs 3 --seeds 1 --model-name tiny".split()


def run(module, model, data, output, *more):
    """(results, seed 0, its predictions) of a run."""
    module.main(["--model", str(model), "--data", str(data), "--output", str(output), *QUICK, *more])
    (path,) = output.glob("*/tiny/results.json")
    (predictions,) = path.parent.glob("seed_0.predictions.*")
    return json.loads(path.read_text()), json.loads((path.parent / "seed_0.json").read_text()), predictions


def score(module, data, predictions, **settings):
    options = {
        "split": "test",
        "tag_scheme": None,
        "train_split": None,
        "merge_types": False,
        "nonstandard_split": True,
    }
    options = Namespace(data=data, predictions=predictions, **{**options, **settings})
    return module.BENCHMARK.score_file(module.BENCHMARK, options)


def write_pico(folder):
    """dev and test without train, four columns divided by blanks, no B tags."""
    folder.mkdir()
    lines = ["-DOCSTART- (10037531)", ""]
    for sentence in SENTENCES:
        rename = {"Chemical": "INT", "Disease": "OUT"}
        tags = [("O" if tag == "O" else f"I-{rename[tag[2:]]}", word) for word, tag in pairs(sentence)]
        lines += [*(f"{word} NN O {tag}" for tag, word in tags), ""]
    for name in ("dev.txt", "test.txt"):
        (folder / name).write_text("\n".join(lines))
    return folder


def test_pico_is_scored_by_words(tiny_model, tmp_path):
    data = write_pico(tmp_path / "data")
    more = ["--train-split", "dev", "--nonstandard-split", "--epochs", "20"]
    results, seed, predictions = run(ebm_nlp, tiny_model, data, tmp_path / "out", *more)
    assert (results["metric"], results["nonstandard_split"]) == ("token-level macro-F1", True)
    assert results["split"]["test"]["documents"] == 1
    assert seed["dev"] is None and len(seed["history"]) == 20  # no dev split is left: all epochs
    test = seed["test"]
    assert test["token-level macro-F1"] == results["mean"] > 0.5
    words = [tag[2:] for sentence in SENTENCES for _, tag in pairs(sentence) if tag != "O"]
    assert {name: one["words"] for name, one in test["classes"].items()} == {
        "INT": words.count("Chemical"),
        "OUT": words.count("Disease"),
    }
    assert "entity-level F1" in test
    assert score(ebm_nlp, data, predictions) == test
    assert score(ebm_nlp, data, predictions, split="dev") == test  # the same sentences


# (benchmark, name of its one type, its documented sentences in train, dev and test)
BARE = [
    (linnaeus, "Species", (11935, 4078, 7142)),
    (s800, "Species", (5733, 830, 1630)),
    (bc4chemd, "Chemical", (30682, 30639, 26364)),
]


@pytest.mark.parametrize("module", [row[0] for row in BARE])
def test_biobert_files_run_to_a_score(tiny_model, tmp_path, module):
    """Of the three benchmarks that no test has the real files of."""
    data = write_benchmark(tmp_path / "data", "biobert")
    more = ["--nonstandard-split", "--epochs", "20", "--patience", "20"]
    results, seed, predictions = run(module, tiny_model, data, tmp_path / "out", *more)
    assert (results["variant"], results["nonstandard_split"]) == (f"{module.BENCHMARK.name} untyped", True)
    assert results["mean"] == seed["test"]["entity-level F1"] > 0.3
    assert results["split"]["test"]["sentences"] == len(SENTENCES)
    chemicals = sum(tag == "B-Chemical" for sentence in SENTENCES for _, tag in pairs(sentence))
    assert seed["test"]["entities"] == chemicals == 8
    assert score(module, data, predictions) == seed["test"]
    with pytest.raises(ValueError, match=f"is not a published split of {module.BENCHMARK.name}: expected"):
        score(module, data, predictions, nonstandard_split=False)


@pytest.mark.parametrize(("module", "kind", "sentences"), BARE)
def test_sets_of_the_documented_sizes_are_the_published_ones(tmp_path, module, kind, sentences):
    """So many short sentences, with BioBERT's file names and bare tags: their type gets the benchmark's name for it."""
    for name, count in zip(("train", "devel", "test"), sentences, strict=True):
        (tmp_path / f"{name}.tsv").write_text("mice\tB\n\n" * count)
    options = Namespace(data=tmp_path, tag_scheme=None, train_split=None, merge_types=False, nonstandard_split=False)
    files, variant = tagging.read_variant(module.BENCHMARK, options)
    assert (variant.name, variant.standard) == (module.BENCHMARK.name, True)
    assert files["test"].entity_counts() == {kind: sentences[2]}
    assert all(f"{count:,}" in module.__doc__ for count in sentences)


def test_texts_with_spans_of_ones_own(tiny_model, tmp_path, capsys):
    data = write_pubtator(tmp_path / "my data")
    results, seed, predictions = run(ner, tiny_model, data, tmp_path / "out")
    assert (results["variant"], results["nonstandard_split"], results["published"]) == ("NER my data", True, [])
    assert "test (Xtestset_corpus.txt): 2 of 4 entities cannot be tagged" in capsys.readouterr().out
    assert results["split"]["test"]["notes"][0].startswith("2 of 4 entities cannot be tagged")
    assert seed["test"]["entities"] == 4
    assert predictions.name == "seed_0.predictions.pubtator.txt"
    assert score(ner, data, predictions) == seed["test"]


def test_a_label_only_in_test_is_said_and_missed(tiny_model, tmp_path, capsys):
    data = write_benchmark(tmp_path / "data", "iob")
    text = (data / "test.tsv").read_text()
    (data / "test.tsv").write_text(text.replace("B-Disease", "B-Species").replace("I-Disease", "I-Species"))
    results, seed, _ = run(ner, tiny_model, data, tmp_path / "out")
    assert "test (test.tsv): 4 entities are of type Species, which is not in train:" in capsys.readouterr().out
    assert seed["test"]["types"]["Species"]["entities"] == 4
    assert seed["test"]["types"]["Species"]["recall"] == 0.0
    assert seed["test"]["entities"] == 12


def test_a_label_only_in_dev_is_learned_where_dev_is_trained_on(tiny_model, tmp_path, capsys):
    data = write_benchmark(tmp_path / "data", "iob")
    text = (data / "devel.tsv").read_text()
    (data / "devel.tsv").write_text(text.replace("B-Disease", "B-Species").replace("I-Disease", "I-Species"))
    run(ner, tiny_model, data, tmp_path / "train")
    assert "entities are of type Species, which is not in train:" in capsys.readouterr().out
    run(ner, tiny_model, data, tmp_path / "both", "--train-on-dev")
    assert "Species" not in capsys.readouterr().out
    model = json.loads(next((tmp_path / "both").rglob("task.json")).read_text())
    assert model["labels"][-2:] == ["B-Species", "I-Species"]


@pytest.mark.parametrize("rank", [0, 1])
def test_notes_on_the_files_are_said_by_the_first_rank_alone(tiny_model, tmp_path, capsys, monkeypatch, rank):
    monkeypatch.setattr(ranks, "rank", lambda: rank)
    flags = {
        "tag_scheme": None,
        "train_split": None,
        "merge_types": False,
        "nonstandard_split": True,
        "train_on_dev": False,
    }
    options = Namespace(data=write_pubtator(tmp_path / "data"), model=str(tiny_model), **flags)
    ner.BENCHMARK.prepare(ner.BENCHMARK, options, FinetuneConfig())
    assert capsys.readouterr().out.count("entities cannot be tagged") == (3 if rank == 0 else 0)


def test_types_can_be_merged(tiny_model, tmp_path):
    data = write_benchmark(tmp_path / "data", "iob")
    _, seed, predictions = run(ner, tiny_model, data, tmp_path / "out", "--merge-types")
    assert list(seed["test"]["types"]) == ["Entity"] and seed["test"]["entities"] == 12
    assert score(ner, data, predictions, merge_types=True) == seed["test"]
    # the predictions of others have the types
    gold = "\n\n".join("\n".join(f"{word}\t{tag}" for word, tag in pairs(sentence)) for sentence in SENTENCES)
    (tmp_path / "gold.tsv").write_text(gold)
    assert score(ner, data, tmp_path / "gold.tsv", merge_types=True)["entity-level F1"] == 1.0


def test_predictions_of_other_types_are_refused(tmp_path):
    """They would score 0 for their names alone. Some more types than the gold ones count as wrong."""
    data = write_benchmark(tmp_path / "data", "iob")
    gold = "\n\n".join("\n".join(f"{word}\t{tag}" for word, tag in pairs(sentence)) for sentence in SENTENCES)
    path = tmp_path / "ours.tsv"
    path.write_text(gold.replace("-Chemical", "").replace("-Disease", ""))
    with pytest.raises(ValueError, match="ours.tsv has entities of type Entity, the data set of Chemical, Disease"):
        score(ner, data, path)
    path.write_text(gold.replace("-Chemical", "-chemical").replace("-Disease", "-DISEASE"))
    with pytest.raises(ValueError, match="of type DISEASE, chemical, the data set of Chemical, Disease: give them"):
        score(ner, data, path)
    path.write_text(gold.replace("-Disease", "-Species"))
    assert score(ner, data, path)["precision"] == 8 / 12
    path.write_text("\n\n".join("\n".join(f"{word}\tO" for word, _ in pairs(sentence)) for sentence in SENTENCES))
    assert score(ner, data, path)["recall"] == 0
    texts = write_pubtator(tmp_path / "texts")
    path.write_text((texts / "Xtestset_corpus.txt").read_text().upper().replace("|T|", "|t|").replace("|A|", "|a|"))
    with pytest.raises(ValueError, match="ours.tsv has entities of type CHEMICAL, DISEASE, the data set of Chemical"):
        score(ner, texts, path)


def test_a_split_that_is_not_there_cannot_be_scored(tmp_path):
    data = write_benchmark(tmp_path / "data", "iob")
    with pytest.raises(ValueError, match="--split evening: .* has only train, dev, test"):
        score(ner, data, data / "test.tsv", split="evening")


def test_baseline_by_hand():
    train = [
        Sentence(["Lung", "cancer", "in", "mice"], ["B-D", "I-D", "O", "B-S"]),
        Sentence(["cancer", ":", "cancer"], ["B-X", "O", "B-D"]),
    ]
    dictionary = entity_dictionary(TaggedFile(None, train, ""))
    assert dictionary == {("lung", "cancer"): "D", ("mice",): "S", ("cancer",): "D"}
    sentence = Sentence(["lung", "Cancer", "cancer", "mice", "lung"], ["O"] * 5)
    assert find_entities(sentence, dictionary, 2) == [(0, 2, "D"), (2, 3, "D"), (3, 4, "S")]


def test_baseline_command(tmp_path, capsys):
    """train = test: the dictionary finds all, and what it tags besides is none here."""
    data = write_benchmark(tmp_path / "data", "iob")
    line = ["bc5cdr", "--data", str(data), "--nonstandard-split", "--output", str(tmp_path / "scores.json")]
    entity_baseline.main(line)
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert json.loads(capsys.readouterr().out) == scores
    assert (scores["test"]["entity-level F1"], scores["test"]["entities"]) == (1.0, 12)
    assert (scores["baseline"], scores["nonstandard_split"]) == ("dictionary", True)
    with pytest.raises(SystemExit, match="has no entity benchmark 'bc6cdr'"):
        entity_baseline.main(["bc6cdr", "--data", str(data)])


@pytest.mark.parametrize(("name", "folder"), [("ncbi_disease", "NCBI-disease"), ("bc5cdr", "BC5CDR-chem")])
def test_the_stated_baselines_are_those_of_the_test_split(tmp_path, capsys, name, folder):
    """benchmarks/README.md, whose rows are of test, had those of dev, which the program prints first."""
    data = unpack(f"ner/biobert_{folder}.tar.xz", tmp_path)
    entity_baseline.main([name, "--data", str(data)])
    score = 100 * json.loads(capsys.readouterr().out)["test"]["entity-level F1"]
    text = (Path(entity_baseline.__file__).parent / "README.md").read_text(encoding="utf-8")
    (row,) = re.findall(
        rf"^.* on test \|.*\| ([\d.]+) \| `python -m benchmarks.entity_baseline {name}` \|$", text, re.M
    )
    assert row == f"{score:.2f}"
