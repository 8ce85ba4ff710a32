"""Render the report."""

from pathlib import Path

from _job import logged

from lraee.report.render import write_report
from lraee.report.tables import load

with logged(snakemake):
    write_report(Path(snakemake.output.report).parent, load(Path(snakemake.input.provenance).parent))
