"""Allot images to splits."""

from _job import logged

from lraee.data.manifest import SPLITS, DataSettings, build_manifest, class_names
from lraee.io import write_json, write_table

with logged(snakemake):
    data = DataSettings.model_validate(snakemake.params.data)
    manifest = build_manifest(data, snakemake.params.seed)
    write_json(snakemake.output.classes, class_names(data))
    for split, path in zip(SPLITS, snakemake.output.splits, strict=True):
        write_table(path, manifest[manifest["split"] == split])
