"""Tasks: what a model is trained for. Votes on all questions, or one target; each knows its loss and its baseline."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from gzoo.dataset.open import Dataset
from gzoo.dataset.targets import Labels, Target
from gzoo.errors import InputError
from gzoo.learn.fitting import Loss
from gzoo.learn.heads import TargetLoss, VoteLoss
from gzoo.learn.loader import Loader
from gzoo.learn.probe import HeldOut
from gzoo.scoring import baseline as baselines
from gzoo.scoring import likelihood
from gzoo.scoring.recalibration import fit_recalibration
from gzoo.scoring.target_likelihood import (
    fit_target_baseline,
    fit_target_recalibration,
    target_log_likelihood,
)
from gzoo.trees.tree import FloatArray
from gzoo.votes.votes import Votes


@dataclass(frozen=True)
class VoteTask:
    """Predict the votes on all questions.

    Attributes:
        dataset: The dataset.
        train: Training galaxies.
        validation: Validation galaxies.

    Raises:
        InputError: Votes are missing.
    """

    dataset: Dataset
    train: Loader
    validation: Loader
    target: Target | None = None
    label_range: None = None

    def __post_init__(self) -> None:
        for name, each in (("training", self.train), ("validation", self.validation)):
            if not self.dataset.tree.questions:
                raise InputError(
                    f"'{self.dataset.folder}' contains labels instead of votes: "
                    f"{', '.join(one.name for one in self.dataset.campaign.labels)}.",
                    hint="Pass --target with one of them.",
                )
            if not (each.votes.totals > 0).any():
                raise InputError(
                    f"The {name} galaxies of '{self.dataset.folder}' do not have any votes.",
                    hint="Rebuild it with other votes.",
                )

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the outputs of a model."""
        return self.dataset.tree.concentrations

    @cached_property
    def baseline(self) -> FloatArray:
        """What is predicted for every galaxy without its image, shape (column,)."""
        return likelihood.fit_baseline(self.train.votes)

    @property
    def loss(self) -> Loss:
        """The loss of a batch."""
        return VoteLoss(self.dataset.tree)

    @property
    def n_labelled(self) -> int:
        """Number of training galaxies with any votes."""
        return int((self.train.votes.totals > 0).any(axis=1).sum())

    @property
    def baseline_loss(self) -> float:
        """Validation loss of the baseline, in nats per galaxy."""
        return float(self.baseline_losses.mean())

    @cached_property
    def baseline_losses(self) -> FloatArray:
        """Loss of each validation galaxy by the baseline, in nats."""
        votes = self.validation.votes
        concentrations = np.broadcast_to(self.baseline, (len(votes), len(self.baseline)))
        nll = likelihood.dirichlet_multinomial_nll(votes.counts, concentrations, votes.tree, votes.totals)
        return nll.sum(axis=1)

    @cached_property
    def n_galaxies_by_question(self) -> dict[str, int]:
        """Number of training galaxies with votes on each question."""
        n = (self.train.votes.totals > 0).sum(axis=0).tolist()
        return dict(zip((one.name for one in self.dataset.tree.questions), n, strict=True))

    @property
    def n_galaxies_by_class(self) -> dict[str, int]:
        """Number of training galaxies of each class; empty for votes."""
        return {}

    def entries(
        self, predicted: FloatArray, is_shown: npt.NDArray[np.bool_], more: HeldOut | None = None
    ) -> dict[str, object]:
        """Return entries of run.json.

        Args:
            predicted: Predictions of the validation galaxies whose image is shown, shape (galaxy, concentration).
            is_shown: Which of the validation galaxies these are.
            more: Predictions of other galaxies that they were not fitted to.
        """
        votes = self.validation.votes.take(is_shown)
        if more:
            counts, totals = (more.labels[name].numpy() for name in ("votes", "totals"))
            votes = Votes(
                votes.tree,
                np.concatenate([votes.counts, counts]),
                np.concatenate([votes.totals, totals]),
                votes.collected_questions,
            )
            predicted = np.concatenate([predicted, more.predictions])
        return {
            "baseline": baselines.to_dict(self.train.votes, self.baseline),
            "recalibration": fit_recalibration(votes, predicted[None]).to_dict(),
        }


@dataclass(frozen=True)
class TargetTask:
    """Predict a class or a value.

    Attributes:
        labels: Labels of all galaxies.
        train: Training galaxies, which have labels.
        validation: Validation galaxies, which have labels.

    Raises:
        InputError: A class is missing among the training galaxies, or all values are equal.
    """

    labels: Labels
    train: Loader
    validation: Loader

    def __post_init__(self) -> None:
        if self.target.kind == "value":
            if np.ptp(self._labels(0)) == 0:
                raise InputError(
                    f"All training galaxies have the same value of {self.labels.source}: {self._labels(0)[0]:g}.",
                    "values that differ.",
                    "Choose another --target.",
                )
            return
        missing = [name for name, n in self.n_galaxies_by_class.items() if not n]
        if missing:
            i = self.target.classes.index(missing[0])
            n = sum(int((values == i).sum()) for values in self.labels.values.values())
            raise InputError(
                f"Class '{missing[0]}' of {self.labels.source} is missing among the training galaxies; "
                f"{n} galaxies of other splits have it.",
                "at least one training galaxy of each class.",
                "Remove this label (an empty cell is unknown), or build a larger dataset.",
            )

    @property
    def target(self) -> Target:
        """What is predicted."""
        return self.labels.target

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the outputs of a model."""
        return self.target.columns

    def _labels(self, i: int) -> FloatArray:
        """Return the labels of the training (0) or validation (1) galaxies."""
        each = (self.train, self.validation)[i]
        assert each.labels is not None
        return each.labels.numpy()[each.rows]

    @cached_property
    def baseline(self) -> FloatArray:
        """Frequencies of the classes, or mean and standard deviation of the values, of the training galaxies."""
        return fit_target_baseline(self.target, self._labels(0))

    @property
    def label_range(self) -> tuple[float, float] | None:
        """Lowest and highest value of the training galaxies; None for classes."""
        labels = self._labels(0)
        return (float(labels.min()), float(labels.max())) if self.target.kind == "value" else None

    @property
    def loss(self) -> Loss:
        """The loss of a batch."""
        return TargetLoss(self.target)

    @property
    def n_labelled(self) -> int:
        """Number of training galaxies with a label."""
        return len(self.train.rows)

    @property
    def baseline_loss(self) -> float:
        """Validation loss of the baseline, in nats per galaxy."""
        return float(self.baseline_losses.mean())

    @cached_property
    def baseline_losses(self) -> FloatArray:
        """Loss of each validation galaxy by the baseline, in nats."""
        labels = self._labels(1)
        same = np.broadcast_to(self.baseline, (len(labels), len(self.baseline)))
        return -target_log_likelihood(self.target, same, labels)

    @property
    def n_galaxies_by_question(self) -> dict[str, int]:
        """Number of training galaxies with votes on each question; empty for a target."""
        return {}

    @property
    def n_galaxies_by_class(self) -> dict[str, int]:
        """Number of training galaxies of each class; empty for a value."""
        labels = self._labels(0)
        return {name: int((labels == i).sum()) for i, name in enumerate(self.target.classes)}

    def entries(
        self, predicted: FloatArray, is_shown: npt.NDArray[np.bool_], more: HeldOut | None = None
    ) -> dict[str, object]:
        """Return entries of run.json.

        Args:
            predicted: Predictions of the validation galaxies whose image is shown, shape (galaxy, column).
            is_shown: Which of the validation galaxies these are.
            more: Predictions of other galaxies that they were not fitted to.
        """
        labels = self._labels(1)[is_shown]
        if more:
            predicted = np.concatenate([predicted, more.predictions])
            labels = np.concatenate([labels, more.labels["label"].numpy()])
        prediction = np.exp(predicted) if self.target.kind == "classes" else predicted
        return {
            "target": self.target.to_dict(),
            "n_galaxies_by_class": self.n_galaxies_by_class,
            "baseline": {
                "n_galaxies": len(self._labels(0)),
                "prediction": dict(zip(self.columns, self.baseline.tolist(), strict=True)),
            },
            "recalibration": fit_target_recalibration(self.target, prediction, labels),
        }


Task = VoteTask | TargetTask
