"""Two campaigns that share 30 % of their galaxies: what leaks under a random split, and what `gzoo leaks` finds.

    python benchmarks/sky_leaks.py [--n 100000]

Galaxies are strewn evenly over the sky, and also about both poles, along ra 0 / 360 (an edge of base cells in the
caps, so that more than elsewhere are in `border`) and in a field as dense as CANDELS' are; no two of them are within
3 arcsec. Two campaigns see n of them each and share 30 %. Each sees a galaxy a little off: so that two sightings are at
most 0.5 arcsec apart; or with Gaussian scatter of 0.5 arcsec in each coordinate of either. Their rows are split at
random (20 % test, each campaign by a draw of its own, as the published datasets are) and by place (`gzoo-1`), and
written as published folders are: Parquet shards without a manifest. A third campaign then joins. Identifiers never
repeat, so that positions alone can tell. Writes benchmarks/results/sky_leaks.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import hpgeom
import numpy as np
import numpy.typing as npt
import polars as pl

import gzoo
from gzoo import sky
from gzoo.trees.campaign import campaign

Numbers = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]
COLUMNS = campaign("gz2").published_tree.columns
SHARED, TEST = 0.3, 0.2


@dataclass(frozen=True)
class Sightings:
    """A campaign: which galaxies it saw, and where."""

    name: str
    galaxy: Whole
    ra: Numbers
    dec: Numbers

    def by_place(self) -> npt.NDArray[np.str_]:
        return sky.split(self.ra, self.dec)

    def at_random(self, rng: np.random.Generator) -> npt.NDArray[np.str_]:
        return np.where(rng.permutation(len(self.ra)) < TEST * len(self.ra), "test", "train")

    def ids(self) -> list[str]:
        return [f"{self.name}-{one}" for one in self.galaxy]


def universe(rng: np.random.Generator, n: int) -> tuple[Numbers, Numbers]:
    """n places or a few more, no two within 3 arcsec."""
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
    kept[too_near.first] = False  # the places appended last stay
    return ra[kept], dec[kept]


def seen(name: str, galaxy: Whole, where: tuple[Numbers, Numbers], offsets: Numbers) -> Sightings:
    """Galaxies seen so many arcsec east and north of their place."""
    ra, dec = (one[galaxy] for one in where)
    here = hpgeom.angle_to_vector(ra, dec, lonlat=True)
    longitude = np.radians(ra)
    east = np.stack([-np.sin(longitude), np.cos(longitude), np.zeros_like(longitude)], axis=1)
    away = here + np.radians(offsets[:, :1] / 3600) * east + np.radians(offsets[:, 1:] / 3600) * np.cross(here, east)
    ra = np.degrees(np.arctan2(away[:, 1], away[:, 0])) % 360
    return Sightings(name, galaxy, ra, np.degrees(np.arctan2(away[:, 2], np.hypot(away[:, 0], away[:, 1]))))


def within(rng: np.random.Generator, n: int, arcsec: float) -> Numbers:
    angle, radius = rng.uniform(0, 2 * np.pi, n), arcsec * np.sqrt(rng.uniform(0, 1, n))
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def publish(folder: Path, campaigns: list[Sightings], splits: list[npt.NDArray[np.str_]]) -> list[Path]:
    """A folder of shards each, with positions, identifiers and a vote for every answer."""
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
    """Pairs of rows of one galaxy on two sides, known from the galaxies' numbers and not from their places."""
    table = pl.concat(
        pl.DataFrame({"galaxy": one.galaxy, "id_str": one.ids(), "split": split})
        for one, split in zip(campaigns, splits, strict=True)
    ).filter(pl.col("split") != sky.BORDER)
    pairs = table.join(table, on="galaxy", suffix="_other").filter(
        pl.col("split") != pl.col("split_other"), pl.col("id_str") < pl.col("id_str_other")
    )
    return {frozenset(pair) for pair in pairs.select("id_str", "id_str_other").iter_rows()}


def judge(campaigns: list[Sightings], splits: list[npt.NDArray[np.str_]]) -> dict[str, object]:
    """What is planted, and what `gzoo leaks` finds."""
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
        "planted": len(truth),
        "galaxies_on_two_sides": len({one.rpartition("-")[2] for one in test}),
        "found": len(pairs),
        "found_and_planted": len(pairs & truth),
        "recall": round(len(pairs & truth) / len(truth), 6) if truth else None,
        "is_exact": pairs == truth and found.pairs.height == len(pairs),
        "seconds": round(seconds, 2),
    }


def moved(before: list[npt.NDArray[np.str_]], campaigns: list[Sightings], third: Sightings) -> int:
    """Rows of the first campaigns whose split is another once the third's rows stand among them."""
    everyone = [third, *campaigns]
    ra, dec = (np.concatenate([getattr(one, name) for one in everyone]) for name in ("ra", "dec"))
    after = np.split(sky.split(ra, dec)[len(third.ra) :], [len(campaigns[0].ra)])
    return sum(int(np.count_nonzero(one != two)) for one, two in zip(before, after, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=100_000)
    n = parser.parse_args().n
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
        by_place = [each.by_place() for each in campaigns]
        at_random = [each.at_random(rng) for each in campaigns]
        third = seen("three", rng.permutation(len(where[0]))[:n], where, draw(n))
        fractions = {
            name: round(float(np.mean(np.concatenate(by_place) == name)), 4) for name in (*sky.SPLITS, sky.BORDER)
        }
        result[kind] = {
            "largest_separation_arcsec": round(float(apart.max()), 3),
            "random split": judge(campaigns, at_random),
            "gzoo-1": judge(campaigns, by_place) | {"fractions": fractions},
            "gzoo-1, three campaigns": judge([*campaigns, third], [*by_place, third.by_place()]),
            "rows moved by a third campaign": moved(by_place, campaigns, third),
        }
    result |= {
        "machine": {"cores": os.cpu_count(), "processor": platform.processor() or platform.machine()},
        "versions": {name: version(name) for name in ("hpgeom", "numpy", "polars", "scipy")}
        | {"python": sys.version.split()[0]},
    }
    print(json.dumps(result, indent=2))
    path = Path(__file__).parent / "results" / "sky_leaks.json"
    path.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
