"""Whole manifests for the tests of this folder."""

import pandas as pd

from lraee.data.manifest import SPLITS, DataSettings, split_manifest


def build_manifest(data: DataSettings, seed: int) -> pd.DataFrame:
    """Every split's manifest, as the workflow's five jobs make them."""
    parts = []
    for split in SPLITS:
        name = data.splits[split].source
        parts.append(split_manifest(data.sources[name], name, data.sizes(split), split, seed))
    return pd.concat(parts, ignore_index=True)
