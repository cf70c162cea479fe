"""Data leakage: planted leaks are found by position or identifier, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import gzoo
from gzoo import sky
from gzoo.errors import DatasetError, GZooWarning, InputError, NotFoundError, OutputExistsError
from gzoo.trees.campaign import campaign
from test_commands import Command

ARCSEC = 1 / 3600
Row = tuple[str, float | None, float | None]  # id_str, ra, dec
COLUMNS = {name: campaign(name).published_tree.columns for name in ("gz2", "gz_desi", "gz_candels")}


def publish(
    folder: Path, splits: Mapping[str, Sequence[Row]], name: str = "gz2", dataset_name: str | None = None
) -> Path:
    """Write a folder like published ones: shards with the columns of a campaign, without a manifest."""
    (folder / "data").mkdir(parents=True)
    for split, rows in splits.items():
        table = pl.DataFrame(rows, schema={"id_str": pl.String, "ra": pl.Float64, "dec": pl.Float64}, orient="row")
        table = table.with_columns(
            pl.lit(dataset_name or name).alias("dataset_name"), *(pl.lit(1).alias(column) for column in COLUMNS[name])
        )
        table.write_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
    return folder


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


def ids(pairs: pl.DataFrame) -> list[tuple[str, str]]:
    return list(zip(pairs["id_str"], pairs["other_id_str"], strict=True))


def test_same_galaxy_in_two_splits_is_found_across_datasets_and_within_one(tmp_path: Path) -> None:
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
    assert ids(found.pairs) == [("C", "c"), ("A", "far"), ("d", "D"), ("a", "A")], "worst first"
    assert found.pairs["separation_arcsec"].round(6).to_list() == [1.0, 1.6, 1.9, 0.5]
    assert set(found.pairs["matched_by"]) == {"position"}
    assert found.pairs["folder"].to_list() == [str(other)] * 3 + [str(one)]
    assert found.n_pairs_by_splits == {"train and test": 1, "validation and test": 2, "train and validation": 1}
    assert ids(gzoo.leaks([other]).pairs) == [("A", "far"), ("d", "D")]
    assert not gzoo.leaks([one]).has_leaks
    assert ids(gzoo.leaks([other], radius_arcsec=1.7).pairs) == [("A", "far")]


def test_border_does_not_count(tmp_path: Path) -> None:
    one = publish(tmp_path / "one", {"train": [("a", 10.0, 0.0)], "border": [("b", 20.0, 0.0)]})
    other = publish(tmp_path / "other", {"test": [("B", 20.0, 0.0)], "border": [("A", 10.0, 0.0)]})
    assert not gzoo.leaks([one, other]).has_leaks


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
def test_leaks_are_found_at_the_poles_and_at_ra_0(
    tmp_path: Path, one: tuple[float, float], other: tuple[float, float]
) -> None:
    folder = publish(tmp_path / "one", {"train": [("a", *one)], "test": [("b", *other)]})
    assert ids(gzoo.leaks([folder]).pairs) == [("a", "b")]


def test_rows_without_position_are_compared_by_identifier(tmp_path: Path) -> None:
    nowhere = float("nan")
    one = publish(
        tmp_path / "one",
        {"train": [("a", nowhere, nowhere), ("b", None, 5.0), ("c", -999.0, -999.0), ("", nowhere, nowhere)]},
    )
    other = publish(tmp_path / "other", {"test": [("a", 10.0, 0.0), ("b", nowhere, 1.0), ("", 1.0, 1.0)]})
    namesake = publish(tmp_path / "namesake", {"test": [("c", 1.0, 1.0)]}, "gz_candels")
    with pytest.warns(GZooWarning, match="placeholders in place of 1 positions"):
        found = gzoo.leaks([one, other, namesake])
    assert ids(found.pairs) == [("a", "a"), ("b", "b")], "c is of another campaign, and '' is not an identifier"
    assert found.pairs["matched_by"].to_list() == ["identifier"] * 2
    assert found.pairs["separation_arcsec"].to_list() == [None, None]
    assert found.n_without_position == (4, 1, 0)


def test_a_pair_is_listed_once(tmp_path: Path) -> None:
    one = publish(tmp_path / "one", {"train": [("a", 10.0, 0.0)], "test": [("a", 10.0, ARCSEC)]})
    found = gzoo.leaks([one, one])
    assert found.pairs["matched_by"].to_list() == ["position"] * 4
    assert gzoo.leaks([one]).pairs.height == 1


def test_an_identifier_used_many_times_gives_one_pair(tmp_path: Path) -> None:
    many: list[Row] = [("same", None, None)] * 100_000
    found = gzoo.leaks([publish(tmp_path / "one", {"train": many, "test": many})])
    assert found.pairs.height == 1


def test_overlapping_images_are_listed_separately(tmp_path: Path) -> None:
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
    assert ids(gzoo.leaks([unknown], image_size_arcsec=45).overlaps) == [("a", "near"), ("a", "beyond")]
    # The size of the images of one dataset is unknown, so overlaps with it are not searched for.
    assert gzoo.leaks([known, unknown]).overlaps["other_folder"].to_list() == [str(known)]


def test_one_scheme_prevents_leaks_and_random_splits_do_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ra, dec = rng.uniform(0, 360, 3000), np.degrees(np.arcsin(rng.uniform(-1, 1, 3000)))
    shift = rng.uniform(-0.35, 0.35, (2, 3000)) * ARCSEC
    ours, peers = [], []
    for i, (x, y) in enumerate(((ra, dec), ((ra + shift[0] / np.cos(np.radians(dec))) % 360, dec + shift[1]))):
        by_scheme = sky.split(x, y)
        drawn = rng.permutation(np.repeat(["train", "test"], [2400, 600]))
        for folders, splits, kind in ((ours, by_scheme, "ours"), (peers, drawn, "peers")):
            rows = {
                str(one): [(f"{i}-{j}", x[j], y[j]) for j in np.flatnonzero(splits == one)] for one in np.unique(splits)
            }
            folders.append(publish(tmp_path / f"{kind}{i}", rows))
    assert not gzoo.leaks(ours).has_leaks
    found = gzoo.leaks(peers)
    test_ids = [set(pl.read_parquet(one / "data" / "test-*.parquet")["id_str"]) for one in peers]
    planted = [j for j in range(3000) if (f"0-{j}" in test_ids[0]) != (f"1-{j}" in test_ids[1])]
    assert sorted({int(one.partition("-")[2]) for one in found.pairs["id_str"]}) == planted
    assert found.pairs.height == len(planted) > 800


def test_command_and_table(tmp_path: Path, command: Command) -> None:
    rows: dict[str, list[Row]] = {
        "train": [(f"a{i}", 10.0 + i, 0.0) for i in range(25)],
        "test": [(f"b{i}\x1b[31m", 10.0 + i, ARCSEC) for i in range(25)],
    }
    folder = publish(tmp_path / "one", rows)
    done = command("leaks", folder, "--out", tmp_path / "pairs.csv")
    assert done.code == 1
    assert "25 (train and test 25)" in done.out
    assert "and 5 more" in done.out
    assert "\x1b[31m" not in done.out
    assert pl.read_csv(tmp_path / "pairs.csv").height == 25
    done = command("leaks", folder, "--json")
    result = json.loads(done.out)
    assert done.code == 1
    assert (result["has_leaks"], result["n_pairs"], len(result["pairs"])) == (True, 25, 25)
    done = command("leaks", folder, "--json", "--radius-arcsec", "0.5")
    assert (done.code, json.loads(done.out)["has_leaks"]) == (0, False)
    gzoo.leaks([folder], out=tmp_path / "pairs.parquet")
    assert pl.read_parquet(tmp_path / "pairs.parquet")["what"].to_list() == ["same galaxy"] * 25
    with pytest.raises(OutputExistsError, match=r"pairs\.parquet"):
        gzoo.leaks([folder], out=tmp_path / "pairs.parquet")


@pytest.mark.filterwarnings("ignore:.*12,000 :gzoo.errors.GZooWarning")
def test_invalid_input_is_an_error(tmp_path: Path) -> None:
    folder = publish(tmp_path / "one", {"train": [("a", 10.0, 0.0)]})
    with pytest.raises(InputError, match="No dataset folders"):
        gzoo.leaks([])
    with pytest.raises(NotFoundError, match="unavailable"):
        gzoo.leaks([tmp_path / "unavailable"])
    with pytest.raises(InputError, match="-1"):
        gzoo.leaks([folder], radius_arcsec=-1)
    with pytest.raises(InputError, match="image_size_arcsec is 0"):
        gzoo.leaks([folder], image_size_arcsec=0)
    with pytest.raises(InputError, match="unknown file type"):
        gzoo.leaks([folder], out=tmp_path / "pairs.txt")
    heap = publish(tmp_path / "heap", {"train": [("a", 99.5, 9.0)] * 6000, "test": [("b", 99.5, 9.0)] * 6000})
    with pytest.raises(InputError, match="12,000"):
        gzoo.leaks([heap])
    nowhere = publish(tmp_path / "nowhere", {"train": [("a", 0.0, 0.0)] * 6000, "test": [("b", 0.0, 0.0)] * 6000})
    with pytest.warns(GZooWarning, match="placeholders in place of 12,000 positions"):
        assert gzoo.leaks([nowhere]).n_without_position == (12_000,)
    bad = tmp_path / "bad"
    (bad / "data").mkdir(parents=True)
    shard = "train-00000-of-00001.parquet"
    table = pl.read_parquet(folder / "data" / shard).with_columns(ra=pl.lit("10h"))
    table.write_parquet(bad / "data" / shard)
    with pytest.raises(DatasetError, match=r"ra\b.*train|train.*\bra\b"):
        gzoo.leaks([bad])


def test_built_datasets_are_read(dataset: Path) -> None:
    found = gzoo.leaks([dataset])
    assert not found.has_leaks
    assert sum(found.n_galaxies[0].values()) == 60
