"""Differences between two models in one number: significance, power and how they are said."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
from scipy import stats

from gzoo.errors import InputError

LEVEL = 0.05  # probability of any false call, over all questions and pairs together
POWER = 0.8  # of the minimum detectable difference
MIN_GALAXIES = 10  # the fewest galaxies with votes for which there is an interval and a verdict
MAX_ADDITIONAL = 1e9  # more additional galaxies than this are not reported
MAX_SKEW = 1.5  # an interval that extends this many times as far above as below the value is given by its ends


class Difference(TypedDict):
    """First minus second model, in one measure, for one question, one campaign or overall.

    value, low, high: The difference with its 95% confidence interval, not adjusted for multiple testing.
    p, p_adjusted: Two-sided p-value of no difference; the same adjusted by Holm's method.
    better_model: Name of the better model; null if the difference is not significant at 5% after adjustment.
    n_galaxies: Galaxies with votes.
    n_effective: Number of independent galaxies with the same information.
    n_zero_probability: Galaxies with votes to which the first and the second model assigned zero probability: their
        log-likelihood is minus infinity, and `value` is null.
    minimum_detectable_difference: True difference that these galaxies reveal with 80% power.
    n_additional_galaxies: Galaxies with votes needed beyond these to reveal a true difference as large as the observed
        one with 80% power.
    n_additional_of_all: The same in galaxies of all kinds, if as many of them have votes on the question as here.
    """

    value: float | None
    low: float | None
    high: float | None
    p: float | None
    p_adjusted: float | None
    better_model: str | None
    n_galaxies: int
    n_effective: float | None
    n_zero_probability: tuple[int, int]
    minimum_detectable_difference: float | None
    n_additional_galaxies: int | None
    n_additional_of_all: int | None


def names_of(paths: Sequence[Path], given: Sequence[str] | None = None) -> list[str]:
    """Return the given names, or the shortest distinct names of the files: the last parts of their paths."""
    if len(paths) < 2:
        raise InputError(
            f"A comparison needs at least two prediction files, got {len(paths)}.",
            "",
            "Pass all prediction files first, then the dataset.",
        )
    whole = [path.absolute() for path in paths]
    for i, path in enumerate(whole):
        if path in whole[:i]:
            raise InputError(f"Prediction file '{paths[i]}' is passed twice.", "", "Remove one of the two.")
    if given:
        names = [text.strip() for text in given]
        if len(names) != len(paths):
            raise InputError(
                f"{len(names)} name{'s' * (len(names) != 1)} for {len(paths)} prediction files.",
                "one name for each file.",
                "Pass --name once for each prediction file, in their order.",
            )
        if "" in names or len(set(names)) < len(names):
            raise InputError(f"The names {names} do not distinguish the models.", hint="Pass a different --name each.")
        return names
    for parts in ([path.with_suffix("").parts for path in whole], [path.parts for path in whole]):
        for n in range(1, max(map(len, parts)) + 1):
            names = ["/".join(part[-n:]) for part in parts]
            if len(set(names)) == len(names):
                return names
    return [str(path) for path in whole]


def standard_errors_needed(n_tests: int) -> float:
    """Return how many standard errors a true difference must be to be found with 80% power among so many tests."""
    return float(stats.norm.isf(LEVEL / 2 / max(n_tests, 1)) + stats.norm.isf(1 - POWER))


def decide(one: Difference, p: float, z: float, names: tuple[str, str], *, larger_is_better: bool) -> None:
    """Fill in the better model and the numbers that depend on power.

    Args:
        one: The difference; `minimum_detectable_difference` is its standard error so far.
        p: Adjusted p-value.
        z: Standard errors of the minimum detectable difference.
        names: Names of the models.
        larger_is_better: Whether a larger value is better.
    """
    first, second = names
    impossible = one["n_zero_probability"]
    if (impossible[0] > 0) != (impossible[1] > 0):
        one["better_model"] = second if impossible[0] else first
        return
    value, error = one["value"], one["minimum_detectable_difference"]
    if not math.isfinite(p) or value is None or error is None:
        return
    one["p_adjusted"], one["minimum_detectable_difference"] = p, z * error
    if p < LEVEL:
        one["better_model"] = first if (value > 0) == larger_is_better else second
    elif value:
        more = one["n_galaxies"] * ((z * error / value) ** 2 - 1)
        one["n_additional_galaxies"] = math.ceil(max(more, 1)) if more < MAX_ADDITIONAL else None


def number(value: np.floating | float) -> float | None:
    """Return a number for JSON; None if it is not finite."""
    return float(value) if np.isfinite(value) else None


def needed(difference: Difference) -> str:
    """Return how many more galaxies a comparison needs: "560 more galaxies with votes (5,600 of all galaxies)"."""
    more, of_all = difference["n_additional_galaxies"], difference["n_additional_of_all"]
    if more is None or of_all is None:
        return ""
    if more == of_all:
        return f"{rounded_up(more)} more galaxies"
    return f"{rounded_up(more)} more galaxies with votes on it, which takes {rounded_up(of_all)} more of all galaxies"


def rounded_up(n: int) -> str:
    """Return a number of galaxies, rounded up to two digits.

    >>> rounded_up(12_345), rounded_up(20_000_000)
    ('13,000', 'over 10 million')
    """
    unit = 10 ** max(len(str(n)) - 2, 0)
    return f"{-(-n // unit) * unit:,}" if n <= 10_000_000 else "over 10 million"


def amount(difference: Difference, sign: str = "") -> str:
    """Return the size of a difference with half the width of its 95% interval, "0.012 ± 0.003".

    Where the interval extends much further to one side, both ends are given, "0.6 [0.2, 2.3]": half of its width would
    seem to include 0.
    """
    value, low, high = (difference[name] or 0.0 for name in ("value", "low", "high"))
    if value < 0 and not sign:
        value, low, high = -value, -high, -low
    half = (high - low) / 2
    digits = 3
    if half > 0:  # one digit of the half width, or two if the first is 1
        power = math.floor(math.log10(half))
        digits = max(0, -power + (1 if half / 10.0**power < 2 else 0))
    shorter, longer = sorted((value - low, high - value))
    interval = f"± {half:.{digits}f}" if longer <= MAX_SKEW * shorter else f"[{low:.{digits}f}, {high:.{digits}f}]"
    return f"{value:{sign}.{digits}f} {interval}".replace("-", "\N{MINUS SIGN}")
