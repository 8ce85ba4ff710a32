"""Compiled graphs are kept between processes, found by all that they are made of, and never trusted where damaged."""

import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from lraee.runtime import EarlyExitCLIP

openvino = pytest.importorskip("openvino")
graph_cache = pytest.importorskip("lraee.runtime.graph_cache")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where graphs are kept, empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return graph_cache.cache_folder()


@pytest.fixture
def compiles(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list that grows with every graph that is compiled."""
    done: list[str] = []
    actual = graph_cache.core()

    class Counting:
        def compile_model(self, *arguments: Any) -> Any:
            done.append("compiled")
            return actual.compile_model(*arguments)

        def __getattr__(self, name: str) -> Any:
            return getattr(actual, name)

    counting = Counting()
    monkeypatch.setattr("lraee.runtime.graph_cache.core", lambda: counting)
    monkeypatch.setattr("lraee.runtime.openvino_graph.core", lambda: counting)
    return done


def answers(exported: Any) -> Any:
    model = EarlyExitCLIP.load(exported.folder, "openvino")
    return model.predict(exported.pixels), model.encode_image(exported.pixels)


def same(first: Any, second: Any) -> bool:
    return bool(first[0] == second[0] and torch.equal(first[1], second[1]))


def test_a_kept_graph_answers_the_same_and_is_not_compiled(exported: Any, folder: Path, compiles: list[str]) -> None:
    first = answers(exported)
    assert len(list(folder.iterdir())) > 1
    compiles.clear()
    assert same(answers(exported), first)
    assert not compiles


def test_single_images_have_graphs_of_their_own(exported: Any, folder: Path) -> None:
    model = EarlyExitCLIP.load(exported.folder, "openvino")
    model.encode_image(exported.pixels)
    model.encode_image(exported.pixels[:1])
    assert len(list(folder.iterdir())) == 2


def test_only_what_is_needed_is_compiled(exported: Any, folder: Path, compiles: list[str]) -> None:
    EarlyExitCLIP.load(exported.folder, "openvino")
    assert not compiles
    assert not folder.exists()


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:10], lambda b: b"", lambda b: b[:-1] + b"?"])
def test_a_damaged_graph_is_compiled_again(exported: Any, folder: Path, damage: Any, compiles: list[str]) -> None:
    first = answers(exported)
    for path in folder.iterdir():
        path.write_bytes(damage(path.read_bytes()))
    compiles.clear()
    assert same(answers(exported), first)
    assert compiles
    compiles.clear()
    assert same(answers(exported), first)
    assert not compiles


def test_without_a_place_to_keep_them_graphs_are_compiled(
    exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert same(answers(exported), answers(exported))


def test_other_classes_never_meet_the_graphs_of_the_exported_ones(exported: Any, folder: Path) -> None:
    answers(exported)
    kept = sorted(folder.iterdir())
    other = EarlyExitCLIP.load(exported.folder, "openvino").with_classes(["one", "two"])
    assert {prediction.labels[0] for prediction in other.predict(exported.pixels)} <= {"one", "two"}
    assert sorted(folder.iterdir()) == kept


def test_another_export_has_other_graphs(exported: Any, make_exported: Any, folder: Path) -> None:
    answers(exported)
    count = len(list(folder.iterdir()))
    answers(make_exported(aggregation="cls"))
    assert len(list(folder.iterdir())) == 2 * count


def test_the_name_tells_parts_versions_and_cpus_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    name = graph_cache.name_of("export", (0, 8), True)
    assert name == graph_cache.name_of("export", (0, 8), True)
    assert name != graph_cache.name_of("export", (0, 8), False)
    with monkeypatch.context() as patch:
        patch.setattr(openvino, "__version__", "1.0")
        assert name != graph_cache.name_of("export", (0, 8), True)
    monkeypatch.setattr("lraee.runtime.graph_cache.cpu_info", lambda key: [f"another {key}"])
    assert name != graph_cache.name_of("export", (0, 8), True)


def test_graphs_that_nobody_loads_any_more_are_removed(exported: Any, make_exported: Any, folder: Path) -> None:
    answers(exported)
    long_ago = time.time() - (graph_cache.UNUSED_DAYS + 1) * 86_400
    old = list(folder.iterdir())
    for path in old:
        os.utime(path, (long_ago, long_ago))
    used, *unused = old
    os.utime(used)
    answers(make_exported(aggregation="cls"))
    assert used.exists()
    assert not any(path.exists() for path in unused)


def test_loading_a_graph_counts_as_using_it(exported: Any, folder: Path) -> None:
    answers(exported)
    for path in folder.iterdir():
        os.utime(path, (1.0, 1.0))
    answers(exported)
    assert all(path.stat().st_mtime > 1.0 for path in folder.iterdir())
