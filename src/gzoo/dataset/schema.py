"""The columns of a dataset: names, order, Arrow types, units and meaning.

`gzoo.dataset.schema.record(campaign)` is the only place that defines a row of a published dataset.
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
from gzoo.trees.definition import Label

KEY = ("dataset_name", "id_str")
"""The columns that together identify a row."""
IMAGE_TYPE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
ARROW_TYPES: dict[str, pa.DataType] = {
    "image": IMAGE_TYPE,
    "string": pa.string(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "class_label": pa.int64(),  # as `datasets` stores classes
    "float32": pa.float32(),
    "float64": pa.float64(),
}


def array(values: pl.Series | npt.NDArray[Any] | Sequence[str], kind: pa.DataType) -> pa.Array:
    """Return an Arrow array without nulls, converted by polars, because pyarrow would import pandas first.

    >>> array(["a", "b"], pa.string()).to_pylist()
    ['a', 'b']
    """
    made = pl.Series(values=values).to_arrow(compat_level=pl.CompatLevel.oldest())
    return made if made.type == kind else made.cast(kind)


@dataclass(frozen=True, slots=True)
class Field:
    """A column.

    Attributes:
        name: The column's name.
        dtype: "image", "string", "int32", "int64", "float32" or "float64", as the Hub spells them, or "class_label".
        meaning: Its content, with units and the value that means "unknown".
        classes: Names of the classes in the order of their numbers; empty for the other types.
    """

    name: str
    dtype: str
    meaning: str
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """The columns of a row, in order."""

    fields: tuple[Field, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Column names, in order."""
        return tuple(field.name for field in self.fields)

    def arrow(self) -> pa.Schema:
        """Return the Arrow schema, whose metadata contains the features for `datasets`."""
        columns = [pa.field(field.name, ARROW_TYPES[field.dtype]) for field in self.fields]
        return pa.schema(columns, metadata={"huggingface": json.dumps({"info": {"features": self.features()}})})

    def features(self) -> dict[str, dict[str, object]]:
        """Return the features in the form that `datasets` writes to Parquet files."""
        return {field.name: _feature(field) for field in self.fields}

    def card_features(self) -> list[dict[str, object]]:
        """Return the features in the form of a dataset card."""
        return [
            {
                "name": field.name,
                "dtype": {"class_label": {"names": {str(i): name for i, name in enumerate(field.classes)}}}
                if field.classes
                else field.dtype,
            }
            for field in self.fields
        ]


def _feature(field: Field) -> dict[str, object]:
    if field.dtype == "image":
        return {"_type": "Image"}
    if field.dtype == "class_label":
        return {"names": list(field.classes), "_type": "ClassLabel"}
    return {"dtype": field.dtype, "_type": "Value"}


def record(campaign: Campaign, *, image: bool = True, source_id: bool = False) -> Record:
    """Return the columns of a campaign's published dataset.

    Args:
        campaign: The campaign.
        image: Whether there is a column of images.
        source_id: Whether there is a column of the survey's own identifier.

    >>> from gzoo.trees.campaign import campaign
    >>> record(campaign("gz2")).names[:6]
    ('image', 'id_str', 'dataset_name', 'ra', 'dec', 'smooth-or-featured-gz2_smooth')
    """
    is_full = campaign.hub.layout == "full"
    shown = "The image" if campaign.labels else "The image that volunteers classified"
    fields = [Field("image", "image", f"{shown}, encoded as in its source file.")] * image
    fields.append(Field("id_str", "string", "Identifier of the galaxy, unique within its dataset_name."))
    if is_full:
        of_row = "Name of the dataset" if campaign.labels else "Campaign of the row"
        fields.append(Field("dataset_name", "string", f"{of_row}."))
    fields += [
        Field("ra", "float64", "Right ascension (ICRS, degrees); NaN if unknown."),
        Field("dec", "float64", "Declination (ICRS, degrees); NaN if unknown."),
    ]
    if source_id:
        fields.append(Field("source_id", "string", "The survey's own identifier of the galaxy; '' if unknown."))
    fields += map(_of_label, campaign.labels)
    for question in campaign.published_tree.questions:
        for i, (answer, column) in enumerate(zip(question.answers, question.columns, strict=True)):
            fields.append(Field(column, "int32", f"Volunteers who answered '{answer}' to {question.name}."))
            if not is_full:
                continue
            fields.append(
                Field(f"{column}_fraction", "float32", f"Vote fraction of '{answer}'; NaN if nobody answered.")
            )
            if i == 0:
                fields.append(Field(question.total_column, "int32", f"Volunteers who answered {question.name}."))
    if is_full and campaign.published_tree.questions:
        fields.append(Field("summary", "string", "Summary label; '' if undefined."))
    return Record(tuple(fields))


_OF_LABELS = {
    "class": ("class_label", "-1 if unknown."),
    "integer": ("int64", ""),
    "number": ("float64", "NaN if unknown."),
    "string": ("string", "'' if unknown."),
}


def _of_label(label: Label) -> Field:
    dtype, unknown = _OF_LABELS[label.kind]
    meaning = label.meaning or f"Column '{label.name}' of the table of labels."
    classes = f"Classes: {', '.join(f'{i} {name}' for i, name in enumerate(label.classes))};" if label.classes else ""
    return Field(label.name, dtype, " ".join(filter(None, (meaning, classes, unknown))), label.classes)
