# The table of contents. `snakemake --cores 8` makes the report of config.yaml;
# `snakemake --cores 8 --configfile workflow/presets/NAME.yaml` that of another experiment.
from snakemake.utils import min_version

min_version("9.3")


# A preset is a whole experiment: it replaces config.yaml instead of being merged into it.
if not workflow.config_settings.configfiles:

    configfile: "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/model.smk"
include: "workflow/rules/features.smk"
include: "workflow/rules/noise.smk"
include: "workflow/rules/exits.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/runtime.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/embedded.smk"


rule all:
    default_target: True
    input:
        f"{REPORT}/report.html",
        EXPORTS,
