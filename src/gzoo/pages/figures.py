"""The report's figures as inline SVG.

They are drawn here, without a plotting library, for three reasons: the page's light and dark colours reach
into them, a page with hundreds of panels stays small, and the same numbers give the same bytes. Every text
enters through an element tree, which escapes it: a question, answer or galaxy may be called `<script>`.
"""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, tostring

from gzoo.trees import Question, Tree
from gzoo.wording import label, words

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
_CHARACTER_WIDTH = 0.57  # of the font size: a little more than most sans-serif fonts need
_BOLD = 1.16  # a bold text is that much wider
_LONGEST_LABEL = 44  # characters; the whole text stays in the element's tooltip


@dataclass(frozen=True, slots=True)
class Estimate:
    """A share with its intervals, all in 0..1.

    Attributes:
        value: The estimate.
        inner: Its 68% interval.
        outer: Its 95% interval.
    """

    value: float
    inner: Interval
    outer: Interval


@dataclass(frozen=True, slots=True)
class AnswerBars:
    """One answer of one galaxy: what volunteers said beside what the model expects.

    Attributes:
        label: The answer.
        voted: Share of the volunteers asked, or None if nobody was asked.
        predicted: The model's belief about that share.
    """

    label: str
    voted: Estimate | None
    predicted: Estimate


@dataclass(frozen=True, slots=True)
class QuestionBars:
    """One question of one galaxy; `note` stands at the right of its heading."""

    label: str
    note: str
    answers: tuple[AnswerBars, ...]


@dataclass(frozen=True, slots=True)
class ForestRow:
    """One line of a forest plot.

    Attributes:
        label: What was measured.
        value: The estimate, or None where there is none.
        low: Lower end of its 95% interval, or None.
        high: Upper end of its 95% interval, or None.
    """

    label: str
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class DifferenceRow:
    """One line of a plot of differences between two models.

    Attributes:
        label: What they differ on.
        value: By how much the first is better; None where there is no number: with `better`, it is infinite.
        low: Lower end of its 95% interval, or None.
        high: Upper end of its 95% interval, or None.
        least: How large a difference has to be for the data to tell it, or None.
        better: 1 if the first is shown to be better, -1 if the second, 0 if neither.
        note: What stands at the right.
    """

    label: str
    value: float | None
    low: float | None
    high: float | None
    least: float | None
    better: int
    note: str


@dataclass(frozen=True, slots=True)
class RefereeRow:
    """One question's error, as measured against votes and against the truth.

    Attributes:
        label: The question.
        raw: Root mean square error against voted fractions.
        corrected: The same with the votes' own noise removed.
        low: Lower end of its 95% interval.
        high: Upper end of its 95% interval.
        true: Root mean square error against the true probabilities.
    """

    label: str
    raw: float
    corrected: float
    low: float
    high: float
    true: float


@dataclass(frozen=True, slots=True)
class ReliabilityPoint:
    """Galaxies with similar predictions, pooled.

    Attributes:
        predicted: Their mean predicted share, 0..1.
        voted: Their voted share, 0..1.
        low: Lower end of its 95% interval.
        high: Upper end of its 95% interval.
        n_galaxies: How many they are.
    """

    predicted: float
    voted: float
    low: float
    high: float
    n_galaxies: int


def palette_css() -> str:
    """Style rules: each colour role in light and dark, for HTML (`var(--role)`) and for these figures."""
    light = "".join(f"--{role}:{colours[0]};" for role, colours in PALETTE.items())
    dark = "".join(f"--{role}:{colours[1]};" for role, colours in PALETTE.items())
    roles = "".join(f".fill-{role}{{fill:var(--{role})}}.line-{role}{{stroke:var(--{role})}}" for role in PALETTE)
    return f":root{{{light}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}{roles}"


def bars_svg(questions: Sequence[QuestionBars], *, description: str) -> str:
    """Paired bars, volunteers above model, for each answer of some questions of one galaxy.

    A thick whisker is a 68% interval, a thin one a 95% interval.

    Args:
        questions: What to draw, top to bottom.
        description: For those who cannot see the figure.
    """
    width, left, right, row = 360.0, 112.0, 14.0, 27.0
    span = width - left - right
    height = sum(26 + row * len(question.answers) for question in questions) + 34
    drawing = Drawing(width, height, description)
    y = 0.0
    for question in questions:
        drawing.text(0, y + 16, question.label, size=12, is_bold=True)
        drawing.text(width - right, y + 16, question.note, role="muted", size=11, anchor="end")
        y += 24
        bottom = y + row * len(question.answers)
        for share in (0.0, 0.5, 1.0):
            drawing.line(left + share * span, y, left + share * span, bottom, role="grid")
        for answer in question.answers:
            drawing.text(left - 8, y + 17, answer.label, size=11, anchor="end", longest=17)
            for estimate, role, top in (
                (answer.voted, "volunteers", y + 3),
                (answer.predicted, "model", y + 14),
            ):
                if estimate is not None:
                    low, high = map(_percent, estimate.outer)
                    tip = f"{answer.label}, {role}: {_percent(estimate.value)} (95%: {low} to {high})"
                    drawing.box(left, top, max(estimate.value * span, 1), 9, fill=role, opacity=0.55, tip=tip)
                    drawing.whisker(left, span, estimate, top + 4.5, role)
            y += row
        y += 2
    for share in (0.0, 0.5, 1.0):
        drawing.text(left + share * span, y + 12, f"{share:.0%}", role="muted", size=10, anchor="middle")
    drawing.text(left + span / 2, y + 27, "share of the volunteers asked", role="muted", size=10, anchor="middle")
    return drawing.render()


def forest_svg(rows: Sequence[ForestRow], *, axis: str, description: str) -> str:
    """A forest plot: one estimate and its 95% interval per line, around a line at 0.

    Args:
        rows: Lines, top to bottom. A hollow point's interval holds 0. A row without a value says "no votes".
        axis: Label of the horizontal axis, with its unit.
        description: For those who cannot see the figure.
    """
    width, row, top = 760.0, 25.0, 8.0
    left = min(240.0, max((_text_width(_shown(each.label), 12) for each in rows), default=0.0) + 16)
    right = 158.0
    ends = [end for each in rows for end in (each.value, each.low, each.high) if end is not None]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    high = high if high > low else low + 1.0
    margin = 0.04 * (high - low)
    low, high = low - margin, high + margin

    def place(value: float) -> float:
        return left + (value - low) / (high - low) * (width - left - right)

    bottom = top + row * len(rows)
    drawing = Drawing(width, bottom + 44, description)
    for tick in _ticks(low, high):
        drawing.line(place(tick), top, place(tick), bottom, role="grid")
        drawing.text(
            place(tick),
            bottom + 16,
            f"{tick:g}".replace("-", "\N{MINUS SIGN}"),
            role="muted",
            size=11,
            anchor="middle",
        )
    drawing.line(place(0), top, place(0), bottom, role="muted", thickness=1.5)
    drawing.text(
        (left + width - right) / 2,
        bottom + 36,
        axis,
        role="muted",
        size=12,
        anchor="middle",
        longest=len(axis),
    )
    for i, each in enumerate(rows):
        y = top + row * (i + 0.5)
        drawing.text(left - 12, y + 4, each.label, size=12, anchor="end")
        if each.value is None:
            drawing.text(width - right + 14, y + 4, "no votes", role="muted", size=11)
            continue
        is_clear = each.low is not None and each.high is not None and (each.low > 0 or each.high < 0)
        role = "model" if is_clear else "muted"
        numbers = _signed(each.value)
        if each.low is not None and each.high is not None:
            drawing.line(place(each.low), y, place(each.high), y, role=role, thickness=2)
            numbers += f"  [{_signed(each.low)}, {_signed(each.high)}]"
        drawing.circle(place(each.value), y, 4.5, fill=role if is_clear else "page", role=role)
        drawing.text(width - right + 14, y + 4, numbers, role="muted", size=11)
    return drawing.render()


def differences_svg(rows: Sequence[DifferenceRow], *, first: str, second: str, axis: str, description: str) -> str:
    """A line per question: by how much the first of two models is better, with its 95% interval, around a line at 0.

    To the right of 0 the first model is better. A full point in a model's colour: it is shown to be better; a hollow
    grey one: the data cannot tell. Grey bands reach as far as differences that are too small to be told. The axis
    follows the bulk of the intervals; what is beyond it ends in an arrow.

    Args:
        rows: Lines, top to bottom.
        first: Name of the model to the right.
        second: Name of the model to the left.
        axis: Label of the horizontal axis, with its unit.
        description: For those who cannot see the figure.
    """
    width, row, top, right = 860.0, 25.0, 34.0, 196.0
    left = min(260.0, _BOLD * max((_text_width(_shown(each.label), 12) for each in rows), default=0.0) + 16)
    reach = sorted(
        max(abs(each.low), abs(each.high)) for each in rows if each.low is not None and each.high is not None
    )
    bulk = reach[math.ceil(0.8 * len(reach)) - 1] if reach else 1.0
    points = [abs(each.value) for each in rows if each.value is not None and each.better]
    end = 1.06 * min(max(reach, default=1.0), max([2.5 * bulk, *(1.3 * point for point in points)])) or 1.0

    def place(value: float) -> float:
        return left + (min(max(value, -end), end) + end) / (2 * end) * (width - left - right)

    bottom, middle = top + row * len(rows), place(0)
    drawing = Drawing(width, bottom + 44, description)
    longest = int((middle - left) / (12 * _CHARACTER_WIDTH)) - 9
    drawing.text(middle - 12, 14, f"\N{LEFTWARDS ARROW} {_shown(second, longest)} better", size=12, anchor="end",
                 role="model", is_bold=True)  # fmt: skip
    drawing.text(middle + 12, 14, f"{_shown(first, longest)} better \N{RIGHTWARDS ARROW}", size=12,
                 role="volunteers", is_bold=True)  # fmt: skip
    for tick in _ticks(-end, end):
        drawing.line(place(tick), top, place(tick), bottom, role="grid")
        name = f"{tick:+g}".replace("-", "\N{MINUS SIGN}") if tick else "0"
        drawing.text(place(tick), bottom + 16, name, role="muted", size=11, anchor="middle")
    drawing.text(middle, bottom + 36, axis, role="muted", size=12, anchor="middle", longest=len(axis))
    for i, each in enumerate(rows):
        y = top + row * (i + 0.5)
        drawing.text(left - 12, y + 4, each.label, size=12, anchor="end", is_bold=each.better != 0)
        drawing.text(width - right + 14, y + 4, each.note, role="muted", size=11)
        if each.least is not None:
            drawing.box(place(-each.least), y - 8, place(each.least) - place(-each.least), 16, fill="grid", opacity=0.6)
        role = ("model", "muted", "volunteers")[each.better + 1]
        low, high = each.low, each.high
        if each.value is None and each.better:  # beyond all measure
            low, high = sorted((0.0, each.better * math.inf))
        if low is not None and high is not None:
            drawing.line(place(low), y, place(high), y, role=role, thickness=2)
            for is_beyond, sign in ((low < -end, -1), (high > end, 1)):
                if is_beyond:
                    drawing.path(f"M{place(sign * end):.1f},{y - 5:.1f}l{8 * sign},5l{-8 * sign},5z", fill=role)
        if each.value is None:
            continue
        if abs(each.value) <= end:
            drawing.circle(place(each.value), y, 4.5, fill=role if each.better else "page", role=role)
    drawing.line(middle, top, middle, bottom, role="muted", thickness=1.5)
    return drawing.render()


def referee_svg(rows: Sequence[RefereeRow], *, description: str) -> str:
    """A line per question: error against votes, the same with noise removed and its interval, and the true error.

    Args:
        rows: Lines, top to bottom.
        description: For those who cannot see the figure.
    """
    width, row, top = 760.0, 25.0, 8.0
    left = min(240.0, max((_text_width(_shown(each.label), 12) for each in rows), default=0.0) + 16)
    right = 30.0
    high = 1.04 * max((max(each.raw, each.high, each.true) for each in rows), default=1.0)

    def place(value: float) -> float:
        return left + value / high * (width - left - right)

    bottom = top + row * len(rows)
    drawing = Drawing(width, bottom + 44, description)
    for tick in _ticks(0.0, high):
        drawing.line(place(tick), top, place(tick), bottom, role="grid")
        drawing.text(place(tick), bottom + 16, f"{tick:g}", role="muted", size=11, anchor="middle")
    axis = "root mean square error of the fractions  [share of those asked]"
    middle = (left + width - right) / 2
    drawing.text(middle, bottom + 36, axis, role="muted", size=12, anchor="middle", longest=len(axis))
    for i, each in enumerate(rows):
        y = top + row * (i + 0.5)
        drawing.text(left - 12, y + 4, each.label, size=12, anchor="end")
        drawing.circle(place(each.raw), y, 4, fill="page", role="muted")
        drawing.line(place(each.low), y, place(each.high), y, role="model", thickness=2)
        drawing.circle(place(each.corrected), y, 4.5, fill="model", role="model")
        drawing.line(place(each.true), y - 9, place(each.true), y + 9, role="volunteers", thickness=3)
    return drawing.render()


def reliability_svg(points: Sequence[ReliabilityPoint], spread: Sequence[int], *, answer: str, description: str) -> str:
    """One small panel: the share of volunteers who gave an answer, against the share that was predicted.

    Args:
        points: Pooled galaxies, drawn with 95% error bars.
        spread: Number of galaxies in equal bins of the predicted share, 0 to 1: a faint histogram.
        answer: Heading of the panel.
        description: For those who cannot see the figure.
    """
    width, left, top, side = 168.0, 38.0, 22.0, 120.0
    bottom = top + side
    drawing = Drawing(width, bottom + 34, description)
    drawing.text(left + side / 2, 13, answer, size=11, anchor="middle", is_bold=True, longest=23)
    drawing.box(left, top, side, side, fill="page", line="grid")
    most = max([1, *spread])
    for i, n_galaxies in enumerate(spread):
        bar = 0.22 * side * n_galaxies / most
        step = side / len(spread)
        drawing.box(left + i * step, bottom - bar, step, bar, fill="grid", opacity=0.8)
    drawing.line(left, bottom, left + side, top, role="muted", dashes="3 3")
    for share in (0.0, 0.5, 1.0):
        name = f"{share:g}"
        drawing.line(left + share * side, bottom, left + share * side, bottom + 3, role="muted")
        drawing.line(left - 3, bottom - share * side, left, bottom - share * side, role="muted")
        drawing.text(left + share * side, bottom + 13, name, role="muted", size=9, anchor="middle")
        drawing.text(left - 6, bottom - share * side + 3, name, role="muted", size=9, anchor="end")
    drawing.text(left + side / 2, bottom + 27, "predicted share", role="muted", size=10, anchor="middle")
    drawing.text(9, top + side / 2, "voted share", role="muted", size=10, anchor="middle", is_upright=True)
    for point in points:
        x = left + point.predicted * side
        tip = f"{point.n_galaxies} galaxies: predicted {point.predicted:.3f}, voted {point.voted:.3f}"
        drawing.line(x, bottom - point.low * side, x, bottom - point.high * side, role="model", thickness=1.3)
        drawing.circle(x, bottom - point.voted * side, 2.7, fill="model", role="page", tip=tip)
    return drawing.render()


def tree_svg(tree: Tree, reach: Mapping[str, float] | None = None) -> str:
    """A decision tree from left to right: questions as boxes, edges from answers to the questions they open.

    Answers without an edge open nothing. A dashed frame marks a question that the published dataset lacks.

    Args:
        tree: Any tree, also one whose questions have several parents.
        reach: Mean share of volunteers asked, 0..1, by question name: written and shaded in its heading.

    Returns:
        An `<svg>` element. It stands alone too: without the page's style it has the light palette.
    """
    shares = reach or {}
    boxes = [_Box.of(question, label(question.name, tree), shares.get(question.name)) for question in tree.ordered]
    layout = _Layout.of(boxes)
    drawing = Drawing(layout.width, layout.height, f"Decision tree of {tree.name}")
    for link in layout.links:
        drawing.path(layout.curve(link), line="muted", opacity=0.75)
    opening = {parent for question in tree.questions for parent in question.parents}
    for box in layout.boxes():
        _draw_box(drawing, box, opening)
    return drawing.render()


# ----------------------------------------------------------------------------------------------------
# Layout of a tree: layers by longest way from the root, order by barycentres, heights by isotonic regression.

_HEADING_LINE, _ANSWER_LINE, _PADDING, _BOX_GAP, _THREAD_GAP, _LAYER_GAP = 15.0, 17.0, 9.0, 18.0, 9.0, 46.0


@dataclass(slots=True)
class _Box:
    """A question, or with `question` None a place where an edge passes a layer. `y` is its upper edge."""

    question: Question | None
    heading: tuple[str, ...] = ()
    reach: float | None = None
    width: float = 0.0
    height: float = 0.0
    entry: float = 0.0  # of edges that come in, below `y`
    layer: int = 0
    x: float = 0.0
    y: float = 0.0

    @classmethod
    def of(cls, question: Question, name: str, reach: float | None) -> _Box:
        heading = tuple(textwrap.wrap(_shown(name), 18)) or ("",)
        share = _text_width("100%", 11) + 10 if reach is not None else 0.0
        texts = [_text_width(line, 12) * _BOLD + share for line in heading]
        texts += [_text_width(_shown(words(answer)), 11) + 6 for answer in question.answers]
        heading_height = _HEADING_LINE * len(heading) + 8
        return cls(
            question,
            heading,
            reach,
            width=max(texts) + 2 * _PADDING,
            height=heading_height + _ANSWER_LINE * len(question.answers) + 6,
            entry=heading_height / 2,
        )

    @property
    def heading_height(self) -> float:
        return 2 * self.entry

    def exit(self, column: str) -> float:
        """Height, below `y`, at which edges of an answer leave."""
        if self.question is None:
            return self.entry
        return self.heading_height + _ANSWER_LINE * (self.question.columns.index(column) + 0.5) + 3


@dataclass(frozen=True, slots=True)
class _Link:
    """An edge from one layer to the next, or a piece of a longer one."""

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
        """SVG path of a link; through a layer without a box of its own it runs straight."""
        start_x = link.source.x + link.source.width
        middle = (start_x + link.target.x) / 2
        path = f"M{start_x:.1f},{link.start:.1f}"
        path += f"C{middle:.1f},{link.start:.1f} {middle:.1f},{link.end:.1f} {link.target.x:.1f},{link.end:.1f}"
        if link.target.question is None:
            path += f"h{link.target.width:.1f}"
        return path

    def _stack(self, boxes: Sequence[_Box]) -> None:
        """Gives each box its layer, and each edge a thread through the layers that it crosses."""
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
                    continue  # an answer that this tree leaves out
                source = owner[column]
                for layer in range(source.layer + 1, box.layer):
                    thread = _Box(None, layer=layer)
                    self.layers[layer].append(thread)
                    self.links.append(_Link(source, column, thread))
                    source = thread
                self.links.append(_Link(source, column, box))

    def _untangle(self) -> None:
        """Orders the boxes of each layer so that few edges cross."""
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
        """Mean height of the other ends of a box's edges in (or, backward, out)."""
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
        """Gives each box its place: as near to straight edges as the order and the gaps allow."""
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
    return _THREAD_GAP if above.question is None and below.question is None else _BOX_GAP


def _stack_evenly(layer: Sequence[_Box]) -> None:
    """Sets boxes one below the other, centred on 0."""
    y = 0.0
    for i, box in enumerate(layer):
        y += _gap(layer[i - 1], box) if i else 0.0
        box.y = y
        y += box.height
    for box in layer:
        box.y -= y / 2


def _settle(layer: Sequence[_Box], wanted: Sequence[float]) -> None:
    """Moves boxes to the nearest places (least squares) to those wanted that keep their order and gaps."""
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
    shade = 0.08 if box.reach is None else 0.05 + 0.5 * box.reach
    drawing.box(box.x, box.y, box.width, box.heading_height, fill="volunteers", corner=6, opacity=shade)
    dashes = "" if question.carried else "4 3"
    drawing.box(box.x, box.y, box.width, box.height, line="muted", corner=6, dashes=dashes)
    for i, line in enumerate(box.heading):
        drawing.text(box.x + _PADDING, box.y + 15 + _HEADING_LINE * i, line, size=12, is_bold=True)
    if box.reach is not None:
        right = box.x + box.width - _PADDING
        drawing.text(right, box.y + 15, _percent(box.reach), size=11, anchor="end")
    for answer, column in zip(question.answers, question.columns, strict=True):
        y = box.y + box.exit(column)
        role = "ink" if column in opening else "muted"
        drawing.text(box.x + _PADDING, y + 4, words(answer), role=role, size=11)
        if column in opening:
            drawing.circle(box.x + box.width, y, 2.6, fill="muted", role="page")
    if question.parents:
        y = box.y + box.entry
        drawing.path(f"M{box.x - 6:.1f},{y - 3.5:.1f}l7,3.5l-7,3.5z", fill="muted")


# ----------------------------------------------------------------------------------------------------
# Drawing


class Drawing:
    """An SVG element under construction.

    Colours are given twice: as an attribute, for a figure that stands alone, and as a class, through which
    the page's style (and its dark mode) overrides it.
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
        """The figure as an `<svg>` element."""
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
        """A rectangle."""
        place = {"x": _number(x), "y": _number(y), "width": _number(width), "height": _number(height)}
        if corner:
            place["rx"] = _number(corner)
        self._add("rect", place, fill=fill, line=line, opacity=opacity, dashes=dashes, tip=tip)

    def circle(self, x: float, y: float, radius: float, *, fill: str, role: str = "", tip: str = "") -> None:
        """A point."""
        place = {"cx": _number(x), "cy": _number(y), "r": _number(radius)}
        self._add("circle", place, fill=fill, line=role, tip=tip)

    def path(self, path: str, *, fill: str = "", line: str = "", opacity: float = 1) -> None:
        """A line or area by the commands of SVG."""
        self._add("path", {"d": path}, fill=fill, line=line, opacity=opacity)

    def line(
        self, x1: float, y1: float, x2: float, y2: float, *, role: str, thickness: float = 1, dashes: str = ""
    ) -> None:
        """A straight line."""
        place = {"x1": _number(x1), "y1": _number(y1), "x2": _number(x2), "y2": _number(y2)}
        self._add("line", place, line=role, thickness=thickness, dashes=dashes)

    def whisker(self, left: float, span: float, estimate: Estimate, y: float, role: str) -> None:
        """A 95% interval as a thin line, the 68% interval as a thick one, on an axis from 0 to 1."""
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
        longest: int = _LONGEST_LABEL,
    ) -> None:
        """A line of text."""
        place = {"x": _number(x), "y": _number(y), "font-size": _number(size), "text-anchor": anchor}
        if is_bold:
            place["font-weight"] = "600"
        if is_upright:
            place["transform"] = f"rotate(-90 {_number(x)} {_number(y)})"
        shown = _shown(content, longest)
        element = self._add("text", place, fill=role, tip=content if shown != content else "")
        element.text = shown

    def _add(
        self,
        tag: str,
        place: Mapping[str, str],
        *,
        fill: str = "",
        line: str = "",
        thickness: float = 1,
        opacity: float = 1,
        dashes: str = "",
        tip: str = "",
    ) -> Element:
        element = SubElement(self._root, tag, dict(place))
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
    """At most one decimal: a tenth of a pixel is enough, and keeps the page small."""
    return f"{value:.1f}".removesuffix(".0")


def _percent(share: float) -> str:
    return f"{share:.0%}"


def _signed(value: float) -> str:
    """A number with a true minus sign and about three figures."""
    text = f"{value:.2g}" if abs(value) < 0.1 else f"{value:.2f}"
    return "0" if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def _shown(text: str, longest: int = _LONGEST_LABEL) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _text_width(text: str, size: float) -> float:
    return len(text) * size * _CHARACTER_WIDTH


def _ticks(low: float, high: float) -> list[float]:
    """Round values between two ends, about six of them."""
    rough = (high - low) / 6
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [round(i * step, 10) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
