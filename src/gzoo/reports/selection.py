"""The self-contained HTML report of `gzoo select`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gzoo import files, reports
from gzoo.catalogs.selection import Curve, Selection
from gzoo.reports import Markup
from gzoo.reports.figures import ThresholdPoint, thresholds
from gzoo.reports.parts import Cell, Column, Number, Table, badge, provenance
from gzoo.scoring.intervals import Value
from gzoo.scoring.prediction_files import read_metadata

DASH = "\N{EN DASH}"
N_ROWS = 12  # of the table under a figure


def write_report(path: Path, found: Selection, *, title: str, dataset: Path, predictions: Sequence[Path]) -> None:
    """Write the report of a selection; the same inputs give the same bytes.

    Args:
        path: HTML file to write; an existing file is replaced.
        found: Result of `gzoo.select`, with curves.
        title: Title of the page.
        dataset: Dataset with the votes.
        predictions: Prediction files that were used.
    """
    page = reports.render(
        "select",
        title=title,
        found=found,
        dataset=str(dataset),
        predictions=[one.name for one in predictions],
        purity=_percent(found.purity),
        completeness=_percent(found.completeness),
        naive={name: DASH if value is None else f"{value:.1%}" for name, value in _naive(found).items()},
        numbers=_numbers(found),
        origins=[{"Predictions": one.name, **provenance(read_metadata(one))} for one in predictions],
        curves=[_curve(i, one) for i, one in enumerate(found.curves)],
        calibration=_calibration(found),
        off=[f"{name} ({one.verdict})" for name, one in found.calibration.items() if one.is_off],
    )
    files.write_bytes(path, page)


def _numbers(found: Selection) -> list[Number]:
    """Return the main results at the top of the page."""
    numbers = [Number("Selected", f"{found.n_selected:,}", f"of {found.n_population:,} galaxies")]
    if found.truth:
        level = f"{found.level:.0%} interval"
        kind = "bad" if any(one.is_off for one in found.calibration.values()) else ""
        for name, value in (("Purity", found.purity), ("Completeness", found.completeness)):
            number, interval = _percent(value)
            said = f"{interval} ({level}){', not calibrated' if kind else ''}" if interval else ""
            numbers.append(Number(name, number, said, kind))
    return numbers


def _curve(i: int, one: Curve) -> dict[str, object]:
    points = [
        ThresholdPoint(threshold, n, quality.purity, quality.completeness)
        for threshold, n, quality in zip(one.thresholds, one.n_selected, one.qualities, strict=True)
    ]
    step = max(len(points) // N_ROWS, 1)
    kept = [point for k, point in enumerate(points) if k % step == step // 2 or point.threshold == one.threshold]
    description = f"Purity and completeness for other thresholds of {one.test}"
    rows: list[list[Cell]] = [
        [
            Markup("<strong>{:g} (chosen)</strong>").format(point.threshold)
            if point.threshold == one.threshold
            else f"{point.threshold:g}",
            f"{point.n_selected:,}",
            _percent(point.purity),
            _percent(point.completeness),
        ]
        for point in kept
    ]
    columns = (
        Column("Threshold"), Column("Selected", "galaxies"), Column("Purity", "with its interval"),
        Column("Completeness", "with its interval"),
    )  # fmt: skip
    return {
        "test": one.test,
        "n_most": max(one.n_selected),
        "figure": thresholds(
            f"thresholds-{i + 1}",
            points,
            marked=one.threshold,
            axis=f"threshold of {one.name}",
            description=description,
        ),
        "table": Table(description, columns, rows),
    }


def _calibration(found: Selection) -> Table:
    columns = (
        Column("Question"), Column("Galaxies", "with held-out votes"),
        Column("Coverage", "of 90% prediction intervals of votes"), Column("Verdict", is_text=True),
    )  # fmt: skip
    rows = [
        (name, f"{one.n_galaxies:,}", f"{one.coverage:.1%}", badge(one.verdict))
        for name, one in found.calibration.items()
    ]
    return Table("Calibration by question", columns, rows)


def _percent(value: Value) -> tuple[str, str]:
    """Return a number and its interval."""
    if value["value"] is None or value["low"] is None or value["high"] is None:
        return DASH, ""
    return f"{value['value']:.1%}", f"{value['low']:.1%} to {value['high']:.1%}"


def _naive(found: Selection) -> dict[str, float | None]:
    naive = found.against_votes
    return {"purity": naive["purity"], "completeness": naive["completeness"]} if naive else {}
