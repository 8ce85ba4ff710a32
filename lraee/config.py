"""The whole configuration: one frozen object out of config.yaml, or one sentence saying what is wrong with it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from lraee.data.manifest import DataSettings
from lraee.data.sources import SOURCES
from lraee.evaluation.choices import ExitSettings
from lraee.features.settings import FeatureSettings
from lraee.metrics.settings import LatencySettings, NoiseSettings
from lraee.models.families import FAMILIES, ModelFamily
from lraee.names import FP32
from lraee.quantize.cost import CalibrationCost
from lraee.quantize.schemes import SCHEMES, Scheme
from lraee.registry import ChosenFrom
from lraee.settings import Name, PositiveInt, Settings

_WHOLE = "the configuration"


class ConfigError(ValueError):
    """The configuration is refused; the message names the key, its value, and what is allowed."""


class Config(Settings):
    """One experiment. `seed` decides which image goes into which split, the heads' start, and the bootstrap.

    `device` is where the network runs; everything after the features runs on the CPU. `exports` names the quantizers
    whose headline `snakemake export` writes for use: those of Linears, with integer codes; `latency` times them.
    """

    experiment: Name
    seed: int = Field(default=0, ge=0)
    data: DataSettings
    model: Annotated[ModelFamily, ChosenFrom(FAMILIES, "family")]
    batch: PositiveInt = 64
    device: Literal["cpu", "cuda", "mps"] = "cpu"
    quantizers: Annotated[dict[Name, Annotated[Scheme, ChosenFrom(SCHEMES, "scheme")]], Field(min_length=1)]
    features: FeatureSettings = FeatureSettings()
    noise: NoiseSettings = NoiseSettings()
    calibration_cost: CalibrationCost | None = None
    exits: ExitSettings
    exports: tuple[Name, ...] = ()
    latency: LatencySettings | None = None

    @field_validator("quantizers")
    @classmethod
    def _no_fp32(cls, quantizers: dict[str, Scheme]) -> dict[str, Scheme]:
        if FP32 in quantizers:
            raise ValueError(f"{FP32!r} names the unquantized control; call the quantizer something else")
        return quantizers

    @model_validator(mode="after")
    def _check_needs(self) -> "Config":
        risk = self.exits.risk
        for name, scheme in self.quantizers.items():
            for point in scheme.needs():
                _check_chain([name, point.quantizer], self.quantizers)
                known = (point.policy in risk.policies, point.threshold_rule in risk.rules, point.risk in risk.levels)
                if not all(known):
                    raise ValueError(
                        f"quantizers.{name}.utilisation names {point.threshold_rule} thresholds of {point.policy} at "
                        f"{point.risk}, which exits.risk does not list; add them there or name others"
                    )
        return self

    @model_validator(mode="after")
    def _check_cost(self) -> "Config":
        for name in self.calibration_cost.quantizers if self.calibration_cost else ():
            if name not in self.quantizers:
                raise ValueError(f"calibration_cost.quantizers has {name!r}, but there is no such quantizer")
            if self.quantizers[name].needs():
                raise ValueError(f"calibration_cost.quantizers has {name!r}, which waits for exits; leave it out")
        return self

    @model_validator(mode="after")
    def _check_exports(self) -> "Config":
        for name in self.exports:
            if name not in self.quantizers:
                raise ValueError(f"exports has {name!r}, but there is no such quantizer")
        if self.latency and not self.exports:
            raise ValueError(
                "latency times what is exported, but exports names no quantizer; name one, or drop latency"
            )
        return self

    @model_validator(mode="after")
    def _check_depth(self) -> "Config":
        depth, candidates = self.model.depth, self.exits.candidates
        for layer in candidates:
            if not 1 <= layer < depth:
                raise ValueError(
                    f"exits.candidates has {layer}, but an exit layer is the number of blocks executed, "
                    f"1 to {depth - 1} (layer {depth} is full depth)"
                )
        most = 1.0 - min(candidates) / depth
        budgets = {"exits.headline.budget": [self.exits.headline.budget], "exits.grids.budgets": self.exits.budgets()}
        for key, values in budgets.items():
            for value in values:
                if value > most:
                    raise ValueError(
                        f"{key} has {value}, which no threshold meets: leaving at layer {min(candidates)} of {depth} "
                        f"saves at most {most:.3f}"
                    )
        return self


def _check_chain(chain: Sequence[str], quantizers: Mapping[str, Scheme]) -> None:
    """Follow what the last of a chain needs; ValueError where that is unknown, or leads back into the chain."""
    *before, last = chain
    if last not in quantizers:
        raise ValueError(f"quantizers.{before[-1]}.utilisation.quantizer is {last!r}, but there is no such quantizer")
    if last in before:
        raise ValueError(f"quantizers.{last}.utilisation leads back to itself: {' needs '.join(chain)}")
    for point in quantizers[last].needs():
        _check_chain([*chain, point.quantizer], quantizers)


def load_config(raw: Mapping[str, Any]) -> Config:
    """Check a parsed config.yaml; ConfigError lists every fault, one sentence each."""
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        raise ConfigError("\n".join(_sentences(error.errors()))) from None


def _sentences(faults: Sequence[Any]) -> list[str]:
    """Say each fault once: where every branch of a choice failed, their demands are joined by "or"."""
    located = [(_key(fault["loc"]), fault) for fault in faults]
    keys = [key for key, _ in located]
    kept = [
        (key, fault)
        for key, fault in located
        # A list is called too short only because its members were refused.
        if not (fault["type"] == "too_short" and any(other.startswith(f"{key}.") for other in keys))
    ]
    demands: dict[str, list[str]] = {}
    for key, fault in kept:
        subject, demand = _sentence(key, fault)
        demands.setdefault(subject, []).append(demand)
    return [f"{subject}{', or '.join(dict.fromkeys(parts))}." for subject, parts in demands.items()]


def _key(location: tuple[str | int, ...]) -> str:
    """Spell a fault's place as the keys of the file: pydantic adds the chosen branch, which is no key."""
    parts = []
    for index, part in enumerate(location):
        before = location[:index]
        chosen = before == ("model",) or (len(before), before[:1]) == (2, ("quantizers",))
        chosen = chosen or (len(before), before[:2]) == (3, ("data", "sources"))
        is_branch = chosen and part in {*FAMILIES, *SCHEMES, *SOURCES}
        # A branch is otherwise named by a type such as literal[...], or by a class; keys are in small letters.
        if not is_branch and "[" not in str(part) and not str(part)[:1].isupper():
            parts.append(str(part))
    return ".".join(parts) or _WHOLE


def _sentence(key: str, fault: Any) -> tuple[str, str]:
    """One fault as ("key is value, but ", "what is allowed")."""
    given = fault["input"]
    match fault["type"]:
        case "extra_forbidden":
            return f"{key} is not a known key (its value is {given!r}); ", "remove it or correct its spelling"
        case "missing":
            return key, " is missing"
        case "union_tag_not_found":
            return f"{key}.{fault['ctx']['discriminator'].strip(chr(39))}", " is missing"
        case "union_tag_invalid":
            tag = fault["ctx"]["discriminator"].strip("'")
            return f"{key}.{tag} is {given[tag]!r}, but ", f"must be one of {fault['ctx']['expected_tags']}"
        case "value_error":
            # A check across groups names the key itself.
            subject = "" if key == _WHOLE else f"{key}: " if isinstance(given, dict) else f"{key} is {given!r}, but "
            return subject, str(fault["ctx"]["error"])
    return f"{key} is {given!r}, but ", f"{fault['msg'][0].lower()}{fault['msg'][1:]}"


def fingerprint(*parts: Any) -> str:
    """Short content hash of settings, names and numbers: the identity of whatever depends on them alone."""
    plain = [part.model_dump(mode="json") if isinstance(part, Settings) else part for part in parts]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


if __name__ == "__main__":
    print(json.dumps(Config.model_json_schema(), indent=1, sort_keys=True))
