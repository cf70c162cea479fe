"""Faults of tables that the readers of all formats report."""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from gzoo.errors import TableError, raise_passing, reason


class Damage(NamedTuple):
    """Row that cannot be read, and why."""

    row: int
    reason: str
    detail: str


def unreadable(path: Path, kind: str, error: BaseException) -> TableError:
    """Return the error for a file that its reader rejects.

    Raises:
        ReadError: The reader did not reject it: the file cannot be read now.
        MemoryError: There is not enough memory.
    """
    raise_passing(path, error)
    return TableError(
        f"Cannot read '{path}': {reason(error)[:200]}.",
        f"an intact {kind} table.",
        "Write or download the table again.",
    )


def check_unique(path: Path, names: Sequence[str]) -> None:
    """Check that no column name is used twice.

    Raises:
        TableError: One is.
    """
    for name, n in Counter(names).items():
        if n > 1:
            numbers = ", ".join(str(i) for i, other in enumerate(names, 1) if other == name)
            raise TableError(
                f"'{path}' contains the column '{name}' more than once (columns {numbers}).",
                "each column name once.",
                "Rename or remove the other columns.",
            )


def is_utf8(path: Path) -> bool:
    """Return whether a file is UTF-8 text."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                decoder.decode(block)
            decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True
