import json
import os
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pytest
import yaml

from lraee.config import Config, ConfigError, fingerprint, load_config

ROOT = Path(__file__).parents[1]
EXPERIMENTS = [ROOT / "config.yaml", *sorted((ROOT / "workflow" / "presets").glob("*.yaml"))]
MISSING = object()


def raw_config():
    return yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))


def changed(path, value):
    """The default configuration with the entry at `path` set, or taken out."""
    raw = raw_config()
    *parents, last = path
    entry = raw
    for key in parents:
        entry = entry[key]
    if value is MISSING:
        del entry[last]
    else:
        entry[last] = value
    return raw


def refusal(raw):
    with pytest.raises(ConfigError) as caught:
        load_config(raw)
    return str(caught.value)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.name)
def test_every_experiment_of_the_repository_loads(path):
    config = load_config(yaml.safe_load(path.read_text(encoding="utf-8")))
    assert config.quantizers
    assert set(config.data.splits) == {"quant", "fit", "gate", "select", "test"}


QUANTIZER, EXITS, SPLITS = ("quantizers", "w4a4"), ("exits",), ("data", "splits")

BASE = {"scheme": "uniform", "weights": {"bits": 4}, "activations": {"bits": 4}}


def mixed(quantizer, **point):
    """Mixed precision by the use that exits fitted on another quantizer make of the blocks."""
    return {"scheme": "apq", "base": BASE, "utilisation": {"quantizer": quantizer, "risk": 0.05, **point}}


# path to set, value, and what the message must name: the key, the value, and what is allowed.
REFUSED = {
    "risk rule where a budget is spent": (
        (*EXITS, "grids", 0, "threshold_rules"), ["risk-disagreement"],
        ["exits.grids.0.threshold_rules", "risk-disagreement", "global, layer-adaptive"],
    ),
    "budget rule where a risk is kept": (
        (*EXITS, "risk", "rules"), ["global"], ["exits.risk.rules", "global", "risk-accuracy-gap, risk-disagreement"],
    ),
    "bits by the exits of an unknown quantizer": (
        ("quantizers", "mixed"), mixed("w5"), ["quantizers.mixed.utilisation.quantizer", "'w5'", "no such quantizer"],
    ),
    "bits by exits that are not fitted": (
        ("quantizers", "mixed"), mixed("w4a4", risk=0.03), ["quantizers.mixed.utilisation", "at 0.03", "exits.risk"],
    ),
    "bits by their own exits": (
        ("quantizers", "mixed"), mixed("mixed"), ["quantizers.mixed.utilisation", "mixed needs mixed"],
    ),
    "bits of a scheme that has none to choose": (
        ("quantizers", "mixed"), {"scheme": "apq", "base": {"scheme": "bfloat16"}},
        ["quantizers.mixed.base", "scheme whose bits can be chosen"],
    ),
    "cost of calibrating an unknown quantizer": (
        ("calibration_cost",), {"quantizers": ["w5"]}, ["calibration_cost.quantizers", "'w5'", "no such quantizer"],
    ),
    "export of an unknown quantizer": (("exports",), ["w5"], ["exports has 'w5'", "no such quantizer"]),
    "latency of nothing": (("exports",), [], ["latency times what is exported", "name one, or drop latency"]),
    "risk that may always be exceeded": ((*EXITS, "risk", "delta"), 1.0, ["exits.risk.delta is 1.0", "less than 1"]),
    "no seed": ((*EXITS, "seeds"), 0, ["exits.seeds is 0", "1"]),
    "unknown SAV normalisation": ((*EXITS, "sensitivity", "sav"), ["root-sav"], ["exits.sensitivity.sav", "'log-sav'"]),
    "temperature zero": ((*EXITS, "sensitivity", "temperatures"), [0.0], ["exits.sensitivity.temperatures", "0.0"]),
    "pruning factor above one": ((*EXITS, "sensitivity", "kappas"), [1.5], ["exits.sensitivity.kappas", "1.5"]),
    "misspelt key": (("sed",), 3, ["sed is not a known key", "3"]),
    "misspelt nested key": ((*EXITS, "heads", "epoch"), 3, ["exits.heads.epoch is not a known key", "3"]),
    "misspelt key of a quantizer": ((*QUANTIZER, "weights", "bit"), 3, ["quantizers.w4a4.weights.bit", "known key"]),
    "misspelt key of a quantizer's start": (
        QUANTIZER, {"scheme": "cpt-v", "start": {"scheme": "dynamic-int8", "reading": "mlps"}},
        ["quantizers.w4a4.start", "reading", "'all_linears'"],
    ),
    "start without scales to search": (
        QUANTIZER, {"scheme": "cpt-v", "start": {"scheme": "bfloat16"}}, ["quantizers.w4a4.start", "bfloat16"],
    ),
    "missing key": (("experiment",), MISSING, ["experiment is missing"]),
    "missing nested key": ((*EXITS, "headline", "policy"), MISSING, ["exits.headline.policy is missing"]),
    "exit layer 0": ((*EXITS, "candidates"), [0, 8], ["exits.candidates", " 0,", "1 to 11"]),
    "negative exit layer": ((*EXITS, "candidates"), [-1, 8], ["exits.candidates", " -1,", "1 to 11"]),
    "exit layer at full depth": ((*EXITS, "candidates"), [8, 12], ["exits.candidates", " 12,", "1 to 11"]),
    "exit layer beyond the model": ((*EXITS, "candidates"), [8, 13], ["exits.candidates", " 13,", "1 to 11"]),
    "exit layers that descend": ((*EXITS, "candidates"), [9, 8], ["candidates", "[9, 8]", "ascend"]),
    "no exit layers": ((*EXITS, "candidates"), [], ["exits.candidates", "[]", "at least 1"]),
    "negative bits": ((*QUANTIZER, "weights", "bits"), -4, ["quantizers.w4a4.weights.bits is -4", "2"]),
    "one bit": ((*QUANTIZER, "weights", "bits"), 1, ["quantizers.w4a4.weights.bits is 1", "2"]),
    "nine bits": ((*QUANTIZER, "activations", "bits"), 9, ["quantizers.w4a4.activations.bits is 9", "8"]),
    "half a bit": ((*QUANTIZER, "weights", "bits"), 4.5, ["quantizers.w4a4.weights.bits is 4.5", "integer"]),
    "unknown observer": (
        (*QUANTIZER, "activations", "observer"), "max", ["quantizers.w4a4.activations.observer is 'max'", "min-max"],
    ),
    "unknown scheme": ((*QUANTIZER, "scheme"), "gptq", ["quantizers.w4a4.scheme is 'gptq'", "dynamic-int8", "uniform"]),
    "no scheme": ((*QUANTIZER, "scheme"), MISSING, ["quantizers.w4a4.scheme is"]),
    "no quantizers": (("quantizers",), {}, ["quantizers", "{}", "at least 1"]),
    "quantizer called fp32": (("quantizers", "fp32"), {"scheme": "dynamic-int8", "reading": "mlp_only"}, ["'fp32'"]),
    "quantizer name that is no file name": (
        ("quantizers", "W8/A8"), {"scheme": "dynamic-int8", "reading": "mlp_only"}, ["quantizers", "W8/A8", "a-z0-9"],
    ),
    "experiment name that leaves its folder": (("experiment",), "../other", ["experiment is '../other'", "a-z0-9"]),
    "missing split": ((*SPLITS, "gate"), MISSING, ["splits", "'gate'", "quant, fit, gate, select, test"]),
    "unknown split": (
        (*SPLITS, "train"), {"source": "shapes", "images": 5}, ["data.splits", "train", "'quant', 'fit', 'gate'"],
    ),
    "empty split": ((*SPLITS, "fit", "images"), 0, ["data.splits.fit.images is 0", "greater than or equal to 1"]),
    "negative split": ((*SPLITS, "fit", "images"), -5, ["data.splits.fit.images is -5", "1"]),
    "split from an unknown source": ((*SPLITS, "fit", "source"), "photos", ["splits.fit.source", "'photos'", "shapes"]),
    "the same source twice": (
        ("data", "sources", "again"), {"source": "shapes", "picture_seed": 0}, ["'shapes' and 'again'", "overlap"],
    ),
    "unknown data source": (
        ("data", "sources", "shapes"), {"source": "coco"}, ["data.sources.shapes.source is 'coco'", "image-folder"],
    ),
    "unknown model family": (("model", "family"), "hf", ["model.family is 'hf'", "open_clip", "timm"]),
    "prompt without a place for the class": (("model", "templates"), ["a photo"], ["model.templates", "a photo"]),
    "unknown policy": ((*EXITS, "headline", "policy"), "pabee", ["exits.headline.policy is 'pabee'", "learned-gate"]),
    "unknown policy in a grid": (
        (*EXITS, "grids", 0, "policies"), ["pabee"], ["exits.grids.0.policies", "pabee", "margin"],
    ),
    "unknown rule": (
        (*EXITS, "headline", "threshold_rule"), "best", ["exits.headline.threshold_rule is 'best'", "global"],
    ),
    "unknown gate feature": (
        (*EXITS, "ablations", "gate_features"), [["logit"]], ["exits.ablations.gate_features", "logit", "'sav'"],
    ),
    "unknown aggregation": ((*EXITS, "headline", "aggregation"), "max", ["exits.headline.aggregation", "max", "'ssa'"]),
    "budget no threshold meets": ((*EXITS, "headline", "budget"), 0.4, ["exits.headline.budget", "0.4", "0.333"]),
    "grid budget no threshold meets": (
        (*EXITS, "grids", 0, "budgets"), [0.1, 0.5], ["exits.grids.budgets", "0.5", "0.333"],
    ),
    "negative budget": ((*EXITS, "headline", "budget"), -0.1, ["exits.headline.budget is -0.1", "0"]),
    "a budget of everything": ((*EXITS, "headline", "budget"), 1.0, ["exits.headline.budget is 1.0", "less than 1"]),
    "head missing for the grid": (
        (*EXITS, "heads", "supervisions"), ["distilled", "hard"], ["heads.supervisions", "'label-free'", "grid"],
    ),
    "head missing for an aggregation": ((*EXITS, "heads", "aggregations"), ["ssa"], ["heads.aggregations", "'cls'"]),
    "ablation of layers without heads": ((*EXITS, "ablations", "layers"), [[7]], ["ablations.layers", "[7]", "[8, 9"]),
    "too many combinations": (
        (*EXITS, "thresholds", "points"), 99, ["candidates", "99 threshold points", "104,060,401", "20,000,000"],
    ),
    "thresholds that descend": ((*EXITS, "thresholds", "low"), 0.95, ["exits.thresholds", "0.95", "0.92"]),
    "threshold beyond one": ((*EXITS, "thresholds", "high"), 1.5, ["exits.thresholds.high is 1.5", "1"]),
    "no epochs": ((*EXITS, "heads", "epochs"), 0, ["exits.heads.epochs is 0", "1"]),
    "negative learning rate": ((*EXITS, "heads", "learning_rate"), -1.0, ["exits.heads.learning_rate is -1.0", "0"]),
    "negative seed": (("seed",), -1, ["seed is -1", "0"]),
    "batch of nothing": (("batch",), 0, ["batch is 0", "1"]),
    "noise on no images": (("noise", "images"), 0, ["noise.images is 0", "1"]),
    "text for a number": (("seed",), "many", ["seed is 'many'", "integer"]),
    "a list for a table": (("exits",), [1], ["exits is [1]"]),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_by_key_value_and_what_is_allowed(case):
    path, value, named = REFUSED[case]
    message = refusal(changed(path, value))
    for part in named:
        assert part in message


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_is_a_short_sentence(case):
    path, value, _ = REFUSED[case]
    for sentence in refusal(changed(path, value)).splitlines():
        assert sentence.endswith(".")
        assert "pydantic" not in sentence
        assert len(sentence) < 250


@pytest.mark.parametrize(
    ("path", "value", "key"),
    [
        (("model", "templates"), ["a photo"], "model.templates"),
        ((*EXITS, "ablations", "layers"), ["all"], "exits.ablations.layers"),
        ((*EXITS, "ablations", "layers"), [["eight"]], "exits.ablations.layers"),
    ],
)
def test_a_refusal_names_no_key_that_is_not_in_the_file(path, value, key):
    message = refusal(changed(path, value))
    assert message.startswith(key)
    for part in ("literal[", "tuple[", "list[", "constrained"):
        assert part not in message


def test_two_quantizers_do_not_need_each_other():
    raw = raw_config()
    raw["quantizers"] |= {"one": mixed("two"), "two": mixed("one")}
    assert "one needs two needs one" in refusal(raw)


def test_a_refused_item_does_not_make_its_list_seem_empty():
    message = refusal(changed((*EXITS, "ablations", "gate_features"), [["logit"]]))
    assert "at least 1 item" not in message


def test_every_fault_is_reported_at_once():
    raw = changed(("quantizers", "w4a4", "weights", "bits"), 9)
    raw["batch"], raw["sed"] = 0, 1
    assert len(refusal(raw).splitlines()) == 3


@pytest.mark.parametrize(
    ("path", "value", "key"),
    [
        # Both entries bear the name of the scheme, or of the data source, that they use.
        (("quantizers", "dynamic-int8", "reading"), "all", "quantizers.dynamic-int8.reading"),
        (("data", "sources", "shapes", "picture_seed"), "x", "data.sources.shapes.picture_seed"),
    ],
)
def test_a_refusal_names_the_entry_even_where_it_is_called_like_its_scheme(path, value, key):
    assert refusal(changed(path, value)).startswith(f"{key} is {value!r}")


def test_an_empty_configuration_names_all_that_is_missing():
    message = refusal({})
    for key in ("experiment", "data", "model", "quantizers", "exits"):
        assert f"{key} is missing." in message


def image_folders(**second):
    raw = raw_config()
    raw["data"]["sources"] = {
        "train": {"source": "image-folder", "root": "photos"},
        "val": {"source": "image-folder", "root": "photos"} | second,
    }
    for split, settings in raw["data"]["splits"].items():
        settings["source"] = "val" if split == "test" else "train"
    return raw


def test_two_folders_make_two_sources():
    assert set(load_config(image_folders(root="other")).data.sources) == {"train", "val"}


@pytest.mark.parametrize(
    "second", [{}, {"root": "./photos"}, {"root": "other/../photos"}, {"classes": "wnids.txt"}], ids=str
)
def test_one_folder_is_never_two_sources(second):
    assert "overlap" in refusal(image_folders(**second))


def test_a_pruning_rule_that_could_drop_every_layer_is_refused():
    # No layer can lie below kappa times the mean if kappa is at most 1: the best one is at or above the mean.
    message = refusal(changed(("noise", "kappa"), 1.5))
    assert "noise.kappa is 1.5" in message


def test_an_ablation_does_not_name_a_layer_twice():
    assert "ablations.layers" in refusal(changed(("exits", "ablations", "layers"), [[9, 9]]))


def test_settings_are_frozen():
    config = load_config(raw_config())
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 1
    with pytest.raises(ValueError, match="frozen"):
        config.exits.headline.budget = 0.0


def test_the_plain_form_of_a_configuration_loads_again():
    config = load_config(raw_config())
    plain = json.loads(json.dumps(config.model_dump(mode="json")))
    assert load_config(plain) == config


def reordered(value):
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(value)}
    return value


def test_the_fingerprint_does_not_depend_on_the_order_of_keys_or_on_defaults_written_out():
    config = load_config(raw_config())
    assert fingerprint(load_config(reordered(raw_config()))) == fingerprint(config)
    assert fingerprint(load_config(config.model_dump(mode="json"))) == fingerprint(config)
    assert fingerprint(load_config(deepcopy(raw_config()))) == fingerprint(config)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("seed",), 1), (("data", "sources", "shapes", "picture_seed"), 1), (("data", "splits", "fit", "images"), 7201),
        (("quantizers", "w4a4", "weights", "bits"), 5), (("exits", "candidates"), [8, 10, 11]),
        (("exits", "grids", 0, "budgets"), [0.05, 0.0, 0.10, 0.15, 0.20, 0.25]), (("noise", "kappa"), 0.51),
    ],
)  # fmt: skip
def test_the_fingerprint_changes_with_every_setting(path, value):
    assert fingerprint(load_config(changed(path, value))) != fingerprint(load_config(raw_config()))


def test_the_fingerprint_is_the_same_in_every_process():
    code = (
        "import yaml; from lraee.config import *; "
        "print(fingerprint(load_config(yaml.safe_load(open('config.yaml'))), 'fit', 3))"
    )
    seeds = [subprocess.check_output(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": seed}, text=True
    ) for seed in ("1", "2")]  # fmt: skip
    assert seeds[0] == seeds[1] == fingerprint(load_config(raw_config()), "fit", 3) + "\n"


def test_the_parts_of_a_fingerprint_are_told_apart():
    assert fingerprint("ab", "c") != fingerprint("a", "bc")
    assert fingerprint("1") != fingerprint(1)
    assert fingerprint(None, "x") != fingerprint("x")


def test_reading_the_configuration_imports_no_heavy_library():
    code = (
        "import sys, yaml; from lraee.config import load_config; "
        "load_config(yaml.safe_load(open('config.yaml'))); "
        "print(*sorted({'torch', 'torchvision', 'sklearn', 'open_clip', 'timm', 'matplotlib', 'statsmodels'}"
        " & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).strip() == ""


def test_the_json_schema_in_the_repository_is_up_to_date():
    path = Path(__file__).parents[1] / "workflow/schemas/config.schema.json"
    assert json.loads(path.read_text(encoding="utf-8")) == Config.model_json_schema(), "run `make schema`"
