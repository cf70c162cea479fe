"""Coverage of 95% confidence intervals over sky cells, where galaxies of a field share errors.

    python benchmarks/sky_coverage.py [--quick] [--n-repetitions 500] [--out FILE]

Galaxies lie in fields (disks) at random places of the sky, 30 in each. The error of a predicted vote fraction is the
sum of one of its field and one of its own, with equal variances, both normal. `gzoo.scoring.intervals.blocks` sees the
positions alone and does not know the fields. Coverage is that of the bias (mean error) and of the mean squared error.

- fields of 0.3, 1 and 3 degrees, of which there are 30, 100 or 300;
- 5 fields with 30 pointings of 10 galaxies each, where pointings and fields share errors, or pointings alone;
- 20,000 galaxies over the whole sky, and 2,000 in 500 square degrees, that share nothing.

"half width" is the mean half width of the interval of the bias, relative to that of one which knows the true standard
error. The bars are 0.92 for the bias and 0.90 for the mean squared error. Repetition r has seed r.

Writes benchmarks/results/sky_coverage.json.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from measuring import arguments, write

from gzoo.scoring.intervals import blocks, ratio

Numbers = npt.NDArray[np.float64]
Drawn = tuple[Numbers, Numbers, Numbers, float]  # positions, errors, and the true standard error of their mean
BARS = {"bias": 0.92, "mse": 0.90}
PER_FIELD = 30


def places(rng: np.random.Generator, n: int) -> tuple[Numbers, Numbers]:
    """Return random positions, away from the poles, where a field is not a disk in these coordinates."""
    return rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-0.94, 0.94, n)))


def beside(ra: Numbers, dec: Numbers, x: Numbers, y: Numbers) -> tuple[Numbers, Numbers]:
    """Return positions x and y degrees from others."""
    moved = dec + y
    return (ra + x / np.cos(np.radians(moved))) % 360, moved


def fields(rng: np.random.Generator, n_fields: int, diameter: float) -> Drawn:
    ra, dec = places(rng, n_fields)
    own = np.repeat(np.arange(n_fields), PER_FIELD)
    radius, angle = diameter / 2 * np.sqrt(rng.random(len(own))), rng.uniform(0, 2 * np.pi, len(own))
    error = rng.standard_normal(n_fields)[own] + rng.standard_normal(len(own))
    where = beside(ra[own], dec[own], radius * np.cos(angle), radius * np.sin(angle))
    return *where, error, math.sqrt((1 + 1 / PER_FIELD) / n_fields)


def pointings(rng: np.random.Generator, of_field: float) -> Drawn:
    ra, dec = places(rng, 5)
    place = np.repeat(np.arange(150), 10)
    field = place // 30
    x, y = (rng.uniform(-2, 2, 150)[place] + rng.uniform(-0.2, 0.2, len(place)) for _ in range(2))
    error = of_field * rng.standard_normal(5)[field] + 0.7 * rng.standard_normal(150)[place]
    error += rng.standard_normal(len(place))
    return *beside(ra[field], dec[field], x, y), error, math.sqrt(of_field**2 / 5 + 0.49 / 150 + 1 / 1500)


def alone(rng: np.random.Generator, n: int, part: float) -> Drawn:
    ra, dec = rng.uniform(0, 360 * part, n), np.degrees(np.arcsin(rng.uniform(-part, part, n)))
    return ra, dec, math.sqrt(2) * rng.standard_normal(n), math.sqrt(2 / n)


def worlds() -> dict[str, tuple[Callable[[np.random.Generator], Drawn], float]]:
    """Return name -> how to draw it, and the true mean squared error."""
    out: dict[str, tuple[Callable[[np.random.Generator], Drawn], float]] = {}
    for diameter in (0.3, 1.0, 3.0):
        for n in (30, 100, 300):
            out[f"{n} fields of {diameter:g} degrees"] = (lambda rng, n=n, d=diameter: fields(rng, n, d), 2.0)
    for name, of_field in (("share errors", 0.5), ("share nothing", 0.0)):
        draw = lambda rng, of_field=of_field: pointings(rng, of_field)  # noqa: E731
        out[f"5 fields of 30 pointings; fields {name}"] = (draw, of_field**2 + 1.49)
    out["20,000 galaxies that share nothing"] = (lambda rng: alone(rng, 20_000, 1.0), 2.0)
    out["2,000 galaxies in a part of the sky that share nothing"] = (lambda rng: alone(rng, 2000, 0.11), 2.0)
    return out


def coverage(draw: Callable[[np.random.Generator], Drawn], mse: float, repetitions: int) -> dict[str, float]:
    """Return the coverage, and the mean half width relative to 1.96 true standard errors."""
    held, widths = np.zeros(2), []
    for seed in range(repetitions):
        ra, dec, error, true_error = draw(np.random.default_rng(seed))
        columns = np.column_stack([error, error**2])
        found = ratio(columns, np.ones((len(error), 1)), blocks(len(error), ra, dec))
        held += (found.low <= [0.0, mse]) & (found.high >= [0.0, mse])
        widths.append((found.high[0] - found.low[0]) / 2 / (1.96 * true_error))
    bias, of_mse = (held / repetitions).round(4).tolist()
    return {"bias": bias, "mse": of_mse, "half width": round(float(np.mean(widths)), 3)}


def main() -> None:
    parser = arguments(__doc__, "sky_coverage.json")
    parser.add_argument("--quick", action="store_true", help="use 40 repetitions, and write only to --out")
    parser.add_argument("--n-repetitions", type=int, default=500, help="repetitions (default: 500)")
    options = parser.parse_args()
    repetitions = 40 if options.quick else options.n_repetitions
    found: dict[str, dict[str, float]] = {}
    for name, (draw, mse) in worlds().items():
        found[name] = coverage(draw, mse, repetitions)
        print(name, found[name], flush=True)
    least = {name: min(one[name] for one in found.values()) for name in BARS}
    holds = all(least[name] >= bar for name, bar in BARS.items())
    write(options, {"repetitions": repetitions, "coverage": found, "least": least, "bars": BARS, "holds": holds})


if __name__ == "__main__":
    main()
