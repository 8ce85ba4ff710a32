from itertools import product

import numpy as np
import pytest

from lraee.evaluation.choices import (
    AblationSettings,
    Conditions,
    GridSettings,
    RiskSettings,
    SensitivitySettings,
    ablation_variations,
    grid_configurations,
    headline_configuration,
    refit_configurations,
    risk_configurations,
    seed_configurations,
    sensitivity_variations,
    toggled_layers,
)
from lraee.exits.score_table import FINAL
from lraee.exits.variants import BASE

CANDIDATES = (8, 9, 10, 11)
PRUNED = [8, 10, 11]


def base_of(exits, layers=PRUNED):
    return headline_configuration(exits.headline, layers)


def by_axis(ablations, base, candidates=CANDIDATES):
    rows = {}
    for variation in ablation_variations(ablations, base, candidates):
        rows.setdefault(variation.axis, []).append(variation)
    return rows


def test_the_grid_is_every_combination_at_the_layers_left():
    grid = GridSettings(
        policies=["margin", "learned-gate"], aggregations=["ssa", "cls"], supervisions=["hard"],
        threshold_rules=["global"], budgets=[0.0, 0.1, 0.2],
    )  # fmt: skip
    made = grid_configurations([grid], PRUNED)
    assert {(c.policy, c.aggregation, c.budget) for c in made} == set(
        product(["margin", "learned-gate"], ["ssa", "cls"], [0.0, 0.1, 0.2])
    )
    assert len(made) == 12
    assert {c.layers for c in made} == {(8, 10, 11)}


def test_what_two_grids_share_is_evaluated_once(exits):
    one = GridSettings(
        policies=["margin", "entropy"], aggregations=["ssa"], supervisions=["hard"], threshold_rules=["global"],
        budgets=[0.0, 0.1],
    )  # fmt: skip
    two = one.model_copy(update={"policies": ["entropy", "patience"], "budgets": [0.1, 0.2]})
    made = [(c.policy, c.budget) for c in grid_configurations([one, two], PRUNED)]
    expected = {*product(["margin", "entropy"], [0.0, 0.1]), *product(["entropy", "patience"], [0.1, 0.2])}
    assert len(made) == len(set(made)) == 7
    assert set(made) == expected


def test_the_headline_is_the_settings_at_the_layers_left(exits):
    base = base_of(exits)
    assert base.layers == (8, 10, 11)
    own = {"layers", "risk", "inr_exponent", "final", "variant"}
    assert base.model_dump(exclude=own) == exits.headline.model_dump()
    assert (base.risk, base.inr_exponent, base.final, base.variant) == (None, 0.0, FINAL, BASE)


def test_the_headline_is_the_grids_own_configuration_where_the_grid_has_it(exits):
    assert base_of(exits) in grid_configurations(exits.grids, PRUNED)


def changes(one, base):
    """The fields in which a configuration differs."""
    return {name for name, value in one.model_dump().items() if value != getattr(base, name)}


def test_risk_is_controlled_on_the_headlines_heads_at_every_level_and_without_a_budget(exits):
    risk = RiskSettings(
        rules=("risk-disagreement", "risk-accuracy-gap"), policies=("margin", "learned-gate"), levels=(0.01, 0.1)
    )
    base = base_of(exits)
    made = risk_configurations(risk, base)
    assert len(made) == 8
    assert {(c.policy, c.threshold_rule, c.risk) for c in made} == set(product(risk.policies, risk.rules, risk.levels))
    assert {c.budget for c in made} == {0.0}
    assert all(changes(c, base) <= {"policy", "threshold_rule", "risk", "budget"} for c in made)
    assert risk_configurations(RiskSettings(), base) == []


def test_on_a_refitted_head_all_policies_run_with_the_heads_supervision(exits):
    base = base_of(exits)
    made = refit_configurations(exits, base, ("cls", "label-free"))
    policies = ["learned-gate", "confidence", "entropy", "learned-scalar", "class-thresholds", "patience"]
    expected = set(product(policies, ["ssa", "cls"], exits.budgets()))
    assert {(c.policy, c.aggregation, c.budget) for c in made} == expected
    assert len(made) == len(set(made)) == 6 * 2 * 3
    assert {(c.final, c.supervision, c.layers) for c in made} == {(("cls", "label-free"), "label-free", (8, 10, 11))}
    assert {c.threshold_rule for c in made} == {base.threshold_rule}


def test_every_seed_is_the_headline_on_heads_of_its_own(exits):
    base = base_of(exits)
    made = seed_configurations(base, 3)
    assert made[0] == base
    assert [c.variant for c in made] == [BASE, "seed-1", "seed-2"]
    assert all(changes(c, base) == {"variant"} for c in made[1:])


def test_policies_and_budgets_of_a_run_are_those_of_all_its_parts(exits):
    assert exits.budgets() == [0.0, 0.05, 0.3]
    assert exits.policies() == [
        "learned-gate", "confidence", "entropy", "learned-scalar", "class-thresholds", "patience", "margin",
    ]  # fmt: skip
    assert [v.name for v in exits.variants(100)] == [BASE, "seed-1", "seed-2", "images-50", "temperature-0.5"]


def test_toggling_takes_each_candidate_out_or_in(exits):
    assert toggled_layers(base_of(exits), CANDIDATES) == [(10, 11), (8, 9, 10, 11), (8, 11), (8, 10)]
    assert toggled_layers(base_of(exits, [10]), (10, 11)) == [(10, 11)]


def test_each_axis_starts_with_the_base_and_changes_one_thing(exits):
    base = base_of(exits)
    rows = by_axis(exits.ablations, base)
    assert list(rows) == ["policy", "aggregation", "supervision", "gate features", "threshold rule", "exit layers"]
    for variations in rows.values():
        assert variations[0].configuration == base
        for variation in variations[1:]:
            changed = [
                name for name, value in variation.configuration.model_dump().items() if value != getattr(base, name)
            ]
            assert len(changed) == 1


def test_the_rows_say_what_was_changed(exits):
    rows = by_axis(exits.ablations, base_of(exits))
    assert [v.setting for v in rows["policy"]] == ["learned-gate", "confidence", "margin"]
    assert [v.setting for v in rows["gate features"]] == ["confidence+margin+sav", "confidence", "margin+sav"]
    assert [v.setting for v in rows["threshold rule"]] == ["layer-adaptive", "global"]


def test_each_toggles_every_candidate_out_or_in(exits):
    rows = by_axis(AblationSettings(layers=("each",)), base_of(exits))
    assert list(rows) == ["exit layers"]
    assert [v.configuration.layers for v in rows["exit layers"]] == [
        (8, 10, 11), (10, 11), (8, 9, 10, 11), (8, 11), (8, 10),
    ]  # fmt: skip
    assert [v.setting for v in rows["exit layers"]] == ["8,10,11", "10,11", "8,9,10,11", "8,11", "8,10"]


def test_each_never_leaves_a_network_without_exits(exits):
    rows = by_axis(AblationSettings(layers=("each",)), base_of(exits, [10]), candidates=(10, 11))
    assert [v.configuration.layers for v in rows["exit layers"]] == [(10,), (10, 11)]


def test_listed_layers_are_taken_once(exits):
    ablations = AblationSettings(layers=((8, 11), "each", (8, 11), (8, 10, 11)))
    made = [v.configuration.layers for v in by_axis(ablations, base_of(exits))["exit layers"]]
    assert made[:2] == [(8, 10, 11), (8, 11)]
    assert len(made) == len(set(made))


def test_the_base_is_no_variation_of_itself(exits):
    rows = by_axis(AblationSettings(policies=("learned-gate", "margin")), base_of(exits))
    assert [v.setting for v in rows["policy"]] == ["learned-gate", "margin"]


@pytest.mark.parametrize("axis", ["policies", "aggregations", "gate_features", "layers"])
def test_an_axis_without_values_has_no_rows(exits, axis):
    ablations = exits.ablations.model_copy(update={axis: ()})
    assert len(by_axis(ablations, base_of(exits))) == 5


CONDITIONS = Conditions(
    layers_by_kappa={0.0: CANDIDATES, 0.25: (8, 9, 11), 0.5: (8, 10, 11), 1.0: (8,)}, kappa=0.5, fit_images=200
)


def curves(base, **lists):
    rows = {}
    for variation in sensitivity_variations(SensitivitySettings(**lists), base, CONDITIONS):
        rows.setdefault(variation.axis, []).append(variation)
    return rows


def test_curves_start_with_the_base_and_then_ascend_without_repeating_it(exits):
    base = base_of(exits)
    rows = curves(
        base, inr_exponents=(1.0, 0.0, -0.5, 1.0), kappas=(1.0, 0.25, 0.5, 0.0), temperatures=(4.0, 1.0, 0.25),
        fit_images=(200, 150, 50, 500),
    )  # fmt: skip
    found = {axis: [v.x for v in variations] for axis, variations in rows.items()}
    assert found == {
        "INR scaling of thresholds": [0.0, -0.5, 1.0],
        "kappa of the pruning rule": [0.5, 0.0, 0.25, 1.0],
        "temperature": [1.0, 0.25, 4.0],
        "fit images": [200.0, 50.0, 150.0],
    }
    for variations in rows.values():
        assert [v.is_base for v in variations] == [True] + [False] * (len(variations) - 1)
        assert [v.setting for v in variations] == [f"{v.x:g}" for v in variations]


def test_each_curve_changes_its_own_number_alone(exits):
    base = base_of(exits)
    rows = curves(base, inr_exponents=(1.0,), kappas=(0.25,), temperatures=(4.0,), fit_images=(50,))
    uniform = base.model_copy(update={"threshold_rule": "global"})
    assert [v.configuration for v in rows["INR scaling of thresholds"]] == [
        uniform, uniform.model_copy(update={"inr_exponent": 1.0}),
    ]  # fmt: skip
    for axis, field, value in (
        ("kappa of the pruning rule", "layers", (8, 9, 11)), ("temperature", "variant", "temperature-4"),
        ("fit images", "variant", "images-50"),
    ):  # fmt: skip
        assert [v.configuration for v in rows[axis]] == [base, base.model_copy(update={field: value})]


def test_sav_is_replaced_where_the_gate_reads_it(exits):
    base = headline_configuration(exits.headline.model_copy(update={"gate_features": ("sav", "margin")}), PRUNED)
    (rows,) = curves(base, sav=("relative-sav", "sav", "log-sav")).values()
    assert [(v.setting, v.configuration.gate_features, v.is_base) for v in rows] == [
        ("sav", ("sav", "margin"), True), ("relative-sav", ("relative-sav", "margin"), False),
        ("log-sav", ("log-sav", "margin"), False),
    ]  # fmt: skip
    assert {v.axis for v in rows} == {"SAV normalisation"}
    assert all(v.x is None for v in rows)


def test_a_gate_without_sav_has_no_normalisation_to_change(exits):
    base = headline_configuration(exits.headline.model_copy(update={"gate_features": ("margin",)}), PRUNED)
    assert curves(base, sav=("sav", "log-sav")) == {}


def test_without_values_there_is_no_curve(exits):
    assert curves(base_of(exits)) == {}
    # As many images as there are, or more, are the base's own.
    assert curves(base_of(exits), fit_images=(200, 500)) == {}


def test_every_variant_that_is_evaluated_is_one_that_the_run_makes(exits):
    base = base_of(exits)
    conditions = CONDITIONS.model_copy(update={"fit_images": 100})
    varied = sensitivity_variations(exits.sensitivity, base, conditions)
    used = {v.configuration.variant for v in varied} | {c.variant for c in seed_configurations(base, exits.seeds)}
    assert used == {v.name for v in exits.variants(100)}


def test_a_level_of_risk_is_a_share():
    for level in (-0.01, 1.0, np.nan):
        with pytest.raises(ValueError, match="levels"):
            RiskSettings(levels=(level,))
