"""HATS collections: what gzoo writes is valid, whatever is changed in it is found, and lsdb finds neighbours in it."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import hpgeom
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import gzoo
from gzoo import sky
from gzoo.catalogs import hats
from gzoo.catalogs.columns import catalogue_columns, healpix_column
from gzoo.catalogs.formats import schema
from gzoo.catalogs.origin import Content
from gzoo.errors import DatasetError, InputError, OutputExistsError


def positions(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions everywhere, with crowds at both poles and at ra 0."""
    rng = np.random.default_rng(seed)
    ra, dec = rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    quarter = n // 4
    dec[:quarter] = np.where(np.arange(quarter) % 2, 1, -1) * (90 - 2 * np.sqrt(rng.uniform(0, 1, quarter)))
    ra[quarter : 2 * quarter], dec[quarter : 2 * quarter] = rng.normal(0, 1, quarter) % 360, rng.normal(0, 1, quarter)
    return ra, dec


def collection(folder: Path, ra: np.ndarray, dec: np.ndarray) -> pl.DataFrame:
    """Write a collection of positions alone, and return its rows."""
    columns = (*catalogue_columns(gzoo.tree("gz_rings"), counted=[], is_predicted=False)[:4], healpix_column())
    rows = pl.DataFrame(
        {
            "dataset_name": ["made_up"] * len(ra),
            "id_str": [f"{i:07d}" for i in range(len(ra))],
            "ra": ra,
            "dec": dec,
            "_healpix_29": hpgeom.angle_to_pixel(1 << 29, ra, dec),
        }
    ).sort("_healpix_29")
    about = {"kind": "catalogue", "gzoo_version": "0", "simulated": "", "campaign": "", "licence": "", "citation": [],
             "posterior": "", "coordinate_frame": "ICRS"}  # fmt: skip
    content = Content("positions", "positions", columns, {"dataset_name": 7, "id_str": 7}, rows.height, about)
    folder.mkdir()
    with hats.hats(folder, content, rows["_healpix_29"].to_numpy()) as write:
        for start in range(0, rows.height, 10_000):
            few = rows.slice(start, 10_000).to_arrow().cast(schema(columns))
            write(pa.Table.combine_chunks(few).to_batches()[0])
    return rows


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pl.DataFrame]:
    folder = tmp_path_factory.mktemp("hats") / "collection"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hats, "MAX_TILE_ROWS", 300)
        return folder, collection(folder, *positions(4000, 1))


def test_every_row_is_in_its_tile(made: tuple[Path, pl.DataFrame]) -> None:
    folder, rows = made
    assert hats.check_hats(folder) == rows.height
    files = sorted((folder / "catalogue" / "dataset").rglob("Npix*"))
    assert len(files) > 20
    together = pl.concat([pl.read_parquet(path) for path in files]).sort("_healpix_29", "id_str")
    assert together.equals(rows.sort("_healpix_29", "id_str"))
    assert max(pq.read_metadata(path).num_rows for path in files) <= 300
    assert b"unit" in pq.read_schema(files[0]).field("ra").metadata


def test_the_margin_has_every_row_near_a_border(made: tuple[Path, pl.DataFrame]) -> None:
    """A point beside each row, in another tile, must find the row in the margin of that tile."""
    folder, rows = made
    ra, dec = rows["ra"].to_numpy(), rows["dec"].to_numpy()
    layout = hats.tiles(rows["_healpix_29"].to_numpy())
    lines = (folder / "catalogue" / "partition_info.csv").read_text().split()[1:]
    layout = [hats.Tile(*map(int, line.split(",")), slice(0)) for line in lines]
    n_checked = 0
    for bearing in np.linspace(0, 330, 12):
        near = hpgeom.angle_to_pixel(1 << 29, *sky.shifted(ra, dec, float(bearing), 9.9 / 3600))
        for tile in layout:
            first, beyond = tile.ends
            healpix = rows["_healpix_29"].to_numpy()
            crosses = (near >= first) & (near < beyond) & ~((healpix >= first) & (healpix < beyond))
            if crosses.any():
                margin = pl.read_parquet(folder / hats.MARGIN / "dataset" / tile.name)["id_str"]
                assert rows["id_str"].filter(pl.Series(crosses)).is_in(margin.to_list()).all()
                n_checked += int(crosses.sum())
    assert n_checked > 10


def test_whatever_is_changed_is_found(made: tuple[Path, pl.DataFrame], tmp_path: Path) -> None:
    folder = tmp_path / "copy"

    def fresh() -> list[Path]:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(made[0], folder)
        return sorted((folder / "catalogue" / "dataset").rglob("Npix*"))

    fresh()
    about = folder / "catalogue" / "hats.properties"
    about.write_text(about.read_text().replace("hats_nrows=4000", "hats_nrows=4001"))
    with pytest.raises(DatasetError, match="says 4001 rows, but the tiles have 4000"):
        hats.check_hats(folder)
    first, second = fresh()[:2]
    first.rename(folder / "x")
    second.rename(first)
    (folder / "x").rename(second)
    with pytest.raises(DatasetError, match="are not where the tile is on the sky"):
        hats.check_hats(folder)
    fresh()
    about.write_text(about.read_text().replace("hats_col_ra=ra", "hats_col_ra=alpha"))
    with pytest.raises(DatasetError, match="column 'alpha' of positions not found"):
        hats.check_hats(folder)
    fresh()[3].unlink()
    with pytest.raises(DatasetError, match="does not exist"):
        hats.check_hats(folder)


def test_a_catalogue_as_a_collection(dataset: Path, published: Path, tmp_path: Path) -> None:
    folder = tmp_path / "unplaced"
    (folder / "data").mkdir(parents=True)
    shard = pl.read_parquet(published / "data" / "test-00000-of-00001.parquet")
    unknown = pl.int_range(pl.len()) < 2
    columns = [pl.when(unknown).then(None).otherwise(pl.col(name)).alias(name) for name in ("ra", "dec")]
    shard.with_columns(columns).write_parquet(folder / "data" / "test-00000-of-00001.parquet")
    out = tmp_path / "collection"
    made = gzoo.catalog(None, folder, out=out, questions=["bar-gz2"])
    assert made.n_without_position == 2 == pl.read_parquet(out / "without_position.parquet").height
    assert hats.check_hats(out) == shard.height - 2
    assert "SIMULATED" in (out / "ReadMe").read_text()
    assert made.readme == out / "ReadMe"
    with pytest.raises(OutputExistsError, match="finished catalogue"):
        gzoo.catalog(None, folder, out=out)
    gzoo.catalog(None, folder, out=out, questions=["bar-gz2"], overwrite=True)


def test_a_collection_never_replaces_what_it_is_made_of(dataset: Path, tmp_path: Path) -> None:
    folder = tmp_path / "earlier"
    predicted = folder / "p.parquet"
    before = sorted(dataset.rglob("*"))
    for out, said in ((dataset, "is also an input"), (dataset / "hats", "is inside an input"), (folder, "contains")):
        with pytest.raises(InputError, match=said):
            gzoo.catalog([predicted], dataset, out=out, overwrite=True)
    assert sorted(dataset.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_many_rows_take_no_more_than_with_the_writer_of_lsdb(tmp_path: Path) -> None:
    pytest.importorskip("lsdb", reason="lsdb is not installed")
    import dask
    import lsdb

    rng, n = np.random.default_rng(0), 200_000
    tree = gzoo.tree("gz_rings")
    names = [one.name for one in tree.questions]
    columns = (*catalogue_columns(tree, counted=names, is_predicted=True), healpix_column())
    ra, dec = rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    made: dict[str, object] = {"ra": ra, "dec": dec, "_healpix_29": hpgeom.angle_to_pixel(1 << 29, ra, dec)}
    kinds = {
        "string": lambda: [f"{i:012d}" for i in range(n)],
        "bool": lambda: np.zeros(n, bool),
        "int32": lambda: rng.integers(0, 40, n).astype(np.int32),
        "float32": lambda: rng.random(n, dtype=np.float32),
    }
    rows = pl.DataFrame({one.name: made[one.name] if one.name in made else kinds[one.kind]() for one in columns})
    rows = rows.sort("_healpix_29")
    about = {"kind": "catalogue", "gzoo_version": "0", "simulated": "", "campaign": "", "licence": "", "citation": [],
             "posterior": "", "coordinate_frame": "ICRS"}  # fmt: skip
    widths = {one.name: 12 for one in columns if one.kind == "string"}
    content = Content("made up", "made up", columns, widths, n, about)
    batches = rows.to_arrow().cast(schema(columns)).combine_chunks().to_batches(max_chunksize=10_000)
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    began = time.process_time()
    with hats.hats(ours, content, rows["_healpix_29"].to_numpy()) as write:
        for batch in batches:
            write(batch)
    seconds = time.process_time() - began
    frame = rows.drop("_healpix_29").to_pandas(use_pyarrow_extension_array=True)
    with dask.config.set(scheduler="synchronous"):
        opened = lsdb.from_dataframe(
            frame, ra_column="ra", dec_column="dec", margin_threshold=10, partition_rows=50_000
        )
        began = time.process_time()
        opened.write_catalog(theirs)
    assert seconds < time.process_time() - began
    sizes = [sum(one.stat().st_size for one in folder.rglob("*") if one.is_file()) for folder in (ours, theirs)]
    assert sizes[0] < 1.1 * sizes[1]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_lsdb_finds_what_brute_force_finds(tmp_path: Path) -> None:
    pytest.importorskip("lsdb", reason="lsdb is not installed")
    import lsdb
    from hats.io.validation import is_valid_catalog

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hats, "MAX_TILE_ROWS", 20_000)
        ra, dec = positions(1_000_000, 2)
        rows = collection(tmp_path / "one", ra, dec)
        rng = np.random.default_rng(3)
        few = rng.permutation(len(ra))[:200_000]
        other = sky.shifted(ra[few], dec[few], 77.0, 0.5 / 3600)
        others = collection(tmp_path / "two", *other)
    assert is_valid_catalog(tmp_path / "one", strict=True)
    assert hats.check_hats(tmp_path / "one") == 1_000_000
    one, two = lsdb.open_catalog(tmp_path / "one"), lsdb.open_catalog(tmp_path / "two")
    place = rows["ra"].to_numpy(), rows["dec"].to_numpy()
    for at in ((0.0, 0.0), (0.0, 90.0), (123.0, -90.0), (45.0, 41.8), (359.9, 0.5)):
        found = one.cone_search(*at, 3600).compute()
        apart = sky.separation_arcsec(*place, *(np.full(rows.height, value) for value in at))
        assert sorted(found["id_str"]) == sorted(rows["id_str"].filter(pl.Series(apart <= 3600)))
    crossed = two.crossmatch(one, n_neighbors=100, radius_arcsec=5, suffixes=("_a", "_b")).compute()
    pairs = sky.pairs_between(others["ra"].to_numpy(), others["dec"].to_numpy(), *place, radius_arcsec=5)
    theirs = set(zip(crossed["id_str_a"], crossed["id_str_b"], strict=True))
    ours = set(zip(others["id_str"].gather(pairs.first), rows["id_str"].gather(pairs.second), strict=True))
    assert theirs == ours
