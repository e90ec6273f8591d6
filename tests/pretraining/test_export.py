"""Checkpoint -> Hugging Face folders: loaded by transformers alone, proved by logits, back again bitwise."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import safetensors.torch
import torch
import transformers
from torch import nn

from pretraining import checkpoint
from pretraining import export as export_module
from pretraining.config import Config
from pretraining.export import PROBE_TEXT, export, main, our_logits, probe_batch
from pretraining.hf_weights import load_published_weights
from pretraining.objectives import build_objective
from tests.tiny import VOCAB_SIZE, make_tokenizer, tiny_config, write_checkpoint

SENTENCES = ["w1", "w2 w3 w4 w5 w6 w7 w8 w9", "w10 w200 nothing w11, w12."]


@pytest.fixture(autouse=True)
def quiet_transformers() -> Iterator[None]:
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    yield


def trained_run(folder: Path, **settings) -> tuple[Path, Config, nn.Module]:
    """(run folder, configuration, objective) with weights as after some training: none is zero or one."""
    config = tiny_config(tokenizer=str(make_tokenizer(folder / "tokenizer")), **settings)
    objective = build_objective(config.model, VOCAB_SIZE, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)
    write_checkpoint(folder / "run", config, objective)
    return folder / "run", config, objective


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_both_networks_are_written_and_proved(tmp_path: Path) -> None:
    run, _, _ = trained_run(tmp_path)
    results = export(str(run), tmp_path / "out", list(PROBE_TEXT))
    assert [folder.name for folder, _ in results] == ["discriminator", "generator"]
    assert all(0 <= difference <= 1e-5 for _, difference in results)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["discriminator", "generator"]
    for half, architecture in (("discriminator", "ElectraForPreTraining"), ("generator", "ElectraForMaskedLM")):
        names = {path.name for path in (tmp_path / "out" / half).iterdir()}
        assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt"} <= names
        settings = json.loads((tmp_path / "out" / half / "config.json").read_text(encoding="utf-8"))
        assert settings["model_type"] == "electra" and settings["architectures"] == [architecture]
        assert (settings["vocab_size"], settings["pad_token_id"]) == (VOCAB_SIZE, 0)


def test_transformers_alone_gives_our_logits_on_padded_text(tmp_path: Path) -> None:
    """Written out once more, through Auto classes and the exported tokenizer."""
    run, config, objective = trained_run(tmp_path)
    export(str(run), tmp_path / "out", SENTENCES)
    batch = probe_batch(Path(config.data.tokenizer), SENTENCES, 512)
    batch = batch._replace(token_type_ids=torch.zeros_like(batch.input_ids))
    folder = tmp_path / "out" / "discriminator"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    encoded = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    assert torch.equal(encoded["input_ids"][encoded["attention_mask"].bool()], batch.input_ids)
    model = transformers.AutoModelForPreTraining.from_pretrained(folder).eval()
    with torch.no_grad():
        theirs = model(**encoded).logits[encoded["attention_mask"].bool()]
    assert torch.allclose(our_logits(objective, "discriminator", batch), theirs, atol=1e-5)


def test_fill_mask_works_on_the_generator(tmp_path: Path) -> None:
    run, config, objective = trained_run(tmp_path)
    export(str(run), tmp_path / "out", SENTENCES)
    fill = transformers.pipeline("fill-mask", model=str(tmp_path / "out" / "generator"), device="cpu")
    text = "w1 [MASK] w3 w4"
    answers = fill(text, top_k=5)
    batch = probe_batch(Path(config.data.tokenizer), ["w1 w2 w3 w4"], 512)
    masked = batch.input_ids.index_fill(0, torch.tensor([2]), 4)
    batch = batch._replace(generator_ids=masked, token_type_ids=torch.zeros_like(masked))
    expected = our_logits(objective, "generator", batch)[2].softmax(-1).topk(5)
    assert [answer["token"] for answer in answers] == expected.indices.tolist()
    assert [answer["score"] for answer in answers] == pytest.approx(expected.values.tolist(), rel=1e-4)


def test_out_and_in_and_out_again_is_identical(tmp_path: Path) -> None:
    run, config, objective = trained_run(tmp_path)
    export(str(run), tmp_path / "first", SENTENCES)
    fresh = build_objective(config.model, VOCAB_SIZE, seed=9)
    load_published_weights(str(tmp_path / "first"), fresh, config, VOCAB_SIZE)
    for (name, ours), theirs in zip(fresh.named_parameters(), objective.parameters(), strict=True):
        assert torch.equal(ours, theirs), name
    write_checkpoint(tmp_path / "second-run", config, fresh)
    export(str(tmp_path / "second-run"), tmp_path / "second", SENTENCES)
    assert bytes_of(tmp_path / "first") == bytes_of(tmp_path / "second")


def test_mlm_is_written_as_one_folder(tmp_path: Path) -> None:
    run, config, objective = trained_run(tmp_path, objective="mlm")
    ((folder, difference),) = export(str(run), tmp_path / "out", SENTENCES)
    assert folder == tmp_path / "out" / "masked_language_model" and difference <= 1e-5
    model, report = transformers.ElectraForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values())
    assert model.generator_lm_head.weight is model.electra.embeddings.word_embeddings.weight
    fresh = build_objective(config.model, VOCAB_SIZE, seed=9)
    load_published_weights(str(tmp_path / "out"), fresh, config, VOCAB_SIZE)
    assert all(torch.equal(a, b) for a, b in zip(fresh.parameters(), objective.parameters(), strict=True))


@pytest.mark.parametrize(
    "name", ["electra.encoder.layer.1.attention.self.key.weight", "electra.embeddings.token_type_embeddings.weight"]
)
@pytest.mark.parametrize("half", ["discriminator", "generator"])
def test_a_difference_of_logits_is_an_error_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, half: str, name: str
) -> None:
    run, _, _ = trained_run(tmp_path)
    faithful = export_module.to_hugging_face

    def wrong(ours: dict, encoder: str, *rest) -> dict:
        theirs = faithful(ours, encoder, *rest)
        if encoder == {"discriminator": "encoder", "generator": "generator"}[half]:
            theirs[name] = theirs[name].clone()
            theirs[name][1] *= 1.5  # the second row, which of the types is that of the second segment
        return theirs

    monkeypatch.setattr(export_module, "to_hugging_face", wrong)
    with pytest.raises(ValueError, match=f"{half}: logits of the exported model differ by .*; nothing was written"):
        export(str(run), tmp_path / "out", SENTENCES)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_difference_that_is_not_a_number_is_an_error(tmp_path: Path) -> None:
    config = tiny_config(tokenizer=str(make_tokenizer(tmp_path / "tokenizer")))
    objective = build_objective(config.model, VOCAB_SIZE, seed=1)
    with torch.no_grad():
        objective.encoder.layers[0].qkv.weight[0, 0] = torch.nan
    write_checkpoint(tmp_path / "run", config, objective)
    with pytest.raises(ValueError, match="logits of the exported model differ by nan"):
        export(str(tmp_path / "run"), tmp_path / "out", SENTENCES)


def test_an_earlier_export_is_replaced(tmp_path: Path) -> None:
    run, _, _ = trained_run(tmp_path)
    (tmp_path / "out" / "generator").mkdir(parents=True)
    (tmp_path / "out" / "generator" / "old").touch()
    export(str(run), tmp_path / "out", SENTENCES)
    assert not (tmp_path / "out" / "generator" / "old").exists()


@pytest.mark.parametrize("renamed", [0, 1])
def test_a_kill_between_the_halves_leaves_none_beside_an_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renamed: int
) -> None:
    run, _, _ = trained_run(tmp_path)
    for half in ("discriminator", "generator"):
        (tmp_path / "out" / half).mkdir(parents=True)
        (tmp_path / "out" / half / "old").touch()
    renames, replace = [], os.replace

    def killed(source: Path, target: Path) -> None:
        if Path(target).parent == tmp_path / "out":
            if len(renames) == renamed:
                raise KeyboardInterrupt
            renames.append(target.name)
        replace(source, target)

    monkeypatch.setattr(export_module.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        export(str(run), tmp_path / "out", SENTENCES)
    shown = [path for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")]
    assert [path.name for path in shown] == renames == ["discriminator"][:renamed]
    assert not any((path / "old").exists() for path in shown)


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    run, _, _ = trained_run(tmp_path)
    weights = checkpoint.checkpoint_folder(run, 1) / checkpoint.WEIGHTS
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ValueError, match="weights.safetensors is damaged"):
        export(str(run), tmp_path / "out", SENTENCES)
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_of_another_size_is_refused(tmp_path: Path) -> None:
    config = tiny_config(tokenizer=str(make_tokenizer(tmp_path / "tokenizer")))
    objective = build_objective(tiny_config(ffn_hidden_size=64).model, VOCAB_SIZE, seed=1)
    write_checkpoint(tmp_path / "run", config, objective)
    with pytest.raises(ValueError, match="encoder.layers.0.ffn_in.weight has another shape"):
        export(str(tmp_path / "run"), tmp_path / "out", SENTENCES)


def test_weights_are_written_in_fp32_without_the_tied_table(tmp_path: Path) -> None:
    run, _, _ = trained_run(tmp_path)
    export(str(run), tmp_path / "out", SENTENCES)
    weights = safetensors.torch.load_file(tmp_path / "out" / "generator" / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    assert "generator_lm_head.weight" not in weights and "generator_lm_head.bias" in weights


def command_line(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["export", *map(str, arguments)])
    main()


def test_the_command_says_where_and_how_equal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _, _ = trained_run(tmp_path)
    (tmp_path / "text").write_text("w1 w2\n\nw3\n", encoding="utf-8")
    command_line(monkeypatch, "--load", run, "--output", tmp_path / "out", "--text", tmp_path / "text")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and lines[0].startswith(f"{tmp_path}/out/discriminator: logits equal ours to ")


@pytest.mark.parametrize("case", ["no run", "no text", "empty text"])
def test_the_command_s_mistakes_end_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    run, _, _ = trained_run(tmp_path)
    (tmp_path / "empty").write_text("\n \n", encoding="utf-8")
    arguments = {
        "no run": ["--load", tmp_path / "nothing"],
        "no text": ["--load", run, "--text", tmp_path / "nothing"],
        "empty text": ["--load", run, "--text", tmp_path / "empty"],
    }[case]
    with pytest.raises(SystemExit) as caught:
        command_line(monkeypatch, *arguments, "--output", tmp_path / "out")
    named = tmp_path / ("empty" if case == "empty text" else "nothing")
    assert str(caught.value.code).startswith("error: ") and str(named) in caught.value.code
    assert not (tmp_path / "out").exists()
