"""Two heads that find an answer in a context: ELECTRA's joint one, and the plain one. Nothing to run here.

Used by finetuning.span_qa. An input is [CLS] question [SEP] context [SEP]; an answer starts and ends on pieces
of the context; the first position ([CLS]) stands for "not in this window".

- plain: start and end are chosen apart, each by one linear layer. It is Hugging Face's
  `...ForQuestionAnswering`, and is saved and loaded as that. Whether there is an answer is read from the first
  position.
- joint (google-research/electra, finetune/qa/qa_tasks.py): the end is chosen for a given start, from the two
  vectors [start; piece] through 512 gelu units; in training for the gold start, in prediction for the BEAM
  likeliest ones. Where some questions have no answer, a third output says so, from [first position; expected
  start vector], with ANSWERABILITY_WEIGHT in the loss. It is saved as the encoder, and beside it
  `qa_head.safetensors`.

In training a model returns [B, T, 3]: log-probabilities of start and end at each position, and at position 0 the
logit of "no answer". In evaluation it returns [B, 1 + N, 3]: first the no-answer score (higher: rather none), then
the N best spans, each (first position, last position, log-probability).

Two things differ from the reference. A window is labelled by whether the answer is in the window, not in the
whole context. The best spans of the plain head are exact, not the best of 20 starts with 20 ends.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForQuestionAnswering

from finetuning import encoder

HEADS = ("joint", "plain")
HEAD_FILE = "qa_head.safetensors"
BEAM = 20  # likeliest starts, and ends of each
SPANS = 20  # best spans that an input gives
HIDDEN = 512
ANSWERABILITY_WEIGHT = 0.5


def precise(values: Tensor) -> Tensor:
    """In fp32 at least: sums over a long context are not for bfloat16."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def allowed_log_probs(logits: Tensor, context: Tensor) -> Tensor:
    """Log-softmax over the context and the first position, -inf elsewhere; logits [..., T], context bool [..., T]."""
    allowed = context.clone()
    allowed[..., 0] = True
    return precise(logits).masked_fill(~allowed, -torch.inf).log_softmax(dim=-1)


def window_of(values: Tensor, longest: int) -> Tensor:
    """[B, T] -> [B, T, longest]: the values at each position and the longest - 1 after it, -inf after the last."""
    return F.pad(values, (0, longest - 1), value=-torch.inf).unfold(1, longest, 1)


def span_rows(no_answer: Tensor, starts: Tensor, ends: Tensor, scores: Tensor) -> Tensor:
    """The evaluation output [B, 1 + N, 3] from no_answer [B] and the others [B, N]."""
    first = torch.stack([no_answer, torch.zeros_like(no_answer), torch.zeros_like(no_answer)], dim=-1)
    spans = torch.stack([starts.to(scores.dtype), ends.to(scores.dtype), scores], dim=-1)
    return torch.cat([first[:, None], spans], dim=1)


def plain_outputs(network: nn.Module, inputs: dict[str, Tensor], context: Tensor, longest: int) -> Tensor:
    """Outputs, as the module's docstring has them, of an AutoModelForQuestionAnswering."""
    outputs = network(**inputs)
    start_log_probs = allowed_log_probs(outputs.start_logits, context)
    end_log_probs = allowed_log_probs(outputs.end_logits, context)
    if network.training:
        return torch.stack([start_log_probs, end_log_probs, torch.zeros_like(end_log_probs)], dim=-1)
    none = start_log_probs[:, 0] + end_log_probs[:, 0]
    spans = start_log_probs.masked_fill(~context, -torch.inf)[:, :, None]
    spans = spans + window_of(end_log_probs.masked_fill(~context, -torch.inf), longest)
    scores, places = spans.flatten(1).topk(min(SPANS, spans[0].numel()), dim=1)
    starts = places // longest
    return span_rows(none - scores[:, 0].clamp_min(-1e4), starts, starts + places % longest, scores)


class JointHead(nn.Module):
    """Start; end given the start; and, if `answerability`, whether there is an answer."""

    def __init__(self, hidden_size: int, answerability: bool) -> None:
        """Weights start as TensorFlow's dense layers do: Glorot uniform, biases zero."""
        super().__init__()
        self.start = nn.Linear(hidden_size, 1)
        self.end_hidden = nn.Linear(2 * hidden_size, HIDDEN)  # over [start vector; piece vector]
        self.end = nn.Linear(HIDDEN, 1)
        if answerability:
            self.answer_hidden = nn.Linear(2 * hidden_size, HIDDEN)  # over [first vector; expected start vector]
            self.answer = nn.Linear(HIDDEN, 1)
        for layer in self.children():
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def start_log_probs(self, states: Tensor, context: Tensor) -> Tensor:
        """[B, T] from states [B, T, H]."""
        return allowed_log_probs(self.start(states).squeeze(-1), context)

    def pieces_for_end(self, states: Tensor) -> Tensor:
        """The part of the hidden layer's input sums that is a piece's own, [B, T, 512]; the same for each start."""
        return F.linear(states, self.end_hidden.weight[:, states.shape[-1] :], self.end_hidden.bias)

    def end_log_probs(self, states: Tensor, pieces: Tensor, context: Tensor, start: Tensor) -> Tensor:
        """[B, T] for answers that start at positions start [B]; `pieces` from `pieces_for_end`."""
        start_states = states[torch.arange(len(states), device=states.device), start]
        from_start = F.linear(start_states, self.end_hidden.weight[:, : states.shape[-1]])
        return allowed_log_probs(self.end(F.gelu(from_start[:, None] + pieces)).squeeze(-1), context)

    def no_answer_logit(self, states: Tensor, start_log_probs: Tensor) -> Tensor:
        """[B]: above 0 where the answer is rather not in the input."""
        expected = (start_log_probs.exp()[..., None] * states).sum(dim=1)
        features = torch.cat([states[:, 0], expected.to(states.dtype)], dim=-1)
        return precise(self.answer(F.gelu(self.answer_hidden(features))).squeeze(-1))


class JointSpans(nn.Module):
    """An encoder under ELECTRA's joint head."""

    base_model_prefix = "network"

    def __init__(self, network: nn.Module, head: JointHead, dropout: float) -> None:
        """`network` is a bare encoder (AutoModel)."""
        super().__init__()
        self.network, self.head = network, head
        self.config = network.config
        self.dropout = nn.Dropout(dropout)

    def forward(self, inputs: dict[str, Tensor], context: Tensor, longest: int, start: Tensor | None = None) -> Tensor:
        """See the module's docstring; start [B], the gold one (0 where there is none), is needed in training."""
        states = self.dropout(self.network(**inputs).last_hidden_state)
        start_log_probs = self.head.start_log_probs(states, context)
        pieces = self.head.pieces_for_end(states)
        answerability = hasattr(self.head, "answer")
        no_answer = self.head.no_answer_logit(states, start_log_probs) if answerability else None
        if self.training:
            end_log_probs = self.head.end_log_probs(states, pieces, context, start)
            third = torch.zeros_like(end_log_probs)
            if no_answer is not None:
                third = F.pad(no_answer[:, None], (0, third.shape[1] - 1))
            return torch.stack([start_log_probs, end_log_probs, third], dim=-1)
        starts, ends, scores = self.beam(states, pieces, context, start_log_probs, longest)
        if no_answer is None:
            no_answer = start_log_probs[:, 0] - scores[:, 0].clamp_min(-1e4)
        return span_rows(no_answer, starts, ends, scores)

    def beam(
        self, states: Tensor, pieces: Tensor, context: Tensor, start_log_probs: Tensor, longest: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Start, end and log-probability of the best spans, each [B, N], best first; see BEAM."""
        scores, starts = start_log_probs.masked_fill(~context, -torch.inf).topk(min(BEAM, context.shape[1]), dim=1)
        reach = torch.arange(longest, device=starts.device)
        found = []
        for score, start in zip(scores.T, starts.T, strict=True):  # one start at a time: [B, T, 512] fits in memory
            ends = self.head.end_log_probs(states, pieces, context, start).masked_fill(~context, -torch.inf)
            places = start[:, None] + reach
            near = ends.gather(1, places.clamp_max(ends.shape[1] - 1))
            near = near.masked_fill(places >= ends.shape[1], -torch.inf)
            best, offsets = near.topk(min(BEAM, longest), dim=1)
            found.append((start[:, None].expand_as(offsets), start[:, None] + offsets, score[:, None] + best))
        all_starts, all_ends, all_scores = (torch.cat(parts, dim=1) for parts in zip(*found, strict=True))
        top, places = all_scores.topk(min(SPANS, all_scores.shape[1]), dim=1)
        return all_starts.gather(1, places), all_ends.gather(1, places), top


def span_outputs(model: nn.Module, inputs: dict[str, Tensor], context: Tensor, longest: int, start: Tensor) -> Tensor:
    """Outputs of a model of `make_span_model`: inputs are what an encoder takes, context [B, T] is true on pieces that
    may be in an answer of at most `longest` pieces, start [B] the gold start for training.
    """
    if isinstance(model, JointSpans):
        return model(inputs, context, longest, start)
    return plain_outputs(model, inputs, context, longest)


def span_loss(outputs: Tensor, start: Tensor, end: Tensor, answerability: bool) -> Tensor:
    """Summed loss of training outputs [B, T, 3] for gold positions [B]; 0, 0: not in the input; -1: not counted."""
    counted = start >= 0
    outputs, start, end = outputs[counted], start[counted], end[counted]
    rows = torch.arange(len(start), device=start.device)
    loss = -(outputs[rows, start, 0] + outputs[rows, end, 1]).sum() / 2
    if answerability:
        absent = (start == 0).to(outputs.dtype)
        loss = loss + ANSWERABILITY_WEIGHT * F.binary_cross_entropy_with_logits(
            outputs[:, 0, 2], absent, reduction="sum"
        )
    return loss


def read_head(file: Path) -> dict[str, Tensor]:
    """The weights of a joint head; none if there is no such file, ValueError if it is broken."""
    try:
        return load_file(file) if file.is_file() else {}
    except SafetensorError as error:
        raise ValueError(f"{file} is broken ({error}): copy the folder anew, or train the model again") from None


def make_span_model(
    model: str,
    head: str,
    answerability: bool,
    dropout: float,
    encoder_dropout: float | None = None,
    whole: bool = False,
) -> nn.Module:
    """The encoder `model`, a folder or hub name, under a head of `HEADS`; `answerability` only for joint.

    A head that an earlier stage left in the folder is taken over as far as it has the same parts and shapes; if `whole`
    all of it has to be there, or a ValueError says so.
    """
    network = encoder.load_model(AutoModelForQuestionAnswering, model, encoder_dropout, whole=whole and head == "plain")
    if head == "plain":
        # Most architectures have no dropout before this layer, and the layer itself goes by different names.
        layers = [layer for layer in network.children() if isinstance(layer, nn.Linear) and layer.out_features == 2]
        if not layers:
            raise ValueError(f"--qa-head plain: {type(network).__name__} ends in no layer of start and end; use joint")
        layers[-1].register_forward_pre_hook(lambda layer, given: (F.dropout(given[0], dropout, layer.training),))
        return network
    joint = JointHead(network.config.hidden_size, answerability)
    file = Path(model) / HEAD_FILE
    ours = joint.state_dict()
    theirs = {k: v for k, v in read_head(file).items() if k in ours and v.shape == ours[k].shape}
    if whole and set(theirs) != set(ours):
        raise ValueError(
            f"--model {model} lacks its head, {HEAD_FILE}, or parts of it: copy it from where it was trained"
        )
    joint.load_state_dict({**ours, **theirs})
    return JointSpans(network.base_model, joint, dropout)


def save_span_model(model: nn.Module, folder: Path) -> None:
    """A Hugging Face folder: for the plain head AutoModelForQuestionAnswering opens it whole, for the joint one
    AutoModel, with the head beside it.
    """
    if not isinstance(model, JointSpans):
        model.save_pretrained(folder)
        return
    model.network.save_pretrained(folder)
    save_file({name: value.contiguous() for name, value in model.head.state_dict().items()}, folder / HEAD_FILE)
