"""Masks and sampling noise: rates, exact counts, never a special token, and nothing but (seed, epoch, sample)."""

import numpy as np
import pytest

from pretraining import masking
from pretraining.masking import hash_bits, mask_samples, masked_count, uniforms

PAD, UNK, CLS, SEP, MASK = range(5)
SPECIAL = np.array([PAD, CLS, SEP, MASK])
SEED = 1234

Masked = tuple[np.ndarray, np.ndarray, np.ndarray]


def some_samples(count: int, longest: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(word pieces of all samples, lengths): [CLS] a [SEP] b [SEP], with an [UNK] here and there."""
    random = np.random.default_rng(seed)
    rows = []
    for length in random.integers(3, longest + 1, count):
        row = random.integers(5, 1000, length)
        row[random.random(length) < 0.02] = UNK
        row[0], row[-1] = CLS, SEP
        if length > 4:
            row[length // 2] = SEP
        rows.append(row)
    return np.concatenate(rows), np.array([len(row) for row in rows])


def mask(token_ids: np.ndarray, lengths: np.ndarray, samples: np.ndarray, epoch: int = 0, prob: float = 0.15) -> Masked:
    keys = (np.full_like(samples, epoch), samples)
    return mask_samples(token_ids, lengths, keys, SPECIAL, MASK, prob, SEED)


@pytest.mark.parametrize("prob", [0.15, 0.25])
def test_rates_over_100k_word_pieces(prob: float) -> None:
    token_ids, lengths = some_samples(800, 256)
    assert len(token_ids) > 100_000
    positions, generator_ids, noise = mask(token_ids, lengths, np.arange(len(lengths)), prob=prob)

    assert len(positions) / len(token_ids) == pytest.approx(prob, abs=0.01)
    became_mask = generator_ids[positions] == MASK
    assert became_mask.mean() == pytest.approx(0.85, abs=0.01)
    unchanged = generator_ids[positions] == token_ids[positions]
    assert np.array_equal(unchanged, ~became_mask)  # 15 % as they were, none at random
    assert noise.shape == positions.shape and noise.dtype == np.float64
    others = np.delete(np.arange(len(token_ids)), positions)
    assert np.array_equal(generator_ids[others], token_ids[others])


@pytest.mark.parametrize("prob", [0.0, 0.15, 0.25, 0.5, 0.9])
def test_every_sample_has_exactly_its_count_without_duplicates(prob: float) -> None:
    token_ids, lengths = some_samples(500, 40)
    positions, _, _ = mask(token_ids, lengths, np.arange(len(lengths)), prob=prob)

    assert (np.diff(positions) > 0).all()  # ascending, so no position twice
    sample_of_token = np.repeat(np.arange(len(lengths)), lengths)
    counts = np.bincount(sample_of_token[positions], minlength=len(lengths))
    assert np.array_equal(counts, masked_count(lengths, prob))


def test_the_count_is_a_rounded_share_of_all_word_pieces_and_at_least_one() -> None:
    lengths = np.array([3, 4, 10, 64, 128, 512])
    assert masked_count(lengths, 0.15).tolist() == [1, 1, 2, 10, 19, 77]  # the reference's 19 and 77
    assert masked_count(lengths, 0.25).tolist()[-2:] == [32, 128]


def test_special_tokens_are_never_masked_and_unknown_words_are() -> None:
    token_ids, lengths = some_samples(2000, 64)
    token_ids[5::97] = MASK  # a corpus should hold none of these, but it might
    token_ids[7::97] = PAD
    positions, _, _ = mask(token_ids, lengths, np.arange(len(lengths)))
    assert not np.isin(token_ids[positions], SPECIAL).any()
    assert (token_ids[positions] == UNK).any()


def test_a_sample_s_mask_does_not_depend_on_its_neighbours() -> None:
    token_ids, lengths = some_samples(30, 64)
    rows = np.split(token_ids, np.cumsum(lengths)[:-1])

    def by_sample(order: np.ndarray) -> dict[int, tuple]:
        result, lengths_here = {}, lengths[order]
        positions, generator_ids, noise = mask(np.concatenate([rows[i] for i in order]), lengths_here, order)
        ends = np.cumsum(lengths_here)
        for sample, begin, end in zip(order, ends - lengths_here, ends, strict=True):
            inside = (positions >= begin) & (positions < end)
            result[int(sample)] = (
                (positions[inside] - begin).tolist(),
                generator_ids[begin:end].tolist(),
                noise[inside].tolist(),  # bitwise
            )
        return result

    together = by_sample(np.arange(30))
    backwards = by_sample(np.arange(30)[::-1].copy())
    alone = {sample: by_sample(np.array([sample]))[sample] for sample in range(30)}
    assert together == backwards == alone


def test_another_epoch_seed_or_sample_gives_another_mask_and_other_noise() -> None:
    token_ids, lengths = some_samples(1, 200, seed=3)
    here = np.array([7])
    positions, _, noise = mask(token_ids, lengths, here)
    again = mask(token_ids, lengths, here)
    assert np.array_equal(positions, again[0]) and np.array_equal(noise, again[2])
    others = [
        mask(token_ids, lengths, here, epoch=1),
        mask(token_ids, lengths, np.array([8])),
        mask_samples(token_ids, lengths, (here * 0, here), SPECIAL, MASK, 0.15, SEED + 1),
    ]
    for other_positions, _, other_noise in others:
        assert not np.array_equal(other_positions, positions)
        assert not np.isin(other_noise, noise).any()


def test_every_position_is_chosen_equally_often() -> None:
    """No position of a sample is favoured: 4,000 samples of 22 word pieces, 3 of 20 candidates each."""
    lengths = np.full(4000, 22)
    token_ids = np.tile(np.array([CLS, *range(5, 25), SEP]), 4000)
    positions, _, _ = mask(token_ids, lengths, np.arange(4000))
    counts = np.bincount(positions % 22, minlength=22)
    assert counts[0] == counts[-1] == 0
    expected = len(positions) / 20
    assert ((counts[1:-1] - expected) ** 2 / expected).sum() < 50  # chi-square, 19 degrees; 99.99 % lies below


def test_the_noise_knows_nothing_of_what_was_masked_and_how() -> None:
    """Uniform among positions that became [MASK], and among those that show their word."""
    token_ids, lengths = some_samples(800, 256)
    positions, generator_ids, noise = mask(token_ids, lengths, np.arange(len(lengths)))
    became_mask = generator_ids[positions] == MASK
    for part in (noise[became_mask], noise[~became_mask]):
        assert chi_square(np.bincount((part * 16).astype(int), minlength=16)) < limit(16)


def chi_square(counts: np.ndarray) -> float:
    expected = counts.sum() / counts.size
    return float(((counts - expected) ** 2 / expected).sum())


def limit(cells: int) -> float:
    """Five deviations above the mean of the chi-square distribution of that many cells."""
    return cells - 1 + 5 * np.sqrt(2 * (cells - 1))


@pytest.mark.parametrize(
    "keys",
    [
        (np.arange(200_000),),
        (3, np.arange(200_000)),
        (np.arange(400)[:, None], np.arange(500)),
        (0, np.arange(400)[:, None], np.arange(500)),
        (np.arange(200_000) << 20,),
    ],
    ids=["one key", "second of two", "grid", "grid in an epoch", "wide steps"],
)
def test_uniforms_are_uniform(keys: tuple) -> None:
    values = uniforms(SEED, 3, *keys).ravel()
    assert values.dtype == np.float64 and values.min() >= 0 and values.max() < 1
    assert chi_square(np.bincount((values * 256).astype(int), minlength=256)) < limit(256)
    low_bits = (values * 2.0**53).astype(np.uint64) & np.uint64(255)
    assert chi_square(np.bincount(low_bits.astype(int), minlength=256)) < limit(256)


def test_uniforms_reach_neither_below_zero_nor_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking, "hash_bits", lambda *_: np.array([0, 2**64 - 1], np.uint64))
    assert uniforms(0, 0).tolist() == [0.0, 1 - 2.0**-53]


def test_streams_neighbouring_keys_and_seeds_are_independent() -> None:
    """Pairs of draws fill a 16 x 16 grid evenly."""
    keys = np.arange(100_000)
    base = uniforms(SEED, masking.STREAM_MASK_KIND, 0, keys)
    partners = {
        "stream": uniforms(SEED, masking.STREAM_REPLACEMENT, 0, keys),
        "order and kind": uniforms(SEED, masking.STREAM_MASK_CHOICE, 0, keys),
        "epoch": uniforms(SEED, masking.STREAM_MASK_KIND, 1, keys),
        "next key": uniforms(SEED, masking.STREAM_MASK_KIND, 0, keys + 1),
        "seed": uniforms(SEED + 1, masking.STREAM_MASK_KIND, 0, keys),
        "keys swapped": uniforms(SEED, masking.STREAM_MASK_KIND, keys, 0),
    }
    for name, partner in partners.items():
        cells = (base[1:] * 16).astype(int)[: len(keys) - 1] * 16 + (partner[1:] * 16).astype(int)
        assert chi_square(np.bincount(cells, minlength=256)) < limit(256), name


def test_streams_have_numbers_of_their_own() -> None:
    streams = [value for name, value in vars(masking).items() if name.startswith("STREAM_")]
    from pretraining.engine import STREAM_DROPOUT

    assert len({*streams, STREAM_DROPOUT}) == len(streams) + 1


def test_hashes_do_not_collide_over_many_keys() -> None:
    bits = hash_bits(SEED, 1, np.arange(20)[:, None], np.arange(50_000))
    assert len(np.unique(bits)) == bits.size
