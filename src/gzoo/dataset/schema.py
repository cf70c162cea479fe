"""The one record of a dataset: column names, their order, Arrow types, units and meaning.

`gzoo.dataset.schema.record(campaign)` is the only place that says what a row of a published dataset looks like.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import polars as pl
import pyarrow as pa

from gzoo.trees.campaign import Campaign

KEY = ("dataset_name", "id_str")
"""The columns that together name a row."""
IMAGE_TYPE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
ARROW_TYPES: dict[str, pa.DataType] = {
    "image": IMAGE_TYPE,
    "string": pa.string(),
    "int32": pa.int32(),
    "float32": pa.float32(),
    "float64": pa.float64(),
}


def array(values: pl.Series | npt.NDArray[Any] | Sequence[str], kind: pa.DataType) -> pa.Array:
    """A column without nulls, made by polars: before it makes any array pyarrow loads pandas, where that is installed.

    >>> array(["a", "b"], pa.string()).to_pylist()
    ['a', 'b']
    """
    made = pl.Series(values=values).to_arrow(compat_level=pl.CompatLevel.oldest())
    return made if made.type == kind else made.cast(kind)


@dataclass(frozen=True, slots=True)
class Field:
    """One column.

    Attributes:
        name: The column's name.
        dtype: "image", "string", "int32", "float32" or "float64", as the Hub spells them.
        meaning: What it holds, with units and how missing values stand.
    """

    name: str
    dtype: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Record:
    """The columns of one row, in order."""

    fields: tuple[Field, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Column names in order."""
        return tuple(field.name for field in self.fields)

    def arrow(self) -> pa.Schema:
        """Arrow schema, with the features that `datasets` reads from its metadata."""
        columns = [pa.field(field.name, ARROW_TYPES[field.dtype]) for field in self.fields]
        return pa.schema(columns, metadata={"huggingface": json.dumps({"info": {"features": self.features()}})})

    def features(self) -> dict[str, dict[str, str]]:
        """The features as `datasets` writes them into Parquet files."""
        return {
            field.name: {"_type": "Image"} if field.dtype == "image" else {"dtype": field.dtype, "_type": "Value"}
            for field in self.fields
        }

    def card_features(self) -> list[dict[str, str]]:
        """The features as a dataset card lists them."""
        return [{"name": field.name, "dtype": field.dtype} for field in self.fields]


def record(campaign: Campaign, *, image: bool = True, source_id: bool = False) -> Record:
    """The record of a campaign's published dataset.

    Args:
        campaign: The campaign.
        image: Whether rows hold images.
        source_id: Whether rows hold the survey's own identifier.

    >>> from gzoo.trees.campaign import campaign
    >>> record(campaign("gz2")).names[:6]
    ('image', 'id_str', 'dataset_name', 'ra', 'dec', 'smooth-or-featured-gz2_smooth')
    """
    is_full = campaign.hub.layout == "full"
    fields = [Field("image", "image", "The image that volunteers saw, encoded as in its source file.")] * image
    fields.append(Field("id_str", "string", "Identifier of the galaxy, unique within its dataset_name."))
    if is_full:
        fields.append(Field("dataset_name", "string", "The campaign that the row comes from."))
    fields += [
        Field("ra", "float64", "Right ascension in degrees, J2000; NaN where not known."),
        Field("dec", "float64", "Declination in degrees, J2000; NaN where not known."),
    ]
    if source_id:
        fields.append(Field("source_id", "string", "The survey's own identifier of the galaxy; '' where not known."))
    for question in campaign.published_tree.questions:
        for i, (answer, column) in enumerate(zip(question.answers, question.columns, strict=True)):
            fields.append(Field(column, "int32", f"Volunteers who answered '{answer}' to {question.name}."))
            if not is_full:
                continue
            fields.append(
                Field(f"{column}_fraction", "float32", f"'{answer}' as a share of those asked; NaN where nobody was.")
            )
            if i == 0:
                fields.append(Field(question.total_column, "int32", f"Volunteers who answered {question.name}."))
    if is_full:
        fields.append(Field("summary", "string", "One-word class; '' where there is none."))
    return Record(tuple(fields))
