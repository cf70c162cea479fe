"""Reading of a TOML file into dataclasses: every key is known, present where it must be, and of the type of its field.

What a file may contain is written once, as the fields of dataclasses: a field without a default is a required key, a
dataclass is a table, `Annotated[str, Rule(...)]` restricts values.
"""

from __future__ import annotations

import math
import tomllib
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from gzoo.errors import InputError, NotFoundError, choices, raise_passing, reason, suggestion

MAX_BYTES = 1_000_000
"""Largest file that is read; the largest campaign of gzoo has 14,000 bytes."""
GUIDE = "docs/how-to/add-a-campaign.md"

Facts = TypeVar("Facts")


@dataclass(frozen=True, slots=True)
class Rule:
    """A restriction on the values of a key: a test, and what it expects as a noun phrase with a full stop."""

    is_met: Callable[[Any], object]
    expected: str


@dataclass(frozen=True, slots=True)
class Place:
    """A table of a file: where the errors of its keys are.

    Attributes:
        source: Name of the file, at the start of a sentence.
        table: Name of the table in brackets as in TOML, `[[trees.questions]]`; "" at the top of the file.
        which: Which of several tables it is: `'bar'` or `number 2`.
    """

    source: str
    table: str = ""
    which: str = ""

    @property
    def label(self) -> str:
        """The table as the end of a phrase about one of its keys."""
        return f" of {self.table} {self.which}".rstrip() if self.table else ""

    def inside(self, key: str, value: Mapping[str, object], number: int) -> Place:
        """Return the place of a table below this one; `number` counts those of a list from 1, 0 for a single one."""
        name = f"{self.table.strip('[]')}.{key}".lstrip(".")
        if not number:
            return Place(self.source, f"[{name}]", self.which)
        known_as = value.get("name")
        which = (
            f"'{known_as}'"
            if isinstance(known_as, str) and known_as.isprintable() and len(known_as) < 80
            else f"number {number}"
        )
        return Place(self.source, f"[[{name}]]", which)

    def wrong(self, key: str, value: object, expected: str, hint: str = "") -> InputError:
        """Return the error of a key with a wrong value."""
        shown = repr(value)
        shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
        message = f"{self.source}: '{key}'{self.label} is {shown}."
        return InputError(message, expected, hint or f"Correct the file; {GUIDE} explains every key.")


def read_text(path: Path) -> str:
    """Return the content of a file.

    Raises:
        NotFoundError: It does not exist.
        InputError: It is not a text file of at most `MAX_BYTES`.
        ReadError: It cannot be read now.
    """
    hint = f"Check the path; {GUIDE} explains what the file contains."
    if not path.is_file():
        raise NotFoundError(f"Campaign file not found: '{path}'.", "a TOML file.", hint)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise_passing(path, error)
        raise InputError(f"Cannot read campaign file '{path}': {reason(error)}.", "a TOML file.", hint) from error
    if len(data) > MAX_BYTES:
        raise InputError(f"Campaign file '{path}' is too large.", f"at most {MAX_BYTES:,} bytes.", hint)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"Campaign file '{path}' is not in UTF-8: {reason(error)}.", "UTF-8 text.", hint) from error


def read(kind: type[Facts], text: str, source: str) -> Facts:
    """Read the text of a TOML file into a dataclass.

    Args:
        kind: The dataclass.
        text: Content of the file.
        source: Name of the file for error messages, at the start of a sentence.

    Raises:
        InputError: The text is not TOML; or a key is unknown, missing or has a wrong value.
    """
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{source} is not valid TOML: {reason(error)}.", "TOML.", f"Correct the file; {GUIDE} has an example."
        ) from error
    return _table(kind, table, Place(source))


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _table(kind: type[Facts], value: dict[str, object], at: Place) -> Facts:
    hints = _hints(kind)
    for key in value:
        if key not in hints:
            hint = suggestion(hints, key, f"Remove the key; {GUIDE} lists all keys.")
            raise InputError(f"{at.source}: unknown key '{key}'{at.label}.", choices(hints, key), hint)
    for field in fields(typing.cast(Any, kind)):
        if field.name not in value and field.default is MISSING and field.default_factory is MISSING:
            raise InputError(
                f"{at.source}: key '{field.name}'{at.label} is missing.",
                _expected(hints[field.name]),
                f"Add it; {GUIDE} explains every key.",
            )
    return kind(**{key: _converted(hints[key], one, at, key) for key, one in value.items()})


def _converted(hint: Any, value: object, at: Place, key: str, number: int = 0) -> Any:
    """Return a value in the type of its field; `number` counts the values of a list from 1."""
    if get_origin(hint) is Annotated:
        plain, rule = get_args(hint)
        found = _converted(plain, value, at, key, number)
        if not rule.is_met(found):
            raise at.wrong(key, value, rule.expected)
        return found
    if get_origin(hint) is types.UnionType:  # a table that may be omitted
        hint = get_args(hint)[0]
    if is_dataclass(hint):
        if not isinstance(value, dict):
            raise at.wrong(key, value, _expected(hint))
        return _table(typing.cast(type, hint), value, at.inside(key, value, number))
    if get_origin(hint) is tuple:
        inner = get_args(hint)
        length = None if inner[-1] is Ellipsis else len(inner)
        if not isinstance(value, list) or (length is not None and len(value) != length):
            raise at.wrong(key, value, _expected(hint))
        return tuple(_converted(inner[0], one, at, key, i) for i, one in enumerate(value, 1))
    if hint is float and type(value) is int and abs(value) < 2**53:
        return float(value)
    if type(value) is not hint or (hint is float and not math.isfinite(typing.cast(float, value))):
        raise at.wrong(key, value, _expected(hint))
    if isinstance(value, str):
        value = " ".join(value.split())  # texts may be wrapped over several lines
        if not value.isprintable():
            raise at.wrong(key, value, "text without control characters.")
    return value


def _expected(hint: Any) -> str:
    """Return what a key of that type is expected to be, with a full stop."""
    if get_origin(hint) is Annotated:
        return get_args(hint)[1].expected
    if get_origin(hint) is types.UnionType:
        hint = get_args(hint)[0]
    if get_origin(hint) is tuple:
        inner = get_args(hint)
        if is_dataclass(inner[0]):
            return "one or more tables, [[...]]."
        one = _expected(inner[0]).removesuffix(".")
        return f"a list, each of which is {one}." if inner[-1] is Ellipsis else f"a list of {len(inner)}: {one} each."
    if is_dataclass(hint):
        return "a table, [...]."
    return {str: "text.", bool: "true or false.", int: "an integer.", float: "a finite number."}[hint]
