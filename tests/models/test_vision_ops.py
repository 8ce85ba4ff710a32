import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from lraee.models import vision_ops

ROOT = Path(__file__).parents[2]

# What a matched pair's library does when it is loaded, as far as the import needs it: it defines the operators.
_MATCHED = """
import importlib.util, pathlib, re, torch
loaded = []
def load_library(path):
    if "_C" not in str(path) or loaded:
        return
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    folder = pathlib.Path(importlib.util.find_spec("torchvision").origin).parent
    for name in re.findall(r'register_meta."(.*?)"', (folder / "_meta_registrations.py").read_text()):
        library.define(name + "(Tensor input) -> Tensor")
    library.define("_cuda_version() -> int")
    library.impl("_cuda_version", lambda: -1, "CompositeExplicitAutograd")
    loaded.append(library)
torch.ops.load_library = load_library
"""
_MISMATCHED = """
import torch
def load_library(path):
    raise OSError("undefined symbol")
torch.ops.load_library = load_library
"""
_NO_LIBRARY = """
import pathlib
plain = pathlib.Path.glob
pathlib.Path.glob = lambda self, pattern, **more: iter(()) if pattern.startswith("_C") else plain(self, pattern, **more)
import torch
def load_library(path):
    raise OSError("no such file")
torch.ops.load_library = load_library
"""
_IMPORT = """
from lraee.models import vision_ops
import open_clip, timm, torchvision
print("declared", vision_ops.DECLARED is not None, torch.ops.torchvision.nms.default)
"""


def _run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_open_clip_and_timm_import_in_a_fresh_interpreter() -> None:
    assert "declared" in _run("import torch" + _IMPORT)


def test_a_pair_whose_operators_do_not_load_gets_them_declared() -> None:
    assert "declared True" in _run(_MISMATCHED + _IMPORT)


def test_a_pair_whose_operators_load_is_left_alone() -> None:
    assert "declared False" in _run(_MATCHED + _IMPORT)


def test_a_torchvision_without_its_library_gets_the_operators_declared() -> None:
    assert "declared True" in _run(_NO_LIBRARY + _IMPORT)


@pytest.mark.parametrize("name", ["_C.so", "_C_stable.so", "_C.pyd"])
def test_the_library_is_found_under_each_of_its_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / name).touch()
    (tmp_path / "_C_notes.txt").touch()
    loaded: list[str] = []
    spec = ModuleSpec("torchvision", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(vision_ops.importlib.util, "find_spec", lambda _: spec)
    monkeypatch.setattr(vision_ops.torch.ops, "load_library", lambda path: loaded.append(path.name))
    assert vision_ops.operators_load()
    assert loaded == [name]


def test_without_the_declarations_a_mismatched_pair_cannot_be_imported() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _MISMATCHED + "import torchvision"], capture_output=True, text=True, timeout=300
    )
    if done.returncode == 0:
        pytest.skip("this torchvision imports without its operators")
    assert "torchvision::nms does not exist" in done.stderr


@pytest.mark.parametrize("module", ["lraee.data.manifest", "lraee.models.families", "lraee.quantize.schemes"])
def test_settings_load_without_torch(module: str) -> None:
    code = f"import sys, {module} as m; [list(v) for v in list(vars(m).values()) if type(v).__name__ == 'Registry']; "
    assert _run(code + "print('torch' in sys.modules)") == "False\n"
