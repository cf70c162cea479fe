"""A picture to look at: what augmentation makes of some galaxies."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from gzoo import store
from gzoo.dataset import load, open_dataset, quietly
from gzoo.errors import DatasetError, InputError, PictureError
from gzoo.images import check_picture
from gzoo.learn.augmentation import PRESETS, Augmentation, augmentation
from gzoo.zooniverse import refuse_occupied

if TYPE_CHECKING:
    import datasets

_VIEWS_OF_ONE, _VIEWS_OF_EACH = 8, 4  # of a galaxy, where one preset is drawn and where all are
_MOST_GALAXIES, _LARGEST_SIZE = 100, 1024
_GAP_PIXELS, _WIDE_GAP_PIXELS, _TEXT_PIXELS = 2, 14, 13
_BACKGROUND, _INK, _PALE_INK = (255, 255, 255), (30, 30, 30), (120, 120, 120)


def augmentations(
    folder: Path | str,
    *,
    out: Path | str = "augmentations.png",
    augment: str | None = None,
    split: str = "train",
    n: int = 6,
    size: int = 128,
    seed: int = 0,
    overwrite: bool = False,
) -> Path:
    """A sheet of galaxies, one a row: as they are stored, then as augmentation shows them to a model.

    Args:
        folder: The dataset with the pictures: a folder, a campaign's name or `owner/name` on the Hub.
        out: The PNG file to write.
        augment: Name of a preset, of which there are eight views; by default all, with four views of each.
        split: Which of its splits.
        n: Galaxies: the first of the split.
        size: Width and height in pixels at which a model would see them.
        seed: Of the augmentation.
        overwrite: Replace an earlier file.

    Returns:
        The file.

    Raises:
        InputError: There is no such preset, a number is out of range, or the file's name does not end in .png.
        MissingError: The dataset, the split or the folder of `out` is not there.
        DatasetError: The dataset has no pictures.
        PictureError: A picture is damaged.
        OccupiedError: `out` is taken.
    """
    out = Path(out)
    presets = list(PRESETS) if augment is None else [augment]
    all_of = {name: augmentation(name) for name in presets}
    for name, value, least, most in (
        ("n", n, 1, _MOST_GALAXIES),
        ("size", size, 1, _LARGEST_SIZE),
        ("seed", seed, 0, 2**53),
    ):
        if not least <= value <= most:
            raise InputError(f"{name} is {value}.", f"{least} to {most:,}.", "Choose another.")
    if out.suffix.lower() != ".png":
        raise InputError(f"A sheet cannot be written to {out}.", "A name that ends in .png.", "Rename it.")
    refuse_occupied(out.absolute(), overwrite=overwrite)
    ids, pictures = _first(folder, split, n)
    stored = torch.cat([augmentation("test")(one, torch.zeros(1, dtype=torch.int64), size) for one in pictures])
    columns = [("as stored", [stored])]
    for name, one in all_of.items():
        n_views = _VIEWS_OF_EACH if augment is None else _VIEWS_OF_ONE
        views = range(n_views if one != Augmentation() else 1)
        columns.append((name, [_view(one, pictures, size, seed, view) for view in views]))
    data = io.BytesIO()
    _drawn(ids, columns, size).save(data, "PNG")
    store.write_bytes(out, data.getvalue())
    return out


def _first(folder: Path | str, split: str, n: int) -> tuple[list[str], list[torch.Tensor]]:
    """Identifiers and pictures of the first galaxies of a split, each of shape (1, 3, side, side)."""
    dataset = open_dataset(folder)
    dataset.require(split)
    with quietly():
        opened = cast("datasets.Dataset", load(dataset.folder, split=split))
    if "image" not in opened.column_names:
        raise DatasetError(f"{folder} has no pictures.", "A dataset with a column 'image'.", "Build it with --images.")
    some = opened.select(range(min(n, len(opened))))
    ids = cast("list[str]", some["id_str"][:]) if "id_str" in some.column_names else [str(i) for i in range(len(some))]
    encoded = some.select_columns(["image"]).with_format("arrow")[:]["image"].combine_chunks().field("bytes")
    return ids, [_decoded(data, name) for data, name in zip(encoded.to_pylist(), ids, strict=True)]


def _decoded(data: bytes, name: str) -> torch.Tensor:
    try:
        check_picture(data)
    except PictureError as error:
        raise PictureError(f"The picture of galaxy '{name}': {error.what}", error.expected, error.do) from error
    with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as picture:
        side = min(picture.size)
        pixels = np.array(picture.convert("RGB").resize((side, side)))  # as loaders do, should it not be square
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]


def _view(one: Augmentation, pictures: Sequence[torch.Tensor], size: int, seed: int, view: int) -> torch.Tensor:
    """One view of each galaxy: the next of its orientations, or what an epoch's chance makes of it."""
    epoch = 0 if one.is_exact else view
    seeds = torch.arange(len(pictures)) + _MOST_GALAXIES * (epoch + _VIEWS_OF_ONE * seed)
    turn = view if one.is_exact else 0
    return torch.cat([one(each, seeds[i : i + 1], size, view=turn) for i, each in enumerate(pictures)])


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
            for i, picture in enumerate(views_of_all):
                pixels = (picture * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
                sheet.paste(Image.fromarray(pixels), (left, top + i * below))
            left += step
        left += _WIDE_GAP_PIXELS
    for i, one in enumerate(ids):
        shown = "".join(c if c.isprintable() else "?" for c in one)
        write.text((_WIDE_GAP_PIXELS, top + i * below + step - _GAP_PIXELS), shown, _PALE_INK, font)
    return sheet
