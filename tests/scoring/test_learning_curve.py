"""Learning curves: that they find what was put in, and that their intervals hold what they say."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gzoo.errors import InputError
from gzoo.scoring.intervals import Value
from gzoo.scoring.learning_curve import LearningCurve, fit_learning_curve

N = np.repeat([64, 256, 1024, 4096], 3)
FLOOR = 3.0


def losses(
    rng: np.random.Generator, n: np.ndarray, scale: float = 5.0, exponent: float = 0.4, scatter: float = 0.08
) -> np.ndarray:
    return FLOOR + scale * n**-exponent * np.exp(scatter * rng.standard_normal(len(n)))


def holds(one: Value, truth: float) -> bool:
    assert one["low"] is not None
    assert one["high"] is not None
    return one["low"] <= truth <= one["high"]


def coverage(curves: list[LearningCurve], rng: np.random.Generator, n: float) -> list[float]:
    """Fractions of curves whose intervals hold the exponent, the expected loss, and one more training at n."""
    found = [
        (
            holds(one.exponent, 0.4),
            holds(one.expected(n), FLOOR + 5 * n**-0.4),
            holds(one.training(n), losses(rng, np.array([n]))[0]),
        )
        for one in curves
    ]
    return np.mean(found, axis=0).tolist()


def test_with_a_known_floor_the_intervals_are_those_of_a_regression() -> None:
    y = losses(np.random.default_rng(1), N)
    found = fit_learning_curve(N, y, floor=FLOOR)
    line = stats.linregress(np.log(N), np.log(y - FLOOR))
    t = stats.t.ppf(0.975, len(N) - 2)
    ends = found.exponent
    assert [ends["low"], ends["value"], ends["high"]] == pytest.approx(
        [-line.slope - t * line.stderr, -line.slope, -line.slope + t * line.stderr], abs=0.05 * t * line.stderr
    )
    # one more training at 10 times the galaxies: the prediction interval of the textbook
    x, x0 = np.log(N), math.log(40_960)
    residual = np.log(y - FLOOR) - line.intercept - line.slope * x
    s = math.sqrt((residual**2).sum() / (len(N) - 2))
    half = t * s * math.sqrt(1 + 1 / len(N) + (x0 - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum())
    middle = line.intercept + line.slope * x0
    ends = found.training(40_960)
    assert ends["low"] is not None
    assert ends["high"] is not None
    assert [math.log(ends["low"] - FLOOR), math.log(ends["high"] - FLOOR)] == pytest.approx(
        [middle - half, middle + half], abs=0.05 * half
    )
    assert found.floor == {"value": FLOOR, "low": None, "high": None}


def test_intervals_hold_what_they_say() -> None:
    rng = np.random.default_rng(2)
    known = [fit_learning_curve(N[:9], losses(rng, N[:9]), floor=FLOOR) for _ in range(60)]
    assert min(coverage(known, rng, 4096)) > 0.86  # 95%, less three standard errors
    unknown = [fit_learning_curve(N, losses(rng, N)) for _ in range(30)]
    assert min([*coverage(unknown, rng, 16_384), np.mean([holds(one.floor, FLOOR) for one in unknown])]) > 0.82


@pytest.mark.slow
@pytest.mark.parametrize("floor", [FLOOR, None])
@pytest.mark.parametrize("scatter", [0.03, 0.15])
def test_coverage_with_and_without_a_known_floor(floor: float | None, scatter: float) -> None:
    rng = np.random.default_rng(3)
    n = N if floor is None else N[:9]
    curves = [fit_learning_curve(n, losses(rng, n, scatter=scatter), floor=floor) for _ in range(600)]
    found = [
        np.mean([holds(one.exponent, 0.4) for one in curves]),
        np.mean([holds(one.expected(16_384), FLOOR + 5 * 16_384**-0.4) for one in curves]),
    ]
    assert min(found) > 0.925
    assert max(found) < 0.98


@settings(max_examples=25, deadline=None)
@given(st.floats(0.1, 1.5), st.floats(0.1, 50), st.floats(0.0, 20))
def test_losses_on_a_curve_give_this_curve(exponent: float, scale: float, floor: float) -> None:
    n = np.array([50, 200, 800, 3200])
    y = floor + scale * n**-exponent
    if y.min() - floor < 1e-6 * max(floor, 1):
        return  # lost in the rounding of floats
    found = fit_learning_curve(n, y, floor=floor)
    assert found.exponent["value"] == pytest.approx(exponent, rel=1e-3)
    assert found.expected(10_000)["value"] == pytest.approx(floor + scale * 10_000**-exponent, rel=1e-3, abs=1e-6)
    gain, now, then = found.gain(1000), found.expected(1000), found.expected(10_000)
    assert gain["value"] == pytest.approx((now["value"] or 0) - (then["value"] or 0), rel=1e-2, abs=1e-6)


def test_more_trainings_narrow_the_interval_and_the_same_seed_repeats_it() -> None:
    rng = np.random.default_rng(4)
    many = np.repeat(N, 4)
    few, more = fit_learning_curve(N, losses(rng, N)), fit_learning_curve(many, losses(rng, many))

    def width(one: LearningCurve) -> float:
        return (one.expected(40_960)["high"] or 0) - (one.expected(40_960)["low"] or 0)

    assert width(more) < width(few)
    assert json.dumps(fit_learning_curve(N, few.losses).to_dict()) == json.dumps(few.to_dict())
    assert few.training(4096)["high"] > few.expected(4096)["high"]  # type: ignore[operator]
    assert "40,960" in repr(few)


@pytest.mark.parametrize(
    ("n", "loss", "floor", "message"),
    [
        ([1, 2, 3], [1.0, 2.0], None, "Shapes differ"),
        ([10, 20, 40], [3.0, 2.0, 1.5], 1.0, "There are 3 trainings on 3 different numbers"),
        ([10, 10, 20, 20, 20], [3.0, 2.0, 1.5, 1.4, 1.3], None, "5 trainings on 2 different numbers"),
        ([10, 10, 20, 20], [3.0, 2.0, 1.5, 1.0], 1.0, "A loss is 1, which is not above the floor, 1"),
        ([10, 10, 20, 20, 40], [3.0, 2.0, 1.5, 1.0, -1.0], None, "A loss is -1, which is not above the floor, 0"),
        ([10, 10, 20, 20], [3.0, 2.0, math.nan, 1.0], 0.0, "is not valid"),
        ([0, 10, 20, 20], [3.0, 2.0, 1.0, 1.0], 0.0, "is not valid"),
    ],
)
def test_what_cannot_be_fitted_is_refused(n: list[int], loss: list[float], floor: float | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit_learning_curve(n, loss, floor=floor)


def test_a_level_is_a_probability() -> None:
    with pytest.raises(InputError, match=r"level must be between 0 and 1, got 95"):
        fit_learning_curve(N, losses(np.random.default_rng(0), N), level=95)
