"""Extract every layer's features in one precision: of one shard of a split, or of several splits that are small."""

from _job import logged, use_threads
from _network import in_precision, load_model, loader_and_rows

from lraee.features.extract import extract
from lraee.features.store import Row, write_features

with logged(snakemake):
    use_threads(snakemake)
    model = load_model(snakemake)
    tower = in_precision(model.tower, snakemake)

    def stored(loader, rows, remarks):
        for batch in loader.batches(rows, "extract"):
            remarks.extend(batch.remarks)
            if batch.samples:
                yield Row(batch.samples, batch.labels, extract(tower, batch.pixels))

    for output, (prefix, file) in zip(snakemake.output, snakemake.params.files.items(), strict=True):
        loader, rows = loader_and_rows(model.transform, snakemake, prefix)
        own, remarks = rows[file["first"] : file["first"] + file["images"]], []
        write_features(output, stored(loader, own, remarks), file["identity"], remarks)
