"""The images of the galaxies of an embedding file, and what is known of them, for a sheet."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import polars as pl

from gzoo.dataset.images import Images
from gzoo.dataset.open import Dataset, open_dataset
from gzoo.dataset.schema import KEY
from gzoo.embeddings.table import Source
from gzoo.errors import DatasetError, GZooError, GZooWarning, InputError, NotFoundError, raise_passing
from gzoo.images.archives import Source as Files
from gzoo.images.archives import open_source
from gzoo.images.checks import SUFFIXES
from gzoo.images.fits import render
from gzoo.trees import campaign as campaigns
from gzoo.trees.labels import words

MAX_QUESTIONS = 2  # whose votes are shown


@dataclass(frozen=True, slots=True)
class Shown:
    """A galaxy as a sheet shows it.

    Attributes:
        image: Its image as it is stored; None if there is none, or it cannot be read.
        facts: What its dataset says of it, such as its votes on the first question.
    """

    image: bytes | None
    facts: tuple[str, ...]


def show(source: Source, keys: pl.DataFrame, data: Path | str | None = None) -> list[Shown]:
    """Return image and votes of some galaxies.

    Args:
        source: Where the embedding file says the images are.
        keys: `dataset_name` and `id_str` of each galaxy.
        data: Where they are now; by default as the file says.

    Raises:
        NotFoundError: The dataset, folder or archive does not exist.
        InputError: It contains none of the galaxies.
    """
    where = data if data is not None else source.data
    try:
        if not source.splits:
            return _of_files(Path(where), keys, source)
        opened = open_dataset(where)
    except NotFoundError as error:
        raise NotFoundError(
            f"The images of the galaxies are not at '{where}': {error.message}",
            "the dataset, folder or archive that was embedded.",
            "Pass its path with --data.",
        ) from error
    if opened.digest != source.data_sha256:
        warnings.warn(
            GZooWarning(f"'{where}' is not the dataset that was embedded, or was rebuilt since."), stacklevel=3
        )
    return _of_dataset(opened, source, keys)


def _of_dataset(dataset: Dataset, source: Source, keys: pl.DataFrame) -> list[Shown]:
    images = Images(dataset)
    places: dict[tuple[str, str], tuple[int, str, int]] = {}
    wanted = keys.select(KEY).unique()
    first = 0
    for split in dataset.splits:
        table = dataset.table(split, []).select(KEY).with_row_index("row")
        for row, *key in table.join(wanted, on=KEY, how="semi").select("row", *KEY).iter_rows():
            places[key[0], key[1]] = first + row, split, row
        first += dataset.n_galaxies[split]
    if not places and keys.height:
        raise _none_found(str(dataset.folder))
    rows_of: dict[str, list[int]] = {}
    for _, split, row in places.values():
        rows_of.setdefault(split, []).append(row)
    facts = {
        (split, row): text
        for split, rows in rows_of.items()
        for row, text in zip(rows, _facts(dataset, split, rows), strict=True)
    }
    found: list[Shown] = []
    for key in keys.select(KEY).iter_rows():
        place = places.get((key[0], key[1]))
        if place is None:
            found.append(Shown(None, ()))
            continue
        try:
            image = images.read(place[0]) if images.are_there else None
        except (DatasetError, NotFoundError):
            image = None
        found.append(Shown(image, facts[place[1], place[2]]))
    return found


def _facts(dataset: Dataset, split: str, rows: Sequence[int]) -> list[tuple[str, ...]]:
    """Return the votes on the first questions, or the labels, of some rows of a split."""
    known = dataset.column_types
    if dataset.campaign.labels:
        names = [one.name for one in dataset.campaign.labels if one.name in known]
        classes = {one.name: one.classes for one in dataset.campaign.labels}
        table = dataset.table(split, names).select(names)[list(rows)]
        return [
            tuple(f"{name}: {_label(value, classes[name])}" for name, value in row.items())
            for row in table.iter_rows(named=True)
        ]
    roots = [one for one in dataset.tree.questions if not one.parents and set(one.columns) <= set(known)]
    columns = [column for question in roots for column in question.columns]
    table = dataset.table(split, columns).select(columns)[list(rows)] if columns else None
    facts: list[tuple[str, ...]] = []
    for i in range(len(rows)):
        row = table.row(i, named=True) if table is not None else {}
        asked = [one for one in roots if sum(row[column] or 0 for column in one.columns)][:MAX_QUESTIONS]
        facts.append(
            tuple(
                ", ".join(
                    f"{words(answer)} {row[column]:,.0f}"
                    for answer, column in zip(one.answers, one.columns, strict=True)
                    if row[column]
                )
                for one in asked
            )
        )
    return facts


def _label(value: object, classes: Sequence[str]) -> str:
    if value is None:
        return "unknown"
    if classes and isinstance(value, int):
        return classes[value] if 0 <= value < len(classes) else "unknown"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _of_files(path: Path, keys: pl.DataFrame, source: Source) -> list[Shown]:
    opened, listing, _ = open_source(path)
    names = {
        PurePosixPath(name).stem: name
        for name in listing
        if name.lower().endswith(SUFFIXES) and not PurePosixPath(name).name.startswith(".")
    }
    ids = keys["id_str"].to_list()
    if ids and not names.keys() & set(ids):
        raise _none_found(str(path))
    return [Shown(_read(opened, names[one], source) if one in names else None, ()) for one in ids]


def _read(opened: Files, name: str, source: Source) -> bytes | None:
    known = source.campaign if source.campaign in campaigns.names() else None
    stretch = campaigns.campaign(known).stretch if known else None
    try:
        return render(opened.read(name), name, stretch)
    except GZooError:
        return None
    except OSError as error:
        raise_passing(f"{opened.path}/{name}", error)
        return None


def _none_found(where: str) -> InputError:
    return InputError(
        f"'{where}' contains none of the galaxies.", "the images that were embedded.", "Pass their path with --data."
    )
