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
    """The same picture in about half the bytes: whole tags only are rewritten, never text.

    Drops the prologue, the ids of groups (nothing refers to them), the font on every text and line breaks, and rounds
    coordinates to a hundredth of a point.
    """

    def shorten(tag: re.Match[str]) -> str:
        text = re.sub(r"\s+", " ", tag[0]).replace(": ", ":").replace("; ", ";")
        text = re.sub(r"(?<![#\w])(-?\d+\.\d\d)\d+", r"\1", text)
        text = re.sub(r"font-family:[^;\"]*;?", "", text)
        text = re.sub(r' transform="rotate\(-0 [^"]*"', "", text)
        return re.sub(r' id="(figure|axes|patch|line2d|text|matplotlib|xtick|ytick|LineC|legend)[^"]*"', "", text)

    body = re.sub(r">\s+<", "><", svg[svg.index("<svg") :])
    body = re.sub(r"<[^>]+>", shorten, body)
    return body.replace("</style>", f"{_FONTS}</style>", 1)


def render_svg(draw: Callable[[Theme], Figure], theme: Theme) -> str:
    """Draw a figure in a theme and return its SVG, the same bytes for the same data.

    Text stays text, measured with the wide DejaVu Sans that comes with Matplotlib and shown in the reader's own
    (narrower) system font, so that labels fit everywhere and the file stays small.
    """
    buffer = io.StringIO()
    with mpl.rc_context(_settings(theme)):
        figure = draw(theme)
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _compact(buffer.getvalue())
