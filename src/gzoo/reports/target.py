"""HTML reports about predicted classes and values: scores of one model, and comparisons of several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from gzoo import files, reports
from gzoo.dataset.open import Dataset
from gzoo.display import interval
from gzoo.scoring.baseline import in_words
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


class _Table(NamedTuple):
    heading: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str
    texts: Sequence[str] = ("meaning", "better model")  # columns that are not numbers


def write_target_scores(path: Path, *, dataset: Dataset, predictions: Path, found: TargetScores) -> None:
    """Write the report about one model; the same inputs give the same bytes.

    Args:
        path: HTML file to write.
        dataset: Dataset with the labels.
        predictions: Prediction file.
        found: Its scores.
    """
    baseline = in_words(found.baseline) if found.baseline else "training galaxies"
    rows = [(*_named(name), interval(one, 4)) for name, one in found.values().items()]
    unit = f"{found.bootstrap['n_units']:,} {found.bootstrap['unit']}"
    tables = [
        _Table(
            "Scores",
            ("score", "meaning", "value"),
            rows,
            f"In brackets: {found.level:.0%} confidence intervals (bootstrap over {unit}). The baseline knows only the "
            f"labels of {baseline}.",
        )
    ]
    if found.classes:
        tables.append(_confusion(found))
    seen = f"The model was trained on {found.n_trained_on:,} of these {found.n_galaxies:,} galaxies."
    _write(
        path,
        dataset,
        title=f"{found.target}: scores",
        lead=f"How well does {predictions.name} predict {found.target}? Scored on {found.n_galaxies:,} galaxies with a "
        f"label{f', without {found.n_unlabelled:,} that have none' if found.n_unlabelled else ''}.",
        verdicts=[_verdict(found)],
        trained_on=seen if found.n_trained_on else "",
        tables=tables,
    )


def write_target_comparison(path: Path, *, dataset: Dataset, found: TargetComparison) -> None:
    """Write the report about a comparison; the same inputs give the same bytes.

    Args:
        path: HTML file to write.
        dataset: Dataset with the labels.
        found: The comparison.
    """
    unit = f"{found.bootstrap['n_units']:,} {found.bootstrap['unit']}"
    tables = [
        _Table(
            f"{pair['first']} versus {pair['second']}",
            ("measure", "meaning", "difference", "adjusted p", "better model", "minimum detectable difference"),
            [
                (
                    *_named(name),
                    interval(one, 4, "+"),
                    "-" if one["p_adjusted"] is None else f"{one['p_adjusted']:.2g}",
                    one["better_model"] or "inconclusive",
                    _number(one["minimum_detectable_difference"] if one["p_adjusted"] is not None else None),
                )
                for name, one in pair["differences"].items()
            ],
            f"Differences are {pair['first']} minus {pair['second']}, with 95% confidence intervals (bootstrap over "
            f"{unit}). A model is called better only if the difference is significant at 5% for all pairs together "
            "(Holm 1979). A true difference as large as the minimum detectable one is found in 4 of 5 samples like "
            "this one.",
        )
        for pair in found.pairs
    ]
    shown = [name for name in (*LARGER_IS_BETTER, "rmse") if all(name in one for one in _scores(found))]
    models = [
        (name, f"{one['n_galaxies']:,}", *(interval(scores[each], 4) for each in shown))
        for (name, one), scores in zip(found.models.items(), _scores(found), strict=True)
    ]
    tables.append(
        _Table(
            "Models",
            ("model", "galaxies in its file", *(_named(name)[0] for name in shown)),
            models,
            "Scores on the galaxies that all models predict. These intervals include what is the same for all models; "
            "only the paired differences show which model is better.",
        )
    )
    seen = [
        f"{name} was trained on {one['n_trained_on']:,} of these {found.n_galaxies:,} galaxies."
        for name, one in found.models.items()
        if one["n_trained_on"]
    ]
    _write(
        path,
        dataset,
        title=f"{found.target}: comparison",
        lead=f"Which model predicts {found.target} better? Compared on {found.n_galaxies:,} galaxies with a label that "
        "all of them predict.",
        verdicts=[f"{pair['first']} versus {pair['second']}: {pair['description']}" for pair in found.pairs],
        trained_on=" ".join(seen),
        tables=tables,
    )


def _write(path: Path, dataset: Dataset, *, title: str, **values: object) -> None:
    page = reports.render("target", title=title, is_simulated=dataset.is_simulated, **values)
    files.write_bytes(path, page)


def _scores(found: TargetComparison) -> Iterator[dict[str, object]]:
    for one in found.models.values():
        yield dict(one["scores"].values())


def _named(name: str) -> tuple[str, str]:
    for prefix, words in (("auc_", "AUC of {}"), ("coverage_", "coverage of {}")):
        if name.startswith(prefix) and name not in MEANINGS:
            known = name.removeprefix(prefix)
            meaning = "against the other classes" if prefix == "auc_" else "galaxies within this prediction interval"
            return words.format(known if prefix == "auc_" else f"{float(known):.0%}"), meaning
    return MEANINGS.get(name, (name.replace("_", " "), ""))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"


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


def _confusion(found: TargetScores) -> _Table:
    assert found.classes
    confusion = found.classes["confusion"]
    rows: list[Sequence[str]] = []
    for true, row in confusion.items():
        n = sum(cell["n"] for cell in row.values())
        rows.append((true, *(f"{cell['n']:,} ({cell['n'] / n:.0%})" if n else "0" for cell in row.values())))
    columns = ("true \\ predicted", *next(iter(confusion.values()), {}))
    return _Table("Confusion", columns, rows, "Galaxies, and the fraction of those of the true class.")
