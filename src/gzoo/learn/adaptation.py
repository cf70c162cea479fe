"""What learns when a model is trained, and at which rate.

A model that starts from a trained encoder learns gently: the head at the learning rate, the last block of the encoder
at a tenth of it, and each block before at three quarters of the next one's rate (layer decay), because first blocks
describe any image and last ones the question that was asked. Each rate is the `lr` of a parameter group of the
optimizer: schedules of torch do not read the `lr_scale` that timm writes into its own groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from gzoo.errors import InputError
from gzoo.learn.encoders import encoder_blocks

HEAD = "head"
LAYER_DECAY = 0.75
ENCODER_SCALE = 0.1
"""Rate of the encoder's last block, relative to the head's, where the encoder was trained before."""
WARM_UP = 0.1
"""Fraction of the steps in which rates rise to their peak, where the encoder was trained before."""
FEW_LABELS = 200
"""With fewer labelled galaxies, only the head of a trained encoder learns unless `learn` says more."""
WEIGHT_DECAY = 0.05
N_PARTS_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a model: its head, or a block of its encoder.

    Attributes:
        name: "head", or "block 3 of 5", counted from the images.
        parameters: Names of its parameters in the model.
        n_parameters: Number of its weights.
        rate: Peak learning rate; 0 if it does not learn.
    """

    name: str
    parameters: tuple[str, ...]
    n_parameters: int
    rate: float

    def to_dict(self) -> dict[str, object]:
        """Return what run.json says of the part.

        part: Its name.
        learning_rate: Peak learning rate; 0 if it does not learn.
        """
        return {"part": self.name, "n_parameters": self.n_parameters, "learning_rate": self.rate}


def rates(parts: Sequence[Part], *, is_solved: bool) -> str:
    """Return the table of what learns and at which rate; of many parts, the middle is left out.

    Args:
        parts: Parts of the model.
        is_solved: Whether the head is solved for instead.
    """
    rows = [("part", "weights", "peak learning rate")]
    for part in parts:
        rate = "solved for" if is_solved else f"{part.rate:.1e}"
        rows.append((part.name, f"{part.n_parameters:,}", rate if part.rate else "stays as it is"))
    if len(rows) > N_PARTS_SHOWN:
        rows = [*rows[: N_PARTS_SHOWN - 2], ("...", "...", "..."), rows[-1]]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


def read_learn(learn: str | int | None) -> str | int | None:
    """Return "all", "head" or the number of blocks that an argument names; None if it names nothing.

    Raises:
        InputError: It is none of these.
    """
    if learn is None or learn in {"all", HEAD}:
        return learn
    try:
        number = int(learn)
    except ValueError:
        number = 0
    if number < 1:
        raise InputError(f"Invalid value for learn: '{learn}'.", "'all', 'head', or a number of blocks from 1.")
    return number


def parts_of(model: nn.Module, learn: str | int, learning_rate: float, *, is_trained: bool) -> tuple[Part, ...]:
    """Return the parts of a model with their rates: the head first, then the encoder's blocks from the last.

    Args:
        model: A `gzoo.learn.Model`.
        learn: "all"; "head"; or the number of the encoder's last blocks that learn with the head.
        learning_rate: Peak learning rate of the head.
        is_trained: Whether the encoder was trained before; otherwise all parts learn at the same rate.

    Raises:
        InputError: The encoder has fewer blocks, or timm does not divide it into blocks.
    """
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    encoder = model.get_submodule("encoder")
    in_head = tuple(name for name in sizes if not name.startswith("encoder."))
    parts = [Part(HEAD, in_head, sum(sizes[name] for name in in_head), learning_rate)]
    if not is_trained or learn == HEAD:  # neither needs to know blocks, which some encoders do not have
        names = tuple(name for name in sizes if name.startswith("encoder."))
        rate = 0.0 if learn == HEAD else learning_rate
        return (*parts, Part("encoder", names, sum(sizes[name] for name in names), rate))
    blocks = encoder_blocks(encoder)
    n_learning = len(blocks) if learn == "all" else int(learn)
    if n_learning > len(blocks):
        raise InputError(
            f"The encoder has {len(blocks)} blocks; {learn} of them cannot learn.",
            f"'all', 'head', or a number from 1 to {len(blocks)}.",
        )
    for depth, block in enumerate(reversed(blocks)):
        rate = learning_rate * ENCODER_SCALE * LAYER_DECAY**depth if depth < n_learning else 0.0
        names = tuple(f"encoder.{name}" for name in block)
        n_parameters = sum(sizes[name] for name in names)
        parts.append(Part(f"block {len(blocks) - depth} of {len(blocks)}", names, n_parameters, rate))
    return tuple(parts)


def freeze(model: nn.Module, parts: Sequence[Part]) -> None:
    """Fix the weights of the parts that do not learn; their batch normalisation then stays as it is too."""
    parameters = dict(model.named_parameters())
    for part in parts:
        for name in part.parameters:
            # timm fixes some parameters itself, such as positions that are not learned
            parameters[name].requires_grad_(parameters[name].requires_grad and part.rate > 0)


def parameter_groups(model: nn.Module, parts: Sequence[Part]) -> list[dict[str, Any]]:
    """Return the groups of an optimizer: the parameters that learn, each part with its rate.

    Weight decay applies to matrices and kernels only, because it would pull scales of norms and biases away from the
    values that they are meant to have.
    """
    parameters = dict(model.named_parameters())
    method = getattr(model.get_submodule("encoder"), "no_weight_decay", None)
    exempt: set[str] = {f"encoder.{name}" for name in method()} if method else set()
    groups: list[dict[str, Any]] = []
    for part in parts:
        for decay in (WEIGHT_DECAY, 0.0):
            own = [
                parameters[name]
                for name in part.parameters
                if parameters[name].requires_grad and (parameters[name].ndim > 1 and name not in exempt) == (decay > 0)
            ]
            if own and part.rate:
                groups.append({"params": own, "lr": part.rate, "weight_decay": decay, "part": part.name})
    return groups
