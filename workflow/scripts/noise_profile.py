"""Measure a quantizer's noise by layer."""

from _job import logged, use_threads
from _network import in_precision, load_model, loader_and_rows

from lraee.io import write_table
from lraee.metrics.noise import noise_profile

with logged(snakemake):
    use_threads(snakemake)
    model = load_model(snakemake)
    loader, rows = loader_and_rows(model.transform, snakemake)
    batches = loader.batches(rows[: snakemake.params.images], "noise")
    pixels = (batch.pixels for batch in batches if batch.samples)
    profile = noise_profile(model.tower, in_precision(model.tower, snakemake), pixels)
    write_table(snakemake.output[0], profile.assign(quantizer=snakemake.wildcards.quantizer))
