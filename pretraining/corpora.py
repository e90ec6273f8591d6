"""The corpora of a run and their samples: opened, checked against the tokenizer, staged to a node's disk, blended.

Steps: (1) `open_corpus` checks every prefix of --data-path against the tokenizer; (2) `stage_corpus` copies them to
this node's own disk where --stage-data-to says so; (3) `open_samples` cuts a split into samples, by maps
that rank 0 builds.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pretraining import engine as engine_module
from pretraining.blend import BlendedSamples, parse_data_path, slots_of
from pretraining.config import Config
from pretraining.corpus.index_manifest import check_tokenizer
from pretraining.corpus.indexed import IndexedCorpus, corpus_path
from pretraining.corpus.tokenizer import load_tokenizer, special_tokens, vocabulary_size
from pretraining.data import Samples
from pretraining.sample_map import (
    SPECIALS_PER_SAMPLE,
    build_sample_map,
    open_sample_map,
    sample_map_path,
    split_documents,
)
from pretraining.staging import stage_files


@dataclass
class Corpus:
    """The corpora by prefix, their weights, the tokenizer's size and what a later run must share with this one."""

    indexed: dict[str, IndexedCorpus]
    manifests: dict[str, dict]
    weights: list[float] | None
    vocab_size: int
    facts: dict[str, str]


def open_corpus(config: Config) -> Corpus:
    """Open and check corpus and tokenizer. Raises ValueError in one sentence."""
    prefixes, weights = parse_data_path(config.data.data_path)
    manifests = {prefix: check_tokenizer(prefix, config.data.tokenizer) for prefix in prefixes}
    tokenizer = load_tokenizer(config.data.tokenizer)
    names = ("bin_sha256", "idx_sha256")
    facts = {name: " ".join(manifest[name] for manifest in manifests.values()) for name in names}
    facts["tokenizer_sha256"] = manifests[prefixes[0]]["tokenizer_sha256"]
    if len(prefixes) > 1:
        facts["blend"] = " ".join(map(str, slots_of(weights))) if weights else "by number of samples"
    indexed = {prefix: IndexedCorpus(prefix) for prefix in prefixes}
    return Corpus(indexed, manifests, weights, vocabulary_size(tokenizer), facts)


def stage_corpus(config: Config, corpus: Corpus) -> None:
    """Read the corpora from copies on this node's own disk, where --stage-data-to names one."""
    folder = config.data.stage_data_to
    for prefix, manifest in corpus.manifests.items() if folder else ():
        sources = {corpus_path(prefix, end): manifest[f"{end[1:]}_sha256"] for end in (".bin", ".idx")}
        name = f"{Path(prefix).name}.{manifest['bin_sha256'][:16]}"
        copies = engine_module.on_every_rank(partial(stage_files, sources, folder, name))
        corpus.indexed[prefix] = IndexedCorpus(copies / Path(prefix).name)


def open_samples(config: Config, corpus: Corpus, split: str) -> Samples:
    """Samples of a split; rank 0 builds the sample map, the others wait for it."""
    data, parts = config.data, []
    special = special_tokens(load_tokenizer(data.tokenizer))
    cut = (data.seq_length - SPECIALS_PER_SAMPLE, data.short_seq_prob, config.run.seed)
    for prefix, indexed in corpus.indexed.items():
        documents = split_documents(data.split, indexed.num_documents, split)
        path = sample_map_path(prefix, data.data_cache_path, corpus.manifests[prefix]["idx_sha256"], documents, cut)
        engine_module.on_rank_zero(partial(build_sample_map, indexed, path, documents, cut))
        if data.stage_data_to:
            name = f"{path.name}.d"
            path = engine_module.on_every_rank(partial(stage_files, {path: None}, data.stage_data_to, name)) / path.name
        parts.append(
            Samples(indexed, open_sample_map(path), special, data.mask_prob, data.one_segment_prob, config.run.seed)
        )
    return parts[0] if len(parts) == 1 else BlendedSamples(parts, corpus.weights)
