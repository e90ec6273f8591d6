"""Weights that start with attention on the neighbouring word pieces (`--attention-init local`).

With the papers' random start both networks first learn which words a sample holds, and only much later that
its neighbours tell most about a word: attention has to find them through position embeddings that mean nothing
yet. A short run never gets there. Here half of the heads start on the left and the right neighbour; everything
stays trainable and the architecture is ELECTRA's, so nothing changes for export. What it gains: benchmarks/NOTES.md.

Steps: (1) the first K columns of the position table become K / 2 sinusoids, their frequencies evenly spread, so that
the product of two positions is near zero unless they are equal; to move on by d positions is to rotate each pair;
(2) `position_reader` finds the linear map that reads these columns from a layer's input, past the words that are
added to them and through the projection; (3) the key of a local head is what it reads, its query the same rotated to
the neighbour's position, so that the neighbour's score stands SCORE_MARGIN above the others.

Shapes: E embedding width, W network width, D width of a head, K columns that hold positions.
"""

import math

import torch
from torch import nn

from pretraining.model import Embeddings, Encoder

POSITION_COLUMNS = 32  # at most: 16 frequencies keep 32 positions in a row apart
POSITION_SCALE = 3.0  # deviation of these few columns over that of the words in all columns
SCORE_MARGIN = 12.0  # the neighbour's weight is then about 0.9 in a sample of 64 word pieces
NEIGHBOURS = (-1, 1)


def start_local(embeddings: Embeddings, encoders: list[Encoder], std: float) -> None:
    """Overwrite the position table and the queries and keys of half the heads, in place; `std` is the word table's."""
    positions = embeddings.position.weight  # [positions, E]
    head_widths = [layer.qkv.in_features // layer.heads for encoder in encoders for layer in encoder.layers]
    columns = min(POSITION_COLUMNS, positions.shape[1] // 2, *head_widths) // 2 * 2
    frequencies = (torch.arange(columns // 2, dtype=torch.float64) + 0.5) * math.pi / (columns // 2)
    angles = torch.arange(len(positions), dtype=torch.float64)[:, None] * frequencies
    waves = math.sqrt(2) * POSITION_SCALE * std * torch.cat((angles.sin(), angles.cos()), dim=1)
    with torch.no_grad():
        positions.zero_()
        positions[:, :columns] = waves
        for encoder in encoders:
            _start_encoder(encoder, positions.shape[1], frequencies)


def _start_encoder(encoder: Encoder, embedding_size: int, frequencies: torch.Tensor) -> None:
    """Every layer: half of its heads, at least one, look at the left and right neighbour in turn."""
    reader, deviation = position_reader(encoder.project, embedding_size, 2 * len(frequencies))
    columns = len(reader)
    for number, layer in enumerate(encoder.layers):
        width = layer.qkv.in_features
        head_width, local_heads = width // layer.heads, max(1, layer.heads // 2)
        read = reader * math.sqrt(SCORE_MARGIN * math.sqrt(head_width) / columns)
        if number:  # behind a LayerNorm, which has brought the projection's outcome to a deviation of 1
            read = read * deviation
        queries_keys = layer.qkv.weight[: 2 * width].view(2, layer.heads, head_width, width)
        queries_keys[:, :local_heads] = 0
        for head in range(local_heads):
            turn = rotation(frequencies, NEIGHBOURS[(number * local_heads + head) % 2])
            queries_keys[0, head, :columns] = (turn @ read).to(queries_keys)
            queries_keys[1, head, :columns] = read.to(queries_keys)


def position_reader(project: nn.Linear | None, embedding_size: int, columns: int) -> tuple[torch.Tensor, float]:
    """The map [K, W] from a first layer's input to its position columns, scaled to deviation 1; that input's deviation.

    It is the linear estimate with the least squared error (Wiener's) for embeddings whose columns are independent.
    """
    variances = torch.ones(embedding_size, dtype=torch.float64)
    variances[:columns] += POSITION_SCALE**2
    variances /= variances.mean()  # the embeddings' LayerNorm
    through = torch.eye(embedding_size, dtype=torch.float64) if project is None else project.weight.double()  # [W, E]
    covariance = through * variances @ through.T
    reader = (through * variances)[:, :columns].T @ torch.linalg.pinv(covariance)
    read_variance = (reader @ covariance @ reader.T).diagonal().mean()
    return reader / read_variance.sqrt(), covariance.diagonal().mean().sqrt().item()


def rotation(frequencies: torch.Tensor, offset: int) -> torch.Tensor:
    """[K, K]: turns the sinusoids (sines, then cosines) of any position into those of position + offset."""
    sine, cosine = torch.diag((frequencies * offset).sin()), torch.diag((frequencies * offset).cos())
    return torch.cat((torch.cat((cosine, sine), dim=1), torch.cat((-sine, cosine), dim=1)))
