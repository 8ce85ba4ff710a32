"""Train all exit heads of one precision, of every variant; an interrupted training goes on where it was."""

import shutil

from _checkpoints import checkpoints_of
from _classes import read_classes
from _features import read_development
from _job import logged, use_threads

from lraee.exits.checkpoint import Checkpoint
from lraee.exits.head_plan import HeadPlan
from lraee.exits.heads import fit_variant, read_heads, stacked, write_heads
from lraee.exits.settings import HeadSettings
from lraee.exits.variants import Variant

with logged(snakemake):
    use_threads(snakemake)
    p = snakemake.params
    pool, (classes, _, _) = read_development(snakemake), read_classes(snakemake.input.classes)
    settings, plan = HeadSettings.model_validate(p.heads), HeadPlan.model_validate(p.plan)
    folder = checkpoints_of(snakemake)

    def fitted(variant):
        kept = folder / f"{variant.name}.safetensors"
        if kept.exists():
            return read_heads(kept)
        keys = plan.keys(settings, variant.name)
        running = Checkpoint(folder / f"{variant.name}.running.safetensors")
        heads = fit_variant(variant, keys, pool, classes, settings, p.seed, running)
        write_heads(kept, heads)
        return heads

    heads = stacked([fitted(v) for v in map(Variant.model_validate, p.variants) if v.fitted])
    write_heads(snakemake.output[0], heads)
    shutil.rmtree(p.checkpoints, ignore_errors=True)
