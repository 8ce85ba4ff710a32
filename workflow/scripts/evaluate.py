"""Open the test split: every fitted configuration, under the quantizer and under its FP32 control."""

from _job import logged
from pydantic import TypeAdapter

from lraee.evaluation.run import FittedArms, evaluate_both_arms
from lraee.exits.score_table import score_tables
from lraee.io import file_sha256, read_header, read_json, read_table, write_json, write_table
from lraee.quantize.schemes import Coverage

with logged(snakemake):
    fitted = FittedArms.model_validate(read_json(snakemake.input.policies))
    test, control = (score_tables(read_table(path)) for path in (snakemake.input.test, snakemake.input.fp32_test))
    state, names = read_header(snakemake.input.state), read_header(snakemake.input.classes)["names"]
    coverage = TypeAdapter(Coverage).validate_python(state["coverage"])
    tables = evaluate_both_arms(fitted, test, control, coverage, names, snakemake.params.seed)
    for name, table in tables.items():
        write_table(snakemake.output[name], table)
    hashes = {name: file_sha256(snakemake.input[name]) for name in snakemake.params.evaluated}
    write_json(snakemake.output.evaluated, hashes)
