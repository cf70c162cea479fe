"""Checks of the images of a dataset."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import polars as pl
import pyarrow as pa

from gzoo import files, sky
from gzoo.dataset import equal_images
from gzoo.dataset.check_findings import CHECKING_IMAGES, MAX_EXAMPLES, FindingLog
from gzoo.dataset.check_folder import Folder, Shard
from gzoo.dataset.check_parquet import Rows, open_shard, read_batches, read_table
from gzoo.dataset.check_rows import RowSummary
from gzoo.dataset.shards import in_turn
from gzoo.errors import ImageError
from gzoo.images.checks import FLAT, ImageFacts, Scratch, check_image

IMAGES_IN_TASK = 32
"""Images that a thread checks in turn."""
LISTED = {"bytes": pl.Int64, "width": pl.Int64, "height": pl.Int64}


class _Image(NamedTuple):
    """An image and its row, where 1 is the first row of the shard."""

    shard: Shard
    row: int
    id_str: str
    data: bytes


def check_images(folder: Folder, seen: RowSummary, log: FindingLog, *, is_decoded: bool) -> None:
    """Check every image, and compare it with `images.parquet`."""
    if not folder.record or "image" not in folder.record.names:
        log.skip("images", "the dataset contains votes only" if folder.record else "no row could be read")
        return
    if not is_decoded:
        log.note("images", "headers only")
    expected = None
    path = folder.files.get("images.parquet") if folder.metadata else None
    if path is None:
        log.note("images", "not compared with images.parquet, which is missing")
    elif seen.is_complete:
        expected = read_table(path, "images.parquet", seen.keys, LISTED, "image list mismatch", log)

    def work(task: Sequence[_Image]) -> list[tuple[_Image, ImageFacts | str, int]]:
        scratch = Scratch()
        return [(one, _check(one.data, is_decoded, scratch), equal_images.digest(one.data)) for one in task]

    n_bytes: dict[str, int] = defaultdict(int)
    sizes: set[tuple[int, int]] = set()
    n = n_wide = n_not_rgb = 0
    digests: list[tuple[int, str, str]] = []  # digest, split, identifier
    threads = os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        for outcomes in in_turn(work, _tasks(folder, log), pool, ahead=2 * threads + 2):
            for one, outcome, digest in outcomes:
                n += 1
                n_bytes[one.shard.split] += len(one.data)
                if isinstance(outcome, str):
                    example = f"{one.id_str}: {outcome}"
                    name = "image of one colour" if outcome.startswith(FLAT) else "corrupt image"
                    log.add(name, one.shard.name, "image", row=one.row, examples=[example])
                    continue
                sizes.add((outcome.width, outcome.height))
                n_wide += outcome.width != outcome.height
                n_not_rgb += not outcome.is_rgb
                digests.append((digest, one.shard.split, one.id_str))
                if expected is not None:
                    _compare(one, outcome, expected.row(seen.starts[one.shard.name] + one.row - 1), log)
            log.report(CHECKING_IMAGES, n, max(n, seen.n))
    log.count("images", n)
    if n_wide:
        log.note("images", f"{n_wide:,} are not square, of which models see the central square")
    if n_not_rgb:
        log.note("images", f"{n_not_rgb:,} are grey or have a palette, and are shown as RGB")
    _compare_with_each_other(digests, log)
    if seen.is_complete and n == seen.n and folder.metadata and not log.has("corrupt image", "image mismatch"):
        for split, listed_bytes in folder.metadata.image_bytes["default"].items():
            log.compare(f"image_bytes.default.{split}", listed_bytes, n_bytes[split], check="images")
        log.compare("image_sizes", folder.metadata.image_sizes, sorted(map(list, sizes)), check="images")


def _compare_with_each_other(digests: Sequence[tuple[int, str, str]], log: FindingLog) -> None:
    """Report images that occur twice: in two splits as a finding, otherwise as a remark."""
    rows = pl.DataFrame(digests, {"digest": pl.UInt64, "split": pl.String, "id_str": pl.String}, orient="row")
    several = rows.filter(pl.len().over("digest") > 1)
    if several.is_empty():
        return
    first, second = several.filter(pl.col("digest") == several["digest"][0])["id_str"][:2]
    log.note("images", f"{several.height:,} rows have the image of another row, such as {first} and {second}")
    counted = several.filter(pl.col("split").is_in(sky.SPLITS))
    pairs = equal_images.pairs_across(range(counted.height), counted["digest"], counted.select("split"))
    if pairs.height:
        examples = (
            " and ".join(f"{counted['id_str'][row]} ({counted['split'][row]})" for row in pair)
            for pair in pairs.head(MAX_EXAMPLES).select("row", "row_other").iter_rows()
        )
        log.add("same image in two splits", n=pairs.height, examples=examples)


def _tasks(folder: Folder, log: FindingLog) -> Iterator[list[_Image]]:
    """Yield the images of all rows in order, some at a time."""
    quiet = FindingLog()  # damage in other columns was reported when the rows were checked
    for shard in folder.default_shards:
        file = open_shard(shard, quiet)
        if file is None or file.schema_arrow.names.count("image") != 1:
            continue
        kind = file.schema_arrow.field("image").type
        if not _holds_images(kind):
            if not folder.metadata:  # otherwise it was reported as a schema mismatch
                log.add("wrong type", shard.name, "image", examples=[str(kind)])
            continue
        for first, batch in read_batches(shard, file, ["image", "id_str"], files.ROWS_IN_GROUP, log):
            column = batch.column("image").field("bytes")
            rows = Rows(quiet, shard.name, first, batch, {"id_str": "string"}, is_strict=False)
            ids = rows.strings("id_str") or [""] * batch.num_rows
            for start in range(0, batch.num_rows, IMAGES_IN_TASK):
                stop = min(start + IMAGES_IN_TASK, batch.num_rows)
                yield [_Image(shard, first + i + 1, ids[i], column[i].as_py() or b"") for i in range(start, stop)]


def _holds_images(kind: pa.DataType) -> bool:
    """Return whether a column holds images as `datasets` stores them, with their bytes."""
    if not pa.types.is_struct(kind) or sorted(kind.field(i).name for i in range(kind.num_fields)) != ["bytes", "path"]:
        return False
    return kind.field("bytes").type in (pa.binary(), pa.large_binary())


def _check(data: bytes, is_decoded: bool, scratch: Scratch) -> ImageFacts | str:
    """Return the size of an image, or what is wrong with it."""
    try:
        return check_image(data, is_decoded=is_decoded, scratch=scratch)
    except ImageError as error:
        return error.message.rstrip(".")


def _compare(one: _Image, found: ImageFacts, expected: tuple[int, ...], log: FindingLog) -> None:
    for name, value, wanted in zip(LISTED, (len(one.data), found.width, found.height), expected, strict=True):
        if value != wanted:
            example = f"{one.id_str}: {value:,}, not {wanted}"
            log.add("image mismatch", one.shard.name, name, row=one.row, examples=[example])
