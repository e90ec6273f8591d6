"""Text for the measurement of speed: micro-batches as the trainer makes them, from a corpus or from made-up documents.

No command of its own; see `python -m benchmarks.pretraining_speed --help`.

Steps: (1) without a corpus, write documents of random word pieces whose lengths follow PubMed abstracts; (2) cut
samples with the trainer's own sample map; (3) `steps` deals, masks and tensors them with the trainer's own code;
`loader_rate` times that alone.
"""

import argparse
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from pretraining.batch import MaskedBatch
from pretraining.config import Config
from pretraining.corpus.indexed import CorpusWriter, IndexedCorpus
from pretraining.data import Samples, global_batch
from pretraining.sample_map import SPECIALS_PER_SAMPLE, build_sample_map, open_sample_map

VOCABULARY = 30_522  # BERT's
# How many of 725 PubMed abstracts (no titles) have 0 to 31, 32 to 63, ... word pieces, in a WordPiece vocabulary of
# 30,522 trained on abstracts.
ABSTRACT_LENGTHS = (0, 0, 0, 0, 5, 103, 214, 134, 85, 79, 35, 24, 12, 12, 11, 5, 2, 2, 0, 0, 0, 1, 1)
BIN_WIDTH = 32  # word pieces
SENTENCE_LENGTH = 25  # word pieces
DOCUMENTS = 4000
LOADER_STEPS, LOADER_PASSES = 30, 3
SPECIAL = SimpleNamespace(pad=0, unk=1, cls=2, sep=3, mask=4)


def fault_of_flags(options: argparse.Namespace) -> str | None:
    """Which flag of benchmarks/pretraining_speed.py asks for what cannot be measured; None where none does."""
    longest = Config().model.max_position_embeddings
    if not 5 <= options.length <= longest:
        return f"--length {options.length} is outside 5 to {longest}, the rows of the position table"
    if options.vocab_size < SPECIAL.mask + 2:
        return f"--vocab-size {options.vocab_size} leaves no word piece behind the special ones: give a larger one"
    for name, value in (("rounds", options.rounds), ("batch-size", options.batch_size)):
        if value < 1:
            return f"--{name} is {value}; give a number above 0"
    for micro in (options.our_micro_batch, *(() if options.no_peers else options.micro_batch)):
        if micro < 1 or options.batch_size % micro:
            return f"--batch-size {options.batch_size} is not a multiple of the micro-batch {micro}"
    if options.output and (options.output.is_dir() or not options.output.parent.is_dir()):
        return f"--output {options.output} cannot be written: give a file in a folder that is there"
    return None


def made_up_lengths(documents: int, seed: int = 0) -> np.ndarray:
    """Word pieces of documents drawn from the histogram, int64 [documents]."""
    random = np.random.default_rng(seed)
    shares = np.array(ABSTRACT_LENGTHS) / sum(ABSTRACT_LENGTHS)
    bins = random.choice(len(shares), documents, p=shares)
    return np.maximum(2, bins * BIN_WIDTH + random.integers(0, BIN_WIDTH, documents))


def write_made_up_corpus(prefix: Path, documents: int, vocabulary: int) -> None:
    """PREFIX.bin and .idx: random word pieces in sentences of 25; what they say does not change the speed."""
    lengths = made_up_lengths(documents)
    sentences = [
        [SENTENCE_LENGTH] * (length // SENTENCE_LENGTH) + [length % SENTENCE_LENGTH] * (length % SENTENCE_LENGTH > 0)
        for length in lengths.tolist()
    ]
    pieces = np.random.default_rng(1).integers(SPECIAL.mask + 1, vocabulary, int(lengths.sum()))
    with CorpusWriter(prefix, vocabulary) as writer:
        writer.add(pieces, np.concatenate([np.array(s) for s in sentences]), np.array([len(s) for s in sentences]))
        writer.finish()


def open_text(corpus: str | None, folder: Path, vocabulary: int, cut: tuple[int, float, bool]) -> Samples:
    """Samples of a corpus, or of made-up documents; files of its own go into folder.

    cut: (longest sample in word pieces, share of masked ones, whether to take only samples of that full length).
    Raises ValueError where the corpus is no corpus, or has more word pieces than the vocabulary.
    """
    length, mask_prob, full_samples = cut
    prefix = Path(corpus) if corpus else folder / "made-up"
    if not corpus:
        write_made_up_corpus(prefix, DOCUMENTS, vocabulary)
    indexed = IndexedCorpus(prefix)
    highest = int(indexed.tokens[: 1 << 22].max())
    if highest >= vocabulary:
        raise ValueError(f"{prefix}.bin has word piece {highest}, and --vocab-size is {vocabulary}: give a larger one")
    path, settings = folder / "samples", (length - SPECIALS_PER_SAMPLE, 0.05, 0)
    build_sample_map(indexed, path, (0, indexed.num_documents), settings)
    sample_map = open_sample_map(path)
    if full_samples:
        sample_map = sample_map[sample_map["length"] == length - SPECIALS_PER_SAMPLE]
        if not len(sample_map):
            raise ValueError(f"no document has {length} word pieces: give a smaller --length")
    return Samples(indexed, sample_map, SPECIAL, mask_prob, 0.1, 0)


def steps(samples: Samples, batch_size: int, micro_batch_size: int) -> Iterator[list[MaskedBatch]]:
    """Micro-batches of one optimizer step after another; step n has the same samples for any micro-batch size."""
    consumed = 0
    while True:
        epochs, indices = global_batch(consumed, batch_size, len(samples), samples.seed)
        share = list(range(batch_size // micro_batch_size))
        yield samples.micro_batches(epochs, indices, micro_batch_size, share)
        consumed += batch_size


def loader_rate(samples: Samples, batch_size: int, micro_batch_size: int, clock: Callable[[], float]) -> float:
    """Real word pieces a second of the loader alone, samples cut, masked and dealt: the median of LOADER_PASSES."""
    stream, rates = steps(samples, batch_size, micro_batch_size), []
    next(stream)
    for _ in range(LOADER_PASSES):
        began = clock()
        tokens = sum(len(batch.input_ids) for _ in range(LOADER_STEPS) for batch in next(stream))
        rates.append(tokens / (clock() - began))
    return statistics.median(rates)
