"""Vote tables become counts, and every dropped row has a reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gzoo
from gzoo.errors import GZooWarning, InputError, NotFoundError, TableError
from gzoo.trees.campaign import campaign
from gzoo.trees.tree import Question, Tree
from gzoo.votes.reading import VoteTable, read_votes
from gzoo.votes.votes import Votes

SHARED = Path(__file__).parents[3] / "shared" / "data"
STRIPE_82 = SHARED / "gz2_coadd" / "counts.csv"
needs_stripe_82 = pytest.mark.skipif(not STRIPE_82.is_file(), reason=f"no {STRIPE_82}")

RINGS, GZ2 = campaign("gz_rings"), campaign("gz2")


def write(folder: Path, text: str, name: str = "votes.csv") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def rings(folder: Path, *rows: str, header: str = "id_str,ring_yes,ring_no") -> VoteTable:
    return read_votes(write(folder, "\n".join([header, *rows]) + "\n"), RINGS)


def reasons(table: VoteTable) -> dict[int, str]:
    return dict(table.dropped.select("row", "reason").iter_rows())


# --- the Stripe 82 table ------------------------------------------------------------------------------------------

# question -> (start of its table columns, dataset answer -> end of the table column)
STRIPE_82_COLUMNS: dict[str, tuple[str, dict[str, str]]] = {
    "smooth-or-featured": ("t01_smooth_or_features_", {
        "smooth": "a01_smooth", "featured-or-disk": "a02_features_or_disk", "artifact": "a03_star_or_artifact"}),
    "disk-edge-on": ("t02_edgeon_", {"yes": "a04_yes", "no": "a05_no"}),
    "bar": ("t03_bar_", {"yes": "a06_bar", "no": "a07_no_bar"}),
    "has-spiral-arms": ("t04_spiral_", {"yes": "a08_spiral", "no": "a09_no_spiral"}),
    "bulge-size": ("t05_bulge_prominence_", {
        "no": "a10_no_bulge", "just-noticeable": "a11_just_noticeable", "obvious": "a12_obvious",
        "dominant": "a13_dominant"}),
    "something-odd": ("t06_odd_", {"yes": "a14_yes", "no": "a15_no"}),
    "how-rounded": ("t07_rounded_", {
        "round": "a16_completely_round", "in-between": "a17_in_between", "cigar": "a18_cigar_shaped"}),
    "odd-features": ("t08_odd_feature_", {
        "ring": "a19_ring", "lens-or-arc": "a20_lens_or_arc", "disturbed": "a21_disturbed",
        "irregular": "a22_irregular", "other": "a23_other", "merger": "a24_merger", "dust-lane": "a38_dust_lane"}),
    "bulge-shape": ("t09_bulge_shape_", {"round": "a25_rounded", "boxy": "a26_boxy", "no-bulge": "a27_no_bulge"}),
    "spiral-winding": ("t10_arms_winding_", {"tight": "a28_tight", "medium": "a29_medium", "loose": "a30_loose"}),
    "spiral-arm-count": ("t11_arms_number_", {
        "1": "a31_1", "2": "a32_2", "3": "a33_3", "4": "a34_4", "more-than-4": "a36_more_than_4",
        "cant-tell": "a37_cant_tell"}),
}  # fmt: skip
STRIPE_82_PARENTS = {
    "disk-edge-on": ["smooth-or-featured_featured-or-disk"],
    "bar": ["disk-edge-on_no"],
    "has-spiral-arms": ["disk-edge-on_no"],
    "bulge-size": ["disk-edge-on_no"],
    "something-odd": ["smooth-or-featured_smooth", "smooth-or-featured_featured-or-disk"],
    "how-rounded": ["smooth-or-featured_smooth"],
    "odd-features": ["something-odd_yes"],
    "bulge-shape": ["disk-edge-on_yes"],
    "spiral-winding": ["has-spiral-arms_yes"],
    "spiral-arm-count": ["has-spiral-arms_yes"],
}


def stripe_82(question: str, answer: str) -> str:
    start, ends = STRIPE_82_COLUMNS[question]
    return f"{start}{ends[answer]}_count"


def stripe_82_mapping(folder: Path) -> Path:
    lines = ['id_str = "objid"', 'ra = "ra"', 'dec = "dec"', 'ignore = ["sample", "total_*"]', "[answers]"]
    for question, (_, answers) in STRIPE_82_COLUMNS.items():
        lines += [f'"{question}-gz2_{answer}" = "{stripe_82(question, answer)}"' for answer in answers]
    return write(folder, "\n".join(lines), "stripe82.toml")


@needs_stripe_82
def test_all_stripe_82_rows_become_votes(tmp_path: Path) -> None:
    table = gzoo.read_votes(STRIPE_82, GZ2, stripe_82_mapping(tmp_path))
    raw = pl.read_csv(STRIPE_82, schema_overrides={"objid": pl.String})
    assert (table.n_rows, len(table.votes), table.dropped.height) == (19_761, 19_761, 0)
    assert table.rows["id_str"].to_list() == raw["objid"].to_list()
    assert table.rows["row"].to_list() == list(range(1, 19_762))
    np.testing.assert_allclose(table.rows["ra"], raw["ra"])
    assert set(table.collected) == {question.name for question in GZ2.tree.questions}
    assert set(table.excluded) == {"sample", "total_votes", "total_classifications"}
    for question in STRIPE_82_COLUMNS:
        for answer in STRIPE_82_COLUMNS[question][1]:
            place = GZ2.tree.columns.index(f"{question}-gz2_{answer}")
            assert (table.votes.counts[:, place] == raw[stripe_82(question, answer)].to_numpy()).all()


# --- cells --------------------------------------------------------------------------------------------------------

BAD_CELLS = {
    "-1": "count negative",
    "-inf": "count negative",
    "2.5": "count not an integer",
    "nan": "count missing",
    "NaN": "count missing",
    "": "count missing",
    "  ": "count missing",
    "many": "count is not a number",
    "1 2": "count is not a number",
    "1_0": "count is not a number",
    "0x1": "count is not a number",
    "true": "count is not a number",
    "null": "count is not a number",
    "inf": "count too large",
    "1e400": "count too large",
    "2147483648": "count too large",
    "99999999999999999999": "count too large",
}


@pytest.mark.parametrize(("cell", "reason"), BAD_CELLS.items(), ids=repr)
def test_a_bad_cell_drops_its_row_with_the_reason(tmp_path: Path, cell: str, reason: str) -> None:
    table = rings(tmp_path, "a,1,2", f"b,{cell},2", "c,3,4")
    assert table.rows["id_str"].to_list() == ["a", "c"]
    assert table.votes.counts.tolist() == [[1, 2], [3, 4]]
    assert table.dropped.rows() == [("b", 2, None, reason, f"ring_yes = {cell.strip()}")]


@pytest.mark.parametrize("cell", ["3", "3.0", " 3 ", "3e0", "+3"])
def test_notations_of_an_integer_count(tmp_path: Path, cell: str) -> None:
    assert rings(tmp_path, f"a,{cell},2147483640").votes.counts.tolist() == [[3, 2147483640]]


def test_a_row_with_several_problems_is_dropped_once_and_names_all(tmp_path: Path) -> None:
    table = rings(tmp_path, "a,-1,many", "b,1,1", "c,1,1")
    assert table.dropped["reason"].to_list() == ["count negative"]
    assert table.dropped["detail"].to_list() == ["ring_yes = -1; ring_no = many"]


def test_votes_that_add_up_to_more_than_a_column_holds(tmp_path: Path) -> None:
    table = rings(tmp_path, "a,2000000000,2000000000", "b,1,1")
    assert reasons(table) == {1: "count too large"}


def test_all_rows_may_be_bad(tmp_path: Path) -> None:
    path = write(tmp_path, "id_str,ring_yes,ring_no\na,-1,1\n,1,1\n")
    table = read_votes(path, RINGS)
    assert (len(table.votes), table.rows.height, table.dropped.height) == (0, 0, 2)


@pytest.mark.parametrize(
    "values",
    [
        pl.Series([1.0, 2.5, float("nan"), None, float("inf")]),
        pl.Series(["1", "2.5", "nan", None, "inf"]),
        pl.Series(["1", "2.5", "nan", None, "inf"], dtype=pl.Categorical),
    ],
    ids=["float", "text", "categorical"],
)
def test_parquet_cells(tmp_path: Path, values: pl.Series) -> None:
    frame = pl.DataFrame({"id_str": list("abcde"), "ring_yes": values, "ring_no": [1] * 5})
    frame.write_parquet(tmp_path / "votes.parquet")
    table = read_votes(tmp_path / "votes.parquet", RINGS)
    assert table.rows["id_str"].to_list() == ["a"]
    assert reasons(table) == {2: "count not an integer", 3: "count missing", 4: "count missing", 5: "count too large"}


@pytest.mark.parametrize("dtype", [pl.Int8, pl.UInt64, pl.Float32, pl.Decimal(10, 2), pl.String], ids=str)
def test_parquet_counts_of_any_number_type(tmp_path: Path, dtype: pl.DataType) -> None:
    frame = pl.DataFrame({"id_str": ["a", "b"], "ring_yes": pl.Series([1, 2]).cast(dtype), "ring_no": [0, 0]})
    frame.write_parquet(tmp_path / "votes.parquet")
    assert read_votes(tmp_path / "votes.parquet", RINGS).votes.counts.tolist() == [[1, 0], [2, 0]]


NO_NUMBERS = {
    "list": pl.Series([[1], [2]]),
    "struct": pl.Series([{"n": 1}, {"n": 2}]),
    "date": pl.Series([1, 2]).cast(pl.Date),
    "boolean": pl.Series([True, False]),
    "binary": pl.Series([b"1", b"\xff"]),
    "duration": pl.Series([1, 2]).cast(pl.Duration),
}


@pytest.mark.parametrize("column", ["id_str", "ring_yes"])
@pytest.mark.parametrize("values", NO_NUMBERS.values(), ids=NO_NUMBERS)
def test_columns_of_other_types_are_rejected(tmp_path: Path, values: pl.Series, column: str) -> None:
    frame = pl.DataFrame({"id_str": ["a", "b"], "ring_yes": [1, 2], "ring_no": [0, 0]})
    frame.with_columns(values.alias(column)).write_parquet(tmp_path / "votes.parquet")
    with pytest.raises(TableError, match=f"Column '{column}' .* has type"):
        read_votes(tmp_path / "votes.parquet", RINGS)


# --- identifiers --------------------------------------------------------------------------------------------------

ODD_IDS = [
    "007",
    "007.0",
    "1.2.3",
    "587722981736906813",
    "J0001+0002",
    "NGC 224",
    "ναὸς",
    "星系",
    "a/b",
    "Nan 3",
    "-1",
]


def test_identifiers_stay_text(tmp_path: Path) -> None:
    assert rings(tmp_path, *(f"{name},1,1" for name in ODD_IDS)).rows["id_str"].to_list() == ODD_IDS


def test_identifiers_stay_text_in_parquet(tmp_path: Path) -> None:
    frame = pl.DataFrame({"id_str": ODD_IDS, "ring_yes": 1, "ring_no": 1})
    frame.write_parquet(tmp_path / "votes.parquet")
    assert read_votes(tmp_path / "votes.parquet", RINGS).rows["id_str"].to_list() == ODD_IDS


def test_integers_are_identifiers_too(tmp_path: Path) -> None:
    path = tmp_path / "votes.parquet"
    pl.DataFrame({"id_str": [587722981736906813, 7], "ring_yes": 1, "ring_no": 1}).write_parquet(path)
    assert read_votes(path, RINGS).rows["id_str"].to_list() == ["587722981736906813", "7"]
    pl.DataFrame({"id_str": [57314.0, None, float("nan"), 8.0], "ring_yes": 1, "ring_no": 1}).write_parquet(path)
    with pytest.warns(GZooWarning, match=r"2 identifiers were numbers such as 12.0, and are read as integers"):
        table = read_votes(path, RINGS)  # a spreadsheet's idea of 57314
    assert table.rows["id_str"].to_list() == ["57314", "8"]
    assert reasons(table) == {2: "identifier missing", 3: "identifier missing"}


@pytest.mark.parametrize(("dtype", "first_lost"), [(pl.Float64, 2.0**53), (pl.Float32, 2.0**24)], ids=str)
def test_identifiers_that_may_have_lost_digits_are_rejected(
    tmp_path: Path, dtype: pl.DataType, first_lost: float
) -> None:
    frame = pl.DataFrame({"id_str": pl.Series([first_lost - 1, 7.0], dtype=dtype), "ring_yes": 1, "ring_no": 1})
    frame.write_parquet(tmp_path / "votes.parquet")
    with pytest.warns(GZooWarning, match="are read as integers"):
        assert read_votes(tmp_path / "votes.parquet", RINGS).rows["id_str"].to_list() == [f"{first_lost - 1:.0f}", "7"]
    frame.with_columns(pl.col("id_str") + 1).write_parquet(tmp_path / "votes.parquet")
    with pytest.raises(TableError, match="digits were lost"):
        read_votes(tmp_path / "votes.parquet", RINGS)


def test_identifiers_that_lost_their_digits_are_rejected(tmp_path: Path) -> None:
    """587722981736906813 read as float64 is 587722981736906752, another galaxy."""
    path = tmp_path / "votes.parquet"
    pl.DataFrame({"id_str": [587722981736906813.0, 7.0], "ring_yes": 1, "ring_no": 1}).write_parquet(path)
    with pytest.raises(TableError, match=r"'id_str' of .* contains Float64.*digits were lost"):
        read_votes(path, RINGS)


@pytest.mark.parametrize("cell", ["", "   ", '""'])
def test_a_row_without_identifier_is_dropped(tmp_path: Path, cell: str) -> None:
    table = rings(tmp_path, f"{cell},1,1", "b,1,1")
    assert table.dropped.rows() == [("", 1, None, "identifier missing", "column id_str is empty")]


def test_equal_duplicates_keep_the_first(tmp_path: Path) -> None:
    table = rings(tmp_path, "a,1,2", "b,1,2", "a,1,2", "a,1,2")
    assert table.rows.select("row", "id_str").rows() == [(1, "a"), (2, "b")]
    assert reasons(table) == {
        3: "duplicate identifier with the same votes",
        4: "duplicate identifier with the same votes",
    }
    assert table.dropped["detail"][0] == "id_str a is in rows 1, 3, 4"


def test_conflicting_duplicates_are_all_dropped(tmp_path: Path) -> None:
    table = rings(tmp_path, "a,1,2", "b,1,2", "a,1,3", "a,1,2")
    assert table.rows["id_str"].to_list() == ["b"]
    assert set(reasons(table)) == {1, 3, 4}
    assert set(reasons(table).values()) == {"duplicate identifier with different votes or images"}


def test_duplicates_with_other_images_are_all_dropped(tmp_path: Path) -> None:
    table = rings(tmp_path, "a,1,2,x.jpg", "a,1,2,y.jpg", header="id_str,ring_yes,ring_no,filename")
    assert len(table.votes) == 0


def test_a_bad_row_is_not_equal_to_a_good_one(tmp_path: Path) -> None:
    """-1 is not the 0 of its duplicate, and which of them is right is not known."""
    table = rings(tmp_path, "a,-1,2", "a,0,2", "b,1,1", "c,1,1")
    assert reasons(table) == {1: "count negative", 2: "duplicate identifier with different votes or images"}


def test_one_identifier_at_two_places_is_a_contradiction(tmp_path: Path) -> None:
    """A rounded identifier may stand for two galaxies, even where their votes are equal."""
    places = ["10,0", "100,0", "20,5", "20,5.0005", "30,5", "30,5.0006", "40,1", ",", "50,1", "50,1"]
    lines = [f"{chr(97 + i // 2)},1,2,{place}" for i, place in enumerate(places)]
    table = rings(tmp_path, *lines, header="id_str,ring_yes,ring_no,ra,dec")
    apart, same = "duplicate identifier at different positions", "duplicate identifier with the same votes"
    assert reasons(table) == {1: apart, 2: apart, 4: same, 5: apart, 6: apart, 8: same, 10: same}
    assert table.dropped["detail"][0] == "id_str a is in rows 1, 2: ra 10.0, dec 0.0 here"


def test_one_identifier_in_two_datasets_is_two_galaxies(tmp_path: Path) -> None:
    table = rings(tmp_path, "a,1,2,x", "a,3,4,y", header="id_str,ring_yes,ring_no,dataset_name")
    assert table.rows["dataset_name"].to_list() == ["x", "y"]


# --- positions and totals -----------------------------------------------------------------------------------------


def test_positions(tmp_path: Path) -> None:
    """A tenth of the positions may be bad: their rows are dropped with the reason."""
    cells = ["10,-90", "0,90", "360,0", ",", "nan,NaN", "361,0", "-1,0", "0,91", "here,0", "inf,0"]
    rows = [*cells, *(f"{i},{i / 2}" for i in range(30, 70))]
    lines = [f"{i},1,1,{cell}" for i, cell in enumerate(rows)]
    with pytest.warns(GZooWarning, match=r"4 of 48 positions cannot be .* \(first: row 6, ra = '361', dec = '0'\)"):
        table = rings(tmp_path, *lines, header="id_str,ring_yes,ring_no,ra,dec")
    assert table.rows["row"].to_list() == [1, 2, 3, 4, 5, 7, *range(11, 51)]
    assert table.rows["ra"][:6].to_list()[:3] == [10, 0, 360]
    assert table.rows["ra"][5] == 359
    assert table.rows["ra"].is_nan().to_list()[:6] == [False, False, False, True, True, False]
    assert table.rows["ra"].null_count() == table.rows["dec"].null_count() == 0
    out, unread = "position out of range", "position cannot be read"
    assert reasons(table) == {6: out, 8: out, 9: unread, 10: unread}
    assert table.dropped.filter(row=6)["detail"].item() == "ra = 361, dec = 0"
    assert table.positions
    assert table.positions.n_missing == {"empty": 2}
    with pytest.raises(TableError, match="4 of 8 positions cannot be read or are out of range"):
        rings(tmp_path, *lines[:10], header="id_str,ring_yes,ring_no,ra,dec")


def test_a_total_that_is_not_the_sum_drops_its_row(tmp_path: Path) -> None:
    table = rings(
        tmp_path, "a,1,2,3", "b,1,2,4", "c,1,2,", "d,0,0,0", header="id_str,ring_yes,ring_no,ring_total-votes"
    )
    assert table.rows["id_str"].to_list() == ["a", "d"]
    assert reasons(table) == {2: "total does not match", 3: "count missing"}
    assert table.dropped["detail"][0] == "ring_total-votes = 4, not the sum of the answers (3)"


def odd_features(folder: Path, total: str | None) -> VoteTable:
    """One galaxy with 5 votes for something odd, and 3 and 2 ticked boxes."""
    cells = {"id_str": "a", "something-odd-gz2_yes": "5", "something-odd-gz2_no": "4"}
    cells |= dict.fromkeys(GZ2.tree.question("odd-features-gz2").columns, "0")
    cells |= {"odd-features-gz2_ring": "3", "odd-features-gz2_other": "2"}
    if total is not None:
        cells["odd-features-gz2_total-votes"] = total
    return read_votes(write(folder, f"{','.join(cells)}\n{','.join(cells.values())}\n"), GZ2)


def test_totals_where_several_answers_are_allowed(tmp_path: Path) -> None:
    i = [question.name for question in GZ2.tree.questions].index("odd-features-gz2")
    assert odd_features(tmp_path, None).votes.totals[0, i] == 5
    assert odd_features(tmp_path, "4").votes.totals[0, i] == 4
    assert reasons(odd_features(tmp_path, "2")) == {1: "total does not match"}


# --- whole tables -------------------------------------------------------------------------------------------------


def gz2_header(*questions: str) -> str:
    return ",".join(["id_str", *(column for name in questions for column in GZ2.tree.question(name).columns)])


BAD_TABLES = {
    "no rows": ("id_str,ring_yes,ring_no\n", "does not contain any rows"),
    "empty file": ("", "is empty"),
    "only line ends": ("\n\n\n", "is empty"),
    "fractions": ("id_str,ring_yes,ring_no\na,0.4,0.6\nb,0.1,0.9\n", "contains fractions"),
    "an unknown column": ("id_str,ring_yes,ring_no,colour\na,1,1,red\n", "unexpected columns .1.: colour"),
    "a column twice": (
        "id_str,ring_yes,ring_no,ring_no\na,1,1,1\n",
        "the column 'ring_no' more than once .columns 3, 4",
    ),
    "no identifiers": ("name,ring_yes,ring_no\na,1,1\n", "Column 'id_str', which .* not found"),
    "half a question": ("id_str,ring_yes\na,1\n", "some answers of 'ring', but not 'ring_no'"),
    "no votes": ("id_str,ra\na,1\n", "does not contain a column of votes"),
    "a total without its answers": ("id_str,ra,ring_total-votes\na,1,1\n", "does not contain a column of votes"),
    "semicolons": ("id_str;ring_yes;ring_no\na;1;1\n", "separated by ';'"),
    "old line ends": ("id_str,ring_yes,ring_no\ra,1,1\r", "carriage return"),
    "an open quote in the header": ('"id_str,ring_yes,ring_no\na,1,1\n', "line 1"),
}


@pytest.mark.parametrize(("text", "message"), BAD_TABLES.values(), ids=BAD_TABLES)
def test_unusable_tables_are_rejected(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(TableError, match=message) as caught:
        read_votes(path, RINGS)
    assert str(path) in str(caught.value)
    assert caught.value.expected
    assert caught.value.hint


def test_a_total_without_its_answers_beside_other_votes(tmp_path: Path) -> None:
    path = write(tmp_path, f"{gz2_header('smooth-or-featured-gz2')},bar-gz2_total-votes\na,1,1,1,3\n")
    with pytest.raises(TableError, match="total of 'bar-gz2', but not its answers"):
        read_votes(path, GZ2)


def test_short_rows_are_dropped(tmp_path: Path) -> None:
    assert reasons(rings(tmp_path, "a,1", "b,1,1")) == {1: "row has too few cells"}


@pytest.mark.parametrize("suffix", [".txt", ".csv.gz", ".fits.gz", ""])
def test_other_kinds_of_file_are_rejected(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path, "id_str,ring_yes,ring_no\na,1,1\n", f"votes{suffix}")
    with pytest.raises(TableError, match="CSV, Parquet, FITS, VOTable or ECSV"):
        read_votes(path, RINGS)


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(NotFoundError, match="Table not found"):
            read_votes(path, RINGS)


def test_text_that_is_not_utf8_drops_its_row(tmp_path: Path) -> None:
    (tmp_path / "votes.csv").write_bytes("id_str,ring_yes,ring_no\na,1,1\né,1,1\nc,1,1\n".encode("latin-1"))
    table = read_votes(tmp_path / "votes.csv", RINGS)
    assert table.rows["id_str"].to_list() == ["a", "c"]
    assert table.dropped.select("row", "reason", "detail").rows() == [
        (2, "text is not UTF-8", "line 3, byte 1 is 0xe9")
    ]


def test_a_row_with_too_many_or_too_few_cells_is_dropped(tmp_path: Path) -> None:
    table = rings(tmp_path, "a,1,1", "b,1,1,1", "c,2,2", '"d,1,1', "e,1", "", "f,3,3")
    assert table.rows["id_str"].to_list() == ["a", "c", "f"]
    assert reasons(table) == {
        2: "row has too many cells", 4: "row cannot be parsed", 5: "row has too few cells", 6: "row has too few cells"
    }  # fmt: skip
    assert table.dropped["detail"][0] == "line 3 has 4 cells, the header has 3"


def test_rows_with_giant_cells_are_dropped_and_shortened_in_the_detail(tmp_path: Path) -> None:
    giant = "9" * 10_000_000
    table = rings(tmp_path, "a,1,1", f"b,{giant},1", f"{giant},1,1", "d,2,2")
    assert table.rows["id_str"].to_list() == ["a", "d"]
    assert reasons(table) == {2: "count too large", 3: "identifier too long"}
    assert table.dropped.select(pl.col("detail", "id_str").str.len_chars().max()).row(0) < (300, 300)


def test_a_byte_order_mark_is_not_part_of_a_name(tmp_path: Path) -> None:
    (tmp_path / "votes.csv").write_bytes(b"\xef\xbb\xbfid_str,ring_yes,ring_no\r\na,1,1\r\n")
    assert read_votes(tmp_path / "votes.csv", RINGS).rows["id_str"].to_list() == ["a"]


@pytest.mark.parametrize("name", ["votes[1].csv", "votes*.csv", "votes?.csv", "a {b}.csv"])
def test_a_file_name_is_not_a_pattern(tmp_path: Path, name: str) -> None:
    write(tmp_path, "id_str,ring_yes,ring_no\nother,9,9\n", "votes1.csv")
    path = write(tmp_path, "id_str,ring_yes,ring_no\na,1,1\n", name)
    assert read_votes(path, RINGS).rows["id_str"].to_list() == ["a"]


@pytest.mark.parametrize("content", [b"", b"garbage" * 50, b"PAR1" + b"x" * 99 + b"PAR1"], ids=["empty", "no", "torn"])
def test_broken_parquet_is_rejected(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "votes.parquet").write_bytes(content)
    with pytest.raises(TableError, match="Cannot read" if content else "is empty"):
        read_votes(tmp_path / "votes.parquet", RINGS)


@pytest.mark.filterwarnings("ignore::gzoo.errors.GZooWarning")
def test_corrupt_parquet_files_raise_table_errors(tmp_path: Path) -> None:
    """At some of this damage the Parquet reader panics, which is not an ordinary exception."""
    path = tmp_path / "votes.parquet"
    ids = [str(i) for i in range(300)]
    pl.DataFrame({"id_str": ids, "ring_yes": range(300), "ring_no": range(300)}).write_parquet(path)
    intact = path.read_bytes()
    rng = np.random.default_rng(0)
    rejected = 0
    for _ in range(60):
        damaged = bytearray(intact)
        for place in rng.integers(len(intact), size=3):
            damaged[place] = rng.integers(256)
        path.write_bytes(bytes(damaged))
        try:
            read_votes(path, RINGS)
        except TableError:
            rejected += 1
    assert rejected > 10


def test_questions_without_votes_do_not_cause_breaks(tmp_path: Path) -> None:
    """Without votes on disk-edge-on it is not known how many volunteers were asked about a bar."""
    path = write(tmp_path, f"{gz2_header('smooth-or-featured-gz2', 'bar-gz2')}\na,1,2,0,2,1\nb,0,9,0,4,4\n")
    table = read_votes(path, GZ2)
    assert table.collected == ("smooth-or-featured-gz2", "bar-gz2")
    assert not table.votes.breaks.any()
    assert not table.votes.take(np.array([0])).breaks.any()
    whole = write(tmp_path, f"{gz2_header('smooth-or-featured-gz2', 'disk-edge-on-gz2', 'bar-gz2')}\na,1,2,0,1,1,2,1\n")
    breaks = read_votes(whole, GZ2).votes.breaks
    assert breaks[0].tolist() == [question.name == "bar-gz2" for question in GZ2.tree.questions]


def test_unpublished_parent_answers_do_not_cause_breaks(tmp_path: Path) -> None:
    """Volunteers who saw clumps in a spiral were asked about a bar; the published columns omit that step."""
    hubble = campaign("gz_hubble")
    cells = {"id_str": "a"} | dict.fromkeys(hubble.published_tree.columns, "0")
    cells |= {"smooth-or-featured-hubble_features": "9", "clumpy-appearance-hubble_yes": "9",
              "clump-count-hubble_4": "9", "bar-hubble_no": "9"}  # fmt: skip
    path = write(tmp_path, f"{','.join(cells)}\n{','.join(cells.values())}\n")
    assert not read_votes(path, hubble).votes.breaks.any()


# --- mapping files ------------------------------------------------------------------------------------------------

TABLE = "objid,yes,no,why\na,1,2,x\n"
GOOD = 'id_str = "objid"\nignore = ["wh*"]\n[answers]\nring_yes = "yes"\nring_no = "no"\n'


def test_a_mapping_names_the_columns(tmp_path: Path) -> None:
    table = read_votes(write(tmp_path, TABLE), RINGS, write(tmp_path, GOOD, "map.toml"))
    assert table.votes.counts.tolist() == [[1, 2]]
    assert table.excluded == ("why",)


BAD_MAPPINGS = {
    "not TOML": ("id_str = objid", "Cannot parse mapping file"),
    "an unknown key": (GOOD.replace("ignore", "ignored"), "has ignored ="),
    "a number": (GOOD.replace('"objid"', "3"), "has id_str = 3"),
    "answers no table": ('id_str = "objid"\nanswers = "yes"', "has answers = 'yes'"),
    "a number as column": (GOOD.replace('"no"', "1"), "has answers ="),
    "ignore no list": (GOOD.replace('["wh*"]', '"wh*"'), "has ignore ="),
    "an unknown answer": (GOOD.replace("ring_no", "ring_maybe"), "maps 'ring_maybe'"),
    "an unknown question": (GOOD + '[totals]\nrings = "why"', "maps 'rings'"),
    "a column that is not there": (
        GOOD.replace('"no"', '"nein"'),
        "Column 'nein', which mapping file 'map.toml' requires, not found",
    ),
    "a column twice": (GOOD.replace('"no"', '"yes"'), "column 'yes' twice"),
    "half a question": (GOOD.replace('ring_no = "no"', "").replace("wh*", "*"), "not 'ring_no'"),
    "no answers": ('id_str = "objid"\nignore = ["*"]', "does not contain a column of votes"),
    "nothing ignored": (GOOD.replace("wh*", "hw*"), "unexpected columns .1.: why"),
    "a key twice": (GOOD.replace("ignore", "id_str", 1), "Cannot parse mapping file"),
}


@pytest.mark.parametrize(("mapping", "message"), BAD_MAPPINGS.values(), ids=BAD_MAPPINGS)
def test_bad_mappings_are_rejected(tmp_path: Path, mapping: str, message: str) -> None:
    with pytest.raises(TableError, match=message):
        read_votes(write(tmp_path, TABLE), RINGS, write(tmp_path, mapping, "map.toml"))


def test_a_mapping_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="Mapping file not found"):
        read_votes(write(tmp_path, TABLE), RINGS, tmp_path / "map.toml")


# --- fractions of totals ------------------------------------------------------------------------------------------

OF_TOTALS = 'values = "fractions"\n[answers]\nring_yes = "yes"\nring_no = "no"\n[totals]\nring = "n"\n'


def of_totals(folder: Path, *rows: str, mapping: str = OF_TOTALS, n_valid: int = 40) -> VoteTable:
    """The rows given, after valid ones, so that only few rows are invalid."""
    lines = ["id_str,yes,no,n", *(f"valid {i},0.25,0.75,8" for i in range(n_valid)), *rows]
    table = read_votes(write(folder, "\n".join(lines) + "\n"), RINGS, write(folder, mapping, "map.toml"))
    assert table.votes.counts[:n_valid].tolist() == [[2, 6]] * n_valid
    return table


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), min_size=1, max_size=8))
def test_fractions_and_totals_give_the_counts_back(tmp_path: Path, votes: list[tuple[int, int]]) -> None:
    rows = [
        f"g{i},{a / (a + b) if a + b else 'nan'},{b / (a + b) if a + b else ''},{a + b}"
        for i, (a, b) in enumerate(votes)
    ]
    table = of_totals(tmp_path, *rows, n_valid=3)
    assert table.votes.counts[3:].tolist() == [list(row) for row in votes]
    assert table.dropped.height == 0


BAD_FRACTIONS = {
    "0.3,0.7,7": (
        "fraction x total not an integer",
        "yes = 0.3 of 7 votes is 2.100; no = 0.7 of 7 votes is 4.900",
    ),
    "0.5,0.25,8": ("fractions do not add up to the total", "n = 8, not the sum of the answers (6)"),
    ",0.5,8": ("fraction missing", "yes = "),
    "nan,0.5,8": ("fraction missing", "yes = nan"),
    "half,0.5,8": ("fraction is not a number", "yes = half"),
    "-0.5,1.5,8": ("fraction not within 0 to 1", "yes = -0.5; no = 1.5"),
    "inf,0,8": ("fraction not within 0 to 1", "yes = inf"),
    "0.5,0.5,": ("count missing", "n = "),
    "0.5,0.5,0": ("fraction without votes", "yes = 0.5, but n = 0; no = 0.5, but n = 0"),
    "0.5,0.5,2.5": ("count not an integer", "n = 2.5"),
    "0.5,0.5,-2": ("count negative", "n = -2"),
}


@pytest.mark.parametrize(("cells", "message"), BAD_FRACTIONS.items(), ids=BAD_FRACTIONS)
def test_a_bad_fraction_drops_its_row_with_the_reason(tmp_path: Path, cells: str, message: tuple[str, str]) -> None:
    table = of_totals(tmp_path, f"bad,{cells}", "good,0,0,0")
    assert table.dropped.select("id_str", "reason", "detail").rows() == [("bad", *message)]
    assert table.votes.counts[-1].tolist() == [0, 0]


def test_many_non_integer_rows_are_not_plain_fractions(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"in 3 of 43 rows with votes .first: row 41, total 7"):
        of_totals(tmp_path, *(f"{name},0.3,0.7,7" for name in "abc"))


def test_the_mapping_sets_the_tolerance(tmp_path: Path) -> None:
    rounded = "a,0.333,0.667,30"  # 9.99 and 20.01 votes
    assert of_totals(tmp_path, rounded).votes.counts[-1].tolist() == [10, 20]
    strict = of_totals(tmp_path, rounded, mapping="tolerance = 0.005\n" + OF_TOTALS)
    assert reasons(strict) == {41: "fraction x total not an integer"}
    for wrong in ("0", "-1", "0.5", "true", '"0.1"', "nan"):
        with pytest.raises(TableError, match="tolerance ="):
            of_totals(tmp_path, mapping=f"tolerance = {wrong}\n" + OF_TOTALS)


def test_fractions_need_a_total(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="not its total votes") as caught:
        of_totals(tmp_path, mapping=OF_TOTALS.replace("[totals]\nring", "[totals]\n#") + 'x = "n"\n'.replace("x", "#"))
    assert "[totals]" in caught.value.hint


# --- known columns other than counts -------------------------------------------------------------------------


def test_weighted_columns_of_the_dataset_are_ignored(tmp_path: Path) -> None:
    header = "id_str,ring_yes,ring_no,ring_yes_weighted_fraction,ring_no_weighted_fraction,ring_effective-votes"
    table = rings(tmp_path, "a,1,2,0.31,0.69,2.7", header=header)
    assert table.votes.counts.tolist() == [[1, 2]]
    assert table.excluded == ("ring_yes_weighted_fraction", "ring_no_weighted_fraction", "ring_effective-votes")


def test_the_surveys_own_identifier_is_carried_as_text(tmp_path: Path) -> None:
    text = 'id_str = "name"\nsource_id = "objid"\n[answers]\nring_yes = "yes"\nring_no = "no"\n'
    path = write(tmp_path, "name,objid,yes,no\na,0587722981736906813,1,1\nb,,2,2\n")
    rows = read_votes(path, RINGS, write(tmp_path, text, "map.toml")).rows
    assert rows["source_id"].to_list() == ["0587722981736906813", ""]
    assert rings(tmp_path, "a,1,1").rows["source_id"].to_list() == [""]
    assert rings(tmp_path, "a,1,1,7", header="id_str,ring_yes,ring_no,source_id").rows["source_id"].to_list() == ["7"]


# --- any table ----------------------------------------------------------------------------------------------------

cells = st.sampled_from(["0", "1", "7", "7.0", "-1", "2.5", "nan", "", "x", "inf", "1e12"])
ids = st.sampled_from(["a", "b", "c", "d", "007", "7", "", " "]) | st.text("xyz", max_size=3)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(ids, cells, cells, cells), min_size=1, max_size=12))
def test_every_row_is_used_or_dropped_with_a_reason(tmp_path: Path, rows: list[tuple[str, str, str, str]]) -> None:
    path = write(tmp_path, "\n".join(["id_str,ring_yes,ring_no,ra", *(",".join(row) for row in rows)]) + "\n")
    try:
        table = read_votes(path, RINGS)
    except TableError as error:
        assert "fractions" in str(error)  # noqa: PT017
        assert sum("2.5" in row[1:3] for row in rows) * 2 > len(rows)
        return
    used, dropped = table.rows["row"].to_list(), table.dropped["row"].to_list()
    assert sorted(used + dropped) == list(range(1, len(rows) + 1))
    assert table.n_rows == len(rows)
    assert all(table.dropped["reason"].to_list())
    assert all(table.dropped["detail"].to_list())
    assert table.rows["id_str"].is_unique().all()
    for row, counts in zip(used, table.votes.counts.tolist(), strict=True):
        name, yes, no, _ = rows[row - 1]
        assert name.strip()
        assert [float(yes), float(no)] == counts
    for row in dropped:  # no valid row is dropped
        name, yes, no, ra = rows[row - 1]
        is_alone = sum(other[0].strip() == name.strip() for other in rows) == 1
        is_valid = {yes, no} <= {"0", "1", "7", "7.0"} and ra in {"0", "1", "7", "7.0", "2.5", "nan", ""}
        assert not (is_alone and is_valid and name.strip())


# --- Votes --------------------------------------------------------------------------------------------------------

TWO = Tree(
    "two",
    (
        Question("q", ("a", "b"), ("q_a", "q_b")),
        Question("m", ("x", "y"), ("m_x", "m_y"), ("q_a",), multiple=True),
    ),
)


def test_votes_count_totals_and_fractions() -> None:
    votes = Votes(TWO, np.array([[4, 1, 4, 2], [0, 3, 0, 0]]))
    assert votes.totals.tolist() == [[5, 4], [3, 0]]
    np.testing.assert_array_equal(votes.fractions, [[0.8, 0.2, 1.0, 0.5], [0.0, 1.0, np.nan, np.nan]])
    assert len(votes) == 2
    assert votes.take(np.array([False, True])).counts.tolist() == [[0, 3, 0, 0]]


@pytest.mark.parametrize(
    ("counts", "totals"),
    [
        ([[1, 2, 3]], None),
        ([1, 2, 3, 4], None),
        ([[1, -2, 0, 0]], None),
        ([[1.0, 2.0, 0.0, 0.0]], None),
        ([[True, False, False, False]], None),
        ([[1, 2, 0, 0]], [[2, 1]]),
        ([[1, 2, 0, 0]], [[4, 1]]),
        ([[1, 2, 1, 0]], [[3, 0]]),
        ([[1, 2, 0, 0]], [[3.0, 1.0]]),
        ([[1, 2, 0, 0]], [[3, np.nan]]),
        ([[1, 2, 0, 0]], [[3]]),
        ([[1, 2, 0, 0]], [[3, 1], [3, 1]]),
    ],
)
def test_invalid_votes_are_rejected(counts: list[object], totals: list[object] | None) -> None:
    with pytest.raises(InputError):
        Votes(TWO, np.array(counts), *([] if totals is None else [np.array(totals)]))


def test_breaks_are_questions_with_more_votes_than_their_parent_answers() -> None:
    votes = Votes(TWO, np.array([[4, 1, 4, 4], [4, 1, 5, 0], [0, 0, 0, 0]]))
    assert votes.breaks.tolist() == [[False, False], [False, True], [False, False]]
    asked = Votes(TWO, np.array([[4, 1, 4, 4]]), np.array([[5, 5]]))
    assert asked.breaks.tolist() == [[False, True]]
