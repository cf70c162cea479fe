"""HTML reports about predicted classes and values: scores of one model, and comparisons of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gzoo import files, reports
from gzoo.dataset.open import Dataset
from gzoo.display import interval
from gzoo.reports.parts import Cell, Column, Table, provenance
from gzoo.scoring.baseline import in_words
from gzoo.scoring.differences import Difference
from gzoo.scoring.intervals import Value
from gzoo.scoring.prediction_files import read_metadata
from gzoo.scoring.target_comparison import LARGER_IS_BETTER, TargetComparison
from gzoo.scoring.targets import TargetScores

MEANINGS = {
    "log_likelihood": ("log-likelihood", "nats per galaxy; more is better"),
    "baseline_log_likelihood": ("log-likelihood of the baseline", "nats per galaxy"),
    "log_likelihood_gain": ("log-likelihood gain", "model minus baseline, galaxy by galaxy"),
    "accuracy": ("accuracy", "galaxies whose most probable class is the true one"),
    "majority_class_accuracy": ("accuracy of the most frequent class", "if it were predicted for every galaxy"),
    "balanced_accuracy": ("balanced accuracy", "mean over classes"),
    "mean_auc": ("mean AUC", "mean over classes; 0.5 is chance"),
    "brier": ("Brier score", "squared distance of the probabilities from the true class; less is better"),
    "brier_gain": ("Brier gain", "baseline minus model"),
    "rmse": ("RMSE", "in the units of the label"),
    "baseline_rmse": ("RMSE of the baseline", "which predicts the mean of the training labels"),
    "mae": ("MAE", "in the units of the label"),
    "mse": ("mean squared error", "less is better"),
    "bias": ("bias", "mean of predicted minus true value"),
    "r2": ("R2", "explained part of the variance"),
    "spread_ratio": ("spread ratio", "above 1: overconfident; below 1: underconfident"),
}


def write_target_scores(path: Path, *, dataset: Dataset, predictions: Path, found: TargetScores) -> None:
    """Write the report about one model; the same inputs give the same bytes.

    Args:
        path: HTML file to write.
        dataset: Dataset with the labels.
        predictions: Prediction file.
        found: Its scores.
    """
    baseline = in_words(found.baseline) if found.baseline else "training galaxies"
    rows = [(_named(name)[0], _cell(one, 4), _named(name)[1]) for name, one in found.values().items()]
    columns = (Column("Score"), Column("Value", f"{found.level:.0%} CI"), Column("Meaning", is_text=True))
    unit = f"{found.bootstrap['n_units']:,} {found.bootstrap['unit']}"
    about = f"Confidence intervals are a bootstrap over {unit}. The baseline knows only the labels of {baseline}."
    sections = [(Table("Scores", columns, rows), about)]
    if found.classes:
        note = "Galaxies of each true class by their most probable class, and the fraction of those of the true class."
        sections.append((_confusion(found.classes["confusion"]), note))
    n, seen = found.n_galaxies, found.n_trained_on
    without = f", without {found.n_unlabelled:,} that have none" if found.n_unlabelled else ""
    _write(
        path,
        dataset,
        title=f"{found.target}: scores",
        lead=f"How well does {predictions.name} predict {found.target}? Scored on {n:,} galaxies with a label"
        f"{without}.",
        verdicts=[_verdict(found)],
        trained_on=f"The model was trained on {seen:,} of these {n:,} galaxies." if seen else "",
        sections=sections,
        origins={"": predictions},
    )


def write_target_comparison(
    path: Path, *, dataset: Dataset, found: TargetComparison, origins: Mapping[str, Path]
) -> None:
    """Write the report about a comparison; the same inputs give the same bytes.

    Args:
        path: HTML file to write.
        dataset: Dataset with the labels.
        found: The comparison.
        origins: Prediction file of each model.
    """
    n, unit = found.n_galaxies, f"{found.bootstrap['n_units']:,} {found.bootstrap['unit']}"
    columns = (
        Column("Measure"),
        Column("Difference", "95% CI"),
        Column("p", "adjusted"),
        Column("Better model", is_text=True),
        Column("Minimum detectable difference", "80% power"),
        Column("Meaning", is_text=True),
    )
    sections = [
        (
            Table(
                f"{pair['first']} versus {pair['second']}", columns, [_row(*one) for one in pair["differences"].items()]
            ),
            f"Differences are {pair['first']} minus {pair['second']} (confidence intervals: bootstrap over {unit}). A "
            "model is called better only if the difference is significant at 5% for all pairs together (Holm 1979).",
        )
        for pair in found.pairs
    ]
    scores = {name: one["scores"].values() for name, one in found.models.items()}
    shown = [name for name in (*LARGER_IS_BETTER, "rmse") if all(name in one for one in scores.values())]
    rows = [
        (name, f"{one['n_galaxies']:,}", *(_cell(scores[name][each], 4) for each in shown))
        for name, one in found.models.items()
    ]
    heads = (Column("Model"), Column("Galaxies", "in its file"), *(Column(_named(name)[0], "95% CI") for name in shown))
    sections.append(
        (
            Table("Models", heads, rows),
            "Scores on the galaxies that all models predict. These intervals include what is the same for all models; "
            "only the paired differences show which model is better.",
        )
    )
    seen = {name: one["n_trained_on"] for name, one in found.models.items() if one["n_trained_on"]}
    _write(
        path,
        dataset,
        title=f"{found.target}: {' versus '.join(found.models)}",
        lead=f"Which model predicts {found.target} better? Compared on {n:,} galaxies with a label that all predict.",
        verdicts=[f"{pair['first']} versus {pair['second']}: {pair['description']}" for pair in found.pairs],
        trained_on=" ".join(f"{name} was trained on {k:,} of these {n:,} galaxies." for name, k in seen.items()),
        sections=sections,
        origins=origins,
    )


def _write(path: Path, dataset: Dataset, *, title: str, origins: Mapping[str, Path], **values: object) -> None:
    facts = {name: {"Predictions": one.name, **provenance(read_metadata(one))} for name, one in origins.items()}
    page = reports.render("target", title=title, is_simulated=dataset.is_simulated, origins=facts, **values)
    files.write_bytes(path, page)


def _row(name: str, one: Difference) -> Sequence[Cell]:
    p, least = one["p_adjusted"], one["minimum_detectable_difference"]
    return (
        _named(name)[0],
        _cell(one, 4, "+"),
        "-" if p is None else f"{p:.2g}",
        one["better_model"] or "inconclusive",
        "-" if p is None or least is None else f"{least:.2g}",
        _named(name)[1],
    )


def _cell(one: Value | Difference, digits: int, sign: str = "") -> Cell:
    """Return a value, and its interval under it."""
    value, low, high = one["value"], one["low"], one["high"]
    if value is None:
        return "-"
    return f"{value:{sign}.{digits}f}", "" if low is None or high is None else (
        f"{low:{sign}.{digits}f} to {high:{sign}.{digits}f}"
    )


def _named(name: str) -> tuple[str, str]:
    for prefix, words in (("auc_", "AUC of {}"), ("coverage_", "coverage of {}")):
        if name.startswith(prefix) and name not in MEANINGS:
            known = name.removeprefix(prefix)
            meaning = "against the other classes" if prefix == "auc_" else "galaxies within this prediction interval"
            return words.format(known if prefix == "auc_" else f"{float(known):.0%}"), meaning
    return MEANINGS.get(name, (name.replace("_", " "), ""))


def _verdict(found: TargetScores) -> str:
    gain = found.log_likelihood_gain
    if found.n_zero_probability:
        return f"The model assigned probability 0 to the true class of {found.n_zero_probability:,} galaxies."
    if gain["low"] is None or gain["high"] is None:
        return "Too few galaxies for a verdict."
    if gain["low"] > 0:
        return f"The model is better than the baseline, by {interval(gain, 3)} nats per galaxy."
    if gain["high"] < 0:
        return f"The model is worse than the baseline, by {interval(gain, 3)} nats per galaxy."
    return f"The model is not distinguishable from the baseline: {interval(gain, 3, '+')} nats per galaxy."


def _confusion(confusion: Mapping[str, Mapping[str, Any]]) -> Table:
    rows: list[list[Cell]] = []
    for true, row in confusion.items():
        n = sum(cell["n"] for cell in row.values())
        rows.append([true, *((f"{cell['n']:,}", f"{cell['n'] / n:.0%}" if n else "") for cell in row.values())])
    predicted = next(iter(confusion.values()), {})
    return Table("Confusion", (Column("True class"), *(Column(name, "predicted") for name in predicted)), rows)
