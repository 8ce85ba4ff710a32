"""Weights from files, seeds and the hub's cache; nothing in a file is ever executed."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lraee.models.families import weights_kind
from lraee.models.families.timm import TimmModel
from lraee.models.open_clip_tower import create, open_clip
from lraee.models.timm_tower import create as create_timm
from lraee.models.timm_tower import timm
from lraee.models.weights import random_from, read_weights, sha256_of

ROOT = Path(__file__).parents[2]
VIT = "vit_tiny_patch16_224"
SETTING = "model.pretrained"


class _Trap:
    """Unpickled without a restriction, this makes a file."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> Any:
        return Path.touch, (self.sprung,)


def _pickled(content: Any, path: Path, form: str) -> None:
    if form == "plain":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin"])
@pytest.mark.parametrize("form", ["plain", "legacy", "zip"])
@pytest.mark.parametrize("library", ["open_clip", "timm"])
def test_a_pickle_is_refused_and_never_run(clip: Any, tmp_path: Path, suffix: str, form: str, library: str) -> None:
    path, sprung = tmp_path / f"model{suffix}", tmp_path / "sprung"
    _pickled({"state_dict": {"visual.proj": _Trap(sprung)}}, path, form)
    with pytest.raises(ValueError, match="no code is loaded from a file"):
        create(clip.name, str(path), 0) if library == "open_clip" else create_timm(VIT, path, 0)
    assert not sprung.exists()


def test_the_trap_works(tmp_path: Path) -> None:
    path, sprung = tmp_path / "model.pt", tmp_path / "sprung"
    _pickled(_Trap(sprung), path, "zip")
    torch.load(path, weights_only=False)
    assert sprung.exists()


def test_no_variable_of_the_environment_lifts_the_restriction(
    clip: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path, sprung = tmp_path / "model.pt", tmp_path / "sprung"
    _pickled({"visual.proj": _Trap(sprung)}, path, "zip")
    with pytest.raises(ValueError, match="no code is loaded"):
        create(clip.name, str(path), 0)
    assert not sprung.exists()


def test_a_torchscript_archive_is_refused(clip: Any, tmp_path: Path) -> None:
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), str(tmp_path / "model.pt"))
    with pytest.raises(ValueError, match=r"model\.pt, a TorchScript archive: it holds code"):
        create(clip.name, str(tmp_path / "model.pt"), 0)


@pytest.mark.parametrize("content", [[1, 2], {}, {"a": 3}, {"state_dict": {}}, "text"])
def test_a_file_without_named_tensors_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"model\.pt, which holds no weights"):
        read_weights(tmp_path / "model.pt", SETTING)


@pytest.mark.parametrize("keep", [0, 100, 3000])
def test_a_truncated_file_is_named(clip: Any, tmp_path: Path, keep: int) -> None:
    torch.save(clip.model.state_dict(), tmp_path / "whole.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"cut\.pt, which is (truncated or )?damaged"):
        read_weights(tmp_path / "cut.pt", SETTING)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth", ".bin"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_every_kind_of_file_gives_the_same_weights(clip: Any, tmp_path: Path, suffix: str, wrapped: bool) -> None:
    state, path = clip.model.state_dict(), tmp_path / f"model{suffix}"
    if suffix == ".safetensors":
        save_file({f"module.{key}": value for key, value in state.items()} if wrapped else state, path)
    else:
        parallel = {f"module.{key}": value for key, value in state.items()}
        torch.save({"epoch": 3, "state_dict": parallel} if wrapped else state, path)
    filled = create(clip.name, str(path), 0).state_dict()
    assert filled.keys() == state.keys()
    assert all(torch.equal(filled[key], state[key]) for key in state)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_timm_reads_every_kind_of_file(tmp_path: Path, suffix: str) -> None:
    state, path = create_timm(VIT, None, 3).state_dict(), tmp_path / f"model{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save({"model": state, "epoch": 1}, path)
    assert sha256_of(create_timm(VIT, path, 0)) == sha256_of(create_timm(VIT, None, 3))


def test_position_embeddings_of_another_image_size_are_not_interpolated(clip: Any, make_clip: Any) -> None:
    larger = make_clip("larger-quickgelu", quick_gelu=True, image_size=48)
    # open_clip itself takes these weights without a word.
    assert open_clip.create_model(clip.name, pretrained=str(larger.weights))
    with pytest.raises(ValueError, match=r"size mismatch for visual\.positional_embedding, 1,184 numbers .* has 544"):
        create(clip.name, str(larger.weights), 0)


@pytest.mark.parametrize("library", ["open_clip", "timm"])
def test_random_weights_are_the_architectures_own_from_the_seed(clip: Any, library: str) -> None:
    def random(seed: int) -> Any:
        return create(clip.name, "random", seed) if library == "open_clip" else create_timm(VIT, None, seed)

    with random_from(5):
        expected = open_clip.create_model(clip.name) if library == "open_clip" else timm.create_model(VIT)
    before = torch.get_rng_state()
    assert sha256_of(random(5)) == sha256_of(expected)
    assert sha256_of(random(6)) != sha256_of(expected)
    assert torch.equal(torch.get_rng_state(), before)


def test_random_weights_do_not_depend_on_threads() -> None:
    threads, hashes = torch.get_num_threads(), set()
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            hashes.add(sha256_of(create_timm(VIT, None, 0)))
    finally:
        torch.set_num_threads(threads)
    assert len(hashes) == 1


def test_the_hash_sees_every_part_of_a_weight() -> None:
    module = nn.Linear(2, 3)
    first = sha256_of(module)
    assert first == sha256_of(module)
    with torch.no_grad():
        module.bias[2] += 1e-6
    assert sha256_of(module) != first
    assert sha256_of(nn.Sequential(module)) != sha256_of(module)
    assert sha256_of(module.half()) != sha256_of(module.float())


def test_kinds_of_weights() -> None:
    assert [weights_kind(given) for given in ("a.pt", "x/y.safetensors", "openai", "random", "embedded", "hub")] == [
        "file", "file", "tag", "random", "embedded", "hub",
    ]  # fmt: skip
    assert {weights_kind(tag) for _, tag in open_clip.list_pretrained()} == {"tag"}


@pytest.mark.parametrize("weights", ["weights.npz", "vit.bin.gz", "embedded"])
def test_other_files_are_refused_for_timm(weights: str) -> None:
    with pytest.raises(ValueError, match=r"\.safetensors, \.pt, \.pth or \.bin file, or 'random'"):
        TimmModel(family="timm", name=VIT, weights=Path(weights), outputs=Path("outputs.txt"))


def test_other_weights_of_a_model_on_the_hub_are_refused(clip: Any) -> None:
    with pytest.raises(ValueError, match=r"'hub', but model\.name 'tiny-quickgelu' is no 'hf-hub"):
        create(clip.name, "hub", 0)


# Run in a process of its own: huggingface_hub reads its environment when it is imported.
_OFFLINE = """
import json, sys
from lraee.models.open_clip_tower import create, load, open_clip
from lraee.models.weights import sha256_of

config, *asked = sys.argv[1:]
open_clip.add_model_config(config)
plain = dict(hf_hub="maker/tiny-clip/", mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2))
tags = {"kept": plain | {"quick_gelu": True}, "lost": plain | {"hf_hub": "maker/lost/"}}
open_clip.pretrained._PRETRAINED["tiny-plain"] = tags
answers = {}
for pair in asked:
    name, pretrained = pair.split()
    try:
        loaded = load(name, pretrained, 0, 4)
        activation = type(loaded.tower.blocks[0].act).__name__
        answers[pair] = [sha256_of(create(name, pretrained, 0)), activation, loaded.preprocessing.mean]
    except (ValueError, FileNotFoundError) as error:
        answers[pair] = [type(error).__name__, str(error)]
print(json.dumps(answers))
"""
_KEPT, _LOST, _WHOLE = "tiny-plain kept", "tiny-plain lost", "hf-hub:maker/whole hub"
_REFUSED = {
    "hf-hub:maker/unfilled hub": "its weights file",
    "hf-hub:maker/absent hub": "its open_clip_config.json",
    "hf-hub:maker/whole laion2b": "either 'hub' or 'random'",
}


@pytest.fixture(scope="module")
def cached(make_clip: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """The hub's cache as it is after a download, filled by hand with random weights, and no network."""
    home = tmp_path_factory.mktemp("hub")
    clip = make_clip("tiny-plain")
    config = json.loads(clip.weights.with_suffix(".json").read_text())
    files = {
        "maker--tiny-clip": {"open_clip_model.safetensors": clip.weights.read_bytes()},
        "maker--whole": {
            "open_clip_model.safetensors": clip.weights.read_bytes(),
            "open_clip_config.json": json.dumps({"model_cfg": config, "preprocess_cfg": {"mean": [0.1, 0.2, 0.3]}}),
        },
        "maker--unfilled": {"open_clip_config.json": json.dumps({"model_cfg": config, "preprocess_cfg": {}})},
    }
    for repository, content in files.items():
        folder = home / "hub" / f"models--{repository}"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text("0" * 40)
        (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
        for name, data in content.items():
            path = folder / "snapshots" / ("0" * 40) / name
            path.write_bytes(data if isinstance(data, bytes) else data.encode())

    environment = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    environment.pop("HF_HUB_CACHE", None)
    asked = [str(clip.weights.with_suffix(".json")), _KEPT, _LOST, _WHOLE, *_REFUSED]
    done = subprocess.run(
        [sys.executable, "-c", _OFFLINE, *asked], env=environment, capture_output=True, text=True, check=True
    )
    answers: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answers, sha256_of(clip.model)


def test_a_tag_is_read_from_the_cache_without_a_network(cached: tuple[dict[str, Any], str]) -> None:
    answers, expected = cached
    # The tag says QuickGELU, the architecture does not; mean and deviation are the tag's own.
    assert answers[_KEPT] == [expected, "QuickGELU", [0.5, 0.4, 0.3]]


def test_a_tag_that_the_cache_lacks_is_refused_with_the_way_out(cached: tuple[dict[str, Any], str]) -> None:
    kind, message = cached[0][_LOST]
    assert kind == "FileNotFoundError"
    assert message.startswith("model.pretrained is 'lost', but its file for tiny-plain (maker/lost/) is not in the hub")
    assert "HF_HUB_OFFLINE is set" in message
    assert "run once with a network" in message


def test_a_model_of_the_hub_is_read_from_the_cache(cached: tuple[dict[str, Any], str]) -> None:
    answers, expected = cached
    assert answers[_WHOLE] == [expected, "GELU", [0.1, 0.2, 0.3]]


@pytest.mark.parametrize("asked", _REFUSED)
def test_a_model_of_the_hub_never_gets_random_weights_unasked(cached: tuple[dict[str, Any], str], asked: str) -> None:
    kind, message = cached[0][asked]
    assert kind in ("ValueError", "FileNotFoundError")
    assert _REFUSED[asked] in message
