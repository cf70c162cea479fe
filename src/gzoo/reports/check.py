"""The page that shows what a check of a dataset folder found."""

from __future__ import annotations

from gzoo import reports
from gzoo.dataset.check import CheckResult
from gzoo.reports.parts import Cell, Column, Number, Table, badge

VERDICTS = ("failed", "passed", "not checked")


def check_page(found: CheckResult, *, name: str) -> bytes:
    """Return the report of a check as an HTML page; the same folder gives the same page.

    Args:
        found: Result of `gzoo.check`.
        name: Name of the folder.
    """
    n_of = {verdict: sum(one.verdict == verdict for one in found.checks) for verdict in VERDICTS}
    return reports.render(
        "check",
        title=f"Check of {name}",
        found=found,
        verdict=_verdict(found, n_of),
        numbers=[
            Number("Failed", str(n_of["failed"]), "checks", "bad" if n_of["failed"] else ""),
            Number("Passed", str(n_of["passed"]), "checks", "good"),
            Number("Not checked", str(n_of["not checked"]), "does not apply, or not possible"),
            Number("Galaxies", f"{sum(found.n_galaxies.values()):,}", _splits(found)),
        ],
        checks=_checks(found),
        findings=_findings(found),
    )


def _verdict(found: CheckResult, n_of: dict[str, int]) -> str:
    if found.is_valid:
        return "This dataset is valid."
    failed = ", ".join(one.name for one in found.checks if one.verdict == "failed")
    return f"This dataset is not valid: {n_of['failed']} of {len(found.checks)} checks failed ({failed})."


def _splits(found: CheckResult) -> str:
    return ", ".join(f"{split} {n:,}" for split, n in found.n_galaxies.items())


def _checks(found: CheckResult) -> Table:
    columns = (
        Column("Check"), Column("Verdict", is_text=True), Column("Checked"),
        Column("What a pass means", is_text=True),
    )  # fmt: skip
    # a reader of a long table wants to see first what failed
    ordered = sorted(found.checks, key=lambda one: VERDICTS.index(one.verdict) > 0)
    rows: list[list[Cell]] = [
        [one.name, badge(one.verdict), f"{one.n:,} {one.unit}" if one.n else "", (one.description, one.note)]
        for one in ordered
    ]
    return Table("Checks", columns, rows)


def _findings(found: CheckResult) -> Table | None:
    columns = (
        Column("Finding", "check"), Column("Place", is_text=True), Column("Number"), Column("First row"),
        Column("Examples", "and what was expected", is_text=True),
    )  # fmt: skip
    rows: list[list[Cell]] = [
        [
            (one.name, one.check),
            (one.file or "folder", one.column),
            f"{one.n:,}",
            "" if one.row is None else f"{one.row:,}",
            ("; ".join(one.examples), f"Expected {one.expected}"),
        ]
        for one in found.findings
    ]
    return Table("Findings", columns, rows) if rows else None
