"""Every deliberate error of gzoo.

    GZooError
    ├── InputError            (ValueError)          a value, a file's content or an argument is wrong
    │   ├── TreeError                               a decision tree contradicts itself
    │   ├── TableError                              a vote table or a prediction file cannot be used as it is
    │   ├── PictureError                            a picture cannot be shown to a model
    │   └── DatasetError                            a folder is not a dataset, or not the one that was meant
    ├── MissingError          (FileNotFoundError)   a file, folder, campaign or galaxy is not there
    ├── OccupiedError         (FileExistsError)     the place of a result is taken
    ├── WriteError            (OSError)             a result cannot be written: a full disk, no permission
    ├── HubError              (ConnectionError)     the Hugging Face Hub refused or could not be reached
    │   └── AccessError                             a dataset there may not be read; see `gzoo access`
    ├── MissingExtraError     (ImportError)         a part of gzoo that was not installed
    └── NonFiniteLossError    (FloatingPointError)  training met a loss that is not a number

Each message says three things: what is wrong (with the value and its place), what was expected, what to do next.
"""

from __future__ import annotations


class GZooError(Exception):
    """Root of the family. `str(error)` joins the three parts of the message.

    >>> str(GZooError("There is no campaign 'gz9'.", "Known: gz2, gz_rings.", "See `gzoo campaigns`."))
    "There is no campaign 'gz9'. Known: gz2, gz_rings. See `gzoo campaigns`."
    """

    exit_code = 1

    def __init__(self, what: str, expected: str = "", do: str = "") -> None:
        self.what, self.expected, self.do = what, expected, do
        super().__init__(" ".join(part for part in (what, expected, do) if part))

    def __reduce__(self) -> tuple[type[GZooError], tuple[str, str, str]]:
        return type(self), (self.what, self.expected, self.do)  # so that it crosses worker processes whole


class InputError(GZooError, ValueError):
    """A value, a file's content or an argument is wrong."""


class TreeError(InputError):
    """A decision tree contradicts itself."""


class TableError(InputError):
    """A vote table or a prediction file cannot be used as it is."""


class PictureError(InputError):
    """A picture cannot be shown to a model."""


class DatasetError(InputError):
    """A folder is not a dataset, or not the one that was meant."""


class MissingError(GZooError, FileNotFoundError):
    """A file, folder, campaign or galaxy is not there."""


class OccupiedError(GZooError, FileExistsError):
    """The place of a result is taken."""


class WriteError(GZooError, OSError):
    """A result cannot be written: a full disk, no permission."""


class HubError(GZooError, ConnectionError):
    """The Hugging Face Hub refused or could not be reached."""


class AccessError(HubError):
    """A dataset on the Hub may not be read.

    Attributes:
        state: Why, one of the states of `gzoo.access`.
        exit_code: What a command ends with.
    """

    def __init__(self, what: str, expected: str = "", do: str = "", exit_code: int = 1, state: str = "") -> None:
        super().__init__(what, expected, do)
        self.exit_code, self.state = exit_code, state

    def __reduce__(self) -> tuple[type[AccessError], tuple[str, str, str, int, str]]:  # type: ignore[override]
        return type(self), (self.what, self.expected, self.do, self.exit_code, self.state)


class Notice(UserWarning):
    """Something that is no error and should be known; commands print it."""


class MissingExtraError(GZooError, ImportError):
    """A part of gzoo that was not installed; the message names the one line to type."""


class NonFiniteLossError(GZooError, FloatingPointError):
    """Training met a loss that is not a number; the message names the galaxies."""
