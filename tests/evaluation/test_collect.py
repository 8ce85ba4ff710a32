import json
import platform
import subprocess

import numpy as np
import pandas as pd
import pytest

from lraee.evaluation.collect import corrected, noise_table, provenance, quantizer_table
from lraee.metrics.statistics import holm


def header(bits):
    return {
        "settings": {"scheme": "uniform"}, "description": f"W{bits}",
        "coverage": {"weight_bits": bits, "activation_bits": bits, "parameters": 0.9, "macs": 0.8},
    }  # fmt: skip


def measured(*names):
    rows = [
        {"quantizer": name, "n": 10, "top1": 0.5, "agreement": 0.9, "churn_rescue": 1, "churn_loss": 2,
         "difference": -0.1, "difference_low": -0.2, "difference_high": 0.0, "mcnemar_p": 0.5}
        for name in names
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_quantizers_come_in_the_configurations_order_after_fp32():
    rows = measured("w4a4", "fp32", "w8a8", "fp32")
    table = quantizer_table(rows, {"w8a8": header(8), "w4a4": header(4)})
    assert table["quantizer"].tolist() == ["fp32", "w8a8", "w4a4"]
    assert table["weight_bits"].tolist() == [32, 8, 4]
    assert table["covered_parameters"].tolist() == [0.0, 0.9, 0.9]


def test_fp32_is_not_compared_with_itself():
    table = quantizer_table(measured("w4a4", "fp32"), {"w4a4": header(4)}).set_index("quantizer")
    compared = ["agreement", "churn_rescue", "churn_loss", "difference", "difference_low", "mcnemar_p"]
    assert table.loc["fp32", compared].isna().all()
    assert table.loc["w4a4", "churn_loss"] == 2
    assert table.loc["fp32", "top1"] == 0.5


def test_noise_rows_are_marked_by_the_pruning_rule():
    profile = pd.DataFrame(
        [
            {"tokens": tokens, "layer": layer, "inr": inr, "quantizer": "w4a4"}
            for tokens in ("all", "cls") for layer, inr in zip((7, 8, 9, 10), (1.0, 100.0, 10.0, 100.0), strict=True)
        ]
    )  # fmt: skip
    table = noise_table([profile], candidates=(8, 9, 10), kappa=0.5)
    # The candidates' mean is 70: 9 lies below 35; 7 is noisier still, but no candidate.
    assert table.groupby("layer")["pathological"].all().to_dict() == {7: False, 8: False, 9: True, 10: False}
    assert table.groupby("layer")["candidate"].all().to_dict() == {7: False, 8: True, 9: True, 10: True}


def test_profiles_are_marked_each_by_itself():
    def profile(name, inr):
        return pd.DataFrame({"tokens": "all", "layer": [8, 9], "inr": inr, "quantizer": name})

    table = noise_table([profile("a", [100.0, 1.0]), profile("b", [100.0, 90.0])], (8, 9), 0.5)
    assert table[table["pathological"]][["quantizer", "layer"]].to_numpy().tolist() == [["a", 9]]


def point_rows(*rows):
    """Points from (quantizer, precision, study, thresholds, p)."""
    plain = {
        "policy": "margin", "aggregation": "ssa", "supervision": "hard", "full_depth_head": "own", "gate_features": "",
        "layers": "8,10", "threshold_rule": "global", "budget": 0.1, "risk": np.nan,
    }  # fmt: skip
    names = ("quantizer", "precision", "study", "thresholds", "mcnemar_p")
    return pd.DataFrame([plain | dict(zip(names, row, strict=True)) for row in rows])


def test_p_values_are_corrected_over_all_points_but_full_depth_and_bounds():
    points = point_rows(
        ("a", "a", "full-depth", "", 1.0), ("a", "a", "static", "", 0.01), ("a", "a", "frontier", "[1]", 0.04),
        ("b", "b", "frontier", "[1]", 0.03), ("b", "b", "risk", "[2]", 0.005),
        ("b", "b", "bound", "", 0.0),
    )  # fmt: skip
    adjusted = corrected(points)["mcnemar_p_holm"]
    assert adjusted.tolist() == pytest.approx([np.nan, 0.03, 0.06, 0.06, 0.02, np.nan], nan_ok=True)


def test_the_same_fp32_control_beside_two_quantizers_counts_once():
    control = [("fp32", "frontier", "[1]", 0.01), ("fp32", "frontier", "[2]", 0.5), ("fp32", "static", "", 0.02)]
    points = point_rows(
        *[("a", *row) for row in control], ("a", "a", "frontier", "[1]", 0.03),
        *[("b", *row) for row in control], ("b", "b", "frontier", "[1]", 0.04),
    )  # fmt: skip
    adjusted = corrected(points)["mcnemar_p_holm"].tolist()
    expected = holm(np.array([0.01, 0.5, 0.02, 0.03, 0.04])).tolist()
    assert adjusted == pytest.approx([*expected[:4], *expected[:3], expected[4]])
    # Other quantizers' points are never the same comparison, whatever they look like.
    assert adjusted[3] == pytest.approx(0.09)


def test_one_comparison_under_two_studies_counts_once():
    points = point_rows(("a", "fp32", "ablation", "[1]", 0.01), ("b", "fp32", "frontier", "[1]", 0.01))
    assert corrected(points)["mcnemar_p_holm"].tolist() == pytest.approx([0.01, 0.01])


def test_controls_at_other_exit_layers_are_other_comparisons():
    points = point_rows(("a", "fp32", "frontier", "[1]", 0.01), ("b", "fp32", "frontier", "[1]", 0.02))
    assert corrected(points)["mcnemar_p_holm"].tolist() == pytest.approx([0.01, 0.01])
    points["layers"] = ["8,10", "8,9,10"]
    assert corrected(points)["mcnemar_p_holm"].tolist() == pytest.approx([0.02, 0.02])


def test_correction_keeps_the_rows_and_their_index(points):
    shuffled = points.sample(frac=1.0, random_state=0)
    adjusted = corrected(shuffled)
    assert adjusted.drop(columns="mcnemar_p_holm").equals(shuffled)
    pd.testing.assert_frame_equal(adjusted.sort_index(), corrected(points))
    compared = ~adjusted["study"].isin(["full-depth", "bound"])
    assert (adjusted.loc[compared, "mcnemar_p_holm"] >= adjusted.loc[compared, "mcnemar_p"]).all()
    assert adjusted.loc[~compared, "mcnemar_p_holm"].isna().all()
    assert adjusted.loc[compared, "mcnemar_p_holm"].notna().all()


def test_provenance_is_json_and_names_code_machine_and_configuration(tmp_path):
    facts = provenance({"seed": 7}, tmp_path)
    assert json.loads(json.dumps(facts)) == facts
    assert facts["config"] == {"seed": 7}
    assert facts["git_revision"] == "not a git checkout"
    assert facts["versions"]["python"] == platform.python_version()
    assert facts["versions"]["numpy"] == np.__version__


def git(root, *arguments):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def checkout(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-q", "-m", "one")
    return tmp_path


def test_provenance_names_the_commit(checkout):
    facts = provenance({}, checkout)
    assert facts["git_revision"] == git(checkout, "rev-parse", "HEAD").strip()
    assert facts["git_dirty"] is False


def test_provenance_tells_an_edited_checkout(checkout):
    (checkout / "file").write_text("two")
    assert provenance({}, checkout)["git_dirty"] is True
