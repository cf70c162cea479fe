"""Leaks: the same galaxy on two sides of the split, in any datasets; and images of neighbours that overlap."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from gzoo import files, sky
from gzoo.dataset.open import Dataset, open_dataset
from gzoo.errors import InputError, NotFoundError, OutputExistsError
from gzoo.trees.campaign import Campaign
from gzoo.trees.campaign import campaign as campaign_of
from gzoo.trees.campaign import names as campaign_names

WORST_FIRST = (("train", "test"), ("validation", "test"), ("train", "validation"))
N_EXAMPLES = 100
ROW = ("folder", "split", "dataset_name", "id_str", "ra", "dec")
"""What is said of each of the two rows of a pair; of the second under names that begin with `other_`."""


@dataclass(frozen=True, slots=True)
class Leaks:
    """What was found.

    Attributes:
        folders: The dataset folders, as they were named.
        n_galaxies: Rows of each, by split.
        n_without_position: Rows of each without a place on the sky, which only their identifier can betray.
        radius_arcsec: How near two positions are taken for one galaxy.
        pairs: The same galaxy on two sides, a row a pair, worst first: `matched_by` ("position", "identifier"),
            `separation_arcsec` (null where a position is missing) and `ROW` for either.
        overlaps: Neighbours on two sides whose images overlap, in the same columns.
        image_arcsec: Side of the images by which that was judged, by folder and dataset_name; 0 where it is not
            known, and so was not judged.
    """

    folders: tuple[str, ...]
    n_galaxies: tuple[Mapping[str, int], ...]
    n_without_position: tuple[int, ...]
    radius_arcsec: float
    pairs: pl.DataFrame
    overlaps: pl.DataFrame
    image_arcsec: Mapping[tuple[str, str], float]

    @property
    def is_clean(self) -> bool:
        """Whether no galaxy is on two sides. Overlapping images of neighbours do not count."""
        return self.pairs.is_empty()

    @property
    def n_pairs_by_splits(self) -> dict[str, int]:
        """Pairs on each two sides, the worst first."""
        found = zip(self.pairs["split"], self.pairs["other_split"], strict=True)
        counts = {f"{one} and {other}": 0 for one, other in WORST_FIRST}
        for one, other in found:
            counts[f"{one} and {other}"] += 1
        return counts

    @property
    def not_judged(self) -> tuple[tuple[str, str], ...]:
        """Folders and dataset names for which it is not known how much sky an image shows."""
        return tuple(key for key, side in self.image_arcsec.items() if not side)

    def to_dict(self) -> dict[str, object]:
        """As one JSON object; of the pairs the first 100."""
        return {
            "is_clean": self.is_clean,
            "folders": [
                {"folder": folder, "n_galaxies": dict(n), "n_without_position": n_without}
                for folder, n, n_without in zip(self.folders, self.n_galaxies, self.n_without_position, strict=True)
            ],
            "radius_arcsec": self.radius_arcsec,
            "n_pairs": self.pairs.height,
            "n_pairs_by_splits": self.n_pairs_by_splits,
            "pairs": _examples(self.pairs),
            "n_overlaps": self.overlaps.height,
            "overlaps": _examples(self.overlaps),
            "image_arcsec": [
                {"folder": folder, "dataset_name": name, "side": side or None}
                for (folder, name), side in self.image_arcsec.items()
            ],
        }


def _examples(pairs: pl.DataFrame) -> list[dict[str, object]]:
    return pairs.head(N_EXAMPLES).with_columns(pl.col(pl.Float64).fill_nan(None)).to_dicts()


def leaks(
    folders: Sequence[Path | str],
    *,
    radius_arcsec: float = 2.0,
    image_arcsec: float | None = None,
    out: Path | str | None = None,
    overwrite: bool = False,
) -> Leaks:
    """Galaxies that are on two sides of the split (train, validation, test), within a dataset or across several.

    Two rows are the same galaxy if they are within the radius of each other, or have the same `dataset_name` and
    `id_str`. `border` is no side. Neighbours on two sides whose images overlap are told apart from those: they are
    nearer to each other than an image's side, so that the images show the same sky however they are turned.

    Args:
        folders: Dataset folders: built by gzoo, or copies of published ones.
        radius_arcsec: How near two positions are taken for one galaxy.
        image_arcsec: Side of the images. By default what the survey's images show at least, where that is
            known; where it is not, overlaps are not judged.
        out: Table of all pairs to write, `.parquet` or `.csv`.
        overwrite: Replace an earlier table.

    Raises:
        NotFoundError: There is no such folder.
        DatasetError: One is not a dataset, or a shard cannot be read.
        InputError: No folder is given, an option makes no sense, or so many positions are in one place that they
            cannot be galaxies.
        OutputExistsError: `out` is there already.
    """
    if not folders:
        raise InputError("There is nothing to look into.", "One or more dataset folders.", "Name them.")
    if image_arcsec is not None and not 0 < image_arcsec <= 3600:
        raise InputError(
            f"Images are said to be {image_arcsec} arcsec wide.", "More than 0, up to 3600.", "Choose another."
        )
    if out is not None:
        _refuse(Path(out), overwrite)
    datasets = [open_dataset(folder) for folder in folders]
    rows = pl.concat(_rows(dataset, i) for i, dataset in enumerate(datasets))
    is_position = sky.is_position(rows["ra"].to_numpy(), rows["dec"].to_numpy())
    rows = rows.with_columns(is_position=is_position)
    n_galaxies = tuple(_count(rows.filter(pl.col("folder") == i)) for i in range(len(datasets)))
    n_without = tuple(rows.filter(pl.col("folder") == i, ~pl.col("is_position")).height for i in range(len(datasets)))
    rows = rows.filter(pl.col("split").is_in(sky.SPLITS))
    sides = _image_sides(rows, datasets, image_arcsec)
    same = pl.concat([_by_position(rows, radius_arcsec), _by_identifier(rows)])
    same = same.unique(["first", "second"], keep="first", maintain_order=True)
    near = _overlapping(rows, sides).join(same, on=["first", "second"], how="anti")
    found = Leaks(
        folders=tuple(str(folder) for folder in folders),
        n_galaxies=n_galaxies,
        n_without_position=n_without,
        radius_arcsec=radius_arcsec,
        pairs=_told(same, rows, folders),
        overlaps=_told(near, rows, folders),
        image_arcsec={(str(folders[i]), name): side for i, name, side in sides.iter_rows()},
    )
    if out is not None:
        _write(found, Path(out))
    return found


def _rows(dataset: Dataset, i: int) -> pl.DataFrame:
    parts = [dataset.positions(split).with_columns(split=pl.lit(split)) for split in dataset.splits]
    return pl.concat(parts).with_columns(folder=pl.lit(i, pl.UInt32))


def _count(rows: pl.DataFrame) -> dict[str, int]:
    counted = dict(rows["split"].value_counts().iter_rows())
    return {split: counted[split] for split in (*sky.SPLITS, sky.BORDER) if split in counted}


def _by_position(rows: pl.DataFrame, radius_arcsec: float) -> pl.DataFrame:
    placed = rows.with_row_index("row").filter("is_position")
    found = sky.same_galaxies(placed["ra"].to_numpy(), placed["dec"].to_numpy(), radius_arcsec=radius_arcsec)
    return _across(rows, placed["row"].to_numpy(), found, "position")


def _by_identifier(rows: pl.DataFrame) -> pl.DataFrame:
    key = ["dataset_name", "id_str"]
    keyed = rows.lazy().select(*key, "folder", "split").with_row_index("row").filter(pl.col("id_str") != "")
    # one row for each folder and side will do: who wrote one identifier a million times gets no million x million pairs
    several = keyed.filter(pl.len().over(key) > 1).unique([*key, "folder", "split"], keep="first").sort("row").collect()
    several = several.with_row_index("place")
    pairs = several.join(several, on=key, suffix="_other").filter(pl.col("place") < pl.col("place_other"))
    first, second = (pairs[name].to_numpy() for name in ("row", "row_other"))
    apart = np.full(len(first), np.nan)
    is_known = (rows["is_position"].gather(first) & rows["is_position"].gather(second)).to_numpy()
    ends = (rows[name].gather(one[is_known]).to_numpy() for one in (first, second) for name in ("ra", "dec"))
    apart[is_known] = sky.separation_arcsec(*ends)
    everyone = np.arange(rows.height)
    return _across(rows, everyone, sky.Pairs(first.astype(np.int64), second.astype(np.int64), apart), "identifier")


def _overlapping(rows: pl.DataFrame, sides: pl.DataFrame) -> pl.DataFrame:
    """Pairs on two sides, nearer than the mean side of their images: those two squares overlap however turned."""
    shown = rows.with_row_index("row").join(sides, on=["folder", "dataset_name"], how="left", maintain_order="left")
    shown = shown.filter("is_position", pl.col("image_arcsec") > 0)
    side = shown["image_arcsec"].to_numpy()
    widest = float(side.max()) if len(side) else 1.0
    found = sky.same_galaxies(shown["ra"].to_numpy(), shown["dec"].to_numpy(), radius_arcsec=widest)
    is_near = found.separation_arcsec < (side[found.first] + side[found.second]) / 2
    found = sky.Pairs(found.first[is_near], found.second[is_near], found.separation_arcsec[is_near])
    return _across(rows, shown["row"].to_numpy(), found, "position")


def _across(rows: pl.DataFrame, numbers: npt.NDArray[np.integer], found: sky.Pairs, by: str) -> pl.DataFrame:
    """Those pairs that are on two sides, by number of the row; the first of two is on the earlier side."""
    code = rows["split"].replace_strict({name: i for i, name in enumerate(sky.SPLITS)}, return_dtype=pl.Int8).to_numpy()
    first, second = numbers[found.first], numbers[found.second]
    is_turned = code[first] > code[second]
    first, second = np.where(is_turned, second, first), np.where(is_turned, first, second)
    is_across = code[first] != code[second]
    columns = {
        "first": first[is_across].astype(np.int64),
        "second": second[is_across].astype(np.int64),
        "separation_arcsec": found.separation_arcsec[is_across],
    }
    return pl.DataFrame(columns).with_columns(pl.col("separation_arcsec").fill_nan(None), matched_by=pl.lit(by))


def _told(pairs: pl.DataFrame, rows: pl.DataFrame, folders: Sequence[Path | str]) -> pl.DataFrame:
    """The pairs with what is known of either row, worst first."""
    names = {i: str(folder) for i, folder in enumerate(folders)}
    ends = [
        rows.select(ROW)[pairs[end]].with_columns(pl.col("folder").replace_strict(names, return_dtype=pl.String))
        for end in ("first", "second")
    ]
    other = ends[1].rename({name: f"other_{name}" for name in ROW})
    told = pl.concat([pairs.select("matched_by", "separation_arcsec"), ends[0], other], how="horizontal")
    worst = {f"{one} {other}": i for i, (one, other) in enumerate(WORST_FIRST)}
    rank = pl.concat_str("split", "other_split", separator=" ").replace_strict(worst, return_dtype=pl.Int8)
    keys = [f"{end}{name}" for end in ("", "other_") for name in ("folder", "dataset_name", "id_str")]
    return told.sort(rank, "separation_arcsec", *keys, nulls_last=True)


def _image_sides(rows: pl.DataFrame, datasets: Sequence[Dataset], image_arcsec: float | None) -> pl.DataFrame:
    """How wide an image is at least, arcsec, by folder (its number) and dataset_name; 0 where not known."""
    kinds = rows.select("folder", "dataset_name").unique().sort("folder", "dataset_name")
    sides = [image_arcsec or min_image_arcsec(name, datasets[folder].campaign) for folder, name in kinds.iter_rows()]
    return kinds.with_columns(image_arcsec=pl.Series(sides, dtype=pl.Float64))


def min_image_arcsec(dataset_name: str, campaign: Campaign) -> float:
    """What an image shows at least, arcsec a side: of the campaign that a row names, else of its folder's; or 0.

    >>> min_image_arcsec("gz_desi", campaign_of("gz_evo")), min_image_arcsec("gz2", campaign_of("gz_evo"))
    (42.4, 0.0)
    """
    name = dataset_name.removesuffix(files.SIMULATED)
    one = campaign_of(name) if name in campaign_names() else campaign
    return min((survey.min_image_arcsec for survey in one.surveys), default=0.0)


def _refuse(out: Path, overwrite: bool) -> None:
    if out.suffix not in {".parquet", ".csv"}:
        raise InputError(f"{out} is no table that gzoo writes.", "A name with .parquet or .csv.", "Choose one.")
    if not out.parent.is_dir():
        raise NotFoundError(f"There is no folder {out.parent}.", "A folder for the file.", "Make it first.")
    if out.is_dir() or (out.exists() and not overwrite):
        raise OutputExistsError(f"{out} is there already.", "A new name.", "Choose another, or pass --overwrite.")


def _write(found: Leaks, out: Path) -> None:
    kinds = (("same galaxy", found.pairs), ("overlapping images", found.overlaps))
    table = pl.concat(pairs.select(pl.lit(kind).alias("what"), pl.all()) for kind, pairs in kinds)
    data = io.BytesIO()
    if out.suffix == ".csv":
        table.write_csv(data)
    else:
        table.write_parquet(data)
    files.write_bytes(out, data.getvalue())
