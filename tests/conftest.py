"""Tiny models and the way to real data that tests of several packages share."""

import json
import os

# Every worker of pytest takes one core, and so does what it starts: more threads than cores wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests import examples

# How long an example takes says nothing on a busy machine.
settings.register_profile("untimed", deadline=None, max_examples=examples(30))
settings.load_profile("untimed")


LONGEST_FIRST = [f"tests/workflow/test_{name}.py" for name in ("slurm", "faults", "run", "plan")]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take minutes, most of them waiting: begun last, one worker would wait for another."""
    place = {name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: place.get(item.nodeid.partition("::")[0], len(place)))


@pytest.fixture(scope="session", autouse=True)
def _no_cache_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@dataclass(frozen=True)
class TinyClip:
    """A random open_clip model: its registered name, its weights file, and the model itself."""

    name: str
    weights: Path
    model: Any


@pytest.fixture(scope="session")
def make_clip(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Register a tiny open_clip configuration, give every parameter random values, and save them as safetensors.

    Noise on every parameter makes each bias and each LayerNorm gain count (most start at 0 or 1).
    """
    import torch
    from safetensors.torch import save_file

    from lraee.models import vision_ops  # noqa: F401  (before open_clip)

    import open_clip  # isort: skip

    folder = tmp_path_factory.mktemp("clip")

    def make(name: str, quick_gelu: bool = False, **vision: Any) -> TinyClip:
        plain = {"image_size": 32, "layers": 4, "width": 32, "head_width": 16, "patch_size": 8}
        text = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
        config = {"embed_dim": 24, "quick_gelu": quick_gelu, "vision_cfg": plain | vision, "text_cfg": text}
        (folder / f"{name}.json").write_text(json.dumps(config), encoding="utf-8")
        open_clip.add_model_config(folder / f"{name}.json")
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = open_clip.create_model(name).eval().requires_grad_(False)
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        save_file(model.state_dict(), folder / f"{name}.safetensors")
        return TinyClip(name, folder / f"{name}.safetensors", model)

    return make


@pytest.fixture(scope="session")
def clip(make_clip: Any) -> TinyClip:
    """A CLIP of 4 blocks x 32, 16 patches, QuickGELU."""
    return make_clip("tiny-quickgelu", quick_gelu=True)


@pytest.fixture
def tower(clip: TinyClip) -> Any:
    """The vision tower of `clip`; a fresh copy, so that a test may change it."""
    import copy

    from lraee.models.open_clip_tower import tower_of

    return tower_of(copy.deepcopy(clip.model))


@pytest.fixture(scope="session")
def pixels() -> Any:
    """Eight random pictures for `clip`: (8, 3, 32, 32)."""
    import torch

    return torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data; the test is skipped where there is none."""
    folder = Path(os.environ.get("LRAEE_REAL_DATA") or Path(__file__).parents[1] / ".." / "shared" / "real")
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}; set LRAEE_REAL_DATA")
    return folder
