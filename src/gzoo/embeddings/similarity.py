"""Search by example: the galaxies most like one or several others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from gzoo.dataset.schema import KEY
from gzoo.display import Sheet, Shown, field_values
from gzoo.embeddings.examples import direction
from gzoo.embeddings.identifiers import names_of, rows_of
from gzoo.embeddings.space import Space
from gzoo.embeddings.table import POSITION, Embeddings, open_embeddings
from gzoo.errors import InputError
from gzoo.files import Progress, refuse_file, write_table
from gzoo.trees.tree import FloatArray, IntArray

KIND = "list of similar galaxies"
ENDINGS = (".parquet", ".csv")


@dataclass(frozen=True, slots=True, repr=False)
class Similar(Shown):
    """Galaxies like the examples.

    Attributes:
        table: The galaxies, the most similar first: `dataset_name` and `id_str`, `score`, and `ra` and `dec` where the
            file has positions.
        like: The examples.
        unlike: Galaxies that are not wanted.
        method: What `score` is: "cosine similarity" to one example, or "log-odds up to a constant" of a logistic
            regression, which ranks but is not a probability.
        n_galaxies: Number of galaxies among which was searched.
    """

    table: pl.DataFrame
    like: tuple[str, ...]
    unlike: tuple[str, ...]
    method: str
    n_galaxies: int

    def to_dict(self) -> dict[str, Any]:
        """Return the facts and the galaxies as JSON values."""
        return {**field_values(replace(self, table=pl.DataFrame())), "table": self.table.to_dicts()}

    def to_polars(self) -> pl.DataFrame:
        """Return the galaxies: the attribute `table`."""
        return self.table

    def sheet(self) -> Sheet:
        """Return the first galaxies."""
        return Sheet(
            f"The {self.table.height:,} galaxies most like {', '.join(self.like[:3])}{', ...' * (len(self.like) > 3)}",
            {"of": f"{self.n_galaxies:,} galaxies", "score": self.method, "not like": self.unlike},
            tuple(self.table.columns),
            list(self.table.head(10).iter_rows()),
        )


def similar(
    embeddings: Path | str,
    ids: Sequence[str] = (),
    *,
    unlike: Sequence[str] = (),
    image: Sequence[Path | str] = (),
    run: Path | str | None = None,
    k: int = 50,
    out: Path | str | None = None,
    sheet: Path | str | None = None,
    data: Path | str | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Similar:
    """Find the galaxies most like one or several examples.

    For one example, these are the galaxies with the largest cosine similarity of their standardised features. Several
    examples, or galaxies that are not wanted, are a query by examples: a logistic regression tells the examples from
    1,000 random others. Look at the sheet, add identifiers as examples or with `unlike`, and run again. The search is
    exact and needs no index.

    Args:
        embeddings: File written by `gzoo embed`.
        ids: Identifiers of the examples; `dataset_name:id_str` where several datasets have the same identifier.
        unlike: Identifier of a galaxy that is not wanted.
        image: Image file (JPEG, PNG or FITS) as an example; needs `run`.
        run: Run, folder or name on the Hub of the encoder that made the embeddings.
        k: Number of galaxies to find.
        out: Table of the galaxies to write: `.parquet` or `.csv`.
        sheet: HTML page with their images to write.
        data: Dataset, folder or archive with the images for `sheet`, if it is not where it was when it was embedded.
        seed: Seed of the draw of the other galaxies.
        overwrite: Replace an earlier table or sheet.
        progress: Function to call with (stage, galaxies done, galaxies in total).

    Raises:
        NotFoundError: The file or a galaxy does not exist; the message lists the nearest identifiers.
        DatasetError: It is not an embedding file, or another encoder or preprocessing made it.
        InputError: No example is given, a galaxy is both wanted and not wanted, or `k` is out of range.
        ImageError: An image cannot be decoded.
        OutputExistsError: `out` or `sheet` already exists.

    >>> gzoo.similar("embeddings.parquet", ["588017703996096547"], k=5).table  # doctest: +SKIP
    """
    path, examples = Path(embeddings), list(map(Path, [image] if isinstance(image, Path | str) else image))
    if not ids and not examples:
        raise InputError("No example is given.", "the identifier of a galaxy, or an image.", "Pass an ID or --image.")
    if bool(examples) != (run is not None):
        raise InputError(
            "--image and --run belong together: an image is embedded by the encoder of a run.",
            hint="Pass both of them, or neither.",
        )
    if out is not None:
        refuse_file(Path(out), KIND, ENDINGS, overwrite=overwrite, inputs=[path, *examples])
    if sheet is not None:
        refuse_file(
            Path(sheet), "report", (".html",), overwrite=overwrite, inputs=[path, data, *examples], option="--sheet"
        )
    found = open_embeddings(path)
    like_rows, unlike_rows = (rows_of(found, [one] if isinstance(one, str) else one) for one in (ids, unlike))
    names = names_of(found, np.concatenate([like_rows, unlike_rows]))
    like, not_like = names[: len(like_rows)], names[len(like_rows) :]
    both = [name for name in like if name in not_like]
    if both:
        raise InputError(
            f"Galaxy '{both[0]}' is given both as an example and with --unlike.", hint="Omit one of the two."
        )
    known = np.concatenate([like_rows, unlike_rows])
    if not 1 <= k <= len(found) - len(known):
        raise InputError(
            f"k must be from 1 to {len(found) - len(known):,}, the number of galaxies in '{path}' beside those named, "
            f"got {k:,}.",
            hint="Pass a smaller -k.",
        )
    outside = _embedded(found, examples, run)
    space = Space(found.vectors)
    points = np.concatenate([space.points(like_rows), space.standardised(outside)])
    is_single = len(points) == 1 and not len(unlike_rows)
    if is_single:
        best = space.most_alike(points, k, known)[0]
    else:
        best = space.highest(direction(space, points, space.points(unlike_rows), known, seed), k, known)
    kept = [*KEY, *(name for name in POSITION if name in found.table.columns)]
    score = pl.Series("score", best.scores.astype(np.float32))
    table = found.table.select(kept)[best.rows].insert_column(len(KEY), score)
    made = Similar(
        table=table,
        like=(*like, *map(str, examples)),
        unlike=tuple(not_like),
        method="cosine similarity" if is_single else "log-odds up to a constant",
        n_galaxies=len(found) - len(known),
    )
    if out is not None:
        write_table(Path(out), table, KIND, {"like": list(made.like), "unlike": list(made.unlike)})
    if sheet is not None:
        from gzoo.reports.sheet import write_similar

        write_similar(Path(sheet), made, found, (like_rows, unlike_rows, best.rows), examples, data)
    return made


def _embedded(found: Embeddings, images: Sequence[Path], run: Path | str | None) -> FloatArray:
    """Return the vectors of image files, shape (image, feature)."""
    if not images or run is None:
        return np.empty((0, found.vectors.shape[1]))
    from gzoo.learn.embedding import embed_images

    return embed_images(run, images, found.source, found.path).astype(np.float64)


Rows = tuple[IntArray, IntArray, IntArray]
"""Rows of the examples, of unwanted galaxies, and of the galaxies found."""
