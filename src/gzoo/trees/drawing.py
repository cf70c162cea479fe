"""Decision trees as inline SVG, and the SVG builder of all figures."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, tostring

from gzoo.trees.labels import label, words
from gzoo.trees.tree import Question, Tree

Interval = tuple[float, float]


# role: (light, dark). Volunteers, model and warning are from Okabe & Ito's colour-blind-safe palette.
PALETTE: Mapping[str, tuple[str, str]] = {
    "ink": ("#1c2430", "#e7ebf0"),
    "muted": ("#5c6773", "#9ba7b4"),
    "grid": ("#d9dee4", "#39424d"),
    "page": ("#ffffff", "#12161b"),
    "panel": ("#f5f7f9", "#1b2128"),
    "volunteers": ("#0072b2", "#56b4e9"),
    "model": ("#d55e00", "#f0904a"),
    "warning": ("#e69f00", "#e69f00"),
}

CHARACTER_WIDTH = 0.57  # of the font size; slightly more than most sans-serif fonts need

BOLD = 1.16  # width of bold text relative to normal text

_MAX_LABEL = 44  # characters; the tooltip of the element has the full text


@dataclass(frozen=True, slots=True)
class Estimate:
    """A fraction with its intervals, all in 0..1.

    Attributes:
        value: The estimate.
        inner: Its 68% interval.
        outer: Its 95% interval.
    """

    value: float
    inner: Interval
    outer: Interval


def tree_svg(tree: Tree, proportion_asked: Mapping[str, float] | None = None) -> str:
    """Draw a decision tree from left to right: questions as boxes, edges from answers to the questions they lead to.

    A dashed frame marks a question that is not in the published dataset.

    Args:
        tree: Any tree; questions may have several parents.
        proportion_asked: Mean proportion of volunteers asked, 0..1, by question name, shown in the heading of each box.

    Returns:
        An `<svg>` element. Without the style of a page it has the light palette.
    """
    fractions = proportion_asked or {}
    boxes = [_Box.of(question, label(question.name, tree), fractions.get(question.name)) for question in tree.ordered]
    layout = _Layout.of(boxes)
    drawing = Drawing(layout.width, layout.height, f"Decision tree of {tree.name}")
    for link in layout.links:
        drawing.path(layout.curve(link), line="muted", opacity=0.75)
    opening = {parent for question in tree.questions for parent in question.parents}
    for box in layout.boxes():
        _draw_box(drawing, box, opening)
    return drawing.render()


_HEADING_LINE, _ANSWER_LINE, _PADDING, _BOX_GAP, _WAYPOINT_GAP, _LAYER_GAP = 15.0, 17.0, 9.0, 18.0, 9.0, 46.0


@dataclass(slots=True)
class _Box:
    """A question or, with `question` None, a waypoint of an edge in a layer. `y` is the upper edge."""

    question: Question | None
    heading: tuple[str, ...] = ()
    proportion_asked: float | None = None
    width: float = 0.0
    height: float = 0.0
    entry: float = 0.0  # height of incoming edges, below `y`
    layer: int = 0
    x: float = 0.0
    y: float = 0.0

    @classmethod
    def of(cls, question: Question, name: str, proportion_asked: float | None) -> _Box:
        heading = tuple(textwrap.wrap(shortened(name), 18)) or ("",)
        fraction = text_width("100%", 11) + 10 if proportion_asked is not None else 0.0
        texts = [text_width(line, 12) * BOLD + fraction for line in heading]
        texts += [text_width(shortened(words(answer)), 11) + 6 for answer in question.answers]
        heading_height = _HEADING_LINE * len(heading) + 8
        return cls(
            question,
            heading,
            proportion_asked,
            width=max(texts) + 2 * _PADDING,
            height=heading_height + _ANSWER_LINE * len(question.answers) + 6,
            entry=heading_height / 2,
        )

    @property
    def heading_height(self) -> float:
        return 2 * self.entry

    def exit(self, column: str) -> float:
        """Return the height, below `y`, at which the edges of an answer start."""
        if self.question is None:
            return self.entry
        return self.heading_height + _ANSWER_LINE * (self.question.columns.index(column) + 0.5) + 3


@dataclass(frozen=True, slots=True)
class _Link:
    """Edge from one layer to the next, or a segment of a longer edge."""

    source: _Box
    column: str
    target: _Box

    @property
    def start(self) -> float:
        return self.source.y + self.source.exit(self.column)

    @property
    def end(self) -> float:
        return self.target.y + self.target.entry


@dataclass(slots=True)
class _Layout:
    layers: list[list[_Box]]
    links: list[_Link]
    width: float = 0.0
    height: float = 0.0

    @classmethod
    def of(cls, boxes: Sequence[_Box]) -> _Layout:
        layout = cls([], [])
        layout._stack(boxes)
        layout._untangle()
        layout._spread_out()
        return layout

    def boxes(self) -> Iterator[_Box]:
        return (box for layer in self.layers for box in layer if box.question is not None)

    def curve(self, link: _Link) -> str:
        """Return the SVG path of a link, which is straight inside a waypoint."""
        start_x = link.source.x + link.source.width
        middle = (start_x + link.target.x) / 2
        path = f"M{start_x:.1f},{link.start:.1f}"
        path += f"C{middle:.1f},{link.start:.1f} {middle:.1f},{link.end:.1f} {link.target.x:.1f},{link.end:.1f}"
        if link.target.question is None:
            path += f"h{link.target.width:.1f}"
        return path

    def _stack(self, boxes: Sequence[_Box]) -> None:
        """Assign boxes to layers, and add waypoints where edges cross a layer."""
        owner = {column: box for box in boxes if box.question for column in box.question.columns}
        for box in boxes:
            for column in box.question.parents if box.question else ():
                if column in owner:
                    box.layer = max(box.layer, owner[column].layer + 1)
        self.layers = [[] for _ in range(max((box.layer for box in boxes), default=-1) + 1)]
        for box in boxes:
            self.layers[box.layer].append(box)
        for box in boxes:
            for column in box.question.parents if box.question else ():
                if column not in owner:
                    continue  # an answer that this tree omits
                source = owner[column]
                for layer in range(source.layer + 1, box.layer):
                    waypoint = _Box(None, layer=layer)
                    self.layers[layer].append(waypoint)
                    self.links.append(_Link(source, column, waypoint))
                    source = waypoint
                self.links.append(_Link(source, column, box))

    def _untangle(self) -> None:
        """Order the boxes of each layer so that few edges cross."""
        best, fewest = [list(layer) for layer in self.layers], math.inf
        for sweep in range(12):
            for layer in self.layers:
                _stack_evenly(layer)
            crossings = self._crossings()
            if crossings < fewest:
                best, fewest = [list(layer) for layer in self.layers], crossings
            is_forward = sweep % 2 == 0
            for layer in self.layers if is_forward else reversed(self.layers):
                places = {id(box): self._barycentre(box, is_forward) for box in layer}
                layer.sort(key=lambda box: places[id(box)])
                _stack_evenly(layer)
        self.layers = best

    def _barycentre(self, box: _Box, is_forward: bool) -> float:
        """Return the mean height of the other ends of a box's incoming (or, backward, outgoing) edges."""
        ends = [link.start for link in self.links if link.target is box] if is_forward else []
        ends += [link.end for link in self.links if link.source is box] if not is_forward else []
        return sum(ends) / len(ends) if ends else box.y + box.entry

    def _crossings(self) -> int:
        n_crossings = 0
        for i, first in enumerate(self.links):
            for second in self.links[:i]:
                if first.target.layer == second.target.layer:
                    n_crossings += (first.start - second.start) * (first.end - second.end) < 0
        return n_crossings

    def _spread_out(self) -> None:
        """Set the coordinates of each box so that edges are as straight as the order and the gaps allow."""
        for layer in self.layers:
            _stack_evenly(layer)
        for _ in range(30):
            for layer in (*self.layers, *reversed(self.layers)):
                wanted: list[float] = []
                for box in layer:
                    pulls = [link.start - box.entry for link in self.links if link.target is box]
                    pulls += [link.end - box.exit(link.column) for link in self.links if link.source is box]
                    wanted.append(sum(pulls) / len(pulls) if pulls else box.y)
                _settle(layer, wanted)
        top = min((box.y for layer in self.layers for box in layer), default=0.0)
        x = 4.0
        for layer in self.layers:
            width = max(box.width for box in layer)
            for box in layer:
                box.x, box.y, box.width = x, box.y - top + 4, width
            x += width + _LAYER_GAP
        self.width = max(x - _LAYER_GAP + 4, 8.0)
        self.height = max((box.y + box.height for layer in self.layers for box in layer), default=0.0) + 4


def _gap(above: _Box, below: _Box) -> float:
    return _WAYPOINT_GAP if above.question is None and below.question is None else _BOX_GAP


def _stack_evenly(layer: Sequence[_Box]) -> None:
    """Stack boxes one below the other, centred on 0."""
    y = 0.0
    for i, box in enumerate(layer):
        y += _gap(layer[i - 1], box) if i else 0.0
        box.y = y
        y += box.height
    for box in layer:
        box.y -= y / 2


def _settle(layer: Sequence[_Box], wanted: Sequence[float]) -> None:
    """Move boxes as near to the wanted heights (least squares) as their order and gaps allow."""
    offsets = [0.0]
    for above, below in itertools.pairwise(layer):
        offsets.append(offsets[-1] + above.height + _gap(above, below))
    pools: list[tuple[float, int]] = []  # (mean, members): adjacent violators are pooled
    for place, offset in zip(wanted, offsets, strict=True):
        mean, members = place - offset, 1
        while pools and pools[-1][0] > mean:
            before, n_before = pools.pop()
            mean, members = (mean * members + before * n_before) / (members + n_before), members + n_before
        pools.append((mean, members))
    means = [mean for mean, members in pools for _ in range(members)]
    for box, mean, offset in zip(layer, means, offsets, strict=True):
        box.y = mean + offset


def _draw_box(drawing: Drawing, box: _Box, opening: Set[str]) -> None:
    question = box.question
    if question is None:
        return
    drawing.box(box.x, box.y, box.width, box.height, fill="page", corner=6, tip=question.name)
    shade = 0.08 if box.proportion_asked is None else 0.05 + 0.5 * box.proportion_asked
    drawing.box(box.x, box.y, box.width, box.heading_height, fill="volunteers", corner=6, opacity=shade)
    dashes = "" if question.is_published else "4 3"
    drawing.box(box.x, box.y, box.width, box.height, line="muted", corner=6, dashes=dashes)
    for i, line in enumerate(box.heading):
        drawing.text(box.x + _PADDING, box.y + 15 + _HEADING_LINE * i, line, size=12, is_bold=True)
    if box.proportion_asked is not None:
        right = box.x + box.width - _PADDING
        drawing.text(right, box.y + 15, percent(box.proportion_asked), size=11, anchor="end")
    for answer, column in zip(question.answers, question.columns, strict=True):
        y = box.y + box.exit(column)
        role = "ink" if column in opening else "muted"
        drawing.text(box.x + _PADDING, y + 4, words(answer), role=role, size=11)
        if column in opening:
            drawing.circle(box.x + box.width, y, 2.6, fill="muted", role="page")
    if question.parents:
        y = box.y + box.entry
        drawing.path(f"M{box.x - 6:.1f},{y - 3.5:.1f}l7,3.5l-7,3.5z", fill="muted")


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
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        *,
        fill: str = "",
        line: str = "",
        corner: float = 0,
        opacity: float = 1,
        dashes: str = "",
        tip: str = "",
    ) -> None:
        """Add a rectangle."""
        attributes = {"x": _number(x), "y": _number(y), "width": _number(width), "height": _number(height)}
        if corner:
            attributes["rx"] = _number(corner)
        self._add("rect", attributes, fill=fill, line=line, opacity=opacity, dashes=dashes, tip=tip)

    def circle(self, x: float, y: float, radius: float, *, fill: str, role: str = "", tip: str = "") -> None:
        """Add a point."""
        attributes = {"cx": _number(x), "cy": _number(y), "r": _number(radius)}
        self._add("circle", attributes, fill=fill, line=role, tip=tip)

    def path(self, path: str, *, fill: str = "", line: str = "", opacity: float = 1) -> None:
        """Add a line or area from SVG path commands."""
        self._add("path", {"d": path}, fill=fill, line=line, opacity=opacity)

    def line(
        self, x1: float, y1: float, x2: float, y2: float, *, role: str, thickness: float = 1, dashes: str = ""
    ) -> None:
        """Add a straight line."""
        attributes = {"x1": _number(x1), "y1": _number(y1), "x2": _number(x2), "y2": _number(y2)}
        self._add("line", attributes, line=role, thickness=thickness, dashes=dashes)

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
        attributes = {"x": _number(x), "y": _number(y), "font-size": _number(size), "text-anchor": anchor}
        if is_bold:
            attributes["font-weight"] = "600"
        if is_upright:
            attributes["transform"] = f"rotate(-90 {_number(x)} {_number(y)})"
        shown = shortened(content, longest)
        element = self._add("text", attributes, fill=role, tip=content if shown != content else "")
        element.text = shown

    def _add(
        self,
        tag: str,
        attributes: Mapping[str, str],
        *,
        fill: str = "",
        line: str = "",
        thickness: float = 1,
        opacity: float = 1,
        dashes: str = "",
        tip: str = "",
    ) -> Element:
        element = SubElement(self._root, tag, dict(attributes))
        element.set("fill", PALETTE[fill][0] if fill else "none")
        classes = [f"fill-{fill}"] if fill else []
        if line:
            element.set("stroke", PALETTE[line][0])
            classes.append(f"line-{line}")
        if thickness != 1:
            element.set("stroke-width", _number(thickness))
        if opacity != 1:
            element.set("opacity", f"{opacity:.2f}")
        if dashes:
            element.set("stroke-dasharray", dashes)
        if classes:
            element.set("class", " ".join(classes))
        if tip:
            SubElement(element, "title").text = tip
        return element


def _number(value: float) -> str:
    """Return a coordinate with at most one decimal, which keeps pages small."""
    return f"{value:.1f}".removesuffix(".0")


def percent(fraction: float) -> str:
    """Return a fraction as a percentage without decimals."""
    return f"{fraction:.0%}"


def shortened(text: str, longest: int = _MAX_LABEL) -> str:
    """Return a text shortened to a number of characters."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def text_width(text: str, size: float) -> float:
    """Return the approximate width of a text in pixels."""
    return len(text) * size * CHARACTER_WIDTH
