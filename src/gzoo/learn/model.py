"""The model: a timm encoder and one head for all questions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from gzoo import files
from gzoo.dataset.targets import Target
from gzoo.errors import DatasetError, InputError, NotFoundError, reason
from gzoo.learn.encoders import Design, FeatureExtractor, read_crop
from gzoo.learn.heads import head_of
from gzoo.trees.tree import FloatArray


class Model(FeatureExtractor):
    """A network that predicts the concentrations of all questions, or a target, from an image."""

    def __init__(
        self, design: Design, baseline: FloatArray | None = None, label_range: tuple[float, float] | None = None
    ) -> None:
        """Build a model with random weights.

        Args:
            design: Settings of the model.
            baseline: Initial prediction, shape (column,). Training then starts from the baseline.
            label_range: Lowest and highest label of the training galaxies, where the target is a value.

        Raises:
            InputError: timm does not have the encoder, or it does not take images of this size.
        """
        super().__init__(design)
        self.head = head_of(design.target, self.n_features, len(design.columns), baseline, label_range)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return concentrations, shape (galaxy, concentration); of a target, log probabilities or mean and spread.

        Args:
            image: Images, shape (galaxy, 3, image_size, image_size): uint8, or floats from 0 to 1.
        """
        return self.head(self.features(image))


def fastest_device() -> torch.device:
    """Return the CUDA device if there is one, otherwise the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def open_run(run: Path) -> tuple[Model, dict[str, object]]:
    """Return the model of a run folder, and the content of its `run.json`.

    Raises:
        NotFoundError: The folder does not exist, or the run is not finished.
        DatasetError: The folder is not a run folder, or its weights do not match its design.
    """
    design, metadata = read_run(run)
    try:
        model = Model(design)
        model.load_state_dict(load_file(run / "model.safetensors"))
    except (RuntimeError, SafetensorError, InputError) as error:
        raise DatasetError(
            f"Cannot open the model in '{run}': {reason(error)}.", hint="Train the model again."
        ) from error
    return model.eval(), metadata


def read_run(run: Path) -> tuple[Design, dict[str, object]]:
    """Return the design of the model in a run folder, and the content of its `run.json`.

    Raises:
        NotFoundError: The folder does not exist, or the run is not finished.
        DatasetError: The folder is not a run folder, or one of another format.
    """
    if not run.is_dir():
        if files.partial_name(run.absolute()).exists():
            raise NotFoundError(
                f"Run '{run}' is not finished.", hint="Rerun the same `gzoo train` command to resume it."
            )
        raise NotFoundError(f"Run folder not found: '{run}'.", hint="Train a model with `gzoo train`.")
    mark = files.MARKS["run"]
    if not (run / mark).is_file() or not (run / "model.safetensors").is_file():
        raise DatasetError(
            f"'{run}' is not a run folder.",
            "a folder with run.json and model.safetensors.",
            "Pass the --out folder of `gzoo train`.",
        )
    metadata = files.read_json(run / mark)
    key, value = files.SIGNS["run"]
    if metadata.get(key) != value:
        raise DatasetError(
            f"'{run / mark}' has {key} '{metadata.get(key)}'.",
            f"'{value}', a run of this version of gzoo.",
            "Train the model again.",
        )
    try:
        design, data = (cast("Mapping[str, object]", metadata[key]) for key in ("design", "data"))
        _ = data["campaign"], data["manifest_sha256"]  # which every prediction needs
        columns = tuple(str(one) for one in cast("list[object]", design["columns"]))
        mean, std = (tuple(float(one) for one in cast("list[float]", design[key])) for key in ("mean", "std"))
        arguments = dict(cast("Mapping[str, object]", design.get("arguments") or {}))
        entry = design.get("target")
        target = Target.from_dict(entry, run / mark) if entry else None
        size, crop = int(cast(int, design["size"])), read_crop(cast(float, design["crop"]))
        return Design(str(design["encoder"]), size, columns, mean, std, arguments, target, crop), metadata
    except (KeyError, TypeError, ValueError) as error:
        why = f"it does not have {error}" if isinstance(error, KeyError) else reason(error)
        raise DatasetError(f"Cannot read '{run / mark}': {why}.", hint="Train the model again.") from error
