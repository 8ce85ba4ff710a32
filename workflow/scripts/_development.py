"""What the scripts that fit and score heads share: the development images of a precision."""

from typing import Any

from lraee.exits.development import Development, open_development
from lraee.features.store import Shard


def read_development(snakemake: Any) -> Development:
    """Open the rule's development images; its identities are by split, its files in their order."""
    p, files = snakemake.params, snakemake.input
    own = _by_split(files.development, p.identities)
    return open_development(own, _by_split(files.targets, p.target_identities), p.sources)


def _by_split(paths: list[str], identities: dict[str, list[str]]) -> dict[str, list[Shard]]:
    remaining = iter(paths)
    return {split: [Shard(next(remaining), identity) for identity in own] for split, own in identities.items()}
