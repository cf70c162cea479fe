"""An image to look at: what augmentation makes of some galaxies."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from gzoo import files
from gzoo.errors import InputError
from gzoo.learn.augmentation import PRESETS, Augmentation, augmentation
from gzoo.learn.loader import loader
from gzoo.zooniverse import refuse_occupied

_VIEWS_OF_ONE, _VIEWS_OF_EACH = 8, 4  # of a galaxy, where one preset is drawn and where all are
_MAX_GALAXIES, _MAX_SIZE = 100, 1024
_GAP_PIXELS, _WIDE_GAP_PIXELS, _TEXT_PIXELS = 2, 14, 13
_BACKGROUND, _INK, _PALE_INK = (255, 255, 255), (30, 30, 30), (120, 120, 120)


def augmentations(
    folder: Path | str,
    *,
    out: Path | str = "augmentations.png",
    augment: str | None = None,
    split: str = "train",
    n_galaxies: int = 6,
    size: int = 128,
    seed: int = 0,
    overwrite: bool = False,
) -> Path:
    """A sheet of galaxies, one a row: as they are stored, then as augmentation shows them to a model.

    Args:
        folder: The dataset with the images: a folder, a campaign's name or `owner/name` on the Hub.
        out: The PNG file to write.
        augment: Name of a preset, of which there are eight views; by default all, with four views of each.
        split: Which of its splits.
        n_galaxies: Galaxies: the first of the split.
        size: Width and height in pixels at which a model would see them.
        seed: Of the augmentation.
        overwrite: Replace an earlier file.

    Returns:
        The file.

    Raises:
        InputError: There is no such preset, a number is out of range, or the file's name does not end in .png.
        NotFoundError: The dataset, the split or the folder of `out` is not there.
        DatasetError: The dataset has no images.
        ImageError: An image is damaged.
        OutputExistsError: `out` is taken.
    """
    out = Path(out)
    presets = list(PRESETS) if augment is None else [augment]
    all_of = {name: augmentation(name) for name in presets}
    for name, value, least, most in (
        ("n_galaxies", n_galaxies, 1, _MAX_GALAXIES),
        ("size", size, 1, _MAX_SIZE),
        ("seed", seed, 0, 2**53),
    ):
        if not least <= value <= most:
            raise InputError(f"{name} is {value}.", f"{least} to {most:,}.", "Choose another.")
    if out.suffix.lower() != ".png":
        raise InputError(f"A sheet cannot be written to {out}.", "A name that ends in .png.", "Rename it.")
    refuse_occupied(out.absolute(), overwrite=overwrite)
    galaxies = loader(folder, n_galaxies, max(one.source_pixels(size) for one in all_of.values()), split=split)
    some = galaxies.take(np.arange(min(n_galaxies, len(galaxies.rows))))
    images = list(some["image"].split(1))
    stored = augmentation("test")(some["image"], some["seed"], size)
    columns = [("as stored", [stored])]
    for name, one in all_of.items():
        n_views = _VIEWS_OF_EACH if augment is None else _VIEWS_OF_ONE
        views = range(n_views if one != Augmentation() else 1)
        columns.append((name, [_view(one, images, size, seed, view) for view in views]))
    data = io.BytesIO()
    _drawn(some["id"], columns, size).save(data, "PNG")
    files.write_bytes(out, data.getvalue())
    return out


def _view(one: Augmentation, images: Sequence[torch.Tensor], size: int, seed: int, view: int) -> torch.Tensor:
    """One view of each galaxy: the next of its orientations, or what an epoch's chance makes of it."""
    epoch = 0 if one.is_exact else view
    seeds = torch.arange(len(images)) + _MAX_GALAXIES * (epoch + _VIEWS_OF_ONE * seed)
    turn = view if one.is_exact else 0
    return torch.cat([one(each, seeds[i : i + 1], size, view=turn) for i, each in enumerate(images)])


def _drawn(ids: Sequence[str], columns: Sequence[tuple[str, Sequence[torch.Tensor]]], size: int) -> Image.Image:
    """The sheet: a group of columns for each preset, galaxies below one another."""
    font = ImageFont.load_default(_TEXT_PIXELS)
    step, top = size + _GAP_PIXELS, 2 * _TEXT_PIXELS
    below = step + _TEXT_PIXELS + _GAP_PIXELS
    width = sum(len(views) * step + _WIDE_GAP_PIXELS for _, views in columns) + _WIDE_GAP_PIXELS
    sheet = Image.new("RGB", (width, top + len(ids) * below + _GAP_PIXELS), _BACKGROUND)
    write = ImageDraw.Draw(sheet)
    left = _WIDE_GAP_PIXELS
    for name, views in columns:
        write.text((left, _TEXT_PIXELS // 2), name, _INK, font)
        for views_of_all in views:
            for i, image in enumerate(views_of_all):
                pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
                sheet.paste(Image.fromarray(pixels), (left, top + i * below))
            left += step
        left += _WIDE_GAP_PIXELS
    for i, one in enumerate(ids):
        shown = "".join(c if c.isprintable() else "?" for c in one)
        write.text((_WIDE_GAP_PIXELS, top + i * below + step - _GAP_PIXELS), shown, _PALE_INK, font)
    return sheet
