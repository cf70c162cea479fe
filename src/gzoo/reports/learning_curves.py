"""Learning curves as a figure: losses of trainings, the curves through them, and what lies beyond."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from gzoo.reports.figures import compared_role
from gzoo.reports.parts import NARROW, WIDE, Figure, figure
from gzoo.scoring.intervals import Value
from gzoo.scoring.learning_curve import LearningCurve
from gzoo.trees.drawing import Drawing

BEYOND = 10
"""The curves end at so many times the largest number of galaxies."""
N_POINTS = 60  # of a curve


class DrawnCurve(NamedTuple):
    """A learning curve of a figure.

    Attributes:
        name: What was trained.
        curve: Its learning curve.
        reached: Number of galaxies and loss of trainings that the curve was not fitted to, to judge it by.
    """

    name: str
    curve: LearningCurve
    reached: Sequence[tuple[int, float]] = ()


def learning_curves(name: str, curves: Sequence[DrawnCurve], *, description: str) -> Figure:
    """Return losses above their floor against the number of galaxies, both on logarithmic axes.

    A curve is a straight line there, dashed beyond the trainings that it was fitted to. Its band is the prediction
    interval of one more training. Full points were fitted, hollow ones were not.

    Args:
        name: Stem of the names of the files to save.
        curves: Curves, at least one.
        description: Text for readers who cannot see the figure.
    """
    numbers = [
        {"name": one.name, "n_galaxies": n, "loss": loss, "floor": one.curve.floor["value"], "is_fitted": is_fitted}
        for one in curves
        for n, loss, is_fitted in _trainings(one)
    ]
    return figure(name, lambda is_narrow: _svg(curves, description, is_narrow), numbers, description=description)


def _svg(curves: Sequence[DrawnCurve], description: str, is_narrow: bool) -> str:
    width, left, right = (NARROW, 50.0, 12.0) if is_narrow else (WIDE, 74.0, 190.0)
    top = 20.0 + 24.0 * len(curves) * is_narrow
    bottom = top + (280.0 if is_narrow else 400.0)
    drawing = Drawing(width, bottom + 58, description)
    numbers = [n for one in curves for n, *_ in _trainings(one)]
    fewest, most = min(numbers), max(numbers) * BEYOND
    heights = [loss - _floor(one) for one in curves for _, loss, _ in _trainings(one)]
    heights += [one.curve.training(most)["low"] - _floor(one) for one in curves]  # type: ignore[operator]
    low, high = min(one for one in heights if one > 0) / 1.15, max(heights) * 1.15

    def x(n: float) -> float:
        return left + 10 + math.log(n / fewest) / math.log(most / fewest) * (width - left - right - 10)

    def y(above: float) -> float:
        inside = min(max(above, low), high)
        return bottom - math.log(inside / low) / math.log(high / low) * (bottom - top)

    for value in _marks(low, high):
        drawing.line(left, y(value), width - right, y(value), role="line")
        drawing.text(left - 9, y(value) + 4, f"{value:g}", role="muted", size=13, anchor="end")
    for value in _marks(fewest, most, steps=(1,) if is_narrow else (1, 3)):
        drawing.line(x(value), bottom, x(value), bottom + 5, role="muted")
        drawing.text(x(value), bottom + 22, f"{value:,.0f}", role="muted", size=13, anchor="middle")
    labels: list[tuple[float, str, str, str]] = []
    for i, one in enumerate(curves):
        role, floor = compared_role(i), _floor(one)
        steps = [fewest * (most / fewest) ** (k / (N_POINTS - 1)) for k in range(N_POINTS)]
        bands = [one.curve.training(n) for n in steps]
        there = "L".join(
            f"{x(n):.1f},{y(_end(band, 'high') - floor):.1f}" for n, band in zip(steps, bands, strict=True)
        )
        back = [f"{x(n):.1f},{y(_end(band, 'low') - floor):.1f}" for n, band in zip(steps, bands, strict=True)]
        drawing.path(f"M{there}L{'L'.join(reversed(back))}z", fill=role, opacity=0.13)
        last = max(one.curve.n_galaxies)
        for ends, dashes in (((fewest, last), ""), ((last, most), "7 5")):
            places = [(x(n), y(_end(one.curve.expected(n), "value") - floor)) for n in ends]
            drawing.line(*places[0], *places[1], role=role, thickness=2.4, dashes=dashes)
        for n, loss, is_fitted in _trainings(one):
            tip = f"{one.name}: {n:,} galaxies, loss {loss:.3f}"
            drawing.circle(x(n), y(loss - floor), 4.5, fill=role if is_fitted else "page", role=role, tip=tip)
        found = one.curve.exponent
        exponent = f"exponent {found['value']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"
        labels.append((y(_end(one.curve.expected(most), "value") - floor), one.name, exponent, role))
    if is_narrow:
        for i, (_, name, _, role) in enumerate(labels):
            drawing.line(left, 12 + 24 * i, left + 26, 12 + 24 * i, role=role, thickness=2.6)
            drawing.text(left + 34, 16 + 24 * i, name, role=role, size=13, is_bold=True)
    else:
        lowest = -math.inf
        for place, name, exponent, role in sorted(labels):
            lowest = max(place, lowest + 42)
            drawing.text(width - right + 10, lowest, name, role=role, size=14, is_bold=True)
            drawing.text(width - right + 10, lowest + 17, exponent, role="muted", size=12)
    middle = (left + width - right) / 2
    drawing.text(middle, bottom + 46, "galaxies trained on", role="muted", size=13, anchor="middle")
    drawing.text(left, top - 7, "loss above the floor (nats per galaxy)", role="muted", size=13, longest=44)
    return drawing.render()


def _trainings(one: DrawnCurve) -> Iterator[tuple[int, float, bool]]:
    """Yield number of galaxies, loss, and whether the curve was fitted to it."""
    for n, loss in zip(one.curve.n_galaxies, one.curve.losses, strict=True):
        yield n, loss, True
    for n, loss in one.reached:
        yield n, loss, False


def _floor(one: DrawnCurve) -> float:
    return one.curve.floor["value"] or 0.0


def _end(one: Value, name: str) -> float:
    found: Mapping[str, float | None] = {"value": one["value"], "low": one["low"], "high": one["high"]}
    value = found[name]
    assert value is not None
    return value


def _marks(low: float, high: float, steps: Sequence[int] = (1, 2, 5)) -> list[float]:
    """Return round numbers between two positive ends, at equal ratios."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [value for power in powers for step in steps if low <= (value := step * 10.0**power) <= high]
