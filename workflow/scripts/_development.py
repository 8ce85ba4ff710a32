"""What the scripts that fit and score heads share: the development images of a precision, and the FP32 targets."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lraee.exits.development import read_development
from lraee.exits.variants import DEVELOPMENT, Images
from lraee.features.store import Features


class Pools(NamedTuple):
    """Features of every layer, where each row comes from, and the FP32 model's final embeddings (n, e)."""

    features: Features
    images: Images
    targets: NDArray[np.float32]


def read_pools(snakemake: Any) -> Pools:
    """Read the rule's development images; ValueError where the precision and FP32 hold different ones."""
    p = snakemake.params
    paths = dict(zip(DEVELOPMENT, snakemake.input.development, strict=True))
    fp32 = dict(zip(DEVELOPMENT, snakemake.input.targets, strict=True))
    features, images = read_development(paths, p.identities, p.sources, range(1, p.plan["depth"] + 1))
    targets, _ = read_development(fp32, p.target_identities, p.sources, [1])
    if not np.array_equal(features.samples, targets.samples):
        raise ValueError("this precision and FP32 hold different development images; delete results and run again")
    return Pools(features, images, targets.final)
