"""Run the first test images through an exported folder, and compare exits and answers with the evaluation's."""

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

with logged(snakemake):
    use_threads(snakemake)
    model = EarlyExitCLIP.load(Path(snakemake.input.exported).parent)
    loader, rows = loader_and_rows(model.transform, snakemake)
    parts = []
    fitted = FittedArms.model_validate(read_json(snakemake.input.policies)).arms[0].headline
    c = fitted.configuration
    scores = score_tables(read_table(snakemake.input.scores))[c.variant].at(c.aggregation, c.supervision, c.layers)
    depth = model.manifest.network.shape.depth
    for batch in loader.batches(rows[: snakemake.params.first], "check"):
        if batch.samples:
            found = model.route(batch.pixels)
            parts.append(compared(np.array(batch.samples), found.place, found.answer, scores, fitted, depth))
    write_table(snakemake.output[0], pd.concat(parts, ignore_index=True))
