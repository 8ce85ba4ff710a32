"""Does the runtime do what was evaluated? The same images through an exported folder and through the score tables."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lraee.evaluation.fit import Fitted
from lraee.exits.policies import POLICIES
from lraee.exits.routing import outcome, route
from lraee.exits.score_table import ExitScores
from lraee.metrics.statistics import wilson

SUMMARY_COLUMNS = (
    "quantizer", "engine", "n", "answers", "answers_low", "answers_high", "exits", "exits_low", "exits_high",
    "farthest",
)  # fmt: skip
DIFFERENCE_COLUMNS = (
    "quantizer", "engine", "sample", "evaluated_layer", "runtime_layer", "evaluated_answer", "runtime_answer",
    "distance",
)  # fmt: skip


def compared(
    samples: NDArray[np.int64],
    place: NDArray[np.int64],
    answer: NDArray[np.int64],
    scores: ExitScores,
    fitted: Fitted,
    depth: int,
) -> pd.DataFrame:
    """Compare exits (0..E, E = full depth) and answers of a runtime, of some samples, with those of the evaluation.

    One row a sample. `distance` is how far the readiness at the exits that either visited is from a threshold, at the
    least: rounding can turn decisions where it is tiny. KeyError where a sample was not evaluated.
    """
    rows = pd.Index(scores.samples).get_indexer(pd.Index(samples))
    if (rows < 0).any():
        raise KeyError(f"sample {samples[rows.argmin()]} was not evaluated")
    readiness = POLICIES[fitted.configuration.policy].readiness(scores, fitted.gates)
    evaluated = outcome(scores, route(readiness, fitted.thresholds))
    distances = np.abs(readiness[rows] - np.array(fitted.thresholds))
    visited = (
        np.arange(len(scores.layers))
        <= np.minimum(np.maximum(place, evaluated.place[rows]), distances.shape[1] - 1)[:, None]
    )
    layers = np.array([*scores.layers, depth])
    return pd.DataFrame({
        "sample": samples,
        "evaluated_layer": layers[evaluated.place[rows]],
        "runtime_layer": layers[place],
        "evaluated_answer": evaluated.answer[rows],
        "runtime_answer": answer,
        "distance": np.where(visited, distances, np.inf).min(axis=1),
    })  # fmt: skip


def summary(compared_by_quantizer: Mapping[str, pd.DataFrame]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Shares of equal answers and exits of every quantizer and engine, with Wilson intervals, and images that differ.

    Frames are those of `compared` with a column `engine`.

    `farthest` is the largest distance to a threshold among those whose exits differ, NaN where none does.
    """
    shares, differing = [], []
    groups = [
        (quantizer, engine, own)
        for quantizer, frame in compared_by_quantizer.items()
        for engine, own in frame.groupby("engine", sort=False)
    ]
    for quantizer, engine, frame in groups:
        same_exit = frame["evaluated_layer"] == frame["runtime_layer"]
        same_answer = frame["evaluated_answer"] == frame["runtime_answer"]
        row = {
            "quantizer": quantizer,
            "engine": engine,
            "n": len(frame),
            "farthest": frame["distance"][~same_exit].max(),
        }
        for name, same in (("answers", same_answer), ("exits", same_exit)):
            share, low, high = wilson(int(same.sum()), len(frame))
            row |= {name: share, f"{name}_low": low, f"{name}_high": high}
        shares.append(row)
        differing.append(frame[~(same_exit & same_answer)].assign(quantizer=quantizer))
    found = pd.concat(differing, ignore_index=True) if differing else pd.DataFrame(columns=list(DIFFERENCE_COLUMNS))
    table = pd.DataFrame(shares, columns=list(SUMMARY_COLUMNS)).astype({"farthest": float})
    return table, found[list(DIFFERENCE_COLUMNS)]
