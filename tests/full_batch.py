"""A micro-batch of samples of full length, made up without a corpus, for counting operations and bytes.

batch = full_batch(length=64, samples=8, masked=10)
"""

import torch

from pretraining.batch import MaskedBatch
from tests.tiny import VOCAB_SIZE


def full_batch(length: int = 64, samples: int = 8, masked: int = 10, vocab_size: int = VOCAB_SIZE) -> MaskedBatch:
    """`samples` samples of `length` word pieces, `masked` masked positions in each."""
    tokens = length * samples
    ids = torch.randint(5, vocab_size, (tokens,), generator=torch.Generator().manual_seed(0))
    positions = torch.cat([start + torch.arange(1, masked + 1) for start in range(0, tokens, length)])
    return MaskedBatch(
        input_ids=ids,
        generator_ids=ids,
        token_type_ids=torch.zeros_like(ids),
        position_ids=torch.arange(length).repeat(samples),
        cu_seqlens=torch.arange(0, tokens + 1, length, dtype=torch.int32),
        masked_positions=positions,
        replacement_uniforms=torch.full((len(positions),), 0.5, dtype=torch.float64),
        lengths=(length,) * samples,
        global_masked=float(len(positions)),
        global_tokens=float(tokens),
        index=0,
        sample_ids=(),
    )
