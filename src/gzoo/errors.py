"""Every deliberate error of gzoo, and the one way in which errors are worded.

    GZooError
    ├── InputError            (ValueError)          a value, a file's content or an argument is wrong
    │   ├── TreeError                               a decision tree contradicts itself
    │   ├── TableError                              a vote table or a prediction file cannot be used as it is
    │   ├── ExpressionError                         a filter expression cannot be read, or names what does not exist
    │   ├── ImageError                              an image cannot be shown to a model
    │   └── DatasetError                            a folder is not a dataset, or not the expected one
    ├── NotFoundError         (FileNotFoundError)   a file, folder, campaign or galaxy does not exist
    ├── OutputExistsError     (FileExistsError)     the output already exists
    ├── BusyError             (BlockingIOError)     another run writes the same output
    ├── WriteError            (OSError)             an output cannot be written: full disk, no permission
    ├── ReadError             (OSError)             a file cannot be read now: too many open files, disk error
    ├── HubError              (ConnectionError)     the Hugging Face Hub refused or could not be reached
    │   └── AccessError                             a dataset there cannot be read; see `gzoo access`
    ├── MissingExtraError     (ImportError)         an optional dependency is not installed
    └── NonFiniteLossError    (FloatingPointError)  the training loss is NaN or infinite

A message has up to three parts, each on its own line: what is wrong (with the value and where it is), what was
expected, and what to do next. The class writes the labels "Expected" and "Hint:", so callers never do.
"""

from __future__ import annotations

import difflib
import errno
import os
import re
from collections.abc import Iterable
from pathlib import Path

MAX_CHOICES = 8
NOT_PASSING = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.ENAMETOOLONG, errno.ELOOP}
"""Errors of the system that are about the file or its name. All others may be gone at the next attempt."""


class GZooError(Exception):
    """Root of the family.

    Attributes:
        message: One sentence that is complete by itself: what is wrong, with the value and where it is.
        expected: A noun phrase or clause that completes "Expected ...", or an empty string.
        hint: One action, starting with a verb, or an empty string.
        exit_code: Exit code of a command that ends with this error.

    >>> print(GZooError("Campaign not found: 'gz9'.", "one of: gz2, gz_rings.", "Run `gzoo campaigns` to list them."))
    Campaign not found: 'gz9'.
      Expected one of: gz2, gz_rings.
      Hint: Run `gzoo campaigns` to list them.
    """

    exit_code = 1

    def __init__(self, message: str, expected: str = "", hint: str = "") -> None:
        self.message, self.expected, self.hint = message, expected, hint
        lines = [message]
        if expected:
            lines.append(f"  Expected {expected}")
        if hint:
            lines.append(f"  Hint: {hint}")
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[type[GZooError], tuple[str, str, str]]:
        return type(self), (self.message, self.expected, self.hint)  # keeps the parts when sent between processes


class InputError(GZooError, ValueError):
    """A value, a file's content or an argument is wrong."""


class TreeError(InputError):
    """A decision tree contradicts itself."""


class TableError(InputError):
    """A vote table or a prediction file cannot be used as it is."""


class ExpressionError(InputError):
    """A filter expression cannot be read, or names what does not exist.

    Attributes:
        position: Where in the expression, counted in characters from 0.
    """

    def __init__(self, message: str, expected: str = "", hint: str = "", position: int = 0) -> None:
        super().__init__(message, expected, hint)
        self.position = position

    def __reduce__(self) -> tuple[type[ExpressionError], tuple[str, str, str, int]]:  # type: ignore[override]
        return type(self), (self.message, self.expected, self.hint, self.position)


class ImageError(InputError):
    """An image cannot be shown to a model."""


class DatasetError(InputError):
    """A folder is not a dataset, or not the expected one."""


class NotFoundError(GZooError, FileNotFoundError):
    """A file, folder, campaign or galaxy does not exist."""


class OutputExistsError(GZooError, FileExistsError):
    """The output already exists."""


class BusyError(GZooError, BlockingIOError):
    """Another run writes the same output."""


class WriteError(GZooError, OSError):
    """An output cannot be written: full disk, no permission."""


class ReadError(GZooError, OSError):
    """A file cannot be read now, which says nothing about its content: too many open files, an error of the disk."""


class HubError(GZooError, ConnectionError):
    """The Hugging Face Hub refused or could not be reached."""


class AccessError(HubError):
    """A dataset on the Hub cannot be read.

    Attributes:
        state: Why: one of the states of `gzoo.access`.
        exit_code: Exit code of a command that ends with this error.
    """

    def __init__(self, message: str, expected: str = "", hint: str = "", exit_code: int = 1, state: str = "") -> None:
        super().__init__(message, expected, hint)
        self.exit_code, self.state = exit_code, state

    def __reduce__(self) -> tuple[type[AccessError], tuple[str, str, str, int, str]]:  # type: ignore[override]
        return type(self), (self.message, self.expected, self.hint, self.exit_code, self.state)


class MissingExtraError(GZooError, ImportError):
    """An optional dependency is not installed; the hint contains the line to type."""


class NonFiniteLossError(GZooError, FloatingPointError):
    """The training loss is NaN or infinite; the message names the galaxies."""


class GZooWarning(UserWarning):
    """A fact that does not stop the work but changes its meaning; commands print it."""


def raise_passing(path: Path | str, error: BaseException) -> None:
    """Raise an error of reading a file unless it may be about the content of the file.

    Readers report damaged content as `OSError` too, but without the number of an error of the system.

    Raises:
        ReadError: The system failed: too many open files, no permission, an error of the disk.
        MemoryError: There is not enough memory.
    """
    if isinstance(error, MemoryError):
        raise error
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (found := re.search(r"\(os error (\d+)\)", str(error))):  # polars writes it into the text
        number = int(found[1])
    if isinstance(number, int) and number not in NOT_PASSING:
        raise ReadError(
            f"Cannot read '{path}': {os.strerror(number)}.", hint="Fix the cause, then rerun the same command."
        ) from error


def reason(error: BaseException) -> str:
    r"""Return the first line of another library's error, without its final full stop; never empty.

    >>> reason(ValueError("Unexpected end of file.\nTraceback ..."))
    'Unexpected end of file'
    """
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(". ") if lines else type(error).__name__


def choices(names: Iterable[str], wrong: str = "") -> str:
    """Return "one of: ..." for the `expected` part of an error: at most eight names, those most like `wrong` first.

    >>> choices(["train", "validation", "test"], "val")
    'one of: validation, train, test.'
    """
    known = list(names)
    if wrong:
        known.sort(key=lambda name: -_likeness(name, wrong))
    rest = f", ... ({len(known):,} in total)" if len(known) > MAX_CHOICES else ""
    return f"one of: {', '.join(known[:MAX_CHOICES])}{rest}."


def suggestion(names: Iterable[str], wrong: str, otherwise: str = "") -> str:
    """Return "Did you mean 'validation'?" for the `hint` of an error, or `otherwise` where no name is similar.

    >>> suggestion(["train", "validation", "test"], "valdation")
    "Did you mean 'validation'?"
    """
    best = max(names, key=lambda name: _likeness(name, wrong), default="")
    return f"Did you mean '{best}'?" if best and _likeness(best, wrong) >= 0.6 else otherwise


def _likeness(name: str, wrong: str) -> float:
    return difflib.SequenceMatcher(None, name.casefold(), wrong.casefold()).ratio() + name.startswith(wrong) / 2
