"""Which exit configurations a run evaluates: the headline, the frontier's grids, and variations of the headline."""

from collections.abc import Sequence
from itertools import product
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, model_validator

from lraee.exits.policies import POLICIES
from lraee.exits.rules import RULES
from lraee.exits.score_table import FINAL
from lraee.exits.settings import Aggregation, HeadSettings, Supervision
from lraee.exits.thresholds import MAX_COMBINATIONS, ThresholdGrid
from lraee.exits.variants import (
    BASE,
    Variant,
    images_variant,
    seed_variant,
    temperature_variant,
    variants,
)
from lraee.settings import PositiveInt, Settings, Share

SavFeature = Literal["sav", "log-sav", "relative-sav"]
GateFeature = Literal["confidence", "margin"] | SavFeature
GATE_FEATURES: tuple[GateFeature, ...] = ("confidence", "margin", "sav")


def _known_policy(name: str) -> str:
    if name not in POLICIES:
        raise ValueError(f"must be one of {', '.join(POLICIES)}")
    return name


def _spends_budget(name: str) -> str:
    known = [rule for rule in RULES if not RULES[rule].controls_risk]
    if name not in known:
        raise ValueError(f"must be one of {', '.join(known)}")
    return name


def _keeps_risk(name: str) -> str:
    known = [rule for rule in RULES if RULES[rule].controls_risk]
    if name not in known:
        raise ValueError(f"must be one of {', '.join(known)}")
    return name


def _ascending(layers: tuple[int, ...]) -> tuple[int, ...]:
    if list(layers) != sorted(set(layers)):
        raise ValueError("must ascend without repetition")
    return layers


PolicyName = Annotated[str, AfterValidator(_known_policy)]
BudgetRule = Annotated[str, AfterValidator(_spends_budget)]
RiskRule = Annotated[str, AfterValidator(_keeps_risk)]
GateFeatures = Annotated[tuple[GateFeature, ...], Field(min_length=1)]
Layers = Annotated[tuple[int, ...], Field(min_length=1), AfterValidator(_ascending)]
PositiveFloat = Annotated[float, Field(gt=0.0)]


class Choice(Settings):
    """One exit configuration, but for the layers. `budget` is the least share of the compute that must be saved."""

    policy: PolicyName
    aggregation: Aggregation
    supervision: Supervision
    gate_features: GateFeatures = GATE_FEATURES
    threshold_rule: str
    budget: Share


class Headline(Choice):
    """The configuration that the verdict is about."""

    threshold_rule: BudgetRule


class Configuration(Choice):
    """A choice at fixed exit layers (1..depth, ascending).

    `risk` is the level of a risk-controlling rule, `inr_exponent` scales thresholds by INR, `final` names the head
    (aggregation, supervision) that answers at full depth, `variant` the heads and scores in use.
    """

    layers: Layers
    risk: Share | None = None
    inr_exponent: float = 0.0
    final: tuple[str, str] = FINAL
    variant: str = BASE


class GridSettings(Settings):
    """Part of the frontier: every combination of these, at the exit layers that the pruning rule leaves."""

    policies: Annotated[list[PolicyName], Field(min_length=1)]
    aggregations: Annotated[list[Aggregation], Field(min_length=1)]
    supervisions: Annotated[list[Supervision], Field(min_length=1)]
    threshold_rules: Annotated[list[BudgetRule], Field(min_length=1)]
    budgets: Annotated[list[Share], Field(min_length=1)]


class RiskSettings(Settings):
    """Risk-controlled thresholds on the headline's heads: each risk exceeds its level with probability <= `delta`."""

    rules: tuple[RiskRule, ...] = ()
    policies: tuple[PolicyName, ...] = ()
    levels: tuple[Share, ...] = ()
    delta: float = Field(default=0.1, gt=0.0, lt=1.0)


class AblationSettings(Settings):
    """Each list replaces one part of the headline, everything else kept.

    In `layers`, "each" toggles every candidate in turn: taken out where the headline has it, put in where pruned.
    """

    policies: tuple[PolicyName, ...] = ()
    aggregations: tuple[Aggregation, ...] = ()
    supervisions: tuple[Supervision, ...] = ()
    gate_features: tuple[GateFeatures, ...] = ()
    threshold_rules: tuple[BudgetRule, ...] = ()
    layers: tuple[Literal["each"] | Layers, ...] = ()


class SensitivitySettings(Settings):
    """Each list is a curve: the headline with one number or normalisation changed.

    inr_exponents: of the `global` rule, tau_L = tau (mean INR / INR_L)^x. kappas: of the pruning rule. sav: how the
    gate's SAV is normalised. temperatures: factors of the logit scale. fit_images: how many train the heads,
    in as many epochs and so in fewer steps.
    """

    inr_exponents: tuple[float, ...] = ()
    kappas: tuple[Annotated[float, Field(ge=0.0, le=1.0)], ...] = ()
    sav: tuple[SavFeature, ...] = ()
    temperatures: tuple[PositiveFloat, ...] = ()
    fit_images: tuple[PositiveInt, ...] = ()


class ExitSettings(Settings):
    """Everything about exits. `candidates` are layers 1..depth-1 = blocks executed.

    `seeds`: how often the headline is fitted, with other heads, gates and dealing of the development images.
    """

    candidates: Layers
    heads: HeadSettings
    seeds: PositiveInt = 1
    thresholds: ThresholdGrid = ThresholdGrid()
    headline: Headline
    grids: Annotated[list[GridSettings], Field(min_length=1)]
    risk: RiskSettings = RiskSettings()
    ablations: AblationSettings = AblationSettings()
    sensitivity: SensitivitySettings = SensitivitySettings()

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
        aggregations = [self.headline.aggregation, *self.ablations.aggregations]
        supervisions = [self.headline.supervision, *self.ablations.supervisions]
        for key, used, fitted in (
            ("aggregations", [*aggregations, *(a for grid in self.grids for a in grid.aggregations)],
             self.heads.aggregations),
            ("supervisions", [*supervisions, *(s for grid in self.grids for s in grid.supervisions)],
             self.heads.supervisions),
        ):  # fmt: skip
            missing = [value for value in used if value not in fitted]
            if missing:
                raise ValueError(f"heads.{key} lacks {missing[0]!r}, which the headline, grids or ablations use")

    def budgets(self) -> list[float]:
        """Every budget of the grids, ascending."""
        return sorted({budget for grid in self.grids for budget in grid.budgets})

    def policies(self) -> list[str]:
        """Every policy that the run evaluates, in the configuration's order."""
        in_grids = [policy for grid in self.grids for policy in grid.policies]
        return list(dict.fromkeys([self.headline.policy, *in_grids, *self.risk.policies, *self.ablations.policies]))

    def variants(self, fit_images: int) -> list[Variant]:
        """Every variant of heads and scores that the run needs."""
        varied = self.sensitivity
        return variants(self.seeds, varied.fit_images, varied.temperatures, fit_images)


def grid_configurations(grids: Sequence[GridSettings], layers: Sequence[int]) -> list[Configuration]:
    """Every combination of the frontier's grids at `layers`, each once."""
    found = [
        Configuration(
            policy=policy, aggregation=aggregation, supervision=supervision, threshold_rule=rule, budget=budget,
            layers=tuple(layers),
        )
        for grid in grids
        for policy, aggregation, supervision, rule, budget in product(
            grid.policies, grid.aggregations, grid.supervisions, grid.threshold_rules, grid.budgets
        )
    ]  # fmt: skip
    return list(dict.fromkeys(found))


def headline_configuration(headline: Choice, layers: Sequence[int]) -> Configuration:
    """The headline at `layers`."""
    return Configuration(**headline.model_dump(), layers=tuple(layers))


def risk_configurations(risk: RiskSettings, base: Configuration) -> list[Configuration]:
    """Every risk-controlled configuration around the headline; a risk rule spends no budget."""
    return [
        base.model_copy(update={"policy": policy, "threshold_rule": rule, "risk": level, "budget": 0.0})
        for policy, rule, level in product(risk.policies, risk.rules, risk.levels)
    ]


def refit_configurations(exits: ExitSettings, base: Configuration, final: tuple[str, str]) -> list[Configuration]:
    """Routing on top of a refitted full-depth head: the frontier's policies on exits with that head's supervision."""
    policies = list(dict.fromkeys([base.policy, *(p for grid in exits.grids for p in grid.policies)]))
    found = product(policies, exits.heads.aggregations, exits.budgets())
    changed = [
        {"policy": policy, "aggregation": a, "supervision": final[1], "budget": budget, "final": final}
        for policy, a, budget in found
    ]
    return [base.model_copy(update=update) for update in changed]


class Variation(Settings):
    """One row of an ablation or sensitivity curve: which axis, which setting, and the whole configuration.

    `x` is the setting as a number, where it is one.
    """

    axis: str
    setting: str
    configuration: Configuration
    x: float | None = None
    is_base: bool = False


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
            text = _text(field, value)
            rows.append(Variation(axis=axis, setting=text, configuration=changed, is_base=value == current))
    return rows


def _text(field: str, value: object) -> str:
    if isinstance(value, tuple):
        return "+".join(map(str, value)) if field == "gate_features" else _layers_text(value)
    return str(value)


def toggled_layers(base: Configuration, candidates: Sequence[int]) -> list[tuple[int, ...]]:
    """The exit layers with each candidate taken out where the base has it, or put in where it has not."""
    toggled = [tuple(sorted(set(base.layers) ^ {layer})) for layer in candidates]
    return [layers for layers in toggled if layers]


def _layer_sets(ablations: AblationSettings, base: Configuration, candidates: Sequence[int]) -> list[tuple[int, ...]]:
    sets: list[tuple[int, ...]] = []
    for entry in ablations.layers:
        sets += toggled_layers(base, candidates) if entry == "each" else [tuple(sorted(entry))]
    return list(dict.fromkeys(sets))


class Conditions(Settings):
    """What sensitivity curves need to know of a run: the layers kept at each kappa, and the base's own settings."""

    layers_by_kappa: dict[float, tuple[int, ...]]
    kappa: float
    fit_images: int


def sensitivity_variations(
    settings: SensitivitySettings, base: Configuration, conditions: Conditions
) -> list[Variation]:
    """Every point of the sensitivity curves; each axis starts with its base."""
    uniform = base.model_copy(update={"threshold_rule": "global"})

    def sav(name: str) -> Configuration:
        features = tuple(name if feature in get_args(SavFeature) else feature for feature in base.gate_features)
        return base.model_copy(update={"gate_features": features})

    def variant(name: str) -> Configuration:
        return base.model_copy(update={"variant": name})

    total = conditions.fit_images
    # (axis, the base's own x, other values, the configuration at a value)
    numeric = [
        ("INR scaling of thresholds", 0.0, settings.inr_exponents,
         lambda x: uniform.model_copy(update={"inr_exponent": x})),
        ("kappa of the pruning rule", conditions.kappa, settings.kappas,
         lambda x: base.model_copy(update={"layers": conditions.layers_by_kappa[x]})),
        ("temperature", 1.0, settings.temperatures, lambda x: variant(temperature_variant(x))),
        ("fit images", float(total), tuple(float(n) for n in settings.fit_images if n < total),
         lambda x: variant(images_variant(int(x), total))),
    ]  # fmt: skip
    rows = []
    for axis, own, values, configure in numeric:
        for x in [own, *sorted(set(values) - {own})] if values else []:
            is_base = x == own
            rows.append(Variation(axis=axis, setting=f"{x:g}", configuration=configure(x), x=x, is_base=is_base))
    has_sav = next((f for f in base.gate_features if f in get_args(SavFeature)), None)
    names = dict.fromkeys([has_sav, *settings.sav]) if settings.sav and has_sav else {}
    return rows + [
        Variation(axis="SAV normalisation", setting=str(name), configuration=sav(str(name)), is_base=name == has_sav)
        for name in names
    ]


def seed_configurations(base: Configuration, seeds: int) -> list[Configuration]:
    """The headline under every seed."""
    return [base.model_copy(update={"variant": seed_variant(seed)}) for seed in range(seeds)]
