"""Parts of pages with numbers of benchmarks, for which there may be no result yet; pages include them."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
RESULTS = BENCHMARKS / "results"
WAYS = ("probe", "fine-tuned", "scratch")


def parts(results: Path = RESULTS) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each part."""
    for name, part in {"adaptation": adaptation, "scaling": scaling}.items():
        path = results / f"{name}.json"
        yield f"{name}.md", part(json.loads(path.read_text("utf-8")) if path.exists() else None)
    yield "benchmarks.md", benchmarks(results)


def benchmarks(results: Path) -> str:
    """Return the table of all benchmarks: what each measures, by the first line of its docstring, and its result."""
    rows = ["| benchmark | what it measures | result |", "|---|---|---|"]
    for path in sorted(BENCHMARKS.glob("*.py")):
        text = path.read_text("utf-8")
        if "__main__" not in text:  # others import it
            continue
        said = (ast.get_docstring(ast.parse(text)) or "").partition("\n\n")[0].replace("\n", " ")
        found = [one for one in sorted(results.glob(f"{path.stem}.*")) if one.suffix in {".json", ".txt"}]
        links = ", ".join(f"[{one.name}](../../benchmarks/results/{one.name})" for one in found)
        rows.append(f"| [{path.stem}](../../benchmarks/{path.name}) | {said} | {links or 'not committed'} |")
    return "\n".join(rows) + "\n"


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


def scaling(record: Mapping[str, Any] | None) -> str:
    """Return what `benchmarks/scaling.py` measured, as a table and a figure, or that there is no result."""
    if record is None:
        return "`benchmarks/scaling.py` studies two small encoders; it was not run in full yet.\n"
    heads = (
        "encoder",
        "exponent, all trainings",
        "predicted loss",
        "losses reached",
        "expected gain of ten times the galaxies",
    )
    rows = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for name, found in record["encoders"].items():
        reached = ", ".join(f"{one:.2f}" for one in found["reached_losses"])
        cells = (
            f"{found['curve']['exponent']['value']:.3f}{_ends(found['curve']['exponent'], 3)}",
            f"{found['predicted_loss']['value']:.2f}{_ends(found['predicted_loss'], 2)}",
            f"{reached} ({found['inside']} inside)",
            "{value:.2f}".format(**found["expected_gain_of_ten_times_the_galaxies"])
            + _ends(found["expected_gain_of_ten_times_the_galaxies"], 2),
        )
        rows.append(f"| {name} | {' | '.join(cells)} |")
    first = next(iter(record["encoders"].values()))
    return "\n".join(
        [
            f"Two small encoders were trained on simulated galaxies at {record['image_size']} pixels, three times on "
            f"each number of galaxies. The floor is the loss of the truth, {record['floor']:.2f} nats. A curve through "
            f"the trainings on fewer galaxies predicts the loss at {first['at_n_galaxies']:,}, "
            f"{first['times_the_largest_fitted']:g} times as many as the largest of them:",
            "",
            *rows,
            "",
            "![Excess loss against the number of galaxies trained on, for two encoders, both on logarithmic axes: "
            "points of trainings, and the curve through the filled ones with its band](figures/learning-curves.svg)",
            "",
            "*The curve through the filled points, dashed beyond them, with the 95% prediction interval of one more "
            "training. Hollow points were not fitted.*",
            "",
        ]
    )


def _ends(interval: Mapping[str, float], digits: int) -> str:
    return f" [{interval['low']:.{digits}f}, {interval['high']:.{digits}f}]"


def _interval(difference: Mapping[str, float | None]) -> str:
    if difference["low"] is None:
        return f"{difference['mean']:+.3f}"
    return f"{difference['mean']:+.3f} [{difference['low']:+.3f}, {difference['high']:+.3f}]"
