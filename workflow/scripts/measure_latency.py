"""Time an exported network, its peers and its exits on test images, on one thread and on all."""

from pathlib import Path

import pandas as pd
import torch
from _job import logged
from _network import loader_and_rows

from lraee.evaluation.fit import costs_of
from lraee.evaluation.run import FittedArms
from lraee.io import read_json, write_table
from lraee.metrics.settings import LatencySettings
from lraee.models.stored import read_model
from lraee.runtime import EarlyExitCLIP
from lraee.runtime.latency import ours, prepared, race, theirs

with logged(snakemake):
    settings = LatencySettings.model_validate(snakemake.params.latency)
    folder = Path(snakemake.input.exported).parent
    exported = EarlyExitCLIP.load(folder, "torch")

    def first(images, prefix=""):
        loader, rows = loader_and_rows(exported.transform, snakemake, prefix)
        batches = loader.batches(rows[:images], "read")
        return torch.cat([batch.pixels for batch in batches if batch.samples])

    pixels, calibration = first(settings.images), first(snakemake.params.calibration, "quant_")
    tower = read_model(snakemake.input.model).tower
    c = FittedArms.model_validate(read_json(snakemake.input.policies)).arms[0].headline.configuration
    costs = costs_of(c, tower.shape, len(exported.class_names))
    peers, parts = prepared(tower, calibration, settings.peers), []
    for threads in sorted({1, snakemake.threads}):
        torch.set_num_threads(threads)
        contestants = [*theirs(peers, exported.classes), *ours(folder, costs)]
        timings = race(contestants, pixels, settings.batches, settings.rounds)
        parts.append(timings.assign(threads=threads))
    write_table(snakemake.output[0], pd.concat(parts, ignore_index=True))
