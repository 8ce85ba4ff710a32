"""What users load: does the exported network do what was evaluated?"""

from lraee.report.datatables import Column, DataTable, build
from lraee.report.tables import ReportTables

_QUANTIZER = Column("quantizer", "Quantizer")


def agreement(tables: ReportTables) -> DataTable:
    """Share of test images on which the runtime gives the evaluation's answer, and leaves where it says."""
    columns = [
        _QUANTIZER, Column("n", "Images", "count"),
        Column("answers", "Same answer", "percent1", interval=True),
        Column("exits", "Same exit", "percent1", interval=True),
        Column("farthest", "Farthest from a threshold", "ratio"),
    ]  # fmt: skip
    return build("data-agreement", "Runtime and evaluation", tables.agreement, columns)


def disagreements(tables: ReportTables) -> DataTable:
    """The test images on which they differ."""
    columns = [
        _QUANTIZER, Column("sample", "Image", "count"), Column("evaluated_layer", "Exit, evaluated", "count"),
        Column("runtime_layer", "Exit, runtime", "count"), Column("evaluated_answer", "Class, evaluated", "count"),
        Column("runtime_answer", "Class, runtime", "count"), Column("distance", "Distance to a threshold", "ratio"),
    ]  # fmt: skip
    return build("data-disagreements", "Images on which they differ", tables.disagreements, columns)
