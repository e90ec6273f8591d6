"""What the preflight looks at on disk and in the flags: batch arithmetic, memory, corpus, tokenizer, --save.

Steps: each function looks at one thing and returns rows (doctor_report.py). Nothing is left behind: what is written to
measure a disk is deleted.
"""

import hashlib
import os
import shutil
import time
import uuid
from pathlib import Path

import numpy as np
import torch

from pretraining.blend import parse_data_path
from pretraining.config import Config, batch_arithmetic
from pretraining.corpus.index_manifest import check_tokenizer
from pretraining.corpus.indexed import IndexedCorpus, corpus_path
from pretraining.corpus.tokenizer import load_tokenizer, special_tokens, vocabulary_size
from pretraining.doctor_report import Row, note, ok, problem
from pretraining.ds_config import load_ds_config
from pretraining.machine import uses_gpu
from pretraining.plan_memory import activation_bytes, checkpoint_bytes, group_sizes, meta_objective, state_bytes

PROBE_BYTES = 64 << 20  # written and read to measure a disk
HASH_SECONDS = 15  # a corpus that takes longer to read is checked in samples
SLOW_BYTES_PER_SECOND = 20e6
GIB = 2**30


def batch(config: Config, world_size: int) -> list[Row]:
    """Batch arithmetic for this number of ranks. Raises ValueError where it does not work out."""
    micro, accumulation = batch_arithmetic(config.optimizer, world_size)
    size = config.optimizer.global_batch_size
    return [ok("batch", f"{micro} samples x {world_size} ranks x {accumulation} accumulation = {size}")]


def memory(config: Config, vocab_size: int, world_size: int, available: float) -> list[Row]:
    """Whether the states and activations of a rank fit into `available` bytes."""
    settings = load_ds_config(config.run.deepspeed_config)
    micro, _ = batch_arithmetic(config.optimizer, world_size)
    device = "cuda" if uses_gpu() else "cpu"
    states = state_bytes(group_sizes(meta_objective(config.model, vocab_size)), settings, world_size)
    here = states.total if device == "cuda" else states.total + states.host
    needed = here + activation_bytes(config, vocab_size, settings, micro, device)
    seen = f"a rank needs about {needed / GIB:.2f} GiB and has {available / GIB:.1f}"
    if needed > available:
        return [problem("memory", seen, "a smaller --micro-batch-size, or more ranks")]
    return [ok("memory", seen)]


def available_bytes(local_ranks: int) -> float:
    """Memory that one rank may take: its GPU's free memory, or its share of the machine's."""
    if uses_gpu():
        return float(torch.cuda.mem_get_info()[0])
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / local_ranks


def corpus(config: Config, whole: bool) -> list[Row]:
    """Each corpus of --data-path against the tokenizer. Raises ValueError at what is wrong.

    whole: read all of it whatever it takes; otherwise a corpus that takes more than 15 s is read in samples.
    """
    prefixes, _ = parse_data_path(config.data.data_path)
    return [row for prefix in prefixes for row in _one_corpus(prefix, config.data.tokenizer, whole)]


def _one_corpus(prefix: str, tokenizer: str, whole: bool) -> list[Row]:
    """Sizes, index, ids, checksums, speed."""
    manifest = check_tokenizer(prefix, tokenizer)
    indexed = IndexedCorpus(prefix)
    indexed.verify()
    vocab_size = vocabulary_size(load_tokenizer(tokenizer))
    special_tokens(load_tokenizer(tokenizer))
    path = corpus_path(prefix, ".bin")
    if _sha256(corpus_path(prefix, ".idx")) != manifest["idx_sha256"]:
        raise ValueError(f"{prefix}.idx is damaged (its checksum differs); make or copy the corpus again")
    speed = read_speed(path)
    size = path.stat().st_size
    how = f"checksums of {size / 1e6:,.0f} MB"
    if whole or size / speed < HASH_SECONDS:
        if _sha256(path) != manifest["bin_sha256"]:
            raise ValueError(f"{path} is damaged (its checksum differs); make or copy the corpus again")
    else:
        how = f"a thousand samples of {size / 1e9:,.1f} GB (--whole-corpus takes {size / speed / 60:.0f} minutes)"
    places = np.random.default_rng(0).integers(0, max(1, indexed.num_tokens - 100), 1000)
    highest = max(int(indexed.tokens[place : place + 100].max()) for place in places)
    if highest >= vocab_size:
        raise ValueError(f"{path} holds the id {highest}, beyond the {vocab_size} entries of {tokenizer}")
    documents = f"{indexed.num_documents:,} documents, {indexed.num_tokens:,} word pieces, {vocab_size:,} entries"
    rows = [ok("corpus", f"{documents}; {how} are right; {manifest['bin_sha256'][:12]}")]
    if speed < SLOW_BYTES_PER_SECOND:
        cure = "copy the corpus to a disk of the node"
        rows.append(note("corpus speed", f"{speed / 1e6:,.0f} MB/s", cure))
    return rows


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_speed(path: Path) -> float:
    """Bytes per second of reading up to 64 MiB, the page cache asked to forget them first."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, PROBE_BYTES, os.POSIX_FADV_DONTNEED)
        began = time.monotonic()
        count = len(file.read(PROBE_BYTES))
        return count / max(time.monotonic() - began, 1e-6)


def nearest_folder(path: str) -> Path:
    """The folder itself, or the nearest one above it that exists."""
    whole = Path(path).absolute()
    return next(folder for folder in [whole, *whole.parents] if folder.exists())


def save_space(config: Config, vocab_size: int) -> list[Row]:
    """Room for the checkpoints that will be kept and the one being written, and the disk's speed. Writes and deletes
    a file of 64 MiB; raises OSError where it cannot.
    """
    folder = nearest_folder(config.run.save)
    if not folder.is_dir():
        raise ValueError(f"--save {config.run.save}: {folder} is a file; give a folder")
    parameters = sum(map(sum, group_sizes(meta_objective(config.model, vocab_size))))
    one = checkpoint_bytes(parameters)
    kept = (config.run.keep_checkpoints or 10) + 1
    free = shutil.disk_usage(folder).free
    seen = f"{free / GIB:,.1f} GiB free, {kept} checkpoints take {kept * one / GIB:,.2f}"
    if free < kept * one + PROBE_BYTES:
        return [problem("disk of --save", seen, "free space there, lower --keep-checkpoints, or give another --save")]
    probe = folder / f".doctor-{uuid.uuid4().hex}"
    try:
        began = time.monotonic()
        with probe.open("wb") as file:
            file.write(os.urandom(1 << 20) * (PROBE_BYTES >> 20))
            file.flush()
            os.fsync(file.fileno())
        speed = PROBE_BYTES / (time.monotonic() - began)
    finally:
        probe.unlink(missing_ok=True)
    seen += f"; writes {speed / 1e6:,.0f} MB/s, a checkpoint takes {one / speed:,.1f} s"
    if speed < SLOW_BYTES_PER_SECOND:
        return [note("disk of --save", seen, "a faster file system, or a longer --save-interval")]
    return [ok("disk of --save", seen)]
