"""The test split of one arm, and what any answer to it is worth: accuracy, rescue and loss, and compute."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lraee.evaluation.choices import Configuration
from lraee.evaluation.fit import Fitted, Static
from lraee.exits.policies import POLICIES
from lraee.exits.routing import Outcome, outcome, route
from lraee.exits.score_table import FINAL, ExitScores, ScoreTable
from lraee.exits.variants import BASE
from lraee.metrics.compute import Components, ExitCosts, bit_operations, components, exit_costs
from lraee.metrics.statistics import Interval, compare, paired_mean, quadrants, wilson
from lraee.models.shape import TowerShape
from lraee.quantize.schemes import Coverage

Row = dict[str, Any]


@dataclass(frozen=True)
class TestBench:
    """One arm's test scores by variant, sizes, what its precision covers, and the seed of the bootstrap.

    ValueError where the variants do not hold the same images.
    """

    __test__ = False  # not a test class, whatever pytest makes of the name

    tests: Mapping[str, ScoreTable]
    shape: TowerShape
    classes: int
    coverage: Coverage
    seed: int

    def __post_init__(self) -> None:
        if any(not np.array_equal(table.samples, self.base.samples) for table in self.tests.values()):
            raise ValueError("the variants of the heads answered different test images")

    @property
    def base(self) -> ScoreTable:
        """The scores of the heads that are not varied."""
        return self.tests[BASE]

    @property
    def labels(self) -> NDArray[np.int32]:
        """The right answers (n,)."""
        return self.base.labels

    @property
    def full_answer(self) -> NDArray[np.int32]:
        """The answers of the model as it is (n,)."""
        return self.base.final_prediction

    @property
    def full_correct(self) -> NDArray[np.bool_]:
        """Whether the model as it is answers right (n,)."""
        return self.full_answer == self.labels

    def scores(self, c: Configuration) -> ExitScores:
        """The exits of a configuration."""
        return self.tests[c.variant].at(c.aggregation, c.supervision, c.layers, c.final)

    def readiness(self, fitted: Fitted) -> NDArray[np.float64]:
        """How ready each image is to leave at each exit of a fitted configuration (n, E)."""
        return POLICIES[fitted.configuration.policy].readiness(self.scores(fitted.configuration), fitted.gates)

    def routed(self, fitted: Fitted) -> Outcome:
        """Route the test images through a fitted configuration."""
        return outcome(self.scores(fitted.configuration), route(self.readiness(fitted), fitted.thresholds))

    def static_answer(self, static: Static) -> NDArray[np.int32]:
        """A static exit's answers (n,)."""
        scores = self.tests[static.variant].at(static.aggregation, static.supervision, [static.layer])
        return scores.prediction[:, 0]

    def parts(self, c: Configuration | None = None) -> tuple[Components, Components]:
        """MACs and BOPs of the network's parts; with a configuration, its gates included."""
        gate = POLICIES[c.policy].macs(self.shape, c.gate_features) if c else 0
        macs = components(self.shape, self.classes, gate)
        return macs, bit_operations(macs, self.coverage)

    def costs(self, c: Configuration) -> tuple[ExitCosts, ExitCosts]:
        """MACs and BOPs of leaving at each exit of a configuration."""
        macs, bops = self.parts(c)
        refitted = c.final != FINAL
        return exit_costs(macs, c.layers, refitted), exit_costs(bops, c.layers, refitted)


def spread(name: str, interval: Interval) -> Row:
    """An estimate as three columns: name, name_low, name_high."""
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}


def accuracy(name: str, correct: NDArray[np.bool_]) -> Row:
    """Share of right answers with its Wilson interval; NaN where there is no image."""
    nothing = Interval(np.nan, np.nan, np.nan)
    return spread(name, wilson(int(correct.sum()), len(correct)) if len(correct) else nothing)


def difference(first: NDArray[np.bool_], second: NDArray[np.bool_], seed: int) -> Row:
    """Accuracy of the first minus the second, paired: interval and McNemar's exact p-value; NaN without images."""
    if not len(first):
        return spread("difference", Interval(np.nan, np.nan, np.nan)) | {"mcnemar_p": np.nan}
    interval, p = compare(first, second, seed)
    return spread("difference", interval) | {"mcnemar_p": p}


def signed(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Per image: +1 a rescue, -1 a loss, 0 neither."""
    return first.astype(np.int64) - second.astype(np.int64)


def measures(bench: TestBench, answer: NDArray[np.int32]) -> Row:
    """What answers (n,) are worth against the arm's own full depth on the same images."""
    correct, full = answer == bench.labels, bench.full_correct
    counts = quadrants(correct, full)
    margin, p = compare(correct, full, bench.seed)
    disagree = answer != bench.full_answer
    return {
        "n": len(correct), "correct": int(correct.sum()), **accuracy("top1", correct),
        "both_right": counts.both_right, "rescue": counts.rescue, "loss": counts.loss, "both_wrong": counts.both_wrong,
        **spread("margin", margin), "mcnemar_p": p, **accuracy("disagreement", disagree),
    }  # fmt: skip


def spent(place: NDArray[np.int64], macs: ExitCosts, bops: ExitCosts, depth: int, seed: int) -> Row:
    """Mean compute of images that leave at some place, absolute and as the share saved of the model as it is.

    `saved` counts everything and has a bootstrap interval; `saved_blocks` counts executed blocks, as the paper does;
    `uncounted` is what the paper's count leaves out: saved_blocks - saved.
    """
    shares = np.bincount(place, minlength=len(macs.leaving)) / len(place)
    blocks_left = float(shares @ macs.blocks) / macs.full_blocks
    saved = 1.0 - macs.leaving / macs.full
    uncounted = 1.0 - macs.blocks / macs.full_blocks - saved
    return {
        **spread("saved", paired_mean(saved[place], seed)),
        **spread("uncounted", paired_mean(uncounted[place], seed)),
        "saved_blocks": 1.0 - blocks_left,
        "bops_saved": float(1.0 - shares @ bops.leaving / bops.full),
        "bops_saved_blocks": float(1.0 - shares @ bops.blocks / bops.full_blocks),
        "macs": float(shares @ macs.leaving),
        "bops": float(shares @ bops.leaving),
        "mean_layer": depth * blocks_left,
    }
