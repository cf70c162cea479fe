"""Properties of the split by position for several cell sizes and margins: border and test fractions.

    python benchmarks/sky_split.py [--n-hashes 1000] [--n 8700000] [--quick]

For cells of nside 1024, 2048 and 4096 and margins of 1.0, 1.5 and 2.0 arcsec, with train, validation and test fractions
of 70%, 10% and 20%:

- the fraction of positions in `border`, over the whole sky and (if ../shared/data exists) at positions of Galaxy Zoo 2;
- the smallest separation of any pair near borders whose positions are in different splits, of 4 million pairs;
- the scatter of the test fraction over hashes (names of a scheme): of five fields of 10 x 20 arcmin together, of one
  field, and of an all-sky campaign. The fields contain uniformly distributed galaxies at the centres of the five
  CANDELS fields. The test fraction is test / (train + validation + test), and for the five fields also test / all rows.

No hash was selected: `gzoo-1` is one of them, and its own values are also given. Time and peak memory for 8.7 million
positions are measured first.

Writes benchmarks/results/sky_split.json.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

import hpgeom
import numpy as np
import numpy.typing as npt
import polars as pl
from measuring import arguments, write

from gzoo import sky

Numbers = npt.NDArray[np.float64]
FIELDS = ((53.12, -27.80), (189.23, 62.24), (150.12, 2.33), (34.41, -5.20), (214.83, 52.83))
ASKED = 20
GZ2 = Path(__file__).parents[2] / "shared" / "data" / "gz2_coadd" / "counts.csv"


def all_sky(rng: np.random.Generator, n: int) -> tuple[Numbers, Numbers]:
    return rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))


def fields(rng: np.random.Generator, n: int) -> tuple[Numbers, Numbers]:
    """Return n galaxies in each of five fields, 10 arcmin wide in ra and 20 arcmin high."""
    centre = np.repeat(np.array(FIELDS), n, axis=0)
    dec = centre[:, 1] + rng.uniform(-10, 10, len(centre)) / 60
    return centre[:, 0] + rng.uniform(-5, 5, len(centre)) / 60 / np.cos(np.radians(dec)), dec


def test_fraction(splits: npt.NDArray[np.str_]) -> float:
    return float((splits == "test").sum() / (splits != sky.BORDER).sum())


def scatter(fractions: Numbers) -> dict[str, float]:
    stray = np.abs(fractions - ASKED / 100)
    return {
        "mean": round(float(fractions.mean()), 4),
        "standard_deviation": round(float(fractions.std()), 4),
        "within_5_percentage_points": round(float((stray <= 0.05).mean()), 4),
        "largest_deviation": round(float(stray.max()), 4),
    }


def beside(ra: Numbers, dec: Numbers, angle: Numbers, arcsec: Numbers) -> tuple[Numbers, Numbers]:
    """Return positions at a distance from others, at a position angle in radians."""
    here = hpgeom.angle_to_vector(ra, dec, lonlat=True)
    longitude = np.radians(ra)
    east = np.stack([-np.sin(longitude), np.cos(longitude), np.zeros_like(longitude)], axis=1)
    north = np.cross(here, east)
    way = np.radians(arcsec / 3600)[:, None]
    there = here * np.cos(way) + (north * np.cos(angle)[:, None] + east * np.sin(angle)[:, None]) * np.sin(way)
    return np.degrees(np.arctan2(there[:, 1], there[:, 0])), np.degrees(np.arctan2(there[:, 2], np.hypot(*there.T[:2])))


def smallest_separation(scheme: sky.Scheme, rng: np.random.Generator, n: int) -> float | None:
    """Return the smallest separation in arcsec of n pairs near cell corners whose positions are in different splits."""
    ra, dec = all_sky(rng, n)
    dec[: n // 8] = np.sign(dec[: n // 8]) * (90 - rng.uniform(0, 0.2, n // 8))  # around the poles
    ra[n // 8 : n // 4] = rng.integers(0, 4, n // 4 - n // 8) * 90.0  # along edges of base cells, and ra 0 / 360
    corners = hpgeom.boundaries(scheme.nside, hpgeom.angle_to_pixel(scheme.nside, ra, dec), step=1)
    ra, dec = (one[:, 0] for one in corners)
    ra, dec = beside(ra, dec, rng.uniform(0, 2 * np.pi, n), rng.uniform(0, 4, n))
    other = beside(ra, dec, rng.uniform(0, 2 * np.pi, n), rng.uniform(0, 4, n))
    one, two = sky.split(ra, dec, scheme), sky.split(*other, scheme)
    is_leak = (one != two) & (one != sky.BORDER) & (two != sky.BORDER)
    apart = sky.separation_arcsec(ra[is_leak], dec[is_leak], *(end[is_leak] for end in other))
    return round(float(apart.min()), 3) if len(apart) else None


def row(
    nside: int, margin: float, n_hashes: int, n_wide: int, n_pairs: int, rng: np.random.Generator
) -> dict[str, object]:
    """Return the properties of the split for one cell size and margin."""
    wide, deep = all_sky(rng, n_wide), fields(rng, 2000)
    schemes = [sky.Scheme(f"trial-{i}", (70, 10, ASKED), nside, margin) for i in range(n_hashes)]
    one, five, of_all = [], [], []
    for scheme in schemes:
        splits = sky.split(*deep, scheme)
        five.append(test_fraction(splits))
        of_all.append(float((splits == "test").mean()))
        one.append(test_fraction(splits[:2000]))
    # the scatter of an all-sky campaign is small: 100 hashes and 200,000 galaxies suffice
    few = [test_fraction(sky.split(wide[0][:200_000], wide[1][:200_000], scheme)) for scheme in schemes[:100]]
    said = {
        "nside": nside,
        "margin_arcsec": margin,
        "cell_arcsec": round(schemes[0].cell_arcsec, 1),
        "border_all_sky": round(float((sky.split(*wide, schemes[0]) == sky.BORDER).mean()), 5),
        "test_fraction_five_fields": scatter(np.array(five)),
        "test_fraction_of_all_rows_five_fields": scatter(np.array(of_all)),
        "test_fraction_one_field": scatter(np.array(one)),
        "test_fraction_all_sky": scatter(np.array(few)),
        "smallest_separation_of_splits_arcsec": smallest_separation(schemes[0], rng, n_pairs),
    }
    if GZ2.is_file():
        real = pl.read_csv(GZ2, columns=["ra", "dec"])
        positions = real["ra"].to_numpy(), real["dec"].to_numpy()
        fractions = [float((sky.split(*positions, scheme) == sky.BORDER).mean()) for scheme in schemes[:20]]
        said["border_gz2_positions"] = round(float(np.mean(fractions)), 5)
    return said


def speed(n: int, rng: np.random.Generator) -> dict[str, object]:
    """Return time and memory of the split and of the search for the same galaxies."""
    ra, dec = all_sky(rng, n)
    before = peak_megabytes()
    begun = time.perf_counter()
    splits = sky.split(ra, dec)
    taken, after = time.perf_counter() - begun, peak_megabytes()
    fractions = {name: round(float((splits == name).mean()), 5) for name in (*sky.SPLITS, sky.BORDER)}
    begun = time.perf_counter()
    sky.same_galaxies(ra, dec)
    return {
        "positions": n,
        "split_seconds": round(taken, 2),
        "split_megabytes": round(after - before),
        "fractions": fractions,
        "same_galaxies_seconds": round(time.perf_counter() - begun, 2),
    }


def peak_megabytes() -> float:
    said = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(said[1]) / 1024 if said else float("nan")


def main() -> None:
    parser = arguments(__doc__, "sky_split.json")
    parser.add_argument("--n-hashes", type=int, default=1000, help="number of hashes (default: 1000)")
    parser.add_argument("--n", type=int, default=8_700_000, help="positions of the timing (default: 8,700,000)")
    parser.add_argument("--quick", action="store_true", help="few hashes and positions, and write only to --out")
    options = parser.parse_args()
    n, n_hashes, n_wide, n_pairs = options.n, options.n_hashes, 2_000_000, 4_000_000
    if options.quick:
        n, n_hashes, n_wide, n_pairs = 100_000, 3, 200_000, 200_000
    timed = speed(n, np.random.default_rng(0))
    rng = np.random.default_rng(1)
    rows = [
        row(nside, margin, n_hashes, n_wide, n_pairs, rng) for nside in (1024, 2048, 4096) for margin in (1.0, 1.5, 2.0)
    ]
    mine = sky.split(*fields(np.random.default_rng(2), 20_000))
    result = {
        "fractions_percent": [70, 10, ASKED],
        "n_hashes": n_hashes,
        "table": rows,
        "gzoo-1": {
            "nside": sky.SCHEME.nside,
            "margin_arcsec": sky.SCHEME.margin_arcsec,
            "test_fraction_five_fields": round(test_fraction(mine), 4),
            "border_five_fields": round(float((mine == sky.BORDER).mean()), 4),
        },
        "speed": timed,
    }
    write(options, result)


if __name__ == "__main__":
    main()
