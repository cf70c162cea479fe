"""The calibration part of the score page: a figure over all questions, a table, and panels for each question."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gzoo import reports
from gzoo.reports import Markup
from gzoo.reports.figures import ReliabilityPoint, reliability_svg
from gzoo.scoring.bands import Curve
from gzoo.scoring.calibration import Calibration, Histogram, QuestionCalibration, Reliability, Verdict
from gzoo.trees.drawing import Drawing
from gzoo.trees.labels import label, words
from gzoo.trees.tree import Question, Tree

MIN_GALAXIES = 30  # asked a question, before its panels are drawn
PANEL_WIDTH, SIDE, LEFT, TOP = 186.0, 120.0, 48.0, 22.0
MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"


@dataclass(frozen=True, slots=True)
class FactorRow:
    """One question: by what concentrations must be multiplied to fit the votes, and the 95% interval of that.

    Attributes:
        label: The question.
        value: None where any large factor fits.
        low: None where there is no end.
        high: None where there is no end.
        verdict: Of the question.
        note: What stands there instead, if nothing can be drawn.
    """

    label: str
    value: float | None
    low: float | None
    high: float | None
    verdict: Verdict
    note: str = ""


def calibration_section(calibration: Calibration, tree: Tree) -> Markup:
    """A `<section id="calibration">` for the score page, of its style and without anything to load.

    Args:
        calibration: What `calibration_of` found.
        tree: The questions, for their order and words.
    """
    asked = [one for one in tree.ordered if one.name in calibration["questions"]]
    asked = [one for one in asked if calibration["questions"][one.name]["n_used"]]
    found = {one.name: calibration["questions"][one.name] for one in asked}
    drawn = [one for one in asked if found[one.name]["n_used"] >= MIN_GALAXIES]
    rows = [_factor_row(label(one.name, tree), found[one.name]) for one in asked]
    said = [one["verdict"] for one in found.values()]
    return reports.fragment(
        "calibration",
        summary=[f"{said.count(verdict)} {text}" for verdict, text in VERDICTS.items() if verdict in said],
        n_questions=len(asked),
        familywise_error_rate=f"{calibration['familywise_error_rate']:.0%}",
        blocks=calibration["blocks"],
        factors=Markup(factors_svg(rows, description="Factor on the concentrations of each question")),
        rows=[_row(label(one.name, tree), found[one.name]) for one in asked],
        groups=[_group(one, label(one.name, tree), found[one.name]) for one in drawn],
        excluded=[label(one.name, tree) for one in asked if one not in drawn],
        min_galaxies=MIN_GALAXIES,
    )


VERDICTS: dict[Verdict, str] = {
    "nothing against it": "with nothing against them",
    "too sure": "too sure",
    "not sure enough": "not sure enough",
    "off": "off in another way",
    "cannot be judged": "on which concentration cannot be judged",
}


# ----------------------------------------------------------------------------------------------------
# Figures


def factors_svg(rows: Sequence[FactorRow], *, description: str) -> str:
    """A line per question: the factor on its concentrations, on a logarithmic axis around 1.

    Args:
        rows: Lines, top to bottom. A hollow point is not told from 1.
        description: For those who cannot see the figure.
    """
    width, row, top = 760.0, 25.0, 26.0
    left, right = 240.0, 150.0
    numbers = [end for each in rows for end in (each.value, each.low, each.high) if end]
    proportion_asked = min(max([2.2, *(max(one, 1 / one) for one in numbers)]) * 1.1, 12.0)  # 1 stands in the middle

    def place(value: float) -> float:
        fraction = 0.5 + 0.5 * math.log(min(max(value, 1 / proportion_asked), proportion_asked)) / math.log(
            proportion_asked
        )
        return left + fraction * (width - left - right)

    bottom = top + row * len(rows)
    drawing = Drawing(width, bottom + 44, description)
    for tick in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0):
        if 1 / proportion_asked <= tick <= proportion_asked:
            drawing.line(place(tick), top, place(tick), bottom, role="grid")
            drawing.text(place(tick), bottom + 16, f"{tick:g}", role="muted", size=11, anchor="middle")
    drawing.line(place(1), top, place(1), bottom, role="muted", thickness=1.5)
    axis = "factor by which concentrations fit the votes best"
    drawing.text(
        (left + width - right) / 2, bottom + 36, axis, role="muted", size=12, anchor="middle", longest=len(axis)
    )
    drawing.text(place(1) - 10, 14, "\N{LEFTWARDS ARROW} too sure", role="muted", size=11, anchor="end")
    drawing.text(place(1) + 10, 14, "not sure enough \N{RIGHTWARDS ARROW}", role="muted", size=11)
    for i, each in enumerate(rows):
        y = top + row * (i + 0.5)
        drawing.text(left - 12, y + 4, each.label, size=12, anchor="end")
        if each.note:
            drawing.text(width - right + 14, y + 4, each.note, role="muted", size=11)
            continue
        is_clear = each.verdict in ("too sure", "not sure enough")
        role = "model" if is_clear else "muted"
        low, high = each.low or 1 / proportion_asked, each.high or proportion_asked
        drawing.line(place(low), y, place(high), y, role=role, thickness=2)
        if each.value is not None:
            drawing.circle(place(each.value), y, 4.5, fill=role if is_clear else "page", role=role)
        drawing.text(width - right + 14, y + 4, _numbers(each.value, each.low, each.high), role="muted", size=11)
    return drawing.render()


def histogram_svg(histogram: Histogram, *, description: str) -> str:
    """Places of counts in their predicted distributions, with the band that chance allows: flat where predictions hold.

    Args:
        histogram: What was found.
        description: For those who cannot see the figure.
    """
    density = histogram["density"]
    most = max(2.0, 1.08 * max(*density, histogram["high"]))
    drawing, bottom = _panel("place in the prediction", "share of counts, flat = 1", "places (PIT)", description)
    for fraction in (0.0, 0.5, 1.0):
        _tick_below(drawing, LEFT + fraction * SIDE, bottom, f"{fraction:g}")
    for value in range(int(most) + 1):
        if most <= 6 or value % math.ceil(most / 5) == 0:
            _tick_beside(drawing, bottom - value / most * SIDE, f"{value}")
    step = SIDE / len(density)
    for i, value in enumerate(density):
        height = value / most * SIDE
        is_off = not histogram["low"] <= value <= histogram["high"]
        drawing.box(
            LEFT + i * step + 0.5,
            bottom - height,
            step - 1,
            height,
            fill="model" if is_off else "muted",
            opacity=0.75 if is_off else 0.45,
            tip=f"{i / len(density):.2f} to {(i + 1) / len(density):.2f}: {value:.3f}",
        )
    low, high = (bottom - histogram[end] / most * SIDE for end in ("low", "high"))
    drawing.box(LEFT, high, SIDE, low - high, fill="volunteers", opacity=0.22)
    drawing.line(LEFT, bottom - SIDE / most, LEFT + SIDE, bottom - SIDE / most, role="volunteers", dashes="3 3")
    return drawing.render()


def coverage_svg(central: Curve, highest_density: Curve, *, description: str) -> str:
    """What intervals hold beyond their level, in points, with 95% bands for whole curves: 0 where predictions hold.

    Args:
        central: Of central intervals.
        highest_density: Of highest-density intervals.
        description: For those who cannot see the figure.
    """
    curves = ((highest_density, "volunteers"), (central, "model"))
    ends: list[float] = [0.04]
    for curve, _ in curves:
        for low, high, covered, level in zip(
            curve["band_low"], curve["band_high"], curve["covered"], curve["levels"], strict=True
        ):
            ends += [abs(end - level) for end in (low, high, covered) if end is not None]
    most = 1.05 * max(ends)
    drawing, bottom = _panel("level of the interval", f"held {MINUS} level [points]", "coverage", description)
    middle = bottom - SIDE / 2

    def x(level: float) -> float:
        return LEFT + level * SIDE

    def y(covered: float, level: float) -> float:
        return middle - (covered - level) / most * SIDE / 2

    for fraction in (0.0, 0.5, 1.0):
        _tick_below(drawing, x(fraction), bottom, f"{fraction:g}")
    points = next(one for one in (50, 20, 10, 5, 2) if one <= 100 * most)
    for value in (-points, 0, points):
        name = f"+{value}" if value > 0 else str(value).replace("-", MINUS)
        _tick_beside(drawing, y(value / 100, 0), name)
    drawing.line(LEFT, middle, LEFT + SIDE, middle, role="muted", dashes="3 3")
    for curve, role in curves:
        steps = list(zip(curve["levels"], curve["covered"], curve["band_low"], curve["band_high"], strict=True))
        upper = [(x(level), y(high, level)) for level, _, _, high in steps if high is not None]
        lower = [(x(level), y(low, level)) for level, _, low, _ in steps if low is not None]
        if upper:
            drawing.path(
                _path([(x(0), middle), *upper, (x(1), middle), *reversed(lower)]) + "Z", fill=role, opacity=0.2
            )
    for curve, role in curves:
        steps = [
            (x(level), y(covered, level)) for level, covered in zip(curve["levels"], curve["covered"], strict=True)
        ]
        drawing.path(_path([(x(0), middle), *steps, (x(1), middle)]), line=role)
    return drawing.render()


def _panel(below: str, beside: str, heading: str, description: str) -> tuple[Drawing, float]:
    bottom = TOP + SIDE
    drawing = Drawing(PANEL_WIDTH, bottom + 34, description)
    drawing.text(LEFT + SIDE / 2, 13, heading, size=11, anchor="middle", is_bold=True)
    drawing.box(LEFT, TOP, SIDE, SIDE, fill="page", line="grid")
    drawing.text(LEFT + SIDE / 2, bottom + 27, below, role="muted", size=10, anchor="middle")
    drawing.text(11, TOP + SIDE / 2, beside, role="muted", size=10, anchor="middle", is_upright=True)
    return drawing, bottom


def _tick_below(drawing: Drawing, x: float, bottom: float, name: str) -> None:
    drawing.line(x, bottom, x, bottom + 3, role="muted")
    drawing.text(x, bottom + 13, name, role="muted", size=9, anchor="middle")


def _tick_beside(drawing: Drawing, y: float, name: str) -> None:
    drawing.line(LEFT - 3, y, LEFT, y, role="muted")
    drawing.text(LEFT - 6, y + 3, name, role="muted", size=9, anchor="end")


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


# ----------------------------------------------------------------------------------------------------
# The section


@dataclass(frozen=True, slots=True)
class _Group:
    """Panels of one question."""

    label: str
    n_asked: int
    n_used: int
    sentence: str
    panels: tuple[Markup, ...]


def _group(question: Question, name: str, found: QuestionCalibration) -> _Group:
    panels: list[Markup] = []
    if found["pit"] is not None:
        panels.append(Markup(histogram_svg(found["pit"], description=f"Places of counts in predictions for {name}")))
    if found["central"] is not None and found["highest_density"] is not None:
        description = f"Coverage of predicted intervals for {name}"
        panels.append(Markup(coverage_svg(found["central"], found["highest_density"], description=description)))
    for answer, column in zip(question.answers, question.columns, strict=True):
        if column in found["reliability"]:
            description = f"Voted against predicted share of {words(answer)} for {name}"
            panels.append(Markup(_reliability_svg(found["reliability"][column], words(answer), description)))
    return _Group(name, found["n_asked"], found["n_used"], found["sentence"], tuple(panels))


def _reliability_svg(found: Reliability, answer: str, description: str) -> str:
    points = [
        ReliabilityPoint(
            predicted=one["predicted"],
            voted=one["voted"],
            low=one["low"],
            high=one["high"],
            n_galaxies=one["n_galaxies"],
        )
        for one in found["groups"]
    ]
    return reliability_svg(points, found["spread"], answer=answer, description=description)


def _factor_row(name: str, found: QuestionCalibration) -> FactorRow:
    spread = found["dispersion"]
    factor = spread["factor"]
    note = ""
    if not spread["n_galaxies"]:
        note = "one vote a galaxy"
    elif not spread["has_uncertainty"]:
        note = "states no doubt"
    return FactorRow(name, factor["value"], factor["low"], factor["high"], found["verdict"], note)


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of the table; each cell a number and, under it, its interval."""

    label: str
    n_asked: int
    verdict: str
    cells: tuple[tuple[str, str], ...]


def _row(name: str, found: QuestionCalibration) -> _Row:
    cells = [_held(found["central"], 0.5), _held(found["central"], 0.9), _held(found["highest_density"], 0.9)]
    spread = found["dispersion"]["spread"]
    ends = (spread["low"], spread["high"])
    cells.append((DASH, "") if spread["value"] is None else (f"{spread['value']:.2f}", _ends(*ends, "{:.2f}")))
    worst = max(found["reliability"].values(), key=lambda one: one["mse_noise_corrected"]["value"] or 0.0, default=None)
    if worst is None:
        cells += [(DASH, ""), (DASH, "")]
    else:
        error = worst["mse_noise_corrected"]
        value, low, high = (_root(error[end]) for end in ENDS)
        cells.append((f"{math.sqrt(worst['mse']):.3f}", ""))
        cells.append((DASH if value is None else f"{value:.3f}", _ends(low, high, "{:.3f}")))
    p_values = [p for p in found["tests_adjusted"].values() if isinstance(p, float)]
    cells.append((_p(min(p_values)) if p_values else DASH, ""))
    return _Row(name, found["n_asked"], found["verdict"], tuple(cells))


ENDS: tuple[Literal["value", "low", "high"], ...] = ("value", "low", "high")


def _root(square: float | None) -> float | None:
    """Of a square that noise may have made negative."""
    return None if square is None else math.sqrt(max(square, 0.0))


def _held(curve: Curve | None, level: float) -> tuple[str, str]:
    if curve is None:
        return DASH, ""
    i = curve["levels"].index(level)
    low, high = curve["low"][i], curve["high"][i]
    percent = [None if end is None else 100 * end for end in (low, high)]
    return f"{100 * curve['covered'][i]:.1f}", _ends(percent[0], percent[1], "{:.1f}")


def _ends(low: float | None, high: float | None, form: str) -> str:
    return "" if low is None or high is None else f"{form.format(low)} to {form.format(high)}"


def _p(p: float) -> str:
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def _numbers(value: float | None, low: float | None, high: float | None) -> str:
    """A factor and its interval, which may have no end."""
    first = "any large" if value is None else _figure(value)
    if low is None and high is None:
        return first
    ends = "0" if low is None else _figure(low), "\N{INFINITY}" if high is None else _figure(high)
    return f"{first}  [{ends[0]}, {ends[1]}]"


def _figure(number: float) -> str:
    return f"{number:.2f}" if number < 10 else f"{number:,.0f}"
