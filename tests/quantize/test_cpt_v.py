"""CPT-V: its fitness, its search block by block, and that only what it may change is changed."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.spatial.distance import cosine
from torch import Tensor

from lraee.quantize import cpt_v
from lraee.quantize.calibrate import embed
from lraee.quantize.cpt_v import FITNESS, Network, Prefix, evolved, fitness, mutated, searched
from lraee.quantize.schemes import SCHEMES
from lraee.quantize.schemes.cpt_v import CptV
from lraee.registry import parse
from lraee.tensors import read_tensors, write_tensors

DYNAMIC = {"scheme": "dynamic-int8", "reading": "all_linears"}
STARTS: dict[str, dict[str, Any]] = {
    "dynamic": DYNAMIC,
    "tensor": {"scheme": "uniform", "weights": {"bits": 4}, "activations": {"bits": 6}},
    "channel": {"scheme": "uniform", "weights": {"bits": 3, "granularity": "channel"}, "activations": {"bits": 8}},
}


def _scheme(start: str = "channel", **settings: Any) -> CptV:
    plain = {"scheme": "cpt-v", "start": STARTS[start], "passes": 2, "epsilon": 0.05} | settings
    scheme = parse(SCHEMES, "scheme", plain)
    assert isinstance(scheme, CptV)
    return scheme


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _batches(pixels: Tensor) -> Callable[[], Any]:
    return lambda: pixels.split(3)


def _orthonormal(count: int, width: int) -> Tensor:
    return torch.linalg.qr(_random(width, width).double())[0][:count]


def _blocks(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if name.startswith("blocks.")}


def test_the_contrastive_fitness_of_orthonormal_embeddings_has_a_closed_form() -> None:
    count, rows = 5, _orthonormal(5, 8)
    expected = 6.0 * (math.log(math.exp(1 / 3) + count - 1) - 1 / 3)
    assert fitness("contrastive", rows, rows) == pytest.approx(expected, rel=1e-12)
    others = _orthonormal(8, 8)[5:]
    assert fitness("contrastive", others, rows[:3]) == pytest.approx(6.0 * math.log(3), rel=1e-12)


def test_the_contrastive_fitness_is_crossentropy_of_cosines_in_numpy() -> None:
    q, k = _random(7, 4, seed=1).double(), _random(7, 4, seed=2).double()
    ours, theirs = (x.numpy() / np.linalg.norm(x.numpy(), axis=1, keepdims=True) for x in (q, k))
    logits = ours @ theirs.T / 3.0
    own = np.diag(logits) - np.log(np.exp(logits).sum(axis=1))
    assert fitness("contrastive", q, k) == pytest.approx(-6.0 * own.mean(), rel=1e-12)


@given(st.integers(0, 1000), st.floats(0.1, 10.0))
def test_the_contrastive_fitness_sees_directions_and_who_is_who(seed: int, length: float) -> None:
    q, rows = _random(6, 9, seed=seed).double(), _orthonormal(6, 9)
    assert fitness("contrastive", length * q, rows) == pytest.approx(fitness("contrastive", q, rows), rel=1e-9)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    mixed = fitness("contrastive", rows[order], rows)
    assert mixed >= fitness("contrastive", rows, rows)
    assert torch.equal(order, torch.arange(6)) or mixed > fitness("contrastive", rows, rows) + 0.1


def test_the_reconstruction_fitnesses_are_numpys_and_scipys() -> None:
    q, k = _random(250, 4, seed=1), _random(250, 4, seed=2)
    assert fitness("mse", q, k) == pytest.approx(np.square(q.numpy() - k.numpy()).mean(), rel=1e-5)
    assert fitness("cosine", q, k) == pytest.approx(np.mean(list(map(cosine, q, k))), rel=1e-5)
    assert fitness("cosine", q, -q) == pytest.approx(2.0)
    assert fitness("mse", q, q) == 0


def test_images_are_told_apart_within_batches_of_a_hundred() -> None:
    q, k = _random(250, 4, seed=1).double(), _random(250, 4, seed=2).double()
    parts = [fitness("contrastive", q[i : i + 100], k[i : i + 100]) for i in (0, 100, 200)]
    assert fitness("contrastive", q, k) == pytest.approx(np.average(parts, weights=[100, 100, 50]), rel=1e-12)


@given(st.integers(0, 1000), st.floats(1e-4, 0.5))
def test_a_mutation_stays_within_its_share_of_each_scale(seed: int, epsilon: float) -> None:
    scales = {"qkv.weight_scale": torch.exp(_random(12, seed=seed)), "proj.weight_scale": torch.full((1,), 1e-6)}
    found = mutated(scales, epsilon, np.random.default_rng(seed))
    for name, scale in scales.items():
        ratio = found[name] / scale
        assert found[name].dtype == scale.dtype
        assert ratio.shape == scale.shape
        assert ((ratio - 1).abs() <= epsilon * (1 + 1e-3) + 1e-6).all()
    assert len((found["qkv.weight_scale"] / scales["qkv.weight_scale"]).unique()) > 1


@pytest.mark.parametrize("start", STARTS)
def test_a_mutation_moves_the_largest_weight_by_half_a_code(start: str) -> None:
    scheme = _scheme(start, epsilon=None)
    bits = {"dynamic": 8, "tensor": 4, "channel": 3}[start]
    assert scheme.step * 2 ** (bits - 1) == 0.5
    assert _scheme(start, epsilon=0.01).step == 0.01


def _first(tower: Any, pixels: Tensor) -> list[Tensor]:
    return list(tower.stem(pixels).split(3))


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("room", [1, 2**29])
def test_a_cached_evaluation_is_that_of_the_whole_tower(
    tower: Any, pixels: Tensor, start: str, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpt_v, "_KEPT_BYTES", room)
    scheme = _scheme(start)
    state = scheme.start.calibrate(tower, _batches(pixels))
    network, first = Network(tower, scheme, state, _first(tower, pixels)), _first(tower, pixels)
    targets, rng = embed(tower.blocks, tower.head, first), np.random.default_rng(0)
    for index in [3, 2, 1, 0, 3, 1]:
        scales = mutated(searched(state, index), 0.2, rng)
        tried = state | {f"blocks.{index}.{name}": scale for name, scale in scales.items()}
        whole = scheme.apply(tower, tried)
        expected = fitness("contrastive", embed(whole.blocks, whole.head, first), targets)
        assert network.fitness(index, scales) == pytest.approx(expected, rel=1e-12)
        network.accept(index, scales)
        state = tried


@pytest.mark.parametrize(("room", "most"), [(0, 2), (2, 3), (100, 12)])
def test_states_in_front_of_blocks_are_right_and_few(room: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    first = [torch.ones(2, 3)]
    monkeypatch.setattr(cpt_v, "_KEPT_BYTES", room * first[0].nbytes)
    blocks = torch.nn.ModuleList(torch.nn.Linear(3, 3) for _ in range(12)).requires_grad_(False)
    prefix = Prefix(blocks, first)
    for _ in range(2):
        for index in reversed(range(12)):
            expected = first[0]
            for block in blocks[:index]:
                expected = block(expected)
            assert torch.equal(prefix.before(index)[0], expected)
            assert len(prefix.kept) <= most
            blocks[index].weight.mul_(1.1)  # what was visited may change


@given(seed=st.integers(0, 200), cycles=st.integers(1, 40), kind=st.sampled_from(["evolution", "random"]))
def test_a_search_is_never_worse_than_its_start_and_evaluates_as_often_as_told(
    seed: int, cycles: int, kind: str
) -> None:
    start, asked = {"qkv.weight_scale": torch.ones(5), "proj.weight_scale": torch.ones(1)}, []

    def score(scales: dict[str, Tensor]) -> float:
        asked.append(scales)
        return float((scales["qkv.weight_scale"] - 1.2).square().sum() + scales["proj.weight_scale"].square())

    before = score(start)
    best, curve = evolved(
        _scheme(search=kind, cycles=cycles), start, (before, start), score, np.random.default_rng(seed)
    )
    assert len(asked) == 1 + cycles == 1 + len(curve)
    assert all(later <= sooner for sooner, later in zip([before, *curve], curve, strict=False))
    assert score(best) == curve[-1] == min(map(score, asked[: cycles + 1]))


def test_evolution_wanders_where_random_search_stays_near_its_start() -> None:
    def far(kind: str) -> float:
        start = {"qkv.weight_scale": torch.ones(3)}
        scheme = _scheme(search=kind, cycles=300, epsilon=0.05)
        score: Callable[[dict[str, Tensor]], float] = lambda scales: -float(scales["qkv.weight_scale"].sum())  # noqa: E731
        best, _ = evolved(scheme, start, (-3.0, start), score, np.random.default_rng(0))
        return float((best["qkv.weight_scale"] - 1).max())

    assert far("random") <= 0.05 + 1e-6
    assert far("evolution") > 0.2


def test_a_population_of_one_is_a_climb_from_the_best() -> None:
    start, asked = {"qkv.weight_scale": torch.ones(1)}, []

    def score(scales: dict[str, Tensor]) -> float:
        asked.append(float(scales["qkv.weight_scale"]))
        return -asked[-1]

    scheme = _scheme(population=1, sample=1, cycles=50, epsilon=0.01)
    evolved(scheme, start, (-1.0, start), score, np.random.default_rng(1))
    for place, child in enumerate(asked):
        best = max([1.0, *asked[:place]])
        assert abs(child / best - 1) <= 0.01 + 1e-6


@pytest.mark.parametrize("start", STARTS)
def test_only_attentions_weight_scales_change_and_the_fitness_improves(tower: Any, pixels: Tensor, start: str) -> None:
    scheme, before = _scheme(start), tower(pixels)
    state, begun = scheme.calibrate(tower, _batches(pixels)), scheme.start.calibrate(tower, _batches(pixels))
    changed = {name for name, tensor in _blocks(state).items() if not torch.equal(tensor, begun[name])}
    assert state.keys() - begun.keys() == {"search.fitness"}
    assert changed
    assert changed <= {f"blocks.{i}.{role}.weight_scale" for i in range(4) for role in ("qkv", "proj")}
    curve = state["search.fitness"]
    assert len(curve) == 1 + 2 * 4 * 3
    assert (curve.diff() <= 0).all()
    assert curve[-1] < curve[0]
    targets = [float(fitness("contrastive", scheme.apply(tower, s)(pixels), before)) for s in (begun, state)]
    assert targets == pytest.approx([float(curve[0]), float(curve[-1])], rel=1e-5)
    assert torch.equal(tower(pixels), before)


@pytest.mark.parametrize("kind", ["contrastive", "mse", "cosine"])
@pytest.mark.parametrize("search", ["evolution", "random"])
def test_both_searches_evaluate_equally_often(
    tower: Any, pixels: Tensor, search: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, own = [], FITNESS[kind]
    monkeypatch.setitem(FITNESS, kind, lambda q, k: calls.append(1) or own(q, k))
    curve = _scheme(search=search, fitness=kind, passes=3).calibrate(tower, _batches(pixels))["search.fitness"]
    assert len(calls) == len(curve) == 1 + 3 * 4 * 3
    assert curve[-1] < curve[0]


def test_a_seed_reproduces_the_search_and_another_does_not(tower: Any, pixels: Tensor) -> None:
    one, same, other = (_scheme(seed=seed).calibrate(tower, _batches(pixels)) for seed in (0, 0, 1))
    assert all(torch.equal(tensor, same[name]) for name, tensor in one.items())
    assert not torch.equal(one["search.fitness"], other["search.fitness"])


def test_the_loaders_batches_do_not_change_the_search(tower: Any, pixels: Tensor) -> None:
    one, two = (_scheme("dynamic").calibrate(tower, lambda size=size: pixels.split(size)) for size in (2, 8))
    torch.testing.assert_close(one["search.fitness"], two["search.fitness"], rtol=1e-5, atol=0)


def test_no_more_images_are_read_than_told(tower: Any, pixels: Tensor) -> None:
    some = _scheme("dynamic", images=5).calibrate(tower, _batches(pixels))
    alone = _scheme("dynamic").calibrate(tower, _batches(pixels[:5]))
    torch.testing.assert_close(some["search.fitness"], alone["search.fitness"], rtol=1e-6, atol=0)


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("search", ["evolution", "random"])
@pytest.mark.parametrize("evaluations", [1, 4, 14])
def test_an_interrupted_search_goes_on_to_the_same_bytes(
    tower: Any, pixels: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evaluations: int, search: str
) -> None:
    scheme, own, done = _scheme(search=search), Network.fitness, []

    def until_killed(self: Network, index: int, scales: Any) -> float:
        if len(done) == evaluations:
            raise Killed
        done.append(1)
        return own(self, index, scales)

    with monkeypatch.context() as patch:
        patch.setattr(Network, "fitness", until_killed)
        with pytest.raises(Killed):
            scheme.calibrate_resumably(tower, _batches(pixels), tmp_path / "kept")
    monkeypatch.setattr(Network, "fitness", lambda *arguments: done.append(1) or own(*arguments))
    resumed, killed = scheme.calibrate_resumably(tower, _batches(pixels), tmp_path / "kept"), len(done)
    write_tensors(tmp_path / "resumed", resumed, {})
    write_tensors(tmp_path / "unbroken", scheme.calibrate(tower, _batches(pixels)), {})
    assert (tmp_path / "resumed").read_bytes() == (tmp_path / "unbroken").read_bytes()
    assert killed - (len(done) - killed) in range(scheme.cycles + 1)  # at most the block begun was evaluated twice


def test_a_state_survives_its_file(tower: Any, pixels: Tensor, tmp_path: Path) -> None:
    scheme = _scheme()
    state = scheme.calibrate(tower, _batches(pixels))
    write_tensors(tmp_path / "state", state, {})
    read, _ = read_tensors(tmp_path / "state")
    assert torch.equal(scheme.apply(tower, read)(pixels), scheme.apply(tower, state)(pixels))
    assert torch.equal(read["search.fitness"], state["search.fitness"])


def test_it_reaches_what_its_start_reaches(tower: Any, pixels: Tensor) -> None:
    scheme = _scheme()
    state = scheme.calibrate(tower, _batches(pixels))
    assert scheme.coverage(tower, state) == scheme.start.coverage(tower, state)
    assert scheme.description.startswith(scheme.start.description)
    assert (scheme.bits_of("fc1"), scheme.bits_of("products")) == ((3, 8), None)
    at_five = scheme.at_bits(5)
    assert at_five.bits_of("qkv") == (5, 5)
    assert at_five.passes == scheme.passes
    z = tower.stem(pixels)
    own = {name.removeprefix("blocks.0."): tensor for name, tensor in state.items() if name.startswith("blocks.0.")}
    assert torch.equal(scheme.block(tower.blocks[0], own)(z), scheme.apply(tower, state).blocks[0](z))


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ({"scheme": "bfloat16"}, "bfloat16.*no scales of attention's weights"),
        ({"scheme": "dynamic-int8", "reading": "mlp_only"}, "the MLPs only.*no scales of attention's weights"),
        ({"scheme": "cpt-v", "start": DYNAMIC}, "result of a search: search longer instead"),
    ],
)
def test_a_start_without_scales_to_search_is_refused(start: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        parse(SCHEMES, "scheme", {"scheme": "cpt-v", "start": start})


def test_the_bits_of_a_start_with_fixed_bits_cannot_be_chosen() -> None:
    with pytest.raises(ValueError, match=r"dynamic INT8.*fixed"):
        _scheme("dynamic").at_bits(4)
