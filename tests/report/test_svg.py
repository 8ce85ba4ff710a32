"""Smaller pictures are the same pictures."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from lraee.report.figures import dots
from lraee.report.style import LIGHT, Theme, render_svg
from lraee.report.svg import smaller

TEXT = 'M 1.23456 2.0 <path d="M 1 2 L 3 4"/> & $x$'


def _draw(theme: Theme) -> Figure:
    """Error bars, marks, a faint cloud, and a text that looks like markup."""
    figure = Figure(figsize=(3, 2))
    axes = figure.subplots()
    x = np.arange(20.0)
    axes.errorbar(x, x, yerr=x / 9 + 0.1, elinewidth=1, fmt="o", color=theme.quantized)
    axes.plot(x, x[::-1], "s", color=theme.control, alpha=0.3)
    dots(axes, pd.Series(x), pd.Series(x / 2), theme.ink, 3)
    axes.set_title(TEXT)
    return figure


def _numbers(svg: str) -> list[float]:
    """Where everything is: the end of every line, every mark and every text, in order of size."""
    found: list[float] = []
    for element in ElementTree.fromstring(svg).iter():
        attributes: dict[str, Any] = element.attrib
        if "id" not in attributes and not element.tag.endswith("svg"):
            text = " ".join(attributes.get(name, "") for name in ("x", "y", "d"))
            found += [float(value) for value in re.findall(r"-?\d+\.?\d*", text.replace("h0", ""))]
    return sorted(set(np.round(found, 1)))


def test_everything_stays_where_it_was() -> None:
    before = render_svg(_draw, LIGHT)
    after = smaller(before)
    assert len(after) < 0.8 * len(before)
    one, two = _numbers(before), _numbers(after)
    assert all(min(abs(value - other) for other in two) <= 0.11 for value in one)
    assert all(min(abs(value - other) for other in one) <= 0.11 for value in two)


def test_text_is_never_touched() -> None:
    root = ElementTree.fromstring(smaller(render_svg(_draw, LIGHT)))
    assert TEXT in [element.text for element in root.iter() if element.tag.endswith("text")]


def test_equal_lines_become_one_path_and_equal_marks_share_a_class() -> None:
    before = render_svg(_draw, LIGHT)
    after = smaller(before)
    looks = dict(re.findall(r"\.(\w+)\{([^}]*)\}", after))
    bars = [name for name, look in looks.items() if look == f"fill:none;stroke:{LIGHT.quantized}"]
    assert len(re.findall(rf'<path [^>]*class="{bars[0]}"', before)) == 20
    assert len(re.findall(rf'<path [^>]*class="{bars[0]}"', after)) == 1
    assert after.count("<use") == before.count("<use") == 40
    assert len(re.findall(r"<use [^>]*class=", after)) < 25


@pytest.mark.parametrize(
    ("look", "merged"),
    [("fill:none;stroke:#000", True), ("fill:none;stroke:#000;opacity:0.5", False), ("fill:#000", False)],
)
def test_what_would_look_different_is_not_joined(look: str, merged: bool) -> None:
    line = '<path d="M1 2L3 4" class="a"/>'
    found = smaller(f"<svg><style>.a{{{look}}}</style>{line}{line}</svg>")
    assert found.count("<path") == (1 if merged else 2)
    mark = '<use xlink:href="#m" x="1" y="2" class="a"/>'
    marks = smaller(f"<svg><style>.a{{{look}}}</style>{mark}{mark}</svg>")
    assert marks.count('class="a"') == (2 if "opacity" in look else 1)


def test_dots_are_lines_without_length() -> None:
    after = smaller(render_svg(_draw, LIGHT))
    assert len(re.findall(r"M[\d.]+ [\d.]+h0", after)) == 20


def test_groups_stay_balanced_and_names_resolve() -> None:
    root = ElementTree.fromstring(smaller(render_svg(_draw, LIGHT)))
    ids = {element.attrib["id"] for element in root.iter() if "id" in element.attrib}
    for element in root.iter():
        for name, value in element.attrib.items():
            if name.endswith("href"):
                assert value[1:] in ids
            if name == "clip-path":
                assert value[5:-1] in ids
