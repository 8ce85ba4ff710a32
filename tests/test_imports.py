"""What each job imports: start-up is a good part of a short job. Packages are counted, never seconds."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parents[1] / "workflow" / "scripts"
SLOW = ("open_clip", "sklearn", "statsmodels", "timm", "torch", "torch._dynamo", "torchvision", "transformers")
"""What takes a second or more to import, and snakemake's jobs rarely need."""
ANALYSIS = {
    "collect_tables", "draw_pictures", "evaluate", "fit_policies", "manifest", "measure_utilisation", "report",
}  # fmt: skip
LIBRARIES = {"class_embeddings", "describe_model", "train_embedded"}
"""Jobs that read a model from its library."""

_LOADED = """
import json, sys
for statement in json.loads(sys.argv[2]):
    exec(statement)
for line in json.loads(sys.argv[3]):
    exec(line)
print(json.dumps([name for name in json.loads(sys.argv[1]) if name in sys.modules]))
"""


def imported(statements: list[str], then: tuple[str, ...] = ()) -> set[str]:
    """Which of SLOW a fresh process has after some import statements, and lines that follow them."""
    arguments = [json.dumps(SLOW), json.dumps(statements), json.dumps(then)]
    done = subprocess.run(
        [sys.executable, "-c", _LOADED, *arguments],
        cwd=SCRIPTS.parents[1],
        env=os.environ | {"PYTHONPATH": f"{SCRIPTS.parents[1]}:{SCRIPTS}"},
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def imports_of(script: str) -> list[str]:
    tree = ast.parse((SCRIPTS / f"{script}.py").read_text(encoding="utf-8"))
    return [ast.unparse(node) for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]


def every_import(scripts: set[str]) -> list[str]:
    return [statement for script in sorted(scripts) for statement in imports_of(script)]


def test_the_scripts_are_known():
    network = {
        "calibrate_quantizer",
        "check_export",
        "export_quantizer",
        "extract_features",
        "fit_heads",
        "noise_profile",
    }
    network |= {"measure_calibration", "measure_latency", "score_exits"}
    found = {path.stem for path in SCRIPTS.glob("[!_]*.py")}
    assert found == ANALYSIS | LIBRARIES | network


def test_jobs_that_analyse_import_no_torch():
    assert imported(every_import(ANALYSIS)) <= {"sklearn", "statsmodels"}


def test_jobs_that_read_tables_alone_import_no_statistics():
    assert imported(every_import({"manifest", "draw_pictures"})) == set()


def test_the_configuration_is_read_without_anything_slow():
    assert (
        imported(["from lraee.config import load_config", "import sys"], ("assert 'pandas' not in sys.modules",))
        == set()
    )


def test_jobs_that_run_the_network_import_neither_its_library_nor_torchs_compiler():
    network = {"calibrate_quantizer", "extract_features", "fit_heads", "noise_profile", "score_exits"}
    assert imported(every_import(network)) == {"torch"}


def test_quantizing_and_running_a_stored_network_imports_nothing_more(clip, tmp_path):
    from lraee.models.open_clip_tower import load
    from lraee.models.stored import write_model

    write_model(tmp_path / "model", load(clip.name, str(clip.weights), 0, 4))
    run = (
        "from lraee.models.stored import read_model",
        "from lraee.quantize.schemes import SCHEMES",
        "from lraee.registry import parse",
        "from lraee.features.extract import extract",
        f"model = read_model({str(tmp_path / 'model')!r})",
        "from PIL import Image",
        "pixels = model.transform(Image.new('RGB', (40, 40)))[None]",
        "import torch",
        "scheme = parse(SCHEMES, 'scheme', {'scheme': 'uniform', 'weights': {}, 'activations': {}})",
        "tower = scheme.apply(model.tower, scheme.calibrate(model.tower, lambda: [pixels]))",
        "extract(tower, pixels)",
    )
    assert imported([], run) == {"torch"}
