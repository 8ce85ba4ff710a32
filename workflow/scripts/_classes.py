"""Read the class embeddings and the tower's sizes back."""

from typing import Any

from lraee.models.shape import TowerShape
from lraee.models.tower import ClassEmbeddings
from lraee.tensors import read_tensors


def read_classes(path: str) -> tuple[ClassEmbeddings, TowerShape, Any]:
    """Return the class embeddings, the tower's shape, and all metadata."""
    tensors, metadata = read_tensors(path)
    classes = ClassEmbeddings(tensors["rows"], tensors["bias"], metadata["scale"], metadata["cosine"])
    return classes, TowerShape(**metadata["shape"]), metadata
