"""What the scripts that run the network share: a tower in some precision, and batches of a split."""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
from torch import Tensor

from lraee.data.batches import Loader, Opens
from lraee.data.pictures import KeptPictures
from lraee.data.sources import SOURCES, Source
from lraee.io import read_table
from lraee.models.device import usable
from lraee.models.families import LoadedModel
from lraee.models.packed import packed
from lraee.models.stored import read_model
from lraee.models.tower import Tower
from lraee.quantize.schemes import SCHEMES
from lraee.registry import parse
from lraee.tensors import read_tensors


def load_model(snakemake: Any) -> LoadedModel:
    """Read the rule's model, its tower on the device of the settings."""
    device = usable(snakemake.params.device)
    model = read_model(snakemake.input.model)
    model.tower.to(device)
    return model


def in_precision(tower: Tower, snakemake: Any) -> Tower:
    """Quantize the tower as the rule's scheme says (FP32 has none), and pack what stays FP32."""
    if snakemake.params.scheme is not None:
        state, _ = read_tensors(snakemake.input.state)
        tower = parse(SCHEMES, "scheme", snakemake.params.scheme).apply(tower, state)
    return packed(tower)


def read_sources(snakemake: Any) -> dict[str, Source]:
    """Rebuild the data sources by name."""
    return {name: parse(SOURCES, "source", source) for name, source in snakemake.params.sources.items()}


def loader_and_rows(
    transform: Callable[[Any], Tensor], snakemake: Any, prefix: str = ""
) -> tuple[Loader, pd.DataFrame]:
    """Return what reads the rule's split, and the split's manifest; a rule with two names the other's with a prefix."""
    sources: Mapping[str, Opens] = read_sources(snakemake)
    pictures = snakemake.input.get(f"{prefix}pictures")
    if pictures:  # those of the split's one source
        sources = dict.fromkeys(sources, KeptPictures(pictures))
    loader = Loader(sources, transform, snakemake.params.batch)
    return loader, read_table(snakemake.input[f"{prefix}manifest"])
