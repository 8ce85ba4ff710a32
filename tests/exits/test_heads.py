from itertools import product

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from lraee.exits.checkpoint import Checkpoint
from lraee.exits.development import Part
from lraee.exits.head_plan import HeadKey, HeadPlan
from lraee.exits.heads import Heads, fit_heads, head_inputs, initial_heads, stacked
from lraee.exits.settings import HeadSettings
from lraee.exits.variants import BASE
from lraee.features.store import Features
from lraee.models.tower import ClassEmbeddings

DEPTH, LAYERS, N, WIDTH, SIZE, CLASSES = 4, [3, 4], 70, 8, 5, 6
SETTINGS = HeadSettings(
    aggregations=["ssa", "cls"],
    supervisions=["distilled", "hard", "label-free"],
    epochs=2,
    learning_rate=1e-2,
    batch=16,
)
KEYS = [HeadKey(BASE, *kind) for kind in product(LAYERS, SETTINGS.aggregations, SETTINGS.supervisions)]
ROWS = np.sort(np.random.default_rng(7).permutation(N)[:53])  # the last batch is a short one


def random_features(seed=0):
    rng = np.random.default_rng(seed)
    return Features(
        layers=tuple(range(1, DEPTH + 1)), samples=np.arange(N), labels=rng.integers(0, CLASSES, N),
        cls=rng.normal(size=(N, DEPTH, WIDTH)).astype(np.float16),
        mean=rng.normal(size=(N, DEPTH, WIDTH)).astype(np.float16),
        sav=rng.lognormal(size=(N, DEPTH)).astype(np.float32), final=rng.normal(size=(N, SIZE)).astype(np.float32),
    )  # fmt: skip


def fit(features, targets, rows, keys, *rest, **more):
    """Train on some rows of a pool that is one part."""
    part = Part(np.arange(len(targets)), features, targets)
    return fit_heads(lambda epoch: [part], np.isin(part.places, rows), keys, WIDTH, *rest, **more)


def random_targets(seed=1):
    return np.random.default_rng(seed).normal(size=(N, SIZE)).astype(np.float32)


def classes_of(*, cosine):
    generator = torch.Generator().manual_seed(4)
    rows = torch.randn(CLASSES, SIZE, generator=generator)
    if cosine:
        return ClassEmbeddings(functional.normalize(rows, dim=1), torch.zeros(CLASSES), 14.0, cosine=True)
    return ClassEmbeddings(rows, torch.randn(CLASSES, generator=generator), 1.0, cosine=False)


def inputs_of(key, features):
    return torch.from_numpy((features.mean if key.aggregation == "ssa" else features.cls)[:, key.layer - 1]).float()


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


def train_alone(key, index, features, targets, classes, settings, seed):
    """Train one head by itself, with the losses written out."""
    head = PlainHead(initial_heads(KEYS, WIDTH, SIZE, seed), index)
    optimiser = torch.optim.Adam(head.parameters(), lr=settings.learning_rate)
    x, n = inputs_of(key, features), len(features.labels)
    per_image = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, total_iters=n * settings.epochs)
    labels, goal = torch.from_numpy(features.labels), torch.from_numpy(targets)
    for epoch in range(settings.epochs):
        order = torch.from_numpy(np.random.default_rng((seed, epoch)).permutation(n))
        for start in range(0, n, settings.batch):
            rows = order[start : start + settings.batch]
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
            for _ in rows if settings.schedule == "linear" else ():
                per_image.step()
    return head


@pytest.mark.parametrize(("cosine", "schedule"), [(True, "constant"), (False, "constant"), (True, "linear")])
def test_stacked_heads_come_out_as_if_each_were_trained_alone(cosine, schedule):
    features, targets, classes = random_features(), random_targets(), classes_of(cosine=cosine)
    settings = SETTINGS.model_copy(update={"schedule": schedule})
    heads = fit(features, targets, ROWS, KEYS, classes, settings, seed=6)
    assert heads.keys == KEYS
    embeddings = heads.embed(head_inputs(features, heads.keys))
    for index, key in enumerate(heads.keys):
        alone = train_alone(key, index, features.at(ROWS), targets[ROWS], classes, settings, seed=6)
        p = heads.parameters
        for ours, theirs in (
            (p["norm"][0, index, 0], alone.norm.weight), (p["norm"][1, index, 0], alone.norm.bias),
            (p["w1"][index], alone.first.weight.T), (p["b1"][index, 0], alone.first.bias),
            (p["w2"][index], alone.second.weight.T), (p["b2"][index, 0], alone.second.bias),
        ):  # fmt: skip
            assert ours.numpy() == pytest.approx(theirs.detach().numpy(), abs=2e-4)
        with torch.inference_mode():
            assert embeddings[index].numpy() == pytest.approx(alone(inputs_of(key, features)).numpy(), abs=1e-3)


def plan(**changes):
    chosen = {"candidates": (8, 10), "depth": 12, "aggregation": "ssa", "supervision": "distilled"}
    return HeadPlan(**(chosen | changes))


def test_the_base_has_every_kind_at_the_exits_and_the_headlines_supervision_at_every_layer():
    settings = HeadSettings(aggregations=["ssa", "cls"], supervisions=["hard", "distilled"])
    keys = plan().keys(settings, BASE)
    every = {HeadKey(BASE, layer, a, "distilled") for layer in range(1, 13) for a in ("ssa", "cls")}
    assert set(keys) == every | {HeadKey(BASE, layer, a, "hard") for layer in (8, 10, 12) for a in ("ssa", "cls")}
    assert len(keys) == len(set(keys)) == 24 + 6


def test_heads_are_listed_by_layer_aggregation_and_supervision():
    settings = HeadSettings(aggregations=["cls"], supervisions=["hard", "distilled"])
    assert plan(candidates=(2,), depth=3, supervision="hard").keys(settings, BASE) == [
        HeadKey(BASE, 1, "cls", "hard"),
        HeadKey(BASE, 2, "cls", "hard"), HeadKey(BASE, 2, "cls", "distilled"),
        HeadKey(BASE, 3, "cls", "hard"), HeadKey(BASE, 3, "cls", "distilled"),
    ]  # fmt: skip


@pytest.mark.parametrize("variant", ["seed-1", "images-100", "temperature-2"])
def test_a_variant_has_the_headlines_heads_and_its_full_depth_refits_alone(variant):
    assert plan(aggregation="cls", supervision="hard").keys(SETTINGS, variant) == [
        HeadKey(variant, 8, "cls", "hard"), HeadKey(variant, 10, "cls", "hard"),
        HeadKey(variant, 12, "ssa", "hard"), HeadKey(variant, 12, "cls", "hard"),
    ]  # fmt: skip


def test_what_a_temperature_reads_is_among_the_heads_of_the_base():
    keys = plan().keys(SETTINGS, "temperature-2")
    assert {key._replace(variant=BASE) for key in keys} <= set(plan().keys(SETTINGS, BASE))


def test_training_on_some_rows_is_training_on_these_images_alone():
    features, targets, classes = random_features(), random_targets(), classes_of(cosine=True)
    heads = fit(features, targets, ROWS, KEYS, classes, SETTINGS, seed=3)
    rest = np.setdiff1d(np.arange(N), ROWS)
    others, elsewhere = random_features(seed=5), random_targets(seed=6)
    for name in ("labels", "cls", "mean"):
        getattr(others, name)[ROWS] = getattr(features, name)[ROWS]
    elsewhere[ROWS] = targets[ROWS]
    assert not np.array_equal(others.mean[rest], features.mean[rest])
    alone = fit(features.at(ROWS), targets[ROWS], np.arange(len(ROWS)), KEYS, classes, SETTINGS, seed=3)
    amid_others = fit(others, elsewhere, ROWS, KEYS, classes, SETTINGS, seed=3)
    for name, value in heads.parameters.items():
        assert torch.equal(value, alone.parameters[name])
        assert torch.equal(value, amid_others.parameters[name])


def test_a_head_comes_out_the_same_whatever_stands_beside_it():
    arguments = random_features(), random_targets(), ROWS
    together = fit(*arguments, KEYS, classes_of(cosine=True), SETTINGS, seed=0)
    few = [KEYS[7], KEYS[2]]
    alone = fit(*arguments, few, classes_of(cosine=True), SETTINGS, seed=0)
    for name, value in together.only(few).parameters.items():
        assert value.numpy() == pytest.approx(alone.parameters[name].numpy(), abs=2e-4)


def moved(keys, seed):
    """Heads that differ from each other in every parameter."""
    generator = torch.Generator().manual_seed(seed)
    start = initial_heads(keys, WIDTH, SIZE, seed=2)
    return Heads(keys, {k: v + torch.randn(v.shape, generator=generator) for k, v in start.parameters.items()})


def test_stacks_of_heads_are_put_together_and_taken_apart_again():
    parts = [moved([key._replace(variant=name) for key in KEYS[:4]], seed) for seed, name in enumerate("abc")]
    together = stacked(parts)
    assert together.keys == [key for part in parts for key in part.keys]
    for part in parts:
        again = together.only(part.keys)
        assert again.keys == part.keys
        assert all(torch.equal(value, again.parameters[name]) for name, value in part.parameters.items())


def test_heads_are_picked_in_the_order_asked_for_and_answer_as_before():
    heads, features = moved(KEYS, 0), random_features()
    wanted = [KEYS[9], KEYS[0], KEYS[4]]
    some = heads.only(wanted)
    inputs = head_inputs(features, KEYS)
    own = head_inputs(features, wanted)
    assert torch.equal(own, inputs[[9, 0, 4]])
    assert some.embed(own).numpy() == pytest.approx(heads.embed(inputs)[[9, 0, 4]].numpy(), abs=1e-5)


def test_a_head_that_is_not_there_cannot_be_picked():
    with pytest.raises(ValueError, match="seed-9"):
        moved(KEYS, 0).only([KEYS[0]._replace(variant="seed-9")])


def test_all_heads_start_equal_within_the_bounds_of_pytorchs_linear():
    start = initial_heads(KEYS, 64, 32, seed=0)
    for name in ("w1", "b1", "w2", "b2"):
        assert (start.parameters[name] == start.parameters[name][:1]).all()
        assert start.parameters[name].abs().max() <= 64**-0.5
    reference = nn.Linear(64, 64).weight.detach().std()
    assert float(start.parameters["w1"][0].std()) == pytest.approx(float(reference), rel=0.05)


def test_the_start_depends_on_the_seed():
    one, same, other = (initial_heads(KEYS, WIDTH, SIZE, seed).parameters for seed in (0, 0, 1))
    for name in ("w1", "b1", "w2", "b2"):
        assert torch.equal(one[name], same[name])
        assert not torch.equal(one[name], other[name])


def parameters_of(heads, supervision):
    own = heads.only([key for key in heads.keys if key.supervision == supervision])
    return torch.cat([value.flatten() for value in own.parameters.values()])


@pytest.fixture(scope="module")
def trained():
    return fit(random_features(), random_targets(), ROWS, KEYS, classes_of(cosine=True), SETTINGS, seed=0)


def test_label_free_heads_never_read_the_labels(trained):
    features = random_features()
    features.labels[:] = np.roll(features.labels, 1)
    other = fit(features, random_targets(), ROWS, KEYS, classes_of(cosine=True), SETTINGS, seed=0)
    assert torch.equal(parameters_of(trained, "label-free"), parameters_of(other, "label-free"))
    for supervision in ("hard", "distilled"):
        assert not torch.allclose(parameters_of(trained, supervision), parameters_of(other, supervision), atol=1e-4)


def test_hard_heads_never_read_the_targets(trained):
    other = fit(random_features(), random_targets(9), ROWS, KEYS, classes_of(cosine=True), SETTINGS, seed=0)
    assert torch.equal(parameters_of(trained, "hard"), parameters_of(other, "hard"))
    for supervision in ("label-free", "distilled"):
        assert not torch.allclose(parameters_of(trained, supervision), parameters_of(other, supervision), atol=1e-4)


def test_the_seed_decides_everything(trained):
    arguments = random_features(), random_targets(), ROWS, KEYS, classes_of(cosine=True), SETTINGS
    torch.manual_seed(999)
    again, other = fit(*arguments, seed=0), fit(*arguments, seed=1)
    for name, value in trained.parameters.items():
        assert torch.equal(value, again.parameters[name])
        assert not torch.equal(value, other.parameters[name])


def test_finished_heads_carry_no_gradient(trained):
    assert not any(value.requires_grad for value in trained.parameters.values())


def test_training_lowers_the_distance_to_the_targets():
    features, classes = random_features(), classes_of(cosine=True)
    targets = (features.mean[:, 3].astype(np.float32) @ np.random.default_rng(2).normal(size=(WIDTH, SIZE))).astype(
        np.float32
    )
    settings = SETTINGS.model_copy(update={"epochs": 20})
    keys = [HeadKey(BASE, layer, "ssa", "label-free") for layer in LAYERS]
    inputs = head_inputs(features, keys)

    def distance(heads):
        return functional.cosine_similarity(heads.embed(inputs)[1], torch.from_numpy(targets), dim=1).mean()

    before = distance(initial_heads(keys, WIDTH, SIZE, 0))
    after = distance(fit(features, targets, np.arange(N), keys, classes, settings, 0))
    assert after > max(0.8, float(before) + 0.2)


def in_parts(features, targets, cuts):
    """The pool in several parts, as a pool of shards yields them."""
    places = np.split(np.arange(N), cuts)
    return [Part(some, features.at(some), targets[some]) for some in places]


def test_every_chosen_image_is_seen_once_an_epoch_in_whatever_parts_it_comes(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "lraee.exits.heads.head_inputs", lambda some, keys: seen.extend(some.samples) or head_inputs(some, keys)
    )
    parts = in_parts(random_features(), random_targets(), [20, 21, 60])
    fit_heads(lambda epoch: parts, np.isin(np.arange(N), ROWS), KEYS, WIDTH, classes_of(cosine=True), SETTINGS, seed=0)
    assert len(seen) == SETTINGS.epochs * len(ROWS)
    for epoch in np.split(np.array(seen), SETTINGS.epochs):
        assert sorted(epoch) == ROWS.tolist()
        assert epoch.tolist() != ROWS.tolist()


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("steps", [1, 3, 7])
def test_an_interrupted_training_goes_on_to_the_same_bytes(tmp_path, monkeypatch, steps):
    parts, taken = in_parts(random_features(), random_targets(), [40]), torch.optim.Adam.step
    settings = SETTINGS.model_copy(update={"schedule": "linear"})  # depends on how far the training has come
    arguments = lambda epoch: parts, np.isin(np.arange(N), ROWS), KEYS, WIDTH, classes_of(cosine=True), settings
    done = []

    def step(self):
        if len(done) == steps:
            raise Killed
        done.append(1)
        taken(self)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", step)
        with pytest.raises(Killed):
            fit_heads(*arguments, seed=2, checkpoint=Checkpoint(tmp_path / "state", minutes=0.0))
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self: done.append(1) or taken(self))
    resumed = fit_heads(*arguments, seed=2, checkpoint=Checkpoint(tmp_path / "state", minutes=0.0))
    together = len(done)
    unbroken = fit_heads(*arguments, seed=2)
    assert len(done) == 2 * together  # nothing was done twice
    for name, value in unbroken.parameters.items():
        assert torch.equal(value, resumed.parameters[name])


def test_a_checkpoint_is_kept_only_every_few_minutes(tmp_path):
    parts = in_parts(random_features(), random_targets(), [])
    arguments = lambda epoch: parts, np.ones(N, bool), KEYS, WIDTH, classes_of(cosine=True), SETTINGS
    fit_heads(*arguments, seed=2, checkpoint=Checkpoint(tmp_path / "state"))
    assert not (tmp_path / "state").exists()
