"""Comparison of predictions on the same galaxies: paired differences, adjusted for multiple testing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Literal, TypedDict

import numpy as np
import polars as pl

from gzoo.dataset.open import KEY, Dataset, open_dataset
from gzoo.display import Sheet, Shown, interval, table_of
from gzoo.errors import TableError
from gzoo.files import refuse_report
from gzoo.scoring.differences import (
    MIN_GALAXIES,
    Difference,
    amount,
    decide,
    names_of,
    needed,
    number,
    standard_errors_needed,
)
from gzoo.scoring.intervals import Blocks, Bootstrap, Value, as_value, blocks, holm, ratio
from gzoo.scoring.likelihood import sampling_noise
from gzoo.scoring.matching import Matched, match, positions, refuse_other_scheme, refuse_seen
from gzoo.scoring.ordered import ordered_votes, ranked_probability_score
from gzoo.scoring.predictions import Predictions, read_predictions, same_questions
from gzoo.scoring.target_comparison import TargetComparison, compare_targets
from gzoo.scoring.targets import target_of
from gzoo.trees.labels import label
from gzoo.trees.tree import FloatArray, IntArray, Tree
from gzoo.votes.votes import Votes

MAX_LIST = 12  # questions named in one sentence

Unit = Literal["log_likelihood", "mse", "rps"]

UNITS: tuple[Unit, ...] = ("log_likelihood", "mse", "rps")


class Contrast(TypedDict):
    """Two models on one question, in one campaign or overall.

    log_likelihood: In nats per galaxy, larger is better. This is also the difference of the gains over the baseline,
        because the baseline cancels.
    mse: Mean squared error of vote fractions, smaller is better; the sampling noise of the votes cancels.
    rps: Ranked probability score of questions with ordered answers, over galaxies with votes for these; smaller is
        better. Of several questions, the sum.
    description: Sentence about the log-likelihoods; where they are infinite, about the errors too.
    """

    log_likelihood: Difference
    mse: Difference
    rps: Difference
    description: str


class Pair(TypedDict):
    """Two models; `campaigns` is empty if there is only one, `description` summarises the questions."""

    first: str
    second: str
    description: str
    overall: Contrast
    campaigns: dict[str, Contrast]
    questions: dict[str, Contrast]


class Model(TypedDict):
    """One of the models, scored on the galaxies and questions that all models predict.

    kind, how_read: What its predictions are, from which columns, and why they were read as this kind.
    n_unshared, questions_unshared: Galaxies and questions of its file that another model does not predict.
    log_likelihood: Null if the model assigned zero probability to votes of `n_zero_probability` galaxies.
    """

    file: str
    kind: str
    how_read: str
    n_galaxies: int
    n_unshared: int
    n_trained_on: int
    questions_unshared: list[str]
    n_zero_probability: int
    log_likelihood: Value
    mse_noise_corrected: Value


@dataclass(frozen=True, slots=True, repr=False)
class Comparison(Shown):
    """Paired differences between models.

    Attributes:
        n_galaxies: Galaxies that all models predict.
        n_tests: Differences in log-likelihood in the larger family of tests.
        bootstrap: Resampled units of the confidence intervals.
        models: Each model by its name.
        pairs: Differences of each pair of models.
    """

    n_galaxies: int
    n_tests: int
    bootstrap: Bootstrap
    models: dict[str, Model]
    pairs: list[Pair]

    def to_polars(self) -> pl.DataFrame:
        """Return the differences as a table.

        Returns:
            A row for each pair (`first`, `second`), part (`kind`: "overall", "campaign", "question"; `name`) and
            `measure` ("log_likelihood", "mse" and, where answers are ordered, "rps").
        """
        return table_of(
            {"first": pair["first"], "second": pair["second"], "kind": kind, "name": name, "measure": measure, **one}
            for pair in self.pairs
            for kind, name, contrast in _parts(pair)
            for measure in UNITS
            if (one := contrast[measure])["n_galaxies"] or measure != "rps"
        )

    def sheet(self) -> Sheet:
        """Return the differences in log-likelihood."""
        rows = [
            (pair["first"], pair["second"], name, one["n_galaxies"], interval(one, 4, "+"), one["better_model"] or "?")
            for pair in self.pairs
            for _, name, contrast in _parts(pair)
            if (one := contrast["log_likelihood"])["n_galaxies"]
        ]
        seen = {name: one["n_trained_on"] for name, one in self.models.items() if one["n_trained_on"]}
        return Sheet(
            f"Comparison of {len(self.models)} models on {self.n_galaxies:,} galaxies",
            {"trained on": seen, "verdicts": [pair["overall"]["description"] for pair in self.pairs]},
            ("first", "second", "", "galaxies", "difference (nats)", "better"),
            rows,
            "Difference: in log-likelihood per galaxy, first minus second, with 95% confidence interval; ? is "
            "inconclusive. Every difference: to_polars().",
        )


def _parts(pair: Pair) -> Iterator[tuple[str, str, Contrast]]:
    """Yield kind, name and contrast of everything that a pair is compared on."""
    yield "overall", "overall", pair["overall"]
    for name, one in pair["campaigns"].items():
        yield "campaign", name, one
    for name, one in pair["questions"].items():
        yield "question", name, one


def compare(
    predictions: Sequence[Path | str],
    dataset: Path | str,
    *,
    name: Sequence[str] | None = None,
    target: str | None = None,
    labels: Path | str | None = None,
    include_trained_on: bool = False,
    report: Path | str | None = None,
    overwrite: bool = False,
) -> Comparison | TargetComparison:
    """Compare predictions of the same galaxies, with significance tests.

    Differences are paired: they are computed on the galaxies that all prediction files contain. Verdicts hold at a
    family-wise error rate of 5% (Holm 1979), for all questions, campaigns and pairs together; overall verdicts, for
    all pairs together. Predictions of runs of `gzoo train --target` are compared on the labels of their target.

    Args:
        predictions: Two or more prediction files, as for `gzoo score`. Fractions are scored as point predictions.
        dataset: Dataset with the votes or labels: a folder, a campaign's name or `owner/name` on the Hub.
        name: Name of each model, in the order of the prediction files; by default the names of the files.
        target: Column of labels to compare on, as for `gzoo score`; by default the one that `gzoo predict` wrote into
            the files.
        labels: Table with the column of `target` and `id_str`, if the dataset does not have it.
        include_trained_on: Include galaxies that a model was trained on, and count them, instead of failing.
        report: HTML report to write.
        overwrite: Replace an earlier report.

    Returns:
        The comparison, whose `to_dict()` is what `--json` prints.

    Raises:
        InputError: Fewer than two files, one file twice, names that do not distinguish the files, or no question that
            all of them predict.
        NotFoundError: A file does not exist.
        TableError: A file is invalid, no galaxy is in all of them, or a model was trained on some of the galaxies or
            on a dataset with another split scheme.
        OutputExistsError: The report already exists.
    """
    paths = [Path(path) for path in predictions]
    names = names_of(paths, name)
    refuse_report(report, [*paths, dataset, labels], overwrite)
    opened = open_dataset(dataset)
    if target or labels or any(target_of(path) for path in paths):
        of_target = compare_targets(paths, names, opened, target, labels, include_trained_on=include_trained_on)
        if report is not None:
            from gzoo.reports.target import write_target_comparison

            origins = dict(zip(names, paths, strict=True))
            write_target_comparison(Path(report), dataset=opened, found=of_target, origins=origins)
        return of_target
    if not include_trained_on:
        for path in paths:
            refuse_other_scheme(path, opened)
    files = [read_predictions(path, opened.tree) for path in paths]
    questions = same_questions(files)
    common = _common_galaxies(opened, files)
    if not include_trained_on:
        for one, matched in common:
            refuse_seen(matched, one.source)
    votes = common[0][1].votes
    galaxy_blocks = blocks(len(votes), *positions(opened, common[0][1].keys))
    models = {model: one for model, (one, _) in zip(names, common, strict=True)}
    found = compute(models, votes, questions, galaxy_blocks)
    about: dict[str, Model] = {}
    for model, one, (_, matched) in zip(names, files, common, strict=True):
        n_unshared, n_trained_on = len(one) - len(votes), int(matched.is_seen.sum())
        about[model] = {
            **found.models[model],
            "n_galaxies": len(one),
            "n_unshared": n_unshared,
            "n_trained_on": n_trained_on,
        }
    found = replace(found, models=about)
    if report is not None:
        from gzoo.reports.comparison import write_comparison

        origins = dict(zip(names, paths, strict=True))
        write_comparison(Path(report), dataset=opened, found=found, origins=origins)
    return found


def compute(
    models: Mapping[str, Predictions], votes: Votes, questions: Sequence[str], galaxy_blocks: Blocks
) -> Comparison:
    """Return the differences between models that predict the same galaxies.

    Args:
        models: Predictions by model name; rows in the order of `votes`.
        votes: Votes for held-out galaxies.
        questions: Names of the questions to compare on.
        galaxy_blocks: Units of the bootstrap.
    """
    columns = _Columns.of(votes, questions)
    scores = {name: log_likelihoods(one, votes, questions) for name, one in models.items()}
    errors = {name: _squared_errors(one, votes, questions) for name, one in models.items()}
    ranked = {name: _ranked_scores(one, votes, questions) for name, one in models.items()}
    n, m = len(columns.questions), len(columns.campaigns)
    pairs: list[Pair] = []
    for first, second in combinations(models, 2):
        by_score = _differences(scores[first], scores[second], columns.asked, columns, galaxy_blocks)
        by_error = _differences(errors[first], errors[second], columns.cells, columns, galaxy_blocks)
        by_order = _differences(ranked[first], ranked[second], columns.ordered, columns, galaxy_blocks)
        contrasts = [
            Contrast(log_likelihood=one, mse=two, rps=three, description="")
            for one, two, three in zip(by_score, by_error, by_order, strict=True)
        ]
        pairs.append(
            Pair(
                first=first,
                second=second,
                description="",
                overall=contrasts[n + m],
                campaigns=dict(zip(columns.campaigns, contrasts[n : n + m], strict=True)),
                questions=dict(zip(columns.questions, contrasts[:n], strict=True)),
            )
        )
    n_tests = _judge(pairs, len(votes))
    for pair in pairs:
        _describe(pair, votes.tree)
    noise = _noise(votes, questions)
    about: dict[str, Model] = {}
    for name, one in models.items():
        n_zero_probability = int(np.isinf(scores[name]).any(axis=1).sum())
        score = scores[name].sum(axis=1, keepdims=True)
        error = (errors[name] - noise).sum(axis=1, keepdims=True)
        about[name] = Model(
            file=one.source.name,
            kind=one.kind if len(one.values) == 1 else f"{one.kind}, {len(one.values)} members",
            how_read=one.how_read,
            n_galaxies=len(votes),
            n_unshared=0,
            n_trained_on=0,
            questions_unshared=[question for question in one.questions if question not in questions],
            n_zero_probability=n_zero_probability,
            log_likelihood=as_value(None, None, None)
            if n_zero_probability
            else ratio(score, columns.asked[:, -1:], galaxy_blocks).of(0),
            mse_noise_corrected=ratio(error, columns.cells[:, -1:], galaxy_blocks).of(0),
        )
    return Comparison(
        n_galaxies=len(votes), n_tests=n_tests, bootstrap=galaxy_blocks.to_dict(), models=about, pairs=pairs
    )


# ----------------------------------------------------------------------------------------------------
# Files


def _common_galaxies(dataset: Dataset, files: Sequence[Predictions]) -> list[tuple[Predictions, Matched]]:
    """Return predictions and votes of the galaxies that all files contain, in the order of the first file."""
    matched = [match(dataset, one.keys, one.source, one.in_training_set) for one in files]
    rows = matched[0].keys.select(*KEY).with_row_index("row_0")
    for i, one in enumerate(matched[1:], 1):
        rows = rows.join(one.keys.select(*KEY).with_row_index(f"row_{i}"), on=KEY, maintain_order="left")
    if rows.is_empty():
        raise TableError(
            f"The prediction files do not share a galaxy: {', '.join(one.source.name for one in files)}.",
            "predictions of the same galaxies, because differences are paired.",
            "Predict the same split with each model.",
        )
    taken = [rows[f"row_{i}"].to_numpy() for i in range(len(files))]
    keys, votes = matched[0].keys[taken[0]], matched[0].votes.take(taken[0])
    return [
        (one.take(row), Matched(keys, votes, own.is_seen[row]))
        for one, own, row in zip(files, matched, taken, strict=True)
    ]


# ----------------------------------------------------------------------------------------------------
# Differences


@dataclass(frozen=True)
class _Columns:
    """Columns of a difference: questions, then campaigns (if there are several), then all together.

    Attributes:
        questions: Names of the questions.
        campaigns: Name -> indices of its questions among `questions`.
        asked: 1 for galaxies with votes, else 0, shape (galaxy, column).
        cells: Number of answers to questions with at least 2 votes, shape (galaxy, column).
        ordered: 1 for galaxies with votes for ordered answers, else 0, shape (galaxy, column).
    """

    questions: tuple[str, ...]
    campaigns: Mapping[str, list[int]]
    asked: FloatArray
    cells: FloatArray
    ordered: FloatArray

    @classmethod
    def of(cls, votes: Votes, questions: Sequence[str]) -> _Columns:
        tree, indices = votes.tree, _indices(votes.tree, questions)
        number = {name: i for i, name in enumerate(questions)}
        parts = {name: [number[one.name] for one in part if one.name in number] for name, part in tree.parts.items()}
        campaigns = {name: part for name, part in parts.items() if part} if len(parts) > 1 else {}
        volunteers = votes.totals[:, indices]
        sizes = np.array([len(tree.questions[i].columns) for i in indices])
        asked, cells = (volunteers > 0).astype(np.float64), np.where(volunteers >= 2, sizes, 0).astype(np.float64)
        ordered = _by_question(votes, questions, 1, lambda i, rows: _has_ordered_votes(votes, i, rows))
        groups = [*campaigns.values(), list(range(len(questions)))]
        return cls(
            tuple(questions),
            campaigns,
            np.column_stack([asked, *(asked[:, group].max(axis=1) for group in groups)]),
            np.column_stack([cells, *(cells[:, group].sum(axis=1) for group in groups)]),
            np.column_stack([ordered, *(ordered[:, group].max(axis=1) for group in groups)]),
        )

    def with_groups(self, values: FloatArray) -> FloatArray:
        """Append the sums over each campaign and over all questions to columns of questions."""
        sums = [values[:, group].sum(axis=1) for group in self.campaigns.values()]
        return np.column_stack([values, *sums, values.sum(axis=1)])


def _indices(tree: Tree, questions: Sequence[str]) -> list[int]:
    number = {question.name: i for i, question in enumerate(tree.questions)}
    return [number[name] for name in questions]


def _by_question(
    votes: Votes, questions: Sequence[str], min_votes: int, measure: Callable[[int, IntArray], FloatArray]
) -> FloatArray:
    """Return a measure of each galaxy and question, shape (galaxy, question); 0 below `min_votes`.

    Args:
        votes: The votes.
        questions: Names of the questions.
        min_votes: Total votes from which a galaxy counts.
        measure: Function of the index of a question in the tree and the galaxies with enough votes.
    """
    out = np.zeros((len(votes), len(questions)))
    for column, i in enumerate(_indices(votes.tree, questions)):
        rows = np.flatnonzero(votes.totals[:, i] >= min_votes)
        out[rows, column] = measure(i, rows)
    return out


def log_likelihoods(predictions: Predictions, votes: Votes, questions: Sequence[str]) -> FloatArray:
    """Return the log probability of the votes on each question, shape (galaxy, question); 0 without votes.

    It is minus infinity where an answer with votes has zero predicted probability, which only fractions can have.
    """
    return _by_question(votes, questions, 1, lambda i, rows: predictions.log_likelihood(votes, i, rows))


def _squared_errors(predictions: Predictions, votes: Votes, questions: Sequence[str]) -> FloatArray:
    """Return squared differences of predicted and voted fractions, summed over the answers."""

    def squares(i: int, rows: IntArray) -> FloatArray:
        return ((predictions.question_fractions(i, rows) - _voted(votes, i, rows)) ** 2).sum(axis=1)

    return _by_question(votes, questions, 2, squares)


def _has_ordered_votes(votes: Votes, i: int, rows: IntArray) -> FloatArray:
    question = votes.tree.questions[i]
    return (ordered_votes(votes.counts[rows, votes.tree.slice(question.name)], question) > 0).astype(np.float64)


def _ranked_scores(predictions: Predictions, votes: Votes, questions: Sequence[str]) -> FloatArray:
    """Return ranked probability scores, shape (galaxy, question); 0 for questions without ordered answers."""

    def scores(i: int, rows: IntArray) -> FloatArray:
        question = votes.tree.questions[i]
        if not question.ordered:
            return np.zeros(len(rows))
        counts = votes.counts[rows, votes.tree.slice(question.name)]
        return ranked_probability_score(predictions.question_fractions(i, rows), counts, question)

    return _by_question(votes, questions, 1, scores)


def _noise(votes: Votes, questions: Sequence[str]) -> FloatArray:
    """Return the sampling noise of voted fractions, summed over the answers."""

    def noise(i: int, rows: IntArray) -> FloatArray:
        return sampling_noise(_voted(votes, i, rows), votes.totals[rows, i, None]).sum(axis=1)

    return _by_question(votes, questions, 2, noise)


def _voted(votes: Votes, i: int, rows: IntArray) -> FloatArray:
    return votes.counts[rows, votes.tree.slice(votes.tree.questions[i].name)] / votes.totals[rows, i, None]


def _differences(
    first: FloatArray, second: FloatArray, weight: FloatArray, columns: _Columns, galaxy_blocks: Blocks
) -> list[Difference]:
    """Return first minus second for each question, campaign and overall, without verdicts."""
    impossible = [(columns.with_groups(np.isinf(one).astype(np.float64)) > 0).sum(axis=0) for one in (first, second)]
    is_known = (impossible[0] + impossible[1]) == 0
    both = columns.with_groups(np.nan_to_num(first, neginf=0.0) - np.nan_to_num(second, neginf=0.0))
    found = ratio(both, weight, galaxy_blocks)
    p = np.where(~both.any(axis=0) & is_known, 1.0, found.p_values())
    n_galaxies = (weight > 0).sum(axis=0)
    out: list[Difference] = []
    for i, n in enumerate(n_galaxies.tolist()):
        value = found.of(i)
        is_judged = bool(is_known[i]) and n >= MIN_GALAXIES
        has_value = bool(is_known[i]) and n > 0
        out.append(
            Difference(
                value=value["value"] if has_value else None,
                low=value["low"] if is_judged else None,
                high=value["high"] if is_judged else None,
                p=number(p[i]) if is_judged else None,
                p_adjusted=None,
                better_model=None,
                n_galaxies=n,
                n_effective=number(found.n_effective[i]) if has_value else None,
                n_zero_probability=(int(impossible[0][i]), int(impossible[1][i])),
                # the standard error, until `decide` multiplies it
                minimum_detectable_difference=number(found.standard_error[i]) if is_judged else None,
                n_additional_galaxies=None,
                n_additional_of_all=None,
            )
        )
    return out


def _judge(pairs: Sequence[Pair], n_all: int) -> int:
    """Adjust p-values for multiple testing, and fill in the better models and the numbers that depend on power.

    The overall differences of all pairs are one family of tests; those of questions and campaigns are another.
    Each measure is adjusted separately.

    Returns:
        Number of log-likelihood tests in the larger family.
    """
    n_tests = 0
    for unit in UNITS:
        overall = [(pair, pair["overall"][unit]) for pair in pairs]
        parts = [
            (pair, one[unit]) for pair in pairs for one in (*pair["campaigns"].values(), *pair["questions"].values())
        ]
        for family in (overall, parts):
            adjusted = holm([one["p"] if one["p"] is not None else np.nan for _, one in family])
            n_known = int(np.isfinite(adjusted).sum())
            n_tests = max(n_tests, n_known) if unit == "log_likelihood" else n_tests
            z = standard_errors_needed(n_known)
            for (pair, one), p in zip(family, adjusted.tolist(), strict=True):
                decide(one, p, z, (pair["first"], pair["second"]), larger_is_better=unit == "log_likelihood")
                if one["n_additional_galaxies"]:
                    one["n_additional_of_all"] = math.ceil(one["n_additional_galaxies"] * n_all / one["n_galaxies"])
    return n_tests


# ----------------------------------------------------------------------------------------------------
# Descriptions


def _describe(pair: Pair, tree: Tree) -> None:
    """Fill in the descriptions of a pair and of its contrasts."""
    names = (pair["first"], pair["second"])
    pair["overall"]["description"] = _contrast(pair["overall"], "overall", names)
    for name, one in pair["campaigns"].items():
        one["description"] = _contrast(one, f"in {name}", names)
    for name, one in pair["questions"].items():
        one["description"] = _contrast(one, f"on {label(name, tree)}", names)
    pair["description"] = " ".join(_summary(pair, tree))


def _summary(pair: Pair, tree: Tree) -> Iterator[str]:
    """Yield sentences that name the better model on each question."""
    known = {label(name, tree): one["log_likelihood"] for name, one in pair["questions"].items()}
    asked = {name: one for name, one in known.items() if one["n_galaxies"]}
    for model in (pair["first"], pair["second"]):
        won = {name: one for name, one in asked.items() if one["better_model"] == model}
        measured = [f"{name} by {amount(one)}" for name, one in won.items() if one["value"] is not None]
        infinite = [name for name, one in won.items() if one["value"] is None]
        if measured:
            yield f"{model} is better on {_and(measured)} nats per galaxy."
        if infinite:
            yield f"{model} is better on {_and(infinite)}, where the other assigned zero probability to votes."
    rest = [name for name, one in asked.items() if not one["better_model"]]
    if rest:
        yield f"Inconclusive on {_and(rest)}."


def _contrast(one: Contrast, where: str, names: tuple[str, str]) -> str:
    difference, n = one["log_likelihood"], one["log_likelihood"]["n_galaxies"]
    if not n:
        return "No votes." if where == "overall" else f"No votes {where}."
    if any(difference["n_zero_probability"]):
        said = [
            f"{name} assigned zero probability to votes of {k:,} of {n:,} galaxies"
            for name, k in zip(names, difference["n_zero_probability"], strict=True)
            if k
        ]
        if difference["better_model"]:
            first = f"{difference['better_model']} is better {where}: {said[0]}."
        else:
            first = f"The log-likelihoods are inconclusive {where}: {' and '.join(said)}."
        return f"{first} {_by_error(one['mse'])}"
    if difference["low"] is None:
        return (
            f"Inconclusive {where}: {n} galaxies have votes, and a verdict needs at least {MIN_GALAXIES} galaxies or "
            "sky cells."
        )
    if difference["better_model"]:
        return f"{difference['better_model']} is better {where} by {amount(difference)} nats per galaxy."
    if difference["value"] == 0 and difference["p"] == 1.0:
        return f"The predictions are identical {where}."
    return f"Inconclusive {where} ({amount(difference, sign='+')} nats per galaxy).{_more(difference)}"


def _by_error(error: Difference) -> str:
    if error["better_model"] and error["value"] is not None:
        return f"{error['better_model']} has the smaller mean squared error, by {abs(error['value']):.2g}."
    return "The mean squared errors are inconclusive."


def _more(difference: Difference) -> str:
    return f" To detect a true difference of this size would take {needed(difference)}." if needed(difference) else ""


def _and(names: Sequence[str]) -> str:
    shown = list(names) if len(names) <= MAX_LIST else [*names[:MAX_LIST], f"{len(names) - MAX_LIST} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
