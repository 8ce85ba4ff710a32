"""What Snakemake would do after a change: everything that depends on it, and nothing else."""

import json
import os
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lraee.data.manifest import SPLITS
from lraee.io import read_table, write_table

ENDING = {"collect_tables", "report"}
EXPORTED = {"export_quantizer:w4a4", "check_export:w4a4"}
SCORED = ("gate", "select", "test")
MANIFESTS = {f"manifest:{split}" for split in SPLITS}
SHARDS = ("fit:000", "fit:001", *(f"{split}:000" for split in SCORED))
DRAWN = {f"draw_pictures:{shard}" for shard in ("quant:000", *SHARDS)}


def jobs_of(quantizer):
    """Every job that belongs to one quantizer; w4a4 is exported."""
    rules = ("calibrate_quantizer", "noise_profile", "fit_heads", "score_exits", "fit_policies", "evaluate")
    splits = {f"extract_features:{quantizer}:{shard}" for shard in SHARDS}
    return {f"{rule}:{quantizer}" for rule in rules} | splits | (EXPORTED if quantizer == "w4a4" else set())


def both(*rules):
    """Jobs of both quantizers; what is evaluated again is exported again."""
    jobs = {f"{rule}:{quantizer}" for rule in rules for quantizer in ("w4a4", "dyn")}
    return jobs | EXPORTED if "evaluate" in rules else jobs


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


def test_a_second_run_has_nothing_to_do(finished):
    done = finished.run()
    assert done.returncode == 0
    assert "Nothing to be done" in done.stdout


def test_a_finished_run_that_was_moved_has_nothing_to_do(unbroken):
    assert unbroken.planned() == set()


def test_a_fresh_checkout_plans_every_job_once(fresh, tiny):
    fresh.configure(tiny)
    fp32 = {f"extract_features:fp32:{shard}" for shard in SHARDS} | {"fit_heads:fp32", "score_exits:fp32"}
    once = {"describe_model", "class_embeddings"}
    assert fresh.planned() == jobs_of("w4a4") | jobs_of("dyn") | fp32 | ENDING | MANIFESTS | DRAWN | once


def test_a_larger_test_split_extracts_that_split_alone(finished, tiny):
    tiny["data"]["splits"]["test"]["images"] *= 2
    finished.configure(tiny)
    planned = finished.planned()
    assert planned & MANIFESTS == {"manifest:test"}
    assert {job for job in planned if job.startswith("extract_features")} == {
        f"extract_features:{precision}:test:{shard}"
        for precision in ("fp32", "w4a4", "dyn")
        for shard in ("000", "001")
    }
    assert planned & DRAWN == {"draw_pictures:test:000"}
    assert not {job for job in planned if job.startswith(("calibrate_quantizer", "fit_heads"))}


def test_development_splits_that_fit_into_a_shard_together_are_extracted_in_one_job(fresh, tiny):
    tiny["features"]["shard"] = 144 * 4
    fresh.configure(tiny)
    extraction = {job for job in fresh.planned() if job.startswith("extract_")}
    precisions = ("fp32", "w4a4", "dyn")
    assert extraction == {f"extract_development:{p}" for p in precisions} | {
        f"extract_features:{p}:test:000" for p in precisions
    }


def test_one_job_extracts_the_same_features_of_several_splits_as_a_job_for_each(unbroken, finished, tiny):
    tiny["features"]["shard"] = 144 * 4
    finished.configure(tiny)
    files = {split: f"results/tiny/features/w4a4/{split}/000.parquet" for split in ("fit", "gate", "select")}
    done = finished.run(*files.values())
    assert done.returncode == 0, done.stdout[-4000:]
    for split, file in files.items():
        together = pq.read_table(finished.root / file)
        apart = sorted((unbroken.results / "features/w4a4" / split).glob("*.parquet"))
        assert together.equals(pa.concat_tables(map(pq.read_table, apart)).combine_chunks())


def test_a_shard_that_was_deleted_is_extracted_again_alone(finished):
    (finished.results / "features/w4a4/fit/001.parquet").unlink()
    (finished.results / "heads/w4a4.safetensors").unlink()
    planned = finished.planned("results/tiny/heads/w4a4.safetensors")
    assert planned == {"extract_features:w4a4:fit:001", "fit_heads:w4a4"}


def test_another_number_of_bits_plans_that_quantizer_alone(finished, tiny):
    tiny["quantizers"]["w4a4"]["weights"]["bits"] = 5
    finished.configure(tiny)
    assert finished.planned() == jobs_of("w4a4") | ENDING


def mixed(quantizer, base):
    """A quantizer that needs the exits fitted on another."""
    point = {"quantizer": quantizer, "policy": "confidence", "threshold_rule": "risk-disagreement", "risk": 0.1}
    return {"scheme": "apq", "base": base, "utilisation": point}


def test_a_quantizer_that_needs_the_exits_of_another_waits_for_them(finished, tiny):
    quantizers = tiny["quantizers"]
    quantizers["first"] = mixed("w4a4", quantizers["w4a4"])
    quantizers["second"] = mixed("first", quantizers["w4a4"])
    finished.configure(tiny)
    measured = {"measure_utilisation:w4a4", "measure_utilisation:first"}
    assert finished.planned() == jobs_of("first") | jobs_of("second") | measured | ENDING


def test_a_change_in_what_a_scheme_builds_on_plans_it_again(fresh, tiny):
    tiny["quantizers"] = {"mixed": {"scheme": "apq", "base": tiny["quantizers"]["w4a4"]}}
    tiny["exports"] = []
    fresh.configure(tiny)
    state = "results/tiny/quantizers/mixed.safetensors"
    assert fresh.run(state).returncode == 0
    assert fresh.planned(state) == set()
    for module in ("uniform", "apq"):
        path = fresh.root / f"lraee/quantize/schemes/{module}.py"
        before = path.read_text(encoding="utf-8")
        append(path, "\nCHANGED = 1\n")
        assert "calibrate_quantizer:mixed" in fresh.planned(state)
        path.write_text(before, encoding="utf-8")
    assert fresh.planned(state) == set()


def test_another_quantizer_plans_that_quantizer_alone(finished, tiny):
    tiny["quantizers"]["mlp"] = {"scheme": "dynamic-int8", "reading": "mlp_only"}
    finished.configure(tiny)
    assert finished.planned() == jobs_of("mlp") | ENDING


def test_one_quantizer_less_only_collects_again(finished, tiny):
    del tiny["quantizers"]["dyn"]
    finished.configure(tiny)
    assert finished.planned() == ENDING


def test_another_budget_fits_policies_again_and_nothing_before(finished, tiny):
    tiny["exits"]["grids"][0]["budgets"].append(0.1)
    finished.configure(tiny)
    assert finished.planned() == both("fit_policies", "evaluate") | ENDING


def test_another_pruning_factor_fits_policies_again_and_nothing_before(finished, tiny):
    tiny["noise"]["kappa"] = 0.4
    finished.configure(tiny)
    assert finished.planned() == both("fit_policies", "evaluate") | ENDING


def test_more_noise_images_measure_the_noise_again_but_extract_nothing(finished, tiny):
    tiny["noise"]["images"] = 48
    finished.configure(tiny)
    assert finished.planned() == both("noise_profile", "fit_policies", "evaluate") | ENDING


def test_other_head_settings_extract_nothing(finished, tiny):
    tiny["exits"]["heads"]["epochs"] = 2
    finished.configure(tiny)
    heads = {"fit_heads:fp32", "score_exits:fp32"}
    assert finished.planned() == both("fit_heads", "score_exits", "fit_policies", "evaluate") | heads | ENDING


def test_another_seed_trains_and_scores_heads_but_extracts_nothing(finished, tiny):
    tiny["exits"]["seeds"] = 3
    finished.configure(tiny)
    heads = {"fit_heads:fp32", "score_exits:fp32"}
    assert finished.planned() == both("fit_heads", "score_exits", "fit_policies", "evaluate") | heads | ENDING


def test_the_same_settings_written_otherwise_plan_nothing(finished, tiny):
    tiny["exits"]["heads"]["learning_rate"] = 0.0005  # the default, written out
    finished.configure(dict(reversed(tiny.items())))
    assert finished.planned() == set()


def test_a_change_in_the_statistics_evaluates_again_but_extracts_and_trains_nothing(finished):
    append(finished.root / "lraee/metrics/statistics.py", "\n# another comment\n")
    planned = finished.planned()
    assert both("evaluate") | ENDING <= planned
    assert planned <= both("fit_policies", "evaluate") | ENDING


def test_a_change_in_one_scheme_plans_its_quantizers_alone(finished):
    append(finished.root / "lraee/quantize/schemes/uniform.py", "\n# another comment\n")
    assert finished.planned() == jobs_of("w4a4") | ENDING


def test_a_change_in_the_tower_extracts_again(finished):
    append(finished.root / "lraee/models/tower.py", "\n# another comment\n")
    planned = finished.planned()
    assert both("calibrate_quantizer", "noise_profile") <= planned
    assert {f"extract_features:fp32:{shard}" for shard in SHARDS} <= planned
    assert not (MANIFESTS | DRAWN) & planned


def test_images_that_are_read_from_files_are_not_copied(fresh, tiny):
    for name in ("ant", "bee"):
        (fresh.root / "images" / name).mkdir(parents=True)
    tiny["data"]["sources"] = {"shapes": {"source": "image-folder", "root": "images"}}
    fresh.configure(tiny)
    planned = fresh.planned()
    assert "extract_features:fp32:test:000" in planned
    assert not {job for job in planned if job.startswith("draw_pictures")}


def test_a_change_in_the_reports_template_only_renders_again(finished):
    append(finished.root / "lraee/report/templates/style.css", "\n/* another comment */\n")
    assert finished.planned() == {"report"}


def test_a_new_scheme_policy_or_source_plans_nothing(finished):
    for folder in ("quantize/schemes", "exits/policies", "data/sources"):
        (finished.root / "lraee" / folder / "mine.py").write_text('"""Nothing yet."""\n', encoding="utf-8")
    assert finished.planned() == set()


def test_other_weights_in_the_embedded_model_extract_again(finished):
    weights = finished.root / "lraee/models/embedded/shapes-clip.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    planned = finished.planned()
    assert {"describe_model", "class_embeddings"} <= planned
    assert {f"extract_features:fp32:{shard}" for shard in SHARDS} <= planned


def test_other_test_scores_can_reach_nothing_that_is_fitted(finished):
    path = finished.results / "scores/w4a4/test.parquet"
    frame: pd.DataFrame = read_table(path)
    write_table(path, frame.assign(label=frame["label"].to_numpy()[::-1]))
    assert finished.planned() == {"evaluate:w4a4"} | EXPORTED | ENDING


def inputs_by_job(checkout):
    """Inputs of every job of a whole run, by rule."""
    listed, rule = {}, ""
    for line in checkout.run("--dry-run", "--forceall").stdout.splitlines():
        if line.startswith("rule "):
            rule = line.split()[1].rstrip(":")
        elif line.startswith("    input: "):
            listed.setdefault(rule, set()).update(line.split(": ", 1)[1].split(", "))
    return listed


@pytest.mark.parametrize(
    ("rule", "allowed"),
    [
        ("calibrate_quantizer", {"quant"}), ("noise_profile", {"fit"}),
        # Seeds deal the development images anew, so that heads of another seed are fitted on some of gate and select.
        ("fit_heads", {"fit", "gate", "select"}), ("fit_policies", {"gate", "select"}),
    ],
)  # fmt: skip
def test_every_fitting_rule_reads_its_own_splits_alone(unbroken, rule, allowed):
    inputs = inputs_by_job(unbroken)[rule]
    splits = {part for name in inputs for part in Path(name).with_suffix("").parts} & set(SPLITS)
    assert splits == allowed


def test_only_scoring_and_evaluating_read_the_test_split(unbroken):
    readers = {
        rule
        for rule, inputs in inputs_by_job(unbroken).items()
        if any("test" in Path(name).with_suffix("").parts for name in inputs)
    }
    assert readers == {
        "draw_pictures", "extract_features", "score_exits", "evaluate", "check_export", "collect_tables",
    }  # fmt: skip


def test_another_experiment_replaces_the_configuration_and_is_not_merged_into_it(finished, tiny):
    tiny["experiment"] = "other"
    del tiny["quantizers"]["dyn"]
    (finished.root / "other.yaml").write_text(json.dumps(tiny), encoding="utf-8")
    planned = finished.planned("--configfile", "other.yaml")
    assert "evaluate:w4a4" in planned
    assert planned >= MANIFESTS
    assert not any(":dyn" in job for job in planned)


def test_touching_a_module_without_changing_it_plans_nothing(finished):
    for path in (finished.root / "lraee").rglob("*.py"):
        os.utime(path)
    assert finished.planned() == set()
