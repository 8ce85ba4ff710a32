"""Extract every layer's features of one shard of a split in one precision."""

from _job import logged, use_threads
from _network import in_precision, load_model, loader_and_rows

from lraee.features.extract import extract
from lraee.features.store import Row, write_features

with logged(snakemake):
    use_threads(snakemake)
    model = load_model(snakemake)
    tower = in_precision(model.tower, snakemake)
    loader, rows = loader_and_rows(model.transform, snakemake)
    p, remarks = snakemake.params, []

    def stored():
        for batch in loader.batches(rows[p.first : p.first + p.images], "extract"):
            remarks.extend(batch.remarks)
            if batch.samples:
                yield Row(batch.samples, batch.labels, extract(tower, batch.pixels))

    write_features(snakemake.output[0], stored(), p.identity, remarks)
