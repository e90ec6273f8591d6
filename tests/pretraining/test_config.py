"""The command line and the configuration made from it: every field a flag, presets, and mistakes in one sentence."""

import dataclasses
import json

import pytest

from pretraining.config import (
    MICRO_BATCH_SIZE,
    PRESETS,
    Config,
    OptimizerConfig,
    batch_arithmetic,
)
from pretraining.flags import build_parser, parse_arguments

NEEDED = ["--data-path", "corpus/c", "--tokenizer", "corpus/tokenizer", "--save", "run"]
FIELDS = [
    (group.name, item) for group in dataclasses.fields(Config) for item in dataclasses.fields(group.default_factory)
]


def flag_of(name: str) -> str:
    return "--" + name.replace("_", "-")


def parse(*arguments: str) -> Config:
    return parse_arguments([*NEEDED, *arguments])


def another_value(item: dataclasses.Field) -> tuple[list[str], object]:
    """(what to type behind the flag, what it becomes) that is neither default nor preset and passes the checks."""
    special = {
        "preset": "base",
        "objective": "mlm",
        "attention_init": "local",
        "compile": "on",
        "optimizer": "lamb",
        "num_attention_heads": 8,
        "hidden_size": 512,
        "generator_size": 0.5,
        "split": "8,1,1",
        "max_position_embeddings": 1024,
        "deepspeed_config": "my.json",
    }
    if item.name in special:
        value = special[item.name]
    elif "bool" in str(item.type):
        return [], True
    elif "str" in str(item.type):
        value = f"my/{item.name}"
    elif "float" in str(item.type):
        value = 0.375
    else:
        value = 256
    return [str(value)], value


@pytest.mark.parametrize("group, item", FIELDS, ids=[item.name for _, item in FIELDS])
def test_every_field_has_a_flag(group: str, item: dataclasses.Field) -> None:
    typed, value = another_value(item)
    extra = ["--load", "other"] if item.name == "finetune" else []
    config = parse(*extra, flag_of(item.name), *typed)
    assert getattr(getattr(config, group), item.name) == value
    without = parse(*extra)
    if item.name not in ("data_path", "tokenizer", "save"):
        assert getattr(getattr(without, group), item.name) != value  # the flag made the difference


def test_no_field_stands_in_two_groups_and_each_has_a_sentence() -> None:
    names = [item.name for _, item in FIELDS]
    assert len(set(names)) == len(names)
    for _, item in FIELDS:
        text = item.metadata["help"]
        assert text[0].isupper() and text.endswith("."), item.name


def test_help_mentions_every_flag_its_text_and_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_arguments(["--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for _, item in FIELDS:
        assert flag_of(item.name) in text
        assert item.metadata["help"].split(".")[0][:25] in text.replace("- ", "-")
    assert "Default: 969,30,1." in text and "Default: 1e-06." in text and "Default: the preset's." in text
    assert "local_rank" not in text and "local-rank" not in text


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_fills_what_is_left_out(preset: str) -> None:
    config = parse("--preset", preset)
    for name, value in PRESETS[preset].items():
        holders = [part for part in (config.model, config.data, config.optimizer) if hasattr(part, name)]
        assert len(holders) == 1 and getattr(holders[0], name) == value, name
    missing = [item.name for group, item in FIELDS if getattr(getattr(config, group), item.name) is None]
    optional = "data_cache_path stage_data_to micro_batch_size load init_from deepspeed_config tensorboard_dir"
    assert missing == [*optional.split(), "exit_duration_in_mins", "peak_tflops"]


def test_small_is_the_preset_where_none_is_named() -> None:
    assert parse().to_dict() == parse("--preset", "small").to_dict()


def test_flags_win_over_the_preset_also_where_they_are_zero() -> None:
    config = parse("--preset", "base", "--lr-warmup-iters", "0", "--seq-length", "128", "--mask-prob", "0")
    assert (config.optimizer.lr_warmup_iters, config.data.seq_length, config.data.mask_prob) == (0, 128, 0.0)
    assert config.optimizer.global_batch_size == 256


def test_dictionary_and_back_through_json() -> None:
    config = parse("--preset", "tiny", "--lr", "0.1", "--load", "x", "--finetune")
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert set(config.to_dict()) == {"model", "data", "optimizer", "run"}


def test_two_configurations_share_nothing() -> None:
    first, second = parse(), parse()
    first.model.num_layers = 99
    assert second.model.num_layers == 12 and PRESETS["small"]["num_layers"] == 12


@pytest.mark.parametrize(
    "arguments, match",
    [
        (["--no-such-flag", "1"], "unrecognized arguments: --no-such-flag"),
        (["--learning-rate", "1"], "unrecognized arguments: --learning-rate"),
        (["--seq", "64"], "unrecognized arguments: --seq"),  # no abbreviations: they break when a flag is added
        (["--lr", "fast"], "--lr: invalid float value: 'fast'"),
        (["--train-iters", "1.5"], "--train-iters: invalid int value"),
        (["--preset", "huge"], "--preset: invalid choice: 'huge'"),
        (["--lr"], "--lr: expected one argument"),
    ],
)
def test_what_the_parser_does_not_know_is_refused(arguments: list[str], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        parse(*arguments)


@pytest.mark.parametrize("missing", ["--data-path", "--tokenizer", "--save"])
def test_what_a_run_needs_is_asked_for(missing: str) -> None:
    place = NEEDED.index(missing)
    with pytest.raises(ValueError, match=f"^{missing} is missing: give "):
        parse_arguments(NEEDED[:place] + NEEDED[place + 2 :])


def test_a_dry_run_needs_no_folder() -> None:
    assert parse_arguments([*NEEDED[:4], "--dry-run"]).run.save is None


@pytest.mark.parametrize(
    "arguments, match",
    [
        ("--hidden-size 102", "--num-attention-heads and --hidden-size: width 102 is not a multiple of 4 heads"),
        ("--preset base --generator-size 0.26", "--generator-size and --hidden-size: width 200 is not a multiple of 3"),
        ("--generator-size 0", "--generator-size 0.0 leaves the generator no width"),
        ("--num-attention-heads 0", "--num-attention-heads is 0; give a number above 0"),
        ("--num-layers 0", "--num-layers is 0"),
        ("--embedding-size -1", "--embedding-size is -1"),
        ("--seq-length 513", "--seq-length 513 is outside 5 to 512, the rows of --max-position-embeddings"),
        ("--seq-length 4", "--seq-length 4 is outside 5 to 512"),
        ("--mask-prob 1", "--mask-prob 1.0 is not a probability below 1"),
        ("--mask-prob 15", "--mask-prob 15.0 is not a probability"),
        ("--short-seq-prob -0.1", "--short-seq-prob -0.1 is not a probability"),
        ("--hidden-dropout 1.5", "--hidden-dropout 1.5 is not a probability"),
        ("--attention-dropout nan", "--attention-dropout nan is not a probability"),
        ("--lr 0", "--lr is 0.0; give a number above 0"),
        ("--lr nan", "--lr is nan"),
        ("--train-iters 0", "--train-iters is 0"),
        ("--global-batch-size -4", "--global-batch-size is -4"),
        ("--micro-batch-size 0", "--micro-batch-size is 0; give a number above 0, or leave it out"),
        ("--lr-warmup-iters -1", "--lr-warmup-iters is -1; give 0 or more"),
        ("--sampling-temperature 0", "--sampling-temperature must be above 0"),
        ("--log-interval 0", "--log-interval is 0; give 1 or more"),
        ("--eval-iters -1", "--eval-iters is -1; give 0 or more"),
        ("--seed -1", "--seed is -1; give 0 or more"),
        ("--finetune", "--finetune needs --load"),
        ("--load a --init-from b", "--load and --init-from both name weights: give one of them"),
    ],
)
def test_mistakes_are_named_with_their_cure(arguments: str, match: str) -> None:
    with pytest.raises(ValueError, match=match) as caught:
        parse(*arguments.split())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "batch, micro, world_size, expected",
    [
        (16, None, 1, (16, 1)),
        (16, None, 2, (8, 1)),
        (16, 2, 2, (2, 4)),
        (24, 4, 6, (4, 1)),
        (256, None, 2, (MICRO_BATCH_SIZE, 128 // MICRO_BATCH_SIZE)),
        (2 * 33, None, 2, (11, 3)),  # the largest part of 33 that is not above the limit
        (2 * 37, None, 2, (1, 37)),
    ],
)
def test_batch_arithmetic(batch: int, micro: int | None, world_size: int, expected: tuple[int, int]) -> None:
    config = OptimizerConfig(global_batch_size=batch, micro_batch_size=micro)
    assert batch_arithmetic(config, world_size) == expected
    assert expected[0] * expected[1] * world_size == batch


@pytest.mark.parametrize("batch, micro, world_size", [(16, 3, 1), (16, 16, 2), (10, None, 3), (1, None, 2), (4, 8, 1)])
def test_a_batch_that_does_not_divide_is_refused(batch: int, micro: int | None, world_size: int) -> None:
    config = OptimizerConfig(global_batch_size=batch, micro_batch_size=micro)
    with pytest.raises(ValueError, match=f"--global-batch-size {batch} is not a multiple of --micro-batch-size"):
        batch_arithmetic(config, world_size)


def test_what_deepspeed_s_launcher_appends_is_accepted() -> None:
    assert parse("--local_rank=1").to_dict() == parse("--local-rank", "0").to_dict() == parse().to_dict()


def test_megatron_s_names() -> None:
    flags = {option for action in build_parser()._actions for option in action.option_strings}
    megatron = """--micro-batch-size --global-batch-size --seq-length --train-iters --lr --lr-warmup-iters --clip-grad
        --weight-decay --adam-eps --adam-beta1 --adam-beta2 --hidden-dropout --attention-dropout --mask-prob
        --short-seq-prob --eval-iters --eval-interval --data-path --split --save --load --finetune --save-interval
        --log-interval --tensorboard-dir --exit-duration-in-mins --num-layers --hidden-size --ffn-hidden-size
        --num-attention-heads --max-position-embeddings --seed --data-cache-path --init-method-std"""
    assert set(megatron.split()) <= flags
