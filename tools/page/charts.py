"""Drawings of the page, as SVG that takes its colours from the page's style."""

from collections.abc import Sequence

from mochi_aot.tools.commands.text import human_bytes
from mochi_aot.tools.page.cuts import Pattern
from mochi_aot.tools.page.markup import Markup, escaped, joined, tag

COLOURS = 8  # of pieces, which take turns
MAX_CHIPS = 256  # that are drawn
MAX_POINTS = 600  # of a curve: a run of more instructions is drawn by the most of each few

_CELL, _GAP = 52, 8


def _svg(width: float, height: float, title: str, *parts: Markup, class_: str) -> Markup:
    box = f"0 0 {width:g} {height:g}"
    return tag(
        "svg",
        tag("title", title),
        *parts,
        viewBox=box,
        class_=class_,
        role="img",
        width=f"{width:g}",
        height=f"{height:g}",
    )


def _text(x: float, y: float, text: str, class_: str) -> Markup:
    return tag("text", text, x=f"{x:g}", y=f"{y:g}", class_=class_)


def grid(pattern: Pattern, mesh: Sequence[int]) -> Markup:
    """Return the mesh of devices, in each the outline of the weight with the piece that it holds filled in."""
    rows, columns = mesh
    if rows * columns > MAX_CHIPS:
        return tag("p", f"{rows}x{columns} devices are too many to draw", class_="note")
    parts = []
    for device, piece in enumerate(pattern.pieces):
        row, column = divmod(device, columns)
        parts.append(_chip(pattern, (row, column), (rows, columns), piece))
    width, height = 26 + columns * (_CELL + _GAP), 18 + rows * (_CELL + _GAP)
    for column in range(columns):
        parts.append(_text(26 + column * (_CELL + _GAP) + _CELL / 2, 12, f"col {column}", "axis mid"))
    for row in range(rows):
        parts.append(_text(0, 18 + row * (_CELL + _GAP) + _CELL / 2 + 4, f"r{row}", "axis"))
    return _svg(width, height, f"{rows}x{columns} devices", *parts, class_="grid")


def _chip(pattern: Pattern, place: tuple[int, int], mesh: tuple[int, int], piece: int) -> Markup:
    x, y = 26 + place[1] * (_CELL + _GAP), 18 + place[0] * (_CELL + _GAP)
    left, top, width, height = 0.0, 0.0, 1.0, 1.0
    for axis, across in pattern.axes or ():
        share = 1 / mesh[axis]
        if across:
            left, width = place[axis] * share, share
        else:
            top, height = place[axis] * share, share
    inner, pad = _CELL - 12, 6
    return joined(
        [
            tag("rect", x=x, y=y, width=_CELL, height=_CELL, rx=6, class_="chip"),
            tag("rect", x=x + pad, y=y + pad, width=inner, height=inner, class_="whole"),
            tag(
                "rect",
                x=f"{x + pad + left * inner:.4g}",
                y=f"{y + pad + top * inner:.4g}",
                width=f"{max(width * inner, 1):.4g}",
                height=f"{max(height * inner, 1):.4g}",
                class_=f"p{piece % COLOURS}",
            ),
            _text(x + _CELL / 2, y + _CELL / 2 + 4, str(piece), "piece mid"),
        ]
    )


def memory_chart(memory: Sequence[int], weights: int, measured: int | None) -> Markup:
    """Return the bytes alive on a device over a program's instructions, above those of its weights, with the most that
    a dry run took."""
    width, height, left, bottom = 640, 190, 62, 22
    top = max(*memory, measured or 0, 1) * 1.08
    points = thinned(memory)

    def at_x(index: int) -> float:
        return left + (width - left - 8) * index / max(len(memory) - 1, 1)

    def at_y(value: float) -> float:
        return 8 + (height - bottom - 8) * (1 - value / top)

    base = at_y(0)
    steps = [f"M{at_x(0):.1f} {base:.1f}"] + [f"L{at_x(i):.1f} {at_y(v):.1f}" for i, v in points]
    area = " ".join([*steps, f"L{at_x(len(memory) - 1):.1f} {base:.1f} Z"])
    parts = []
    for share in (0, 0.25, 0.5, 0.75, 1):
        y = at_y(share * top / 1.08)
        parts.append(tag("line", x1=left, x2=width - 8, y1=f"{y:.1f}", y2=f"{y:.1f}", class_="rule"))
        parts.append(_text(left - 6, y + 4, human_bytes(share * top / 1.08) if share else "0", "axis end"))
    parts.append(tag("path", d=Markup(area), class_="area"))
    held = at_y(min(weights, top))
    parts.append(
        tag("rect", x=left, y=f"{held:.1f}", width=width - 8 - left, height=f"{base - held:.1f}", class_="weights")
    )
    if measured is not None:
        y = at_y(measured)
        parts.append(tag("line", x1=left, x2=width - 8, y1=f"{y:.1f}", y2=f"{y:.1f}", class_="measured"))
    parts += [
        _text(left, height - 5, "first instruction", "axis"),
        _text(width - 8, height - 5, f"last, {len(memory) - 1:,}", "axis end"),
    ]
    title = f"memory over {len(memory) - 1} instructions, at most {human_bytes(max(memory))}"
    return _svg(width, height, title, *parts, class_="chart")


def thinned(values: Sequence[int]) -> list[tuple[int, int]]:
    """Return at most MAX_POINTS of the values with their places: the most of each few, where there are more."""
    size = -(-len(values) // MAX_POINTS)
    found = []
    for start in range(0, len(values), size):
        part = values[start : start + size]
        most = max(part)
        found.append((start + part.index(most), most))
    return found


def bar(share: float, text: str) -> Markup:
    """Return a number with a bar behind it, `share` of the cell's width long."""
    # A drawing rather than a style attribute: the page's policy allows the one style sheet, and no other.
    fill = tag("rect", width=f"{max(min(share, 1.0), 0.0) * 100:.1f}", height=8, class_="bar")
    drawn = tag("svg", fill, viewBox="0 0 100 8", preserveAspectRatio="none", class_="bars", aria_hidden="true")
    return joined([drawn, tag("span", escaped(text))])
