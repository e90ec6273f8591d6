"""The whole configuration: four small dataclasses and the model sizes; flags.py makes the command line from them.

    python -m pretraining.train --help

Steps: (1) each field becomes one flag (`lr_warmup_iters` -> `--lr-warmup-iters`); (2) what the user leaves out comes
from the preset of `--preset`, and what no preset names from the field's own default; (3) `Config.check` refuses what
cannot work, in one sentence; (4) the merged configuration is written to the run folder as JSON (`to_dict`) and read
back from checkpoints (`from_dict`).

Flags have Megatron's names where Megatron has one. Every number has one owner: batch sizes, clipping, learning rate and
schedule are flags; ZeRO, precision and communication belong to the file named by `--deepspeed-config`.
"""

import dataclasses
from dataclasses import dataclass, field, fields
from typing import Any, Literal

MICRO_BATCH_SIZE = 32  # samples, where --micro-batch-size says nothing: fits base at length 512 into 24 GB

# Sizes and recipes: ELECTRA (Clark et al., ICLR 2020), appendix A, tables 6 and 7, and `configure_pretraining.py`
# of the reference code; base overrides the reference's default generator fraction of 1/4 as the paper does. `tiny`
# is ours.
PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {
        "num_layers": 2, "hidden_size": 64, "ffn_hidden_size": 256, "num_attention_heads": 2,
        "embedding_size": 32, "generator_size": 0.5, "mask_prob": 0.15,
        "seq_length": 64, "global_batch_size": 16, "train_iters": 1000, "lr": 1e-3, "lr_warmup_iters": 50,
    },
    "small": {
        "num_layers": 12, "hidden_size": 256, "ffn_hidden_size": 1024, "num_attention_heads": 4,
        "embedding_size": 128, "generator_size": 0.25, "mask_prob": 0.15,
        "seq_length": 128, "global_batch_size": 128, "train_iters": 1_000_000, "lr": 5e-4, "lr_warmup_iters": 10_000,
    },
    "base": {
        "num_layers": 12, "hidden_size": 768, "ffn_hidden_size": 3072, "num_attention_heads": 12,
        "embedding_size": 768, "generator_size": 1 / 3, "mask_prob": 0.15,
        "seq_length": 512, "global_batch_size": 256, "train_iters": 766_000, "lr": 2e-4, "lr_warmup_iters": 10_000,
    },
    "large": {
        "num_layers": 24, "hidden_size": 1024, "ffn_hidden_size": 4096, "num_attention_heads": 16,
        "embedding_size": 1024, "generator_size": 0.25, "mask_prob": 0.25,
        "seq_length": 512, "global_batch_size": 2048, "train_iters": 400_000, "lr": 2e-4, "lr_warmup_iters": 10_000,
    },
}  # fmt: skip


def flag(help_text: str, default: Any = None) -> Any:
    """A dataclass field that becomes a command-line flag; a default of None is filled in from the preset."""
    return field(default=default, metadata={"help": help_text})


@dataclass
class ModelConfig:
    """Architecture and objective. What is left out comes from the preset."""

    preset: Literal["tiny", "small", "base", "large"] = flag("Model size and published recipe to start from.", "small")
    objective: Literal["electra", "mlm"] = flag("Replaced token detection, or masked language modelling.", "electra")
    num_layers: int | None = flag("Transformer layers, of the generator too.")
    hidden_size: int | None = flag("Width of the discriminator.")
    ffn_hidden_size: int | None = flag("Width of the discriminator's feed-forward layer.")
    num_attention_heads: int | None = flag("Attention heads of the discriminator.")
    embedding_size: int | None = flag("Width of the shared embeddings; projected where a network is wider or narrower.")
    generator_size: float | None = flag("Generator width as a fraction of the discriminator's.")
    max_position_embeddings: int = flag("Rows of the position table: the longest sample any later phase may use.", 512)
    hidden_dropout: float = flag("Dropout probability after embeddings, attention and feed-forward.", 0.1)
    attention_dropout: float = flag("Dropout probability of attention weights.", 0.1)
    layernorm_epsilon: float = flag("Added to the variance in LayerNorm.", 1e-12)
    init_method_std: float = flag("Standard deviation of the truncated normal that weights start from.", 0.02)
    attention_init: Literal["random", "local"] = flag(
        "Attention starts random, as in the papers, or with half of the heads on the neighbouring word pieces: runs of "
        "a few million word pieces then learn what random ones have not found by their end.",
        "random",
    )
    generator_loss_weight: float = flag("Weight of the generator's loss in the sum.", 1.0)
    discriminator_loss_weight: float = flag("Weight of the discriminator's loss in the sum.", 50.0)
    sampling_temperature: float = flag("Divides the generator's logits before it samples replacements.", 1.0)

    @property
    def head_width(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def generator_hidden_size(self) -> int:
        return round(self.hidden_size * self.generator_size)

    @property
    def generator_num_attention_heads(self) -> int:
        return max(1, self.generator_hidden_size // 64)

    @property
    def generator_ffn_hidden_size(self) -> int:
        return 4 * self.generator_hidden_size


@dataclass
class DataConfig:
    """Corpus, samples and masks."""

    data_path: str | list[str] | None = flag(
        "Prefix of the indexed corpus: PREFIX.bin, PREFIX.idx and PREFIX.json. Several are blended: WEIGHT PREFIX "
        "WEIGHT PREFIX ..., or prefixes alone, which count by their size."
    )
    tokenizer: str | None = flag("Folder of the tokenizer that the corpus was made with.")
    split: str = flag("Documents for training, validation and test, as weights, in corpus order.", "969,30,1")
    data_cache_path: str | None = flag("Folder for sample maps; left out, they lie beside the corpus.")
    stage_data_to: str | None = flag(
        "Folder on each node's own disk: corpus and sample maps are copied there once a node, and read from there."
    )
    seq_length: int | None = flag("Longest sample in word pieces, [CLS] and [SEP] included.")
    mask_prob: float | None = flag("Share of a sample's word pieces that the generator has to predict.")
    short_seq_prob: float = flag("Share of samples cut to a random shorter length.", 0.05)
    one_segment_prob: float = flag("Share of samples made of one segment instead of two.", 0.1)


@dataclass
class OptimizerConfig:
    """Optimizer, schedule and batch arithmetic. Defaults are the reference's."""

    micro_batch_size: int | None = flag("Samples in one forward pass of one rank; left out: at most 32.")
    global_batch_size: int | None = flag("Samples in one optimizer step, over all ranks.")
    train_iters: int | None = flag("Optimizer steps of the whole run; the learning rate reaches zero there.")
    lr: float | None = flag("Peak learning rate.")
    lr_warmup_iters: int | None = flag("Steps of linear warm-up, multiplied with the linear decay.")
    optimizer: Literal["adam", "lamb"] = flag(
        "Adam, or LAMB for batches of many thousand samples (ZeRO stage 0 with fp32 parameters only).", "adam"
    )
    weight_decay: float = flag("Decoupled weight decay, not on biases and LayerNorm.", 0.01)
    clip_grad: float = flag("Largest global gradient norm; 0 turns clipping off.", 1.0)
    adam_beta1: float = flag("Decay of the first moment, of Adam and LAMB.", 0.9)
    adam_beta2: float = flag("Decay of the second moment, of Adam and LAMB.", 0.999)
    adam_eps: float = flag("Added to the root of the second moment, of Adam and LAMB.", 1e-6)
    adam_bias_correction: bool = flag("Correct the moments for their zero start; the reference does not.", False)


@dataclass
class RunConfig:
    """Where a run reads and writes, and how often."""

    save: str | None = flag("Run folder: checkpoints, configuration, metrics.jsonl, TensorBoard events.")
    load: str | None = flag("Run folder or checkpoint to go on from, exactly. Equal to --save and empty: start fresh.")
    finetune: bool = flag("With --load: take the weights alone and start a new schedule from step 0.", False)
    init_from: str | None = flag("Folder with Hugging Face ELECTRA weights in discriminator/ and generator/.")
    deepspeed_config: str | None = flag(
        "DeepSpeed JSON: ZeRO stage, precision, offload. Left out: ds_configs/zero1_bf16.json, or its fp16 or fp32 "
        "twin where the hardware has no bf16 instructions."
    )
    seed: int = flag("Decides initialisation, order, masks, sampling and dropout.", 1234)
    save_interval: int = flag("Steps between checkpoints; 0 saves only at the end.", 1000)
    keep_checkpoints: int = flag("How many of the newest checkpoints to keep; 0 keeps all.", 3)
    log_interval: int = flag("Steps between log lines.", 10)
    eval_interval: int = flag("Steps between validations; 0 validates only at the end.", 500)
    eval_iters: int = flag("Global batches of one validation; 0 turns validation off.", 10)
    tensorboard_dir: str | None = flag("Folder for TensorBoard events; left out: SAVE/tensorboard.")
    distributed_timeout_minutes: float = flag(
        "A rank that has waited so long for the others ends the run: longer than the slowest checkpoint.", 30.0
    )
    exit_duration_in_mins: float | None = flag("Save a checkpoint and stop after this many minutes.")
    recompute_activations: bool = flag(
        "Keep only the input of each layer and compute the rest again in the backward pass: less memory, more time.",
        False,
    )
    compile: Literal["auto", "on", "off"] = flag(
        "Compile both networks with torch.compile; auto: on GPUs, but not at ZeRO stage 3. CPUs gain nothing.", "auto"
    )
    peak_tflops: float | None = flag("Peak TFLOP/s of one rank's device, for MFU; left out: measured at the start.")
    profile: bool = flag("Write a trace and the ten costliest operators of steps 3 and 4 to SAVE/profile.", False)
    dry_run: bool = flag("Print parameters, batch arithmetic, DeepSpeed JSON, kernels and memory, and stop.", False)


@dataclass
class Config:
    """Everything a run is made from; `vocab_size` comes from the tokenizer."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def fill_from_preset(self) -> "Config":
        """Give every field that was left out the value of its preset."""
        for name, value in PRESETS[self.model.preset].items():
            for group in (self.model, self.data, self.optimizer):
                if hasattr(group, name) and getattr(group, name) is None:
                    setattr(group, name, value)
        return self

    def check(self) -> None:
        """Refuse what cannot work. Raises ValueError with one sentence that names the flag and the cure."""
        model, data, optimizer, run = self.model, self.data, self.optimizer, self.run
        for name in ("num_layers", "hidden_size", "ffn_hidden_size", "num_attention_heads", "embedding_size"):
            value = getattr(model, name)
            require(value > 0, f"--{name.replace('_', '-')} is {value}; give a number above 0")
        require(
            model.generator_hidden_size > 0,
            f"--generator-size {model.generator_size} leaves the generator no width",
        )
        for heads, width, flags in (
            (model.num_attention_heads, model.hidden_size, "--num-attention-heads and --hidden-size"),
            (
                model.generator_num_attention_heads,
                model.generator_hidden_size,
                "--generator-size and --hidden-size",
            ),
        ):
            require(width % heads == 0, f"{flags}: width {width} is not a multiple of {heads} heads")
        longest = model.max_position_embeddings
        require(
            5 <= data.seq_length <= longest,
            f"--seq-length {data.seq_length} is outside 5 to {longest}, the rows of --max-position-embeddings",
        )
        for name, value in (vars(data) | vars(model)).items():
            if name.endswith(("_prob", "_dropout")):
                require(0 <= value < 1, f"--{name.replace('_', '-')} {value} is not a probability below 1")
        for name in ("train_iters", "global_batch_size", "lr"):
            value = getattr(optimizer, name)
            require(value > 0, f"--{name.replace('_', '-')} is {value}; give a number above 0")
        micro = optimizer.micro_batch_size
        require(micro is None or micro > 0, f"--micro-batch-size is {micro}; give a number above 0, or leave it out")
        require(model.sampling_temperature > 0, "--sampling-temperature must be above 0")
        require(run.peak_tflops is None or run.peak_tflops > 0, f"--peak-tflops {run.peak_tflops} must be above 0")
        require(run.log_interval > 0, f"--log-interval is {run.log_interval}; give 1 or more")
        for name in ("lr_warmup_iters", "save_interval", "eval_interval", "eval_iters", "keep_checkpoints", "seed"):
            value = getattr(optimizer if hasattr(optimizer, name) else run, name)
            require(value >= 0, f"--{name.replace('_', '-')} is {value}; give 0 or more")
        require(
            data.data_path,
            "--data-path is missing: give the prefix of an indexed corpus (PREFIX.bin, PREFIX.idx)",
        )
        require(
            data.tokenizer,
            "--tokenizer is missing: give the folder of the tokenizer that the corpus was made with",
        )
        require(run.save or run.dry_run, "--save is missing: give a folder for checkpoints and logs")
        require(not run.finetune or run.load, "--finetune needs --load: the checkpoint whose weights to take")
        require(not (run.load and run.init_from), "--load and --init-from both name weights: give one of them")

    def to_dict(self) -> dict[str, dict[str, Any]]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, groups: dict[str, dict[str, Any]]) -> "Config":
        return cls(**{f.name: f.default_factory(**groups[f.name]) for f in fields(cls)})


def require(condition: Any, sentence: str) -> None:
    """Raise ValueError(sentence), a user's mistake, unless the condition holds."""
    if not condition:
        raise ValueError(sentence)


def largest_micro_batch(batch: int, world_size: int, limit: int = MICRO_BATCH_SIZE) -> int:
    """The largest micro-batch up to the limit that divides a rank's share of the global batch."""
    return next((size for size in range(limit, 0, -1) if batch // world_size % size == 0), 1)


def batch_arithmetic(config: OptimizerConfig, world_size: int) -> tuple[int, int]:
    """Samples per micro-batch and micro-batches per rank and step.

    A missing --micro-batch-size becomes the largest one that `largest_micro_batch` finds.
    Raises ValueError where global batch = micro-batch x ranks x accumulation has no whole solution.
    """
    batch = config.global_batch_size
    micro = config.micro_batch_size or largest_micro_batch(batch, world_size)
    if micro < 1 or batch % (micro * world_size):
        raise ValueError(
            f"--global-batch-size {batch} is not a multiple of --micro-batch-size {max(micro, 1)} x {world_size} ranks "
            f"= {max(micro, 1) * world_size}; change one of them"
        )
    return micro, batch // (micro * world_size)
