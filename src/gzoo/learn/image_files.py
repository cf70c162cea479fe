"""Images of a folder or an archive, which belong to no dataset, as an input of a loader."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import polars as pl
import torch

from gzoo import files
from gzoo.errors import GZooWarning, ImageError, InputError, raise_passing, reason
from gzoo.images.archives import Source, open_source
from gzoo.images.checks import SUFFIXES
from gzoo.images.fits import is_fits, render
from gzoo.learn.inputs import SplitInput
from gzoo.learn.loader import Loader, n_cores
from gzoo.trees.campaign import Campaign
from gzoo.trees.definition import Stretch
from gzoo.trees.tree import Tree

ARCHIVES = (".tar", ".zip")


@dataclass(frozen=True, slots=True)
class FileReader:
    """Encoded images of a folder or an archive; FITS files are rendered in colour as `gzoo build` does."""

    source: Source
    names: Sequence[str]
    stretch: Stretch | None

    def read(self, rows: Sequence[int]) -> Sequence[bytes | ImageError]:
        """Return the encoded images of some rows, or why a file cannot be read as an image."""
        return [self._read(self.names[row]) for row in rows]

    def location(self, row: int) -> str:
        """Return the path of a row's file."""
        return f"{self.source.path}/{self.names[row]}"

    def _read(self, name: str) -> bytes | ImageError:
        try:
            return render(self.source.read(name), name, self.stretch)
        except ImageError as error:
            return error
        except OSError as error:
            raise_passing(f"{self.source.path}/{name}", error)
            return ImageError(f"The image cannot be read: {reason(error)}.")


def holds_images(path: Path) -> bool:
    """Return whether a path is a folder or an archive of images, and not a dataset."""
    if path.is_file():
        return path.suffix.lower() in ARCHIVES
    return path.is_dir() and not (path / files.MANIFEST).exists() and not any(path.glob("data/*.parquet"))


def open_images(path: Path, campaign: Campaign | None) -> SplitInput:
    """Return the images of a folder or an archive, without votes, in the order of their identifiers.

    An identifier is the name of the file without its folders and its ending.

    Args:
        path: A folder, a `.tar` or a `.zip` archive.
        campaign: Campaign whose questions are predicted, and whose survey says how FITS images are shown; without
            one, nothing can be predicted, and FITS images are refused.

    Raises:
        NotFoundError: The folder or archive does not exist.
        ImageError: It cannot be read as an archive.
        InputError: It contains no images, two of one name, or FITS images that the campaign has no stretch for.
    """
    source, listing, refused = open_source(path)
    named = sorted(
        (PurePosixPath(name).stem, name)
        for name in listing
        if name.lower().endswith(SUFFIXES) and not PurePosixPath(name).name.startswith(".")
    )
    if not named:
        raise InputError(
            f"'{path}' is not a dataset folder, and none of its {len(listing):,} files is an image.",
            f"a dataset folder, or files whose names end in {', '.join(SUFFIXES)}.",
        )
    if refused:
        name, why = next(iter(refused.items()))
        warnings.warn(
            GZooWarning(f"{len(refused):,} files in '{path}' are ignored; the first: {name!r}, {why}."), stacklevel=2
        )
    for (one, name), (other, other_name) in pairwise(named):
        if one == other:
            raise InputError(
                f"'{name}' and '{other_name}' in '{path}' have the same identifier, '{one}'.",
                "file names that differ without folder and ending.",
                "Rename one of them.",
            )
    ids, names = [one for one, _ in named], [name for _, name in named]
    stretch = campaign.stretch if campaign else None
    if stretch is None and (first := next(filter(is_fits, names), None)):
        if campaign is None:
            raise InputError(
                f"'{first}' in '{path}' is a FITS image, and the encoder does not say how to show it.",
                "a campaign, whose survey says it.",
                "Pass --campaign, or convert the images to JPEG or PNG.",
            )
        raise InputError(
            f"'{first}' in '{path}' is a FITS image, and {campaign.name} does not say how to show it.",
            "a table [surveys.stretch] in the TOML file of the campaign.",
            "Convert the images to JPEG or PNG.",
        )
    tree, n = campaign.published_tree if campaign else Tree("", ()), len(ids)
    keys = pl.DataFrame({"dataset_name": pl.Series([None] * n, dtype=pl.String), "id_str": ids})
    nothing = [np.broadcast_to(np.int32(0), (n, width)) for width in (len(tree.columns), len(tree.questions))]
    status = path.stat()
    about = [str(path.resolve()), status.st_mtime_ns, [[name, listing[name]] for name in names]]
    reader = FileReader(source, names, stretch)
    return SplitInput(tree, keys, nothing[0], nothing[1], reader, files.digest(about), None, None)


def image_loader(
    path: Path, campaign: Campaign | None, batch_size: int, size: int, errors: Literal["raise", "skip"]
) -> Loader:
    """Return a loader of the images of a folder or an archive; see `open_images`."""
    return Loader(
        open_images(path, campaign),
        batch_size,
        size,
        None,
        n_cores(),
        errors == "skip",
        torch.device("cpu"),
        False,
        None,
    )
