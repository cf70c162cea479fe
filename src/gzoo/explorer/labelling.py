"""Labels that are given while looking: the one thing that the page writes, a table for `gzoo train --labels`."""

from __future__ import annotations

import io
import secrets
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from gzoo import files
from gzoo.dataset.schema import KEY
from gzoo.errors import InputError, NotFoundError, TableError, choices, reason
from gzoo.explorer.labels import Labels

MAX_CLASSES = 9  # Shift+1 to Shift+9
MAX_ROWS = 400  # at once


class Labelling:
    """The table of labels of a page: a row for each labelled galaxy, written again with each change.

    Attributes:
        path: The table, a CSV file with `dataset_name`, `id_str` and the column of the labels.
        target: Name of that column.
        classes: Names of the classes, in the order of their keys.
        token: What a request that changes a label must repeat. Only the page of this server can read it.
    """

    def __init__(self, path: Path, labels: Labels, target: str, classes: Sequence[str]) -> None:
        self.path, self.target, self.classes = path, target, tuple(one.strip() for one in classes)
        self.token = secrets.token_urlsafe(24)
        if (
            not 1 <= len(self.classes) <= MAX_CLASSES
            or "" in self.classes
            or len(set(self.classes)) < len(self.classes)
        ):
            raise InputError(
                f"--classes names {len(classes)} classes." if classes else "--labels requires --classes.",
                f"1 to {MAX_CLASSES} different names.",
                'Pass --classes once for each class, such as --classes ring --classes "no ring".',
            )
        if path.suffix != ".csv":
            raise InputError(f"Invalid value for --labels: '{path}'.", "a name that ends in .csv.")
        if target in KEY or not target.strip():
            raise InputError(f"Invalid value for --target: '{target}'.", "a name for the column of labels.")
        if not path.absolute().parent.is_dir():
            raise NotFoundError(
                f"Folder not found: '{path.absolute().parent}'.", hint="Create it, or choose another --labels."
            )
        self._names = list(zip(*(labels.frame[name].to_list() for name in KEY), strict=True))
        self._lock = threading.Lock()
        self._found: dict[tuple[str, str], str] = self._read() if path.exists() else {}
        rows = {name: row for row, name in reversed(list(enumerate(self._names)))}
        self._class_of = {rows[name]: one for name, one in self._found.items() if name in rows}

    def _read(self) -> dict[tuple[str, str], str]:
        """Return the labels of an earlier session."""
        columns = [*KEY, self.target]
        hint = "Choose another file for --labels."
        try:
            table = pl.read_csv(self.path, infer_schema=False, glob=False).fill_null("")
        except (pl.exceptions.PolarsError, OSError) as error:
            raise TableError(f"Cannot read '{self.path}': {reason(error)}.", "a table of labels.", hint) from error
        if table.columns != columns:
            raise TableError(
                f"'{self.path}' has the columns {', '.join(table.columns)[:200]}.", f"{', '.join(columns)}.", hint
            )
        return {(one[0], one[1]): one[2] for one in table.iter_rows() if one[2]}

    @property
    def n(self) -> int:
        """Number of labels in the table."""
        return len(self._found)

    def to_dict(self) -> dict[str, Any]:
        """Return the labels of the galaxies of this dataset, as the page shows them."""
        with self._lock:
            return {"labels": {str(row): one for row, one in self._class_of.items()}, "n": self.n}

    def label(self, rows: object, name: object) -> dict[str, Any]:
        """Give some galaxies a class, or none, and write the table.

        Args:
            rows: Row numbers.
            name: The class; "" takes the label away.

        Raises:
            InputError: The request is not one of this page.
            NotFoundError: A row does not exist.
        """
        if name not in ("", *self.classes):
            raise InputError("Class not found.", choices(self.classes))
        if not isinstance(rows, list) or not 1 <= len(rows) <= MAX_ROWS or any(type(row) is not int for row in rows):
            raise InputError("The rows are not a list of row numbers.", f"1 to {MAX_ROWS} row numbers.")
        if wrong := [row for row in rows if not 0 <= row < len(self._names)]:
            raise NotFoundError(f"Row {wrong[0]} not found.", f"0 to {len(self._names) - 1:,}.")
        with self._lock:
            for row in rows:
                if name:
                    self._found[self._names[row]] = self._class_of[row] = str(name)
                else:
                    self._found.pop(self._names[row], None)
                    self._class_of.pop(row, None)
            self._write()
        return self.to_dict()

    def _write(self) -> None:
        keys = sorted(self._found)
        columns = {name: [key[i] for key in keys] for i, name in enumerate(KEY)}
        out = io.BytesIO()
        pl.DataFrame({**columns, self.target: [self._found[key] for key in keys]}).write_csv(out)
        with files.disk_errors(self.path, "table of labels"):
            files.write_bytes(self.path, out.getvalue(), is_flushed=False)
