"""The page that shows how an export of classifications was counted."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from gzoo import reports
from gzoo.reports.figures import histogram
from gzoo.reports.parts import Cell, Column, Figure, Number, Table, bar
from gzoo.trees.tree import IntArray
from gzoo.zooniverse.classifications import Ingest
from gzoo.zooniverse.consistency import RULES as BOT_RULES
from gzoo.zooniverse.counting import IngestResult
from gzoo.zooniverse.reading import ANNOTATION_RULES, RULES

N_BINS = 20
N_EXAMPLES = 3


def ingest_page(found: IngestResult) -> bytes:
    """Return the report of an ingest as an HTML page, without data about single volunteers.

    Args:
        found: Result of `gzoo.zooniverse.ingest`.
    """
    about, read = found.ingest, found.classifications
    return reports.render(
        "ingest",
        title=f"From classifications to votes: {about.campaign}",
        ingest=about,
        is_simulated=found.is_simulated,
        verdict=f"{about.n_used:,} of {about.n_rows:,} rows of the export are counted as classifications "
        f"({_percent(about.n_used, about.n_rows)}).",
        numbers=[
            Number("Classifications", f"{about.n_used:,}", f"of {about.n_rows:,} rows"),
            Number("Galaxies", f"{about.n_galaxies:,}", f"{len(read) / max(read.galaxies.height, 1):.1f} "
                   "classifications each"),
            Number("Volunteers", f"{about.n_volunteers:,}", f"{about.n_anonymous:,} not logged in"),
            Number("Probable bots", f"{about.n_suspicious.get('any', 0):,}", "volunteers; their votes are counted"),
        ],
        rows=_account("Rows", about.n_rows, about.n_used, about.reasons, RULES, about.examples),
        annotations=_account("Annotations", about.n_annotations, about.n_annotations_used, about.annotation_reasons,
                             ANNOTATION_RULES, {}),
        votes=_votes(about),
        without_votes=[question for question, n in about.n_votes_of.items() if not n],
        per_galaxy=_per_galaxy(np.bincount(read.galaxy, minlength=read.galaxies.height)),
        per_volunteer=_per_volunteer(read.n_of_volunteer),
        volunteers=_volunteers(about),
        bots=Table(
            "Probable bots by rule",
            (Column("Rule"), Column("Volunteers"), Column("Meaning of the rule", is_text=True)),
            [(rule, f"{about.n_suspicious.get(rule, 0):,}", meaning) for rule, meaning in BOT_RULES.items()],
        ),
        versions=Table(
            "Workflow versions",
            (Column("Workflow and version"), Column("Rows"), Column("Of all rows")),
            [(version, f"{n:,}", bar(n, about.n_rows)) for version, n in about.versions.items()],
        ),
    )  # fmt: skip


def _account(
    what: str, total: int, used: int, reasons: Mapping[str, int], rules: Mapping[str, str],
    examples: Mapping[str, Sequence[tuple[int, str]]],
) -> Table:  # fmt: skip
    """Return what became of every row or annotation."""
    columns = (
        Column(what), Column("Number"), Column("Percentage"), Column("Of all"),
        Column("Meaning of the rule", "first examples", is_text=True),
    )  # fmt: skip

    def line(name: str, n: int, meaning: Cell) -> list[Cell]:
        return [name, f"{n:,}", _percent(n, total), bar(n, total), meaning]

    def told(rule: str) -> str:
        shown = examples.get(rule, ())[:N_EXAMPLES]
        return "; ".join(f"row {row:,}{f': {detail}' if detail else ''}" for row, detail in shown)

    rows = [line("all", total, ""), line("used", used, "counted as votes")]
    rows += [line(rule, n, (rules.get(rule, ""), told(rule))) for rule, n in reasons.items()]
    return Table(f"{what} by rule", columns, rows, n_totals=1)


def _votes(about: Ingest) -> Table:
    columns = (
        Column("Question"), Column("Total votes"), Column("Galaxies with votes"), Column("Votes per galaxy"),
        Column("Total votes", "relative to the first question"),
    )  # fmt: skip
    most = max(about.n_votes_of.values(), default=0)
    rows = [
        (question, f"{n:,}", f"{about.n_galaxies_of[question]:,}", f"{n / about.n_galaxies_of[question]:.1f}",
         bar(n, most))
        for question, n in about.n_votes_of.items()
        if n
    ]  # fmt: skip
    return Table("Votes by question", columns, rows)


def _volunteers(about: Ingest) -> dict[str, str]:
    facts = {
        "Classifications by the most active tenth": f"{100 * about.fraction_by_top_decile:.0f}%",
        "Gini coefficient (0: all made equally many)": f"{about.gini:.2f}",
    }
    for quantile, n in about.classifications_per_volunteer.items():
        facts[f"{100 * float(quantile):.0f}% of volunteers made at most"] = f"{n:,} classification{'s' * (n != 1)}"
    return facts


def _per_galaxy(n: IntArray) -> Figure:
    """Return the histogram of the classifications per galaxy, in equal bins of whole numbers."""
    least, most = (int(n.min()), int(n.max())) if len(n) else (0, 0)
    step = max(1, -(-(most - least + 1) // N_BINS))
    starts = range(least, most + 1, step)
    bins = [(_range(start, start + step - 1), int(((n >= start) & (n < start + step)).sum())) for start in starts]
    return histogram(
        "classifications-per-galaxy",
        bins,
        axis="classifications per galaxy",
        unit="galaxies",
        description="Number of galaxies by number of classifications",
    )


def _per_volunteer(n: IntArray) -> Figure:
    """Return the histogram of the classifications per volunteer, in bins that double, because a few make very many."""
    edges = [1]
    while edges[-1] <= (int(n.max()) if len(n) else 1):
        edges.append(2 * edges[-1])
    bins = [(_range(low, high - 1), int(((n >= low) & (n < high)).sum())) for low, high in itertools.pairwise(edges)]
    return histogram(
        "classifications-per-volunteer",
        bins,
        axis="classifications per volunteer",
        unit="volunteers",
        description="Number of volunteers by number of classifications",
    )


def _range(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,}\N{EN DASH}{high:,}"


def _percent(n: int, of: int) -> str:
    return f"{100 * n / of:.2f}%" if of else ""
