"""Relations with Unigram and byte-level tokenizers: placeholders and markers whole, mentions by their pieces."""

import shutil

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from finetuning import chemprot, classification, encoder, relations
from finetuning.config import FinetuneConfig
from finetuning.loop import fit, predict
from finetuning.tagging_inputs import word_pieces
from finetuning.text_inputs import Example, layout_of, make_features
from tests.finetuning.relation_samples import blurb_files, write
from tests.finetuning.test_relations import prepared
from tests.finetuning.tokenizer_kinds import KINDS, model_of


@pytest.fixture(scope="module", params=KINDS)
def model(request, tmp_path_factory):
    return model_of(request.param, tmp_path_factory.mktemp("kinds"))


def opened(model):
    return encoder.load_tokenizer(str(model), encoder.load_config(str(model)))


RELATIONS = [
    ("@CHEMICAL$ reverses ﬁbrosis-@GENE$.", "CPR:4"),
    ("no (@GENE$)-induced cafe\u0301\u2009with @CHEMICAL$", "false"),
    ("🧬 of @GENE$/@CHEMICAL$ \u200b improved", "CPR:9"),
    ("@CHEM-GENE$ caused 5 µM", "CPR:3"),
]


@pytest.mark.parametrize(("head", "style"), [("cls", "anonymised"), ("mention", "anonymised"), ("marker", "marker")])
def test_relations(model, tmp_path, head, style):
    """Placeholders and markers are one token each with one embedding, marks lie on them, and all comes back saved."""
    data = write(tmp_path / "data", blurb_files(RELATIONS))
    (task,) = prepared(chemprot, model, data, "--head", head, "--input", style).tasks
    network = task.make_model()
    config = FinetuneConfig(epochs=1, batch_size=2)
    fit(network, task, config, seed=0)
    task.save(network, tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    first = ["@CHEMICAL$", "@GENE$"] if style == "anonymised" else ["[E1]", "[E2]"]
    both = "@CHEM-GENE$" if style == "anonymised" else "[E1-E2]"
    expected = [first, first, first, [both, both]]
    for feature, names in zip(task.features["test"], expected, strict=True):
        tokens = tokenizer.convert_ids_to_tokens(feature["input_ids"])
        assert set(names) <= set(tokens) and all(tokens.count(name) == 1 for name in names)
        if head != "cls":
            assert [[tokens[i] for i in positions] for positions in feature["marks"]] == [[name] for name in names]
    records = [{"text": text} for text, _ in RELATIONS]
    found = [list(one["probabilities"].values()) for one in relations.predict_texts(tmp_path / "model", records, 4)]
    logits = np.concatenate(predict(network, task, task.features["test"], config))
    np.testing.assert_allclose(found, torch.from_numpy(logits).double().softmax(-1).numpy(), atol=1e-4)


def test_markers_that_a_folder_has_as_special_tokens(model, tmp_path):
    """They are tokens of the texts with the embeddings they came with; the others are added."""
    folder = shutil.copytree(model, tmp_path / "with markers")
    tokenizer, network = opened(folder), AutoModel.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["[E1]", "[/E1]"]})
    network.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    tokenizer.save_pretrained(folder)
    network.save_pretrained(folder)
    data = write(tmp_path / "data", blurb_files(RELATIONS))
    (task,) = prepared(chemprot, folder, data, "--head", "marker", "--input", "marker").tasks
    changed = task.make_model()
    task.save(changed, tmp_path / "model")
    saved = opened(tmp_path / "model")
    assert classification.with_tokens(saved, ("[E1]", "[/E1]", "[E2]")) == {}
    tokens = saved.convert_ids_to_tokens(task.features["test"][0]["input_ids"])
    marks = task.features["test"][0]["marks"]
    assert [[tokens[i] for i in positions] for positions in marks] == [["[E1]"], ["[E2]"]]
    assert tokens.count("[/E1]") == tokens.count("[/E2]") == 1
    ours, theirs = changed.encoder.get_input_embeddings().weight, network.get_input_embeddings().weight
    for token in ("[E1]", "[/E1]"):
        row = tokenizer.convert_tokens_to_ids(token)
        assert torch.equal(ours[row], theirs[row])
    records = [{"text": text} for text, _ in RELATIONS]
    assert len(list(relations.predict_texts(tmp_path / "model", records, 4))) == len(RELATIONS)


def test_mentions_are_their_own_word_pieces(model):
    """Without placeholders: the pieces of a mention are those of its characters, none of a blank or a neighbour."""
    tokenizer, settings = opened(model), encoder.load_config(str(model))
    layout = layout_of(tokenizer, settings, 64, 8)
    text = "Naloxone with ﬁbrosis and 5\u2009µM cafe\u0301, 🧬"
    mentions = ["Naloxone", "ﬁbrosis", "cafe\u0301", "🧬", "and"]
    marks = [i for token, i in tokenizer.get_vocab().items() if token in ("▁", "Ġ")]
    for first in mentions:
        for second in mentions:
            spans = tuple((text.index(mention), text.index(mention) + len(mention)) for mention in (first, second))
            (feature,) = make_features([Example(text, "", arguments=spans)], tokenizer, layout)
            for mention, positions in zip((first, second), feature["marks"], strict=True):
                ids = [feature["input_ids"][i] for i in positions]
                alone = tokenizer(mention, add_special_tokens=False)["input_ids"]
                cuts = [word_pieces(tokenizer, [mention])[mention], alone]
                assert ids in [[i for i in cut if i not in marks] for cut in cuts]
