"""The published learning rate and batch size of each benchmark are its defaults for ELECTRA-base; docstrings say so."""

import re
from importlib import import_module
from types import SimpleNamespace

import pytest

from finetuning import bioasq, command, encoder
from finetuning.score import BENCHMARKS
from finetuning.splits import Benchmark

# BioELECTRA (BioNLP 2021), its own code's settings: benchmark -> learning rate (base), epochs, batch size
PUBLISHED = {
    "bc2gm": (2e-4, 5, 32),
    "ncbi_disease": (2e-4, 5, 32),
    "jnlpba": (2e-4, 5, 32),
    "ebm_nlp": (2e-4, 3, 32),
    "chemprot": (1e-4, 5, 32),
    "ddi": (1.5e-4, 3, 32),
    "gad": (2e-4, 5, 32),
    "biosses": (1.5e-4, 60, 16),
    "hoc": (2e-4, 5, 32),
    "clinical_sts": (5e-5, 10, 32),
    "bc5cdr": (None, 5, 16),  # 2e-4 for chemicals, 1e-4 for diseases
    "pubmedqa": (None, 20, 32),  # the rate is that of a large model
    "mednli": (None, 3, 32),  # the same
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_defaults_are_the_published_ones_and_the_text_says_so(name: str) -> None:
    rate, epochs, batch = PUBLISHED[name]
    module = import_module(f"finetuning.{name}")
    benchmark = module.BENCHMARK
    assert benchmark.electra_base_rate == (rate or 0)
    assert benchmark.defaults.for_hidden_size(768, benchmark.electra_base_rate).learning_rate == (rate or 1e-4)
    assert benchmark.defaults.batch_size == batch
    assert benchmark.defaults.epochs >= epochs
    text = " ".join(module.__doc__.split()).split("BioELECTRA (BioNLP 2021)")[1]
    assert f"{epochs} epochs and batches of {batch}" in text
    named = re.search(r"learning rate of ([\de.-]+),", text)
    assert not rate or float(named[1]) == rate
    assert ("More epochs may be run" in text) == (benchmark.defaults.epochs > epochs)


def test_yes_no_questions_have_their_own() -> None:
    yesno = bioasq.benchmark_for(["--question-type", "yesno"])
    config = yesno.defaults.for_hidden_size(768, yesno.electra_base_rate)
    assert (config.learning_rate, config.epochs, config.batch_size) == (2e-4, 20, 32)
    assert "2e-4, 20 epochs and batches of 32" in " ".join(bioasq.__doc__.split())
    assert bioasq.benchmark_for([]).electra_base_rate == 0


def test_no_other_benchmark_has_a_rate() -> None:
    for name in set(BENCHMARKS) - set(PUBLISHED):
        assert import_module(f"finetuning.{name}").BENCHMARK.electra_base_rate == 0, name


@pytest.mark.parametrize(
    ("kind", "hidden", "rate"),
    [("electra", 768, 2e-4), ("bert", 768, 1e-4), ("electra", 256, 3e-4), ("electra", 1024, 5e-5)],
)
def test_the_command_takes_it_for_electra_base_alone(monkeypatch, tmp_path, kind, hidden, rate) -> None:
    class StopHereError(Exception):
        """Carries the settings out of `prepare`, so that no file is read."""

    def prepare(benchmark, options, config):
        raise StopHereError(config.learning_rate)

    settings = SimpleNamespace(hidden_size=hidden, model_type=kind)
    monkeypatch.setattr(encoder, "load_config", lambda name: settings)
    monkeypatch.setattr(encoder, "encoder_dropout", lambda settings, given: given)
    gad = import_module("finetuning.gad").BENCHMARK
    benchmark = Benchmark("GAD", (), gad.defaults, prepare, None, electra_base_rate=gad.electra_base_rate)
    options = command.make_parser(benchmark, "").parse_args(["--model=m", "--data=d", f"--output={tmp_path}"])
    with pytest.raises(StopHereError, match=f"^{rate}$"):
        command.open_benchmark(benchmark, options)
