"""Put the quantizers' tables together, and say where they come from."""

import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from lraee.cpu import cpu_info
from lraee.metrics.pruning import inr_by_layer, pathological_layers
from lraee.metrics.statistics import holm
from lraee.names import FP32

PACKAGES = (
    "lraee",
    "torch",
    "open_clip_torch",
    "timm",
    "numpy",
    "pandas",
    "pyarrow",
    "scikit-learn",
    "scipy",
    "snakemake",
)
OPTIONAL_PACKAGES = ("openvino", "nncf", "onnxruntime")


def noise_table(profiles: Sequence[pd.DataFrame], candidates: Sequence[int], kappa: float) -> pd.DataFrame:
    """Join the noise profiles and mark candidates and what the pruning rule drops (by INR on all tokens)."""
    marked = []
    for profile in profiles:
        dropped = pathological_layers(inr_by_layer(profile), candidates, kappa)
        marked.append(
            profile.assign(candidate=profile["layer"].isin(candidates), pathological=profile["layer"].isin(dropped))
        )
    return pd.concat(marked, ignore_index=True)


def quantizer_table(measured: pd.DataFrame, headers: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Join full-depth results with what each quantizer covers; FP32 first, quantizers in the configuration's order."""
    described = [
        {
            "quantizer": FP32, "scheme": "none", "description": "unquantized control", "weight_bits": 32,
            "activation_bits": 32, "covered_parameters": 0.0, "covered_macs": 0.0, "settings": "{}",
        }
    ]  # fmt: skip
    for name, header in headers.items():
        covers = header["coverage"]
        described.append(
            {
                "quantizer": name, "scheme": header["settings"]["scheme"], "description": header["description"],
                "weight_bits": covers["weight_bits"], "activation_bits": covers["activation_bits"],
                "covered_parameters": covers["parameters"], "covered_macs": covers["macs"],
                "settings": json.dumps(header["settings"]),
            }
        )  # fmt: skip
    table = pd.DataFrame(described).merge(measured.drop_duplicates("quantizer"), on="quantizer")
    compared = [
        "agreement",
        "churn_rescue",
        "churn_loss",
        "difference",
        "difference_low",
        "difference_high",
        "mcnemar_p",
    ]
    table[compared] = table[compared].astype(float)
    table.loc[table["quantizer"] == FP32, compared] = float("nan")
    return table


def corrected(points: pd.DataFrame) -> pd.DataFrame:
    """Add McNemar's p-values corrected by Holm over all routed and static points of the experiment, both arms.

    An FP32 control with the same exit layers stands beside several quantizers: the same comparison counts once.
    """
    compared = ~points["study"].isin(["full-depth", "bound"])
    arm = points["quantizer"].where(points["precision"] != FP32, FP32)
    same = ["policy", "aggregation", "supervision", "full_depth_head", "gate_features", "layers", "threshold_rule",
            "budget", "risk", "thresholds"]  # fmt: skip
    family = points.assign(arm=arm)[compared].groupby(["arm", *same], dropna=False, sort=False).ngroup()
    once = ~family.duplicated()
    adjusted = pd.Series(holm(points.loc[family.index[once], "mcnemar_p"].to_numpy()), index=family[once])
    return points.assign(mcnemar_p_holm=family.map(adjusted).reindex(points.index))


def provenance(config: dict[str, Any], root: Path) -> dict[str, Any]:
    """Say what was run, by which code (the checkout at `root`), on which machine."""
    return {
        "created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "git_revision": _git(root, "rev-parse", "HEAD") or "not a git checkout",
        "git_dirty": bool(_git(root, "status", "--porcelain", "--untracked-files=no")),
        "cpu": _cpu(),
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in (*PACKAGES, *_installed(OPTIONAL_PACKAGES))},
        },
        "config": config,
    }


def _installed(packages: Sequence[str]) -> list[str]:
    return [name for name in packages if find_spec(name) is not None]


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _cpu() -> str:
    """Name the processor; its integer instructions matter to whoever repeats a run."""
    names = cpu_info("model name")
    return f"{names[0] if names else platform.processor() or platform.machine()} ({len(names) or '?'} logical cores)"
