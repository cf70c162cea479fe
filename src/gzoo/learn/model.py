"""The model: a timm encoder and one head for all questions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from gzoo import files
from gzoo.errors import DatasetError, InputError, NotFoundError, reason, suggestion
from gzoo.learn.heads import VoteHead
from gzoo.trees.tree import FloatArray


@dataclass(frozen=True, slots=True)
class Design:
    """All settings that are needed to build a model.

    Attributes:
        encoder: Name of the timm encoder.
        size: Width and height of its images in pixels.
        columns: Names of the concentrations (`Tree.concentrations`), in the order of the head's outputs.
        mean: Mean of each colour in the training images, 0 to 1.
        std: Standard deviation of each colour.
    """

    encoder: str
    size: int
    columns: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class Model(nn.Module):
    """A network that predicts the concentrations of all questions from an image."""

    def __init__(self, design: Design, baseline: FloatArray | None = None) -> None:
        """Build a model with random weights.

        Args:
            design: Settings of the model.
            baseline: Initial predicted concentrations, shape (concentration,). Training then starts from the baseline.

        Raises:
            InputError: timm does not have the encoder, or it does not take images of this size.
        """
        super().__init__()
        self.design = design
        if not timm.is_model(design.encoder):
            raise InputError(
                f"Encoder '{design.encoder}' not found in timm.",
                hint=suggestion(timm.list_models(), design.encoder, "Run timm.list_models() to list all encoders."),
            )
        try:
            self.encoder = timm.create_model(design.encoder, pretrained=False, num_classes=0, in_chans=3)
            with torch.no_grad():
                features = self.encoder.eval()(torch.zeros(1, 3, design.size, design.size)).shape[1]
        except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:  # depends on the encoder
            raise InputError(
                f"Encoder '{design.encoder}' cannot process images of {design.size} x {design.size} pixels: "
                f"{reason(error)}.",
                "an encoder that takes images of this size; some take only one size.",
                "Choose another --size or --encoder.",
            ) from error
        self.encoder.train()
        self.head = VoteHead(int(features), len(design.columns), baseline)
        self.register_buffer("mean", torch.tensor(design.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(design.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return concentrations, shape (galaxy, concentration).

        Args:
            image: Images, shape (galaxy, 3, size, size): uint8, or floats from 0 to 1.
        """
        mean, std = cast(torch.Tensor, self.mean), cast(torch.Tensor, self.std)
        unit = image if image.is_floating_point() else image.float() / 255
        return self.head(self.encoder((unit - mean) / std))


def fastest_device() -> torch.device:
    """Return the CUDA device if there is one, otherwise the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def open_run(run: Path) -> tuple[Model, dict[str, object]]:
    """Return the model of a run folder, and the content of its `run.json`.

    Raises:
        NotFoundError: The folder does not exist, or the run is not finished.
        DatasetError: The folder is not a run folder, or its weights do not match its design.
    """
    if not run.is_dir():
        if files.partial_name(run.absolute()).exists():
            raise NotFoundError(
                f"Run '{run}' is not finished.", hint="Rerun the same `gzoo train` command to resume it."
            )
        raise NotFoundError(f"Run folder not found: '{run}'.", hint="Train a model with `gzoo train`.")
    if not (run / "run.json").is_file() or not (run / "model.safetensors").is_file():
        raise DatasetError(
            f"'{run}' is not a run folder.",
            "a folder with run.json and model.safetensors.",
            "Pass the --out folder of `gzoo train`.",
        )
    metadata = files.read_json(run / "run.json")
    try:
        design, data = (cast("Mapping[str, object]", metadata[key]) for key in ("design", "data"))
        _ = data["campaign"], data["manifest_sha256"]  # which every prediction needs
        columns, mean, std = (tuple(cast("list[object]", design[key])) for key in ("columns", "mean", "std"))
        model = Model(Design(str(design["encoder"]), cast(int, design["size"]), columns, mean, std))  # type: ignore[arg-type]
        model.load_state_dict(load_file(run / "model.safetensors"))
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise DatasetError(
            f"Cannot open the model in '{run}': {reason(error)}.", hint="Train the model again."
        ) from error
    return model.eval(), metadata
