"""The self-contained HTML report of `gzoo select`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gzoo import files, reports
from gzoo.catalogs.selection import Curve, Selection
from gzoo.reports import Markup
from gzoo.reports.figures import ThresholdPoint, thresholds_svg
from gzoo.scoring.intervals import Value

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
        curves=[_curve(one) for one in found.curves],
        off=[f"{name} ({one.verdict})" for name, one in found.calibration.items() if one.is_off],
    )
    files.write_bytes(path, page)


def _curve(one: Curve) -> dict[str, object]:
    points = [
        ThresholdPoint(threshold, n, quality.purity, quality.completeness)
        for threshold, n, quality in zip(one.thresholds, one.n_selected, one.qualities, strict=True)
    ]
    step = max(len(points) // N_ROWS, 1)
    kept = [point for i, point in enumerate(points) if i % step == step // 2 or point.threshold == one.threshold]
    description = f"Purity and completeness for other thresholds of {one.test}"
    axis = f"threshold of {one.name}"
    return {
        "test": one.test,
        "n_most": max(one.n_selected),
        "figure": Markup(thresholds_svg(points, marked=one.threshold, axis=axis, description=description)),
        "rows": [
            {
                "threshold": f"{point.threshold:g}",
                "is_chosen": point.threshold == one.threshold,
                "n_selected": point.n_selected,
                "purity": _percent(point.purity),
                "completeness": _percent(point.completeness),
            }
            for point in kept
        ],
    }


def _percent(value: Value) -> tuple[str, str]:
    """Return a number and its interval."""
    if value["value"] is None or value["low"] is None or value["high"] is None:
        return DASH, ""
    return f"{value['value']:.1%}", f"{value['low']:.1%} to {value['high']:.1%}"


def _naive(found: Selection) -> dict[str, float | None]:
    naive = found.against_votes
    return {"purity": naive["purity"], "completeness": naive["completeness"]} if naive else {}
