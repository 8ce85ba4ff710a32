"""Run an exported network on test images in every engine that is installed, and compare it with the evaluation."""

from pathlib import Path

import numpy as np
import pandas as pd
from _job import logged, use_threads
from _network import loader_and_rows

from lraee.evaluation.agreement import compared
from lraee.evaluation.run import FittedArms
from lraee.exits.score_table import score_tables
from lraee.io import read_json, read_table, write_table
from lraee.runtime import EarlyExitCLIP
from lraee.runtime.engines import installed

with logged(snakemake):
    use_threads(snakemake)
    models = {name: EarlyExitCLIP.load(Path(snakemake.input.exported).parent, name) for name in installed()}
    exported = next(iter(models.values()))
    loader, rows = loader_and_rows(exported.transform, snakemake)
    fitted = FittedArms.model_validate(read_json(snakemake.input.policies)).arms[0].headline
    c = fitted.configuration
    scores = score_tables(read_table(snakemake.input.scores))[c.variant].at(c.aggregation, c.supervision, c.layers)
    depth = exported.manifest.network.shape.depth
    found = {name: [] for name in models}
    for batch in loader.batches(rows[: snakemake.params.first], "check"):
        for name, model in models.items() if batch.samples else ():
            routed = model.route(batch.pixels)
            found[name].append((batch.samples, routed.place, routed.answer))
    parts = []
    for name, routed in found.items():
        samples, place, answer = (np.concatenate(part) for part in zip(*routed, strict=True))
        parts.append(compared(samples, place, answer, scores, fitted, depth).assign(engine=name))
    write_table(snakemake.output[0], pd.concat(parts, ignore_index=True))
