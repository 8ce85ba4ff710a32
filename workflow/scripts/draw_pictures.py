"""Draw one shard of a split, once for all precisions."""

from _job import logged

from lraee.data.pictures import write_pictures
from lraee.data.sources import SOURCES
from lraee.io import read_table
from lraee.registry import parse

with logged(snakemake):
    p = snakemake.params
    rows = read_table(snakemake.input.manifest)[p.first : p.first + p.images]
    write_pictures(snakemake.output[0], parse(SOURCES, "source", p.source), rows)
