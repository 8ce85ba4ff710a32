"""A model with random weights: said on the first screen and wherever an accuracy would read as a finding."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lraee.report import ReportTables, render_report, write_report
from lraee.report.limits import limits
from lraee.report.questions import questions
from lraee.report.summary import summarise
from lraee.report.verdict import judge
from lraee.report.wording import NO_FINDING, RANDOM_WEIGHTS

Factory = Callable[..., ReportTables]
CLAIMS = ("more accurate than its own full depth", "is more accurate than the best configuration", "no rescue here")
ESCAPED = RANDOM_WEIGHTS.replace("'", "&#39;")


@pytest.fixture(scope="module", params=[0.05, -0.05], ids=["gain", "loss"])
def trained(request: pytest.FixtureRequest, make: Factory) -> ReportTables:
    return make(margins=(request.param, request.param))


@pytest.fixture(scope="module")
def random(trained: ReportTables) -> ReportTables:
    weights = {"source": "random, seed 0", "sha256": "0" * 64}
    about = {**trained.provenance, "random_weights": True, "weights": weights}
    return dataclasses.replace(trained, provenance=about)


@pytest.fixture(scope="module")
def written(random: ReportTables, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report on random weights, written once."""
    folder = tmp_path_factory.mktemp("random")
    write_report(folder, random)
    return folder


def test_the_verdict_claims_nothing(random: ReportTables, trained: ReportTables) -> None:
    verdict = judge(random)
    assert verdict.lead == RANDOM_WEIGHTS
    assert not verdict.refits
    said = [*verdict.support, *(part.summary for part in verdict.quantizers)]
    assert said
    assert all(text.startswith(NO_FINDING) for text in said)
    assert judge(trained).lead != RANDOM_WEIGHTS


def test_every_answer_is_marked(random: ReportTables, trained: ReportTables) -> None:
    assert all(question.short.startswith(NO_FINDING) for question in questions(random))
    assert not any(NO_FINDING in question.short for question in questions(trained))


def test_it_is_the_first_limit(random: ReportTables, trained: ReportTables) -> None:
    assert limits(random) == [RANDOM_WEIGHTS, *limits(trained)]


def test_the_document_says_it_before_anything_else_and_under_every_heading(written: Path) -> None:
    html = (written / "report.html").read_text(encoding="utf-8")
    header, body = html.split("</header>", 1)
    assert ESCAPED in header
    assert "<title>Random weights: " in header
    sections = body.split("<h2 ")[1:]
    assert len(sections) > 10
    assert all(ESCAPED in section for section in sections)
    assert not any(claim in html for claim in CLAIMS)


def test_a_trained_model_is_not_called_random(trained: ReportTables) -> None:
    html = render_report(trained)
    assert "random:" not in html
    assert 'class="caution"' not in html
    assert any(claim in html for claim in CLAIMS)
    assert not summarise(trained).random_weights


def test_the_summary_says_it_to_programs(written: Path) -> None:
    summary = json.loads((written / "summary.json").read_text(encoding="utf-8"))
    assert summary["random_weights"] is True
    assert summary["verdict"]["lead"] == RANDOM_WEIGHTS
    assert summary["provenance"]["weights"]["source"] == "random, seed 0"
    assert all(entry["verdict"]["summary"].startswith(NO_FINDING) for entry in summary["quantizers"])
