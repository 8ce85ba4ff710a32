"""Calibrate one quantizer on the `quant` split."""

from dataclasses import asdict

from _job import logged, use_threads
from _network import load_model, loader_and_rows

from lraee.io import read_table
from lraee.quantize.schemes import SCHEMES
from lraee.registry import parse
from lraee.tensors import write_tensors

with logged(snakemake):
    use_threads(snakemake)
    model = load_model(snakemake)
    loader, rows = loader_and_rows(model, snakemake)
    scheme = parse(SCHEMES, "scheme", snakemake.params.scheme)
    tables = map(read_table, snakemake.input.utilisation)
    scheme = scheme.told({point.quantizer: table for point, table in zip(scheme.needs(), tables, strict=True)})
    remarks = {}  # calibration may read the images more than once

    def batches():
        for batch in loader.batches(rows, "calibrate"):
            remarks.update(dict.fromkeys(batch.remarks))
            if batch.samples:
                yield batch.pixels

    state = scheme.calibrate(model.tower, batches)
    described = {"description": scheme.description, "settings": snakemake.params.scheme, "remarks": list(remarks)}
    covers = {"coverage": asdict(scheme.coverage(model.tower, state))}
    write_tensors(snakemake.output[0], state, described | covers)
