"""The whole sweep of one threshold for all exits, and the thresholds that were chosen; nothing is selected here."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lraee.evaluation.bench import Row, TestBench, accuracy
from lraee.evaluation.fit import Fitted
from lraee.exits.policies import POLICIES
from lraee.exits.routing import outcome, route
from lraee.exits.thresholds import ThresholdGrid


def sweep_rows(bench: TestBench, fitted: Fitted, grid: ThresholdGrid) -> list[Row]:
    """Accuracy and compute at every threshold that the policy can take, the same at all exits."""
    c, depth = fitted.configuration, bench.shape.depth
    scores, readiness, (macs, _) = bench.scores(c), bench.readiness(fitted), bench.costs(c)
    rows = []
    for threshold in POLICIES[c.policy].thresholds(grid, len(c.layers)):
        result = outcome(scores, route(readiness, [float(threshold)] * len(c.layers)))
        rows.append(
            {
                "policy": c.policy, "layers": ",".join(map(str, c.layers)), "threshold": float(threshold),
                "n": len(result.correct), **accuracy("top1", result.correct),
                "saved": float(1.0 - result.shares @ macs.leaving / macs.full),
                "saved_blocks": float(1.0 - result.shares @ np.append(c.layers, depth) / depth),
            }
        )  # fmt: skip
    return rows


def threshold_rows(fitted: Sequence[tuple[str, Fitted]], inr: pd.Series) -> list[Row]:
    """The thresholds of fitted points, one row an exit, beside the layer's INR."""
    return [
        {
            "point": point, "threshold_rule": own.configuration.threshold_rule, "budget": own.configuration.budget,
            "layer": layer, "threshold": threshold, "inr": float(inr.loc[layer]),
        }
        for point, own in fitted
        for layer, threshold in zip(own.configuration.layers, own.thresholds, strict=True)
    ]  # fmt: skip
