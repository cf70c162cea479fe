"""A linear probe: the best head on top of an encoder that does not learn.

Features are computed once, as the mean over the eight orientations of each image, in which a galaxy is equally likely
to be seen. The head is then solved for rather than stepped towards: L-BFGS on all galaxies at once, with a penalty on
the weights of standardised features. Penalties from strong to weak are tried, each from the solution before; the one
with the lowest validation loss is kept. It needs neither a learning rate nor chance.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import nn

from gzoo.errors import NonFiniteLossError
from gzoo.files import Progress
from gzoo.learn.augmentation import augmentation
from gzoo.learn.encoders import FeatureExtractor
from gzoo.learn.fitting import Attempt, Loss
from gzoo.learn.loader import Batch, Loader
from gzoo.learn.model import Model, fastest_device
from gzoo.trees.tree import FloatArray, IntArray

VIEWS = 8
"""Orientations of an image over which features are averaged."""
PENALTIES = (100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3)
MAX_ITERATIONS = 100
N_FOLDS = 5
CHUNK = 16_384  # galaxies whose losses are computed at once

Labels = Mapping[str, torch.Tensor]
"""Everything in a loader's batches that is not about images, for all galaxies."""


@dataclass(frozen=True, slots=True)
class Features:
    """Galaxies as an encoder sees them.

    Attributes:
        values: Features, shape (galaxy, feature), float32.
        labels: Their labels, in the same order.
        ids: Their identifiers, in the same order, for messages.
    """

    values: torch.Tensor
    labels: Labels
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.values)

    def take(self, places: torch.Tensor) -> Features:
        """Return some of the galaxies."""
        labels = {name: value[places] for name, value in self.labels.items()}
        return Features(self.values[places], labels, tuple(self.ids[i] for i in places.tolist()))


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Predictions of training galaxies, each by a head that was not fitted to it.

    Attributes:
        predictions: What the heads return, shape (galaxy, column), in any order of galaxies.
        labels: Labels of the galaxies, in the same order.
    """

    predictions: FloatArray
    labels: Labels


@dataclass(frozen=True, slots=True)
class Probe:
    """A head that was solved for.

    Attributes:
        head: The head, for features as the encoder returns them.
        attempts: Penalties that were tried.
        losses: Loss of each validation galaxy, shape (galaxy,).
        held_out: Out-of-fold predictions of the training galaxies, where they were asked for.
    """

    head: nn.Linear
    attempts: tuple[Attempt, ...]
    losses: FloatArray
    held_out: HeldOut | None


def fit_probe(
    model: Model,
    loss: Loss,
    train: Loader,
    validation: Loader,
    progress: Progress | None = None,
    *,
    places: tuple[IntArray, IntArray] | None = None,
    cross_predict: bool = False,
) -> Probe:
    """Return the best head on top of a model's encoder as it is.

    Args:
        model: Model; its encoder is left in evaluation mode, and its head stays as it is.
        loss: What predictions cost.
        train: Loader of the galaxies to fit; without augmentation unless `places` are given.
        validation: Loader of the galaxies that choose the penalty.
        progress: Function to call with (stage, galaxies done, galaxies in total).
        places: Places in the loaders of the galaxies to use; by default all.
        cross_predict: Whether to predict the training galaxies too, out of fold.

    Raises:
        NonFiniteLossError: The loss is NaN or infinite.
    """
    model.to(fastest_device())
    first, second = places or (None, None)
    own = features_of(model, train, progress, stage="Computing features of training galaxies", places=first)
    other = features_of(model, validation, progress, stage="Computing features of validation galaxies", places=second)
    head, attempts = solve(model.head, loss, own, other)
    best = min(attempts, key=lambda each: each.validation_loss).penalty
    held_out = cross_predicted(model.head, loss, own, best) if cross_predict and len(own) > 1 else None
    return Probe(head, tuple(attempts), losses_of(head, loss, other), held_out)


def features_of(
    model: FeatureExtractor,
    galaxies: Loader,
    progress: Progress | None = None,
    *,
    views: int = VIEWS,
    stage: str = "Computing features",
    places: IntArray | None = None,
) -> Features:
    """Return the features of a loader's galaxies, in its order.

    Args:
        model: Encoder; it is left in evaluation mode.
        galaxies: Loader without augmentation.
        progress: Function to call with (stage, galaxies done, galaxies in total).
        views: Number of orientations of each image over which to average, 1 to 8.
        stage: Name of the stage for `progress`.
        places: Places in the loader of the galaxies to use, whatever its order; by default all, in its order.
    """
    model.eval()
    device = next(model.parameters()).device
    turned = augmentation("average")
    values: list[torch.Tensor] = []
    labels: dict[str, list[torch.Tensor]] = {}
    ids: list[str] = []
    done, n = 0, len(galaxies.rows if places is None else places)
    with torch.inference_mode():
        for batch in _batches(galaxies, places):
            image, seed = batch["image"].to(device), batch["seed"].to(device)
            shown = [image] if views == 1 else [turned(image, seed, view=view) for view in range(views)]
            values.append(torch.stack([model.features(view).float() for view in shown]).mean(dim=0).cpu())
            for name, value in cast("Mapping[str, object]", batch).items():
                if isinstance(value, torch.Tensor) and name not in {"image", "seed"}:
                    labels.setdefault(name, []).append(value.cpu())
            ids += batch["id_str"]
            done += len(values[-1])
            if progress:
                progress(stage, done, n)
    # clones, because tensors of inference mode cannot be part of a later optimisation
    together = {name: torch.cat(each).clone() for name, each in labels.items()}
    return Features(torch.cat(values).clone(), together, tuple(ids))


def _batches(galaxies: Loader, places: IntArray | None) -> Iterator[Batch]:
    if places is None:
        yield from galaxies
    else:
        for part in np.array_split(places, -(-len(places) // galaxies.batch_size)):
            yield galaxies.take(part)


def losses_of(head: nn.Module, loss: Loss, galaxies: Features) -> FloatArray:
    """Return the loss of each galaxy, in nats.

    Raises:
        NonFiniteLossError: A loss is NaN or infinite; the message names the galaxies.
    """
    head = copy.deepcopy(head).cpu()
    with torch.no_grad():
        parts = [loss(head(values), labels).double().numpy() for values, labels in _chunks(galaxies)]
    losses = np.concatenate(parts)
    wrong = np.flatnonzero(~np.isfinite(losses))
    if len(wrong):
        raise NonFiniteLossError(
            f"The loss of the linear probe is NaN or infinite for {len(wrong)} galaxies: "
            f"{', '.join(galaxies.ids[i] for i in wrong[:10])}.",
            hint="Check the images and votes of these galaxies, or start from another encoder.",
        )
    return losses


def solve(head: nn.Linear, loss: Loss, train: Features, validation: Features) -> tuple[nn.Linear, list[Attempt]]:
    """Return the head that predicts best, and the penalties that were tried.

    Args:
        head: Head that predicts the same for every galaxy once its weights are 0; its bias is where the search starts.
        loss: What its predictions cost.
        train: Galaxies to fit.
        validation: Galaxies that choose the penalty.

    Raises:
        NonFiniteLossError: The loss is NaN or infinite.
    """
    mean, scale = _standard(train)
    standard = [Features((each.values - mean) * scale, each.labels, each.ids) for each in (train, validation)]
    attempts: list[Attempt] = []
    best, best_loss, n_worse = copy.deepcopy(head).cpu(), np.inf, 0
    for penalty, fitted in _heads(head, loss, standard[0]):
        train_loss, validation_loss = (float(losses_of(fitted, loss, each).mean()) for each in standard)
        attempts.append(Attempt(penalty, train_loss, validation_loss))
        if validation_loss < best_loss:
            best, best_loss, n_worse = copy.deepcopy(fitted), validation_loss, 0
        else:
            n_worse += 1
        if n_worse == 2:
            break
    with torch.no_grad():  # for features as they are
        best.weight.mul_(scale)
        best.bias.sub_(best.weight @ mean)
    return best, attempts


def cross_predicted(head: nn.Linear, loss: Loss, galaxies: Features, penalty: float) -> HeldOut:
    """Return predictions of galaxies, each by a head that was fitted to four fifths of them, without it.

    Args:
        head: Head that predicts the same for every galaxy once its weights are 0.
        loss: What its predictions cost.
        galaxies: The galaxies, at least 2.
        penalty: Penalty to use, of those that are tried.

    Raises:
        NonFiniteLossError: The loss is NaN or infinite.
    """
    order = np.random.default_rng(0).permutation(len(galaxies))  # rows may be sorted by label
    folds = [torch.from_numpy(each) for each in np.array_split(order, N_FOLDS) if len(each)]
    predicted: list[torch.Tensor] = []
    for fold in folds:
        own = galaxies.take(torch.from_numpy(np.setdiff1d(order, fold)))
        mean, scale = _standard(own)
        standard = Features((own.values - mean) * scale, own.labels, own.ids)
        fitted = next(each for tried, each in _heads(head, loss, standard) if tried == penalty)
        with torch.no_grad():
            predicted.append(fitted((galaxies.values[fold] - mean) * scale))
    return HeldOut(torch.cat(predicted).double().numpy(), galaxies.take(torch.cat(folds)).labels)


def _standard(galaxies: Features) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean of each feature, and the factor after which its standard deviation is 1."""
    mean, std = galaxies.values.mean(dim=0), galaxies.values.std(dim=0, correction=0)
    return mean, torch.where(std > 1e-6 * std.max(), 1 / std, 0.0)  # features that do not vary say nothing


def _heads(head: nn.Linear, loss: Loss, galaxies: Features) -> Iterator[tuple[float, nn.Linear]]:
    """Yield the head that fits best under each penalty, from the strongest on; it is the same object each time."""
    fitted = copy.deepcopy(head).cpu().requires_grad_(True)
    nn.init.zeros_(fitted.weight)
    losses_of(fitted, loss, galaxies)  # a search that starts at NaN would fail in the arithmetic
    for penalty in PENALTIES:
        _minimise(fitted, loss, galaxies, penalty)
        yield penalty, fitted


def _minimise(head: nn.Linear, loss: Loss, galaxies: Features, penalty: float) -> None:
    optimizer = torch.optim.LBFGS(
        head.parameters(),
        max_iter=MAX_ITERATIONS,
        history_size=20,
        tolerance_change=1e-7,
        line_search_fn="strong_wolfe",
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        total = 0.5 * penalty * head.weight.square().sum()
        total.backward()
        value = total.detach()
        for values, labels in _chunks(galaxies):
            part = loss(head(values), labels).sum() / len(galaxies)
            part.backward()
            value = value + part.detach()
        return value

    optimizer.step(closure)


def _chunks(galaxies: Features) -> list[tuple[torch.Tensor, Labels]]:
    starts = range(0, len(galaxies), CHUNK)
    return [
        (
            galaxies.values[start : start + CHUNK],
            {name: value[start : start + CHUNK] for name, value in galaxies.labels.items()},
        )
        for start in starts
    ]
