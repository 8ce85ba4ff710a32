"""Exact allocation of bits to blocks under a budget of bit operations (BOPs)."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp


def allocate_bits(
    drift: NDArray[np.float64], cost: NDArray[np.float64], budget: float, utilisation: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Choose one of C bit-widths for each of L blocks: the index of each choice, (L,).

    Minimises sum_l u_l drift[l, c_l] subject to sum_l u_l cost[l, c_l] <= budget, exactly, as a mixed-integer linear
    programme (the APQ-style inner problem; the papers' greedy search is not needed for a dozen blocks).

    Args:
        drift: (L, C), what a block at a bit-width costs in accuracy, a proxy that adds up over blocks.
        cost: (L, C), its BOPs.
        utilisation: (L,), the share of images that execute each block.

    Raises:
        ValueError: even the cheapest bit-widths exceed the budget.
    """
    blocks, choices = drift.shape
    weight = utilisation[:, None]
    # In units of the dearest choice: the solver's tolerances are absolute, and BOPs are in the billions.
    weighted, unit = weight * cost, float(np.max(weight * cost))
    one_each = np.kron(np.eye(blocks), np.ones(choices))
    affordable = LinearConstraint(weighted.reshape(1, -1) / unit, ub=budget / unit)
    found = milp(
        (weight * drift).ravel() / float(np.max(weight * drift)),
        integrality=np.ones(drift.size),
        bounds=Bounds(0, 1),
        constraints=[affordable, LinearConstraint(one_each, 1, 1)],
        options={"mip_rel_gap": 0.0},
    )
    if found.x is None:
        least = float(weighted.min(axis=1).sum())
        raise ValueError(f"no bit-widths meet a budget of {budget:.3g} BOPs: the cheapest take {least:.3g}")
    return found.x.reshape(blocks, choices).argmax(axis=1)
