"""Blocks of simulated galaxies: draw galaxies, classify them, and take their images, in one process or several."""

from __future__ import annotations

import contextlib
import os
import signal
import zlib
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, fields, replace
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gzoo import files
from gzoo.simulator import positions
from gzoo.simulator.camera import draw_image, jpeg_bytes, visible
from gzoo.simulator.export import Subjects, classification_rows
from gzoo.simulator.galaxies import Galaxy, draw_galaxy
from gzoo.simulator.perception import Appearance, careful_log_odds
from gzoo.simulator.survey import SurveyView, survey_view
from gzoo.simulator.volunteers import (
    N_VOLUNTEERS,
    careful_probabilities,
    classify,
    kind_probabilities,
    parts,
    pool,
    population_probabilities,
)
from gzoo.trees.campaign import Campaign
from gzoo.trees.tree import IntArray, Tree

BLOCK = 64
"""Galaxies whose votes are drawn together. A block is always drawn completely, so no galaxy depends on `n_galaxies`."""
# Separate streams of random numbers, so that a change of the camera does not change galaxies and votes.
_GALAXY, _SKY, _VOLUNTEER, _CAMERA, _SCATTER, _HASTE = range(6)

SOURCE_COLUMNS = ("id_str", *(field.name for field in fields(Galaxy)))
"""Columns of the truth of a simulation that describe its galaxies."""


def galaxy_id(campaign: str, seed: int, index: int) -> str:
    """Return the `id_str` of a simulated galaxy.

    >>> galaxy_id("gz2", 0, 123)
    'simulated-gz2-0-000123'
    """
    return f"simulated-{campaign}-{seed}-{index:06d}"


@dataclass(frozen=True, slots=True)
class Job:
    """Settings that a worker needs to simulate any block of galaxies."""

    campaign: Campaign
    seed: int
    n: int
    images: Path | None
    export: bool

    @property
    def tree(self) -> Tree:
        """The decision tree of the campaign."""
        return self.campaign.tree

    def rng(self, stream: int, number: int) -> np.random.Generator:
        """Return the random number generator of one galaxy or block; `number` is its index."""
        return np.random.default_rng([*self.key(stream), number])

    def key(self, stream: int) -> list[int]:
        """Return the seeds of a stream of random numbers."""
        return [stream, zlib.crc32(self.campaign.name.encode()), self.seed]


class SimulatedBlock(NamedTuple):
    """A block of galaxies, without its images."""

    votes: pa.RecordBatch
    truth: pa.RecordBatch
    classifications: bytes
    n_of_volunteer: IntArray  # classifications, shape (volunteer,)
    n_of_part: IntArray  # classifications, shape (part,)


@contextlib.contextmanager
def simulated_blocks(job: Job, source: Path | None, workers: int) -> Generator[Iterator[SimulatedBlock]]:
    """Yield all blocks in order; only a few are kept in memory.

    Args:
        job: The settings.
        source: Truth of another simulation whose galaxies are observed again, or None.
        workers: Number of processes.
    """
    blocks = range(-(-job.n // BLOCK))
    tasks = ((job, block, rows) for block, rows in zip(blocks, _source_rows(source), strict=False))
    if workers == 1:
        yield (_simulate(*task) for task in tasks)
        return

    # Spawned workers start clean: forked ones would inherit the locks of the caller's threads.
    # They end on Ctrl-C without a traceback: the parent process receives the signal too and reports it.
    context, quietly = get_context("spawn"), (signal.SIGINT, signal.SIG_DFL)
    executor = ProcessPoolExecutor(workers, mp_context=context, initializer=signal.signal, initargs=quietly)

    def results() -> Iterator[SimulatedBlock]:
        waiting: deque[Future[SimulatedBlock]] = deque()
        waiting.extend(executor.submit(_simulate, *task) for task in islice(tasks, 2 * workers + 2))
        while waiting:
            one = waiting.popleft().result()
            waiting.extend(executor.submit(_simulate, *task) for task in islice(tasks, 1))
            yield one

    try:
        yield results()
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _source_rows(path: Path | None) -> Iterator[pa.RecordBatch | None]:
    """Yield the galaxies of another simulation, one block at a time; without one, None endlessly."""
    if path is None:
        while True:
            yield None
    with pq.ParquetFile(path) as table:
        yield from table.iter_batches(BLOCK, columns=list(SOURCE_COLUMNS))


def _simulate(job: Job, block: int, source: pa.RecordBatch | None) -> SimulatedBlock:
    """Draw a block of galaxies and its classifications, and take the images that an interrupted call has not taken."""
    tree, view, volunteers = job.tree, survey_view(job.campaign), pool(job.seed)
    first = block * BLOCK
    size = min(BLOCK, job.n - first)
    ids = [galaxy_id(job.campaign.name, job.seed, first + i) for i in range(size)]
    truth: dict[str, object] = {"id_str": ids}
    if source is None:
        galaxies = [draw_galaxy(job.rng(_GALAXY, first + i), view) for i in range(size)]
        ra, dec = positions.draw_positions(job.campaign.name, job.key(_SKY), block, BLOCK)
    else:
        rows = source.slice(0, size).to_pylist()
        truth["source_id_str"] = [str(row.pop("id_str")) for row in rows]
        galaxies = [_observed_again(Galaxy(**row), view) for row in rows]
        ra, dec = np.array([(galaxy.ra, galaxy.dec) for galaxy in galaxies] + [(0.0, 0.0)] * (BLOCK - size)).T
        ra, dec = positions.scattered(ra, dec, job.rng(_SCATTER, block))
    ra, dec = ra[:size], dec[:size]

    appearance = Appearance.of(galaxies, [visible(galaxy, view) for galaxy in galaxies])
    log_odds = careful_log_odds(tree, appearance)
    of_kinds = kind_probabilities(tree, log_odds)
    unused = np.zeros((BLOCK - size, *of_kinds.shape[1:]))
    part, drawn = classify(tree, np.concatenate([of_kinds, unused]), volunteers, size, job.rng(_VOLUNTEER, block))
    if job.images is not None:
        for i, galaxy in enumerate(galaxies):
            path = job.images / f"{ids[i]}.jpg"
            if not _is_complete(path):
                image = jpeg_bytes(draw_image(galaxy, view, job.rng(_CAMERA, first + i)))
                files.write_bytes(path, image, is_flushed=False)  # all are flushed at the end
    classifications = b""
    if job.export:
        subjects = Subjects(first, ids, ra, dec, part)
        classifications = classification_rows(job.campaign, job.seed, drawn, subjects, job.rng(_HASTE, block), BLOCK)
    careful = careful_probabilities(tree, log_odds)
    population, proportion_asked = population_probabilities(tree, of_kinds, volunteers.fractions)
    questions = [question.name for question in tree.questions]
    truth |= {**appearance.galaxy, "ra": ra, "dec": dec, "asked_in": [parts(tree)[i].name for i in part]}
    for names, ending, values in (
        (tree.columns, "probability_careful", careful),
        (tree.columns, "probability", population),
        (questions, "proportion_volunteers_asked_careful", tree.proportion_asked(careful)),
        (questions, "proportion_volunteers_asked", proportion_asked),
    ):
        truth |= {f"{name}_{ending}": values[:, i].astype(np.float32) for i, name in enumerate(names)}
    counts = drawn.counts(size).astype(np.int32)
    dataset_names, filenames = [job.campaign.name + files.SIMULATED] * size, [f"{one}.jpg" for one in ids]
    votes: dict[str, object] = {"id_str": ids, "dataset_name": dataset_names, "ra": ra, "dec": dec}
    votes |= {"filename": filenames} | {column: counts[:, i] for i, column in enumerate(tree.columns)}
    # For other questions the total is the sum of the counts; here volunteers may give several answers or none.
    totals = zip(tree.questions, tree.totals(counts).T.astype(np.int32), strict=True)
    votes |= {question.total_column: total for question, total in totals if question.multiple}
    return SimulatedBlock(
        votes=pa.RecordBatch.from_pydict(votes),
        truth=pa.RecordBatch.from_pydict(truth),
        classifications=classifications,
        n_of_volunteer=np.bincount(drawn.volunteer, minlength=N_VOLUNTEERS),
        n_of_part=np.bincount(part[drawn.galaxy], minlength=len(parts(tree))),
    )


def _is_complete(image: Path) -> bool:
    """Return whether an image was written before, and survived a loss of power: it ends as a JPEG does."""
    try:
        with image.open("rb") as file:
            file.seek(-2, os.SEEK_END)
            return file.read() == b"\xff\xd9"
    except OSError:
        return False


def _observed_again(galaxy: Galaxy, view: SurveyView) -> Galaxy:
    """Return a galaxy as another survey observes it: with its own blur, and without satellite trails."""
    artifact = galaxy.artifact if galaxy.artifact in {"star", "saturation", "spikes"} else ""
    return replace(galaxy, seeing_arcsec=view.psf_fwhm_arcsec, artifact=artifact)
