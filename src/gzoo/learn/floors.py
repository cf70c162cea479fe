"""Whether training paid: the model against a linear probe of the encoder it started from, and against the labels alone.

All are judged on the same validation galaxies, whose features are averaged over the same orientations, by the
difference of their losses galaxy by galaxy. The validation galaxies also chose the best epoch and the probe's penalty,
so both are slightly too good, in the same way.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import nn

from gzoo.display import Shown
from gzoo.files import Progress
from gzoo.learn.fitting import Loss
from gzoo.learn.loader import Loader
from gzoo.learn.model import Model
from gzoo.learn.probe import Probe, features_of, fit_probe, losses_of
from gzoo.scoring.intervals import Blocks, Value, mean_value
from gzoo.trees.tree import IntArray

MAX_GALAXIES = 5_000
"""Galaxies to which a probe is fitted, and on which it is judged."""


@dataclass(frozen=True, slots=True, repr=False)
class Floors(Shown):
    """What a model gains over cheaper ones, on validation galaxies.

    Attributes:
        n_galaxies: Number of validation galaxies.
        n_fitted: Number of galaxies to which the probe was fitted; 0 without a probe.
        loss: Mean loss of the model, in nats per galaxy, averaged over orientations.
        probe_loss: That of a linear probe of the encoder that training started from; None without a probe.
        baseline_loss: That of the baseline, which predicts the same for every galaxy.
        gain_over_probe: Mean of the differences, in nats per galaxy, with a 95% confidence interval.
        gain_over_baseline: The same over the baseline.
        description: A sentence.
    """

    n_galaxies: int
    n_fitted: int
    loss: float
    probe_loss: float | None
    baseline_loss: float
    gain_over_probe: Value | None
    gain_over_baseline: Value
    description: str


@dataclass(frozen=True, slots=True)
class Start:
    """A probe of the encoder that training starts from, and the galaxies on which it is judged.

    Attributes:
        probe: The probe; None if none is wanted.
        n_fitted: Number of galaxies that it was fitted to.
        places: Validation galaxies, as places in their loader.
        baseline: Head that predicts the baseline for every galaxy.
    """

    probe: Probe | None
    n_fitted: int
    places: IntArray
    baseline: nn.Linear


def probe_start(
    model: Model,
    loss: Loss,
    train: Loader,
    validation: Loader,
    *,
    wanted: bool,
    seed: int,
    progress: Progress | None = None,
) -> Start:
    """Return a probe of a model's encoder before it is trained.

    Args:
        model: Model, whose head predicts the baseline but for small weights; it stays as it is.
        loss: What predictions cost.
        train: Loader of the training galaxies.
        validation: Loader of the validation galaxies.
        wanted: Whether to fit a probe.
        seed: Seed of the choice of galaxies, if there are more than 5,000.
        progress: Function to call with (stage, galaxies done, galaxies in total).
    """
    places = some(len(validation.rows), seed)
    baseline = copy.deepcopy(model.head).cpu()
    nn.init.zeros_(baseline.weight)
    if not wanted:
        return Start(None, 0, places, baseline)
    own = some(len(train.rows), seed)
    probe = fit_probe(model, loss, train, validation, progress, places=(own, places))
    return Start(probe, len(own), places, baseline)


def judge(
    start: Start,
    model: Model,
    loss: Loss,
    validation: Loader,
    blocks_of: Callable[[IntArray], Blocks],
    *,
    learn: str | int,
    is_trained: bool,
    progress: Progress | None = None,
) -> Floors:
    """Return what a trained model gains.

    Args:
        start: Probe of the encoder that training started from.
        model: The trained model.
        loss: What predictions of validation galaxies cost.
        validation: Loader of the validation galaxies.
        blocks_of: Function that returns the resampling units of validation galaxies, given their places.
        learn: What learned: "all", "head" or a number of blocks.
        is_trained: Whether the encoder was trained before; otherwise its weights were random.
        progress: Function to call with (stage, galaxies done, galaxies in total).
    """
    galaxies = features_of(model, validation, progress, stage="Judging the model", places=start.places)
    losses, by_baseline = losses_of(model.head, loss, galaxies), losses_of(start.baseline, loss, galaxies)
    blocks = blocks_of(start.places)
    over_baseline = mean_value(by_baseline - losses, blocks)
    over_probe = mean_value(start.probe.losses - losses, blocks) if start.probe else None
    return Floors(
        len(galaxies),
        start.n_fitted,
        float(losses.mean()),
        float(start.probe.losses.mean()) if start.probe else None,
        float(by_baseline.mean()),
        over_probe,
        over_baseline,
        _sentence(len(galaxies), over_probe, over_baseline, learn, is_trained=is_trained),
    )


def _sentence(n: int, over_probe: Value | None, over_baseline: Value, learn: str | int, *, is_trained: bool) -> str:
    what = "the linear probe" if learn == "head" else "the trained model"
    text = f"On {n:,} validation galaxies, {what} gains {_said(over_baseline)} nats per galaxy over the baseline"
    if over_probe is None:
        return f"{text}{_without_gain(over_baseline)}."
    start = "the encoder that it started from" if is_trained else "its encoder with random weights"
    text += f", and {_said(over_probe)} over a linear probe of {start}"
    longer = "train on more galaxies or for longer"
    if not is_trained:
        longer += ", or start from a trained encoder (`--from`)"
    low, high = over_probe["low"], over_probe["high"]
    if low is None or high is None:
        return f"{text}: too few galaxies to tell them apart."
    if high < 0:
        return f"{text}: it is worse than the probe; {'use `--learn head`, or ' if is_trained else ''}{longer}."
    if low <= 0:
        then = "`--learn head` is enough" if is_trained else longer
        return f"{text}: not distinguishable from the probe: {then}."
    return f"{text}: training paid{_without_gain(over_baseline)}."


def _without_gain(over_baseline: Value) -> str:
    low = over_baseline["low"]
    return "" if low is None or low > 0 else "; that is not distinguishable from the baseline"


def _said(value: Value) -> str:
    mean, low, high = value["value"], value["low"], value["high"]
    interval = "" if low is None or high is None else f" [{low:.3f}, {high:.3f}]"
    return f"{mean:.3f}{interval}"


def some(n: int, seed: int, most: int = MAX_GALAXIES) -> IntArray:
    """Return the places of at most so many of n galaxies, in order."""
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, most, replace=False))
