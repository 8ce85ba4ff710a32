"""Open the test split: every fitted configuration, under the quantizer and under its FP32 control."""

from _job import logged

from lraee.evaluation.run import FittedArms, evaluate_both_arms
from lraee.exits.score_table import ScoreTable
from lraee.io import read_json, read_table, write_table

with logged(snakemake):
    fitted = FittedArms.model_validate(read_json(snakemake.input.policies))
    test, control = (ScoreTable(read_table(path)) for path in (snakemake.input.test, snakemake.input.fp32_test))
    for name, table in evaluate_both_arms(fitted, test, control, snakemake.params.seed).items():
        write_table(snakemake.output[name], table)
