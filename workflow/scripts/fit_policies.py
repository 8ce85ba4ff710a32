"""Fit every configuration, under the quantizer and under its FP32 control, at the same exit layers."""

from _job import logged

from lraee.evaluation.choices import ExitSettings
from lraee.evaluation.run import Run, fit_both_arms
from lraee.exits.score_table import score_tables
from lraee.io import read_header, read_table, write_json
from lraee.models.shape import TowerShape

with logged(snakemake):
    p = snakemake.params
    names = ("gate", "select", "fp32_gate", "fp32_select")
    scores = {name: score_tables(read_table(snakemake.input[name])) for name in names}
    metadata = read_header(snakemake.input.classes)
    run = Run(
        exits=ExitSettings.model_validate(p.exits),
        fit_images=p.fit_images,
        noise=read_table(snakemake.input.noise),
        kappa=p.kappa,
        shape=TowerShape(**metadata["shape"]),
        classes=len(metadata["names"]),
    )
    fitted = fit_both_arms(scores, snakemake.wildcards.quantizer, run)
    for arm in fitted.arms:
        print(f"{arm.precision}: {len(arm.grid)} grid points and {len(arm.ablations)} ablations meet their budget")
    write_json(snakemake.output[0], fitted.model_dump(mode="json"))
