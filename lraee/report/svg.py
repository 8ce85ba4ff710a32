"""Less markup for the same picture: the report embeds hundreds of panels.

Works on what ``style.render_svg`` returns, in which every look is a class of the style sheet, and on whole tags only,
never on text. The picture stays the same to a tenth of a point.
"""

from __future__ import annotations

import re
from itertools import groupby

_TAG = re.compile(r"<[^>]+>")
_LINE = re.compile(r'<path d="(M[^"]*)"((?: clip-path="[^"]*")?) class="([^"]*)"/>')
_USE = re.compile(r'<use xlink:href="(#[^"]*)"( x="[^"]*" y="[^"]*") class="([^"]*)"/>')


def _without_bare_groups(svg: str) -> str:
    """The markup without groups that have no attributes."""
    kept: list[str] = []
    open_groups: list[bool] = []
    for piece in re.split(r"(<g[^>]*>|</g>)", svg):
        if piece in ("<g>", "<g/>"):
            open_groups += [False] if piece == "<g>" else []
            continue
        if piece.startswith("<g ") and not piece.endswith("/>"):
            open_groups.append(True)
        if piece == "</g>" and not open_groups.pop():
            continue
        kept.append(piece)
    return "".join(kept)


def _short_numbers(svg: str) -> str:
    """Coordinates to a tenth of a point and no needless spaces; the shapes of marks keep their precision."""

    def shorten(tag: re.Match[str]) -> str:
        text = tag[0]
        if " id=" not in text and not text.startswith(("<svg", "<image")):
            text = re.sub(r'(?<= (?:x|y|d)=")[^"]*', lambda part: _rounded(part[0]), text)
        return re.sub(r'(?<= d=")[^"]*', lambda path: _tight(path[0]), text)

    return _TAG.sub(shorten, svg)


def _rounded(numbers: str) -> str:
    return re.sub(r"-?\d+\.\d+", lambda value: f"{float(value[0]):.1f}".removesuffix(".0"), numbers)


def _tight(path: str) -> str:
    """A path without needless spaces, its dots (lines without length) in the shortest way."""
    return re.sub(r"M([^A-Za-z]+)L\1(?![\d.])", r"M\1h0", re.sub(r" ?([A-Za-z]) ?", r"\1", path))


def _looks(svg: str) -> dict[str, str]:
    """The style of every class of the picture."""
    return dict(re.findall(r"\.(\w+)\{([^}]*)\}", svg[: svg.find("</style>")]))


def _merged_lines(svg: str, looks: dict[str, str]) -> str:
    """Lines that follow each other and look the same become one path, unless they are filled or translucent."""

    def join(run: re.Match[str]) -> str:
        parts = []
        for (clip, name), group in groupby(_LINE.findall(run[0]), key=lambda line: line[1:]):
            shapes, look = [line[0] for line in group], looks.get(name, "")
            mergeable = "fill:none" in look and "opacity" not in look
            shapes = ["".join(shapes)] if mergeable else shapes
            parts += [f'<path d="{shape}"{clip} class="{name}"/>' for shape in shapes]
        return "".join(parts)

    return re.sub(rf"(?:{_LINE.pattern}){{2,}}", join, svg)


def _merged_marks(svg: str, looks: dict[str, str]) -> str:
    """Marks that follow each other and look the same share one class, unless they are translucent as a whole."""

    def join(run: re.Match[str]) -> str:
        parts = []
        for (mark, name), group in groupby(_USE.findall(run[0]), key=lambda use: (use[0], use[2])):
            places = [use[1] for use in group]
            if re.search(r"(?<!-)opacity", looks.get(name, "opacity")):
                parts += [f'<use xlink:href="{mark}"{place} class="{name}"/>' for place in places]
            else:
                uses = "".join(f'<use xlink:href="{mark}"{place}/>' for place in places)
                parts.append(f'<g class="{name}">{uses}</g>')
        return "".join(parts)

    return re.sub(rf"(?:{_USE.pattern}){{2,}}", join, svg)


def smaller(svg: str) -> str:
    """The same picture in about half the markup."""
    looks = _looks(svg)
    return _merged_marks(_merged_lines(_short_numbers(_without_bare_groups(svg)), looks), looks)
