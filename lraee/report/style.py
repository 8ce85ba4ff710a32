"""Themes of the figures and their rendering as reproducible SVG."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import seaborn as sns
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

PANEL_WIDTH = 4.8
"""Width of every panel in inches (461 CSS pixels): two fit side by side on a desk, one fills a phone."""


@dataclass(frozen=True)
class Theme:
    """Colours of one appearance. ``surface`` must equal ``--surface`` of the style sheet."""

    name: str
    surface: str
    ink: str
    muted: str
    grid: str
    quantized: str
    control: str
    series: tuple[str, ...]

    def arm(self, is_control: bool) -> str:
        """Colour of an arm."""
        return self.control if is_control else self.quantized


# Seaborn's colour-blind palette, which readers with colour-vision deficiency can tell apart; lighter on dark surfaces.
_PALETTE = sns.color_palette("colorblind")
_CONTROL, _QUANTIZED = _PALETTE[0], _PALETTE[3]
_SERIES = tuple(_PALETTE[index] for index in (2, 4, 0, 3, 5, 7))


def _tone(colour: tuple[float, float, float], lightness: float | None) -> str:
    """Hexadecimal colour, brought to a lightness (0..1) where one is given."""
    return to_hex(colour if lightness is None else sns.set_hls_values(colour, l=lightness))


def _theme(name: str, lightness: float | None, **surfaces: str) -> Theme:
    quantized, control = _tone(_QUANTIZED, lightness), _tone(_CONTROL, lightness)
    series = tuple(_tone(colour, lightness) for colour in _SERIES)
    return Theme(name=name, quantized=quantized, control=control, series=series, **surfaces)


LIGHT = _theme("light", None, surface="#ffffff", ink="#1c2128", muted="#57606a", grid="#dfe3e8")
DARK = _theme("dark", 0.70, surface="#171b21", ink="#e6e9ee", muted="#a3acb8", grid="#343b45")
THEMES = (LIGHT, DARK)

_FONTS = "text{font-family: system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif}"


def _settings(theme: Theme) -> Any:
    """Matplotlib settings of a theme, as a dictionary whose keys Matplotlib types one by one.

    ``parse_math`` is off because names from a configuration may hold ``$``.
    """
    return sns.axes_style("whitegrid") | {
        "svg.fonttype": "none", "svg.hashsalt": "lraee", "text.parse_math": False, "font.family": "DejaVu Sans",
        "font.size": 9, "axes.titlesize": 10, "axes.titleweight": "bold", "axes.titlelocation": "left",
        "axes.labelsize": 9, "xtick.labelsize": 9, "ytick.labelsize": 9, "legend.fontsize": 8.5,
        "figure.facecolor": theme.surface, "axes.facecolor": theme.surface, "savefig.facecolor": theme.surface,
        "text.color": theme.ink, "axes.labelcolor": theme.ink, "axes.titlecolor": theme.ink,
        "xtick.color": theme.muted, "ytick.color": theme.muted, "xtick.labelcolor": theme.ink,
        "ytick.labelcolor": theme.ink, "axes.edgecolor": theme.muted, "grid.color": theme.grid, "axes.grid": True,
        "grid.linewidth": 0.7, "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False,
        "legend.frameon": False, "lines.linewidth": 1.6, "xtick.bottom": False, "ytick.left": False,
        "axes.linewidth": 0.8,
    }  # fmt: skip


def _compact(svg: str) -> str:
    """The same picture in about a third of the bytes: whole tags only are rewritten, never text.

    Drops the prologue, the ids of groups (nothing refers to them), the font on every text and line breaks, rounds
    coordinates to a hundredth of a point, numbers the remaining ids, and writes a repeated style once, as a class.
    """
    ids: dict[str, str] = {}
    styles: dict[str, str] = {}

    def shorten(tag: re.Match[str]) -> str:
        text = re.sub(r"\s+", " ", tag[0]).replace(": ", ":").replace("; ", ";")
        text = re.sub(r"(?<![#\w])(-?\d+\.\d\d)\d+", r"\1", text)
        text = re.sub(r"font-family:[^;\"]*;?", "", text)
        text = re.sub(r' transform="rotate\(-0 [^"]*"', "", text)
        text = re.sub(r'(?<= d=")[^"]*', lambda path: re.sub(r" ?([A-Za-z]) ?", r"\1", path[0]), text)
        text = re.sub(r' id="(figure|axes|patch|line2d|text|matplotlib|xtick|ytick|LineC|legend)[^"]*"', "", text)
        text = re.sub(
            r'(?<=[#"])[mp][0-9a-f]{10}(?=[)"])', lambda found: ids.setdefault(found[0], f"i{len(ids)}"), text
        )
        return re.sub(r' style="([^"]*)"', lambda found: f' class="{_class(found[1])}"', text)

    def _class(style: str) -> str:
        return styles.setdefault(style, f"c{len(styles)}")

    body = re.sub(r">\s+<", "><", svg[svg.index("<svg") :])
    body = re.sub(r"<[^>]+>", shorten, body)
    rules = "".join(f".{name}{{{style}}}" for style, name in styles.items())
    return body.replace("</style>", f"{_FONTS}{rules}</style>", 1)


_ROLES = ("surface", "ink", "muted", "grid", "quantized", "control")
_RECOLOURED = {getattr(LIGHT, role): getattr(DARK, role) for role in _ROLES} | dict(
    zip(LIGHT.series, DARK.series, strict=True)
)


_RULE = re.compile(r"\.\w+\{[^}]*#[0-9a-f]{6}[^}]*\}")


def adaptive(svg: str) -> str:
    """A light picture that turns dark with the reader's system on a screen: the same picture in other colours.

    Drawing is by far the longest part of making a report, and pictures are most of its size: none is there twice.
    """
    head, style, body = svg.partition("</style>")
    recoloured = (
        re.sub(r"#[0-9a-f]{6}\b", lambda colour: _RECOLOURED.get(colour[0], colour[0]), rule)
        for rule in _RULE.findall(head)
    )
    return f"{head}@media screen and (prefers-color-scheme:dark){{{''.join(recoloured)}}}{style}{body}"


def draw_svg(draw: Callable[[Theme], Figure], theme: Theme) -> tuple[str, Figure]:
    """Draw a figure in a theme and return its SVG, the same bytes for the same data, and the figure as it was drawn.

    Text stays text, measured with the wide DejaVu Sans that comes with Matplotlib and shown in the reader's own
    (narrower) system font, so that labels fit everywhere and the file stays small. The figure's layout is the one of
    the SVG, so that positions can be read off it.
    """
    buffer = io.StringIO()
    with mpl.rc_context(_settings(theme)):
        figure = draw(theme)
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _compact(buffer.getvalue()), figure


def render_svg(draw: Callable[[Theme], Figure], theme: Theme) -> str:
    """The SVG of ``draw_svg`` alone."""
    return draw_svg(draw, theme)[0]
