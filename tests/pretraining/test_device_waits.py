"""No micro-batch makes the host wait for a GPU: nothing in a step depends on what a tensor holds.

torch's fake tensors have sizes and no values: whatever has to read a value (`.item()`, `bool(tensor)`, `nonzero`,
indexing by bools, `bincount`) raises on them, and is what would wait for the queue of a GPU.
"""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from pretraining import attention, model
from pretraining.attention import attention_by_sample, attention_flash_torch, attention_varlen, attention_written_out
from pretraining.batch import MaskedBatch
from pretraining.fused import Choice
from pretraining.metrics import add_sums
from pretraining.objectives import OBJECTIVES, build_objective
from pretraining.optim import Lamb, parameter_groups
from pretraining.softmax import VOCABULARY_MULTIPLE
from tests.full_batch import full_batch
from tests.tiny import VOCAB_SIZE, tiny_config


def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch, run: attention.Attention) -> None:
    """Let the CPU take the operations of a GPU: torch's dropout, a padded vocabulary, this attention."""
    for module in (attention, model):
        monkeypatch.setattr(module, "dropout", lambda values, probability: F.dropout(values, probability))
    monkeypatch.setitem(VOCABULARY_MULTIPLE, "cpu", 128)
    monkeypatch.setattr(model, "resolve_attention", lambda *_: Choice("given", run, ""))


@pytest.mark.parametrize("objective_name", list(OBJECTIVES))
@pytest.mark.parametrize("run", [attention_by_sample, attention_written_out, attention_flash_torch, attention_varlen])
def test_a_step_reads_no_value(objective_name: str, run: attention.Attention, monkeypatch: pytest.MonkeyPatch) -> None:
    if run is not attention_written_out:  # which draws its masks as CPUs do
        as_on_a_gpu(monkeypatch, run)
    config = tiny_config(objective=objective_name).model
    if run is attention_varlen:
        config.attention_dropout = 0.0
    objective = build_objective(config, VOCAB_SIZE, seed=0)
    mode = FakeTensorMode()

    def fake(batch: MaskedBatch) -> MaskedBatch:
        tensors = {name: value for name, value in batch._asdict().items() if isinstance(value, torch.Tensor)}
        return batch._replace(**{name: mode.from_tensor(value) for name, value in tensors.items()})

    with mode:
        for module in objective.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                module.register_parameter(name, mode.from_tensor(parameter))  # the same for tied ones
        total, optimizer = None, Lamb(parameter_groups(objective, 0.01))
        for _ in range(2):
            loss, sums = objective(fake(full_batch()))
            loss.backward()
            total = add_sums(total, sums)
        optimizer.step()
    assert total["masked"].shape == loss.shape == ()
    assert all(parameter.grad is not None for parameter in objective.parameters())
