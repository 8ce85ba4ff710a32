"""Which exit configurations a run evaluates: the headline, the frontier's grid, and ablations around the headline."""

from collections.abc import Sequence
from itertools import product
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, model_validator

from lraee.exits.policies import POLICIES
from lraee.exits.settings import Aggregation, HeadSettings, Supervision
from lraee.exits.thresholds import MAX_COMBINATIONS, RULES, ThresholdGrid
from lraee.settings import Settings, Share

GateFeature = Literal["confidence", "margin", "sav"]
GATE_FEATURES: tuple[GateFeature, ...] = get_args(GateFeature)


def _known_policy(name: str) -> str:
    if name not in POLICIES:
        raise ValueError(f"must be one of {', '.join(POLICIES)}")
    return name


def _known_rule(name: str) -> str:
    if name not in RULES:
        raise ValueError(f"must be one of {', '.join(RULES)}")
    return name


def _ascending(layers: tuple[int, ...]) -> tuple[int, ...]:
    if list(layers) != sorted(set(layers)):
        raise ValueError("must ascend without repetition")
    return layers


PolicyName = Annotated[str, AfterValidator(_known_policy)]
RuleName = Annotated[str, AfterValidator(_known_rule)]
GateFeatures = Annotated[tuple[GateFeature, ...], Field(min_length=1)]
Layers = Annotated[tuple[int, ...], Field(min_length=1), AfterValidator(_ascending)]


class Choice(Settings):
    """One exit configuration, but for the layers. `budget` is the least share of the compute that must be saved."""

    policy: PolicyName
    aggregation: Aggregation
    supervision: Supervision
    gate_features: GateFeatures = GATE_FEATURES
    threshold_rule: RuleName
    budget: Share


class Configuration(Choice):
    """A choice at fixed exit layers (1..depth, ascending)."""

    layers: Layers


class GridSettings(Settings):
    """The frontier: every combination of these, at the exit layers that the pruning rule leaves."""

    policies: Annotated[list[PolicyName], Field(min_length=1)]
    aggregations: Annotated[list[Aggregation], Field(min_length=1)]
    supervisions: Annotated[list[Supervision], Field(min_length=1)]
    threshold_rules: Annotated[list[RuleName], Field(min_length=1)]
    budgets: Annotated[list[Share], Field(min_length=1)]


class AblationSettings(Settings):
    """Each list replaces one part of the headline, everything else kept.

    In `layers`, "each" toggles every candidate in turn: taken out where the headline has it, put in where pruned.
    """

    policies: tuple[PolicyName, ...] = ()
    aggregations: tuple[Aggregation, ...] = ()
    supervisions: tuple[Supervision, ...] = ()
    gate_features: tuple[GateFeatures, ...] = ()
    threshold_rules: tuple[RuleName, ...] = ()
    layers: tuple[Literal["each"] | Layers, ...] = ()


class ExitSettings(Settings):
    """Everything about exits. `candidates` are layers 1..depth-1 = blocks executed."""

    candidates: Layers
    heads: HeadSettings
    thresholds: ThresholdGrid = ThresholdGrid()
    headline: Choice
    grid: GridSettings
    ablations: AblationSettings = AblationSettings()

    @model_validator(mode="after")
    def _check(self) -> "ExitSettings":
        combinations = len(self.thresholds.values) ** len(self.candidates)
        if combinations > MAX_COMBINATIONS:
            raise ValueError(
                f"candidates has {len(self.candidates)} layers, which with {self.thresholds.points} threshold points "
                f"makes {combinations:,} combinations; at most {MAX_COMBINATIONS:,} are allowed"
            )
        self._check_heads()
        for layers in self.ablations.layers:
            if layers != "each" and not set(layers) <= set(self.candidates):
                raise ValueError(
                    f"ablations.layers has {list(layers)}, but only candidates {list(self.candidates)} have heads"
                )
        return self

    def _check_heads(self) -> None:
        """Whatever is evaluated needs a head that is fitted."""
        aggregations = [self.headline.aggregation, *self.grid.aggregations, *self.ablations.aggregations]
        supervisions = [self.headline.supervision, *self.grid.supervisions, *self.ablations.supervisions]
        for key, used, fitted in (
            ("aggregations", aggregations, self.heads.aggregations),
            ("supervisions", supervisions, self.heads.supervisions),
        ):
            missing = [value for value in used if value not in fitted]
            if missing:
                raise ValueError(f"heads.{key} lacks {missing[0]!r}, which the headline, grid or ablations use")


def grid_configurations(grid: GridSettings, layers: Sequence[int]) -> list[Configuration]:
    """Every combination of the frontier's grid at `layers`."""
    combinations = product(grid.policies, grid.aggregations, grid.supervisions, grid.threshold_rules, grid.budgets)
    return [
        Configuration(
            policy=policy, aggregation=aggregation, supervision=supervision, threshold_rule=rule, budget=budget,
            layers=tuple(layers),
        )
        for policy, aggregation, supervision, rule, budget in combinations
    ]  # fmt: skip


def headline_configuration(headline: Choice, layers: Sequence[int]) -> Configuration:
    """The headline at `layers`."""
    return Configuration(**headline.model_dump(), layers=tuple(layers))


class Variation(Settings):
    """One row of an ablation: which axis, which setting, and the whole configuration."""

    axis: str
    setting: str
    configuration: Configuration


def _layers_text(layers: Sequence[int]) -> str:
    return ",".join(map(str, layers))


def ablation_variations(ablations: AblationSettings, base: Configuration, candidates: Sequence[int]) -> list[Variation]:
    """Every ablation row; each axis starts with the base itself."""
    swaps: list[tuple[str, str, list[object]]] = [
        ("policy", "policy", list(ablations.policies)),
        ("aggregation", "aggregation", list(ablations.aggregations)),
        ("supervision", "supervision", list(ablations.supervisions)),
        ("gate features", "gate_features", list(ablations.gate_features)),
        ("threshold rule", "threshold_rule", list(ablations.threshold_rules)),
        ("exit layers", "layers", list(_layer_sets(ablations, base, candidates))),
    ]
    rows = []
    for axis, field, values in swaps:
        current = getattr(base, field)
        for value in [current, *[v for v in values if v != current]] if values else []:
            changed = base.model_copy(update={field: value})
            rows.append(Variation(axis=axis, setting=_text(field, value), configuration=changed))
    return rows


def _text(field: str, value: object) -> str:
    if isinstance(value, tuple):
        return "+".join(map(str, value)) if field == "gate_features" else _layers_text(value)
    return str(value)


def _layer_sets(ablations: AblationSettings, base: Configuration, candidates: Sequence[int]) -> list[tuple[int, ...]]:
    sets: list[tuple[int, ...]] = []
    for entry in ablations.layers:
        if entry == "each":
            toggled = [tuple(sorted(set(base.layers) ^ {layer})) for layer in candidates]
            sets += [layers for layers in toggled if layers]
        else:
            sets.append(tuple(sorted(entry)))
    return list(dict.fromkeys(sets))
