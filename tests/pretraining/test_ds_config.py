"""DeepSpeed JSON files: ours load, and what DeepSpeed would ignore, drop or train wrongly is refused in a sentence."""

import json
from pathlib import Path

import pytest
import torch

from pretraining import ds_config
from pretraining.ds_config import (
    ALLOWED,
    OWNED_BY_FLAGS,
    REMOVED,
    check_optimizer,
    find_ds_config,
    load_ds_config,
    merge_ds_config,
    precision,
    precision_of_hardware,
    zero_stage,
)
from tests.conftest import REPOSITORY

FILES = sorted((REPOSITORY / "ds_configs").glob("*.json"))


def refused(folder: Path, settings: object, match: str) -> None:
    """The file is refused in one sentence that names it."""
    path = folder / "deepspeed.json"
    path.write_text(settings if isinstance(settings, str) else json.dumps(settings), encoding="utf-8")
    with pytest.raises(ValueError, match=match) as caught:
        load_ds_config(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_of_ours_loads_and_is_what_its_name_says(path: Path) -> None:
    settings = load_ds_config(path)
    assert path.stem.startswith(f"zero{zero_stage(settings)}_{precision(settings)}")


def test_there_is_a_file_for_every_stage() -> None:
    assert {zero_stage(load_ds_config(path)) for path in FILES} == {0, 1, 2, 3}


@pytest.mark.parametrize(
    "gpu, gpu_has_bf16, instructions, expected",
    [
        (True, True, {}, "bf16"),
        (True, False, {"avx512_bf16": True}, "fp16"),  # V100: what the CPU has does not count
        (False, False, {"avx512_bf16": True, "amx_bf16": False}, "bf16"),
        (False, False, {"avx512_bf16": False, "amx_bf16": True}, "bf16"),
        (False, False, {"avx512_bf16": False, "avx512_f": True, "architecture": "x86_64"}, "fp32"),
        (False, False, {}, "fp32"),
    ],
)
def test_the_default_precision_is_what_the_hardware_does_fast(
    monkeypatch: pytest.MonkeyPatch, gpu: bool, gpu_has_bf16: bool, instructions: dict, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.delenv("DS_ACCELERATOR", raising=False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: gpu_has_bf16)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions)
    assert precision_of_hardware() == expected
    assert Path(find_ds_config(None)).resolve() in FILES


def test_torch_still_names_the_instructions_that_decide() -> None:
    """Without this, a renamed capability would send every CPU to fp32 and nobody would notice."""
    if torch.cpu.get_capabilities()["architecture"] == "x86_64":
        assert {"avx512_bf16", "amx_bf16"} <= set(torch.cpu.get_capabilities())


def test_a_file_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ds_config, "precision_of_hardware", lambda: "fp32")
    assert Path(find_ds_config(None)) == REPOSITORY / "ds_configs" / "zero1_fp32.json"
    assert Path(find_ds_config("ds_configs/zero2_bf16.json")) == REPOSITORY / "ds_configs" / "zero2_bf16.json"
    (tmp_path / "ds_configs").mkdir()
    (tmp_path / "ds_configs" / "zero2_bf16.json").write_text("{}")
    assert find_ds_config("ds_configs/zero2_bf16.json") == "ds_configs/zero2_bf16.json"  # the user's own comes first
    assert find_ds_config("absent.json") == "absent.json"  # what is nowhere keeps its name for the error


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_half_precision_sums_gradients_in_fp32(path: Path) -> None:
    settings = load_ds_config(path)
    if precision(settings) == "bf16":
        assert settings["data_types"] == {"grad_accum_dtype": "fp32"}
    if precision(settings) != "fp32":
        assert settings["communication_data_type"] == "fp32"


@pytest.mark.parametrize("key", OWNED_BY_FLAGS)
def test_keys_that_flags_own_are_refused(tmp_path: Path, key: str) -> None:
    refused(tmp_path, {key: 1}, f'remove "{key}", which the flags {OWNED_BY_FLAGS[key]} own')


@pytest.mark.parametrize("key", REMOVED)
def test_keys_that_deepspeed_removed_are_refused(tmp_path: Path, key: str) -> None:
    refused(tmp_path, {key: {"enabled": True}}, f'remove "{key}", which DeepSpeed no longer has')


@pytest.mark.parametrize(
    "key, hint",
    [
        ("zero_optimisation", 'did you mean "zero_optimization"'),
        ("bfloat16", 'did you mean "bf16"'),
        ("fp_16", 'did you mean "fp16"'),
        ("zero_optimization_stage", 'did you mean "zero_optimization"'),
        ("something", "known are bf16, fp16, "),
    ],
)
def test_unknown_keys_are_refused_with_the_nearest_known_one(tmp_path: Path, key: str, hint: str) -> None:
    refused(tmp_path, {key: {}}, f'unknown key "{key}", which DeepSpeed would ignore; {hint}')


def test_no_key_is_in_two_lists() -> None:
    assert not set(ALLOWED) & set(OWNED_BY_FLAGS) and not set(ALLOWED) & set(REMOVED)
    assert not set(OWNED_BY_FLAGS) & set(REMOVED)


@pytest.mark.parametrize("kind", ["bf16", "fp16"])
@pytest.mark.parametrize("zero", [{}, {"zero_optimization": {"stage": 0}}, {"zero_optimization": {}}])
def test_stage_0_with_half_precision_is_refused(tmp_path: Path, kind: str, zero: dict) -> None:
    refused(tmp_path, zero | {kind: {"enabled": True}}, f"ZeRO stage 0 with {kind} .* use stage 1, or fp32")


@pytest.mark.parametrize("stage", [4, -1, "1", None, 1.5])
def test_a_stage_that_does_not_exist_is_refused(tmp_path: Path, stage: object) -> None:
    refused(tmp_path, {"zero_optimization": {"stage": stage}}, "zero_optimization.stage is .* must be 0, 1, 2 or 3")


def test_two_half_precisions_are_refused(tmp_path: Path) -> None:
    both = {"bf16": {"enabled": True}, "fp16": {"enabled": True}, "zero_optimization": {"stage": 1}}
    refused(tmp_path, both, "bf16 and fp16 are both enabled; keep one")


def test_a_step_that_is_not_looked_at_is_refused(tmp_path: Path) -> None:
    blind = {"bf16": {"enabled": True, "check_grad_overflow": False}, "zero_optimization": {"stage": 1}}
    refused(tmp_path, blind, "without bf16.check_grad_overflow a NaN would reach the weights; leave the key out")


@pytest.mark.parametrize(
    "text, match",
    [
        ("", "is not valid JSON"),
        ("{'bf16': 1}", "is not valid JSON"),
        ('{"bf16": {"enabled": true},}', "is not valid JSON"),
        ('{"bf16": {}, "bf16": {}}', 'is not valid JSON: "bf16" stands twice'),
        ('{"zero_optimization": {"stage": 1, "stage": 2}}', '"stage" stands twice'),
        ("[1]", "does not hold a JSON object"),
        ('{"bf16": true}', '"bf16" must hold an object such as {"enabled": true}'),
        ('{"zero_optimization": 1}', '"zero_optimization" must hold an object such as {"stage": 1}'),
    ],
)
def test_what_is_not_a_json_object_of_objects_is_refused(tmp_path: Path, text: str, match: str) -> None:
    refused(tmp_path, text, match)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--deepspeed-config .*none.json: no such file; ds_configs/ has one"):
        load_ds_config(tmp_path / "none.json")


def test_the_merged_json_has_the_numbers_of_the_flags() -> None:
    settings = {"zero_optimization": {"stage": 2}, "bf16": {"enabled": True}}
    merged = merge_ds_config(settings, micro=4, accumulation=3, world=2, clip=1.0)
    assert merged["train_batch_size"] == 24
    assert merged["train_micro_batch_size_per_gpu"] == 4 and merged["gradient_accumulation_steps"] == 3
    assert merged["gradient_clipping"] == 1.0
    assert zero_stage(merged) == 2 and precision(merged) == "bf16"
    assert settings == {"zero_optimization": {"stage": 2}, "bf16": {"enabled": True}}  # not changed


def test_precisions_by_what_is_enabled() -> None:
    assert precision({}) == precision({"bf16": {"enabled": False}}) == "fp32"
    assert precision({"fp16": {"enabled": True}}) == "fp16"
    assert precision({"torch_autocast": {"enabled": True}}) == "autocast"


@pytest.mark.parametrize(
    "zero, match",
    [
        ({"stage": 1, "offload_optimizer": {"device": "cpu"}}, "offload_optimizer needs ZeRO stage 2 or above"),
        ({"stage": 2, "offload_param": {"device": "cpu"}}, "offload_param needs ZeRO stage 3 or above"),
        ({"stage": 3, "offload_param": {"device": "nvme"}}, "offload_param.device is 'nvme'"),
        ({"stage": 2, "offload_optimizer": "cpu"}, '"offload_optimizer" must hold an object such as {"device": "cpu"}'),
    ],
)
def test_offload_that_would_not_happen_is_refused(tmp_path: Path, zero: dict, match: str) -> None:
    refused(tmp_path, {"bf16": {"enabled": True}, "zero_optimization": zero}, match)


def test_autocast_in_fp16_is_refused(tmp_path: Path) -> None:
    """Its loss scale would be in no checkpoint."""
    refused(tmp_path, {"torch_autocast": {"enabled": True, "dtype": "float16"}}, 'dtype must be "bfloat16"')


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_lamb_takes_whole_fp32_tensors_only(path: Path) -> None:
    settings = load_ds_config(path)
    check_optimizer(path, settings, "adam")
    if path.stem in ("zero0_fp32", "zero0_autocast"):
        check_optimizer(path, settings, "lamb")
    else:
        with pytest.raises(ValueError, match=f"--optimizer lamb needs whole fp32 tensors, and .*{path.name}"):
            check_optimizer(path, settings, "lamb")
