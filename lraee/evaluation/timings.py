"""What the latency benchmark measured: time an image, ratios within a run, and how saved compute became saved time."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

RUN = ["quantizer", "threads", "batch"]
"""What is timed together: contestants took turns on the same images."""

REFERENCE = "torch, FP32"
"""The contestant that all others are compared with."""

TIMING_COLUMNS = (
    *RUN, "contestant", "engine", "exits", "int8", "turn", "images", "seconds", "tower_seconds", "exit_seconds",
    "macs", "tower_macs", "same",
)  # fmt: skip
LATENCY_COLUMNS = (
    *RUN, "contestant", "engine", "exits", "int8", "batches", "ms", "ms_low", "ms_high", "speed", "speed_low",
    "speed_high", "n", "same",
)  # fmt: skip
CONVERSION_COLUMNS = (
    *RUN, "engine", "n", "ms_full", "ms_exits", "macs_saved", "time_saved", "time_saved_low", "time_saved_high",
    "turned", "turned_low", "turned_high", "blocks", "blocks_macs", "heads_and_gates", "rest",
)  # fmt: skip

_RESAMPLES = 2000


def latency(timings: pd.DataFrame) -> pd.DataFrame:
    """Milliseconds an image and speed against torch in FP32, medians with quartiles, of every contestant of every run.

    `speed` is torch's time over the contestant's, on the same batch. `same` is the share of the n images that
    it answers as torch does in FP32.
    """
    if timings.empty:
        return pd.DataFrame(columns=list(LATENCY_COLUMNS))
    ms = 1e3 * timings["seconds"] / timings["images"]
    base = timings.assign(ms=ms).query("contestant == @REFERENCE").set_index([*RUN, "turn"])["ms"]
    speed = base.reindex(pd.MultiIndex.from_frame(timings[[*RUN, "turn"]])).to_numpy() / ms
    groups = timings.assign(ms=ms, speed=speed).groupby(
        [*RUN, "contestant", "engine", "exits", "int8"], sort=False, as_index=False
    )
    table = groups.agg(batches=("ms", "size"), n=("images", "sum"), same=("same", "sum"))
    table["same"] = table["same"] / table["n"]
    for name in ("ms", "speed"):
        for suffix, share in (("", 0.5), ("_low", 0.25), ("_high", 0.75)):
            table[f"{name}{suffix}"] = groups[name].quantile(share)[name].to_numpy()
    return table[list(LATENCY_COLUMNS)]


def conversion(timings: pd.DataFrame, seed: int) -> pd.DataFrame:
    """How much of the MACs that exits save became time, engine by engine, and what ate the rest.

    Of all batches of a run together: MACs saved and time saved are shares of full depth's in the same engine, `turned`
    is time saved over MACs saved, with intervals from resampling batches. Where the time with exits went, as shares of
    full depth's: `blocks` (stem and blocks; by their MACs it would be `blocks_macs`), `heads_and_gates`, and `rest`,
    mostly taking those that leave out of the batch. The three and `time_saved` add up to one.
    """
    rows = []
    for (*where, engine), own in timings[timings["engine"] != ""].groupby([*RUN, "engine"], sort=False):
        full, exits = (own[own["exits"] == flag].set_index("turn").sort_index() for flag in (False, True))
        rows.append(dict(zip(RUN, where, strict=True)) | {"engine": engine} | _converted(full, exits, seed))
    return pd.DataFrame(rows, columns=list(CONVERSION_COLUMNS))


def _converted(full: pd.DataFrame, exits: pd.DataFrame, seed: int) -> dict[str, float]:
    images, before = exits["images"].to_numpy(), float(full["seconds"].sum())
    times = np.column_stack([full["seconds"], exits["seconds"], images * (1.0 - exits["macs"]), images])
    total = times.sum(axis=0)
    drawn = np.random.default_rng(seed).integers(0, len(times), (_RESAMPLES, len(times)))
    resampled = times[drawn].sum(axis=1)
    after, tower, heads = (float(exits[name].sum()) for name in ("seconds", "tower_seconds", "exit_seconds"))
    executed = float((images * exits["tower_macs"]).sum() / images.sum())
    row = {
        "n": int(images.sum()), "ms_full": 1e3 * before / images.sum(), "ms_exits": 1e3 * after / images.sum(),
        "macs_saved": float(total[2] / total[3]), "time_saved": float(_time_saved(total)),
        "turned": float(_turned(total)),
        "blocks": tower / before, "blocks_macs": executed, "heads_and_gates": heads / before,
        "rest": (after - tower - heads) / before,
    }  # fmt: skip
    for name, values in (("time_saved", _time_saved(resampled)), ("turned", _turned(resampled))):
        row[f"{name}_low"], row[f"{name}_high"] = np.quantile(values, (0.025, 0.975))
    return row


def _time_saved(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1.0 - sums[..., 1] / sums[..., 0]


def _turned(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Time saved over MACs saved; NaN where no MACs were saved."""
    saved = sums[..., 2] / sums[..., 3]
    return _time_saved(sums) / np.where(saved > 0, saved, np.nan)
