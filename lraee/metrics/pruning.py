"""The paper's rule for pathological exit layers; apart from the noise profile, because it needs no network."""

from collections.abc import Sequence

import numpy as np
import pandas as pd


def inr_by_layer(profile: pd.DataFrame) -> pd.Series:
    """Pick the INR that the rule looks at from a noise profile: on all tokens, indexed by layer."""
    return profile[profile["tokens"] == "all"].set_index("layer")["inr"]


def pathological_layers(inr: pd.Series, candidates: Sequence[int], kappa: float) -> list[int]:
    """Return the candidates L with INR(L) < kappa * mean INR over the candidates (LRA-EE's pruning rule).

    `inr` is indexed by layer. Raises KeyError for a candidate without a value.
    """
    chosen = inr.loc[list(candidates)]
    mean = chosen[np.isfinite(chosen)].mean()  # a layer without any noise has no bound to compare with
    return [int(layer) for layer in chosen.index[chosen < kappa * mean]]
