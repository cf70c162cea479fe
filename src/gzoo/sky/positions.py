"""The one reader of positions: what any table says of places on the sky becomes degrees, or is named as doubtful.

Everything that takes positions reads them here: vote tables, exports, published datasets. The rules, in order:

1. *Units.* A unit that the user states counts before one that the file declares (FITS `TUNIT`, VOTable `unit`, ECSV);
   without any, numbers are degrees. Text such as `12:34:56.7` or `12h34m56.7s` is hours for ra and degrees for dec.
2. *Missing.* Empty cells, NaN, the usual placeholders (-99, -999, 999, ...) where they cannot be meant, 0, 0 in several
   rows, and any other position or impossible value that far too many rows share. They are counted, not errors.
3. *Exchanged columns* are put right where nothing else can be meant: dec reaches beyond 90, and ra does not.
4. *Range.* ra from -180 to 360 (wrapped to 0 to 360) and dec from -90 to 90. If more than a tenth of the rows that hold
   a position break this or cannot be read, the table is refused.
5. *Doubts.* Ranges that fit radians or hours, columns that may be exchanged, low precision, one constant position: a
   warning, never an error, because real surveys look like this (Stripe 82 has |dec| < 1.26).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import cast

import numpy as np
import numpy.typing as npt
import polars as pl

from gzoo.errors import TableError
from gzoo.sky.coordinates import BoolArray, FloatArray, chunks, is_position

MAX_BAD_FRACTION = 0.1
"""Of the rows that hold a position; with more that cannot be read or are out of range, the table is refused."""
MIN_ROWS = 10
"""Rows with a position from which on their range says something about the unit."""
MIN_ROWS_ROUNDED = 100
"""Rows from which on few decimals, or one right ascension or declination for all, are not an accident."""
MIN_SPREAD_ARCSEC = 5.0
"""A table whose positions are all closer together holds one position, or another unit."""
MAX_CONSTANT = 3
"""A table of many rows with so few different positions has constants in place of positions."""
MIN_REPEATED, MANY_TIMES = 10, 10
"""A position in so many rows, and so many times more than the median, is a placeholder."""
UNITS = {
    **dict.fromkeys(("deg", "degree", "degrees", "degs", "ddeg", "d", "\N{DEGREE SIGN}", "d:m:s", "dms"), 1.0),
    **dict.fromkeys(("rad", "radian", "radians", "rads"), 180 / np.pi),
    **dict.fromkeys(("hourangle", "hour", "hours", "hr", "hrs", "h", "h:m:s", "hms"), 15.0),
    **dict.fromkeys(("arcmin", "arcmins", "arcminute", "arcminutes", "amin"), 1 / 60),
    **dict.fromkeys(("arcsec", "arcsecs", "arcsecond", "arcseconds", "asec"), 1 / 3600),
    "mas": 1 / 3.6e6,
}
"""Degrees in a unit, by its names in lower case."""
_HOURS = 15.0
_WORDS = {"rad": "radians", "hourangle": "hours"}
_NO_UNIT = ("", "none", "null", "nan", "n/a", "-", "--", "---", "1", "unitless", "dimensionless")
_EMPTY = ("", "nan", "na", "n/a", "null", "none", "-", "--", "---", "...", "<na>")
_NINES = np.array(
    [sign * (10.0**n - 1) / 10.0**k for sign in (1, -1) for n in range(2, 8) for k in range(3) if n - k >= 2]
)
_SEXAGESIMAL = (
    r"^([+-]?)\s*(\d{1,3})\s*(h|:|\s|deg|d|\x{00b0})\s*(\d{1,2}(?:\.\d+)?)\s*(?:m|:|'|\x{2032}|\s|$)"
    r"\s*(?:(\d{1,2}(?:\.\d*)?)\s*(?:s|\"|''|\x{2033})?)?$"
)
_WITH_UNIT = r"^([+-]?\d+(?:\.\d*)?)\s*([a-z\x{00b0}]+)$"


@dataclass(frozen=True, slots=True)
class Positions:
    """Positions in degrees, and what was found on the way.

    Attributes:
        ra: Right ascension in degrees, 0 to 360; NaN where unknown, shape (row,).
        dec: Declination in degrees; NaN where unknown, shape (row,).
        is_unreadable: Rows whose position is not a number or angle, shape (row,).
        is_out_of_range: Rows whose position is not on the sky, shape (row,).
        n_missing: Cause -> number of rows without a position: "empty", or the placeholder, such as "ra -99, dec -99".
        units: Units that ra and dec were read in, "deg" by default.
        example: The first position that cannot be used, in words, or "".
        warnings: What is doubtful, one sentence each.
    """

    ra: FloatArray
    dec: FloatArray
    is_unreadable: BoolArray
    is_out_of_range: BoolArray
    n_missing: Mapping[str, int]
    units: tuple[str, str]
    example: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def is_bad(self) -> BoolArray:
        """Rows that hold a position which cannot be used, shape (row,)."""
        return self.is_unreadable | self.is_out_of_range

    @property
    def is_known(self) -> BoolArray:
        """Rows with a position, shape (row,)."""
        return ~np.isnan(self.ra)

    def to_dict(self) -> dict[str, object]:
        """Return the counts, units and warnings as a JSON object.

        n_rows, n_known: Number of rows, and of those with a position.
        n_unreadable, n_out_of_range: Number of rows whose position is not a number or angle, or not on the sky.
        """
        return {
            "n_rows": len(self.ra),
            "n_known": int(self.is_known.sum()),
            "n_missing": dict(self.n_missing),
            "n_unreadable": int(self.is_unreadable.sum()),
            "n_out_of_range": int(self.is_out_of_range.sum()),
            "units": list(self.units),
            "warnings": list(self.warnings),
        }


def read_positions(
    ra: pl.Series | npt.ArrayLike,
    dec: pl.Series | npt.ArrayLike,
    *,
    source: str,
    names: tuple[str, str] = ("ra", "dec"),
    unit: str = "",
    file_units: tuple[str, str] = ("", ""),
    allow_bad: bool = False,
    place: Callable[[int], str] = lambda i: f"row {i + 1}",
) -> Positions:
    """Return positions in degrees from two columns of numbers or text.

    Args:
        ra: Right ascensions, shape (row,): numbers, or text with numbers or sexagesimal angles.
        dec: Declinations, likewise.
        source: Where they come from, for messages: `'votes.csv'`.
        names: Names of the two columns, for messages.
        unit: Unit that the user states for both; with hours, dec is in degrees. "" for none.
        file_units: Units that the file declares for ra and dec; "" for none.
        allow_bad: Whether to go on with any number of positions that cannot be used.
        place: Function from the index of a row to its name in messages.

    Raises:
        TableError: A unit is not an angle; or more than a tenth of the rows that hold a position have one that cannot
            be read or is out of range, and `allow_bad` is False.

    >>> found = read_positions(["12:34:56.7", "-10", "0", "0"], ["-01:02:03", "20", "0", "0"], source="'a table'")
    >>> found.ra.round(5).tolist(), found.dec.round(5).tolist()
    ([188.73625, 350.0, nan, nan], [-1.03417, 20.0, nan, nan])
    >>> found.n_missing
    {'ra 0, dec 0': 2}
    """
    columns = tuple(one if isinstance(one, pl.Series) else pl.Series(np.asarray(one)) for one in (ra, dec))
    reader = _Reader(source, names, (columns[0], columns[1]), _factors(source, names, unit, file_units), unit, place)
    found = reader.read()
    n_bad, n_held = int(found.is_bad.sum()), int((found.is_bad | found.is_known).sum())
    if not n_bad:
        return found
    which = f"{n_bad:,} of {n_held:,} positions"
    if n_bad > MAX_BAD_FRACTION * n_held and not allow_bad:
        raise TableError(
            f"{source}: {which} cannot be read or are out of range (first: {found.example}).",
            "ra from -180 to 360 and dec from -90 to 90 degrees, or sexagesimal text, in at least 90% of the rows that "
            "hold a position.",
            reader.guess() + "Pass --allow-bad-positions to go on without these positions.",
        )
    return replace(
        found,
        warnings=(*found.warnings, f"{source}: {which} cannot be read or are out of range (first: {found.example})."),
    )


def _factors(
    source: str, names: tuple[str, str], unit: str, file_units: tuple[str, str]
) -> tuple[float | None, float | None]:
    """Return the degrees in the unit of ra and of dec, None where no unit is known."""
    if unit:
        given = _degrees_in(unit)
        if given is None:
            raise _not_an_angle(f"unit = '{unit}' of {source}")
        return given, 1.0 if given == _HOURS else given
    found: list[float | None] = []
    for name, one in zip(names, file_units, strict=True):
        factor = None if one.strip().lower() in _NO_UNIT else _degrees_in(one)
        if factor is None and one.strip().lower() not in _NO_UNIT:
            raise _not_an_angle(f"Column '{name}' of {source} is in '{one}'")
        found.append(factor)
    return found[0], found[1]


def _not_an_angle(what: str) -> TableError:
    return TableError(
        f"{what}, which is not a unit of angles.",
        "deg, rad, hourangle, arcmin, arcsec or mas.",
        'Write the unit into a mapping file, such as `unit = "deg"`.',
    )


def _degrees_in(unit: str) -> float | None:
    """Return the degrees in a unit; None if it is not an angle."""
    name = unit.strip().strip("\"'").strip().lower() or unit.strip()
    for one in (name, name.replace(" ", ""), name.partition(" ")[0]):
        if one in UNITS:
            return UNITS[one]
    try:  # scaled units, such as 0.001deg
        return float(import_module("astropy.units").Unit(unit.strip()).to("deg"))
    except (ImportError, ValueError, TypeError):
        return None


@dataclass(frozen=True, slots=True)
class _Column:
    """A column as numbers in the unit of the file, and the same in degrees."""

    raw: FloatArray
    degrees: FloatArray
    is_empty: BoolArray
    is_text: BoolArray  # neither a number nor an angle
    is_sexagesimal: BoolArray
    precision: str  # "float32" and the like, where the type of the column rounds

    @property
    def is_number(self) -> BoolArray:
        return ~(self.is_empty | self.is_text)


@dataclass
class _Reader:
    """Two columns of positions."""

    source: str
    names: tuple[str, str]
    columns: tuple[pl.Series, pl.Series]
    factors: tuple[float | None, float | None]
    unit: str
    place: Callable[[int], str]

    def read(self) -> Positions:
        warned: list[str] = []
        ra, dec = self._parsed()
        if self._is_exchanged(ra, dec):
            self.columns = self.columns[1], self.columns[0]
            self.factors = self.factors[1], self.factors[0]
            warned.append(
                f"{self.source}: '{self.names[0]}' and '{self.names[1]}' are exchanged, because only the other "
                "way round they are on the sky. They are read that way."
            )
            self.names = self.names[1], self.names[0]
            ra, dec = self._parsed()
        is_unreadable = (ra.is_text & ~dec.is_empty) | (dec.is_text & ~ra.is_empty)
        is_empty = (ra.is_empty | dec.is_empty) & ~is_unreadable
        n_missing = {"empty": int(is_empty.sum())} if is_empty.any() else {}
        is_left = ~(is_unreadable | is_empty)
        placeholders = self._placeholders(ra, dec, is_left)
        for cause, where in placeholders:
            n_missing[cause] = n_missing.get(cause, 0) + int(where.sum())
            is_left &= ~where
        is_known = is_left & is_position(ra.degrees, dec.degrees)
        longitude = np.where(is_known, ra.degrees, np.nan)
        longitude = np.where(longitude < 0, longitude + 360, longitude)
        latitude = np.where(is_known, dec.degrees, np.nan)
        is_outside = is_left & ~is_known
        if placeholders:
            listed = "; ".join(f"{cause} ({n_missing[cause]:,})" for cause, _ in placeholders[:4])
            n = sum(int(where.sum()) for _, where in placeholders)
            warned.append(f"{self.source}: placeholders in place of {n:,} positions count as missing: {listed}.")
        if is_known.any() and not self.unit:
            warned += self._doubts_about_units(ra, dec, is_known)
        warned += self._doubts(ra, dec, is_known)
        units = tuple("deg" if one in (None, 1.0) else _name_of(one) for one in self.factors)
        return Positions(
            ra=longitude,
            dec=latitude,
            is_unreadable=is_unreadable,
            is_out_of_range=is_outside,
            n_missing=n_missing,
            units=cast("tuple[str, str]", units),
            example=self._example(is_unreadable | is_outside),
            warnings=tuple(warned),
        )

    def _parsed(self) -> tuple[_Column, _Column]:
        ra, dec = (
            _parsed(column, factor, is_ra)
            for column, factor, is_ra in zip(self.columns, self.factors, (True, False), strict=True)
        )
        return ra, dec

    def _is_exchanged(self, ra: _Column, dec: _Column) -> bool:
        held = ra.is_number & dec.is_number & ~_is_nines(ra.raw) & ~_is_nines(dec.raw)
        if not held.any():
            return False
        longitude, latitude = ra.degrees[held], dec.degrees[held]
        is_text = ra.is_sexagesimal[held] & dec.is_sexagesimal[held]
        if is_text.mean() > 0.9:  # hours are never negative, and the declination of a field seldom from 0 to 24 only
            is_wrong = (longitude < 0) | (longitude >= 360)
            return bool(is_wrong.mean() > MAX_BAD_FRACTION and (latitude >= 0).all() and (latitude < 24).all())
        fits = (np.abs(longitude) <= 90) & (latitude >= -180) & (latitude <= 360)
        return bool(fits.mean() > 0.99 and (np.abs(latitude) > 90).mean() > MAX_BAD_FRACTION)

    def _placeholders(self, ra: _Column, dec: _Column, is_left: BoolArray) -> list[tuple[str, BoolArray]]:
        """Return each placeholder in words, and the rows that hold it."""
        found: list[tuple[str, BoolArray]] = []
        is_ra = (ra.degrees >= -180) & (ra.degrees <= 360)
        is_dec = np.abs(dec.degrees) <= 90
        nines_ra, nines_dec = _is_nines(ra.raw), _is_nines(dec.raw)
        is_alone = nines_ra & (ra.raw < 0)  # -99 may be a right ascension where others are negative too
        if (is_left & (ra.raw < 0) & ~nines_ra).any():
            is_alone &= nines_dec
        is_placeholder = is_left & ((nines_ra & ~is_ra) | (nines_dec & ~is_dec) | is_alone)
        for column, is_inside in ((ra, is_ra), (dec, is_dec)):  # an impossible value that is repeated was put there
            values, n = np.unique(column.raw[is_left & ~is_inside & ~is_placeholder], return_counts=True)
            if len(values) <= 3:
                is_placeholder |= is_left & np.isin(column.raw, values[n >= 3])
        is_zero = is_left & (ra.raw == 0) & (dec.raw == 0)
        if is_zero.sum() > 1:
            is_placeholder |= is_zero
        rest = np.flatnonzero(is_left & ~is_placeholder)
        if len(rest) >= MIN_REPEATED:
            is_placeholder[rest[_is_crowd(pl.DataFrame({"ra": ra.raw[rest], "dec": dec.raw[rest]}))]] = True
        if is_placeholder.any():
            at = np.flatnonzero(is_placeholder)
            listed = pl.DataFrame({"at": at, "ra": ra.raw[at], "dec": dec.raw[at]})
            is_listed = pl.len().over("ra", "dec") >= 2
            key = pl.when(is_listed).then(pl.format("ra {}, dec {}", *map(_plain, ("ra", "dec"))))
            key = key.otherwise(pl.lit("placeholder in ra or dec"))
            parts = listed.with_columns(key=key).group_by("key").agg("at").sort(pl.col("at").list.len(), "key")
            for cause, rows in parts.reverse().iter_rows():
                where = np.zeros(len(is_left), bool)
                where[rows] = True
                found.append((cause, where))
        return found

    def _doubts_about_units(self, ra: _Column, dec: _Column, is_known: BoolArray) -> list[str]:
        """Return warnings of ranges that fit another unit than the one that nobody stated."""
        plain = is_known & ~ra.is_sexagesimal & ~dec.is_sexagesimal
        if self.factors[0] is not None or plain.sum() < MIN_ROWS:
            return []
        longitude, latitude = ra.raw[plain], dec.raw[plain]
        ends = f"ra from {longitude.min():g} to {longitude.max():g}, dec from {latitude.min():g} to {latitude.max():g}"
        other = self._range_of(longitude, latitude)
        if not other:
            return []
        say = " or ".join(f'`unit = "{name}"`' for name in ("rad", "hourangle") if _WORDS[name] in other)
        return [
            f"{self.source}: {ends} would also fit {other}, but no unit is stated. They are read as degrees; otherwise "
            f"write {say} in a mapping file."
        ]

    @staticmethod
    def _range_of(longitude: FloatArray, latitude: FloatArray) -> str:
        """Return the other unit that fits all values, or ""."""
        if np.abs(latitude).max() <= np.pi / 2 and -np.pi <= longitude.min() and longitude.max() <= 2 * np.pi:
            return "radians or hours" if longitude.min() >= 0 else "radians"
        if longitude.min() >= -12 and longitude.max() <= 24:
            return "hours"
        return ""

    def _doubts(self, ra: _Column, dec: _Column, is_known: BoolArray) -> list[str]:
        found: list[str] = []
        n = int(is_known.sum())
        longitude, latitude = ra.degrees[is_known], dec.degrees[is_known]
        n_text = int((ra.is_sexagesimal[is_known]).sum())
        if 0 < n_text < n:
            found.append(
                f"{self.source}: '{self.names[0]}' has {n_text:,} sexagesimal values and {n - n_text:,} numbers. The "
                "former are read as hours, the latter as degrees."
            )
        if n < MIN_ROWS:
            return found
        spread = tuple(float(one.max() - one.min()) for one in (longitude, latitude))
        if max(spread) * 3600 < MIN_SPREAD_ARCSEC:
            how = "the same" if spread == (0, 0) else f"within {MIN_SPREAD_ARCSEC:g} arcsec of each other"
            place = f"ra {longitude[0]:.5f}, dec {latitude[0]:.5f}"
            return [*found, f"{self.source}: all {n:,} positions are {how}: {place}."]
        found += self._repeated(ra.raw[is_known], dec.raw[is_known])
        if 0 in spread and n >= MIN_ROWS_ROUNDED:
            same = " and ".join(name for name, one in zip(self.names, spread, strict=True) if one == 0)
            found.append(f"{self.source}: all {n:,} positions have the same {same}.")
        if longitude.min() < 0 and np.abs(longitude).max() <= 90 and latitude.min() >= 0 and not n_text:
            found.append(
                f"{self.source}: '{self.names[0]}' and '{self.names[1]}' may be exchanged: the former is from "
                f"{longitude.min():g} to {longitude.max():g} degrees, the latter never negative."
            )
        rounding = _rounding(ra, dec, is_known)
        if rounding:
            found.append(f"{self.source}: positions are {rounding}.")
        return found

    def _repeated(self, *raw: FloatArray) -> list[str]:
        """Return warnings of one value, or a few positions, in far too many rows."""
        n = len(raw[0])
        rows = pl.DataFrame(dict(zip(("first", "second"), raw, strict=True)))
        if rows[:MIN_ROWS_ROUNDED].n_unique() <= MAX_CONSTANT >= (n_places := rows.n_unique()):
            return [f"{self.source}: {n:,} rows have only {n_places:,} different positions."]
        found: list[str] = []
        for name, values in zip(self.names, rows, strict=True):
            crowd = values.filter(_is_crowd(values.to_frame()))
            value, times = crowd.value_counts(sort=True).row(0) if len(crowd) else (0.0, 0)
            if n > times >= max(1, n / 100):
                found.append(
                    f"{self.source}: '{name}' is {value:g} in {times:,} of {n:,} rows, which may stand for unknown."
                )
        return found

    def _example(self, is_bad: BoolArray) -> str:
        """Return the first position that cannot be used, in words."""
        if not is_bad.any():
            return ""
        i = int(np.argmax(is_bad))
        cells = [f"{name} = {str(column[i])[:40]!r}" if column.dtype == pl.String else f"{name} = {column[i]}"
                 for name, column in zip(self.names, self.columns, strict=True)]  # fmt: skip
        return f"{self.place(i)}, {', '.join(cells)}"

    def guess(self) -> str:
        """Return a hint that names the unit which would make the positions fit, or ""."""
        ra, dec = self._parsed()
        held = ra.is_number & dec.is_number
        if not held.any():
            text = [one for one in self.columns if one.dtype == pl.String]
            has_comma = [one.str.contains(r"^\s*[+-]?\d+,\d+\s*$").any() for one in text]
            return "Write numbers with a decimal point. " if len(has_comma) == 2 and all(has_comma) else ""
        if (ra.is_sexagesimal | dec.is_sexagesimal)[held].mean() > 0.5:
            return 'Write `unit = "deg"` in a mapping file if ra is in degrees, minutes and seconds. '
        names = ("arcmin", "arcsec", "mas") if self.factors[0] is None else ("deg", "arcmin", "arcsec", "mas")
        for name in names:
            scale = UNITS[name]
            largest = float(np.abs(ra.raw[held]).max())
            if scale < 1 and (largest < 720 or largest * scale < 1):  # text such as 123456.7 is 12:34:56.7
                continue
            if is_position(ra.raw[held] * scale, dec.raw[held] * scale).mean() > 1 - MAX_BAD_FRACTION:
                return f'Write `unit = "{name}"` in a mapping file if the values are in {name}. '
        return ""


def _parsed(column: pl.Series, factor: float | None, is_ra: bool) -> _Column:
    n = len(column)
    none = np.zeros(n, bool)
    scale = 1.0 if factor is None else factor
    if column.dtype.is_numeric():
        raw = column.cast(pl.Float64).fill_null(np.nan).to_numpy()
        kind = str(column.dtype).lower()
        is_infinite = np.isinf(raw)
        raw = np.where(is_infinite, np.nan, raw) if is_infinite.any() else raw
        degrees = raw if scale == 1 else raw * scale
        return _Column(raw, degrees, np.isnan(raw) & ~is_infinite, is_infinite, none, kind)
    try:
        text = column.cast(pl.String, strict=False)
    except pl.exceptions.PolarsError:  # vectors and other objects
        return _Column(np.full(n, np.nan), np.full(n, np.nan), none, ~none, none, "")
    if column.dtype == pl.Boolean or column.dtype.is_nested():
        text = text.fill_null("?")
        return _Column(np.full(n, np.nan), np.full(n, np.nan), none, ~none, none, "")
    text = text.fill_null("").str.strip_chars()
    raw = text.cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy().astype(np.float64)
    raw = np.where(np.isinf(raw), np.nan, raw)
    is_empty = text.str.to_lowercase().is_in(_EMPTY).to_numpy()
    degrees = raw * scale
    is_sexagesimal = none.copy()
    rest = np.flatnonzero(np.isnan(raw) & ~is_empty)
    if len(rest):
        angle = _sexagesimal(text.gather(rest), factor, is_ra)
        degrees[rest], is_sexagesimal[rest] = angle, ~np.isnan(angle)
    is_text = ~is_empty & ~np.isfinite(degrees)
    raw = np.where(is_sexagesimal, degrees / scale, raw)
    return _Column(raw, degrees, is_empty, is_text, is_sexagesimal, "")


def _sexagesimal(text: pl.Series, factor: float | None, is_ra: bool) -> FloatArray:
    """Return angles such as 12:34:56.7, 12h34m56.7s or -1 02 03 in degrees; NaN where the text is none."""
    plain = text.str.replace_all("[\\x{2212}\\x{2013}]", "-")
    parts = plain.str.to_lowercase().str.extract_groups(_SEXAGESIMAL).struct.unnest()
    parts.columns = ["sign", "whole", "mark", "minutes", "seconds"]
    whole, minutes, seconds = (
        parts[name].cast(pl.Float64).to_numpy() for name in parts.columns[1::1] if name != "mark"
    )
    seconds = np.where(np.isnan(seconds), 0.0, seconds)
    mark = parts["mark"].fill_null("")
    # a letter says the unit; otherwise the unit that was stated, if it is one of the two that are written so
    default = factor if factor in (1.0, _HOURS) else (_HOURS if is_ra else 1.0)
    scale = np.where(mark == "h", _HOURS, np.where(mark.is_in(["d", "deg", "\N{DEGREE SIGN}"]), 1.0, default))
    angle = np.asarray((whole + minutes / 60 + seconds / 3600) * scale)
    angle[(minutes >= 60) | (seconds > 60)] = np.nan
    angle = np.where((parts["sign"] == "-").fill_null(False).to_numpy(), -angle, angle)
    decimal = plain.str.to_lowercase().str.extract_groups(_WITH_UNIT).struct.unnest()  # such as 188.5d
    number, word = (decimal[name] for name in decimal.columns)
    in_degrees = word.replace_strict(UNITS, default=None, return_dtype=pl.Float64)
    return np.where(np.isnan(angle), (number.cast(pl.Float64) * in_degrees).fill_null(np.nan).to_numpy(), angle)


def _is_crowd(rows: pl.DataFrame) -> BoolArray:
    """Return the rows that are repeated far more often than rows usually are.

    Sorted hashes need a tenth of the memory of groups, which matters for millions of rows.
    """
    hashes = rows.hash_rows()
    one_of_each, times = np.unique(hashes.to_numpy(), return_counts=True)
    if times.max(initial=0) < MIN_REPEATED:
        return np.zeros(len(hashes), bool)
    often = one_of_each[times >= max(MIN_REPEATED, MANY_TIMES * float(np.median(times)))]
    return hashes.is_in(pl.Series(often).implode()).to_numpy()


def _is_nines(values: FloatArray) -> BoolArray:
    # float32 columns hold 99.9 as 99.90000153
    found = np.zeros(len(values), bool)
    for part in chunks(len(values)):
        near = np.round(values[part], 3)
        found[part] = np.isin(near, _NINES) & (np.abs(values[part] - near) <= 1e-6 * np.abs(near))
    return found


def _plain(name: str) -> pl.Expr:
    """A number as text, whole ones without a decimal point."""
    one = pl.col(name)
    is_whole = (one == one.round()) & (one.abs() < 1e15)
    return pl.when(is_whole).then(one.cast(pl.Int64, strict=False).cast(pl.String)).otherwise(one.cast(pl.String))


def _name_of(factor: float) -> str:
    return next((name for name, one in UNITS.items() if one == factor), f"{factor:g} deg")


def _is_held(values: FloatArray, kind: type[np.floating]) -> bool:
    """Return whether a type holds all of some numbers exactly."""
    return float(np.abs(values).max()) <= float(np.finfo(kind).max) and bool((values == values.astype(kind)).all())


def _rounding(ra: _Column, dec: _Column, is_known: BoolArray) -> str:
    """Return how coarsely positions are rounded, in words, or "" if it does not matter."""
    if (ra.is_sexagesimal | dec.is_sexagesimal)[is_known].any():
        return ""
    values = np.concatenate([ra.raw[is_known], dec.raw[is_known]])
    largest = float(np.abs(ra.degrees[is_known]).max())
    scale = abs(float(ra.degrees[is_known][0] / ra.raw[is_known][0])) if ra.raw[is_known][0] else 1.0
    for kind, decimals in ((np.float16, 1), (np.float32, 3)):
        name = kind.__name__
        is_held = all(_is_held(some, kind) for some in (values[:MIN_ROWS_ROUNDED], values))
        is_fine = is_held and bool((values != np.round(values, decimals)).mean() > 0.4)  # not numbers of few decimals
        if name in (ra.precision, dec.precision) or is_fine:
            error = float(np.spacing(kind(largest / scale))) * scale / 2 * 3600
            return f"{name} numbers, rounded by up to {error:.2g} arcsec"
    if len(values) >= 2 * MIN_ROWS_ROUNDED:
        for decimals in range(4):
            if all(np.array_equal(some, np.round(some, decimals)) for some in (values[:MIN_ROWS_ROUNDED], values)):
                error = 0.5 * 10**-decimals * scale * 3600
                return f"rounded to {decimals} decimals, by up to {error:.2g} arcsec" if error > 0.5 else ""
    return ""
