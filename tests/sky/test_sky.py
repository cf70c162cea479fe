"""Splits depend on position alone and never separate one galaxy; matching finds the same pairs as brute force."""

from __future__ import annotations

import math
from pathlib import Path
from random import Random

import hpgeom
import mpmath
import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gzoo
from gzoo import sky
from gzoo.errors import InputError

Numbers = npt.NDArray[np.float64]
ARCSEC = math.pi / 180 / 3600
SEED = 0x3244ACA613D5F40B  # the first eight bytes of the SHA-256 of "gzoo-1"
SPLITS_OF_SCHEME = {"train", "validation", "test"}

# Results of `slow_split` below, an independent implementation of the scheme.
GOLDEN = """
0.0000000 0.0000000 border
360.0000000 0.0000000 border
-180.0000000 10.0000000 test
0.0000000 90.0000000 border
77.0000000 90.0000000 border
0.0000000 -90.0000000 border
45.0000000 41.8103000 train
359.9999900 -60.0000000 train
0.0000100 85.0000000 train
150.1000000 2.2000000 train
53.1000000 -27.8000000 validation
214.9000000 52.8000000 train
34.4000000 -5.2000000 border
239.0524991 89.9658979 train
239.7245639 -89.8742867 test
178.6791926 89.9779980 train
125.9710634 89.8515162 test
207.9713857 89.8169314 train
167.0558435 -89.9080659 test
250.0763763 -89.8964061 border
181.6217234 -89.9887694 border
295.4044187 -89.8397801 validation
91.2437864 -89.9770977 border
177.3016507 -89.9992109 border
120.3563543 -89.9657362 border
270.0710604 -61.1654510 train
359.9890463 11.3486630 test
0.0557974 52.3203134 train
180.1097772 -71.0909863 border
359.9791044 37.6030317 train
0.0001207 -38.2533504 border
270.0586035 -54.4842212 border
90.0212009 -21.6932356 test
180.0002195 73.0688686 border
90.0722642 61.8735461 border
179.9892443 29.5586275 test
0.0219926 34.9082872 validation
179.9992828 -16.5968942 validation
179.9891393 12.8077429 validation
340.6860867 -14.9114471 train
41.3735448 -54.8920236 test
28.5749660 13.8136502 validation
69.0269580 -5.2112784 train
79.4090183 -8.2542877 train
172.6396694 3.2570346 test
94.7130011 -41.1010342 border
61.4235169 -77.6749298 border
173.1684201 -59.8431951 test
257.8955552 71.5781346 border
91.6364263 4.7716988 border
203.5764480 28.3337409 validation
203.6014051 70.3045574 border
349.9364917 -24.6453901 validation
"""

seeds = st.integers(0, 2**32 - 1)
places = st.one_of(
    st.tuples(st.floats(-180, 360), st.floats(-1, 1).map(lambda z: math.degrees(math.asin(z)))),
    st.tuples(st.floats(0, 360), st.floats(89.9, 90)),
    st.tuples(st.floats(0, 360), st.floats(-90, -89.999)),
    st.tuples(st.sampled_from([0.0, 90.0, 180.0, 270.0, 360.0, -90.0]), st.floats(-90, 90)),  # edges of base cells
    st.sampled_from([(0.0, 0.0), (77.0, 90.0), (-180.0, -90.0), (45.0, 41.8103148957786)]),  # corners of base cells
)


def slow_split_of_cell(z: mpmath.mpf, longitude: mpmath.mpf) -> str:
    """Return the split of the cell that holds a point: HEALPix as Gorski et al. (2005) define it, and SplitMix64."""
    nside = 2048
    turn = longitude / (mpmath.pi / 2) % 4
    if abs(z) <= mpmath.mpf(2) / 3:
        i = int(mpmath.floor(nside * (turn + 0.5 - 0.75 * z)))
        j = int(mpmath.floor(nside * (turn + 0.5 + 0.75 * z)))
        one, other = i // nside, j // nside
        base = one % 4 + 4 if one == other else one % 4 if one < other else other % 4 + 8
        x, y = j % nside, nside - 1 - i % nside
    else:
        quarter = min(3, int(mpmath.floor(turn)))
        far = nside * mpmath.sqrt(3 * (1 - abs(z)))
        i = min(nside - 1, int(mpmath.floor((turn - quarter) * far)))
        j = min(nside - 1, int(mpmath.floor((1 - turn + quarter) * far)))
        base, x, y = (quarter, nside - 1 - j, nside - 1 - i) if z > 0 else (quarter + 8, i, j)
    bits = range(11)
    cell = base * nside**2 + sum((x >> bit & 1) << 2 * bit | (y >> bit & 1) << 2 * bit + 1 for bit in bits)
    mixed = (SEED + (cell + 1) * 0x9E3779B97F4A7C15) % 2**64
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB % 2**64
    percent = ((mixed ^ mixed >> 31) >> 32) * 100 >> 32
    return "train" if percent < 70 else "validation" if percent < 80 else "test"


def slow_split(ra: float, dec: float, margin_arcsec: float = 1.5) -> str:
    """The scheme's three rules with 40 digits and spherical trigonometry, one position at a time."""
    with mpmath.workdps(40):
        longitude = mpmath.radians(mpmath.mpf(ra) if abs(dec) < 90 else 0)
        latitude, margin = mpmath.radians(mpmath.mpf(dec)), mpmath.radians(mpmath.mpf(margin_arcsec) / 3600)
        own = slow_split_of_cell(mpmath.sin(latitude), longitude)
        for k in range(16):
            angle = k * mpmath.pi / 8
            z = mpmath.sin(latitude) * mpmath.cos(margin)
            z += mpmath.cos(latitude) * mpmath.sin(margin) * mpmath.cos(angle)
            turned = mpmath.atan2(
                mpmath.sin(angle) * mpmath.sin(margin) * mpmath.cos(latitude),
                mpmath.cos(margin) - mpmath.sin(latitude) * z,
            )
            if slow_split_of_cell(z, longitude + turned) != own:
                return "border"
        return own


def beside(ra: Numbers, dec: Numbers, angle: Numbers | float, arcsec: Numbers | float) -> tuple[Numbers, Numbers]:
    """Return positions offset from others by an angle, at a position angle in radians."""
    longitude, latitude = np.radians(ra), np.radians(dec)
    near, north, east = np.cos(arcsec * ARCSEC), np.cos(angle), np.sin(angle)
    away = np.sin(arcsec * ARCSEC)
    outward = near * np.cos(latitude) - away * north * np.sin(latitude)
    x = outward * np.cos(longitude) - away * east * np.sin(longitude)
    y = outward * np.sin(longitude) + away * east * np.cos(longitude)
    z = near * np.sin(latitude) + away * north * np.cos(latitude)
    return np.degrees(np.arctan2(y, x)) % 360, np.degrees(np.arctan2(z, np.hypot(x, y)))


def near_borders(rng: np.random.Generator, n: int, nside: int = 2048) -> tuple[Numbers, Numbers]:
    """Positions within 4 arcsec of corners and edges of cells: anywhere, about the poles, along edges of base cells."""
    dec = np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    ra = rng.uniform(0, 360, n)
    pole, edge = np.arange(n) < n // 6, (np.arange(n) >= n // 6) & (np.arange(n) < n // 2)
    dec[pole] = rng.choice([-1, 1], pole.sum()) * (90 - rng.uniform(0, 0.2, pole.sum()))
    ra[edge] = rng.integers(0, 4, edge.sum()) * 90.0
    step = 2  # corners and middles of edges
    cells = hpgeom.angle_to_pixel(nside, ra, dec)
    ra, dec = (one[np.arange(n), rng.integers(0, 4 * step, n)] for one in hpgeom.boundaries(nside, cells, step=step))
    return beside(ra, dec, rng.uniform(0, 2 * np.pi, n), rng.uniform(0, 4, n))


def test_the_recorded_positions_keep_their_splits() -> None:
    rows = [line.split() for line in GOLDEN.split("\n") if line]
    found_splits = sky.split([float(row[0]) for row in rows], [float(row[1]) for row in rows])
    assert found_splits.tolist() == [row[2] for row in rows]
    assert {row[2] for row in rows} == {*SPLITS_OF_SCHEME, "border"}


@given(places)
@settings(max_examples=200, deadline=None)
def test_splits_agree_with_the_independent_implementation(place: tuple[float, float]) -> None:
    found_splits = str(sky.split([place[0]], [place[1]])[0])
    # within a hair of the margin the last digits of a float decide, and either is right
    slow = {slow_split(*place, margin) for margin in (1.5, 1.5 - 1e-6, 1.5 + 1e-6)}
    assert found_splits in slow


def test_splits_agree_with_the_independent_implementation_near_borders() -> None:
    ra, dec = near_borders(np.random.default_rng(5), 600)
    found_splits = sky.split(ra, dec)
    slow = [slow_split(*place) for place in zip(ra.tolist(), dec.tolist(), strict=True)]
    assert found_splits.tolist() == slow
    assert 50 < slow.count("border") < 300


@pytest.mark.parametrize(
    ("nside", "margin_arcsec"),
    [
        (2048, 1.5),
        (16, 1.5),
        *(
            pytest.param(*one, marks=pytest.mark.slow)
            for one in [(2048, 1.449), (2048, 2.898), (1024, 4.0), (4096, 1.0)]
        ),
    ],
)
def test_the_shortcut_near_cell_edges_misses_no_border(nside: int, margin_arcsec: float) -> None:
    """Against all 16 points around every position; 1.449 is where sub-cells are only just wide enough."""
    scheme = sky.Scheme("mine", (60, 20, 20), nside, margin_arcsec)
    rng = np.random.default_rng(1)
    ra, dec = (
        np.concatenate(pair) for pair in zip(near_borders(rng, 60_000, nside), near_base_edges(rng), strict=True)
    )
    own = scheme.assign(sky.cells(ra, dec, nside=nside))
    is_border = np.zeros(len(ra), bool)
    for angle in np.arange(16) * np.pi / 8:
        is_border |= scheme.assign(sky.cells(*beside(ra, dec, angle, margin_arcsec), nside=nside)) != own
    whole = np.where(is_border, "border", np.array(sky.SPLITS)[own])
    differ = np.flatnonzero(sky.split(ra, dec, scheme) != whole)
    assert len(differ) == 0, list(zip(ra[differ[:5]], dec[differ[:5]], strict=True))
    assert is_border.mean() > 0.01


def near_base_edges(rng: np.random.Generator) -> tuple[Numbers, Numbers]:
    """Where cells are narrowest: along the meridians in the caps where base cells meet."""
    n = 400_000
    dec = rng.choice([-1, 1], n) * (90 - 48 * rng.uniform(0, 1, n) ** 2)
    ra = rng.integers(0, 4, n) * 90 + rng.normal(0, 0.02, n) / np.maximum(np.cos(np.radians(dec)), 0.01)
    return ra % 360, dec


def n_in_two_splits(scheme: sky.Scheme, rng: np.random.Generator, n: int) -> int:
    ra, dec = near_borders(rng, n, scheme.nside)
    other = beside(ra, dec, rng.uniform(0, 2 * np.pi, n), 2.7 * np.sqrt(rng.uniform(0, 1, n)))
    one, two = sky.split(ra, dec, scheme), sky.split(*other, scheme)
    return int(np.count_nonzero((one != two) & (one != "border") & (two != "border")))


@given(seeds)
@settings(max_examples=10, deadline=None)
def test_positions_up_to_2_7_arcsec_apart_are_never_in_two_splits(seed: int) -> None:
    assert n_in_two_splits(sky.SCHEME, np.random.default_rng(seed), 100_000) == 0


def test_a_thinner_margin_would_separate_galaxies() -> None:
    """The test above is able to fail."""
    thin = sky.Scheme("thin", (70, 10, 20), 2048, 1.2)
    assert n_in_two_splits(thin, np.random.default_rng(0), 300_000) > 0


@given(st.lists(places, max_size=30), st.lists(places, max_size=30), st.randoms())
@settings(max_examples=60, deadline=None)
def test_adding_rows_never_moves_a_row(
    old: list[tuple[float, float]], new: list[tuple[float, float]], random: Random
) -> None:
    alone = [str(sky.split([ra], [dec])[0]) for ra, dec in old]
    together = list(enumerate(old + new))
    random.shuffle(together)
    found_splits = sky.split([place[0] for _, place in together], [place[1] for _, place in together])
    found = {i: str(one) for (i, _), one in zip(together, found_splits, strict=True)}
    assert [found[i] for i in range(len(old))] == alone


def test_chunks_do_not_change_the_splits() -> None:
    rng = np.random.default_rng(2)
    n = 600_000
    ra, dec = rng.uniform(-180, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    found_splits = sky.split(ra, dec)
    assert (found_splits[::-1][:1000] == sky.split(ra[::-1][:1000], dec[::-1][:1000])).all()
    fractions = {name: float((found_splits == name).mean()) for name in (*sky.SPLITS, "border")}
    assert fractions["border"] < 0.03
    for name, fraction in zip(sky.SPLITS, sky.SCHEME.split_fractions, strict=True):
        assert abs(fractions[name] / (1 - fractions["border"]) - fraction / 100) < 0.01, name


@given(st.integers(-180 * 2**20, 0), st.floats(-90, 90))
def test_ra_may_be_spelled_either_way(ra: int, dec: float) -> None:
    west, east = ra / 2**20, ra / 2**20 + 360
    assert sky.split([west], [dec]) == sky.split([east], [dec])
    assert sky.cells([west], [dec]) == sky.cells([east], [dec])


@given(st.floats(-180, 360), st.sampled_from([-90.0, 90.0]))
def test_a_pole_is_one_position(ra: float, dec: float) -> None:
    assert sky.split([ra], [dec]) == sky.split([0.0], [dec])
    assert sky.separation_arcsec([ra], [dec], [0.0], [dec])[0] < 1e-9


def test_another_rule_needs_another_name() -> None:
    with pytest.raises(InputError, match="'gzoo-1' belongs to another scheme"):
        sky.Scheme("gzoo-1", (80, 10, 10), 2048, 1.5)
    for fractions, nside, margin, message in (
        ((70, 10, 10), 2048, 1.5, "add up to 100"),
        ((70, 10, 20), 2000, 1.5, "must be a power of two"),
        ((70, 10, 20), 2048, 20.0, "at most an eighth of the cell"),
    ):
        with pytest.raises(InputError, match=message):
            sky.Scheme("mine", fractions, nside, margin)
    assert not (gzoo.sky.split([10.0] * 50, range(50)) == gzoo.sky.split([10.0] * 50, range(50), OTHER)).all()


OTHER = sky.Scheme("other", (70, 10, 20), 2048, 1.5)


@pytest.mark.parametrize(
    ("ra", "dec", "message"),
    [
        ([1.0, math.nan], [1.0, 1.0], r"Position 1 is out of range: ra nan, dec 1 .*1 of 2"),
        ([360.1], [0.0], "ra from -180 to 360"),
        ([-180.1], [0.0], "ra from -180 to 360"),
        ([0.0], [90.1], "dec from -90 to 90"),
        ([math.inf], [0.0], "is out of range"),
        ([1.0, 2.0], [1.0], "two arrays of the same length"),
    ],
)
def test_invalid_positions_are_rejected(ra: list[float], dec: list[float], message: str) -> None:
    for function in (sky.split, sky.cells, sky.same_galaxies):
        with pytest.raises(InputError, match=message):
            function(ra, dec)


def test_empty_arrays_are_accepted() -> None:
    assert sky.split([], []).tolist() == sky.cells([], []).tolist() == []
    assert len(sky.same_galaxies([], [])) == 0


@given(places, st.integers(0, 10))
def test_cells_lie_in_larger_cells(place: tuple[float, float], order: int) -> None:
    small, large = (sky.cells([place[0]], [place[1]], nside=2**one)[0] for one in (order + 1, order))
    assert small >> 2 == large


@given(places, places)
@settings(deadline=None)
def test_separation_is_right_to_a_billionth_of_an_arcsec(one: tuple[float, float], other: tuple[float, float]) -> None:
    with mpmath.workdps(60):
        (a, b), (c, d) = (tuple(mpmath.radians(mpmath.mpf(x)) for x in place) for place in (one, other))
        cosine = mpmath.sin(b) * mpmath.sin(d) + mpmath.cos(b) * mpmath.cos(d) * mpmath.cos(a - c)
        exact = float(mpmath.degrees(mpmath.acos(max(-1, min(1, cosine)))) * 3600)
    found_splits = float(sky.separation_arcsec([one[0]], [one[1]], [other[0]], [other[1]])[0])
    assert found_splits == pytest.approx(exact, abs=1e-9, rel=1e-14)


@given(seeds, st.sampled_from([0.5, 2.0, 60.0]), st.sampled_from([(0.0, 0.0), (0.0, 90.0), (359.9999, -89.9999)]))
@settings(max_examples=60, deadline=None)
def test_matching_finds_what_brute_force_finds(seed: int, radius_arcsec: float, centre: tuple[float, float]) -> None:
    rng = np.random.default_rng(seed)
    n = 60
    ra, dec = beside(
        np.full(n, centre[0]), np.full(n, centre[1]), rng.uniform(0, 7, n), 5 * radius_arcsec * rng.uniform(0, 1, n)
    )
    ra[:5], dec[:5] = ra[5:10], dec[5:10]  # identical positions
    first, second = np.triu_indices(n, 1)
    apart = sky.separation_arcsec(ra[first], dec[first], ra[second], dec[second])
    is_near = apart <= radius_arcsec
    found = sky.same_galaxies(ra, dec, radius_arcsec=radius_arcsec)
    assert list(zip(found.first, found.second, strict=True)) == list(zip(first[is_near], second[is_near], strict=True))
    np.testing.assert_array_equal(found.separation_arcsec, apart[is_near])


def test_too_many_coincident_positions_are_rejected() -> None:
    with pytest.raises(InputError, match="12,000 positions are ra 5, dec 5"):
        sky.same_galaxies(np.full(12_000, 5.0), np.full(12_000, 5.0))
    for radius in (0.0, -1.0, 4000.0, math.nan):
        with pytest.raises(InputError, match="match radius is"):
            sky.same_galaxies([1.0], [1.0], radius_arcsec=radius)


def test_splits_of_real_galaxies_have_the_nominal_fractions(shared_data: Path) -> None:
    table = pl.read_csv(shared_data / "gz2_coadd" / "counts.csv", columns=["ra", "dec"])
    found_splits = sky.split(table["ra"].to_numpy(), table["dec"].to_numpy())
    assert (found_splits == "border").mean() < 0.03
    assert abs((found_splits == "test").mean() - 0.2) < 0.02
