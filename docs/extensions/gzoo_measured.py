"""Parts of pages with numbers of benchmarks, for which there may be no result yet; pages include them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
WAYS = ("probe", "fine-tuned", "scratch")


def parts(results: Path = RESULTS) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each part."""
    path = results / "adaptation.json"
    yield "adaptation.md", adaptation(json.loads(path.read_text("utf-8")) if path.exists() else None)


def adaptation(record: Mapping[str, Any] | None) -> str:
    """Return what `benchmarks/adaptation.py` measured, as a table, or that there is no result."""
    if record is None:
        return "`benchmarks/adaptation.py` measures the three ways; it was not run in full yet.\n"
    heads = ("question and labels", "measure", *WAYS, "probe - scratch", "fine-tuned - probe")
    rows = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for name, found in record["results"].items():
        means = (f"{found[way]:.3f}" for way in WAYS)
        differences = (_interval(found[one]) for one in ("probe - scratch", "fine-tuned - probe"))
        rows.append(f"| {name} | {found['measure']} | {' | '.join((*means, *differences))} |")
    n_draws = max(found["n_draws"] for found in record["results"].values())
    return "\n".join(
        [
            f"Measured on simulated galaxies: a {record['encoder']} trained on the votes on "
            f"{record['pretraining']['n_train']:,} galaxies of three campaigns, adapted to questions that no volunteer "
            f"was asked, with images of {record['size_pixels']} pixels. Means over at most {n_draws} draws of the "
            "labelled galaxies; differences with 95% confidence intervals over the draws.",
            "",
            *rows,
            "",
            "![ROC AUC against the number of labels, for each way](figures/adaptation.svg)",
            "",
        ]
    )


def _interval(difference: Mapping[str, float | None]) -> str:
    if difference["low"] is None:
        return f"{difference['mean']:+.3f}"
    return f"{difference['mean']:+.3f} [{difference['low']:+.3f}, {difference['high']:+.3f}]"
