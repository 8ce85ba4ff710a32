"""Allot the images of one split."""

from _job import logged

from lraee.data.manifest import split_manifest
from lraee.data.sources import SOURCES
from lraee.io import write_table
from lraee.registry import parse

with logged(snakemake):
    p = snakemake.params
    source = parse(SOURCES, "source", p.source)
    write_table(snakemake.output[0], split_manifest(source, p.name, p.sizes, snakemake.wildcards.split, p.seed))
    unused = source.unused()
    if unused:
        print(f"{len(unused):,} files in {source.origin} are no images of {p.name!r}, for example {unused[0]!r}")
