"""Score every exit of every variant on the gate, select and test splits."""

from _classes import read_classes
from _features import read_development, shards_by_split
from _job import logged, use_threads
from tqdm import tqdm

from lraee.exits.head_plan import HeadPlan
from lraee.exits.heads import read_heads
from lraee.exits.scores import score_table, score_variant
from lraee.exits.settings import HeadSettings
from lraee.exits.variants import BASE, Variant
from lraee.io import write_table
from lraee.tensors import write_tensors

with logged(snakemake):
    use_threads(snakemake)
    p, outputs = snakemake.params, snakemake.output
    pool, (classes, _, _) = read_development(snakemake), read_classes(snakemake.input.classes)
    test = shards_by_split(snakemake.input.test, {"test": p.test_identities})["test"]
    heads = read_heads(snakemake.input.heads)
    settings, plan = HeadSettings.model_validate(p.heads), HeadPlan.model_validate(p.plan)
    scores, base = {"gate": [], "select": [], "test": []}, None
    for variant in tqdm([Variant.model_validate(v) for v in p.variants], desc="variants", unit="variant"):
        keys = plan.keys(settings, variant.name)
        # Another temperature reads the heads of the base.
        own = heads.only([key if variant.fitted else key._replace(variant=BASE) for key in keys])
        scorer, tables = score_variant(variant, own, pool, test, classes)
        base = base or scorer
        for split, table in tables.items():
            scores[split].append(table)
    for split, tables in scores.items():
        write_table(outputs[split], score_table(tables))
    described = {"keys": base.heads.keys}
    write_tensors(outputs.probes, {"weights": base.probes.weights, "bias": base.probes.bias}, described)
