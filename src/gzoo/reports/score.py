"""One self-contained HTML page that shows a scored model to an astronomer.

The page is read by people who did not run the model, perhaps by mail: it loads nothing, runs nothing (its
Content-Security-Policy forbids both), and treats every name and identifier in the data as hostile text.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image
from scipy.special import betaincinv

from gzoo import files, reports
from gzoo.dataset.open import KEY, Dataset, open_dataset
from gzoo.errors import ImageError, OutputExistsError
from gzoo.images.checks import check_image
from gzoo.reports import Markup
from gzoo.reports.calibration import calibration_section
from gzoo.reports.figures import (
    AnswerBars,
    ForestRow,
    QuestionBars,
    RefereeRow,
    bars_svg,
    forest_svg,
    referee_svg,
)
from gzoo.scoring.intervals import Value
from gzoo.scoring.likelihood import expected_fractions
from gzoo.scoring.predictions import Predictions, match, read_predictions
from gzoo.scoring.scores import Errors, Score, Scores
from gzoo.trees.drawing import Estimate, Interval, tree_svg
from gzoo.trees.labels import label, words
from gzoo.trees.tree import FloatArray, Question, Tree
from gzoo.votes.votes import Votes

IMAGE_PIXELS = 200
QUESTIONS_PER_GALAXY = 4
N_SPREAD, N_EXTREME = 4, 2
Z_68, Z_95 = 1.0, 1.96
P_68, P_95 = (0.1587, 0.8413), (0.025, 0.975)


def write_report(
    path: Path,
    *,
    folder: Path,
    predictions: Path,
    scores: Scores,
    title: str,
    facts: Mapping[str, str],
    columns: Path | str | None = None,
    referee: Mapping[str, float] | None = None,
    overwrite: bool = False,
) -> None:
    """Write the page about a scored model; the same inputs give the same bytes.

    Args:
        path: The HTML file to write.
        folder: The dataset folder that was predicted.
        predictions: Of anyone; see `read_predictions`.
        scores: What `gzoo score` found for these predictions.
        title: Heading of the page.
        facts: Label and value of each line at the head of the page, in order.
        columns: Mapping file of the predictions.
        referee: Of simulated galaxies, the true error of each question (see `gzoo.scoring.ground_truth`).
        overwrite: Replace an earlier page.

    Raises:
        OutputExistsError: There is a file at `path` already.
        NotFoundError: The folder or the prediction file is not there.
        DatasetError: The folder is not a dataset.
        TableError: The predictions lack columns, or none is for a galaxy of the folder.
    """
    if path.exists() and not overwrite:
        raise OutputExistsError(f"{path} exists.", "A new name.", "Choose another, or pass --overwrite to replace it.")
    dataset = open_dataset(folder)
    tree, sample = dataset.campaign.tree, _read(dataset, predictions, columns, scores["n_trained_on"] > 0)
    asked = [question for question in tree.ordered if question.name in scores["questions"]]
    proportion_asked = sample.mean_proportion_asked()
    page = reports.render(
        "score",
        title=title,
        facts=facts,
        campaign=dataset.campaign.title,
        is_simulated=dataset.is_simulated,
        n_galaxies=scores["n_galaxies"],
        n_trained_on=scores["n_trained_on"],
        galaxies=_cards(sample, dataset),
        tree=Markup(tree_svg(tree, proportion_asked)),
        has_proportion_asked=bool(proportion_asked),
        has_uncarried=any(not question.is_published for question in tree.questions),
        drawn=scores["drawn"],
        n_zero_probability=scores["overall"]["n_zero_probability"],
        unasked=[label(one.name, tree) for one in asked if not scores["questions"][one.name]["n_asked"]],
        missing=[label(name, tree) for name in scores["questions_missing"]],
        log_likelihood_gain=_cell(scores["overall"]["log_likelihood_gain"], 2),
        balanced=scores["balanced"],
        balanced_gain=_cell(scores["balanced"]["log_likelihood_gain"], 2),
        balanced_error=_cell(scores["balanced"]["rmse_noise_corrected"], 3),
        forest=_forest(scores, asked, tree),
        rows=_table(scores, asked, tree),
        answers=[
            _answers(question, scores, tree) for question in asked if scores["questions"][question.name]["n_asked"]
        ],
        campaigns=[_row(name, one) for name, one in scores["campaigns"].items()],
        slices=[_row(one["range"], one["score"], one["column"]) for one in scores["slices"]],
        referee=_referee(scores, asked, tree, referee or {}),
        calibration=calibration_section(scores["calibration"], tree) if scores["calibration"] else None,
        no_gain=_without_gain(scores, asked, tree),
    )
    files.write_bytes(path, page)


# ----------------------------------------------------------------------------------------------------
# Reading


@dataclass(frozen=True, slots=True)
class _Sample:
    """The galaxies that were predicted and are shown, sorted by dataset and identifier.

    Attributes:
        keys: `dataset_name` and `id_str` of each galaxy.
        votes: What volunteers said.
        fractions: Share of those asked that the model expects, shape (galaxy, answer); NaN if it does not say.
        strength: Concentration of the Beta distribution with the mean and variance of its belief about that share,
            shape (galaxy, answer); infinite where it states no doubt.
        proportion_asked: Share of volunteers it expects to be asked, NaN where not known; shape (galaxy, question).
    """

    keys: tuple[tuple[str, str], ...]
    votes: Votes
    fractions: FloatArray
    strength: FloatArray
    proportion_asked: FloatArray

    @property
    def tree(self) -> Tree:
        """The questions that the dataset carries."""
        return self.votes.tree

    def mean_proportion_asked(self) -> dict[str, float]:
        """Mean reach of each question for which it is known."""
        known = np.isfinite(self.proportion_asked)
        sums, n_known = np.where(known, self.proportion_asked, 0).sum(axis=0), known.sum(axis=0)
        return {
            question.name: float(sums[i] / n_known[i]) for i, question in enumerate(self.tree.questions) if n_known[i]
        }


def _read(dataset: Dataset, predictions: Path, columns: Path | str | None, include_trained_on: bool) -> _Sample:
    read = read_predictions(predictions, dataset.tree, columns)
    matched = match(dataset, read.keys, predictions, read.in_training_set)
    shown = matched.keys.with_row_index("row").sort(KEY)
    if not include_trained_on:
        shown = shown.filter(~pl.Series(matched.is_seen).gather(shown["row"]))
    rows = shown["row"].to_numpy()
    taken = read.take(rows)
    keys = tuple(zip(shown["dataset_name"].to_list(), shown["id_str"].to_list(), strict=True))
    fractions = taken.fractions
    proportion_asked = dataset.tree.proportion_asked(np.nan_to_num(fractions))
    return _Sample(keys, matched.votes.take(rows), fractions, _strength(taken), proportion_asked)


def _strength(predictions: Predictions) -> FloatArray:
    """See `_Sample`."""
    tree, mean = predictions.tree, predictions.fractions
    is_multiple = np.array([tree.questions[i].multiple for i in tree.question_of_answer])
    if predictions.kind == "fractions":
        return np.full(mean.shape, np.inf)
    within = np.zeros(mean.shape)
    between = np.zeros(mean.shape)
    for member in predictions.concentrations:
        fraction = expected_fractions(member, tree)
        total = np.where(is_multiple, np.inf, member / fraction)
        within += fraction * (1 - fraction) / (total + 1)
        between += (fraction - mean) ** 2
    variance = (within + between) / len(predictions.concentrations)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(variance > 0, np.maximum(mean * (1 - mean) / variance - 1, 1e-6), np.inf)


# ----------------------------------------------------------------------------------------------------
# Intervals


def wilson_interval(votes: int, asked: int, z: float) -> Interval:
    """Interval of a share of which `votes` of `asked` people were counted (Wilson 1927).

    It stays within 0..1 and has a width even where nobody, or everybody, gave the answer.

    Args:
        votes: People who gave the answer.
        asked: People asked, at least 1.
        z: Half-width in standard deviations: 1 for 68%, 1.96 for 95%.

    >>> low, high = wilson_interval(0, 40, 1.96)
    >>> low, round(high, 3)
    (0.0, 0.088)
    """
    fraction, stretch = votes / asked, 1 + z * z / asked
    centre = (fraction + z * z / (2 * asked)) / stretch
    half = z / stretch * math.sqrt(fraction * (1 - fraction) / asked + z * z / (4 * asked * asked))
    return max(0.0, centre - half), min(1.0, centre + half)


def beta_interval(first: float, second: float, probabilities: Interval) -> Interval:
    """Two quantiles of a Beta distribution.

    Args:
        first: Concentration of the answer, > 0.
        second: Concentration of all other answers, > 0.
        probabilities: Which quantiles, for example (0.025, 0.975).

    >>> low, high = beta_interval(1.0, 1.0, (0.025, 0.975))
    >>> round(low, 3), round(high, 3)
    (0.025, 0.975)
    """
    low, high = (float(betaincinv(first, second, probability)) for probability in probabilities)
    return low, high


# ----------------------------------------------------------------------------------------------------
# Example galaxies


@dataclass(frozen=True, slots=True)
class _Card:
    """One example galaxy, as the template shows it. `image` is a data URI, "" where it cannot be read."""

    heading: str
    reason: str
    detail: str
    dataset: str
    position: str
    image: str
    figure: Markup


def _cards(sample: _Sample, dataset: Dataset) -> list[_Card]:
    chosen = _choose(sample)
    keys = [sample.keys[row] for row, _, _ in chosen]
    records = _records(dataset, keys)
    cards: list[_Card] = []
    for (row, reason, detail), key in zip(chosen, keys, strict=True):
        record = records.get(key, _Record("", ""))
        figure = bars_svg(_bars(sample, row), description=f"Votes and predictions for galaxy {key[1]}")
        cards.append(_Card(key[1], reason, detail, key[0], record.position, record.image, Markup(figure)))
    return cards


def _choose(sample: _Sample) -> list[tuple[int, str, str]]:
    """Rows of the examples with reason and detail: a spread of predictions, then the extremes of surprise."""
    root = next((question for question in sample.tree.ordered if not question.parents), None)
    if root is None or not sample.keys:
        return []
    predicted = sample.fractions[:, sample.tree.slice(root.name).start]
    chosen: dict[int, tuple[str, str]] = {}
    for target in np.linspace(predicted.min(), predicted.max(), N_SPREAD).tolist():
        for row in np.argsort(np.abs(predicted - target), kind="stable").tolist():
            if row not in chosen:
                chosen[row] = f"“{words(root.answers[0])}”: {predicted[row]:.0%} expected", ""
                break
    surprise = _surprise(sample)
    total = sample.votes.totals[:, sample.tree.questions.index(root)]
    # with few votes anything fits: only galaxies with a usual number of them can be called surprising or not
    ranked = np.argsort(surprise, kind="stable")
    ranked = ranked[np.isfinite(surprise[ranked]) & (total[ranked] >= max(1.0, float(np.median(total))))]
    for kind, rows in (("Most", ranked[::-1].tolist()), ("Least", ranked.tolist())):
        for row in [row for row in rows if row not in chosen][:N_EXTREME]:
            detail = f"Votes lie about {surprise[row]:.1f} \N{GREEK SMALL LETTER SIGMA} from the prediction"
            chosen[row] = f"{kind} surprising", detail
    return [(row, reason, detail) for row, (reason, detail) in chosen.items()]


def _surprise(sample: _Sample) -> FloatArray:
    """How far votes lie from predictions, in standard deviations that the model itself expected.

    Root mean square over the answers of all questions asked; NaN for a galaxy without votes; shape (galaxy,).
    The expected variance of a count is that of a beta-binomial: noise of N votes and the model's own doubt.
    """
    asked = sample.votes.totals[:, list(sample.tree.question_of_answer)] * np.isfinite(sample.fractions)
    fraction = np.clip(np.nan_to_num(sample.fractions), 1e-6, 1 - 1e-6)
    doubt = np.minimum(sample.strength, 1e12)
    extra = (doubt + asked) / (doubt + 1)
    variance = asked * fraction * (1 - fraction) * extra
    is_asked = asked > 0
    squares = np.where(is_asked, (sample.votes.counts - asked * fraction) ** 2 / np.where(is_asked, variance, 1), 0.0)
    n_asked = is_asked.sum(axis=1)
    mean = squares.sum(axis=1) / np.maximum(n_asked, 1)
    return np.where(n_asked > 0, np.sqrt(mean), np.nan)


def _bars(sample: _Sample, row: int) -> list[QuestionBars]:
    """The questions most people were asked (or, without votes, would be), in the order of the tree."""
    tree, totals = sample.tree, sample.votes.totals[row]
    likely = np.nan_to_num(sample.proportion_asked[row], nan=0.0)
    told = [i for i, one in enumerate(tree.questions) if np.isfinite(sample.fractions[row, tree.slice(one.name)]).all()]
    by_proportion_asked = sorted(told, key=lambda i: (-totals[i], -likely[i]))[:QUESTIONS_PER_GALAXY]
    shown = {tree.questions[i].name for i in by_proportion_asked if totals[i] or not totals.any()}
    bars: list[QuestionBars] = []
    for question in tree.ordered:
        if question.name not in shown:
            continue
        own, asked = tree.slice(question.name), int(totals[tree.questions.index(question)])
        answers = [
            AnswerBars(words(answer), _voted(int(votes), asked), _predicted(sample, row, own.start + i))
            for i, (answer, votes) in enumerate(zip(question.answers, sample.votes.counts[row, own], strict=True))
        ]
        note = f"{asked} asked" if asked else "no votes"
        bars.append(QuestionBars(label(question.name, tree), note, tuple(answers)))
    return bars


def _voted(votes: int, asked: int) -> Estimate | None:
    if asked == 0:
        return None
    return Estimate(votes / asked, wilson_interval(votes, asked, Z_68), wilson_interval(votes, asked, Z_95))


def _predicted(sample: _Sample, row: int, answer: int) -> Estimate:
    fraction, strength = float(sample.fractions[row, answer]), float(sample.strength[row, answer])
    if not math.isfinite(strength) or not 0 < fraction < 1:  # the model states a share, and no doubt about it
        return Estimate(fraction, (fraction, fraction), (fraction, fraction))
    first, others = fraction * strength, (1 - fraction) * strength
    return Estimate(fraction, beta_interval(first, others, P_68), beta_interval(first, others, P_95))


@dataclass(frozen=True, slots=True)
class _Record:
    """What is read for examples only, as the template shows it; "" where it is not known or not sound."""

    image: str
    position: str


def _records(dataset: Dataset, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], _Record]:
    """Images and positions of a few galaxies: no other image is read into memory at once."""
    records: dict[tuple[str, str], _Record] = {}
    wanted = pl.col("id_str").is_in([identifier for _, identifier in keys])
    columns = [pl.col("^dataset_name$"), "id_str", "ra", "dec", pl.col("image").struct.field("bytes")]
    for shard in [shard for split in dataset.splits for shard in files.shards(dataset.folder, split)]:
        for row in pl.scan_parquet(shard, glob=False).filter(wanted).select(columns).collect().to_dicts():
            key = (str(row.get("dataset_name", dataset.campaign.name)), str(row["id_str"]))
            if key in keys:
                records[key] = _Record(_thumbnail(row["bytes"]), _position(row["ra"], row["dec"]))
    return records


def _position(ra: object, dec: object) -> str:
    if not (isinstance(ra, float) and isinstance(dec, float) and math.isfinite(ra) and math.isfinite(dec)):
        return ""
    return f"RA {ra:.4f}°, Dec {dec:+.4f}°".replace("-", "\N{MINUS SIGN}")


def _thumbnail(data: object) -> str:
    """An image, drawn anew at no more than 200 pixels a side, as a data URI; "" if it is not sound."""
    if not isinstance(data, bytes):
        return ""
    try:
        check_image(data)
    except ImageError:
        return ""
    with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
        small = image.convert("RGB")
    small.thumbnail((IMAGE_PIXELS, IMAGE_PIXELS), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    small.save(out, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode("ascii")


# ----------------------------------------------------------------------------------------------------
# Scores


@dataclass(frozen=True, slots=True)
class _Cell:
    """A number of the table and, under it, its 95% interval ("" if there is none)."""

    value: str
    interval: str = ""


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of a table of scores; `column`: what a slice is of."""

    label: str
    n_asked: int
    n_effective: float | None
    cells: tuple[_Cell, ...]
    column: str = ""


@dataclass(frozen=True, slots=True)
class _Answers:
    """The errors of a question's answers."""

    label: str
    rows: list[_Row]


def _table(scores: Scores, asked: Sequence[Question], tree: Tree) -> list[_Row]:
    rows = [_row("All questions", scores["overall"])]
    found = [(question, scores["questions"][question.name]) for question in asked]
    return rows + [_row(label(question.name, tree), one) for question, one in found if one["n_asked"]]


def _row(name: str, score: Score, column: str = "") -> _Row:
    measures = (
        (score["log_likelihood"], 2),
        (score["log_likelihood_gain"], 2),
        (score["brier_gain"], 3),
        (score["rmse"], 3),
        (score["noise_floor"], 3),
    )
    cells = [_cell(found, places) for found, places in measures]
    return _Row(name, score["n_asked"], score["n_effective"], (*cells, _error_cells(score)[0]), column)


def _error_cells(errors: Errors) -> tuple[_Cell, _Cell]:
    """The corrected error, of which near 0 no more than its upper end is known; and that of the mean difference."""
    root = _cell(errors["rmse_noise_corrected"], 3)
    high = errors["rmse_noise_corrected"]["high"]
    if errors["exceeds_noise"] is False and high is not None:
        root = _Cell(f"0 to {_fixed(high, 3)}", "not distinguishable from 0")
    return root, _cell(errors["mae_noise_corrected"], 3)


def _answers(question: Question, scores: Scores, tree: Tree) -> _Answers:
    found = scores["questions"][question.name]["answers"]
    rows: list[_Row] = []
    for answer, column in zip(question.answers, question.columns, strict=True):
        one = found[column]
        cells = [_cell(one[name], 3) for name in ("rmse", "noise_floor", "mae", "mae_floor", "bias")]
        rows.append(_Row(words(answer), 0, None, (*cells, *_error_cells(one))))
    return _Answers(label(question.name, tree), rows)


def _cell(found: Value, places: int) -> _Cell:
    value, low, high = found["value"], found["low"], found["high"]
    if value is None:
        return _Cell("\N{EN DASH}")
    if low is None or high is None:
        return _Cell(_fixed(value, places))
    return _Cell(_fixed(value, places), f"{_fixed(low, places)} to {_fixed(high, places)}")


def _fixed(value: float, places: int) -> str:
    text = f"{value:.{places}f}"
    return text.replace("-", "\N{MINUS SIGN}") if float(text) else text.removeprefix("-")


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _forest(scores: Scores, asked: Sequence[Question], tree: Tree) -> Markup:
    rows: list[ForestRow] = []
    for question in asked:
        log_likelihood_gain = scores["questions"][question.name]["log_likelihood_gain"]
        ends = (
            _finite(log_likelihood_gain["value"]),
            _finite(log_likelihood_gain["low"]),
            _finite(log_likelihood_gain["high"]),
        )
        rows.append(ForestRow(label(question.name, tree), *ends))
    axis = "skill: log score of the model \N{MINUS SIGN} log score of the baseline  [nats per galaxy asked]"
    return Markup(forest_svg(rows, axis=axis, description="Skill on each question with 95% interval"))


def _referee(scores: Scores, asked: Sequence[Question], tree: Tree, truth: Mapping[str, float]) -> Markup | None:
    """The errors that votes give beside the true ones; None where the truth is not known."""
    rows: list[RefereeRow] = []
    for question in asked:
        score = scores["questions"][question.name]
        raw, corrected = score["rmse"]["value"], score["rmse_noise_corrected"]
        numbers = (raw, corrected["value"], corrected["low"], corrected["high"], truth.get(question.name))
        known = [number for number in numbers if number is not None]
        if len(known) == len(numbers):
            rows.append(RefereeRow(label(question.name, tree), *known))
    return Markup(referee_svg(rows, description="Measured and true error on each question")) if rows else None


def _without_gain(scores: Scores, asked: Sequence[Question], tree: Tree) -> list[str]:
    """Questions on which the model is not shown to beat the baseline."""
    lows = {question: scores["questions"][question.name]["log_likelihood_gain"]["low"] for question in asked}
    return [label(question.name, tree) for question, low in lows.items() if low is not None and low <= 0]
