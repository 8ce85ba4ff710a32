"""Who takes part in the latency benchmark, that they take turns, and that each computes what it says."""

import time
from typing import Any

import numpy as np
import pytest
import torch

from lraee.evaluation.fit import costs_of
from lraee.evaluation.timings import REFERENCE, TIMING_COLUMNS
from lraee.runtime import EarlyExitCLIP
from lraee.runtime import peers as peer_registry
from lraee.runtime.engines import installed
from lraee.runtime.latency import Contestant, Run, Timed, ours, peers, race
from lraee.runtime.network import describe, rebuild
from lraee.runtime.peers import PEERS, available


@pytest.mark.parametrize("name", list(PEERS))
def test_a_peer_embeds_as_the_tower_does(tower: Any, name: str) -> None:
    if name not in available():
        pytest.skip(f"{name} is not installed")
    pixels = torch.randn(24, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    tower = rebuild(*describe(tower))
    embed = PEERS[name]().prepare(tower, pixels)
    with torch.inference_mode():
        for batch in (1, 24):
            found, expected = embed(pixels[:batch]), tower(pixels[:batch])
            # On CPUs without VNNI the peers' byte products saturate.
            floor = 0.8 if PEERS[name].int8 else 1 - 1e-5
            assert torch.nn.functional.cosine_similarity(found, expected).mean() > floor


def test_the_reference_comes_first(tower: Any, exported: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_registry, "find_spec", lambda package: package if package == "torch" else None)
    found = peers(tower, exported.source.classes, exported.pixels)
    assert [contestant.label for contestant in found] == [REFERENCE, "torch, dynamic INT8"]


def test_ours_are_every_engine_at_full_depth_and_with_exits(exported: Any) -> None:
    costs = costs_of(exported.source.headline.configuration, exported.tower.shape, 5)
    found = {(c.engine, c.exits): c for c in ours(exported.folder, costs)}
    assert set(found) == {(engine, exits) for engine in installed() for exits in (True, False)}
    model = EarlyExitCLIP.load(exported.folder, "torch")
    with torch.inference_mode():
        routed, run = model.route(exported.pixels), found["torch", True].run(exported.pixels)
        full = found["torch", False].run(exported.pixels)
        expected = model.classes.logits(exported.tower(exported.pixels)).argmax(-1)
    assert np.array_equal(run.answers, routed.answer)
    assert np.array_equal(full.answers, expected)
    assert run.macs == pytest.approx(np.mean(costs.leaving[routed.place]) / costs.full)
    assert run.tower > 0
    assert run.exits > 0
    assert np.isnan(full.tower)


def test_saved_blocks_are_counted(exported: Any) -> None:
    """A quarter of the blocks is saved by leaving at layer 3 of 4, whatever the exits cost."""
    costs = costs_of(exported.source.headline.configuration, exported.tower.shape, 5)
    run = next(c for c in ours(exported.folder, costs) if c.exits)
    model = EarlyExitCLIP.load(exported.folder, run.engine)
    at_three = exported.pixels[np.flatnonzero(model.route(exported.pixels).place == 2)]
    with torch.inference_mode():
        assert run.run(at_three).tower_macs == pytest.approx(1 - costs.full_blocks / 4 / costs.full)


def test_contestants_take_turns() -> None:
    calls: list[tuple[str, int]] = []

    def contestant(name: str, answer: int) -> Contestant:
        def run(pixels: torch.Tensor) -> Run:
            calls.append((name, len(pixels)))
            return Run(np.full(len(pixels), answer))

        return Contestant(name, "", exits=False, int8=False, run=run)

    table = race([contestant("a", 0), contestant("b", 0), contestant("c", 1)], torch.zeros(5, 3, 2, 2), (1, 4), 2)
    assert set(table.columns) == {*TIMING_COLUMNS} - {"quantizer", "threads"}
    assert table.groupby(["batch", "contestant"])["images"].sum().tolist() == [10] * 6
    assert table.groupby("contestant")["same"].sum().tolist() == [20, 20, 0]
    # Of batches of four, two are warmed up and two timed twice; each time another contestant is the first.
    timed = [name for name, _ in calls[-12:]]
    assert ["".join(timed[i : i + 3]) for i in range(0, 12, 3)] == ["abc", "bca", "cab", "abc"]


def test_seconds_are_counted_even_of_what_fails() -> None:
    class Slow:
        layers = (1, 2)

        def run(self, seconds: float) -> float:
            time.sleep(seconds)
            if seconds > 0.01:
                raise ValueError("too slow")
            return seconds

    timed = Timed(Slow(), "run")
    assert timed.run(0.01) == 0.01
    with pytest.raises(ValueError, match="too slow"):
        timed.run(0.02)
    assert timed.seconds >= 0.03
    assert timed.layers == (1, 2)
