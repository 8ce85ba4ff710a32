"""What the scripts that read features share: a rule's files with their identities, and the development images."""

from typing import Any

from lraee.exits.development import Development, open_development
from lraee.features.store import Shard


def read_development(snakemake: Any) -> Development:
    """Open the rule's development images; its identities are by split, its files in their order."""
    p, files = snakemake.params, snakemake.input
    own = shards_by_split(files.development, p.identities)
    return open_development(own, shards_by_split(files.targets, p.target_identities), p.sources)


def shards_by_split(paths: list[str], identities: dict[str, list[str]]) -> dict[str, list[Shard]]:
    """Pair files, in the order of the splits, with the identities that they must have."""
    remaining = iter(paths)
    return {split: [Shard(next(remaining), identity) for identity in own] for split, own in identities.items()}
