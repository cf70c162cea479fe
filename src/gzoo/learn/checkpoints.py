"""Checkpoints of a training: the last one, and the one before it in case the last cannot be read."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gzoo import files
from gzoo.errors import GZooWarning, raise_passing

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"
_DIGEST_BYTES = hashlib.sha256().digest_size


def save(folder: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint to the disk; the last one becomes the previous one.

    At every moment at least one complete checkpoint has one of the two names.
    """
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    with files.whole_file(folder / LAST) as file:
        file.write(buffer.getbuffer())
        file.write(hashlib.sha256(buffer.getbuffer()).digest())  # torch does not notice flipped bits
        file.flush()
        if (folder / LAST).exists():
            (folder / LAST).replace(folder / PREVIOUS)


def load(folder: Path, device: torch.device) -> dict[str, Any] | None:
    """Return the newest checkpoint that is complete; None if there is none. A damaged one is warned of."""
    for path in (folder / LAST, folder / PREVIOUS):
        if not path.exists():
            continue
        try:
            data = path.read_bytes()
        except OSError as error:
            raise_passing(path, error)
            raise
        content, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
        if hashlib.sha256(content).digest() == digest:
            return torch.load(io.BytesIO(content), map_location=device, weights_only=True)
        warnings.warn(
            GZooWarning(f"Checkpoint '{path}' is damaged: training resumes from the one before it."), stacklevel=2
        )
    return None


def remove(folder: Path) -> None:
    """Remove all checkpoints."""
    for name in (LAST, PREVIOUS):
        (folder / name).unlink(missing_ok=True)
