"""Checkpoint -> Hugging Face folders, from any ZeRO stage, proved by logits before they get their names.

    python -m pretraining.export --load runs/small --output exported/small

Steps: (1) find and verify the checkpoint; (2) rename its fp32 weights (hf_weights.py); (3) write `discriminator/`
and `generator/` with config, tokenizer and safetensors under temporary names; (4) load them again with transformers
alone and compare their logits, on padded text of two segments, with ours, unpadded; (5) rename. `--objective mlm` gives
`masked_language_model/`.
"""

import argparse
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import transformers
from torch import nn

from pretraining import checkpoint
from pretraining.batch import MaskedBatch
from pretraining.config import Config
from pretraining.corpus.tokenizer import load_tokenizer, save_tokenizer_files, special_tokens, vocabulary_size
from pretraining.hf_weights import DISCRIMINATOR, halves, hugging_face_settings, to_hugging_face
from pretraining.objectives import build_objective

TOLERANCE = 1e-5  # largest difference of a logit, relative to the largest logit, in fp32
# Sentences of very different lengths for the comparison, where --text gives no others.
PROBE_TEXT = (
    "Aspirin.",
    "Patients with type 2 diabetes were randomised to metformin 500 mg or placebo for 24 weeks (p < 0.05).",
    "Expression of the receptor was reduced in mice lacking the gene; no difference was seen in wild-type littermates. "
    "In contrast, IL-6 and TNF-alpha rose 3.2-fold within 4 h, and this rise was abolished by pretreatment with an "
    "inhibitor of NF-kappaB, suggesting that inflammation precedes, and does not follow, the loss of beta cells.",
)  # fmt: skip


def probe_batch(tokenizer_folder: Path, sentences: list[str], longest: int) -> MaskedBatch:
    """An unpadded batch of these sentences, cut to `longest` word pieces, every third one masked.

    The second half of each is of the second segment, so that both rows of the table of types are compared.
    """
    tokenizer, special = load_tokenizer(tokenizer_folder), special_tokens(load_tokenizer(tokenizer_folder))
    rows = [
        [special.cls, *encoding.ids[: longest - 2], special.sep]
        for encoding in tokenizer.encode_batch(sentences, add_special_tokens=False)
    ]
    lengths = [len(row) for row in rows]
    ids = torch.tensor([token for row in rows for token in row])
    positions = torch.arange(1, len(ids), 3)
    places = torch.cat([torch.arange(length) for length in lengths])
    middles = torch.cat([torch.full((length,), length // 2) for length in lengths])
    return MaskedBatch(
        input_ids=ids,
        generator_ids=ids.index_fill(0, positions, special.mask),
        token_type_ids=(places >= middles).long(),
        position_ids=places,
        cu_seqlens=torch.tensor(np.cumsum([0, *lengths]), dtype=torch.int32),
        masked_positions=positions,
        replacement_uniforms=torch.zeros(len(positions), dtype=torch.float64),
        lengths=tuple(lengths),
        global_masked=1.0,
        global_tokens=1.0,
        index=0,
        sample_ids=(),
    )


def our_logits(objective: nn.Module, half: str, batch: MaskedBatch) -> torch.Tensor:
    """Logits of one network for every word piece: [T] or [T, V]."""
    objective.eval()
    with torch.no_grad():
        if half == DISCRIMINATOR:
            hidden = objective.encoder(objective.embeddings(batch.input_ids, batch), batch)
            return objective.discriminator_head(hidden)
        encoder = getattr(objective, "generator", objective.encoder)
        return objective.generator_head(encoder(objective.embeddings(batch.generator_ids, batch), batch))


def their_logits(folder: Path, half: str, batch: MaskedBatch) -> torch.Tensor:
    """The same from the exported folder by transformers alone, on a padded batch."""
    model_class = transformers.ElectraForPreTraining if half == DISCRIMINATOR else transformers.ElectraForMaskedLM
    model, information = model_class.from_pretrained(folder, output_loading_info=True, dtype=torch.float32)
    wrong = {name: keys for name, keys in information.items() if keys}
    if wrong:
        raise ValueError(f"transformers does not load {folder} cleanly: {wrong}")
    pad = model.config.pad_token_id
    ids = batch.input_ids if half == DISCRIMINATOR else batch.generator_ids

    def padded(values: torch.Tensor, padding: int = 0) -> torch.Tensor:
        return nn.utils.rnn.pad_sequence(values.split(batch.lengths), batch_first=True, padding_value=padding)

    real, types = padded(torch.ones_like(ids)), padded(batch.token_type_ids)
    with torch.no_grad():
        return model.eval()(padded(ids, pad), attention_mask=real, token_type_ids=types).logits[real.bool()]


def write_half(folder: Path, half: str, weights: dict[str, torch.Tensor], settings: dict) -> None:
    """config.json and model.safetensors of one network."""
    folder.mkdir(parents=True)
    architecture = "ElectraForPreTraining" if half == DISCRIMINATOR else "ElectraForMaskedLM"
    config = transformers.ElectraConfig(**settings, architectures=[architecture], dtype="float32")
    config.save_pretrained(folder)
    weights = {name: tensor.contiguous() for name, tensor in weights.items()}
    safetensors.torch.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def replace_folders(staged: list[tuple[Path, Path]]) -> None:
    """Give (staged folder, final name) of every half its name.

    Earlier folders are all set aside first: after a kill a half is missing, and never a new one beside an older one.
    """
    earlier = []
    for staging, final in staged:
        if final.exists():
            earlier.append(final.rename(staging.with_suffix(".old")))
    for staging, final in staged:
        os.replace(staging, final)
    for folder in earlier:
        shutil.rmtree(folder, ignore_errors=True)


def restore_objective(folder: Path) -> tuple[Config, nn.Module, Path]:
    """(configuration, objective with the checkpoint's weights on the CPU, tokenizer folder), after checksums."""
    manifest = checkpoint.read_manifest(folder)
    checkpoint.verify_files(folder, manifest, lambda name: not name.endswith(".pt"))
    config = checkpoint.load_config(folder)
    tokenizer_folder = folder / checkpoint.TOKENIZER
    vocab_size = vocabulary_size(load_tokenizer(tokenizer_folder))
    objective = build_objective(config.model, vocab_size, seed=0)
    checkpoint.load_weights(folder, objective)
    return config, objective, tokenizer_folder


def export(load: str, output: Path, sentences: list[str]) -> list[tuple[Path, float]]:
    """Write and prove the Hugging Face folders. Returns (folder, largest relative difference of a logit) for each.

    Raises ValueError where the checkpoint is not whole or the logits differ by more than TOLERANCE.
    """
    config, objective, tokenizer_folder = restore_objective(checkpoint.find_checkpoint(load))
    batch = probe_batch(tokenizer_folder, sentences, config.model.max_position_embeddings)
    weights = dict(objective.named_parameters())
    pad_id = special_tokens(load_tokenizer(tokenizer_folder)).pad
    vocab_size = objective.embeddings.word.num_embeddings
    results, staged = [], []
    try:
        for half, (encoder, shape, head) in halves(config.model).items():
            staging = output / f".{half}.{os.getpid()}.tmp"
            staged.append((staging, output / half))
            settings = hugging_face_settings(config.model, shape, vocab_size, pad_id)
            write_half(staging, half, to_hugging_face(weights, encoder, shape, head), settings)
            save_tokenizer_files(tokenizer_folder, staging)
            ours, theirs = our_logits(objective, half, batch), their_logits(staging, half, batch)
            difference = float((ours - theirs).abs().max() / theirs.abs().max())
            if not difference <= TOLERANCE:
                raise ValueError(
                    f"{half}: logits of the exported model differ by {difference:.1e}; nothing was written"
                )
            results.append((output / half, difference))
        replace_folders(staged)
    finally:
        for staging, _ in staged:
            shutil.rmtree(staging, ignore_errors=True)
    return results


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m pretraining.export",
        description="Write a checkpoint as Hugging Face folders that transformers loads alone, after comparing logits.",
    )
    parser.add_argument(
        "--load", required=True, metavar="PATH", help="Run folder (its newest checkpoint) or checkpoint."
    )
    parser.add_argument(
        "--output", required=True, type=Path, metavar="PATH", help="Folder for discriminator/ and generator/."
    )
    parser.add_argument(
        "--text", type=Path, metavar="PATH", help="Text for the comparison of logits, a sentence a line."
    )
    arguments = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        sentences = list(PROBE_TEXT)
        if arguments.text:
            sentences = [line for line in arguments.text.read_text(encoding="utf-8").splitlines() if line.strip()][:64]
            if not sentences:
                raise ValueError(f"--text {arguments.text} holds no sentence; give a file with some, or leave it out")
        for folder, difference in export(arguments.load, arguments.output, sentences):
            print(f"{folder}: logits equal ours to {difference:.1e} of the largest")
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
