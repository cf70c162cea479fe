"""Validation losses of each campaign of a union, epoch by epoch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch

from gzoo import files
from gzoo.learn.loader import Loader
from gzoo.learn.sampling import groups_of
from gzoo.trees.tree import FloatArray

METRICS_BY_CAMPAIGN = "metrics_by_campaign.csv"


@dataclass(frozen=True, slots=True)
class CampaignEpoch:
    """A row of metrics_by_campaign.csv.

    Attributes:
        epoch: Number of the epoch; the first is 1.
        dataset_name: Campaign.
        n_galaxies: Number of its validation galaxies.
        validation_loss: Their mean loss, in nats.
        gain: Their mean loss by the baseline minus that, in nats.
    """

    epoch: int
    dataset_name: str
    n_galaxies: int
    validation_loss: float
    gain: float


class CampaignLosses:
    """The rows of all epochs so far; none where the validation galaxies are of one campaign."""

    def __init__(self, validation: Loader, baseline_losses: FloatArray) -> None:
        """Prepare for the galaxies of a loader.

        Args:
            validation: Loader of the validation galaxies.
            baseline_losses: Loss of each by the baseline, in the loader's order, shape (galaxy,).
        """
        self.rows: list[CampaignEpoch] = []
        self._names: list[str] = validation.keys["dataset_name"].unique().sort().to_list()
        last = int(validation.rows.max()) + 1
        self._group, self._baseline = np.zeros(last, np.int64), np.zeros(last)
        self._group[validation.rows], self._baseline[validation.rows] = groups_of(validation.keys), baseline_losses

    def add(self, epoch: int, losses: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Add the rows of an epoch, given (rows of the split, losses) of each validation batch."""
        if len(self._names) < 2:
            return
        pairs = [(rows.cpu(), values.cpu()) for rows, values in losses]
        rows, values = (torch.cat(each).double().numpy() for each in zip(*pairs, strict=True))
        rows = rows.astype(np.int64)
        for i, name in enumerate(self._names):
            own = self._group[rows] == i
            if own.any():
                loss = float(values[own].mean())
                gain = float(self._baseline[rows[own]].mean()) - loss
                self.rows.append(CampaignEpoch(epoch, name, int(own.sum()), loss, gain))

    def state(self) -> list[dict[str, object]]:
        """Return the rows for a checkpoint."""
        return [asdict(row) for row in self.rows]

    def resume(self, rows: Sequence[dict[str, object]]) -> None:
        """Continue after the rows of a checkpoint."""
        self.rows = [CampaignEpoch(**row) for row in rows]  # type: ignore[arg-type]

    def write(self, work: Path) -> None:
        """Write metrics_by_campaign.csv, if there are several campaigns."""
        if self.rows:
            files.write_bytes(work / METRICS_BY_CAMPAIGN, pl.DataFrame(self.state()).write_csv().encode())
