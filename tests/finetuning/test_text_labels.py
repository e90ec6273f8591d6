"""Runs of classification that say nothing: the same class for every text."""

import numpy as np
import pytest
import torch

from finetuning.classification import classification_task
from finetuning.config import FinetuneConfig
from finetuning.loop import fit
from tests.finetuning.test_classification import LEARN, TEXTS, everywhere, settings, singles


def test_one_class_for_all_texts_is_a_failed_run(tiny_model):
    """A head that always says "yes" where 9 of 16 gold labels are "no"; not where all are "yes"."""
    config = FinetuneConfig(epochs=1, learning_rate=1e-6)
    for labels, failure in ((("yes", "no"), "answers class 'yes' always on dev"), (("yes",), None)):
        task = classification_task(everywhere(singles(labels)), str(tiny_model), config, settings())
        torch.manual_seed(1)
        network = task.make_model()
        last = [module for module in network.modules() if isinstance(module, torch.nn.Linear)][-1]
        with torch.no_grad():
            last.bias[0] = 50.0
        result = fit(network, task, config, seed=1)
        assert (result.failure, result.trained) == (failure, True)
        assert result.dev["exact"] == (7 / 16 if failure else 1.0)


@pytest.mark.parametrize("kind", ["multi", "regression"])
def test_several_labels_and_numbers_may_be_the_same_for_all(tiny_model, kind):
    labels = [("yes",), ("no",)] if kind == "multi" else [0.0, 1.0]
    task = classification_task(everywhere(singles(labels)), str(tiny_model), LEARN, settings(kind))
    assert task.collapse([np.zeros((1, 2))] * len(TEXTS)) is None
