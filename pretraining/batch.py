"""The unpadded, masked micro-batch that travels from the data loader through both networks to the loss.

Shapes: T word pieces of all samples, S samples, M masked positions.
"""

from typing import NamedTuple

import torch


class MaskedBatch(NamedTuple):
    """One unpadded micro-batch: all samples one after another on one axis, no padding anywhere."""

    input_ids: torch.Tensor  # int64 [T], the original text
    generator_ids: torch.Tensor  # int64 [T], with [MASK] put in
    token_type_ids: torch.Tensor  # int64 [T], 0 for [CLS] A [SEP], 1 for B [SEP]
    position_ids: torch.Tensor  # int64 [T], from 0 in each sample
    cu_seqlens: torch.Tensor  # int32 [S + 1], where each sample begins; the last is T
    masked_positions: torch.Tensor  # int64 [M], ascending
    replacement_uniforms: torch.Tensor  # float64 [M] in [0, 1)
    lengths: tuple[int, ...]  # S lengths, on the host, so that nothing waits for the device
    global_masked: float  # masked positions of the whole global batch
    global_tokens: float  # word pieces of the whole global batch, [CLS] and [SEP] included
    index: int  # of this micro-batch in the global batch: seeds dropout
    sample_ids: tuple[tuple[int, int], ...]  # (epoch, sample index) of each sample

    def to(self, device: torch.device) -> "MaskedBatch":
        """The same batch on a device; the copies do not wait."""
        return self._replace(
            **{
                name: value.to(device, non_blocking=True)
                for name, value in self._asdict().items()
                if isinstance(value, torch.Tensor)
            }
        )
