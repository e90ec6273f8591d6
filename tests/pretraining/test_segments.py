"""Where the first segment ends: the search in all samples at once against the rule, sample by sample."""

from pathlib import Path

import numpy as np
import pytest

from pretraining.data import Samples
from tests.tiny import make_documents, open_samples, tiny_config, write_corpus


def first_segment(samples: Samples, index: int, straddler_first: bool) -> int:
    """The rule, for one sample and word for word."""
    sentence, offset, length, target = samples.sample_map[index].item()
    sentence_ends = np.cumsum(samples.corpus.sentence_lengths[sentence : sentence + length]) - offset
    straddler = int(np.searchsorted(sentence_ends, target // 2))
    if straddler and (straddler == len(sentence_ends) or not straddler_first):
        straddler -= 1
    return min(int(sentence_ends[straddler]), length)


@pytest.mark.parametrize("holes", [0, 30])
def test_segments_are_those_of_a_search_in_each_sample(holes: int, tmp_path: Path) -> None:
    """holes: at most so many empty sentences before each, as other tools' corpora have them."""
    random = np.random.default_rng(1)
    documents = [
        [part for sentence in document for part in (*[[]] * int(random.integers(0, holes + 1)), sentence)]
        for document in make_documents(100, seed=2)
    ]
    prefix, tokenizer = write_corpus(tmp_path, documents)
    samples = open_samples(tiny_config(prefix, tokenizer, split="1,0,0", one_segment_prob=0.0))
    indices, seen = np.arange(len(samples)), set()
    for epoch in range(4):
        for index, found in enumerate(samples.first_segment_lengths(np.full_like(indices, epoch), indices)):
            both = [first_segment(samples, index, straddler_first) for straddler_first in (False, True)]
            assert found in both
            seen.add(both.index(found) if both[0] != both[1] else None)
    assert seen == {0, 1, None}
