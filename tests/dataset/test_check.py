"""Check: what is sound passes, each kind of damage is found for what it is, and nothing makes it fall over."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import gzoo
from gzoo import cli, files
from gzoo.dataset.build import build
from gzoo.dataset.check import CHECKS, KINDS, MAX_ALIKE, CheckResult, check
from gzoo.errors import InputError, NotFoundError, OutputExistsError
from gzoo.simulator import SimulateResult, simulate
from gzoo.trees.campaign import campaign
from test_commands import Command

SMOOTH = campaign("gz2").tree.questions[0]
TRAIN = "data/train-00000-of-00001.parquet"
ROW = 30  # of train, counted from 0: behind what config tiny has


def names(found: CheckResult) -> set[str]:
    """What was found, by name."""
    return {one.name for one in found.findings}


def verdicts(found: CheckResult) -> dict[str, str]:
    return {one.name: one.verdict for one in found.checks}


def rehash(folder: Path, **lies: object) -> None:
    """Write the manifest anew, so that the bytes of all files are as it says."""
    manifest = files.read_json(folder / "manifest.json")
    for key in ("format", "files", files.OWN_DIGEST):
        manifest.pop(key, None)
    files.write_manifest(folder, {**manifest, **lies})


def rewrite(folder: Path, file: str, change: Callable[[pa.Table], pa.Table], size: int | None = None) -> None:
    """Change the table in a file, written as gzoo writes it."""
    path = folder / file
    size = size or (files.ROWS_IN_GROUP if "image" in pq.read_schema(path).names else files.ROWS_IN_LARGE_GROUP)
    table = change(pq.read_table(path))
    with files.write_parquet(path, table.schema) as writer:
        for start in range(0, table.num_rows, size):
            writer.write_table(table.slice(start, size).combine_chunks())


def put(folder: Path, column: str, row: int, value: object, file: str = TRAIN) -> None:
    """Change one value."""

    def change(table: pa.Table) -> pa.Table:
        i = table.schema.get_field_index(column)
        values = table.column(i).to_pylist()
        values[row] = value
        return table.set_column(i, table.schema.field(i), pa.array(values, table.schema.field(i).type))

    rewrite(folder, file, change)


def value(folder: Path, column: str, row: int, file: str = TRAIN) -> Any:
    return pq.read_table(folder / file, columns=[column]).column(0)[row].as_py()


def swapped(table: pa.Table, i: int, j: int) -> pa.Table:
    order = list(range(table.num_rows))
    order[i], order[j] = j, i
    return table.take(order)


@pytest.fixture(scope="module")
def bare(sky: SimulateResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`sky` without images; look, do not touch."""
    folder = tmp_path_factory.mktemp("bare") / "dataset"
    build("gz2", votes=sky.votes, no_images=True, out=folder)
    return folder


@pytest.fixture
def votes_alone(bare: Path, tmp_path: Path) -> Path:
    """A copy of `bare`, to be spoilt."""
    return Path(shutil.copytree(bare, tmp_path / "dataset"))


@pytest.fixture
def pictured(dataset: Path, tmp_path: Path) -> Path:
    """A copy of `dataset`, to be spoilt."""
    return Path(shutil.copytree(dataset, tmp_path / "dataset"))


# ----------------------------------------------------------------------------------------------------
# What is sound passes


def test_a_dataset_with_images_is_sound(dataset: Path) -> None:
    found = check(dataset)
    assert found.findings == ()
    assert found.is_valid
    assert (found.campaign, found.has_manifest, found.is_simulated) == ("gz2", True, True)
    assert {name for name, verdict in verdicts(found).items() if verdict != "passed"} == {"weights"}
    looked = {one.name: one.n for one in found.checks}
    assert looked["images"] == looked["votes"] == looked["splits"] == sum(found.n_galaxies.values()) == 60
    assert looked["files"] == sum(path.is_file() for path in dataset.rglob("*")) - 1


def test_headers_only_is_told(dataset: Path) -> None:
    found = check(dataset, headers_only=True)
    assert found.is_valid
    assert next(one.note for one in found.checks if one.name == "images") == "their headers only"


def test_votes_alone_are_sound(bare: Path) -> None:
    found = check(bare)
    assert found.is_valid
    assert verdicts(found)["images"] == "not checked"


def test_a_dataset_of_two_splits_is_sound(sky: SimulateResult, tmp_path: Path) -> None:
    build("gz2", votes=sky.votes, no_images=True, out=tmp_path / "out", splits="train,test")
    found = check(tmp_path / "out")
    assert found.is_valid
    assert set(found.n_galaxies) <= {"train", "test", "border"}
    rehash(tmp_path / "out", split_scheme="gzoo-1")
    assert names(check(tmp_path / "out")) == {"wrong side"}


def with_splits(sky: SimulateResult, folder: Path, twins: bool = False) -> Path:
    """A dataset that keeps the splits of its table, in which two rows may be one galaxy."""
    table = pl.read_parquet(sky.votes).with_row_index("i")
    table = table.with_columns(side=pl.when(pl.col("i") % 3 == 0).then(pl.lit("test")).otherwise(pl.lit("train")))
    if twins:
        first = {name: table[name][0] for name in ("ra", "dec")}
        table = table.with_columns(
            pl.when(pl.col("i") == 1).then(first[name]).otherwise(name).alias(name) for name in first
        )
    table.drop("i").write_parquet(folder / "votes.parquet")
    mapping = folder / "columns.toml"
    told = {name: name for name in ("ra", "dec", "dataset_name", "image") if name in table.columns}
    answers = "\n".join(f'"{name}" = "{name}"' for name in campaign("gz2").tree.columns if name in table.columns)
    known = {"id_str", "side", *told, *campaign("gz2").tree.columns}
    rest = json.dumps([name for name in table.columns if name not in known])
    head = "".join(f'{name} = "{name}"\n' for name in told)
    mapping.write_text(f"{head}ignore = {rest}\n[answers]\n{answers}\n")
    build(
        "gz2", votes=folder / "votes.parquet", columns=mapping, no_images=True, out=folder / "out", split_column="side"
    )
    return folder / "out"


def test_published_splits_are_kept_and_not_judged(sky: SimulateResult, tmp_path: Path) -> None:
    found = check(with_splits(sky, tmp_path))
    assert found.is_valid
    assert verdicts(found)["splits"] == "not checked"


def test_a_galaxy_on_two_sides_is_found(sky: SimulateResult, tmp_path: Path) -> None:
    found = check(with_splits(sky, tmp_path, twins=True))
    assert names(found) == {"galaxy on two sides"}
    assert found.findings[0].n == 1


def test_a_published_folder_is_checked_as_far_as_can_be(published: Path) -> None:
    found = check(published)
    assert found.is_valid
    assert not found.has_manifest
    unchecked = {name for name, verdict in verdicts(found).items() if verdict == "not checked"}
    assert unchecked == {
        "manifest", "files", "summaries", "tree", "splits", "order", "index", "tiny", "left out", "weights", "card",
    }  # fmt: skip
    assert all(one.note for one in found.checks if one.verdict == "not checked")
    assert sum(found.n_galaxies.values()) == next(one.n for one in found.checks if one.name == "images") > 0


def test_damage_in_a_published_folder_is_found(published: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(published, tmp_path / "gz2"))
    table = pl.read_parquet(folder / TRAIN)
    total = SMOOTH.total_column
    table.with_columns(
        pl.when(pl.int_range(pl.len()) == 3).then(pl.col(total) + 1).otherwise(pl.col(total)).alias(total),
        dec=pl.when(pl.int_range(pl.len()) == 5).then(pl.lit(91.0)).otherwise("dec"),
    ).write_parquet(folder / TRAIN)
    (folder / TRAIN).rename(folder / "data/train-00000-of-00002.parquet")
    (folder / "README.md").write_text(
        "---\ndataset_info:\n  splits:\n  - {name: train, num_examples: 1}\n  - {name: test, num_examples: 2}\n---\n"
    )
    found = check(folder)
    assert names(found) == {"total wrong", "position off the sky", "shard missing"}
    assert {one.row for one in found.findings} == {4, 6, None}
    shutil.copy(published / TRAIN, folder / TRAIN)
    (folder / "data/train-00000-of-00002.parquet").unlink()
    assert {one.column for one in check(folder).findings} == {
        "dataset_info.splits.train", "dataset_info.splits.test",
    }  # fmt: skip


def test_weights_of_raw_classifications_are_checked(tmp_path: Path) -> None:
    made = simulate("gz2", n_galaxies=25, seed=3, workers=1, out=tmp_path / "sim", images=False)
    out = tmp_path / "out"
    build(
        "gz2",
        classifications=made.classifications,
        workflows=made.classifications.with_name("workflows.csv"),
        weights=True,
        no_images=True,
        out=out,
    )
    found = check(out)
    assert found.is_valid
    assert verdicts(found)["weights"] == "passed"
    rewrite(out, "weighted.parquet", lambda table: swapped(table, 1, 2))
    rehash(out)
    assert [(one.name, one.column, one.row, one.n) for one in check(out).findings] == [
        ("weights differ", "id_str", 2, 2)
    ]


def test_real_galaxies_are_sound(shared_data: Path, tmp_path: Path) -> None:
    from test_build import REAL_MAPPING

    (tmp_path / "columns.toml").write_text(REAL_MAPPING)
    sample = shared_data / "gz2_sample"
    build(
        "gz2",
        votes=sample / "votes.csv",
        images=sample / "images",
        columns=tmp_path / "columns.toml",
        out=tmp_path / "out",
    )
    found = check(tmp_path / "out")
    assert found.is_valid
    assert found.n_galaxies
    assert not found.is_simulated


# ----------------------------------------------------------------------------------------------------
# Damage to files, which the manifest betrays


def flip(path: Path, at: int, bit: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= bit
    path.write_bytes(data)


def edit(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))


def in_a_page(folder: Path, file: str = TRAIN) -> int:
    """Where the votes of a column lie in a shard."""
    column = pq.read_metadata(folder / file).row_group(0).column(6)
    return (column.dictionary_page_offset or column.data_page_offset) + column.total_compressed_size - 3


def link(folder: Path) -> None:
    (folder / TRAIN).rename(folder.parent / "elsewhere.parquet")
    (folder / TRAIN).symlink_to(folder.parent / "elsewhere.parquet")


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe")


def manifest_with(**changes: object) -> Callable[[Path], None]:
    """A manifest with a true digest that says something else; a key with None is left out."""

    def change(folder: Path) -> None:
        manifest = files.read_json(folder / "manifest.json")
        del manifest[files.OWN_DIGEST]
        manifest = {key: one for key, one in {**manifest, **changes}.items() if one is not None}
        text = files.json_bytes({**manifest, files.OWN_DIGEST: files.digest(manifest)})
        (folder / "manifest.json").write_bytes(text)

    return change


def listing(name: str, facts: object = None) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        manifest = files.read_json(folder / "manifest.json")
        contents = {**manifest["files"], name: facts or {"sha256": "0" * 64, "bytes": 1}}  # type: ignore[dict-item]
        manifest_with(files=contents)(folder)

    return change


def written(name: str, data: bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)

    return change


DEEP = b"[" * 100_000
FILES: Mapping[str, tuple[Callable[[Path], object], set[str]]] = {
    "a byte of a page flipped": (lambda f: flip(f / TRAIN, in_a_page(f)), {"sha256 differs", "shard unreadable"}),
    "a byte of the card flipped": (lambda f: flip(f / "README.md", -5), {"sha256 differs"}),
    "a byte of the manifest flipped": (
        lambda f: flip(f / "manifest.json", (f / "manifest.json").read_bytes().index(b"n_rows_in_table")),
        {"manifest changed", "fact missing"},
    ),
    "a shard cut off": (lambda f: os.truncate(f / TRAIN, 9000), {"size differs", "shard unreadable"}),
    "a shard emptied": (lambda f: os.truncate(f / TRAIN, 0), {"size differs", "shard unreadable"}),
    "a shard gone": (lambda f: (f / TRAIN).unlink(), {"file missing"}),
    "all shards gone": (lambda f: shutil.rmtree(f / "data"), {"file missing"}),
    "the card gone": (lambda f: (f / "README.md").unlink(), {"file missing"}),
    "a file more": (written("notes.txt", b"x"), {"file not listed"}),
    "a shard more": (written("data/train-00001-of-00002.parquet", b"x"), {"file not listed"}),
    "a hidden file": (written("data/.cache", b""), {"file not listed"}),
    "work left over": (written("work/shard-00000.json", b"{}"), {"file not listed"}),
    "a half file left over": (written(".README.md.1-2.writing", b""), {"file not listed"}),
    "a link": (link, {"link refused", "file missing"}),
    "a pipe": (pipe, {"link refused"}),
    "a manifest that is no JSON": (written("manifest.json", b"{"), {"manifest unreadable"}),
    "a manifest that is no text": (written("manifest.json", b"\xff\xfe\x00"), {"manifest unreadable"}),
    "a manifest without end": (written("manifest.json", DEEP), {"manifest unreadable"}),
    "a manifest that is a list": (written("manifest.json", b"[]"), {"manifest unreadable"}),
    "a manifest of another format": (manifest_with(format="gzoo-dataset-9"), {"manifest unreadable"}),
    "a manifest without files": (manifest_with(files=None), {"fact missing"}),
    "a manifest without splits": (manifest_with(splits=None), {"fact missing"}),
    "a number that is a text": (manifest_with(n_split_by_id="0"), {"fact missing"}),
    "splits that are a number": (manifest_with(splits={"default": {"train": True}}), {"fact missing"}),
    "a campaign of nobody": (manifest_with(campaign="../../etc/passwd"), {"fact wrong"}),
    "a path upwards": (listing("../../etc/passwd"), {"path refused"}),
    "a path from the root": (listing("/etc/passwd"), {"path refused"}),
    "a path with a NUL": (listing("data/\0"), {"path refused"}),
    "a path with a dot": (listing("./README.md"), {"path refused"}),
    "a path of Windows": (listing("C:\\data"), {"path refused"}),
    "a path that is no text": (
        lambda f: edit(f / "manifest.json", b'"README.md"', b'"\\ud800.md"'),
        {"path refused", "manifest changed", "file not listed"},
    ),
    "a path without end": (listing("x" * 5000), {"file missing"}),
    "a file without a size": (listing("README.md", {"sha256": ""}), {"fact missing", "file not listed"}),
}


@pytest.mark.parametrize("damage", FILES)
def test_damage_to_files_is_found(damage: str, votes_alone: Path) -> None:
    spoil, expected = FILES[damage]
    spoil(votes_alone)
    found = check(votes_alone)
    assert names(found) == expected, [str(one) for one in found.findings]
    assert not found.is_valid
    json.dumps(found.to_dict(), allow_nan=False).encode()
    assert "".join(str(one) for one in found.findings).isprintable()


def test_a_damaged_page_is_told_by_file_column_and_rows(votes_alone: Path) -> None:
    flip(votes_alone / TRAIN, in_a_page(votes_alone))
    one = next(one for one in check(votes_alone).findings if one.name == "shard unreadable")
    n = pq.read_metadata(votes_alone / TRAIN).num_rows
    assert (one.file, one.column, one.row, one.n) == (TRAIN, "smooth-or-featured-gz2_total-votes", 1, n)


def test_a_build_that_was_not_finished_is_told(tmp_path: Path) -> None:
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "begun.json").write_text("{}")
    assert names(check(tmp_path / "half")) == {"build not finished"}
    (tmp_path / "empty").mkdir()
    assert names(check(tmp_path / "empty")) == {"no dataset"}
    (tmp_path / "empty" / "data").mkdir()
    pl.DataFrame({"id_str": ["a"]}).write_parquet(tmp_path / "empty" / TRAIN)
    assert names(check(tmp_path / "empty")) == {"columns differ"}


def test_many_findings_of_a_kind_are_counted_together(votes_alone: Path) -> None:
    for i in range(300):
        (votes_alone / f"x{i:03d}").touch()
    found = check(votes_alone)
    assert len(found.findings) == MAX_ALIKE + 1
    assert sum(one.n for one in found.findings) == 300
    assert found.findings[-1].examples[0] == "x020"


# ----------------------------------------------------------------------------------------------------
# Damage to data, of which the manifest has the digest


def move(folder: Path) -> None:
    """A row of test joins train, in the right place."""
    test = TRAIN.replace("train", "test")
    moved = pq.read_table(folder / test).slice(0, 1)
    last = pq.read_table(folder / test).num_rows
    rewrite(folder, test, lambda table: table.slice(1, last))
    rewrite(folder, test.replace("data", "tiny"), lambda table: pq.read_table(folder / test).slice(0, 16))
    place = gzoo.dataset.build.splits.place(moved["id_str"][0].as_py())  # type: ignore[attr-defined]

    def insert(table: pa.Table) -> pa.Table:
        before = sum(gzoo.dataset.build.splits.place(one) < place for one in table["id_str"].to_pylist())  # type: ignore[attr-defined]
        return pa.concat_tables([table.slice(0, before), moved, table.slice(before)])

    rewrite(folder, TRAIN, insert)
    rewrite(folder, TRAIN.replace("data", "tiny"), lambda table: pq.read_table(folder / TRAIN).slice(0, 16))


def one_more_vote(folder: Path) -> None:
    """A vote more, with all that follows from it but the sums in the manifest."""
    counts = [value(folder, column, ROW) for column in SMOOTH.columns]
    counts[counts.index(max(counts))] += 1
    for column, n in zip(SMOOTH.columns, counts, strict=True):
        put(folder, column, ROW, n)
        put(folder, f"{column}_fraction", ROW, float(np.float32(n / sum(counts))))
    put(folder, SMOOTH.total_column, ROW, sum(counts))


def without(column: str) -> Callable[[Path], None]:
    return lambda folder: rewrite(folder, TRAIN, lambda table: table.drop_columns([column]))


def reordered(table: pa.Table) -> pa.Table:
    first, second, *rest = table.column_names
    return table.select([second, first, *rest]).replace_schema_metadata(table.schema.metadata)


def as_int64(table: pa.Table) -> pa.Table:
    i = table.schema.get_field_index(SMOOTH.columns[0])
    return table.set_column(i, SMOOTH.columns[0], table.column(i).cast(pa.int64()))


DATA: Mapping[str, tuple[Callable[[Path], object], set[tuple[str, str]]]] = {
    "a vote changed": (
        lambda f: put(f, SMOOTH.columns[1], ROW, value(f, SMOOTH.columns[1], ROW) + 1),
        {("total wrong", SMOOTH.total_column)},
    ),
    "a total changed": (lambda f: put(f, SMOOTH.total_column, ROW, 9999), {("total wrong", SMOOTH.total_column)}),
    "a vote below zero": (lambda f: put(f, SMOOTH.columns[1], ROW, -3), {("votes below zero", SMOOTH.columns[1])}),
    "a vote more": (
        one_more_vote,
        {("fact wrong", f"questions.{SMOOTH.name}.n_votes")},
    ),
    "a fraction changed": (
        lambda f: put(f, f"{SMOOTH.columns[0]}_fraction", ROW, 0.123),
        {("fraction wrong", f"{SMOOTH.columns[0]}_fraction")},
    ),
    "a fraction of nobody": (
        lambda f: put(f, f"{SMOOTH.columns[0]}_fraction", ROW, float("nan")),
        {("fraction wrong", f"{SMOOTH.columns[0]}_fraction")},
    ),
    "a summary changed": (lambda f: put(f, "summary", ROW, "spiral"), {("summary wrong", "summary")}),
    "a null": (lambda f: put(f, "dec", ROW, None), {("value missing", "dec")}),
    "a position off the sky": (
        lambda f: put(f, "ra", ROW, 360.5),
        {("position off the sky", "ra")},
    ),
    "an identifier twice": (
        lambda f: put(f, "id_str", ROW, value(f, "id_str", ROW - 1)),
        {("identifier twice", "id_str")},
    ),
    "no identifier": (
        lambda f: put(f, "id_str", ROW, ""),
        {("identifier empty", "id_str"), ("out of order", "id_str")}),
    "another dataset_name": (
        lambda f: put(f, "dataset_name", ROW, "gz3_simulated"),
        {("fact wrong", "dataset_names")},
    ),
    "two rows swapped": (
        lambda f: rewrite(f, TRAIN, lambda table: swapped(table, ROW, ROW + 1)),
        {("out of order", "id_str")},
    ),
    "a row moved to another split": (
        move,
        {
            ("wrong side", ""),
            ("fact wrong", "splits.default.train"),
            ("fact wrong", "splits.default.test"),
            ("fact wrong", "splits.tiny.test"),
        },
    ),
    "a row less": (
        lambda f: rewrite(f, TRAIN, lambda table: table.slice(0, table.num_rows - 1)),
        {("fact wrong", "splits.default.train"), ("fact wrong", "n_rows_in_table"), ("fact wrong", "questions")},
    ),
    "a column less": (without("summary"), {("columns differ", "summary")}),
    "a column of votes less": (without(SMOOTH.columns[0]), {("columns differ", SMOOTH.columns[0])}),
    "a column more": (
        lambda f: rewrite(f, TRAIN, lambda table: table.append_column("x", table["ra"])),
        {("columns differ", "")},
    ),
    "columns in another order": (lambda f: rewrite(f, TRAIN, reordered), {("columns differ", "")}),
    "a column of another type": (lambda f: rewrite(f, TRAIN, as_int64), {("columns differ", SMOOTH.columns[0])}),
    "features gone": (
        lambda f: rewrite(f, TRAIN, lambda table: table.replace_schema_metadata(None)),
        {("columns differ", "")},
    ),
    "small row groups": (lambda f: rewrite(f, TRAIN, lambda table: table, 7), {("row groups differ", "")}),
    "tiny changed": (
        lambda f: put(f, SMOOTH.columns[0], 3, 99, TRAIN.replace("data", "tiny")),
        {("tiny differs", SMOOTH.columns[0])},
    ),
    "a page of tiny flipped": (
        lambda f: flip(f / TRAIN.replace("data", "tiny"), in_a_page(f, TRAIN.replace("data", "tiny"))),
        {("shard unreadable", SMOOTH.total_column)},
    ),
    "tiny shortened": (
        lambda f: rewrite(f, TRAIN.replace("data", "tiny"), lambda table: table.slice(0, 9)),
        {("tiny differs", ""), ("fact wrong", "splits.tiny.train")},
    ),
    "a dropped row more": (
        lambda f: rewrite(
            f,
            "dropped.parquet",
            lambda table: pa.Table.from_pylist([{"id_str": "a", "row": 5, "reason": "lost"}], table.schema),
        ),
        {("fact wrong", "n_dropped.lost"), ("fact wrong", "n_rows_in_table")},
    ),
    "dropped rows damaged": (written("dropped.parquet", b"PAR1PAR1"), {("dropped rows differ", "")}),
    "no card": (written("README.md", b"# Galaxies\n"), {("card unreadable", "")}),
    "a card that is no text": (written("README.md", b"---\n\xff\n---\n"), {("card unreadable", "")}),
    "a card of broken YAML": (written("README.md", b"---\na: [\n---\n"), {("card unreadable", "")}),
    "a card without end": (written("README.md", b"---\na: " + DEEP + b"\n---\n"), {("card unreadable", "")}),
}  # fmt: skip


@pytest.mark.parametrize("damage", DATA)
def test_damage_to_data_is_found(damage: str, votes_alone: Path) -> None:
    spoil, expected = DATA[damage]
    spoil(votes_alone)
    rehash(votes_alone)
    found = check(votes_alone)
    told = {
        (one.name, "questions" if one.column.startswith("questions.") and damage == "a row less" else one.column)
        for one in found.findings
    }
    # the sizes in the card are those of the files, which were written anew
    sizes = {("card wrong", f"dataset_info.{config}.download_size") for config in ("default", "tiny")}
    assert told - sizes == expected, [str(one) for one in found.findings]
    for one in found.findings:
        if one.file == TRAIN and one.name not in {"columns differ", "row groups differ", "wrong side"}:
            assert one.row is not None
            assert one.row - 1 in {ROW, ROW + 1}


LIES: Mapping[str, tuple[object, str]] = {
    "dataset_names": (["gz2"], "dataset_names"),
    "is_simulated": (False, "is_simulated"),
    "has_images": (True, "has_images"),
    "n_split_by_id": (4, "n_split_by_id"),
    "n_rows_in_table": (61, "n_rows_in_table"),
    "n_rows_breaking_tree": (-1, "n_rows_breaking_tree"),
    "n_dropped": ({"lost": 1}, "n_dropped.lost"),
    "not_collected": ([SMOOTH.name], "not_collected"),
    "proportion_asked_not_known": ([SMOOTH.name], "proportion_asked_not_known"),
}


@pytest.mark.parametrize("key", LIES)
def test_a_manifest_that_lies_is_found(key: str, votes_alone: Path) -> None:
    lie, column = LIES[key]
    manifest_with(**{key: lie})(votes_alone)
    found = check(votes_alone)
    of_manifest = [one for one in found.findings if one.file == "manifest.json"]
    assert {(one.name, one.column) for one in of_manifest} == {("fact wrong", column)}
    assert {one.name for one in found.findings} <= {"fact wrong", "card wrong"}  # the card says what the manifest said


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("num_examples: ", "num_examples: 9", "dataset_info.default.splits.train.num_examples"),
        ("data/train-*", "data/*", "configs.default.data_files.train.path"),
        ("n<1K", "n>10M", "size_categories"),
        ("- simulated\n", "", "tags"),
        ("| default | ", "| default | 1", "text"),
        ("dtype: float64", "dtype: float32", "dataset_info.default.features.ra.dtype"),
    ],
)
def test_an_edited_card_is_found(old: str, new: str, where: str, votes_alone: Path) -> None:
    card = votes_alone / "README.md"
    text = card.read_text("utf-8")
    assert old in text
    card.write_text(text.replace(old, new, 1), "utf-8")
    rehash(votes_alone)
    found = check(votes_alone)
    assert names(found) == {"card wrong"}
    assert any(one.column.startswith(where) for one in found.findings), [str(one) for one in found.findings]


# ----------------------------------------------------------------------------------------------------
# Images


def jpeg(shade: int) -> bytes:
    out = io.BytesIO()
    Image.effect_noise((424, 424), 20 + shade).convert("RGB").save(out, "JPEG")
    return out.getvalue()


def change_image(folder: Path, change: Callable[[bytes], bytes]) -> None:
    one = value(folder, "image", ROW)
    put(folder, "image", ROW, {"bytes": change(one["bytes"]), "path": one["path"]})


IMAGES: Mapping[str, tuple[Callable[[Path], object], set[tuple[str, str]]]] = {
    "cut off": (
        lambda f: change_image(f, lambda data: data[: len(data) // 2]),
        {("image damaged", "image"), ("image differs", "sha256"), ("image differs", "bytes")},
    ),
    "gone": (
        lambda f: change_image(f, lambda _: b""),
        {("image damaged", "image"), ("image differs", "sha256"), ("image differs", "bytes")},
    ),
    "another": (
        lambda f: change_image(f, lambda _: jpeg(1)),
        {("image differs", "sha256"), ("image differs", "bytes")},
    ),
    "of another name": (
        lambda f: put(f, "image", ROW, {**value(f, "image", ROW), "path": "x.jpg"}),
        {("image differs", "image")},
    ),
    "listed with another sha256": (
        lambda f: put(f, "sha256", ROW, "0" * 64, "images.parquet"),
        {("image differs", "sha256")},
    ),
    "listed with another width": (
        lambda f: put(f, "width", ROW, 7, "images.parquet"),
        {("image differs", "width")},
    ),
    "listed for another galaxy": (
        lambda f: put(f, "id_str", ROW, "x", "images.parquet"),
        {("image list differs", "id_str")},
    ),
    "listed in another order": (
        lambda f: rewrite(f, "images.parquet", lambda table: swapped(table, ROW, ROW + 1)),
        {("image list differs", "id_str")},
    ),
    "not listed": (
        lambda f: rewrite(f, "images.parquet", lambda table: table.slice(0, table.num_rows - 1)),
        {("image list differs", "")},
    ),
    "listed and not there": (
        lambda f: rewrite(f, "images.parquet", lambda table: pa.concat_tables([table, table.slice(0, 2)])),
        {("image list differs", "")},
    ),
    "in a list that is none": (written("images.parquet", b"PAR1PAR1"), {("image list differs", "")}),
    "of a size the manifest has not": (lambda f: rehash(f, image_sizes=[[1, 1]]), {("fact wrong", "image_sizes")}),
}  # fmt: skip


@pytest.mark.parametrize("damage", IMAGES)
def test_damage_to_images_is_found(damage: str, pictured: Path) -> None:
    spoil, expected = IMAGES[damage]
    spoil(pictured)
    rehash(pictured)
    found = check(pictured)
    told = {(one.name, one.column) for one in found.findings if "download_size" not in one.column}
    if any("image" in column or name == "image differs" for name, column in expected) and "listed" not in damage:
        expected = {*expected, ("index differs", "")}  # for the shard is now another one
    assert told == expected, [str(one) for one in found.findings]
    for one in found.findings:
        if one.column in {"image", "sha256", "bytes", "width"}:
            assert (one.row, one.n) == (ROW + 1, 1)
            assert value(pictured, "id_str", ROW) in one.examples[0]


INDEX = "index/train-00000-of-00001.parquet"
INDICES: Mapping[str, tuple[Callable[[Path], object], tuple[str, int | None, int, str]]] = {
    "other votes": (
        lambda f: put(f, SMOOTH.columns[1], ROW, 77, INDEX),
        (SMOOTH.columns[1], ROW + 1, 1, ""),
    ),
    "another galaxy": (lambda f: put(f, "id_str", ROW, "x", INDEX), ("id_str", ROW + 1, 1, "")),
    "another dataset": (lambda f: put(f, "dataset_name", 0, "gz2", INDEX), ("dataset_name", 1, 1, "")),
    "an image further on": (
        lambda f: put(f, "offset", ROW, value(f, "offset", ROW, INDEX) + 1, INDEX),
        ("offset", ROW + 1, 1, ""),
    ),
    "the next image": (
        lambda f: put(f, "offset", ROW, value(f, "offset", ROW + 1, INDEX), INDEX),
        ("offset", ROW + 1, 1, ""),
    ),
    "a shorter image": (
        lambda f: put(f, "length", ROW, value(f, "length", ROW, INDEX) - 1, INDEX),
        ("offset", ROW + 1, 1, ""),
    ),
    "an image before the file": (lambda f: put(f, "offset", ROW, -1, INDEX), ("offset", ROW + 1, 1, "")),
    "an image behind the file": (lambda f: put(f, "offset", ROW, 1 << 62, INDEX), ("offset", ROW + 1, 1, "")),
    "no image": (lambda f: put(f, "offset", ROW, None, INDEX), ("offset", ROW + 1, 1, "")),
    "a row too few": (
        lambda f: rewrite(f, INDEX, lambda table: table.slice(0, table.num_rows - 1)),
        ("", None, 1, "40 rows, not 41"),
    ),
    "rows too many": (
        lambda f: rewrite(f, INDEX, lambda table: pa.concat_tables([table, table.slice(0, 2)])),
        ("", None, 1, "more rows, not 41"),
    ),
    "a column too few": (
        lambda f: rewrite(f, INDEX, lambda table: table.drop_columns(["offset"])),
        ("", None, 1, "its columns are others"),
    ),
    "the index of another shard": (
        lambda f: shutil.copy(f / INDEX.replace("train", "test"), f / INDEX),
        ("", None, 1, "it is of another shard"),
    ),
    "no table": (written(INDEX, b"PAR1PAR1"), ("", None, 1, "it cannot be read")),
    "a damaged page": (
        lambda f: flip(f / INDEX, pq.read_metadata(f / INDEX).row_group(0).column(9).data_page_offset + 60),
        ("", None, 1, "it cannot be read to its end"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", INDICES)
def test_an_index_that_says_something_else_is_found(damage: str, pictured: Path) -> None:
    spoil, (column, row, n, says) = INDICES[damage]
    spoil(pictured)
    rehash(pictured)
    [one] = check(pictured, headers_only=True).findings
    assert (one.name, one.file, one.column, one.row, one.n) == ("index differs", INDEX, column, row, n)
    assert "; ".join(one.examples) == says


def test_a_dataset_without_index_is_sound(pictured: Path) -> None:
    """As earlier versions built them."""
    shutil.rmtree(pictured / "index")
    rehash(pictured)
    found = check(pictured, headers_only=True)
    assert found.is_valid
    assert verdicts(found)["index"] == "not checked"


def test_images_behind_an_unreadable_page_are_still_compared(tmp_path: Path, sky: SimulateResult) -> None:
    out = tmp_path / "out"
    build("gz2", votes=sky.votes, images=sky.images, out=out)
    column = pq.read_metadata(out / TRAIN).row_group(0).column(0)
    flip(out / TRAIN, column.data_page_offset + column.total_compressed_size // 2)
    put(out, "width", pq.read_metadata(out / "images.parquet").num_rows - 2, 7, "images.parquet")
    rehash(out)
    found = check(out)
    told = {(one.name, one.column, one.n) for one in found.findings if "download_size" not in one.column}
    n = found.n_galaxies["train"]
    assert told == {("shard unreadable", "image", n), ("image differs", "width", 1)}
    assert verdicts(found)["tiny"] == "not checked"


# ----------------------------------------------------------------------------------------------------
# Nothing is overlooked, nothing makes it fall over


@pytest.fixture(scope="module")
def mutant(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy that is damaged and mended, over and over."""
    return Path(shutil.copytree(dataset, tmp_path_factory.mktemp("mutant") / "dataset"))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), bit=st.integers(0, 7))
def test_any_flipped_byte_is_found(data: st.DataObject, bit: int, mutant: Path) -> None:
    contents = sorted(path.relative_to(mutant).as_posix() for path in mutant.rglob("*") if path.is_file())
    path = mutant / data.draw(st.sampled_from(contents))
    before = path.read_bytes()
    flip(path, data.draw(st.integers(0, len(before) - 1)), 1 << bit)
    try:
        assert not check(mutant, headers_only=True).is_valid
    finally:
        path.write_bytes(before)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_makes_it_fall_over(data: st.DataObject, mutant: Path) -> None:
    """Not even where the manifest has the digest of the damage, and where Parquet says where what lies."""
    manifest = (mutant / "manifest.json").read_bytes()
    contents = sorted(path.relative_to(mutant).as_posix() for path in mutant.rglob("*.parquet"))
    path = mutant / data.draw(st.sampled_from(contents))
    before = path.read_bytes()
    spoilt = bytearray(before)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(1, min(len(before), 20_000)))  # from the end, where the footer is
        spoilt[-at] = data.draw(st.integers(0, 255))
    path.write_bytes(spoilt)
    rehash(mutant)
    try:
        found = check(mutant, headers_only=True)
        assert [one.name for one in found.checks] == list(CHECKS)
        assert names(found) <= set(KINDS)
    finally:
        path.write_bytes(before)
        (mutant / "manifest.json").write_bytes(manifest)


def test_the_same_folder_gives_the_same_words(pictured: Path, tmp_path: Path) -> None:
    change_image(pictured, lambda data: data[:-200])
    put(pictured, "summary", ROW, "<script>[red]x")
    pages = [tmp_path / "one.html", tmp_path / "two.html"]
    one, two = (check(pictured, report=page) for page in pages)
    assert one.to_dict() == two.to_dict()
    assert pages[0].read_bytes() == pages[1].read_bytes()
    text = pages[0].read_text("utf-8")
    assert "NOT SOUND" in text
    assert "SIMULATED DATA" in text
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def test_the_page_lies_elsewhere_and_replaces_nothing(votes_alone: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="would lie in the dataset"):
        check(votes_alone, report=votes_alone / "data" / "page.html")
    (tmp_path / "page.html").touch()
    with pytest.raises(OutputExistsError, match="is there already"):
        check(votes_alone, report=tmp_path / "page.html")
    assert check(votes_alone, report=tmp_path / "page.html", overwrite=True).is_valid


def test_what_is_no_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="There is no folder"):
        check(tmp_path / "unavailable")
    (tmp_path / "file").touch()
    with pytest.raises(NotFoundError, match="is no folder"):
        check(tmp_path / "file")


def test_progress_names_the_stages(dataset: Path) -> None:
    stages: list[str] = []
    check(dataset, progress=lambda stage, done, total: stages.append(stage))
    assert list(dict.fromkeys(stages)) == list(dict.fromkeys(stage for stage, _, _ in CHECKS.values()))


# ----------------------------------------------------------------------------------------------------
# The command


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


def test_the_command_says_what_it_found(votes_alone: Path, command: Command, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    said = command("check", votes_alone, "--report", page)
    assert said.code == 0
    assert "Nothing is wrong with" in said.out
    assert "not checked" in said.out
    assert page.is_file()
    put(votes_alone, SMOOTH.total_column, ROW, 9999)
    rehash(votes_alone)
    said = command("check", votes_alone)
    assert said.code == 1
    assert f"total wrong in {TRAIN}, {SMOOTH.total_column} (row {ROW + 1})" in said.out
    assert "Traceback" not in said.err
    said = command("check", votes_alone, "--json")
    assert said.code == 1
    facts = json.loads(said.out)
    assert facts["is_valid"] is False
    assert {one["name"] for one in facts["findings"]} == {"total wrong", "card wrong"}
    assert not any("second" in key for one in facts["checks"] for key in one)
    assert said.out == command("check", votes_alone, "--json").out
    assert cli.check.__doc__
