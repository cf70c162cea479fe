"""Positions in every disguise are read as they were meant, or a warning or an error names what is doubtful."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gzoo import sky
from gzoo.errors import TableError
from gzoo.sky.footprints import Footprint, compared_footprints
from gzoo.sky.positions import Positions, read_positions

Numbers = npt.NDArray[np.float64]


def galaxies(n: int = 400, seed: int = 0) -> tuple[Numbers, Numbers]:
    rng = np.random.default_rng(seed)
    return rng.uniform(110, 260, n), np.degrees(np.arcsin(rng.uniform(-0.2, 0.9, n)))


def read(ra: Any, dec: Any, **settings: Any) -> Positions:
    return read_positions(ra, dec, source="'t.csv'", **settings)


def hours(ra: Numbers, separators: str = "::") -> list[str]:
    return [sexagesimal(one / 15, separators) for one in ra]


def sexagesimal(value: float, separators: str = "::", sign: str = "") -> str:
    seconds = round(abs(value) * 3600 * 1e4)
    whole, rest = divmod(seconds, 3600 * 10**4)
    minutes, rest = divmod(rest, 60 * 10**4)
    end = {"hm": "s", "dm": "s"}.get(separators, "")
    sign = "-" if value < 0 else sign
    return f"{sign}{whole:02d}{separators[0]}{minutes:02d}{separators[1]}{rest / 1e4:07.4f}{end}"


def angles(dec: Numbers, separators: str = "::") -> list[str]:
    return [sexagesimal(one, separators, "+") for one in dec]


RA, DEC = galaxies()
NAN = np.nan


@pytest.mark.parametrize(
    ("ra", "dec", "how"),
    [
        (RA, DEC, {}),
        (np.where(RA > 180, RA - 360, RA), DEC, {}),
        ([str(one) for one in RA], [f" {one} " for one in DEC], {}),
        (np.radians(RA), np.radians(DEC), {"unit": "rad"}),
        (np.radians(RA), np.radians(DEC), {"file_units": ("rad", "rad")}),
        (np.radians(RA), DEC, {"file_units": ("Radian", "deg")}),
        (RA / 15, DEC, {"unit": "hourangle"}),
        (RA / 15, DEC, {"file_units": ("hourangle", "deg")}),
        (RA / 15, DEC, {"file_units": ("h", "Degrees")}),
        (RA / 15, DEC / 15, {"file_units": ("hourangle", "hourangle")}),
        (RA * 60, DEC * 60, {"unit": "arcmin"}),
        (RA * 3600, DEC * 3600, {"file_units": ("arcsec", "arcsec")}),
        (RA, DEC * 3600, {"file_units": ("deg", "arcsec")}),
        (RA, DEC, {"unit": "deg", "file_units": ("rad", "rad")}),
        (RA * 1000, DEC * 1000, {"file_units": ("0.001deg", "0.001 deg")}),
        (hours(RA), angles(DEC), {}),
        (hours(RA, "  "), angles(DEC, "  "), {}),
        (hours(RA, "hm"), angles(DEC, "dm"), {}),
        (hours(RA), DEC, {}),
        (hours(RA), angles(DEC), {"file_units": ('"h:m:s"', '"d:m:s"')}),
        (hours(RA), angles(DEC), {"unit": "hourangle"}),
        (angles(RA), angles(DEC), {"unit": "deg"}),
        ([f"{one / 15}h" for one in RA], [f"{one} deg" for one in DEC], {}),
        ([one.replace("-", "\N{MINUS SIGN}") for one in hours(RA)], angles(DEC), {}),
    ],
)  # fmt: skip
def test_a_told_or_unambiguous_position_is_read_without_a_warning(ra: Any, dec: Any, how: dict[str, Any]) -> None:
    found = read(ra, dec, **how)
    assert sky.separation_arcsec(found.ra, found.dec, RA, DEC).max() < 2e-3
    assert (found.ra >= 0).all()
    assert (found.warnings, dict(found.n_missing), found.is_bad.any()) == ((), {}, False)


@pytest.mark.parametrize(
    ("ra", "dec", "says"),
    [
        (np.radians(RA), np.radians(DEC), "would also fit radians or hours"),
        (np.radians(RA - 180), np.radians(DEC), "would also fit radians, but"),
        (RA / 15, DEC, "would also fit hours"),
        ((RA - 180) / 15, DEC, "would also fit hours"),
        (DEC, RA, "'ra' and 'dec' are exchanged"),
        (DEC, np.where(RA > 180, RA - 360, RA), "'ra' and 'dec' are exchanged"),
        (angles(DEC), hours(RA), "'ra' and 'dec' are exchanged"),
        (np.linspace(-30, 60, 400), np.linspace(10, 20, 400), "'ra' and 'dec' may be exchanged"),
        (RA.astype(np.float32), DEC.astype(np.float32), "float32 numbers, rounded by up to 0.055 arcsec"),
        (RA.astype(np.float32).astype(float), DEC.astype(np.float32).astype(float), "float32 numbers"),
        (RA.astype(np.float16).astype(float), DEC.astype(np.float16).astype(float), "float16 numbers"),
        (RA.round(2), DEC.round(2), "rounded to 2 decimals, by up to 18 arcsec"),
        (np.full(400, 34.5), DEC, "all 400 positions have the same ra"),
        (np.full(400, 34.5), np.full(400, -5.2), "all 400 positions are the same: ra 34.50000, dec -5.20000"),
        (RA, np.where(np.arange(400) % 3 == 0, 0, DEC), "'dec' is 0 in 134 of 400 rows"),
        (np.where(np.arange(400) % 2, 34.51237, 150.31), np.where(np.arange(400) % 2, -5.2, 2.1), "only 2 different"),
        ([*hours(RA[:200]), *map(str, RA[200:])], DEC, "200 sexagesimal values and 200 numbers"),
    ],
)  # fmt: skip
def test_a_doubtful_position_is_warned_of(ra: Any, dec: Any, says: str) -> None:
    found = read(ra, dec)
    assert len(found.warnings) == 1
    assert says in found.warnings[0]
    assert found.warnings[0].startswith("'t.csv'")
    if "are exchanged" in says or "float32" in says or "sexagesimal" in says:
        assert sky.separation_arcsec(found.ra, found.dec, RA, DEC).max() < 0.1


def test_stripe_82_is_not_refused() -> None:
    """A real footprint: ra from -50 to 59, |dec| < 1.26; a field of it has ranges like radians."""
    rng = np.random.default_rng(0)
    ra, dec = rng.uniform(-50, 59, 400), rng.uniform(-1.26, 1.26, 400)
    assert read(ra, dec).warnings == ()
    field = (ra > 0) & (ra < 6)
    found = read(ra[field], dec[field])
    assert found.ra.tolist() == ra[field].tolist()
    assert len(found.warnings) == 1


@pytest.mark.parametrize(
    ("ra", "dec", "cause"),
    [
        (-99.0, -99.0, "ra -99, dec -99"),
        (-999.0, -999.0, "ra -999, dec -999"),
        (999.0, 999.0, "ra 999, dec 999"),
        (-9999.0, -9999.0, "ra -9999, dec -9999"),
        (99.99, 99.99, "ra 99.99, dec 99.99"),
        (-99.0, 10.0, "ra -99, dec 10"),
        (120.0, -99.0, "ra 120, dec -99"),
        (0.0, 0.0, "ra 0, dec 0"),
        (-1.0, -1.0, "ra -1, dec -1"),
        (180.0, 0.0, "ra 180, dec 0"),
        (1e20, 1e20, "ra 100000000000000000000.0, dec 100000000000000000000.0"),
        (-32768.0, -32768.0, "ra -32768, dec -32768"),
        (NAN, NAN, "empty"),
        (120.0, NAN, "empty"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("as_text", [False, True])
def test_placeholders_are_missing_positions(ra: float, dec: float, cause: str, as_text: bool) -> None:
    both = np.concatenate([RA, np.full(40, ra)]), np.concatenate([DEC, np.full(40, dec)])
    found = read(*([[str(cell) for cell in one] for one in both] if as_text else both))
    assert found.is_known.tolist() == [True] * 400 + [False] * 40
    assert list(found.n_missing.values()) == [40]
    assert not found.is_bad.any(), "a placeholder is no position that cannot be used"
    if cause == "empty":
        assert (found.warnings, set(found.n_missing)) == ((), {"empty"})
    else:
        assert len(found.warnings) == 1
        assert "placeholders in place of 40 positions count as missing" in found.warnings[0]
        if "100000" not in cause:
            assert set(found.n_missing) == {cause}


@pytest.mark.parametrize("cell", ["", " ", "nan", "NA", "null", "None", "--", None])
def test_words_for_nothing_are_missing(cell: str | None) -> None:
    found = read(pl.Series([*map(str, RA), cell]), pl.Series([*map(str, DEC), cell]))
    assert dict(found.n_missing) == {"empty": 1}


def test_a_galaxy_at_ra_minus_99_is_kept_where_others_are_negative() -> None:
    ra = np.where(RA > 180, RA - 360, RA)
    found = read([*ra, -99.0, 0.0], [*DEC, 20.0, 0.0])
    assert found.is_known.all()
    assert found.ra[400:].tolist() == [261.0, 0.0]


def test_galaxies_that_occur_many_times_are_no_placeholders() -> None:
    """Artificially redshifted galaxies: each position occurs 23 times, and one 27 times."""
    ra, dec = (np.concatenate([np.repeat(one[:40], 23), np.repeat(one[:1], 4)]) for one in (RA, DEC))
    found = read(ra, dec)
    assert found.is_known.all()
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("ra", "dec", "reason"),
    [("361", "0", "range"), ("10", "91", "range"), ("here", "0", "read"), ("10", "?", "read"), ("inf", "1", "read"),
     ("25:00:00", "0", "range"), ("12:61:00", "0", "read"), ("188,7", "1,0", "read")],
)  # fmt: skip
def test_more_than_a_tenth_that_cannot_be_used_stops(ra: str, dec: str, reason: str) -> None:
    def table(n: int) -> tuple[list[str], list[str]]:
        bad = [NAN] * 5  # empty ones do not count
        return [*map(str, RA[:90]), *[ra] * n, *map(str, bad)], [*map(str, DEC[:90]), *[dec] * n, *map(str, bad)]

    found = read(*table(1))
    assert found.is_known.sum() == 90
    assert found.is_out_of_range.sum() == (reason == "range")
    assert found.is_unreadable.sum() == (reason == "read")
    assert f"1 of 91 positions cannot be read or are out of range (first: row 91, ra = '{ra}'" in found.warnings[0]
    both = table(11)
    if reason == "range":  # one impossible value over and over would be a placeholder
        both = [str(400 + i) if one == ra else one for i, one in enumerate(both[0])], both[1]
        both = both[0], [str(400 + i) if one == "91" else one for i, one in enumerate(both[1])]
    with pytest.raises(TableError, match=r"11 of 101 positions cannot be read .* row 91, ra = "):
        read(*both)
    assert read(*both, allow_bad=True).is_known.sum() == 90


@pytest.mark.parametrize(
    ("ra", "dec", "how", "hint"),
    [
        (RA * 60, DEC * 60, {}, 'unit = "arcmin"'),
        (RA * 3600, DEC * 3600, {}, 'unit = "arcsec"'),
        (RA, DEC, {"file_units": ("rad", "rad")}, 'unit = "deg"'),
        (angles(RA), angles(DEC), {}, 'unit = "deg"'),
        (RA, DEC, {"file_units": ("pix", "pix")}, 'unit = "deg"'),
        (RA, DEC, {"unit": "furlong"}, 'unit = "deg"'),
    ],
)
def test_a_wrong_unit_stops_with_the_line_to_write(ra: Any, dec: Any, how: dict[str, Any], hint: str) -> None:
    with pytest.raises(TableError) as caught:
        read(ra, dec, **how)
    assert hint in caught.value.hint


def test_a_wrong_unit_that_puts_all_galaxies_together_is_warned_of() -> None:
    said = read(RA / 100, DEC / 100, file_units=("mas", "mas")).warnings
    assert len(said) == 1
    assert "all 400 positions are within 5 arcsec of each other" in said[0]


def test_hints_name_no_unit_that_cannot_be_meant() -> None:
    packed = [one.replace(":", "") for one in hours(RA)], [one.replace(":", "") for one in angles(DEC)]
    with pytest.raises(TableError) as caught:
        read(*packed)
    assert "unit =" not in caught.value.hint
    with pytest.raises(TableError) as caught:
        read([f"{one:.5f}".replace(".", ",") for one in RA], [f"{one:.5f}".replace(".", ",") for one in DEC])
    assert caught.value.hint.startswith("Write numbers with a decimal point.")


def test_vectors_and_truth_values_are_not_positions() -> None:
    for column in (pl.Series([[1.0, 2.0]] * 20), pl.Series([True] * 20)):
        with pytest.raises(TableError, match="20 of 20 positions"):
            read(column, DEC[:20])


@given(
    st.lists(st.one_of(st.text(max_size=12), st.floats(width=32).map(str), st.just("12:34:56.7")), min_size=1),
    st.data(),
)
@settings(max_examples=60, deadline=None)
def test_whatever_is_written_is_known_missing_or_bad(cells: list[str], data: st.DataObject) -> None:
    others = data.draw(st.permutations(cells))
    found = read(pl.Series(cells, dtype=pl.String), pl.Series(others, dtype=pl.String), allow_bad=True)
    known = found.is_known
    assert known.sum() + found.is_bad.sum() + sum(found.n_missing.values()) == len(cells)
    assert not (known & found.is_bad).any()
    assert (np.isnan(found.ra) == np.isnan(found.dec)).all()
    assert sky.is_position(found.ra[known], found.dec[known]).all()
    assert (found.ra[known] >= 0).all()


def test_the_gate_is_vectorised() -> None:
    """A million positions take about a second; as many Python objects would take far longer."""
    ra, dec = galaxies(200_000)
    start = time.perf_counter()
    found = read(ra, dec)
    of_gate = time.perf_counter() - start
    assert found.is_known.all()
    for one in ra.tolist():
        sexagesimal(one)
    assert of_gate < 2 * (time.perf_counter() - start - of_gate)


# --- footprints ---------------------------------------------------------------------------------------------------


def footprints(ra: Numbers, dec: Numbers) -> tuple[str, ...]:
    return compared_footprints([Footprint("one", RA, DEC), Footprint("other", ra, dec)])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda ra, dec: (ra, dec), ""),
        (lambda ra, dec: (ra[:0], dec[:0]), ""),
        (lambda ra, dec: (np.full(400, NAN), dec), ""),
        (lambda ra, dec: (np.radians(ra), np.radians(dec)), "positions of 'one' if they were in radians"),
        (lambda ra, dec: (ra / 15, dec), "positions of 'one' if ra were in hours"),
        (lambda ra, dec: ((ra + 180) % 360, -dec), "nowhere near each other"),
        (lambda ra, dec: (np.repeat(ra[:390], 2), np.repeat(dec[:390], 2)), "780 of 780 positions of 'other'"),
    ],
)  # fmt: skip
def test_datasets_that_cannot_be_compared_are_warned_of(
    change: Callable[[Numbers, Numbers], tuple[Numbers, Numbers]], says: str
) -> None:
    found = footprints(*change(RA, DEC))
    assert len(found) == bool(says)
    assert says in "".join(found)


def test_exchanged_columns_that_no_range_betrays_are_found_by_their_matches() -> None:
    ra, dec = np.random.default_rng(1).uniform(10, 60, (2, 400))
    one = Footprint("one", ra, dec)
    (says,) = compared_footprints([one, Footprint("other", dec, ra)])
    assert "400 positions of" in says
    assert "if ra and dec were exchanged" in says
