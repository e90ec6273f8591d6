"""The two heads against the formulas written out: losses, beams, no-answer scores; saving and taking over."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModel, AutoModelForQuestionAnswering

from finetuning import encoder, qa_heads
from finetuning.qa_heads import (
    JointHead,
    JointSpans,
    make_span_model,
    plain_outputs,
    save_span_model,
    span_loss,
    span_outputs,
)

LONGEST = 4


class States(nn.Module):
    """Stands for an encoder: hands out the states that it was given."""

    config = None

    def __init__(self, states):
        super().__init__()
        self.states = states

    def forward(self):
        return type("Output", (), {"last_hidden_state": self.states})


@pytest.fixture
def batch():
    """Three inputs of 11 positions, [B, T, H] states in float64, context masks of unlike lengths."""
    torch.manual_seed(1)
    states = torch.randn(3, 11, 6, dtype=torch.float64)
    context = torch.zeros(3, 11, dtype=torch.bool)
    context[0, 4:10] = context[1, 3:5] = context[2, 6:11] = True
    return states, context


def joint(states, answerability=True):
    """A joint model in float64 whose weights are random enough to make spans differ."""
    torch.manual_seed(2)
    head = JointHead(states.shape[-1], answerability).double()
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.7)
    return JointSpans(States(states), head, dropout=0.0)


def reference(model, states, context):
    """google-research/electra's formulas for one input: start, end of each start, no-answer logit; all lists."""
    head, length = model.head, len(states)
    allowed = context.tolist()
    allowed[0] = True
    penalty = torch.tensor([0.0 if one else -1000.0 for one in allowed], dtype=torch.float64)
    start = torch.log_softmax(torch.stack([head.start(state)[0] for state in states]) + penalty, 0)
    ends = []
    for i in range(length):
        both = torch.stack([torch.cat([states[i], state]) for state in states])
        logits = head.end(F.gelu(head.end_hidden(both)))[:, 0]
        ends.append(torch.log_softmax(logits + penalty, 0))
    expected = sum(p * state for p, state in zip(start.exp(), states, strict=True))
    none = head.answer(F.gelu(head.answer_hidden(torch.cat([states[0], expected]))))[0]
    return start, ends, none


def test_joint_training_outputs_and_loss_equal_the_reference(batch):
    states, context = batch
    model = joint(states).train()
    start, end = torch.tensor([5, 0, 8]), torch.tensor([7, 0, 8])
    outputs = model({}, context, LONGEST, start)
    loss, expected = span_loss(outputs, start, end, answerability=True), 0.0
    for i in range(3):
        starts, ends, none = reference(model, states[i], context[i])
        absent = start[i] == 0
        # binary cross-entropy of "no answer", weight 0.5
        expected -= 0.5 * torch.log(torch.sigmoid(none if absent else -none))
        expected -= (starts[start[i]] + ends[start[i]][end[i]]) / 2
        torch.testing.assert_close(outputs[i, context[i], 0], starts[context[i]], atol=1e-9, rtol=0)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-9)
    without = span_loss(outputs, start, end, answerability=False)
    assert without.item() == pytest.approx(
        -sum((outputs[i, start[i], 0] + outputs[i, end[i], 1]) / 2 for i in range(3)).item()
    )


def test_joint_beam_equals_the_reference(batch):
    """With fewer positions than the beam is wide, the beam is the best of all spans."""
    states, context = batch
    model = joint(states).eval()
    outputs = model({}, context, LONGEST, None)
    for i in range(3):
        starts, ends, none = reference(model, states[i], context[i])
        places = torch.nonzero(context[i])[:, 0].tolist()
        spans = {(a, b): (starts[a] + ends[a][b]).item() for a in places for b in places if a <= b < a + LONGEST}
        ranked = sorted(spans, key=spans.get, reverse=True)[: qa_heads.SPANS]
        ours = [row for row in outputs[i, 1:].tolist() if row[2] > -math.inf]
        assert [(int(a), int(b)) for a, b, _ in ours] == ranked
        assert [score for *_, score in ours] == pytest.approx([spans[span] for span in ranked], abs=1e-9)
        assert outputs[i, 0, 0].item() == pytest.approx(none.item(), abs=1e-9)


def test_joint_beam_is_narrow(batch, monkeypatch):
    """Of the likeliest starts only: with a beam of 1, all spans have the likeliest start."""
    monkeypatch.setattr(qa_heads, "BEAM", 1)
    states, context = batch
    model = joint(states).eval()
    outputs = model({}, context, LONGEST, None)
    assert outputs.shape == (3, 2, 3)
    for i in range(3):
        starts, ends, _ = reference(model, states[i], context[i])
        first = int(starts.masked_fill(~context[i], -math.inf).argmax())
        assert outputs[i, 1, 0] == first


class Plain(nn.Module):
    """Stands for an AutoModelForQuestionAnswering with given logits."""

    def __init__(self, start, end):
        super().__init__()
        self.output = type("Output", (), {"start_logits": start, "end_logits": end})

    def forward(self):
        return self.output


def test_plain_spans_are_the_best_of_all(batch):
    _, context = batch
    torch.manual_seed(4)
    start, end = torch.randn(2, 3, 11, dtype=torch.float64)
    outputs = plain_outputs(Plain(start, end).eval(), {}, context, LONGEST)
    for i in range(3):
        places = torch.nonzero(context[i])[:, 0].tolist()
        norm = [torch.logsumexp(logits[i, [0, *places]], 0).item() for logits in (start, end)]
        spans = {
            (a, b): start[i, a].item() + end[i, b].item() - sum(norm)
            for a in places
            for b in places
            if a <= b < a + LONGEST
        }
        ranked = sorted(spans, key=spans.get, reverse=True)[: qa_heads.SPANS]
        ours = [row for row in outputs[i, 1:].tolist() if row[2] > -math.inf]
        assert [(int(a), int(b)) for a, b, _ in ours] == ranked
        assert [score for *_, score in ours] == pytest.approx([spans[span] for span in ranked], abs=1e-9)
        # Hugging Face's: start and end logit of the first position, less those of the best span
        none = start[i, 0] + end[i, 0] - max(start[i, a] + end[i, b] for a, b in spans)
        assert outputs[i, 0, 0].item() == pytest.approx(none.item(), abs=1e-9)
    outputs = plain_outputs(Plain(start, end).train(), {}, context, LONGEST)
    assert span_loss(outputs, torch.tensor([5, 0, -1]), torch.tensor([7, 0, -1]), False).item() == pytest.approx(
        -(outputs[0, 5, 0] + outputs[0, 7, 1] + outputs[1, 0, 0] + outputs[1, 0, 1]).item() / 2
    )


@pytest.mark.parametrize("head", qa_heads.HEADS)
def test_no_context_gives_no_span_and_finite_scores(tiny_model, head):
    model = make_span_model(str(tiny_model), head, False, 0.0).eval()
    inputs = {"input_ids": torch.tensor([[2, 5, 3, 3]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}
    outputs = span_outputs(model, inputs, torch.zeros(1, 4, dtype=torch.bool), LONGEST, torch.tensor([0]))
    assert torch.isinf(outputs[0, 1:, 2]).all() and torch.isfinite(outputs[0, 0]).all()
    model.train()
    outputs = span_outputs(model, inputs, torch.zeros(1, 4, dtype=torch.bool), LONGEST, torch.tensor([0]))
    loss = span_loss(outputs, torch.tensor([0]), torch.tensor([0]), False)
    loss.backward()
    assert loss.item() == pytest.approx(0.0)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("head", qa_heads.HEADS)
def test_an_untrained_head_is_at_chance(tiny_model, head):
    """The loss of start and end is that of a uniform choice among the pieces: ln 21 of 20 and the first position."""
    torch.manual_seed(0)
    model = make_span_model(str(tiny_model), head, True, 0.0).train()
    ids = torch.randint(5, 30, (64, 30))
    context = torch.zeros(64, 30, dtype=torch.bool)
    context[:, 9:29] = True
    start = torch.randint(9, 29, (64,))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    outputs = span_outputs(model, inputs, context, LONGEST, start)
    assert span_loss(outputs, start, start, False).item() / 64 == pytest.approx(math.log(21), abs=0.5)


def test_padding_changes_nothing(tiny_model):
    torch.manual_seed(0)
    for head in qa_heads.HEADS:
        model = make_span_model(str(tiny_model), head, True, 0.0).eval()
        ids = torch.randint(5, 30, (1, 12))
        context = torch.zeros(1, 12, dtype=torch.bool)
        context[:, 5:11] = True
        short = span_outputs(
            model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, context, LONGEST, torch.tensor([0])
        )
        padded = {"input_ids": F.pad(ids, (0, 9)), "attention_mask": F.pad(torch.ones_like(ids), (0, 9))}
        long = span_outputs(model, padded, F.pad(context, (0, 9)), LONGEST, torch.tensor([0]))
        count = min(short.shape[1], 19)  # 18 spans there are; the rest are -inf
        assert torch.equal(short[0, 1:count, :2], long[0, 1:count, :2])
        torch.testing.assert_close(short[0, :count, 2], long[0, :count, 2], atol=1e-5, rtol=0)
        torch.testing.assert_close(short[0, 0], long[0, 0], atol=1e-5, rtol=0)


def test_dropout_before_the_plain_head(tiny_model):
    model = make_span_model(str(tiny_model), "plain", False, dropout=1 - 1e-9)
    inputs = {"input_ids": torch.tensor([[2, 5, 3, 7, 3]])}
    assert model.train()(**inputs).start_logits.std() == 0  # all states dropped: only the bias is left
    assert model.eval()(**inputs).start_logits.std() > 0


def test_joint_folder_opens_as_encoder_and_gives_its_head_on(tiny_model, tmp_path):
    torch.manual_seed(3)
    first = make_span_model(str(tiny_model), "joint", True, 0.0)
    save_span_model(first, tmp_path / "joint")
    theirs = AutoModel.from_pretrained(tmp_path / "joint").state_dict()
    ours = first.network.state_dict()
    assert set(theirs) == set(ours) and all(torch.equal(theirs[name], ours[name]) for name in ours)
    assert all(torch.equal(load_file(tiny_model / "model.safetensors")[f"electra.{name}"], ours[name]) for name in ours)
    torch.manual_seed(4)
    second = make_span_model(str(tmp_path / "joint"), "joint", False, 0.0)  # SQuAD 2.0 -> BioASQ
    assert set(second.head.state_dict()) == {name for name in first.head.state_dict() if "answer" not in name}
    for name, value in second.state_dict().items():
        assert torch.equal(value, first.state_dict()[name])
    third = make_span_model(str(tmp_path / "joint"), "plain", False, 0.0)  # another head: the encoder only
    assert torch.equal(third.electra.embeddings.word_embeddings.weight, ours["embeddings.word_embeddings.weight"])


def test_plain_folder_is_hugging_faces_and_gives_its_head_on(tiny_model, tmp_path):
    first = make_span_model(str(tiny_model), "plain", False, 0.0)
    save_span_model(first, tmp_path / "plain")
    theirs = AutoModelForQuestionAnswering.from_pretrained(tmp_path / "plain")
    assert torch.equal(theirs.qa_outputs.weight, first.qa_outputs.weight)
    second = make_span_model(str(tmp_path / "plain"), "plain", False, 0.0)
    assert torch.equal(second.qa_outputs.weight, first.qa_outputs.weight)
    assert not (tmp_path / "plain" / qa_heads.HEAD_FILE).exists()


def test_a_head_of_another_width_is_left(tiny_model, tmp_path):
    model = make_span_model(str(tiny_model), "joint", True, 0.0)
    model.head = JointHead(8, True)
    save_span_model(model, tmp_path / "other")
    again = make_span_model(str(tmp_path / "other"), "joint", True, 0.0)
    assert again.head.start.weight.shape == (1, 32)
    assert encoder.load_config(str(tmp_path / "other")).hidden_size == 32
    assert isinstance(again, JointSpans) and Path(tmp_path / "other" / qa_heads.HEAD_FILE).is_file()
