"""One threshold an exit, jointly best (LRA-EE's layer-conditioned thresholds) among all combinations of the grid."""

import numpy as np

from lraee.exits.rules import RULES, Demand, Selection, ThresholdRule
from lraee.exits.thresholds import best_within


class LayerAdaptive(ThresholdRule):
    """The most accurate combination within the budget, the cheapest of equals."""

    def choose(self, selection: Selection, demand: Demand) -> tuple[float, ...] | None:
        values = selection.surface
        best = best_within(values.accuracy.ravel(), values.cost.ravel(), (1.0 - demand.budget) * selection.full)
        if best is None:
            return None
        return tuple(float(values.grid[step]) for step in np.unravel_index(best, values.cost.shape))


RULES.register("layer-adaptive")(LayerAdaptive())
