"""Compare: which of several predictions is better, on the same galaxies, and where the data cannot tell."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal, TypedDict

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import stats

from gzoo.dataset.open import KEY, Dataset, open_dataset
from gzoo.errors import InputError, OutputExistsError, TableError
from gzoo.scoring.intervals import Blocks, Value, blocks, holm, ratio
from gzoo.scoring.likelihood import fraction_nll, mixed, question_nll
from gzoo.scoring.predictions import (
    Matched,
    Predictions,
    match,
    positions,
    read_predictions,
    refuse_other_scheme,
    refuse_seen,
    same_questions,
)
from gzoo.trees.labels import label
from gzoo.trees.tree import FloatArray, Tree
from gzoo.votes.votes import Votes

LEVEL = 0.05  # of a false call, over all questions and pairs together
POWER = 0.8  # chance of telling a difference that is there, in what is said of further galaxies
MIN_GALAXIES = 10  # asked; below, no interval and no verdict
UNTOLD = 1e9  # galaxies; more will never be, and no number is given
MAX_LIST = 12  # of questions in a sentence
OPTION = "--include-trained-on"

BoolArray = npt.NDArray[np.bool_]
Unit = Literal["log_likelihood", "mse"]


class Difference(TypedDict):
    """First minus second model, in one measure on one question, in one campaign or overall.

    value, low, high: with its 95 % interval, which is not corrected for looking at many questions.
    p, p_adjusted: two-sided probability of so large a difference if there is none; the same after Holm.
    better: name of the better model; "" where the data cannot tell at 5 % after the correction.
    n_galaxies: that count here. n_effective: independent ones that they are worth.
    n_zero_probability: how many of them have votes that the first, the second model gave no chance at all: an infinitely bad
        log score. Then there is no value.
    minimum_detectable_difference: what these galaxies would tell in 4 of 5 cases.
    n_additional_galaxies: galaxies beyond these that it would take to tell in 4 of 5 cases, were the difference what it looks like.
    """

    value: float | None
    low: float | None
    high: float | None
    p: float | None
    p_adjusted: float | None
    better: str
    n_galaxies: int
    n_effective: float | None
    n_zero_probability: tuple[int, int]
    minimum_detectable_difference: float | None
    n_additional_galaxies: int | None


class Contrast(TypedDict):
    """Two models on one question, in one campaign or overall.

    log_likelihood: in nats per galaxy asked, larger is better; the same difference as that of skill, whose baseline cancels.
    mse: mean squared error of fractions, smaller is better; the votes' own noise cancels.
    says: what the log scores show, in a sentence; where they are infinite, what the errors show too.
    """

    log_likelihood: Difference
    mse: Difference
    says: str


class Pair(TypedDict):
    """Two models. `campaigns` is empty where there is one; `says` sums up the questions."""

    first: str
    second: str
    says: str
    overall: Contrast
    campaigns: dict[str, Contrast]
    questions: dict[str, Contrast]


class Model(TypedDict):
    """One of the models. Scores are over the galaxies and questions that all of them predict.

    n_unshared: galaxies that it predicts and another does not. questions_unshared: likewise.
    log_likelihood: null where it gave no chance to votes that `n_zero_probability` galaxies have.
    """

    file: str
    kind: str
    n_galaxies: int
    n_unshared: int
    n_trained_on: int
    questions_unshared: list[str]
    n_zero_probability: int
    log_likelihood: Value
    mse_noise_corrected: Value


class Resampled(TypedDict):
    """What intervals resample."""

    kind: str
    n: int


class Comparison(TypedDict):
    """What `gzoo compare --json` prints.

    n_galaxies: that all models predict. n_tests: differences of log score that are judged together by question.
    """

    n_galaxies: int
    n_tests: int
    blocks: Resampled
    models: dict[str, Model]
    pairs: list[Pair]


def compare(
    predictions: Sequence[Path | str],
    folder: Path | str,
    *,
    include_trained_on: bool = False,
    report: Path | str | None = None,
    overwrite: bool = False,
) -> Comparison:
    """Paired differences of two or more predictions against a dataset's votes, on the galaxies that all of them have.

    Verdicts are at 5 % for all questions, campaigns and pairs together (Holm 1979); overall, for all pairs together.

    Args:
        predictions: Files as `gzoo score` reads them: concentrations, or fractions, which are scored as certain.
        folder: The dataset with the votes.
        include_trained_on: Compare on galaxies that a model was trained on too, rather than refuse; they are counted.
        report: Also write a page that shows the result.
        overwrite: Replace an earlier report.

    Returns:
        The object that `--json` prints.

    Raises:
        InputError: Fewer than two files, one twice, or no question that all predict.
        NotFoundError: A file is not there.
        TableError: A file cannot be used, no galaxy is in all of them, a model was trained on some, or on galaxies
            split by another scheme.
        OutputExistsError: There is a report already.
    """
    paths = [Path(path) for path in predictions]
    names = _names(paths)
    if report is not None and Path(report).exists() and not overwrite:
        raise OutputExistsError(
            f"{report} exists.", "A new name.", "Choose another, or pass --overwrite to replace it."
        )
    dataset = open_dataset(folder)
    if not include_trained_on:
        for path in paths:
            refuse_other_scheme(path, dataset, OPTION)
    files = [read_predictions(path, dataset.tree) for path in paths]
    questions = same_questions(files)
    shared, seen = _shared(dataset, files)
    if not include_trained_on:
        for one, is_seen in zip(shared.files, seen, strict=True):
            refuse_seen(Matched(shared.keys, shared.votes, is_seen), one.source, OPTION)
    found = compute(
        dict(zip(names, shared.files, strict=True)), shared.votes, questions, blocks(len(shared.votes), *shared.places)
    )
    for name, one, is_seen in zip(names, files, seen, strict=True):
        model = found["models"][name]
        model["n_galaxies"], model["n_unshared"] = len(one), len(one) - len(shared.votes)
        model["n_trained_on"] = int(is_seen.sum())
    if report is not None:
        from gzoo.reports.comparison import write_comparison

        write_comparison(Path(report), dataset=dataset, found=found)
    return found


def compute(
    models: Mapping[str, Predictions], votes: Votes, questions: Sequence[str], galaxy_blocks: Blocks
) -> Comparison:
    """Differences between models that predict the same galaxies.

    Args:
        models: By name; rows in the order of `votes`.
        votes: Of galaxies that no model has seen.
        questions: Those to compare on.
        galaxy_blocks: What is resampled.
    """
    measures = _Measures.of(votes, questions)
    scores = {name: log_likelihoods(one, votes, questions) for name, one in models.items()}
    errors = {name: _squared_errors(one.fractions, votes, questions) for name, one in models.items()}
    pairs: list[Pair] = []
    for first, second in combinations(models, 2):
        by_unit: dict[Unit, list[Difference]] = {
            "log_likelihood": _differences(scores[first], scores[second], measures.asked, measures, galaxy_blocks),
            "mse": _differences(errors[first], errors[second], measures.cells, measures, galaxy_blocks),
        }
        contrasts = [
            Contrast(log_likelihood=one, mse=two, says="")
            for one, two in zip(by_unit["log_likelihood"], by_unit["mse"], strict=True)
        ]
        n, m = len(measures.questions), len(measures.campaigns)
        pairs.append(
            Pair(
                first=first,
                second=second,
                says="",
                overall=contrasts[n + m],
                campaigns=dict(zip(measures.campaigns, contrasts[n : n + m], strict=True)),
                questions=dict(zip(measures.questions, contrasts[:n], strict=True)),
            )
        )
    n_tests = _judge(pairs)
    for pair in pairs:
        _speak(pair, votes.tree)
    noise = _noise(votes, questions)
    about: dict[str, Model] = {}
    for name, one in models.items():
        n_zero_probability = int(np.isinf(scores[name]).any(axis=1).sum())
        total = scores[name].sum(axis=1, keepdims=True)
        about[name] = Model(
            file=str(one.source.name),
            kind=one.kind if len(one.values) == 1 else f"{one.kind}, {len(one.values)} members",
            n_galaxies=len(votes),
            n_unshared=0,
            n_trained_on=0,
            questions_unshared=[question for question in one.questions if question not in questions],
            n_zero_probability=n_zero_probability,
            log_likelihood=Value(value=None, low=None, high=None)
            if n_zero_probability
            else _value(total, measures.asked[:, -1:], galaxy_blocks),
            mse_noise_corrected=_value(
                (errors[name] - noise).sum(axis=1, keepdims=True), measures.cells[:, -1:], galaxy_blocks
            ),
        )
    return Comparison(
        n_galaxies=len(votes),
        n_tests=n_tests,
        blocks=Resampled(kind=galaxy_blocks.kind, n=galaxy_blocks.n_blocks),
        models=about,
        pairs=pairs,
    )


def log_likelihoods(predictions: Predictions, votes: Votes, questions: Sequence[str]) -> FloatArray:
    """Log probability of the votes on each question, shape (galaxy, question); 0 where nobody was asked.

    Minus infinity where an answer with votes was given no chance at all, as only fractions can.
    """
    tree = votes.tree
    out = np.zeros((len(votes), len(questions)))
    for column, i in enumerate(_places(tree, questions)):
        where, is_multiple = tree.slice(tree.questions[i].name), tree.questions[i].multiple
        rows = np.flatnonzero(votes.totals[:, i] > 0)
        counts, volunteers = votes.counts[rows, where], votes.totals[rows, i]
        cost = fraction_nll if predictions.kind == "fractions" else question_nll
        each = [cost(counts, volunteers, member[rows, where], is_multiple=is_multiple) for member in predictions.values]
        out[rows, column] = -mixed(each)
    return out


# ----------------------------------------------------------------------------------------------------
# The galaxies that all predict


@dataclass(frozen=True)
class _Shared:
    """Predictions cut to the galaxies that all have, in one order."""

    files: list[Predictions]
    keys: pl.DataFrame
    votes: Votes
    places: tuple[FloatArray, FloatArray]


def _shared(dataset: Dataset, files: Sequence[Predictions]) -> tuple[_Shared, list[BoolArray]]:
    """And for each file which of them its model was trained on."""
    matched = [match(dataset, one.keys, one.source, one.in_training_set) for one in files]
    rows = matched[0].keys.select(*KEY).with_row_index("row_0")
    for i, one in enumerate(matched[1:], 1):
        rows = rows.join(one.keys.select(*KEY).with_row_index(f"row_{i}"), on=KEY, maintain_order="left")
    if rows.is_empty():
        raise TableError(
            f"No galaxy is in all of {', '.join(one.source.name for one in files)}.",
            "Predictions of the same galaxies: a comparison is paired.",
            "Predict the same split with each model.",
        )
    taken = [rows[f"row_{i}"].to_numpy() for i in range(len(files))]
    first = matched[0]
    keys = first.keys[taken[0]]
    seen = [one.is_seen[row] for one, row in zip(matched, taken, strict=True)]
    shared = _Shared(
        [one.take(row) for one, row in zip(files, taken, strict=True)],
        keys,
        first.votes.take(taken[0]),
        positions(dataset, keys),
    )
    return shared, seen


def _names(paths: Sequence[Path]) -> list[str]:
    """As short a name for each file as tells them apart."""
    if len(paths) < 2:
        raise InputError(
            f"{len(paths)} prediction file.", "At least two to compare.", "Give them all, and the dataset last."
        )
    whole = [path.absolute().with_suffix("").parts for path in paths]
    for n in range(1, max(map(len, whole)) + 1):
        names = ["/".join(parts[-n:]) for parts in whole]
        if len(set(names)) == len(names):
            return names
    for i, path in enumerate(paths):
        if path.absolute() in {one.absolute() for one in paths[:i]}:
            raise InputError(f"{path} is given twice.", "Different predictions.", "Leave one away.")
    return [path.name for path in paths]


# ----------------------------------------------------------------------------------------------------
# Differences


@dataclass(frozen=True)
class _Measures:
    """What a column of a difference is: questions, then campaigns (where there are several), then all together.

    Attributes:
        questions: Their names.
        campaigns: Name -> places of its questions among `questions`.
        asked: Whether a galaxy counts, shape (galaxy, column).
        cells: Answers with at least 2 votes on their question, shape (galaxy, column).
    """

    questions: tuple[str, ...]
    campaigns: Mapping[str, list[int]]
    asked: FloatArray
    cells: FloatArray

    @classmethod
    def of(cls, votes: Votes, questions: Sequence[str]) -> _Measures:
        tree, places = votes.tree, _places(votes.tree, questions)
        number = {name: i for i, name in enumerate(questions)}
        parts = {name: [number[one.name] for one in part if one.name in number] for name, part in tree.parts.items()}
        campaigns = {name: part for name, part in parts.items() if part} if len(parts) > 1 else {}
        volunteers = votes.totals[:, places]
        sizes = np.array([len(tree.questions[i].columns) for i in places])
        asked, cells = (volunteers > 0).astype(np.float64), np.where(volunteers >= 2, sizes, 0).astype(np.float64)
        groups = [*campaigns.values(), list(range(len(questions)))]
        return cls(
            tuple(questions),
            campaigns,
            np.column_stack([asked, *(asked[:, group].max(axis=1) for group in groups)]),
            np.column_stack([cells, *(cells[:, group].sum(axis=1) for group in groups)]),
        )

    def with_groups(self, columns: FloatArray) -> FloatArray:
        """Columns of questions, and after them their sums over each campaign and over all."""
        sums = [columns[:, group].sum(axis=1) for group in self.campaigns.values()]
        return np.column_stack([columns, *sums, columns.sum(axis=1)])


def _places(tree: Tree, questions: Sequence[str]) -> list[int]:
    number = {question.name: i for i, question in enumerate(tree.questions)}
    return [number[name] for name in questions]


def _squared_errors(fractions: FloatArray, votes: Votes, questions: Sequence[str]) -> FloatArray:
    """Squared difference of predicted and voted fraction, summed over the answers; 0 below 2 votes."""
    out = np.zeros((len(votes), len(questions)))
    for column, i in enumerate(_places(votes.tree, questions)):
        where = votes.tree.slice(votes.tree.questions[i].name)
        rows = np.flatnonzero(votes.totals[:, i] >= 2)
        out[rows, column] = ((fractions[rows, where] - votes.fractions[rows, where]) ** 2).sum(axis=1)
    return out


def _noise(votes: Votes, questions: Sequence[str]) -> FloatArray:
    """The votes' own variance, f(1-f)/(N-1), summed over the answers; 0 below 2 votes."""
    out = np.zeros((len(votes), len(questions)))
    for column, i in enumerate(_places(votes.tree, questions)):
        where = votes.tree.slice(votes.tree.questions[i].name)
        rows = np.flatnonzero(votes.totals[:, i] >= 2)
        f = votes.fractions[rows, where]
        out[rows, column] = (f * (1 - f)).sum(axis=1) / (votes.totals[rows, i] - 1)
    return out


def _differences(
    first: FloatArray, second: FloatArray, weight: FloatArray, measures: _Measures, galaxy_blocks: Blocks
) -> list[Difference]:
    """First minus second for each question, campaign and overall, not yet judged."""
    impossible = [(measures.with_groups(np.isinf(one).astype(np.float64)) > 0).sum(axis=0) for one in (first, second)]
    is_known = (impossible[0] + impossible[1]) == 0
    both = measures.with_groups(np.nan_to_num(first, neginf=0.0) - np.nan_to_num(second, neginf=0.0))
    found = ratio(both, weight, galaxy_blocks)
    p = found.p_values()
    n_galaxies = (weight > 0).sum(axis=0)
    is_same = ~both.any(axis=0) & is_known
    out: list[Difference] = []
    for i, n in enumerate(n_galaxies.tolist()):
        is_judged = bool(is_known[i]) and n >= MIN_GALAXIES
        has_value = bool(is_known[i]) and n > 0
        out.append(
            Difference(
                value=_number(found.value[i]) if has_value else None,
                low=_number(found.low[i]) if is_judged else None,
                high=_number(found.high[i]) if is_judged else None,
                p=(1.0 if is_same[i] else _number(p[i])) if is_judged else None,
                p_adjusted=None,
                better="",
                n_galaxies=n,
                n_effective=_number(found.n_effective[i]) if has_value else None,
                n_zero_probability=(int(impossible[0][i]), int(impossible[1][i])),
                minimum_detectable_difference=_number(found.standard_error[i])
                if is_judged
                else None,  # times what _judge finds
                n_additional_galaxies=None,
            )
        )
    return out


def _judge(pairs: Sequence[Pair]) -> int:
    """Corrects for the number of looks, names the better of two, and says what it would take to tell.

    Overall is one family over all pairs; questions and campaigns are another. Errors are judged like log scores.

    Returns:
        Number of log scores in the larger family.
    """
    units: tuple[Unit, Unit] = ("log_likelihood", "mse")
    n_tests = 0
    for unit in units:
        overall = [(pair, pair["overall"][unit]) for pair in pairs]
        parts = [
            (pair, one[unit]) for pair in pairs for one in (*pair["campaigns"].values(), *pair["questions"].values())
        ]
        for family in (overall, parts):
            corrected = holm([one["p"] if one["p"] is not None else np.nan for _, one in family])
            n_looks = int(np.isfinite(corrected).sum())
            n_tests = max(n_tests, n_looks) if unit == "log_likelihood" else n_tests
            z = float(stats.norm.isf(LEVEL / 2 / max(n_looks, 1)) + stats.norm.isf(1 - POWER))
            for (pair, one), p in zip(family, corrected.tolist(), strict=True):
                _decide(one, p, z, (pair["first"], pair["second"]), larger_is_better=unit == "log_likelihood")
    return n_tests


def _decide(one: Difference, p: float, z: float, names: tuple[str, str], *, larger_is_better: bool) -> None:
    first, second = names
    impossible = one["n_zero_probability"]
    if (impossible[0] > 0) != (impossible[1] > 0):
        one["better"] = second if impossible[0] else first
        return
    value, error = one["value"], one["minimum_detectable_difference"]
    if not math.isfinite(p) or value is None or error is None:
        return
    one["p_adjusted"], one["minimum_detectable_difference"] = p, z * error
    if p < LEVEL:
        one["better"] = first if (value > 0) == larger_is_better else second
    elif value:
        more = one["n_galaxies"] * ((z * error / value) ** 2 - 1)
        one["n_additional_galaxies"] = math.ceil(max(more, 1)) if more < UNTOLD else None


def _value(numerator: FloatArray, denominator: FloatArray, galaxy_blocks: Blocks) -> Value:
    found = ratio(numerator, denominator, galaxy_blocks)
    return Value(value=_number(found.value[0]), low=_number(found.low[0]), high=_number(found.high[0]))


def _number(value: np.floating | float) -> float | None:
    return float(value) if np.isfinite(value) else None


# ----------------------------------------------------------------------------------------------------
# In words


def _speak(pair: Pair, tree: Tree) -> None:
    """Fills in what the contrasts of a pair say, each by itself and all questions together."""
    names = (pair["first"], pair["second"])
    pair["overall"]["says"] = _sentence(pair["overall"], "overall", names)
    for name, one in pair["campaigns"].items():
        one["says"] = _sentence(one, f"in {name}", names)
    for name, one in pair["questions"].items():
        one["says"] = _sentence(one, f"on {label(name, tree)}", names)
    pair["says"] = " ".join(_together(pair, tree))


def _together(pair: Pair, tree: Tree) -> Iterator[str]:
    """Which is better on which questions, and on which the data cannot tell."""
    known = {label(name, tree): one["log_likelihood"] for name, one in pair["questions"].items()}
    asked = {name: one for name, one in known.items() if one["n_galaxies"]}
    for model in (pair["first"], pair["second"]):
        won = {name: one for name, one in asked.items() if one["better"] == model}
        measured = [f"{name} by {_amount(one)}" for name, one in won.items() if one["value"] is not None]
        endless = [name for name, one in won.items() if one["value"] is None]
        if measured:
            yield f"{model} is better on {_and(measured)} nats per galaxy asked."
        if endless:
            yield f"{model} is better on {_and(endless)}, where the other gave no chance to answers that have votes."
    rest = [name for name, one in asked.items() if not one["better"]]
    if rest:
        yield f"On {_and(rest)} the data cannot tell."


def _sentence(one: Contrast, where: str, names: tuple[str, str]) -> str:
    difference = one["log_likelihood"]
    if not difference["n_galaxies"]:
        return f"Nobody was asked {where.removeprefix('on ')}." if where != "overall" else "Nobody was asked anything."
    if any(difference["n_zero_probability"]):
        return _of_impossible(one, where, names)
    if difference["low"] is None:
        return (
            f"{_capital(where)} the data cannot tell: {difference['n_galaxies']} galaxies were asked, and it takes "
            f"{MIN_GALAXIES}, or so many cells of the sky, to begin."
        )
    if difference["better"]:
        return f"{difference['better']} is better {where} by {_amount(difference)} nats per galaxy asked."
    if difference["value"] == 0 and difference["p"] == 1.0:
        return f"{_capital(where)} the two predict the same."
    return (
        f"{_capital(where)} the data cannot tell ({_signed(difference)} nats per galaxy asked){_further(difference)}."
    )


def _of_impossible(one: Contrast, where: str, names: tuple[str, str]) -> str:
    difference, error = one["log_likelihood"], one["mse"]
    n = difference["n_galaxies"]
    said = [
        f"{name} gave no chance to answers that {k:,} of {n:,} galaxies have votes for, which makes its log score "
        "infinitely bad"
        for name, k in zip(names, difference["n_zero_probability"], strict=True)
        if k
    ]
    if difference["better"]:
        return f"{difference['better']} is better {where}: {said[0]}. {_of_error(error)}"
    return f"{_capital(where)} log scores cannot tell: {' and '.join(said)}. {_of_error(error)}"


def _of_error(error: Difference) -> str:
    if error["better"] and error["value"] is not None:
        return f"In mean squared error {error['better']} is better by {abs(error['value']):.2g}."
    return "In mean squared error the data cannot tell."


def _further(difference: Difference) -> str:
    more = difference["n_additional_galaxies"]
    if more is None:
        return ""
    many = f"about {_round(more):,} more galaxies" if more <= 10_000_000 else "more than ten million further galaxies"
    return f"; if it is what it looks like, it would take {many} to tell"


def _round(n: int) -> int:
    """To two figures, upwards."""
    unit = 10 ** max(len(str(n)) - 2, 0)
    return -(-n // unit) * unit


def _amount(difference: Difference) -> str:
    """`0.012 ± 0.003`: the size of a difference, and half the width of its 95 % interval."""
    value, half = abs(difference["value"] or 0.0), _half(difference)
    places = _decimals(half)
    return f"{value:.{places}f} ± {half:.{places}f}"


def _signed(difference: Difference) -> str:
    value, half = difference["value"] or 0.0, _half(difference)
    places = _decimals(half)
    return f"{value:+.{places}f} ± {half:.{places}f}".replace("-", "\N{MINUS SIGN}")


def _half(difference: Difference) -> float:
    return ((difference["high"] or 0.0) - (difference["low"] or 0.0)) / 2


def _decimals(half: float) -> int:
    """So many that an interval's half width has one figure, or two where it begins with 1."""
    if half <= 0:
        return 3
    power = math.floor(math.log10(half))
    return max(0, -power + (1 if half / 10.0**power < 2 else 0))


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _and(names: Sequence[str]) -> str:
    shown = list(names) if len(names) <= MAX_LIST else [*names[:MAX_LIST], f"{len(names) - MAX_LIST} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
