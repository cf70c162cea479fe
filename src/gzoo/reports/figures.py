"""Figures of the reports as inline SVG.

They are drawn without a plotting library for three reasons: the light and dark colours of the page apply to them, a
page with hundreds of panels stays small, and the same numbers give the same bytes. Every text enters through an element
tree, which escapes it: a question, answer or galaxy may be called `<script>`. Charts are drawn twice, for a laptop and
for a phone, because text that shrinks with its figure cannot be read there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gzoo.palette import COMPARED
from gzoo.reports.parts import NARROW, WIDE, Figure, figure, slug
from gzoo.scoring.calibration import Group
from gzoo.scoring.intervals import Value
from gzoo.trees.drawing import BOLD, CHARACTER_WIDTH, Drawing, Estimate, shortened, text_width

ROW, NARROW_ROW = 32.0, 62.0  # height of a line of a chart
PANEL_WIDTH, LEFT, TOP, SIDE = 300.0, 62.0, 28.0, 220.0  # of the square panels
MINUS = "\N{MINUS SIGN}"


class AnswerBars(NamedTuple):
    """Votes for one answer of one galaxy, and the prediction.

    Attributes:
        label: Answer.
        voted: Observed vote fraction, or None without votes.
        predicted: Predicted vote fraction.
    """

    label: str
    voted: Estimate | None
    predicted: Estimate


class QuestionBars(NamedTuple):
    """One question of one galaxy; `note` is shown to the right of its heading."""

    label: str
    note: str
    answers: tuple[AnswerBars, ...]


class DifferenceRow(NamedTuple):
    """One line of a plot of differences between two models.

    Attributes:
        label: Question.
        value: Advantage of the first model, or None; None with `better` stands for an infinite one.
        low: Lower end of its 95% confidence interval, or None.
        high: Upper end of its 95% confidence interval, or None.
        minimum: Minimum detectable difference, or None.
        better: 1 if the first model is significantly better, -1 if the second is, otherwise 0.
        note: Text at the right.
    """

    label: str
    value: float | None
    low: float | None
    high: float | None
    minimum: float | None
    better: int
    note: str


class ThresholdPoint(NamedTuple):
    """A selection with one threshold.

    Attributes:
        threshold: The threshold, 0 to 1.
        n_selected: Number of selected galaxies.
        purity: Purity with its interval; null without selected galaxies.
        completeness: Completeness with its interval.
    """

    threshold: float
    n_selected: int
    purity: Value
    completeness: Value


class TruthRow(NamedTuple):
    """Errors on one question, against votes and against the ground truth.

    Attributes:
        label: Question.
        raw: RMSE against observed vote fractions.
        corrected: Noise-corrected RMSE.
        low: Lower end of its 95% confidence interval.
        high: Upper end of its 95% confidence interval.
        true: RMSE against the ground truth.
    """

    label: str
    raw: float
    corrected: float
    low: float
    high: float
    true: float


def bars_svg(questions: Sequence[QuestionBars], *, description: str) -> str:
    """Draw paired bars, volunteers above model, for the answers to some questions of one galaxy.

    Thick whiskers are 68% intervals, thin ones 95% intervals.

    Args:
        questions: Questions, top to bottom.
        description: Text for readers who cannot see the figure.
    """
    width, left, right, row = 440.0, 136.0, 20.0, 30.0
    span = width - left - right
    height = sum(30 + row * len(question.answers) for question in questions) + 40
    drawing = Drawing(width, height, description)
    y = 0.0
    for question in questions:
        drawing.text(0, y + 18, question.label, size=14, is_bold=True)
        drawing.text(width - right, y + 18, question.note, role="muted", size=13, anchor="end")
        y += 28
        bottom = y + row * len(question.answers)
        for fraction in (0.0, 0.5, 1.0):
            drawing.line(left + fraction * span, y, left + fraction * span, bottom, role="line")
        for answer in question.answers:
            drawing.text(left - 10, y + 19, answer.label, size=13, anchor="end", longest=17)
            for estimate, role, top in ((answer.voted, "volunteers", y + 4), (answer.predicted, "model", y + 15)):
                if estimate is not None:
                    low, high = estimate.outer
                    tip = f"{answer.label}, {role}: {estimate.value:.0%} (95%: {low:.0%} to {high:.0%})"
                    drawing.box(left, top, max(estimate.value * span, 1), 10, fill=role, opacity=0.5, tip=tip)
                    drawing.whisker(left, span, estimate, top + 5, role)
            y += row
        y += 2
    for fraction in (0.0, 0.5, 1.0):
        drawing.text(left + fraction * span, y + 15, f"{fraction:.0%}", role="muted", size=12, anchor="middle")
    drawing.text(left + span / 2, y + 33, "vote fraction", role="muted", size=12, anchor="middle")
    return drawing.render()


def forest(name: str, rows: Mapping[str, Value], *, axis: str, description: str) -> Figure:
    """Return a forest plot: an estimate and its 95% confidence interval per line, around a line at 0.

    Args:
        name: Stem of the names of the files to save.
        rows: Estimates by label, top to bottom. A point is hollow if its interval contains 0. A row without value says
            "no votes".
        axis: Label of the horizontal axis, with its unit.
        description: Text for readers who cannot see the figure.
    """
    ends = [end for one in rows.values() for end in (one["value"], one["low"], one["high"]) if end is not None]
    least, most = min([0.0, *ends]), max([0.0, *ends])
    most = most if most > least else least + 1.0
    margin = 0.04 * (most - least)

    def draw(is_narrow: bool) -> str:
        lines = [(label, _estimate(one)) for label, one in rows.items()]
        chart = Chart(lines, (least - margin, most + margin), axis, description, is_narrow=is_narrow)
        chart.rule(0)
        for i, one in enumerate(rows.values()):
            chart.interval(i, one, is_clear=excludes(one, 0))
        return chart.drawing.render()

    return figure(name, draw, [{"question": label, **one} for label, one in rows.items()], description=description)


def differences(
    name: str, rows: Sequence[DifferenceRow], *, first: tuple[str, str], second: tuple[str, str], axis: str,
    description: str,
) -> Figure:  # fmt: skip
    """Return the advantage of the first of two models with its 95% confidence interval, a line per question.

    To the right of 0 the first model is better. Significant differences are full points in the colour of the better
    model; inconclusive ones are hollow and grey. Grey bands extend to the minimum detectable difference. The axis fits
    most of the intervals; an arrow marks what is beyond it.

    Args:
        name: Stem of the names of the files to save.
        rows: Lines, top to bottom.
        first: Name and colour role of the model to the right.
        second: Name and colour role of the model to the left.
        axis: Label of the horizontal axis, with its unit.
        description: Text for readers who cannot see the figure.
    """
    extents = sorted(
        max(abs(each.low), abs(each.high)) for each in rows if each.low is not None and each.high is not None
    )
    bulk = extents[math.ceil(0.8 * len(extents)) - 1] if extents else 1.0
    points = [abs(each.value) for each in rows if each.value is not None and each.better]
    end = 1.06 * min(max(extents, default=1.0), max([2.5 * bulk, *(1.3 * point for point in points)])) or 1.0
    roles = (second[1], "muted", first[1])

    def draw(is_narrow: bool) -> str:
        chart = Chart(
            [(each.label, each.note) for each in rows], (-end, end), axis, description,
            is_narrow=is_narrow, top=54.0 if is_narrow else 40.0, bold=[each.better != 0 for each in rows],
        )  # fmt: skip
        drawing, middle = chart.drawing, chart.place(0)
        left, right = "\N{LEFTWARDS ARROW} {} better", "{} better \N{RIGHTWARDS ARROW}"
        if is_narrow:  # one under the other: one line has no room for two names
            drawing.text(0, 16, left.format(shortened(second[0], 30)), size=14, role=second[1], is_bold=True)
            drawing.text(NARROW, 36, right.format(shortened(first[0], 30)), size=14, anchor="end", role=first[1],
                         is_bold=True)  # fmt: skip
        else:
            longest = int((middle - chart.place(-end)) / (14 * BOLD * CHARACTER_WIDTH)) - 9
            drawing.text(middle - 12, 18, left.format(shortened(second[0], longest)), size=14, anchor="end",
                         role=second[1], is_bold=True)  # fmt: skip
            drawing.text(middle + 12, 18, right.format(shortened(first[0], longest)), size=14, role=first[1],
                         is_bold=True)  # fmt: skip
        for i, each in enumerate(rows):
            y, role = chart.y(i), roles[each.better + 1]
            if each.minimum is not None:
                low, high = chart.place(-each.minimum), chart.place(each.minimum)
                drawing.box(low, y - 9, high - low, 18, fill="track")
            low, high = each.low, each.high
            if each.value is None and each.better:  # an infinite difference
                low, high = sorted((0.0, each.better * math.inf))
            if low is not None and high is not None:
                drawing.line(chart.place(low), y, chart.place(high), y, role=role, thickness=2.5)
                for is_beyond, sign in ((low < -end, -1), (high > end, 1)):
                    if is_beyond:
                        tip = f"M{chart.place(sign * end):.1f},{y - 6:.1f}l{9 * sign},6l{-9 * sign},6z"
                        drawing.path(tip, fill=role)
            if each.value is not None and abs(each.value) <= end:
                drawing.circle(chart.place(each.value), y, 5.5, fill=role if each.better else "page", role=role)
        chart.rule(0)
        return drawing.render()

    names = {1: first[0], -1: second[0], 0: ""}
    numbers = [
        {
            "question": each.label,
            "difference": each.value,
            "low": each.low,
            "high": each.high,
            "minimum_detectable_difference": each.minimum,
            "better_model": names[each.better],
        }
        for each in rows
    ]
    return figure(name, draw, numbers, description=description)


def thresholds(name: str, points: Sequence[ThresholdPoint], *, marked: float, axis: str, description: str) -> Figure:
    """Return purity (solid) and completeness (dashed) against a threshold, with bands for their intervals.

    The two lines differ in their dashes, so that the figure can be printed without colours. Behind them is the number
    of selected galaxies, relative to the largest.

    Args:
        name: Stem of the names of the files to save.
        points: Selections by rising threshold.
        marked: The threshold that was chosen.
        axis: Label of the horizontal axis.
        description: Text for readers who cannot see the figure.
    """

    def draw(is_narrow: bool) -> str:
        return _thresholds_svg(points, marked, axis, description, is_narrow=is_narrow)

    numbers = [
        {
            "threshold": one.threshold,
            "n_selected": one.n_selected,
            **{f"purity_{end}": value for end, value in one.purity.items()},
            **{f"completeness_{end}": value for end, value in one.completeness.items()},
        }
        for one in points
    ]
    return figure(name, draw, numbers, description=description)


def _thresholds_svg(
    points: Sequence[ThresholdPoint], marked: float, axis: str, description: str, *, is_narrow: bool
) -> str:
    width, left, right = (NARROW, 46.0, 12.0) if is_narrow else (WIDE, 62.0, 140.0)
    top, bottom = (58.0, 300.0) if is_narrow else (34.0, 390.0)
    drawing = Drawing(width, bottom + 58, description)

    def x(value: float) -> float:
        return left + min(max(value, 0.0), 1.0) * (width - left - right)

    def y(value: float) -> float:
        return bottom - value * (bottom - top)

    for fraction in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        drawing.line(left, y(fraction), width - right, y(fraction), role="line")
        drawing.text(left - 9, y(fraction) + 4, f"{fraction:.0%}", role="muted", size=13, anchor="end")
        drawing.text(x(fraction), bottom + 21, f"{fraction:g}", role="muted", size=13, anchor="middle")
    most = max([1, *(one.n_selected for one in points)])
    area = "".join(f"L{x(one.threshold):.1f},{y(0.3 * one.n_selected / most):.1f}" for one in points)
    first, last = x(points[0].threshold), x(points[-1].threshold)
    drawing.path(f"M{first:.1f},{bottom:.1f}{area}L{last:.1f},{bottom:.1f}z", fill="track")
    drawing.line(x(marked), top, x(marked), bottom, role="muted", dashes="2 3")
    drawing.text(x(marked), top - 10, f"chosen: {marked:g}", role="muted", size=13, anchor="middle")
    ends: list[tuple[str, float, str]] = []
    for name, dashes, role in (("purity", "", "ink"), ("completeness", "7 4", "muted")):
        known = [(x(one.threshold), getattr(one, name)) for one in points]
        known = [(place, value) for place, value in known if value["value"] is not None and value["low"] is not None]
        if not known:
            continue
        there = "L".join(f"{place:.1f},{y(value['high']):.1f}" for place, value in known)
        back = "L".join(f"{place:.1f},{y(value['low']):.1f}" for place, value in reversed(known))
        drawing.path(f"M{there}L{back}z", fill=role, opacity=0.16)
        line = "L".join(f"{place:.1f},{y(value['value']):.1f}" for place, value in known)
        drawing.path(f"M{line}", fill="", line=role, thickness=2.6, dashes=dashes)
        ends.append((name, y(known[-1][1]["value"]), role))
    ends.sort(key=lambda one: one[1])
    for i, (name, place, role) in enumerate(ends):
        if is_narrow:  # the legend is above: at the right, it has no room
            start = left + 140 * i
            drawing.line(start, 14, start + 26, 14, role=role, thickness=2.6, dashes="7 4" * (role == "muted"))
            drawing.text(start + 32, 18, name, role=role, size=13, is_bold=True)
        else:
            apart = max(place, ends[i - 1][1] + 20) if i else place
            drawing.text(width - right + 10, apart + 4, name, role=role, size=14, is_bold=True)
    drawing.text((left + width - right) / 2, bottom + 46, axis, role="muted", size=13, anchor="middle",
                 longest=40 if is_narrow else 80)  # fmt: skip
    return drawing.render()


def truth_figure(rows: Sequence[TruthRow], *, description: str) -> Figure:
    """Return the RMSE against votes, the noise-corrected RMSE with its interval, and the true RMSE of each question.

    Args:
        rows: Lines, top to bottom.
        description: Text for readers who cannot see the figure.
    """
    high = 1.04 * max((max(each.raw, each.high, each.true) for each in rows), default=1.0)

    def draw(is_narrow: bool) -> str:
        lines = [(each.label, f"{each.corrected:.3f}, true {each.true:.3f}") for each in rows]
        chart = Chart(lines, (0.0, high), "RMSE of the vote fractions", description, is_narrow=is_narrow)
        for i, each in enumerate(rows):
            y, place, drawing = chart.y(i), chart.place, chart.drawing
            drawing.circle(place(each.raw), y, 5, fill="page", role="muted")
            drawing.line(place(each.low), y, place(each.high), y, role="model", thickness=2.5)
            drawing.circle(place(each.corrected), y, 5.5, fill="model", role="model")
            drawing.line(place(each.true), y - 10, place(each.true), y + 10, role="ink", thickness=3)
        return chart.drawing.render()

    return figure("ground-truth", draw, [each._asdict() for each in rows], description=description)


def histogram(name: str, bins: Sequence[tuple[str, int]], *, axis: str, unit: str, description: str) -> Figure:
    """Return a histogram of numbers that volunteers made, such as classifications per galaxy.

    Args:
        name: Stem of the names of the files to save.
        bins: Label and number of each bin.
        axis: Label of the horizontal axis.
        unit: What the numbers count, such as "galaxies".
        description: Text for readers who cannot see the figure.
    """
    most = max([1, *(n for _, n in bins)])

    def draw(is_narrow: bool) -> str:
        width, left, right, top, bottom = (NARROW if is_narrow else WIDE / 2 - 14), 4.0, 4.0, 26.0, 190.0
        drawing = Drawing(width, bottom + 48, description)
        step = (width - left - right) / max(len(bins), 1)
        every = max(1, math.ceil(max((text_width(label, 12) for label, _ in bins), default=1) * 1.1 / step))
        for i, (label, n) in enumerate(bins):
            height = n / most * (bottom - top)
            drawing.box(left + i * step + 1, bottom - height, step - 2, height, fill="volunteers",
                        tip=f"{label}: {n:,} {unit}")  # fmt: skip
            if i % every == 0:
                drawing.text(left + (i + 0.5) * step, bottom + 18, label, role="muted", size=12, anchor="middle")
            if n == most:
                drawing.text(min(max(left + (i + 0.5) * step, 60), width - 60), bottom - height - 8, f"{n:,} {unit}",
                             role="muted", size=12, anchor="middle")  # fmt: skip
        drawing.line(left, bottom, width - right, bottom, role="muted")
        drawing.text(width / 2, bottom + 40, axis, role="muted", size=13, anchor="middle", longest=60)
        return drawing.render()

    return figure(name, draw, [{axis: label, unit: n} for label, n in bins], description=description)


class Chart:
    """A labelled line per row above a horizontal axis; on a narrow page the label and the note are above their line.

    Args:
        lines: Label and note of each row.
        ends: Ends of the axis; values beyond are placed at the ends. On a logarithmic axis both are positive.
        axis: Label of the axis.
        description: Text for readers who cannot see the figure.
        is_narrow: Whether to draw it for a narrow page.
        top: Free space above the rows.
        bold: Which labels are bold; by default none.
        ticks: Values to mark on the axis; by default about six round ones.
        is_logarithmic: Whether equal factors are equally far apart.
    """

    def __init__(
        self, lines: Sequence[tuple[str, str]], ends: tuple[float, float], axis: str, description: str, *,
        is_narrow: bool, top: float = 8.0, bold: Sequence[bool] = (), ticks: Sequence[float] | None = None,
        is_logarithmic: bool = False,
    ) -> None:  # fmt: skip
        self._ends, self._top, self._row = ends, top, NARROW_ROW if is_narrow else ROW
        self._bottom, self._scale = top + self._row * len(lines), math.log if is_logarithmic else float
        width = NARROW if is_narrow else WIDE
        if is_narrow:
            self._left, self._right = 8.0, 8.0
        else:
            widest = max((text_width(shortened(label), 14) for label, _ in lines), default=0.0)
            self._left = min(300.0, widest * (BOLD if any(bold) else 1.0) + 20)
            self._right = max((text_width(note, 13) for _, note in lines), default=0.0) + 32
        self._width, self._middle = width, self._row - 15 if is_narrow else self._row / 2
        self.drawing = Drawing(width, self._bottom + (67 if is_narrow else 50), description)
        for tick in ticks if ticks is not None else _ticks(*ends):
            x = self.place(tick)
            self.drawing.line(x, top, x, self._bottom, role="line")
            text = f"{tick:g}".replace("-", MINUS)
            self.drawing.text(x, self._bottom + 19, text, role="muted", size=13, anchor="middle")
        middle = (self._left + width - self._right) / 2
        quantity, _, unit = axis.partition("  [")
        for i, text in enumerate([quantity, f"[{unit}"][: 1 + bool(unit)] if is_narrow else [axis]):
            self.drawing.text(middle, self._bottom + 42 + 17 * i, text, role="muted", size=13, anchor="middle",
                              longest=54 if is_narrow else len(axis))  # fmt: skip
        for i, (label, note) in enumerate(lines):
            is_bold, start = bool(bold) and bold[i], top + self._row * i
            if is_narrow:
                self.drawing.box(0, start + 1, width, 34, fill="page")  # no tick crosses the text
                self.drawing.text(0, start + 15, label, size=14, is_bold=is_bold, longest=40)
                self.drawing.text(0, start + 32, note, role="muted", size=13, longest=48)
            else:
                self.drawing.text(self._left - 14, self.y(i) + 5, label, size=14, anchor="end", is_bold=is_bold)
                self.drawing.text(width - self._right + 18, self.y(i) + 5, note, role="muted", size=13, longest=60)

    def place(self, value: float) -> float:
        """Return the horizontal position of a value."""
        low, high = self._ends
        within, scale = min(max(value, low), high), self._scale
        fraction = (scale(within) - scale(low)) / (scale(high) - scale(low))
        return self._left + fraction * (self._width - self._left - self._right)

    def y(self, i: int) -> float:
        """Return the vertical position of a row."""
        return self._top + self._row * i + self._middle

    def rule(self, value: float) -> None:
        """Draw a line across all rows at a value."""
        for i in range(round((self._bottom - self._top) / self._row)):
            self.drawing.line(self.place(value), self.y(i) - 14, self.place(value), self.y(i) + 15, role="muted",
                              thickness=1.5)  # fmt: skip

    def interval(self, i: int, one: Value, *, is_clear: bool) -> None:
        """Draw an estimate with its interval: full if it is clear, else hollow and grey."""
        if one["value"] is None:
            return
        role = "model" if is_clear else "muted"
        if one["low"] is not None and one["high"] is not None:
            self.drawing.line(self.place(one["low"]), self.y(i), self.place(one["high"]), self.y(i), role=role,
                              thickness=2.5)  # fmt: skip
        self.drawing.circle(self.place(one["value"]), self.y(i), 5.5, fill=role if is_clear else "page", role=role)


def excludes(one: Value, value: float) -> bool:
    """Return whether an interval is known and does not contain a value."""
    low, high = one["low"], one["high"]
    return low is not None and high is not None and (low > value or high < value)


def panel(below: str, beside: str, heading: str, description: str) -> tuple[Drawing, float]:
    """Return an empty square panel with ticks from 0 to 1 below, and the height of its lower edge.

    Args:
        below: Label of the horizontal axis.
        beside: Label of the vertical axis.
        heading: Heading of the panel.
        description: Text for readers who cannot see the figure.
    """
    bottom = TOP + SIDE
    drawing = Drawing(PANEL_WIDTH, bottom + 46, description)
    drawing.text(LEFT + SIDE / 2, 17, heading, size=14, anchor="middle", is_bold=True, longest=28)
    drawing.box(LEFT, TOP, SIDE, SIDE, fill="page", line="line")
    drawing.text(LEFT + SIDE / 2, bottom + 38, below, role="muted", size=13, anchor="middle")
    drawing.text(14, TOP + SIDE / 2, beside, role="muted", size=13, anchor="middle", is_upright=True)
    for fraction in (0.0, 0.5, 1.0):
        x = LEFT + fraction * SIDE
        drawing.line(x, bottom, x, bottom + 4, role="muted")
        drawing.text(x, bottom + 18, f"{fraction:g}", role="muted", size=12, anchor="middle")
    return drawing, bottom


def tick_beside(drawing: Drawing, y: float, name: str) -> None:
    """Add a tick to the vertical axis of a panel."""
    drawing.line(LEFT - 4, y, LEFT, y, role="muted")
    drawing.text(LEFT - 8, y + 4, name, role="muted", size=12, anchor="end")


def reliability(groups: Sequence[Group], counts: Sequence[int], *, answer: str, question: str) -> Figure:
    """Return a reliability diagram of one answer: observed against predicted vote fraction.

    Args:
        groups: Groups of galaxies with similar predictions, drawn with 95% intervals.
        counts: Number of galaxies in equal bins of the predicted fraction, 0 to 1.
        answer: Heading of the panel.
        question: Its question.
    """
    description = f"Voted against predicted fractions of {answer} for {question}"
    drawing, bottom = panel("predicted fraction", "vote fraction", answer, description)
    most, step = max([1, *counts]), SIDE / len(counts)
    for i, n_galaxies in enumerate(counts):
        bar = 0.22 * SIDE * n_galaxies / most
        drawing.box(LEFT + i * step, bottom - bar, step, bar, fill="all", opacity=0.8)
    drawing.line(LEFT, bottom, LEFT + SIDE, TOP, role="muted", dashes="4 4")
    for fraction in (0.0, 0.5, 1.0):
        tick_beside(drawing, bottom - fraction * SIDE, f"{fraction:g}")
    for group in groups:
        x = LEFT + group["predicted"] * SIDE
        tip = f"{group['n_galaxies']} galaxies: predicted {group['predicted']:.3f}, voted {group['voted']:.3f}"
        drawing.line(x, bottom - group["low"] * SIDE, x, bottom - group["high"] * SIDE, role="model", thickness=2)
        drawing.circle(x, bottom - group["voted"] * SIDE, 4.5, fill="model", role="page", tip=tip)
    name = f"reliability-{slug(question)}-{slug(answer)}"
    return figure(name, lambda _: drawing.render(), groups, description=description, is_small=True)


def compared_role(i: int) -> str:
    """Return the colour role of the model with this number."""
    return COMPARED[i % len(COMPARED)]


def _estimate(one: Value) -> str:
    if one["value"] is None:
        return "no votes"
    if one["low"] is None or one["high"] is None:
        return _signed(one["value"])
    return f"{_signed(one['value'])}  [{_signed(one['low'])}, {_signed(one['high'])}]"


def _signed(value: float) -> str:
    """Return a number with two or three figures and a true minus sign."""
    text = f"{value:.2g}" if abs(value) < 0.1 else f"{value:.2f}"
    return "0" if float(text) == 0 else text.replace("-", MINUS)


def _ticks(low: float, high: float) -> list[float]:
    """Return about six round numbers between two ends."""
    rough = (high - low) / 6
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [round(i * step, 10) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
