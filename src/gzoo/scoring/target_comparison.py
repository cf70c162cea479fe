"""Comparison of predicted classes or values on the same galaxies: paired differences, adjusted for multiple testing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TypedDict

import numpy as np
import polars as pl

from gzoo.dataset.open import KEY, Dataset
from gzoo.display import Sheet, Shown, interval, table_of
from gzoo.errors import TableError
from gzoo.scoring.differences import (
    MIN_GALAXIES,
    Difference,
    amount,
    decide,
    needed,
    number,
    standard_errors_needed,
)
from gzoo.scoring.intervals import Blocks, Bootstrap, holm, ratio
from gzoo.scoring.target_likelihood import target_log_likelihood
from gzoo.scoring.targets import (
    LabelledPredictions,
    TargetScores,
    auc_responses,
    baseline_for,
    compute,
    labelled,
    labels_for,
    squared_errors,
)
from gzoo.trees.tree import FloatArray

LARGER_IS_BETTER = {"log_likelihood": True, "accuracy": True, "mean_auc": True, "brier": False, "mse": False}
"""Measures, and whether a larger value is better."""


class TargetModel(TypedDict):
    """One of the models, scored on the galaxies that all models predict and that have a label.

    file: Prediction file.
    n_galaxies: Galaxies of its file.
    n_unshared: Galaxies of its file with a label that another model does not predict.
    n_trained_on: Compared galaxies that it was trained on.
    scores: See `TargetScores`.
    """

    file: str
    n_galaxies: int
    n_unshared: int
    n_trained_on: int
    scores: TargetScores


class TargetPair(TypedDict):
    """Two models; `description` is a sentence.

    differences: First minus second, by measure. Of classes: `log_likelihood` (nats per galaxy), `accuracy`, `mean_auc`,
        `brier`; of values: `log_likelihood`, `mse`. The baseline cancels in all of them.
    """

    first: str
    second: str
    description: str
    differences: dict[str, Difference]


@dataclass(frozen=True, slots=True, repr=False)
class TargetComparison(Shown):
    """Paired differences between models that predict a target.

    Attributes:
        target: Column of the labels.
        kind: "classes" or "value".
        n_galaxies: Galaxies that all models predict and that have a label.
        n_tests: Number of pairs, for which the p-values of a measure are adjusted.
        bootstrap: Resampled units of the confidence intervals.
        models: Each model by its name.
        pairs: Differences of each pair of models.
    """

    target: str
    kind: str
    n_galaxies: int
    n_tests: int
    bootstrap: Bootstrap
    models: dict[str, TargetModel]
    pairs: list[TargetPair]

    def to_polars(self) -> pl.DataFrame:
        """Return a row for each pair (`first`, `second`) and `measure`."""
        return table_of(
            {"first": pair["first"], "second": pair["second"], "measure": measure, **one}
            for pair in self.pairs
            for measure, one in pair["differences"].items()
        )

    def sheet(self) -> Sheet:
        """Return the differences of each pair."""
        rows = [
            (
                pair["first"],
                pair["second"],
                measure.replace("_", " "),
                interval(one, 4, "+"),
                one["better_model"] or "?",
            )
            for pair in self.pairs
            for measure, one in pair["differences"].items()
        ]
        seen = {name: one["n_trained_on"] for name, one in self.models.items() if one["n_trained_on"]}
        return Sheet(
            f"Comparison of {len(self.models)} models on {self.n_galaxies:,} galaxies by {self.target}",
            {"trained on": seen, "verdicts": [pair["description"] for pair in self.pairs]},
            ("first", "second", "measure", "difference", "better"),
            rows,
            "Difference: first minus second, with 95% confidence interval; ? is inconclusive. Log-likelihood in nats "
            "per galaxy. Every difference: to_polars().",
        )


def compare_targets(
    paths: Sequence[Path],
    names: Sequence[str],
    dataset: Dataset,
    target: str | None,
    table: Path | str | None,
    *,
    include_trained_on: bool,
) -> TargetComparison:
    """Compare predictions of a target.

    Args:
        paths: Two or more prediction files.
        names: Name of each model.
        dataset: Dataset with the labels, or with the galaxies that `table` labels.
        target: Column of the labels; by default the one that the files say they predict.
        table: Table with the labels, if they are not in the dataset.
        include_trained_on: Compare on galaxies that a model was trained on as well.

    Raises:
        InputError: Fewer than two files, one file twice, or files with different targets.
        TableError: A file does not fit the labels, no galaxy is in all files, or a model was trained on some.
    """
    labels = labels_for(paths, dataset, target, table)
    each = [labelled(path, dataset, labels, include_trained_on=include_trained_on) for path in paths]
    common = each[0].keys.with_row_index("row_0")
    for i, one in enumerate(each[1:], 1):
        common = common.join(one.keys.with_row_index(f"row_{i}"), on=KEY, maintain_order="left")
    if common.is_empty():
        raise TableError(
            f"The prediction files do not share a galaxy with a label: {', '.join(path.name for path in paths)}.",
            "predictions of the same galaxies, because differences are paired.",
            "Predict the same split with each model.",
        )
    taken = [one.take(common[f"row_{i}"].to_numpy()) for i, one in enumerate(each)]
    measured = [measures(one) for one in taken]
    pairs: list[TargetPair] = []
    for (i, first), (j, second) in combinations(enumerate(names), 2):
        found = {name: _difference(measured[i][name], measured[j][name], taken[0].units) for name in measured[i]}
        pairs.append(TargetPair(first=first, second=second, description="", differences=found))
    _judge(pairs)
    for pair in pairs:
        pair["description"] = _sentence(pair)
    models = {
        name: TargetModel(
            file=path.name,
            n_galaxies=len(one.labels) + one.n_unlabelled,
            n_unshared=len(one.labels) - common.height,
            n_trained_on=int(own.is_seen.sum()),
            scores=compute(own, baseline_for(path, dataset, own.target, labels)[0]),
        )
        for name, path, one, own in zip(names, paths, each, taken, strict=True)
    }
    first = taken[0]
    return TargetComparison(
        first.target.name, first.target.kind, common.height, len(pairs), first.units.to_dict(), models, pairs
    )


def measures(one: LabelledPredictions) -> dict[str, FloatArray]:
    """Return measures whose means are scores, shape (galaxy,) each; the log-likelihood may be minus infinity."""
    found = {"log_likelihood": target_log_likelihood(one.target, one.prediction, one.labels)}
    square = squared_errors(one.target, one.prediction, one.labels)
    if one.target.kind == "value":
        return {**found, "mse": square}
    found["accuracy"] = (one.prediction.argmax(axis=1) == one.labels).astype(np.float64)
    areas = [auc_responses(one.labels == i, one.prediction[:, i]) for i in range(len(one.target.classes))]
    possible = [area for area in areas if area is not None]
    if possible:
        found["mean_auc"] = np.mean(possible, axis=0)
    return {**found, "brier": square}


def _difference(first: FloatArray, second: FloatArray, units: Blocks) -> Difference:
    """Return the mean of first minus second, without a verdict."""
    n_zero = int(np.isinf(first).sum()), int(np.isinf(second).sum())
    n, is_known = len(first), not any(n_zero)
    both = np.nan_to_num(first, neginf=0.0) - np.nan_to_num(second, neginf=0.0)
    found = ratio(both[:, None], np.ones((n, 1)), units)
    value, is_judged = found.of(0), is_known and n >= MIN_GALAXIES
    p = 1.0 if not both.any() else float(found.p_values()[0])
    return Difference(
        value=value["value"] if is_known else None,
        low=value["low"] if is_judged else None,
        high=value["high"] if is_judged else None,
        p=number(p) if is_judged else None,
        p_adjusted=None,
        better_model=None,
        n_galaxies=n,
        n_effective=number(found.n_effective[0]) if is_known else None,
        n_zero_probability=n_zero,
        minimum_detectable_difference=number(found.standard_error[0]) if is_judged else None,
        n_additional_galaxies=None,
        n_additional_of_all=None,
    )


def _judge(pairs: Sequence[TargetPair]) -> None:
    """Adjust p-values over the pairs, each measure separately, and fill in the better models."""
    for measure in pairs[0]["differences"]:
        family = [(pair, pair["differences"][measure]) for pair in pairs]
        adjusted = holm([one["p"] if one["p"] is not None else np.nan for _, one in family])
        z = standard_errors_needed(int(np.isfinite(adjusted).sum()))
        for (pair, one), p in zip(family, adjusted.tolist(), strict=True):
            names = (pair["first"], pair["second"])
            decide(one, p, z, names, larger_is_better=LARGER_IS_BETTER[measure])
            one["n_additional_of_all"] = one["n_additional_galaxies"]


def _sentence(pair: TargetPair) -> str:
    """Return which model is better by log-likelihood, and which measures agree or differ."""
    one = pair["differences"]["log_likelihood"]
    names = (pair["first"], pair["second"])
    if any(one["n_zero_probability"]):
        said = [
            f"{name} assigned probability 0 to the class of {k:,} galaxies"
            for name, k in zip(names, one["n_zero_probability"], strict=True)
            if k
        ]
        verdict = f"{one['better_model']} is better" if one["better_model"] else "The log-likelihoods are inconclusive"
        text = f"{verdict}: {' and '.join(said)}."
    elif one["low"] is None:
        text = f"Inconclusive: a verdict needs at least {MIN_GALAXIES} galaxies or sky cells."
    elif one["better_model"]:
        text = f"{one['better_model']} is better by {amount(one)} nats per galaxy."
    elif one["value"] == 0 and one["p"] == 1.0:
        return "The predictions are equally good for every galaxy."
    else:
        more = needed(one)
        text = f"Inconclusive ({amount(one, sign='+')} nats per galaxy)."
        text += f" To detect a true difference of this size would take {more}." if more else ""
    others = _others(pair["differences"])
    return f"{text} {others}" if others else text


def _others(differences: Mapping[str, Difference]) -> str:
    words = {"accuracy": "accuracy", "mean_auc": "mean AUC", "brier": "Brier score", "mse": "mean squared error"}
    won: dict[str, list[str]] = {}
    for measure, name in words.items():
        if measure in differences:
            won.setdefault(differences[measure]["better_model"] or "", []).append(name)
    parts = [f"{model} has the better {_and(names)}" for model, names in won.items() if model]
    if "" in won:
        parts.append(f"Inconclusive by {_and(won[''])}")
    return " ".join(f"{part}." for part in parts)


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
