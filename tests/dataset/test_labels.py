"""Datasets that are built from tables of labels, without a campaign and without votes."""

from __future__ import annotations

import io
import json
from pathlib import Path

import mlcroissant
import numpy as np
import polars as pl
import pytest
from datasets import ClassLabel, Value, load_dataset
from PIL import Image

from gzoo import files
from gzoo.cli import main
from gzoo.dataset.build import BuildResult, build
from gzoo.dataset.check import check
from gzoo.dataset.leakage import leaks
from gzoo.dataset.open import open_dataset
from gzoo.errors import InputError, TableError
from gzoo.scoring.scores import score
from gzoo.votes.label_tables import read_labels

N = 30
RINGS = ["ring" if i % 3 == 0 else "no ring" for i in range(N)]
REDSHIFTS = np.random.default_rng(0).uniform(0, 1, N).round(4)


def image(i: int) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(i).integers(0, 255, (16, 16, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images in two folders, and the table `rings.csv` with a class, a number, integers and remarks."""
    made = tmp_path_factory.mktemp("labels")
    (made / "images" / "sub").mkdir(parents=True)
    names = [f"sub/g{i}.png" if i % 2 else f"1{i}.5.png" for i in range(N)]
    for i, name in enumerate(names):
        (made / "images" / name).write_bytes(image(i))
    columns = {"file": names, "label": RINGS, "redshift": REDSHIFTS, "n_arms": [i % 3 for i in range(N)],
               "remark": [f"remark {i}" for i in range(N)]}  # fmt: skip
    pl.DataFrame(columns).with_columns(
        label=pl.when(pl.col("file") != names[1]).then("label"),
        redshift=pl.when(pl.col("file") != names[2]).then("redshift"),
    ).write_csv(made / "rings.csv")
    return made


@pytest.fixture(scope="module")
def built(folder: Path) -> BuildResult:
    return build(labels=folder / "rings.csv", images=folder / "images", out=folder / "dataset")


def table(tmp_path: Path, **columns: list[object]) -> Path:
    path = tmp_path / "labels.csv"
    pl.DataFrame(columns, strict=False).write_csv(path)
    return path


def test_dataset_opens_with_classes_and_numbers(built: BuildResult) -> None:
    rows = load_dataset(str(built.folder), split="train")
    assert rows.features["label"] == ClassLabel(names=["no ring", "ring"])
    assert rows.features["redshift"] == Value("float64")
    assert rows.features["n_arms"] == Value("int64")
    assert rows.features["remark"] == Value("string")
    found = {one["id_str"]: one for split in ("train", "validation", "test")
             for one in load_dataset(str(built.folder), split=split).remove_columns("image")}  # fmt: skip
    assert len(found) == N
    for i, (ring, redshift) in enumerate(zip(RINGS, REDSHIFTS, strict=True)):
        one = found[f"sub/g{i}" if i % 2 else f"1{i}.5"]  # a file's name is no number that lost its digits
        assert one["label"] == (-1 if i == 1 else ["no ring", "ring"].index(ring))
        assert np.isnan(one["redshift"]) if i == 2 else one["redshift"] == redshift
        assert (one["n_arms"], one["remark"], one["dataset_name"]) == (i % 3, f"remark {i}", "rings")


def test_dataset_card_and_croissant_are_valid(built: BuildResult) -> None:
    assert check(built.folder).is_valid
    assert not leaks([built.folder]).has_leaks
    assert not (built.folder / "tree.svg").exists()
    card = (built.folder / "README.md").read_text("utf-8")
    assert "| `label` | 29 | no ring 19, ring 10 |" in card
    assert "olunteers looked" not in card
    assert "{" not in card.partition("\n# ")[2]
    records = mlcroissant.Dataset(str(built.folder / "croissant.json")).records("default/train")
    assert next(iter(records))["default/train/label"] in (-1, 0, 1)


def test_result_and_dataset_say_what_the_labels_are(built: BuildResult) -> None:
    assert built.labels["label"] == {"kind": "class", "n_known": 29, "classes": {"no ring": 19, "ring": 10}}
    assert built.labels["redshift"]["n_known"] == 29
    opened = open_dataset(built.folder)
    assert opened.to_dict()["labels"] == ["label", "redshift", "n_arms", "remark"]
    assert "label (2 classes)" in repr(opened)
    assert sum(built.n_galaxies.values()) == N


def test_same_labels_give_the_same_bytes(built: BuildResult, folder: Path, tmp_path: Path) -> None:
    again = build(labels=folder / "rings.csv", images=folder / "images", out=tmp_path / "other")
    assert (again.folder / files.MANIFEST).read_bytes() == (built.folder / files.MANIFEST).read_bytes()


def test_check_finds_a_class_that_does_not_exist(built: BuildResult, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    copy = tmp_path / "copy"
    copy.mkdir()
    for path in built.folder.rglob("*"):
        target = copy / path.relative_to(built.folder)
        target.mkdir(parents=True, exist_ok=True) if path.is_dir() else target.write_bytes(path.read_bytes())
    shard = files.shards(copy, "test")[0]
    rows = pq.read_table(shard)
    values = [2, *rows["label"].to_pylist()[1:]]
    column = rows.column_names.index("label")
    pq.write_table(rows.set_column(column, rows.schema.field("label"), [values]), shard)
    assert "unknown class" in {one.name for one in check(copy).findings}


def test_positions_split_the_galaxies_where_they_are_known(folder: Path, tmp_path: Path) -> None:
    path = table(tmp_path, id_str=["a", "b", "c"], ra=[10.0, 20.0, 30.0], dec=[1.0, 2.0, 3.0], ring=["y", "n", "y"])
    made = build(labels=path, no_images=True, out=tmp_path / "dataset")
    assert made.n_split_by_id == 0
    assert json.loads((made.folder / files.MANIFEST).read_text())["split_scheme"] == "gzoo-1"


def test_rows_without_labels_and_contradictions_are_dropped_with_a_reason(tmp_path: Path) -> None:
    path = table(tmp_path, file=["a.jpg", "b.jpg", "c.jpg", "c.jpg", "", "d.png", "d.png"],
                 label=["x", "", "x", "y", "y", "y", "y"])  # fmt: skip
    read = read_labels(path)
    assert dict(read.dropped.select("row", "reason").iter_rows()) == {
        2: "label missing",
        3: "duplicate identifier with different labels or images",
        4: "duplicate identifier with different labels or images",
        5: "identifier missing",
        7: "duplicate identifier with the same labels",
    }
    assert read.rows["id_str"].to_list() == ["a", "d"]


def test_kind_of_a_column_follows_from_its_values(tmp_path: Path) -> None:
    n = 60
    path = table(
        tmp_path,
        id_str=[f"g{i}" for i in range(n)],
        yes=["yes" if i % 2 else "no" for i in range(n)],
        flag=[bool(i % 2) for i in range(n)],
        code=[f"0{i % 2}" for i in range(n)],
        none=["none" if i % 2 else "ring" for i in range(n)],
        gap=[None if i == 3 else i for i in range(n)],
        name=[f"name {i}" for i in range(n)],
        empty=[None] * n,
        split=["train"] * n,
    )
    read = read_labels(path)
    assert [(one.name, one.kind, one.classes) for one in read.campaign.labels] == [
        ("yes", "class", ("no", "yes")),
        ("flag", "class", ("false", "true")),
        ("code", "class", ("00", "01")),
        ("none", "class", ("none", "ring")),
        ("gap", "number", ()),
        ("name", "string", ()),
    ]
    assert read.excluded == ("empty", "split")
    assert any("--split-column split" in text for text in read.warnings)


def test_number_that_is_none_is_refused_with_its_row(tmp_path: Path) -> None:
    path = table(tmp_path, id_str=["a", "b", "c", "d"], z=["0.1", "0.2", "high", "0.3"])
    with pytest.raises(TableError, match=r"row 3: z is 'high', but most other values are numbers"):
        read_labels(path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id_str": ["a"]}, "does not contain a column of labels"),
        ({"name": ["a"], "label": ["x"]}, "Column 'id_str' not found"),
    ],
)
def test_tables_that_cannot_be_used_are_refused(tmp_path: Path, columns: dict[str, list[object]], message: str) -> None:
    with pytest.raises(TableError, match=message):
        read_labels(table(tmp_path, **columns))


def test_labels_and_campaign_exclude_each_other(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="exclude each other"):
        build("gz2", labels=folder / "rings.csv", no_images=True, out=tmp_path / "out")
    with pytest.raises(InputError, match="The campaign is missing"):
        build(votes=folder / "rings.csv", no_images=True, out=tmp_path / "out")
    with pytest.raises(InputError, match="--votes and --labels are mutually exclusive"):
        build(votes=folder / "rings.csv", labels=folder / "rings.csv", no_images=True, out=tmp_path / "out")


def test_votes_of_labels_are_refused(built: BuildResult, folder: Path) -> None:
    with pytest.raises(InputError, match="dataset of labels"):
        score(folder / "rings.csv", built.folder)


def test_command_says_what_it_built(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "dataset"
    words = ["gzoo", "build", "--labels", folder / "rings.csv", "--images", folder / "images", "--out", out]
    monkeypatch.setattr("sys.argv", list(map(str, words)))
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 0
    assert "Labels in column 'label': no ring 19, ring 10 (29 galaxies)." in capsys.readouterr().err
