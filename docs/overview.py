"""The figure of README: a galaxy, the gain for each question, and calibration, of what `gzoo demo` wrote.

    .venv-docs/bin/python docs/overview.py gzoo-demo

Writes docs/overview.png.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import polars as pl
from figures import BLUE, GREY, ORANGE, STYLE
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

import gzoo

OUT = Path(__file__).with_name("overview.png")
QUESTIONS = ("smooth-or-featured-gz2", "has-spiral-arms-gz2", "bar-gz2", "bulge-size-gz2")
"""Questions that are drawn beside the galaxy."""


def plain(name: str) -> str:
    """Return the name of a question in words."""
    return name.removesuffix("-gz2").replace("-", " ")


def galaxy(picture: Axes, bars: Axes, folder: Path, predictions: pl.DataFrame) -> None:
    """Draw the galaxy on which the most volunteers saw a bar and spiral arms, with its votes and predictions."""
    table = pl.read_parquet(sorted((folder / "data").glob("test-*")))
    first = pl.min_horizontal(f"{one}_yes_fraction" for one in QUESTIONS[1:3])
    enough = pl.col(f"{QUESTIONS[2]}_total-votes") >= 20
    row = table.filter(enough).sort(first, descending=True).row(0, named=True)
    image = Image.open(io.BytesIO(row["image"]["bytes"]))
    picture.imshow(image.crop(tuple(np.multiply((0.2, 0.2, 0.8, 0.8), image.width).round())))
    picture.set_axis_off()
    picture.set_title("A simulated galaxy", loc="left")
    bars.set_title("Votes and prediction", loc="left")
    predicted = predictions.row(by_predicate=pl.col("id_str") == row["id_str"], named=True)
    at, names = 0.0, []
    for question in map(gzoo.tree("gz2").question, QUESTIONS):
        bars.text(0.01, at - 0.6, plain(question.name), fontsize=8, color=GREY, va="center")
        for answer, column in zip(question.answers, question.columns, strict=True):
            bars.barh(at, row[f"{column}_fraction"], height=0.38, color=BLUE)
            bars.barh(at + 0.38, predicted[f"{column}_fraction"], height=0.38, color=ORANGE)
            names.append((at + 0.19, answer.replace("-", " ")))
            at += 1
        at += 0.9
    bars.set_yticks(*zip(*names, strict=True), fontsize=8)
    bars.invert_yaxis()
    bars.set(xlim=(0, 1.02), xlabel="vote fraction")
    bars.plot([], [], "s", color=BLUE, label="volunteers")
    bars.plot([], [], "s", color=ORANGE, label="model")
    bars.legend(frameon=False, fontsize=8, loc="lower right")


def gains(axis: Axes, scores: dict[str, Any]) -> None:
    """Draw the gain over the baseline for each question, with 95% confidence intervals."""
    found = {name: one["log_likelihood_gain"] for name, one in scores["questions"].items()}
    known = sorted((one["value"], one["low"], one["high"], plain(name)) for name, one in found.items() if one["value"])
    value, low, high, names = zip(*known, strict=True)
    rows = np.arange(len(known))
    axis.errorbar(value, rows, xerr=np.abs(np.subtract((low, high), value)), fmt="o", color=ORANGE, capsize=3)
    axis.axvline(0, color=GREY, linewidth=0.7)
    axis.set_yticks(rows, names, fontsize=8)
    axis.set(xlabel="nats per galaxy")
    axis.set_title("Gain over the baseline", loc="left")


def coverage(axis: Axes, scores: dict[str, Any]) -> None:
    """Draw how many counts are inside prediction intervals, for each question and level."""
    for one in scores["calibration"]["questions"].values():
        if one["central"]:
            axis.plot(one["central"]["levels"], one["central"]["coverage"], color=ORANGE, alpha=0.6, linewidth=1)
    axis.plot([0, 1], [0, 1], color=GREY, linewidth=0.7, linestyle=":")
    axis.set(xlabel="probability of a prediction interval", ylabel="counts inside it", xlim=(0, 1), ylim=(0, 1))
    axis.set_aspect("equal")
    axis.set_title("Calibration", loc="left")


def main() -> None:
    """Draw the figure."""
    folder = Path(sys.argv[1])
    scores = json.loads((folder / "scores.json").read_text("utf-8"))
    mpl.rcParams.update(STYLE)
    figure = Figure(figsize=(12, 4), layout="constrained")
    picture, bars, middle, right = figure.subplots(1, 4, width_ratios=(1, 1, 1.1, 1))
    galaxy(picture, bars, folder / "dataset", pl.read_parquet(folder / "predictions.parquet"))
    gains(middle, scores)
    coverage(right, scores)
    figure.savefig(OUT, dpi=150, metadata={"Software": None})


if __name__ == "__main__":
    main()
