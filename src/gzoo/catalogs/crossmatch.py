"""Two tables of the same sky: which rows belong to one galaxy, and what became of every other row."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from gzoo import files, sky
from gzoo.dataset.open import open_dataset
from gzoo.display import Sheet, Shown
from gzoo.errors import GZooWarning, TableError, choices
from gzoo.sky.coordinates import FloatArray, IntArray
from gzoo.votes.identifiers import IdentifierReader
from gzoo.votes.mapping_file import MappingFile
from gzoo.votes.tables import KINDS, ReadTable, read_rows

KIND = "table of matches"
Fate = Literal["matched", "ambiguous", "outside radius", "no position"]
FATES: tuple[Fate, ...] = ("matched", "ambiguous", "outside radius", "no position")
NAMES = {
    "ra": ("ra", "raj2000", "_raj2000", "ra_icrs", "ra_j2000", "radeg", "ra_deg", "alpha_j2000", "right_ascension"),
    "dec": ("dec", "dej2000", "decj2000", "_dej2000", "de_icrs", "dec_icrs", "dec_j2000", "decdeg", "dec_deg",
            "delta_j2000", "declination"),
}  # fmt: skip
"""Names of columns of positions in lower case, most common first."""
BEARINGS = (0.0, 90.0, 180.0, 270.0)
MIN_SHIFT_ARCSEC, SHIFT_RADII = 60.0, 5.0
"""How far copies are shifted: beyond all true matches, but not out of a small field."""
MAX_SHIFTED = 100_000
"""Rows of which shifted copies are matched, to see how many matches are chance."""
MIN_OFFSET_ARCSEC, MIN_OFFSET_RADII, MIN_FOR_OFFSET = 0.1, 0.2, 20


@dataclass(frozen=True, slots=True, repr=False)
class MatchResult(Shown):
    """What became of the rows of two tables.

    Attributes:
        a: First table.
        b: Second table.
        path: Table of all rows that was written, or None.
        radius_arcsec: Match radius in arcsec.
        n_a: Fate -> number of rows of the first table.
        n_b: The same of the second.
        n_by_identifier: Pairs that were matched by identifier.
        median_separation_arcsec: Of the matched pairs, NaN without any.
        median_offset_arcsec: Median of second minus first along right ascension (times cos dec) and declination.
        expected_chance_matches: Matches of the first table that positions without any relation would give, from copies
            of it that are shifted by more than the radius.
        chance_fraction: The same as a fraction of the matched pairs.
        table: A row for every pair and every other row.
        warnings: What is doubtful about the positions or the matches.
    """

    a: str
    b: str
    path: Path | None
    radius_arcsec: float
    n_a: Mapping[str, int]
    n_b: Mapping[str, int]
    n_by_identifier: int
    median_separation_arcsec: float
    median_offset_arcsec: tuple[float, float]
    expected_chance_matches: float
    chance_fraction: float
    table: pl.DataFrame
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """Return everything but the table as JSON values."""
        return {
            "a": self.a,
            "b": self.b,
            "path": str(self.path) if self.path else None,
            "radius_arcsec": self.radius_arcsec,
            "n_a": dict(self.n_a),
            "n_b": dict(self.n_b),
            "n_by_identifier": self.n_by_identifier,
            "median_separation_arcsec": _finite(self.median_separation_arcsec),
            "median_offset_arcsec": [_finite(one) for one in self.median_offset_arcsec],
            "expected_chance_matches": _finite(self.expected_chance_matches),
            "chance_fraction": _finite(self.chance_fraction),
            "warnings": list(self.warnings),
        }

    def to_polars(self) -> pl.DataFrame:
        """Return the table."""
        return self.table

    def sentences(self) -> list[str]:
        """Return what the matches are worth."""
        n = self.n_a["matched"]
        if not n:
            return ["No row matches."]
        ra, dec = self.median_offset_arcsec
        by = f", {self.n_by_identifier:,} of them by identifier" if self.n_by_identifier else ""
        return [
            f"{n:,} pairs within {self.radius_arcsec:g} arcsec{by}; median separation "
            f"{self.median_separation_arcsec:.2f} arcsec.",
            f"Median offset, second minus first: {ra:+.3f} arcsec in ra, {dec:+.3f} arcsec in dec.",
            f"Expected by chance: {self.expected_chance_matches:,.1f} pairs ({self.chance_fraction:.1%}).",
        ]

    def sheet(self) -> Sheet:
        """Return the fates of both tables."""
        return Sheet(
            f"Matches of {self.a} and {self.b}",
            {"match radius": f"{self.radius_arcsec:g} arcsec", "matches": " ".join(self.sentences())},
            ("table", *FATES),
            [(self.a, *self.n_a.values()), (self.b, *self.n_b.values())],
        )


def _median(values: pl.Series) -> float:
    found = cast("float | None", values.median())
    return np.nan if found is None else found


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def match(
    a: Path | str,
    b: Path | str,
    *,
    radius_arcsec: float = 2.0,
    by_identifier: bool = False,
    mapping_a: Path | str | None = None,
    mapping_b: Path | str | None = None,
    allow_bad_positions: bool = False,
    out: Path | str | None = None,
    overwrite: bool = False,
) -> MatchResult:
    """Match two tables by position, and say what became of every row.

    Two rows match if each is the nearest row of the other table, within the radius, and no second one is as near. A row
    with neighbours that belong to others, or with two that are as near, is ambiguous.

    The median offset shows another frame, or a shift; copies of the first table that are shifted by more than the
    radius show how many matches to expect by chance.

    Args:
        a: Dataset, catalogue or any table (Parquet, CSV, FITS, VOTable, ECSV) with positions.
        b: Another.
        radius_arcsec: Match radius in arcsec.
        by_identifier: Match rows with the same identifier first, wherever they are, and only others by position.
        mapping_a: Mapping file of the first table, with the names `ra`, `dec` and `id_str` of its columns and `unit`.
        mapping_b: The same of the second.
        allow_bad_positions: Go on where more than 10% of the positions are out of range.
        out: Table to write, `.parquet` or `.csv`: every row of both tables once.
        overwrite: Replace an earlier table.

    Raises:
        NotFoundError: A file or folder does not exist.
        InputError: The radius is out of range, `out` is an input, or too many positions coincide.
        TableError: A table has no positions, or more than 10% of them are out of range.
        DatasetError: A dataset cannot be read.
        OutputExistsError: `out` already exists.

    >>> import gzoo, polars as pl, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> pl.DataFrame({"ra": [10.0, 20.0], "dec": [5.0, 6.0]}).write_csv(f"{folder}/a.csv")
    >>> pl.DataFrame({"RAJ2000": [10.0001], "DEJ2000": [5.0]}).write_csv(f"{folder}/b.csv")
    >>> found = gzoo.match(f"{folder}/a.csv", f"{folder}/b.csv")
    >>> found.n_a
    {'matched': 1, 'ambiguous': 0, 'outside radius': 1, 'no position': 0}
    """
    sky.check_radius(radius_arcsec)
    out = None if out is None else Path(out)
    if out is not None:
        given = [a, b, mapping_a, mapping_b]
        files.refuse_file(out, KIND, (".parquet", ".csv"), overwrite=overwrite, inputs=given)
    warned: list[str] = []
    one = _read(a, mapping_a, by_identifier, allow_bad_positions, warned)
    other = _read(b, mapping_b, by_identifier, allow_bad_positions, warned)
    warned += sky.compared_footprints([sky.Footprint(str(name), *part[:2]) for name, part in ((a, one), (b, other))])
    pairs, n_by_identifier = _pairs(one, other, radius_arcsec, by_identifier, warned)
    matched = pairs.filter(pl.col("fate") == "matched")
    offset = _offset(one, other, matched)
    n, separation = matched.height, _median(matched["separation_arcsec"])
    chance = _chance(one, other, radius_arcsec)
    table = _described(pairs, one, other)
    del one, other, matched  # millions of rows need the memory where the table is written
    found = MatchResult(
        a=str(a),
        b=str(b),
        path=out,
        radius_arcsec=radius_arcsec,
        n_a=_counts(pairs, "a_row"),
        n_b=_counts(pairs, "b_row"),
        n_by_identifier=n_by_identifier,
        median_separation_arcsec=separation,
        median_offset_arcsec=offset,
        expected_chance_matches=chance,
        chance_fraction=min(chance / n, 1.0) if n else np.nan,
        table=table,
        warnings=(*warned, *_doubts(offset, n, chance, radius_arcsec)),
    )
    for text in found.warnings:
        warnings.warn(text, GZooWarning, stacklevel=2)
    if out is not None:
        files.write_table(
            out, found.table, KIND, {"radius_arcsec": radius_arcsec, "a": Path(a).name, "b": Path(b).name}
        )
    return found


def read_positions_of(
    table: Path | str, *, allow_bad: bool = False
) -> tuple[FloatArray, FloatArray, pl.Series, tuple[str, ...]]:
    """Return right ascension and declination in degrees, identifiers, and what is doubtful about a table.

    Args:
        table: Table with `id_str` and positions under their usual names, or a dataset.
        allow_bad: Whether to go on with any number of positions that cannot be used.

    Raises:
        NotFoundError: It does not exist.
        TableError: It has no such columns, or more than 10% of the positions are out of range.
    """
    warned: list[str] = []
    ra, dec, texts = _read(table, None, True, allow_bad, warned)
    assert texts is not None
    return ra, dec, texts, tuple(warned)


_Rows = tuple[FloatArray, FloatArray, "pl.Series | None"]
"""Right ascension, declination, and identifiers if the table has any."""


def _read(
    source: Path | str, mapping: Path | str | None, needs_identifier: bool, allow_bad: bool, warned: list[str]
) -> _Rows:
    """Return the positions in degrees, NaN where unknown, and identifiers of a dataset or table."""
    path, name = Path(source), f"'{source}'"
    if path.is_file() or path.suffix.lower() in KINDS:
        columns = MappingFile.read(mapping) if mapping else MappingFile()
        ra, dec, read = _columns(path, columns)
        units = read.units.get(ra, ""), read.units.get(dec, "")
        frame, given = read.frame, columns.unit
        if read.damaged.height:
            row, reason, detail = read.damaged.row(0)
            raise TableError(f"{name}, row {row}: {reason} ({detail}).", "", "Correct this row.")
        identifier = columns.id_str if columns.id_str in frame.columns else ""
    else:
        opened = open_dataset(path)
        frame = pl.concat([opened.positions(split) for split in opened.splits])
        ra, dec, units, given, identifier = "ra", "dec", ("deg", "deg"), "", "id_str"
    if needs_identifier and not identifier:
        raise TableError(
            f"{name} has no column of identifiers.",
            "a column id_str, or its name in a mapping file.",
            "Rename the column, or name it in a mapping file.",
        )
    found = sky.read_positions(
        frame[ra], frame[dec], source=name, names=(ra, dec), unit=given, file_units=units, allow_bad=allow_bad
    )
    warned += found.warnings
    texts = IdentifierReader(f"Column '{identifier}' of {name}").read_all(frame[identifier]) if identifier else None
    return found.ra, found.dec, texts


def _columns(path: Path, mapping: MappingFile) -> tuple[str, str, ReadTable]:
    """Return the names of the columns of positions, and a table with them and with identifiers."""
    if path.suffix.lower() == ".parquet" and path.is_file() and path.stat().st_size:
        try:
            names = pq.read_schema(path).names
        except (OSError, ValueError):
            names = []
        if names:
            ra, dec = (_named(path, names, kind, given) for kind, given in (("ra", mapping.ra), ("dec", mapping.dec)))
            wanted = [ra, dec, *([mapping.id_str] if mapping.id_str in names else [])]
            whole = read_rows(path, columns=wanted)
            return ra, dec, whole
    read = read_rows(path, table=mapping.table)
    names = read.frame.columns
    return _named(path, names, "ra", mapping.ra), _named(path, names, "dec", mapping.dec), read


def _named(path: Path, names: list[str], kind: str, given: str) -> str:
    if given:
        if given not in names:
            raise TableError(f"Column '{given}' not found in '{path}'.", choices(names, given), "Correct the mapping.")
        return given
    by_name = {name.lower(): name for name in reversed(names)}
    found = next((by_name[name] for name in NAMES[kind] if name in by_name), None)
    if found is None:
        raise TableError(
            f"'{path}' has no column of positions called {kind}.",
            choices(names, kind),
            f'Name it in a mapping file, `{kind} = "..."`, and pass that with --mapping-a or --mapping-b.',
        )
    return found


def _pairs(
    one: _Rows, other: _Rows, radius_arcsec: float, by_identifier: bool, warned: list[str]
) -> tuple[pl.DataFrame, int]:
    """Return a row for every pair and every row without one, and the number of pairs by identifier."""
    n_a, n_b = len(one[0]), len(other[0])
    first = second = np.empty(0, np.int64)
    if by_identifier:
        first, second = _same_identifiers(one, other, warned)
    is_left = np.ones(n_a, bool), np.ones(n_b, bool)
    is_left[0][first], is_left[1][second] = False, False
    rows = tuple(np.flatnonzero(left & ~np.isnan(part[0])) for left, part in zip(is_left, (one, other), strict=True))
    near = sky.pairs_between(
        one[0][rows[0]], one[1][rows[0]], other[0][rows[1]], other[1][rows[1]], radius_arcsec=radius_arcsec
    )
    best = sky.mutual_best(near, len(rows[0]), len(rows[1]))
    has_partner = np.flatnonzero(best.partner[0] >= 0)
    apart = _separation(one, other, first, second)
    n_far = int((apart > radius_arcsec).sum())
    if n_far:
        warned.append(
            f"{n_far:,} pairs with one identifier are over {radius_arcsec:g} arcsec apart: two galaxies under one "
            "identifier, or a wrong position."
        )
    partner = best.partner[0][has_partner]
    parts = [
        _lines("matched", "identifier", first, second, apart),
        _lines(
            "matched",
            "position",
            rows[0][has_partner],
            rows[1][partner],
            best.nearest_arcsec[0][has_partner],
            next_arcsec=np.fmin(best.next_arcsec[0][has_partner], best.next_arcsec[1][partner]),
            n_near=np.maximum(best.n_near[0][has_partner], best.n_near[1][partner]),
        ),
    ]
    for side, (part, chosen) in enumerate(zip((one, other), rows, strict=True)):
        is_alone = best.partner[side] < 0
        is_near = best.n_near[side] > 0
        none = np.flatnonzero(is_left[side] & np.isnan(part[0]))
        for fate, at in (("ambiguous", is_alone & is_near), ("outside radius", is_alone & ~is_near)):
            ends = (chosen[at], None) if side == 0 else (None, chosen[at])
            nearest, following = best.nearest_arcsec[side][at], best.next_arcsec[side][at]
            parts.append(_lines(fate, None, *ends, nearest, next_arcsec=following, n_near=best.n_near[side][at]))
        parts.append(_lines("no position", None, *((none, None) if side == 0 else (None, none))))
    return pl.concat(parts), len(first)


def _lines(
    fate: str,
    by: str | None,
    a_row: IntArray | None,
    b_row: IntArray | None,
    apart: FloatArray | None = None,
    *,
    next_arcsec: FloatArray | None = None,
    n_near: IntArray | None = None,
) -> pl.DataFrame:
    known = a_row if a_row is not None else b_row
    n = 0 if known is None else len(known)

    def column(values: np.ndarray | None, kind: type[pl.DataType]) -> pl.Series:
        if values is None:
            return pl.repeat(None, n, dtype=kind(), eager=True)
        return pl.Series(values, nan_to_null=True).cast(kind)

    return pl.DataFrame(
        {
            "fate": pl.repeat(fate, n, dtype=pl.Enum(FATES), eager=True),
            "matched_by": pl.repeat(by, n, dtype=pl.Enum(["position", "identifier"]), eager=True),
            "separation_arcsec": column(apart, pl.Float64),
            "next_separation_arcsec": column(next_arcsec, pl.Float64),
            "n_near": column(n_near, pl.UInt32),
            "a_row": column(a_row, pl.UInt32),
            "b_row": column(b_row, pl.UInt32),
        }
    )


def _same_identifiers(one: _Rows, other: _Rows, warned: list[str]) -> tuple[IntArray, IntArray]:
    keys: list[pl.DataFrame] = []
    for name, part in (("first", one), ("second", other)):
        assert part[2] is not None
        key = pl.DataFrame({"id": part[2]}).with_row_index("row").filter(pl.col("id").is_not_null(), pl.col("id") != "")
        twice = key["id"].is_duplicated()
        if twice.any():
            warned.append(
                f"{int(twice.sum()):,} rows of the {name} table share their identifier with another row, first "
                f"'{key['id'].filter(twice)[0]}'. They are matched by position only."
            )
        keys.append(key.filter(~twice))
    both = keys[0].join(keys[1], on="id", suffix="_other")
    return both["row"].to_numpy().astype(np.int64), both["row_other"].to_numpy().astype(np.int64)


def _separation(one: _Rows, other: _Rows, first: IntArray, second: IntArray) -> FloatArray:
    apart = np.full(len(first), np.nan)
    known = ~(np.isnan(one[0][first]) | np.isnan(other[0][second]))
    i, j = first[known], second[known]
    apart[known] = sky.separation_arcsec(one[0][i], one[1][i], other[0][j], other[1][j])
    return apart


def _counts(pairs: pl.DataFrame, row: str) -> dict[str, int]:
    counted = dict(pairs.lazy().filter(pl.col(row).is_not_null()).group_by("fate").len().collect().iter_rows())
    return {fate: int(counted.get(fate, 0)) for fate in FATES}


def _offset(one: _Rows, other: _Rows, matched: pl.DataFrame) -> tuple[float, float]:
    i, j = (matched[name].to_numpy().astype(np.int64) for name in ("a_row", "b_row"))
    known = ~(np.isnan(one[0][i]) | np.isnan(other[0][j]))
    i, j = i[known], j[known]
    if not len(i):
        return np.nan, np.nan
    across = (other[0][j] - one[0][i] + 180) % 360 - 180
    across *= np.cos(np.radians(one[1][i]))
    return float(np.median(across) * 3600), float(np.median(other[1][j] - one[1][i]) * 3600)


def _chance(one: _Rows, other: _Rows, radius_arcsec: float) -> float:
    """Return the number of rows of the first table that would be near a row of the other by chance."""
    rows = np.flatnonzero(~np.isnan(one[0]))
    if not len(rows):
        return 0.0
    few = rows[:: -(-len(rows) // MAX_SHIFTED)]
    distance = max(MIN_SHIFT_ARCSEC, SHIFT_RADII * radius_arcsec) / 3600
    found = [
        sky.is_near(*sky.shifted(one[0][few], one[1][few], bearing, distance), *other[:2], radius_arcsec=radius_arcsec)
        for bearing in BEARINGS
    ]
    return float(np.mean(found)) * len(rows)


def _doubts(offset: tuple[float, float], n: int, chance: float, radius_arcsec: float) -> list[str]:
    found: list[str] = []
    shift = float(np.hypot(*offset))
    if n >= MIN_FOR_OFFSET and shift > max(MIN_OFFSET_ARCSEC, MIN_OFFSET_RADII * radius_arcsec):
        found.append(
            f"The second table is shifted by {shift:.2f} arcsec (median): another frame or epoch, or rounded positions."
        )
    if n and chance > 0.1 * n:
        found.append(
            f"{min(chance / n, 1):.0%} of the matches are expected by chance: {radius_arcsec:g} arcsec is a large "
            "radius for such dense positions."
        )
    return found


def _described(pairs: pl.DataFrame, one: _Rows, other: _Rows) -> pl.DataFrame:
    """Return the pairs with identifiers and positions of both rows."""
    columns: dict[str, pl.Series] = {}
    for side, part in (("a", one), ("b", other)):
        rows = pairs[f"{side}_row"]
        if part[2] is not None:
            columns[f"{side}_id_str"] = part[2].gather(rows)
        for name, values in zip(("ra", "dec"), part[:2], strict=True):
            columns[f"{side}_{name}"] = pl.Series(values).gather(rows).fill_nan(None)
    order = [name for name in pairs.columns if not name.endswith("_row")]
    table = pairs.with_columns(**columns)
    ends = [f"{side}_{name}" for side in "ab" for name in ("row", "id_str", "ra", "dec")]
    return table.select(*order, *(name for name in ends if name in table.columns))
