"""Score every exit on the later splits."""

import pandas as pd
from _classes import read_classes
from _job import logged, use_threads

from lraee.exits.heads import HeadKey, Heads
from lraee.exits.scores import score_exits
from lraee.features.store import iterate_features
from lraee.io import write_table
from lraee.tensors import read_tensors

with logged(snakemake):
    use_threads(snakemake)
    p = snakemake.params
    classes, _, _ = read_classes(snakemake.input.classes)
    parameters, metadata = read_tensors(snakemake.input.heads)
    heads = Heads([HeadKey(*key) for key in metadata["keys"]], parameters)
    for path, identity, output in zip(snakemake.input.features, p.identities, snakemake.output, strict=True):
        chunks = iterate_features(path, identity, p.layers)
        scores = [score_exits(chunk, p.layers, heads, classes, p.depth) for chunk in chunks]
        write_table(output, pd.concat(scores, ignore_index=True))
