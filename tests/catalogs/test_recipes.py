"""The recipes of the documentation run, and a search by healpix ranges finds what a search without them finds."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import hpgeom
import numpy as np
import polars as pl
import pytest
from astropy.io import fits
from astropy.table import Table

import gzoo
from gzoo import sky

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "catalogue-recipes.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


def run(*blocks: str, **given: Any) -> dict[str, Any]:
    names: dict[str, Any] = dict(given)
    for block in blocks:
        exec(block, names)  # the page's own text
    return names


def at(block: str, ra: float, dec: float, radius: float) -> str:
    return block.replace("150.0, 20.0, 1.0", f"{ra}, {dec}, {radius}")


def test_recipes_run(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("duckdb", reason="DuckDB is not installed")
    monkeypatch.chdir(tmp_path)
    for ending in ("parquet", "fits"):
        gzoo.catalog(None, dataset, out=f"catalogue.{ending}")
    table = pl.read_parquet("catalogue.parquet")
    place = table["ra"][5], table["dec"][5]
    apart = sky.separation_arcsec(table["ra"], table["dec"], *(np.full(table.height, one) for one in place))
    truth = sorted(table["id_str"].filter(pl.Series(apart <= 5 * 3600)))
    for engine in BLOCKS[1:3]:
        found = run(at(BLOCKS[0], *place, 5.0), engine)["cone"]
        assert sorted(found["id_str"]) == truth
        assert 0 < len(truth) < table.height
    redshifts = {"ra": table["ra"], "dec": table["dec"], "redshift": np.linspace(0.001, 0.199, table.height)}
    Table({name: np.asarray(values) for name, values in redshifts.items()}).write("redshifts.fits")
    assert np.isfinite(run(BLOCKS[3], np=np)["fraction"]).all()
    run(BLOCKS[4])
    wanted = table.filter(
        pl.col("has_spiral_arms_gz2_proportion_volunteers_asked") > 0.3,
        pl.col("disk_edge_on_gz2_no_posterior_mean") > 0.7,
        pl.col("has_spiral_arms_gz2_yes_posterior_mean") > 0.5,
        pl.col("bar_gz2_yes_posterior_mean") > 0.3,
    )
    assert len(Table.read("barred_spirals.fits")) == wanted.height


@pytest.mark.skipif(shutil.which("stilts") is None, reason="STILTS is not installed")
def test_the_recipe_for_stilts_keeps_units(dataset: Path, tmp_path: Path) -> None:
    gzoo.catalog(None, dataset, out=tmp_path / "catalogue.fits", questions=["bar-gz2"])
    (command,) = re.findall(r"```sh\n(stilts .*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    name = "bar_gz2_yes_posterior_mean"
    bars, whole = Table.read(tmp_path / "bars.fits"), Table.read(tmp_path / "catalogue.fits")
    assert bars.colnames == ["id_str", "ra", "dec", name]
    assert 0 < len(bars) == int((np.asarray(whole[name]) > 0.3).sum())
    about, before = (fits.getheader(tmp_path / one, 1) for one in ("bars.fits", "catalogue.fits"))
    i = whole.colnames.index(name) + 1
    assert (about["TUNIT2"], about["TUCD2"], about["TUCD4"]) == ("deg", "pos.eq.ra;meta.main", before[f"TUCD{i}"])
    assert about["TCOMM4"][:60] == before[f"TCOMM{i}"][:60] != ""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_recipe_for_lsdb_finds_each_galaxy_itself(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lsdb", reason="lsdb is not installed")
    monkeypatch.chdir(tmp_path)
    for name in ("galaxies_hats", "others_hats"):
        made = gzoo.catalog(None, dataset, out=name, questions=["bar-gz2"])
    pairs = run(BLOCKS[5])["pairs"]
    assert len(pairs) == made.n_galaxies - made.n_without_position
    assert (pairs["id_str_galaxy"] == pairs["id_str_other"]).all()


@pytest.mark.slow
def test_ranges_are_five_times_as_fast_as_distances_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cone of a degree among a million rows of 60 columns, by DuckDB."""
    duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed")
    monkeypatch.chdir(tmp_path)
    rng, n = np.random.default_rng(0), 1_000_000
    ra, dec = rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    rows = pl.DataFrame({"ra": ra, "dec": dec, "_healpix_29": hpgeom.angle_to_pixel(1 << 29, ra, dec)})
    rows = rows.with_columns(pl.Series(f"x{i}", rng.random(n, dtype=np.float32)) for i in range(57))
    rows.sort("_healpix_29").write_parquet("catalogue.parquet", row_group_size=10_000)
    for place in ((150.0, 20.0), (0.0, 0.0), (10.0, 90.0), (200.0, -89.5)):
        names = run(at(BLOCKS[0], *place, 1.0))
        plain = f"select * from 'catalogue.parquet' where {names['distance']} <= radians(1)"
        queries = {
            "plain": lambda plain=plain: duckdb.sql(plain).pl(),
            "ranges": lambda names=names: run(BLOCKS[1], **names)["cone"],
        }
        seconds, found = {}, {}
        for name, query in queries.items():
            times = []
            for _ in range(3):
                began = time.process_time()  # of all threads: others may use the machine
                found[name] = query()
                times.append(time.process_time() - began)
            seconds[name] = min(times)
        assert found["plain"].sort("_healpix_29").equals(found["ranges"].sort("_healpix_29"))
        assert found["plain"].height > 0
        assert seconds["plain"] > 5 * seconds["ranges"], (place, seconds)
