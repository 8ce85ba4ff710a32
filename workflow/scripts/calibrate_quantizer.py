"""Calibrate one quantizer on the `quant` split; a search that was interrupted goes on where it was."""

import shutil
from dataclasses import asdict

from _checkpoints import checkpoints_of
from _job import logged, use_threads
from _network import load_model, loader_and_rows

from lraee.io import read_table
from lraee.quantize.schemes import SCHEMES
from lraee.registry import parse
from lraee.tensors import write_tensors

with logged(snakemake):
    use_threads(snakemake)
    model = load_model(snakemake)
    loader, rows = loader_and_rows(model.transform, snakemake)
    p = snakemake.params
    as_set = parse(SCHEMES, "scheme", p.scheme)
    tables = map(read_table, snakemake.input.utilisation)
    scheme = as_set.told({point.quantizer: table for point, table in zip(as_set.needs(), tables, strict=True)})
    remarks = {}  # calibration may read the images more than once

    def batches():
        for batch in loader.batches(rows, "calibrate"):
            remarks.update(dict.fromkeys(batch.remarks))
            if batch.samples:
                yield batch.pixels

    state = scheme.calibrate_resumably(model.tower, batches, checkpoints_of(snakemake) / "search.safetensors")
    described = {"description": as_set.description, "settings": p.scheme, "remarks": list(remarks)}
    covers = {"coverage": asdict(scheme.coverage(model.tower, state))}
    write_tensors(snakemake.output[0], state, described | covers)
    shutil.rmtree(p.checkpoints, ignore_errors=True)
