"""What calibrations found and readers ask for: bits by block, how a search went, and what they took."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

State = Mapping[str, NDArray[Any]]
FOUND = ("search.fitness", ".bits", ".utilisation", ".drift")
"""Endings of the tensors of a state that are read here: the rest may be as large as the model."""
COST_COLUMNS = [
    "quantizer", "model", "images", "cpu_seconds", "wall_seconds", "peak_before_mib", "peak_mib", "state_mib",
]  # fmt: skip


def allocation_table(states: Mapping[str, State], headers: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Bits of every block of the mixed-precision quantizers, and what the choice rested on.

    A row a block and candidate: quantizer, layer (1..depth), bits (chosen), utilisation (share of images that execute
    the block, as the allocation took it), candidate (bits), drift (relative squared error of the embedding with this
    block alone at the candidate).
    """
    rows = []
    for name, state in states.items():
        layers = sorted(int(key.split(".")[1]) for key in state if key.endswith(".drift"))
        for index in layers:
            own = {kind: state[f"blocks.{index}.{kind}"] for kind in ("bits", "utilisation", "drift")}
            for candidate, drift in zip(sorted(set(headers[name]["settings"]["bits"])), own["drift"], strict=True):
                rows.append(
                    {
                        "quantizer": name, "layer": index + 1, "bits": int(own["bits"]),
                        "utilisation": float(own["utilisation"]), "candidate": candidate, "drift": float(drift),
                    }
                )  # fmt: skip
    return pd.DataFrame(rows, columns=["quantizer", "layer", "bits", "utilisation", "candidate", "drift"])


def search_table(states: Mapping[str, State]) -> pd.DataFrame:
    """Best (lowest) fitness so far after each evaluation of the searched quantizers; evaluation 0 is the start."""
    frames = [pd.DataFrame({"quantizer": [], "evaluation": np.array([], int), "fitness": np.array([], float)})]
    for name, state in states.items():
        if "search.fitness" in state:
            fitness = np.asarray(state["search.fitness"], dtype=float)
            frames.append(pd.DataFrame({"quantizer": name, "evaluation": np.arange(len(fitness)), "fitness": fitness}))
    return pd.concat(frames, ignore_index=True)
