"""The measurement of pretraining speed: its table and JSON on tiny shapes, its samples, and that both sides learn.

Speeds themselves are not tested: they belong to a machine.
"""

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import pretraining_speed
from benchmarks.pretraining_speed import main, parse, peer_settings
from benchmarks.pretraining_speed_data import made_up_lengths, open_text, steps
from benchmarks.pretraining_speed_machine import StepMemory, clock_of
from benchmarks.pretraining_speed_ways import IGNORED, Setting, Way, check_finite, make_way, padded_inputs, run_step
from pretraining.config import Config
from pretraining.meter import PRODUCT_SIZE, measure_peak_flops
from tests.tiny import make_corpus

TINY = ["--size", "tiny", "--length", "32", "--vocab-size", "300", "--batch-size", "4", "--our-micro-batch", "4"]
TINY += ["--our-precision", "fp32"]  # the default is what the machine is fastest in
ONE_PEER = ["--execution", "eager", "--precision", "fp32", "--micro-batch", "4", "--padding", "longest"]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def small_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Matrix products of 17 million operations: in bf16, those of a real measurement take a CPU 2 s each."""
    monkeypatch.setitem(PRODUCT_SIZE, "cpu", 256)


def tiny_config() -> Config:
    config = Config()
    config.model.preset, config.data.seq_length = "tiny", 32
    return config.fill_from_preset()


def test_the_last_line_is_one_json_object_with_every_row(
    tmp_path: Path, capsys: pytest.CaptureFixture, small_products: None
) -> None:
    peers = [
        "--attention",
        "sdpa",
        "--execution",
        "eager",
        "--precision",
        "fp32",
        "autocast",
        "--micro-batch",
        "2",
        "4",
    ]
    main([*TINY, *peers, "--rounds", "2", "--output", str(tmp_path / "out.json")])
    lines = capsys.readouterr().out.splitlines()
    result = json.loads(lines[-1])
    assert result == json.loads((tmp_path / "out.json").read_text())
    names = {row["name"] for row in result["rows"]}
    assert len(result["rows"]) == len(names) == 1 + 2 * 2 * 2
    assert all(0 <= row["step_bytes"] < 200 * 2**20 for row in result["rows"])  # the process has four times as much
    assert "hf sdpa eager autocast longest 2" in names and not result["left_out"]
    rates = {row["name"]: row["tokens_per_second"] for row in result["rows"]}
    assert all(rate > 0 for rate in rates.values())
    ratios = [row["ours_over_it"] for row in result["rows"] if row["ours_over_it"]]
    assert result["ratio"] == min(ratios) and len(ratios) == 8
    assert 0 < result["gemm_share"] < 1 and set(result["gemm_flops"]) == {"fp32", "autocast"}
    assert [line for line in lines if line.startswith("| hf sdpa eager fp32 maximum 4 |")]
    assert f"The loader alone is {result['loader_ratio']:,.0f} times as fast as the model." in lines
    assert result["loader_ratio"] > 1  # of a tiny model; of `small` it is hundreds
    assert {"commit", "command", "device", "threads"} <= set(result)


def test_a_peer_that_the_time_does_not_allow_is_named(capsys: pytest.CaptureFixture) -> None:
    main([*TINY, *ONE_PEER, "--rounds", "1", "--minutes", "0"])
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["left_out"] == ["hf eager eager fp32 longest 4", "hf sdpa eager fp32 longest 4"]
    assert result["ratio"] is None and len(result["rows"]) == 1


def test_a_peer_that_breaks_is_named_and_the_others_go_on(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, small_products: None
) -> None:
    def make(setting: Setting, *arguments: Any) -> Way:
        if setting.attention == "eager":
            raise RuntimeError("out of memory\nand pages of words")
        return make_way(setting, *arguments)

    monkeypatch.setattr(pretraining_speed, "make_way", make)
    main([*TINY, *ONE_PEER, "--attention", "eager", "sdpa", "--rounds", "1"])
    lines = capsys.readouterr().out.splitlines()
    result, broken = json.loads(lines[-1]), "hf eager eager fp32 longest 4"
    assert result["failed"] == {broken: "RuntimeError: out of memory"} and not result["left_out"]
    assert f"failed: {broken}: RuntimeError: out of memory" in lines
    assert {row["name"] for row in result["rows"]} == {"ours eager fp32 4", "hf sdpa eager fp32 longest 4"}
    assert result["ratio"] > 0


def test_ours_that_breaks_ends_the_run(monkeypatch: pytest.MonkeyPatch, small_products: None) -> None:
    monkeypatch.setattr(pretraining_speed, "check_finite", lambda _, name: check_finite(float("nan"), name))
    with pytest.raises(SystemExit, match="error: ours eager fp32 4: the loss is nan"):
        main([*TINY, *ONE_PEER, "--attention", "sdpa", "--rounds", "1"])


@pytest.mark.slow
def test_compiled_ways_and_a_corpus_of_one_s_own_are_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, small_products: None
) -> None:
    # In the shared cache a killed compilation leaves a library that is cut off, on which all later ones fail.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    prefix, _ = make_corpus(tmp_path)
    flags = ["--execution", "compile", "--attention", "sdpa", "--our-execution", "compile", "--corpus", str(prefix)]
    main([*TINY, *ONE_PEER, *flags, "--vocab-size", "500", "--rounds", "1"])
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    names = {row["name"] for row in result["rows"]}
    assert result["failed"] == {}
    assert names == {"ours compile fp32 4", "hf sdpa compile fp32 longest 4"}
    assert result["corpus"] == str(prefix) and result["ratio"] > 0


def test_all_peers_of_the_issue_are_the_default() -> None:
    variants = [
        variant for _, group in peer_settings(parse(["--size", "small", "--length", "128"])) for variant in group
    ]
    assert len(set(variants)) == 2 * 2 * 3 * 2 * 3


def test_made_up_documents_are_as_long_as_abstracts() -> None:
    assert made_up_lengths(20_000).mean() == pytest.approx(254, rel=0.03)  # the mean of the 725 that were counted


def test_samples_do_not_depend_on_the_micro_batch(tmp_path: Path) -> None:
    samples = open_text(None, tmp_path, 300, (32, 0.15, False))
    for whole, parts in itertools.islice(zip(steps(samples, 8, 8), steps(samples, 8, 2), strict=True), 3):
        assert len(parts) == 4
        assert sorted(whole[0].sample_ids) == sorted(key for part in parts for key in part.sample_ids)


def test_full_samples_have_the_full_length(tmp_path: Path) -> None:
    samples = open_text(None, tmp_path, 300, (32, 0.15, True))
    assert {length for batch in next(steps(samples, 16, 4)) for length in batch.lengths} <= {31, 32}  # two [SEP] or one
    with pytest.raises(ValueError, match="no document has 5000 word pieces"):
        open_text(None, tmp_path / "other", 300, (5000, 0.15, True))


def test_padding_keeps_every_word_piece(tmp_path: Path) -> None:
    (batch,) = next(steps(open_text(None, tmp_path, 300, (32, 0.15, False)), 8, 8))
    original, masked, types, labels, real = padded_inputs(batch, 40)
    assert original.shape == (8, 40)
    for padded, flat in ((original, batch.input_ids), (masked, batch.generator_ids), (types, batch.token_type_ids)):
        assert torch.equal(padded[real.bool()], flat) and not padded[~real.bool()].any()
    chosen = labels != IGNORED
    assert torch.equal(labels[chosen], batch.input_ids[batch.masked_positions])
    assert padded_inputs(batch, None)[0].shape == (8, max(batch.lengths))


@pytest.mark.parametrize(
    "setting", [Setting("ours", "own", "eager", "fp32"), Setting("ours", "own", "eager", "bf16"),
                Setting("hf", "eager", "eager", "fp32"), Setting("hf", "sdpa", "eager", "autocast")], ids=str
)  # fmt: skip
def test_a_way_learns_what_it_sees_again_and_again(setting: Setting, tmp_path: Path) -> None:
    """Its steps are real ones: every weight with a gradient moves, and the loss falls."""
    (batch,) = next(steps(open_text(None, tmp_path, 300, (32, 0.15, False)), 8, 8))
    way = make_way(setting, tiny_config(), 300, torch.device("cpu"))
    for group in way.optimizer.param_groups:
        group["lr"] = 1e-3
    before = [parameter.detach().clone() for parameter in way.parameters]
    losses = [float(run_step(way, [batch], None)) for _ in range(12)]
    assert losses[0] > np.mean(losses[-3:]) > 0
    moved = sum(not torch.equal(old, new) for old, new in zip(before, way.parameters, strict=True))
    assert moved >= 0.9 * len(before)


def test_nonsense_has_no_speed() -> None:
    with pytest.raises(ValueError, match="hf: the loss is nan"):
        check_finite(float("nan"), "hf")


def test_the_machine_is_measured() -> None:
    assert measure_peak_flops(torch.device("cpu"), torch.float32, clock_of("processor"), repeats=1) > 1e8
    before, memory = torch.ones(1 << 24), StepMemory(torch.device("cpu"))  # 64 MiB that lie there already
    memory.reset()
    block = torch.ones(1 << 25)  # 128 MiB
    assert 100 * 2**20 < memory.read() < 160 * 2**20 and block[0] == before[0] == 1


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--batch-size", "6", "--our-micro-batch", "4"], "not a multiple of the micro-batch 4"),
        (["--corpus", "/nowhere/corpus"], "/nowhere/corpus"),
        (["--length", "3"], "--length 3 is outside 5 to 512"),
        (["--length", "513"], "--length 513 is outside 5 to 512"),
        (["--rounds", "0"], "--rounds is 0; give a number above 0"),
        (["--batch-size", "0"], "--batch-size is 0; give a number above 0"),
        (["--vocab-size", "5"], "--vocab-size 5 leaves no word piece"),
        (["--output", "/nowhere/out.json"], "--output /nowhere/out.json cannot be written"),
    ],
)
def test_mistakes_are_named(flags: list[str], words: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*TINY, *flags, "--no-peers"])
    assert stopped.value.code != 0
    assert words in f"{stopped.value.code}{capsys.readouterr().err}"


@pytest.mark.parametrize("fastest, expected", [("fp32", "fp32"), ("bf16", "bf16"), ("fp16", "bf16")])
def test_ours_takes_the_precision_that_the_trainer_would(
    fastest: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In bf16 also where the trainer takes fp16, which the benchmark has not."""
    monkeypatch.setattr(pretraining_speed, "precision_of_hardware", lambda: fastest)
    assert parse(["--size", "tiny", "--length", "32"]).our_precision == expected


BLOCKED = """
import sys
for name in ("deepspeed", "transformers", "datatrove", "tokenizers", "apex"):
    sys.modules[name] = None
import pretraining.model, pretraining.objectives, pretraining.fused
from benchmarks import pretraining_speed
from benchmarks.pretraining_speed import main
main([*{arguments!r}, "--no-peers", "--rounds", "1"])
"""


def test_ours_is_measured_without_deepspeed_transformers_or_datatrove() -> None:
    """benchmarks/gpu.sh runs where nothing but torch and numpy may be installed."""
    result = subprocess.run(
        [sys.executable, "-c", BLOCKED.format(arguments=TINY)], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout.splitlines()[-1])["rows"][0]["name"] == "ours eager fp32 4"
