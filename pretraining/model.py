"""The encoder, its embeddings and its heads: plain PyTorch on one flat axis of word pieces, no padding, no
distribution.

The architecture is BERT's as ELECTRA uses it (post-LayerNorm, exact GELU, learned positions); parity with Hugging
Face's `ElectraForPreTraining` and `ElectraForMaskedLM`, gradients included, is tested in
tests/pretraining/test_model.py.

Steps: `Embeddings` (shared by generator and discriminator) -> `Encoder` -> `GeneratorHead` or `DiscriminatorHead`.

Shapes: T word pieces of all samples of a micro-batch, E embedding width, W network width, H heads, D = W / H, F
feed-forward width, V vocabulary, M masked positions.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from pretraining.batch import MaskedBatch
from pretraining.config import ModelConfig
from pretraining.dropout import dropout
from pretraining.fused import layer_norm_torch, resolve_attention, resolve_layer_norm
from pretraining.softmax import vocabulary_logits


@dataclass(frozen=True)
class EncoderShape:
    """Sizes of one network, generator or discriminator."""

    embedding_size: int
    hidden_size: int
    ffn_hidden_size: int
    num_attention_heads: int
    num_layers: int
    hidden_dropout: float
    attention_dropout: float
    layernorm_epsilon: float


def discriminator_shape(config: ModelConfig) -> EncoderShape:
    """The main network's sizes; an MLM encoder has the same."""
    return EncoderShape(
        config.embedding_size,
        config.hidden_size,
        config.ffn_hidden_size,
        config.num_attention_heads,
        config.num_layers,
        config.hidden_dropout,
        config.attention_dropout,
        config.layernorm_epsilon,
    )


def generator_shape(config: ModelConfig) -> EncoderShape:
    """The generator's sizes: a fraction of the width, the same depth (ELECTRA, section 3.2 and appendix A)."""
    return EncoderShape(
        config.embedding_size,
        config.generator_hidden_size,
        config.generator_ffn_hidden_size,
        config.generator_num_attention_heads,
        config.num_layers,
        config.hidden_dropout,
        config.attention_dropout,
        config.layernorm_epsilon,
    )


class LayerNorm(nn.LayerNorm):
    """torch's LayerNorm over the last axis, computed by what fused.py has picked for the device."""

    def __init__(self, width: int, epsilon: float):
        super().__init__(width, epsilon)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """[..., width] -> [..., width]."""
        compiling = torch.compiler.is_compiling()  # then torch's, which is fused with what stands around it
        run = layer_norm_torch if compiling else resolve_layer_norm(values.device.type, self.weight.dtype).run
        return run(values, self.weight, self.bias, self.eps)


class Embeddings(nn.Module):
    """Word, position and segment embeddings and their LayerNorm, all shared between the two networks."""

    def __init__(self, config: ModelConfig, vocab_size: int):
        super().__init__()
        self.word = nn.Embedding(vocab_size, config.embedding_size)
        self.position = nn.Embedding(config.max_position_embeddings, config.embedding_size)
        self.token_type = nn.Embedding(2, config.embedding_size)
        self.norm = LayerNorm(config.embedding_size, config.layernorm_epsilon)
        self.dropout = config.hidden_dropout

    def forward(self, token_ids: torch.Tensor, batch: MaskedBatch) -> torch.Tensor:
        """token_ids int64 [T] -> [T, E]."""
        total = self.word(token_ids) + self.position(batch.position_ids) + self.token_type(batch.token_type_ids)
        return dropout(self.norm(total), self.dropout if self.training else 0.0)


class Layer(nn.Module):
    """Self-attention within each sample and feed-forward, each with dropout, residual and LayerNorm after it."""

    def __init__(self, shape: EncoderShape):
        super().__init__()
        width = shape.hidden_size
        self.heads = shape.num_attention_heads
        self.hidden_dropout, self.attention_dropout = shape.hidden_dropout, shape.attention_dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.attention_output = nn.Linear(width, width)
        self.attention_norm = LayerNorm(width, shape.layernorm_epsilon)
        self.ffn_in = nn.Linear(width, shape.ffn_hidden_size)
        self.ffn_out = nn.Linear(shape.ffn_hidden_size, width)
        self.ffn_norm = LayerNorm(width, shape.layernorm_epsilon)

    def forward(self, hidden: torch.Tensor, batch: MaskedBatch) -> torch.Tensor:
        """[T, W] -> [T, W]."""
        tokens, width = hidden.shape
        qkv = self.qkv(hidden).view(tokens, 3, self.heads, width // self.heads)
        probability = self.attention_dropout if self.training else 0.0
        attention = resolve_attention(qkv.device.type, qkv.dtype, probability > 0, qkv.shape[3]).run
        context = attention(qkv, batch.lengths, batch.cu_seqlens, probability).reshape(tokens, width)
        return self.after_attention(hidden, context)

    def after_attention(self, hidden: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """The layer's input and what attention made of it, [T, W] each -> [T, W]: what compiling.py compiles."""
        probability = self.hidden_dropout if self.training else 0.0
        hidden = self.attention_norm(hidden + dropout(self.attention_output(context), probability))
        return self.ffn_norm(hidden + dropout(self.ffn_out(F.gelu(self.ffn_in(hidden))), probability))


class Encoder(nn.Module):
    """Embeddings in, one vector per word piece out; a projection where the widths differ."""

    def __init__(self, shape: EncoderShape):
        super().__init__()
        self.project = None
        if shape.embedding_size != shape.hidden_size:
            self.project = nn.Linear(shape.embedding_size, shape.hidden_size)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.num_layers))
        self.recompute = False

    def forward(self, embedded: torch.Tensor, batch: MaskedBatch) -> torch.Tensor:
        """[T, E] -> [T, W]."""
        hidden = embedded if self.project is None else self.project(embedded)
        for layer in self.layers:
            if self.recompute and torch.is_grad_enabled():
                # It puts the random state back for the second time: the same values are dropped.
                hidden = checkpoint(layer, hidden, batch, use_reentrant=False)
            else:
                hidden = layer(hidden, batch)
        return hidden


def recompute_activations(objective: nn.Module) -> None:
    """Let all encoders keep only the input of each layer, and compute the rest again in the backward pass."""
    for module in objective.modules():
        if isinstance(module, Encoder):
            module.recompute = True


class Vocabulary(nn.Linear):
    """The generator's output layer; the multiple of columns is softmax.py's."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """[M, E] -> [M, V], or a few columns of -inf more."""
        return vocabulary_logits(hidden, self.weight, self.bias)


class GeneratorHead(nn.Module):
    """Vocabulary logits at the masked positions only: dense to the embedding width, GELU, LayerNorm, tied word
    table.
    """

    def __init__(self, shape: EncoderShape, word: nn.Embedding):
        super().__init__()
        self.dense = nn.Linear(shape.hidden_size, shape.embedding_size)
        self.norm = LayerNorm(shape.embedding_size, shape.layernorm_epsilon)
        self.vocabulary = Vocabulary(shape.embedding_size, word.num_embeddings)
        self.vocabulary.weight = word.weight  # a module of its own, so that ZeRO-3 gathers the tied table here too

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """[M, W] -> [M, V], or a few columns of -inf more."""
        return self.vocabulary(self.norm(F.gelu(self.dense(hidden))))


class DiscriminatorHead(nn.Module):
    """One logit per word piece, above zero for "replaced": dense, GELU, dense."""

    def __init__(self, shape: EncoderShape):
        super().__init__()
        self.dense = nn.Linear(shape.hidden_size, shape.hidden_size)
        self.prediction = nn.Linear(shape.hidden_size, 1)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """[T, W] -> [T]."""
        return self.prediction(F.gelu(self.dense(hidden))).squeeze(-1)


def initialize_weights(module: nn.Module, std: float) -> None:
    """Initialise as the reference does: truncated normal at two deviations, zero biases, LayerNorm at identity; Glorot
    uniform for the layers that the reference gives no initialiser (discriminator prediction, embedding projection)."""
    for name, child in module.named_modules():
        if isinstance(child, nn.LayerNorm):
            nn.init.ones_(child.weight)
            nn.init.zeros_(child.bias)
        elif isinstance(child, nn.Linear | nn.Embedding):
            if name.endswith((".project", ".prediction")):
                nn.init.xavier_uniform_(child.weight)
            else:
                nn.init.trunc_normal_(child.weight, std=std, a=-2 * std, b=2 * std)
            if isinstance(child, nn.Linear):
                nn.init.zeros_(child.bias)
