"""A survey of galaxies that never were, whose true answers are known: the referee of everything else in gzoo.

`galaxies` draws physical parameters and `sky_positions` puts them on the sky, `survey` and `camera` take images of
them and say what can be seen, `volunteers` answers questions about that, and `export` writes the answers as Zooniverse
would. Nothing here knows what a model is.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, fields, replace
from functools import cache
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gzoo import files
from gzoo.errors import GZooError, InputError, NotFoundError, WriteError
from gzoo.simulator import positions
from gzoo.simulator.camera import draw_image, jpeg_bytes, visible
from gzoo.simulator.export import Exporter, Subjects, classification_header, volunteer_name, workflow_export
from gzoo.simulator.galaxies import Galaxy, draw_galaxy
from gzoo.simulator.survey import SurveyView, survey_view
from gzoo.simulator.volunteers import (
    KINDS,
    N_VOLUNTEERS,
    Sights,
    careful_chances,
    careful_log_odds,
    click,
    kind_chances,
    parts,
    pool,
    population_chances,
)
from gzoo.trees.campaign import campaign as campaign_of
from gzoo.trees.tree import FloatArray, IntArray, Tree

__all__ = ["Galaxy", "SimulateResult", "simulate"]

SIMULATOR = "2"
"""Version of this simulated sky; it changes whenever the same seed would give other files."""

_BLOCK = 64
"""Galaxies whose votes are drawn together. A block is always drawn whole, so that no galaxy depends on `n_galaxies`."""
_ROWS_IN_GROUP = 128 * _BLOCK
# A stream of chance each, so that a change of the camera leaves galaxies and votes as they were.
_GALAXY, _SKY, _VOLUNTEER, _CAMERA, _SCATTER, _HASTE = range(6)

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class SimulateResult:
    """A finished simulation on disk.

    Attributes:
        folder: The folder that holds everything.
        campaign: The campaign whose questions were asked.
        n_galaxies: Number of galaxies.
        n_classifications: Number of classifications, repeated ones included.
        seed: What the chance came from.
    """

    folder: Path
    campaign: str
    n_galaxies: int
    n_classifications: int
    seed: int

    @property
    def images(self) -> Path:
        """The folder of JPEG images, one `{id_str}.jpg` a galaxy; not there without images."""
        return self.folder / "images"

    @property
    def votes(self) -> Path:
        """The Parquet file of vote counts, as one would have them of a real campaign."""
        return self.folder / "votes.parquet"

    @property
    def truth(self) -> Path:
        """The Parquet file of what no real campaign knows: parameters, probabilities and reach."""
        return self.folder / "truth.parquet"

    @property
    def volunteers(self) -> Path:
        """The Parquet file of the volunteers who classified anything."""
        return self.folder / "volunteers.parquet"

    @property
    def classifications(self) -> Path:
        """The classification export, CSV as from Zooniverse; not there without export."""
        return self.folder / "classifications.csv"

    @property
    def workflows(self) -> Path:
        """The workflow export that goes with it."""
        return self.folder / "workflows.csv"


def simulate(
    campaign: str,
    *,
    n_galaxies: int,
    seed: int = 0,
    workers: int = 1,
    out: Path | str,
    images: bool = True,
    export: bool = True,
    galaxies_from: Path | str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> SimulateResult:
    """Simulate a campaign: images, classifications, votes and the truth behind them.

    Galaxy `i` of a seed is the same whatever `n_galaxies` and `workers` are, and so are its votes and its image's bytes. A
    simulation that was interrupted goes on where it stopped when it is called again with the same arguments.

    The folder holds

    - `images/{id_str}.jpg`, 424 pixels wide and high;
    - `classifications.csv` and `workflows.csv`: every click, as Zooniverse exports them;
    - `votes.parquet`: identifiers, position (degrees) and a count per answer. The second click of one volunteer on one
      galaxy is left out; robots count as the people they pass for;
    - `truth.parquet`: the physical parameters (`Galaxy`), the part of the campaign that asked (`asked_in`), and for
      each answer, given that its question is asked, `{column}_probability_careful` for a careful volunteer and
      `{column}_probability` for a click of the whole population, robots included; `{question}_proportion_asked_careful` and
      `{question}_proportion_volunteers_asked`, the chance of being asked where the galaxy is shown with those questions;
    - `volunteers.parquet`: care, leaning, whether a robot, whether not logged in, number of classifications;
    - `simulation.json`. All say that they are a simulation.

    Args:
        campaign: The campaign whose images are taken and whose questions are asked.
        n_galaxies: Number of galaxies.
        seed: What all chance comes from, at least 0.
        workers: Number of processes. With more than one, a script must guard its own start with
            `if __name__ == "__main__":`, for each worker imports it.
        out: The folder to make.
        images: Whether to take images, by far the longest part.
        export: Whether to write the classification and workflow exports, by far the largest files without images.
        galaxies_from: A finished simulation whose first `n_galaxies` galaxies are observed again by this campaign, at positions
            as another survey would measure them, with identifiers of its own (`source_id_str` in the truth names the
            source's).
        overwrite: Replace an earlier simulation at `out`.
        progress: Called with (galaxies done, galaxies in all) after each block of galaxies.

    Returns:
        Where the files are.

    Raises:
        NotFoundError: There is no such campaign, or no folder `galaxies_from`.
        InputError: An argument is out of range, or `galaxies_from` is no simulation of at least `n_galaxies` galaxies.
        OutputExistsError: `out` holds something already.
        WriteError: `out` cannot be written. What was begun is removed.
    """
    members = campaign_of(campaign).members
    if members:
        raise InputError(
            f"Campaign {campaign!r} is a union of others and has no volunteers of its own.",
            f"One of its members: {', '.join(members)}.",
            "Simulate its members, one by one.",
        )
    _require(n_galaxies, "n_galaxies", 1)
    _require(seed, "seed", 0)
    _require(workers, "workers", 1)
    facts: dict[str, object] = {
        "kind": "simulation",
        "simulator": SIMULATOR,
        "campaign": campaign,
        "n_galaxies": n_galaxies,
        "seed": seed,
        "images": images,
        "export": export,
    }
    source = Path(galaxies_from) if galaxies_from is not None else None
    if source is not None:
        facts["galaxies_from"] = _source_facts(source, n_galaxies)

    folder = Path(out)
    with (
        _written_or_removed(folder),
        files.work(folder, kind="simulation", begun=facts, overwrite=overwrite) as partial,
    ):
        job = _Job(campaign, seed, n_galaxies, partial / "images" if images else None, export, source is not None)
        if job.images is not None:
            job.images.mkdir(exist_ok=True)
        clicks_of, clicks_in = np.zeros(N_VOLUNTEERS, np.int64), np.zeros(len(parts(job.tree)), np.int64)
        n_done = 0
        with contextlib.ExitStack() as stack:
            votes = _Rows(partial / "votes.parquet", facts, stack)
            truth = _Rows(partial / "truth.parquet", facts, stack)
            csv: BinaryIO | None = None
            if export:
                csv = stack.enter_context(_whole_file(partial / "classifications.csv"))
                csv.write(classification_header())
            for one in stack.enter_context(_observed(job, source, workers)):
                votes.add(one.votes)
                truth.add(one.truth)
                if csv is not None:
                    csv.write(one.classifications)
                clicks_of += one.clicks_of
                clicks_in += one.clicks_in
                n_done += len(one.votes)
                if progress is not None:
                    progress(n_done, n_galaxies)
            votes.flush()
            truth.flush()
        if export:
            files.write_bytes(partial / "workflows.csv", workflow_export(campaign, n_galaxies, clicks_in))
        _write_volunteers(partial / "volunteers.parquet", seed, clicks_of, facts)
        n_clicks = int(clicks_of.sum())
        if hasattr(os, "sync"):  # Windows has none
            os.sync()  # images reach the disk before the mark that says all is done
        files.write_json(partial / files.MARKS["simulation"], facts | {"n_classifications": n_clicks})
    return SimulateResult(folder, campaign, n_galaxies, n_clicks, seed)


def galaxy_id(campaign: str, seed: int, index: int) -> str:
    """The `id_str` of a simulated galaxy.

    >>> galaxy_id("gz2", 0, 123)
    'simulated-gz2-0-000123'
    """
    return f"simulated-{campaign}-{seed}-{index:06d}"


@dataclass(frozen=True, slots=True)
class _Job:
    """What a worker must know to observe any block of galaxies."""

    campaign: str
    seed: int
    n: int
    images: Path | None
    export: bool
    is_seen_before: bool

    @property
    def tree(self) -> Tree:
        return campaign_of(self.campaign).tree

    def chance(self, stream: int, number: int) -> np.random.Generator:
        """The chance of one galaxy or block; `number` is its index."""
        return np.random.default_rng([*self.key(stream), number])

    def key(self, stream: int) -> list[int]:
        return [stream, zlib.crc32(self.campaign.encode()), self.seed]


@dataclass(frozen=True, slots=True)
class _Observed:
    """What is kept of a block of galaxies besides its images."""

    votes: pa.RecordBatch
    truth: pa.RecordBatch
    classifications: bytes
    clicks_of: IntArray  # shape (volunteer,)
    clicks_in: IntArray  # shape (part,)


@contextlib.contextmanager
def _observed(job: _Job, source: Path | None, workers: int) -> Generator[Iterator[_Observed]]:
    """All blocks in order; only a few wait in memory."""
    blocks = range(-(-job.n // _BLOCK))
    tasks = ((job, block, rows) for block, rows in zip(blocks, _source_rows(source), strict=False))
    if workers == 1:
        yield (_observe(*task) for task in tasks)
        return

    # Spawned workers start clean: forked ones would inherit the locks of whatever threads the caller runs.
    executor = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_end_quietly)

    def results() -> Iterator[_Observed]:
        waiting: deque[Future[_Observed]] = deque()
        waiting.extend(executor.submit(_observe, *task) for task in islice(tasks, 2 * workers + 2))
        while waiting:
            one = waiting.popleft().result()
            waiting.extend(executor.submit(_observe, *task) for task in islice(tasks, 1))
            yield one

    try:
        yield results()
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _is_whole(image: Path) -> bool:
    """Whether an image was taken before, and survived a loss of power: its last bytes are a JPEG's end."""
    try:
        with image.open("rb") as file:
            file.seek(-2, os.SEEK_END)
            return file.read() == b"\xff\xd9"
    except OSError:
        return False


def _end_quietly() -> None:
    """Let a worker die of Ctrl-C without a word; whoever started it has heard it too, and says so."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _observe(job: _Job, block: int, source: pa.RecordBatch | None) -> _Observed:
    """Draw a block of galaxies, ask the volunteers, and take the images an interrupted call has not taken."""
    tree, view, volunteers = job.tree, survey_view(job.campaign), pool(job.seed)
    first = block * _BLOCK
    size = min(_BLOCK, job.n - first)
    ids = [galaxy_id(job.campaign, job.seed, first + i) for i in range(size)]
    source_ids: list[str] = []
    if source is None:
        galaxies = [draw_galaxy(job.chance(_GALAXY, first + i), view) for i in range(size)]
        ra, dec = positions.places(job.campaign, job.key(_SKY), block, _BLOCK)
        ra, dec = ra[:size], dec[:size]
    else:
        rows = source.slice(0, size).to_pylist()
        source_ids = [str(row.pop("id_str")) for row in rows]
        galaxies = [_seen_again(Galaxy(**row), view) for row in rows]
        place = np.array([(galaxy.ra, galaxy.dec) for galaxy in galaxies] + [(0.0, 0.0)] * (_BLOCK - size)).T
        ra, dec = positions.scattered(place[0], place[1], job.chance(_SCATTER, block))
        ra, dec = ra[:size], dec[:size]

    sights = Sights.of(galaxies, [visible(galaxy, view) for galaxy in galaxies])
    log_odds = careful_log_odds(tree, sights)
    chances = kind_chances(tree, log_odds)
    unused = np.zeros((_BLOCK - size, *chances.shape[1:]))
    part, clicks = click(tree, np.concatenate([chances, unused]), volunteers, size, job.chance(_VOLUNTEER, block))
    if job.images is not None:
        for i, galaxy in enumerate(galaxies):
            path = job.images / f"{ids[i]}.jpg"
            if not _is_whole(path):
                taken = jpeg_bytes(draw_image(galaxy, view, job.chance(_CAMERA, first + i)))
                files.write_bytes(path, taken, is_flushed=False)  # all are flushed at the end
    classifications = b""
    if job.export:
        subjects = Subjects(first, ids, ra, dec, part)
        classifications = _exporter(job.campaign, job.seed).rows(clicks, subjects, job.chance(_HASTE, block), _BLOCK)
    careful = careful_chances(tree, log_odds)
    population, proportion_asked = population_chances(tree, chances, volunteers.fractions)
    places: dict[str, object] = {"ra": ra, "dec": dec}
    truth: dict[str, object] = {"id_str": ids}
    if source is not None:
        truth["source_id_str"] = source_ids
    truth |= sights.galaxy
    truth |= places
    truth["asked_in"] = [parts(tree)[i].name for i in part]
    truth |= _named([f"{column}_probability_careful" for column in tree.columns], careful)
    truth |= _named([f"{column}_probability" for column in tree.columns], population)
    truth |= _named(
        [f"{question.name}_proportion_volunteers_asked_careful" for question in tree.questions],
        tree.proportion_asked(careful),
    )
    truth |= _named([f"{question.name}_proportion_volunteers_asked" for question in tree.questions], proportion_asked)
    return _Observed(
        votes=_votes(job, ids, places, clicks.counts(size)),
        truth=pa.RecordBatch.from_pydict(truth),
        classifications=classifications,
        clicks_of=np.bincount(clicks.volunteer, minlength=N_VOLUNTEERS),
        clicks_in=np.bincount(part[clicks.galaxy], minlength=len(parts(tree))),
    )


@cache
def _exporter(campaign: str, seed: int) -> Exporter:
    return Exporter(campaign, seed, pool(seed))


def _seen_again(galaxy: Galaxy, view: SurveyView) -> Galaxy:
    """A galaxy as another survey meets it: its own blur, and not the satellites of that night."""
    return replace(
        galaxy,
        seeing_arcsec=view.psf_fwhm_arcsec,
        artifact=galaxy.artifact if galaxy.artifact in {"star", "saturation", "spikes"} else "",
    )


def _votes(job: _Job, ids: list[str], places: dict[str, object], counts: IntArray) -> pa.RecordBatch:
    tree = job.tree
    totals = tree.totals(counts)
    columns: dict[str, object] = {
        "id_str": ids,
        "dataset_name": [f"{job.campaign}_simulated"] * len(ids),
        **places,
        "filename": [f"{one}.jpg" for one in ids],
    }
    columns |= {column: counts[:, i].astype(np.int32) for i, column in enumerate(tree.columns)}
    # Elsewhere the total is the sum of the counts; here some people gave several answers and some none.
    columns |= {
        question.total_column: totals[:, i].astype(np.int32)
        for i, question in enumerate(tree.questions)
        if question.multiple
    }
    return pa.RecordBatch.from_pydict(columns)


def _named(names: list[str], values: FloatArray) -> dict[str, object]:
    return {name: values[:, i].astype(np.float32) for i, name in enumerate(names)}


def _write_volunteers(path: Path, seed: int, clicks_of: IntArray, facts: dict[str, object]) -> None:
    """The volunteers who classified anything, with their traits."""
    volunteers = pool(seed)
    met = np.flatnonzero(clicks_of)
    kinds = [KINDS[kind] for kind in volunteers.kind[met]]
    columns: dict[str, object] = {
        "name": [volunteer_name(int(j), bool(volunteers.is_anonymous[j])) for j in met],
        "care": np.array([kind.care for kind in kinds], np.float64),
        "leaning": np.array([kind.leaning for kind in kinds], np.float64),
        "is_bot": [kind.bot != "" for kind in kinds],
        "bot": [kind.bot for kind in kinds],
        "is_anonymous": volunteers.is_anonymous[met],
        "n_classifications": clicks_of[met],
    }
    with contextlib.ExitStack() as stack:
        rows = _Rows(path, facts, stack)
        rows.add(pa.RecordBatch.from_pydict(columns))
        rows.flush()


# ---- the galaxies of another simulation ------------------------------------------------------------------------------


def _source_facts(folder: Path, n: int) -> dict[str, object]:
    """What an earlier simulation is; refuses what is none, or too small."""
    if not folder.is_dir():
        raise NotFoundError(f"There is no folder {folder}.", "A folder made by `gzoo simulate`.", "Check the path.")
    mark = folder / files.MARKS["simulation"]
    if not mark.is_file() or not (folder / "truth.parquet").is_file():
        raise InputError(
            f"{folder} is not a finished simulation: it lacks {mark.name} or truth.parquet.",
            "A folder made by `gzoo simulate`.",
            "Check --galaxies-from.",
        )
    facts = files.read_json(mark)
    try:
        table = pq.ParquetFile(folder / "truth.parquet")
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"{folder / 'truth.parquet'} cannot be read: {error}.", "The truth of a simulation.", "Simulate it again."
        ) from error
    with table:
        missing = [name for name in _SOURCE_COLUMNS if name not in table.schema_arrow.names]
        n_rows = table.metadata.num_rows
    if missing:
        raise InputError(
            f"{folder / 'truth.parquet'} has no column '{missing[0]}'.",
            f"The truth of a simulation by this version of gzoo (simulator {SIMULATOR}).",
            "Simulate it again.",
        )
    if n_rows < n:
        raise InputError(f"{folder} has {n_rows} galaxies.", f"At least n, which is {n}.", "Pass a smaller n.")
    return facts


_SOURCE_COLUMNS = ("id_str", *(field.name for field in fields(Galaxy)))


def _source_rows(folder: Path | None) -> Iterator[pa.RecordBatch | None]:
    """The galaxies of another simulation, a block at a time; without one, None for ever."""
    if folder is None:
        while True:
            yield None
    with pq.ParquetFile(folder / "truth.parquet") as table:
        yield from table.iter_batches(_BLOCK, columns=list(_SOURCE_COLUMNS))


# ---- files -----------------------------------------------------------------------------------------------------------


class _Rows:
    """A Parquet file that grows by blocks and keeps few of them in memory."""

    def __init__(self, path: Path, facts: dict[str, object], contents: contextlib.ExitStack) -> None:
        self._path, self._files = path, contents
        self._metadata = {b"gzoo": json.dumps(facts, sort_keys=True).encode()}
        self._waiting: list[pa.RecordBatch] = []
        self._n_waiting = 0
        self._writer: pq.ParquetWriter | None = None

    def add(self, batch: pa.RecordBatch) -> None:
        if self._writer is None:
            schema = batch.schema.with_metadata(self._metadata)
            self._writer = self._files.enter_context(files.write_parquet(self._path, schema))
        self._waiting.append(batch.replace_schema_metadata(self._metadata))
        self._n_waiting += len(batch)
        if self._n_waiting >= _ROWS_IN_GROUP:
            self.flush()

    def flush(self) -> None:
        if self._writer is not None and self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting).combine_chunks())
        self._waiting, self._n_waiting = [], 0


@contextlib.contextmanager
def _whole_file(path: Path) -> Generator[BinaryIO]:
    """A file to stream into that is whole or not there."""
    temporary = path.with_name(f".{path.name}.writing")
    with temporary.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


@contextlib.contextmanager
def _written_or_removed(folder: Path) -> Generator[None]:
    """Turn what the disk refuses into a clear error, and leave nothing of the work begun behind."""
    partial = files.partial_name(folder.absolute())
    was_begun = partial.exists()
    try:
        yield
    except BrokenProcessPool as error:
        raise GZooError(
            "A worker process was killed, most likely for want of memory.",
            "Workers that live until the end.",
            "Run the same command again with fewer workers: it goes on where this one was.",
        ) from error
    except OSError as error:
        if isinstance(error, GZooError):
            raise
        is_full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        if is_full or not was_begun:
            shutil.rmtree(partial, ignore_errors=True)
            shutil.rmtree(partial.with_name(partial.name + ".new"), ignore_errors=True)
        raise WriteError(
            f"{folder} cannot be written: {error.strerror or error}.",
            "Room on the disk: about 0.1 MB a galaxy, half of it for the images." if is_full else "A place to write.",
            "What was begun is removed. Free some space, or choose another --out."
            if is_full
            else "Choose another --out.",
        ) from error


def _require(value: int, name: str, least: int) -> None:
    if value < least:
        raise InputError(f"{name} is {value}.", f"A whole number of at least {least}.", f"Pass a larger {name}.")
