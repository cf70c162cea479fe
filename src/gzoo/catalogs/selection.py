"""Galaxies chosen by a condition on votes and predictions, with the purity and completeness of the choice."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

import numpy as np
import polars as pl

from gzoo.catalogs.coverage import HeldOutCoverage, held_out_coverage
from gzoo.dataset.expression import Comparison, Constant, Name, Node, Not, Test, each_test, operands, parse, replaced
from gzoo.dataset.names import PREDICTED, Filter, Names, Quantity, bind
from gzoo.dataset.open import KEY, Dataset, open_dataset
from gzoo.display import Sheet, Shown, field_values, interval
from gzoo.errors import ExpressionError, GZooWarning, InputError
from gzoo.files import Progress, refuse_file, refuse_report, write_table
from gzoo.scoring.intervals import Value, as_value
from gzoo.scoring.likelihood import question_fractions
from gzoo.scoring.posterior import HeldOut, Posterior, read_held_out
from gzoo.scoring.selection import (
    MAX_DRAWS,
    MAX_FRACTIONS_DRAWN,
    MIN_DRAWS,
    BoolArray,
    Quality,
    Truth,
    against_votes,
    divided,
    is_on_fractions,
    on_votes,
    quality,
    questions_of,
)
from gzoo.trees.tree import FloatArray
from gzoo.votes.votes import Votes

ENDINGS = (".parquet", ".csv")
PROBABILITY = "truth_probability"
MODEL_LEVEL = 0.9  # of the intervals whose ends `.low` and `.high` are
N_THRESHOLDS, MAX_CURVES = 49, 6
NONE = as_value(None, None, None)


class AgainstVotes(TypedDict):
    """Purity and completeness if voted fractions are taken for the truth, noise and all.

    n_galaxies: Galaxies of the population whose votes decide the condition.
    """

    n_galaxies: int
    purity: float | None
    completeness: float | None


@dataclass(frozen=True, slots=True)
class Curve:
    """Purity and completeness if the threshold of one test is moved, while the true condition remains.

    Attributes:
        test: The test as it is.
        name: What it compares with a number.
        threshold: Its threshold as it is.
        thresholds: Other thresholds, rising.
        n_selected: Number of galaxies selected with each.
        qualities: Purity and completeness with each.
    """

    test: str
    name: str
    threshold: float
    thresholds: tuple[float, ...]
    n_selected: tuple[int, ...]
    qualities: tuple[Quality, ...]


@dataclass(frozen=True, slots=True, repr=False)
class Selection(Shown):
    """Galaxies that meet a condition.

    Attributes:
        table: The selected galaxies: `dataset_name`, `id_str`, `split`, the values that the condition names and, with
            predictions, `truth_probability`: the probability that the underlying vote fractions meet the condition.
        condition: The condition.
        truth: Its part that the underlying vote fractions must meet; "" without tests on fractions.
        population: Its part that defines the population; "" if that is all galaxies.
        n_population: Galaxies of the population: of the prediction files or, without them, of the dataset.
        n_selected: Galaxies that meet the condition.
        purity: Expected fraction of the selected galaxies that truly meet the condition.
        completeness: Expected fraction of the galaxies that truly meet the condition that are selected.
        level: Probability mass of their intervals.
        against_votes: The same if voted fractions are taken for the truth.
        calibration: What held-out votes say about the predictions of each question in `truth`.
        is_calibrated: Whether no such question is rejected; None if none could be tested.
        is_simulated: Whether the dataset is simulated.
        curves: Purity and completeness for other thresholds; empty without a report.
    """

    table: pl.DataFrame
    condition: str
    truth: str
    population: str
    n_population: int
    n_selected: int
    purity: Value
    completeness: Value
    level: float
    against_votes: AgainstVotes | None
    calibration: Mapping[str, HeldOutCoverage]
    is_calibrated: bool | None
    is_simulated: bool
    curves: tuple[Curve, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """Return the facts as JSON values, without the galaxies."""
        return {name: value for name, value in field_values(self).items() if name not in ("table", "curves")}

    def to_polars(self) -> pl.DataFrame:
        """Return the selected galaxies: the attribute `table`."""
        return self.table

    def sheet(self) -> Sheet:
        """Return purity and completeness, and the first galaxies."""
        mark = " (not calibrated)" if self.is_calibrated is False else ""
        shown = self.table.head(10)
        return Sheet(
            f"Selected {self.n_selected:,} of {self.n_population:,} galaxies",
            {
                "condition": self.condition,
                "population": self.population,
                f"purity{mark}": interval(self.purity) if self.purity["value"] is not None else None,
                f"completeness{mark}": interval(self.completeness) if self.completeness["value"] is not None else None,
            },
            tuple(shown.columns),
            list(shown.iter_rows()),
            f"In brackets: {self.level:.0%} prediction intervals, without binomial (vote sampling) noise. "
            "All galaxies: to_polars().",
        )


def select(
    predictions: Sequence[Path | str] | None,
    dataset: Path | str,
    *,
    where: str,
    out: Path | str | None = None,
    report: Path | str | None = None,
    level: float = 0.9,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Selection:
    """Select galaxies by a condition, with purity and completeness.

    The condition may name votes, predictions, posteriors, and any column of the dataset, such as
    `bar-gz2.yes.model > 0.5 and disk-edge-on-gz2.no.model > 0.7`; `docs/reference/expressions.md` has the grammar.

    With predictions, purity and completeness are expected values without binomial (vote sampling) noise: a galaxy truly
    meets the condition if its underlying vote fractions do. They are believed according to the posterior from
    predictions and held-out votes, so the model must be calibrated; a warning names questions on which it is not. Only
    tests on fractions define the truth. The others define the population, of which completeness is a fraction.

    Args:
        predictions: Prediction files with concentrations. Several files are merged; of each, the galaxies that its
            model was not trained on are used. Without files, all galaxies of the dataset are the population, and
            purity and completeness are not computed.
        dataset: Dataset with the votes: a folder, a campaign's name or `owner/name` on the Hub.
        where: Condition that selected galaxies meet.
        out: Table of the selected galaxies to write: `.parquet` or `.csv`.
        report: HTML page to write, with purity and completeness for other thresholds.
        level: Probability mass of the intervals, between 0 and 1.
        overwrite: Replace an earlier table or report.
        progress: Called with (stage, galaxies done, galaxies in total).

    Raises:
        ExpressionError: The condition cannot be read, or contains an unknown name.
        InputError: `level` is not between 0 and 1, or `out` has another suffix.
        NotFoundError: A file or folder does not exist.
        TableError: A file contains no predictions that can be combined with votes; see `gzoo.catalog`.
        OutputExistsError: `out` or `report` already exists.
    """
    node = parse(where)
    if not 0 < level < 1:
        raise InputError(f"level must be between 0 and 1, got {level}.")
    paths = list(map(Path, predictions or ()))
    if out is not None:
        refuse_file(Path(out), "selection", ENDINGS, overwrite=overwrite, inputs=[*paths, dataset])
    refuse_report(report, [*paths, dataset], overwrite)
    opened = open_dataset(dataset, progress=progress)
    names = Names(
        opened.tree, {**opened.column_types, **(_predicted_types(opened) if paths else {}), "split": pl.String()}
    )
    found = bind(node, names)
    for note in found.notes:
        warnings.warn(note, GZooWarning, stacklevel=2)
    truth, rest = divided(node, found.quantities)
    held_out = read_held_out(paths, opened) if paths else []
    _require_predicted(found, truth, held_out)
    # voted fractions are read beside whatever the condition names, to compare with them
    by_votes = _by_votes(truth, found) if truth and held_out else None
    needed = {*found.columns, *(by_votes.columns if by_votes else ())} & set(opened.column_types)
    table = _columns(opened, held_out, sorted(needed))
    if held_out:
        table = table.with_columns(_predicted_values(found, held_out))
    in_population = bind(rest, names).mask(table) if rest else pl.repeat(True, table.height, eager=True)
    is_selected = found.mask(table)
    n_population = int(in_population.sum())
    made = Selection(
        table=pl.DataFrame(),
        condition=str(node),
        truth=str(on_votes(truth, found.quantities)) if truth else "",
        population=str(rest) if rest else "",
        n_population=n_population,
        n_selected=int(is_selected.sum()),
        purity=NONE,
        completeness=NONE,
        level=level,
        against_votes=None,
        calibration={},
        is_calibrated=None,
        is_simulated=opened.is_simulated,
    )
    if held_out and truth:
        probability = _probability(truth, found, held_out, table, progress)
        table = table.with_columns(pl.Series(PROBABILITY, probability.astype(np.float32)))
        kept, selected = in_population.to_numpy(), is_selected.to_numpy()
        best = quality(probability[kept], selected[kept], level=level)
        calibration = held_out_coverage([one.on(list(questions_of(truth, found.quantities))) for one in held_out],
                                        opened, MODEL_LEVEL)  # fmt: skip
        made = replace(
            made,
            purity=best.purity,
            completeness=best.completeness,
            against_votes=_against_votes(by_votes, table, kept, selected) if by_votes else None,
            calibration=calibration,
            is_calibrated=_is_calibrated(calibration),
            curves=_curves(found, table, probability, kept, level) if report is not None else (),
        )
        _warn_of_calibration(calibration)
    elif held_out:
        warnings.warn(
            "The condition contains no test on vote fractions, so purity and completeness are not defined.",
            GZooWarning,
            stacklevel=2,
        )
    shown = [quantity for quantity in found.quantities.values() if quantity.name not in (*KEY, "split")]
    values = [names.column(quantity).alias(quantity.name) for quantity in dict.fromkeys(shown)]
    kept_columns = [*KEY, "split", *values, *([PROBABILITY] if PROBABILITY in table.columns else [])]
    made = replace(made, table=table.filter(is_selected).select(kept_columns))
    if out is not None:
        write_table(Path(out), made.table, "selection", {"condition": made.condition})
    if report is not None:
        from gzoo.reports.selection import write_report

        write_report(Path(report), made, title=f"{opened.campaign.title}: selection", dataset=Path(dataset),
                     predictions=[one.source for one in held_out])  # fmt: skip
    return made


# ----------------------------------------------------------------------------------------------------
# The values that a condition names


def _predicted_types(dataset: Dataset) -> dict[str, pl.DataType]:
    """Return the names that predictions add, as columns of a table, and their types."""
    types: dict[str, pl.DataType] = {}
    for question in dataset.tree.questions:
        types[f"{question.name}.proportion"] = pl.Float64()
        for answer in question.answers:
            types |= {f"{question.name}.{answer}.{end}": pl.Float64() for end in ("model", "low", "high", "posterior")}
    return types


def _require_predicted(found: Filter, truth: Node | None, held_out: Sequence[HeldOut]) -> None:
    if not held_out:
        return
    predicted = {question.name for question in held_out[0].votes.tree.questions}
    used = [(value, found.quantities[value.text]) for test in each_test(found.node) for value in operands(test)
            if isinstance(value, Name)]  # fmt: skip
    for name, quantity in used:
        is_believed = quantity.kind in PREDICTED or (truth is not None and quantity.is_fraction)
        if is_believed and quantity.question not in predicted:
            raise ExpressionError(
                f"'{name.text}' at character {name.position + 1} needs predictions of '{quantity.question}', which "
                f"'{held_out[0].source}' does not contain.",
                "questions that all prediction files predict.",
                "Omit the test, or omit the prediction files.",
                name.position,
            )


def _columns(dataset: Dataset, held_out: Sequence[HeldOut], columns: Sequence[str]) -> pl.DataFrame:
    """Return keys and some columns of the galaxies of the predictions, or of all of the dataset."""
    parts = [dataset.table(split, columns).with_columns(split=pl.lit(split)) for split in dataset.splits]
    table = pl.concat(parts)
    if not held_out:
        return table
    keys = pl.concat([one.keys.select(KEY) for one in held_out])
    return keys.join(table, on=KEY, how="left", maintain_order="left")


def _predicted_values(found: Filter, held_out: Sequence[HeldOut]) -> list[pl.Series]:
    """Return what a condition names and predictions tell, one column for each name."""
    wanted = {one.name: one for one in found.quantities.values() if one.kind in PREDICTED}
    # a gap is computed from the prediction
    wanted = {
        (name := quantity.name.removesuffix(".gap") + ".model" if quantity.kind == "gap" else quantity.name): replace(
            quantity, name=name, kind="model" if quantity.kind == "gap" else quantity.kind
        )
        for quantity in wanted.values()
    }
    return [
        pl.Series(name, np.concatenate([_values(quantity, one) for one in held_out]))
        for name, quantity in wanted.items()
    ]


def _values(quantity: Quantity, one: HeldOut) -> FloatArray:
    tree = one.votes.tree
    if quantity.kind == "proportion":
        i = [question.name for question in tree.questions].index(quantity.question)
        means = np.concatenate([
            question_fractions(one.concentrations[:, :, tree.concentration_slice(question.name)],
                               is_multiple=question.multiple).mean(axis=0)
            for question in tree.questions
        ], axis=1)  # fmt: skip
        return tree.proportion_asked(means)[:, i]
    own = one.on([quantity.question])
    column = own.votes.tree.columns.index(quantity.answer)
    if quantity.kind == "model":
        is_multiple = own.votes.tree.questions[0].multiple
        return question_fractions(own.concentrations, is_multiple=is_multiple).mean(axis=0)[:, column]
    if quantity.kind != "posterior":
        nothing = np.zeros_like(own.votes.counts)
        own = replace(own, votes=Votes(own.votes.tree, nothing, np.zeros_like(own.votes.totals)))
    parts: list[FloatArray] = []
    for _, posterior_ in own.posteriors():
        if quantity.kind == "posterior":
            parts.append(posterior_.fractions[:, column])
        else:
            narrow = _of_answer(posterior_, column)
            parts.append(narrow.interval(MODEL_LEVEL)[quantity.kind == "high"][:, 0])
    return np.concatenate(parts)


def _of_answer(found: Posterior, column: int) -> Posterior:
    """Return the posterior of one answer, whose interval is computed without those of the others."""
    own = slice(column, column + 1)
    return Posterior(found.tree, found.alpha[:, :, own], found.beta[:, :, own], found.weights[:, :, own])


def _by_votes(truth: Node, found: Filter) -> Filter | None:
    """Return a condition on voted instead of believed fractions, or None if the dataset has no votes on it."""
    try:
        return bind(on_votes(truth, found.quantities), found.names)
    except ExpressionError:
        return None


# ----------------------------------------------------------------------------------------------------
# Purity and completeness


def _probability(
    truth: Node, found: Filter, held_out: Sequence[HeldOut], table: pl.DataFrame, progress: Progress | None
) -> FloatArray:
    """Return the probability that each galaxy truly meets a condition, shape (galaxy,)."""
    n_draws = int(np.clip(MAX_FRACTIONS_DRAWN // max(table.height, 1), MIN_DRAWS, MAX_DRAWS))
    parts: list[FloatArray] = []
    start = 0
    for one in held_out:
        own = one.on(list(questions_of(truth, found.quantities)))
        for rows, believed in own.posteriors():
            few = table[start + rows.start : start + rows.stop]

            def mask(node: Node, few: pl.DataFrame = few) -> BoolArray:
                return bind(node, found.names).mask(few).to_numpy()

            parts.append(Truth(truth, found.quantities, believed, mask, n_draws, seed=start + rows.start).probability)
            if progress:
                progress("Computing purity", start + rows.stop, table.height)
        start += len(one)
    return np.concatenate(parts)


def _against_votes(by_votes: Filter, table: pl.DataFrame, kept: BoolArray, selected: BoolArray) -> AgainstVotes:
    is_true = by_votes.mask(table).to_numpy()
    is_known = is_true | replace(by_votes, node=Not(by_votes.node)).mask(table).to_numpy()
    purity, completeness = against_votes(is_true[kept], is_known[kept], selected[kept])
    return AgainstVotes(n_galaxies=int(is_known[kept].sum()), purity=purity, completeness=completeness)


def _is_calibrated(calibration: Mapping[str, HeldOutCoverage]) -> bool | None:
    judged = [one for one in calibration.values() if one.verdict != "insufficient data"]
    return not any(one.is_off for one in judged) if judged else None


def _warn_of_calibration(calibration: Mapping[str, HeldOutCoverage]) -> None:
    off = [f"{name} ({one.verdict})" for name, one in calibration.items() if one.is_off]
    if off:
        warnings.warn(
            f"The predictions do not agree with held-out votes: {', '.join(off)}. Purity and completeness are as wrong "
            "as the predictions. `gzoo recalibrate` corrects predictions.",
            GZooWarning,
            stacklevel=3,
        )


def _curves(
    found: Filter, table: pl.DataFrame, probability: FloatArray, kept: BoolArray, level: float
) -> tuple[Curve, ...]:
    curves: list[Curve] = []
    for test in each_test(found.node):
        number = _threshold(test, found.quantities)
        if number is None or len(curves) == MAX_CURVES or str(test) in {one.test for one in curves}:
            continue
        thresholds = sorted({*np.linspace(0.02, 0.98, N_THRESHOLDS).round(4).tolist(), float(number.value)})
        sizes: list[int] = []
        qualities: list[Quality] = []
        for threshold in thresholds:
            moved = replaced(found.node, lambda one, test=test, to=threshold: _moved(one, test, to))
            selected = replace(found, node=moved).mask(table).to_numpy()[kept]
            sizes.append(int(selected.sum()))
            qualities.append(quality(probability[kept], selected, level=level))
        curves.append(
            Curve(str(test), _name(test), float(number.value), tuple(thresholds), tuple(sizes), tuple(qualities))
        )
    return tuple(curves)


def _threshold(test: Test, quantities: Mapping[str, Quantity]) -> Constant | None:
    """Return the number that a test compares a fraction with, if it is a threshold."""
    if not isinstance(test, Comparison) or test.operator in ("=", "!=") or not is_on_fractions(test, quantities):
        return None
    return next((one for one in operands(test) if isinstance(one, Constant)), None)


def _name(test: Test) -> str:
    return next(str(one) for one in operands(test) if isinstance(one, Name))


def _moved(test: Test, moved: Test, threshold: float) -> Test:
    if test != moved or not isinstance(test, Comparison):
        return test
    left, right = (Constant(threshold) if isinstance(one, Constant) else one for one in (test.left, test.right))
    return Comparison(left, test.operator, right)
