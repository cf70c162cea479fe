"""Leaks between two campaigns that share 30% of their galaxies, and how many `gzoo leaks` finds.

    python benchmarks/sky_leaks.py [--n 100000]

Galaxies are distributed uniformly over the sky, and additionally around both poles, along ra 0 / 360 (edges of HEALPix
base cells near the poles, with more galaxies in `border` than elsewhere) and in a field as dense as those of CANDELS.
No two galaxies are within 3 arcsec. Two campaigns observe n galaxies each and share 30%. Each observes a galaxy at an
offset position: either so that two observed positions are at most 0.5 arcsec apart, or with Gaussian scatter of 0.5
arcsec in each coordinate. The rows are split at random (20% test, independently for each campaign, as in the published
datasets) and by position (`gzoo-1`), and written like published folders: Parquet shards without a manifest. Then a
third campaign joins. Identifiers never repeat, so only positions identify galaxies.

Writes benchmarks/results/sky_leaks.json.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import hpgeom
import numpy as np
import numpy.typing as npt
import polars as pl
from measuring import arguments, write

import gzoo
from gzoo import sky
from gzoo.trees.campaign import campaign

Numbers = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]
COLUMNS = campaign("gz2").published_tree.columns
SHARED, TEST = 0.3, 0.2


@dataclass(frozen=True)
class Sightings:
    """A campaign: its galaxies and their observed positions."""

    name: str
    galaxy: Whole
    ra: Numbers
    dec: Numbers

    def by_position(self) -> npt.NDArray[np.str_]:
        return sky.split(self.ra, self.dec)

    def at_random(self, rng: np.random.Generator) -> npt.NDArray[np.str_]:
        return np.where(rng.permutation(len(self.ra)) < TEST * len(self.ra), "test", "train")

    def ids(self) -> list[str]:
        return [f"{self.name}-{one}" for one in self.galaxy]


def universe(rng: np.random.Generator, n: int) -> tuple[Numbers, Numbers]:
    """Return about n positions, no two within 3 arcsec."""
    m = n // 10
    wide = rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    poles = rng.uniform(0, 360, m), rng.choice([-1, 1], m) * (90 - 0.5 * np.sqrt(rng.uniform(0, 1, m)))
    turn = rng.normal(0, 0.003, m) % 360, rng.uniform(-85, 85, m)
    deep = 150 + rng.uniform(-0.3, 0.3, m), 2 + rng.uniform(-0.3, 0.3, m)
    ra, dec = (np.concatenate(parts) for parts in zip(wide, poles, turn, deep, strict=True))
    ra, dec = np.r_[ra, 0.0, 0.0, 0.0, 180.0], np.r_[dec, 90.0, -90.0, 0.0, 0.0]
    ra[ra >= 360] = 0.0
    too_near = sky.same_galaxies(ra, dec, radius_arcsec=3.0)
    kept = np.ones(len(ra), bool)
    kept[too_near.first] = False  # keeps the positions appended last
    return ra[kept], dec[kept]


def seen(name: str, galaxy: Whole, where: tuple[Numbers, Numbers], offsets: Numbers) -> Sightings:
    """Return galaxies observed at offsets (arcsec east and north) from their positions."""
    ra, dec = (one[galaxy] for one in where)
    here = hpgeom.angle_to_vector(ra, dec, lonlat=True)
    longitude = np.radians(ra)
    east = np.stack([-np.sin(longitude), np.cos(longitude), np.zeros_like(longitude)], axis=1)
    away = here + np.radians(offsets[:, :1] / 3600) * east + np.radians(offsets[:, 1:] / 3600) * np.cross(here, east)
    ra = np.degrees(np.arctan2(away[:, 1], away[:, 0])) % 360
    return Sightings(name, galaxy, ra, np.degrees(np.arctan2(away[:, 2], np.hypot(away[:, 0], away[:, 1]))))


def within(rng: np.random.Generator, n: int, arcsec: float) -> Numbers:
    """Draw offsets uniformly within a radius."""
    angle, radius = rng.uniform(0, 2 * np.pi, n), arcsec * np.sqrt(rng.uniform(0, 1, n))
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def publish(folder: Path, campaigns: list[Sightings], splits: list[npt.NDArray[np.str_]]) -> list[Path]:
    """Write a folder of shards for each campaign, with positions, identifiers and a vote for each answer."""
    folders = [folder / one.name for one in campaigns]
    for path, one, split in zip(folders, campaigns, splits, strict=True):
        (path / "data").mkdir(parents=True)
        table = pl.DataFrame({"id_str": one.ids(), "ra": one.ra, "dec": one.dec, "split": split}).with_columns(
            pl.lit(one.name).alias("dataset_name"), *(pl.lit(1).alias(column) for column in COLUMNS)
        )
        for (name,), part in table.partition_by("split", as_dict=True, include_key=False).items():
            part.write_parquet(path / "data" / f"{name}-00000-of-00001.parquet")
    return folders


def planted(campaigns: list[Sightings], splits: list[npt.NDArray[np.str_]]) -> set[frozenset[str]]:
    """Return the pairs of rows of one galaxy in different splits, known from the galaxies' numbers."""
    table = pl.concat(
        pl.DataFrame({"galaxy": one.galaxy, "id_str": one.ids(), "split": split})
        for one, split in zip(campaigns, splits, strict=True)
    ).filter(pl.col("split") != sky.BORDER)
    pairs = table.join(table, on="galaxy", suffix="_other").filter(
        pl.col("split") != pl.col("split_other"), pl.col("id_str") < pl.col("id_str_other")
    )
    return {frozenset(pair) for pair in pairs.select("id_str", "id_str_other").iter_rows()}


def judge(campaigns: list[Sightings], splits: list[npt.NDArray[np.str_]]) -> dict[str, object]:
    """Return the numbers of true leaks, and of those that `gzoo leaks` finds."""
    truth = planted(campaigns, splits)
    with tempfile.TemporaryDirectory() as name:
        folders = publish(Path(name), campaigns, splits)
        begun = time.perf_counter()
        found = gzoo.leaks(folders)
        seconds = time.perf_counter() - begun
    pairs = {frozenset(pair) for pair in found.pairs.select("id_str", "other_id_str").iter_rows()}
    test = {one for pair in truth for one in pair}
    return {
        "rows": sum(len(one.ra) for one in campaigns),
        "leaks": len(truth),
        "galaxies_in_several_splits": len({one.rpartition("-")[2] for one in test}),
        "found": len(pairs),
        "found_leaks": len(pairs & truth),
        "recall": round(len(pairs & truth) / len(truth), 6) if truth else None,
        "is_exact": pairs == truth and found.pairs.height == len(pairs),
        "seconds": round(seconds, 2),
    }


def moved(before: list[npt.NDArray[np.str_]], campaigns: list[Sightings], third: Sightings) -> int:
    """Return how many rows of the first campaigns change their split when the third campaign joins."""
    everyone = [third, *campaigns]
    ra, dec = (np.concatenate([getattr(one, name) for one in everyone]) for name in ("ra", "dec"))
    after = np.split(sky.split(ra, dec)[len(third.ra) :], [len(campaigns[0].ra)])
    return sum(int(np.count_nonzero(one != two)) for one, two in zip(before, after, strict=True))


def main() -> None:
    parser = arguments(__doc__, "sky_leaks.json")
    parser.add_argument("--n", type=int, default=100_000, help="galaxies of each campaign (default: 100,000)")
    options = parser.parse_args()
    n = options.n
    rng = np.random.default_rng(0)
    where = universe(rng, 2 * n)
    order = rng.permutation(len(where[0]) - 4)
    special = np.arange(len(where[0]) - 4, len(where[0]))  # both poles, ra 0, ra 180
    n_shared = round(SHARED * n) - 4
    common = np.r_[order[:n_shared], special]
    one, two = np.r_[common, order[n_shared : n - 4]], np.r_[common, order[n - 4 : 2 * n - 8 - n_shared]]
    result: dict[str, object] = {"galaxies_in_each": [len(one), len(two)], "galaxies_shared": len(common)}
    kinds = {
        "offsets at most 0.5 arcsec": lambda m: within(rng, m, 0.25),
        "Gaussian scatter of 0.5 arcsec": lambda m: rng.normal(0, 0.5, (m, 2)),
    }
    for kind, draw in kinds.items():
        campaigns = [seen("one", one, where, draw(len(one))), seen("two", two, where, draw(len(two)))]
        apart = sky.separation_arcsec(*(end for each in campaigns for end in (each.ra[:n_shared], each.dec[:n_shared])))
        by_position = [each.by_position() for each in campaigns]
        at_random = [each.at_random(rng) for each in campaigns]
        third = seen("three", rng.permutation(len(where[0]))[:n], where, draw(n))
        fractions = {
            name: round(float(np.mean(np.concatenate(by_position) == name)), 4) for name in (*sky.SPLITS, sky.BORDER)
        }
        result[kind] = {
            "largest_separation_arcsec": round(float(apart.max()), 3),
            "random split": judge(campaigns, at_random),
            "gzoo-1": judge(campaigns, by_position) | {"fractions": fractions},
            "gzoo-1, three campaigns": judge([*campaigns, third], [*by_position, third.by_position()]),
            "rows moved by a third campaign": moved(by_position, campaigns, third),
        }
    write(options, result)


if __name__ == "__main__":
    main()
