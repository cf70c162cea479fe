"""A contact sheet: images of some galaxies as stored and after augmentation."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageDraw, ImageFont

from gzoo import files
from gzoo.learn.augmentation import PRESETS, Augmentation, augmentation
from gzoo.learn.inputs import check_integers
from gzoo.learn.loader import loader

_VIEWS_OF_ONE, _VIEWS_OF_EACH = 8, 4  # of each galaxy, for one preset or for all
_MAX_GALAXIES, _MAX_SIZE, _MAX_IN_BATCH = 100, 1024, 64
_GAP_PIXELS, _WIDE_GAP_PIXELS, _TEXT_PIXELS = 2, 14, 13
_BACKGROUND, _INK, _PALE_INK = (255, 255, 255), (30, 30, 30), (120, 120, 120)


def augmentations(
    dataset: Path | str,
    *,
    out: Path | str = "augmentations.png",
    augment: str | None = None,
    split: str = "train",
    n_galaxies: int = 6,
    size: int = 128,
    seed: int = 0,
    overwrite: bool = False,
) -> Path:
    """Draw galaxies as stored and as augmentation shows them to a model.

    Args:
        dataset: Dataset with images: a folder, a campaign's name, or `owner/name` on the Hub.
        out: PNG file to write.
        augment: Name of a preset, shown in eight views; by default all presets, in four views each.
        split: Split whose first galaxies are shown.
        n_galaxies: Number of galaxies, 1 to 100.
        size: Width and height of each image in pixels, as a model would see it.
        seed: Seed of the augmentation.
        overwrite: Replace an earlier file.

    Returns:
        The path of the file.

    Raises:
        InputError: The preset does not exist, a number is out of range, or the file name does not end in .png.
        NotFoundError: The dataset, the split or the folder of `out` does not exist.
        DatasetError: The dataset contains no images.
        ImageError: An image is corrupt.
        OutputExistsError: `out` already exists.
    """
    out = Path(out)
    presets = {name: augmentation(name) for name in (PRESETS if augment is None else [augment])}
    check_integers(1, _MAX_GALAXIES, n_galaxies=n_galaxies)
    check_integers(1, _MAX_SIZE, size=size)
    check_integers(0, 2**53, seed=seed)
    files.refuse_file(out, "contact sheet", (".png",), overwrite=overwrite, inputs=[dataset])
    galaxies = loader(dataset, n_galaxies, max(each.source_pixels(size) for each in presets.values()), split=split)
    batch = galaxies.take(np.arange(min(n_galaxies, len(galaxies.rows))))
    images = list(batch["image"].split(1))
    groups = [("as stored", [augmentation("test")(batch["image"], batch["seed"], size)])]
    for name, preset in presets.items():
        n_views = _VIEWS_OF_EACH if augment is None else _VIEWS_OF_ONE
        views = range(n_views if preset != Augmentation() else 1)
        groups.append((name, [_view(preset, images, size, seed, view) for view in views]))
    data = io.BytesIO()
    exif = Image.Exif()
    exif[ExifTags.Base.Software] = files.mark("contact sheet")
    _draw(batch["id_str"], groups, size).save(data, "PNG", exif=exif)
    files.write_bytes(out, data.getvalue())
    return out


def batch_sheet(image: torch.Tensor, ids: Sequence[str]) -> bytes:
    """Return a PNG image of the galaxies of a batch, with their identifiers.

    Args:
        image: Images, shape (galaxy, 3, y, x): uint8, or floats from 0 to 1.
        ids: Identifier of each galaxy.
    """
    image = image[:_MAX_IN_BATCH].cpu()
    pixels = image if image.is_floating_point() else image.float() / 255
    n_columns = math.ceil(math.sqrt(len(pixels)))
    rows = pixels.split(n_columns)
    data = io.BytesIO()
    step = image.shape[3] + _GAP_PIXELS
    high = step + _TEXT_PIXELS + _GAP_PIXELS
    sheet = Image.new("RGB", (n_columns * step + _GAP_PIXELS, len(rows) * high + _GAP_PIXELS), _BACKGROUND)
    font = ImageFont.load_default(_TEXT_PIXELS)
    for i, one in enumerate(pixels):
        place = _GAP_PIXELS + i % n_columns * step, _GAP_PIXELS + i // n_columns * high
        sheet.paste(_image(one), place)
        named = Image.new("RGB", (image.shape[3], _TEXT_PIXELS + _GAP_PIXELS), _BACKGROUND)  # cut off where it is long
        ImageDraw.Draw(named).text((0, 0), _printable(ids[i]), _PALE_INK, font)
        sheet.paste(named, (place[0], place[1] + image.shape[3]))
    sheet.save(data, "PNG")
    return data.getvalue()


def _image(pixels: torch.Tensor) -> Image.Image:
    """Return an image from pixels of shape (3, y, x), 0 to 1."""
    return Image.fromarray((pixels * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())


def _printable(id_str: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in id_str)


def _view(preset: Augmentation, images: Sequence[torch.Tensor], size: int, seed: int, view: int) -> torch.Tensor:
    """Return one view of each galaxy: its next orientation, or the augmentation of an epoch."""
    epoch, turn = (0, view) if preset.is_exact else (view, 0)
    seeds = torch.arange(len(images)) + _MAX_GALAXIES * (epoch + _VIEWS_OF_ONE * seed)
    return torch.cat([preset(image, seeds[i : i + 1], size, view=turn) for i, image in enumerate(images)])


def _draw(ids: Sequence[str], groups: Sequence[tuple[str, Sequence[torch.Tensor]]], size: int) -> Image.Image:
    """Return the sheet: a group of columns for each preset, a row for each galaxy."""
    font = ImageFont.load_default(_TEXT_PIXELS)
    step, top = size + _GAP_PIXELS, 2 * _TEXT_PIXELS
    row_height = step + _TEXT_PIXELS + _GAP_PIXELS
    width = sum(len(views) * step + _WIDE_GAP_PIXELS for _, views in groups) + _WIDE_GAP_PIXELS
    sheet = Image.new("RGB", (width, top + len(ids) * row_height + _GAP_PIXELS), _BACKGROUND)
    canvas = ImageDraw.Draw(sheet)
    left = _WIDE_GAP_PIXELS
    for name, views in groups:
        canvas.text((left, _TEXT_PIXELS // 2), name, _INK, font)
        for view in views:
            for i, image in enumerate(view):
                sheet.paste(_image(image), (left, top + i * row_height))
            left += step
        left += _WIDE_GAP_PIXELS
    for i, id_str in enumerate(ids):
        place = (_WIDE_GAP_PIXELS, top + i * row_height + step - _GAP_PIXELS)
        canvas.text(place, _printable(id_str), _PALE_INK, font)
    return sheet
