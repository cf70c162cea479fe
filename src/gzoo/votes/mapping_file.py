"""Mapping files: which column of a table is which column of the dataset."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from gzoo.errors import NotFoundError, TableError, reason
from gzoo.trees.campaign import Campaign

MAX_TOLERANCE = 0.2  # votes; at 0.5 any number would be an integer
_STRINGS = ("id_str", "source_id", "image", "ra", "dec", "dataset_name", "split", "table", "unit")


@dataclass(frozen=True, slots=True)
class MappingFile:
    """Content of a mapping file: which column of a table is which column of the dataset.

    Attributes:
        id_str: Column of the identifier.
        source_id: Column of the survey's own identifier, or "".
        image: Column of the image's file name, or "" to look for `{id_str}.jpg`, `.jpeg` or `.png`.
        ra: Column of the right ascension, or "".
        dec: Column of the declination, or "".
        unit: Unit of both ("deg", "rad", "hourangle", "arcmin", "arcsec"), or "" for the one that the file declares,
            otherwise degrees. With "hourangle", only ra is in hours.
        dataset_name: Column of the dataset's name, or "".
        split: Column of the galaxy's split, or "" if the split follows from position or identifier.
        table: Name of the table in a FITS or VOTable file with several, or "" for the first with rows.
        values: Content of the answers' columns: vote "counts", or "fractions" of the total votes; in a table of
            predictions "concentrations" or "fractions".
        tolerance: Largest difference of fraction x total from an integer, in votes.
        answers: Dataset column -> table column.
        totals: Question -> table column of its total votes.
        ignore: Patterns (`t0*_fraction`) of table columns that are not used.
        source: Name of the mapping file, or "".
    """

    id_str: str = "id_str"
    source_id: str = ""
    image: str = ""
    ra: str = ""
    dec: str = ""
    unit: str = ""
    dataset_name: str = ""
    split: str = ""
    table: str = ""
    values: str = "counts"
    tolerance: float = 0.02
    answers: Mapping[str, str] = field(default_factory=dict[str, str])
    totals: Mapping[str, str] = field(default_factory=dict[str, str])
    ignore: tuple[str, ...] = ()
    source: str = ""

    @property
    def named(self) -> tuple[str, ...]:
        """Table columns that this mapping uses."""
        single = (self.id_str, self.source_id, self.image, self.ra, self.dec, self.dataset_name, self.split)
        return tuple(name for name in (*single, *self.answers.values(), *self.totals.values()) if name)

    @classmethod
    def read(cls, path: Path | str) -> MappingFile:
        """Read a mapping from a TOML file.

        Raises:
            NotFoundError: The file does not exist.
            TableError: It is not TOML, or contains unknown keys or wrong values.
        """
        path = Path(path)
        if not path.is_file():
            raise NotFoundError(f"Mapping file not found: '{path}'.", "", "Check the path passed to `--mapping`.")
        try:
            content = tomllib.loads(path.read_text("utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise TableError(
                f"Cannot parse mapping file '{path}': {reason(error)}.",
                'TOML, with lines such as `id_str = "objid"`.',
                "Correct the syntax, or write the file again with `gzoo mapping`.",
            ) from error
        for key, value in content.items():
            if not _is_valid(key, value):
                raise TableError(
                    f"Mapping file '{path}' has {key} = {value!r}.",
                    f"strings for {', '.join(sorted(_STRINGS))}; a list of strings for ignore; tables of strings for "
                    '[answers] and [totals]; "counts", "fractions" or "concentrations" for values; a number above 0 '
                    f"and up to {MAX_TOLERANCE} for tolerance.",
                    "Correct or remove this line.",
                )
        ignore = tuple(cast(list[str], content.pop("ignore", [])))
        return cls(**cast("dict[str, str]", content), ignore=ignore, source=path.name)  # type: ignore[arg-type]

    @classmethod
    def by_name(cls, columns: Sequence[str], campaign: Campaign) -> MappingFile:
        """Return the mapping of a table whose columns already have the dataset's names."""
        questions = campaign.tree.questions
        same = {name: name for name in ("source_id", "ra", "dec", "dataset_name") if name in columns}
        return cls(
            **same,  # type: ignore[arg-type]
            image=next((name for name in ("filename", "file_name") if name in columns), ""),
            answers={name: name for question in questions for name in question.columns if name in columns},
            totals={question.name: question.total_column for question in questions if question.total_column in columns},
            ignore=(
                "image",
                "summary",
                *(f"{name}{end}" for name in campaign.tree.columns for end in ("_fraction", "_weighted_fraction")),
                *(f"{question.name}_effective-votes" for question in questions),
            ),
        )


def _is_valid(key: str, value: object) -> bool:
    if key in _STRINGS:
        return isinstance(value, str)
    if key == "values":
        return value in ("counts", "fractions", "concentrations")
    if key == "tolerance":
        return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= MAX_TOLERANCE
    items: list[object] | None = None
    if key == "ignore" and isinstance(value, list):
        items = cast(list[object], value)
    elif key in ("answers", "totals") and isinstance(value, dict):
        items = list(cast(dict[str, object], value).values())
    return items is not None and all(isinstance(item, str) for item in items)
