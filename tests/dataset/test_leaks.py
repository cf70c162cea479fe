"""Leaks: what is planted is found, whatever betrays it, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import gzoo
from gzoo import sky
from gzoo.cli import app
from gzoo.errors import DatasetError, InputError, NotFoundError, OutputExistsError
from gzoo.trees.campaign import campaign

ARCSEC = 1 / 3600
Row = tuple[str, float | None, float | None]  # id_str, ra, dec
COLUMNS = {name: campaign(name).published_tree.columns for name in ("gz2", "gz_desi", "gz_candels")}


def publish(
    folder: Path, splits: Mapping[str, Sequence[Row]], name: str = "gz2", dataset_name: str | None = None
) -> Path:
    """A folder as others publish them: shards with a campaign's columns, no manifest."""
    (folder / "data").mkdir(parents=True)
    for split, rows in splits.items():
        table = pl.DataFrame(rows, schema={"id_str": pl.String, "ra": pl.Float64, "dec": pl.Float64}, orient="row")
        table = table.with_columns(
            pl.lit(dataset_name or name).alias("dataset_name"), *(pl.lit(1).alias(column) for column in COLUMNS[name])
        )
        table.write_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
    return folder


def ids(pairs: pl.DataFrame) -> list[tuple[str, str]]:
    return list(zip(pairs["id_str"], pairs["other_id_str"], strict=True))


def test_finds_a_galaxy_on_two_sides_across_datasets_and_within_one(tmp_path: Path) -> None:
    one = publish(
        tmp_path / "one",
        {"train": [("a", 10.0, 0.0), ("b", 20.0, 0.0), ("twin", 20.0, 1.5 * ARCSEC)], "test": [("c", 30.0, 0.0)]},
    )
    other = publish(
        tmp_path / "other",
        {
            "train": [("C", 30.0, 1.0 * ARCSEC), ("B", 20.0, 0.0)],
            "validation": [("d", 40.0, 0.0), ("A", 10.0, 0.5 * ARCSEC)],
            "test": [("D", 40.0, -1.9 * ARCSEC), ("far", 10.0, 2.1 * ARCSEC)],
        },
        "gz_candels",
    )
    found = gzoo.leaks([one, other])
    assert ids(found.pairs) == [("C", "c"), ("A", "far"), ("d", "D"), ("a", "A")], "the worst first"
    assert found.pairs["separation_arcsec"].round(6).to_list() == [1.0, 1.6, 1.9, 0.5]
    assert set(found.pairs["matched_by"]) == {"position"}
    assert found.pairs["folder"].to_list() == [str(other)] * 3 + [str(one)]
    assert found.n_pairs_by_splits == {"train and test": 1, "validation and test": 2, "train and validation": 1}
    assert ids(gzoo.leaks([other]).pairs) == [("A", "far"), ("d", "D")]
    assert gzoo.leaks([one]).is_clean
    assert ids(gzoo.leaks([other], radius_arcsec=1.7).pairs) == [("A", "far")]


def test_border_is_no_side(tmp_path: Path) -> None:
    one = publish(tmp_path / "one", {"train": [("a", 10.0, 0.0)], "border": [("b", 20.0, 0.0)]})
    other = publish(tmp_path / "other", {"test": [("B", 20.0, 0.0)], "border": [("A", 10.0, 0.0)]})
    assert gzoo.leaks([one, other]).is_clean


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((0.0, 0.0), (360.0, ARCSEC)),
        ((359.9999, 10.0), (0.0001, 10.0)),
        ((-180.0, -30.0), (180.0, -30.0)),
        ((12.0, 90.0), (250.0, 90.0)),
        ((12.0, -90.0 + 0.9 * ARCSEC), (192.0, -90.0 + 0.9 * ARCSEC)),
    ],
)
def test_neither_poles_nor_the_turn_of_ra_hide_a_leak(
    tmp_path: Path, one: tuple[float, float], other: tuple[float, float]
) -> None:
    folder = publish(tmp_path / "one", {"train": [("a", *one)], "test": [("b", *other)]})
    assert ids(gzoo.leaks([folder]).pairs) == [("a", "b")]


def test_the_identifier_tells_where_positions_are_missing(tmp_path: Path) -> None:
    nowhere = float("nan")
    one = publish(
        tmp_path / "one",
        {"train": [("a", nowhere, nowhere), ("b", None, 5.0), ("c", -999.0, -999.0), ("", nowhere, nowhere)]},
    )
    other = publish(tmp_path / "other", {"test": [("a", 10.0, 0.0), ("b", nowhere, 1.0), ("", 1.0, 1.0)]})
    namesake = publish(tmp_path / "namesake", {"test": [("c", 1.0, 1.0)]}, "gz_candels")
    found = gzoo.leaks([one, other, namesake])
    assert ids(found.pairs) == [("a", "a"), ("b", "b")], "c is another campaign's, and '' is no identifier"
    assert found.pairs["matched_by"].to_list() == ["identifier"] * 2
    assert found.pairs["separation_arcsec"].to_list() == [None, None]
    assert found.n_without_position == (4, 1, 0)


def test_a_pair_is_told_once(tmp_path: Path) -> None:
    one = publish(tmp_path / "one", {"train": [("a", 10.0, 0.0)], "test": [("a", 10.0, ARCSEC)]})
    found = gzoo.leaks([one, one])
    assert found.pairs["matched_by"].to_list() == ["position"] * 4
    assert gzoo.leaks([one]).pairs.height == 1


def test_an_identifier_used_a_hundred_thousand_times_costs_no_more_than_its_rows(tmp_path: Path) -> None:
    many: list[Row] = [("same", None, None)] * 100_000
    found = gzoo.leaks([publish(tmp_path / "one", {"train": many, "test": many})])
    assert found.pairs.height == 1


def test_overlapping_images_of_neighbours_are_told_apart(tmp_path: Path) -> None:
    rows = {"train": [("a", 10.0, 0.0), ("same", 11.0, 0.0)], "test": [("near", 10.0, 40 * ARCSEC), ("S", 11.0, 0.0)]}
    rows["validation"] = [("beyond", 10.0, -43 * ARCSEC)]
    known, unknown = publish(tmp_path / "desi", rows, "gz_desi"), publish(tmp_path / "gz2", rows)
    found = gzoo.leaks([known])
    assert ids(found.pairs) == [("same", "S")]
    assert ids(found.overlaps) == [("a", "near")], "DESI images show at least 42.4 arcsec"
    assert not found.not_judged
    found = gzoo.leaks([unknown])
    assert found.overlaps.is_empty()
    assert found.not_judged == ((str(unknown), "gz2"),)
    assert ids(gzoo.leaks([unknown], image_arcsec=45).overlaps) == [("a", "near"), ("a", "beyond")]
    # of two images of different width, the mean counts; only one of these two is known, so none is judged
    assert gzoo.leaks([known, unknown]).overlaps["other_folder"].to_list() == [str(known)]


def test_datasets_of_one_scheme_do_not_leak_and_a_random_split_does(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ra, dec = rng.uniform(0, 360, 3000), np.degrees(np.arcsin(rng.uniform(-1, 1, 3000)))
    shift = rng.uniform(-0.35, 0.35, (2, 3000)) * ARCSEC
    ours, peers = [], []
    for i, (x, y) in enumerate(((ra, dec), ((ra + shift[0] / np.cos(np.radians(dec))) % 360, dec + shift[1]))):
        side = sky.split(x, y)
        drawn = rng.permutation(np.repeat(["train", "test"], [2400, 600]))
        for folders, splits, kind in ((ours, side, "ours"), (peers, drawn, "peers")):
            rows = {
                str(one): [(f"{i}-{j}", x[j], y[j]) for j in np.flatnonzero(splits == one)] for one in np.unique(splits)
            }
            folders.append(publish(tmp_path / f"{kind}{i}", rows))
    assert gzoo.leaks(ours).is_clean
    found = gzoo.leaks(peers)
    sides = [dict.fromkeys(pl.read_parquet(one / "data" / "test-*.parquet")["id_str"], "test") for one in peers]
    planted = [j for j in range(3000) if (f"0-{j}" in sides[0]) != (f"1-{j}" in sides[1])]
    assert sorted({int(one.partition("-")[2]) for one in found.pairs["id_str"]}) == planted
    assert found.pairs.height == len(planted) > 800


def test_command_and_table(tmp_path: Path) -> None:
    rows: dict[str, list[Row]] = {
        "train": [(f"a{i}", 10.0 + i, 0.0) for i in range(25)],
        "test": [(f"b{i}\x1b[31m", 10.0 + i, ARCSEC) for i in range(25)],
    }
    folder = publish(tmp_path / "one", rows)
    run = CliRunner()
    done = run.invoke(app, ["leaks", str(folder), "--out", str(tmp_path / "pairs.csv")])
    assert done.exit_code == 1
    assert "Pairs on two sides: 25 (train and test 25)." in done.output
    assert "and 5 more; --out writes all of them" in done.output
    assert "\x1b[31m" not in done.output
    assert pl.read_csv(tmp_path / "pairs.csv").height == 25
    done = run.invoke(app, ["leaks", str(folder), "--json"])
    said = json.loads(done.stdout)
    assert done.exit_code == 1
    assert (said["is_clean"], said["n_pairs"], len(said["pairs"])) == (False, 25, 25)
    done = run.invoke(app, ["leaks", str(folder), "--json", "--radius-arcsec", "0.5"])
    assert (done.exit_code, json.loads(done.stdout)["is_clean"]) == (0, True)
    gzoo.leaks([folder], out=tmp_path / "pairs.parquet")
    assert pl.read_parquet(tmp_path / "pairs.parquet")["what"].to_list() == ["same galaxy"] * 25
    with pytest.raises(OutputExistsError, match="is there already"):
        gzoo.leaks([folder], out=tmp_path / "pairs.parquet")


def test_bad_input_is_told(tmp_path: Path) -> None:
    folder = publish(tmp_path / "one", {"train": [("a", 10.0, 0.0)]})
    with pytest.raises(InputError, match="nothing to look into"):
        gzoo.leaks([])
    with pytest.raises(NotFoundError, match="no folder"):
        gzoo.leaks([tmp_path / "unavailable"])
    with pytest.raises(InputError, match=re.escape("The radius is -1 arcsec")):
        gzoo.leaks([folder], radius_arcsec=-1)
    with pytest.raises(InputError, match="0 arcsec wide"):
        gzoo.leaks([folder], image_arcsec=0)
    with pytest.raises(InputError, match="no table that gzoo writes"):
        gzoo.leaks([folder], out=tmp_path / "pairs.txt")
    heap = publish(tmp_path / "heap", {"train": [("a", 0.0, 0.0)] * 6000, "test": [("b", 0.0, 0.0)] * 6000})
    with pytest.raises(InputError, match=r"12,000 stand at ra 0, dec 0"):
        gzoo.leaks([heap])
    bad = tmp_path / "bad"
    (bad / "data").mkdir(parents=True)
    shard = "train-00000-of-00001.parquet"
    table = pl.read_parquet(folder / "data" / shard).with_columns(ra=pl.lit("10h"))
    table.write_parquet(bad / "data" / shard)
    with pytest.raises(DatasetError, match="Column ra of split train"):
        gzoo.leaks([bad])


def test_reads_what_gzoo_builds(dataset: Path) -> None:
    found = gzoo.leaks([dataset])
    assert found.is_clean
    assert sum(found.n_galaxies[0].values()) == 60
