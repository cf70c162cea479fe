"""HTML report about a scored model, for readers who did not run it.

The page loads nothing and runs nothing (its Content-Security-Policy forbids both), and every name and identifier in the
data is untrusted text.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from PIL import Image, ImageOps
from scipy.special import betaincinv

from gzoo import files, reports
from gzoo.dataset.open import Dataset, open_dataset
from gzoo.dataset.schema import KEY
from gzoo.errors import ImageError
from gzoo.images.checks import check_image
from gzoo.reports import Markup
from gzoo.reports.calibration import calibration_section
from gzoo.reports.figures import AnswerBars, QuestionBars, TruthRow, bars_svg, excludes, forest, truth_figure
from gzoo.reports.parts import Cell, Column, Figure, Number, Table, provenance
from gzoo.reports.tree import tree_figure
from gzoo.scoring.baseline import in_words
from gzoo.scoring.intervals import Value, wilson_interval
from gzoo.scoring.likelihood import expected_fractions, giving
from gzoo.scoring.matching import match
from gzoo.scoring.prediction_files import read_metadata
from gzoo.scoring.predictions import Predictions, read_predictions
from gzoo.scoring.scores import Errors, QuestionScore, Score, Scores
from gzoo.trees.drawing import Estimate
from gzoo.trees.labels import label, words
from gzoo.trees.tree import FloatArray, Question, Tree
from gzoo.votes.votes import Votes

IMAGE_PIXELS = 320
QUESTIONS_PER_GALAXY = 4
N_SPREAD, N_EXTREME = 4, 2
Z_68, Z_95 = 1.0, 1.96
P_68, P_95 = (0.1587, 0.8413), (0.025, 0.975)


def write_report(
    path: Path,
    *,
    dataset: Path,
    predictions: Path,
    scores: Scores,
    title: str,
    metadata: Mapping[str, str],
    mapping: Path | str | None = None,
    true_errors: Mapping[str, float] | None = None,
    overwrite: bool = False,
) -> None:
    """Write the report about a scored model; the same inputs give the same bytes.

    Args:
        path: HTML file to write.
        dataset: Dataset that was predicted.
        predictions: Prediction file (see `read_predictions`).
        scores: Result of `gzoo score` for these predictions.
        title: Heading of the page.
        metadata: Name and value of each line at the top of the page, in order.
        mapping: Mapping file of the predictions.
        true_errors: For simulated galaxies, the true RMSE of each question (see `gzoo.scoring.ground_truth`).
        overwrite: Replace an earlier page.

    Raises:
        OutputExistsError: `path` already exists.
        NotFoundError: The dataset or the prediction file does not exist.
        DatasetError: The folder is not a dataset.
        TableError: The predictions lack columns or galaxies of the dataset.
    """
    files.refuse_report(path, (dataset, predictions, mapping), overwrite)
    opened = open_dataset(dataset)
    tree, sample = opened.campaign.tree, _read(opened, predictions, mapping, scores.n_trained_on > 0)
    found = {
        label(question.name, tree): (question, scores.questions[question.name])
        for question in tree.ordered
        if question.name in scores.questions
    }
    with_votes = {name: one for name, one in found.items() if one[1]["n_galaxies"]}
    gains = {name: score["log_likelihood_gain"] for name, (_, score) in with_votes.items()}
    page = reports.render(
        "score",
        title=title,
        metadata={**metadata, **provenance(read_metadata(predictions))},
        campaign=opened.campaign.title,
        is_simulated=opened.is_simulated,
        n_galaxies=scores.n_galaxies,
        n_trained_on=scores.n_trained_on,
        verdict=_verdict(scores, gains),
        numbers=_numbers(scores),
        galaxies=_cards(sample, opened),
        tree=tree_figure(tree, _mean_proportion_asked(sample), greyed=scores.questions_missing),
        has_proportion_asked=bool(_mean_proportion_asked(sample)),
        has_unpublished=any(not question.is_published for question in tree.questions),
        bootstrap=scores.bootstrap,
        n_zero_probability=scores.overall["n_zero_probability"],
        without_votes=[name for name in found if name not in with_votes],
        missing=[label(name, tree) for name in scores.questions_missing],
        baseline=in_words(scores.baseline) if scores.baseline else "training galaxies",
        constant_gain=_cell(scores.overall["constant_gain"], 3),
        n_balanced=scores.balanced["n_questions"],
        balanced_gain=_cell(scores.balanced["log_likelihood_gain"], 2),
        balanced_error=_cell(scores.balanced["rmse_noise_corrected"], 3),
        gains=forest(
            "gain-by-question",
            gains,
            axis="log-likelihood gain over the baseline  [nats per galaxy]",
            description="Log-likelihood gain on each question with 95% confidence interval",
        ),
        scores=_tables(
            "question",
            [("All questions", scores.overall), *((name, one) for name, (_, one) in with_votes.items())],
            n_totals=1,
        ),
        answers=_answers(with_votes),
        ordered=_ordered(with_votes),
        campaigns=_tables("campaign", scores.campaigns.items()),
        slices=_tables("slice", [(f"{one['column']}: {one['range']}", one["score"]) for one in scores.slices]),
        truth=_truth(found, true_errors or {}),
        calibration=calibration_section(scores.calibration, tree) if scores.calibration else None,
        no_gain=[name for name, gain in gains.items() if gain["low"] is not None and gain["low"] <= 0],
    )
    files.write_bytes(path, page)


# ----------------------------------------------------------------------------------------------------
# Reading


class _Sample(NamedTuple):
    """The predicted galaxies that may be shown, sorted by dataset and identifier.

    Attributes:
        keys: `dataset_name` and `id_str` of each galaxy.
        votes: Votes of each galaxy.
        fractions: Predicted vote fractions, shape (galaxy, answer); NaN for questions that are not predicted.
        strength: Total concentration of the Beta distribution with the mean and variance of the predictive
            distribution of each fraction, shape (galaxy, answer); infinite for predictions without uncertainty.
        proportion_asked: Predicted proportion of volunteers asked, shape (galaxy, question); NaN where unknown.
    """

    keys: tuple[tuple[str, str], ...]
    votes: Votes
    fractions: FloatArray
    strength: FloatArray
    proportion_asked: FloatArray

    @property
    def tree(self) -> Tree:
        """The questions of the dataset."""
        return self.votes.tree


def _read(dataset: Dataset, predictions: Path, mapping: Path | str | None, include_trained_on: bool) -> _Sample:
    read = read_predictions(predictions, dataset.tree, mapping)
    matched = match(dataset, read.keys, predictions, read.in_training_set)
    shown = matched.keys.with_row_index("row").sort(KEY)
    if not include_trained_on:
        shown = shown.filter(~pl.Series(matched.is_seen).gather(shown["row"]))
    rows = shown["row"].to_numpy()
    taken = read.take(rows)
    fractions = taken.fractions
    return _Sample(
        tuple(zip(shown["dataset_name"].to_list(), shown["id_str"].to_list(), strict=True)),
        matched.votes.take(rows),
        fractions,
        _strength(taken, fractions),
        dataset.tree.proportion_asked(fractions),
    )


def _mean_proportion_asked(sample: _Sample) -> dict[str, float]:
    """Return the mean predicted proportion of volunteers asked, by question."""
    return {
        question.name: float(np.nanmean(column))
        for question, column in zip(sample.tree.questions, sample.proportion_asked.T, strict=True)
        if np.isfinite(column).any()
    }


def _strength(predictions: Predictions, mean: FloatArray) -> FloatArray:
    """Return the total concentrations that `_Sample` describes."""
    tree = predictions.tree
    if predictions.kind == "fractions":
        return np.full(mean.shape, np.inf)
    variance, total = np.zeros(mean.shape), np.empty(mean.shape)
    for member in predictions.concentrations:
        fraction = expected_fractions(member, tree)
        for question in tree.questions:
            own = member[:, tree.concentration_slice(question.name)]
            total[:, tree.slice(question.name)] = (
                sum(giving(own)) if question.multiple else own.sum(axis=1, keepdims=True)
            )
        variance += fraction * (1 - fraction) / (total + 1) + (fraction - mean) ** 2
    variance /= len(predictions.concentrations)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(variance > 0, np.maximum(mean * (1 - mean) / variance - 1, 1e-6), np.inf)


# ----------------------------------------------------------------------------------------------------
# Example galaxies


def _cards(sample: _Sample, dataset: Dataset) -> list[dict[str, object]]:
    """Return the example galaxies, as the template shows them."""
    chosen = _choose(sample)
    records = _images_and_positions(dataset, [sample.keys[row] for row, _, _ in chosen])
    cards: list[dict[str, object]] = []
    for row, reason, detail in chosen:
        name, identifier = sample.keys[row]
        image, position = records[name, identifier]
        figure = bars_svg(_bars(sample, row), description=f"Votes and predictions for galaxy {identifier}")
        card = {"heading": identifier, "reason": reason, "detail": detail, "dataset": name}
        cards.append({**card, "position": position, "image": image, "figure": Markup(figure)})
    return cards


def _choose(sample: _Sample) -> list[tuple[int, str, str]]:
    """Return rows, reasons and details of examples: a range of predictions, then the least and most expected votes."""
    root = next((question for question in sample.tree.ordered if not question.parents), None)
    if root is None or not sample.keys:
        return []
    predicted = sample.fractions[:, sample.tree.slice(root.name).start]
    chosen: dict[int, tuple[str, str]] = {}
    for target in np.linspace(predicted.min(), predicted.max(), N_SPREAD).tolist():
        nearest = (row for row in np.argsort(np.abs(predicted - target), kind="stable").tolist() if row not in chosen)
        if (row := next(nearest, None)) is not None:
            chosen[row] = f"Predicted fraction of “{words(root.answers[0])}”: {predicted[row]:.0%}", ""
    deviation = _deviation(sample)
    total = sample.votes.totals[:, sample.tree.questions.index(root)]
    # few votes agree with any prediction, so galaxies with an unusually small number are left out
    ranked = np.argsort(deviation, kind="stable")
    ranked = ranked[np.isfinite(deviation[ranked]) & (total[ranked] >= max(1.0, float(np.median(total))))]
    for kind, rows in (("Largest", ranked[::-1].tolist()), ("Smallest", ranked.tolist())):
        for row in [row for row in rows if row not in chosen][:N_EXTREME]:
            detail = f"RMS deviation of the votes: {deviation[row]:.1f} \N{GREEK SMALL LETTER SIGMA}"
            chosen[row] = f"{kind} deviation from the prediction", detail
    return [(row, reason, detail) for row, (reason, detail) in chosen.items()]


def _deviation(sample: _Sample) -> FloatArray:
    """Return the RMS deviation of votes from predictions in predicted standard deviations, shape (galaxy,).

    The mean is over the answers to all questions with votes; NaN for a galaxy without votes. The predicted variance of
    a count is that of a beta-binomial: sampling noise and the uncertainty of the prediction.
    """
    totals = sample.votes.totals[:, list(sample.tree.question_of_answer)] * np.isfinite(sample.fractions)
    fraction = np.clip(np.nan_to_num(sample.fractions), 1e-6, 1 - 1e-6)
    strength = np.minimum(sample.strength, 1e12)
    variance = totals * fraction * (1 - fraction) * (strength + totals) / (strength + 1)
    has_votes = totals > 0
    squares = np.where(has_votes, (sample.votes.counts - totals * fraction) ** 2 / np.where(has_votes, variance, 1), 0)
    n = has_votes.sum(axis=1)
    return np.where(n > 0, np.sqrt(squares.sum(axis=1) / np.maximum(n, 1)), np.nan)


def _bars(sample: _Sample, row: int) -> list[QuestionBars]:
    """Return the questions with the most votes (without votes: the most probable ones), in the order of the tree."""
    tree, totals = sample.tree, sample.votes.totals[row]
    likely = np.nan_to_num(sample.proportion_asked[row], nan=0.0)
    predicted = [
        i for i, one in enumerate(tree.questions) if np.isfinite(sample.fractions[row, tree.slice(one.name)]).all()
    ]
    first = sorted(predicted, key=lambda i: (-totals[i], -likely[i]))[:QUESTIONS_PER_GALAXY]
    shown = {tree.questions[i].name for i in first if totals[i] or not totals.any()}
    bars: list[QuestionBars] = []
    for question in tree.ordered:
        if question.name not in shown:
            continue
        own, total = tree.slice(question.name), int(totals[tree.questions.index(question)])
        answers = [
            AnswerBars(words(answer), _voted(int(votes), total), _predicted(sample, row, own.start + i))
            for i, (answer, votes) in enumerate(zip(question.answers, sample.votes.counts[row, own], strict=True))
        ]
        note = f"{total} vote{'s' * (total != 1)}" if total else "no votes"
        bars.append(QuestionBars(label(question.name, tree), note, tuple(answers)))
    return bars


def _voted(votes: int, total: int) -> Estimate | None:
    if total == 0:
        return None
    inner, outer = (tuple(float(end) for end in wilson_interval(votes / total, total, z)) for z in (Z_68, Z_95))
    return Estimate(votes / total, (inner[0], inner[1]), (outer[0], outer[1]))


def _predicted(sample: _Sample, row: int, answer: int) -> Estimate:
    fraction, strength = float(sample.fractions[row, answer]), float(sample.strength[row, answer])
    if not math.isfinite(strength) or not 0 < fraction < 1:  # a prediction without uncertainty
        return Estimate(fraction, (fraction, fraction), (fraction, fraction))
    ends = betaincinv(fraction * strength, (1 - fraction) * strength, [*P_68, *P_95]).tolist()
    return Estimate(fraction, (ends[0], ends[1]), (ends[2], ends[3]))


def _images_and_positions(
    dataset: Dataset, keys: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], tuple[str | None, str]]:
    """Return image (None in a dataset without images) and position of a few galaxies, without loading others."""
    records: dict[tuple[str, str], tuple[str | None, str]] = dict.fromkeys(keys, ("", ""))
    wanted = pl.col("id_str").is_in([identifier for _, identifier in keys])
    columns = [pl.col("^dataset_name$"), "id_str", "ra", "dec"]
    for shard in [shard for split in dataset.splits for shard in files.shards(dataset.folder, split)]:
        table = pl.scan_parquet(shard, glob=False)
        image = [pl.col("image").struct.field("bytes")] if "image" in table.collect_schema() else []
        for row in table.filter(wanted).select(*columns, *image).collect().to_dicts():
            key = (str(row.get("dataset_name", dataset.campaign.name)), str(row["id_str"]))
            if key in records:
                records[key] = (_thumbnail(row["bytes"] or b"") if image else None), _position(row["ra"], row["dec"])
    return records


def _position(ra: object, dec: object) -> str:
    if not (isinstance(ra, float) and isinstance(dec, float) and math.isfinite(ra) and math.isfinite(dec)):
        return ""
    return f"RA {ra:.4f}°, Dec {dec:+.4f}°".replace("-", "\N{MINUS SIGN}")


def _thumbnail(data: bytes) -> str:
    """Return an image, resized to at most 320 pixels per side, as a data URI; "" if it is not valid."""
    try:
        check_image(data)
    except ImageError:
        return ""
    with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
        small = ImageOps.exif_transpose(image).convert("RGB")
    small.thumbnail((IMAGE_PIXELS, IMAGE_PIXELS), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    small.save(out, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode("ascii")


# ----------------------------------------------------------------------------------------------------
# Scores


def _verdict(scores: Scores, gains: Mapping[str, Value]) -> str:
    """Return the result of the page in one or two sentences."""
    overall = scores.overall["log_likelihood_gain"]
    value, low, high = overall["value"], overall["low"], overall["high"]
    if value is None or low is None or high is None:
        first = "There are too few galaxies with votes to say whether the model predicts better than the baseline."
    elif low > 0:
        n, n_known = sum(excludes(one, 0) and (one["low"] or 0) > 0 for one in gains.values()), len(gains)
        first = (
            f"The model predicts the votes better than the baseline; on {n} of {n_known} "
            f"question{'s' * (n_known != 1)}, the 95% confidence interval of the gain excludes 0."
        )
    elif high < 0:
        first = "The model predicts the votes worse than the baseline, which uses no images."
    else:
        first = "The model does not predict the votes significantly better than the baseline, which uses no images."
    found = [one["verdict"] for one in scores.calibration["questions"].values()] if scores.calibration else []
    n_judged = sum(one != "insufficient data" for one in found)
    n_off = sum(one not in ("consistent", "insufficient data") for one in found)
    if not n_judged:
        return first
    if not n_off:
        return f"{first} Its uncertainties are consistent with the votes."
    return f"{first} Its uncertainties contradict the votes on {n_off} of {n_judged} question{'s' * (n_judged != 1)}."


def _numbers(scores: Scores) -> list[Number]:
    """Return the main results at the top of the page."""
    overall = scores.overall
    gain, per_vote = _cell(overall["log_likelihood_gain"], 2), _cell(overall["log_likelihood_gain_per_vote"], 3)
    error, found = _noise_corrected(overall), overall["log_likelihood_gain"]
    kind = "" if not excludes(found, 0) else "good" if (found["low"] or 0) > 0 else "bad"
    return [
        Number("Log-likelihood gain", gain[0], _detail("nats per galaxy", gain[1]), kind),
        Number("Gain per vote", per_vote[0], _detail("nats", per_vote[1])),
        Number("RMSE, noise-corrected", error[0], _detail("of vote fractions", error[1])),
        Number("Galaxies", f"{scores.n_galaxies:,}", "" if scores.n_trained_on else "none used in training"),
    ]


def _detail(unit: str, interval: str) -> str:
    return f"{unit} ({interval})" if interval else unit


def _tables(kind: str, found: Iterable[tuple[str, Score]], *, n_totals: int = 0) -> list[Table]:
    """Return the likelihoods and the errors of some questions, campaigns or slices; [] if there are none.

    Args:
        kind: What the rows are, such as "question".
        found: Name and score of each row.
        n_totals: Number of rows that sum up the others.
    """
    rows = list(found)
    galaxies = Column("Galaxies", "(effective)")
    likelihoods = (
        Column(kind.capitalize()), galaxies, Column("Gain over baseline", "nats per galaxy"),
        Column("Gain per vote", "nats"), Column("Log-likelihood", "nats per galaxy"),
        Column("Gain of a constant", "fitted to these votes"), Column("Brier gain", "over baseline"),
    )  # fmt: skip
    errors = (
        Column(kind.capitalize()), galaxies, Column("RMSE", "noise-corrected"), Column("RMSE", "with sampling noise"),
        Column("Noise floor", "RMSE of a perfect model"), Column("RMSE", "noise-corrected, weighted by votes"),
    )  # fmt: skip
    tables = [
        Table(f"Likelihood by {kind}", likelihoods, [_likelihood_row(*row) for row in rows], n_totals),
        Table(f"Errors by {kind}", errors, [_error_row(*row) for row in rows], n_totals),
    ]
    return tables if rows else []


def _likelihood_row(name: str, score: Score) -> list[Cell]:
    return [
        name,
        _n_galaxies(score),
        _cell(score["log_likelihood_gain"], 2),
        _cell(score["log_likelihood_gain_per_vote"], 3),
        _cell(score["log_likelihood"], 2),
        _cell(score["constant_gain"], 3),
        _cell(score["brier_gain"], 3),
    ]


def _error_row(name: str, score: Score) -> list[Cell]:
    return [
        name,
        _n_galaxies(score),
        _noise_corrected(score),
        _cell(score["rmse"], 3),
        _cell(score["noise_floor"], 3),
        _cell(score["rmse_weighted"], 3),
    ]


def _n_galaxies(score: Score) -> tuple[str, str]:
    effective = score["n_effective"]
    return f"{score['n_galaxies']:,}", "" if effective is None else f"({effective:,.0f})"


def _ordered(found: Mapping[str, tuple[Question, QuestionScore]]) -> Table | None:
    """Return the order of the answers, the galaxies with votes for these, and their score with its gain."""
    columns = (
        Column("Question"), Column("Order", is_text=True), Column("Galaxies"), Column("Ranked probability score"),
        Column("Gain", "over baseline"),
    )  # fmt: skip
    rows = [
        (name, " < ".join(map(words, question.ordered)), f"{one['n_ordered']:,}", _cell(one["rps"], 3),
         _cell(one["rps_gain"], 3))
        for name, (question, one) in found.items()
        if one["n_ordered"]
    ]  # fmt: skip
    return Table("Ranked probability scores", columns, rows) if rows else None


def _answers(found: Mapping[str, tuple[Question, QuestionScore]]) -> list[tuple[str, Table]]:
    columns = (
        Column("Answer"), Column("RMSE", "with sampling noise"), Column("Noise floor", "of the RMSE"),
        Column("RMSE", "noise-corrected"), Column("MAE", "with sampling noise"), Column("Noise floor", "of the MAE"),
        Column("Bias", "predicted \N{MINUS SIGN} observed"),
    )  # fmt: skip
    return [
        (name, Table(f"Errors of the answers to {name}", columns, _answer_rows(question, one)))
        for name, (question, one) in found.items()
    ]


def _answer_rows(question: Question, score: QuestionScore) -> list[list[Cell]]:
    rows: list[list[Cell]] = []
    for answer, column in zip(question.answers, question.columns, strict=True):
        one = score["answers"][column]
        rest = [_cell(one[name], 3) for name in ("mae", "mae_floor", "bias")]
        rows.append([words(answer), _cell(one["rmse"], 3), _cell(one["noise_floor"], 3), _noise_corrected(one), *rest])
    return rows


def _noise_corrected(errors: Errors) -> tuple[str, str]:
    """Return the noise-corrected RMSE; if it is consistent with 0, only its upper end is known."""
    found = errors["rmse_noise_corrected"]
    if errors["exceeds_noise"] is False and found["high"] is not None:
        high = _fixed(found["high"], 3)
        return (f"0 to {high}" if float(high) else "below 0.001"), "consistent with 0"
    return _cell(found, 3)


def _cell(found: Value, places: int) -> tuple[str, str]:
    value, low, high = (_fixed(end, places) for end in (found["value"], found["low"], found["high"]))
    return value or "\N{EN DASH}", f"{low} to {high}" if value and low and high else ""


def _fixed(value: float | None, places: int) -> str:
    text = "" if value is None else f"{value:.{places}f}"
    return text.replace("-", "\N{MINUS SIGN}") if value is None or float(text) else text.removeprefix("-")


def _truth(found: Mapping[str, tuple[Question, Score]], true_errors: Mapping[str, float]) -> Figure | None:
    """Return the figure of errors against votes and against the ground truth; None if the latter is unknown."""
    rows: list[TruthRow] = []
    for name, (question, score) in found.items():
        corrected = score["rmse_noise_corrected"]
        measured = [score["rmse"]["value"], *(corrected[end] for end in ("value", "low", "high"))]
        known = [number for number in (*measured, true_errors.get(question.name)) if number is not None]
        if len(known) == 5:
            rows.append(TruthRow(name, *known))
    return truth_figure(rows, description="Measured and true error on each question") if rows else None
