"""The calibration section of the score report: dispersion factors, a table, and panels for each question."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gzoo import reports
from gzoo.display import format_p
from gzoo.reports import Markup
from gzoo.reports.figures import LEFT, SIDE, panel, reliability_svg, tick_beside
from gzoo.scoring.bands import Curve
from gzoo.scoring.calibration import Calibration, Histogram, QuestionCalibration, Verdict, format_factor
from gzoo.scoring.intervals import Value, as_value, root
from gzoo.trees.drawing import Drawing
from gzoo.trees.labels import label, words
from gzoo.trees.tree import Question, Tree

MIN_GALAXIES = 30  # with votes on a question, for its panels
MINUS, DASH, INFINITY = "\N{MINUS SIGN}", "\N{EN DASH}", "\N{INFINITY}"
VERDICTS: tuple[Verdict, ...] = (
    "consistent",
    "overconfident",
    "underconfident",
    "biased",
    "miscalibrated",
    "insufficient data",
)


def calibration_section(calibration: Calibration, tree: Tree) -> Markup:
    """Return a `<section id="calibration">` for the score report, in its style.

    Args:
        calibration: Result of `calibration_of`.
        tree: Decision tree, for the order and the words of the questions.
    """
    found = {
        one: calibration["questions"][one.name]
        for one in tree.ordered
        if one.name in calibration["questions"] and calibration["questions"][one.name]["n_used"]
    }
    drawn = [one for one in found if found[one]["n_used"] >= MIN_GALAXIES]
    verdicts = [one["verdict"] for one in found.values()]
    factors = {label(one.name, tree): found[one] for one in found}
    return reports.fragment(
        "calibration",
        summary=[f"{verdicts.count(verdict)} {verdict}" for verdict in VERDICTS if verdict in verdicts],
        n_questions=len(found),
        familywise_error_rate=f"{calibration['familywise_error_rate']:.0%}",
        unit=calibration["unit"],
        factors=Markup(factors_svg(factors, description="Dispersion factor of each question")),
        rows=[
            {"label": name, "n_galaxies": one["n_galaxies"], "verdict": one["verdict"], "cells": _cells(one)}
            for name, one in factors.items()
        ],
        groups=[
            {
                "label": label(one.name, tree),
                "found": found[one],
                "panels": _panels(one, label(one.name, tree), found[one]),
            }
            for one in drawn
        ],
        excluded=[label(one.name, tree) for one in found if one not in drawn],
        min_galaxies=MIN_GALAXIES,
    )


# ----------------------------------------------------------------------------------------------------
# Figures


def factors_svg(questions: dict[str, QuestionCalibration], *, description: str) -> str:
    """Draw a line per question: its dispersion factor on a logarithmic axis around 1; hollow if consistent with 1.

    Args:
        questions: Questions by label, top to bottom.
        description: Text for readers who cannot see the figure.
    """
    width, row, top = 760.0, 25.0, 26.0
    left, right = 240.0, 150.0
    factors = [one["dispersion"]["dispersion_factor"] for one in questions.values()]
    ends = [end for one in factors for end in (one["value"], one["low"], one["high"]) if end]
    most = min(max([2.2, *(max(end, 1 / end) for end in ends)]) * 1.1, 12.0)  # the axis is symmetric around 1

    def place(value: float) -> float:
        fraction = 0.5 + 0.5 * math.log(min(max(value, 1 / most), most)) / math.log(most)
        return left + fraction * (width - left - right)

    bottom = top + row * len(questions)
    drawing = Drawing(width, bottom + 44, description)
    for tick in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0):
        if 1 / most <= tick <= most:
            drawing.line(place(tick), top, place(tick), bottom, role="grid")
            drawing.text(place(tick), bottom + 16, f"{tick:g}", role="muted", size=11, anchor="middle")
    drawing.line(place(1), top, place(1), bottom, role="muted", thickness=1.5)
    middle = (left + width - right) / 2
    drawing.text(middle, bottom + 36, "dispersion factor", role="muted", size=12, anchor="middle")
    drawing.text(place(1) - 10, 14, "\N{LEFTWARDS ARROW} overconfident", role="muted", size=11, anchor="end")
    drawing.text(place(1) + 10, 14, "underconfident \N{RIGHTWARDS ARROW}", role="muted", size=11)
    for i, (name, one) in enumerate(questions.items()):
        y = top + row * (i + 0.5)
        factor, verdict = one["dispersion"]["dispersion_factor"], one["verdict"]
        drawing.text(left - 12, y + 4, name, size=12, anchor="end")
        if not one["dispersion"]["n_galaxies"] or not one["dispersion"]["has_uncertainty"]:
            note = "point predictions" if one["dispersion"]["n_galaxies"] else "one vote per galaxy"
            drawing.text(width - right + 14, y + 4, note, role="muted", size=11)
            continue
        is_clear = verdict in ("overconfident", "underconfident")
        role = "model" if is_clear else "muted"
        drawing.line(place(factor["low"] or 1 / most), y, place(factor["high"] or most), y, role=role, thickness=2)
        if factor["value"] is not None:
            drawing.circle(place(factor["value"]), y, 4.5, fill=role if is_clear else "page", role=role)
        drawing.text(width - right + 14, y + 4, _factor(factor), role="muted", size=11)
    return drawing.render()


def histogram_svg(histogram: Histogram, *, description: str) -> str:
    """Draw a PIT histogram with the band of sampling noise; it is flat for a calibrated prediction.

    Args:
        histogram: The histogram.
        description: Text for readers who cannot see the figure.
    """
    density = histogram["density"]
    most = max(2.0, 1.08 * max(*density, histogram["high"]))
    drawing, bottom = panel("randomised PIT", "density", "PIT histogram", description)
    for value in range(int(most) + 1):
        if most <= 6 or value % math.ceil(most / 5) == 0:
            tick_beside(drawing, bottom - value / most * SIDE, f"{value}")
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
    """Draw coverage minus level in percentage points with simultaneous 95% bands: 0 for a calibrated prediction.

    Args:
        central: Coverage of central prediction intervals.
        highest_density: Coverage of highest-density prediction intervals.
        description: Text for readers who cannot see the figure.
    """
    curves = ((highest_density, "volunteers"), (central, "model"))
    differences = [
        abs(end - level)
        for curve, _ in curves
        for ends in (curve["band_low"], curve["band_high"], curve["coverage"])
        for level, end in zip(curve["levels"], ends, strict=True)
        if end is not None
    ]
    most = 1.05 * max([0.04, *differences])
    drawing, bottom = panel("level of the interval", f"coverage {MINUS} level [points]", "coverage", description)
    middle = bottom - SIDE / 2

    def points_of(curve: Curve, ends: Sequence[float | None]) -> list[tuple[float, float]]:
        return [
            (LEFT + level * SIDE, middle - (end - level) / most * SIDE / 2)
            for level, end in zip(curve["levels"], ends, strict=True)
            if end is not None
        ]

    start, stop = (LEFT, middle), (LEFT + SIDE, middle)
    points = next(one for one in (50, 20, 10, 5, 2) if one <= 100 * most)
    for value in (-points, 0, points):
        name = f"+{value}" if value > 0 else str(value).replace("-", MINUS)
        tick_beside(drawing, middle - value / 100 / most * SIDE / 2, name)
    drawing.line(*start, *stop, role="muted", dashes="3 3")
    for curve, role in curves:
        upper, lower = points_of(curve, curve["band_high"]), points_of(curve, curve["band_low"])
        if upper:
            drawing.path(_path([start, *upper, stop, *reversed(lower)]) + "Z", fill=role, opacity=0.2)
    for curve, role in curves:
        drawing.path(_path([start, *points_of(curve, curve["coverage"]), stop]), line=role)
    return drawing.render()


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


# ----------------------------------------------------------------------------------------------------
# Panels and table cells


def _panels(question: Question, name: str, found: QuestionCalibration) -> list[Markup]:
    panels: list[str] = []
    if found["pit"] is not None:
        panels.append(histogram_svg(found["pit"], description=f"Randomised PIT for {name}"))
    if found["central"] is not None and found["highest_density"] is not None:
        description = f"Coverage of prediction intervals for {name}"
        panels.append(coverage_svg(found["central"], found["highest_density"], description=description))
    for answer, column in zip(question.answers, question.columns, strict=True):
        if column in found["reliability"]:
            one = found["reliability"][column]
            description = f"Voted against predicted fractions of {words(answer)} for {name}"
            panels.append(
                reliability_svg(one["groups"], one["histogram"], answer=words(answer), description=description)
            )
    return [Markup(one) for one in panels]


def _cells(found: QuestionCalibration) -> list[tuple[str, str]]:
    """Return the cells of a row of the table, each a number and its interval."""
    worst = max(found["reliability"].values(), key=lambda one: one["mse_noise_corrected"]["value"] or 0.0)
    p_values = [p for p in found["tests_adjusted"].values() if isinstance(p, float)]
    return [
        _coverage(found["central"], 0.5),
        _coverage(found["central"], 0.9),
        _coverage(found["highest_density"], 0.9),
        _cell(found["dispersion"]["variance_ratio"], digits=2),
        (f"{math.sqrt(worst['mse']):.3f}", ""),
        _cell(root(worst["mse_noise_corrected"]), digits=3),
        (format_p(min(p_values)) if p_values else DASH, ""),
    ]


def _coverage(curve: Curve | None, level: float) -> tuple[str, str]:
    if curve is None:
        return DASH, ""
    i = curve["levels"].index(level)
    ends = (curve["coverage"][i], curve["low"][i], curve["high"][i])
    return _cell(as_value(*(None if end is None else 100 * end for end in ends)), digits=1)


def _cell(found: Value, *, digits: int) -> tuple[str, str]:
    value, low, high = found["value"], found["low"], found["high"]
    ends = "" if low is None or high is None else f"{low:.{digits}f} to {high:.{digits}f}"
    return DASH if value is None else f"{value:.{digits}f}", ends


def _factor(value: Value) -> str:
    """Return a factor and its interval, which may be open: "0.62  [0.45, 0.86]"."""
    first = "any large" if value["value"] is None else format_factor(value["value"])
    low, high = (None if end is None else format_factor(end) for end in (value["low"], value["high"]))
    return first if low is None and high is None else f"{first}  [{low or 0}, {high or INFINITY}]"
