"""Embedding files to test with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from gzoo.embeddings.table import Source, embedding_table, write_embeddings

SOURCE = Source(
    encoder="resnet18",
    encoder_sha256="e" * 64,
    run="run",
    run_sha256=None,
    preprocessing={"size": 32, "views": 8},
    data="dataset",
    data_sha256="d" * 64,
    splits=(),
    is_simulated=None,
)


def write(path: Path, vectors: npt.NDArray[np.floating], *, names: str | None = "gz2", source: Source = SOURCE) -> Path:
    """Write vectors of galaxies "0", "1", ..."""
    n = len(vectors)
    keys = pl.DataFrame({"dataset_name": pl.Series([names] * n, dtype=pl.String), "id_str": [str(i) for i in range(n)]})
    keys = keys.with_columns(pl.col("id_str").cast(pl.String))
    write_embeddings(path, [embedding_table(keys, vectors)], source)
    return path
