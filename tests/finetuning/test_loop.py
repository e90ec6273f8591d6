"""Batches, the training loop and the command-line settings."""

from argparse import ArgumentParser
from dataclasses import replace

import pytest
import torch

from finetuning.config import FinetuneConfig, add_arguments, config_from
from finetuning.conll import Sentence, TaggedFile
from finetuning.entity_scores import ENTITY_F1 as METRIC
from finetuning.loop import epoch_batches, fit, predict, train_epoch
from finetuning.tagging import tagging_task
from tests.finetuning import toy
from tests.finetuning.samples import SENTENCES, pairs
from tests.finetuning.toy import CONFIG, toy_task

QUICK = FinetuneConfig(learning_rate=3e-3, layer_decay=1.0, epochs=40, patience=40, batch_size=4)


@pytest.fixture
def task(tiny_model):
    """Train = dev = test = the eight samples."""
    sentences = [Sentence(*map(list, zip(*pairs(sentence), strict=True))) for sentence in SENTENCES]
    files = {split: TaggedFile(None, sentences, "", typed=True) for split in ("train", "dev", "test")}
    return tagging_task(files, str(tiny_model), QUICK)


def test_batches_hold_everything_once_and_depend_on_seed_and_epoch():
    lengths = [(7 * i) % 50 + 1 for i in range(1003)]
    batches = epoch_batches(lengths, 8, seed=0, epoch=1)
    assert sorted(i for batch in batches for i in batch) == list(range(1003))
    assert len(batches) == 126
    assert batches == epoch_batches(lengths, 8, seed=0, epoch=1)
    assert batches != epoch_batches(lengths, 8, seed=0, epoch=2)
    assert batches != epoch_batches(lengths, 8, seed=1, epoch=1)
    padding = sum(max(lengths[i] for i in batch) * len(batch) for batch in batches) / sum(lengths)
    assert padding < 1.1  # batches drawn at random pad to 1.8 times


def test_tiny_data_are_learnt_by_heart(task):
    torch.manual_seed(0)
    model = task.make_model()
    before = task.score("test", predict(model, task, task.features["test"], QUICK))[METRIC]
    result = fit(model, task, QUICK, seed=0)
    assert result.failure is None
    assert before < 0.5
    assert task.score("test", predict(model, task, task.features["test"], QUICK))[METRIC] > 0.9


def test_same_seed_same_history_other_seed_another(task):
    config = replace(QUICK, epochs=3)

    def losses(seed):
        torch.manual_seed(seed)
        return [row["loss"] for row in fit(task.make_model(), task, config, seed).history]

    first = losses(0)
    assert losses(0) == first
    assert losses(1) != first


def test_best_epoch_is_kept_and_patience_ends_the_run(task):
    """Dev scores 0.1, 0.5, 0.3, 0.2, ...: patience 2 gives 4 epochs; the weights of the second stay."""
    scores = iter([0.1, 0.5, 0.3, 0.2, 0.9])
    seen = []

    def score(split, outputs):
        seen.append(float(outputs[0].sum()))
        return {METRIC: next(scores)}

    torch.manual_seed(0)
    model = task.make_model()
    config = replace(QUICK, epochs=5, patience=2)
    scored = replace(task, score=score)
    result = fit(model, scored, config, seed=0)
    assert (result.best_epoch, len(result.history), result.dev[METRIC]) == (2, 4, 0.5)
    assert float(predict(model, task, task.features["dev"], config)[0].sum()) == pytest.approx(seen[1], rel=1e-5)
    assert abs(seen[1] - seen[3]) > 1e-3


def test_gradient_accumulation_does_not_change_the_gradient(task):
    def gradient(parts):
        torch.manual_seed(0)
        model = task.make_model()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        config = replace(QUICK, batch_size=7, gradient_accumulation=parts)
        found = []
        train_epoch(model, task, config, [[0, 3, 1, 7, 5, 2, 6]], lambda: found.append(model.classifier.weight.grad))
        return found[0]

    for parts in (2, 3, 7):
        torch.testing.assert_close(gradient(parts), gradient(1), rtol=1e-4, atol=1e-6)


def test_failed_runs(task):
    torch.manual_seed(0)
    broken = replace(task, loss=lambda logits, batch: logits.sum() * float("nan"))
    result = fit(task.make_model(), broken, replace(QUICK, epochs=2), seed=0)
    assert result.failure == "the loss was not finite in epoch 1"
    assert result.dev is None
    silent = replace(task, score=lambda split, outputs: {METRIC: 0.0})
    result = fit(task.make_model(), silent, replace(QUICK, epochs=2), seed=0)
    assert result.failure == "the dev score was 0 in all 2 epochs"


@pytest.mark.parametrize("dev", [True, False])
def test_weights_spoilt_by_the_last_step_are_a_failure(dev):
    """The gradient of the last batch overflows: its loss is finite, as are all others."""
    task, calls = toy_task(dev=20 if dev else 0), []

    def loss(logits, batch):
        calls.append(batch)
        found = toy.loss(logits, batch)
        return found + (0 * logits).sum().sqrt() if len(calls) == 10 else found  # sqrt's gradient at 0 is infinite

    config = replace(CONFIG, epochs=2)
    result = fit(task.make_model(), replace(task, loss=loss), config, seed=0)
    assert len(calls) == 10 and (result.failure, result.dev, result.trained) == (
        "the weights were not finite in epoch 2", None, False
    )  # fmt: skip


def test_the_kept_epoch_decides_whether_a_run_has_collapsed(task):
    """Dev scores 0.1, 0.5, 0.3: the second epoch is kept, whatever the first one answered."""
    config = replace(QUICK, epochs=3)
    for answers, failure in ((["one class", None], None), ([None, "one class"], "one class")):
        scores, reasons = iter([0.1, 0.5, 0.3]), iter(answers)
        scored = replace(
            task, score=lambda *_, scores=scores: {METRIC: next(scores)}, collapse=lambda *_, left=reasons: next(left)
        )
        result = fit(task.make_model(), scored, config, seed=0)
        assert (result.best_epoch, result.failure, result.trained) == (2, failure, True)


def test_bf16_learns_too(task):
    config = replace(QUICK, bf16=True, epochs=25)
    torch.manual_seed(0)
    model = task.make_model()
    result = fit(model, task, config, seed=0)
    assert result.history[-1]["loss"] < 0.5 * result.history[0]["loss"]
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_flags_make_the_config():
    defaults = FinetuneConfig(epochs=7)
    parser = ArgumentParser(allow_abbrev=False)
    add_arguments(parser, defaults)
    assert config_from(parser.parse_args([])) == defaults
    line = "--learning-rate 2e-5 --bf16 --reference-layer-decay-exponent --max-length 128"
    options = parser.parse_args(line.split())
    assert config_from(options) == FinetuneConfig(
        epochs=7, learning_rate=2e-5, bf16=True, reference_layer_decay_exponent=True, max_length=128
    )
    parser.format_help()
    with pytest.raises(ValueError, match="--warmup-fraction 1.5 is out of range"):
        config_from(parser.parse_args(["--warmup-fraction", "1.5"]))
    with pytest.raises(ValueError, match="--gradient-accumulation 64 is out of range"):
        config_from(parser.parse_args(["--gradient-accumulation", "64"]))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_length": 96}, "--overlap 64 is out of range: give 0 to 48, half of --max-length 96"),
        ({"gradient_accumulation": 33}, "--gradient-accumulation 33 is out of range: give 1 to 32, the inputs of a"),
        ({"dropout": 1.0}, "--dropout 1.0 is out of range: give 0 to less than 1"),
        ({"learning_rate": float("nan")}, "--learning-rate nan is out of range: give 0 or more"),
    ],
)
def test_a_value_out_of_range_is_told_what_the_range_is(values, message):
    """--overlap need not have been given: its default is too much for a short --max-length."""
    with pytest.raises(ValueError) as error:
        FinetuneConfig(**values)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(("hidden", "rate", "decay"), [(256, 3e-4, 0.8), (768, 1e-4, 0.8), (1024, 5e-5, 0.9)])
def test_defaults_follow_the_models_size(hidden, rate, decay):
    config = FinetuneConfig().for_hidden_size(hidden)
    assert (config.learning_rate, config.layer_decay) == (rate, decay)
    published = FinetuneConfig().for_hidden_size(hidden, 2e-4)
    assert published.learning_rate == (2e-4 if hidden == 768 else rate)
    given = FinetuneConfig(learning_rate=1e-5, layer_decay=1.0).for_hidden_size(hidden, 2e-4)
    assert (given.learning_rate, given.layer_decay) == (1e-5, 1.0)
