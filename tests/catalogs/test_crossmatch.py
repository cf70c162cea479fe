"""`gzoo match`: which rows belong together, what became of the others, and what is refused."""

from __future__ import annotations

from pathlib import Path

import astropy.units as u
import numpy as np
import polars as pl
import pytest
from astropy.coordinates import SkyCoord, search_around_sky
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

import gzoo
from gzoo import sky
from gzoo.errors import GZooWarning, InputError, NotFoundError, OutputExistsError, TableError
from gzoo.sky.coordinates import unit_vectors


def on_the_sky(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions everywhere, with crowds at both poles and at ra 0."""
    rng = np.random.default_rng(seed)
    ra, dec = rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    third = n // 4
    dec[:third] = np.where(np.arange(third) % 2, 1, -1) * (90 - rng.exponential(0.002, third))
    ra[third : 2 * third], dec[third : 2 * third] = rng.normal(0, 0.005, third) % 360, rng.normal(0, 0.005, third)
    return ra, dec


def test_pairs_are_those_of_astropy() -> None:
    ra, dec = on_the_sky(4000, 1)
    rng = np.random.default_rng(2)
    other = sky.shifted(ra[::2], dec[::2], rng.uniform(0, 360, len(ra[::2])), rng.exponential(1 / 3600, len(ra[::2])))
    for one, two in (((ra, dec), other), (other, (ra, dec))):
        found = sky.pairs_between(*one, *two, radius_arcsec=2)
        first, second, apart, _ = search_around_sky(
            SkyCoord(*one, unit="deg"), SkyCoord(*two, unit="deg"), 2 * u.arcsec
        )
        order = np.lexsort((second, first))
        assert len(found) > 2000
        np.testing.assert_array_equal(found.first, first[order])
        np.testing.assert_array_equal(found.second, second[order])
        np.testing.assert_allclose(found.separation_arcsec, apart[order].arcsec, rtol=0, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_matches_are_symmetric_and_do_not_change_by_a_rotation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ra, dec = rng.uniform(0, 0.003, 40) % 360, rng.uniform(-0.001, 0.001, 40)
    other = rng.uniform(0, 0.003, 30), rng.uniform(-0.001, 0.001, 30)
    pairs = sky.pairs_between(ra, dec, *other, radius_arcsec=2)
    here = sky.mutual_best(pairs, 40, 30)
    there = sky.mutual_best(sky.pairs_between(*other, ra, dec, radius_arcsec=2), 30, 40)
    np.testing.assert_array_equal(here.partner[0], there.partner[1])
    np.testing.assert_array_equal(here.partner[1], there.partner[0])
    np.testing.assert_array_equal(here.n_near[0], there.n_near[1])
    turn = Rotation.random(rng=np.random.default_rng(seed))

    def turned(longitude: np.ndarray, latitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x, y, z = turn.apply(unit_vectors(longitude, latitude)).T
        return np.degrees(np.arctan2(y, x)) % 360, np.degrees(np.arctan2(z, np.hypot(x, y)))

    again = sky.mutual_best(sky.pairs_between(*turned(ra, dec), *turned(*other), radius_arcsec=2), 40, 30)
    np.testing.assert_array_equal(again.partner[0], here.partner[0])
    np.testing.assert_allclose(again.nearest_arcsec[0], here.nearest_arcsec[0], atol=1e-6)


def write(path: Path, **columns: list[object]) -> Path:
    pl.DataFrame(columns, strict=False).write_csv(path)
    return path


def test_every_row_has_one_fate(tmp_path: Path) -> None:
    arcsec = 1 / 3600
    a = write(tmp_path / "a.csv", id_str=["1", "2", "3", "4", "5"], ra=[10.0, 20, 30, 40, None], dec=[0.0, 0, 0, 0, 1])
    b = write(
        tmp_path / "b.csv",
        id_str=["p", "q", "r", "s", "t"],
        RAJ2000=[10 + 0.5 * arcsec, 10 - 1 * arcsec, 20 + arcsec, 20 - arcsec, 50],
        DEJ2000=[0.0] * 5,
    )
    found = gzoo.match(a, b, radius_arcsec=2, out=tmp_path / "t.csv")
    assert found.n_a == {"matched": 1, "ambiguous": 1, "outside radius": 2, "no position": 1}
    assert found.n_b == {"matched": 1, "ambiguous": 3, "outside radius": 1, "no position": 0}
    table = pl.read_csv(tmp_path / "t.csv")
    for side, n in (("a", 5), ("b", 5)):
        assert sorted(table[f"{side}_row"].drop_nulls()) == list(range(n))
    pair = table.filter(pl.col("fate") == "matched").row(0, named=True)
    assert (pair["a_id_str"], pair["b_id_str"], pair["n_near"]) == (1, "p", 2)
    assert pair["separation_arcsec"] == pytest.approx(0.5)
    assert pair["next_separation_arcsec"] == pytest.approx(1)
    with pytest.raises(OutputExistsError, match="finished table of matches"):
        gzoo.match(a, b, out=tmp_path / "t.csv")
    with pytest.raises(InputError, match="is also an input"):
        gzoo.match(a, b, out=a, overwrite=True)
    assert gzoo.match(a, b, out=tmp_path / "t.csv", overwrite=True).table.height == table.height


def test_datasets_catalogues_and_tables(dataset: Path, tmp_path: Path) -> None:
    made = gzoo.catalog(None, dataset, out=tmp_path / "c.fits", questions=["bar-gz2"])
    n = made.n_galaxies
    found = gzoo.match(dataset, made.path)
    assert found.n_a["matched"] == found.n_b["matched"] == n
    assert found.median_offset_arcsec == (0, 0)
    assert found.expected_chance_matches < 1
    table = found.to_polars()
    assert table["a_id_str"].equals(table["b_id_str"], check_names=False)
    found = gzoo.match(dataset, made.path, by_identifier=True)
    assert found.n_by_identifier == n


def test_a_shift_and_a_crowd_are_warned_of(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(100, 101, 400), rng.uniform(0, 1, 400)
    a = write(tmp_path / "a.csv", ra=ra.tolist(), dec=dec.tolist())
    b = write(tmp_path / "b.csv", ra=(ra + 1 / 3600).tolist(), dec=dec.tolist())
    with pytest.warns(GZooWarning, match=r"shifted by 1\.00 arcsec"):
        found = gzoo.match(a, b)
    assert found.median_offset_arcsec[0] == pytest.approx(1, abs=0.01)
    expected = 400 * (1 - np.exp(-400 * np.pi * 60**2 / 3600**2))
    crowd = tmp_path / "crowd.csv"
    write(crowd, ra=rng.uniform(100, 101, 400).tolist(), dec=rng.uniform(0, 1, 400).tolist())
    with pytest.warns(GZooWarning, match="expected by chance"):
        found = gzoo.match(a, crowd, radius_arcsec=60)
    assert found.expected_chance_matches == pytest.approx(expected, rel=0.2)


def test_units_are_read_and_wrong_input_is_named(tmp_path: Path) -> None:
    a = write(tmp_path / "a.csv", ra=[10.0, 200.0], dec=[-5.0, 45.0])
    hours = write(tmp_path / "hours.csv", alpha=[10.0 / 15, 200.0 / 15], dec=[-5.0, 45.0])
    mapping = tmp_path / "m.toml"
    mapping.write_text('ra = "alpha"\ndec = "dec"\nunit = "hourangle"\n')
    assert gzoo.match(a, hours, mapping_b=mapping).n_a["matched"] == 2
    with pytest.raises(TableError, match="no column of positions called ra"):
        gzoo.match(a, hours)
    mapping.write_text('ra = "beta"\ndec = "dec"\n')
    with pytest.raises(TableError, match="Column 'beta' not found"):
        gzoo.match(a, hours, mapping_b=mapping)
    mapping.write_text('ra = "alpha"\ndec = "dec"\nunit = "parsec"\n')
    with pytest.raises(TableError, match="not a unit of angles"):
        gzoo.match(a, hours, mapping_b=mapping)
    for radius in (0, -1, float("nan"), 1e9):
        with pytest.raises(InputError, match="match radius"):
            gzoo.match(a, a, radius_arcsec=radius)
    with pytest.raises(NotFoundError, match=r"none\.csv"):
        gzoo.match(a, tmp_path / "none.csv")
    with pytest.raises(TableError, match="no column of identifiers"):
        gzoo.match(a, a, by_identifier=True)


def test_identifiers_that_are_not_unique_are_matched_by_position(tmp_path: Path) -> None:
    a = write(tmp_path / "a.csv", id_str=["1", "1", "2"], ra=[10.0, 20, 30], dec=[0.0, 0, 0])
    b = write(tmp_path / "b.csv", id_str=["1", "2", "3"], ra=[10.0, 60, 20], dec=[0.0, 0, 0])
    with pytest.warns(GZooWarning) as caught:
        found = gzoo.match(a, b, by_identifier=True)
    said = " ".join(str(one.message) for one in caught)
    assert "2 rows of the first table share their identifier" in said
    assert "1 pairs with one identifier are over 2 arcsec apart" in said
    assert found.n_a == {"matched": 3, "ambiguous": 0, "outside radius": 0, "no position": 0}
    assert found.n_by_identifier == 1
