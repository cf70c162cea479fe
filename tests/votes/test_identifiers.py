"""One rule for identifiers: what went through floating point is refused, mended with a word, or missing."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from astropy.io import fits
from astropy.table import Table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gzoo.errors import GZooWarning, TableError
from gzoo.scoring.predictions import read_predictions
from gzoo.trees.campaign import campaign
from gzoo.votes.identifiers import DECIMAL, LOST, MISSING, QUOTE, IdentifierReader, identifier
from gzoo.votes.reading import VoteTable, read_votes
from gzoo.votes.tables import read_table

RINGS = campaign("gz_rings")
SDSS = [587722981736906813 + 7 * i for i in range(20)]


def ids(folder: Path, cells: list[object], **more: list[object]) -> VoteTable:
    """A table of galaxies with different votes."""
    path = folder / "votes.parquet"
    frame = pl.DataFrame({"id_str": cells, "ring_yes": range(len(cells)), "ring_no": 1, **more}, strict=False)
    frame.write_parquet(path)
    return read_votes(path, RINGS)


AS_THEY_ARE = [
    "587722981736906813", "007", "00000.0x", "J1234.5-0607", "NGC 224", "-1", "abc", "1.2.3", "1237.1238-", "星系",
    "12345678901234567890123", "5.8e", "e17", "SDSS J0012+3456", "a,b", "1_000", "007.0", "0x1F", ".",
    "12D-17", "1d5", "1.5E", "1,23,456",
]  # fmt: skip


@pytest.mark.parametrize("text", AS_THEY_ARE)
def test_text_and_leading_zeros_stay(text: str) -> None:
    assert identifier(text) == (text, "", "")


REFUSED = {
    **dict.fromkeys(["5.87722981742084e+17", "5.87723E+17", "5,87723E+17", "5e+17", "1.0e3", "1e-3", "5.e17"], LOST),
    **dict.fromkeys(["5.877229817D+17", "5.877d17", "5.8772298174208E+", "-5,8e-"], LOST),
    **dict.fromkeys(["587722981742084096.0", "587722981742084096.00", "9007199254740992.", '="5.877E+17"'], LOST),
    **dict.fromkeys(["123.45", "0.5", ".5", "1,000", "1.000", "12,5", "-3.25", "1,234,567"], DECIMAL),
    **dict.fromkeys(["", " ", "NA", "N/A", "nan", "NaN", "NULL", "null", "None", "<NA>"], MISSING),
    **dict.fromkeys(["#N/A", "inf", '=""', "\ufeff"], MISSING),
    **dict.fromkeys(['58"77', '"a', '"58"77"'], QUOTE),
}  # fmt: skip


@pytest.mark.parametrize(("text", "problem"), REFUSED.items(), ids=map(repr, REFUSED))
def test_what_was_lost_is_refused(text: str, problem: str) -> None:
    assert identifier(text).problem == problem


MENDED = {
    "1000000.0": "1000000", "12.00": "12", "12.": "12", "12,0": "12", "-5.0": "-5", '="12.0"': "12",
    "9007199254740991.0": "9007199254740991",
    '="587722981736906813"': "587722981736906813", "=5877": "5877", '"5877"': "5877", "'5877": "5877",
    "\ufeff5877": "5877", "58\u200b77": "5877", "\u00a05877\u00a0": "5877", "NGC\u00a0224": "NGC 224",
    "5877\x00": "5877",
}  # fmt: skip


@pytest.mark.parametrize(("text", "right"), MENDED.items(), ids=map(repr, MENDED))
def test_what_can_be_restored_is_mended_with_a_word(text: str, right: str) -> None:
    found = identifier(text)
    assert (found.text, found.problem) == (right, "")
    assert found.note
    reader = IdentifierReader("Column 'id_str' of 'votes.csv'")
    assert reader.read(pl.Series([text, "x"])).text.to_list() == [right, "x"]
    with pytest.warns(GZooWarning, match=r"Column 'id_str' of 'votes.csv': 1 identifiers .* \(first: "):
        reader.warn()


@given(st.text(max_size=12) | st.from_regex(r"[+-]?[0-9]{0,3}[.,]?[0-9]{0,4}([eE][+-]?[0-9]{1,2})?", fullmatch=True))
@settings(max_examples=200, deadline=None)
def test_columns_and_single_values_follow_one_rule(text: str) -> None:
    read = IdentifierReader("ids").read(pl.Series([text, "a", "b", "c"]))
    one = identifier(text)
    assert (read.text[0], read.problem[0]) == (one.text, one.problem)


def test_numbers(tmp_path: Path) -> None:
    assert [identifier(value).text for value in (7, 7.0, 2**70)] == ["7", "7", str(2**70)]
    assert [identifier(value).problem for value in (7.5, 2.0**53, float("nan"), True, None, [])] == [
        DECIMAL, LOST, MISSING, MISSING, MISSING, MISSING
    ]  # fmt: skip
    decimal = pl.Series(["587722981736906813.00", "2.00", "3.50"]).str.to_decimal(scale=2)
    read = IdentifierReader("ids").read(decimal)
    assert read.text.to_list()[:2] == ["587722981736906813", "2"]
    assert read.problem.to_list() == ["", "", DECIMAL]


@pytest.mark.parametrize("ending", [".parquet", ".fits", ".vot"])
def test_a_missing_integer_is_a_missing_identifier(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"votes{ending}"
    columns = {"id_str": [7, 8, -99], "ring_yes": [1, 2, 3], "ring_no": [1, 1, 1]}
    if ending == ".parquet":
        pl.DataFrame(columns).with_columns(pl.col("id_str").replace(-99, None)).write_parquet(path)
    elif ending == ".fits":
        parts = [fits.Column(name, "J", null=-99, array=np.array(cells)) for name, cells in columns.items()]
        fits.BinTableHDU.from_columns(parts).writeto(path)
    else:
        masked = Table(columns, masked=True)
        masked["id_str"].mask = [False, False, True]
        masked.write(path, format="votable")
    table = read_votes(path, RINGS)
    assert table.rows["id_str"].to_list() == ["7", "8"]
    assert table.dropped.select("row", "reason").rows() == [(3, MISSING)]
    with pytest.raises(TableError, match="row 3: identifier missing"):
        IdentifierReader("ids").read_all(read_table(path)["id_str"])


def test_rows_are_refused_one_by_one_and_a_column_as_a_whole(tmp_path: Path) -> None:
    table = ids(tmp_path, ["1", "2", "5.8e+17", "NA", "3", "4", "5"])
    assert table.rows["id_str"].to_list() == ["1", "2", "3", "4", "5"]
    assert table.dropped.select("row", "reason", "detail").rows() == [
        (3, LOST, "id_str = 5.8e+17"), (4, MISSING, "id_str = NA")
    ]  # fmt: skip
    with pytest.raises(TableError, match=r"floating point .* 2 of 3 identifiers are like '5.8e\+17' .row 2"):
        ids(tmp_path, ["1", "5.8e+17", "5.9e+17", "NA"])
    with pytest.warns(GZooWarning, match="identifiers may be numbers in scientific notation"):
        assert ids(tmp_path, ["8e12", "2ef", "34a"]).rows["id_str"].to_list() == ["8e12", "2ef", "34a"]


def test_mended_identifiers_are_not_merged(tmp_path: Path) -> None:
    """Even with the same votes: they may be two galaxies."""
    path = tmp_path / "votes.parquet"
    for other in ("12.0", "12\u200b", '="12"', " 12"):
        pl.DataFrame({"id_str": ["12", other, "13"], "ring_yes": 1, "ring_no": 1}).write_parquet(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", GZooWarning)
            table = read_votes(path, RINGS)
        assert table.rows["id_str"].to_list() == ["13"]
        assert set(table.dropped["reason"]) == {"identifier equal to another that is written otherwise"}


def test_a_source_id_is_held_to_the_same_rule(tmp_path: Path) -> None:
    with pytest.warns(GZooWarning, match="Column 'source_id' of .*: 1 identifiers were numbers such as 12.0"):
        table = ids(tmp_path, ["a", "b", "c", "d"], source_id=["12.0", "5.8e+17", "NA", "007"])
    assert table.rows["source_id"].to_list() == ["12", "", "", "007"]
    with pytest.raises(TableError, match=r"Column 'source_id' of .* went through floating point"):
        ids(tmp_path, ["a", "b"], source_id=["5.8e+17", "5.9e+17"])


@pytest.mark.parametrize("divisor", [64, 100, 1000])
@pytest.mark.parametrize("as_text", [True, False])
def test_integers_that_were_rounded_are_warned_of(tmp_path: Path, divisor: int, as_text: bool) -> None:
    rounded = [one // divisor * divisor + divisor * i for i, one in enumerate(SDSS)]
    with pytest.warns(GZooWarning, match=rf"all 20 integers above 2\^53 are multiples of {divisor} "):
        table = ids(tmp_path, [str(one) for one in rounded] if as_text else rounded)
    assert len(table.warnings) == 1
    assert not ids(tmp_path, SDSS).warnings
    assert not ids(tmp_path, [*rounded, SDSS[0]]).warnings
    assert not ids(tmp_path, [64 * i for i in range(20)]).warnings


def test_integers_that_floating_point_represents_exactly_are_warned_of(tmp_path: Path) -> None:
    """Of 16 digits only the last bit is lost."""
    with pytest.warns(GZooWarning, match="numbers that floating point represents exactly"):
        ids(tmp_path, [10**16 + 2 * (i * 7 + 1) for i in range(20)])
    assert not ids(tmp_path, [10**16 + i * 7 for i in range(20)]).warnings


def test_predictions_for_neighbours_are_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    rows = [f"{int(float(one))},1,2" for one in [one + 10**6 * i for i, one in enumerate(SDSS)]]
    path.write_text("\n".join(["id_str,ring_yes_concentration,ring_no_concentration", *rows]) + "\n")
    with pytest.warns(
        GZooWarning, match=r"Column 'id_str' of .*p.csv': all 20 integers above 2\^53 are multiples of 64 "
    ):
        read_predictions(path, RINGS.tree)


# --- any identifiers, any format ----------------------------------------------------------------------------------

FORMATS = (".csv", ".parquet", ".fits", ".vot", ".ecsv")
texts = st.text(st.characters(codec="ascii", min_codepoint=32, max_codepoint=126), min_size=1, max_size=12)
hard = st.sampled_from(
    ["1.0", "1", "1.00", "01", "5.8e+17", "8e12", "NA", "nan", '="1"', "587722981736906813", "1,5", "'1"]
)
columns = st.one_of(
    st.lists(texts | hard, min_size=1, max_size=5),
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=5),
    st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=5).map(lambda ids: np.array(ids, np.uint64)),
    st.lists(st.integers(-(2**60), 2**60).map(float) | st.floats(allow_nan=False), min_size=1, max_size=5),
)


def written(path: Path, cells: object) -> Path | None:
    """A table in the format of the file's ending, or None where the format cannot hold the identifiers."""
    values = np.asarray(cells)
    n = np.arange(len(values))
    if path.suffix in (".csv", ".parquet"):
        frame = pl.DataFrame({"id_str": values, "ring_yes": n, "ring_no": 1})
        frame.write_csv(path) if path.suffix == ".csv" else frame.write_parquet(path)
        return path
    table = Table({"id_str": values, "ring_yes": n, "ring_no": np.ones_like(n)})
    kind = {".fits": "fits", ".vot": "votable", ".ecsv": "ascii.ecsv"}[path.suffix]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table.write(path, format=kind, overwrite=True)
    except Exception:
        return None
    return path


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(columns, st.sampled_from(FORMATS))
def test_any_identifier_comes_back_or_is_refused(tmp_path: Path, cells: object, ending: str) -> None:
    path = written(tmp_path / f"votes{ending}", cells)
    if path is None:
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", GZooWarning)
        try:
            table = read_votes(path, RINGS)
        except TableError:
            return
    given_cells = [one.item() if isinstance(one, np.generic) else one for one in np.asarray(cells)]
    places = table.votes.counts[:, 0].tolist()  # the number of votes says which row it was
    found = table.rows["id_str"].to_list()
    assert len(set(found)) == len(found)
    said = " ".join(str(one.message) for one in caught)
    for place, name in zip(places, found, strict=True):
        one = given_cells[place]
        if isinstance(one, str):
            assert name == one.strip() or ("identifiers" in said and identifier(one).text == name)
        else:
            assert int(name) == one
    lost = set(range(len(given_cells))) - set(places)
    assert {row - 1 for row in table.dropped["row"].to_list()} == lost


def test_a_row_of_ecsv_that_looks_like_a_comment_is_not_lost(tmp_path: Path) -> None:
    path = written(tmp_path / "votes.ecsv", ["0", "#1"])
    assert path
    with pytest.raises(TableError, match="starts with '#': it is a row or a comment"):
        read_votes(path, RINGS)
