"""Load the model from its library, refuse one that cannot be used, and write it down for all that run it."""

from _job import logged, use_threads

from lraee.io import write_json
from lraee.models.describe import describe
from lraee.models.device import usable
from lraee.models.families import FAMILIES
from lraee.models.stored import write_model
from lraee.registry import parse

with logged(snakemake):
    use_threads(snakemake)
    usable(snakemake.params.device)
    settings = parse(FAMILIES, "family", snakemake.params.model)
    model = settings.load()
    write_model(snakemake.output.model, model)
    write_json(snakemake.output.description, describe(settings, model))
