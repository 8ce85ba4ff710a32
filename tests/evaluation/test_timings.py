"""What is read off timed batches, on cases worked by hand."""

import numpy as np
import pandas as pd
import pytest

from lraee.evaluation.timings import (
    CONVERSION_COLUMNS,
    EXITS,
    FULL_DEPTH,
    LATENCY_COLUMNS,
    MODES,
    NOBODY_LEAVES,
    REFERENCE,
    TIMING_COLUMNS,
    conversion,
    latency,
)

FULL, STAYING, LEAVING = (f"ours, torch, {mode}" for mode in MODES)


def _timings(seconds: dict[str, list[float]], macs: list[float], images: int = 4) -> pd.DataFrame:
    """`macs` are those with exits; asking all costs a tenth of full depth's."""
    modes = {STAYING: NOBODY_LEAVES, LEAVING: EXITS}
    rows = [
        {
            "quantizer": "w8a8", "threads": 1, "batch": images, "contestant": name, "int8": name != REFERENCE,
            "engine": "" if name == REFERENCE else "torch", "mode": modes.get(name, FULL_DEPTH), "turn": turn,
            "images": images, "seconds": own[turn],
            "macs": {STAYING: 1.1, LEAVING: macs[turn]}.get(name, 1.0), "same": images - (name != REFERENCE),
        }
        for name, own in seconds.items() for turn in range(len(own))
    ]  # fmt: skip
    return pd.DataFrame(rows)[list(TIMING_COLUMNS)]


@pytest.fixture
def timings() -> pd.DataFrame:
    return _timings(
        {
            REFERENCE: [0.4, 0.8, 0.4], FULL: [0.2, 0.2, 0.1], STAYING: [0.3, 0.2, 0.15], LEAVING: [0.1, 0.2, 0.1],
        }, macs=[0.5, 1.0, 0.75]
    )  # fmt: skip


def test_times_are_milliseconds_an_image_with_quartiles(timings: pd.DataFrame) -> None:
    table = latency(timings).set_index("contestant")
    assert list(table.reset_index().columns.sort_values()) == sorted(LATENCY_COLUMNS)
    assert table.loc[REFERENCE, ["ms_low", "ms", "ms_high"]].tolist() == pytest.approx([100, 100, 150])
    assert table.loc[FULL, ["ms_low", "ms", "ms_high"]].tolist() == pytest.approx([37.5, 50, 50])
    assert set(table.index) == {REFERENCE, FULL, LEAVING}
    assert table.loc[FULL, ["batches", "n", "same"]].tolist() == [3, 12, 0.75]


def test_speed_is_paired_by_batch(timings: pd.DataFrame) -> None:
    """Ratios are 2, 4, 4: their median is 4, though that of the times is 2."""
    table = latency(timings.sample(frac=1, random_state=1)).set_index("contestant")
    assert table.loc[FULL, ["speed_low", "speed", "speed_high"]].tolist() == pytest.approx([3, 4, 4])
    assert table.loc[REFERENCE, "speed"] == 1


def test_saved_compute_is_turned_into_time(timings: pd.DataFrame) -> None:
    row = conversion(timings, seed=0).iloc[0]
    assert row["macs_saved"] == pytest.approx(0.25)
    assert row["time_saved"] == pytest.approx(1 - 0.4 / 0.5)
    assert row["turned"] == pytest.approx(0.2 / 0.25)
    assert row[["ms_full", "ms_exits"]].tolist() == pytest.approx([500 / 12, 400 / 12])
    assert row[["visits_macs", "visits_time"]].tolist() == pytest.approx([0.1, 0.15 / 0.5])
    assert row[["leaving_macs", "leaving_time"]].tolist() == pytest.approx([0.35, 0.25 / 0.5])
    assert row["time_saved_low"] < row["time_saved"] < row["time_saved_high"]


def test_larger_batches_count_for_more() -> None:
    timings = _timings({FULL: [1.0, 1.0], STAYING: [1.0, 1.0], LEAVING: [0.5, 1.0]}, macs=[0.5, 1.0])
    timings.loc[timings["turn"] == 1, "images"] = 12
    assert conversion(timings, seed=0)["macs_saved"].tolist() == pytest.approx([0.125])


def test_no_saved_compute_is_turned_into_nothing() -> None:
    timings = _timings({FULL: [1.0, 1.0], STAYING: [1.2, 1.2], LEAVING: [1.1, 1.1]}, macs=[1.0, 1.0])
    row = conversion(timings, seed=0).iloc[0]
    assert np.isnan(row["turned"])
    assert row["time_saved"] == pytest.approx(-0.1)


def test_nothing_timed_is_two_empty_tables() -> None:
    empty = pd.DataFrame(columns=list(TIMING_COLUMNS))
    assert latency(empty).columns.tolist() == list(LATENCY_COLUMNS)
    assert conversion(empty, seed=0).columns.tolist() == list(CONVERSION_COLUMNS)
