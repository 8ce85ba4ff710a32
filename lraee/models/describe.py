"""A loaded model in plain values: what `model.json` holds."""

from dataclasses import asdict
from typing import Any

from lraee.models.families import LoadedModel, ModelFamily
from lraee.models.weights import sha256_of


def describe(settings: ModelFamily, model: LoadedModel) -> dict[str, Any]:
    """Name, weights and their hash, sizes, activation and preprocessing of a model whose tower is on the CPU."""
    tower = model.tower
    return {
        "name": settings.name,
        "family": settings.family,
        "weights": settings.weights_source,
        "random_weights": settings.random_weights,
        "sha256": sha256_of(tower),
        "parameters": sum(parameter.numel() for parameter in tower.parameters()),
        "activation": type(tower.blocks[0].act).__name__,
        "shape": asdict(tower.shape),
        "preprocessing": asdict(model.preprocessing),
    }
