"""The development images: the splits `fit`, `gate` and `select` of one precision, read as one pool."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lraee.exits.variants import DEVELOPMENT, Images
from lraee.features.store import Features, concatenate, read_features


def read_development(
    paths: Mapping[str, str | Path], identities: Mapping[str, str], sources: Mapping[str, str], layers: Sequence[int]
) -> tuple[Features, Images]:
    """Read the pool: features of `layers`, and where each row comes from. All arguments but the last are by split.

    Raises as read_features.
    """
    parts = {split: read_features(paths[split], identities[split], layers) for split in DEVELOPMENT}
    sizes = [len(parts[split].labels) for split in DEVELOPMENT]
    features = concatenate(list(parts.values()))
    source = np.repeat([sources[split] for split in DEVELOPMENT], sizes)
    return features, Images(source, np.repeat(DEVELOPMENT, sizes), features.labels)
