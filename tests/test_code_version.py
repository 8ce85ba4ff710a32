import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lraee import code_version
from lraee.code_version import code_hash, reached

ROOT = Path(__file__).parents[1]

TREE = {
    "lraee/__init__.py": '"""Toy."""\n',
    "lraee/base.py": "VALUE = 1\n",
    "lraee/unrelated.py": "OTHER = 1\n",
    "lraee/parts/__init__.py": "",
    "lraee/parts/direct.py": "import lraee.base as base\n",
    "lraee/parts/late.py": "def use():\n    from lraee.deep.inner import function\n    return function\n",
    "lraee/parts/whole.py": "from lraee import parts\nfrom lraee.parts import direct\n",
    "lraee/deep/__init__.py": "",
    "lraee/deep/inner.py": "import typing\nif typing.TYPE_CHECKING:\n    from lraee.hinted import Hint\nfunction = 1\n",
    "lraee/hinted.py": "Hint = int\n",
    "scripts/_job.py": "import numpy\n",
    "scripts/one.py": "from _job import logged\nfrom lraee.parts.direct import base\nimport lraee.parts.late\n",
    "scripts/other.py": "import lraee.unrelated\n",
    "scripts/member.py": "from lraee.parts import direct\n",
}


@pytest.fixture
def tree(tmp_path, monkeypatch):
    for name, text in TREE.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    monkeypatch.setattr(code_version, "_ROOT", tmp_path)
    code_version._imports.cache_clear()
    code_version._files.cache_clear()
    yield tmp_path
    code_version._imports.cache_clear()
    code_version._files.cache_clear()


def hash_of(tree, script="one.py"):
    code_version._imports.cache_clear()
    code_version._files.cache_clear()
    return code_hash(tree / "scripts" / script)


def names(tree, script):
    return [str(path.relative_to(tree)) for path in reached(tree / "scripts" / script)]


def test_every_module_on_the_way_is_reached(tree):
    assert names(tree, "one.py") == [
        "lraee/__init__.py", "lraee/base.py", "lraee/deep/__init__.py", "lraee/deep/inner.py", "lraee/hinted.py",
        "lraee/parts/__init__.py", "lraee/parts/direct.py", "lraee/parts/late.py", "scripts/_job.py", "scripts/one.py",
    ]  # fmt: skip
    assert names(tree, "other.py") == ["lraee/__init__.py", "lraee/unrelated.py", "scripts/other.py"]


def test_a_module_imported_as_a_member_of_its_package_is_reached(tree):
    assert "lraee/parts/direct.py" in names(tree, "member.py")
    assert "lraee/base.py" in names(tree, "member.py")


@pytest.mark.parametrize(
    "changed",
    [
        "scripts/one.py", "scripts/_job.py", "lraee/parts/direct.py", "lraee/base.py", "lraee/parts/late.py",
        "lraee/deep/inner.py", "lraee/__init__.py", "lraee/deep/__init__.py",
    ],
)  # fmt: skip
def test_a_change_in_anything_reached_changes_the_hash(tree, changed):
    before = hash_of(tree)
    (tree / changed).write_text(TREE[changed] + "ADDED = 2\n", encoding="utf-8")
    assert hash_of(tree) != before


@pytest.mark.parametrize("changed", ["lraee/unrelated.py", "scripts/other.py", "lraee/parts/whole.py"])
def test_a_change_elsewhere_leaves_the_hash(tree, changed):
    before = hash_of(tree)
    (tree / changed).write_text(TREE[changed] + "ADDED = 2\n", encoding="utf-8")
    (tree / "lraee" / "new.py").write_text("X = 1\n", encoding="utf-8")
    assert hash_of(tree) == before


def test_comments_count(tree):
    before = hash_of(tree)
    (tree / "lraee/base.py").write_text("VALUE = 1  # one\n", encoding="utf-8")
    assert hash_of(tree) != before


def test_a_new_import_brings_its_module_in(tree):
    before = hash_of(tree)
    (tree / "lraee/base.py").write_text("VALUE = 1\n", encoding="utf-8")
    assert hash_of(tree) == before
    (tree / "lraee/base.py").write_text("import lraee.unrelated\n", encoding="utf-8")
    between = hash_of(tree)
    (tree / "lraee/unrelated.py").write_text("OTHER = 2\n", encoding="utf-8")
    assert len({before, between, hash_of(tree)}) == 3


@pytest.mark.parametrize(
    "where",
    [
        "def f():\n    {}", "if True:\n    pass\nelse:\n    {}", "for _ in ():\n    pass\nelse:\n    {}",
        "try:\n    {}\nfinally:\n    pass", "try:\n    pass\nexcept OSError:\n    {}",
        "try:\n    pass\nfinally:\n    {}", "match 1:\n    case 1:\n        {}", "with open('x'):\n    {}",
        "class C:\n    async def f(self):\n        while True:\n            {}",
    ],
)  # fmt: skip
def test_an_import_is_found_inside_any_statement(tmp_path, where):
    (tmp_path / "mine.py").write_text("", encoding="utf-8")
    (tmp_path / "script.py").write_text(where.format("import mine") + "\n", encoding="utf-8")
    assert tmp_path / "mine.py" in reached(tmp_path / "script.py")


def test_contents_moved_between_files_change_the_hash(tree):
    before = hash_of(tree)
    (tree / "lraee/base.py").write_text(TREE["lraee/hinted.py"], encoding="utf-8")
    (tree / "lraee/hinted.py").write_text(TREE["lraee/base.py"], encoding="utf-8")
    assert hash_of(tree) != before


def test_modules_that_import_each_other_end(tree):
    (tree / "lraee/base.py").write_text("import lraee.parts.direct\n", encoding="utf-8")
    assert names(tree, "one.py").count("lraee/base.py") == 1


def test_entries_may_be_modules_besides_the_script(tree):
    code_version._imports.cache_clear()
    code_version._files.cache_clear()
    extra = tree / "lraee/unrelated.py"
    both = code_hash(tree / "scripts/one.py", extra)
    assert both == code_hash(extra, tree / "scripts/one.py")
    assert both != hash_of(tree)


def test_a_missing_entry_is_an_error(tree):
    with pytest.raises(FileNotFoundError):
        code_hash(tree / "scripts" / "none.py")


def test_the_hash_does_not_depend_on_where_the_checkout_lies(tree, monkeypatch):
    before = hash_of(tree)
    moved = tree / "elsewhere"
    for name in ("lraee", "scripts"):
        shutil.copytree(tree / name, moved / name)
    monkeypatch.setattr(code_version, "_ROOT", moved)
    assert hash_of(moved) == before


def test_the_hash_does_not_depend_on_a_link_in_the_way(tmp_path):
    link = tmp_path / "link"
    link.symlink_to(ROOT)
    code = "import sys; from lraee.code_version import code_hash; print(code_hash(sys.argv[1]))"
    hashes = [
        subprocess.check_output(
            [sys.executable, "-c", code, str(root / "workflow/scripts/evaluate.py")],
            cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(root)}, text=True,
        )
        for root in (ROOT, link)
    ]  # fmt: skip
    assert hashes[0] == hashes[1]


def reached_modules(script, *modules):
    code_version._imports.cache_clear()
    code_version._files.cache_clear()
    paths = reached(ROOT / "workflow" / "scripts" / script, *(ROOT / "lraee" / module for module in modules))
    return {str(path.relative_to(ROOT)) for path in paths}


def test_real_scripts_reach_what_they_run_and_no_more():
    extract, evaluate = reached_modules("extract_features.py"), reached_modules("evaluate.py")
    assert {"lraee/features/extract.py", "lraee/models/tower.py"} <= extract
    assert {"lraee/metrics/statistics.py", "lraee/exits/routing.py", "workflow/scripts/_job.py"} <= evaluate
    assert not any(name.startswith(("lraee/evaluation", "lraee/report", "lraee/exits")) for name in extract)
    assert not any(name.startswith(("lraee/report", "lraee/data")) for name in evaluate)
    quantize = {name for name in evaluate if name.startswith("lraee/quantize")}
    settings = {"__init__.py", "operating_point.py", "schemes/__init__.py"}
    assert quantize == {f"lraee/quantize/{name}" for name in settings}, "what Coverage is, no more"


def test_only_what_a_scheme_runs_is_reached_through_it():
    arithmetic = {f"lraee/quantize/{name}.py" for name in ("calibrate", "grids", "layers")}
    assert not arithmetic & reached_modules("extract_features.py"), "FP32 features do not depend on the quantizers"
    assert arithmetic <= reached_modules("extract_features.py", "quantize/schemes/uniform.py")


@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "workflow/scripts").glob("[!_]*.py")))
def test_no_script_reaches_the_report_but_its_own(script):
    reaches = any(name.startswith("lraee/report") for name in reached_modules(script))
    assert reaches == (script == "report.py")


def test_no_module_of_the_package_imports_relatively():
    # A relative import would not be followed.
    offenders = [
        path for path in (ROOT / "lraee").rglob("*.py")
        if any(line.lstrip().startswith("from .") for line in path.read_text(encoding="utf-8").splitlines())
    ]  # fmt: skip
    assert offenders == []
