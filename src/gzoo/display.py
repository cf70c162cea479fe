"""How objects show themselves: JSON values, one screen of text, and the same as HTML for notebooks.

A class that inherits `Shown` gets `to_dict`, `repr` and `_repr_html_` from its fields. Where other facts, or a table,
tell more, the class returns a `Sheet` of them from `sheet`.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, fields, is_dataclass
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

MAX_LINES, MAX_WIDTH = 30, 100  # of a `repr`
MAX_FACT = 240  # characters of one fact
MAX_CELL = 120  # characters of one cell of a table in HTML
MAX_COLUMNS = 12  # of a table, each of which has room for 6 characters
NUMBER = re.compile(r"[-+]?\d|-$")

# Colours are those of the text around it, so that it is legible in light and dark notebooks. Where Jupyter's own rules
# for tables would win, `!important` says so.
STYLE = """<style>
.gzoo-shown {line-height: 1.4; max-width: 100%; overflow-x: auto}
.gzoo-shown .gzoo-title {font-weight: 600; margin: 0 0 .3em}
.gzoo-shown table {border-collapse: collapse; border: 0; margin: 0 0 .5em; font-size: .92em;
  font-variant-numeric: tabular-nums}
.gzoo-shown tr {background: none !important; border: 0}
.gzoo-shown th, .gzoo-shown td {padding: .14em 1.1em .14em 0; text-align: left !important; vertical-align: top;
  border: 0; color: inherit; max-width: 46em; white-space: normal}
.gzoo-shown thead th {border-bottom: 1px solid rgba(128, 128, 128, .6); font-weight: 600}
.gzoo-shown tbody tr + tr td {border-top: 1px solid rgba(128, 128, 128, .16)}
.gzoo-shown .gzoo-facts th {font-weight: 400; opacity: .7; white-space: nowrap}
.gzoo-shown .gzoo-facts tr + tr td {border-top: 0}
.gzoo-shown .gzoo-number {text-align: right !important; white-space: nowrap}
.gzoo-shown .gzoo-note {opacity: .7; font-size: .88em; margin: 0 0 .3em}
</style>"""


@dataclass(frozen=True, slots=True)
class Sheet:
    """What an object shows: a title, facts and a table.

    Attributes:
        title: What it is, on one line.
        facts: Name -> value; facts that are None or empty are omitted.
        heading: Headings of the table's columns.
        rows: Rows of the table. Only the first ones are shown if all of them do not fit.
        note: A sentence under the table.
    """

    title: str
    facts: Mapping[str, object] = field(default_factory=dict[str, object])
    heading: Sequence[str] = ()
    rows: Sequence[Sequence[object]] = ()
    note: str = ""

    def to_text(self) -> str:
        """Return at most `MAX_LINES` lines of at most `MAX_WIDTH` characters.

        >>> print(Sheet("Rings", {"galaxies": 1200}, ["answer", "votes"], [["ring", 51], ["no-ring", 9]]).to_text())
        Rings
          galaxies  1,200
        <BLANKLINE>
          answer   votes
          ring        51
          no-ring      9
        """
        lines = [_clipped(as_text(self.title), MAX_WIDTH)]
        facts = self._facts()
        width = max((len(name) for name, _ in facts), default=0)
        for name, value in facts:
            first, *more = textwrap.wrap(value, MAX_WIDTH - width - 4) or [""]
            lines += [f"  {name:<{width}}  {first}", *(f"  {'':<{width}}  {one}" for one in more)]
        note = textwrap.wrap(as_text(self.note), MAX_WIDTH - 2)
        room = MAX_LINES - 3 - len(note)
        if len(lines) > room:
            lines = [*lines[: room - 1], "  ..."]
        if self.heading:
            heading, rows, n_more = self._table(max(MAX_LINES - len(lines) - len(note) - 3, 1))
            widths = _fitted([max(len(row[i]) for row in (heading, *rows)) for i in range(len(heading))])
            is_number = _are_numbers(rows, len(heading))
            lines.append("")
            for row in (heading, *rows):
                cells = (
                    _clipped(cell, size).rjust(size) if right else _clipped(cell, size).ljust(size)
                    for cell, size, right in zip(row, widths, is_number, strict=True)
                )
                lines.append(f"  {'  '.join(cells)}".rstrip())
            if n_more:
                lines.append(f"  ... and {n_more:,} more")
        return "\n".join([*lines, *(f"  {one}" for one in note)])

    def to_html(self) -> str:
        """Return the same as HTML."""
        facts = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in self._facts())
        parts = [f'<div class="gzoo-title">{escape(as_text(self.title))}</div>']
        if facts:
            parts.append(f'<table class="gzoo-facts"><tbody>{facts}</tbody></table>')
        if self.heading:
            heading, rows, n_more = self._table(max(MAX_LINES - 4 - len(self._facts()), 1))
            kinds = [' class="gzoo-number"' if one else "" for one in _are_numbers(rows, len(heading))]

            def line(cells: Sequence[str], tag: str) -> str:
                pairs = zip(cells, kinds, strict=True)
                return f"<tr>{''.join(f'<{tag}{kind}>{escape(cell)}</{tag}>' for cell, kind in pairs)}</tr>"

            body = "".join(line(row, "td") for row in rows)
            parts.append(f"<table><thead>{line(heading, 'th')}</thead><tbody>{body}</tbody></table>")
            if n_more:
                parts.append(f'<div class="gzoo-note">... and {n_more:,} more</div>')
        if self.note:
            parts.append(f'<div class="gzoo-note">{escape(as_text(self.note))}</div>')
        return f'<div class="gzoo-shown" tabindex="0">{STYLE}{"".join(parts)}</div>'

    def _facts(self) -> list[tuple[str, str]]:
        texts = [(as_text(name), as_text(value)) for name, value in self.facts.items() if value not in (None, "")]
        return [(_clipped(name, MAX_WIDTH // 3), _clipped(value, MAX_FACT)) for name, value in texts if value]

    def _table(self, room: int) -> tuple[list[str], list[list[str]], int]:
        """Return the heading, the rows that there is room for, and the number of the others."""
        n = len(self.rows) if len(self.rows) <= room else max(room - 1, 1)
        shown = [self.heading, *self.rows[:n]]
        if len(self.heading) > MAX_COLUMNS:
            shown = [[*row[: MAX_COLUMNS - 1], "..."] for row in shown]
        heading, *rows = [[_clipped(as_text(cell), MAX_CELL) for cell in row] for row in shown]
        return heading, rows, len(self.rows) - n


class Shown:
    """A dataclass that shows itself; declare it with `repr=False`."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the facts as JSON values, as `--json` prints them: numbers that are not finite become null."""
        return field_values(self)

    def sheet(self) -> Sheet:
        """Return what `repr` and notebooks show."""
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(self).__name__.removesuffix("Result")).capitalize()
        values = {one.name: getattr(self, one.name) for one in fields(self) if one.repr}  # type: ignore[arg-type]
        return Sheet(
            words,
            {name.replace("_", " ").removeprefix("n ").removeprefix("is "): value for name, value in values.items()},
        )

    def __repr__(self) -> str:
        return self.sheet().to_text()

    def _repr_html_(self) -> str:
        return self.sheet().to_html()


def field_values(found: object) -> dict[str, Any]:
    """Return the fields of a dataclass as JSON values."""
    return {one.name: json_value(getattr(found, one.name)) for one in fields(found)}  # type: ignore[arg-type]


def json_value(value: object) -> Any:
    """Return a value as JSON knows it.

    >>> json_value({"galaxies": {"b", "a"}, "error": float("nan"), "splits": ("train", "test")})
    {'galaxies': ['a', 'b'], 'error': None, 'splits': ['train', 'test']}
    """
    value = value.tolist() if hasattr(value, "tolist") else value  # type: ignore[attr-defined]  # of numpy
    found: Any = str(value)
    match value:
        case None | str() | bool() | int():
            found = value
        case float():
            found = value if math.isfinite(value) else None
        case Shown():
            found = value.to_dict()
        case Mapping():
            found = {str(name): json_value(one) for name, one in value.items()}
        case Set():
            found = sorted(map(json_value, value))
        case _ if is_dataclass(value):
            found = field_values(value)
        case Iterable():
            found = list(map(json_value, value))
        case _:
            pass
    return found


def table_of(rows: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    """Return a table of flat values, with columns `x`, `x_low` and `x_high` for a value x with an interval.

    >>> table_of([{"question": "bar", "gain": {"value": 0.5, "low": 0.4, "high": 0.6}}]).columns
    ['question', 'gain', 'gain_low', 'gain_high']
    """
    import polars as pl

    flat: list[dict[str, Any]] = []
    for row in rows:
        flat.append({})
        for name, value in row.items():
            if isinstance(value, Mapping) and set(value) == {"value", "low", "high"}:
                flat[-1] |= {f"{name}{'' if end == 'value' else f'_{end}'}": one for end, one in value.items()}
            elif not isinstance(value, Mapping):
                flat[-1][name] = value
    return pl.DataFrame(flat, infer_schema_length=None)


def as_text(value: object) -> str:
    """Return a value on one line, for readers.

    >>> as_text({"train": 1200, "test": 300, "dropped": []}), as_text(0.123456), as_text(None)
    ('train 1,200, test 300', '0.1235', '-')
    """
    match value:
        case None:
            text = "-"
        case bool():
            text = "yes" if value else "no"
        case int():
            text = f"{value:,}"
        case float():
            text = f"{value:.4g}"
        case {"value": number, "low": low, "high": high}:
            text = interval({"value": number, "low": low, "high": high})
        case Mapping():
            parts = {_key(as_text(name)): as_text(one) for name, one in value.items()}
            text = ", ".join(f"{name} {part}" for name, part in parts.items() if part)  # an empty list says nothing
        case str():
            text = value
        case Shown():
            text = value.sheet().title
        case Sequence() | Set():
            text = ", ".join(map(as_text, value))
        case _ if is_dataclass(value):
            text = as_text(field_values(value))
        case _:
            text = str(value)
    return "".join(one if one.isprintable() else "?" for one in " ".join(text.split()))


def _key(name: str) -> str:
    """Return a key of JSON in words: numbers of something are called by what they count."""
    return name.removeprefix("n_").replace("_", " ") if name.startswith("n_") else name


def format_p(p: float) -> str:
    """Return a p-value with two significant digits.

    >>> format_p(0.034), format_p(0.5), format_p(2e-30), format_p(0.0)
    ('0.034', '0.50', '2.0e-30', '< 1e-300')
    """
    return "< 1e-300" if p < 1e-300 else f"{p:.2f}" if p >= 0.1 else f"{p:.2g}" if p >= 1e-4 else f"{p:.1e}"


def interval(found: Mapping[str, Any], digits: int = 3, sign: str = "") -> str:
    """Return a value with its interval.

    >>> interval({"value": 0.5, "low": 0.41, "high": 0.62})
    '0.500 [0.410, 0.620]'
    """
    value, low, high = (
        None if found[end] is None else f"{found[end]:{sign}.{digits}f}" for end in ("value", "low", "high")
    )
    return "-" if value is None else value if low is None else f"{value} [{low}, {high}]"


def _clipped(text: str, size: int) -> str:
    return text if len(text) <= size else f"{text[: max(size - 3, 0)]}..."[:size]


def _fitted(widths: Sequence[int]) -> list[int]:
    """Narrow the widest columns until a table fits."""
    fitted = list(widths)
    while sum(fitted) + 2 * len(fitted) > MAX_WIDTH and max(fitted) > 1:
        fitted[fitted.index(max(fitted))] -= 1
    return fitted


def _are_numbers(rows: Sequence[Sequence[str]], n: int) -> list[bool]:
    return [bool(rows) and all(NUMBER.match(row[i]) for row in rows) for i in range(n)]
