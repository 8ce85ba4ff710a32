"""How much of the network a quantizer's fitted exits use."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from lraee.evaluation.run import FittedArms
from lraee.exits.policies import POLICIES
from lraee.exits.routing import route
from lraee.exits.score_table import ScoreTable


def utilisation_table(fitted: FittedArms, gate: Mapping[str, ScoreTable]) -> pd.DataFrame:
    """Share of the `gate` images that execute each block, for every risk-controlled point of the quantized model.

    Thresholds were chosen on `select`, so that neither labels nor images of that split enter. Columns: policy,
    threshold_rule, risk, layer (1..depth), share.
    """
    frames = [pd.DataFrame(columns=["policy", "threshold_rule", "risk", "layer", "share"])]
    layers = np.arange(1, fitted.shape.depth + 1)
    for own in fitted.arms[0].risk:
        c = own.configuration
        scores = gate[c.variant].at(c.aggregation, c.supervision, c.layers, c.final)
        place = route(POLICIES[c.policy].readiness(scores, own.gates), own.thresholds)
        executed = np.append(c.layers, fitted.shape.depth)[place]
        shares = (executed[:, None] >= layers).mean(axis=0)
        named = {"policy": c.policy, "threshold_rule": c.threshold_rule, "risk": c.risk}
        frames.append(pd.DataFrame({**named, "layer": layers, "share": shares}))
    return pd.concat(frames, ignore_index=True)
