"""Masks and sampling noise as pure functions of (seed, epoch, sample index): numpy only, vectorised over a micro-batch.

Steps: (1) `uniforms` hashes (seed, stream, epoch, sample, position) to a float64 in [0, 1): a counter-based
generator, so nothing is stored, no order of calls matters, and any rank can recompute any sample; (2)
`mask_samples` chooses each sample's masked positions without replacement, never a special token, and which of them
become [MASK].

Semantics: ELECTRA's (reference code, `pretrain/pretrain_helpers.py`), except that positions are drawn without
replacement: the reference draws with replacement, loses about 1 % of the masked positions to duplicates and
averages the two sampled ids of a duplicate into an arbitrary third.

Shapes: T word pieces of all samples of a micro-batch, S samples, M masked positions.
"""

import numpy as np

MASK_TOKEN_SHARE = 0.85  # of the chosen positions become [MASK]; the rest stay as they are (ELECTRA: 85/15/0)

# Streams keep the draws of one sample independent of each other.
STREAM_MASK_CHOICE, STREAM_MASK_KIND, STREAM_REPLACEMENT, STREAM_ONE_SEGMENT, STREAM_STRADDLE = 1, 2, 3, 4, 5
STREAM_SHORT, STREAM_SHORT_LENGTH, STREAM_ORDER, STREAM_BLEND = 6, 7, 8, 10  # 9 is dropout's (engine.py)

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(value: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 (Steele, Lea, Flood 2014): a bijection of 64-bit integers that looks random."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def hash_bits(seed: int, stream: int, *keys: np.ndarray | int) -> np.ndarray:
    """64 random-looking bits for every tuple of keys (broadcast against each other), as uint64."""
    with np.errstate(over="ignore"):
        state = _mix(np.array([seed], np.uint64) * _GOLDEN + np.uint64(stream))
        for key in keys:
            # Each key enters between two mixes, so (1, 2) and (2, 1) have nothing in common.
            state = _mix(state + _mix(np.asarray(key).astype(np.uint64) * _GOLDEN + np.uint64(1)))
    return state


def uniforms(seed: int, stream: int, *keys: np.ndarray | int) -> np.ndarray:
    """Float64 numbers in [0, 1), at most 1 - 2**-53, one for every tuple of keys."""
    return (hash_bits(seed, stream, *keys) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def masked_count(lengths: np.ndarray, mask_prob: float) -> np.ndarray:
    """How many word pieces of samples of these lengths ([CLS] and [SEP] included) are masked: at least one, and never
    more than there are without [CLS] and two [SEP], whatever mask_prob is."""
    return np.clip(np.rint(lengths * mask_prob), 1, np.maximum(1, lengths - 3)).astype(np.int64)


def mask_samples(
    token_ids: np.ndarray,
    lengths: np.ndarray,
    sample_keys: tuple[np.ndarray, np.ndarray],
    special_ids: np.ndarray,
    mask_id: int,
    mask_prob: float,
    seed: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Choose the masked positions of a micro-batch.

    token_ids int64 [T], all samples one after another; lengths int64 [S]; sample_keys: (epoch, sample index), int64 [S]
    each; special_ids: ids that are never masked.
    Returns (positions int64 [M], ascending; generator_ids int64 [T]; replacement_uniforms float64 [M]).
    """
    sample_of_token = np.repeat(np.arange(len(lengths)), lengths)
    starts = np.cumsum(lengths) - lengths
    offsets = np.arange(len(token_ids)) - np.repeat(starts, lengths)
    epochs, samples = (key[sample_of_token] for key in sample_keys)

    # Rank the candidates of each sample by a random key and keep the first n: a draw without replacement.
    candidates = np.flatnonzero(~np.isin(token_ids, special_ids))
    order_key = hash_bits(seed, STREAM_MASK_CHOICE, epochs[candidates], samples[candidates], offsets[candidates])
    order = candidates[np.lexsort((order_key, sample_of_token[candidates]))]
    candidates_per_sample = np.bincount(sample_of_token[candidates], minlength=len(lengths))
    first_candidate = np.cumsum(candidates_per_sample) - candidates_per_sample
    rank_in_sample = np.arange(len(order)) - np.repeat(first_candidate, candidates_per_sample)
    chosen = rank_in_sample < np.repeat(masked_count(lengths, mask_prob), candidates_per_sample)
    positions = np.sort(order[chosen])

    keys = (epochs[positions], samples[positions], offsets[positions])
    generator_ids = token_ids.copy()
    generator_ids[positions[uniforms(seed, STREAM_MASK_KIND, *keys) < MASK_TOKEN_SHARE]] = mask_id
    return positions, generator_ids, uniforms(seed, STREAM_REPLACEMENT, *keys)
