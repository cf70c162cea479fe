"""Data leakage: the same galaxy in two splits, within a dataset or across several; and images that overlap."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import polars as pl

from gzoo import files, sky
from gzoo.dataset import equal_images
from gzoo.dataset.open import Dataset, open_dataset
from gzoo.dataset.schema import KEY
from gzoo.display import Sheet, Shown
from gzoo.errors import GZooWarning, InputError
from gzoo.trees.campaign import Campaign
from gzoo.trees.campaign import campaign as campaign_of
from gzoo.trees.campaign import names as campaign_names

WORST_FIRST = (("train", "test"), ("validation", "test"), ("train", "validation"))
LEAKS = "table of leaks"
N_EXAMPLES = 100
Rows = npt.NDArray[np.integer]
ROW = ("folder", "split", "dataset_name", "id_str", "ra", "dec")
"""Columns of each of the two rows of a pair; those of the second have the prefix `other_`."""


@dataclass(frozen=True, slots=True, repr=False)
class Leaks(Shown):
    """Outcome of the search for leaks.

    Attributes:
        folders: Dataset folders, as they were passed.
        n_galaxies: Number of rows of each folder, by split.
        n_without_position: Number of rows of each folder without a position, which are compared by identifier only.
        radius_arcsec: Match radius in arcsec.
        pairs: Same galaxy in two splits, one row per pair, worst first: `matched_by` ("position", "identifier",
            "image"), `separation_arcsec` (null if a position is missing) and the columns of `ROW` for both rows.
        overlaps: Different galaxies in two splits whose images overlap, in the same columns.
        image_size_arcsec: Image size in arcsec that overlaps were judged by, by folder and dataset_name; 0 if it is
            unknown, so that overlaps were not searched for.
        warnings: Why leaks may have been missed, or pairs may be wrong: what is doubtful about the positions.
    """

    folders: tuple[str, ...]
    n_galaxies: tuple[Mapping[str, int], ...]
    n_without_position: tuple[int, ...]
    radius_arcsec: float
    pairs: pl.DataFrame
    overlaps: pl.DataFrame
    image_size_arcsec: Mapping[tuple[str, str], float]
    warnings: tuple[str, ...] = ()

    @property
    def has_leaks(self) -> bool:
        """Whether any galaxy or image is in two splits. Overlapping images of different galaxies do not count."""
        return not self.pairs.is_empty()

    @property
    def n_pairs_by_splits(self) -> dict[str, int]:
        """Number of pairs for each two splits, worst first."""
        found = Counter(zip(self.pairs["split"], self.pairs["other_split"], strict=True))
        return {f"{one} and {other}": found[one, other] for one, other in WORST_FIRST}

    @property
    def not_judged(self) -> tuple[tuple[str, str], ...]:
        """Folders and dataset names with unknown image sizes."""
        return tuple(key for key, size in self.image_size_arcsec.items() if not size)

    def to_polars(self) -> pl.DataFrame:
        """Return all pairs, and in the column `kind` whether they are the same galaxy or have an "overlap"."""
        return pl.concat(
            part.select(pl.lit(kind).alias("kind"), pl.all())
            for kind, part in (("same galaxy", self.pairs), ("overlap", self.overlaps))
        )

    def sheet(self) -> Sheet:
        """Return the first pairs, closest first."""
        names = ("kind", "split", "other_split", "separation_arcsec", "id_str", "other_id_str", "matched_by")
        parts = zip(self.folders, self.n_galaxies, strict=True)
        return Sheet(
            f"{self.pairs.height:,} pairs of rows of one galaxy in different splits"
            if self.has_leaks
            else "No galaxy is in different splits",
            {
                **{folder: {split: n for split, n in n_of.items() if n} for folder, n_of in parts},
                "match radius": f"{self.radius_arcsec:g} arcsec",
                "overlapping images": self.overlaps.height or None,
                "overlaps not searched": [f"{name} in {folder}" for folder, name in self.not_judged],
            },
            ("", "split", "other split", "arcsec", "galaxy", "other galaxy", "matched by")
            if self.has_leaks or self.overlaps.height
            else (),
            list(self.to_polars().select(names).iter_rows()),
        )

    def to_dict(self) -> dict[str, object]:
        """Return the outcome as a JSON object, with the first 100 pairs.

        n_pairs, n_overlaps: Number of pairs, and of overlaps.
        """
        return {
            "has_leaks": self.has_leaks,
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
            "image_size_arcsec": [
                {"folder": folder, "dataset_name": name, "image_size_arcsec": size or None}
                for (folder, name), size in self.image_size_arcsec.items()
            ],
            "warnings": list(self.warnings),
        }


def _examples(pairs: pl.DataFrame) -> list[dict[str, object]]:
    return pairs.head(N_EXAMPLES).with_columns(pl.col(pl.Float64).fill_nan(None)).to_dicts()


def leaks(
    datasets: Sequence[Path | str],
    *,
    radius_arcsec: float = 2.0,
    image_size_arcsec: float | None = None,
    allow_bad_positions: bool = False,
    out: Path | str | None = None,
    overwrite: bool = False,
) -> Leaks:
    """Find the same galaxy in different splits, in one or several datasets.

    Only the splits train, validation and test count; `border` is a buffer between them. Two rows are the same galaxy
    if they are within the match radius of each other, or have the same `dataset_name` and `id_str`, or if their images
    are the same, byte for byte: a model has then seen the image of the other split, whatever it shows.

    Different galaxies whose images overlap are listed separately: they are closer to each other than the image size,
    so that both images show the same part of the sky in any orientation.

    Args:
        datasets: Dataset folders made by gzoo, or copies of published ones; one or more.
        radius_arcsec: Match radius in arcsec.
        image_size_arcsec: Image size in arcsec, for overlaps. By default the smallest size of the survey's images; if
            that is unknown, overlaps are not searched for.
        allow_bad_positions: Go on where more than 10% of a dataset's positions are out of range.
        out: Table of all pairs to write, `.parquet` or `.csv`.
        overwrite: Replace an earlier table.

    Raises:
        NotFoundError: A folder does not exist.
        DatasetError: A folder is not a dataset, or a shard cannot be read.
        TableError: More than 10% of a dataset's positions are out of range.
        InputError: No folder or an invalid value is passed, or too many positions coincide.
        OutputExistsError: `out` already exists.
    """
    if not datasets:
        raise InputError("No dataset folders were passed.", "one or more dataset folders.", "Pass at least one folder.")
    if image_size_arcsec is not None and not 0 < image_size_arcsec <= 3600:
        raise InputError(
            f"image_size_arcsec is {image_size_arcsec}.",
            "a size in arcsec from above 0 to 3600.",
            "Pass another --image-size-arcsec.",
        )
    if out is not None:
        files.refuse_file(Path(out), LEAKS, (".parquet", ".csv"), overwrite=overwrite, inputs=datasets)
    opened = [open_dataset(folder) for folder in datasets]
    rows = pl.concat(_rows(dataset, i) for i, dataset in enumerate(opened))
    ra, dec, warned = sky.read_datasets(
        [str(folder) for folder in datasets],
        rows["folder"].to_numpy().astype(np.int64),
        rows["ra"].to_numpy(),
        rows["dec"].to_numpy(),
        rows["dataset_name"],
        allow_bad=allow_bad_positions,
    )
    for text in warned:
        warnings.warn(text, GZooWarning, stacklevel=2)
    rows = rows.with_columns(ra=pl.Series(ra), dec=pl.Series(dec), is_position=pl.Series(~np.isnan(ra)))
    n_galaxies = tuple(_count(rows.filter(pl.col("folder") == i)) for i in range(len(opened)))
    n_without = tuple(rows.filter(pl.col("folder") == i, ~pl.col("is_position")).height for i in range(len(opened)))
    rows = rows.filter(pl.col("split").is_in(sky.SPLITS))
    sizes = _image_sizes(rows, opened, image_size_arcsec)
    same = pl.concat([_by_position(rows, radius_arcsec), _by_identifier(rows), _by_image(rows)])
    same = same.unique(["first", "second"], keep="first", maintain_order=True)
    n_apart = same.filter(pl.col("matched_by") == "identifier", pl.col("separation_arcsec") > radius_arcsec).height
    if n_apart:
        warned = (*warned, f"{n_apart:,} pairs have one identifier, but are over {radius_arcsec:g} arcsec apart: two "
                           "galaxies under one identifier, or a wrong position.")  # fmt: skip
        warnings.warn(warned[-1], GZooWarning, stacklevel=2)
    near = _overlapping(rows, sizes).join(same, on=["first", "second"], how="anti")
    found = Leaks(
        folders=tuple(map(str, datasets)),
        n_galaxies=n_galaxies,
        n_without_position=n_without,
        radius_arcsec=radius_arcsec,
        pairs=_described(same, rows, datasets),
        overlaps=_described(near, rows, datasets),
        image_size_arcsec={(str(datasets[i]), name): size for i, name, size in sizes.iter_rows()},
        warnings=(*warned, *_without(datasets, n_galaxies, n_without)),
    )
    if out is not None:
        _write(found, Path(out))
    return found


def _without(
    datasets: Sequence[Path | str], n_galaxies: Sequence[Mapping[str, int]], n_without: Sequence[int]
) -> list[str]:
    return [
        f"'{name}': {n:,} of {sum(n_of.values()):,} rows have no position and are compared by identifier only."
        for name, n_of, n in zip(datasets, n_galaxies, n_without, strict=True)
        if n
    ]


def _rows(dataset: Dataset, i: int) -> pl.DataFrame:
    parts = [
        dataset.positions(split).with_columns(equal_images.digests(dataset, split), split=pl.lit(split))
        for split in dataset.splits
    ]
    return pl.concat(parts).with_columns(folder=pl.lit(i, pl.UInt32))


def _count(rows: pl.DataFrame) -> dict[str, int]:
    counted = dict(rows["split"].value_counts().iter_rows())
    return {split: counted[split] for split in (*sky.SPLITS, sky.BORDER) if split in counted}


def _by_position(rows: pl.DataFrame, radius_arcsec: float) -> pl.DataFrame:
    placed = rows.with_row_index("row").filter("is_position")
    found = sky.same_galaxies(placed["ra"].to_numpy(), placed["dec"].to_numpy(), radius_arcsec=radius_arcsec)
    numbers = placed["row"].to_numpy()
    return _across(rows, numbers[found.first], numbers[found.second], found.separation_arcsec, "position")


def _by_identifier(rows: pl.DataFrame) -> pl.DataFrame:
    key = list(KEY)
    keyed = rows.lazy().select(*key, "folder", "split").with_row_index("row").filter(pl.col("id_str") != "")
    # one row per folder and split is enough, because an identifier used a million times would give 10^12 pairs
    several = keyed.filter(pl.len().over(key) > 1).unique([*key, "folder", "split"], keep="first").sort("row").collect()
    several = several.with_row_index("order")
    pairs = several.join(several, on=key, suffix="_other").filter(pl.col("order") < pl.col("order_other"))
    return _apart(rows, pairs, "identifier")


def _by_image(rows: pl.DataFrame) -> pl.DataFrame:
    pairs = equal_images.pairs_across(range(rows.height), rows["digest"], rows.select("folder", "split"))
    return _apart(rows, pairs, "image")


def _apart(rows: pl.DataFrame, pairs: pl.DataFrame, by: str) -> pl.DataFrame:
    """Return the pairs of `row` and `row_other` that are in two splits, with their separation."""
    first, second = (pairs[name].to_numpy() for name in ("row", "row_other"))
    apart = np.full(len(first), np.nan)
    is_known = (rows["is_position"].gather(first) & rows["is_position"].gather(second)).to_numpy()
    ends = (rows[name].gather(one[is_known]).to_numpy() for one in (first, second) for name in ("ra", "dec"))
    apart[is_known] = sky.separation_arcsec(*ends)
    return _across(rows, first, second, apart, by)


def _overlapping(rows: pl.DataFrame, sizes: pl.DataFrame) -> pl.DataFrame:
    """Return pairs closer than the mean size of their images: two such squares overlap in any orientation."""
    sized = rows.join(sizes, on=["folder", "dataset_name"], how="left", maintain_order="left")
    size = sized["image_size_arcsec"]
    near = _by_position(sized.with_columns(pl.col("is_position") & (size > 0)), cast(float, size.max()) or 1.0)
    return near.filter(near["separation_arcsec"] < (size.gather(near["first"]) + size.gather(near["second"])) / 2)


def _across(rows: pl.DataFrame, first: Rows, second: Rows, apart: sky.FloatArray, by: str) -> pl.DataFrame:
    """Return the pairs in two splits by row number; the first row of a pair is in the earlier split."""
    code = rows["split"].replace_strict({name: i for i, name in enumerate(sky.SPLITS)}, return_dtype=pl.Int8).to_numpy()
    is_across = code[first] != code[second]
    first, second, apart = first[is_across], second[is_across], apart[is_across]
    first, second = np.where(code[first] < code[second], (first, second), (second, first)).astype(np.int64)
    pairs = pl.DataFrame({"first": first, "second": second, "separation_arcsec": apart}, nan_to_null=True)
    return pairs.with_columns(matched_by=pl.lit(by))


def _described(pairs: pl.DataFrame, rows: pl.DataFrame, folders: Sequence[Path | str]) -> pl.DataFrame:
    """Return the pairs with the columns of both rows, worst first."""
    names = {i: str(folder) for i, folder in enumerate(folders)}
    ends = [
        rows.select(ROW)[pairs[end]].with_columns(pl.col("folder").replace_strict(names, return_dtype=pl.String))
        for end in ("first", "second")
    ]
    other = ends[1].rename({name: f"other_{name}" for name in ROW})
    described = pl.concat([pairs.select("matched_by", "separation_arcsec"), ends[0], other], how="horizontal")
    worst = {f"{one} {other}": i for i, (one, other) in enumerate(WORST_FIRST)}
    rank = pl.concat_str("split", "other_split", separator=" ").replace_strict(worst, return_dtype=pl.Int8)
    keys = [f"{end}{name}" for end in ("", "other_") for name in ("folder", "dataset_name", "id_str")]
    return described.sort(rank, "separation_arcsec", *keys, nulls_last=True)


def _image_sizes(rows: pl.DataFrame, datasets: Sequence[Dataset], image_size_arcsec: float | None) -> pl.DataFrame:
    """Return the smallest image size in arcsec by folder (its number) and dataset_name; 0 if unknown."""
    kinds = rows.select("folder", "dataset_name").unique().sort("folder", "dataset_name")
    sizes = [
        image_size_arcsec or min_image_arcsec(name, datasets[folder].campaign) for folder, name in kinds.iter_rows()
    ]
    return kinds.with_columns(image_size_arcsec=pl.Series(sizes, dtype=pl.Float64))


def min_image_arcsec(dataset_name: str, campaign: Campaign) -> float:
    """Return the smallest image size in arcsec of the campaign `dataset_name`, otherwise of `campaign`; 0 if unknown.

    >>> min_image_arcsec("gz_desi", campaign_of("gz_evo")), min_image_arcsec("gz2", campaign_of("gz_evo"))
    (42.4, 0.0)
    """
    name = dataset_name.removesuffix(files.SIMULATED)
    one = campaign_of(name) if name in campaign_names() else campaign
    return min((survey.min_image_arcsec for survey in one.surveys), default=0.0)


def _write(found: Leaks, out: Path) -> None:
    kinds = (("same galaxy", found.pairs), ("overlapping images", found.overlaps))
    table = pl.concat(pairs.select(pl.lit(kind).alias("what"), pl.all()) for kind, pairs in kinds)
    files.write_table(out, table, LEAKS)
