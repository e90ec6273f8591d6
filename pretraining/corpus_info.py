"""What an indexed corpus is, where it came from, and what the model sees of it.

    python -m pretraining.corpus_info PREFIX [--tokenizer DIR] [--seq-length N] [--sample N [--epoch N]]

Steps: (1) check index, manifest and tokenizer against each other; (2) print counts and, stage by stage, what was
read, kept and dropped, with which flags and versions; (3) cut the split into samples, exactly as the training with
these flags does (a map in a temporary folder); (4) print five samples, or the one of --sample, decoded and masked,
and trace each to its document's id and the files that it came from.

In a decoded sample [MASK:word] is a masked word piece, [KEEP:word] one that the generator has to predict but sees. The
sample ids of a run on several corpora (--data-path with weights) count through all of them: --first-sample is the
number of samples in the corpora before this one.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from pretraining.config import DataConfig, RunConfig, require
from pretraining.corpus.document_ids import DocumentIds
from pretraining.corpus.index_manifest import check_tokenizer, read_index_manifest
from pretraining.corpus.indexed import IndexedCorpus
from pretraining.corpus.provenance import describe_stages, files_of_document, with_sources
from pretraining.corpus.tokenizer import load_tokenizer, piece_text, special_tokens
from pretraining.data import Samples
from pretraining.sample_map import (
    SPECIALS_PER_SAMPLE,
    SPLITS,
    build_sample_map,
    open_sample_map,
    split_documents,
)

SAMPLES_SHOWN = 5


def describe_corpus(manifest: dict) -> Iterator[str]:
    """Lines about the index itself."""
    documents, sentences, tokens = (manifest[name] for name in ("documents", "sentences", "tokens"))
    unknown = manifest["counts"]["unknown_word_pieces"]
    yield f"{documents:,} documents, {sentences:,} sentences, {tokens:,} word pieces ({unknown / tokens:.4%} unknown)"
    yield f"{tokens / documents:.1f} word pieces a document, {sentences / documents:.1f} sentences a document"
    yield f"vocabulary {manifest['vocab_size']:,}, tokenizer {manifest['tokenizer_sha256'][:12]}, " + (
        f"lower-cased {manifest['lowercase']}, accents stripped {manifest['strip_accents']}"
    )


def decode_masked(samples: Samples, epoch: int, index: int, tokenizer: Tokenizer) -> list[str]:
    """The segments of one sample as text, with its masks as the training draws them in this epoch."""
    batch = samples.micro_batches(np.array([epoch]), np.array([index]), 1, [0])[0]
    masked = set(batch.masked_positions.tolist())
    segments: list[list[str]] = [[], []]
    for place, (piece, seen, segment) in enumerate(
        zip(batch.input_ids.tolist(), batch.generator_ids.tolist(), batch.token_type_ids.tolist(), strict=True)
    ):
        text = piece_text(tokenizer, piece)
        if place in masked:
            blank = " " if text.startswith(" ") else ""
            text = f"{blank}[{'MASK' if seen == samples.special.mask else 'KEEP'}:{text[len(blank) :]}]"
        segments[segment].append(text)
    return ["".join(texts).strip() for texts in segments if texts]


def describe_sample(
    samples: Samples, epoch: int, index: int, tokenizer: Tokenizer, manifest: dict, ids: DocumentIds | None
) -> Iterator[str]:
    """Lines about one sample: where it is, its document, the files, its segments."""
    record, segments = samples.sample_map[index], decode_masked(samples, epoch, index, tokenizer)
    sentence, length = int(record["sentence"]), int(record["length"])
    document = int(np.searchsorted(samples.corpus.document_starts, sentence, side="right")) - 1
    yield (
        f"sample {samples.first_index + index:,}, epoch {epoch}: {length} word pieces of document {document:,}, from "
        f"word piece {int(record['offset'])} of sentence {sentence - int(samples.corpus.document_starts[document])}"
    )
    identity = ids[document] if ids else ""
    yield f"  document id: {identity or 'not kept by the tools that made this corpus'}"
    yield from (f"  {line}" for line in files_of_document(manifest, document, identity))
    yield from (f"  {name}: {text}" for name, text in zip("AB", segments, strict=False))


def corpus_info(arguments: argparse.Namespace) -> Iterator[str]:
    """All lines of the command. Raises ValueError for users' mistakes."""
    prefix = arguments.prefix
    manifest = with_sources(prefix, read_index_manifest(prefix))
    folder = arguments.tokenizer or Path(prefix).parent / manifest.get("tokenizer", "tokenizer")
    require(
        arguments.tokenizer or (folder / "tokenizer.json").is_file(),
        f"the tokenizer that made {prefix} is not at {folder}; say where it is with --tokenizer DIR",
    )
    check_tokenizer(prefix, folder)
    corpus, tokenizer = IndexedCorpus(prefix), load_tokenizer(folder)
    require(
        SPECIALS_PER_SAMPLE < arguments.seq_length < 2**16,
        f"--seq-length {arguments.seq_length} is outside {SPECIALS_PER_SAMPLE + 1} to {2**16 - 1}",
    )
    adopted = manifest["sources"] == [{"stage": "adopted"}]
    ids = None if adopted else DocumentIds(prefix)
    if arguments.sample is None:
        yield from describe_corpus(manifest)
        yield from describe_stages(manifest)
    cut = (arguments.seq_length - SPECIALS_PER_SAMPLE, arguments.short_seq_prob, arguments.seed)
    documents = split_documents(arguments.split, corpus.num_documents, arguments.part)
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "samples"
        build_sample_map(corpus, path, documents, cut)
        samples = Samples(
            corpus, open_sample_map(path), special_tokens(tokenizer), arguments.mask_prob,
            arguments.one_segment_prob, arguments.seed, arguments.first_sample,
        )  # fmt: skip
        if arguments.sample is None:
            yield f"{len(samples):,} {arguments.part} samples of at most {arguments.seq_length} word pieces"
            chosen = [len(samples) * number // SAMPLES_SHOWN for number in range(min(SAMPLES_SHOWN, len(samples)))]
        else:
            chosen = [arguments.sample - arguments.first_sample]
            require(
                0 <= chosen[0] < len(samples),
                f"--sample {arguments.sample} is not one of the {len(samples):,} {arguments.part} samples",
            )
        for index in dict.fromkeys(chosen):
            yield from describe_sample(samples, arguments.epoch, index, tokenizer, manifest, ids)


def _parse_arguments() -> argparse.Namespace:
    data, run = DataConfig(), RunConfig()
    parser = argparse.ArgumentParser(
        prog="python -m pretraining.corpus_info",
        description="Print what an indexed corpus is and where it came from; trace samples to their documents.",
    )
    parser.add_argument("prefix", metavar="PREFIX", help="The corpus: PREFIX.bin, .idx, .ids, .sources.json and .json.")
    parser.add_argument("--tokenizer", type=Path, metavar="DIR", help="Left out: where it was when the index was made.")
    parser.add_argument("--sample", type=int, metavar="N", help="Trace this sample alone, numbered as in the training.")
    parser.add_argument("--epoch", type=int, metavar="N", default=0, help="Epoch whose masks to show. Default: 0.")
    parser.add_argument("--first-sample", type=int, metavar="N", default=0, help="In a blend: samples before these.")
    parser.add_argument("--part", choices=SPLITS, default=SPLITS[0], help="Split to look at. Default: %(default)s.")
    for name, kind, default in (
        ("--seq-length", int, 128),
        ("--mask-prob", float, 0.15),
        ("--seed", int, run.seed),
        ("--split", str, data.split),
        ("--short-seq-prob", float, data.short_seq_prob),
        ("--one-segment-prob", float, data.one_segment_prob),
    ):
        parser.add_argument(
            name, type=kind, metavar="X", default=default, help="As trained with. Default: %(default)s."
        )
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    try:
        for line in corpus_info(_parse_arguments()):
            print(line)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
