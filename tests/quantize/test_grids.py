import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lraee.quantize.grids import affine_parameters, quantize_affine, quantize_weight, weight_scale
from tests import examples

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.ao.quantization import MinMaxObserver, PerChannelMinMaxObserver

floats = st.floats(-100.0, 100.0, width=32, allow_subnormal=False)
vectors = hnp.arrays(np.float32, st.integers(2, 40), elements=floats)


@settings(max_examples=examples(20))
@given(vectors, st.integers(2, 8))
def test_affine_parameters_are_torchs(values: np.ndarray, bits: int) -> None:
    x = torch.tensor(values)
    observer = MinMaxObserver(dtype=torch.quint8, quant_min=0, quant_max=2**bits - 1)
    observer(x)
    expected_scale, expected_zero = observer.calculate_qparams()
    scale, zero_point = affine_parameters(x.min(), x.max(), bits)
    torch.testing.assert_close(scale.reshape(1), expected_scale, rtol=1e-6, atol=0.0)
    assert abs(int(zero_point) - int(expected_zero)) == 0


@settings(max_examples=examples(20))
@given(hnp.arrays(np.float32, (3, 8), elements=floats), st.integers(2, 8), st.booleans())
def test_weight_scales_are_torchs(values: np.ndarray, bits: int, per_channel: bool) -> None:
    weight = torch.tensor(values)
    limits = {"dtype": torch.qint8, "quant_min": -(2 ** (bits - 1)), "quant_max": 2 ** (bits - 1) - 1}
    if per_channel:
        observer = PerChannelMinMaxObserver(ch_axis=0, qscheme=torch.per_channel_symmetric, **limits)
    else:
        observer = MinMaxObserver(qscheme=torch.per_tensor_symmetric, **limits)
    observer(weight)
    expected, zero_points = observer.calculate_qparams()
    torch.testing.assert_close(weight_scale(weight, bits, per_channel), expected, rtol=1e-6, atol=0.0)
    assert (zero_points == 0).all()


@pytest.mark.filterwarnings("ignore:torch.quantize_per")
def test_weight_codes_are_torchs_but_for_the_largest_magnitude_of_a_row() -> None:
    # That one lies at 127.5 steps exactly. torch multiplies by 1 / scale where we divide, so either side may round it
    # to the other neighbour.
    weight = torch.randn(200, 30, generator=torch.Generator().manual_seed(0))
    scale = weight_scale(weight, 8, per_channel=True)
    zeros = torch.zeros(200, dtype=torch.int32)
    expected = torch.quantize_per_channel(weight, scale, zeros, 0, torch.qint8).int_repr()
    difference = (quantize_weight(weight, scale, 8) - expected.float()).abs()
    assert difference.max() <= 1.0
    largest = weight.abs() == weight.abs().amax(dim=1, keepdim=True)
    assert (difference[~largest] == 0).all()


def test_weight_codes_by_hand() -> None:
    # 3 bits: codes -4..3, scale = 1.75 / 3.5 = 0.5.
    weight = torch.tensor([[1.75, -1.75, 0.0, 0.6, -0.8]])
    scale = weight_scale(weight, 3, per_channel=False)
    assert scale.tolist() == [0.5]
    assert quantize_weight(weight, scale, 3).tolist() == [[3.0, -4.0, 0.0, 1.0, -2.0]]


def test_affine_codes_by_hand() -> None:
    # 2 bits over [-1, 2]: scale 1, zero point 1, codes 0..3.
    scale, zero_point = affine_parameters(torch.tensor(-1.0), torch.tensor(2.0), 2)
    assert (scale.item(), zero_point.item()) == (1.0, 1.0)
    values = torch.tensor([-9.0, -1.0, -0.4, 0.0, 1.2, 2.0, 9.0])
    assert quantize_affine(values, scale, zero_point, 2).tolist() == [0.0, 0.0, 1.0, 1.0, 2.0, 3.0, 3.0]


@settings(max_examples=examples(20))
@given(vectors, st.integers(2, 8))
def test_codes_stay_in_range_and_errors_within_half_a_step(values: np.ndarray, bits: int) -> None:
    x = torch.tensor(values)
    scale, zero_point = affine_parameters(x.min(), x.max(), bits)
    codes = quantize_affine(x, scale, zero_point, bits)
    assert ((codes >= 0) & (codes <= 2**bits - 1) & (codes == codes.round())).all()
    error = ((codes - zero_point) * scale - x).abs()
    # The zero point is itself rounded: a value at the edge of the range can lie up to half a step beyond the grid.
    assert (error <= scale * (1.0 + 1e-4) + 1e-6).all()
    inside = (x >= -zero_point * scale) & (x <= (2**bits - 1 - zero_point) * scale)
    assert (error[inside] <= scale * (0.5 + 1e-4) + 1e-6).all()


@settings(max_examples=examples(20))
@given(vectors, st.integers(2, 8))
def test_zero_is_represented_exactly(values: np.ndarray, bits: int) -> None:
    x = torch.tensor(values)
    scale, zero_point = affine_parameters(x.min(), x.max(), bits)
    assert zero_point == zero_point.round()
    assert quantize_affine(torch.zeros(1), scale, zero_point, bits).item() == zero_point.item()


@settings(max_examples=examples(13))
@given(hnp.arrays(np.float32, (4, 6), elements=floats), st.integers(2, 8), st.booleans())
def test_weight_codes_stay_in_range_and_errors_within_half_a_step(
    values: np.ndarray, bits: int, per_channel: bool
) -> None:
    weight = torch.tensor(values)
    scale = weight_scale(weight, bits, per_channel)
    codes = quantize_weight(weight, scale, bits)
    assert ((codes >= -(2 ** (bits - 1))) & (codes <= 2 ** (bits - 1) - 1)).all()
    # The largest magnitude is half a step above the highest positive code.
    assert ((codes * scale[:, None] - weight).abs() <= scale[:, None] * (0.5 + 1e-4) + 1e-6).all()


def test_per_channel_scales_are_the_rows_own() -> None:
    weight = torch.tensor([[1.0, -2.0], [0.01, 0.02], [0.0, 0.0]])
    rows = weight_scale(weight, 8, per_channel=True)
    for row, scale in zip(weight[:2], rows[:2], strict=True):
        assert scale == weight_scale(row[None], 8, per_channel=False)
    assert rows.shape == (3,)
    assert weight_scale(weight, 8, per_channel=False).tolist() == [rows.max()]
    assert torch.isfinite(weight / rows[:, None]).all()


def test_a_constant_zero_input_gives_finite_parameters() -> None:
    scale, zero_point = affine_parameters(torch.zeros(2), torch.zeros(2), 8)
    assert (scale > 0).all()
    assert quantize_affine(torch.zeros(2), scale, zero_point, 8).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("low", "high"), [(1.0, 3.0), (-3.0, -1.0)])
def test_a_range_without_zero_is_widened_to_it(low: float, high: float) -> None:
    scale, zero_point = affine_parameters(torch.tensor(low), torch.tensor(high), 8)
    assert scale.item() == pytest.approx(3.0 / 255)
    assert zero_point.item() == (0.0 if low > 0 else 255.0)


def test_the_codes_of_halves_go_to_the_even_multiple_of_the_scale() -> None:
    values = torch.tensor([-1.5, -0.5, 0.5, 1.5, 2.5])
    assert quantize_affine(values, torch.tensor(1.0), torch.tensor(3.0), 8).tolist() == [1.0, 3.0, 3.0, 5.0, 5.0]


@settings(max_examples=examples(33))
@given(
    hnp.arrays(
        np.float32, (2, 3, 40),
        elements=st.one_of(floats, st.integers(-600, 600).map(lambda n: n / 2), st.floats(width=32, allow_nan=False)),
    ),
    st.floats(2.0**-23, 1e6, width=32), st.integers(0, 255), st.integers(2, 8),
)  # fmt: skip
def test_affine_codes_are_numpys_for_halves_and_huge_values_too(
    values: np.ndarray, scale: float, zero_point: int, bits: int
) -> None:
    zero = min(zero_point, 2**bits - 1)
    with np.errstate(over="ignore"):
        expected = np.clip(np.rint(values / np.float32(scale)) + np.float32(zero), 0, 2**bits - 1)
    scales = torch.full((2, 1, 1), scale)
    found = quantize_affine(torch.tensor(values), scales, torch.full((2, 1, 1), float(zero)), bits)
    np.testing.assert_array_equal(found.numpy(), expected)
