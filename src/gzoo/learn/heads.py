"""Heads: what turns features of an encoder into predictions, and says what predictions cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from gzoo.dataset.targets import Target
from gzoo.learn.losses import dirichlet_multinomial_nll
from gzoo.trees.tree import FloatArray, Tree

LOG_LIMIT = 16.0  # concentrations from 1e-7 to 9e6
MARGIN = 0.1  # how far a predicted value may lie beyond the training labels, relative to their range
STD_LIMIT = 7.0  # standard deviations from 1/1,100 to 1,100 times the scatter of the labels


class VoteHead(nn.Linear):
    """Concentrations of all questions of a tree."""

    def __init__(self, n_features: int, n_concentrations: int, baseline: FloatArray | None = None) -> None:
        """Make a head with random weights.

        Args:
            n_features: Number of features of the encoder.
            n_concentrations: Number of concentrations.
            baseline: Concentrations that the head predicts at first, shape (concentration,); by default 1.
        """
        super().__init__(n_features, n_concentrations)
        nn.init.normal_(self.weight, std=0.01)
        start = np.zeros(n_concentrations) if baseline is None else np.log(baseline)
        with torch.no_grad():
            self.bias.copy_(torch.from_numpy(LOG_LIMIT * np.arctanh(start / LOG_LIMIT)))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return concentrations, shape (galaxy, concentration), from features."""
        with torch.autocast(input.device.type, enabled=False):
            log_concentration = super().forward(input.float())
            # a smooth limit, far beyond what votes can distinguish, keeps exp finite
            return torch.exp(LOG_LIMIT * torch.tanh(log_concentration / LOG_LIMIT))

    def average(self, views: torch.Tensor) -> torch.Tensor:
        """Return one prediction from those of several views, shape (view, galaxy, concentration)."""
        return views.log().mean(dim=0).exp()


class ClassHead(nn.Linear):
    """Probabilities of classes."""

    def __init__(self, n_features: int, n_classes: int, baseline: FloatArray | None = None) -> None:
        """Make a head with random weights.

        Args:
            n_features: Number of features of the encoder.
            n_classes: Number of classes.
            baseline: Probabilities that the head predicts at first, shape (class,); by default equal ones.
        """
        super().__init__(n_features, n_classes)
        nn.init.normal_(self.weight, std=0.01)
        start = np.zeros(n_classes) if baseline is None else np.log(baseline)
        with torch.no_grad():
            self.bias.copy_(torch.from_numpy(start))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return log probabilities, shape (galaxy, class), from features."""
        with torch.autocast(input.device.type, enabled=False):
            return torch.log_softmax(super().forward(input.float()), dim=1)

    def average(self, views: torch.Tensor) -> torch.Tensor:
        """Return the log of the mean probability over views, shape (view, galaxy, class)."""
        return torch.logsumexp(views, dim=0) - math.log(len(views))


class ValueHead(nn.Linear):
    """Mean and standard deviation of a number, in units of its scatter among the training galaxies.

    A few images have features far from those of all training galaxies, where a linear function may give anything: a
    redshift of -5 +- 0.2. The mean is therefore limited, smoothly, to the range of the training labels and a tenth of
    it on either side.
    """

    def __init__(
        self, n_features: int, baseline: FloatArray | None = None, label_range: tuple[float, float] | None = None
    ) -> None:
        """Make a head with random weights.

        Args:
            n_features: Number of features of the encoder.
            baseline: Mean and standard deviation that the head predicts at first; by default 0 and 1.
            label_range: Lowest and highest label of the training galaxies; by default ten standard deviations from the
                mean.
        """
        super().__init__(n_features, 2)
        nn.init.normal_(self.weight, std=0.01)
        nn.init.zeros_(self.bias)
        center, spread = [0.0, 1.0] if baseline is None else baseline.tolist()
        # relative to the scatter, because labels such as dates may be too close to each other for float32
        limits = [(one - center) / spread for one in label_range] if label_range else [-10.0, 10.0]
        # part of the weights: predictions are in the units of the labels
        self.register_buffer("scale", torch.tensor([center, spread, *limits]))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return mean and standard deviation, shape (galaxy, 2), from features."""
        center, spread, low, high = cast(torch.Tensor, self.scale)
        with torch.autocast(input.device.type, enabled=False):
            mean, log_std = super().forward(input.float()).unbind(dim=1)
            within, margin = torch.minimum(torch.maximum(mean, low), high), MARGIN * (high - low)
            mean = within + margin * torch.tanh((mean - within) / margin)
            std = torch.exp(STD_LIMIT * torch.tanh(log_std / STD_LIMIT))
            return torch.stack([center + spread * mean, spread * std], dim=1)

    def average(self, views: torch.Tensor) -> torch.Tensor:
        """Return mean and standard deviation of the mixture over views, shape (view, galaxy, 2)."""
        mean, std = views.unbind(dim=2)
        center = mean.mean(dim=0)
        variance = (std**2 + (mean - center) ** 2).mean(dim=0)
        return torch.stack([center, variance.sqrt()], dim=1)


Head = VoteHead | ClassHead | ValueHead


def head_of(
    target: Target | None,
    n_features: int,
    n_columns: int,
    baseline: FloatArray | None = None,
    label_range: tuple[float, float] | None = None,
) -> Head:
    """Return a head with random weights.

    Args:
        target: What the model predicts instead of votes.
        n_features: Number of features of the encoder.
        n_columns: Number of outputs.
        baseline: What the head predicts at first for every galaxy.
        label_range: Lowest and highest label of the training galaxies, where the target is a value.
    """
    if target is None:
        return VoteHead(n_features, n_columns, baseline)
    if target.kind == "classes":
        return ClassHead(n_features, n_columns, baseline)
    return ValueHead(n_features, baseline, label_range)


@dataclass(frozen=True, slots=True)
class VoteLoss:
    """The loss of predicted concentrations: that of the votes on all questions.

    Attributes:
        tree: Decision tree of the votes.
    """

    tree: Tree

    def __call__(self, prediction: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
        """Return the loss of each galaxy of a batch, in nats, summed over questions.

        Args:
            prediction: What a `VoteHead` returns, shape (galaxy, concentration).
            batch: The batch, with `votes` and `totals` on the same device.
        """
        # votes were checked when the dataset was opened, and concentrations are positive
        nll = dirichlet_multinomial_nll(batch["votes"], prediction, self.tree, batch["totals"], check=False)
        return nll.sum(dim=1)


@dataclass(frozen=True, slots=True)
class TargetLoss:
    """The loss of predicted classes or values: the negative log-likelihood of the labels.

    Attributes:
        target: What is predicted.
    """

    target: Target

    def __call__(self, prediction: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
        """Return the loss of each galaxy of a batch, in nats.

        Args:
            prediction: What a `ClassHead` or `ValueHead` returns, shape (galaxy, column).
            batch: The batch, with `label` on the same device: number of the class, or value.
        """
        labels: torch.Tensor = batch["label"]
        if self.target.kind == "classes":
            return -prediction.gather(1, labels.long()[:, None])[:, 0]
        mean, std = prediction.unbind(dim=1)
        return ((labels.float() - mean) / std) ** 2 / 2 + std.log() + math.log(2 * math.pi) / 2
