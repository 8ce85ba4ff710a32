"""Fit every configuration, under the quantizer and under its FP32 control, at the same exit layers."""

from _job import logged

from lraee.evaluation.choices import ExitSettings
from lraee.evaluation.run import fit_both_arms
from lraee.exits.score_table import ScoreTable
from lraee.io import read_header, read_table, write_json
from lraee.models.shape import TowerShape

with logged(snakemake):
    p, tables = snakemake.params, {}
    for name in ("gate", "select", "fp32_gate", "fp32_select"):
        tables[name] = ScoreTable(read_table(snakemake.input[name]))
    metadata = read_header(snakemake.input.classes)
    fitted = fit_both_arms(
        tables,
        quantizer=snakemake.wildcards.quantizer,
        noise=read_table(snakemake.input.noise),
        kappa=p.kappa,
        exits=ExitSettings.model_validate(p.exits),
        shape=TowerShape(**metadata["shape"]),
        classes=len(metadata["names"]),
    )
    for arm in fitted.arms:
        print(f"{arm.precision}: {len(arm.grid)} grid points and {len(arm.ablations)} ablations meet their budget")
    write_json(snakemake.output[0], fitted.model_dump(mode="json"))
