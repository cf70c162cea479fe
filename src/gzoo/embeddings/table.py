"""The embedding file: one Parquet file with a vector for each galaxy.

Columns: `dataset_name` (absent for images that are not in a dataset) and `id_str`, the key; `vector`, a list of float16
of one length; `ra` and `dec` (ICRS, degrees; null if unknown) where a position is known; `x` and `y` where coordinates
of a map were asked for. The metadata, JSON under the key `gzoo`, say which encoder and preprocessing made the vectors
and where the images are; see `Source`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Generator, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from gzoo import files
from gzoo.dataset.schema import KEY
from gzoo.display import Sheet, Shown
from gzoo.errors import DatasetError, InputError, NotFoundError, raise_passing, reason

KIND = "set of embeddings"
VECTOR = "vector"
COORDINATES = ("x", "y")
POSITION = ("ra", "dec")
EXPECTED = "a Parquet file written by `gzoo embed`."

Vectors = npt.NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class Source:
    """What the vectors of a file were made by, and from.

    Attributes:
        encoder: Name of the timm encoder.
        encoder_sha256: Checksum of its weights, the same for a run and for the folder that `gzoo export` makes of it.
        run: Run folder, folder or name on the Hub that it was read from.
        run_sha256: Checksum of the run.json; None if it is not a run.
        preprocessing: What was done to the images: size in pixels, mean and std of each channel, number of orientations
            that are averaged, and more. Vectors are comparable only where encoder and preprocessing are the same.
        data: Where the images are: folder, archive, or `owner/name` on the Hub.
        data_sha256: Checksum of the manifest of a dataset, or of the list of images.
        splits: Splits of the dataset; empty for images that are not in a dataset.
        is_simulated: Whether the galaxies are simulated; None if that is not known.
        campaign: Campaign whose survey says how FITS images are shown; None if that is not known.
        n_corrupt: Number of galaxies that are not in the file, because their image cannot be decoded.
        coordinates: How `x` and `y` were computed, "pca" or "tsne"; None if they are not in the file.
        variance: Fraction of the variance of the standardised features along `x` and `y`, for "pca".
    """

    encoder: str
    encoder_sha256: str
    run: str
    run_sha256: str | None
    preprocessing: Mapping[str, Any]
    data: str
    data_sha256: str
    splits: tuple[str, ...]
    is_simulated: bool | None
    campaign: str | None = None
    n_corrupt: int = 0
    coordinates: str | None = None
    variance: tuple[float, ...] | None = None

    def difference(self, other: Source) -> str:
        """Return how the vectors of another file or image were made differently, as a phrase; "" if they were not."""
        if self.encoder_sha256 != other.encoder_sha256:
            is_other_network = self.encoder != other.encoder
            return f"by the encoder of '{other.run}'" + (f", a {other.encoder}" if is_other_network else "")
        names = [
            name
            for name in {**self.preprocessing, **other.preprocessing}
            if self.preprocessing.get(name) != other.preprocessing.get(name)
        ]
        values = ", ".join(
            f"{name} {other.preprocessing.get(name)} instead of {self.preprocessing.get(name)}" for name in names
        )
        return f"with other preprocessing ({values})" if names else ""


@dataclass(frozen=True, repr=False)
class Embeddings(Shown):
    """The content of an embedding file; `numpy.asarray` returns its vectors.

    Attributes:
        path: The file.
        table: `dataset_name` (null if unknown) and `id_str`; `ra` and `dec`, `x` and `y` where the file has them.
        vectors: Vectors, float16, shape (galaxy, feature), in the order of the table.
        source: What they were made by, and from.
    """

    path: Path
    table: pl.DataFrame
    vectors: Vectors
    source: Source

    def __len__(self) -> int:
        return len(self.vectors)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """Return the vectors."""
        return np.array(self.vectors, dtype=dtype, copy=copy)

    @property
    def keys(self) -> pl.DataFrame:
        """`dataset_name` and `id_str` of each galaxy."""
        return self.table.select(KEY)

    @cached_property
    def coordinates(self) -> npt.NDArray[np.float32] | None:
        """Coordinates on the map, shape (galaxy, 2); None if the file has none."""
        if not set(COORDINATES) <= set(self.table.columns):
            return None
        return self.table.select(COORDINATES).cast(pl.Float32).to_numpy()

    def to_dict(self) -> dict[str, Any]:
        """Return what the file is as JSON values."""
        about = {**asdict(self.source), "splits": list(self.source.splits)}
        return {"path": str(self.path), "n_galaxies": len(self), "n_features": self.vectors.shape[1], **about}

    def sheet(self) -> Sheet:
        """Return what the file is, and the first galaxies."""
        shown = self.table.head(5)
        return Sheet(
            f"Embeddings of {len(self):,} galaxies, {self.vectors.shape[1]:,} features",
            {
                "file": self.path,
                "encoder": self.source.encoder,
                "run": self.source.run,
                "images": self.source.data,
                "splits": self.source.splits,
            },
            tuple(shown.columns),
            list(shown.iter_rows()),
        )


def open_embeddings(path: Path | str) -> Embeddings:
    """Open an embedding file: vectors as a NumPy array, identifiers, and what made them.

    Args:
        path: File written by `gzoo embed`.

    Raises:
        NotFoundError: The file does not exist.
        DatasetError: It is not an embedding file, or contains vectors of several lengths or numbers that are not
            finite.
        InputError: It contains no galaxies.

    >>> gzoo.open_embeddings("embeddings.parquet").vectors.shape  # doctest: +SKIP
    (682, 480)
    """
    path = Path(path)
    source = read_source(path)
    with _reading(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        names = file.schema_arrow.names
        wanted = [name for name in (*KEY, *POSITION, *COORDINATES) if name in names]
        table = cast(pl.DataFrame, pl.from_arrow(file.read(columns=wanted)))
        if "dataset_name" not in names:
            table = table.insert_column(0, pl.lit(None, pl.String).alias("dataset_name"))
        n = file.metadata.num_rows
        vectors: Vectors | None = None
        done = 0
        for group in range(file.num_row_groups):  # so that no more than the result is in memory
            part = _as_array(file.read_row_group(group, columns=[VECTOR])[VECTOR], path, table, done)
            if vectors is None and len(part):
                vectors = np.empty((n, part.shape[1]), np.float16)
            if vectors is None:
                continue
            if part.shape[1] != vectors.shape[1]:
                raise _of_other_length(path, table, done, part.shape[1], vectors.shape[1])
            vectors[done : done + len(part)] = part
            done += len(part)
    if vectors is None:
        raise InputError(
            f"'{path}' contains no galaxies.", "an embedding of one galaxy or more.", "Run `gzoo embed` on other data."
        )
    return Embeddings(path, table, vectors, source)


def read_source(path: Path) -> Source:
    """Return what the vectors of a file were made by, without reading them.

    Raises:
        NotFoundError: The file does not exist.
        DatasetError: It is not an embedding file.
    """
    if not path.exists():
        unfinished = files.partial_name(path.absolute()).exists()
        raise NotFoundError(
            f"Embedding file '{path}' is not finished." if unfinished else f"Embedding file not found: '{path}'.",
            hint="Rerun the same `gzoo embed` command to resume it." if unfinished else "Run `gzoo embed` to write it.",
        )
    with _reading(path):
        schema = pq.read_schema(path)
    try:
        about: object = json.loads((schema.metadata or {}).get(b"gzoo", b"null"))
    except ValueError:
        about = None
    entry = cast("Mapping[str, Any]", about) if isinstance(about, dict) else {}
    if entry.get("kind") != KIND or VECTOR not in schema.names or "id_str" not in schema.names:
        other = entry.get("kind")
        what = f"but a {other}" if isinstance(other, str) and other != KIND else ""
        raise DatasetError(
            f"'{path}' is not an embedding file{f', {what}' if what else ''}.", EXPECTED, "Run `gzoo embed`."
        )
    try:
        known = Source.__dataclass_fields__
        values = {name: value for name, value in entry.items() if name in known}
        values |= {name: tuple(values[name]) for name in ("splits", "variance") if values.get(name) is not None}
        if not isinstance(values.get("preprocessing"), dict):
            raise TypeError("preprocessing is not an object")
        return Source(**values)
    except TypeError as error:
        raise DatasetError(
            f"'{path}' does not say what made its vectors: {reason(error)}.", EXPECTED, "Run `gzoo embed` again."
        ) from error


def embedding_table(
    keys: pl.DataFrame, vectors: npt.NDArray[np.floating[Any]], positions: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Return the table of an embedding file.

    Args:
        keys: `dataset_name` (null if unknown) and `id_str` of each galaxy.
        vectors: Vectors, shape (galaxy, feature).
        positions: `ra` and `dec` in degrees (null or NaN if unknown); None if no position is known.

    Raises:
        DatasetError: A number is not finite, or too large for float16.
    """
    with np.errstate(over="ignore"):
        short = np.ascontiguousarray(vectors, np.float16)
    wrong = ~np.isfinite(short).all(axis=1)
    if wrong.any():
        row = int(wrong.argmax())
        raise DatasetError(
            f"Galaxy '{keys['id_str'][row]}': its vector contains NaN or numbers beyond 65,504.",
            "finite numbers that float16 can contain.",
            "Use another encoder.",
        )
    known = [name for name in KEY if keys[name].null_count() == 0 and keys.height] or ["id_str"]
    table = keys.select(known).with_columns(pl.Series(VECTOR, short, dtype=pl.Array(pl.Float16, short.shape[1])))
    if positions is not None:
        table = table.with_columns(positions.select(pl.col(name).cast(pl.Float64).fill_nan(None) for name in POSITION))
    return table


def write_embeddings(path: Path, tables: Iterable[pl.DataFrame], source: Source) -> None:
    """Write tables of `embedding_table` as a complete embedding file or none; only one is in memory at a time."""
    files.write_tables(path, tables, KIND, asdict(source))


def refuse_embeddings(path: Path, overwrite: bool, inputs: Iterable[Path | str | None] = ()) -> None:
    """Check that an embedding file may be written; see `gzoo.files.refuse_file`."""
    files.refuse_file(path, KIND, (".parquet",), overwrite=overwrite, inputs=inputs)


def _as_array(column: pa.ChunkedArray, path: Path, table: pl.DataFrame, first: int) -> Vectors:
    """Return the vectors of some rows, from row `first` of the file on."""
    values = column.combine_chunks()
    kind = values.type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not is_list or not pa.types.is_floating(kind.value_type):
        raise DatasetError(f"Column '{VECTOR}' of '{path}' has type {kind}.", "lists of float16.", "Run `gzoo embed`.")
    if values.null_count:
        row = int(np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0])
        raise DatasetError(f"{_named(path, table, first + row)} has no vector.", "a vector for each galaxy.")
    lengths = values.value_lengths().to_numpy(zero_copy_only=False)
    if len(lengths) and (lengths != lengths[0]).any():
        row = int((lengths != lengths[0]).argmax())
        raise _of_other_length(path, table, first + row, int(lengths[row]), int(lengths[0]))
    flat = values.flatten()
    width = int(lengths[0]) if len(lengths) else 0
    with np.errstate(over="ignore"):
        array = flat.to_numpy(zero_copy_only=False).reshape(len(values), width).astype(np.float16, copy=False)
    wrong = ~_is_finite(array)
    if wrong.any() or not (width or not len(array)):
        row = int(wrong.argmax())
        raise DatasetError(
            f"{_named(path, table, first + row)}: the vector contains NaN or infinite numbers.",
            "finite numbers.",
            "Run `gzoo embed` again.",
        )
    return array


def _is_finite(vectors: Vectors) -> npt.NDArray[np.bool_]:
    """Return which rows are finite; by their bits, which is many times as fast as numpy's function for float16."""
    exponent = np.uint16(0x7C00)
    return ((vectors.view(np.uint16) & exponent) != exponent).all(axis=1)


def _of_other_length(path: Path, table: pl.DataFrame, row: int, length: int, wanted: int) -> DatasetError:
    return DatasetError(
        f"{_named(path, table, row)}: the vector has {length:,} numbers, the first one has {wanted:,}.",
        "vectors of one length.",
        "Run `gzoo embed` again.",
    )


def _named(path: Path, table: pl.DataFrame, row: int) -> str:
    return f"'{path}', row {row}, galaxy '{table['id_str'][row]}'"


@contextlib.contextmanager
def _reading(path: Path) -> Generator[None]:
    """Explain errors of reading an embedding file.

    Raises:
        DatasetError: The file is damaged, or not Parquet.
        ReadError: The file cannot be read now.
    """
    try:
        yield
    except (pa.ArrowException, pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, UnicodeError) as error:
        raise_passing(path, error)
        raise DatasetError(f"Cannot read '{path}': {reason(error)}.", EXPECTED, "Run `gzoo embed` again.") from error
