"""Options of build: without images, archives, FITS, all kinds of splits, workers, and failing disks."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil
import pyarrow.parquet as pq
import pytest
from distributed import LocalCluster
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gzoo
from gzoo import cli, files, sky
from gzoo.dataset import build as builder
from gzoo.dataset import finalize
from gzoo.dataset.build import BuildResult, build
from gzoo.dataset.open import load, open_dataset
from gzoo.dataset.shards import versions
from gzoo.errors import InputError, MissingExtraError, NotFoundError, TableError, WriteError
from gzoo.images.checks import check_image
from gzoo.simulator import SimulateResult
from gzoo.sky import identifier_split

RINGS = gzoo.tree("gz_rings").columns


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def shards(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in contents(folder).items() if name.startswith(("data/", "tiny/"))}


def rows_of(folder: Path, config: str = "default") -> pl.DataFrame:
    """All rows, with their split."""
    parts = [
        pl.read_parquet(path).with_columns(split=pl.lit(split))
        for split in files.SPLITS
        for path in files.shards(folder, split, config)
    ]
    return pl.concat(parts)


def rings(folder: Path, rows: Sequence[Mapping[str, object]], **options: object) -> BuildResult:
    folder.mkdir(exist_ok=True)
    table = pl.DataFrame(rows, strict=False, infer_schema_length=None)
    table.write_parquet(folder / "votes.parquet")
    chosen: dict[str, Any] = {"no_images": True, "overwrite": True} | options
    return build("gz_rings", votes=folder / "votes.parquet", out=folder / "dataset", **chosen)


def a_row(i: int, **more: object) -> dict[str, object]:
    return {"id_str": f"g{i}", **dict.fromkeys(RINGS, i + 3), **more}


# ----------------------------------------------------------------------------------------------------
# Votes alone


def test_a_dataset_without_images_loads(sky: SimulateResult, dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels"
    made = build("gz2", votes=sky.votes, no_images=True, out=out)
    with_images, alone = rows_of(dataset), rows_of(out)
    assert alone.equals(with_images.drop("image"))
    assert made.n_galaxies == dict(alone.group_by("split").len().sort("split").iter_rows())
    assert not (out / "images.parquet").exists()
    assert "This dataset contains votes only." in (out / "README.md").read_text("utf-8")
    loaded = load(out, split="train")
    assert "image" not in loaded.features  # type: ignore[operator]
    assert len(loaded) == made.n_galaxies["train"]  # type: ignore[arg-type]
    assert rows_of(out, "tiny").height == sum(min(16, n) for n in made.n_galaxies.values())


def test_images_and_no_images_are_mutually_exclusive(sky: SimulateResult, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Images are missing"):
        build("gz2", votes=sky.votes, out=tmp_path / "out")
    with pytest.raises(InputError, match="mutually exclusive"):
        build("gz2", votes=sky.votes, images=sky.images, no_images=True, out=tmp_path / "out")


COUNTS = st.lists(st.tuples(*[st.integers(0, 200)] * len(RINGS)), min_size=1, max_size=40)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(counts=COUNTS)
def test_votes_are_read_as_they_were_written(
    counts: list[tuple[int, ...]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("law")
    rows = [{"id_str": f"g{i}", **dict(zip(RINGS, one, strict=True))} for i, one in enumerate(counts)]
    rings(folder, rows)
    opened = open_dataset(folder / "dataset")
    read: dict[str, list[int]] = {}
    for split in opened.splits:
        keys, votes = opened.read_votes(split)
        read |= dict(zip(keys["id_str"], votes.counts.tolist(), strict=True))
    assert read == {f"g{i}": list(one) for i, one in enumerate(counts)}
    manifest = files.read_json(folder / "dataset" / "manifest.json")
    n_votes = sum(facts["n_votes"] for facts in manifest["questions"].values())  # type: ignore[attr-defined]
    assert n_votes == np.sum(counts)


# A position that many galaxies share is a placeholder, which adding rows may reveal.
PLACE = st.tuples(st.floats(0, 360, exclude_max=True), st.floats(-90, 90))
POSITIONS = st.tuples(st.lists(PLACE, min_size=1, max_size=30, unique=True), st.integers(0, 3)).map(
    lambda drawn: [*drawn[0], *[None] * drawn[1]]
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(positions=POSITIONS, data=st.data())
@pytest.mark.filterwarnings("ignore:.*(positions|exchanged|would also fit):gzoo.errors.GZooWarning")
def test_adding_rows_never_changes_the_split_of_a_row(
    positions: list[tuple[float, float] | None], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    nowhere = float("nan")
    rows = [a_row(i, ra=one[0] if one else nowhere, dec=one[1] if one else nowhere) for i, one in enumerate(positions)]
    some = data.draw(st.lists(st.sampled_from(rows), min_size=1, unique_by=lambda row: str(row["id_str"])))
    splits_of: list[dict[str, str]] = []
    for part in (some, rows):
        folder = tmp_path_factory.mktemp("law")
        rings(folder, part)
        splits_of.append(dict(rows_of(folder / "dataset").select("id_str", "split").iter_rows()))
    assert splits_of[0].items() <= splits_of[1].items()


# ----------------------------------------------------------------------------------------------------
# Where images come from


def test_archives_give_the_same_shards_as_the_folder(sky: SimulateResult, dataset: Path, tmp_path: Path) -> None:
    names = sorted(path.name for path in sky.images.iterdir())
    with tarfile.open(tmp_path / "some.tar", "w") as tar, zipfile.ZipFile(tmp_path / "rest.zip", "w") as packed:
        for i, name in enumerate(names):
            if i % 2:
                tar.add(sky.images / name, name)
            else:
                packed.write(sky.images / name, name)
    build("gz2", votes=sky.votes, images=[tmp_path / "some.tar", tmp_path / "rest.zip"], out=tmp_path / "out")
    assert shards(tmp_path / "out") == shards(dataset)


def test_an_image_in_two_sources_is_dropped(sky: SimulateResult, tmp_path: Path) -> None:
    name = min(path.name for path in sky.images.iterdir())
    with tarfile.open(tmp_path / "again.tar", "w") as tar:
        tar.add(sky.images / name, name)
    made = build("gz2", votes=sky.votes, images=[sky.images, tmp_path / "again.tar"], out=tmp_path / "out")
    assert made.n_dropped["several images"] == 1


def test_fits_files_become_images_or_have_a_reason(shared_data: Path, tmp_path: Path) -> None:
    names = sorted(path.name for path in (shared_data / "fits").glob("willettk*.fits"))
    answers = gzoo.tree("gz_desi").question("smooth-or-featured-dr5").columns
    table = {"id_str": [name.removesuffix(".fits") for name in names], **{one: [9] * len(names) for one in answers}}
    pl.DataFrame(table).write_csv(tmp_path / "votes.csv")
    build("gz_desi", votes=tmp_path / "votes.csv", images=shared_data / "fits", out=tmp_path / "out")
    dropped = pl.read_parquet(tmp_path / "out" / "dropped.parquet").filter(pl.col("reason") == "image unusable")
    reasons = dict(dropped.select("id_str", "detail").iter_rows())
    assert set(reasons) == {"willettk_example_bad_pix", "willettk_example_incomplete"}
    assert "pixels of band" in reasons["willettk_example_bad_pix"]
    assert "truncated" in reasons["willettk_example_incomplete"]
    rows = rows_of(tmp_path / "out")
    assert rows.height == len(names) - 2
    for image in rows["image"]:
        assert image["path"].endswith(".fits.jpg")
        assert check_image(image["bytes"]).format == "JPEG"


def test_headers_only_does_not_decode_images(sky: SimulateResult, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for path in sky.images.iterdir():
        (images / path.name).write_bytes(path.read_bytes())
    altered = min(images.iterdir())
    data = bytearray(altered.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 400] = b"\xff\xd8" * 200  # markers where they are not allowed
    altered.write_bytes(bytes(data))
    whole = build("gz2", votes=sky.votes, images=images, out=tmp_path / "whole")
    quick = build("gz2", votes=sky.votes, images=images, headers_only=True, out=tmp_path / "quick")
    assert whole.n_dropped == {"image unusable": 1}
    assert not quick.n_dropped
    assert "(headers only)" in (tmp_path / "quick" / "README.md").read_text("utf-8")


# ----------------------------------------------------------------------------------------------------
# Splits


def test_without_positions_splits_depend_on_identifiers(tmp_path: Path) -> None:
    made = rings(tmp_path, [a_row(i) for i in range(60)])
    rows = rows_of(tmp_path / "dataset")
    assert made.n_split_by_id == 60
    assert rows["split"].to_list() == [identifier_split.split_of(one) for one in rows["id_str"]]
    assert files.read_json(tmp_path / "dataset" / "manifest.json")["split_scheme"] == "id-1"
    card = (tmp_path / "dataset" / "README.md").read_text("utf-8")
    assert "Scheme `id-1`" in card
    assert "positions are unknown" in card


def test_known_positions_decide_splits(tmp_path: Path) -> None:
    rows = [a_row(i, ra=float(i) if i % 3 else float("nan"), dec=float(i)) for i in range(60)]
    made = rings(tmp_path, rows)
    assert made.n_split_by_id == 20
    for row in rows_of(tmp_path / "dataset").iter_rows(named=True):
        is_known = not np.isnan(row["ra"])
        assert row["split"] == (
            sky.split([row["ra"]], [row["dec"]])[0] if is_known else identifier_split.split_of(row["id_str"])
        )
    card = (tmp_path / "dataset" / "README.md").read_text("utf-8")
    for said in ("Scheme `gzoo-1`", "nside 2048", "70%", "1.5 arcsec", "20 galaxies do not have a known position"):
        assert said in card


def test_a_published_split_is_kept(tmp_path: Path) -> None:
    names = ["train", "test", "train", "validation", "test"]
    made = rings(tmp_path, [a_row(i, which=name) for i, name in enumerate(names)], split_column="which")
    assert dict(rows_of(tmp_path / "dataset").select("id_str", "split").iter_rows()) == {
        f"g{i}": name for i, name in enumerate(names)
    }
    assert made.n_split_by_id == 0
    assert files.read_json(tmp_path / "dataset" / "manifest.json")["split_scheme"] == "published"
    assert "in the split that the source table lists" in (tmp_path / "dataset" / "README.md").read_text("utf-8")


def test_rows_with_an_unknown_split_are_dropped(tmp_path: Path) -> None:
    rings(tmp_path, [a_row(0, which="train"), a_row(1, which="tes"), a_row(2, which="")], split_column="which")
    assert rows_of(tmp_path / "dataset")["id_str"].to_list() == ["g0"]
    assert pl.read_parquet(tmp_path / "dataset" / "dropped.parquet")["id_str"].to_list() == ["g1", "g2"]
    with pytest.raises(TableError, match="nowhere"):
        rings(tmp_path, [a_row(0)], split_column="nowhere")


def test_a_layout_without_validation_has_it_in_train(tmp_path: Path) -> None:
    rows = [a_row(i, ra=i * 5.0, dec=i - 30.0) for i in range(70)]
    rings(tmp_path, rows)
    before = dict(rows_of(tmp_path / "dataset").select("id_str", "split").iter_rows())
    rings(tmp_path, rows, splits="train,test")
    after = dict(rows_of(tmp_path / "dataset").select("id_str", "split").iter_rows())
    assert "validation" in before.values()
    assert after == {name: "train" if split == "validation" else split for name, split in before.items()}
    manifest = files.read_json(tmp_path / "dataset" / "manifest.json")
    assert manifest["split_scheme"] == "gzoo-1-train-test"
    assert "Galaxies of `validation` were moved to `train`." in (tmp_path / "dataset" / "README.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"splits": "train"}, "--splits: 'train'"),
        ({"splits": "train,test", "split_column": "which"}, "mutually exclusive"),
        ({"workers": 0}, "got 0"),
    ],
)
def test_invalid_options_are_errors(tmp_path: Path, options: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        rings(tmp_path, [a_row(0, which="train")], **options)
    assert not (tmp_path / "dataset").exists()


# ----------------------------------------------------------------------------------------------------
# Identifiers


def test_the_survey_s_own_identifier_is_kept_and_in_the_card(tmp_path: Path) -> None:
    rings(tmp_path, [a_row(i, source_id=f"LS DR10 {i}") for i in range(5)])
    rows = rows_of(tmp_path / "dataset")
    assert dict(rows.select("id_str", "source_id").iter_rows()) == {f"g{i}": f"LS DR10 {i}" for i in range(5)}
    assert "| `source_id` |" in (tmp_path / "dataset" / "README.md").read_text("utf-8")


# ----------------------------------------------------------------------------------------------------
# Workers


@pytest.fixture
def several(monkeypatch: pytest.MonkeyPatch) -> None:
    """Datasets of a few galaxies in several shards."""
    monkeypatch.setattr(finalize, "SHARD_BYTES", 60_000)


def is_worker(process: psutil.Process) -> bool:
    try:
        return "spawn_main" in " ".join(process.cmdline())
    except psutil.Error:  # it ended meanwhile
        return False


@pytest.mark.usefixtures("several")
def test_workers_give_the_same_bytes_and_one_may_die(sky: SimulateResult, tmp_path: Path) -> None:
    build("gz2", votes=sky.votes, images=sky.images, out=tmp_path / "serial")
    killed: list[int] = []

    def kill(stage: str, done: int, total: int) -> None:
        workers = [one for one in psutil.Process().children(recursive=True) if is_worker(one)]
        if stage == "Writing shards" and not killed and len(workers) >= 2:
            killed.append(workers[0].pid)
            os.kill(workers[0].pid, signal.SIGKILL)

    build("gz2", votes=sky.votes, images=sky.images, out=tmp_path / "dask", workers=2, progress=kill)
    assert killed
    assert len(files.shards(tmp_path / "serial", "train")) > 3
    assert contents(tmp_path / "dask") == contents(tmp_path / "serial")


def test_workers_with_another_pyarrow_are_errors(
    sky: SimulateResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder, "versions", lambda: versions() | {"pyarrow": "25.0.0"})
    with (
        LocalCluster(n_workers=1, processes=False, protocol="tcp://", host="127.0.0.1", dashboard_address=None) as one,
        pytest.raises(MissingExtraError, match=r"A worker has pyarrow 2.*started with pyarrow 25\.0\.0"),
    ):
        build("gz2", votes=sky.votes, no_images=True, out=tmp_path / "out", scheduler=one.scheduler_address)
    assert not (tmp_path / "out").exists()


def test_a_scheduler_that_does_not_answer_is_an_error(
    sky: SimulateResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gzoo.cluster.CONNECT_SECONDS", 1)
    with pytest.raises(NotFoundError, match=r"scheduler at 'tcp://127\.0\.0\.1:9'"):
        build("gz2", votes=sky.votes, no_images=True, out=tmp_path / "out", scheduler="tcp://127.0.0.1:9")


# ----------------------------------------------------------------------------------------------------
# Disks that fail


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[Path, Callable[[str], None]]]:
    """A disk of 200 kB, and a function to mount it again with other options."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200k", "none", str(folder)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no disk can be mounted here: that needs root")

    def change(options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True, capture_output=True)

    yield folder, change
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_build_on_a_full_disk_is_an_error_and_resumes_when_there_is_space(
    sky: SimulateResult, dataset: Path, disk: tuple[Path, Callable[[str], None]]
) -> None:
    folder, change = disk
    for size in (200, 400, 600):
        change(f"size={size}k")
        with pytest.raises(WriteError, match=r"(?s)the disk is full.*to resume"):
            build("gz2", votes=sky.votes, images=sky.images, out=folder / "dataset")
        assert not (folder / "dataset").exists()
    change("size=20m")
    build("gz2", votes=sky.votes, images=sky.images, out=folder / "dataset")
    assert contents(folder / "dataset") == contents(dataset)
    assert [path.name for path in folder.iterdir()] == ["dataset"]


def test_a_build_on_a_read_only_disk_is_an_error_and_resumes_later(
    sky: SimulateResult, dataset: Path, disk: tuple[Path, Callable[[str], None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, change = disk
    change("size=20m,ro")
    with pytest.raises(WriteError, match="read-only"):
        build("gz2", votes=sky.votes, images=sky.images, out=folder / "dataset")
    change("size=20m,rw")

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patch:  # because a disk with an open file, the lock, cannot be mounted again
        patch.setattr(builder, "write_rows", refuse)
        with pytest.raises(WriteError, match="read-only"):
            build("gz2", votes=sky.votes, images=sky.images, out=folder / "dataset")
    assert not (folder / "dataset").exists()
    build("gz2", votes=sky.votes, images=sky.images, out=folder / "dataset")
    assert contents(folder / "dataset") == contents(dataset)


def test_every_shard_has_page_checksums_and_small_row_groups(dataset: Path) -> None:
    for path in dataset.glob("*/*.parquet"):
        facts = pq.read_metadata(path)
        assert max(facts.row_group(i).num_rows for i in range(facts.num_row_groups)) <= 100
        altered = bytearray(path.read_bytes())
        column = facts.row_group(0).column(0)
        start = column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset
        altered[start + column.total_compressed_size - 1] ^= 1  # in the content of its last page, not in a header
        copy = path.with_name("altered")
        try:
            copy.write_bytes(bytes(altered))
            with pytest.raises(OSError, match=r"CRC|checksum"):
                pq.ParquetFile(copy, page_checksum_verification=True).read()
        finally:
            copy.unlink()


def test_the_command_prints_a_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pl.DataFrame([a_row(i) for i in range(5)]).write_csv(tmp_path / "votes.csv")
    command = ["build", "gz_rings", "--votes", str(tmp_path / "votes.csv"), "--no-images"]
    monkeypatch.setattr(sys, "argv", ["gzoo", *command, "--out", str(tmp_path / "dataset")])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code in (0, None)
    output = " ".join("".join(capsys.readouterr()).split())
    assert "5 galaxies" in output
    assert "split depends on their identifier" in output
    assert json.loads((tmp_path / "dataset" / "manifest.json").read_text())["has_images"] is False
