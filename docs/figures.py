"""The figures of the explanation pages and of the page on architecture: every number in them is computed here.

    .venv-docs/bin/python docs/figures.py [NAME ...]

Writes docs/explanation/figures/NAME.svg. The same code gives the same bytes.
"""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from gzoo.reports import learning_curves as reports
from gzoo.reports.learning_curves import DrawnCurve
from gzoo.scoring.learning_curve import fit_learning_curve
from gzoo.scoring.likelihood import sampling_noise
from gzoo.sky import split

DOCS = Path(__file__).parent
OUT, RESULTS = DOCS / "explanation" / "figures", DOCS.parent / "benchmarks" / "results"
BLUE, ORANGE, GREY, GREEN = "#0072b2", "#d55e00", "#5c6773", "#009e73"  # told apart by everyone (Okabe and Ito)
STYLE = {
    "svg.hashsalt": "gzoo",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",
}


def log_axis(axis: Axes, ticks: Sequence[int]) -> None:
    """Give an axis of numbers of votes a logarithmic scale with plain numbers."""
    axis.set_xscale("log")
    axis.set_xticks(ticks, [str(one) for one in ticks])
    axis.minorticks_off()


def axes(n: int = 1, height: float = 2.6, **more: object) -> tuple[Figure, list[Axes]]:
    """Return a figure with n axes beside each other."""
    figure = Figure(figsize=(7, height), layout="constrained")
    return figure, list(np.atleast_1d(figure.subplots(1, n, **more)))  # type: ignore[arg-type]


def votes_and_trees() -> Figure:
    """Proportion of volunteers who are asked about a bar, over the two fractions that lead there."""
    figure, (axis,) = axes()
    featured = np.linspace(0, 1, 101)
    for face_on, colour in ((1.0, BLUE), (0.7, ORANGE), (0.3, GREY)):
        axis.plot(featured, featured * face_on, color=colour, label=f"'not edge-on' {face_on:.0%}")
    axis.axhline(0.5, color="black", linewidth=0.7, linestyle=":")
    axis.set(xlabel="vote fraction of 'featured or disk'", ylabel="proportion asked about a bar")
    axis.legend(frameon=False)
    return figure


def splits() -> Figure:
    """A field of 10 by 20 arcmin, as in CANDELS, with the split of each position."""
    figure, (axis,) = axes(height=3.4)
    rng = np.random.default_rng(0)
    ra, dec = rng.uniform(150.0, 150.0 + 20 / 60, 150_000), rng.uniform(2.2, 2.2 + 10 / 60, 150_000)
    found = split(ra, dec)
    for name, colour in (("train", BLUE), ("validation", GREEN), ("test", ORANGE), ("border", "black")):
        rows = found == name
        axis.plot(ra[rows], dec[rows], ",", color=colour, rasterized=True)
        axis.plot([], [], "o", color=colour, label=f"{name} ({rows.mean():.1%})")
    axis.set(xlabel="right ascension (deg)", ylabel="declination (deg)", aspect="equal")
    axis.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.25), ncol=4)
    axis.invert_xaxis()
    return figure


def likelihood() -> Figure:
    """Distribution of 40 votes, all predicted with a fraction of 0.3 and different concentrations."""
    figure, (axis,) = axes()
    k = np.arange(41)
    for total, colour in ((2, GREY), (10, ORANGE), (50, BLUE)):
        axis.step(
            k, stats.betabinom.pmf(k, 40, 0.3 * total, 0.7 * total), where="mid", color=colour, label=f"A = {total}"
        )
    axis.step(k, stats.binom.pmf(k, 40, 0.3), where="mid", color="black", linestyle=":", label="binomial (A infinite)")
    axis.set(xlabel="votes for the answer, of 40", ylabel="probability")
    axis.legend(frameon=False)
    return figure


def scores() -> Figure:
    """Gain of a perfect model over a baseline, by the number of votes."""
    figure, (left, right) = axes(2)
    rng = np.random.default_rng(0)
    truth = rng.beta(2, 3, 20_000)
    n_votes = np.array([1, 2, 3, 5, 10, 20, 40, 80])
    gains = []
    for n in n_votes:
        votes = rng.binomial(n, truth)
        gains.append(np.mean(stats.binom.logpmf(votes, n, truth) - stats.betabinom.logpmf(votes, n, 2, 3)))
    left.plot(n_votes, gains, "o-", color=BLUE)
    left.set(xlabel="votes per galaxy", ylabel="gain (nats per galaxy)")
    right.plot(n_votes, np.array(gains) / n_votes, "o-", color=ORANGE)
    right.set(xlabel="votes per galaxy", ylabel="gain per vote (nats)", ylim=(0, None))
    for axis in (left, right):
        log_axis(axis, (1, 2, 5, 10, 20, 40, 80))
    return figure


def noise_correction() -> Figure:
    """RMSE of one model, with and without the noise of the votes, by the number of votes."""
    figure, (axis,) = axes()
    rng = np.random.default_rng(0)
    truth = rng.beta(2, 3, 20_000)
    predicted = np.clip(truth + rng.normal(0, 0.08, truth.shape), 0, 1)
    n_votes = np.array([2, 3, 5, 10, 20, 40, 80])
    raw, floor = [], []
    for n in n_votes:
        fraction = rng.binomial(n, truth) / n
        raw.append(np.mean((predicted - fraction) ** 2))
        floor.append(np.mean(sampling_noise(fraction, np.full(fraction.shape, n))))
    axis.plot(n_votes, np.sqrt(raw), "o-", color=GREY, label="RMSE against votes")
    axis.plot(n_votes, np.sqrt(floor), "s-", color=ORANGE, label="noise floor")
    axis.plot(n_votes, np.sqrt(np.array(raw) - floor), "^-", color=BLUE, label="noise-corrected RMSE")
    error = np.sqrt(np.mean((predicted - truth) ** 2))
    axis.axhline(error, color="black", linewidth=0.7, linestyle=":", label="against the underlying fraction")
    axis.set(xlabel="votes per galaxy", ylabel="RMSE", ylim=(0, None))
    log_axis(axis, (2, 3, 5, 10, 20, 40, 80))
    axis.legend(frameon=False)
    return figure


def calibration() -> Figure:
    """Randomised PIT of an overconfident, a calibrated and an underconfident model."""
    figure, found = axes(3, sharey=True)
    rng = np.random.default_rng(0)
    mean, n = rng.beta(2, 3, 20_000), 40
    for axis, (name, factor) in zip(
        found, (("overconfident", 4), ("consistent", 1), ("underconfident", 0.25)), strict=True
    ):
        votes = rng.binomial(n, rng.beta(20 * mean, 20 * (1 - mean)))
        total = 20 * factor
        below = stats.betabinom.cdf(votes - 1, n, total * mean, total * (1 - mean))
        pit = below + rng.random(len(votes)) * stats.betabinom.pmf(votes, n, total * mean, total * (1 - mean))
        axis.hist(pit, bins=20, range=(0, 1), density=True, color=BLUE)
        axis.axhline(1, color="black", linewidth=0.7, linestyle=":")
        axis.set(xlabel="PIT", title=f"{name}\n(factor {1 / factor:g})")
    found[0].set_ylabel("density")
    return figure


def comparing_models() -> Figure:
    """Minimum detectable difference, paired and unpaired, by the number of galaxies."""
    figure, (axis,) = axes()
    n = np.geomspace(100, 100_000, 50)
    rng = np.random.default_rng(0)
    truth = rng.beta(2, 3, 20_000)
    votes, shared = rng.binomial(40, truth), rng.normal(0, 0.05, truth.shape)
    logs = [
        stats.betabinom.logpmf(votes, 40, 50 * one, 50 * (1 - one))
        for one in (np.clip(truth + shared + rng.normal(0, scale, truth.shape), 0.01, 0.99) for scale in (0.01, 0.02))
    ]
    power = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)
    paired, apart = np.std(logs[0] - logs[1]), np.hypot(np.std(logs[0]), np.std(logs[1]))
    axis.loglog(n, power * apart / np.sqrt(n), color=GREY, label="two models on different galaxies")
    axis.loglog(n, power * paired / np.sqrt(n), color=BLUE, label="paired, on the same galaxies")
    axis.set(xlabel="galaxies with votes", ylabel="minimum detectable\ndifference (nats per galaxy)")
    axis.legend(frameon=False)
    return figure


def posteriors() -> Figure:
    """Prediction, votes and posterior of one fraction."""
    figure, found = axes(2, sharey=True)
    x = np.linspace(0, 1, 400)
    for axis, (yes, n) in zip(found, ((3, 4), (30, 40)), strict=True):
        prior = stats.beta(6, 9)
        posterior = stats.beta(6 + yes, 9 + n - yes)
        axis.plot(x, prior.pdf(x), color=GREY, label="prediction")
        axis.plot(x, posterior.pdf(x), color=BLUE, label="posterior")
        low, high = posterior.interval(0.9)
        inside = (x >= low) & (x <= high)
        axis.fill_between(x[inside], posterior.pdf(x[inside]), color=BLUE, alpha=0.2, label="90% credible interval")
        axis.axvline(yes / n, color=ORANGE, linestyle=":", label="vote fraction")
        axis.set(xlabel="vote fraction of 'yes'", title=f"{yes} of {n} votes")
    found[0].set_ylabel("density")
    found[0].legend(frameon=False, fontsize=8)
    return figure


def purity() -> Figure:
    """Purity of five samples: true, expected and against votes; benchmarks/selection_coverage.py."""
    result = json.loads((RESULTS / "selection_coverage.json").read_text("utf-8"))
    figure, found = axes(2, height=3, sharey=True)
    for axis, n in zip(found, (5, 40), strict=True):
        of_n = {key.partition(", ")[2]: one for key, one in result.items() if key.startswith(f"{n} votes")}
        rows = np.arange(len(of_n))
        for name, marker, colour in (("truth", "o", "black"), ("expected", "x", BLUE), ("naive", "s", ORANGE)):
            label = {"truth": "true", "expected": "expected by gzoo select", "naive": "against the votes"}[name]
            axis.plot([one[f"purity: {name}"] for one in of_n.values()], rows, marker, color=colour, label=label)
        axis.set_yticks(rows, list(of_n))
        axis.set(xlabel="purity", title=f"{n} votes per galaxy", xlim=(0.5, 1.03))
    found[0].invert_yaxis()
    found[1].legend(frameon=False, fontsize=8, loc="lower left")
    return figure


def fine_tuning() -> Figure:
    """Error of a probe, of fine-tuning and of training from scratch in a linear model, by the number of labels.

    The labels depend on 200 directions of the images. The encoder knows the 20 that mattered for its own labels, and
    the new question is nine tenths in these.
    """
    figure, (axis,) = axes(height=2.8)
    n_all, n_known, noise = 200, 20, 0.5
    n_labels = np.array([25, 50, 100, 200, 400, 800, 1600])
    errors = np.zeros((3, len(n_labels)))
    for draw in range(20):
        rng = np.random.default_rng(draw)
        truth = np.zeros(n_all)
        truth[:n_known] = rng.normal(0, np.sqrt(0.9 / n_known), n_known)
        truth[n_known:] = rng.normal(0, np.sqrt(0.1 / (n_all - n_known)), n_all - n_known)
        for i, n in enumerate(n_labels):
            x = rng.normal(0, 1, (n, n_all))
            y = x @ truth + rng.normal(0, noise, n)
            # the penalty of each direction is the variance of the noise over that of its weight
            known, other = noise**2 * n_known / 0.9, noise**2 * (n_all - n_known) / 0.1
            penalties = (
                np.r_[np.full(n_known, known), np.full(n_all - n_known, 1e12)],
                np.r_[np.full(n_known, known), np.full(n_all - n_known, other)],
                np.full(n_all, noise**2 * n_all),
            )
            for j, penalty in enumerate(penalties):
                found = np.linalg.solve(x.T @ x + np.diag(penalty), x.T @ y)
                errors[j, i] += np.sum((found - truth) ** 2) / 20
    for found, name, style in zip(
        errors, ("linear probe", "fine-tuned", "from scratch"), ("o-", "^-", "s-"), strict=True
    ):
        colour = {"linear probe": ORANGE, "fine-tuned": BLUE, "from scratch": GREY}[name]
        axis.plot(n_labels, found, style, color=colour, label=name)
    axis.set(xlabel="labelled galaxies", ylabel="unexplained variance", ylim=(0, None))
    log_axis(axis, n_labels.tolist())
    axis.legend(frameon=False)
    return figure


def adaptation() -> Figure:
    """ROC AUC of probe, fine-tuning and training from scratch, by the number of labels; benchmarks/adaptation.py."""
    results = json.loads((RESULTS / "adaptation.json").read_text("utf-8"))["results"]
    found = {name: one for name, one in results.items() if one["measure"] == "ROC AUC"}
    questions = sorted({name.partition(", ")[0] for name in found})
    figure, drawn = axes(len(questions), height=3, sharey=True)
    for axis, question in zip(drawn, questions, strict=True):
        own = {int(name.split()[1]): one for name, one in found.items() if name.startswith(f"{question}, ")}
        for way, style, colour in (("probe", "o-", ORANGE), ("fine-tuned", "^-", BLUE), ("scratch", "s-", GREY)):
            label = {"probe": "linear probe", "scratch": "from scratch"}.get(way, way)
            axis.plot(list(own), [one[way] for one in own.values()], style, color=colour, label=label)
        axis.set(xlabel="labelled galaxies", title=question)
        log_axis(axis, list(own))
    drawn[0].set_ylabel("ROC AUC")
    drawn[0].legend(frameon=False)
    return figure


def learning_curves() -> str:
    """Loss above the floor against the number of galaxies, with the curve through all but the largest; scaling.json."""
    study = json.loads((RESULTS / "scaling.json").read_text("utf-8"))
    curves = []
    for name, found in study["encoders"].items():
        fitted = found["curve_without_the_largest"]
        curve = fit_learning_curve(fitted["n_galaxies"], fitted["losses"], floor=study["floor"])
        curves.append(DrawnCurve(name, curve, [(found["at_n_galaxies"], loss) for loss in found["reached_losses"]]))
    text = (
        "Loss above that of the truth against the number of galaxies trained on, both logarithmic: trainings as "
        "points, and the line through the filled ones with its prediction interval, for each encoder"
    )
    return reports.learning_curves("learning-curves", curves, description=text).wide


def layers() -> Figure:
    """The layers of the package, as `pyproject.toml` has them: each imports from those below it only."""
    settings = tomllib.loads((DOCS.parent / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    (found,) = (one["layers"] for one in settings["contracts"] if one["type"] == "layers")
    figure = Figure(figsize=(7, 0.36 * len(found)), layout="constrained")
    axis = figure.subplots()
    for row, layer in enumerate(found):
        names = layer.split(" : ")
        for i, name in enumerate(names):
            axis.barh(row, 1 / len(names) - 0.01, left=i / len(names), height=0.78, color=BLUE, alpha=0.15)
            axis.text((i + 0.5) / len(names), row, name, ha="center", va="center")
    axis.annotate("", (1.04, len(found) - 0.7), (1.04, -0.3), arrowprops={"arrowstyle": "->", "color": GREY})
    axis.text(1.06, len(found) / 2 - 0.5, "imports", rotation=270, va="center", color=GREY)
    axis.set(xlim=(0, 1.1), ylim=(len(found) - 0.5, -0.5))
    axis.set_axis_off()
    return figure


MEASURED = {"adaptation": "adaptation.json", "learning_curves": "scaling.json"}
FIGURES: dict[str, Callable[[], Figure | str]] = {
    one.__name__.replace("_", "-"): one
    for one in (
        *(votes_and_trees, splits, likelihood, scores, noise_correction, calibration, comparing_models, posteriors),
        *(purity, fine_tuning, layers),
        *(one for one in (adaptation, learning_curves) if (RESULTS / MEASURED[one.__name__]).exists()),
    )
}


def main() -> None:
    """Write the figures that are named, or all."""
    mpl.rcParams.update(STYLE)
    OUT.mkdir(exist_ok=True)
    for name in sys.argv[1:] or FIGURES:
        drawn = FIGURES[name]()
        if isinstance(drawn, str):
            (OUT / f"{name}.svg").write_text(drawn, "utf-8")
        else:
            drawn.savefig(OUT / f"{name}.svg", dpi=150, metadata={"Date": None})


if __name__ == "__main__":
    main()
