from itertools import product

import pytest

from lraee.evaluation.choices import (
    AblationSettings,
    GridSettings,
    ablation_variations,
    grid_configurations,
    headline_configuration,
)

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
    made = grid_configurations(grid, PRUNED)
    assert {(c.policy, c.aggregation, c.budget) for c in made} == set(
        product(["margin", "learned-gate"], ["ssa", "cls"], [0.0, 0.1, 0.2])
    )
    assert len(made) == 12
    assert {c.layers for c in made} == {(8, 10, 11)}


def test_the_headline_is_the_settings_at_the_layers_left(exits):
    base = base_of(exits)
    assert base.layers == (8, 10, 11)
    assert base.model_dump(exclude={"layers"}) == exits.headline.model_dump()


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
