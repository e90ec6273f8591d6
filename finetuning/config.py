"""The settings of a finetuning run, as a dataclass and as command-line flags. Nothing to run here."""

from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from dataclasses import dataclass, field, fields, replace
from typing import Any


def setting(default: Any, text: str) -> Any:
    """A configuration field with its help text."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class FinetuneConfig:
    """All that decides a run besides model, data and seed; each field is a flag of the benchmark scripts."""

    learning_rate: float = setting(
        0.0,
        "Peak learning rate, that of the head; 0 takes the one for the model's size: 3e-4 up to hidden size "
        "256 (small), 5e-5 from 1024 (large), 1e-4 between, but for ELECTRA of hidden size 768 (base) the one "
        "published for the benchmark, where there is one.",
    )
    layer_decay: float = setting(
        0.0,
        "Each layer's learning rate is that of the layer above times this; 0 takes 0.8, or 0.9 from hidden "
        "size 1024 (large); 1 gives all the same.",
    )
    reference_layer_decay_exponent: bool = setting(
        False,
        "Give the top layer the decay squared, and so on down, as google-research/electra does.",
    )
    freeze_layers: int = setting(
        0, "Lowest layers whose weights, and those of the embeddings, stay as they are; 0 trains everything."
    )
    reinit_layers: int = setting(0, "Top layers of the encoder that start from new random weights.")
    batch_size: int = setting(32, "Inputs in one optimizer step.")
    gradient_accumulation: int = setting(
        1,
        "Parts in which a batch goes through the model, to save memory; only dropout then differs.",
    )
    epochs: int = setting(20, "Most passes over the training split.")
    patience: int = setting(5, "Stop after this many epochs without a better dev score.")
    warmup_fraction: float = setting(0.1, "Share of all steps in which the learning rate rises to its peak.")
    weight_decay: float = setting(0.01, "Decoupled weight decay; not on biases and normalisation weights.")
    adam_epsilon: float = setting(1e-6, "Adam's epsilon.")
    bias_correction: bool = setting(
        True, "Adam's bias correction, which short runs need; google-research/electra has none."
    )
    clip_norm: float = setting(1.0, "Largest norm of the gradient of one step.")
    dropout: float = setting(0.1, "Dropout before the new head.")
    encoder_dropout: float | None = setting(
        None,
        "Dropout inside the encoder, of hidden states and attention probabilities; left out: as the model's own "
        "config.json says. A model pretrained without dropout says 0 there, and overfits; 0.1 is usual.",
    )
    max_length: int = setting(
        512,
        "Most word pieces of one input, at most as many as the model has positions for; longer ones are "
        "split, never cut.",
    )
    overlap: int = setting(64, "Word pieces that two neighbouring parts of a split input share.")
    bf16: bool = setting(False, "Run the model in bfloat16 (autocast); weights and optimizer stay in fp32.")

    def __post_init__(self) -> None:
        """ValueError naming the flag whose value makes no sense, and what would."""
        half = self.max_length // 2
        rules = {
            "learning_rate": (self.learning_rate >= 0, "0 or more"),
            "layer_decay": (0 <= self.layer_decay <= 1, "0 to 1"),
            "freeze_layers": (self.freeze_layers >= 0, "0 or more"),
            "reinit_layers": (self.reinit_layers >= 0, "0 or more"),
            "batch_size": (self.batch_size >= 1, "1 or more"),
            "gradient_accumulation": (
                1 <= self.gradient_accumulation <= self.batch_size,
                f"1 to {self.batch_size}, the inputs of a batch (--batch-size)",
            ),
            "epochs": (self.epochs >= 1, "1 or more"),
            "patience": (self.patience >= 1, "1 or more"),
            "warmup_fraction": (0 <= self.warmup_fraction < 1, "0 to less than 1"),
            "weight_decay": (self.weight_decay >= 0, "0 or more"),
            "adam_epsilon": (self.adam_epsilon > 0, "more than 0"),
            "clip_norm": (self.clip_norm > 0, "more than 0"),
            "dropout": (0 <= self.dropout < 1, "0 to less than 1"),
            "encoder_dropout": (self.encoder_dropout is None or 0 <= self.encoder_dropout < 1, "0 to less than 1"),
            "max_length": (self.max_length >= 8, "8 or more"),
            "overlap": (0 <= self.overlap <= half, f"0 to {half}, half of --max-length {self.max_length}"),
        }
        for name, (holds, right) in rules.items():
            if not holds:
                raise ValueError(f"--{name.replace('_', '-')} {getattr(self, name)} is out of range: give {right}")

    def for_hidden_size(self, hidden_size: int, published: float = 0.0) -> "FinetuneConfig":
        """The same with the learning rate and layer decay that fit the model's size, where they are 0.

        `published` is the benchmark's rate for hidden size 768, 0 where none is or the model is of another kind.
        """
        large = hidden_size >= 1024
        rate = 5e-5 if large else 3e-4 if hidden_size <= 256 else 1e-4
        rate = published if published and hidden_size == 768 else rate
        decay = 0.9 if large else 0.8
        return replace(self, learning_rate=self.learning_rate or rate, layer_decay=self.layer_decay or decay)


def add_arguments(parser: ArgumentParser, defaults: FinetuneConfig) -> None:
    """One flag for each field of FinetuneConfig, with the benchmark's default."""
    group = parser.add_argument_group("training")
    for item in fields(FinetuneConfig):
        default, text = getattr(defaults, item.name), item.metadata["help"].replace("%", "%%")
        flag = f"--{item.name.replace('_', '-')}"
        if isinstance(default, bool):
            shown = f"{text} (default: {'on' if default else 'off'})"
            group.add_argument(flag, action=BooleanOptionalAction, default=default, help=shown)
        else:
            shown = text if default is None else f"{text} (default: {default})"
            kind = float if default is None else type(default)  # encoder_dropout
            group.add_argument(flag, type=kind, default=default, help=shown)


def config_from(options: Namespace) -> FinetuneConfig:
    """The FinetuneConfig of parsed flags; ValueError for a value out of range."""
    return FinetuneConfig(**{item.name: getattr(options, item.name) for item in fields(FinetuneConfig)})
