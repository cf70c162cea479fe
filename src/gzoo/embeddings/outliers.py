"""Galaxies unlike all others, and the artifacts among them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from gzoo.dataset.schema import KEY
from gzoo.display import Sheet, Shown, field_values
from gzoo.embeddings.identifiers import names_of
from gzoo.embeddings.space import Space
from gzoo.embeddings.table import POSITION, open_embeddings
from gzoo.errors import InputError
from gzoo.files import Progress, refuse_file, write_table
from gzoo.trees.tree import FloatArray, IntArray

KIND = "list of outliers"
ENDINGS = (".parquet", ".csv")
RANK = 10
"""Number of the neighbour to which the distance is measured: a pair or a small group of odd galaxies is still odd."""
MAX_REFERENCES = 20_000
"""Galaxies among which neighbours are searched; beyond, a random sample of so many."""
N_NEIGHBOURS = 5
"""Nearest neighbours that are named beside each outlier."""
N_COMPONENTS = 64
"""Principal components of the Mahalanobis distance; the variance of the others is mostly noise."""
ARTIFACT_SIGMA = 5.0
"""Galaxies whose logarithm of the Mahalanobis distance is so many standard deviations above the median are likely
artifacts."""


@dataclass(frozen=True, slots=True, repr=False)
class Outliers(Shown):
    """Galaxies unlike all others.

    Attributes:
        table: The galaxies, the most unlike first: `dataset_name` and `id_str`; `distance` to the tenth neighbour and
            `mahalanobis` distance from the mean, both in standard deviations; `is_likely_artifact`; `neighbours`, the
            identifiers of the five nearest galaxies; `ra` and `dec` where the file has positions.
        n_galaxies: Number of galaxies.
        n_references: Number of galaxies among which neighbours were searched: all, or a random sample.
        n_likely_artifacts: Number of likely artifacts in the table.
    """

    table: pl.DataFrame
    n_galaxies: int
    n_references: int
    n_likely_artifacts: int

    def to_dict(self) -> dict[str, Any]:
        """Return the facts and the galaxies as JSON values."""
        return {**field_values(replace(self, table=pl.DataFrame())), "table": self.table.to_dicts()}

    def to_polars(self) -> pl.DataFrame:
        """Return the galaxies: the attribute `table`."""
        return self.table

    def sheet(self) -> Sheet:
        """Return the first galaxies."""
        shown = self.table.select(*KEY, "distance", "mahalanobis", "is_likely_artifact")
        return Sheet(
            f"The {self.table.height:,} galaxies of {self.n_galaxies:,} most unlike the others",
            {"likely artifacts": self.n_likely_artifacts},
            tuple(shown.columns),
            list(shown.head(10).iter_rows()),
        )


def outliers(
    embeddings: Path | str,
    *,
    k: int = 100,
    out: Path | str | None = None,
    sheet: Path | str | None = None,
    data: Path | str | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Outliers:
    """Find the galaxies that are most unlike all others.

    They have the largest distance to their tenth nearest neighbour, in the space of standardised features. Of more than
    20,000 galaxies, neighbours are searched among a random sample. A galaxy that is far from the mean of all, measured
    in standard deviations along the principal components (Mahalanobis distance), is marked as a likely artifact.

    Args:
        embeddings: File written by `gzoo embed`.
        k: Number of galaxies to find.
        out: Table of the galaxies to write: `.parquet` or `.csv`.
        sheet: HTML page to write with their images, their nearest neighbours beside them.
        data: Dataset, folder or archive with the images for `sheet`, if it is not where it was when it was embedded.
        seed: Seed of the draw of the sample.
        overwrite: Replace an earlier table or sheet.
        progress: Function to call with (stage, galaxies done, galaxies in total).

    Raises:
        NotFoundError: The file does not exist.
        DatasetError: It is not an embedding file.
        InputError: `k` is out of range, or there are too few galaxies.
        OutputExistsError: `out` or `sheet` already exists.

    >>> gzoo.outliers("embeddings.parquet", k=20).table  # doctest: +SKIP
    """
    path = Path(embeddings)
    if out is not None:
        refuse_file(Path(out), KIND, ENDINGS, overwrite=overwrite, inputs=[path])
    if sheet is not None:
        refuse_file(Path(sheet), "report", (".html",), overwrite=overwrite, inputs=[path, data], option="--sheet")
    found = open_embeddings(path)
    n = len(found)
    if n <= RANK + 1:
        raise InputError(f"'{path}' has {n} galaxies.", f"more than {RANK + 1}, because neighbours are compared.")
    if not 1 <= k <= n:
        raise InputError(f"k must be from 1 to {n:,}, the number of galaxies in '{path}', got {k:,}.",
                         hint="Pass a smaller -k.")  # fmt: skip
    space = Space(found.vectors)
    references = _references(n, seed)
    distance = space.neighbour_distances(RANK, references, progress)
    mahalanobis = mahalanobis_distances(space)
    rows = np.lexsort((np.arange(n), -distance))[:k]
    neighbours = neighbours_of(space, rows, N_NEIGHBOURS)
    is_artifact = likely_artifacts(mahalanobis)[rows]
    kept = [*KEY, *(name for name in POSITION if name in found.table.columns)]
    named = iter(names_of(found, np.concatenate(neighbours)))
    table = found.table.select(kept)[rows].with_columns(
        pl.Series("distance", distance[rows].astype(np.float32)),
        pl.Series("mahalanobis", mahalanobis[rows].astype(np.float32)),
        pl.Series("is_likely_artifact", is_artifact),
        pl.Series("neighbours", [[next(named) for _ in one] for one in neighbours], dtype=pl.List(pl.String)),
    )
    made = Outliers(table, n, len(references), int(is_artifact.sum()))
    if out is not None:
        is_csv = Path(out).suffix == ".csv"
        write_table(Path(out), table.with_columns(pl.col("neighbours").list.join(" ")) if is_csv else table, KIND)
    if sheet is not None:
        from gzoo.reports.sheet import write_outliers

        write_outliers(Path(sheet), made, found, rows, neighbours, data)
    return made


def mahalanobis_distances(space: Space) -> FloatArray:
    """Return the distance of each galaxy from the mean, in standard deviations along principal components."""
    variances, directions = space.principal_components
    n = min(N_COMPONENTS, int((variances > 1e-6 * variances[0]).sum()))
    components = space.projected(directions[:n]) / np.sqrt(variances[:n])
    return np.sqrt((components.astype(np.float64) ** 2).sum(axis=1))


def likely_artifacts(distances: FloatArray) -> npt.NDArray[np.bool_]:
    """Return which galaxies are so far from the mean that they are likely artifacts."""
    logarithms = np.log(np.maximum(distances, 1e-6))
    middle = np.median(logarithms)
    sigma = 1.4826 * np.median(np.abs(logarithms - middle))
    return logarithms > middle + ARTIFACT_SIGMA * sigma


def neighbours_of(space: Space, rows: IntArray, n: int) -> list[IntArray]:
    """Return the rows of the nearest galaxies of each of some galaxies, the nearest first."""
    n = min(n, len(space) - 1)
    found = space.nearest(space.points(rows), n + 1)
    return [one.rows[one.rows != row][:n] for one, row in zip(found, rows, strict=True)]


def _references(n: int, seed: int) -> IntArray:
    if n <= MAX_REFERENCES:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, MAX_REFERENCES, replace=False))
