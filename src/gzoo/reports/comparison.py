"""The page that `gzoo compare` writes: self-contained, as all pages of gzoo."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gzoo import files, reports
from gzoo.dataset.open import Dataset
from gzoo.reports import Markup
from gzoo.reports.figures import DifferenceRow, differences_svg
from gzoo.scoring.comparison import MIN_GALAXIES, Comparison, Contrast, Difference, Model, Pair, Unit
from gzoo.scoring.intervals import Value
from gzoo.trees.labels import label
from gzoo.trees.tree import Tree

MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True, slots=True)
class _Cell:
    """A number and, under it, what qualifies it."""

    value: str
    small: str = ""


@dataclass(frozen=True, slots=True)
class _ModelRow:
    name: str
    model: Model
    log_likelihood: _Cell
    rmse: _Cell


@dataclass(frozen=True, slots=True)
class _Row:
    """One question, campaign or all of them. `kind`: overall, campaign or question."""

    label: str
    kind: str
    n_asked: int
    log_likelihood: _Cell
    p: str
    verdict: _Cell
    least: str
    mse: _Cell
    mse_verdict: str


@dataclass(frozen=True, slots=True)
class _Section:
    pair: Pair
    figure: Markup
    errors: Markup
    rows: tuple[_Row, ...]
    silent: tuple[str, ...]


def write_comparison(path: Path, *, dataset: Dataset, found: Comparison) -> None:
    """Write the page about compared models; the same inputs give the same bytes.

    Args:
        path: The HTML file to write; what is there is replaced.
        dataset: Whose votes the models were compared on.
        found: What `gzoo compare` found.
    """
    page = reports.render(
        "compare",
        title=f"{dataset.campaign.title}: {_versus(list(found['models']))}",
        campaign=dataset.campaign.title,
        is_simulated=dataset.is_simulated,
        found=found,
        models=[_model_row(name, model) for name, model in found["models"].items()],
        trained_on={name: one["n_trained_on"] for name, one in found["models"].items() if one["n_trained_on"]},
        kinds={model["kind"].partition(",")[0] for model in found["models"].values()},
        sections=[_section(pair, dataset.tree) for pair in found["pairs"]],
        min_galaxies=MIN_GALAXIES,
    )
    files.write_bytes(path, page)


def _versus(names: Sequence[str]) -> str:
    return " against ".join(names) if len(names) == 2 else f"{', '.join(names[:-1])} and {names[-1]} compared"


def _model_row(name: str, model: Model) -> _ModelRow:
    mse = model["mse_noise_corrected"]
    ends = {key: math.sqrt(max(value, 0.0)) for key, value in _ends(mse).items()}
    rmse = (
        _interval(Value(value=ends["value"], low=ends["low"], high=ends["high"]), 4) if ends else _Cell("\N{EN DASH}")
    )
    score = _interval(model["log_likelihood"], 3)
    if model["n_zero_probability"]:
        score = _Cell(f"{MINUS}\N{INFINITY}", f"no chance given to votes of {model['n_zero_probability']:,} galaxies")
    return _ModelRow(name, model, score, rmse)


def _ends(value: Value) -> Mapping[str, float]:
    known = {"value": value["value"], "low": value["low"], "high": value["high"]}
    found = {name: number for name, number in known.items() if number is not None}
    return found if len(found) == len(known) else {}


def _section(pair: Pair, tree: Tree) -> _Section:
    rows = [_row("All questions", "overall", pair["overall"])]
    rows += [_row(name, "campaign", one) for name, one in pair["campaigns"].items()]
    asked = {label(name, tree): one for name, one in pair["questions"].items() if one["log_likelihood"]["n_galaxies"]}
    rows += [_row(name, "question", one) for name, one in asked.items()]
    silent = [label(name, tree) for name, one in pair["questions"].items() if not one["log_likelihood"]["n_galaxies"]]
    shown = {**pair["campaigns"], **asked}
    return _Section(
        pair,
        _figure(pair, shown, "log_likelihood", "difference of log score  [nats per galaxy asked]"),
        _figure(pair, shown, "mse", "difference of mean squared error of the fractions, without the noise of votes"),
        tuple(rows),
        tuple(silent),
    )


def _figure(pair: Pair, shown: Mapping[str, Contrast], unit: Unit, axis: str) -> Markup:
    sign = 1 if unit == "log_likelihood" else -1  # the smaller error is the better one
    rows: list[DifferenceRow] = []
    for name, contrast in shown.items():
        one = contrast[unit]
        value, low, high = (None if end is None else sign * end for end in (one["value"], one["low"], one["high"]))
        low, high = (low, high) if sign == 1 else (high, low)
        better = (one["better"] == pair["first"]) - (one["better"] == pair["second"])
        rows.append(
            DifferenceRow(name, value, low, high, one["minimum_detectable_difference"], better, _note(one, sign))
        )
    return Markup(
        differences_svg(
            rows,
            first=pair["first"],
            second=pair["second"],
            axis=axis,
            description=f"{pair['first']} against {pair['second']} on each question with 95% interval",
        )
    )


def _note(one: Difference, sign: int) -> str:
    if any(one["n_zero_probability"]):
        return "infinite"
    if one["value"] is None:
        return "no votes"
    if one["low"] is None or one["high"] is None:
        return f"{one['n_galaxies']} galaxies: too few"
    low, high = sorted((sign * one["low"], sign * one["high"]))
    value, low_end, high_end = _alike(sign * one["value"], low, high)
    return f"{value}  [{low_end}, {high_end}]"


def _row(name: str, kind: str, contrast: Contrast) -> _Row:
    score, error = contrast["log_likelihood"], contrast["mse"]
    verdict = _Cell(score["better"] or "cannot tell")
    if any(score["n_zero_probability"]):
        verdict = _Cell(
            verdict.value, "the other allowed 0 for votes cast" if score["better"] else "both allowed 0 for votes cast"
        )
    elif score["n_additional_galaxies"]:
        verdict = _Cell(verdict.value, f"{_many(score['n_additional_galaxies'])} more would tell")
    elif score["low"] is None:
        verdict = _Cell(verdict.value, "too few galaxies")
    return _Row(
        label=name,
        kind=kind,
        n_asked=score["n_galaxies"],
        log_likelihood=_of_difference(score),
        p=_probability(score["p_adjusted"]),
        verdict=verdict,
        least="\N{EN DASH}"
        if score["minimum_detectable_difference"] is None
        else _figures(score["minimum_detectable_difference"]),
        mse=_of_difference(error),
        mse_verdict=error["better"] or "cannot tell",
    )


def _of_difference(one: Difference) -> _Cell:
    if any(one["n_zero_probability"]):
        return _Cell("infinite", " / ".join(f"{n:,}" for n in one["n_zero_probability"]) + " galaxies")
    if one["value"] is None:
        return _Cell("\N{EN DASH}")
    if one["low"] is None or one["high"] is None:
        return _Cell(_figures(one["value"], signed=True))
    value, low, high = _alike(one["value"], one["low"], one["high"])
    return _Cell(value, f"{low} to {high}")


def _interval(value: Value, places: int) -> _Cell:
    known = {name: f"{number:.{places}f}".replace("-", MINUS) for name, number in _ends(value).items()}
    return _Cell(known["value"], f"{known['low']} to {known['high']}") if known else _Cell("\N{EN DASH}")


def _alike(value: float, low: float, high: float) -> tuple[str, ...]:
    """A value, with its sign, and its interval's ends with as many decimals as give its width two figures."""
    width = (high - low) / 2
    places = min(max(1 - math.floor(math.log10(width)), 0), 7) if width > 0 else 3
    texts = (f"{value:+.{places}f}", *(f"{end:.{places}f}" for end in (low, high)))
    return tuple(text.replace("-", MINUS) if float(text) else text.lstrip("+-") for text in texts)


def _figures(value: float, *, signed: bool = False) -> str:
    """Two significant figures, with a true minus sign, and never as a power of ten down to a millionth."""
    if not value:
        return "0"
    places = min(max(1 - math.floor(math.log10(abs(value))), 0), 7)
    return f"{value:{'+' if signed else ''}.{places}f}".replace("-", MINUS)


def _probability(p: float | None) -> str:
    if p is None:
        return "\N{EN DASH}"
    return "<\N{NO-BREAK SPACE}0.0001" if p < 0.0001 else f"{p:.4f}" if p < 0.1 else f"{p:.2f}"


def _many(n: int) -> str:
    if n > 10_000_000:
        return "over 10 million"
    unit = 10 ** max(len(str(n)) - 2, 0)
    return f"{-(-n // unit) * unit:,}"
