"""The eight orientations of an image, in which a galaxy is equally likely to be seen."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

import torch

MAX_VIEWS = 8


def orientations(image: torch.Tensor, ids: Sequence[str], n: int) -> Iterator[torch.Tensor]:
    """Yield images as stored, then in other orientations.

    Which come after the first depends on the identifier of the galaxy, so that none is preferred in a dataset, and a
    galaxy has the same ones in any folder.

    Args:
        image: Images, shape (galaxy, channel, size, size).
        ids: Identifier of each galaxy.
        n: Number of orientations, 1 to 8.
    """
    first = torch.tensor([zlib.crc32(one.encode()) % (MAX_VIEWS - 1) for one in ids], device=image.device)
    for view in range(n):
        yield _turned(image, (first + (view - 1)) % (MAX_VIEWS - 1) + 1) if view else image


def _turned(image: torch.Tensor, orientation: torch.Tensor) -> torch.Tensor:
    """Return each image in one of the other seven orientations."""
    turned = torch.empty_like(image)
    for each in range(1, MAX_VIEWS):
        places = (orientation == each).nonzero().squeeze(1)
        part = image[places] if each < 4 else image[places].flip(3)
        turned[places] = torch.rot90(part, each % 4, (2, 3))
    return turned
