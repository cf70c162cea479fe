"""The report's figures as inline SVG.

They are drawn here, without a plotting library, for three reasons: the page's light and dark colours reach
into them, a page with hundreds of panels stays small, and the same numbers give the same bytes. Every text
enters through an element tree, which escapes it: a question, answer or galaxy may be called `<script>`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gzoo.trees.drawing import BOLD, CHARACTER_WIDTH, PALETTE, Drawing, Estimate, percent, shortened, text_width


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
        for fraction in (0.0, 0.5, 1.0):
            drawing.line(left + fraction * span, y, left + fraction * span, bottom, role="grid")
        for answer in question.answers:
            drawing.text(left - 8, y + 17, answer.label, size=11, anchor="end", longest=17)
            for estimate, role, top in (
                (answer.voted, "volunteers", y + 3),
                (answer.predicted, "model", y + 14),
            ):
                if estimate is not None:
                    low, high = map(percent, estimate.outer)
                    tip = f"{answer.label}, {role}: {percent(estimate.value)} (95%: {low} to {high})"
                    drawing.box(left, top, max(estimate.value * span, 1), 9, fill=role, opacity=0.55, tip=tip)
                    drawing.whisker(left, span, estimate, top + 4.5, role)
            y += row
        y += 2
    for fraction in (0.0, 0.5, 1.0):
        drawing.text(left + fraction * span, y + 12, f"{fraction:.0%}", role="muted", size=10, anchor="middle")
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
    left = min(240.0, max((text_width(shortened(each.label), 12) for each in rows), default=0.0) + 16)
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
    left = min(260.0, BOLD * max((text_width(shortened(each.label), 12) for each in rows), default=0.0) + 16)
    proportion_asked = sorted(
        max(abs(each.low), abs(each.high)) for each in rows if each.low is not None and each.high is not None
    )
    bulk = proportion_asked[math.ceil(0.8 * len(proportion_asked)) - 1] if proportion_asked else 1.0
    points = [abs(each.value) for each in rows if each.value is not None and each.better]
    end = 1.06 * min(max(proportion_asked, default=1.0), max([2.5 * bulk, *(1.3 * point for point in points)])) or 1.0

    def place(value: float) -> float:
        return left + (min(max(value, -end), end) + end) / (2 * end) * (width - left - right)

    bottom, middle = top + row * len(rows), place(0)
    drawing = Drawing(width, bottom + 44, description)
    longest = int((middle - left) / (12 * CHARACTER_WIDTH)) - 9
    drawing.text(middle - 12, 14, f"\N{LEFTWARDS ARROW} {shortened(second, longest)} better", size=12, anchor="end",
                 role="model", is_bold=True)  # fmt: skip
    drawing.text(middle + 12, 14, f"{shortened(first, longest)} better \N{RIGHTWARDS ARROW}", size=12,
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
    left = min(240.0, max((text_width(shortened(each.label), 12) for each in rows), default=0.0) + 16)
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
    for fraction in (0.0, 0.5, 1.0):
        name = f"{fraction:g}"
        drawing.line(left + fraction * side, bottom, left + fraction * side, bottom + 3, role="muted")
        drawing.line(left - 3, bottom - fraction * side, left, bottom - fraction * side, role="muted")
        drawing.text(left + fraction * side, bottom + 13, name, role="muted", size=9, anchor="middle")
        drawing.text(left - 6, bottom - fraction * side + 3, name, role="muted", size=9, anchor="end")
    drawing.text(left + side / 2, bottom + 27, "predicted share", role="muted", size=10, anchor="middle")
    drawing.text(9, top + side / 2, "voted share", role="muted", size=10, anchor="middle", is_upright=True)
    for point in points:
        x = left + point.predicted * side
        tip = f"{point.n_galaxies} galaxies: predicted {point.predicted:.3f}, voted {point.voted:.3f}"
        drawing.line(x, bottom - point.low * side, x, bottom - point.high * side, role="model", thickness=1.3)
        drawing.circle(x, bottom - point.voted * side, 2.7, fill="model", role="page", tip=tip)
    return drawing.render()


def _signed(value: float) -> str:
    """A number with a true minus sign and about three figures."""
    text = f"{value:.2g}" if abs(value) < 0.1 else f"{value:.2f}"
    return "0" if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def _ticks(low: float, high: float) -> list[float]:
    """Round values between two ends, about six of them."""
    rough = (high - low) / 6
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [round(i * step, 10) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
