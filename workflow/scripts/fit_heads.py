"""Train all exit heads of one precision on the `fit` split."""

import numpy as np
from _classes import read_classes
from _job import logged, use_threads

from lraee.exits.heads import fit_heads
from lraee.exits.settings import HeadSettings
from lraee.features.store import read_features
from lraee.tensors import write_tensors

with logged(snakemake):
    use_threads(snakemake)
    p = snakemake.params
    features = read_features(snakemake.input.features, p.identity, p.layers)
    targets = read_features(snakemake.input.targets, p.target_identity, p.layers[:1])
    if not np.array_equal(features.samples, targets.samples):
        raise ValueError("this precision and FP32 hold different images of the fit split; delete results and run again")
    classes, _, _ = read_classes(snakemake.input.classes)
    settings = HeadSettings.model_validate(p.heads)
    heads = fit_heads(features, targets.final, p.layers, classes, settings, p.seed)
    write_tensors(snakemake.output[0], heads.parameters, {"keys": heads.keys})
