"""LRA-EE's learned gate: sigma(w1 confidence + w2 margin + w3 SAV + b), one an exit, fitted to "this exit is right".

It is a logistic regression, so scikit-learn fits it; inputs are standardised first, since SAV has another scale.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lraee.exits.policies import POLICIES, Policy
from lraee.exits.score_table import ExitScores
from lraee.models.shape import TowerShape


def fit_gate(signals: NDArray[np.floating], right: NDArray[np.bool_]) -> dict[str, Any]:
    """Fit one gate to signals (n, F) and outcomes (n,); where all outcomes agree the gate is constant."""
    # Imported here: whoever only needs the policy's name (every job reads the configuration) is spared a second.
    from scipy.special import logit
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(signals.astype(np.float64))
    if right.all() or not right.any():
        rate = (right.sum() + 1.0) / (len(right) + 2.0)
        weights, bias = np.zeros(signals.shape[1]), float(logit(rate))
    else:
        model = LogisticRegression().fit(scaler.transform(signals.astype(np.float64)), right)
        weights, bias = model.coef_[0], float(model.intercept_[0])
    return {"mean": scaler.mean_.tolist(), "scale": scaler.scale_.tolist(), "weights": weights.tolist(), "bias": bias}


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    # SciPy's takes half a second to import, which the first prediction of an exported network would wait for.
    with np.errstate(over="ignore"):
        return 1.0 / (1.0 + np.exp(-x))


class LearnedGate(Policy):
    """Readiness is the estimated probability that the exit is right."""

    gated = True

    def fit(self, scores: ExitScores, right: NDArray[np.bool_], features: Sequence[str]) -> list[dict[str, Any]]:
        signals = scores.signals(features)
        fitted = [fit_gate(signals[:, exit_], right[:, exit_]) for exit_ in range(len(scores.layers))]
        return [{"features": list(features), **gate} for gate in fitted]

    def readiness(self, scores: ExitScores, fitted: Sequence[dict[str, Any]]) -> NDArray[np.float64]:
        columns = []
        for exit_, gate in enumerate(fitted):
            signals = scores.signals(gate["features"])[:, exit_].astype(np.float64)
            columns.append(_sigmoid((signals - gate["mean"]) / gate["scale"] @ gate["weights"] + gate["bias"]))
        return np.stack(columns, axis=1)

    def macs(self, shape: TowerShape, features: Sequence[str]) -> int:
        """Return one product a signal, and what the signals cost that the head does not compute anyway.

        SAV squares every patch token; its share of the energy needs the squared mean patch token as well.
        """
        sav = (shape.tokens - 1) * shape.width if any(name.endswith("sav") for name in features) else 0
        energy = shape.width if "relative-sav" in features else 0
        return sav + energy + len(features)


POLICIES.register("learned-gate")(LearnedGate())
