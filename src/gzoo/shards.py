"""Shards: the rows of a dataset, written as files that any process can make, in any order, again.

A build is cut into shards beforehand. What each needs lies in the folder of the work in progress: `plan.parquet` (which
galaxies, in their final order) and the votes. Writing a shard twice gives the same bytes, so a worker that dies costs
time and nothing else.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
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

from gzoo import schema, store
from gzoo.campaign import Campaign, Stretch
from gzoo.campaign import campaign as campaign_of
from gzoo.errors import MissingError, PictureError
from gzoo.images import check_picture, is_fits, shown
from gzoo.sources import Source
from gzoo.summaries import summary
from gzoo.trees import IntArray, Tree
from gzoo.votes import WELL_VOTED, Votes

ROWS_IN_BLOCK = 10_000  # whose labels are made at once
PICTURES_IN_TASK = 32  # fewer, and threads spend their time on being told what to do
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
class Layout:
    """How a dataset in the making is cut into shards, and where what is known of each lies.

    Attributes:
        folder: Of the work in progress, by the same name on every machine.
        campaign: Whose record the rows follow.
        has_pictures: Whether rows hold pictures.
        has_source_id: Whether rows hold the survey's own identifier.
        shards: All of them.
    """

    folder: Path
    campaign: str
    has_pictures: bool
    has_source_id: bool
    shards: tuple[Shard, ...]

    def facts_path(self, number: int) -> Path:
        """What was found in writing a shard; it is there when the shard is done."""
        return self.folder / store.WORK / f"shard-{number:05d}.json"

    def pictures_path(self, number: int) -> Path:
        """What each of its pictures is, a row each, at least the columns `PICTURES_SCHEMA`."""
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
        return schema.record(campaign_of(self.campaign), image=self.has_pictures, source_id=self.has_source_id)


@dataclass(frozen=True, slots=True)
class Job(Layout):
    """What a worker must know to write any shard of a build.

    Attributes:
        sources: Where pictures are read from; none for a dataset without pictures.
        is_decoded: Whether pictures are decoded to their last byte as a check, and not only their headers read.
        collected: Questions whose votes are known.
    """

    sources: tuple[Source, ...]
    is_decoded: bool
    collected: tuple[str, ...]

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


def write_shard(job: Job, number: int) -> None:
    """Write a shard and what was found in doing so, unless that is done."""
    if not job.facts_path(number).is_file():
        write_rows(job, number)()


def write_rows(job: Job, number: int, threads: int = 1, report: Report | None = None) -> Callable[[], None]:
    """Write the rows of a shard.

    Args:
        job: All shards.
        number: Which one.
        threads: How many threads read and check pictures.
        report: Called as the work goes on.

    Returns:
        What is left to do, while the next shard may be begun: wait for the disk, digest the file, and write what was
        found; with that the shard is done.
    """
    rows = job.plan(number)
    said, record = _Labels(job, rows), job.record.arrow()
    found: list[tuple[str, str, int, int, int, str]] = []
    with store.write_parquet(job.shard_path(number), record, is_flushed=False) as writer:
        for places, images in _groups(job, rows, found, threads, report):
            batch = said.of(places)
            columns = [
                *([] if images is None else [_image_array(images, rows["image"].gather(places))]),
                *batch.columns,
            ]
            writer.write_batch(pa.record_batch(columns, schema=record))
    places_of_votes = rows["place"]

    def close() -> None:
        store.flush(job.shard_path(number))
        tally = _tally(job, places_of_votes, [not problem for *_, problem in found])
        if job.sources:
            table = pl.DataFrame(found, schema=PICTURES_SCHEMA, orient="row")
            with store.whole_file(job.pictures_path(number)) as file:
                table.write_parquet(file)
        write_facts(job, number, tally)

    return close


def _tally(job: Job, places: pl.Series, is_good: list[bool]) -> Tally:
    tally = Tally(campaign_of(job.campaign).tree)
    used = places.filter(pl.Series(is_good)) if job.sources else places
    for start in range(0, len(used), ROWS_IN_BLOCK):
        tally.add(job.votes.take(used[start : start + ROWS_IN_BLOCK].to_numpy()))
    return tally


class Spread:
    """How many galaxies have how many votes on each question."""

    def __init__(self, n_questions: int) -> None:
        self._galaxies: list[Counter[int]] = [Counter() for _ in range(n_questions)]

    def add(self, totals: IntArray) -> None:
        """Count some rows: people who answered each question, shape (galaxy, question)."""
        for counter, column in zip(self._galaxies, totals.T, strict=True):
            values, galaxies = np.unique(column[column > 0], return_counts=True)
            counter.update(dict(zip(values.tolist(), galaxies.tolist(), strict=True)))

    def merge(self, question: int, pairs: Sequence[Sequence[int]]) -> None:
        """Add what was counted before; see `pairs`."""
        for n_votes, galaxies in pairs:
            self._galaxies[question][n_votes] += galaxies

    def pairs(self, question: int) -> list[list[int]]:
        """Numbers of votes that occur, and of how many galaxies each is."""
        return [[n_votes, galaxies] for n_votes, galaxies in sorted(self._galaxies[question].items())]

    def figures(self, question: int) -> tuple[int, int]:
        """How many galaxies have `WELL_VOTED` votes on a question, and the median number of those who were asked.

        The median is the lower of the two in the middle, and 0 where nobody was asked.

        >>> spread = Spread(1)
        >>> spread.add(np.array([[0], [4], [1], [9]]))
        >>> spread.figures(0)
        (1, 4)
        """
        n_well_voted = sum(galaxies for n_votes, galaxies in self.pairs(question) if n_votes >= WELL_VOTED)
        return n_well_voted, self._median(question)

    def _median(self, question: int) -> int:
        pairs = self.pairs(question)
        middle, passed = (sum(galaxies for _, galaxies in pairs) + 1) // 2, 0
        for n_votes, galaxies in pairs:
            passed += galaxies
            if passed >= middle:
                return n_votes
        return 0


class Tally:
    """Votes per question, summed over rows."""

    def __init__(self, tree: Tree) -> None:
        self.n_rows = self.n_breaking = 0
        self._tree = tree
        self._sums = np.zeros((3, len(tree.questions)), np.int64)
        self._spread = Spread(len(tree.questions))

    def add(self, votes: Votes) -> None:
        """Count some rows."""
        breaks = votes.breaks
        self.n_rows += len(votes)
        self.n_breaking += int(breaks.any(axis=1).sum())
        self._sums += [votes.totals.sum(axis=0), (votes.totals > 0).sum(axis=0), breaks.sum(axis=0)]
        self._spread.add(votes.totals)

    def questions(self) -> dict[str, list[int]]:
        """Question -> votes, galaxies asked, rows in which it has more votes than the tree allows."""
        return {one.name: self._sums[:, i].tolist() for i, one in enumerate(self._tree.questions)}

    def spread(self) -> dict[str, list[list[int]]]:
        """Question -> numbers of votes that occur, and of how many galaxies each is."""
        return {one.name: self._spread.pairs(i) for i, one in enumerate(self._tree.questions)}


def write_facts(layout: Layout, number: int, tally: Tally) -> None:
    """Write what was found in writing a shard; with that the shard is done."""
    path = layout.shard_path(number)
    facts: dict[str, object] = {
        "n_rows": tally.n_rows,
        "n_breaking": tally.n_breaking,
        "questions": tally.questions(),
        "spread": tally.spread(),
        "file": {"sha256": store.sha256(path), "bytes": path.stat().st_size},
    }
    store.write_json(layout.facts_path(number), facts)


class _Labels:
    """All columns of a shard but the picture. They are made for many rows at once, which is many times faster."""

    def __init__(self, job: Job, rows: pl.DataFrame) -> None:
        self._campaign, self._record, self._votes, self._rows = campaign_of(job.campaign), job.record, job.votes, rows
        self._blocks: dict[int, pa.RecordBatch] = {}

    def of(self, places: Sequence[int]) -> pa.RecordBatch:
        """The columns of some rows, which ascend; of rows before those of the last call nothing is kept."""
        parts: list[pa.RecordBatch] = []
        first, last = places[0] // ROWS_IN_BLOCK, places[-1] // ROWS_IN_BLOCK
        self._blocks = {i: self._blocks[i] if i in self._blocks else self._block(i) for i in range(first, last + 1)}
        for i, block in self._blocks.items():
            inside = [place - i * ROWS_IN_BLOCK for place in places if place // ROWS_IN_BLOCK == i]
            if inside and inside[-1] - inside[0] + 1 == len(inside):
                parts.append(block.slice(inside[0], len(inside)))
            elif inside:
                parts.append(block.take(pa.array(inside, pa.int64())))
        return parts[0] if len(parts) == 1 else pa.concat_batches(parts)

    def _block(self, number: int) -> pa.RecordBatch:
        rows = self._rows[number * ROWS_IN_BLOCK : (number + 1) * ROWS_IN_BLOCK]
        votes = self._votes.take(rows["place"].to_numpy())
        return labels(self._campaign, self._record, rows, votes)


def labels(campaign: Campaign, record: schema.Record, rows: pl.DataFrame, votes: Votes) -> pa.RecordBatch:
    """All columns of a record but the picture.

    Args:
        campaign: Whose record it is.
        record: What a row holds.
        rows: Identifiers and positions, under the record's names.
        votes: Votes of the same rows, on the carried questions at least.
    """
    index = {column: i for i, column in enumerate(votes.tree.columns)}
    index_of_total = {question.total_column: i for i, question in enumerate(votes.tree.questions)}
    fractions = votes.fractions.astype(np.float32)
    columns: dict[str, pa.Array] = {}
    for field in record.fields:
        if field.name == "image":
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
        columns[field.name] = pa.array(values, schema.ARROW_TYPES[field.dtype], from_pandas=False)
    return pa.record_batch(columns)


def _image_array(images: Sequence[_Picture], names: pl.Series) -> pa.Array:
    data = pa.array([one.data for one in images], pa.binary())
    paths = pa.array([_shown_name(name.rpartition("/")[2]) for name in names], pa.string())
    return pa.StructArray.from_arrays([data, paths], fields=list(schema.IMAGE_TYPE))


def _shown_name(name: str) -> str:
    return f"{name}.jpg" if is_fits(name) else name


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
    with ThreadPoolExecutor(threads) as pool:
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
    except OSError as error:  # a disk or a network that fails: no fault of the picture's
        raise MissingError(
            f"{job.sources[source].path} cannot be read any more: {error.strerror or error} (at {name!r}).",
            "The pictures that were listed when the build began.",
            "Mend that, and give the same command again: it goes on where it was.",
        ) from error
    digest = hashlib.sha256(data).hexdigest()
    source_digest = digest if data is read else hashlib.sha256(read).hexdigest()
    return _Picture(data, digest, source_digest, facts.width, facts.height, "")
