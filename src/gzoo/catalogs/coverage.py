"""Whether the intervals of a catalogue's predictions cover the votes of galaxies that the model has not seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from gzoo.dataset.open import Dataset
from gzoo.scoring.calibration import Verdict, calibration_of
from gzoo.scoring.intervals import blocks
from gzoo.scoring.matching import positions
from gzoo.scoring.posterior import HeldOut
from gzoo.scoring.predictions import Predictions
from gzoo.votes.votes import Votes

MAX_GALAXIES = 40_000


@dataclass(frozen=True, slots=True)
class HeldOutCoverage:
    """What held-out votes say about the predictions of a question.

    Attributes:
        n_galaxies: Galaxies with votes on it that were used.
        coverage: Fraction of vote counts inside the prediction intervals of the level of the catalogue, which is equal
            to the level for a calibrated model.
        verdict: Verdict of the calibration tests; see `gzoo.scoring.calibration`.
    """

    n_galaxies: int
    coverage: float
    verdict: Verdict

    @property
    def is_off(self) -> bool:
        """Whether the tests reject the predictions."""
        return self.verdict not in ("consistent", "insufficient data")


def held_out_coverage(held_out: Sequence[HeldOut], dataset: Dataset, level: float) -> dict[str, HeldOutCoverage]:
    """Test the predictions on their held-out votes, and return the coverage of their intervals by question.

    Questions without votes are omitted. Of more than 40,000 galaxies a regular sample is used.

    Args:
        held_out: Predictions and votes, of one or several models.
        dataset: Dataset with the positions of the galaxies.
        level: Level of the intervals, between 0 and 1.
    """
    step = -(-sum(map(len, held_out)) // MAX_GALAXIES)
    n_members = math.lcm(*(len(one.concentrations) for one in held_out))
    tree = held_out[0].votes.tree
    rows = [np.arange(0, len(one), step) for one in held_out]
    parts = [one.votes.take(some) for one, some in zip(held_out, rows, strict=True)]
    votes = Votes(tree, np.concatenate([one.counts for one in parts]), np.concatenate([one.totals for one in parts]))
    values = np.concatenate(
        [
            np.repeat(one.concentrations[:, some], n_members // len(one.concentrations), axis=0)
            for one, some in zip(held_out, rows, strict=True)
        ],
        axis=1,
    )
    keys = pl.concat([one.keys[some] for one, some in zip(held_out, rows, strict=True)])
    units = blocks(len(votes), *positions(dataset, keys))
    found = calibration_of(votes, Predictions.of_concentrations(values, tree), units)
    coverage: dict[str, HeldOutCoverage] = {}
    for name, one in found["questions"].items():
        if one["central"] is not None:
            ends = [0.0, *one["central"]["levels"], 1.0], [0.0, *one["central"]["coverage"], 1.0]
            coverage[name] = HeldOutCoverage(one["n_used"], round(float(np.interp(level, *ends)), 4), one["verdict"])
    return coverage
