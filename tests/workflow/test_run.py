"""The workflow run for real: what it leaves, what it refuses, and what an interruption does to it."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lraee.report.tables import SCHEMA
from lraee.runtime import EarlyExitCLIP
from lraee.runtime.engines import installed

ROOT = Path(__file__).parents[2]
TABLES = tuple(SCHEMA)


def digests(checkout):
    return {
        name: hashlib.sha256((checkout.results / "tables" / f"{name}.parquet").read_bytes()).hexdigest()
        for name in TABLES
    }


def test_the_run_ends_with_a_report(unbroken):
    report = unbroken.root / "reports/tiny/report.html"
    text = report.read_text(encoding="utf-8")
    assert text.rstrip().endswith("</html>")
    assert "w4a4" in text
    assert {path.name for path in (report.parent / "tables").glob("[!.]*")} == {
        f"{table}.{kind}" for table in TABLES for kind in ("csv", "parquet")
    }
    assert any((report.parent / "figures").iterdir())
    assert json.loads((report.parent / "summary.json").read_text(encoding="utf-8"))["schema_version"] >= 1


def test_every_rule_leaves_its_log(unbroken):
    logs = {path.relative_to(unbroken.results / "logs").parts[0].removesuffix(".log")
            for path in (unbroken.results / "logs").rglob("*.log")}  # fmt: skip
    assert logs == {
        "manifest", "draw_pictures", "describe_model", "class_embeddings", "calibrate_quantizer", "extract_features",
        "noise_profile", "fit_heads", "score_exits", "fit_policies", "evaluate", "export_quantizer", "check_export",
        "collect_tables", "report",
    }  # fmt: skip


def test_the_exported_network_does_what_was_evaluated(unbroken):
    model = EarlyExitCLIP.load(unbroken.results / "exports/w4a4")
    manifest = model.manifest
    assert (manifest.experiment, manifest.quantizer, manifest.measured.images) == ("tiny", "w4a4", 144)
    compared = pd.read_parquet(unbroken.results / "agreement/w4a4.parquet")
    assert compared["engine"].value_counts().to_dict() == dict.fromkeys(installed(), 144)
    compared = compared[compared["engine"] == "torch"]
    headline = pd.read_parquet(unbroken.results / "tables/points.parquet").query("headline and precision == 'w4a4'")
    assert compared["evaluated_layer"].mean() == pytest.approx(headline["mean_layer"].iloc[0])
    assert (compared["evaluated_answer"] == compared["runtime_answer"]).mean() >= 0.99
    assert (compared["evaluated_layer"] == compared["runtime_layer"]).mean() >= 0.98
    shown = pd.read_parquet(unbroken.results / "tables/agreement.parquet")
    shown = shown[shown["engine"] == "torch"]
    assert shown["answers"].tolist() == [(compared["evaluated_answer"] == compared["runtime_answer"]).mean()]


def test_what_is_exported_is_timed(finished, tiny):
    tiny["latency"] = {"images": 8, "rounds": 1, "batches": [1, 4], "peers": ["torch-dynamic-int8"]}
    finished.configure(tiny)
    done = finished.run()
    assert done.returncode == 0, done.stdout[-4000:]
    shown = pd.read_parquet(finished.results / "tables/latency.parquet")
    assert shown.groupby(["threads", "batch"])["n"].unique().map(list).to_dict() == {
        (threads, batch): [8] for threads in (1, 2) for batch in (1, 4)
    }
    turned = pd.read_parquet(finished.results / "tables/conversion.parquet")
    assert set(turned["engine"]) == set(installed())
    assert finished.planned() == set()


def test_nothing_else_than_what_was_evaluated_is_exported(finished):
    heads = finished.results / "heads/w4a4.safetensors"
    content = bytearray(heads.read_bytes())
    content[-1] ^= 1
    heads.write_bytes(content)
    done = finished.run("--touch")
    assert done.returncode == 0
    done = finished.run("--forcerun", "export_quantizer", "--until", "export_quantizer")
    assert done.returncode != 0
    assert "heads/w4a4.safetensors is not the file that was evaluated (heads): run the workflow again" in done.stdout


def test_nothing_half_written_is_left(unbroken):
    assert not list(unbroken.root.rglob("*.partial"))


def test_the_tables_count_the_images_of_the_test_split(unbroken):
    points = pd.read_parquet(unbroken.results / "tables/points.parquet")
    assert (points["n"] == 144).all()
    assert set(zip(points["quantizer"], points["precision"], strict=True)) == {
        ("w4a4", "w4a4"), ("w4a4", "fp32"), ("dyn", "dyn"), ("dyn", "fp32"),
    }  # fmt: skip
    assert (points.groupby(["quantizer", "precision"])["headline"].sum() == 1).all()


def test_the_fp32_model_is_the_same_beside_every_quantizer(unbroken):
    points = pd.read_parquet(unbroken.results / "tables/points.parquet")
    fp32 = points[(points["precision"] == "fp32") & (points["study"].isin(["full-depth", "static"]))]
    names = ["study", "aggregation", "supervision", "layers", "top1", "margin_low", "margin_high", "saved"]
    w4a4, dyn = (fp32[fp32["quantizer"] == name][names].reset_index(drop=True) for name in ("w4a4", "dyn"))
    assert w4a4.equals(dyn)


def test_quantizers_are_listed_in_the_configurations_order(unbroken):
    table = pd.read_parquet(unbroken.results / "tables/quantizers.parquet")
    assert table["quantizer"].tolist() == ["fp32", "w4a4", "dyn"]
    assert table["weight_bits"].tolist() == [32, 4, 8]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda c: c["quantizers"]["w4a4"]["weights"].update(bits=9), ["quantizers.w4a4.weights.bits is 9", "8"]),
        (lambda c: c["data"]["splits"].pop("select"), ["splits lacks 'select'"]),
        (lambda c: c["exits"].update(candidates=[12]), ["exits.candidates has 12", "1 to 11"]),
        (lambda c: c["exits"]["headline"].update(policy="pabee"), ["policy is 'pabee'", "learned-gate"]),
        (lambda c: c.update(sead=1), ["sead is not a known key"]),
    ],
)
def test_a_bad_configuration_ends_with_its_sentence_before_any_job(fresh, tiny, change, named):
    change(tiny)
    fresh.configure(tiny)
    done = fresh.run()
    assert done.returncode != 0
    for part in named:
        assert part in done.stdout
    assert "Traceback" not in done.stdout
    assert not (fresh.root / "results").exists()


def tamper(path: Path, content: bytes) -> None:
    """Replace a file's content behind Snakemake's back."""
    before = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_truncated_feature_file_is_named(finished):
    path = finished.results / "features/w4a4/fit/001.parquet"
    tamper(path, path.read_bytes()[: path.stat().st_size // 2])
    (finished.results / "heads/w4a4.safetensors").unlink()
    done = finished.run("results/tiny/heads/w4a4.safetensors")
    assert done.returncode != 0
    assert "fit_heads: results/tiny/features/w4a4/fit/001.parquet is truncated or damaged" in done.stdout
    assert "delete it and run again" in done.stdout
    assert not (finished.results / "heads/w4a4.safetensors").exists()


def test_a_feature_file_of_another_precision_is_named(finished):
    path = finished.results / "features/w4a4/fit/001.parquet"
    tamper(path, (finished.results / "features/fp32/fit/001.parquet").read_bytes())
    (finished.results / "heads/w4a4.safetensors").unlink()
    done = finished.run("results/tiny/heads/w4a4.safetensors")
    assert done.returncode != 0
    assert (
        "fit_heads: results/tiny/features/w4a4/fit/001.parquet was computed with another configuration" in done.stdout
    )


def shuffle_labels(path: Path) -> None:
    """Give the images of a feature file each other's labels, and leave everything else as it is."""
    table = pq.read_table(path)
    labels = np.random.default_rng(0).permutation(table["label"].to_numpy())
    place = table.column_names.index("label")
    shuffled = table.set_column(place, "label", pa.array(labels, pa.int64()))
    pq.write_table(shuffled.replace_schema_metadata(pq.read_metadata(path).metadata), path)


def test_other_labels_of_the_test_split_change_nothing_that_is_fitted(finished, unbroken):
    for precision in ("fp32", "w4a4", "dyn"):
        shuffle_labels(finished.results / f"features/{precision}/test/000.parquet")
    done = finished.run("--rerun-triggers", "mtime", "--forcerun", "fit_heads", "score_exits", "fit_policies")
    assert done.returncode == 0, done.stdout[-8000:]
    fitted = [path.relative_to(unbroken.results) for folder in ("heads", "policies")
              for path in (unbroken.results / folder).iterdir()]  # fmt: skip
    fitted += [Path(f"scores/{p}/{part}") for p in ("fp32", "w4a4", "dyn")
               for part in ("gate.parquet", "select.parquet", "probes.safetensors")]  # fmt: skip
    assert len(fitted) == 3 + 2 + 9
    for path in fitted:
        assert (finished.results / path).read_bytes() == (unbroken.results / path).read_bytes(), path
    tables = [pd.read_parquet(checkout.results / "tables/points.parquet") for checkout in (finished, unbroken)]
    assert not np.allclose(tables[0]["top1"], tables[1]["top1"])
    chosen = ["point", "thresholds", "select_top1", "select_saved", "on_frontier"]
    assert tables[0][chosen].equals(tables[1][chosen])


def test_the_scripts_run_the_code_that_lies_beside_them(finished, tmp_path):
    """An older copy of the package may be installed; what runs must be what the rules' hashes are made of."""
    shutil.copytree(finished.root / "lraee", tmp_path / "lraee")
    render = finished.root / "lraee/report/render.py"
    render.write_text('raise RuntimeError("the code beside the Snakefile")\n', encoding="utf-8")
    done = finished.run(environment=finished.environment() | {"PYTHONPATH": str(tmp_path)})
    assert done.returncode != 0
    assert "the code beside the Snakefile" in done.stdout


def test_snakemake_finds_nothing_to_criticise(fresh):
    done = fresh.run("--lint")
    assert done.returncode == 0, done.stdout


def test_the_rules_are_formatted():
    program = Path(sys.executable).with_name("snakefmt")
    if not program.exists():
        pytest.skip("snakefmt is not installed beside this Python")
    done = subprocess.run(
        [program, "--check", "Snakefile", "workflow/rules"], cwd=ROOT, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
