"""--encoder-dropout: dropout inside encoders whose own configuration has none or another, under every head."""

import json
import shutil

import pytest
import torch
from transformers import (
    AlbertConfig,
    AutoConfig,
    AutoModel,
    AutoModelForTokenClassification,
    BertConfig,
    DebertaConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    MambaConfig,
    ModernBertConfig,
    RobertaConfig,
)

from finetuning import encoder
from finetuning.command import Prepared
from finetuning.config import FinetuneConfig
from finetuning.qa_heads import HEADS as SPAN_HEADS
from finetuning.qa_heads import make_span_model
from finetuning.splits import Benchmark
from finetuning.tagging import make_network
from finetuning.text_heads import HEADS as TEXT_HEADS
from finetuning.text_heads import make_model
from tests.finetuning.test_command import SPLIT, TEXTS, VARIANT, benchmark, error_of, run
from tests.finetuning.toy import METRIC, toy_task

SHAPE = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "vocab_size": 40}
MORE = {"max_position_embeddings": 40, "embedding_size": 8, "pad_token_id": 0}
KINDS = [
    BertConfig,
    RobertaConfig,
    AlbertConfig,
    ElectraConfig,
    DebertaConfig,
    DebertaV2Config,
    ModernBertConfig,
    DistilBertConfig,
]
IDS = torch.arange(5, 35)[None]


def without_dropout(kind, folder):
    """A folder with a random model of this kind whose configuration has no dropout anywhere; and its names of it."""
    config = kind(**SHAPE, **MORE)
    names = encoder.dropout_settings(config)
    for name in names:
        setattr(config, name, 0.0)
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(folder)
    return str(folder), names


def probabilities(network):
    """Of all dropout modules inside the encoder; the pooler's belongs to the head."""
    base = getattr(network, network.base_model_prefix)
    return {module.p for name, module in base.named_modules() if isinstance(module, torch.nn.Dropout)}


def changes(network, ids=IDS):
    """Whether two passes in training mode differ."""
    network.train()
    first, second = (network(input_ids=ids)[0] for _ in range(2))
    return not torch.equal(first, second)


@pytest.mark.parametrize("kind", KINDS)
def test_every_architectures_names_are_set(tmp_path, kind):
    model, names = without_dropout(kind, tmp_path)
    labels = {"id2label": {0: "a", 1: "b", 2: "c"}}
    own = encoder.load_model(AutoModelForTokenClassification, model, **labels)
    base = getattr(own, own.base_model_prefix)
    assert probabilities(own) <= {0.0} and not changes(base)
    assert encoder.encoder_dropout(own.config, None) == 0.0

    given = encoder.load_model(AutoModelForTokenClassification, model, 0.25, **labels)
    assert probabilities(given) == {0.25} and changes(getattr(given, given.base_model_prefix))
    assert {getattr(given.config, name) for name in names} == {0.25}
    given.eval()
    own.load_state_dict(given.state_dict())
    assert torch.equal(given(input_ids=IDS).logits, own.eval()(input_ids=IDS).logits)  # no dropout in prediction


@pytest.mark.parametrize("kind", KINDS)
def test_attention_probabilities_are_dropped_too(tmp_path, kind):
    model, names = without_dropout(kind, tmp_path)
    attention = [name for name in names if name.startswith("attention")]
    assert len(attention) == 1
    network = encoder.load_model(AutoModel, model, **{attention[0]: 0.25})
    assert changes(network)


def test_refused_where_the_model_has_no_such_setting(tiny_model, tmp_path):
    with pytest.raises(ValueError, match="--encoder-dropout: a model of type mamba has no setting of dropout"):
        encoder.encoder_dropout(MambaConfig(), 0.1)
    assert encoder.encoder_dropout(MambaConfig(), None) is None
    assert encoder.encoder_dropout(BertConfig(hidden_dropout_prob=0.2), None) is None  # attention has 0.1
    folder = shutil.copytree(tiny_model, tmp_path / "mamba")
    config = MambaConfig(hidden_size=16, num_hidden_layers=1, vocab_size=40, dropout=0.1)  # a name it does not read
    config.save_pretrained(folder)
    bench, _ = benchmark(toy_task())
    assert "model of type mamba" in error_of(bench, folder, tmp_path / "out", "--encoder-dropout", "0.1")
    assert "--encoder-dropout 1.5 is out of range" in error_of(
        bench, tiny_model, tmp_path / "out", "--encoder-dropout", "1.5"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("head", ["tagging", *TEXT_HEADS, *SPAN_HEADS])
def test_every_head_takes_it(tiny_model, head):
    config = FinetuneConfig(dropout=0.0, encoder_dropout=0.35)
    model = str(tiny_model)
    if head == "tagging":
        network = make_network(model, ["O", "B", "I"], config)
    elif head in TEXT_HEADS:
        problem = "single_label_classification"
        network = make_model(model, head, ["yes", "no"], problem, config.dropout, config.encoder_dropout)
    else:
        network = make_span_model(model, head, False, config.dropout, config.encoder_dropout)
    assert probabilities(network) == {0.35}
    saved = AutoConfig.from_pretrained(model)
    assert saved.hidden_dropout_prob == 0.1  # the folder itself stays as it is


def results_of(output):
    return json.loads((output / "toy-line" / "m" / "results.json").read_text())


def test_goes_into_the_results_and_tells_runs_apart(tiny_model, tmp_path):
    bench, seen = benchmark(toy_task())
    run(bench, tiny_model, tmp_path, "--seeds", "1", "--encoder-dropout", "0.2")
    assert seen[0][1].encoder_dropout == results_of(tmp_path)["config"]["encoder_dropout"] == 0.2
    message = error_of(bench, tiny_model, tmp_path, "--seeds", "1")
    assert "config.encoder_dropout" in message
    run(bench, tiny_model, tmp_path / "own", "--seeds", "1")
    assert results_of(tmp_path / "own")["config"]["encoder_dropout"] == 0.1  # what the model's config.json says


def test_search_tries_it_where_the_model_has_one_value(tiny_model, tmp_path):
    pytest.importorskip("optuna")
    seen = []

    def prepare(bench, options, config):
        seen.append(config.encoder_dropout)
        return Prepared(VARIANT, [toy_task()], METRIC, SPLIT, TEXTS)

    bench = Benchmark("Toy", (VARIANT,), FinetuneConfig(epochs=1), prepare, score_file=None)
    run(bench, tiny_model, tmp_path, "--search", "3", "--seeds", "1")
    trials = json.loads((tmp_path / "toy-line" / "m" / "search.json").read_text())["trials"]
    assert [trial["settings"]["encoder_dropout"] for trial in trials] == seen[1:4]
    assert seen[0] == seen[1] == 0.1 and len(set(seen[1:4])) > 1
    assert all(0 <= value <= 0.3 for value in seen)
