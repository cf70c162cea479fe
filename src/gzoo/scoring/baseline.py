"""The baseline of a score: what can be predicted without images, from the votes of training galaxies alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict, cast

import numpy as np

from gzoo.dataset.open import Dataset, open_dataset
from gzoo.errors import InputError, NotFoundError, TableError, reason
from gzoo.scoring.likelihood import fit_baseline
from gzoo.scoring.prediction_files import read_metadata
from gzoo.trees.tree import FloatArray, Tree
from gzoo.votes.votes import Votes


class BaselineSource(TypedDict):
    """Whose votes a baseline was fitted to.

    fitted_on: "train split", of the dataset that was scored or of that of `--baseline`; or "training galaxies" of the
        model, whose baseline is kept with its predictions.
    source: Name of that dataset, or of the prediction file.
    n_galaxies: Number of galaxies.
    """

    fitted_on: Literal["train split", "training galaxies"]
    source: str
    n_galaxies: int


@dataclass(frozen=True)
class Baseline:
    """The same concentrations for every galaxy.

    Attributes:
        concentrations: Shape (concentration,).
        about: Whose votes they were fitted to.
    """

    concentrations: FloatArray
    about: BaselineSource


def to_dict(votes: Votes, concentrations: FloatArray) -> dict[str, object]:
    """Return the `baseline` part of `run.json` and of the metadata of prediction files.

    Args:
        votes: Votes of the training galaxies.
        concentrations: The baseline fitted to them, shape (concentration,).
    """
    return {
        "n_galaxies": len(votes),
        "concentrations": dict(zip(votes.tree.concentrations, concentrations.tolist(), strict=True)),
    }


def baseline_of(dataset: Dataset, predictions: Path, given: Path | str | None = None) -> Baseline:
    """Return the baseline for scores of predictions against a dataset.

    It is fitted on the train split of the dataset, so that it is the same for all models. Without this split, it is
    the one that `gzoo train` fitted on the training galaxies of the model.

    Args:
        dataset: Dataset that the predictions are scored against.
        predictions: Prediction file.
        given: Another dataset, whose train split is used instead.

    Raises:
        NotFoundError: Neither a train split nor a baseline in the predictions was found.
        InputError: The other dataset has other questions.
        TableError: The baseline of the predictions cannot be read.
    """
    if given is not None:
        other = open_dataset(given)
        if other.tree.columns != dataset.tree.columns:
            raise InputError(
                f"The baseline '{given}' has the questions of {other.campaign.name}, but '{dataset.folder}' has those "
                f"of {dataset.campaign.name}.",
                hint=f"Choose a dataset of {dataset.campaign.name} for --baseline.",
            )
        other.require("train")
        return _fitted(other)
    if "train" in dataset.splits:
        return _fitted(dataset)
    kept = read_metadata(predictions).get("baseline")
    if kept is None:
        raise NotFoundError(
            f"Split 'train' not found in '{dataset.folder}', and '{predictions}' does not contain a baseline.",
            "a train split, on which the baseline is fitted, or predictions of a model of `gzoo train`.",
            "Pass --baseline with a dataset that has a train split.",
        )
    return _read(kept, dataset.tree, predictions)


def _fitted(dataset: Dataset) -> Baseline:
    votes = dataset.read_votes("train")[1]
    # a name, because scores are published and the folders of this machine mean nothing elsewhere
    name = dataset.origin["repository"] if dataset.origin else dataset.folder.resolve().name
    about = BaselineSource(fitted_on="train split", source=name, n_galaxies=len(votes))
    return Baseline(fit_baseline(votes), about)


def _read(kept: object, tree: Tree, source: Path) -> Baseline:
    try:
        known = cast("Mapping[str, Any]", kept)
        concentrations = np.array([float(known["concentrations"][column]) for column in tree.concentrations])
        if not ((concentrations > 0) & np.isfinite(concentrations)).all():
            raise ValueError("a concentration is not positive and finite")
        n_galaxies = int(known["n_galaxies"])
    except (KeyError, TypeError, ValueError) as error:
        raise TableError(
            f"Cannot read the baseline in '{source}': {reason(error)}.",
            "a concentration for each answer, as `gzoo predict` writes them.",
            "Predict again, or pass --baseline with a dataset that has a train split.",
        ) from error
    about = BaselineSource(fitted_on="training galaxies", source=source.name, n_galaxies=n_galaxies)
    return Baseline(concentrations, about)


def in_words(about: BaselineSource) -> str:
    """Return whose votes a baseline knows.

    >>> in_words({"fitted_on": "train split", "source": "galaxies", "n_galaxies": 1200})
    "1,200 galaxies of the train split of 'galaxies'"
    """
    n, source = f"{about['n_galaxies']:,}", about["source"]
    if about["fitted_on"] == "train split":
        return f"{n} galaxies of the train split of '{source}'"
    return f"{n} training galaxies of the model of '{source}'"
