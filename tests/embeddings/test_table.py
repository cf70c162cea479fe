"""The embedding file: what is written is what is read, and what cannot be used is refused with one message."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import gzoo
from embedded import SOURCE, write
from gzoo.embeddings.table import embedding_table, open_embeddings, write_embeddings
from gzoo.errors import DatasetError, GZooError, InputError, NotFoundError

X = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float16)


def test_vectors_keys_positions_and_origin_are_read_back(tmp_path: Path) -> None:
    keys = pl.DataFrame({"dataset_name": ["gz2"] * 6, "id_str": list("abcdef")})
    positions = pl.DataFrame({"ra": [1.0, float("nan"), 3, 4, 5, 6], "dec": [0.5] * 6})
    tables = [embedding_table(keys[part], X[part], positions[part]) for part in (slice(0, 4), slice(4, 6))]
    write_embeddings(tmp_path / "e.parquet", tables, replace(SOURCE, splits=("train", "test")))
    found = gzoo.open_embeddings(tmp_path / "e.parquet")
    assert np.array_equal(found.vectors, X)
    assert found.vectors.dtype == np.float16
    assert np.asarray(found, np.float64).shape == (6, 4)
    assert found.keys.equals(keys)
    assert found.table["ra"].to_list() == [1.0, None, 3, 4, 5, 6]
    assert found.coordinates is None
    assert found.source == replace(SOURCE, splits=("train", "test"))
    assert found.to_dict()["n_galaxies"] == 6
    assert "6 galaxies, 4 features" in repr(found)
    assert pl.read_parquet(tmp_path / "e.parquet")["vector"].to_numpy() == pytest.approx(X)  # others open it too


def test_images_of_no_dataset_have_only_an_identifier(tmp_path: Path) -> None:
    path = write(tmp_path / "e.parquet", X, names=None)
    assert "dataset_name" not in pq.read_schema(path).names
    assert open_embeddings(path).keys["dataset_name"].null_count() == 6


def rewritten(path: Path, vectors: pa.Array) -> Path:
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.schema.get_field_index("vector"), "vector", vectors), path)
    return path


@pytest.mark.parametrize(
    ("vectors", "words"),
    [
        (pa.array([[1.0, 2], [3.0]], pa.list_(pa.float16())), "row 1, galaxy '1': the vector has 1 numbers, .* 2"),
        (pa.array([[1.0, 2], [3.0, np.nan]], pa.list_(pa.float16(), 2)), "row 1, galaxy '1': .*NaN"),
        (pa.array([[1.0, 2], [3.0, 1e9]], pa.list_(pa.float32())), "row 1, galaxy '1': .*infinite"),
        (pa.array([[1.0, 2], None], pa.list_(pa.float16(), 2)), "row 1, galaxy '1' has no vector"),
        (pa.array([[1, 2], [3, 4]], pa.list_(pa.int32())), "type list<.*int32"),
        (pa.array(["a", "b"]), "type string"),
    ],
)
def test_vectors_that_cannot_be_compared_are_refused(tmp_path: Path, vectors: pa.Array, words: str) -> None:
    path = rewritten(write(tmp_path / "e.parquet", X[:2]), vectors)
    with pytest.raises(DatasetError, match=words):
        open_embeddings(path)


def test_what_is_not_an_embedding_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="not found"):
        open_embeddings(tmp_path / "none.parquet")
    (tmp_path / ".half.parquet.gzoo-partial").mkdir()
    with pytest.raises(NotFoundError, match="is not finished"):
        open_embeddings(tmp_path / "half.parquet")
    foreign = tmp_path / "foreign.parquet"
    pl.DataFrame({"id_str": ["a"], "vector": [[1.0]]}).write_parquet(foreign)
    with pytest.raises(DatasetError, match=r"'.*foreign\.parquet' is not an embedding file\."):
        open_embeddings(foreign)
    gzoo.write_predictions(
        tmp_path / "p.parquet",
        pl.DataFrame({"dataset_name": ["gz_rings"], "id_str": ["1"]}),
        np.array([[3.0, 1.0]]),
        gzoo.tree("gz_rings"),
    )
    with pytest.raises(DatasetError, match="is not an embedding file, but a set of predictions"):
        open_embeddings(tmp_path / "p.parquet")
    (tmp_path / "text.parquet").write_text("no Parquet")
    with pytest.raises(DatasetError, match="Cannot read"):
        open_embeddings(tmp_path / "text.parquet")
    with pytest.raises(InputError, match="contains no galaxies"):
        open_embeddings(write(tmp_path / "empty.parquet", X[:0]))
    path = write(tmp_path / "e.parquet", X)
    about = json.loads(pq.read_schema(path).metadata[b"gzoo"])
    del about["encoder_sha256"]
    pq.write_table(pq.read_table(path).replace_schema_metadata({"gzoo": json.dumps(about)}), path)
    with pytest.raises(DatasetError, match=r"does not say what made its vectors: .*encoder_sha256"):
        open_embeddings(path)


def test_a_damaged_file_is_one_error(tmp_path: Path) -> None:
    path = write(tmp_path / "e.parquet", np.tile(X, (50, 1)))
    data = bytearray(path.read_bytes())
    for place in range(4, len(data), 37):
        damaged = bytearray(data)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        try:
            open_embeddings(path)
        except GZooError:
            continue


def test_numbers_beyond_float16_are_refused_when_written() -> None:
    keys = pl.DataFrame({"dataset_name": ["gz2"], "id_str": ["a"]})
    with pytest.raises(DatasetError, match=r"Galaxy 'a': .*65,504"):
        embedding_table(keys, np.array([[1e5, 0.0]]))


def test_the_file_opens_without_torch(tmp_path: Path) -> None:
    path = write(tmp_path / "e.parquet", X)
    code = f"import gzoo, sys; gzoo.open_embeddings({str(path)!r}); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
