"""What every report is made of: figures to look at and to save, tables, scores, badges, and where models came from.

A report hands these values to its template, which draws them with the macros of `parts.html.jinja`:

>>> from gzoo.reports.parts import Column, Table
>>> Table("Scores", (Column("Question"), Column("Gain", "nats")), (("bar", ("0.31", "0.28 to 0.34")),)).name
'Scores'
"""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, cast

from markupsafe import Markup

from gzoo.palette import PALETTE

Cell = str | Markup | tuple[str | Markup, str]
"""Content of a table: a text, or a number and the small text under it."""

WIDE, NARROW = 960.0, 340.0
"""Widths in pixels for which figures are drawn: a page on a laptop, and on a phone."""

FORMULA = ("=", "+", "-", "@", "\t", "\r")
BADGES = {
    "good": ("passed", "consistent"),
    "bad": ("failed", "overconfident", "underconfident", "biased", "miscalibrated"),
}


class Figure(NamedTuple):
    """A figure, drawn for a wide and for a narrow page, and its numbers.

    Attributes:
        name: Stem of the names of the files to save, such as "gain-by-question".
        description: What it shows, for readers who cannot see it.
        wide: SVG element for a wide page.
        narrow: SVG element for a narrow page; "" if the same drawing serves both.
        numbers: Rows of the table of its numbers; all have the same keys.
    """

    name: str
    description: str
    wide: Markup
    narrow: Markup
    numbers: Sequence[Mapping[str, object]]

    @property
    def svg(self) -> str:
        """The figure as a data URI of an SVG file, on a light page."""
        start = self.wide.index(">") + 1
        ground = f'<rect width="100%" height="100%" fill="{PALETTE["page"][0]}"/>'
        return _uri("image/svg+xml", f"{self.wide[:start]}{ground}{self.wide[start:]}")

    @property
    def csv(self) -> str:
        """The numbers as a data URI of a CSV file."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([_cell(name) for name in (self.numbers[0] if self.numbers else ())])
        writer.writerows([[_cell(value) for value in row.values()] for row in self.numbers])
        return _uri("text/csv;charset=utf-8", out.getvalue())


class Column(NamedTuple):
    """A column of a table: its heading, the unit or remark under it, and whether it contains prose."""

    heading: str
    unit: str = ""
    is_text: bool = False


class Table(NamedTuple):
    """A table; the first cell of each row is its heading.

    Attributes:
        name: What it contains, for readers who cannot see it.
        columns: Its columns.
        rows: Its rows.
        n_totals: Number of rows at the top that sum up the others.
    """

    name: str
    columns: tuple[Column, ...]
    rows: Sequence[Sequence[Cell]]
    n_totals: int = 0


class Number(NamedTuple):
    """One of the main results at the top of a report: its name, the value, and its interval or unit."""

    name: str
    value: str
    detail: str = ""
    kind: str = ""


def figure(
    name: str,
    draw: Callable[[bool], str],
    numbers: Sequence[Mapping[str, object]],
    *,
    description: str,
    is_small: bool = False,
) -> Figure:
    """Return a figure that is drawn twice.

    Args:
        name: Stem of the names of the files to save.
        draw: Draws it; the argument is whether the page is narrow.
        numbers: Rows of the table of its numbers.
        description: What it shows.
        is_small: Whether it is small enough for a narrow page as it is.
    """
    return Figure(name, description, Markup(draw(False)), Markup("" if is_small else draw(True)), numbers)


def badge(text: str) -> Markup:
    """Return a verdict as a badge; its colour repeats what the word says."""
    kind = next((kind for kind, words in BADGES.items() if text in words), "open")
    return Markup('<span class="badge {}">{}</span>').format(kind, text)


def bar(n: float, of: float) -> Markup:
    """Return a small bar for a cell of a table; the number beside it says the same."""
    rest = '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">{}{}</svg>'
    ground = Markup('<rect width="100" height="10" class="fill-track"/>')
    length = round(100 * n / of, 2) if of else 0
    return Markup(rest).format(ground, Markup('<rect width="{}" height="10" class="fill-volunteers"/>').format(length))


def provenance(metadata: Mapping[str, object]) -> dict[str, str]:
    """Return what a prediction file says about the models that made it, a text for each heading; {} if nothing.

    Args:
        metadata: Result of `gzoo.scoring.prediction_files.read_metadata`.
    """
    models = cast("Sequence[Mapping[str, object]]", metadata.get("models") or ())
    if not models:
        return {}
    found: dict[str, list[str]] = {"Encoder": [], "Training set": [], "Trained on": []}
    for one in models:
        start = f", from {one['from']}" if one["from"] else ", from random weights"
        found["Encoder"].append(f"{one['encoder']}, {one['size']} x {one['size']} pixels{start}")
        found["Training set"].append(f"{one['n_train']:,} galaxies of {one['data']}")
        found["Trained on"].append(str(one["date"]))
    return {heading: "; ".join(dict.fromkeys(texts)) for heading, texts in found.items()}


def slug(text: str) -> str:
    """Return a text as part of a file name."""
    return "-".join("".join(one if one.isalnum() else " " for one in text.lower()).split())[:80] or "figure"


def _cell(value: object) -> object:
    """Return a value for a CSV file; spreadsheets would run a text that begins like a formula."""
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return value


def _uri(media: str, content: str) -> str:
    return f"data:{media};base64,{base64.b64encode(content.encode('utf-8', 'xmlcharrefreplace')).decode('ascii')}"
