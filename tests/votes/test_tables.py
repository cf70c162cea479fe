"""Tables of every format give the same votes; hostile and broken ones give one message."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from astropy.io import fits, votable
from astropy.table import MaskedColumn, Table
from astropy.time import Time
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gzoo.errors import MissingExtraError, NotFoundError, TableError
from gzoo.trees.campaign import campaign
from gzoo.votes.reading import VoteTable, read_votes
from gzoo.votes.tables import iter_rows, read_rows, read_table

RINGS = campaign("gz_rings")
FORMATS = (".csv", ".parquet", ".fits", ".vot", ".ecsv")

Row = tuple[str, int | None, int | None]


def write_votes(path: Path, rows: list[Row]) -> Path:
    """The same votes in the format of the file's ending, a count that is None masked."""
    names, yes, no = (list(column) for column in zip(*rows, strict=True))
    if path.suffix in {".csv", ".parquet"}:
        frame = pl.DataFrame({"id_str": names, "ring_yes": yes, "ring_no": no}, schema_overrides={"ring_yes": pl.Int64})
        frame.write_csv(path) if path.suffix == ".csv" else frame.write_parquet(path)
        return path

    def counts(values: list[int | None]) -> MaskedColumn:
        filled = np.array([-99 if value is None else value for value in values], np.int32)
        return MaskedColumn(filled, mask=[value is None for value in values], fill_value=-99)

    table = Table({"id_str": np.array(names, str), "ring_yes": counts(yes), "ring_no": counts(no)})
    kind = {".fits": "fits", ".vot": "votable", ".ecsv": "ascii.ecsv"}[path.suffix]
    table.write(path, format=kind, overwrite=True)
    return path


def same(one: VoteTable, other: VoteTable) -> bool:
    return (
        bool((one.votes.counts == other.votes.counts).all())
        and bool((one.votes.totals == other.votes.totals).all())
        and one.rows.equals(other.rows)
        and one.dropped.drop("detail").equals(other.dropped.drop("detail"))
    )


counts = st.none() | st.integers(0, 1000)
identifiers = st.text("abcXYZ019-_+.", min_size=1, max_size=12).map(lambda text: f"J{text}")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(identifiers, counts, counts), min_size=1, max_size=6, unique_by=lambda row: row[0]))
def test_every_format_gives_the_same_votes(tmp_path: Path, rows: list[Row]) -> None:
    tables = [read_votes(write_votes(tmp_path / f"votes{ending}", rows), RINGS) for ending in FORMATS]
    valid = [row for row in rows if row[1] is not None and row[2] is not None]
    assert tables[0].rows["id_str"].to_list() == [name for name, _, _ in valid]
    assert tables[0].votes.counts.tolist() == [list(row[1:]) for row in valid]
    for table in tables[1:]:
        assert same(tables[0], table)
    assert set(tables[0].dropped["reason"]) <= {"count missing"}


@pytest.mark.parametrize("kind", ["tabledata", "binary", "binary2"])
def test_votable_data_in_any_form(tmp_path: Path, kind: str) -> None:
    """BINARY alone cannot mask an integer."""
    no = MaskedColumn([3, 0], mask=[False, kind != "binary"])
    table = Table({"id_str": ["a", "bb"], "ring_yes": [1, 2], "ring_no": no})
    table.write(tmp_path / "votes.vot", format="votable", tabledata_format=kind)
    read = read_votes(tmp_path / "votes.vot", RINGS)
    assert read.votes.counts.tolist() == ([[1, 3], [2, 0]] if kind == "binary" else [[1, 3]])
    assert read.dropped.select("id_str", "reason").rows() == ([] if kind == "binary" else [("bb", "count missing")])


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.float32, np.float64]
)
def test_fits_numbers_of_any_type(tmp_path: Path, dtype: type) -> None:
    Table({"id_str": ["a", "b"], "ring_yes": np.array([1, 200], dtype), "ring_no": np.array([0, 7], dtype)}).write(
        tmp_path / "votes.fits"
    )
    assert read_votes(tmp_path / "votes.fits", RINGS).votes.counts.tolist() == [[1, 0], [200, 7]]


def fits_table(path: Path, **columns: fits.Column) -> Path:
    fits.BinTableHDU.from_columns(list(columns.values())).writeto(path, overwrite=True)
    return path


def test_fits_texts_are_unpadded_and_nulls_are_null(tmp_path: Path) -> None:
    path = fits_table(
        tmp_path / "votes.fits",
        a=fits.Column("id_str", "20A", array=np.array(["a", " b c ", "d"])),
        b=fits.Column("ring_yes", "J", null=-1, array=np.array([4, -1, 6])),
        c=fits.Column("ring_no", "I", bzero=32768, null=-32768, array=np.array([1, 2, 0], np.uint16)),
    )
    frame = read_table(path)
    assert frame["id_str"].to_list() == ["a", " b c", "d"]
    assert frame["ring_yes"].to_list() == [4, None, 6]
    assert frame["ring_no"].to_list() == [1, 2, None]


def test_fits_text_that_is_not_utf8_drops_its_row(tmp_path: Path) -> None:
    path = write_votes(tmp_path / "votes.fits", [("aaaa", 1, 1), ("bbbb", 2, 2)])
    path.write_bytes(path.read_bytes().replace(b"aaaa", b"a\xe9aa"))
    read = read_votes(path, RINGS)
    assert read.rows["id_str"].to_list() == ["bbbb"]
    assert read.dropped.select("row", "reason", "detail").rows() == [
        (1, "text is not UTF-8", "column id_str, byte 2 is 0xe9")
    ]
    with pytest.raises(TableError, match="row 1: text is not UTF-8"):
        read_table(path)


def test_the_first_table_with_rows_or_the_named_one(tmp_path: Path) -> None:
    columns = [fits.Column("id_str", "3A"), fits.Column("ring_yes", "J"), fits.Column("ring_no", "J")]
    empty = fits.BinTableHDU.from_columns(columns, nrows=0, name="EMPTY")
    tables = [
        fits.BinTableHDU(Table({"id_str": [name], "ring_yes": [n], "ring_no": [n]}), name=name)
        for n, name in enumerate(["ONE", "TWO"], 1)
    ]
    path = tmp_path / "votes.fits"
    fits.HDUList([fits.PrimaryHDU(np.zeros((3, 3))), empty, *tables]).writeto(path)
    assert read_table(path)["id_str"].to_list() == ["ONE"]
    assert read_table(path, table="two")["id_str"].to_list() == ["TWO"]
    with pytest.raises(TableError, match=r"Table 'three' not found"):
        read_table(path, table="three")
    mapping = tmp_path / "map.toml"
    mapping.write_text('table = "TWO"\n[answers]\nring_yes = "ring_yes"\nring_no = "n"\n'.replace('"n"', '"ring_no"'))
    assert read_votes(path, RINGS, mapping).votes.counts.tolist() == [[2, 2]]


def test_a_named_votable(tmp_path: Path) -> None:
    tables = [votable.from_table(Table({"id_str": [name]}), table_id=name) for name in ("one", "two")]
    both = tables[0]
    both.resources.append(tables[1].resources[0])
    both.to_xml(str(tmp_path / "votes.vot"))
    assert read_table(tmp_path / "votes.vot")["id_str"].to_list() == ["one"]
    assert read_table(tmp_path / "votes.vot", table="two")["id_str"].to_list() == ["two"]


@pytest.mark.parametrize("ending", [".fits", ".vot", ".ecsv"])
def test_vector_columns_are_rejected_only_if_used(tmp_path: Path, ending: str) -> None:
    kind = {".fits": "fits", ".vot": "votable", ".ecsv": "ascii.ecsv"}[ending]
    path = tmp_path / f"votes{ending}"
    whole = Table({"id_str": ["a", "b"], "ring_yes": [1, 2], "ring_no": [3, 4], "flux": np.ones((2, 3))})
    whole.write(path, format=kind)
    with pytest.raises(TableError, match=r"unexpected columns .1.: flux"):
        read_votes(path, RINGS)
    mapping = tmp_path / "map.toml"
    mapping.write_text('ignore = ["flux"]\n[answers]\nring_yes = "ring_yes"\nring_no = "ring_no"\n')
    assert read_votes(path, RINGS, mapping).votes.counts.tolist() == [[1, 3], [2, 4]]
    mapping.write_text('ignore = ["ring_no"]\n[answers]\nring_yes = "ring_yes"\nring_no = "flux"\n')
    with pytest.raises(TableError, match=r"Column 'flux' .* has type"):
        read_votes(path, RINGS, mapping)


def test_what_astropy_masked_in_parquet_is_null(tmp_path: Path) -> None:
    path = tmp_path / "votes.parquet"
    table = Table(
        {"id_str": ["a", "b"], "ra": [10.0, 20.0], "dec": [1.0, 2.0], "ring_yes": [5, 6], "ring_no": [1, 2]},
        masked=True,
    )
    table["ra"].mask = [True, False]
    table["ring_yes"].mask = [False, True]
    table.write(path)
    assert "ra.mask" in pl.read_parquet_schema(path)  # the numbers under the mask are in the file
    frame = read_table(path)
    assert (frame.columns, frame["ra"].to_list(), frame["ring_yes"].to_list()) == (
        ["id_str", "ra", "dec", "ring_yes", "ring_no"], [None, 20.0], [5, None]
    )  # fmt: skip
    assert read_rows(path, columns=["ra"]).frame["ra"].to_list() == [None, 20.0]
    assert [part.frame["ra"].to_list() for _, part in iter_rows(path, n_rows=1)] == [[None], [20.0]]


def test_fits_columns_of_other_kinds(tmp_path: Path) -> None:
    """Arrays of any length are not even looked at: each may point at all of the heap."""
    path = fits_table(
        tmp_path / "votes.fits",
        a=fits.Column("id_str", "1A", array=np.array(["a"])),
        b=fits.Column("many", "PJ()", array=np.array([[1, 2, 3]], object)),
        c=fits.Column("wave", "M", array=np.array([1 + 2j])),
        d=fits.Column("flag", "L", array=np.array([True])),
    )
    assert [str(kind) for kind in read_table(path).dtypes] == ["String", "Object", "Object", "Boolean"]


def test_times_in_ecsv_are_skipped(tmp_path: Path) -> None:
    Table({"id_str": ["a"], "seen": Time(["2010-05-20"]), "ring_yes": [1]}).write(tmp_path / "t.ecsv")
    assert read_table(tmp_path / "t.ecsv").drop("seen").rows() == [("a", 1)]


# --- hostile and broken files -------------------------------------------------------------------------------------

VOTABLE = """<?xml version="1.0" encoding="UTF-8"?>{doctype}
<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3"><RESOURCE type="results"><TABLE{nrows}>
<FIELD name="id_str" datatype="char" arraysize="{size}"/><FIELD name="ring_yes" datatype="int"/>
<DATA>{data}</DATA></TABLE></RESOURCE></VOTABLE>"""
ROWS = "<TABLEDATA><TR><TD>a</TD><TD>1</TD></TR></TABLEDATA>"
HOSTILE = {
    "external entity": ({"doctype": '<!DOCTYPE V [<!ENTITY x SYSTEM "file:///x">]>'}, "line 1: it contains a DOCTYPE"),
    "unfolding entities": ({"doctype": '<!DOCTYPE V [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'}, "DOCTYPE"),
    "data elsewhere": ({"data": '<BINARY><STREAM href="ftp://example.org/x"/></BINARY>'}, "line 4: .*stored elsewhere"),
    "data in a file": ({"data": '<BINARY><STREAM x=">" href="file:///etc/passwd"/></BINARY>'}, "stored elsewhere"),
    "packed data": ({"data": '<BINARY><STREAM encoding="gzip">H4sI</STREAM></BINARY>'}, "encoded as 'gzip'"),
    "FITS inside": ({"data": "<FITS><STREAM>x</STREAM></FITS>"}, "embedded FITS file"),
    "rows announced": ({"nrows": ' nrows="99999999999"'}, "nrows is 99999999999"),
    "rows in words": ({"nrows": ' nrows="many"'}, "nrows is 'many'"),
    "wide cells": ({"size": "100000x100000"}, "arraysize is"),
    "not XML": ({"data": "<TABLEDATA>"}, "Cannot read .*mismatched tag"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_votables_are_rejected(tmp_path: Path, change: dict[str, str], message: str) -> None:
    parts = {"doctype": "", "nrows": "", "size": "*", "data": ROWS}
    path = tmp_path / "votes.vot"
    path.write_text(VOTABLE.format(**parts))
    assert read_table(path).rows() == [("a", 1)]
    path.write_text(VOTABLE.format(**parts | change))
    with pytest.raises(TableError, match=message) as caught:
        read_table(path)
    assert str(path) in str(caught.value)
    path.write_bytes(VOTABLE.format(**parts | change).replace("UTF-8", "UTF-16").encode("utf-16"))
    with pytest.raises(TableError):  # hidden in another encoding
        read_table(path)


def test_a_truncated_fits_file(tmp_path: Path) -> None:
    path = write_votes(tmp_path / "votes.fits", [(f"galaxy {i}", i, i) for i in range(2000)])
    whole = path.read_bytes()
    for n in (100, 2880, 5760, len(whole) // 2):
        path.write_bytes(whole[:n])
        with pytest.raises(TableError, match=r"votes\.fits"):
            read_table(path)


def test_a_fits_header_that_declares_too_many_rows(tmp_path: Path) -> None:
    path = write_votes(tmp_path / "votes.fits", [("a", 1, 1)])
    announced = f"NAXIS2  = {10**9:>20}".encode()
    path.write_bytes(path.read_bytes().replace(f"NAXIS2  = {1:>20}".encode(), announced))
    with pytest.raises(TableError, match="truncated"):
        read_table(path)


def test_files_of_another_kind_than_their_name(tmp_path: Path) -> None:
    for ending in FORMATS[1:]:
        path = tmp_path / f"votes{ending}"
        for content in (b"\x1f\x8b\x08\x00" * 9, b"hello", b"\x00" * 3000, b"SIMPLE  =", b"# %ECSV 1.0\n", b"<a/>"):
            path.write_bytes(content)
            with pytest.raises(TableError, match=path.name):
                read_table(path)


@pytest.mark.filterwarnings("ignore::gzoo.errors.GZooWarning")
@pytest.mark.parametrize("ending", [".fits", ".vot", ".ecsv", ".csv"])
def test_corrupt_tables_raise_table_errors(tmp_path: Path, ending: str) -> None:
    path = write_votes(tmp_path / f"votes{ending}", [(f"g{i}", i, 2 * i) for i in range(30)])
    valid = path.read_bytes()
    rng = np.random.default_rng(0)
    rejected = 0
    for _ in range(40):
        damaged = bytearray(valid)
        for place in rng.integers(len(valid), size=4):
            damaged[place] = rng.integers(256)
        path.write_bytes(bytes(damaged))
        try:
            table = read_votes(path, RINGS)
            assert len(table.votes) + table.dropped.height == table.n_rows
        except TableError:
            rejected += 1
    assert rejected > 0


@pytest.mark.parametrize("ending", FORMATS)
def test_empty_files_and_missing_ones(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"votes{ending}"
    with pytest.raises(NotFoundError, match="Table not found"):
        read_table(path)
    path.touch()
    with pytest.raises(TableError, match="is empty"):
        read_table(path)


@pytest.mark.parametrize("ending", [".fits", ".vot", ".ecsv"])
def test_without_astropy_the_hint_is_the_command_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    path = write_votes(tmp_path / f"votes{ending}", [("a", 1, 1)])
    monkeypatch.setitem(sys.modules, "astropy", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'gzoo\[tables\]'"):
        read_table(path)


def test_a_duplicate_column_name_in_fits(tmp_path: Path) -> None:
    path = write_votes(tmp_path / "votes.fits", [("a", 1, 1)])
    path.write_bytes(path.read_bytes().replace(b"'ring_no '", b"'ring_yes'"))
    with pytest.raises(TableError, match="column 'ring_yes' more than once"):
        read_table(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"id_str,n\xe9,b\na,1,1\n", "line 1, byte 9 is 0xe9"),
        ("id_str,n\na,1\n".encode("utf-16"), "byte 1 is 0xff"),
        ("id_str,n\na,1\n".encode("utf-16-le"), "byte 2 is 0x00"),
    ],
)
def test_csv_headers_in_other_encodings(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "votes.csv").write_bytes(content)
    with pytest.raises(TableError, match=message):
        read_table(tmp_path / "votes.csv")


def test_csv_cells_may_contain_commas_quotes_and_line_ends(tmp_path: Path) -> None:
    frame = pl.DataFrame({"a": ["x,y", 'say "so"', "two\nlines"], "b": ["1", None, "3"]})
    frame.write_csv(tmp_path / "t.csv")
    assert read_table(tmp_path / "t.csv").equals(frame)


texts = st.text(st.sampled_from('ab1,"\n\r\t é'), max_size=12).map(lambda text: text.encode())
lines = st.lists(texts | st.binary(max_size=6), max_size=8)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines)
def test_any_csv_is_read_or_rejected(tmp_path: Path, content: list[bytes]) -> None:
    path = tmp_path / "votes.csv"
    path.write_bytes(b"id_str,ring_yes,ring_no\nvalid,1,2\n" + b"\n".join(content))
    read = read_rows(path)
    assert read.frame.columns == ["id_str", "ring_yes", "ring_no"]
    assert read.frame.row(0) == ("valid", "1", "2")
    assert all(read.damaged["row"] <= read.frame.height)


def test_a_float_of_four_bytes_and_a_number_of_one(tmp_path: Path) -> None:
    """Bytes written by hand, big end first, as the standard says."""
    cards = ["XTENSION= 'BINTABLE'", "BITPIX  =                    8", "NAXIS   =                    2",
             "NAXIS1  =                    5", "NAXIS2  =                    1", "PCOUNT  =                    0",
             "GCOUNT  =                    1", "TFIELDS =                    2", "TFORM1  = 'E       '",
             "TTYPE1  = 'x       '", "TFORM2  = 'B       '", "TTYPE2  = 'y       '", "END"]  # fmt: skip
    first = [
        "SIMPLE  =                    T",
        "BITPIX  =                    8",
        "NAXIS   =                    0",
        "END",
    ]
    blocks = ["".join(card.ljust(80) for card in part).ljust(2880).encode() for part in (first, cards)]
    (tmp_path / "t.fits").write_bytes(b"".join(blocks) + struct.pack(">fB", 2.5, 7).ljust(2880, b"\0"))
    assert read_table(tmp_path / "t.fits").rows() == [(2.5, 7)]
