"""Where picture files come from."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from gzoo.errors import MissingError


@dataclass(frozen=True, slots=True)
class Source:
    """A folder of pictures."""

    path: Path

    def read(self, name: str) -> bytes:
        """The content of a file."""
        return (self.path / name).read_bytes()


def open_source(path: Path) -> tuple[Source, dict[str, int], dict[str, str]]:
    """The source, its files with their sizes, and those that are refused with the reason."""
    if not path.is_dir():
        raise MissingError(f"There is no folder {path}.", "A folder of pictures.", "Check --images.")
    found: dict[str, int] = {}
    for folder, _, names in os.walk(path):
        for name in names:
            file = Path(folder) / name
            if file.is_file():
                # a name that is no text can be told in dropped.parquet, but no table can name it
                text = os.fsencode(file.relative_to(path).as_posix()).decode("utf-8", "replace")
                found[text] = file.stat().st_size
    return Source(path), found, {}
