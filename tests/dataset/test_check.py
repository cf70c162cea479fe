"""Check of datasets: valid folders pass, each kind of damage has its own finding, and no damage stops the check."""

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

from gzoo import files
from gzoo.dataset.build import build
from gzoo.dataset.check import CheckResult, check
from gzoo.dataset.check_findings import CHECKS, FINDING_TYPES, MAX_SIMILAR
from gzoo.errors import InputError, NotFoundError, OutputExistsError
from gzoo.simulator import SimulateResult, simulate
from gzoo.trees.campaign import campaign
from real_galaxies import REAL_MAPPING
from test_commands import Command

SMOOTH = campaign("gz2").tree.questions[0]
TRAIN = "data/train-00000-of-00001.parquet"
ROW = 30  # of train, counted from 0


def names(found: CheckResult) -> set[str]:
    """Return the types of all findings."""
    return {one.name for one in found.findings}


def verdicts(found: CheckResult) -> dict[str, str]:
    return {one.name: one.verdict for one in found.checks}


def rehash(folder: Path, **changes: object) -> None:
    """Rewrite the manifest, so that it lists the current checksums."""
    manifest = files.read_json(folder / "manifest.json")
    for key in ("format", "files", files.OWN_DIGEST):
        manifest.pop(key, None)
    files.write_manifest(folder, {**manifest, **changes})


def rewrite(folder: Path, file: str, change: Callable[[pa.Table], pa.Table]) -> None:
    """Change the table in a file, and write it as gzoo does."""
    path = folder / file
    size = files.ROWS_IN_GROUP if "image" in pq.read_schema(path).names else files.ROWS_IN_LARGE_GROUP
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
def votes_only(sky: SimulateResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a dataset of `sky` without images, which tests only read."""
    folder = tmp_path_factory.mktemp("votes_only") / "dataset"
    build("gz2", votes=sky.votes, no_images=True, out=folder)
    return folder


@pytest.fixture
def copy_without_images(votes_only: Path, tmp_path: Path) -> Path:
    """Return a copy of `votes_only` to damage."""
    return Path(shutil.copytree(votes_only, tmp_path / "dataset"))


@pytest.fixture
def copy_with_images(dataset: Path, tmp_path: Path) -> Path:
    """Return a copy of `dataset` to damage."""
    return Path(shutil.copytree(dataset, tmp_path / "dataset"))


# ----------------------------------------------------------------------------------------------------
# Valid folders


def test_dataset_with_images_is_valid(dataset: Path) -> None:
    found = check(dataset)
    assert found.findings == ()
    assert found.is_valid
    assert (found.campaign, found.has_manifest, found.is_simulated) == ("gz2", True, True)
    assert {name for name, verdict in verdicts(found).items() if verdict != "passed"} == {"labels", "weights"}
    counted = {one.name: one.n for one in found.checks}
    assert counted["images"] == counted["votes"] == counted["splits"] == sum(found.n_galaxies.values()) == 60
    assert counted["files"] == sum(path.is_file() for path in dataset.rglob("*")) - 1


def test_headers_only_is_noted(dataset: Path) -> None:
    found = check(dataset, headers_only=True)
    assert found.is_valid
    assert next(one.note for one in found.checks if one.name == "images") == "headers only"


def test_dataset_without_images_is_valid(votes_only: Path) -> None:
    found = check(votes_only)
    assert found.is_valid
    assert verdicts(found)["images"] == "not checked"


def test_dataset_without_validation_split_is_valid(sky: SimulateResult, tmp_path: Path) -> None:
    build("gz2", votes=sky.votes, no_images=True, out=tmp_path / "out", splits="train,test")
    found = check(tmp_path / "out")
    assert found.is_valid
    assert set(found.n_galaxies) <= {"train", "test", "border"}
    rehash(tmp_path / "out", split_scheme="gzoo-1")
    assert names(check(tmp_path / "out")) == {"wrong split"}


def with_splits(sky: SimulateResult, folder: Path, twins: bool = False) -> Path:
    """Build a dataset with the splits of its table, in which two rows may be the same galaxy."""
    table = pl.read_parquet(sky.votes).with_row_index("i")
    table = table.with_columns(split=pl.when(pl.col("i") % 3 == 0).then(pl.lit("test")).otherwise(pl.lit("train")))
    if twins:
        first = {name: table[name][0] for name in ("ra", "dec")}
        table = table.with_columns(
            pl.when(pl.col("i") == 1).then(first[name]).otherwise(name).alias(name) for name in first
        )
    table.drop("i").write_parquet(folder / "votes.parquet")
    mapping = folder / "columns.toml"
    columns = {name: name for name in ("ra", "dec", "dataset_name", "image") if name in table.columns}
    answers = "\n".join(f'"{name}" = "{name}"' for name in campaign("gz2").tree.columns if name in table.columns)
    known = {"id_str", "split", *columns, *campaign("gz2").tree.columns}
    rest = json.dumps([name for name in table.columns if name not in known])
    head = "".join(f'{name} = "{name}"\n' for name in columns)
    mapping.write_text(f"{head}ignore = {rest}\n[answers]\n{answers}\n")
    build(
        "gz2", votes=folder / "votes.parquet", mapping=mapping, no_images=True, out=folder / "out", split_column="split"
    )
    return folder / "out"


def test_published_splits_are_not_checked(sky: SimulateResult, tmp_path: Path) -> None:
    found = check(with_splits(sky, tmp_path))
    assert found.is_valid
    assert verdicts(found)["splits"] == "not checked"


def test_galaxy_in_two_splits_is_found(sky: SimulateResult, tmp_path: Path) -> None:
    found = check(with_splits(sky, tmp_path, twins=True))
    assert names(found) == {"galaxy in two splits"}
    assert found.findings[0].n == 1


def test_folder_without_manifest_is_checked_as_far_as_possible(published: Path) -> None:
    found = check(published)
    assert found.is_valid
    assert not found.has_manifest
    unchecked = {name for name, verdict in verdicts(found).items() if verdict == "not checked"}
    assert unchecked == {"manifest", "files", "summaries", "labels", "tree", "splits", "weights", "card"}
    assert all(one.note for one in found.checks if one.verdict == "not checked")
    assert sum(found.n_galaxies.values()) == next(one.n for one in found.checks if one.name == "images") > 0


def test_damage_in_folder_without_manifest_is_found(published: Path, tmp_path: Path) -> None:
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
    assert names(found) == {"wrong total", "position out of range", "missing shard"}
    assert {one.row for one in found.findings} == {4, 6, None}
    shutil.copy(published / TRAIN, folder / TRAIN)
    (folder / "data/train-00000-of-00002.parquet").unlink()
    assert {one.column for one in check(folder).findings} == {
        "dataset_info.splits.train", "dataset_info.splits.test",
    }  # fmt: skip


def test_weights_are_checked(tmp_path: Path) -> None:
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
        ("invalid weights", "id_str", 2, 2)
    ]


def test_real_galaxies_are_valid(shared_data: Path, tmp_path: Path) -> None:
    (tmp_path / "columns.toml").write_text(REAL_MAPPING)
    sample = shared_data / "gz2_sample"
    build(
        "gz2",
        votes=sample / "votes.csv",
        images=sample / "images",
        mapping=tmp_path / "columns.toml",
        out=tmp_path / "out",
    )
    found = check(tmp_path / "out")
    assert found.is_valid
    assert found.n_galaxies
    assert not found.is_simulated


# ----------------------------------------------------------------------------------------------------
# Damage to files, which the manifest reveals


def flip(path: Path, at: int, bit: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= bit
    path.write_bytes(data)


def edit(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))


def in_a_page(folder: Path, file: str = TRAIN) -> int:
    """Return the offset of the votes of a column in a shard."""
    column = pq.read_metadata(folder / file).row_group(0).column(6)
    return (column.dictionary_page_offset or column.data_page_offset) + column.total_compressed_size - 3


def link(folder: Path) -> None:
    (folder / TRAIN).rename(folder.parent / "elsewhere.parquet")
    (folder / TRAIN).symlink_to(folder.parent / "elsewhere.parquet")


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe")


def manifest_with(**changes: object) -> Callable[[Path], None]:
    """Write a manifest with a correct checksum and other entries; None removes an entry."""

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
    "flipped bit in a page": (lambda f: flip(f / TRAIN, in_a_page(f)), {"checksum mismatch", "unreadable shard"}),
    "flipped bit in the card": (lambda f: flip(f / "README.md", -5), {"checksum mismatch"}),
    "flipped bit in the manifest": (
        lambda f: flip(f / "manifest.json", (f / "manifest.json").read_bytes().index(b"n_rows_breaking_tree")),
        {"changed manifest", "invalid metadata"},
    ),
    "truncated shard": (lambda f: os.truncate(f / TRAIN, 9000), {"size mismatch", "unreadable shard"}),
    "empty shard": (lambda f: os.truncate(f / TRAIN, 0), {"size mismatch", "unreadable shard"}),
    "removed shard": (lambda f: (f / TRAIN).unlink(), {"missing file"}),
    "removed shards": (lambda f: shutil.rmtree(f / "data"), {"missing file"}),
    "removed card": (lambda f: (f / "README.md").unlink(), {"missing file"}),
    "extra file": (written("notes.txt", b"x"), {"unlisted file"}),
    "extra shard": (written("data/train-00001-of-00002.parquet", b"x"), {"unlisted file"}),
    "hidden file": (written("data/.cache", b""), {"unlisted file"}),
    "work in progress": (written("work/shard-00000.json", b"{}"), {"unlisted file"}),
    "temporary file": (written(".README.md.1-2.writing", b""), {"unlisted file"}),
    "symbolic link": (link, {"not a regular file", "missing file"}),
    "named pipe": (pipe, {"not a regular file"}),
    "manifest is not JSON": (written("manifest.json", b"{"), {"unreadable manifest"}),
    "manifest is not UTF-8": (written("manifest.json", b"\xff\xfe\x00"), {"unreadable manifest"}),
    "manifest nested too deeply": (written("manifest.json", DEEP), {"unreadable manifest"}),
    "manifest is a list": (written("manifest.json", b"[]"), {"unreadable manifest"}),
    "manifest of another version": (manifest_with(format="gzoo-dataset-9"), {"unreadable manifest"}),
    "manifest without files": (manifest_with(files=None), {"invalid metadata"}),
    "manifest without splits": (manifest_with(splits=None), {"invalid metadata"}),
    "string for a number": (manifest_with(n_rows_breaking_tree="0"), {"invalid metadata"}),
    "wrong type of splits": (manifest_with(splits={"default": {"train": True}}), {"invalid metadata"}),
    "unknown campaign": (manifest_with(campaign="../../etc/passwd"), {"invalid metadata"}),
    "path to a parent folder": (listing("../../etc/passwd"), {"unsafe path"}),
    "absolute path": (listing("/etc/passwd"), {"unsafe path"}),
    "path with NUL": (listing("data/\0"), {"unsafe path"}),
    "path with a dot": (listing("./README.md"), {"unsafe path"}),
    "Windows path": (listing("C:\\data"), {"unsafe path"}),
    "path with a surrogate": (
        lambda f: edit(f / "manifest.json", b'"README.md"', b'"\\ud800.md"'),
        {"unsafe path", "changed manifest", "unlisted file"},
    ),
    "very long path": (listing("x" * 5000), {"missing file"}),
    "file without size": (listing("README.md", {"sha256": ""}), {"invalid metadata", "unlisted file"}),
}


@pytest.mark.parametrize("damage", FILES)
def test_damaged_file_is_found(damage: str, copy_without_images: Path) -> None:
    apply, expected = FILES[damage]
    apply(copy_without_images)
    found = check(copy_without_images)
    assert names(found) == expected, [str(one) for one in found.findings]
    assert not found.is_valid
    json.dumps(found.to_dict(), allow_nan=False).encode()
    assert "".join(str(one) for one in found.findings).isprintable()


def test_corrupt_page_is_located(copy_without_images: Path) -> None:
    flip(copy_without_images / TRAIN, in_a_page(copy_without_images))
    one = next(one for one in check(copy_without_images).findings if one.name == "unreadable shard")
    assert (one.file, one.row) == (TRAIN, 1)
    assert "checksum" in one.examples[0].lower() or "crc" in one.examples[0].lower()


def test_unfinished_build_is_reported(tmp_path: Path) -> None:
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "begun.json").write_text("{}")
    assert names(check(tmp_path / "half")) == {"unfinished build"}
    (tmp_path / "empty").mkdir()
    assert names(check(tmp_path / "empty")) == {"not a dataset"}
    (tmp_path / "empty" / "data").mkdir()
    pl.DataFrame({"id_str": ["a"]}).write_parquet(tmp_path / "empty" / TRAIN)
    assert names(check(tmp_path / "empty")) == {"schema mismatch"}


def test_many_similar_findings_are_counted_in_one(copy_without_images: Path) -> None:
    for i in range(300):
        (copy_without_images / f"x{i:03d}").touch()
    found = check(copy_without_images)
    assert len(found.findings) == MAX_SIMILAR + 1
    assert sum(one.n for one in found.findings) == 300
    assert found.findings[-1].examples[0] == "x020"


# ----------------------------------------------------------------------------------------------------
# Damage to data whose checksum is in the manifest


def move(folder: Path) -> None:
    """Move a row from test to train."""
    test = TRAIN.replace("train", "test")
    moved = pq.read_table(folder / test).slice(0, 1)
    rewrite(folder, test, lambda table: table.slice(1))
    rewrite(folder, TRAIN, lambda table: pa.concat_tables([table, moved]))


def one_more_vote(folder: Path) -> None:
    """Add a vote, and change all that follows from it except the sums in the manifest."""
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
    "changed vote": (
        lambda f: put(f, SMOOTH.columns[1], ROW, value(f, SMOOTH.columns[1], ROW) + 1),
        {("wrong total", SMOOTH.total_column)},
    ),
    "changed total": (lambda f: put(f, SMOOTH.total_column, ROW, 9999), {("wrong total", SMOOTH.total_column)}),
    "negative vote": (lambda f: put(f, SMOOTH.columns[1], ROW, -3), {("negative vote count", SMOOTH.columns[1])}),
    "extra vote": (
        one_more_vote,
        {("metadata mismatch", f"questions.{SMOOTH.name}.n_votes")},
    ),
    "changed fraction": (
        lambda f: put(f, f"{SMOOTH.columns[0]}_fraction", ROW, 0.123),
        {("wrong fraction", f"{SMOOTH.columns[0]}_fraction")},
    ),
    "NaN fraction": (
        lambda f: put(f, f"{SMOOTH.columns[0]}_fraction", ROW, float("nan")),
        {("wrong fraction", f"{SMOOTH.columns[0]}_fraction")},
    ),
    "changed summary": (lambda f: put(f, "summary", ROW, "spiral"), {("wrong summary", "summary")}),
    "null": (lambda f: put(f, "dec", ROW, None), {("null value", "dec")}),
    "position out of range": (
        lambda f: put(f, "ra", ROW, 360.5),
        {("position out of range", "ra")},
    ),
    "duplicate identifier": (
        lambda f: put(f, "id_str", ROW, value(f, "id_str", ROW - 1)),
        {("duplicate identifier", "id_str")},
    ),
    "empty identifier": (
        lambda f: put(f, "id_str", ROW, ""),
        {("empty identifier", "id_str")},
    ),
    "other dataset_name": (
        lambda f: put(f, "dataset_name", ROW, "gz3_simulated"),
        {("metadata mismatch", "dataset_names")},
    ),
    "row in another split": (
        move,
        {
            ("wrong split", ""),
            ("metadata mismatch", "splits.default.train"),
            ("metadata mismatch", "splits.default.test"),
        },
    ),
    "missing row": (
        lambda f: rewrite(f, TRAIN, lambda table: table.slice(0, table.num_rows - 1)),
        {("metadata mismatch", "splits.default.train"), ("metadata mismatch", "questions")},
    ),
    "missing column": (without("summary"), {("schema mismatch", "summary")}),
    "missing vote column": (without(SMOOTH.columns[0]), {("schema mismatch", SMOOTH.columns[0])}),
    "extra column": (
        lambda f: rewrite(f, TRAIN, lambda table: table.append_column("x", table["ra"])),
        {("schema mismatch", "")},
    ),
    "reordered columns": (lambda f: rewrite(f, TRAIN, reordered), {("schema mismatch", "")}),
    "other type": (lambda f: rewrite(f, TRAIN, as_int64), {("schema mismatch", SMOOTH.columns[0])}),
    "missing features": (
        lambda f: rewrite(f, TRAIN, lambda table: table.replace_schema_metadata(None)),
        {("schema mismatch", "")},
    ),
    "flipped bit in tiny": (
        lambda f: flip(f / TRAIN.replace("data", "tiny"), in_a_page(f, TRAIN.replace("data", "tiny"))),
        {("unreadable shard", "")},
    ),
    "shortened tiny": (
        lambda f: rewrite(f, TRAIN.replace("data", "tiny"), lambda table: table.slice(0, 9)),
        {("metadata mismatch", "splits.tiny.train")},
    ),
    "card without YAML": (written("README.md", b"# Galaxies\n"), {("unreadable card", "")}),
    "card is not UTF-8": (written("README.md", b"---\n\xff\n---\n"), {("unreadable card", "")}),
    "invalid YAML": (written("README.md", b"---\na: [\n---\n"), {("unreadable card", "")}),
    "card nested too deeply": (written("README.md", b"---\na: " + DEEP + b"\n---\n"), {("unreadable card", "")}),
}  # fmt: skip


@pytest.mark.parametrize("damage", DATA)
def test_damaged_data_is_found(damage: str, copy_without_images: Path) -> None:
    apply, expected = DATA[damage]
    apply(copy_without_images)
    rehash(copy_without_images)
    found = check(copy_without_images)
    found_types = {
        (one.name, "questions" if one.column.startswith("questions.") and damage == "missing row" else one.column)
        for one in found.findings
    }
    # the card lists the sizes of the files before they were rewritten
    sizes = {("card mismatch", f"dataset_info.{config}.download_size") for config in ("default", "tiny")}
    assert found_types - sizes == expected, [str(one) for one in found.findings]
    for one in found.findings:
        if one.file == TRAIN and one.name not in {"schema mismatch", "wrong split"}:
            assert one.row is not None
            assert one.row - 1 == ROW


WRONG_ENTRIES: Mapping[str, tuple[object, str]] = {
    "dataset_names": (["gz2"], "dataset_names"),
    "is_simulated": (False, "is_simulated"),
    "has_images": (True, "has_images"),
    "n_rows_breaking_tree": (-1, "n_rows_breaking_tree"),
    "not_collected": ([SMOOTH.name], "not_collected"),
}


@pytest.mark.parametrize("key", WRONG_ENTRIES)
def test_wrong_manifest_entry_is_found(key: str, copy_without_images: Path) -> None:
    entry, column = WRONG_ENTRIES[key]
    manifest_with(**{key: entry})(copy_without_images)
    found = check(copy_without_images)
    of_manifest = [one for one in found.findings if one.file == "manifest.json"]
    assert {(one.name, one.column) for one in of_manifest} == {("metadata mismatch", column)}
    assert {one.name for one in found.findings} <= {"metadata mismatch", "card mismatch"}


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("num_examples: ", "num_examples: 9", "dataset_info.default.splits.train.num_examples"),
        ("data/train-*", "data/*", "configs.default.data_files.train.path"),
        ("n<1K", "n>10M", "size_categories"),
        ("- simulated\n", "", "tags"),
        ("dtype: float64", "dtype: float32", "dataset_info.default.features.ra.dtype"),
    ],
)
def test_edited_card_is_found(old: str, new: str, where: str, copy_without_images: Path) -> None:
    card = copy_without_images / "README.md"
    text = card.read_text("utf-8")
    assert old in text
    card.write_text(text.replace(old, new, 1), "utf-8")
    rehash(copy_without_images)
    found = check(copy_without_images)
    assert names(found) == {"card mismatch"}
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
    "truncated": (
        lambda f: change_image(f, lambda data: data[: len(data) // 2]),
        {("corrupt image", "image")},
    ),
    "empty": (
        lambda f: change_image(f, lambda _: b""),
        {("corrupt image", "image")},
    ),
    "replaced": (
        lambda f: change_image(f, lambda _: jpeg(1)),
        {("image mismatch", "bytes")},
    ),
    "listed with another width": (
        lambda f: put(f, "width", ROW, 7, "images.parquet"),
        {("image mismatch", "width")},
    ),
    "listed for another galaxy": (
        lambda f: put(f, "id_str", ROW, "x", "images.parquet"),
        {("image list mismatch", "id_str")},
    ),
    "listed in another order": (
        lambda f: rewrite(f, "images.parquet", lambda table: swapped(table, ROW, ROW + 1)),
        {("image list mismatch", "id_str")},
    ),
    "not listed": (
        lambda f: rewrite(f, "images.parquet", lambda table: table.slice(0, table.num_rows - 1)),
        {("image list mismatch", "")},
    ),
    "listed and not there": (
        lambda f: rewrite(f, "images.parquet", lambda table: pa.concat_tables([table, table.slice(0, 2)])),
        {("image list mismatch", "")},
    ),
    "in a corrupt list": (written("images.parquet", b"PAR1PAR1"), {("image list mismatch", "")}),
    "of a size that the manifest does not list": (
        lambda f: rehash(f, image_sizes=[[1, 1]]),
        {("metadata mismatch", "image_sizes")},
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", IMAGES)
def test_damaged_image_is_found(damage: str, copy_with_images: Path) -> None:
    apply, expected = IMAGES[damage]
    apply(copy_with_images)
    rehash(copy_with_images)
    found = check(copy_with_images)
    found_types = {(one.name, one.column) for one in found.findings if "download_size" not in one.column}
    assert found_types == expected, [str(one) for one in found.findings]
    for one in found.findings:
        if one.column in {"image", "bytes", "width"}:
            assert (one.row, one.n) == (ROW + 1, 1)
            assert value(copy_with_images, "id_str", ROW) in one.examples[0]


def test_dataset_without_index_is_valid(copy_with_images: Path) -> None:
    shutil.rmtree(copy_with_images / "index")
    rehash(copy_with_images)
    assert check(copy_with_images, headers_only=True).is_valid


# ----------------------------------------------------------------------------------------------------
# Any damage is found, and none stops the check


@pytest.fixture(scope="module")
def mutant(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy that is damaged and restored repeatedly."""
    return Path(shutil.copytree(dataset, tmp_path_factory.mktemp("mutant") / "dataset"))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_stops_the_check(data: st.DataObject, mutant: Path) -> None:
    """Damage the footer of a Parquet file, with its checksum in the manifest."""
    manifest = (mutant / "manifest.json").read_bytes()
    contents = sorted(path.relative_to(mutant).as_posix() for path in mutant.rglob("*.parquet"))
    path = mutant / data.draw(st.sampled_from(contents))
    before = path.read_bytes()
    damaged = bytearray(before)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(1, min(len(before), 20_000)))  # from the end, where the footer is
        damaged[-at] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged)
    rehash(mutant)
    try:
        found = check(mutant, headers_only=True)
        assert [one.name for one in found.checks] == list(CHECKS)
        assert names(found) <= set(FINDING_TYPES)
    finally:
        path.write_bytes(before)
        (mutant / "manifest.json").write_bytes(manifest)


def test_same_folder_gives_same_report(copy_with_images: Path, tmp_path: Path) -> None:
    change_image(copy_with_images, lambda data: data[:-200])
    put(copy_with_images, "summary", ROW, "<script>[red]x")
    pages = [tmp_path / "one.html", tmp_path / "two.html"]
    one, two = (check(copy_with_images, report=page) for page in pages)
    assert one.to_dict() == two.to_dict()
    assert pages[0].read_bytes() == pages[1].read_bytes()
    text = pages[0].read_text("utf-8")
    assert "NOT VALID" in text
    assert "SIMULATED DATA" in text
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def test_report_is_outside_the_dataset_and_replaces_nothing(copy_without_images: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="inside the dataset"):
        check(copy_without_images, report=copy_without_images / "data" / "page.html")
    (tmp_path / "page.html").touch()
    with pytest.raises(OutputExistsError, match=r"page\.html"):
        check(copy_without_images, report=tmp_path / "page.html")
    (tmp_path / "page.html").unlink()
    check(copy_without_images, report=tmp_path / "page.html")
    assert check(copy_without_images, report=tmp_path / "page.html", overwrite=True).is_valid


def test_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="unavailable"):
        check(tmp_path / "unavailable")
    (tmp_path / "file").touch()
    with pytest.raises(NotFoundError, match="not a folder"):
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


def test_command(copy_without_images: Path, command: Command, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = command("check", copy_without_images, "--report", page)
    assert done.code == 0
    assert "is valid" in done.out
    assert "not checked" in done.out
    assert page.is_file()
    put(copy_without_images, SMOOTH.total_column, ROW, 9999)
    rehash(copy_without_images)
    done = command("check", copy_without_images)
    assert done.code == 1
    assert f"wrong total in {TRAIN}, {SMOOTH.total_column} (row {ROW + 1})" in done.out
    assert "Traceback" not in done.err
    done = command("check", copy_without_images, "--json")
    assert done.code == 1
    result = json.loads(done.out)
    assert result["is_valid"] is False
    assert {one["name"] for one in result["findings"]} == {"wrong total", "card mismatch"}
    assert not any("second" in key for one in result["checks"] for key in one)
    assert done.out == command("check", copy_without_images, "--json").out
