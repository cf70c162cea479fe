"""A merged dataset contains every row of every dataset unchanged, and does not leak."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import datasets
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from huggingface_hub import DatasetCard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gzoo
from gzoo import cli, files, sky
from gzoo.dataset import finalize, merge, schema, streams
from gzoo.dataset.build import build
from gzoo.dataset.check import check
from gzoo.dataset.merge import union
from gzoo.errors import DatasetError, InputError, NotFoundError, OutputExistsError, WriteError
from gzoo.simulator import SimulateResult, simulate
from gzoo.sky import identifier_split
from gzoo.trees.campaign import campaign
from kill_harness import kill_everywhere

N = {"gz2": 60, "gz_candels": 20, "gz_ukidss": 30}
SMOOTH = campaign("gz2").tree.questions[0].columns


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows_of(folder: Path, config: str = "default") -> pl.DataFrame:
    """All rows in order, each with its split."""
    return pl.concat(
        pl.read_parquet(path).with_columns(split=pl.lit(split))
        for split in files.SPLITS
        for path in files.shards(folder, split, config)
    )


def altered(folder: Path, source: Path, **facts: object) -> Path:
    """A copy of a dataset whose manifest says something else."""
    shutil.copytree(source, folder)
    manifest = files.read_json(folder / "manifest.json")
    files.write_json(folder / "manifest.json", manifest | facts)
    return folder


@pytest.fixture(scope="session")
def parts(sky: SimulateResult, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Datasets of three campaigns, of which two show galaxies of the first; look, do not touch."""
    folder = tmp_path_factory.mktemp("parts")
    found = {"gz2": dataset}
    for i, name in enumerate(("gz_candels", "gz_ukidss")):
        made = simulate(
            name, n_galaxies=N[name], seed=2 + i, galaxies_from=sky.folder, export=False, out=folder / f"{name}-sky"
        )
        build(name, votes=made.votes, images=made.images, out=folder / name)
        found[name] = folder / name
    return found


@pytest.fixture(scope="session")
def merged(parts: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The union of `parts`; look, do not touch."""
    folder = tmp_path_factory.mktemp("merged") / "evo"
    union(list(parts.values()), out=folder)
    return folder


def tabular(
    folder: Path,
    name: str,
    ids: Sequence[str],
    places: Sequence[tuple[float | None, float | None]] | None = None,
    seed: int = 0,
    **settings: object,
) -> Path:
    """A dataset of votes alone, of real galaxies as far as it says."""
    rng = np.random.default_rng(seed)
    table: dict[str, object] = {"id_str": ids}
    for column in campaign(name).published_tree.questions[0].columns:
        table[column] = rng.integers(0, 40, len(ids))
    if places:
        table["ra"], table["dec"] = zip(*places, strict=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    votes = folder.with_suffix(".csv")
    pl.DataFrame(table).write_csv(votes)
    build(name, votes=votes, no_images=True, out=folder, **settings)  # type: ignore[arg-type]
    return folder


# ----------------------------------------------------------------------------------------------------
# What comes out


def test_every_row_has_all_columns_and_the_values_of_its_dataset(parts: dict[str, Path], merged: Path) -> None:
    rows = rows_of(merged)
    evo = campaign("gz_evo")
    assert tuple(rows.columns[:-1]) == schema.record(evo).names
    assert pq.read_schema(files.shards(merged, "train")[0]).equals(schema.record(evo).arrow(), check_metadata=True)
    assert rows.height == sum(N.values())
    assert sum(rows.null_count().row(0)) == 0
    for name, folder in parts.items():
        own = rows_of(folder)
        mine = rows.filter(pl.col("dataset_name") == f"{name}_simulated")
        assert mine.select(own.columns).equals(own), "all of them, in the order that they had"
        asked = set(campaign(name).published_tree.columns)
        for question in evo.published_tree.questions:
            if asked.isdisjoint(question.columns):
                assert mine.select(pl.sum_horizontal(*question.columns, question.total_column)).sum().item() == 0
                assert all(mine[f"{column}_fraction"].is_nan().all() for column in question.columns)


def test_rows_are_in_hash_order_and_tiny_is_the_first_of_them(merged: Path) -> None:
    rows = rows_of(merged)
    for (split,), part in rows.group_by("split", maintain_order=True):
        places = [identifier_split.place(one) for one in part["id_str"]]
        assert places == sorted(places)
        names = rows_of(merged, "tiny").filter(pl.col("split") == split)["id_str"].to_list()
        assert names == part["id_str"].to_list()[:16]


def test_images_are_listed_as_their_datasets_list_them(parts: dict[str, Path], merged: Path) -> None:
    listed, rows = pl.read_parquet(merged / "images.parquet"), rows_of(merged)
    assert listed.select("dataset_name", "id_str").equals(rows.select("dataset_name", "id_str"))
    data = rows["image"].struct.field("bytes")
    assert [hashlib.sha256(one).hexdigest() for one in data] == listed["sha256"].to_list()
    for name, folder in parts.items():
        own = pl.read_parquet(folder / "images.parquet")
        assert listed.filter(pl.col("dataset_name") == f"{name}_simulated").equals(own)


def test_datasets_and_gzoo_open_it(merged: Path) -> None:
    loaded = datasets.load_dataset(str(merged))
    assert {split: len(part) for split, part in loaded.items()} == {
        split: pl.concat([pl.read_parquet(path, columns=["id_str"]) for path in files.shards(merged, split)]).height
        for split in files.SPLITS
    }
    assert loaded["test"][0]["image"].size == (424, 424)
    opened = gzoo.open_dataset(merged)
    assert opened.campaign.name == "gz_evo"
    assert opened.is_simulated
    keys, votes = opened.read_votes("test")
    assert (
        votes.counts.sum()
        == rows_of(merged).filter(pl.col("split") == "test").select(votes.tree.columns).to_numpy().sum()
    )
    assert set(keys["dataset_name"]) == {f"{name}_simulated" for name in N}
    assert {one.name for one in opened.tree.questions if one.name.endswith("-hubble")} <= set(opened.not_collected)


def test_manifest_lists_every_file_and_input(parts: dict[str, Path], merged: Path) -> None:
    manifest = files.read_json(merged / "manifest.json")
    found = contents(merged)
    del found["manifest.json"]
    said = {name: one["sha256"] for name, one in manifest["files"].items()}  # type: ignore[attr-defined]
    assert said == {name: hashlib.sha256(data).hexdigest() for name, data in found.items()}
    for one in manifest["inputs"]:  # type: ignore[attr-defined]
        folder = parts[one["campaign"]]
        assert one["manifest"] == files.sha256(folder / "manifest.json")
        assert one["files"] == {name: files.sha256(folder / name) for name in one["files"]}
        assert {name for name in contents(folder) if name.startswith("data/")} < set(one["files"])
    assert not {"work", "begun.json"} & {path.name for path in merged.iterdir()}
    assert str(merged.parent) not in (merged / "manifest.json").read_text()
    own = [files.read_json(folder / "manifest.json") for folder in parts.values()]
    for name in ("n_rows_breaking_tree", "n_rows_in_table"):
        assert manifest[name] == sum(one[name] for one in own)  # type: ignore[misc]
    for one in own:
        asked = one["questions"].items()  # type: ignore[attr-defined]
        assert {name: manifest["questions"][name] for name, _ in asked} == dict(asked)  # type: ignore[index]


def test_card_lists_the_merged_datasets(merged: Path) -> None:
    text = (merged / "README.md").read_text()
    header = DatasetCard(text).data.to_dict()
    assert {one["config_name"] for one in header["configs"]} == {"default", "tiny"}
    assert header["dataset_info"][0]["features"][0] == {"name": "image", "dtype": "image"}
    rows = rows_of(merged)
    for name, n in N.items():
        line = next(line for line in text.splitlines() if line.startswith(f"| `{name}_simulated` |"))
        assert line.endswith(f"| {n} |")
        train = rows.filter(pl.col("dataset_name") == f"{name}_simulated", pl.col("split") == "train").height
        assert line.split(" | ")[1] == str(train)
    assert "30 galaxies are in several datasets, and 0 are several times in one" in text
    assert "| `bar-hubble` | not asked |" in text
    assert "**Simulated.**" in text
    assert "Not collected" not in text


# ----------------------------------------------------------------------------------------------------
# One galaxy in several campaigns


def test_galaxies_of_several_campaigns_are_matched(parts: dict[str, Path], merged: Path) -> None:
    same = pl.read_parquet(merged / "crossmatch.parquet")
    number = pl.col("id_str").str.split("-").list.last()
    truth = same.with_columns(number=number).group_by("galaxy").agg(pl.col("number").unique(), "dataset_name")
    assert truth["number"].list.len().to_list() == [1] * 30, "the simulator's galaxies, one each"
    assert truth["dataset_name"].list.len().value_counts().sort("dataset_name").rows() == [(2, 10), (3, 20)]
    rows = rows_of(merged).select("dataset_name", "id_str", "split", "ra", "dec")
    joined = same.join(rows, on=["dataset_name", "id_str", "split"], maintain_order="left")
    assert joined.height == same.height
    firsts = joined.group_by("galaxy", maintain_order=True).first()
    assert (firsts["separation_arcsec"] == 0).all()
    both = joined.join(firsts, on="galaxy", suffix="_first")
    places = (both[name].to_numpy() for name in ("ra", "dec", "ra_first", "dec_first"))
    assert both["separation_arcsec"].to_numpy() == pytest.approx(sky.separation_arcsec(*places), abs=1e-9)
    assert firsts["galaxy"].to_list() == sky.cells(firsts["ra"], firsts["dec"], merge.CELLS).tolist()
    assert not gzoo.leaks([merged]).has_leaks
    assert not gzoo.leaks([merged, *parts.values()]).has_leaks


def test_a_third_campaign_does_not_change_the_split_of_a_galaxy(
    parts: dict[str, Path], merged: Path, tmp_path: Path
) -> None:
    two = union([parts["gz2"], parts["gz_ukidss"]], out=tmp_path / "two")
    assert two.n_of == {"gz2_simulated": 60, "gz_ukidss_simulated": 30}
    assert (two.n_shared, two.n_repeated, two.n_across) == (30, 0, 0)
    before, after = rows_of(tmp_path / "two"), rows_of(merged)
    assert after.join(before, on=["dataset_name", "id_str"], how="semi", maintain_order="left").equals(before)
    kept = pl.read_parquet(merged / "crossmatch.parquet").filter(pl.col("dataset_name") != "gz_candels_simulated")
    assert kept.equals(pl.read_parquet(tmp_path / "two" / "crossmatch.parquet")), "with the same numbers"
    # and a merged dataset can be merged again
    union([tmp_path / "two", parts["gz_candels"]], out=tmp_path / "three")
    assert rows_of(tmp_path / "three").equals(after)
    for name in ("images.parquet", "crossmatch.parquet", "dropped.parquet"):
        assert (tmp_path / "three" / name).read_bytes() == (merged / name).read_bytes()


def test_chains_and_repeats_are_one_galaxy_and_unknown_positions_are_not_matched(tmp_path: Path) -> None:
    arcsec = 1 / 3600
    one = tabular(tmp_path / "one", "gz2", ["a", "b", "n"], [(10.0, 5.0), (10.0, 5 + 1.5 * arcsec), (None, None)])
    two = tabular(
        tmp_path / "two", "gz_candels", ["c", "far", "m"], [(10.0, 5 + 3 * arcsec), (11.0, 5.0), (None, None)]
    )
    made = union([one, two], out=tmp_path / "out")
    same = pl.read_parquet(tmp_path / "out" / "crossmatch.parquet")
    assert same["id_str"].to_list() == ["a", "b", "c"]
    assert same["galaxy"].n_unique() == 1
    assert same["separation_arcsec"].round(6).to_list() == [0, 1.5, 3]
    assert (made.n_shared, made.n_repeated) == (1, 0)
    assert files.read_json(tmp_path / "out" / "manifest.json")["n_split_by_id"] == 2
    alone = union([one], out=tmp_path / "alone")
    assert (alone.n_shared, alone.n_repeated) == (0, 1)


# ----------------------------------------------------------------------------------------------------
# The same bytes


def test_order_and_path_of_the_folders_do_not_matter(
    parts: dict[str, Path], merged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i, folder in enumerate(reversed(parts.values())):
        shutil.copytree(folder, tmp_path / f"copy{i}")
    monkeypatch.chdir(tmp_path)
    union(["copy1", "copy0", "copy2"], out="again")
    assert contents(tmp_path / "again") == contents(merged)
    with pytest.raises(OutputExistsError, match="finished dataset"):
        union(["copy1", "copy0"], out="again")
    union(["copy1", "copy0"], out="again", overwrite=True)
    assert rows_of(tmp_path / "again").height == 50
    assert {path.name for path in tmp_path.iterdir()} == {"again", "copy0", "copy1", "copy2"}


def test_shards_blocks_and_row_groups_contain_every_row_once_and_in_order(
    parts: dict[str, Path], merged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finalize, "SHARD_BYTES", 250_000)
    monkeypatch.setattr(merge, "ROWS_IN_BLOCK", 7)
    monkeypatch.setattr(files, "ROWS_IN_GROUP", 5)
    union(list(parts.values()), out=tmp_path / "out")
    assert len(files.shards(tmp_path / "out", "train")) > 2
    assert max(pq.read_metadata(path).num_row_groups for path in files.shards(tmp_path / "out", "train")) > 1
    assert rows_of(tmp_path / "out").equals(rows_of(merged))
    assert pl.read_parquet(tmp_path / "out" / "images.parquet").equals(pl.read_parquet(merged / "images.parquet"))
    # a union reads what it wrote
    union([tmp_path / "out"], out=tmp_path / "again")
    assert rows_of(tmp_path / "again").equals(rows_of(merged))


UNION = """
from gzoo.dataset import finalize, merge, streams

finalize.SHARD_BYTES = 250_000
streams.RUN_BYTES = 300_000

def make(out, *datasets):
    merge.union(datasets, out=out)
"""


SLOW = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.mark.parametrize(
    ("kind", "stride"), [("published", 839), *(pytest.param(kind, 1, marks=SLOW) for kind in ("built", "published"))]
)
def test_killed_at_any_moment_the_next_union_gives_the_same_bytes(
    parts: dict[str, Path], published: Path, tmp_path: Path, kind: str, stride: int
) -> None:
    folders = [parts["gz2"], parts["gz_candels"]] if kind == "built" else [published]
    made = kill_everywhere(UNION, tmp_path, stride, folders)
    assert len(files.shards(made, "train")) > 1


def test_a_full_disk_is_an_error(
    parts: dict[str, Path], merged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(merge, "write_result", full)
    with pytest.raises(WriteError, match="the disk is full"):
        union(list(parts.values()), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    stages: set[str] = set()
    union(list(parts.values()), out=tmp_path / "out", progress=lambda stage, *_: stages.add(stage))
    assert "Planning shards" not in stages, "it resumes"
    assert contents(tmp_path / "out") == contents(merged)


# ----------------------------------------------------------------------------------------------------
# Laws


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    split=st.lists(st.integers(0, 2), min_size=3, max_size=40),
    seed=st.integers(0, 1000),
    candels=st.booleans(),
)
def test_union_of_parts_keeps_the_sums_of_votes(
    tmp_path_factory: pytest.TempPathFactory, split: list[int], seed: int, candels: bool
) -> None:
    tmp_path = tmp_path_factory.mktemp("law")
    ids = [f"g{i}" for i in range(len(split))]
    whole = rows_of(tabular(tmp_path / "whole", "gz2", ids, seed=seed))
    folders: list[Path] = []
    for part in sorted(set(split)):
        mine = whole.filter(pl.col("id_str").is_in([one for one, at in zip(ids, split, strict=True) if at == part]))
        mine.select("id_str", *SMOOTH).write_csv(tmp_path / f"{part}.csv")
        build("gz2", votes=tmp_path / f"{part}.csv", no_images=True, out=tmp_path / f"part{part}")
        folders.append(tmp_path / f"part{part}")
    if candels:  # whose votes are in columns of their own, even under the same identifiers
        folders.append(tabular(tmp_path / "candels", "gz_candels", ids, seed=seed))
    made = union(folders, out=tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert rows.filter(pl.col("dataset_name") == "gz2").select(whole.columns).equals(whole)
    assert sum(made.n_galaxies.values()) == rows.height == len(ids) * (1 + candels)
    counts = list(campaign("gz_evo").published_tree.columns)
    own = sum(
        rows_of(one).select(campaign("gz2").published_tree.columns).to_numpy().sum()
        for one in folders[: len(set(split))]
    )
    assert rows.select([one for one in counts if "-gz2_" in one]).to_numpy().sum() == own
    shutil.rmtree(tmp_path)


# ----------------------------------------------------------------------------------------------------
# Published copies, and dropped rows


def test_published_copies_are_put_in_order(
    published: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "RUN_BYTES", 200_000)
    source = tmp_path / "gz2"
    (source / "data").mkdir(parents=True)
    table = pl.read_parquet(published / "data" / "train-00000-of-00001.parquet")
    shuffled = table.sample(fraction=1, shuffle=True, seed=1)
    columns = pl.col(table.columns[5]).cast(pl.Int64), pl.col("ra").cast(pl.Float32)
    shuffled[:20].with_columns(columns).write_parquet(source / "data" / "train-00000-of-00002.parquet")
    shuffled[20:].write_parquet(source / "data" / "train-00001-of-00002.parquet")
    broken = pl.read_parquet(published / "data" / "test-00000-of-00001.parquet")
    data = broken["image"].struct.field("bytes").to_list()
    data[2] = data[2][:-300]
    image = pl.DataFrame({"bytes": data, "path": broken["image"].struct.field("path")}).to_struct("image")
    broken.with_columns(image).write_parquet(source / "data" / "test-00000-of-00001.parquet")

    made = union([source], out=tmp_path / "out")
    rows, own = rows_of(tmp_path / "out"), rows_of(dataset)
    lost = broken["id_str"][2]
    assert made.n_dropped == {"image unusable": 1}
    dropped = pl.read_parquet(tmp_path / "out" / "dropped.parquet")
    assert dropped.select("id_str", "reason", "dataset_name").rows() == [(lost, "image unusable", "gz2_simulated")]
    expected = own.filter(pl.col("split") != "border", pl.col("id_str") != lost)
    expected = expected.with_columns(
        split=pl.col("split").replace("validation", "train"),
        hash=pl.Series([identifier_split.place(x) for x in expected["id_str"]]),
    ).sort(pl.col("split") == "test", "hash")
    assert rows["id_str"].to_list() == expected["id_str"].to_list()
    same = [name for name in own.columns if name != "ra"]
    assert rows.select(same).equals(expected.select(same)), "votes, fractions, summary and images"
    assert rows["ra"].to_numpy() == pytest.approx(expected["ra"].to_numpy(), abs=1e-4)
    listed = pl.read_parquet(tmp_path / "out" / "images.parquet")
    assert [hashlib.sha256(one).hexdigest() for one in rows["image"].struct.field("bytes")] == listed[
        "sha256"
    ].to_list()
    assert set(listed["source"]) == {path.name for path in (source / "data").iterdir()}
    manifest = files.read_json(tmp_path / "out" / "manifest.json")
    assert (manifest["split_scheme"], manifest["n_rows_in_table"]) == ("published", table.height + broken.height)
    assert manifest["are_images_decoded"] is False


def test_a_published_copy_goes_with_a_build_that_kept_a_published_split(tmp_path: Path) -> None:
    table = pl.DataFrame({"id_str": ["a", "b"], "split": ["test", "train"], **{column: [1, 2] for column in SMOOTH}})
    table.write_csv(tmp_path / "votes.csv")
    build("gz2", votes=tmp_path / "votes.csv", no_images=True, split_column="split", out=tmp_path / "built")
    bare = tmp_path / "bare" / "data"
    bare.mkdir(parents=True)
    copied = rows_of(tmp_path / "built").drop("split").with_columns(id_str=pl.lit("copy-") + pl.col("id_str"))
    copied.write_parquet(bare / "train-00000-of-00001.parquet")
    union([bare.parent, tmp_path / "built"], campaign="gz2", out=tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    splits = dict(rows.select("id_str", "split").iter_rows())
    assert splits == {"a": "test", "b": "train", "copy-a": "train", "copy-b": "train"}
    assert files.read_json(tmp_path / "out" / "manifest.json")["split_scheme"] == "published"


def test_leaks_between_published_copies_are_counted(tmp_path: Path) -> None:
    places = [(10.0 + i, 0.0) for i in range(20)]
    one = tabular(tmp_path / "one", "gz2", [f"a{i}" for i in range(20)], places)
    two = tabular(tmp_path / "two", "gz_candels", [f"b{i}" for i in range(20)], places)
    for i, folder in enumerate((one, two)):
        whole = rows_of(folder).drop("split").sort("ra")
        shutil.rmtree(folder)
        (folder / "data").mkdir(parents=True)
        whole[:10].write_parquet(folder / "data" / f"{('train', 'test')[i]}-00000-of-00001.parquet")
        whole[10:].write_parquet(folder / "data" / f"{('test', 'test')[i]}-00001-of-00001.parquet")
    made = union([one, two], out=tmp_path / "out")
    assert (made.n_shared, made.n_across) == (20, 10)
    assert "**10 pairs of these rows are in different splits" in (tmp_path / "out" / "README.md").read_text()
    assert gzoo.leaks([tmp_path / "out"]).pairs.height == 10


def test_dropped_rows_and_unasked_questions_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = list(SMOOTH)
    for name, bad in (("one", "-1"), ("two", "many")):
        rows = [[f"{name}{i}", "1", "2", "3"] for i in range(20)]
        rows[3][2] = bad
        pl.DataFrame(rows, schema=["id_str", *columns], orient="row").write_csv(tmp_path / f"{name}.csv")
        build("gz2", votes=tmp_path / f"{name}.csv", no_images=True, out=tmp_path / name)
    candels = tabular(tmp_path / "candels", "gz_candels", [f"c{i}" for i in range(20)])
    folders = [str(tmp_path / one) for one in ("one", "two", "candels")]
    monkeypatch.setattr(sys, "argv", ["gzoo", "union", *folders, "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code in (0, None)
    output = " ".join("".join(capsys.readouterr()).split())
    assert "58 rows" in output
    assert "gz2 38, gz_candels 20" in output
    assert "count is not a number (1), count negative (1)" in output
    dropped = pl.read_parquet(tmp_path / "out" / "dropped.parquet")
    assert dropped.select("dataset_name", "row", "id_str", "reason").rows() == [
        ("gz2", 4, "one3", "count negative"),
        ("gz2", 4, "two3", "count is not a number"),
    ]
    opened = gzoo.open_dataset(tmp_path / "out")
    assert set(opened.tree.columns) - {*columns, *candels_columns()} == {
        column for name in opened.not_collected for column in opened.tree.question(name).columns
    }
    text = (tmp_path / "out" / "README.md").read_text()
    assert "| `bar-gz2` | not collected |" in text
    assert "| `bar-hubble` | not asked |" in text
    assert "not contain counts for `disk-edge-on-gz2`" in text
    assert "Votes on `disk-edge-on-gz2`" in text
    assert candels.name == "candels"
    assert "cc-by-nc-sa-4.0" in text


def candels_columns() -> tuple[str, ...]:
    return campaign("gz_candels").published_tree.questions[0].columns


def test_identifiers_of_surveys_are_kept_where_any_dataset_has_them(tmp_path: Path) -> None:
    (tmp_path / "mapping.toml").write_text('id_str = "id_str"\nsource_id = "objid"\n[answers]\n' + "".join(
        f'"{column}" = "{column}"\n' for column in SMOOTH
    ))  # fmt: skip
    pl.DataFrame({"id_str": ["a", "b"], "objid": ["587", "588"], **{column: [1, 2] for column in SMOOTH}}).write_csv(
        tmp_path / "one.csv"
    )
    build("gz2", votes=tmp_path / "one.csv", mapping=tmp_path / "mapping.toml", no_images=True, out=tmp_path / "one")
    two = tabular(tmp_path / "two", "gz_candels", ["c"])
    union([two, tmp_path / "one"], out=tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert dict(rows.select("id_str", "source_id").iter_rows()) == {"a": "587", "b": "588", "c": ""}


# ----------------------------------------------------------------------------------------------------
# What cannot be one dataset


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Datasets of votes alone that each differ in one thing."""
    folder = tmp_path_factory.mktemp("real")
    ids, places = [f"a{i}" for i in range(30)], [(10.0 + i, 0.0) for i in range(30)]
    return {
        "by place": tabular(folder / "place", "gz2", ids, places),
        "by place too": tabular(folder / "place-too", "gz_candels", ids, places),
        "by id": tabular(folder / "id", "gz_candels", ids),
        "without validation": tabular(folder / "two-splits", "gz_candels", ids, places, splits="train,test"),
        "rings": tabular(folder / "rings", "gz_rings", ids, places),
        "same rows": tabular(folder / "rows", "gz2", [*ids[7:9], "z"], [*places[7:9], (80.0, 0.0)]),
    }


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("by place", "by id"), "schemes differ: 'gzoo-1' .*'id-1'"),
        (("by place", "without validation"), "schemes differ: 'gzoo-1' .*'gzoo-1-train-test'"),
        (("by place", "rings"), "a dataset of gz_rings, which is not part of gz_evo"),
        (("by place", "by place too", "by place"), "passed twice"),
        (("by place", "same rows"), "Row 'a[78]' of gz2 occurs twice, in .*repeated rows: 2"),
        ((), "No datasets"),
    ],
)
def test_datasets_that_do_not_fit_together_are_errors(
    real: dict[str, Path], names: Sequence[str], words: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=words) as caught:
        union([real[name] for name in names], out=tmp_path / "out")
    assert caught.value.hint
    assert not list(tmp_path.iterdir())


def test_datasets_that_fit_together_are_merged(real: dict[str, Path], tmp_path: Path) -> None:
    assert union([real["by place"], real["by place too"]], out=tmp_path / "out").n_shared == 30
    assert sum(union([real["rings"]], campaign="gz_rings", out=tmp_path / "rings").n_galaxies.values()) == 30


def simulated(folder: Path, real: dict[str, Path], dataset: Path) -> Sequence[Path]:
    return [real["by place"], dataset]


def without_images(folder: Path, real: dict[str, Path], dataset: Path) -> Sequence[Path]:
    return [dataset, altered(folder / "none", real["by place"], is_simulated=True)]


def copies(folder: Path, real: dict[str, Path], dataset: Path) -> Sequence[Path]:
    shutil.copytree(dataset, folder / "copy")
    return [dataset, folder / "copy"]


def published_and_built(folder: Path, real: dict[str, Path], dataset: Path) -> Sequence[Path]:
    shutil.copytree(real["by place too"] / "data", folder / "bare" / "data")
    return [real["by place"], folder / "bare"]


def unfinished(folder: Path, real: dict[str, Path], dataset: Path) -> Sequence[Path]:
    shutil.copytree(dataset, folder / ".new.gzoo-partial")
    return [folder / ".new.gzoo-partial"]


def begun(folder: Path, real: dict[str, Path], dataset: Path) -> Sequence[Path]:
    shutil.copytree(dataset, folder / "begun")
    (folder / "begun" / "manifest.json").replace(folder / "begun" / "begun.json")
    return [folder / "begun"]


def another_byte(folder: Path, real: dict[str, Path], dataset: Path) -> Sequence[Path]:
    shutil.copytree(dataset, folder / "bad")
    shard = files.shards(folder / "bad", "test")[0]
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    return [folder / "bad"]


def missing_shard(folder: Path, real: dict[str, Path], dataset: Path) -> Sequence[Path]:
    shutil.copytree(dataset, folder / "bad")
    files.shards(folder / "bad", "test")[0].unlink()
    return [folder / "bad"]


def added_shard(folder: Path, real: dict[str, Path], dataset: Path) -> Sequence[Path]:
    shutil.copytree(dataset, folder / "bad")
    shutil.copy(files.shards(folder / "bad", "test")[0], folder / "bad" / "data" / "test-00001-of-00001.parquet")
    return [folder / "bad"]


def no_list(folder: Path, real: dict[str, Path], dataset: Path) -> Sequence[Path]:
    return [altered(folder / "bad", dataset, files=["data"])]


def no_column(folder: Path, real: dict[str, Path], dataset: Path) -> Sequence[Path]:
    shutil.copytree(dataset, folder / "bad")
    shard = files.shards(folder / "bad", "train")[0]
    pq.write_table(pq.read_table(shard).drop_columns([SMOOTH[1]]), shard)
    return [folder / "bad"]


def other_order(folder: Path, real: dict[str, Path], dataset: Path) -> Sequence[Path]:
    return [reordered(folder / "bad", real["by place"])]


def reordered(folder: Path, source: Path) -> Path:
    shutil.copytree(source, folder)
    manifest = files.read_json(folder / "manifest.json")
    shard = files.shards(folder, "train")[0]
    table = pq.read_table(shard)
    pq.write_table(table.take(list(range(table.num_rows))[::-1]), shard)
    manifest["files"][f"data/{shard.name}"]["sha256"] = files.sha256(shard)  # type: ignore[index]
    files.write_json(folder / "manifest.json", manifest)
    return folder


def negative(folder: Path, real: dict[str, Path], dataset: Path) -> Sequence[Path]:
    (folder / "bare" / "data").mkdir(parents=True)
    table = rows_of(real["by place"]).drop("split").with_columns(pl.lit(-1, pl.Int32).alias(SMOOTH[0]))
    table.write_parquet(folder / "bare" / "data" / "train-00000-of-00001.parquet")
    return [folder / "bare"]


def words_for_numbers(folder: Path, real: dict[str, Path], dataset: Path) -> Sequence[Path]:
    (folder / "bare" / "data").mkdir(parents=True)
    table = rows_of(real["by place"]).drop("split").with_columns(pl.lit("many").alias(SMOOTH[0]))
    table.write_parquet(folder / "bare" / "data" / "train-00000-of-00001.parquet")
    return [folder / "bare"]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (simulated, "dataset' contains simulated galaxies, .*place' contains real ones"),
        (without_images, "dataset' contains images, .*none' does not"),
        (copies, "are copies of one dataset"),
        (published_and_built, "schemes differ: 'gzoo-1' .*'published' in .*bare"),
        (unfinished, "is not finished"),
        (begun, "is not finished"),
        (
            another_byte,
            "test-00000-of-00001.parquet' is corrupt: its SHA-256 is [0-9a-f]{64}, the manifest lists [0-9a-f]{64}",
        ),
        (missing_shard, "'data/test-00000-of-00001.parquet' not found"),
        (added_shard, "manifest.json' is incomplete: 'data/test-00001-of-00001.parquet'"),
        (no_list, "manifest.json' is incomplete"),
        (no_column, f"Column '{SMOOTH[1]}' not found in .*train-00000-of-00001.parquet"),
        (other_order, "not in the order of the hash"),
        (negative, f"Column '{SMOOTH[0]}' of .* negative count -1"),
        (words_for_numbers, f"Column '{SMOOTH[0]}' of .* has type (large_)?string"),
    ],
)
def test_invalid_datasets_are_errors(
    spoil: Callable[[Path, dict[str, Path], Path], Sequence[Path]],
    words: str,
    real: dict[str, Path],
    dataset: Path,
    tmp_path: Path,
) -> None:
    folders = spoil(tmp_path, real, dataset)
    before = set(tmp_path.iterdir())
    with pytest.raises(InputError, match=words) as caught:
        union(folders, out=tmp_path / "out")
    assert caught.value.hint
    assert set(tmp_path.iterdir()) == before


def test_an_input_is_never_replaced(dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(dataset, tmp_path / "own")
    for out in (tmp_path / "own", tmp_path / "own" / "data", tmp_path / "own" / "sub" / "new"):
        with pytest.raises(InputError, match=r"is .*own' or inside it"):
            union([tmp_path / "own"], out=out, overwrite=True)
    assert contents(tmp_path / "own") == contents(dataset)
    with pytest.raises(NotFoundError, match="not found"):
        union([tmp_path / "nowhere"], out=tmp_path / "out")
    with pytest.raises(NotFoundError, match="gz_everything"):
        union([dataset], campaign="gz_everything", out=tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="not a dataset folder"):
        union([tmp_path / "empty"], out=tmp_path / "out")


def test_a_merged_dataset_is_valid(merged: Path, tmp_path: Path) -> None:
    assert [str(one) for one in check(merged).findings] == []
    parts = [tabular(tmp_path / name, name, ["a", "b", "a"], seed=i) for i, name in enumerate(("gz2", "gz_ukidss"))]
    made = union(parts, out=tmp_path / "evo")
    assert sum(made.n_dropped.values()) == 4  # the same rows of either table
    found = check(tmp_path / "evo")
    assert [str(one) for one in found.findings] == []
