"""Fixtures for the tests of the report: SYNTHETIC tables, of which no number is a result."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lraee.report.tables import ReportTables
from tests.report.synthetic import synthetic

Factory = Callable[..., ReportTables]


@pytest.fixture(scope="session")
def make() -> Factory:
    """The factory of synthetic tables."""
    return synthetic


@pytest.fixture(scope="session")
def tables() -> ReportTables:
    """Synthetic tables with a gain, an undecided and a loss."""
    return synthetic()
