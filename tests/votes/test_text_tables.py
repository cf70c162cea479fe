"""CSV files: rows that are not rows, quotes, and what stands in place of a header."""

from __future__ import annotations

import csv
import io
import random
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gzoo.errors import GZooWarning, TableError
from gzoo.scoring.predictions import read_predictions
from gzoo.trees.campaign import campaign
from gzoo.votes.reading import VoteTable, read_votes
from gzoo.votes.tables import read_rows, read_table

RINGS, GZ2 = campaign("gz_rings"), campaign("gz2")
CASES = Path(__file__).parents[3] / "shared" / "cases"
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason=f"no {CASES}")
HEADER = "id_str,note,ring_yes,ring_no"
MAPPING = 'ignore = ["note", "more"]\n[answers]\nring_yes = "ring_yes"\nring_no = "ring_no"\n'


def write(folder: Path, text: str) -> Path:
    path = folder / "votes.csv"
    path.write_bytes(text.encode())
    return path


def noted(folder: Path, text: str) -> VoteTable:
    (folder / "m.toml").write_text(MAPPING)
    return read_votes(write(folder, text), RINGS, folder / "m.toml")


def votes_of(table: VoteTable) -> dict[str, list[int]]:
    return dict(zip(table.rows["id_str"].to_list(), table.votes.counts.tolist(), strict=True))


# --- rows ---------------------------------------------------------------------------------------------------------


def test_a_row_with_a_cell_too_few_is_not_padded(tmp_path: Path) -> None:
    table = noted(tmp_path, "id_str,ring_yes,ring_no,more\na,7,1,x\nb,27,1\nc,3,0,\n")
    assert votes_of(table) == {"a": [7, 1], "c": [3, 0]}
    assert table.dropped.select("row", "reason", "detail").rows() == [
        (2, "row has too few cells", "line 3 has 3 cells, the header has 4")
    ]


@pytest.mark.parametrize("end", ["", "\n", "\n\n\n", "\r\n\r\n"])
def test_empty_lines_at_the_end_are_no_rows(tmp_path: Path, end: str) -> None:
    table = noted(tmp_path, f"{HEADER}\na,x,1,2\nb,,3,4{end}")
    assert (table.n_rows, votes_of(table), table.dropped.height) == (2, {"a": [1, 2], "b": [3, 4]}, 0)


QUOTED = 'a,"two\nlines",1,2\nb,"x, ""y""",3,4\nc,"",5,6\nd,"li\n,n\n\nes",7,8\ne,plain,9,10\n'
QUOTED_VOTES = {"a": [1, 2], "b": [3, 4], "c": [5, 6], "d": [7, 8], "e": [9, 10]}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("", ""),
        ("z,1\n", "row has too few cells"),
        ("z,1,2,3,4\n", "row has too many cells"),
        ('z,"x,1,2\n', "row cannot be parsed"),
        ('z,"x"y,1,2\n', "row cannot be parsed"),
        ('z,5" disk,1,2\n', "row cannot be parsed"),
        ("\n", "row has too few cells"),
    ],
)
@pytest.mark.parametrize("place", [0, 2, 5])
def test_quoted_cells_survive_a_damaged_row(tmp_path: Path, bad: str, reason: str, place: int) -> None:
    rows = list(csv.reader(io.StringIO(QUOTED)))
    texts = ['a,"two\nlines",1,2\n', 'b,"x, ""y""",3,4\n', 'c,"",5,6\n', 'd,"li\n,n\n\nes",7,8\n', "e,plain,9,10\n"]
    assert [len(row) for row in rows] == [4] * 5
    table = noted(tmp_path, f"{HEADER}\n{''.join([*texts[:place], bad, *texts[place:]])}")
    if place == 5 and bad == "\n":  # at the end
        reason = ""
    assert votes_of(table) == QUOTED_VOTES
    assert table.dropped["reason"].to_list() == ([reason] if reason else [])
    notes = read_rows(tmp_path / "votes.csv").frame["note"].drop_nulls().to_list()
    assert notes == ["two\nlines", 'x, "y"', "li\n,n\n\nes", "plain"]


def test_half_of_a_note_is_no_galaxy(tmp_path: Path) -> None:
    """With a comma in it, the second line of a note has as many cells as a row."""
    whole = 'a,"two\nli,nes",1,2\nb,x,3,4\n'
    assert votes_of(noted(tmp_path, f"{HEADER}\n{whole}")) == {"a": [1, 2], "b": [3, 4]}
    for damaged in (whole.replace('nes"', "nes"), whole.replace('"two', "two"), whole.replace('"two', '"tw"o')):
        assert votes_of(noted(tmp_path, f"{HEADER}\n{damaged}")) == {"b": [3, 4]}


def test_a_quote_that_moved_does_not_join_galaxies(tmp_path: Path) -> None:
    table = noted(tmp_path, f'{HEADER}\na,"x,1,2\nb,y",3,4\nc,z,5,6\n')  # formally one row, with b's counts under a
    assert votes_of(table) == {"c": [5, 6]}
    assert table.dropped.select("row", "reason").rows() == [(1, "row cannot be parsed"), (2, "row cannot be parsed")]


def test_predictions_are_read_by_the_same_rule(tmp_path: Path) -> None:
    text = "id_str,ring_yes_concentration,ring_no_concentration,note\na,1,2,\nb,3,4\n"
    with pytest.raises(TableError, match=r"row 2: row has too few cells \(line 3 has 3 cells, the header has 4\)"):
        read_predictions(write(tmp_path, text), RINGS.tree)


def test_every_row_having_another_number_of_cells_is_said_once(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"each of the 3 rows has 4 cells, but the header .line 1. has 3"):
        read_table(write(tmp_path, "id_str,ring_yes,ring_no\n1,a,1,2\n2,b,3,4\n3,c,5,6\n"))
    with pytest.raises(TableError, match=r"each of the 2 rows has 3 cells, but the header .line 1. has 2"):
        read_table(write(tmp_path, "My galaxies,2010\na,1,2\nb,1,2\n"))


cells = st.text(st.sampled_from('ab7,"\n '), max_size=5)
tables = st.lists(st.tuples(cells, st.integers(0, 99), st.integers(0, 99)), min_size=2, max_size=6)


@pytest.mark.filterwarnings("ignore::gzoo.errors.GZooWarning")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tables, st.integers(0, 2**32))
def test_no_counts_change_in_silence(tmp_path: Path, rows: list[tuple[str, int, int]], seed: int) -> None:
    """One cell or quote is removed, added or moved to another place."""
    chance = random.Random(seed)
    grid = [[f"g{i}", note, str(yes), str(no)] for i, (note, yes, no) in enumerate(rows)]
    true = {one[0]: [int(one[2]), int(one[3])] for one in grid}
    style = chance.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
    ends = HEADER.split(",")

    def text(content: list[list[str]]) -> str:
        file = io.StringIO()
        csv.writer(file, quoting=style, lineterminator="\n").writerows([ends, *content])
        return file.getvalue()

    plain = noted(tmp_path, text(grid))
    assert votes_of(plain) | {name: true[name] for name in true if name not in votes_of(plain)} == true
    assert set(plain.dropped["detail"]) <= {one for one in plain.dropped["detail"] if "two quotes that may not" in one}
    moved = grid if chance.random() < 0.5 else [row.copy() for row in grid]
    written = text(grid)
    start = len(text([]))
    if moved is not grid:
        taken = chance.choice(moved)
        cell = taken.pop(chance.randrange(4))
        other = chance.choice([row for row in moved if row is not taken])
        if chance.random() < 0.7:
            other.insert(chance.randrange(len(other) + 1), cell)
        written = text(moved)
    else:
        quotes = [i for i, sign in enumerate(written) if sign == '"' and i >= start]
        if quotes and chance.random() < 0.7:
            i = chance.choice(quotes)
            written = written[:i] + written[i + 1 :]
        if chance.random() < 0.7:
            i = chance.randrange(start, len(written) + 1)
            written = written[:i] + '"' + written[i:]
    try:
        table = noted(tmp_path, written)
    except TableError:
        return
    found = votes_of(table)
    assert {name: found[name] for name in found if name in true} == {name: true[name] for name in found if name in true}
    assert table.dropped.height or set(found) == set(true) or len(table.rows) < len(true) or '"' in "".join(found)


# --- above the rows -----------------------------------------------------------------------------------------------


def test_titles_and_comments_above_the_header_are_skipped_and_said(tmp_path: Path) -> None:
    rows = "id_str,ring_yes,ring_no\na,1,2\nb,3,4\n"
    for title in ("#Table1\n", "My galaxies\n", "\ufeff#Table1\n# by me, 2010\n\n", "sep=,\n"):
        with pytest.warns(GZooWarning, match="no header; column names are read from line"):
            table = read_votes(write(tmp_path, title + rows), RINGS)
        assert votes_of(table) == {"a": [1, 2], "b": [3, 4]}
    with pytest.warns(GZooWarning, match=r"line 1 \('#Table1'\) is no header; column names are read from line 2"):
        read_rows(write(tmp_path, f"#Table1\n{rows}"))


def test_a_header_with_a_sign_and_spaces(tmp_path: Path) -> None:
    with pytest.warns(GZooWarning, match="line 1: column names are read without '#', spaces or invisible characters"):
        table = read_votes(write(tmp_path, "# id_str, ring_yes, ring_no\na, 1, 2\n b, 3, 4\n"), RINGS)
    assert votes_of(table) == {"a": [1, 2], "b": [3, 4]}


def test_a_header_with_a_quoted_line_break_is_named(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="line 1: a quote that begins a column name does not end in this line"):
        noted(tmp_path, 'id_str,"a\nnote",ring_yes,ring_no\na,x,1,2\n')


def test_a_header_that_lacks_a_name_is_not_replaced_by_a_row(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"each of the 2 rows has 3 cells, but the header .line 1. has 1"):
        read_rows(write(tmp_path, "id_str\n1,2,3\n4,5,6\n"))


@pytest.mark.parametrize("name", ["", "Unnamed: 0"])
def test_an_index_without_a_name_is_not_used_and_said(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, f"{name},id_str,ring_yes,ring_no\n0,a,1,2\n1,b,3,4\n")
    with pytest.warns(GZooWarning, match=r"index of pandas, are not used: Unnamed: 0 \(first value: '0'\)"):
        table = read_votes(path, RINGS)
    assert votes_of(table) == {"a": [1, 2], "b": [3, 4]}
    assert table.excluded == ("Unnamed: 0",)


def test_the_index_of_a_pandas_table_in_parquet(tmp_path: Path) -> None:
    frame = pl.DataFrame({"id_str": ["a"], "ring_yes": [1], "ring_no": [2], "__index_level_0__": [0]})
    frame.write_parquet(tmp_path / "votes.parquet")
    with pytest.warns(GZooWarning, match="index of pandas"):
        assert votes_of(read_votes(tmp_path / "votes.parquet", RINGS)) == {"a": [1, 2]}


@pytest.mark.parametrize("sign", [";", "\t", "|"])
def test_other_separators_are_named(tmp_path: Path, sign: str) -> None:
    for title in ("", "Title\n"):
        text = title + "id_str;ra;ring_yes\na;1,5;2\nb;2,5;3\n".replace(";", sign)
        with pytest.raises(TableError, match="are separated by"):
            read_rows(write(tmp_path, text))


def test_fits_ascii_tables_are_read_as_text(tmp_path: Path) -> None:
    """With integers of any size, exponents of Fortran, and empty cells that are not 0."""
    columns = [
        fits.Column("id_str", "I20", array=np.array([587722981736906813, 2, 3])),
        fits.Column("ring_yes", "D25.17", array=np.array([12.0, 3.0, 4.0])),
        fits.Column("ring_no", "I5", null="-99", array=np.array([1, -99, 5])),
    ]
    fits.TableHDU.from_columns(columns).writeto(tmp_path / "votes.fits")
    table = read_votes(tmp_path / "votes.fits", RINGS)
    assert votes_of(table) == {"587722981736906813": [12, 1], "3": [4, 5]}
    assert table.dropped.select("row", "reason").rows() == [(2, "count missing")]


# --- counts -------------------------------------------------------------------------------------------------------


def gaps(folder: Path, **changed: int | None) -> VoteTable:
    """Ten galaxies, all smooth, with gaps in place of counts of questions that nobody was asked."""
    cells: dict[str, int | None] = dict.fromkeys(GZ2.tree.columns)
    cells |= {"smooth-or-featured-gz2_smooth": 5, "smooth-or-featured-gz2_featured-or-disk": 0}
    cells |= {"smooth-or-featured-gz2_artifact": 0, "something-odd-gz2_yes": 0, "something-odd-gz2_no": 5}
    cells |= dict.fromkeys(GZ2.tree.question("how-rounded-gz2").columns, 0) | {"how-rounded-gz2_round": 5} | changed
    frame = pl.DataFrame(
        [{"id_str": f"g{i}", **cells} for i in range(10)], schema_overrides=dict.fromkeys(cells, pl.Float32)
    )
    frame.write_parquet(folder / "votes.parquet")
    return read_votes(folder / "votes.parquet", GZ2)


def test_gaps_are_0_where_nobody_was_asked(tmp_path: Path) -> None:
    with pytest.warns(
        GZooWarning, match=r"read as 0 where the parent answers have no votes.*disk-edge-on-gz2 in 10 rows"
    ):
        table = gaps(tmp_path)
    assert len(table.votes) == 10
    assert table.votes.counts.sum(axis=1).tolist() == [15] * 10
    assert "read as 0" in table.warnings[0]


def test_gaps_where_somebody_was_asked_are_missing_counts(tmp_path: Path) -> None:
    with pytest.warns(GZooWarning, match="read as 0"):
        table = gaps(tmp_path, **{"smooth-or-featured-gz2_featured-or-disk": 1})
    assert set(table.dropped["reason"]) == {"count missing"}
    assert "disk-edge-on-gz2_yes" in table.dropped["detail"][0]


def test_gaps_in_place_of_every_0_are_the_cause(tmp_path: Path) -> None:
    frame = pl.DataFrame({"id_str": [f"g{i}" for i in range(12)], "ring_yes": [None, 3] * 6, "ring_no": [5, None] * 6})
    frame.write_parquet(tmp_path / "votes.parquet")
    with pytest.raises(
        TableError, match=r"in 12 of 12 rows some answers .* no count in the table is 0: there seem to be gaps"
    ):
        read_votes(tmp_path / "votes.parquet", RINGS)


# --- cases --------------------------------------------------------------------------------------------------------


@needs_cases
@pytest.mark.parametrize(
    ("case", "dropped", "said"),
    [
        ("short_ignored", {8: "row has too few cells", 20: "row has too few cells"}, ""),
        ("csv_multiline_ragged2", {21: "row has too many cells"}, ""),
        ("csv_table1", {}, "line 1 ('#Table1') is no header"),
        ("csv_hash_space", {}, "without '#', spaces"),
        ("csv_index", {}, "Unnamed: 0"),
        ("id_csv_eq", {}, "were protected from a spreadsheet"),
    ],
)
@pytest.mark.filterwarnings("ignore::gzoo.errors.GZooWarning")
def test_cases_are_read_right(case: str, dropped: dict[int, str], said: str, recwarn: pytest.WarningsRecorder) -> None:
    mapping = CASES / case / "m.toml"
    table = read_votes(CASES / case / "votes.csv", GZ2, mapping if mapping.is_file() else None)
    assert dict(table.dropped.select("row", "reason").iter_rows()) == dropped
    assert len(table.votes) == 40 - len(dropped)
    assert said in " ".join(str(one.message) for one in recwarn)
    sound = read_votes(CASES / "csv_table1" / "votes.csv", GZ2)
    counts = dict(zip(sound.rows["row"].to_list(), sound.votes.counts.tolist(), strict=True))
    assert table.votes.counts.tolist() == [counts[row] for row in table.rows["row"].to_list()]


@needs_cases
def test_cases_that_name_their_cause(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="there seem to be gaps where nobody gave an answer"):
        read_votes(CASES / "f_floatcount" / "votes.fits", GZ2)
    for case in ("id_csv_sci", "id_csv_dot0"):
        with pytest.raises(TableError, match="went through floating point or a spreadsheet: 40 of 40"):
            read_votes(CASES / case / "votes.csv", GZ2)
