import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from lraee.exits.heads import HeadKey, Heads, fit_heads, head_inputs, head_keys, initial_heads
from lraee.exits.settings import HeadSettings
from lraee.features.store import Features
from lraee.models.tower import ClassEmbeddings

LAYERS, N, WIDTH, SIZE, CLASSES = [3, 4], 70, 8, 5, 6
SETTINGS = HeadSettings(
    aggregations=["ssa", "cls"],
    supervisions=["distilled", "hard", "label-free"],
    epochs=2,
    learning_rate=1e-2,
    batch=16,
)


def random_features(seed=0):
    rng = np.random.default_rng(seed)
    return Features(
        samples=np.arange(N), labels=rng.integers(0, CLASSES, N),
        cls=rng.normal(size=(N, 2, WIDTH)).astype(np.float32), mean=rng.normal(size=(N, 2, WIDTH)).astype(np.float32),
        sav=rng.lognormal(size=(N, 2)).astype(np.float32), final=rng.normal(size=(N, SIZE)).astype(np.float32),
    )  # fmt: skip


def random_targets(seed=1):
    return np.random.default_rng(seed).normal(size=(N, SIZE)).astype(np.float32)


def classes_of(*, cosine):
    generator = torch.Generator().manual_seed(4)
    rows = torch.randn(CLASSES, SIZE, generator=generator)
    if cosine:
        return ClassEmbeddings(functional.normalize(rows, dim=1), torch.zeros(CLASSES), 14.0, cosine=True)
    return ClassEmbeddings(rows, torch.randn(CLASSES, generator=generator), 1.0, cosine=False)


class PlainHead(nn.Module):
    """One head as anybody would write it."""

    def __init__(self, start: Heads, index: int) -> None:
        super().__init__()
        self.norm, self.first, self.second = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, SIZE)
        p = start.parameters
        self.load_state_dict(
            {
                "norm.weight": p["norm"][0, index, 0], "norm.bias": p["norm"][1, index, 0],
                "first.weight": p["w1"][index].T, "first.bias": p["b1"][index, 0],
                "second.weight": p["w2"][index].T, "second.bias": p["b2"][index, 0],
            }
        )  # fmt: skip

    def forward(self, x):
        return self.second(functional.gelu(self.first(self.norm(x))))


def train_alone(key, index, features, targets, classes, seed):
    """Train one head by itself, with the losses written out."""
    head = PlainHead(initial_heads(head_keys(LAYERS, SETTINGS), WIDTH, SIZE, seed), index)
    optimiser = torch.optim.Adam(head.parameters(), lr=SETTINGS.learning_rate)
    x = torch.from_numpy((features.mean if key.aggregation == "ssa" else features.cls)[:, LAYERS.index(key.layer)])
    labels, goal = torch.from_numpy(features.labels), torch.from_numpy(targets)
    for epoch in range(SETTINGS.epochs):
        order = torch.from_numpy(np.random.default_rng((seed, epoch)).permutation(N))
        for start in range(0, N, SETTINGS.batch):
            rows = order[start : start + SETTINGS.batch]
            embedding, aim = head(x[rows]), goal[rows]
            if classes.cosine:
                logits = classes.scale * functional.normalize(embedding, dim=1) @ classes.rows.T
                distance = (1 - functional.cosine_similarity(embedding, aim, dim=1)).mean()
            else:
                logits = functional.linear(embedding, classes.rows, classes.bias)
                distance = ((embedding - aim) ** 2).sum(1).mean() / (aim**2).sum(1).mean()
            cross_entropy = functional.cross_entropy(logits, labels[rows])
            loss = {
                "distilled": cross_entropy + distance, "hard": cross_entropy, "label-free": distance,
            }[key.supervision]  # fmt: skip
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return head


@pytest.mark.parametrize("cosine", [True, False])
def test_stacked_heads_come_out_as_if_each_were_trained_alone(cosine):
    features, targets, classes = random_features(), random_targets(), classes_of(cosine=cosine)
    heads = fit_heads(features, targets, LAYERS, classes, SETTINGS, seed=6)
    assert len(heads.keys) == 12
    embeddings = heads.embed(head_inputs(features, heads.keys, LAYERS, slice(None)))
    for index, key in enumerate(heads.keys):
        alone = train_alone(key, index, features, targets, classes, seed=6)
        p = heads.parameters
        for ours, theirs in (
            (p["norm"][0, index, 0], alone.norm.weight), (p["norm"][1, index, 0], alone.norm.bias),
            (p["w1"][index], alone.first.weight.T), (p["b1"][index, 0], alone.first.bias),
            (p["w2"][index], alone.second.weight.T), (p["b2"][index, 0], alone.second.bias),
        ):  # fmt: skip
            assert ours.numpy() == pytest.approx(theirs.detach().numpy(), abs=2e-4)
        x = torch.from_numpy((features.mean if key.aggregation == "ssa" else features.cls)[:, LAYERS.index(key.layer)])
        with torch.inference_mode():
            assert embeddings[index].numpy() == pytest.approx(alone(x).numpy(), abs=1e-3)


def test_heads_are_listed_by_layer_aggregation_and_supervision():
    keys = head_keys([8, 12], HeadSettings(aggregations=["cls"], supervisions=["hard", "distilled"]))
    assert keys == [
        HeadKey(8, "cls", "hard"), HeadKey(8, "cls", "distilled"),
        HeadKey(12, "cls", "hard"), HeadKey(12, "cls", "distilled"),
    ]  # fmt: skip


def test_all_heads_start_equal_within_the_bounds_of_pytorchs_linear():
    start = initial_heads(head_keys(LAYERS, SETTINGS), 64, 32, seed=0)
    for name in ("w1", "b1", "w2", "b2"):
        assert (start.parameters[name] == start.parameters[name][:1]).all()
        assert start.parameters[name].abs().max() <= 64**-0.5
    reference = nn.Linear(64, 64).weight.detach().std()
    assert float(start.parameters["w1"][0].std()) == pytest.approx(float(reference), rel=0.05)


def test_the_start_depends_on_the_seed():
    keys = head_keys(LAYERS, SETTINGS)
    one, same, other = (initial_heads(keys, WIDTH, SIZE, seed).parameters for seed in (0, 0, 1))
    for name in ("w1", "b1", "w2", "b2"):
        assert torch.equal(one[name], same[name])
        assert not torch.equal(one[name], other[name])


def parameters_of(heads, supervision):
    picked = [index for index, key in enumerate(heads.keys) if key.supervision == supervision]
    return torch.cat([
        (value[:, picked] if name == "norm" else value[picked]).flatten()
        for name, value in heads.parameters.items()
    ])  # fmt: skip


@pytest.fixture(scope="module")
def trained():
    return fit_heads(random_features(), random_targets(), LAYERS, classes_of(cosine=True), SETTINGS, seed=0)


def test_label_free_heads_never_read_the_labels(trained):
    features = random_features()
    features.labels[:] = np.roll(features.labels, 1)
    other = fit_heads(features, random_targets(), LAYERS, classes_of(cosine=True), SETTINGS, seed=0)
    assert torch.equal(parameters_of(trained, "label-free"), parameters_of(other, "label-free"))
    for supervision in ("hard", "distilled"):
        assert not torch.allclose(parameters_of(trained, supervision), parameters_of(other, supervision), atol=1e-4)


def test_hard_heads_never_read_the_targets(trained):
    other = fit_heads(random_features(), random_targets(9), LAYERS, classes_of(cosine=True), SETTINGS, seed=0)
    assert torch.equal(parameters_of(trained, "hard"), parameters_of(other, "hard"))
    for supervision in ("label-free", "distilled"):
        assert not torch.allclose(parameters_of(trained, supervision), parameters_of(other, supervision), atol=1e-4)


def test_the_seed_decides_everything(trained):
    arguments = random_features(), random_targets(), LAYERS, classes_of(cosine=True), SETTINGS
    torch.manual_seed(999)
    again, other = fit_heads(*arguments, seed=0), fit_heads(*arguments, seed=1)
    for name, value in trained.parameters.items():
        assert torch.equal(value, again.parameters[name])
        assert not torch.equal(value, other.parameters[name])


def test_finished_heads_carry_no_gradient(trained):
    assert not any(value.requires_grad for value in trained.parameters.values())


def test_training_lowers_the_distance_to_the_targets():
    features, classes = random_features(), classes_of(cosine=True)
    targets = (features.mean[:, 1] @ np.random.default_rng(2).normal(size=(WIDTH, SIZE))).astype(np.float32)
    settings = SETTINGS.model_copy(update={"epochs": 20, "aggregations": ["ssa"], "supervisions": ["label-free"]})
    keys = head_keys(LAYERS, settings)
    inputs = head_inputs(features, keys, LAYERS, slice(None))

    def distance(heads):
        return functional.cosine_similarity(heads.embed(inputs)[1], torch.from_numpy(targets), dim=1).mean()

    before = distance(initial_heads(keys, WIDTH, SIZE, 0))
    assert distance(fit_heads(features, targets, LAYERS, classes, settings, 0)) > max(0.8, float(before) + 0.2)
