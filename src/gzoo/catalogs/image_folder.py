"""A folder of images in place of a dataset: galaxies that nobody has voted on, whose positions are in a table."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from gzoo import files
from gzoo.catalogs.crossmatch import read_positions_of
from gzoo.dataset.open import KEY, Dataset, Matrix, match_campaign
from gzoo.errors import GZooWarning, InputError, NotFoundError, TableError
from gzoo.scoring.prediction_files import read_metadata
from gzoo.scoring.predictions import read_predictions
from gzoo.trees.campaign import Campaign
from gzoo.trees.tree import Tree
from gzoo.votes.tables import read_rows

SPLIT = ""
ENDINGS = ("_concentration_no", "_concentration", "_pred")


@dataclass(frozen=True, repr=False)
class ImageFolder(Dataset):
    """Predicted galaxies without votes, in place of a dataset.

    Attributes:
        rows: `dataset_name`, `id_str`, `ra`, `dec` and `source_id` of each galaxy.
        positions_file: The table of positions.
    """

    rows: pl.DataFrame = field(kw_only=True)
    positions_file: Path = field(kw_only=True)

    def vote_arrays(self, split: str, tree: Tree | None = None) -> tuple[pl.DataFrame, Matrix, Matrix]:
        """Return the keys, and 0 votes on every question."""
        tree = tree or self.tree
        n = self.rows.height
        counts, totals = (np.zeros((n, len(one)), np.int32) for one in (tree.columns, tree.questions))
        return self.rows.select(KEY), counts, totals

    def positions(self, split: str) -> pl.DataFrame:
        """Return the positions of all galaxies."""
        return self.rows


def open_image_folder(
    folder: Path, positions: Path | str, predictions: Sequence[Path], *, allow_bad: bool = False
) -> ImageFolder:
    """Return the galaxies that some files predict, with the positions of a table.

    Args:
        folder: Folder or archive of images.
        positions: Table with `id_str`, `ra` and `dec`, by their usual names.
        predictions: Prediction files for the images.
        allow_bad: Whether to go on with any number of positions that cannot be used.

    Raises:
        InputError: The folder holds a dataset, or predictions are missing.
        NotFoundError: A file or folder does not exist.
        TableError: The table has no identifiers or positions, lists a galaxy twice, or none that is predicted.
    """
    if not folder.exists():
        raise NotFoundError(f"Folder of images not found: '{folder}'.", hint="Check the path.")
    if (folder / files.MANIFEST).is_file() or files.shards(folder, "test") or files.shards(folder, "train"):
        raise InputError(
            f"'{folder}' is a dataset, which has positions of its own.",
            hint="Omit --positions, or name the folder of the images.",
        )
    if not predictions:
        raise InputError(
            f"'{folder}' has no votes, so a catalogue of it needs predictions.",
            "prediction files before the folder.",
            f"Run `gzoo predict RUN {folder}` first.",
        )
    campaign = _campaign(predictions[0])
    keys = pl.concat([read_predictions(one, campaign.published_tree).keys.select(KEY) for one in predictions])
    rows = keys.with_columns(pl.col("dataset_name").fill_null(campaign.name)).unique(maintain_order=True)
    ra, dec, texts, warned = read_positions_of(positions, allow_bad=allow_bad)
    known = pl.DataFrame({"id_str": texts, "ra": ra, "dec": dec})
    twice = known.filter(known["id_str"].is_duplicated() & known["id_str"].is_in(rows["id_str"].implode()))
    if twice.height:
        raise TableError(
            f"'{positions}' lists galaxy '{twice['id_str'][0]}' more than once.", "one row for each galaxy.",
            "Remove the other rows.",
        )  # fmt: skip
    n = rows["id_str"].is_in(known["id_str"].implode()).sum()
    if not n:
        raise TableError(
            f"'{positions}' has none of the {rows.height:,} galaxies that are predicted.",
            f"identifiers such as '{rows['id_str'][0]}', the name of an image without its ending; found, for example, "
            f"'{texts[0] if len(texts) else ''}'.",
            "Write the names of the images, without endings, into the column id_str.",
        )
    if n < rows.height:
        warned = (*warned, f"'{positions}' lacks {rows.height - n:,} of the {rows.height:,} galaxies.")
    for text in warned:
        warnings.warn(text, GZooWarning, stacklevel=3)
    rows = rows.join(known, on="id_str", how="left", maintain_order="left").select(
        "dataset_name", "id_str", ra=pl.col("ra").fill_null(np.nan),
        dec=pl.col("dec").fill_null(np.nan), source_id=pl.lit(""),
    )  # fmt: skip
    return ImageFolder(
        folder=folder,
        campaign=campaign,
        splits_of={"default": (SPLIT,)},
        digest=files.sha256(Path(positions)),
        is_simulated=any(bool(read_metadata(one).get("is_simulated")) for one in predictions),
        not_collected=tuple(one.name for one in campaign.published_tree.questions),
        rows=rows,
        positions_file=Path(positions),
    )


def _campaign(predictions: Path) -> Campaign:
    """Return the campaign whose answers a file predicts."""
    names = read_rows(predictions).frame.columns
    answers = {next((name.removesuffix(end) for end in ENDINGS if name.endswith(end)), name) for name in names}
    found = match_campaign(answers)
    if found is None:
        raise TableError(
            f"'{predictions}' has no predictions of a campaign that gzoo knows.",
            "columns such as smooth-or-featured-gz2_smooth_concentration.",
            "Check the file, or build a dataset of the images with your campaign.",
        )
    return found.campaign
