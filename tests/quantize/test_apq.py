import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lraee.quantize.allocation import allocate_bits
from lraee.quantize.blocks import in_blocks, of_block
from lraee.quantize.operating_point import OperatingPoint
from lraee.quantize.schemes import SCHEMES, ActivationSpec, WeightSpec
from lraee.quantize.schemes.aiqvit import AiqVit
from lraee.quantize.schemes.apq import Apq
from lraee.quantize.schemes.uniform import Uniform
from lraee.registry import parse
from lraee.tensors import read_tensors, write_tensors

BASE = Uniform(scheme="uniform", weights=WeightSpec(bits=4, granularity="channel"), activations=ActivationSpec(bits=4))
DEPTH = 4


def _apq(**settings: Any) -> Apq:
    return Apq(scheme="apq", base=BASE, **settings)


@pytest.fixture(scope="module")
def batches(request: pytest.FixtureRequest) -> Any:
    return lambda: torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(5)).split(3)


amounts = st.floats(0.01, 10.0)


@given(
    drift=arrays(float, (4, 3), elements=amounts), cost=arrays(float, (4, 3), elements=amounts),
    utilisation=arrays(float, 4, elements=st.floats(0.05, 1.0)), slack=st.floats(0.0, 1.0),
)  # fmt: skip
def test_the_allocation_is_the_best_of_all(drift: Any, cost: Any, utilisation: Any, slack: float) -> None:
    weighted = utilisation[:, None] * cost
    budget = weighted.min(axis=1).sum() * (1 - slack) + weighted.max(axis=1).sum() * slack + 1e-6
    chosen = allocate_bits(drift, cost, budget, utilisation)
    blocks = np.arange(4)
    assert weighted[blocks, chosen].sum() <= budget * (1 + 1e-6)
    every = [list(choice) for choice in itertools.product(range(3), repeat=4)]
    allowed = [c for c in every if weighted[blocks, c].sum() <= budget]
    best = min((utilisation * drift[blocks, c]).sum() for c in allowed)
    assert (utilisation * drift[blocks, chosen]).sum() <= best * (1 + 1e-6)


def test_a_block_that_few_images_reach_pays_for_the_others() -> None:
    drift, cost = np.tile([8.0, 2.0, 1.0], (3, 1)), np.tile([9.0, 16.0, 25.0], (3, 1))
    every = allocate_bits(drift, cost, 48.0, np.ones(3))
    assert every.tolist() == [1, 1, 1]
    # The last block is met by one image in ten: there 25 costs 2.5, and the others' 16 leave that much.
    rarely = allocate_bits(drift, cost, 2 * 16 + 2.5, np.array([1.0, 1.0, 0.1]))
    assert rarely.tolist() == [1, 1, 2]


def test_an_impossible_budget_is_named() -> None:
    with pytest.raises(ValueError, match="no bit-widths meet a budget of 1 BOPs: the cheapest take 18"):
        allocate_bits(np.ones((2, 2)), np.full((2, 2), 9.0), 1.0, np.ones(2))


@pytest.mark.parametrize("images", [8, 5])
def test_drift_is_the_embeddings_relative_error_with_one_block_quantized(tower: Any, batches: Any, images: int) -> None:
    scheme = _apq(bits=(3, 5), mean_bits=4.0, images=images)
    state = scheme.calibrate(tower, batches)
    pixels = torch.cat(list(batches()))[:images]
    low = scheme.at(3)
    calibrated = low.calibrate(tower, batches)
    only_third = {name: tensor for name, tensor in calibrated.items() if name.startswith("blocks.2.")}
    quantized = in_blocks(tower, only_third, lambda block, own: low.block(block, own) if own else block)
    clean, moved = tower(pixels).double(), quantized(pixels).double()
    expected = (moved - clean).square().sum() / clean.square().sum()
    assert state["blocks.2.drift"][0].item() == pytest.approx(expected.item(), rel=1e-4)


def test_every_block_is_the_bases_block_at_its_bits(tower: Any, batches: Any) -> None:
    scheme = _apq(bits=(3, 4, 6), mean_bits=4.6)
    state = scheme.calibrate(tower, batches)
    chosen = [int(state[f"blocks.{index}.bits"]) for index in range(DEPTH)]
    assert len(set(chosen)) > 1
    pixels, mixed = next(iter(batches())), scheme.apply(tower, state)
    z = tower.stem(pixels)
    for index, bits in enumerate(chosen):
        base = scheme.at(bits)
        own = of_block(base.calibrate(tower, batches), index)
        assert torch.equal(mixed.blocks[index](z), base.block(tower.blocks[index], own)(z))


@pytest.mark.parametrize("mean_bits", [3.0, 4.5, 6.0])
def test_the_budget_is_kept_in_weighted_bops(tower: Any, batches: Any, mean_bits: float) -> None:
    shares = (1.0, 1.0, 0.5, 0.25)
    scheme = _apq(bits=(3, 4, 6), mean_bits=mean_bits, utilisation=shares)
    state = scheme.calibrate(tower, batches)
    squares = np.array([float(state[f"blocks.{index}.bits"]) ** 2 for index in range(DEPTH)])
    assert squares @ np.array(shares) <= mean_bits**2 * sum(shares) * (1 + 1e-9)
    coverage = scheme.coverage(tower, state)
    assert coverage.weight_bits == coverage.activation_bits == pytest.approx(np.sqrt(squares).mean())
    assert len(set(coverage.block_bops)) == len(set(squares))


@pytest.mark.parametrize("base", [{"scheme": "aiqvit"}, {"scheme": "cpt-v", "start": {"scheme": "aiqvit"}}])
def test_bops_hold_what_the_base_adds(tower: Any, base: Any) -> None:
    state = {f"blocks.{index}.bits": torch.tensor(bits) for index, bits in enumerate((3, 6, 4, 4))}
    found = Apq(scheme="apq", base=base, bits=(3, 4, 6)).coverage(tower, state).block_bops
    for index, bits in enumerate((3, 6, 4, 4)):
        alone = AiqVit(scheme="aiqvit", weight_bits=bits, activation_bits=bits)
        assert found[index] == alone.coverage(tower, {}).block_bops[index]


def test_more_budget_never_drifts_more(tower: Any, batches: Any) -> None:
    pixels = torch.cat(list(batches()))
    errors = []
    for mean_bits in (3.0, 4.0, 5.0, 6.0):
        scheme = _apq(bits=(3, 4, 5, 6), mean_bits=mean_bits)
        state = scheme.calibrate(tower, batches)
        chosen = [scheme.bits.index(int(state[f"blocks.{i}.bits"])) for i in range(DEPTH)]
        errors.append(sum(float(state[f"blocks.{i}.drift"][choice]) for i, choice in enumerate(chosen)))
    assert errors == sorted(errors, reverse=True)
    assert torch.isfinite(pixels).all()


def test_the_state_survives_its_file(tower: Any, batches: Any, tmp_path: Any) -> None:
    scheme = _apq(bits=(3, 6))
    state = scheme.calibrate(tower, batches)
    write_tensors(tmp_path / "state.safetensors", state, {})
    again, _ = read_tensors(tmp_path / "state.safetensors")
    pixels = next(iter(batches()))
    assert torch.equal(scheme.apply(tower, again)(pixels), scheme.apply(tower, state)(pixels))


POINT = OperatingPoint(quantizer="w4a4", policy="learned-gate", threshold_rule="risk-disagreement", risk=0.05)


def _table(**changed: Any) -> pd.DataFrame:
    own = {"policy": "learned-gate", "threshold_rule": "risk-disagreement", "risk": 0.05} | changed
    return pd.DataFrame([{**own, "layer": layer, "share": 1.0 / layer} for layer in (2, 1, 4, 3)])


def test_the_shares_are_those_of_the_named_operating_point() -> None:
    table = pd.concat([_table(risk=0.01).assign(share=9.0), _table(), _table(policy="margin").assign(share=9.0)])
    scheme = _apq(utilisation=POINT)
    assert scheme.needs() == [POINT]
    told = scheme.told({"w4a4": table})
    assert told.utilisation == pytest.approx((1.0, 0.5, 1 / 3, 0.25))
    assert told.needs() == []
    assert _apq().told({}) == _apq()


def test_a_point_that_was_not_fitted_is_named() -> None:
    with pytest.raises(ValueError, match=r"w4a4 has no risk-disagreement thresholds of learned-gate at 0\.05"):
        _apq(utilisation=POINT).told({"w4a4": _table(risk=0.1)})


@pytest.mark.parametrize(
    ("utilisation", "message"),
    [
        (POINT, "the exits of w4a4 have not been measured"),
        ((1.0, 0.5), "utilisation has 2 shares, but the network has 4"),
    ],
)
def test_shares_that_do_not_fit_are_refused(tower: Any, batches: Any, utilisation: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _apq(utilisation=utilisation).calibrate(tower, batches)


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ({"scheme": "bfloat16"}, "base must be a scheme whose bits can be chosen"),
        ({"scheme": "nope"}, "scheme is 'nope', but must be one of"),
        ({"scheme": "uniform", "weights": {"bits": 9}, "activations": {}}, "weights.bits: Input should be less than"),
    ],
)
def test_a_wrong_base_is_refused_by_name(base: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Apq(scheme="apq", base=base)


def test_settings_survive_their_plain_form() -> None:
    for scheme in (_apq(), _apq(utilisation=POINT), _apq(utilisation=(1.0, 0.5))):
        assert parse(SCHEMES, "scheme", scheme.model_dump(mode="json")) == scheme
