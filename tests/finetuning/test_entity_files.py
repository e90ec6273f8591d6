"""Splits of a folder in every form, texts to tagged sentences, and that every gold entity stays in the count."""

import random

import pytest

from finetuning.entity_files import read_splits, rename_types, sizes, tag_text, texts
from finetuning.standoff import Document, Entity
from finetuning.tags import iob_spans
from tests.finetuning.archives import shared_folder, unpack
from tests.finetuning.samples import write_benchmark

TEXT = "p53 and\nIL-2 receptor. It binds beta2M well"


def tagged(entities, text=TEXT):
    """Entities by hand, (start, end), as tag_text tags them: ([(text, type)], [reason])."""
    document = Document("1", text, [Entity(tuple(pieces), "X", i) for i, pieces in enumerate(entities)])
    sentences, missed = tag_text(document, 0)
    found = [
        text[one.offsets[start][0] : one.offsets[end - 1][1]]
        for one in sentences
        for start, end, _ in iob_spans(one.tags)
    ]
    assert all(text[a:b] == word for one in sentences for word, (a, b) in zip(one.words, one.offsets, strict=True))
    return found, [reason for _, reason in missed]


def test_entities_to_tags_by_hand():
    assert tagged([[(0, 3)], [(8, 21)], [(32, 38)]]) == (["p53", "IL-2 receptor", "beta2M"], [])
    # neighbours stay two entities
    assert tagged([[(8, 12)], [(13, 21)]]) == (["IL-2", "receptor"], [])


@pytest.mark.parametrize(
    ("entities", "kept", "reasons"),
    [
        ([[(8, 12)], [(8, 21)]], ["IL-2 receptor"], ["overlap a longer one"]),
        ([[(0, 3)], [(0, 3)]], ["p53"], ["overlap a longer one"]),
        ([[(32, 36)]], [], ["with an end inside a word"]),
        ([[(13, 25)]], [], ["across the end of a sentence"]),
        ([[(8, 10), (13, 21)]], [], ["in several pieces"]),
        ([[(40, 400)]], [], ["with offsets outside of the text"]),
        ([[(5, 5)]], [], ["with offsets outside of the text"]),
    ],
)
def test_what_tags_cannot_say(entities, kept, reasons):
    assert tagged(entities) == (kept, reasons)


def test_every_entity_is_tagged_or_missed():
    chance = random.Random(5)
    for _ in range(200):
        text = "".join(chance.choice("ab1 -. A") for _ in range(60))
        entities = []
        for _ in range(chance.randint(0, 12)):
            start = chance.randrange(60)
            entities.append([(start, start + chance.randint(1, 9))])
        kept, reasons = tagged(entities, text)
        assert len(kept) + len(reasons) == len(entities)


def write_pubtator(folder):
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(
        ("X_TrainingSet.PubTator.txt", "X_DevelopmentSet.PubTator.txt", "Xtestset_corpus.txt")
    ):
        (folder / name).write_text(
            f"{number}|t|Lithium in man.\n{number}|a|Lithium carbonate, then more.\n"
            f"{number}\t0\t7\tLithium\tChemical\t-1\n{number}\t16\t33\tLithium carbonate\tChemical\tD1\n"
            f"{number}\t16\t23\tLithium\tChemical\tD2\n{number}\t16\t29\tLithium carbo\tDisease\tD2\n"
        )
    (folder / "X_sample.PubTator.txt").write_text("not one of the splits")
    (folder / "readme of train.txt").write_text("neither")
    return folder


def test_pubtator_folder(tmp_path):
    files = read_splits(write_pubtator(tmp_path / "data"))
    file = files["dev"]
    assert (file.path.name, file.form, file.scheme) == ("X_DevelopmentSet.PubTator.txt", "PubTator", "IOB2")
    assert file.documents == ["1"]
    assert file.entity_counts() == {"Chemical": 3, "Disease": 1}
    assert [one.tags[:2] for one in file.sentences] == [["B-Chemical", "O"], ["B-Chemical", "I-Chemical"]]
    assert file.notes == [
        "2 of 4 entities cannot be tagged (1 with an end inside a word, 1 overlap a longer one): they count as gold "
        "that is missed"
    ]
    assert sizes(files) == {
        "documents": (1, 1, 1),
        "sentences": (2, 2, 2),
        "entities": (4, 4, 4),
        "tagged words": (3, 3, 3),
        "Chemical": (3, 3, 3),
        "Disease": (1, 1, 1),
    }
    assert texts(file) == [("pmid:1", "Lithium in man.\nLithium carbonate, then more.")]
    rename_types(files, {"Chemical": "Disease"})
    assert file.entity_counts() == {"Disease": 4}
    with pytest.raises(ValueError, match="--tag-scheme IOB2: .* has no tags but PubTator annotations"):
        read_splits(tmp_path / "data", "IOB2")


def test_brat_folders_without_dev(tmp_path):
    for name in ("CG_training_data", "CG_test_data"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "9.txt").write_text("IL-2 rises.")
        (folder / "9.ann").write_text("T1\tprotein 0 4\tIL-2\n")
    files = read_splits(tmp_path)
    assert list(files) == ["train", "test"]
    assert files["test"].form == "brat"
    assert sizes(files)["protein"] == (1, 0, 1)
    assert texts(files["train"]) == [("", "IL-2 rises.")]  # brat's names are not PubMed's ids


def test_texts_of_token_files(tmp_path):
    files = read_splits(write_benchmark(tmp_path / "a", "scibert"))
    assert texts(files["test"])[0][0] == "pmid:227508" and len(texts(files["test"])) == 1
    files = read_splits(write_benchmark(tmp_path / "b", "iob"))
    assert texts(files["test"])[-1] == ("", "the patients improved")


def test_missing_double_and_mixed_splits(benchmark_folder):
    (benchmark_folder / "dev.tsv").write_text("a\tO\n")
    with pytest.raises(ValueError, match="has devel.tsv and dev.tsv: keep only the one"):
        read_splits(benchmark_folder)
    (benchmark_folder / "dev.tsv").unlink()
    (benchmark_folder / "devel.tsv").unlink()
    assert list(read_splits(benchmark_folder)) == ["train", "test"]
    (benchmark_folder / "test.tsv").write_text("1|t|a text\n")
    with pytest.raises(ValueError, match="train is CoNLL, test is PubTator: they are not one data set"):
        read_splits(benchmark_folder)
    (benchmark_folder / "test.tsv").unlink()
    with pytest.raises(ValueError, match="has no test file: expected one of test.tsv, .*PubTator"):
        read_splits(benchmark_folder)
    with pytest.raises(ValueError, match="is not a folder"):
        read_splits(benchmark_folder / "nowhere")


def test_a_name_that_says_two_splits(tmp_path):
    """Else the epoch would be chosen on the sentences that were trained on."""
    for name in ("train_dev.PubTator.txt", "test.PubTator.txt"):
        (tmp_path / name).write_text("1|t|p53\n1\t0\t3\tp53\tGene\t-1\n")
    with pytest.raises(ValueError, match="train_dev.PubTator.txt would be both train and dev by its name: rename it"):
        read_splits(tmp_path)
    (tmp_path / "train_dev.PubTator.txt").rename(tmp_path / "train.PubTator.txt")
    assert list(read_splits(tmp_path)) == ["train", "test"]


def test_another_split_stands_for_train(benchmark_folder):
    (benchmark_folder / "train.tsv").unlink()
    with pytest.raises(ValueError, match="has no train file: .*--train-split dev --nonstandard-split"):
        read_splits(benchmark_folder)
    files = read_splits(benchmark_folder, train_split="dev")
    assert {split: file.path.name for split, file in files.items()} == {"train": "devel.tsv", "test": "test.tsv"}
    with pytest.raises(ValueError, match="--train-split test: only dev can stand for train"):
        read_splits(benchmark_folder, train_split="test")


def test_jnlpbas_original_names_give_way_to_the_usual_ones(benchmark_folder):
    (benchmark_folder / "Genia4EReval1.iob2").write_text("a\tB-X\n")
    assert read_splits(benchmark_folder)["test"].path.name == "test.tsv"
    (benchmark_folder / "test.tsv").unlink()
    assert read_splits(benchmark_folder)["test"].path.name == "Genia4EReval1.iob2"


def test_original_bc5cdr():
    files = read_splits(shared_folder("ner/original_BC5CDR"))
    assert sizes(files)["documents"] == (500, 500, 500)
    assert sizes(files)["Chemical"] == (5203, 5347, 5385)
    assert sizes(files)["Disease"] == (4182, 4244, 4424)
    assert {split: len(file.missed) for split, file in files.items()} == {"train": 0, "dev": 10, "test": 5}
    assert texts(files["train"])[0][0] == "pmid:227508"


def test_original_ncbi_disease():
    """Without the dev file, which is not there; one abstract twice, one mention that differs from the text."""
    files = read_splits(shared_folder("ner/original_NCBI-disease"))
    assert (sizes(files)["documents"], sizes(files)["entities"]) == ((593, 0, 100), (5145, 0, 960))
    assert len(files["train"].missed) == 6 and files["test"].missed == []
    assert files["train"].notes[:2] == [
        "1 of 5,145 entities differ from the text at their offsets (the first: line 3248); the offsets are kept",
        "1 documents are there twice; both are kept",
    ]


def test_original_jnlpba_standoff(tmp_path):
    files = read_splits(unpack("ner/original_JNLPBA_standoff.tar.xz", tmp_path))
    assert (sizes(files)["documents"], sizes(files)["entities"]) == ((2000, 0, 404), (51301, 0, 8662))
    assert (len(files["train"].missed), len(files["test"].missed)) == (23, 12)
