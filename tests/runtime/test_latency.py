"""Who takes part in the latency benchmark, that they take turns, and that each computes what it says."""

from typing import Any, get_args

import numpy as np
import pytest
import torch

from lraee.evaluation.fit import costs_of
from lraee.evaluation.timings import FULL_DEPTH, MODES, REFERENCE, TIMING_COLUMNS
from lraee.metrics.settings import PeerName
from lraee.runtime import EarlyExitCLIP
from lraee.runtime import peers as peer_registry
from lraee.runtime.engines import installed
from lraee.runtime.latency import Contestant, Run, ours, prepared, race, theirs
from lraee.runtime.network import describe, rebuild
from lraee.runtime.peers import PEERS, available


@pytest.mark.parametrize("name", list(PEERS))
def test_a_peer_embeds_as_the_tower_does(tower: Any, name: str) -> None:
    if name not in available([name]):
        pytest.skip(f"{name} is not installed")
    pixels = torch.randn(24, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    tower = rebuild(*describe(tower))
    embed = PEERS[name](tower, pixels).start()
    with torch.inference_mode():
        for batch in (1, 24):
            found, expected = embed(pixels[:batch]), tower(pixels[:batch])
            # On CPUs without VNNI the peers' byte products saturate.
            floor = 0.8 if PEERS[name].int8 else 1 - 1e-5
            assert torch.nn.functional.cosine_similarity(found, expected).mean() > floor


def test_the_reference_comes_first(tower: Any, exported: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_registry, "find_spec", lambda package: package if package == "torch" else None)
    found = theirs(prepared(tower, exported.pixels, list(PEERS)), exported.source.classes)
    assert [contestant.label for contestant in found] == [REFERENCE, "torch, dynamic INT8"]


def test_only_the_named_peers_take_part(tower: Any, exported: Any) -> None:
    found = prepared(tower, exported.pixels, ["torch-dynamic-int8"])
    assert [peer.label for peer in found] == [REFERENCE, "torch, dynamic INT8"]


def test_the_settings_list_every_peer() -> None:
    assert sorted(get_args(PeerName)) == list(PEERS)


def test_ours_are_every_engine_in_every_mode(exported: Any) -> None:
    costs = costs_of(exported.source.headline.configuration, exported.tower.shape, 5)
    found = {(c.engine, c.mode): c for c in ours(exported.folder, costs)}
    assert set(found) == {(engine, mode) for engine in installed() for mode in MODES}
    model = EarlyExitCLIP.load(exported.folder, "torch")
    with torch.inference_mode():
        routed = model.route(exported.pixels)
        full, staying, leaving = (found["torch", mode].run(exported.pixels) for mode in MODES)
        expected = model.classes.logits(exported.tower(exported.pixels)).argmax(-1)
    assert np.array_equal(leaving.answers, routed.answer)
    assert np.array_equal(full.answers, expected)
    assert np.array_equal(staying.answers, expected)
    assert full.macs == 1
    assert staying.macs == pytest.approx(costs.leaving[-1] / costs.full)
    assert leaving.macs == pytest.approx(np.mean(costs.leaving[routed.place]) / costs.full)


def test_contestants_take_turns() -> None:
    calls: list[tuple[str, int]] = []

    def contestant(name: str, answer: int) -> Contestant:
        def run(pixels: torch.Tensor) -> Run:
            calls.append((name, len(pixels)))
            return Run(np.full(len(pixels), answer))

        return Contestant(name, "", FULL_DEPTH, int8=False, run=run)

    table = race([contestant("a", 0), contestant("b", 0), contestant("c", 1)], torch.zeros(5, 3, 2, 2), (1, 4), 2)
    assert set(table.columns) == {*TIMING_COLUMNS} - {"quantizer", "threads"}
    assert table.groupby(["batch", "contestant"])["images"].sum().tolist() == [10] * 6
    assert table.groupby("contestant")["same"].sum().tolist() == [20, 20, 0]
    # Of batches of four, two are warmed up and two timed twice; each time another contestant is the first.
    timed = [name for name, _ in calls[-12:]]
    assert ["".join(timed[i : i + 3]) for i in range(0, 12, 3)] == ["abc", "bca", "cab", "abc"]
