"""The self-contained HTML report of `gzoo compare`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from gzoo import files, reports
from gzoo.dataset.open import Dataset
from gzoo.display import format_p
from gzoo.reports import Markup
from gzoo.reports.figures import DifferenceRow, compared_role, differences
from gzoo.reports.parts import Cell, Column, Figure, Table, provenance, slug
from gzoo.scoring.comparison import MIN_GALAXIES, Comparison, Contrast, Difference, Pair, Unit, needed
from gzoo.scoring.intervals import Value, root
from gzoo.scoring.prediction_files import read_metadata
from gzoo.trees.labels import label
from gzoo.trees.tree import Tree

MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"


def write_comparison(path: Path, *, dataset: Dataset, found: Comparison, origins: Mapping[str, Path]) -> None:
    """Write the report of a comparison; the same inputs give the same bytes.

    Args:
        path: HTML file to write; an existing file is replaced.
        dataset: Dataset with the votes.
        found: Result of `gzoo.compare`.
        origins: Prediction file of each model.
    """
    names = list(found.models)
    versus = " versus ".join(names) if len(names) == 2 else f"comparison of {', '.join(names[:-1])} and {names[-1]}"
    roles = {name: compared_role(i) for i, name in enumerate(names)}
    page = reports.render(
        "compare",
        title=f"{dataset.campaign.title}: {versus}",
        campaign=dataset.campaign.title,
        is_simulated=dataset.is_simulated,
        found=found,
        roles=roles,
        models=_models_table(found, roles),
        origins={name: {"Predictions": one.name, **provenance(read_metadata(one))} for name, one in origins.items()},
        trained_on={name: one["n_trained_on"] for name, one in found.models.items() if one["n_trained_on"]},
        kinds={model["kind"].partition(",")[0] for model in found.models.values()},
        sections=[_section(i, pair, dataset.tree, roles) for i, pair in enumerate(found.pairs)],
        min_galaxies=MIN_GALAXIES,
    )
    files.write_bytes(path, page)


def _models_table(found: Comparison, roles: Mapping[str, str]) -> Table:
    columns = (
        Column("Model"), Column("Predicts", is_text=True), Column("Galaxies", "in its file"),
        Column("Not shared", "galaxies missing from another file"), Column("Log-likelihood", "nats per galaxy"),
        Column("RMSE", "noise-corrected"),
    )  # fmt: skip
    rows: list[list[Cell]] = []
    for name, model in found.models.items():
        if model["n_zero_probability"]:
            n = f"galaxies with zero probability: {model['n_zero_probability']:,}"
            log_likelihood = (f"{MINUS}\N{INFINITY}", n)
        else:
            log_likelihood = _interval(model["log_likelihood"], 3)
        n_unshared = len(model["questions_unshared"])
        rows.append([
            _named(name, roles), (model["kind"], f"{n_unshared} questions not shared" if n_unshared else ""),
            f"{model['n_galaxies']:,}", f"{model['n_unshared']:,}", log_likelihood,
            _interval(root(model["mse_noise_corrected"]), 4),
        ])  # fmt: skip
    return Table("Models", columns, rows)


def _section(i: int, pair: Pair, tree: Tree, roles: Mapping[str, str]) -> dict[str, object]:
    questions = {label(name, tree): one for name, one in pair["questions"].items()}
    asked = {name: one for name, one in questions.items() if one["log_likelihood"]["n_galaxies"]}
    shown = {**pair["campaigns"], **asked}
    return {
        "pair": pair,
        "figure": _figure(i, pair, shown, roles, "log_likelihood", "difference in log-likelihood  [nats per galaxy]"),
        "errors": _figure(i, pair, shown, roles, "mse", "reduction of the mean squared error  [noise-corrected]"),
        "table": _table(pair, asked, roles),
        "ordered": _ordered(pair, asked, roles),
        "without_votes": [name for name in questions if name not in asked],
    }


def _figure(
    i: int, pair: Pair, shown: Mapping[str, Contrast], roles: Mapping[str, str], unit: Unit, axis: str
) -> Figure:
    sign = 1 if unit == "log_likelihood" else -1  # the smaller error is the better one
    rows: list[DifferenceRow] = []
    for name, contrast in shown.items():
        one = contrast[unit]
        value, low, high = (None if end is None else sign * end for end in (one["value"], one["low"], one["high"]))
        low, high = (low, high) if sign == 1 else (high, low)
        better = (one["better_model"] == pair["first"]) - (one["better_model"] == pair["second"])
        if any(one["n_zero_probability"]):
            note = "infinite"
        elif value is None:
            note = "no votes"
        elif low is None or high is None:
            note = f"{one['n_galaxies']} galaxies: too few"
        else:
            note = "{}  [{}, {}]".format(*_alike(value, low, high))
        rows.append(DifferenceRow(name, value, low, high, one["minimum_detectable_difference"], better, note))
    what = "log-likelihood" if sign == 1 else "mean squared error"
    return differences(
        f"difference-{slug(what)}-{i + 1}",
        rows,
        first=(pair["first"], roles[pair["first"]]),
        second=(pair["second"], roles[pair["second"]]),
        axis=axis,
        description=f"{pair['first']} versus {pair['second']}: difference in {what} on each question, with 95% "
        "confidence intervals",
    )


def _table(pair: Pair, asked: Mapping[str, Contrast], roles: Mapping[str, str]) -> Table:
    columns = (
        Column("Question"), Column("Galaxies", "with votes"),
        Column("Log-likelihood", "difference, nats per galaxy (95% CI)"), Column("p", "adjusted"),
        Column("Better model", is_text=True), Column("Minimum detectable difference", "nats per galaxy, 80% power"),
        Column("Mean squared error", "difference (95% CI)"), Column("Better model", "by error", is_text=True),
    )  # fmt: skip
    rows = [
        _row("All questions", pair["overall"], roles),
        *(_row((name, "campaign"), one, roles) for name, one in pair["campaigns"].items()),
        *(_row(name, one, roles) for name, one in asked.items()),
    ]
    return Table(f"Differences of {pair['first']} and {pair['second']}", columns, rows, n_totals=1)


def _ordered(pair: Pair, asked: Mapping[str, Contrast], roles: Mapping[str, str]) -> Table | None:
    columns = (
        Column("Question"), Column("Galaxies", "with votes for ordered answers"),
        Column("Ranked probability score", "difference (95% CI)"), Column("Better model", is_text=True),
    )  # fmt: skip
    rows: list[list[Cell]] = [
        [name, f"{one['rps']['n_galaxies']:,}", _difference(one["rps"]), _named(one["rps"]["better_model"], roles)]
        for name, one in {**asked, "All of these": pair["overall"]}.items()
        if one["rps"]["n_galaxies"]
    ]
    return Table("Differences in ranked probability score", columns, rows) if rows else None


def _row(name: Cell, contrast: Contrast, roles: Mapping[str, str]) -> list[Cell]:
    score, error = contrast["log_likelihood"], contrast["mse"]
    remark = ""
    if any(score["n_zero_probability"]):
        remark = f"{'the other' if score['better_model'] else 'both'} assigned zero probability to votes"
    elif score["n_additional_galaxies"]:
        remark = f"needs {needed(score)}"
    elif score["low"] is None:
        remark = "too few galaxies"
    minimum = score["minimum_detectable_difference"]
    return [
        name,
        f"{score['n_galaxies']:,}",
        _difference(score),
        DASH if score["p_adjusted"] is None else format_p(score["p_adjusted"]),
        (_named(score["better_model"], roles), remark),
        DASH if minimum is None else _two_digits(minimum),
        _difference(error),
        _named(error["better_model"], roles),
    ]


def _named(name: str | None, roles: Mapping[str, str]) -> Markup:
    """Return the name of a model in its colour, or that no model is better."""
    if not name:
        return Markup('<span class="muted">inconclusive</span>')
    return Markup('<b class="name {}">{}</b>').format(roles[name], name)


def _difference(one: Difference) -> tuple[str, str]:
    if any(one["n_zero_probability"]):
        return "infinite", " / ".join(f"{n:,}" for n in one["n_zero_probability"]) + " galaxies"
    if one["value"] is None:
        return DASH, ""
    if one["low"] is None or one["high"] is None:
        return _two_digits(one["value"], sign="+"), ""
    value, low, high = _alike(one["value"], one["low"], one["high"])
    return value, f"{low} to {high}"


def _interval(value: Value, digits: int) -> tuple[str, str]:
    if value["value"] is None or value["low"] is None or value["high"] is None:
        return DASH, ""
    ends = (value["value"], value["low"], value["high"])
    number, low, high = (f"{end:.{digits}f}".replace("-", MINUS) for end in ends)
    return number, f"{low} to {high}"


def _alike(value: float, low: float, high: float) -> tuple[str, ...]:
    """Return a signed value and the ends of its interval, with as many decimals as show two digits of its width."""
    digits = _decimals((high - low) / 2) if high > low else 3
    texts = (f"{value:+.{digits}f}", *(f"{end:.{digits}f}" for end in (low, high)))
    return tuple(text.replace("-", MINUS) if float(text) else text.lstrip("+-") for text in texts)


def _two_digits(value: float, *, sign: str = "") -> str:
    """Return a number with two significant digits, without an exponent down to a millionth."""
    return f"{value:{sign}.{_decimals(abs(value))}f}".replace("-", MINUS) if value else "0"


def _decimals(size: float) -> int:
    return min(max(1 - math.floor(math.log10(size)), 0), 7)
