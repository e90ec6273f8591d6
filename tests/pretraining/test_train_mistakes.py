"""Mistakes on the command line: one sentence, exit status 1, nothing written; also with two ranks."""

import os
import re
import shutil
import socket
from functools import partial
from pathlib import Path

import pytest
import safetensors.torch
import torch

from pretraining import checkpoint
from pretraining.corpus.tokenizer import SPECIAL_TOKENS, build_tokenizer, write_tokenizer
from pretraining.export import PROBE_TEXT, export
from tests.run_folders import run_state
from tests.tiny import VOCAB_SIZE, make_corpus
from tests.training_runs import flags_of, start_training, train

Corpus = tuple[Path, Path]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """81 training samples of length 32: batches of 8 come to the end of an epoch within step 11."""
    return make_corpus(tmp_path_factory.mktemp("corpus"), documents=20)


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    """weights.safetensors of a run's newest checkpoint."""
    return safetensors.torch.load_file(checkpoint.find_checkpoint(run) / checkpoint.WEIGHTS)


MISTAKES = {
    # what is wrong: (settings, what the sentence must hold)
    "other tokenizer": ({"tokenizer": "{other}/tokenizer"}, ["{corpus}", "{other}/tokenizer", "another tokenizer"]),
    "no tokenizer": ({"tokenizer": "{tmp}/absent"}, ["{tmp}/absent"]),
    "no corpus": ({"data_path": "{tmp}/absent"}, ["{tmp}/absent"]),
    "cut corpus": ({"data_path": "{cut}/c"}, ["{cut}/c.bin"]),
    "batch": ({"global_batch_size": 10, "micro_batch_size": 4}, ["--global-batch-size 10", "--micro-batch-size 4"]),
    "unknown flag": ({"learning_rate": 1}, ["--learning-rate"]),
    "not a number": ({"lr": "fast"}, ["--lr", "fast"]),
    "empty validation split": ({"split": "1,0,0"}, ["--split", "validation"]),
    "odd split": ({"split": "9:1"}, ["--split", "9:1"]),
    "absent checkpoint": ({"load": "{tmp}/absent"}, ["--load {tmp}/absent"]),
    "absent weights": ({"load": "{tmp}/absent", "finetune": True}, ["--load {tmp}/absent"]),
    "absent published weights": ({"init_from": "{tmp}/absent"}, ["--init-from", "{tmp}/absent"]),
    "absent DeepSpeed JSON": ({"deepspeed_config": "{tmp}/absent.json"}, ["--deepspeed-config {tmp}/absent.json"]),
    "stage 0 in bf16": ({"deepspeed_config": "{tmp}/zero0_bf16.json"}, ["{tmp}/zero0_bf16.json", "stage 1"]),
    "LAMB on slices": ({"optimizer": "lamb"}, ["--optimizer lamb", "zero1_fp32.json", "zero0_autocast.json"]),
    "offload at stage 1": ({"deepspeed_config": "{tmp}/offload.json"}, ["{tmp}/offload.json", "stage 2 or above"]),
    "too long": ({"seq_length": 600}, ["--seq-length 600", "--max-position-embeddings"]),
    "negative seed": ({"seed": -1}, ["--seed"]),
    "save is a file": ({"save": "{tmp}/file"}, ["--save {tmp}/file"]),
}


def test_mistakes_end_in_one_sentence_and_write_nothing(corpus: Corpus, tmp_path: Path) -> None:
    other = make_corpus(tmp_path / "other", documents=10, vocab_size=400)[0].parent
    cut = shutil.copytree(corpus[0].parent, tmp_path / "cut")
    (cut / "c.bin").write_bytes((cut / "c.bin").read_bytes()[:-2])
    (tmp_path / "zero0_bf16.json").write_text('{"bf16": {"enabled": true}, "zero_optimization": {"stage": 0}}')
    offload = '{"zero_optimization": {"stage": 1, "offload_optimizer": {"device": "cpu"}}}'
    (tmp_path / "offload.json").write_text(offload)
    (tmp_path / "file").write_text("")
    places = {"tmp": tmp_path, "other": other, "cut": cut, "corpus": corpus[0]}

    def place(value):
        return value.format(**places) if isinstance(value, str) else value

    runs = {}
    for number, (name, (settings, _)) in enumerate(MISTAKES.items()):
        settings = {key: place(value) for key, value in settings.items()}
        flags = flags_of(corpus, tmp_path / f"run{number}", train_iters=2, **settings)
        runs[name] = start_training(tmp_path / f"out{number}", 1, flags)
        if number % 4 == 3:
            runs[name].wait()
    problems = []
    for number, (name, (_, expected)) in enumerate(MISTAKES.items()):
        try:
            sentence = runs[name].wait().mistake()
            for words in expected:
                assert place(words) in sentence, sentence
            assert not (tmp_path / f"run{number}").exists(), sorted((tmp_path / f"run{number}").rglob("*"))
        except AssertionError as error:
            problems.append(f"=== {name}: {error}")
    assert not problems, "\n".join(problems)


def test_two_ranks_say_it_once(corpus: Corpus, tmp_path: Path) -> None:
    """A mistake that all see before they meet, two that they see later, and one that rank 0 sees alone."""
    (tmp_path / "file").write_text("")
    settings = [
        {"data_path": tmp_path / "absent"},
        {"split": "1,0,0"},
        {"load": tmp_path / "absent"},
        {"save": tmp_path / "file" / "run"},
    ]
    for number, more in enumerate(settings):
        flags = flags_of(corpus, tmp_path / f"run{number}", train_iters=2, **more)
        run = start_training(tmp_path / f"out{number}", 2, flags).wait()
        assert run.statuses == [1, 1], run.report()
        assert run.left_in_memory() == []
        said = [line for rank in range(2) for line in run.errors(rank).splitlines() if line.startswith("error: ")]
        assert len(said) == 1 and "Traceback" not in run.errors(0) + run.errors(1), run.report()
        assert not (tmp_path / f"run{number}").exists()


def test_a_folder_with_another_run_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    save = tmp_path / "run"
    train(tmp_path / "out0", 1, flags_of(corpus, save, train_iters=1))
    before = {path: path.read_bytes() for path in save.rglob("*") if path.is_file()}
    for number, more in enumerate(({}, {"finetune": True, "load": save})):
        run = start_training(tmp_path / f"out{number + 1}", 1, flags_of(corpus, save, train_iters=2, **more)).wait()
        assert re.search(f"--save {save} holds a run already", run.mistake())
    assert {path: path.read_bytes() for path in save.rglob("*") if path.is_file()} == before


def test_load_equal_to_save_without_a_run_there_starts_fresh(corpus: Corpus, tmp_path: Path) -> None:
    save = tmp_path / "run"
    run = train(tmp_path / "out", 1, flags_of(corpus, save, train_iters=1, load=save))
    assert run_state(save)["status"] == "finished"
    assert "steps 0 to 1" in run.output()


def test_published_weights_of_another_vocabulary_are_refused(corpus: Corpus, tmp_path: Path) -> None:
    first = tmp_path / "first"
    train(tmp_path / "out0", 1, flags_of(corpus, first, train_iters=1))
    export(str(first), tmp_path / "exported", list(PROBE_TEXT))
    words = [f"other{number}" for number in range(VOCAB_SIZE - len(SPECIAL_TOKENS))]
    other = build_tokenizer([*SPECIAL_TOKENS, *words], lowercase=True, strip_accents=True)
    write_tokenizer(tmp_path / "exported" / "discriminator", other)
    flags = flags_of(corpus, tmp_path / "run", train_iters=1, init_from=tmp_path / "exported")
    sentence = start_training(tmp_path / "out1", 1, flags).wait().mistake()
    assert "--init-from" in sentence and "vocabulary" in sentence


def be_at(**variables: str) -> None:
    """A hook: be the rank that these variables of a launcher say, and no other."""
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        del os.environ[name]
    os.environ.update(variables)


def test_what_one_host_alone_lacks_is_said_there(corpus: Corpus, tmp_path: Path) -> None:
    """By its first rank, with its name; what the flags say is said by rank 0 alone, by whatever launcher."""
    first_of_host, second = {"RANK": "8", "LOCAL_RANK": "0"}, {"RANK": "9", "LOCAL_RANK": "1"}
    by_mpi = {f"OMPI_COMM_WORLD_{name}": value for name, value in (second | {"SIZE": "16"}).items()}
    starts = [
        (first_of_host | {"WORLD_SIZE": "16"}, {"data_path": tmp_path / "absent"}, f"error: {socket.gethostname()}: "),
        (second | {"WORLD_SIZE": "16"}, {"data_path": tmp_path / "absent"}, ""),
        (by_mpi, {"data_path": tmp_path / "absent"}, ""),
        (first_of_host | {"WORLD_SIZE": "16"}, {"seed": -1}, ""),
    ]
    runs = [
        start_training(
            tmp_path / f"out{number}", 1, flags_of(corpus, tmp_path / "run", **mistake), partial(be_at, **at)
        )
        for number, (at, mistake, _) in enumerate(starts)
    ]
    for run, (_, _, said) in zip(runs, starts, strict=True):
        assert run.wait().statuses == [1]
        assert run.errors().startswith(said) and len(run.errors().splitlines()) == bool(said), run.report()
