"""The command line of pretraining, made from the dataclasses of config.py.

    python -m pretraining.train --help

Steps: (1) one flag per dataclass field, one group per dataclass; (2) the flags that were given become a `Config`;
(3) the preset fills in the rest; (4) `Config.check` refuses what cannot work.
"""

import argparse
import types
from dataclasses import fields
from typing import Any, Literal, get_args, get_origin

from pretraining.config import PRESETS, Config


def _value_type(annotation: Any) -> Any:
    """`int | None` -> int; anything else is itself."""
    if isinstance(annotation, types.UnionType):
        return next(a for a in get_args(annotation) if a is not type(None))
    return annotation


class _Parser(argparse.ArgumentParser):
    """Argument errors become ValueError, so that every mistake ends in the same one-sentence way."""

    def error(self, message: str) -> None:
        raise ValueError(f"{message} (see --help)")


def build_parser() -> argparse.ArgumentParser:
    """One flag per field, one group per dataclass."""
    parser = _Parser(
        prog="deepspeed launch/pretrain.sh",
        description="Pretrain an ELECTRA encoder. What is left out comes from --preset.",
        allow_abbrev=False,
    )
    for group_field in fields(Config):
        group_class = group_field.default_factory
        group = parser.add_argument_group(group_field.name, group_class.__doc__)
        for item in fields(group_class):
            kind, text = _value_type(item.type), item.metadata["help"].replace("%", "%%")
            options: dict[str, Any] = {"dest": item.name, "default": item.default}
            if item.default not in (None, False):
                text += f" Default: {item.default}."
            elif item.name in PRESETS["small"]:
                text += " Default: the preset's."
            if list[str] in get_args(item.type):
                options.update(nargs="+", metavar="PREFIX")
            elif kind is bool:
                options["action"] = argparse.BooleanOptionalAction
            elif get_origin(kind) is Literal:
                options["choices"] = get_args(kind)
            else:
                options.update(type=kind, metavar="N" if kind is int else "X" if kind is float else "PATH")
            group.add_argument("--" + item.name.replace("_", "-"), help=text, **options)
    # DeepSpeed's launcher appends it to every rank; the rank variables of the environment are what counts.
    parser.add_argument("--local_rank", "--local-rank", type=int, help=argparse.SUPPRESS)
    return parser


def read_arguments(arguments: list[str]) -> Config:
    """Command line -> filled-in Config, not yet checked. Raises ValueError where a flag is unknown or no number."""
    values = vars(build_parser().parse_args(arguments))
    # A flag that takes several words and got one is that word.
    values = {name: v[0] if isinstance(v, list) and len(v) == 1 else v for name, v in values.items()}
    groups = {
        f.name: f.default_factory(**{item.name: values[item.name] for item in fields(f.default_factory)})
        for f in fields(Config)
    }
    return Config(**groups).fill_from_preset()


def parse_arguments(arguments: list[str]) -> Config:
    """Command line -> filled-in and checked Config. Raises ValueError in one sentence."""
    config = read_arguments(arguments)
    config.check()
    return config
