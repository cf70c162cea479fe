"""Shards: the rows of a dataset, written as files that any process can make, in any order, again.

A build is cut into shards beforehand. What each needs lies in the folder of the work in progress: `plan.parquet` (which
galaxies, in their final order) and the votes. Writing a shard twice gives the same bytes, so a worker that dies costs
time and nothing else.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
from PIL import Image

from gzoo import schema, store
from gzoo.campaign import Campaign, Stretch
from gzoo.campaign import campaign as campaign_of
from gzoo.errors import PictureError
from gzoo.images import check_picture, shown
from gzoo.sources import Source
from gzoo.summaries import summary
from gzoo.trees import IntArray, Tree
from gzoo.votes import Votes

PICTURES_IN_TASK = 8  # fewer, and threads spend their time on being told what to do
PICTURES_SCHEMA = {
    "sha256": pl.String,  # of the picture as stored
    "source_sha256": pl.String,
    "bytes": pl.Int64,
    "width": pl.Int32,
    "height": pl.Int32,
    "problem": pl.String,
}


@dataclass(frozen=True, slots=True)
class Shard:
    """Some rows of the plan, which become one file.

    Attributes:
        split: Their split.
        start: The first row of the plan.
        stop: The row after the last.
    """

    split: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker must know to write any shard of a dataset.

    Attributes:
        folder: Of the work in progress, by the same name on every machine.
        campaign: Whose record the rows follow.
        sources: Where pictures are read from; none for a dataset without pictures.
        has_source_id: Whether rows hold the survey's own identifier.
        is_decoded: Whether pictures are decoded to their last byte as a check, and not only their headers read.
        collected: Questions whose votes are known.
        shards: All of them.
    """

    folder: Path
    campaign: str
    sources: tuple[Source, ...]
    has_source_id: bool
    is_decoded: bool
    collected: tuple[str, ...]
    shards: tuple[Shard, ...]

    def facts_path(self, number: int) -> Path:
        """What was found in writing a shard; it is there when the shard is done."""
        return self.folder / store.WORK / f"shard-{number:05d}.json"

    def pictures_path(self, number: int) -> Path:
        """What each of its pictures is, a row each, columns `PICTURES_SCHEMA`."""
        return self.folder / store.WORK / f"shard-{number:05d}.pictures.parquet"

    def shard_path(self, number: int) -> Path:
        """The shard, until it is moved to its final name."""
        return self.folder / store.WORK / f"shard-{number:05d}.parquet"

    def plan(self, number: int) -> pl.DataFrame:
        """The galaxies of a shard, in order."""
        shard = self.shards[number]
        plan = pl.scan_parquet(self.folder / store.WORK / "plan.parquet", glob=False)
        return plan.slice(shard.start, shard.stop - shard.start).collect()

    @property
    def record(self) -> schema.Record:
        """What a row holds."""
        return schema.record(campaign_of(self.campaign), image=bool(self.sources), source_id=self.has_source_id)

    @property
    def votes(self) -> VoteStore:
        """The votes of the table."""
        return VoteStore(self.folder / store.WORK, campaign_of(self.campaign).tree, self.collected)


_Task = TypeVar("_Task")
_Done = TypeVar("_Done")
_Counts = npt.NDArray[np.int32]


class VoteStore:
    """Votes on disk, in the order of the table they were read from."""

    def __init__(self, folder: Path, tree: Tree, collected: tuple[str, ...]) -> None:
        self._folder, self._tree, self._collected = folder, tree, collected

    @cached_property
    def _files(self) -> tuple[_Counts, _Counts]:
        counts = np.memmap(self._folder / "counts.int32", np.int32, "r").reshape(-1, len(self._tree.columns))
        totals = np.memmap(self._folder / "totals.int32", np.int32, "r").reshape(-1, len(self._tree.questions))
        return counts, totals

    def take(self, rows: IntArray) -> Votes:
        """The votes of some rows; the first is 0."""
        counts, totals = self._files
        return Votes(self._tree, counts[rows].astype(np.int64), totals[rows].astype(np.int64), self._collected)


@dataclass(frozen=True, slots=True)
class _Picture:
    data: bytes
    sha256: str
    source_sha256: str
    width: int
    height: int
    problem: str


Report = Callable[[int], None]
"""Called with the number of rows that were dealt with since it was last called."""


def write_shard(job: Job, number: int, threads: int = 1, report: Report | None = None) -> None:
    """Write a shard and what was found in doing so, unless that is done.

    Args:
        job: All shards.
        number: Which one.
        threads: How many threads read and check pictures.
        report: Called as the work goes on.
    """
    if job.facts_path(number).is_file():
        return
    campaign, record = campaign_of(job.campaign), job.record
    rows, votes = job.plan(number), job.votes
    tally = _Tally(campaign.tree)
    found: list[tuple[str, str, int, int, int, str]] = []
    with store.write_parquet(job.shard_path(number), record.arrow()) as writer:
        for places, images in _groups(job, rows, found, threads, report):
            part = votes.take(rows["place"].gather(places).to_numpy())
            tally.add(part)
            writer.write_batch(_batch(campaign, record, rows[places], part, images))
    facts: dict[str, object] = {
        "n_rows": tally.n_rows,
        "n_breaking": tally.n_breaking,
        "questions": tally.questions(),
        "file": {"sha256": store.sha256(job.shard_path(number)), "bytes": job.shard_path(number).stat().st_size},
    }
    if job.sources:
        table = pl.DataFrame(found, schema=PICTURES_SCHEMA, orient="row")
        with store.whole_file(job.pictures_path(number)) as file:
            table.write_parquet(file)
    store.write_json(job.facts_path(number), facts)


class _Tally:
    """Votes per question, summed over row groups."""

    def __init__(self, tree: Tree) -> None:
        self.n_rows = self.n_breaking = 0
        self._tree = tree
        self._sums = np.zeros((3, len(tree.questions)), np.int64)

    def add(self, votes: Votes) -> None:
        breaks = votes.breaks
        self.n_rows += len(votes)
        self.n_breaking += int(breaks.any(axis=1).sum())
        self._sums += [votes.totals.sum(axis=0), (votes.totals > 0).sum(axis=0), breaks.sum(axis=0)]

    def questions(self) -> dict[str, list[int]]:
        """Question -> votes, galaxies asked, rows in which it has more votes than the tree allows."""
        return {one.name: self._sums[:, i].tolist() for i, one in enumerate(self._tree.questions)}


def _groups(
    job: Job,
    rows: pl.DataFrame,
    found: list[tuple[str, str, int, int, int, str]],
    threads: int,
    report: Report | None,
) -> Iterator[tuple[list[int], list[_Picture] | None]]:
    """The rows of each row group, and their pictures; rows whose picture is of no use are passed over.

    What each picture is, of use or not, is added to `found`.
    """
    if not job.sources:
        for start in range(0, rows.height, store.ROWS_IN_LARGE_GROUP):
            places = list(range(start, min(start + store.ROWS_IN_LARGE_GROUP, rows.height)))
            yield places, None
            if report:
                report(len(places))
        return
    places: list[int] = []
    images: list[_Picture] = []
    for place, one in enumerate(_read_pictures(job, rows, threads)):
        found.append((one.sha256, one.source_sha256, len(one.data), one.width, one.height, one.problem))
        if not one.problem:
            places.append(place)
            images.append(one)
        if len(places) == store.ROWS_IN_GROUP:
            yield places, images
            places, images = [], []
        if report and (place + 1) % 100 == 0:
            report(100)
    if places:
        yield places, images
    if report:
        report(rows.height % 100)


def _read_pictures(job: Job, rows: pl.DataFrame, threads: int) -> Iterator[_Picture]:
    """Each row's picture in turn, read and checked a little ahead."""
    wanted = list(zip(rows["source"], rows["image"], strict=True))
    stretch = campaign_of(job.campaign).stretch
    tasks = (wanted[i : i + PICTURES_IN_TASK] for i in range(0, len(wanted), PICTURES_IN_TASK))

    def work(task: Sequence[tuple[int, str]]) -> list[_Picture]:
        return [_checked(job, stretch, source, name) for source, name in task]

    for done in in_turn(work, tasks, threads):
        yield from done


def in_turn(work: Callable[[_Task], _Done], tasks: Iterator[_Task], threads: int) -> Iterator[_Done]:
    """What threads make of tasks that deal with pictures, in their order; they are taken up a little ahead."""
    # Pillow's warning of large pictures is an error of ours; the filter is set here, for it is of all threads
    with warnings.catch_warnings(), ThreadPoolExecutor(threads) as pool:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            waiting: deque[Future[_Done]] = deque(pool.submit(work, task) for task in islice(tasks, 2 * threads + 2))
            while waiting:
                done = waiting.popleft().result()
                waiting.extend(pool.submit(work, task) for task in islice(tasks, 1))
                yield done
        finally:
            pool.shutdown(cancel_futures=True)


def _checked(job: Job, stretch: Stretch, source: int, name: str) -> _Picture:
    try:
        read = job.sources[source].read(name)
        data = shown(read, name, stretch)
        facts = check_picture(data, is_decoded=job.is_decoded)
    except PictureError as error:
        return _Picture(b"", "", "", 0, 0, str(error))
    except FileNotFoundError:
        return _Picture(b"", "", "", 0, 0, "is gone since pictures were listed")
    except PermissionError as error:
        return _Picture(b"", "", "", 0, 0, f"cannot be read: {error.strerror}")
    digest = hashlib.sha256(data).hexdigest()
    source_digest = digest if data is read else hashlib.sha256(read).hexdigest()
    return _Picture(data, digest, source_digest, facts.width, facts.height, "")


def _batch(
    campaign: Campaign, record: schema.Record, rows: pl.DataFrame, votes: Votes, images: list[_Picture] | None
) -> pa.RecordBatch:
    """One contiguous batch, so that the same rows always give the same bytes."""
    index = {column: i for i, column in enumerate(votes.tree.columns)}
    index_of_total = {question.total_column: i for i, question in enumerate(votes.tree.questions)}
    fractions = votes.fractions.astype(np.float32)
    arrays: list[pa.Array] = []
    for field in record.fields:
        arrow_type = schema.ARROW_TYPES[field.dtype]
        if field.name == "image":
            assert images is not None
            data = pa.array([one.data for one in images], pa.binary())
            names = pa.array([os.path.basename(name) for name in rows["image"]], pa.string())  # noqa: PTH119
            arrays.append(pa.StructArray.from_arrays([data, names], fields=list(arrow_type)))
            continue
        if field.name in rows.columns:
            values: object = rows[field.name].to_list() if field.dtype == "string" else rows[field.name].to_numpy()
        elif field.name == "summary":
            values = summary(votes.on(campaign.carried)).tolist()
        elif field.name in index:
            values = votes.counts[:, index[field.name]]
        elif field.name in index_of_total:
            values = votes.totals[:, index_of_total[field.name]]
        else:
            values = fractions[:, index[field.name.removesuffix("_fraction")]]
        arrays.append(pa.array(values, arrow_type, from_pandas=False))
    return pa.record_batch(arrays, schema=record.arrow())
