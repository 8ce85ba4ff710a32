"""Train all exit heads of one precision, of every variant."""

import numpy as np
from _classes import read_classes
from _development import read_pools
from _job import logged, use_threads

from lraee.exits.head_plan import HeadPlan
from lraee.exits.heads import fit_heads, stacked
from lraee.exits.settings import HeadSettings
from lraee.exits.variants import Variant, deal_again
from lraee.tensors import write_tensors

with logged(snakemake):
    use_threads(snakemake)
    p = snakemake.params
    pools = read_pools(snakemake)
    classes, _, _ = read_classes(snakemake.input.classes)
    settings, plan = HeadSettings.model_validate(p.heads), HeadPlan.model_validate(p.plan)
    parts = []
    for variant in map(Variant.model_validate, p.variants):
        if variant.fitted:
            rows = np.flatnonzero(deal_again(pools.images, variant.seed) == "fit")[: variant.images]
            keys, seed = plan.keys(settings, variant.name), p.seed + variant.seed
            parts.append(fit_heads(pools.features, pools.targets, rows, keys, classes, settings, seed))
    heads = stacked(parts)
    write_tensors(snakemake.output[0], heads.parameters, {"keys": heads.keys})
