"""Figures of the reports as inline SVG.

They are drawn without a plotting library for three reasons: the light and dark colours of the page apply to them, a
page with hundreds of panels stays small, and the same numbers give the same bytes. Every text enters through an element
tree, which escapes it: a question, answer or galaxy may be called `<script>`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from gzoo.scoring.calibration import Group
from gzoo.scoring.intervals import Value
from gzoo.trees.drawing import BOLD, CHARACTER_WIDTH, PALETTE, Drawing, Estimate, shortened, text_width

ROW = 25.0  # height of a line of a chart
PANEL_WIDTH, LEFT, TOP, SIDE = 186.0, 48.0, 22.0, 120.0  # of the small square panels


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


def palette_css() -> str:
    """Return style rules for each colour role in light and dark, for HTML (`var(--role)`) and for these figures."""
    light = "".join(f"--{role}:{colours[0]};" for role, colours in PALETTE.items())
    dark = "".join(f"--{role}:{colours[1]};" for role, colours in PALETTE.items())
    roles = "".join(f".fill-{role}{{fill:var(--{role})}}.line-{role}{{stroke:var(--{role})}}" for role in PALETTE)
    return f":root{{{light}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}{roles}"


def bars_svg(questions: Sequence[QuestionBars], *, description: str) -> str:
    """Draw paired bars, volunteers above model, for the answers to some questions of one galaxy.

    Thick whiskers are 68% intervals, thin ones 95% intervals.

    Args:
        questions: Questions, top to bottom.
        description: Text for readers who cannot see the figure.
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
        for fraction in (0.0, 0.5, 1.0):
            drawing.line(left + fraction * span, y, left + fraction * span, bottom, role="grid")
        for answer in question.answers:
            drawing.text(left - 8, y + 17, answer.label, size=11, anchor="end", longest=17)
            for estimate, role, top in ((answer.voted, "volunteers", y + 3), (answer.predicted, "model", y + 14)):
                if estimate is not None:
                    low, high = estimate.outer
                    tip = f"{answer.label}, {role}: {estimate.value:.0%} (95%: {low:.0%} to {high:.0%})"
                    drawing.box(left, top, max(estimate.value * span, 1), 9, fill=role, opacity=0.55, tip=tip)
                    drawing.whisker(left, span, estimate, top + 4.5, role)
            y += row
        y += 2
    for fraction in (0.0, 0.5, 1.0):
        drawing.text(left + fraction * span, y + 12, f"{fraction:.0%}", role="muted", size=10, anchor="middle")
    drawing.text(left + span / 2, y + 27, "vote fraction", role="muted", size=10, anchor="middle")
    return drawing.render()


def forest_svg(rows: Mapping[str, Value], *, axis: str, description: str) -> str:
    """Draw a forest plot: an estimate and its 95% confidence interval per line, around a line at 0.

    Args:
        rows: Estimates by label, top to bottom. A point is hollow if its interval contains 0. A row without value says
            "no votes".
        axis: Label of the horizontal axis, with its unit.
        description: Text for readers who cannot see the figure.
    """
    ends = [end for one in rows.values() for end in (one["value"], one["low"], one["high"]) if end is not None]
    least, most = min([0.0, *ends]), max([0.0, *ends])
    most = most if most > least else least + 1.0
    margin, width, right, top = 0.04 * (most - least), 760.0, 158.0, 8.0
    drawing, place = _chart(list(rows), (least - margin, most + margin), (width, right, top), axis, description)
    drawing.line(place(0), top, place(0), top + ROW * len(rows), role="muted", thickness=1.5)
    for i, one in enumerate(rows.values()):
        y = top + ROW * (i + 0.5)
        value, low, high = one["value"], one["low"], one["high"]
        numbers = "no votes" if value is None else _signed(value)
        if value is not None:
            is_clear = low is not None and high is not None and (low > 0 or high < 0)
            role = "model" if is_clear else "muted"
            if low is not None and high is not None:
                drawing.line(place(low), y, place(high), y, role=role, thickness=2)
                numbers += f"  [{_signed(low)}, {_signed(high)}]"
            drawing.circle(place(value), y, 4.5, fill=role if is_clear else "page", role=role)
        drawing.text(width - right + 14, y + 4, numbers, role="muted", size=11)
    return drawing.render()


def differences_svg(rows: Sequence[DifferenceRow], *, first: str, second: str, axis: str, description: str) -> str:
    """Draw the advantage of the first of two models with its 95% confidence interval, a line per question.

    To the right of 0 the first model is better. Significant differences are full points in the colour of the better
    model; inconclusive ones are hollow and grey. Grey bands extend to the minimum detectable difference. The axis fits
    most of the intervals; an arrow marks what is beyond it.

    Args:
        rows: Lines, top to bottom.
        first: Name of the model to the right.
        second: Name of the model to the left.
        axis: Label of the horizontal axis, with its unit.
        description: Text for readers who cannot see the figure.
    """
    width, right, top = 860.0, 196.0, 34.0
    extents = sorted(
        max(abs(each.low), abs(each.high)) for each in rows if each.low is not None and each.high is not None
    )
    bulk = extents[math.ceil(0.8 * len(extents)) - 1] if extents else 1.0
    points = [abs(each.value) for each in rows if each.value is not None and each.better]
    end = 1.06 * min(max(extents, default=1.0), max([2.5 * bulk, *(1.3 * point for point in points)])) or 1.0
    drawing, place = _chart(
        [each.label for each in rows], (-end, end), (width, right, top), axis, description,
        bold=[each.better != 0 for each in rows],
    )  # fmt: skip
    middle, bottom = place(0), top + ROW * len(rows)
    longest = int((middle - place(-end)) / (12 * CHARACTER_WIDTH)) - 9
    drawing.text(middle - 12, 14, f"\N{LEFTWARDS ARROW} {shortened(second, longest)} better", size=12, anchor="end",
                 role="model", is_bold=True)  # fmt: skip
    drawing.text(middle + 12, 14, f"{shortened(first, longest)} better \N{RIGHTWARDS ARROW}", size=12,
                 role="volunteers", is_bold=True)  # fmt: skip
    for i, each in enumerate(rows):
        y = top + ROW * (i + 0.5)
        drawing.text(width - right + 14, y + 4, each.note, role="muted", size=11)
        if each.minimum is not None:
            drawing.box(place(-each.minimum), y - 8, place(each.minimum) - place(-each.minimum), 16, fill="grid",
                        opacity=0.6)  # fmt: skip
        role = ("model", "muted", "volunteers")[each.better + 1]
        low, high = each.low, each.high
        if each.value is None and each.better:  # an infinite difference
            low, high = sorted((0.0, each.better * math.inf))
        if low is not None and high is not None:
            drawing.line(place(low), y, place(high), y, role=role, thickness=2)
            for is_beyond, sign in ((low < -end, -1), (high > end, 1)):
                if is_beyond:
                    drawing.path(f"M{place(sign * end):.1f},{y - 5:.1f}l{8 * sign},5l{-8 * sign},5z", fill=role)
        if each.value is not None and abs(each.value) <= end:
            drawing.circle(place(each.value), y, 4.5, fill=role if each.better else "page", role=role)
    drawing.line(middle, top, middle, bottom, role="muted", thickness=1.5)
    return drawing.render()


def thresholds_svg(points: Sequence[ThresholdPoint], *, marked: float, axis: str, description: str) -> str:
    """Draw purity (solid) and completeness (dashed) against a threshold, with bands for their intervals.

    The two lines differ in their dashes, so that the figure can be printed without colours. Behind them is the number
    of selected galaxies, relative to the largest.

    Args:
        points: Selections by rising threshold.
        marked: The threshold that was chosen.
        axis: Label of the horizontal axis.
        description: Text for readers who cannot see the figure.
    """
    width, height, left, right, top, bottom = 660.0, 350.0, 58.0, 116.0, 30.0, 292.0
    drawing = Drawing(width, height, description)

    def x(value: float) -> float:
        return left + min(max(value, 0.0), 1.0) * (width - left - right)

    def y(value: float) -> float:
        return bottom - value * (bottom - top)

    for fraction in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        drawing.line(left, y(fraction), width - right, y(fraction), role="grid")
        drawing.text(left - 9, y(fraction) + 4, f"{fraction:.0%}", role="muted", size=12, anchor="end")
        drawing.text(x(fraction), bottom + 19, f"{fraction:g}", role="muted", size=12, anchor="middle")
    most = max([1, *(one.n_selected for one in points)])
    area = "".join(f"L{x(one.threshold):.1f},{y(0.3 * one.n_selected / most):.1f}" for one in points)
    first, last = x(points[0].threshold), x(points[-1].threshold)
    drawing.path(f"M{first:.1f},{bottom:.1f}{area}L{last:.1f},{bottom:.1f}z", fill="grid", opacity=0.6)
    drawing.line(x(marked), top, x(marked), bottom, role="muted", dashes="2 3")
    drawing.text(x(marked), top - 10, f"chosen: {marked:g}", role="muted", size=12, anchor="middle")
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
        drawing.path(f"M{line}", fill="", line=role, thickness=2.2, dashes=dashes)
        ends.append((name, y(known[-1][1]["value"]), role))
    ends.sort(key=lambda one: one[1])
    for i, (name, place, role) in enumerate(ends):
        apart = max(place, ends[i - 1][1] + 18) if i else place
        drawing.text(width - right + 8, apart + 4, name, role=role, size=13, is_bold=True)
    drawing.text((left + width - right) / 2, bottom + 42, axis, role="muted", size=12, anchor="middle",
                 longest=64)  # fmt: skip
    return drawing.render()


def truth_svg(rows: Sequence[TruthRow], *, description: str) -> str:
    """Draw the RMSE against votes, the noise-corrected RMSE with its interval, and the true RMSE, a line per question.

    Args:
        rows: Lines, top to bottom.
        description: Text for readers who cannot see the figure.
    """
    top = 8.0
    high = 1.04 * max((max(each.raw, each.high, each.true) for each in rows), default=1.0)
    drawing, place = _chart(
        [each.label for each in rows], (0.0, high), (760.0, 30.0, top), "RMSE of the vote fractions", description
    )
    for i, each in enumerate(rows):
        y = top + ROW * (i + 0.5)
        drawing.circle(place(each.raw), y, 4, fill="page", role="muted")
        drawing.line(place(each.low), y, place(each.high), y, role="model", thickness=2)
        drawing.circle(place(each.corrected), y, 4.5, fill="model", role="model")
        drawing.line(place(each.true), y - 9, place(each.true), y + 9, role="volunteers", thickness=3)
    return drawing.render()


def _chart(
    labels: Sequence[str],
    ends: tuple[float, float],
    size: tuple[float, float, float],
    axis: str,
    description: str,
    *,
    bold: Sequence[bool] = (),
) -> tuple[Drawing, Callable[[float], float]]:
    """Return a drawing with a labelled line per row and a horizontal axis, and the function from value to position.

    Args:
        labels: Labels of the rows.
        ends: Ends of the axis; values beyond are placed at the ends.
        size: Width, right margin and top margin, in pixels.
        axis: Label of the axis.
        description: Text for readers who cannot see the figure.
        bold: Which labels are bold; by default none.
    """
    (low, high), (width, right, top) = ends, size
    widest = max((text_width(shortened(name), 12) for name in labels), default=0.0)
    left = min(260.0, widest * (BOLD if bold else 1.0) + 16)

    def place(value: float) -> float:
        return left + (min(max(value, low), high) - low) / (high - low) * (width - left - right)

    bottom = top + ROW * len(labels)
    drawing = Drawing(width, bottom + 44, description)
    for tick in _ticks(low, high):
        drawing.line(place(tick), top, place(tick), bottom, role="grid")
        name = f"{tick:g}".replace("-", "\N{MINUS SIGN}")
        drawing.text(place(tick), bottom + 16, name, role="muted", size=11, anchor="middle")
    middle = (left + width - right) / 2
    drawing.text(middle, bottom + 36, axis, role="muted", size=12, anchor="middle", longest=len(axis))
    for i, name in enumerate(labels):
        drawing.text(left - 12, top + ROW * (i + 0.5) + 4, name, size=12, anchor="end", is_bold=bool(bold) and bold[i])
    return drawing, place


def panel(below: str, beside: str, heading: str, description: str) -> tuple[Drawing, float]:
    """Return an empty square panel with ticks from 0 to 1 below, and the height of its lower edge.

    Args:
        below: Label of the horizontal axis.
        beside: Label of the vertical axis.
        heading: Heading of the panel.
        description: Text for readers who cannot see the figure.
    """
    bottom = TOP + SIDE
    drawing = Drawing(PANEL_WIDTH, bottom + 34, description)
    drawing.text(LEFT + SIDE / 2, 13, heading, size=11, anchor="middle", is_bold=True, longest=23)
    drawing.box(LEFT, TOP, SIDE, SIDE, fill="page", line="grid")
    drawing.text(LEFT + SIDE / 2, bottom + 27, below, role="muted", size=10, anchor="middle")
    drawing.text(11, TOP + SIDE / 2, beside, role="muted", size=10, anchor="middle", is_upright=True)
    for fraction in (0.0, 0.5, 1.0):
        x = LEFT + fraction * SIDE
        drawing.line(x, bottom, x, bottom + 3, role="muted")
        drawing.text(x, bottom + 13, f"{fraction:g}", role="muted", size=9, anchor="middle")
    return drawing, bottom


def tick_beside(drawing: Drawing, y: float, name: str) -> None:
    """Add a tick to the vertical axis of a panel."""
    drawing.line(LEFT - 3, y, LEFT, y, role="muted")
    drawing.text(LEFT - 6, y + 3, name, role="muted", size=9, anchor="end")


def reliability_svg(groups: Sequence[Group], histogram: Sequence[int], *, answer: str, description: str) -> str:
    """Draw a reliability diagram of one answer: observed against predicted vote fraction.

    Args:
        groups: Groups of galaxies with similar predictions, drawn with 95% intervals.
        histogram: Number of galaxies in equal bins of the predicted fraction, 0 to 1.
        answer: Heading of the panel.
        description: Text for readers who cannot see the figure.
    """
    drawing, bottom = panel("predicted fraction", "vote fraction", answer, description)
    most, step = max([1, *histogram]), SIDE / len(histogram)
    for i, n_galaxies in enumerate(histogram):
        bar = 0.22 * SIDE * n_galaxies / most
        drawing.box(LEFT + i * step, bottom - bar, step, bar, fill="grid", opacity=0.8)
    drawing.line(LEFT, bottom, LEFT + SIDE, TOP, role="muted", dashes="3 3")
    for fraction in (0.0, 0.5, 1.0):
        tick_beside(drawing, bottom - fraction * SIDE, f"{fraction:g}")
    for group in groups:
        x = LEFT + group["predicted"] * SIDE
        tip = f"{group['n_galaxies']} galaxies: predicted {group['predicted']:.3f}, voted {group['voted']:.3f}"
        drawing.line(x, bottom - group["low"] * SIDE, x, bottom - group["high"] * SIDE, role="model", thickness=1.3)
        drawing.circle(x, bottom - group["voted"] * SIDE, 2.7, fill="model", role="page", tip=tip)
    return drawing.render()


def _signed(value: float) -> str:
    """Return a number with two or three figures and a true minus sign."""
    text = f"{value:.2g}" if abs(value) < 0.1 else f"{value:.2f}"
    return "0" if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def _ticks(low: float, high: float) -> list[float]:
    """Return about six round numbers between two ends."""
    rough = (high - low) / 6
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [round(i * step, 10) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
