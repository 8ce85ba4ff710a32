from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from lraee.evaluation.choices import Configuration, grid_configurations
from lraee.evaluation.fit import Arm, Fitted, fit_configurations, static_exits
from lraee.exits.policies import POLICIES
from lraee.exits.routing import outcome, route
from lraee.exits.score_table import ScoreTable
from lraee.io import read_json, write_json
from lraee.metrics.compute import exit_costs

CLASSES = 5
LAYERS = (8, 10, 11)


@pytest.fixture(scope="module")
def arm(tables):
    return Arm(tables["gate"], tables["select"], tables["fp32_gate"], tables["fp32_select"])


@pytest.fixture(scope="module")
def fitted(arm, exits, shape):
    return fit_configurations(arm, grid_configurations(exits.grid, LAYERS), exits.thresholds, shape, CLASSES)


def configuration(**changes):
    chosen = {
        "policy": "learned-gate", "aggregation": "ssa", "supervision": "distilled", "budget": 0.0,
        "threshold_rule": "layer-adaptive", "layers": LAYERS,
    }  # fmt: skip
    return Configuration(**(chosen | changes))


def test_the_operating_point_on_select_equals_routing_select_again(fitted, tables, shape):
    assert len(fitted) > 40
    for one in fitted:
        c = one.configuration
        scores = tables["select"].at(c.aggregation, c.supervision, c.layers)
        policy = POLICIES[c.policy]
        result = outcome(scores, route(policy.readiness(scores, one.gates), one.thresholds))
        saved = exit_costs(shape, CLASSES, c.layers, policy.gated).saved(result.shares)
        assert one.select_top1 == pytest.approx(result.correct.mean(), abs=1e-12)
        assert one.select_saved == pytest.approx(saved, abs=1e-9)


def test_every_budget_is_kept_on_select(fitted):
    for one in fitted:
        assert one.select_saved >= one.configuration.budget - 1e-9


def test_only_budgets_that_cannot_be_met_are_left_out(arm, exits, shape):
    # The most that can be saved is everybody leaving at the first exit, whose head and the stem are paid for.
    most = 1 - exit_costs(shape, CLASSES, LAYERS, True).leaving[0] / exit_costs(shape, CLASSES, LAYERS, True).full
    wanted = [configuration(budget=budget) for budget in (0.0, most - 1e-6, most + 1e-6)]
    budgets = [one.configuration.budget for one in fit_configurations(arm, wanted, exits.thresholds, shape, CLASSES)]
    assert budgets == pytest.approx([0.0, most - 1e-6])


def test_at_the_largest_budget_everybody_leaves_at_the_first_exit(arm, exits, shape):
    most = 1 - exit_costs(shape, CLASSES, LAYERS, True).leaving[0] / exit_costs(shape, CLASSES, LAYERS, True).full
    (one,) = fit_configurations(arm, [configuration(budget=most - 1e-9)], exits.thresholds, shape, CLASSES)
    scores = arm.select.at("ssa", "distilled", LAYERS)
    assert (route(POLICIES["learned-gate"].readiness(scores, one.gates), one.thresholds) == 0).all()


def test_a_larger_budget_never_gives_more_accuracy_on_select(fitted):
    groups = {}
    for one in fitted:
        c = one.configuration
        groups.setdefault(c.model_copy(update={"budget": 0.0}), []).append((c.budget, one.select_top1))
    chosen_by_labels = {c: points for c, points in groups.items() if c.supervision != "label-free"}
    assert chosen_by_labels
    for points in chosen_by_labels.values():
        accuracies = [top1 for _, top1 in sorted(points)]
        assert accuracies == sorted(accuracies, reverse=True)


def test_gates_are_fitted_to_being_right_on_the_gate_split(arm, exits, shape, frames):
    (one,) = fit_configurations(arm, [configuration(gate_features=("confidence",))], exits.thresholds, shape, CLASSES)
    frame = frames["gate"]
    block = frame[(frame.layer == 10) & (frame.aggregation == "ssa") & (frame.supervision == "distilled")]
    signal = StandardScaler().fit_transform(block[["confidence"]].to_numpy(np.float64))
    model = LogisticRegression().fit(signal, block["prediction"] == block["label"])
    assert one.gates[1]["weights"] == pytest.approx(model.coef_[0], abs=1e-6)
    assert one.gates[1]["bias"] == pytest.approx(model.intercept_[0], abs=1e-6)


def test_without_labels_a_gate_is_fitted_to_agreeing_with_fp32(arm, exits, shape, frames):
    label_free = configuration(supervision="label-free", gate_features=("confidence",))
    (one,) = fit_configurations(arm, [label_free], exits.thresholds, shape, CLASSES)
    frame, fp32 = frames["gate"], frames["fp32_gate"]
    block = frame[(frame.layer == 8) & (frame.aggregation == "ssa") & (frame.supervision == "label-free")]
    agreed = block["prediction"].to_numpy() == fp32[fp32.aggregation == "final"]["prediction"].to_numpy()
    signal = StandardScaler().fit_transform(block[["confidence"]].to_numpy(np.float64))
    model = LogisticRegression().fit(signal, agreed)
    assert one.gates[0]["weights"] == pytest.approx(model.coef_[0], abs=1e-6)


@pytest.fixture(scope="module")
def mislabelled(frames):
    """The same scores with labels that belong to other images."""

    def permuted(frame):
        truth = frame.drop_duplicates("sample").set_index("sample")["label"]
        return frame.assign(label=frame["sample"].map(dict(zip(truth.index, np.roll(truth, 7), strict=True))))

    tables = {name: ScoreTable(permuted(frame)) for name, frame in frames.items()}
    return Arm(tables["gate"], tables["select"], tables["fp32_gate"], tables["fp32_select"])


def fit_all(arm, exits, shape, supervision):
    wanted = [
        configuration(supervision=supervision, budget=budget, threshold_rule=rule, policy=policy)
        for budget in (0.0, 0.1) for rule in ("layer-adaptive", "global") for policy in ("learned-gate", "margin")
    ]  # fmt: skip
    return fit_configurations(arm, wanted, exits.thresholds, shape, CLASSES)


def test_label_free_gates_and_thresholds_do_not_depend_on_labels(arm, mislabelled, exits, shape):
    with_labels, without = fit_all(arm, exits, shape, "label-free"), fit_all(mislabelled, exits, shape, "label-free")
    assert len(with_labels) == len(without) == 8
    for one, other in zip(with_labels, without, strict=True):
        assert one.gates == other.gates
        assert one.thresholds == other.thresholds
        assert one.select_saved == other.select_saved
        assert one.select_top1 > other.select_top1


def test_supervised_gates_do_depend_on_labels(arm, mislabelled, exits, shape):
    one, other = (fit_all(given, exits, shape, "distilled")[0] for given in (arm, mislabelled))
    assert one.gates != other.gates


def test_what_is_fitted_survives_its_file_with_infinite_thresholds(fitted, tmp_path):
    nobody_then_all = fitted[0].model_copy(update={"thresholds": [np.inf, 1 / 3, -np.inf]})
    for one in [*fitted, nobody_then_all]:
        write_json(tmp_path / "fitted.json", one.model_dump(mode="json"))
        assert Fitted.model_validate(read_json(tmp_path / "fitted.json")) == one


def test_static_exits_are_each_heads_own_accuracy_on_select(arm, frames):
    statics = static_exits(arm, [8, 12], [("ssa", "hard"), ("cls", "distilled")])
    assert [(s.layer, s.aggregation, s.supervision) for s in statics] == [
        (8, "ssa", "hard"), (12, "ssa", "hard"), (8, "cls", "distilled"), (12, "cls", "distilled"),
    ]  # fmt: skip
    frame = frames["select"]
    for s in statics:
        block = frame[
            (frame.layer == s.layer) & (frame.aggregation == s.aggregation) & (frame.supervision == s.supervision)
        ]
        assert s.select_top1 == pytest.approx((block["prediction"] == block["label"]).mean())


def test_a_projection_costs_nothing_where_the_model_has_none(shape):
    plain = replace(shape, projected=False)
    with_head = exit_costs(shape, CLASSES, LAYERS, False)
    without = exit_costs(plain, CLASSES, LAYERS, False)
    assert with_head.full - without.full == shape.width * shape.embedding
    assert with_head.leaving[:-1].tolist() == without.leaving[:-1].tolist()
