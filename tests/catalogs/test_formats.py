"""What astropy and STILTS read from catalogues of every format: values, gaps, units, descriptions, UCDs and origin."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from astropy.io import fits, votable
from astropy.io.votable.ucd import check_ucd
from astropy.table import Table

import gzoo
from gzoo.catalogs.columns import catalogue_columns, legal_name
from gzoo.catalogs.formats import refuse_columns
from gzoo.dataset.open import open_dataset
from gzoo.errors import InputError
from gzoo.trees.tree import Question, Tree
from gzoo.votes.tables import read_table

KIND = {"fits": "fits", "vot": "votable", "ecsv": "ascii.ecsv", "parquet": "parquet"}
ASKED = "bar_gz2_proportion_volunteers_asked"
pytestmark = pytest.mark.filterwarnings(
    "ignore:The predictions do not agree with held-out votes:gzoo.errors.GZooWarning"
)


@pytest.fixture(scope="module")
def made(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one catalogue in every format: two galaxies without a position, a question of unknown parents."""
    folder = tmp_path_factory.mktemp("catalogues")
    opened = open_dataset(dataset)
    tree = opened.tree
    source = folder / "unplaced" / "data"
    source.mkdir(parents=True)
    shard = pl.read_parquet(dataset / "data" / "test-00000-of-00001.parquet")
    unknown = pl.int_range(pl.len()) < 2
    shard = shard.with_columns(
        pl.when(unknown).then(None).otherwise(pl.col(name)).alias(name) for name in ("ra", "dec")
    )
    sizes = [name for name in shard.columns if name.startswith("bulge-size-gz2")]
    nobody = pl.int_range(pl.len()) == 4
    shard = shard.with_columns(
        pl.when(nobody)
        .then(float("nan") if name.endswith("fraction") else 0)
        .otherwise(name)
        .cast(shard.schema[name])
        .alias(name)
        for name in sizes
    )
    shard.write_parquet(source / "test-00000-of-00001.parquet")
    rng = np.random.default_rng(1)
    asked = [question for question in tree.questions if question.name != "disk-edge-on-gz2"]
    values = {
        f"{column}_concentration": rng.uniform(1, 9, shard.height) for question in asked for column in question.columns
    }
    path = folder / "predictions.parquet"
    shard.select("dataset_name", "id_str").with_columns(**values, in_training_set=False).write_parquet(path)
    for ending in ("parquet", "fits", "vot", "ecsv", "csv"):
        gzoo.catalog([path], folder / "unplaced", out=folder / f"c.{ending}", questions=["bar-gz2", "bulge-size-gz2"])
    return folder


def column_of(table: Table, name: str) -> list[object]:
    """The values of a column, with None for gaps."""
    values = np.ma.asarray(table[name])
    if values.dtype.kind in "SUO":
        return [one.decode() if isinstance(one, bytes) else one or "" for one in values.filled("").tolist()]
    if values.dtype.kind == "f":
        values = np.ma.masked_invalid(values)
    return values.tolist()


@pytest.mark.parametrize("ending", KIND)
def test_astropy_reads_all_that_a_catalogue_says(made: Path, ending: str) -> None:
    table = Table.read(made / f"c.{ending}", format=KIND[ending])
    truth = pl.read_parquet(made / "c.parquet")
    columns = catalogue_columns(
        open_dataset(made / "unplaced").tree,
        counted=["bar-gz2", "bulge-size-gz2"],
        is_predicted=True,
        questions=["bar-gz2", "bulge-size-gz2"],
    )
    assert [column.name for column in columns] == [name for name in table.colnames if name != "_healpix_29"]
    assert truth["ra"].null_count() == 2
    assert truth[ASKED].null_count() == truth.height > truth["bulge_size_gz2_obvious_vote_fraction"].null_count() > 0
    for column in columns:
        assert column_of(table, column.name) == truth[column.name].to_list(), column.name
        assert str(table[column.name].unit or "") == column.unit
        assert table[column.name].description == column.description
        assert table[column.name].meta["ucd"] == column.ucd


def test_fits_has_units_descriptions_and_ucds_as_keywords(made: Path) -> None:
    with fits.open(made / "c.fits") as file:
        file.verify("exception")
        header = file[1].header
        assert header["TTYPE3"] == "ra"
        assert header["TUNIT3"] == "deg"
        assert header["TCOMM3"] == "Right ascension (ICRS)"
        assert header["TUCD3"] == "pos.eq.ra;meta.main"
        assert header["SIMULATE"] is True
        assert header["LICENSE"] == "cc0-1.0"
        assert "SIMULATED" in str(header["COMMENT"])
        about = json.loads(header["GZOO"])
    assert about["predictions"][0]["file"] == "predictions.parquet"


def test_every_format_names_origin_citation_and_licence(made: Path) -> None:
    about = json.loads(pq.read_schema(made / "c.parquet").metadata[b"gzoo"])
    assert about["campaign"] == "gz2"
    assert about["simulated"].startswith("SIMULATED")
    assert about["licence"] == "cc0-1.0"
    assert about["gzoo_version"] == gzoo.__version__
    assert any("Willett" in one for one in about["citation"])
    for ending in ("fits", "vot", "ecsv", "parquet"):
        if ending == "vot":
            said = {info.name: info.value for info in votable.parse(made / "c.vot").resources[0].infos}
        elif ending == "fits":
            header = fits.getheader(made / "c.fits", 1)
            comment = " ".join(map(str, header["COMMENT"]))
            said = {"gzoo": header["GZOO"], "citation": comment, "simulated": comment, "licence": header["LICENSE"]}
        else:
            said = Table.read(made / f"c.{ending}", format=KIND[ending]).meta
        assert "Willett" in said["citation"]
        assert "SIMULATED" in said["simulated"]
        assert said["licence"] == "cc0-1.0"
        found = said["gzoo"]
        assert (json.loads(found) if isinstance(found, str) else found)["predictions"] == about["predictions"]
    for ending in ("fits", "vot", "ecsv", "parquet", "csv"):
        text = (made / f"c.{ending}.ReadMe").read_text()
        assert max(map(len, text.splitlines())) <= 80 + len("smooth_or_featured_gz2_proportion_volunteers_asked")
        for word in ("SIMULATED", "Willett", "cc0-1.0", about["predictions"][0]["sha256"], ASKED, "pos.eq.ra"):
            assert word in text


def test_our_own_reader_reads_every_format(made: Path) -> None:
    truth = pl.read_parquet(made / "c.parquet").drop("_healpix_29")
    for ending in ("fits", "vot", "ecsv", "csv"):
        table = read_table(made / f"c.{ending}")
        assert table.columns == truth.columns
        for name in ("ra", ASKED, "bar_gz2_yes_posterior_mean"):
            theirs = table[name].cast(pl.Float64).fill_nan(None)
            np.testing.assert_allclose(theirs.fill_null(-1), truth[name].cast(pl.Float64).fill_null(-1), rtol=1e-6)


def stilts(*words: str | Path) -> str:
    if not shutil.which("stilts"):
        pytest.skip("STILTS (Debian package stilts) is not installed")
    done = subprocess.run(["stilts", *map(str, words)], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("ending", ["fits", "vot"])
def test_stilts_reads_the_same(made: Path, tmp_path: Path, ending: str) -> None:
    source, said, values = made / f"c.{ending}", tmp_path / "meta.csv", tmp_path / "values.csv"
    stilts("tpipe", f"in={source}", "cmd=meta name units ucd description", "ofmt=csv", f"out={said}")
    truth = pl.read_parquet(made / "c.parquet").drop("_healpix_29")
    fields = {field.name: field.metadata for field in pq.read_schema(made / "c.parquet") if field.name in truth.columns}
    rows = pl.read_csv(said).fill_null("").rows()
    about = {name: tuple(fields[name][key].decode() for key in (b"unit", b"ucd", b"description")) for name in fields}
    assert {name: more for name, *more in rows} == {name: list(one) for name, one in about.items()}
    stilts("tpipe", f"in={source}", "ofmt=csv", f"out={values}")
    table = pl.read_csv(values, infer_schema=False)
    for name in truth.columns:
        if truth[name].dtype.is_numeric():
            np.testing.assert_allclose(
                table[name].cast(pl.Float64).fill_null(-1), truth[name].cast(pl.Float64).fill_null(-1), rtol=1e-6
            )
        else:
            assert table[name].fill_null("").to_list() == truth[name].cast(pl.String).to_list()


def test_votlint_finds_nothing(made: Path) -> None:
    assert stilts("votlint", made / "c.vot") == ""


@pytest.mark.parametrize("campaign", gzoo.campaigns(), ids=lambda one: one.name)
def test_columns_of_every_campaign_are_legal(campaign: gzoo.Campaign) -> None:
    tree = campaign.published_tree
    named = {"counted": [question.name for question in tree.questions], "is_predicted": True}
    columns = catalogue_columns(tree, **named)
    assert len({column.name.lower() for column in columns}) == len(columns)
    assert all(len(column.name) <= 68 and column.name.isidentifier() and column.name.isascii() for column in columns)
    assert all(column.published == column.name or column.published in column.description for column in columns)
    for ucd in {column.ucd for column in columns}:
        assert check_ucd(ucd, check_controlled_vocabulary=True), ucd
    published = catalogue_columns(tree, **named, names="published")
    assert [legal_name(column.name) for column in published] == [column.name for column in columns]
    if campaign.name == "gz_evo":
        with pytest.raises(InputError, match=r"has 1,\d+ columns, too many") as caught:
            refuse_columns(Path("c.fits"), columns)
        assert "--questions" in caught.value.hint


def test_names_that_fall_together_are_refused() -> None:
    answers = ("a-b", "a_b")
    tree = Tree("mine", (Question("q", answers, tuple(f"q_{answer}" for answer in answers)),))
    with pytest.raises(InputError, match=r"'q_a-b_vote_count' and 'q_a_b_vote_count'"):
        catalogue_columns(tree, counted=["q"], is_predicted=False)


def test_text_beyond_ascii(published: Path, tmp_path: Path) -> None:
    folder = tmp_path / "accents"
    (folder / "data").mkdir(parents=True)
    shard = pl.read_parquet(published / "data" / "test-00000-of-00001.parquet")
    name = "é\U0001f30c"
    names = pl.when(pl.int_range(pl.len()) == 0).then(pl.lit(name)).otherwise("id_str")
    shard.with_columns(id_str=names).write_parquet(folder / "data" / "test-00000-of-00001.parquet")
    for ending, kind in (("vot", "votable"), ("ecsv", "ascii.ecsv")):
        gzoo.catalog(None, folder, out=tmp_path / f"c.{ending}", questions=["bar-gz2"])
        assert name in Table.read(tmp_path / f"c.{ending}", format=kind)["id_str"].tolist()
    with pytest.raises(InputError, match="is not ASCII"):
        gzoo.catalog(None, folder, out=tmp_path / "c.fits")
    assert not list(tmp_path.glob("*.fits*"))


def test_too_many_columns_are_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = gzoo.campaign("gz_evo").published_tree
    folder = tmp_path / "evo" / "data"
    folder.mkdir(parents=True)
    row = {"id_str": ["1"], "dataset_name": ["gz2"], "ra": [1.0], "dec": [2.0]}
    pl.DataFrame({**row, **{column: [1] for column in tree.columns}}).write_parquet(
        folder / "test-00000-of-00001.parquet"
    )
    monkeypatch.setattr("gzoo.catalogs.catalog._prior", lambda _: pytest.fail("work began"))
    with pytest.raises(InputError, match="too many for"):
        gzoo.catalog(None, tmp_path / "evo", out=tmp_path / "c.fits")
    monkeypatch.undo()
    made = gzoo.catalog(None, tmp_path / "evo", out=tmp_path / "c.fits", questions=["bar-gz2", "bar-ukidss"])
    assert made.n_galaxies == 1
    assert gzoo.catalog(None, tmp_path / "evo", out=tmp_path / "c.vot").n_columns > 999
    assert len(Table.read(made.path).colnames) == made.n_columns
