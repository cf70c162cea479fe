"""Shards: the rows of a dataset, written as files that any process can make, in any order, again.

A build is cut into shards beforehand. What each needs lies in the folder of the work in progress: `plan.parquet` (which
galaxies, in their final order) and the votes. Writing a shard twice gives the same bytes, so a worker that dies costs
time and nothing else.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from itertools import islice, pairwise
from mmap import ACCESS_READ, MADV_DONTNEED, mmap
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from gzoo import files
from gzoo.dataset import schema
from gzoo.dataset.index import images_in, numbers_of, write_index
from gzoo.dataset.schema import KEY
from gzoo.errors import ImageError, MissingExtraError, NotFoundError
from gzoo.images.archives import Source
from gzoo.images.checks import Scratch, check_image, is_fits, shown
from gzoo.trees.campaign import Campaign, Stretch
from gzoo.trees.campaign import campaign as campaign_of
from gzoo.trees.tree import IntArray, Tree
from gzoo.votes.summary import summary
from gzoo.votes.votes import WELL_VOTED, Votes

ROWS_IN_BLOCK = 2_000  # whose labels are made at once
ROWS_LOOKED_AT = 250  # whose votes are mapped into memory at once
BYTES_IN_TASK = 8_000_000  # of images that a thread reads in one go
IMAGES_SCHEMA = {
    "sha256": pl.String,  # of the image as stored
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
        has_images: Whether rows hold images.
        has_source_id: Whether rows hold the survey's own identifier.
        shards: All of them.
    """

    folder: Path
    campaign: str
    has_images: bool
    has_source_id: bool
    shards: tuple[Shard, ...]

    def facts_path(self, number: int) -> Path:
        """What was found in writing a shard; it is there when the shard is done."""
        return self.folder / files.WORK / f"shard-{number:05d}.json"

    def images_path(self, number: int) -> Path:
        """What each of its images is, a row each, at least the columns `IMAGES_SCHEMA`."""
        return self.folder / files.WORK / f"shard-{number:05d}.images.parquet"

    def index_path(self, number: int) -> Path:
        """Its index, where it has images, until that is moved to its final name."""
        return self.folder / files.WORK / f"shard-{number:05d}.index.parquet"

    def shard_path(self, number: int) -> Path:
        """The shard, until it is moved to its final name."""
        return self.folder / files.WORK / f"shard-{number:05d}.parquet"

    def plan(self, number: int) -> pl.DataFrame:
        """The galaxies of a shard, in order."""
        shard = self.shards[number]
        plan = pl.scan_parquet(self.folder / files.WORK / "plan.parquet", glob=False)
        return plan.slice(shard.start, shard.stop - shard.start).collect()

    @property
    def record(self) -> schema.Record:
        """What a row holds."""
        return schema.record(campaign_of(self.campaign), image=self.has_images, source_id=self.has_source_id)


@dataclass(frozen=True, slots=True)
class Job(Layout):
    """What a worker must know to write any shard of a build.

    Attributes:
        sources: Where images are read from; none for a dataset without images.
        is_decoded: Whether images are decoded to their last byte as a check, and not only their headers read.
        collected: Questions whose votes are known.
        made_with: What it was begun with; see `made_with`.
    """

    sources: tuple[Source, ...]
    is_decoded: bool
    collected: tuple[str, ...]
    made_with: Mapping[str, str]

    @property
    def votes(self) -> VoteStore:
        """The votes of the table."""
        return VoteStore(self.folder / files.WORK, campaign_of(self.campaign).tree, self.collected)


_Task = TypeVar("_Task")
_Done = TypeVar("_Done")
_Counts = npt.NDArray[np.int32]


class VoteStore:
    """Votes on disk, in the order of the table they were read from."""

    def __init__(self, folder: Path, tree: Tree, collected: tuple[str, ...]) -> None:
        self._folder, self._tree, self._collected = folder, tree, collected

    @cached_property
    def _files(self) -> list[tuple[mmap, _Counts]]:
        return [
            _mapped(self._folder / "counts.int32", len(self._tree.columns)),
            _mapped(self._folder / "totals.int32", len(self._tree.questions)),
        ]

    def take(self, rows: IntArray) -> Votes:
        """The votes of some rows; the first is 0."""
        counts, totals = (_taken(memory, numbers, rows) for memory, numbers in self._files)
        return Votes(self._tree, counts, totals, self._collected)


def _taken(memory: mmap, numbers: _Counts, rows: IntArray) -> IntArray:
    """Some rows of a file, looked at in its order and not all at once.

    What was looked at counts as this process's own, with 64 kB around each row.
    """
    taken = np.empty((len(rows), numbers.shape[1]), np.int64)
    order = np.argsort(rows)
    for start in range(0, len(rows), ROWS_LOOKED_AT):
        some = order[start : start + ROWS_LOOKED_AT]
        taken[some] = numbers[rows[some]]
        memory.madvise(MADV_DONTNEED)
    return taken


def _mapped(path: Path, n_columns: int) -> tuple[mmap, _Counts]:
    with path.open("rb") as file:
        memory = mmap(file.fileno(), 0, access=ACCESS_READ)
    return memory, np.frombuffer(memory, np.int32).reshape(-1, n_columns)


@dataclass(frozen=True, slots=True)
class _Images:
    """What became of some images in turn.

    Attributes:
        found: What each is, as `IMAGES_SCHEMA` has it.
        places: In the shard's plan, of those that are of use.
        data: Their bytes.
        names: Of their files.
    """

    found: list[tuple[str, str, int, int, int, str]]
    places: list[int]
    data: _Joined
    names: list[str]


Report = Callable[[int], None]
"""Called with the number of rows that were dealt with since it was last called."""


def made_with() -> dict[str, str]:
    """The versions that must stay the same while a dataset is made, or its bytes are those of neither."""
    return {name: version(name) for name in ("gzoo", "pyarrow")}


def write_shard(job: Job, number: int) -> None:
    """Write a shard and what was found in doing so, unless that is done.

    Raises:
        MissingExtraError: This machine has other versions than the one where the work was begun.
    """
    for name, found in made_with().items():
        if found != job.made_with[name]:
            raise MissingExtraError(
                f"A worker has {name} {found}, and the build was begun with {name} {job.made_with[name]}.",
                "The same version on every machine: it stands in each file.",
                f"Type on the worker's machine: pip install {name}=={job.made_with[name]}",
            )
    if not job.facts_path(number).is_file():
        with ThreadPoolExecutor(1) as pool:
            write_rows(job, number, pool, 1)()


def write_rows(
    job: Job, number: int, pool: ThreadPoolExecutor, threads: int, report: Report | None = None
) -> Callable[[], None]:
    """Write the rows of a shard.

    Args:
        job: All shards.
        number: Which one.
        pool: Whose threads read and check images; the same for all shards, for each new thread would begin with
            memory of its own.
        threads: How many it has.
        report: Called as the work goes on.

    Returns:
        What is left to do, while the next shard may be begun: wait for the disk, and digest the file; with that the
        shard is done.
    """
    rows = job.plan(number)
    footer, table = _write_groups(job, number, rows, pool, threads, report)
    path, used, tally = job.shard_path(number), rows.select(*KEY, "place"), Tally(campaign_of(job.campaign).tree)
    image_bytes = int(table["bytes"].sum())
    if job.sources:
        with files.whole_file(job.images_path(number)) as file:
            table.write_parquet(file)
        good = used.hstack(table).filter(pl.col("problem") == "")
        images = images_in(path, footer=footer, lengths=good["bytes"].to_numpy())
        assert images
        carried = campaign_of(job.campaign).published_tree
        numbers = (numbers_of(carried, votes) for votes in _counted(job, good["place"], tally))
        write_index(job.index_path(number), path, job.record, carried, images, good, numbers)
    else:
        for _ in _counted(job, used["place"], tally):
            pass

    def close() -> None:
        files.flush(path)
        write_facts(job, number, tally, image_bytes)

    return close


def _write_groups(
    job: Job, number: int, rows: pl.DataFrame, pool: ThreadPoolExecutor, threads: int, report: Report | None
) -> tuple[pq.FileMetaData, pl.DataFrame]:
    """Write the file of a shard; what its footer says, and what each image is."""
    said, record = _Labels(job, rows), job.record.arrow()
    found: list[tuple[str, str, int, int, int, str]] = []
    with files.write_parquet(job.shard_path(number), record, is_flushed=False) as writer:
        for places, images in _groups(job, rows, found, pool, threads, report):
            columns = [*([] if images is None else [images]), *said.of(places).columns]
            writer.write_batch(pa.record_batch(columns, schema=record))
    return writer.writer.metadata, pl.DataFrame(found, schema=IMAGES_SCHEMA, orient="row")


def _counted(job: Job, places: pl.Series, tally: Tally) -> Iterator[Votes]:
    """The votes of a shard's rows, some at a time, each of which is added to the tally."""
    for start in range(0, len(places), ROWS_IN_BLOCK):
        votes = job.votes.take(places[start : start + ROWS_IN_BLOCK].to_numpy())
        tally.add(votes)
        yield votes


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


def write_facts(layout: Layout, number: int, tally: Tally, image_bytes: int) -> None:
    """Write what was found in writing a shard, whose images have so many bytes; with that the shard is done."""
    path = layout.shard_path(number)
    facts: dict[str, object] = {
        "n_rows": tally.n_rows,
        "n_breaking": tally.n_breaking,
        "image_bytes": image_bytes,
        "questions": tally.questions(),
        "spread": tally.spread(),
        "file": {"sha256": files.sha256(path), "bytes": path.stat().st_size},
    }
    files.write_json(layout.facts_path(number), facts)


class _Labels:
    """All columns of a shard but the image. They are made for many rows at once, which is many times faster."""

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
                parts.append(block.take(schema.array(np.array(inside), pa.int64())))
        return parts[0] if len(parts) == 1 else pa.concat_batches(parts)

    def _block(self, number: int) -> pa.RecordBatch:
        rows = self._rows[number * ROWS_IN_BLOCK : (number + 1) * ROWS_IN_BLOCK]
        votes = self._votes.take(rows["place"].to_numpy())
        return labels(self._campaign, self._record, rows, votes)


def labels(campaign: Campaign, record: schema.Record, rows: pl.DataFrame, votes: Votes) -> pa.RecordBatch:
    """All columns of a record but the image.

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


def _copied(images: pa.Array) -> pa.Array:
    return pa.concat_arrays([images, images[:0]])


def _shown_name(name: str) -> str:
    return f"{name}.jpg" if is_fits(name) else name


def _groups(
    job: Job,
    rows: pl.DataFrame,
    found: list[tuple[str, str, int, int, int, str]],
    pool: ThreadPoolExecutor,
    threads: int,
    report: Report | None,
) -> Iterator[tuple[list[int], pa.Array | None]]:
    """The rows of each row group, and their images; rows whose image is of no use are passed over.

    What each image is, of use or not, is added to `found`.
    """
    if not job.sources:
        for start in range(0, rows.height, files.ROWS_IN_LARGE_GROUP):
            places = list(range(start, min(start + files.ROWS_IN_LARGE_GROUP, rows.height)))
            yield places, None
            if report:
                report(len(places))
        return
    places: list[int] = []
    waiting: list[pa.Array] = []
    free: SimpleQueue[_Joined] = SimpleQueue()
    for done in _read_images(job, rows, free, pool, threads):
        found += done.found
        places += done.places
        images = _image_array(done)
        if not waiting and len(places) == files.ROWS_IN_GROUP:  # as most are
            yield places, images
            places = []
        else:
            waiting.append(_copied(images))
            while len(places) >= files.ROWS_IN_GROUP:
                images = pa.concat_arrays(waiting)
                yield places[: files.ROWS_IN_GROUP], images[: files.ROWS_IN_GROUP]
                places, waiting = places[files.ROWS_IN_GROUP :], [images[files.ROWS_IN_GROUP :]]
            waiting = waiting if places else []
        del images
        free.put(done.data)
        if report:
            report(len(done.found))
    if places:
        yield places, pa.concat_arrays(waiting)


def _image_array(done: _Images) -> pa.Array:
    names = schema.array([_shown_name(name.rpartition("/")[2]) for name in done.names], pa.string())
    return pa.StructArray.from_arrays([done.data.array(), names], fields=list(schema.IMAGE_TYPE))


def _read_images(
    job: Job, rows: pl.DataFrame, free: SimpleQueue[_Joined], pool: ThreadPoolExecutor, threads: int
) -> Iterator[_Images]:
    """The rows' images in turn, read and checked a little ahead, those of a row group at once if they are small.

    Whoever is done with some puts their memory among what is free.
    """
    stretch = campaign_of(job.campaign).stretch
    wanted = list(rows.select("source", "image").iter_rows())
    tasks = pairwise(_borders(rows["bytes"].to_list()))

    def work(task: tuple[int, int]) -> _Images:
        try:
            joined = free.get_nowait()
        except Empty:
            joined = _Joined()
        return _checked(job, stretch, joined, task[0], wanted[slice(*task)])

    return in_turn(work, tasks, pool, ahead=threads + 2)


def _borders(sizes: Sequence[int]) -> Iterator[int]:
    """Where tasks begin and end that hold no more than a row group, nor more than `BYTES_IN_TASK` but for one file."""
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
    """What a pool's threads make of tasks, in their order; so many are taken up before they are asked for."""
    waiting: deque[Future[_Done]] = deque(pool.submit(work, task) for task in islice(tasks, ahead))
    try:
        while waiting:
            done = waiting.popleft().result()
            waiting.extend(pool.submit(work, task) for task in islice(tasks, 1))
            yield done
    finally:
        for one in waiting:
            one.cancel()


class _Joined:
    """Images put one after the other into memory that is taken at once, and used again when they are written.

    An allocator that is asked for so much by several threads in turn keeps twice of what it is asked for.
    """

    def __init__(self) -> None:
        self._memory = mmap(-1, BYTES_IN_TASK)
        self._ends = [0]

    def clear(self) -> None:
        """Forget all of them; nothing may look at their array any more."""
        if len(self._memory) > BYTES_IN_TASK:
            self._memory = mmap(-1, BYTES_IN_TASK)
        self._ends = [0]

    def add(self, data: bytes) -> None:
        """Put another one behind the others."""
        start, end = self._ends[-1], self._ends[-1] + len(data)
        if end > len(self._memory):  # a large image, or larger ones than were listed
            memory = mmap(-1, 2 * end)
            memory[:start] = self._memory[:start]
            self._memory = memory
        self._memory[start:end] = data
        self._ends.append(end)

    def array(self) -> pa.Array:
        """All of them."""
        ends = pa.py_buffer(np.array(self._ends, np.int32))
        return pa.Array.from_buffers(pa.binary(), len(self._ends) - 1, [None, ends, pa.py_buffer(self._memory)])


def _checked(job: Job, stretch: Stretch, good: _Joined, first: int, wanted: Sequence[tuple[int, str]]) -> _Images:
    """Images read and checked, by source and name; `first` is the place of the first, `good` is to hold them."""
    found: list[tuple[str, str, int, int, int, str]] = []
    places: list[int] = []
    scratch = Scratch()
    good.clear()
    for place, (source, name) in enumerate(wanted, first):
        try:
            read = job.sources[source].read(name)
            data = shown(read, name, stretch)
            facts = check_image(data, is_decoded=job.is_decoded, scratch=scratch)
        except ImageError as error:
            found.append(_unusable(str(error)))
        except FileNotFoundError:
            found.append(_unusable("is gone since images were listed"))
        except PermissionError as error:
            found.append(_unusable(f"cannot be read: {error.strerror}"))
        except OSError as error:  # a disk or a network that fails: no fault of the image's
            raise NotFoundError(
                f"{job.sources[source].path} cannot be read any more: {error.strerror or error} (at {name!r}).",
                "The images that were listed when the build began.",
                "Mend that, and give the same command again: it goes on where it was.",
            ) from error
        else:
            digest = hashlib.sha256(data).hexdigest()
            source_digest = digest if data is read else hashlib.sha256(read).hexdigest()
            found.append((digest, source_digest, len(data), facts.width, facts.height, ""))
            good.add(data)
            places.append(place)
    return _Images(found, places, good, [wanted[place - first][1] for place in places])


def _unusable(problem: str) -> tuple[str, str, int, int, int, str]:
    return "", "", 0, 0, 0, problem
