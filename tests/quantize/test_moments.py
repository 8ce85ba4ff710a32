import math

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from torch import Tensor

from lraee.quantize.moments import moments_of, ridge
from tests import examples


def _inputs(seed: int = 0, rows: int = 300, width: int = 6) -> tuple[Tensor, Tensor]:
    """Correlated inputs, and the same rounded."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, width, generator=generator) @ torch.randn(width, width, generator=generator) + 2
    return x, (x / 0.7).round() * 0.7


def test_moments_are_numpys() -> None:
    x, rounded = _inputs()
    found = moments_of([(x, rounded)])
    both = np.cov(np.concatenate([rounded.numpy(), (x - rounded).numpy()], axis=1).T.astype(np.float64), ddof=0)
    np.testing.assert_allclose(found.covariance.numpy(), both[:6, :6], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.cross.numpy(), both[:6, 6:], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found.mean.numpy(), x.numpy().mean(0), rtol=1e-5)
    np.testing.assert_allclose(found.rounded_mean.numpy(), rounded.numpy().mean(0), rtol=1e-5)


def test_the_penalty_weighs_as_much_as_two_thousand_rows() -> None:
    x, rounded = _inputs()
    moments = moments_of([(x, rounded)])
    assert math.isclose(moments.penalty, 2000 / 300 * rounded.double().var(0, correction=0).mean(), rel_tol=1e-4)


def test_moments_do_not_depend_on_the_batches() -> None:
    x, rounded = _inputs()
    whole = moments_of([(x, rounded)])
    batches = zip(x.reshape(6, 2, 25, 6), rounded.reshape(6, 2, 25, 6), strict=True)
    parts = moments_of(batches)
    for name in ("mean", "rounded_mean", "covariance", "cross"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name), rtol=1e-4, atol=1e-5)
        assert getattr(parts, name).dtype == torch.float64


@settings(max_examples=examples(10))
@given(st.integers(0, 100), st.floats(1e-3, 10.0))
def test_the_regression_of_the_activations_error_is_scikit_learns_ridge(seed: int, penalty: float) -> None:
    x, rounded = _inputs(seed)
    weight = torch.randn(4, 6, generator=torch.Generator().manual_seed(seed + 1)).double()
    moments = moments_of([(x, rounded)])
    found = ridge(moments.covariance, moments.cross @ weight.mT, penalty)
    residual = (x - rounded).double().numpy() @ weight.numpy().T
    expected = Ridge(alpha=penalty * len(x)).fit(rounded.double().numpy(), residual)
    np.testing.assert_allclose(found.numpy().T, expected.coef_, rtol=2e-3, atol=1e-4)
