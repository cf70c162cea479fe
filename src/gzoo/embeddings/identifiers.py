"""Identifiers that users give: `id_str`, or `dataset_name:id_str` where several datasets have the same."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from difflib import get_close_matches

import numpy as np
import polars as pl

from gzoo.embeddings.table import Embeddings
from gzoo.errors import MAX_CHOICES, InputError, NotFoundError, choices, suggestion
from gzoo.trees.tree import IntArray

N_NEAREST = 40
"""Names next in order, on each side, of which an error lists the most similar: comparing all would take minutes."""


def rows_of(found: Embeddings, ids: Sequence[str]) -> IntArray:
    """Return the rows of galaxies, in the order in which they are named; a galaxy that is named twice counts once.

    Args:
        found: Embeddings.
        ids: Identifiers.

    Raises:
        NotFoundError: An identifier does not exist; the message lists the nearest.
        InputError: It exists in several datasets.
    """
    texts = list(dict.fromkeys(map(str, ids)))
    possible = {text: [text, *(rest for _, rest in _divided(text))] for text in texts}
    wanted = sorted({one for several in possible.values() for one in several})
    keys = found.keys.with_row_index("row").filter(pl.col("id_str").is_in(wanted))
    rows: dict[str, list[tuple[str | None, int]]] = {}
    for row, name, id_str in keys.iter_rows():
        rows.setdefault(id_str, []).append((name, row))
    return np.array(list(dict.fromkeys(_row(text, rows, found) for text in texts)), np.int64)


def names_of(found: Embeddings, rows: IntArray) -> list[str]:
    """Return the identifier by which a user can name each of some galaxies."""
    is_union = found.table["dataset_name"].n_unique() > 1
    return [f"{name}:{id_str}" if is_union and name else id_str for name, id_str in found.keys[rows].iter_rows()]


def _row(text: str, rows: dict[str, list[tuple[str | None, int]]], found: Embeddings) -> int:
    same = rows.get(text, [])
    if len(same) == 1:
        return same[0][1]
    if same:
        raise InputError(
            f"Galaxy '{text}' is in {len(same)} datasets of '{found.path}'.",
            choices([f"{name}:{text}" for name, _ in same]),
            "Pass it with the name of its dataset.",
        )
    matching = [row for name, rest in _divided(text) for other, row in rows.get(rest, []) if other == name]
    if matching:
        return matching[0]
    nearest = _nearest(found.keys, text)
    raise NotFoundError(
        f"Galaxy '{text}' not found in '{found.path}'.",
        f"an identifier of the file, such as {', '.join(get_close_matches(text, nearest, MAX_CHOICES, cutoff=0))}.",
        suggestion(nearest, text, "Check the identifier."),
    )


def _divided(text: str) -> list[tuple[str, str]]:
    """Return every way to read a text as the name of a dataset and an identifier."""
    return [(text[:i], text[i + 1 :]) for i, letter in enumerate(text) if letter == ":"]


def _nearest(keys: pl.DataFrame, text: str) -> list[str]:
    """Return identifiers that begin or end like a text."""
    found: dict[str, None] = {}
    for turned in (False, True):
        texts = sorted(one[::-1] if turned else one for one in keys["id_str"])
        wanted = text.rpartition(":")[2]
        place = bisect_left(texts, wanted[::-1] if turned else wanted)
        found |= dict.fromkeys(
            one[::-1] if turned else one for one in texts[max(place - N_NEAREST, 0) : place + N_NEAREST]
        )
    return list(found)
