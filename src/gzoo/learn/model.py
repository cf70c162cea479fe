"""The model: a timm encoder and one head for all questions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np
import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from gzoo import files
from gzoo.errors import DatasetError, InputError, NotFoundError
from gzoo.trees.tree import FloatArray

LOG_LIMIT = 16.0  # concentrations from 1e-7 to 9e6


@dataclass(frozen=True, slots=True)
class Design:
    """What must be known to build a model.

    Attributes:
        encoder: Name of the timm encoder.
        size: Width and height of its images in pixels.
        columns: Answer columns, in the order of the head.
        mean: Mean of each colour in the training images, 0 to 1.
        std: Their standard deviation.
    """

    encoder: str
    size: int
    columns: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class Model(nn.Module):
    """From images to a concentration for each answer."""

    def __init__(self, design: Design, baseline: FloatArray | None = None) -> None:
        """A model with fresh weights.

        Args:
            design: What to build.
            baseline: Concentrations to start from, shape (answer,): the fresh head then knows what the baseline
                knows, and learns from there.

        Raises:
            InputError: timm has no such encoder.
        """
        super().__init__()
        self.design = design
        if not timm.is_model(design.encoder):
            close = ", ".join(timm.list_models(f"*{design.encoder.split('_')[0][:6]}*")[:5])
            raise InputError(
                f"timm has no encoder '{design.encoder}'.",
                f"One of its models{', such as ' + close if close else ''}.",
                "See timm.list_models().",
            )
        try:
            self.encoder = timm.create_model(design.encoder, pretrained=False, num_classes=0, in_chans=3)
            with torch.no_grad():
                features = self.encoder.eval()(torch.zeros(1, 3, design.size, design.size)).shape[1]
        except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:  # each encoder has its own
            said = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"Encoder '{design.encoder}' cannot look at images of {design.size} x {design.size} pixels: {said}",
                "An encoder and a size that go together; some take one size only.",
                "Give another --size or --encoder.",
            ) from error
        self.encoder.train()
        self.head = nn.Linear(int(features), len(design.columns))
        nn.init.normal_(self.head.weight, std=0.01)
        start = np.zeros(len(design.columns)) if baseline is None else np.log(baseline)
        with torch.no_grad():
            self.head.bias.copy_(torch.from_numpy(LOG_LIMIT * np.arctanh(start / LOG_LIMIT)))
        self.register_buffer("mean", torch.tensor(design.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(design.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Concentrations, shape (galaxy, answer), from images of shape (galaxy, 3, size, size): uint8, or 0 to 1."""
        mean, std = cast(torch.Tensor, self.mean), cast(torch.Tensor, self.std)
        bright = image if image.is_floating_point() else image.float() / 255
        features = self.encoder((bright - mean) / std)
        with torch.autocast(image.device.type, enabled=False):
            log_concentration = self.head(features.float())
            # a smooth limit, far outside what votes can tell apart, keeps exp finite
            return torch.exp(LOG_LIMIT * torch.tanh(log_concentration / LOG_LIMIT))


def open_run(run: Path) -> tuple[Model, dict[str, object]]:
    """The model of a run folder, and its `run.json`.

    Raises:
        NotFoundError: There is no such folder, or its run is not finished.
        DatasetError: It is not a run folder, or its weights do not fit.
    """
    if not run.is_dir():
        unfinished = files.partial_name(run.absolute()).exists()
        raise NotFoundError(
            f"{run} is not finished." if unfinished else f"There is no run folder {run}.",
            "A folder made by `gzoo train`.",
            "Run the same `gzoo train` again to resume." if unfinished else "Train a model first.",
        )
    if not (run / "run.json").is_file() or not (run / "model.safetensors").is_file():
        raise DatasetError(
            f"{run} is not a run folder.", "run.json and model.safetensors.", "Give the --out of `gzoo train`."
        )
    facts = files.read_json(run / "run.json")
    try:
        design = design_from(cast("Mapping[str, object]", facts["design"]))
        model = Model(design)
        model.load_state_dict(load_file(run / "model.safetensors"))
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        said = str(error).splitlines()[0]
        raise DatasetError(
            f"The model in {run} cannot be opened: {said}", "Files as gzoo wrote them.", "Train again."
        ) from error
    return model.eval(), facts


def design_from(facts: Mapping[str, object]) -> Design:
    """The design that `asdict` wrote down."""
    mean, std = (cast("list[float]", facts[key]) for key in ("mean", "std"))
    return Design(
        encoder=str(facts["encoder"]),
        size=int(cast(int, facts["size"])),
        columns=tuple(cast("list[str]", facts["columns"])),
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
    )


def design_to(design: Design) -> dict[str, object]:
    """The design as JSON values."""
    return cast("dict[str, object]", json.loads(json.dumps(asdict(design))))
