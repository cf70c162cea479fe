"""The checks of a dataset folder, what each of them can find, and the log that collects findings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import islice

import numpy as np
import numpy.typing as npt

from gzoo import files
from gzoo.files import Progress
from gzoo.hub import ignore_progress

MAX_EXAMPLES = 5
MAX_SIMILAR = 20
"""Findings of one type that are listed one by one; those in further files or columns are counted in one more."""
MAX_SHOWN = 120

PASSED, FAILED, NOT_CHECKED = "passed", "failed", "not checked"
CHECKING_FILES, CHECKING_ROWS, FINDING_LEAKS = "Checking files", "Checking rows", "Finding leaks"
CHECKING_IMAGES, CHECKING_METADATA = "Checking images", "Checking metadata"

CHECKS: Mapping[str, tuple[str, str, str]] = {
    "manifest": (CHECKING_FILES, "entries", "manifest.json is intact and agrees with the data"),
    "files": (CHECKING_FILES, "files", "every file is in the manifest, and has the size and checksum listed there"),
    "shards": (
        CHECKING_ROWS,
        "shards",
        "shards are complete and intact, and have the columns and types of the campaign",
    ),
    "identifiers": (CHECKING_ROWS, "rows", "each row has an identifier that is unique within its dataset_name"),
    "positions": (CHECKING_ROWS, "rows", "ra and dec are in range or NaN"),
    "votes": (CHECKING_ROWS, "rows", "vote counts are not negative, and total votes are their sums"),
    "fractions": (CHECKING_ROWS, "rows", "vote fractions are vote counts divided by total votes, NaN for a total of 0"),
    "summaries": (CHECKING_ROWS, "rows", "summary labels follow from the votes"),
    "labels": (CHECKING_ROWS, "rows", "classes are among those of their column, or -1 if unknown; numbers are finite"),
    "tree": (CHECKING_ROWS, "rows", "as many rows contradict the decision tree as the manifest lists"),
    "splits": (CHECKING_ROWS, "rows", "each row is in the split that the scheme assigns to it"),
    "leaks": (FINDING_LEAKS, "rows", "no galaxy and no image is in two of the splits train, validation and test"),
    "images": (CHECKING_IMAGES, "images", "each image is intact and as large as images.parquet lists"),
    "weights": (CHECKING_METADATA, "rows", "weighted.parquet has the rows of the dataset and fractions from 0 to 1"),
    "card": (CHECKING_METADATA, "entries", "the YAML header of the dataset card agrees with the data"),
}
"""Each check: the progress stage that it belongs to, the unit that it counts, and what a pass means."""

FINDING_TYPES: Mapping[str, tuple[str, str]] = {
    "not a dataset": ("manifest", "shards data/*.parquet and a manifest.json."),
    "unfinished build": ("manifest", "a finished build; rerun the command that began it."),
    "unreadable manifest": ("manifest", "JSON of this version of the dataset format."),
    "changed manifest": ("manifest", "the checksum that the manifest has of itself."),
    "invalid metadata": ("manifest", "every entry that gzoo writes, with its type."),
    "metadata mismatch": ("manifest", "the value found in the data."),
    "unsafe path": ("files", "normalized names of files inside the folder."),
    "not a regular file": ("files", "files and folders without links, which could lead outside; copy the files."),
    "missing file": ("files", "every file that the manifest lists."),
    "unlisted file": ("files", "only files that the manifest lists."),
    "unreadable file": ("files", "files and folders with permission to read them."),
    "size mismatch": ("files", "the size that the manifest lists."),
    "checksum mismatch": ("files", "the SHA-256 that the manifest lists."),
    "invalid shard name": ("shards", "names such as train-00000-of-00001.parquet, of train, validation, test, border."),
    "missing shard": ("shards", "all shards of a split, numbered from 00000."),
    "unreadable shard": ("shards", "a Parquet file with correct page checksums."),
    "schema mismatch": ("shards", "the columns of the campaign in their order, with their types."),
    "null value": ("shards", "values without nulls: 0 for counts, NaN for fractions and positions, '' for strings."),
    "wrong type": ("shards", "values that can be converted to the type of the column."),
    "invalid UTF-8": ("shards", "strings in UTF-8."),
    "empty identifier": ("identifiers", "an identifier in each row."),
    "duplicate identifier": ("identifiers", "each identifier once within its dataset_name."),
    "position out of range": ("positions", "degrees, ra from 0 to 360 and dec from -90 to 90, or NaN."),
    "negative vote count": ("votes", "vote counts of 0 or more."),
    "wrong total": ("votes", "the sum of the answers, or at least the largest if several answers may be given."),
    "wrong fraction": ("fractions", "vote count / total votes as float32, NaN for a total of 0."),
    "wrong summary": ("summaries", "the label that gzoo derives from the votes of the row."),
    "unknown class": ("labels", "the number of a class of the column, or -1."),
    "infinite label": ("labels", "a finite number, or NaN."),
    "unknown split scheme": ("splits", "a split scheme of this version of gzoo."),
    "wrong split": ("splits", "each row in the split that the scheme assigns."),
    "galaxy in two splits": ("leaks", "each galaxy in one of train, validation and test; see `gzoo leaks`."),
    "same image in two splits": ("leaks", "each image in one of train, validation and test; see `gzoo leaks`."),
    "corrupt image": ("images", "a complete JPEG or PNG image, opaque, RGB or grey, of 8 to 8192 pixels per side."),
    "image of one colour": ("images", "an image that shows something."),
    "image mismatch": ("images", "the size that images.parquet lists."),
    "image list mismatch": ("images", "images.parquet with the rows of the dataset in the same order."),
    "invalid weights": ("weights", "the rows of the dataset in the same order, and fractions from 0 to 1 or NaN."),
    "unreadable card": ("card", "README.md with a YAML header that the Hub can read."),
    "card mismatch": ("card", "the value that follows from the manifest and the data."),
}
"""Each type of finding: the check that makes it, and what was expected."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A defect of a dataset folder.

    Attributes:
        check: Check that found it, a key of `CHECKS`.
        name: Type of the defect, a key of `FINDING_TYPES`.
        file: Name of the file inside the folder; "" for several files or for the whole folder.
        column: Column, or the key of a metadata entry; "" if it does not apply.
        row: First affected row, where 1 is the first row of the file; None if it does not apply.
        n: Number of affected rows, files or entries.
        examples: Up to five of them.
    """

    check: str
    name: str
    file: str
    column: str
    row: int | None
    n: int
    examples: tuple[str, ...]

    @property
    def expected(self) -> str:
        """What was expected instead, worded to continue "Expected ..."."""
        return FINDING_TYPES[self.name][1]

    def __str__(self) -> str:
        where = self.file + (f", {self.column}" if self.column else "")
        rows = f" ({self.n:,})" if self.n > 1 else ""
        if self.row:
            rows = f" (row {self.row:,})" if self.n == 1 else f" ({self.n:,} rows, first row {self.row:,})"
        examples = f": {'; '.join(self.examples)}" if self.examples else ""
        return f"{self.name}{' in ' if where else ''}{where}{rows}{examples}"

    def to_dict(self) -> dict[str, object]:
        """Return the finding as a JSON object."""
        entries = {key: value or None for key, value in asdict(self).items()}
        return {**entries, "examples": list(self.examples), "expected": self.expected}


@dataclass(frozen=True, slots=True)
class Check:
    """The outcome of one check.

    Attributes:
        name: A key of `CHECKS`.
        verdict: "passed", "failed" or "not checked".
        n: Number of files, rows, images or entries that were checked.
        note: Reason why it was not checked, or a remark.
        stage: Progress stage that the check belongs to.
        unit: Unit of `n`.
        description: What a pass means.
    """

    name: str
    verdict: str
    n: int
    note: str
    stage: str
    unit: str
    description: str

    def to_dict(self) -> dict[str, object]:
        """Return the outcome as a JSON object."""
        return {key: getattr(self, key) for key in ("name", "verdict", "n", "note", "unit")}


class FindingLog:
    """Findings and the number of things that were checked.

    Args:
        progress: Function to call as the work goes on.
    """

    def __init__(self, progress: Progress | None = None) -> None:
        self.report = progress or ignore_progress
        self._found: dict[tuple[str, str, str, str], Finding] = {}
        self._n_similar: dict[str, int] = defaultdict(int)
        self._n: dict[str, int] = defaultdict(int)
        self._notes: dict[str, str] = {}
        self._skipped: set[str] = set()

    def add(
        self,
        name: str,
        file: str = "",
        column: str = "",
        *,
        check: str = "",
        rows: npt.NDArray[np.integer] | None = None,
        row: int | None = None,
        n: int = 1,
        examples: Iterable[object] = (),
    ) -> None:
        """Add a finding in `rows` (1 is the first of the file), in `n` rows from `row` on, or `n` times."""
        key = (check or FINDING_TYPES[name][0], name, shown(file), shown(column))
        if key not in self._found:
            self._n_similar[name] += 1
            if self._n_similar[name] > MAX_SIMILAR:
                key, examples = (key[0], name, "", ""), (key[2] + (f", {key[3]}" if key[3] else ""),)
        if rows is not None:
            row, n = int(rows[0]), len(rows)
        one = self._found.get(key) or Finding(*key, row if key[2] else None, 0, ())
        more = [shown(str(example)) for example in islice(examples, MAX_EXAMPLES - len(one.examples))]
        self._found[key] = replace(one, n=one.n + n, examples=(*one.examples, *more))

    def compare(self, key: str, listed: object, found: object, *, check: str = "manifest") -> None:
        """Compare an entry of the manifest with what was found in the data."""
        self._n["manifest"] += 1
        if listed != found:
            example = f"lists {_brief(listed)}, found {_brief(found)}"
            self.add("metadata mismatch", files.MANIFEST, key, check=check, examples=[example])

    def count(self, check: str, n: int = 1) -> None:
        """Count what a check has looked at."""
        self._n[check] += n

    def skip(self, check: str, why: str) -> None:
        """Mark a check as not made, or not made in full."""
        self._skipped.add(check)
        self.note(check, why)

    def note(self, check: str, text: str) -> None:
        """Add a remark to a check."""
        before = self._notes.get(check, "")
        if text not in before:
            self._notes[check] = f"{before}; {text}" if before else text

    def has(self, *names: str) -> bool:
        """Return whether there are findings of any of these types."""
        return any(self._n_similar[name] for name in names)

    def checks(self) -> tuple[Check, ...]:
        """Return the outcome of every check in the order of `CHECKS`."""
        verdicts = dict.fromkeys(CHECKS, PASSED) | dict.fromkeys(self._skipped, NOT_CHECKED)
        verdicts |= {check: FAILED for check, *_ in self._found}
        return tuple(
            Check(name, verdicts[name], self._n[name], self._notes.get(name, ""), *CHECKS[name]) for name in CHECKS
        )

    def findings(self) -> tuple[Finding, ...]:
        """Return the findings in the order of `CHECKS`, those of one check in the order in which they were added."""
        order = list(CHECKS)
        return tuple(sorted(self._found.values(), key=lambda one: order.index(one.check)))


def shown(text: str) -> str:
    """Return a string from the folder in a form that is safe to print anywhere."""
    plain = "".join(one if one.isprintable() else one.encode("unicode_escape", "replace").decode() for one in text)
    return plain if len(plain) <= MAX_SHOWN else f"{plain[:MAX_SHOWN]} ..."


def _brief(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
