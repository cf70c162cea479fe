"""What columns of labels contain: the number of galaxies of each class, the range of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from gzoo.trees.definition import Label


def summaries(labels: Sequence[Label], shards: Sequence[Path]) -> dict[str, dict[str, object]]:
    """Return column -> what it contains, in all splits together.

    Each has `kind` and `n_known`, the number of galaxies with a label; classes also `classes`, the number of galaxies
    of each; numbers `mean`, `std`, `min` and `max`, which are null without a known value.

    Args:
        labels: The columns.
        shards: The files with all rows.
    """
    columns = pl.concat([pl.read_parquet(path, columns=[one.name for one in labels], glob=False) for path in shards])
    return {one.name: _summary(one, columns[one.name]) for one in labels}


def _summary(label: Label, values: pl.Series) -> dict[str, object]:
    known = values
    if label.kind == "class":
        known = values.filter(values >= 0)
        counts = dict(known.value_counts().iter_rows())
        classes = {name: int(counts.get(i, 0)) for i, name in enumerate(label.classes)}
        return {"kind": label.kind, "n_known": len(known), "classes": classes}
    if label.kind == "string":
        return {"kind": label.kind, "n_known": int((values != "").sum())}
    known = values.filter(values.is_not_nan()) if label.kind == "number" else values
    figures = {"mean": known.mean(), "std": known.std(), "min": known.min(), "max": known.max()}
    return {"kind": label.kind, "n_known": len(known), **figures}


def in_words(summary: Mapping[str, object]) -> str:
    """Return what a column contains as a phrase.

    >>> in_words({"kind": "class", "n_known": 5, "classes": {"no": 3, "yes": 2}})
    'no 3, yes 2'
    >>> in_words({"kind": "number", "n_known": 2, "mean": 0.25, "std": 0.5, "min": 0.0, "max": 1.0})
    '0 to 1, mean 0.25, standard deviation 0.5'
    """
    classes = summary.get("classes")
    if isinstance(classes, Mapping):
        return ", ".join(f"{name} {n:,}" for name, n in classes.items())
    if summary.get("std") is None:
        return "text" if summary["kind"] == "string" else "numbers"
    low, high, mean, std = (f"{summary[name]:.4g}" for name in ("min", "max", "mean", "std"))
    return f"{low} to {high}, mean {mean}, standard deviation {std}"
