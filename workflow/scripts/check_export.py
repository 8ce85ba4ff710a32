"""Run the first test images through an exported folder, and compare exits and answers with the evaluation's."""

from pathlib import Path

import numpy as np
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
    fitted = FittedArms.model_validate(read_json(snakemake.input.policies)).arms[0].headline
    c = fitted.configuration
    scores = score_tables(read_table(snakemake.input.scores))[c.variant].at(c.aggregation, c.supervision, c.layers)
    depth = model.manifest.network.shape.depth
    batches = loader.batches(rows[: snakemake.params.first], "check")
    found = [(batch.samples, model.route(batch.pixels)) for batch in batches if batch.samples]
    samples, place, answer = (
        np.concatenate(parts)
        for parts in zip(*((samples, routed.place, routed.answer) for samples, routed in found), strict=True)
    )
    write_table(snakemake.output[0], compared(samples, place, answer, scores, fitted, depth))
