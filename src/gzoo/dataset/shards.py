"""Shards: the rows of a dataset as files that any process can write, in any order, and again after a failure.

The rows of each shard are decided beforehand. What a process needs is in the folder of the work in progress:
`plan.parquet` (the galaxies in their final order) and the votes. Writing a shard twice gives the same bytes, so a
worker that dies costs only time.
"""

from __future__ import annotations

import hashlib
import mmap
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from itertools import islice, pairwise
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from gzoo import cluster, files
from gzoo.dataset import schema
from gzoo.dataset.index import locate_images, numbers_of, write_index
from gzoo.dataset.schema import KEY
from gzoo.dataset.tally import Tally
from gzoo.errors import ImageError, NotFoundError
from gzoo.images.archives import Source
from gzoo.images.checks import Scratch, check_image
from gzoo.images.fits import is_fits, render
from gzoo.trees.campaign import Campaign
from gzoo.trees.definition import Stretch
from gzoo.trees.tree import IntArray, Tree
from gzoo.votes.summary import summary
from gzoo.votes.votes import Votes

ROWS_IN_BLOCK = 2_000
"""Rows whose labels are computed at once."""
ROWS_MAPPED = 250
"""Rows whose votes are mapped into memory at once."""
BYTES_IN_TASK = 8_000_000
"""Bytes of images that a thread reads at once."""
LABELS = "labels.parquet"
"""Table in the folder of the work in progress: the labels of each row of the table that they were read from."""
IMAGES_SCHEMA = {
    "sha256": pl.String,  # of the image as stored
    "source_sha256": pl.String,
    "bytes": pl.Int64,
    "width": pl.Int32,
    "height": pl.Int32,
    "is_rgb": pl.Boolean,
    "problem": pl.String,
}


@dataclass(frozen=True, slots=True)
class Shard:
    """Rows of the plan that become one file.

    Attributes:
        split: Their split.
        start: The first row.
        stop: The row after the last.
    """

    split: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Layout:
    """The shards of an unfinished dataset, and the files of each in the folder of the work in progress.

    Attributes:
        folder: That folder; it has the same path on every machine.
        campaign: The campaign whose columns the rows have.
        has_images: Whether rows contain images.
        has_source_id: Whether rows contain the survey's own identifier.
        shards: All shards.
    """

    folder: Path
    campaign: Campaign
    has_images: bool
    has_source_id: bool
    shards: tuple[Shard, ...]

    def _path(self, number: int, suffix: str) -> Path:
        return self.folder / files.WORK / f"shard-{number:05d}{suffix}"

    def result_path(self, number: int) -> Path:
        """Return the path of what `write_result` writes; the file exists when the shard is finished."""
        return self._path(number, ".json")

    def images_path(self, number: int) -> Path:
        """Return the path of a table with at least the columns `IMAGES_SCHEMA`, one row for each image."""
        return self._path(number, ".images.parquet")

    def index_path(self, number: int) -> Path:
        """Return the path of the index of a shard with images until it gets its final name."""
        return self._path(number, ".index.parquet")

    def shard_path(self, number: int) -> Path:
        """Return the path of a shard until it gets its final name."""
        return self._path(number, ".parquet")

    def plan(self, number: int) -> pl.DataFrame:
        """Return the galaxies of a shard, in order."""
        shard = self.shards[number]
        plan = pl.scan_parquet(self.folder / files.WORK / "plan.parquet", glob=False)
        return plan.slice(shard.start, shard.stop - shard.start).collect()

    @property
    def record(self) -> schema.Record:
        """The columns of a row."""
        return schema.record(self.campaign, image=self.has_images, source_id=self.has_source_id)


@dataclass(frozen=True, slots=True)
class Job(Layout):
    """What a worker needs to write any shard of a build.

    Attributes:
        sources: Where images are read from; empty for a dataset without images.
        is_decoded: Whether images are decoded completely as a check; otherwise only their headers are read.
        collected: Questions with known votes.
        versions: The result of `versions` when the build was started.
    """

    sources: tuple[Source, ...]
    is_decoded: bool
    collected: tuple[str, ...]
    versions: Mapping[str, str]

    @property
    def votes(self) -> VoteStore:
        """The votes of the table."""
        return VoteStore(self.folder / files.WORK, self.campaign.tree, self.collected)

    def labels(self, rows: pl.Series) -> pl.DataFrame:
        """Return the labels of some rows of the table; the first row is 0."""
        if not self.campaign.labels:
            return pl.DataFrame()
        return pl.read_parquet(self.folder / files.WORK / LABELS, glob=False)[rows]


_Task = TypeVar("_Task")
_Done = TypeVar("_Done")
_Counts = npt.NDArray[np.int32]


class VoteStore:
    """Votes on disk, in the order of the table they were read from."""

    def __init__(self, folder: Path, tree: Tree, collected: tuple[str, ...]) -> None:
        self._folder, self._tree, self._collected = folder, tree, collected

    @cached_property
    def _files(self) -> list[tuple[mmap.mmap, _Counts]]:
        return [
            _mapped(self._folder / "counts.int32", len(self._tree.columns)),
            _mapped(self._folder / "totals.int32", len(self._tree.questions)),
        ]

    def take(self, rows: IntArray) -> Votes:
        """Return the votes of some rows; the first row is 0."""
        if not self._tree.questions:  # a dataset of labels
            return Votes(self._tree, np.zeros((len(rows), 0), np.int64))
        counts, totals = (_taken(memory, numbers, rows) for memory, numbers in self._files)
        return Votes(self._tree, counts, totals, self._collected)


def _taken(memory: mmap.mmap, numbers: _Counts, rows: IntArray) -> IntArray:
    """Return some rows of a mapped file.

    They are read in the order of the file and a few at a time, because pages that were read (64 kB around each row)
    count as memory of this process until they are released.
    """
    taken = np.empty((len(rows), numbers.shape[1]), np.int64)
    order = np.argsort(rows)
    for start in range(0, len(rows), ROWS_MAPPED):
        some = order[start : start + ROWS_MAPPED]
        taken[some] = numbers[rows[some]]
        if hasattr(mmap, "MADV_DONTNEED"):  # missing on Windows
            memory.madvise(mmap.MADV_DONTNEED)
    return taken


def _mapped(path: Path, n_columns: int) -> tuple[mmap.mmap, _Counts]:
    with path.open("rb") as file:
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return memory, np.frombuffer(memory, np.int32).reshape(-1, n_columns)


_Found = tuple[str, str, int, int, int, bool, str]
"""A row of `IMAGES_SCHEMA`."""


@dataclass(frozen=True, slots=True)
class _Images:
    """Consecutive images that were read and checked.

    Attributes:
        found: A row for each image.
        kept: Row numbers, in the plan of the shard, of valid images.
        data: The bytes of valid images.
        names: The file names of valid images.
    """

    found: list[_Found]
    kept: list[int]
    data: _Buffer
    names: list[str]


Report = Callable[[int], None]
"""Function that is called with the number of rows finished since its last call."""


def versions() -> dict[str, str]:
    """Return the versions that must not change during a build, because they change the bytes of shards."""
    return {name: version(name) for name in ("gzoo", "pyarrow")}


def write_shard(job: Job, number: int) -> None:
    """Write a shard and its result unless they exist.

    Raises:
        MissingExtraError: This machine has other versions than the one that started the build.
    """
    cluster.require_versions(job.versions)
    if not job.result_path(number).is_file():
        with ThreadPoolExecutor(1) as pool:
            write_rows(job, number, pool, 1)()


def write_rows(
    job: Job, number: int, pool: ThreadPoolExecutor, threads: int, report: Report | None = None
) -> Callable[[], None]:
    """Write the rows of a shard.

    Args:
        job: All shards.
        number: Number of the shard.
        pool: Threads that read and check images. All shards share them, because each new thread would allocate memory
            of its own.
        threads: Number of these threads.
        report: Function for the progress.

    Returns:
        A function that finishes the shard: it waits for the disk and computes the checksum. The next shard may be
        started before it has ended.
    """
    rows = job.plan(number)
    campaign = job.campaign
    footer, found = _write_groups(job, number, rows, pool, threads, report)
    path, used, tally = job.shard_path(number), rows.select(*KEY, "vote_row"), Tally(campaign.tree)
    if job.sources:
        with files.whole_file(job.images_path(number)) as file:
            found.write_parquet(file)
        used = used.hstack(found).filter(pl.col("problem") == "")
    votes = _tallied(job, used["vote_row"], tally)
    if job.sources:
        locations = locate_images(path, footer, used["bytes"].to_numpy())
        numbers = (numbers_of(campaign.published_tree, some) for some in votes)
        write_index(job.index_path(number), path, job.record, campaign.published_tree, locations, used, numbers)
    else:
        deque(votes, maxlen=0)

    def close() -> None:
        files.flush(path)
        write_result(job, number, tally, int(found["bytes"].sum()))

    return close


def _write_groups(
    job: Job, number: int, rows: pl.DataFrame, pool: ThreadPoolExecutor, threads: int, report: Report | None
) -> tuple[pq.FileMetaData, pl.DataFrame]:
    """Write the file of a shard; return its footer, and a row for each image."""
    labels_of, record = _Labels(job, rows), job.record.arrow()
    found: list[_Found] = []
    with files.write_parquet(job.shard_path(number), record, is_flushed=False) as writer:
        for kept, images in _groups(job, rows, found, pool, threads, report):
            columns = [*([] if images is None else [images]), *labels_of(kept).columns]
            writer.write_batch(pa.record_batch(columns, schema=record))
    return writer.writer.metadata, pl.DataFrame(found, schema=IMAGES_SCHEMA, orient="row")


def _tallied(job: Job, vote_rows: pl.Series, tally: Tally) -> Iterator[Votes]:
    """Yield the votes of a shard in parts, each of which is added to the tally."""
    for start in range(0, len(vote_rows), ROWS_IN_BLOCK):
        votes = job.votes.take(vote_rows[start : start + ROWS_IN_BLOCK].to_numpy())
        tally.add(votes)
        yield votes


def write_result(layout: Layout, number: int, tally: Tally, image_bytes: int) -> None:
    """Write sums, size and checksum of a shard, which is then finished; `image_bytes` is the size of its images."""
    path = layout.shard_path(number)
    result: dict[str, object] = {
        "n_rows": tally.n_rows,
        "n_breaking": tally.n_breaking,
        "image_bytes": image_bytes,
        "questions": tally.questions(),
        "spread": tally.spread(),
        "file": {"sha256": files.sha256(path), "bytes": path.stat().st_size},
    }
    files.write_json(layout.result_path(number), result)


class _Labels:
    """All columns of a shard except the image, computed for many rows at once, which is many times faster."""

    def __init__(self, job: Job, rows: pl.DataFrame) -> None:
        self._campaign, self._record, self._votes, self._rows = job.campaign, job.record, job.votes, rows
        self._known = job.labels(rows["vote_row"])
        self._blocks: dict[int, pa.RecordBatch] = {}

    def __call__(self, kept: Sequence[int]) -> pa.RecordBatch:
        """Return the columns of some rows, whose numbers must increase from call to call."""
        parts: list[pa.RecordBatch] = []
        first, last = kept[0] // ROWS_IN_BLOCK, kept[-1] // ROWS_IN_BLOCK
        self._blocks = {i: self._blocks[i] if i in self._blocks else self._block(i) for i in range(first, last + 1)}
        for i, block in self._blocks.items():
            inside = [row - i * ROWS_IN_BLOCK for row in kept if row // ROWS_IN_BLOCK == i]
            if inside and inside[-1] - inside[0] + 1 == len(inside):
                parts.append(block.slice(inside[0], len(inside)))
            elif inside:
                parts.append(block.take(schema.array(np.array(inside), pa.int64())))
        return parts[0] if len(parts) == 1 else pa.concat_batches(parts)

    def _block(self, number: int) -> pa.RecordBatch:
        block = slice(number * ROWS_IN_BLOCK, (number + 1) * ROWS_IN_BLOCK)
        rows = self._rows[block]
        votes = self._votes.take(rows["vote_row"].to_numpy())
        return labels(self._campaign, self._record, rows, votes, self._known[block])


def labels(
    campaign: Campaign,
    record: schema.Record,
    rows: pl.DataFrame,
    votes: Votes,
    known: pl.DataFrame | None = None,
) -> pa.RecordBatch:
    """Return all columns of a record except the image.

    Args:
        campaign: The campaign of the record.
        record: The columns.
        rows: Identifiers and positions, with the names of the record.
        votes: Votes of the same rows, on at least the published questions.
        known: Labels of the same rows, for a dataset that was built from labels.
    """
    index = {column: i for i, column in enumerate(votes.tree.columns)}
    index_of_total = {question.total_column: i for i, question in enumerate(votes.tree.questions)}
    fractions = votes.fractions.astype(np.float32)
    columns: dict[str, pa.Array] = {}
    for field in record.fields:
        if field.name == "image":
            continue
        if known is not None and field.name in known.columns:
            values = known[field.name]
        elif field.name in rows.columns:
            values = rows[field.name]
        elif field.name == "summary":
            values = summary(votes.on(campaign.published_tree))
        elif field.name in index:
            values = votes.counts[:, index[field.name]]
        elif field.name in index_of_total:
            values = votes.totals[:, index_of_total[field.name]]
        else:
            values = fractions[:, index[field.name.removesuffix("_fraction")]]
        columns[field.name] = schema.array(values, schema.ARROW_TYPES[field.dtype])
    return pa.record_batch(columns)


def _groups(
    job: Job,
    rows: pl.DataFrame,
    found: list[_Found],
    pool: ThreadPoolExecutor,
    threads: int,
    report: Report | None,
) -> Iterator[tuple[list[int], pa.Array | None]]:
    """Yield the row numbers of each row group and their images, without rows whose image is not valid.

    A row for each image, valid or not, is appended to `found`.
    """
    if not job.sources:
        for start in range(0, rows.height, files.ROWS_IN_LARGE_GROUP):
            kept = list(range(start, min(start + files.ROWS_IN_LARGE_GROUP, rows.height)))
            yield kept, None
            if report:
                report(len(kept))
        return
    kept: list[int] = []
    waiting: list[pa.Array] = []
    free: SimpleQueue[_Buffer] = SimpleQueue()
    for done in _read_images(job, rows, free, pool, threads):
        found += done.found
        kept += done.kept
        images = _image_array(done)
        if not waiting and len(kept) == files.ROWS_IN_GROUP:  # the usual case, without a copy
            yield kept, images
            kept = []
        else:
            waiting.append(pa.concat_arrays([images, images[:0]]))  # a copy, because the buffer is used again
            while len(kept) >= files.ROWS_IN_GROUP:
                images = pa.concat_arrays(waiting)
                yield kept[: files.ROWS_IN_GROUP], images[: files.ROWS_IN_GROUP]
                kept, waiting = kept[files.ROWS_IN_GROUP :], [images[files.ROWS_IN_GROUP :]]
            waiting = waiting if kept else []
        del images
        free.put(done.data)
        if report:
            report(len(done.found))
    if kept:
        yield kept, pa.concat_arrays(waiting)


def _image_array(done: _Images) -> pa.Array:
    shown_names = [f"{name}.jpg" if is_fits(name) else name for name in done.names]
    names = schema.array([name.rpartition("/")[2] for name in shown_names], pa.string())
    return pa.StructArray.from_arrays([done.data.array(), names], fields=list(schema.IMAGE_TYPE))


def _read_images(
    job: Job, rows: pl.DataFrame, free: SimpleQueue[_Buffer], pool: ThreadPoolExecutor, threads: int
) -> Iterator[_Images]:
    """Yield the images of the rows in order, those of a row group at once if they are small.

    Images are read and checked slightly ahead. The caller puts buffers that it no longer needs into `free`.
    """
    stretch = job.campaign.stretch
    wanted = list(rows.select("source", "image").iter_rows())
    tasks = pairwise(_borders(rows["bytes"].to_list()))

    def work(task: tuple[int, int]) -> _Images:
        try:
            buffer = free.get_nowait()
        except Empty:
            buffer = _Buffer()
        return _checked(job, stretch, buffer, task[0], wanted[slice(*task)])

    return in_turn(work, tasks, pool, ahead=threads + 2)


def _borders(sizes: Sequence[int]) -> Iterator[int]:
    """Yield the borders of tasks of at most a row group, and of at most `BYTES_IN_TASK` unless one file is larger."""
    yield 0
    start = n_bytes = 0
    for i, size in enumerate(sizes):
        if i > start and (i - start == files.ROWS_IN_GROUP or n_bytes + size > BYTES_IN_TASK):
            yield i
            start, n_bytes = i, 0
        n_bytes += size
    if sizes:
        yield len(sizes)


def in_turn(
    work: Callable[[_Task], _Done], tasks: Iterator[_Task], pool: ThreadPoolExecutor, ahead: int
) -> Iterator[_Done]:
    """Yield the results of tasks in order, while a pool of threads works on up to `ahead` later ones."""
    waiting: deque[Future[_Done]] = deque(pool.submit(work, task) for task in islice(tasks, ahead))
    try:
        while waiting:
            done = waiting.popleft().result()
            waiting.extend(pool.submit(work, task) for task in islice(tasks, 1))
            yield done
    finally:
        for one in waiting:
            one.cancel()


class _Buffer:
    """Images one after the other in memory that is allocated once and used again after they were written.

    An allocator that several threads ask for so much in turn keeps twice the memory that is in use.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, BYTES_IN_TASK)
        self._ends = [0]

    def clear(self) -> None:
        """Remove all images; their array must not be used any more."""
        if len(self._memory) > BYTES_IN_TASK:
            self._memory = mmap.mmap(-1, BYTES_IN_TASK)
        self._ends = [0]

    def add(self, data: bytes) -> None:
        """Append an image."""
        start, end = self._ends[-1], self._ends[-1] + len(data)
        if end > len(self._memory):  # one large image, or images that grew since they were listed
            memory = mmap.mmap(-1, 2 * end)
            memory[:start] = self._memory[:start]
            self._memory = memory
        self._memory[start:end] = data
        self._ends.append(end)

    def array(self) -> pa.Array:
        """Return all images without a copy."""
        ends = pa.py_buffer(np.array(self._ends, np.int32))
        return pa.Array.from_buffers(pa.binary(), len(self._ends) - 1, [None, ends, pa.py_buffer(self._memory)])


def _checked(
    job: Job, stretch: Stretch | None, buffer: _Buffer, first: int, wanted: Sequence[tuple[int, str]]
) -> _Images:
    """Read and check images, given by source and name; `first` is the row number of the first one."""
    found: list[_Found] = []
    kept: list[int] = []
    scratch = Scratch()
    buffer.clear()
    for row, (source, name) in enumerate(wanted, first):
        try:
            read = job.sources[source].read(name)
            data = render(read, name, stretch)
            image = check_image(data, is_decoded=job.is_decoded, scratch=scratch)
        except ImageError as error:
            problem = error.message
        except FileNotFoundError:
            problem = "The file disappeared after images were listed."
        except PermissionError as error:
            problem = f"Cannot read the file: {error.strerror}."
        except OSError as error:  # the disk or network fails, so the image may be valid
            raise NotFoundError(
                f"Cannot read '{name}' from '{job.sources[source].path}': {error.strerror or error}.",
                "the images that were listed when the build started.",
                "Fix the cause, then rerun the same command to resume.",
            ) from error
        else:
            digest = hashlib.sha256(data).hexdigest()
            source_digest = digest if data is read else hashlib.sha256(read).hexdigest()
            found.append((digest, source_digest, len(data), image.width, image.height, image.is_rgb, ""))
            buffer.add(data)
            kept.append(row)
            continue
        found.append(("", "", 0, 0, 0, True, problem))
    return _Images(found, kept, buffer, [wanted[row - first][1] for row in kept])
