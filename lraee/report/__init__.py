"""The report: from tidy tables to one self-contained HTML document."""

from lraee.report.render import render_report, write_report
from lraee.report.tables import ReportTables, load

__all__ = ["ReportTables", "load", "render_report", "write_report"]
