"""Load the model once, so that one that cannot be used is refused first, and write down what it is."""

from _job import logged, use_threads

from lraee.io import write_json
from lraee.models.describe import describe
from lraee.models.device import usable
from lraee.models.families import FAMILIES
from lraee.registry import parse

with logged(snakemake):
    use_threads(snakemake)
    usable(snakemake.params.device)
    settings = parse(FAMILIES, "family", snakemake.params.model)
    write_json(snakemake.output[0], describe(settings, settings.load()))
