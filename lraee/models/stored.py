"""The model as one file: read from its library once, so that no later job imports that, or asks a hub, again."""

from dataclasses import asdict
from pathlib import Path

from lraee.models.assembly import Assembly, put_together, take_apart
from lraee.models.families import LoadedModel, Preprocessing
from lraee.tensors import read_tensors, write_tensors


def write_model(path: str | Path, model: LoadedModel) -> None:
    """Write a model whose tower is in FP32; ValueError where a file cannot hold it."""
    assembly, tensors = take_apart(model.tower)
    described = {"assembly": assembly.model_dump(), "preprocessing": asdict(model.preprocessing)}
    write_tensors(path, tensors, described)


def read_model(path: str | Path) -> LoadedModel:
    """Read what write_model wrote; UnreadableFileError names a damaged file."""
    tensors, described = read_tensors(path)
    tower = put_together(Assembly.model_validate(described["assembly"]), tensors)
    p = described["preprocessing"]
    lists = {name: tuple(p[name]) for name in ("size", "mean", "std")}
    return LoadedModel(tower, Preprocessing(**(p | lists)))
