"""The mapping file: which column of a table is which column of the dataset."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from gzoo.errors import NotFoundError, TableError
from gzoo.trees.campaign import Campaign

MAX_TOLERANCE = 0.2  # of a vote; at 0.5 any number would be whole
_TEXTS = ("id_str", "source_id", "image", "ra", "dec", "dataset_name", "split", "table")


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column of a table is which column of the dataset: the content of a mapping file.

    Attributes:
        id_str: Column of the identifier.
        source_id: Column of the survey's own identifier, or "".
        image: Column of the image's file name, or "" to look for `{id_str}.jpg`, `.jpeg` or `.png`.
        ra: Column of the right ascension in degrees, or "".
        dec: Column of the declination in degrees, or "".
        dataset_name: Column of the dataset's name, or "".
        split: Column that names each galaxy's split, or "" where the split follows from place or identifier.
        table: Name of the table in a FITS or VOTable file that holds several, or "" for the first with rows.
        values: What the answers' columns hold: "counts" of people, or "fractions" of the question's total; in a table
            of predictions "concentrations" or "fractions".
        tolerance: How far fraction x total may be from a whole number, in votes.
        answers: Dataset column -> table column.
        totals: Question -> table column with the people asked.
        ignore: Patterns (`t0*_fraction`) of table columns to leave out on purpose.
        source: Name of the mapping file, or "".
    """

    id_str: str = "id_str"
    source_id: str = ""
    image: str = ""
    ra: str = ""
    dec: str = ""
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
        """Every table column that has a meaning here."""
        single = (self.id_str, self.source_id, self.image, self.ra, self.dec, self.dataset_name, self.split)
        return tuple(name for name in (*single, *self.answers.values(), *self.totals.values()) if name)

    @classmethod
    def read(cls, path: Path) -> Columns:
        """The mapping in a TOML file.

        Raises:
            NotFoundError: There is no such file.
            TableError: It is not TOML, or holds keys that are no part of a mapping.
        """
        if not path.is_file():
            raise NotFoundError(f"There is no mapping file {path}.", "A TOML file.", "Check --columns.")
        try:
            facts = tomllib.loads(path.read_text("utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise TableError(
                f"{path} is not TOML: {error}.", 'Lines such as `id_str = "objid"`.', "Mend the file."
            ) from error
        for key, value in facts.items():
            if not _fits(key, value):
                raise TableError(
                    f"{path} has {key} = {value!r}.",
                    f"Texts for {', '.join(sorted(_TEXTS))}; a list of texts for ignore; tables of texts for "
                    '[answers] and [totals]; "counts", "fractions" or "concentrations" for values; a number above 0 '
                    f"and up to {MAX_TOLERANCE} for tolerance.",
                    "Mend or remove that line.",
                )
        ignore = tuple(cast(list[str], facts.pop("ignore", [])))
        return cls(**cast("dict[str, str]", facts), ignore=ignore, source=path.name)  # type: ignore[arg-type]

    @classmethod
    def by_name(cls, columns: list[str], campaign: Campaign) -> Columns:
        """The mapping of a table whose columns already bear the dataset's names."""
        questions = campaign.tree.questions
        given = {name: name for name in ("source_id", "ra", "dec", "dataset_name") if name in columns}
        return cls(
            **given,  # type: ignore[arg-type]
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


def _fits(key: str, value: object) -> bool:
    if key in _TEXTS:
        return isinstance(value, str)
    if key == "ignore":
        return isinstance(value, list) and all(isinstance(item, str) for item in cast(list[object], value))
    if key == "values":
        return value in ("counts", "fractions", "concentrations")
    if key == "tolerance":
        return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= MAX_TOLERANCE
    is_table = key in {"answers", "totals"} and isinstance(value, dict)
    return is_table and all(isinstance(item, str) for item in cast(dict[str, object], value).values())
