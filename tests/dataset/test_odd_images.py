"""Equal images, tiles without content, and images whose names do not match: each is told with its kind."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

import datasets
import numpy as np
import polars as pl
import pytest
from PIL import Image

import gzoo
from gzoo import files
from gzoo.dataset.build import BuildResult
from gzoo.errors import GZooWarning, TableError
from gzoo.simulator import SimulateResult


class Galaxies:
    """Twelve simulated galaxies all over the sky: a table without a column of image names, and a folder of images."""

    def __init__(self, sky: SimulateResult, folder: Path) -> None:
        self.images, self.out, self._votes = folder / "im", folder / "dataset", folder / "votes.parquet"
        self.images.mkdir()
        rows = pl.read_parquet(sky.votes)[:12]
        for i, name in enumerate(rows["filename"]):
            shutil.copy(sky.images / name, self.images / f"{i}.jpg")
        # the split follows from the position
        ra = np.arange(12) * 30.0 + 1
        self.rows = rows.with_columns(
            id_str=pl.Series(map(str, range(12))), ra=pl.Series(ra), dec=pl.Series(ra / 9 - 15)
        )
        self.rows = self.rows.drop("filename")

    def build(self, images: Path | None = None, **options: object) -> BuildResult:
        self.rows.write_parquet(self._votes)
        return gzoo.build("gz2", votes=self._votes, images=images or self.images, out=self.out, **options)  # type: ignore[arg-type]

    def dropped(self) -> pl.DataFrame:
        return pl.read_parquet(self.out / "dropped.parquet").sort("row")


@pytest.fixture
def galaxies(sky: SimulateResult, tmp_path: Path) -> Galaxies:
    return Galaxies(sky, tmp_path)


def note(folder: Path) -> str:
    return next(one.note for one in gzoo.check(folder).checks if one.name == "images")


def test_grey_tiles_are_dropped_with_a_reason_of_their_own(galaxies: Galaxies) -> None:
    for i in range(6):
        Image.new("RGB", (424, 424), (32, 32, 32)).save(galaxies.images / f"{i}.jpg")
    built = galaxies.build()
    assert built.n_dropped == {"image of one colour": 6}
    assert galaxies.dropped()["detail"].unique().to_list() == ["Every pixel of the image has the colour (32, 32, 32)."]
    assert galaxies.dropped()["id_str"].to_list() == list("012345")


def test_tiles_that_were_not_decoded_are_found_by_check(galaxies: Galaxies) -> None:
    Image.new("RGB", (424, 424), (32, 32, 32)).save(galaxies.images / "0.jpg")
    galaxies.build(headers_only=True)
    found = gzoo.check(galaxies.out)
    assert [(one.name, one.n) for one in found.findings] == [("image of one colour", 1)]
    assert "(32, 32, 32)" in found.findings[0].examples[0]


def splits_of(folder: Path) -> dict[str, str]:
    return {
        id_str: split
        for split in files.SPLITS
        for path in files.shards(folder, split)
        for id_str in pl.read_parquet(path)["id_str"]
    }


@pytest.mark.parametrize("is_published", [False, True])
def test_one_image_in_two_splits_is_a_leak(galaxies: Galaxies, tmp_path: Path, is_published: bool) -> None:
    galaxies.rows = galaxies.rows.with_columns(part=pl.Series(["train"] * 8 + ["test"] * 4))
    shutil.copy(galaxies.images / "1.jpg", galaxies.images / "9.jpg")
    with pytest.warns(GZooWarning, match=r"2 galaxies have the image of another galaxy .* such as '1' and '9'"):
        built = galaxies.build(split_column="part")
    assert len(built.image_doubts) == 1
    folder = built.folder
    if is_published:
        folder = tmp_path / "published"
        (folder / "data").mkdir(parents=True)
        for split in ("train", "test"):
            shutil.copy(files.shards(built.folder, split)[0], folder / "data")
    found = gzoo.leaks([folder])
    assert found.pairs.select("matched_by", "id_str", "other_id_str").rows() == [("image", "1", "9")]
    assert found.pairs["separation_arcsec"][0] > 3600
    checked = gzoo.check(folder)
    assert [(one.check, one.name, one.examples) for one in checked.findings] == [
        ("leaks", "same image in two splits", ("1 (train) and 9 (test)",))
    ]


def test_equal_images_in_one_split_are_told(galaxies: Galaxies) -> None:
    galaxies.rows = galaxies.rows.with_columns(part=pl.lit("train"))
    for other in "579":
        shutil.copy(galaxies.images / "1.jpg", galaxies.images / f"{other}.jpg")
    with pytest.warns(GZooWarning, match=r"4 galaxies have .* such as '1' and '5' \(4 galaxies have it\)"):
        galaxies.build(split_column="part")
    assert gzoo.check(galaxies.out).is_valid
    assert "4 rows have the image of another row, such as" in note(galaxies.out)
    assert not gzoo.leaks([galaxies.out]).has_leaks


def test_equal_images_at_one_place_are_one_galaxy(galaxies: Galaxies) -> None:
    place = pl.when(pl.col("id_str") == "2").then(pl.lit(31.0 + 1 / 3600)).otherwise(pl.col("ra"))
    galaxies.rows = galaxies.rows.with_columns(
        ra=place, dec=pl.when(pl.col("id_str") == "2").then(pl.lit(31 / 9 - 15)).otherwise(pl.col("dec"))
    )
    shutil.copy(galaxies.images / "1.jpg", galaxies.images / "2.jpg")
    assert galaxies.build().image_doubts == ()


def test_images_turned_by_exif_are_turned_alike(galaxies: Galaxies, tmp_path: Path) -> None:
    for i in range(12):
        exif = Image.Exif()
        exif[0x0112] = i % 8 + 1
        image = Image.open(galaxies.images / f"{i}.jpg").crop((0, 0, 424, 300))
        image.save(galaxies.images / f"{i}.jpg", exif=exif, quality=95)
    with pytest.warns(GZooWarning, match="12 images are not square"):
        built = galaxies.build()
    assert "12 are not square" in note(built.folder)
    for split in built.n_galaxies:
        table = datasets.load_dataset(str(built.folder), split=split, cache_dir=str(tmp_path / "cache"))
        theirs = {row["id_str"]: np.asarray(row["image"]) for row in table}  # type: ignore[union-attr]
        for batch in gzoo.loader(built.folder, 8, 300, split=split):
            for id_str, image in zip(batch["id_str"], batch["image"], strict=True):
                height, width = theirs[id_str].shape[:2]
                top, left = (height - 300) // 2, (width - 300) // 2
                expected = theirs[id_str][top : top + 300, left : left + 300]
                assert np.abs(image.permute(1, 2, 0).numpy().astype(int) - expected).max() <= 2


def rename(folder: Path, names: Sequence[str]) -> None:
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / f"{i}.jpg").replace(folder / name)


def test_no_match_at_all_shows_one_expected_and_one_found_name(galaxies: Galaxies) -> None:
    rename(galaxies.images, [f"{i:06d}.jpg" for i in range(12)])
    with pytest.raises(TableError, match="12 x image missing: zero padding, 12 x no row") as caught:
        galaxies.build()
    assert caught.value.expected == "for example 0.jpg, .jpeg, .png or .fits, found 000000.jpg."
    assert 'image = "COLUMN"' in caught.value.hint


def test_names_that_differ_in_an_unknown_way_are_shown_too(galaxies: Galaxies) -> None:
    rename(galaxies.images, [f"cutout-{i}-r.jpg" for i in range(12)])
    with pytest.raises(TableError, match="12 x image missing, 12 x no row") as caught:
        galaxies.build()
    assert caught.value.expected == "for example 0.jpg, .jpeg, .png or .fits, found cutout-0-r.jpg."
    assert 'image = "COLUMN"' in caught.value.hint


def test_some_matches_are_kept_and_the_rest_is_told(galaxies: Galaxies) -> None:
    rename(galaxies.images, [f"J0{i % 3}/{i}.jpg" if i > 3 else f"{i}.jpg" for i in range(12)])
    with pytest.warns(
        GZooWarning, match="images of 8 rows were not found, because names differ in sub-folder: "
    ) as said:
        built = galaxies.build()
    assert "expected 4.jpg, .jpeg, .png or .fits, found J01/4.jpg." in str(said[0].message)
    assert built.n_dropped == {"image missing: sub-folder": 8, "no row for this image": 8}
    missing = galaxies.dropped().drop_nulls("row")
    assert missing["detail"][0] == "no file 4.jpg, .jpeg, .png or .fits; found J01/4.jpg"
    assert str(built.image_doubts[0]) == str(said[0].message)


def test_the_top_folder_of_an_archive_is_told(galaxies: Galaxies, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for i in range(12):
            data = io.BytesIO((galaxies.images / f"{i}.jpg").read_bytes())
            archive.writestr(f"images/{i}.jpg", data.getvalue())
    with pytest.raises(TableError, match="12 x image missing: top folder") as caught:
        galaxies.build(tmp_path / "images.zip")
    assert "create the archive inside it" in caught.value.hint
