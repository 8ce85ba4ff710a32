"""Score every exit of every variant on the gate, select and test splits."""

import numpy as np
from _classes import read_classes
from _development import read_pools
from _job import logged, use_threads
from torch import from_numpy
from tqdm import tqdm

from lraee.exits.head_plan import HeadKey, HeadPlan
from lraee.exits.heads import Heads
from lraee.exits.scores import fit_scorer, predictions, score_table
from lraee.exits.settings import HeadSettings
from lraee.exits.variants import BASE, Variant, deal_again
from lraee.features.store import iterate_features
from lraee.io import write_table
from lraee.tensors import read_tensors, write_tensors

with logged(snakemake):
    use_threads(snakemake)
    p, outputs = snakemake.params, snakemake.output
    pools = read_pools(snakemake)
    classes, _, _ = read_classes(snakemake.input.classes)
    fp32_answers = predictions(from_numpy(pools.targets), classes)
    parameters, metadata = read_tensors(snakemake.input.heads)
    heads = Heads([HeadKey(*key) for key in metadata["keys"]], parameters)
    settings, plan = HeadSettings.model_validate(p.heads), HeadPlan.model_validate(p.plan)
    scores, scorers = {"gate": [], "select": [], "test": []}, []
    for variant in tqdm([Variant.model_validate(v) for v in p.variants], desc="variants", unit="variant"):
        keys = plan.keys(settings, variant.name)
        # Another temperature reads the heads of the base.
        own = heads.only([key if variant.fitted else key._replace(variant=BASE) for key in keys])
        dealt = deal_again(pools.images, variant.seed)
        scorer = fit_scorer(variant, own, pools.features, np.flatnonzero(dealt == "gate"), fp32_answers, classes)
        scorers.append(scorer)
        for split in ("gate", "select"):
            scores[split].append(scorer.score(pools.features, np.flatnonzero(dealt == split)))
    for chunk in iterate_features(snakemake.input.test, p.test_identity, range(1, plan.depth + 1)):
        scores["test"] += [scorer.score(chunk, slice(None)) for scorer in scorers]
    for split, parts in scores.items():
        write_table(outputs[split], score_table(parts))
    base = scorers[0]
    described = {"keys": base.heads.keys}
    write_tensors(outputs.probes, {"weights": base.probes.weights, "bias": base.probes.bias}, described)
