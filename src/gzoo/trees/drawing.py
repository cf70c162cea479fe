"""Decision trees as inline SVG, and the SVG builder of all figures."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Collection, Mapping, Sequence, Set
from statistics import fmean
from typing import NamedTuple, TypedDict, Unpack
from xml.etree.ElementTree import Element, SubElement, tostring

from gzoo.palette import PALETTE
from gzoo.trees.labels import label, words
from gzoo.trees.tree import Question, Tree

Interval = tuple[float, float]

CHARACTER_WIDTH = 0.57  # of the font size; slightly more than most sans-serif fonts need

BOLD = 1.16  # width of bold text relative to normal text

_MAX_LABEL = 44  # characters; the tooltip of the element has the full text


class Estimate(NamedTuple):
    """A fraction with its intervals, all in 0..1.

    Attributes:
        value: The estimate.
        inner: Its 68% interval.
        outer: Its 95% interval.
    """

    value: float
    inner: Interval
    outer: Interval


def tree_svg(tree: Tree, proportion_asked: Mapping[str, float] | None = None, *, greyed: Collection[str] = ()) -> str:
    """Draw a decision tree from left to right: questions as boxes, edges from answers to the questions they lead to.

    A dashed frame marks a question that is not in the published dataset.

    Args:
        tree: Any tree; questions may have several parents.
        proportion_asked: Mean proportion of volunteers asked, 0..1, by question name, shown in the heading of each box.
        greyed: Names of questions to draw in grey, such as those that are not predicted.

    Returns:
        An `<svg>` element. Without the style of a page it has the light palette.
    """
    layers: dict[int, list[_Box]] = {}
    layer_of: dict[str, int] = {}  # by answer
    for question in tree.ordered:
        i = max((layer_of[parent] + 1 for parent in question.parents if parent in layer_of), default=0)
        box = _Box(question, label(question.name, tree), (proportion_asked or {}).get(question.name))
        box.is_grey = question.name in greyed
        layers.setdefault(i, []).append(box)
        layer_of |= dict.fromkeys(question.columns, i)
    height = max((_height(layer) for layer in layers.values()), default=0.0)
    ends: dict[str, tuple[float, float]] = {}  # where the edges of each answer start
    x = _MARGIN
    for layer in layers.values():
        width, y = max(box.width for box in layer), _MARGIN + (height - _height(layer)) / 2
        layer.sort(key=lambda box: fmean([ends[one][1] for one in box.question.parents if one in ends] or [0]))
        for box in layer:
            box.x, box.y, box.width = x, y, width
            y += box.height + _BOX_GAP
            ends |= {column: (x + width, box.answer_y(i)) for i, column in enumerate(box.question.columns)}
        x += width + _LAYER_GAP
    drawing = Drawing(max(x - _LAYER_GAP, 0) + _MARGIN, height + 2 * _MARGIN, f"Decision tree of {tree.name}")
    boxes = [box for layer in layers.values() for box in layer]
    for box in boxes:
        for parent in box.question.parents:
            if parent in ends:
                between = [layers[i] for i in range(layer_of[parent] + 1, layer_of[box.question.columns[0]])]
                drawing.path(_edge(ends[parent], box, between), line="muted", opacity=0.75)
    opening = {parent for box in boxes for parent in box.question.parents}
    for box in boxes:
        box.draw(drawing, opening)
    return drawing.render()


_HEADING_LINE, _ANSWER_LINE, _PADDING, _BOX_GAP, _LAYER_GAP, _MARGIN = 15.0, 17.0, 9.0, 18.0, 46.0, 10.0


class _Box:
    """A question of the drawing; `x` and `y` are its upper left corner."""

    def __init__(self, question: Question, name: str, proportion_asked: float | None) -> None:
        self.question, self.proportion_asked = question, proportion_asked
        self.heading = textwrap.wrap(shortened(name), 18) or [""]
        fraction = text_width("100%", 11) + 10 if proportion_asked is not None else 0.0
        texts = [text_width(line, 12) * BOLD + fraction for line in self.heading]
        texts += [text_width(shortened(words(answer)), 11) + 6 for answer in question.answers]
        self.heading_height = _HEADING_LINE * len(self.heading) + 8
        self.width = max(texts) + 2 * _PADDING
        self.height = self.heading_height + _ANSWER_LINE * len(question.answers) + 6
        self.x = self.y = 0.0
        self.is_grey = False

    def answer_y(self, i: int) -> float:
        """Return the height of the middle of an answer."""
        return self.y + self.heading_height + _ANSWER_LINE * (i + 0.5) + 3

    def draw(self, drawing: Drawing, opening: Set[str]) -> None:
        """Draw the box, with a dot beside each answer that leads to a question."""
        place, left = (self.x, self.y, self.width), self.x + _PADDING
        drawing.box(*place, self.height, fill="page", corner=6, tip=self.question.name)
        shade = 0.08 if self.proportion_asked is None else 0.05 + 0.5 * self.proportion_asked
        drawing.box(
            *place, self.heading_height, fill="muted" if self.is_grey else "volunteers", corner=6, opacity=shade
        )
        drawing.box(*place, self.height, line="muted", corner=6, dashes="" if self.question.is_published else "4 3")
        for i, line in enumerate(self.heading):
            role = "muted" if self.is_grey else "ink"
            drawing.text(left, self.y + 15 + _HEADING_LINE * i, line, role=role, size=12, is_bold=True)
        if self.proportion_asked is not None:
            right = self.x + self.width - _PADDING
            drawing.text(right, self.y + 15, f"{self.proportion_asked:.0%}", size=11, anchor="end")
        for i, (answer, column) in enumerate(zip(self.question.answers, self.question.columns, strict=True)):
            y = self.answer_y(i)
            drawing.text(
                left, y + 4, words(answer), role="ink" if column in opening and not self.is_grey else "muted", size=11
            )
            if column in opening:
                drawing.circle(self.x + self.width, y, 2.6, fill="muted", role="page")
        if self.question.parents:
            y = self.y + self.heading_height / 2
            drawing.path(f"M{self.x - 6:.1f},{y - 3.5:.1f}l7,3.5l-7,3.5z", fill="muted")


def _edge(start: tuple[float, float], box: _Box, between: Sequence[Sequence[_Box]]) -> str:
    """Return the SVG path from an answer to a box, through gaps of the layers between them."""
    points = [start]
    for layer in between:
        gaps = [layer[0].y - _BOX_GAP / 2, *(one.y + one.height + _BOX_GAP / 2 for one in layer)]
        gap = min(gaps, key=lambda y: abs(y - points[-1][1]))
        points += [(layer[0].x, gap), (layer[0].x + layer[0].width, gap)]
    points.append((box.x, box.y + box.heading_height / 2))
    path = "M{:.1f},{:.1f}".format(*start)
    for (x1, y1), (x2, y2) in itertools.pairwise(points):
        middle = (x1 + x2) / 2
        path += f"C{middle:.1f},{y1:.1f} {middle:.1f},{y2:.1f} {x2:.1f},{y2:.1f}"
    return path


def _height(layer: Sequence[_Box]) -> float:
    return sum(box.height for box in layer) + _BOX_GAP * (len(layer) - 1)


class Style(TypedDict, total=False):
    """Look of an element; colours are roles of `PALETTE`.

    Attributes:
        fill: Colour inside.
        line: Colour of the outline, or of a line.
        thickness: Width of the line.
        opacity: 0 (invisible) to 1.
        dashes: Lengths of dashes and gaps.
        tip: Tooltip.
    """

    fill: str
    line: str
    thickness: float
    opacity: float
    dashes: str
    tip: str


class Drawing:
    """Builder of an SVG element.

    Colours are set twice: as an attribute, for a figure outside a page, and as a class, through which the style of a
    page (and its dark mode) overrides the attribute.
    """

    def __init__(self, width: float, height: float, description: str) -> None:
        self._root = Element(
            "svg",
            {
                "xmlns": "http://www.w3.org/2000/svg",
                "viewBox": f"0 0 {_number(width)} {_number(height)}",
                "width": _number(width),
                "height": _number(height),
                "role": "img",
                "aria-label": description,
                "font-family": "system-ui, -apple-system, 'Segoe UI', Arial, sans-serif",
            },
        )

    def render(self) -> str:
        """Return the figure as an `<svg>` element."""
        return tostring(self._root, encoding="unicode")

    def box(
        self, x: float, y: float, width: float, height: float, *, corner: float | str = "", **style: Unpack[Style]
    ) -> None:
        """Add a rectangle."""
        self._add("rect", {"x": x, "y": y, "width": width, "height": height, "rx": corner}, **style)

    def circle(self, x: float, y: float, radius: float, *, fill: str, role: str = "", tip: str = "") -> None:
        """Add a point."""
        self._add("circle", {"cx": x, "cy": y, "r": radius}, fill=fill, line=role, tip=tip)

    def path(self, path: str, **style: Unpack[Style]) -> None:
        """Add a line or area from SVG path commands."""
        self._add("path", {"d": path}, **style)

    def line(self, x1: float, y1: float, x2: float, y2: float, *, role: str, **style: Unpack[Style]) -> None:
        """Add a straight line."""
        self._add("line", {"x1": x1, "y1": y1, "x2": x2, "y2": y2}, **{**style, "line": role})

    def whisker(self, left: float, span: float, estimate: Estimate, y: float, role: str) -> None:
        """Add a 95% interval as a thin line and its 68% interval as a thick one, on an axis from 0 to 1."""
        for (low, high), thickness in ((estimate.outer, 1.2), (estimate.inner, 3.2)):
            self.line(left + low * span, y, left + high * span, y, role=role, thickness=thickness)

    def text(
        self,
        x: float,
        y: float,
        content: str,
        *,
        role: str = "ink",
        size: float,
        anchor: str = "start",
        is_bold: bool = False,
        is_upright: bool = False,
        longest: int = _MAX_LABEL,
    ) -> None:
        """Add a line of text."""
        attributes = {"x": x, "y": y, "font-size": size, "text-anchor": anchor, "font-weight": "600" if is_bold else ""}
        attributes["transform"] = f"rotate(-90 {_number(x)} {_number(y)})" if is_upright else ""
        shown = shortened(content, longest)
        self._add("text", attributes, fill=role, tip=content if shown != content else "").text = shown

    def _add(self, tag: str, attributes: Mapping[str, str | float], **style: Unpack[Style]) -> Element:
        """Add an element; attributes with the value "" are omitted."""
        fill, line, opacity = style.get("fill", ""), style.get("line", ""), style.get("opacity", 1)
        given: dict[str, str | float] = {
            **attributes,
            "fill": PALETTE[fill][0] if fill else "none",
            "stroke": PALETTE[line][0] if line else "",
            "stroke-width": style.get("thickness", ""),
            "opacity": f"{opacity:.2f}" if opacity != 1 else "",
            "stroke-dasharray": style.get("dashes", ""),
            "class": " ".join(f"{kind}-{role}" for kind, role in (("fill", fill), ("line", line)) if role),
        }
        texts = {name: one if isinstance(one, str) else _number(one) for name, one in given.items()}
        element = SubElement(self._root, tag, {name: one for name, one in texts.items() if one})
        if tip := style.get("tip"):
            SubElement(element, "title").text = tip
        return element


def _number(value: float) -> str:
    """Return a coordinate with at most one decimal, which keeps pages small."""
    return f"{value:.1f}".removesuffix(".0")


def shortened(text: str, longest: int = _MAX_LABEL) -> str:
    """Return a text shortened to a number of characters."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def text_width(text: str, size: float) -> float:
    """Return the approximate width of a text in pixels."""
    return len(text) * size * CHARACTER_WIDTH
