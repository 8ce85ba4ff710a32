import dataclasses
import math

import pytest
import torch
from safetensors.torch import load_file

from lraee.models.embedded import train as module
from lraee.models.embedded.train import Recipe, export, loss_of, train
from lraee.models.embedded.train import _learning_rate as learning_rate

SMALL = Recipe(pictures=600, horizon=8, cooldown=3, steps=4, batch=16, warmup=1, bfloat16=False)


class InterruptionError(Exception):
    pass


@pytest.fixture
def often(monkeypatch):
    """Save every other step, and skip the accuracy that is only shown."""
    monkeypatch.setattr(module, "SAVE_EVERY", 2)
    monkeypatch.setattr(module, "zero_shot_accuracy", lambda *_: 0.0)


def test_an_interrupted_training_ends_where_an_unbroken_one_does(tmp_path, monkeypatch, often):
    unbroken = train(SMALL, tmp_path / "a", 1).state_dict()
    save = module._save

    def save_and_stop(*arguments):
        save(*arguments)
        raise InterruptionError

    with monkeypatch.context() as patch:
        patch.setattr(module, "_save", save_and_stop)
        with pytest.raises(InterruptionError):
            train(SMALL, tmp_path / "b", 1)
    resumed = train(SMALL, tmp_path / "b", 1).state_dict()
    assert all(torch.equal(unbroken[name], resumed[name]) for name in unbroken)


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path, often):
    train(SMALL, tmp_path / "a", 1)
    with pytest.raises(ValueError, match="another recipe"):
        train(dataclasses.replace(SMALL, seed=1), tmp_path / "a", 1)


def test_exported_weights_are_half_precision_and_complete(tmp_path):
    model = torch.nn.Linear(3, 2)
    export(model, tmp_path / "w.safetensors")
    written = load_file(tmp_path / "w.safetensors")
    assert written.keys() == model.state_dict().keys()
    assert all(tensor.dtype == torch.float16 for tensor in written.values())
    torch.testing.assert_close(written["weight"].float(), model.weight.detach(), atol=1e-3, rtol=1e-3)


def test_the_learning_rate_warms_up_follows_the_cosine_and_cools_down_to_nothing():
    recipe = Recipe()
    rates = [learning_rate(recipe, step) for step in range(recipe.steps)]
    assert max(rates) == pytest.approx(recipe.learning_rate)
    assert rates[149] == pytest.approx(recipe.learning_rate * 150 / 300)
    middle = (1500 - 300) / (5600 - 300)
    assert rates[1500] == pytest.approx(recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * middle)))
    assert rates[3400] == pytest.approx(rates[3000] / 2)
    assert rates[-1] < 1e-5


def test_the_loss_is_the_cross_entropy_of_scaled_cosines():
    images, captions = torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    expected = -math.log(math.exp(10.0) / (math.exp(10.0) + 1.0))
    found = loss_of(images, captions, torch.tensor(math.log(10.0)), torch.tensor([0]))
    assert float(found) == pytest.approx(expected, rel=1e-3)
