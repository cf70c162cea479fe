"""Builds drop nothing without a reason, give the same bytes for the same inputs, and resume after interruptions."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from huggingface_hub import DatasetCard
from PIL import Image

from gzoo import files
from gzoo.dataset import build as builder
from gzoo.dataset import finalize, schema, shards
from gzoo.dataset.build import BuildResult, build
from gzoo.dataset.check import check
from gzoo.errors import ImageError, NotFoundError, OutputExistsError, TableError
from gzoo.images.archives import Source
from gzoo.images.checks import check_image
from gzoo.simulator import SimulateResult
from gzoo.sky import identifier_split
from gzoo.sky import split as split_at_place
from gzoo.trees.campaign import campaign
from gzoo.votes import audit
from gzoo.votes.votes import Votes
from kill_harness import kill_everywhere
from real_galaxies import REAL_MAPPING

SMOOTH = campaign("gz2").tree.questions[0].columns


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def jpeg(shade: int, mode: str = "RGB", format: str = "JPEG", size: int = 32) -> bytes:
    out = io.BytesIO()
    Image.effect_noise((size, size), 20 + shade).convert(mode).save(out, format)
    return out.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that says how large it is, and has next to nothing in it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


class Inputs:
    """A vote table of a few galaxies and a folder of images, that tests change."""

    def __init__(self, folder: Path, n: int = 5) -> None:
        self.folder, self.images, self.out = folder, folder / "images", folder / "dataset"
        self.images.mkdir(parents=True)
        self.rows: list[dict[str, object]] = []
        for i in range(n):
            (self.images / f"g{i}.jpg").write_bytes(jpeg(i))
            self.rows.append({"id_str": f"g{i}", "filename": f"g{i}.jpg", **dict.fromkeys(SMOOTH, str(i + 1))})

    def build(self, **settings: object) -> BuildResult:
        votes = self.folder / "votes.csv"
        pl.DataFrame(self.rows, strict=False, infer_schema_length=None).write_csv(votes)
        return build("gz2", votes=votes, images=self.images, out=self.out, **settings)  # type: ignore[arg-type]

    def dropped(self) -> dict[str | None, str]:
        """Reason of each row or image that was left out, by id_str or image."""
        table = pl.read_parquet(self.out / "dropped.parquet")
        return {row["id_str"] or row["image"]: row["reason"] for row in table.iter_rows(named=True)}

    def kept(self) -> set[str]:
        return set(pl.concat([pl.read_parquet(p) for p in (self.out / "data").iterdir()])["id_str"])


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    return Inputs(tmp_path / "inputs")


# ----------------------------------------------------------------------------------------------------
# The real sample


@pytest.fixture(scope="session")
def real(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    (folder / "mapping.toml").write_text(REAL_MAPPING)
    sample = shared_data / "gz2_sample"
    build(
        "gz2",
        votes=sample / "votes.csv",
        images=sample / "images",
        mapping=folder / "mapping.toml",
        out=folder / "dataset",
    )
    return folder / "dataset"


def test_real_galaxies_have_the_columns_of_the_published_card(real: Path, shared: Path) -> None:
    card = json.loads((shared / "facts" / "cards" / "gz2.json").read_text("utf-8"))
    types = {"image": str(schema.IMAGE_TYPE), "float32": "float", "float64": "double"}
    wanted = [(one["name"], types.get(one["dtype"], one["dtype"])) for one in card["columns"]]
    for path in (*real.glob("data/*"), *real.glob("tiny/*")):
        assert [(field.name, str(field.type)) for field in pq.read_schema(path)] == wanted


def test_every_real_galaxy_is_kept_with_its_votes_and_image_bytes(real: Path, shared_data: Path) -> None:
    source = pl.read_csv(shared_data / "gz2_sample" / "votes.csv", schema_overrides={"id_str": pl.String})
    rows = pl.concat([pl.read_parquet(path) for path in real.glob("data/*")])
    assert rows.height == source.height == 682
    joined = rows.join(source, on="id_str", suffix="_in_source")
    assert joined.height == 682
    for name in SMOOTH:
        assert joined[name].to_list() == joined[f"{name}_in_source"].to_list()
    for image, filename in joined.select("image", "filename").iter_rows():
        original = (shared_data / "gz2_sample" / "images" / filename).read_bytes()
        assert sha256(image["bytes"]) == sha256(original)
        assert image["path"] == filename


def test_missing_values_of_real_galaxies_are_as_promised(real: Path) -> None:
    table = pl.concat([pl.read_parquet(path) for path in real.glob("data/*")])
    assert sum(table.null_count().row(0)) == 0
    assert table["ra"].is_nan().all()
    assert table["dec"].is_nan().all()
    assert set(table["summary"]) == {""}
    assert set(table["dataset_name"]) == {"gz2"}
    total = table["smooth-or-featured-gz2_total-votes"]
    assert total.to_list() == table.select(pl.sum_horizontal(SMOOTH)).to_series().to_list()
    fraction = table["smooth-or-featured-gz2_smooth"] / total
    assert table["smooth-or-featured-gz2_smooth_fraction"].to_numpy() == pytest.approx(fraction.to_numpy(), nan_ok=True)
    assert table["bar-gz2_yes_fraction"].is_nan().all()
    assert set(table["bar-gz2_yes"]) == set(table["bar-gz2_total-votes"]) == {0}
    manifest = files.read_json(real / "manifest.json")
    assert "bar-gz2" in manifest["not_collected"]  # type: ignore[operator]
    assert manifest["is_simulated"] is False


# ----------------------------------------------------------------------------------------------------
# The same bytes


def test_same_inputs_give_same_bytes_in_any_folder(
    sky: SimulateResult, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(sky.folder, elsewhere)
    monkeypatch.chdir(tmp_path)
    build("gz2", votes="elsewhere/votes.parquet", images="elsewhere/images", out="again")
    assert contents(tmp_path / "again") == contents(dataset)
    assert {path.name for path in tmp_path.iterdir()} == {"elsewhere", "again"}


def test_order_of_the_table_does_not_change_the_shards(sky: SimulateResult, dataset: Path, tmp_path: Path) -> None:
    pl.read_parquet(sky.votes).reverse().write_parquet(tmp_path / "votes.parquet")
    build("gz2", votes=tmp_path / "votes.parquet", images=sky.images, out=tmp_path / "out")
    for folder in ("data", "tiny"):
        assert contents(tmp_path / "out" / folder) == contents(dataset / folder)


def test_manifest_lists_every_file_and_input_without_times_and_paths(sky: SimulateResult, dataset: Path) -> None:
    text = (dataset / "manifest.json").read_text("utf-8")
    manifest = json.loads(text)
    found = contents(dataset)
    del found["manifest.json"]
    assert {name: facts["sha256"] for name, facts in manifest["files"].items()} == {
        name: sha256(data) for name, data in found.items()
    }
    assert {name: facts["bytes"] for name, facts in manifest["files"].items()} == {
        name: len(data) for name, data in found.items()
    }
    assert manifest["inputs"]["votes"] == {"name": "votes.parquet", "sha256": sha256(sky.votes.read_bytes())}
    assert manifest["inputs"]["mapping"] is None
    images = pl.read_parquet(dataset / "images.parquet")
    assert dict(images.select("image", "source_sha256").iter_rows()) == {
        path.name: sha256(path.read_bytes()) for path in sky.images.iterdir()
    }
    assert not re.search(r"\d{4}-\d{2}-\d{2}|\d{2}:\d{2}:\d{2}|\"/|/tmp|/home", text)


def test_card_agrees_with_the_data(dataset: Path) -> None:
    card = DatasetCard.load(dataset / "README.md")
    infos = {info["config_name"]: info for info in card.data.to_dict()["dataset_info"]}
    assert set(infos) == {"default", "tiny"}
    for config, info in infos.items():
        for split in info["splits"]:
            shards = [pq.read_table(path) for path in files.shards(dataset, split["name"], config)]
            assert sum(shard.num_rows for shard in shards) == split["num_examples"] > 0
            types = {"image": str(schema.IMAGE_TYPE), "float32": "float", "float64": "double"}
            assert [(one["name"], types.get(one["dtype"], one["dtype"])) for one in info["features"]] == [
                (field.name, str(field.type)) for field in shards[0].schema
            ]
        sizes = [path.stat().st_size for s in info["splits"] for path in files.shards(dataset, s["name"], config)]
        assert info["download_size"] == sum(sizes)
    for one in card.data.to_dict()["configs"]:
        for contents in one["data_files"]:
            assert list(dataset.glob(contents["path"])) == files.shards(dataset, contents["split"], one["config_name"])


def test_simulated_data_are_labelled_everywhere(dataset: Path) -> None:
    assert files.read_json(dataset / "manifest.json")["is_simulated"] is True
    text = (dataset / "README.md").read_text("utf-8")
    assert "(simulated)" in text
    assert "> **Simulated.**" in text
    card = DatasetCard(text)
    assert card.data.to_dict()["license"] == "cc0-1.0"
    assert "simulated" in card.data.to_dict()["tags"]
    assert "Please cite" not in text
    for path in dataset.glob("*/*.parquet"):
        assert set(pl.read_parquet(path)["dataset_name"]) == {"gz2_simulated"}


def test_splits_depend_only_on_sky_position(dataset: Path) -> None:
    for split in ("train", "validation", "test"):
        rows = pl.read_parquet(files.shards(dataset, split)[0], columns=["id_str", "ra", "dec"])
        assert set(split_at_place(rows["ra"].to_numpy(), rows["dec"].to_numpy())) == {split}
        places = [identifier_split.place(one) for one in rows["id_str"]]
        assert places == sorted(places)
    assert files.read_json(dataset / "manifest.json")["split_scheme"] == "gzoo-1"


def test_images_are_listed_in_the_order_of_the_rows(dataset: Path) -> None:
    images = pl.read_parquet(dataset / "images.parquet")
    shards = [path for split in files.SPLITS for path in files.shards(dataset, split)]
    rows = pl.concat([pl.read_parquet(path, columns=["id_str", "dataset_name", "image"]) for path in shards])
    assert rows.select("id_str", "dataset_name").equals(images.select("id_str", "dataset_name"))
    stored = rows["image"].struct.field("bytes")
    assert [sha256(one) for one in stored] == images["sha256"].to_list()
    assert stored.bin.size().to_list() == images["bytes"].to_list()


def test_many_shards_contain_every_row_once_and_in_order(
    sky: SimulateResult, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finalize, "SHARD_BYTES", 100_000)
    monkeypatch.setattr(files, "ROWS_IN_GROUP", 3)
    build("gz2", votes=sky.votes, images=sky.images, out=tmp_path / "out")
    paths = files.shards(tmp_path / "out", "train")
    assert len(paths) > 2
    assert [path.name for path in paths] == [f"train-{i:05d}-of-{len(paths):05d}.parquet" for i in range(len(paths))]
    together = pl.concat([pl.read_parquet(path) for path in paths])
    assert together.equals(pl.read_parquet(files.shards(dataset, "train")[0]))


# ----------------------------------------------------------------------------------------------------
# What is left out, and why


def test_each_invalid_image_is_dropped_with_its_reason(inputs: Inputs) -> None:
    bad: dict[str, tuple[bytes | None, str]] = {
        "missing": (None, "no file missing.jpg"),
        "truncated": (jpeg(1)[:-200], "corrupt"),
        "text": (b"not an image at all", "not an image"),
        "empty": (b"", "empty"),
        "cmyk": (jpeg(1, "CMYK"), "mode CMYK"),
        "gif": (jpeg(1, "RGB", "GIF"), "not an image"),
        "large": (png_header(20_000, 20_000), "too large"),
        "wide": (png_header(8_193, 10), "8193 x 10"),
    }
    for name, (data, _) in bad.items():
        if data is not None:
            (inputs.images / f"{name}.jpg").write_bytes(data)
        inputs.rows.append({"id_str": name, "filename": f"{name}.jpg", **dict.fromkeys(SMOOTH, "1")})
    inputs.rows.append({"id_str": "up", "filename": "../images/g0.jpg", **dict.fromkeys(SMOOTH, "1")})
    (inputs.images / "alone.jpg").write_bytes(jpeg(9))
    built = inputs.build()
    reasons = dict.fromkeys(bad, "image unusable") | {"missing": "image missing", "up": "image missing"}
    assert inputs.dropped() == reasons | {"alone.jpg": "no row for this image"}
    details = pl.read_parquet(inputs.out / "dropped.parquet")
    for name, (_, words) in bad.items():
        assert words in details.filter(pl.col("id_str") == name)["detail"].item()
    assert built.n_dropped == {"no row for this image": 1, "image missing": 2, "image unusable": 7}
    assert inputs.kept() == {f"g{i}" for i in range(5)}
    said = files.read_json(inputs.out / "manifest.json")["n_dropped"]
    assert said == built.n_dropped


def test_each_invalid_row_is_dropped_with_its_reason(inputs: Inputs) -> None:
    bad = {
        "-1": "count negative",
        "1.5": "count not an integer",
        "NaN": "count missing",
        "many": "count is not a number",
    }
    for i, value in enumerate(bad):
        (inputs.images / f"bad{i}.jpg").write_bytes(jpeg(i))
        inputs.rows.append({"id_str": f"bad{i}", "filename": f"bad{i}.jpg", **dict.fromkeys(SMOOTH, value)})
    inputs.rows.append({**inputs.rows[0]})
    inputs.rows.append({**inputs.rows[1], SMOOTH[0]: "40"})
    inputs.build()
    dropped = pl.read_parquet(inputs.out / "dropped.parquet").filter(pl.col("row").is_not_null())
    reasons = dict(dropped.select("row", "reason").iter_rows())
    assert reasons == {
        2: "duplicate identifier with different votes or images",
        6: "count negative",
        7: "count not an integer",
        8: "count missing",
        9: "count is not a number",
        10: "duplicate identifier with the same votes",
        11: "duplicate identifier with different votes or images",
    }
    assert inputs.kept() == {"g0", "g2", "g3", "g4"}


def test_inconsistent_rows_are_counted_only_if_they_are_kept(inputs: Inputs) -> None:
    bar = campaign("gz2").tree.question("bar-gz2").columns
    edge = campaign("gz2").tree.question("disk-edge-on-gz2").columns
    for row in inputs.rows:
        row.update(dict.fromkeys((*bar, *edge), "0"))
    for i in (0, 1):
        inputs.rows[i] |= {bar[0]: "30"}
    (inputs.images / "g1.jpg").write_bytes(b"broken")
    built = inputs.build()
    assert built.n_breaks == 1
    assert files.read_json(inputs.out / "manifest.json")["n_rows_breaking_tree"] == 1


def strange_column(inputs: Inputs) -> None:
    for row in inputs.rows:
        row["colour"] = "blue"


def no_images(inputs: Inputs) -> None:
    for path in inputs.images.iterdir():
        path.unlink()


def all_broken(inputs: Inputs) -> None:
    for path in inputs.images.iterdir():
        path.write_bytes(b"?")


def fractions(inputs: Inputs) -> None:
    for row in inputs.rows:
        row.update(dict.fromkeys(SMOOTH, "0.5"))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (strange_column, "colour"),
        (no_images, "5 x image missing"),
        (all_broken, "5 x image unusable"),
        (fractions, "contains fractions"),
    ],
)
def test_unusable_tables_and_folders_are_errors_that_leave_nothing(
    inputs: Inputs, spoil: Callable[[Inputs], None], words: str
) -> None:
    spoil(inputs)
    with pytest.raises(TableError, match=words):
        inputs.build()
    assert {path.name for path in inputs.folder.iterdir()} == {"images", "votes.csv"}


def test_a_table_with_no_rows_is_an_error(inputs: Inputs) -> None:
    votes = inputs.folder / "votes.csv"
    votes.write_text(",".join(("id_str", "filename", *SMOOTH)) + "\n")
    with pytest.raises(TableError, match="any rows"):
        build("gz2", votes=votes, images=inputs.images, out=inputs.out)
    assert not inputs.out.exists()


def test_missing_inputs_are_errors(inputs: Inputs) -> None:
    inputs.build()
    with pytest.raises(NotFoundError, match="nowhere"):
        build("gz2", votes=inputs.folder / "votes.csv", images=inputs.folder / "nowhere", out=inputs.folder / "b")
    with pytest.raises(NotFoundError, match="Vote table not found"):
        build("gz2", votes=inputs.folder / "nothing.csv", images=inputs.images, out=inputs.folder / "b")


def test_images_are_found_by_identifier_where_the_table_names_none(inputs: Inputs) -> None:
    inputs.rows = [{key: value for key, value in row.items() if key != "filename"} for row in inputs.rows]
    (inputs.images / "g1.png").write_bytes(jpeg(1, format="PNG"))
    inputs.build()
    assert inputs.dropped() == {"g1": "several images", "g1.jpg": "no row for this image"} | {
        "g1.png": "no row for this image"
    }
    assert inputs.kept() == {"g0", "g2", "g3", "g4"}


@pytest.mark.parametrize("room", [None, 20_000, 200], ids=["a group at once", "some at once", "one at once"])
def test_images_keep_their_bytes_when_others_are_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int | None
) -> None:
    if room:
        monkeypatch.setattr(shards, "BYTES_IN_TASK", room)
    inputs, rng = Inputs(tmp_path / "inputs", n=900), np.random.default_rng(0)
    lost = {f"g{i}" for i in rng.choice(900, 7, replace=False)}
    wanted: dict[str, bytes] = {}
    for i in range(900):
        path = inputs.images / f"g{i}.jpg"
        data = path.read_bytes() + bytes(int(rng.integers(400)))  # behind its end an image may have more
        path.write_bytes(b"" if f"g{i}" in lost else data)
        wanted[f"g{i}"] = data

    def grow(stage: str, done: int, total: int) -> None:  # images that are not as they were listed
        if stage == "Planning shards" and done:
            wanted["g8"] += bytes(3_000)
            (inputs.images / "g8.jpg").write_bytes(wanted["g8"])

    lost -= {"g8"}
    inputs.build(headers_only=True, progress=grow)
    found = pl.concat([pl.read_parquet(path) for path in (inputs.out / "data").iterdir()])
    kept = dict(zip(found["id_str"], found["image"].struct.field("bytes"), strict=True))
    assert kept == {name: data for name, data in wanted.items() if name not in lost}
    assert check(inputs.out).is_valid


def test_a_build_does_not_import_pandas(sky: SimulateResult, tmp_path: Path) -> None:
    code = f"""
import sys
from gzoo import build
build("gz2", votes={str(sky.votes)!r}, images={str(sky.images)!r}, out={str(tmp_path / "out")!r})
assert "pandas" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_audit_takes_every_nth_galaxy_across_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "N_AUDITED", 20)
    monkeypatch.setattr(finalize, "SHARD_BYTES", 10 * len(jpeg(1)))
    audited: list[str] = []

    def audit_votes(votes: Votes, ids: pl.Series) -> object:
        audited.extend(ids)
        return audit.audit_votes(votes, ids)

    monkeypatch.setattr(builder, "audit_votes", audit_votes)
    inputs = Inputs(tmp_path / "inputs", n=70)
    inputs.build()
    contents = [path for split in files.SPLITS for path in files.shards(inputs.out, split)]
    assert len(contents) > len(files.SPLITS)
    rows = [name for path in contents for name in pl.read_parquet(path)["id_str"]]
    assert sorted(audited) == sorted(rows[::4])


def test_file_names_that_are_not_utf8_are_dropped(inputs: Inputs) -> None:
    (inputs.images / os.fsdecode(b"caf\xe9.jpg")).write_bytes(jpeg(1))
    inputs.build()
    assert list(inputs.dropped().values()) == ["image refused"]


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_corrupt_images_are_refused_or_decoded(format: str) -> None:
    rng = np.random.default_rng(0)
    whole = jpeg(3, format=format)
    refused = 0
    for _ in range(500):
        data = bytearray(whole)
        for at in rng.integers(0, min(len(data), int(rng.choice([60, 600, 10**6]))), 3):
            data[at] = rng.integers(256)
        try:
            check_image(bytes(data))
        except ImageError:
            refused += 1
    assert refused > 50


def test_checking_images_does_not_change_warning_filters(inputs: Inputs) -> None:
    import warnings

    (inputs.images / "g0.jpg").write_bytes(png_header(10_000, 10_000))  # Pillow warns of it
    before = list(warnings.filters)
    inputs.build()
    assert list(warnings.filters) == before
    assert inputs.dropped() == {"g0": "image unusable"}


def test_an_image_that_disappears_during_the_build_is_dropped(inputs: Inputs) -> None:
    def spoil(stage: str, done: int, total: int) -> None:
        if stage == "Planning shards":
            (inputs.images / "g0.jpg").unlink(missing_ok=True)

    inputs.build(progress=spoil)
    assert inputs.kept() == {f"g{i}" for i in range(1, 5)}
    assert inputs.dropped() == {"g0": "image unusable"}


def test_a_build_stops_when_the_disk_of_the_images_fails_and_resumes_later(
    inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Source, name: str) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Source, "read", fail)
        with pytest.raises(NotFoundError, match=r"(?s)Cannot read '.*': Input/output error.*to resume"):
            inputs.build()
    assert not inputs.out.exists()
    inputs.build()
    assert inputs.kept() == {f"g{i}" for i in range(5)}


# ----------------------------------------------------------------------------------------------------
# Where the result goes


def test_a_finished_dataset_is_replaced_only_with_overwrite(inputs: Inputs) -> None:
    inputs.build()
    before = contents(inputs.out)
    inputs.rows.pop()
    with pytest.raises(OutputExistsError, match="--overwrite"):
        inputs.build()
    assert contents(inputs.out) == before
    inputs.build(overwrite=True)
    assert inputs.kept() == {f"g{i}" for i in range(4)}
    assert {path.name for path in inputs.folder.iterdir()} == {"images", "votes.csv", "dataset"}


@pytest.mark.parametrize("foreign", [{"notes.txt": "mine"}, {"manifest.json": '{"name": "a web page"}'}])
def test_what_gzoo_did_not_make_is_never_replaced(inputs: Inputs, foreign: Mapping[str, str]) -> None:
    inputs.out.mkdir()
    for name, text in foreign.items():
        (inputs.out / name).write_text(text)
    for overwrite in (False, True):
        with pytest.raises(OutputExistsError, match="not a dataset that gzoo made"):
            inputs.build(overwrite=overwrite)
    assert {path.name: path.read_text() for path in inputs.out.iterdir()} == foreign


def test_a_file_is_never_replaced(inputs: Inputs) -> None:
    inputs.out.write_text("mine")
    with pytest.raises(OutputExistsError, match="not a dataset that gzoo made"):
        inputs.build(overwrite=True)


def stop(stage: str, done: int, total: int) -> None:
    if stage == "Writing shards":
        raise KeyboardInterrupt


def test_unfinished_work_of_another_command_is_an_error(inputs: Inputs) -> None:
    with pytest.raises(KeyboardInterrupt):
        inputs.build(progress=stop)
    inputs.rows.pop()
    with pytest.raises(OutputExistsError, match="unfinished work of another command"):
        inputs.build()
    inputs.build(overwrite=True)
    assert inputs.kept() == {f"g{i}" for i in range(4)}


def test_a_build_started_with_another_pyarrow_does_not_resume(inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every shard contains its version."""
    with monkeypatch.context() as earlier:
        earlier.setattr(builder, "versions", lambda: shards.versions() | {"pyarrow": "25.0.0"})
        with pytest.raises(KeyboardInterrupt):
            inputs.build(progress=stop)
    with pytest.raises(OutputExistsError, match=r"another command that differs in pyarrow \(then 25.0.0\)"):
        inputs.build()


def test_unfinished_work_resumes(inputs: Inputs) -> None:
    with pytest.raises(KeyboardInterrupt):
        inputs.build(progress=stop)
    assert not inputs.out.exists()
    stages: set[str] = set()
    inputs.build(progress=lambda stage, done, total: stages.add(stage))
    assert not {"Reading votes", "Planning shards"} & stages
    resumed = contents(inputs.out)
    shutil.rmtree(inputs.out)
    inputs.build()
    assert contents(inputs.out) == resumed


BUILD = """
from gzoo.dataset.build import build

def make(out, votes, images):
    build("gz2", votes=votes, images=images, out=out)
"""


@pytest.mark.parametrize("stride", [797, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_killed_at_any_moment_the_next_build_gives_the_same_bytes(
    sky: SimulateResult, dataset: Path, tmp_path: Path, stride: int
) -> None:
    made = kill_everywhere(BUILD, tmp_path, stride, [sky.votes, sky.images])
    assert contents(made) == contents(dataset)
