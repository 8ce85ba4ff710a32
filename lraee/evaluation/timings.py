"""What the latency benchmark measured: time an image, ratios within a run, and how saved compute became saved time."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

RUN = ["quantizer", "threads", "batch"]
"""What is timed together: contestants took turns on the same images."""

REFERENCE = "torch, FP32"
"""The contestant that all others are compared with."""

FULL_DEPTH, NOBODY_LEAVES, EXITS = MODES = ("full depth", "nobody leaves", "exits")
"""In one piece; past all exits, which are asked but not taken; and leaving where they say."""

TIMING_COLUMNS = (
    *RUN, "contestant", "engine", "mode", "int8", "turn", "images", "seconds", "macs", "same",
)  # fmt: skip
LATENCY_COLUMNS = (
    *RUN, "contestant", "engine", "mode", "int8", "batches", "ms", "ms_low", "ms_high", "speed", "speed_low",
    "speed_high", "n", "same",
)  # fmt: skip
CONVERSION_COLUMNS = (
    *RUN, "engine", "n", "ms_full", "ms_exits", "macs_saved", "time_saved", "time_saved_low", "time_saved_high",
    "turned", "turned_low", "turned_high", "visits_macs", "visits_time", "leaving_macs", "leaving_time",
)  # fmt: skip

_RESAMPLES = 2000


def latency(timings: pd.DataFrame) -> pd.DataFrame:
    """Milliseconds an image and speed against torch in FP32, medians with quartiles, of who takes part in every run.

    `speed` is torch's time over the contestant's, on the same batch. `same` is the share of the n images that
    it answers as torch does in FP32.
    """
    timings = timings[timings["mode"] != NOBODY_LEAVES]
    if timings.empty:
        return pd.DataFrame(columns=list(LATENCY_COLUMNS))
    ms = 1e3 * timings["seconds"] / timings["images"]
    base = timings.assign(ms=ms).query("contestant == @REFERENCE").set_index([*RUN, "turn"])["ms"]
    speed = base.reindex(pd.MultiIndex.from_frame(timings[[*RUN, "turn"]])).to_numpy() / ms
    groups = timings.assign(ms=ms, speed=speed).groupby(
        [*RUN, "contestant", "engine", "mode", "int8"], sort=False, as_index=False
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
    is time saved over MACs saved, with intervals from resampling batches. What is saved is what leaving saves less what
    the visits to all exits cost if nobody left (cuts between segments, heads and gates): `leaving_*` less `visits_*`,
    each in MACs and in time.
    """
    rows = []
    for (*where, engine), own in timings[timings["engine"] != ""].groupby([*RUN, "engine"], sort=False):
        full, staying, exits = (own[own["mode"] == mode].set_index("turn").sort_index() for mode in MODES)
        rows.append(dict(zip(RUN, where, strict=True)) | {"engine": engine} | _converted(full, staying, exits, seed))
    return pd.DataFrame(rows, columns=list(CONVERSION_COLUMNS))


def _converted(full: pd.DataFrame, staying: pd.DataFrame, exits: pd.DataFrame, seed: int) -> dict[str, float]:
    images, before = exits["images"].to_numpy(), float(full["seconds"].sum())
    times = np.column_stack([full["seconds"], exits["seconds"], images * (1.0 - exits["macs"]), images])
    total = times.sum(axis=0)
    drawn = np.random.default_rng(seed).integers(0, len(times), (_RESAMPLES, len(times)))
    resampled = times[drawn].sum(axis=1)
    stayed = float((images * staying["macs"]).sum() / images.sum()), float(staying["seconds"].sum()) / before
    macs_saved, time_saved = float(total[2] / total[3]), float(_time_saved(total))
    row = {
        "n": int(images.sum()), "ms_full": 1e3 * before / images.sum(), "ms_exits": 1e3 * total[1] / images.sum(),
        "macs_saved": macs_saved, "time_saved": time_saved, "turned": float(_turned(total)),
        "visits_macs": stayed[0] - 1.0, "visits_time": stayed[1] - 1.0,
        "leaving_macs": stayed[0] - 1.0 + macs_saved, "leaving_time": stayed[1] - 1.0 + time_saved,
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
