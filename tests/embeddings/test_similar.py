"""Search by example and outliers: what is found, what is written, and one clear error for each bad input."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

import gzoo
from embedded import SOURCE, write
from gzoo.dataset.open import open_dataset
from gzoo.embeddings.table import embedding_table, open_embeddings, write_embeddings
from gzoo.errors import DatasetError, GZooWarning, InputError, NotFoundError, OutputExistsError

N, WIDTH = 400, 12


@pytest.fixture(scope="module")
def groups(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 galaxies, of which "0" to "39" are of one rare kind, "40" to "79" of another that is somewhat like it."""
    rng = np.random.default_rng(5)
    vectors = rng.normal(0, 1, (N, WIDTH))
    vectors[:40, 0] += 3
    vectors[:80, 1] += 3
    return write(tmp_path_factory.mktemp("groups") / "e.parquet", vectors)


def kinds(table: pl.DataFrame) -> np.ndarray:
    """0 for the first kind, 1 for the second, more for all others."""
    return table["id_str"].cast(pl.Int64).to_numpy() // 40


def test_one_example_is_a_search_for_neighbours(groups: Path) -> None:
    found = gzoo.similar(groups, ["7"], k=10)
    points = open_embeddings(groups).vectors.astype(float)
    points = (points - points.mean(0)) / points.std(0)
    cosine = points @ points[7] / np.linalg.norm(points, axis=1) / np.linalg.norm(points[7])
    cosine[7] = -2
    assert found.table["id_str"].to_list() == [str(i) for i in np.argsort(-cosine)[:10]]
    assert found.table["score"].to_numpy() == pytest.approx(np.sort(cosine)[::-1][:10], abs=1e-6)
    assert found.method == "cosine similarity"
    assert found.n_galaxies == N - 1
    assert len(found.to_dict()["table"]) == 10
    assert "most like 7" in repr(found)


def test_several_examples_find_more_and_unwanted_ones_help(groups: Path) -> None:
    one = gzoo.similar(groups, ["0"], k=30).table
    ten = gzoo.similar(groups, list(map(str, range(10))), k=30)
    assert ten.method == "log-odds up to a constant"
    assert (kinds(ten.table) == 0).sum() > (kinds(one) == 0).sum()
    unwanted = ten.table.filter(kinds(ten.table) == 1)["id_str"].to_list()[:5]
    assert unwanted
    better = gzoo.similar(groups, list(map(str, range(10))), unlike=unwanted, k=30)
    assert (kinds(better.table) == 0).sum() > (kinds(ten.table) == 0).sum()
    assert set(better.table["id_str"]).isdisjoint([*map(str, range(10)), *unwanted])
    assert gzoo.similar(groups, ["0", "0"], k=5).method == "cosine similarity"  # a galaxy named twice counts once


def test_outliers_are_far_from_their_tenth_neighbour(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    vectors = rng.normal(0, 1, (N, WIDTH))
    vectors[:3] *= 6
    vectors[3] *= 40
    path = write(tmp_path / "e.parquet", vectors)
    found = gzoo.outliers(path, k=20, out=tmp_path / "o.csv")
    assert set(found.table["id_str"][:4]) == {"0", "1", "2", "3"}
    assert found.table["id_str"][0] == "3"
    assert found.table["is_likely_artifact"][0]
    assert found.n_likely_artifacts == found.table["is_likely_artifact"].sum() < 10
    points = vectors.astype(np.float16).astype(float)
    points = (points - points.mean(0)) / points.std(0)
    apart = np.sort(np.linalg.norm(points - points[3], axis=1))
    assert found.table["distance"][0] == pytest.approx(apart[10], rel=1e-3)
    assert len(found.table["neighbours"][0]) == 5
    assert "3" not in found.table["neighbours"][0]
    written = pl.read_csv(tmp_path / "o.csv", schema_overrides={"id_str": pl.String})
    assert written["id_str"].equals(found.table["id_str"])
    gzoo.outliers(path, k=20, out=tmp_path / "o.csv", overwrite=True)  # known as an earlier list


def test_of_many_galaxies_neighbours_are_searched_in_a_sample(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gzoo.embeddings.outliers.MAX_REFERENCES", 100)
    found = gzoo.outliers(groups, k=5)
    assert found.n_references == 100
    assert found.table.equals(gzoo.outliers(groups, k=5).table)


@pytest.fixture
def union(tmp_path: Path) -> Path:
    keys = pl.DataFrame({"dataset_name": ["gz2", "gz2", "gz_desi"], "id_str": ["a", "b", "a"]})
    path = tmp_path / "union.parquet"
    write_embeddings(path, [embedding_table(keys, np.eye(3))], SOURCE)
    return path


def test_identifiers_of_a_union_are_named_with_their_dataset(union: Path) -> None:
    assert gzoo.similar(union, ["gz_desi:a"], k=2).like == ("gz_desi:a",)
    assert gzoo.similar(union, ["b"], k=2).table["id_str"].to_list() == ["a", "a"]
    with pytest.raises(InputError, match=r"'a' is in 2 datasets.*\n.*one of: gz2:a, gz_desi:a"):
        gzoo.similar(union, ["a"], k=1)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"ids": ["3999"]}, NotFoundError, r"Galaxy '3999' not found in '.*'\.\n.*such as 399, .*\n.*mean '399'\?"),
        ({"ids": ["1"], "unlike": ["2", "1"]}, InputError, r"'1' is given both as an example and with --unlike"),
        ({"ids": []}, InputError, "No example is given"),
        ({"ids": ["1"], "k": 400}, InputError, "k must be from 1 to 399, .* got 400"),
        ({"ids": ["1"], "k": 0}, InputError, "k must be from 1 to 399"),
        ({"ids": ["1"], "image": "a.jpg"}, InputError, "--image and --run belong together"),
        ({"ids": ["1"], "run": "run"}, InputError, "--image and --run belong together"),
        ({"ids": ["1"], "out": "table.txt"}, InputError, "unknown file type"),
        ({"ids": ["1"], "sheet": "page.png"}, InputError, "Choose another --sheet"),
    ],
)
def test_bad_input_of_a_search_is_one_error(
    groups: Path, given: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        gzoo.similar(groups, **given)  # type: ignore[arg-type]


def test_bad_input_of_outliers_is_one_error(groups: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="k must be from 1 to 400"):
        gzoo.outliers(groups, k=401)
    with pytest.raises(InputError, match="has 3 galaxies"):
        gzoo.outliers(write(tmp_path / "few.parquet", np.eye(3)), k=1)
    (tmp_path / "mine.csv").write_text("notes")
    with pytest.raises(OutputExistsError, match="not a list of outliers"):
        gzoo.outliers(groups, k=1, out=tmp_path / "mine.csv", overwrite=True)


def test_a_search_does_not_load_torch(groups: Path) -> None:
    code = f"import gzoo, sys; gzoo.similar({str(groups)!r}, ['1', '2'], k=3); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_the_table_says_what_was_searched(groups: Path, tmp_path: Path) -> None:
    found = gzoo.similar(groups, ["1", "2"], unlike=["50"], k=3, out=tmp_path / "s.parquet")
    assert pl.read_parquet(tmp_path / "s.parquet").equals(found.table)
    about = json.loads(pq.read_schema(tmp_path / "s.parquet").metadata[b"gzoo"])
    assert about == {"kind": "list of similar galaxies", "like": ["1", "2"], "unlike": ["50"]}


# --- sheets ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def of_dataset(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Vectors of a dataset that depend on nothing."""
    opened = open_dataset(dataset)
    positions = pl.concat([opened.positions(split) for split in opened.splits])
    vectors = np.random.default_rng(7).normal(0, 1, (positions.height, 5))
    source = replace(
        SOURCE, data=str(dataset), data_sha256=opened.digest, splits=tuple(opened.splits), is_simulated=True
    )
    path = tmp_path_factory.mktemp("of_dataset") / "e.parquet"
    write_embeddings(path, [embedding_table(positions.select("dataset_name", "id_str"), vectors, positions)], source)
    return path


def test_a_sheet_shows_images_votes_and_places_and_loads_nothing(of_dataset: Path, tmp_path: Path) -> None:
    ids = open_embeddings(of_dataset).keys["id_str"].to_list()
    made = gzoo.similar(of_dataset, ids[:2], unlike=ids[2:3], k=6, sheet=tmp_path / "s.html")
    page = (tmp_path / "s.html").read_text("utf-8")
    assert page.count('src="data:image/jpeg;base64,') == 9
    assert "image not found" not in page
    assert all(f'<p class="id">{one}</p>' in page for one in [*ids[:3], *made.table["id_str"]])
    assert "Not wanted" in page
    assert "SIMULATED" in page
    assert page.count("legacysurvey.org/viewer?ra=") == 9
    assert re.search(r"<p>(smooth|featured or disk|artifact) \d+", page)
    assert not re.search(r"<script|src=\"(?!data:)|url\(", page)
    assert "default-src 'none'" in page
    with pytest.raises(OutputExistsError):
        gzoo.similar(of_dataset, ids[:1], k=1, sheet=tmp_path / "s.html")


def test_outliers_are_shown_with_their_neighbours(of_dataset: Path, tmp_path: Path) -> None:
    gzoo.outliers(of_dataset, k=4, sheet=tmp_path / "o.html")
    page = (tmp_path / "o.html").read_text("utf-8")
    assert page.count("<img ") == 4 * 6
    assert page.count('<div class="odd">') == 4
    assert "Mahalanobis" in page


def test_images_that_moved_are_found_with_data(of_dataset: Path, dataset: Path, tmp_path: Path) -> None:
    found = open_embeddings(of_dataset)
    moved = tmp_path / "moved.parquet"
    positions = found.table.select("ra", "dec")
    write_embeddings(
        moved, [embedding_table(found.keys, found.vectors, positions)], replace(found.source, data=str(tmp_path / "no"))
    )
    one = found.keys["id_str"][0]
    with pytest.raises(NotFoundError, match=r"are not at '.*no'(.|\n)*--data"):
        gzoo.similar(moved, [one], k=2, sheet=tmp_path / "s.html")
    gzoo.similar(moved, [one], k=2, sheet=tmp_path / "s.html", data=dataset)
    assert (tmp_path / "s.html").read_text("utf-8").count("<img ") == 3
    other = tmp_path / "other.parquet"
    write_embeddings(other, [embedding_table(found.keys, found.vectors)], replace(found.source, data_sha256="0" * 64))
    with pytest.warns(GZooWarning, match="is not the dataset that was embedded"):
        gzoo.outliers(other, k=2, sheet=tmp_path / "o.html")


def test_a_page_is_limited_in_size_and_escapes_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    from gzoo.reports import sheet

    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(8)
    names = ["<b>&'", *map(str, range(20))]
    for name in names:
        Image.fromarray(rng.integers(0, 255, (90, 120, 3), np.uint8)).save(tmp_path / "images" / f"{name}.png")
    (tmp_path / "images" / "3.png").write_bytes(b"no image")
    keys = pl.DataFrame({"dataset_name": pl.Series([None] * 21, dtype=pl.String), "id_str": names})
    path = tmp_path / "e.parquet"
    source = replace(SOURCE, data=str(tmp_path / "images"))
    write_embeddings(path, [embedding_table(keys, rng.normal(0, 1, (21, 4)))], source)
    monkeypatch.setattr(sheet, "MAX_IMAGES", 12)
    monkeypatch.setattr(sheet, "MAX_BYTES", 12 * 96**2 * sheet.BYTES_OF_PIXEL)
    gzoo.similar(path, ["<b>&'"], k=20, sheet=tmp_path / "s.html")
    page = (tmp_path / "s.html").read_text("utf-8")
    assert "<b>" not in page
    assert "&lt;b&gt;&amp;" in page
    assert page.count('<p class="id">') == 13
    assert "8 galaxies of the table are not on this page" in page
    assert len(page) < 12 * 96**2 * sheet.BYTES_OF_PIXEL * 1.5 + 20_000


def test_vectors_of_another_encoder_are_known(tmp_path: Path) -> None:
    other = replace(SOURCE, encoder_sha256="0" * 64, run="theirs")
    assert SOURCE.difference(SOURCE) == ""
    assert SOURCE.difference(other) == "by the encoder of 'theirs'"
    assert SOURCE.difference(replace(SOURCE, preprocessing={"size": 64, "views": 8})) == (
        "with other preprocessing (size 64 instead of 32)"
    )
    with pytest.raises(DatasetError):
        gzoo.similar(tmp_path, ["a"])
