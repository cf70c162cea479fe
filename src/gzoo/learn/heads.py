"""Heads: what turns features of an encoder into predictions, and says what predictions cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from gzoo.learn.losses import dirichlet_multinomial_nll
from gzoo.trees.tree import FloatArray, Tree

LOG_LIMIT = 16.0  # concentrations from 1e-7 to 9e6


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
        return dirichlet_multinomial_nll(batch["votes"], prediction, self.tree, batch["totals"]).sum(dim=1)
