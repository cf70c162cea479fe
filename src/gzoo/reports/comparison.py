"""The self-contained HTML report of `gzoo compare`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from gzoo import files, reports
from gzoo.dataset.open import Dataset
from gzoo.display import format_p
from gzoo.reports import Markup
from gzoo.reports.figures import DifferenceRow, differences_svg
from gzoo.scoring.comparison import MIN_GALAXIES, Comparison, Contrast, Difference, Model, Pair, Unit, needed
from gzoo.scoring.intervals import Value, root
from gzoo.trees.labels import label
from gzoo.trees.tree import Tree

MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"

Cell = tuple[str, str]  # a number, and the small text under it


def write_comparison(path: Path, *, dataset: Dataset, found: Comparison) -> None:
    """Write the report of a comparison; the same inputs give the same bytes.

    Args:
        path: HTML file to write; an existing file is replaced.
        dataset: Dataset with the votes.
        found: Result of `gzoo.compare`.
    """
    names = list(found.models)
    versus = " versus ".join(names) if len(names) == 2 else f"comparison of {', '.join(names[:-1])} and {names[-1]}"
    page = reports.render(
        "compare",
        title=f"{dataset.campaign.title}: {versus}",
        campaign=dataset.campaign.title,
        is_simulated=dataset.is_simulated,
        found=found,
        models=[_model_row(name, model) for name, model in found.models.items()],
        trained_on={name: one["n_trained_on"] for name, one in found.models.items() if one["n_trained_on"]},
        kinds={model["kind"].partition(",")[0] for model in found.models.values()},
        sections=[_section(pair, dataset.tree) for pair in found.pairs],
        min_galaxies=MIN_GALAXIES,
    )
    files.write_bytes(path, page)


def _model_row(name: str, model: Model) -> dict[str, object]:
    error = model["mse_noise_corrected"]
    if model["n_zero_probability"]:
        log_likelihood = (f"{MINUS}\N{INFINITY}", f"galaxies with zero probability: {model['n_zero_probability']:,}")
    else:
        log_likelihood = _interval(model["log_likelihood"], 3)
    return {"name": name, "model": model, "log_likelihood": log_likelihood, "rmse": _interval(root(error), 4)}


def _section(pair: Pair, tree: Tree) -> dict[str, object]:
    questions = {label(name, tree): one for name, one in pair["questions"].items()}
    asked = {name: one for name, one in questions.items() if one["log_likelihood"]["n_galaxies"]}
    shown = {**pair["campaigns"], **asked}
    return {
        "pair": pair,
        "figure": _figure(pair, shown, "log_likelihood", "difference in log-likelihood  [nats per galaxy]"),
        "errors": _figure(pair, shown, "mse", "difference in mean squared error of vote fractions, noise-corrected"),
        "rows": [
            _row("All questions", "overall", pair["overall"]),
            *(_row(name, "campaign", one) for name, one in pair["campaigns"].items()),
            *(_row(name, "question", one) for name, one in asked.items()),
        ],
        "ordered": [
            (name, f"{one['rps']['n_galaxies']:,}", _difference(one["rps"]), one["rps"]["better_model"])
            for name, one in {**asked, "All of these": pair["overall"]}.items()
            if one["rps"]["n_galaxies"]
        ],
        "without_votes": [name for name in questions if name not in asked],
    }


def _figure(pair: Pair, shown: Mapping[str, Contrast], unit: Unit, axis: str) -> Markup:
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
    description = f"{pair['first']} versus {pair['second']} on each question, with 95% confidence intervals"
    return Markup(differences_svg(rows, first=pair["first"], second=pair["second"], axis=axis, description=description))


def _row(name: str, kind: str, contrast: Contrast) -> dict[str, object]:
    score, error = contrast["log_likelihood"], contrast["mse"]
    remark = ""
    if any(score["n_zero_probability"]):
        remark = f"{'the other' if score['better_model'] else 'both'} assigned zero probability to votes"
    elif score["n_additional_galaxies"]:
        remark = f"needs {needed(score)}"
    elif score["low"] is None:
        remark = "too few galaxies"
    minimum = score["minimum_detectable_difference"]
    return {
        "label": name,
        "kind": kind,
        "n_galaxies": score["n_galaxies"],
        "log_likelihood": _difference(score),
        "p": DASH if score["p_adjusted"] is None else format_p(score["p_adjusted"]),
        "better_model": score["better_model"],
        "remark": remark,
        "minimum": DASH if minimum is None else _two_digits(minimum),
        "mse": _difference(error),
        "better_by_error": error["better_model"],
    }


def _difference(one: Difference) -> Cell:
    if any(one["n_zero_probability"]):
        return "infinite", " / ".join(f"{n:,}" for n in one["n_zero_probability"]) + " galaxies"
    if one["value"] is None:
        return DASH, ""
    if one["low"] is None or one["high"] is None:
        return _two_digits(one["value"], sign="+"), ""
    value, low, high = _alike(one["value"], one["low"], one["high"])
    return value, f"{low} to {high}"


def _interval(value: Value, digits: int) -> Cell:
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
