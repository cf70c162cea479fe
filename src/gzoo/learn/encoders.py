"""Encoders: timm networks that turn an image into features, with the preprocessing that they were trained with."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import timm
import torch
from torch import nn

from gzoo.dataset.targets import Target
from gzoo.errors import InputError, choices, reason

COLOURS = 3
MIN_CROP = 0.1
Normalisation = tuple[float, ...]
"""A number for each channel of the encoder: three, or one for a grey-scale encoder."""


@dataclass(frozen=True, slots=True)
class Design:
    """All settings that are needed to build a model.

    Attributes:
        encoder: Name of the timm encoder.
        size: Width and height in pixels of the images that the encoder sees.
        columns: Names of the head's outputs, in their order: concentrations (`Tree.concentrations`), or the columns of
            `target`.
        mean: Mean of each channel, 0 to 1, which is subtracted from images.
        std: Standard deviation of each channel, by which they are then divided.
        arguments: Further arguments of the encoder's constructor in timm, such as `img_size`.
        target: What is predicted instead of votes.
        crop: Width of the central part of an image that the encoder sees, as a fraction of the image's.
    """

    encoder: str
    size: int
    columns: tuple[str, ...]
    mean: Normalisation
    std: Normalisation
    arguments: Mapping[str, object] = field(default_factory=dict[str, object])
    target: Target | None = None
    crop: float = 1.0

    @property
    def image_size(self) -> int:
        """Width and height in pixels of the images that a model takes; the encoder sees their central part."""
        return image_size(self.size, self.crop)

    @property
    def channels(self) -> int:
        """3 for colour images; 1 for grey-scale images, the mean of the colours."""
        return len(self.mean)


class FeatureExtractor(nn.Module):
    """An encoder with its preprocessing, for images of any data set.

    Attributes:
        encoder: The timm network.
        n_features: Number of features.
    """

    def __init__(self, design: Design) -> None:
        """Build an encoder with random weights.

        Args:
            design: Settings of the encoder; `columns` are not used.

        Raises:
            InputError: timm does not have the encoder, or it does not take images of this size.
        """
        super().__init__()
        self.design = design
        self.encoder = create_encoder(design.encoder, design.channels, design.arguments)
        self.n_features = _n_features(self.encoder, design)
        for name, values in (("mean", design.mean), ("std", design.std)):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1), persistent=False)

    def features(self, image: torch.Tensor) -> torch.Tensor:
        """Return features, shape (galaxy, feature).

        Args:
            image: Images, shape (galaxy, 3, image_size, image_size): uint8, or floats from 0 to 1. A grey-scale encoder
                gets the mean of the three colours.
        """
        image = self.central(image)
        mean, std = cast(torch.Tensor, self.mean), cast(torch.Tensor, self.std)
        unit = image if image.is_floating_point() else image.float() / 255
        if self.design.channels == 1:
            unit = unit.mean(dim=1, keepdim=True)
        return self.encoder((unit - mean) / std)

    def central(self, image: torch.Tensor) -> torch.Tensor:
        """Return the central part of images, which the encoder sees, shape (galaxy, 3, size, size)."""
        if self.design.crop == 1:  # some encoders take images of any size
            return image
        margin = (self.design.image_size - self.design.size) // 2
        part = slice(margin, margin + self.design.size)
        return image[:, :, part, part]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return features, shape (galaxy, feature)."""
        return self.features(image)

    def train(self, mode: bool = True) -> FeatureExtractor:
        """Set training mode; parts that do not learn stay in evaluation mode.

        Batch normalisation would otherwise go on averaging the images it sees in parts whose weights are fixed.
        """
        super().train(mode)
        is_frozen = [not parameter.requires_grad for parameter in self.encoder.parameters()]
        if mode and any(is_frozen):
            for module in self.encoder.modules():
                own = [*module.parameters(), *module.buffers()]
                if own and not any(parameter.requires_grad for parameter in module.parameters()):
                    module.eval()
        return self


def image_size(size: int, crop: float) -> int:
    """Return the width of images whose central part an encoder sees.

    Args:
        size: Width of that part in pixels.
        crop: The same as a fraction of the width of the images.

    Equally many pixels are cut off on each side, so that the part is the centre of a turned image too.

    >>> image_size(64, 0.75)
    86
    """
    return size + 2 * round(size * (1 / crop - 1) / 2)


def read_crop(crop: float) -> float:
    """Return a fraction of the width of images, of which an encoder sees the central part.

    Raises:
        InputError: It is not a fraction, or the part is tiny.
    """
    if not MIN_CROP <= crop <= 1:
        raise InputError(
            f"crop must be from {MIN_CROP} to 1, got {crop}.", "the width of the central part that the encoder sees."
        )
    return float(crop)


def create_encoder(name: str, channels: int = COLOURS, arguments: Mapping[str, object] | None = None) -> nn.Module:
    """Return a timm network that returns features, with random weights.

    Args:
        name: Name of a timm model.
        channels: Number of channels of its images.
        arguments: Further arguments of its constructor.

    Raises:
        InputError: timm does not have the encoder, or it does not take these arguments.
    """
    if not timm.is_model(name):
        known = timm.list_models()
        nearest = sorted(known, key=lambda one: (edit_distance(one, name.partition(".")[0]), one))
        raise InputError(
            f"Encoder '{name}' not found in timm.",
            choices(nearest),
            f"Did you mean '{nearest[0]}'? `timm.list_models()` lists all encoders.",
        )
    # arguments come from files of others; those of `create_model` itself may name a file to load, which may be a pickle
    refused = set(arguments or ()) & {*inspect.signature(timm.create_model).parameters, "pretrained_strict"}
    if refused:
        raise InputError(
            f"Encoder '{name}' cannot be built with the argument '{min(refused)}'.",
            "arguments of the network only.",
            "Remove it from `model_args` of its config.json.",
        )
    try:
        given = cast("dict[str, Any]", {**(arguments or {}), "num_classes": 0, "in_chans": channels})
        return timm.create_model(name, pretrained=False, **given)
    except Exception as error:  # depends on the encoder
        raise InputError(
            f"timm cannot build the encoder '{name}': {reason(error)}.",
            "an encoder that works with num_classes=0 and in_chans.",
            "Choose another --encoder.",
        ) from error


def _n_features(encoder: nn.Module, design: Design) -> int:
    """Return the number of features, from an image of the size of the design."""
    was_training = encoder.training
    try:
        with torch.no_grad():
            shape = encoder.eval()(torch.zeros(1, design.channels, design.size, design.size)).shape
    except (
        AssertionError,
        AttributeError,
        IndexError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:  # depends on the encoder
        raise InputError(
            f"Encoder '{design.encoder}' cannot process images of {design.size} x {design.size} pixels: "
            f"{reason(error)}.",
            "an encoder that takes images of this size; some take only one size.",
            "Choose another --size or --encoder.",
        ) from error
    encoder.train(was_training)
    if len(shape) != 2:
        raise InputError(
            f"Encoder '{design.encoder}' returns features of shape {tuple(shape)} for one image.",
            "one vector for each image.",
            "Choose another --encoder.",
        )
    return int(shape[1])


def edit_distance(a: str, b: str) -> int:
    """Return the number of characters to insert, delete or replace in one string to get the other.

    >>> edit_distance("resnet19", "resnet18")
    1
    """
    row = list(range(len(b) + 1))
    for i, one in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (one != other))
    return row[-1]


def encoder_blocks(encoder: nn.Module) -> list[list[str]]:
    """Return the names of the parameters of each block, from the images on, as timm divides the encoder.

    A last part of vectors only, such as the final norm, belongs to the block before it.

    Raises:
        InputError: timm does not say how the encoder is divided.
    """
    from timm.models import group_parameters

    try:
        matcher = cast("object", encoder.group_matcher(coarse=False))  # type: ignore[operator]
        grouped: dict[int, list[str]] = group_parameters(encoder, matcher)  # type: ignore[arg-type]
    except (AttributeError, TypeError) as error:
        raise InputError(
            f"timm does not divide an encoder of type {type(encoder).__name__} into blocks.",
            "an encoder that has a `group_matcher`.",
            "Choose another --encoder.",
        ) from error
    blocks = [grouped[number] for number in sorted(grouped)]
    dimension = {name: parameter.ndim for name, parameter in encoder.named_parameters()}
    if len(blocks) > 1 and all(dimension[name] <= 1 for name in blocks[-1]):
        last = blocks.pop()
        blocks[-1] = [*blocks[-1], *last]
    return blocks
