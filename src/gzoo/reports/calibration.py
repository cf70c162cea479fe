"""The calibration section of the score report: dispersion factors, a table, and panels for each question."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gzoo import reports
from gzoo.display import format_p
from gzoo.reports import Markup
from gzoo.reports.figures import LEFT, SIDE, Chart, panel, reliability, tick_beside
from gzoo.reports.parts import Column, Figure, Table, badge, figure, slug
from gzoo.scoring.bands import Curve
from gzoo.scoring.calibration import Calibration, Histogram, QuestionCalibration, Verdict, format_factor
from gzoo.scoring.intervals import Value, as_value, root
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
    by_label = {label(one.name, tree): found[one] for one in found}
    return reports.fragment(
        "calibration",
        summary=verdicts(calibration),
        n_questions=len(found),
        familywise_error_rate=f"{calibration['familywise_error_rate']:.0%}",
        unit=calibration["unit"],
        factors=factors(by_label),
        table=_table(by_label),
        groups=[
            {
                "label": label(one.name, tree),
                "found": found[one],
                "verdict": badge(found[one]["verdict"]),
                "is_open": found[one]["verdict"] not in ("consistent", "insufficient data"),
                "panels": _panels(one, label(one.name, tree), found[one]),
            }
            for one in drawn
        ],
        excluded=[label(one.name, tree) for one in found if one not in drawn],
        min_galaxies=MIN_GALAXIES,
    )


def verdicts(calibration: Calibration) -> str:
    """Return how many questions have each verdict: "5 consistent, 4 overconfident"."""
    found = [one["verdict"] for one in calibration["questions"].values() if one["n_used"]]
    return ", ".join(f"{found.count(verdict)} {verdict}" for verdict in VERDICTS if verdict in found)


# ----------------------------------------------------------------------------------------------------
# Figures


def factors(questions: dict[str, QuestionCalibration]) -> Figure:
    """Return a line per question: its dispersion factor on a logarithmic axis around 1; hollow if consistent with 1.

    Args:
        questions: Questions by label, top to bottom.
    """
    description = "Dispersion factor of each question"
    values = [one["dispersion"]["dispersion_factor"] for one in questions.values()]
    ends = [end for one in values for end in (one["value"], one["low"], one["high"]) if end]
    most = min(max([2.2, *(max(end, 1 / end) for end in ends)]) * 1.1, 12.0)  # the axis is symmetric around 1
    ticks = [tick for tick in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0) if 1 / most <= tick <= most]

    def draw(is_narrow: bool) -> str:
        lines = [(name, _note(one)) for name, one in questions.items()]
        chart = Chart(lines, (1 / most, most), "dispersion factor", description, is_narrow=is_narrow, top=34.0,
                      ticks=ticks, is_logarithmic=True)  # fmt: skip
        chart.rule(1)
        middle, drawing = chart.place(1), chart.drawing
        drawing.text(middle - 12, 16, "\N{LEFTWARDS ARROW} overconfident", role="muted", size=13, anchor="end")
        drawing.text(middle + 12, 16, "underconfident \N{RIGHTWARDS ARROW}", role="muted", size=13)
        for i, one in enumerate(questions.values()):
            if _has_factor(one):
                factor = one["dispersion"]["dispersion_factor"]
                low, high = factor["low"] or 1 / most, factor["high"] or most
                is_clear = one["verdict"] in ("overconfident", "underconfident")
                if factor["value"] is None:
                    drawing.line(chart.place(low), chart.y(i), chart.place(high), chart.y(i), role="muted",
                                 thickness=2.5)  # fmt: skip
                chart.interval(i, {**factor, "low": low, "high": high}, is_clear=is_clear)
        return drawing.render()

    numbers = [
        {"question": name, **one["dispersion"]["dispersion_factor"], "verdict": one["verdict"]}
        for name, one in questions.items()
    ]
    return figure("dispersion-factors", draw, numbers, description=description)


def _has_factor(one: QuestionCalibration) -> bool:
    return bool(one["dispersion"]["n_galaxies"]) and one["dispersion"]["has_uncertainty"]


def _note(one: QuestionCalibration) -> str:
    if not _has_factor(one):
        return "point predictions" if one["dispersion"]["n_galaxies"] else "one vote per galaxy"
    return _factor(one["dispersion"]["dispersion_factor"])


def pit_histogram(histogram: Histogram, *, question: str) -> Figure:
    """Return a PIT histogram with the band of sampling noise; it is flat for a calibrated prediction.

    Args:
        histogram: The histogram.
        question: Its question.
    """
    description, density = f"Randomised PIT for {question}", histogram["density"]
    most = max(2.0, 1.08 * max(*density, histogram["high"]))
    drawing, bottom = panel("randomised PIT", "density", "PIT histogram", description)
    for value in range(int(most) + 1):
        if most <= 6 or value % math.ceil(most / 5) == 0:
            tick_beside(drawing, bottom - value / most * SIDE, f"{value}")
    step = SIDE / len(density)
    low, high = (bottom - histogram[end] / most * SIDE for end in ("low", "high"))
    drawing.box(LEFT, high, SIDE, low - high, fill="all", opacity=0.7)
    numbers: list[dict[str, float]] = []
    for i, value in enumerate(density):
        height = value / most * SIDE
        is_off = not histogram["low"] <= value <= histogram["high"]
        ends = i / len(density), (i + 1) / len(density)
        drawing.box(
            LEFT + i * step + 0.5,
            bottom - height,
            step - 1,
            height,
            fill="model" if is_off else "muted",
            opacity=0.85 if is_off else 0.5,
            tip=f"{ends[0]:.2f} to {ends[1]:.2f}: {value:.3f}",
        )
        band = {"band_low": histogram["low"], "band_high": histogram["high"]}
        numbers.append({"from": ends[0], "to": ends[1], "density": value, **band})
    drawing.line(LEFT, bottom - SIDE / most, LEFT + SIDE, bottom - SIDE / most, role="ink", dashes="4 4")
    return figure(f"pit-{slug(question)}", lambda _: drawing.render(), numbers, description=description, is_small=True)


def coverage(central: Curve, highest_density: Curve, *, question: str) -> Figure:
    """Return coverage minus level in percentage points with simultaneous 95% bands: 0 for a calibrated prediction.

    Args:
        central: Coverage of central prediction intervals, drawn as a solid line.
        highest_density: Coverage of highest-density prediction intervals, drawn as a dashed line.
        question: Their question.
    """
    description = f"Coverage of prediction intervals for {question}"
    curves = (("highest density", highest_density, "muted", "5 4"), ("central", central, "model", ""))
    differences = [
        abs(end - level)
        for _, curve, _, _ in curves
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
    drawing.line(*start, *stop, role="ink", dashes="4 4")
    for _, curve, role, _ in curves:
        upper, lower = points_of(curve, curve["band_high"]), points_of(curve, curve["band_low"])
        if upper:
            drawing.path(_path([start, *upper, stop, *reversed(lower)]) + "Z", fill=role, opacity=0.2)
    for _, curve, role, dashes in curves:
        line = _path([start, *points_of(curve, curve["coverage"]), stop])
        drawing.path(line, line=role, thickness=2, dashes=dashes)
    numbers = [
        {"intervals": kind, "level": level, "coverage": value, "band_low": low, "band_high": high}
        for kind, curve, _, _ in curves
        for level, value, low, high in zip(
            curve["levels"], curve["coverage"], curve["band_low"], curve["band_high"], strict=True
        )
    ]
    name = f"coverage-{slug(question)}"
    return figure(name, lambda _: drawing.render(), numbers, description=description, is_small=True)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


# ----------------------------------------------------------------------------------------------------
# Panels and table cells


def _panels(question: Question, name: str, found: QuestionCalibration) -> list[Figure]:
    panels: list[Figure] = []
    if found["pit"] is not None:
        panels.append(pit_histogram(found["pit"], question=name))
    if found["central"] is not None and found["highest_density"] is not None:
        panels.append(coverage(found["central"], found["highest_density"], question=name))
    for answer, column in zip(question.answers, question.columns, strict=True):
        if column in found["reliability"]:
            one = found["reliability"][column]
            panels.append(reliability(one["groups"], one["histogram"], answer=words(answer), question=name))
    return panels


def _table(found: dict[str, QuestionCalibration]) -> Table:
    columns = (
        Column("Question"), Column("Galaxies", "with votes"), Column("Verdict", is_text=True),
        Column("50% central", "coverage, %"), Column("90% central", "coverage, %"), Column("90% HDI", "coverage, %"),
        Column("Variance ratio", "observed / predicted"), Column("Calibration error", "raw"),
        Column("Calibration error", "noise-corrected"), Column("p", "adjusted"),
    )  # fmt: skip
    rows = [(name, f"{one['n_galaxies']:,}", badge(one["verdict"]), *_cells(one)) for name, one in found.items()]
    return Table("Calibration by question", columns, rows)


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
