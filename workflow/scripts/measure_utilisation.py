"""Measure which share of the images executes each block under a quantizer's risk-controlled exits."""

from _job import logged

from lraee.evaluation.run import FittedArms
from lraee.evaluation.utilisation import utilisation_table
from lraee.exits.score_table import score_tables
from lraee.io import read_json, read_table, write_table

with logged(snakemake):
    fitted = FittedArms.model_validate(read_json(snakemake.input.policies))
    gate = score_tables(read_table(snakemake.input.gate))
    write_table(snakemake.output[0], utilisation_table(fitted, gate))
