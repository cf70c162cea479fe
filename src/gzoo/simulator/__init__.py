"""A simulated survey with known ground truth, against which all estimators of gzoo can be tested.

`galaxies` draws physical parameters and `positions` places the galaxies on the sky, `survey` and `camera` take images
of them, `perception` and `volunteers` answer questions about what is visible, and `export` writes the answers as
Zooniverse does. Nothing here depends on models.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Generator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gzoo import files
from gzoo.display import Shown
from gzoo.errors import GZooError, InputError, NotFoundError, WriteError, raise_passing, reason
from gzoo.files import Progress
from gzoo.simulator.blocks import BLOCK, SOURCE_COLUMNS, Job, simulated_blocks
from gzoo.simulator.camera import visible
from gzoo.simulator.export import classification_header, volunteer_name, workflow_export
from gzoo.simulator.galaxies import Galaxy, draw_galaxy
from gzoo.simulator.perception import Appearance, not_known
from gzoo.simulator.survey import survey_view
from gzoo.simulator.volunteers import KINDS, N_VOLUNTEERS, parts, pool
from gzoo.trees.campaign import Campaign
from gzoo.trees.campaign import campaign as campaign_of
from gzoo.trees.tree import IntArray

__all__ = ["Galaxy", "SimulateResult", "simulate"]

SIMULATOR = "3"
"""Version of the simulated sky; it changes whenever the same seed would give other files."""

_ROWS_IN_GROUP = 128 * BLOCK
_TABLES = ("votes", "truth", "volunteers")


@dataclass(frozen=True, slots=True, repr=False)
class SimulateResult(Shown):
    """A finished simulation on disk.

    Attributes:
        folder: The folder that contains everything.
        campaign: Name of the campaign.
        n_galaxies: Number of galaxies.
        n_classifications: Number of classifications, including repeated ones.
        seed: Seed of all random numbers.
    """

    folder: Path
    campaign: str
    n_galaxies: int
    n_classifications: int
    seed: int

    @property
    def images(self) -> Path:
        """The folder of JPEG images, one `{id_str}.jpg` per galaxy; it does not exist without images."""
        return self.folder / "images"

    @property
    def votes(self) -> Path:
        """The Parquet file of vote counts, with the columns that a real campaign would have."""
        return self.folder / "votes.parquet"

    @property
    def truth(self) -> Path:
        """The Parquet file of the ground truth: parameters, probabilities and proportions of volunteers asked."""
        return self.folder / "truth.parquet"

    @property
    def volunteers(self) -> Path:
        """The Parquet file of the volunteers who made at least one classification."""
        return self.folder / "volunteers.parquet"

    @property
    def classifications(self) -> Path:
        """The classification export, CSV as from Zooniverse; it does not exist without export."""
        return self.folder / "classifications.csv"

    @property
    def workflows(self) -> Path:
        """The workflow export for the classifications."""
        return self.folder / "workflows.csv"


def simulate(
    campaign: Path | str | Campaign,
    *,
    n_galaxies: int,
    seed: int = 0,
    workers: int = 1,
    out: Path | str,
    images: bool = True,
    export: bool = True,
    galaxies_from: Path | str | None = None,
    overwrite: bool = False,
    wait: bool = False,
    progress: Progress | None = None,
) -> SimulateResult:
    """Simulate a campaign: images, classifications, votes, ground truth.

    Galaxy `i` of a seed, its votes and the bytes of its image do not depend on `n_galaxies` and `workers`. An
    interrupted simulation is resumed when it is called again with the same arguments.

    The folder contains

    - `images/{id_str}.jpg`, 424 x 424 pixels;
    - `classifications.csv` and `workflows.csv`: every classification, in the format of Zooniverse exports;
    - `votes.parquet`: identifiers, position (degrees) and a vote count for each answer. Repeated classifications of a
      galaxy by the same volunteer are not counted; bots are;
    - `truth.parquet`: the physical parameters (`Galaxy`); the part of the campaign that the galaxy was shown in
      (`asked_in`); for each answer, given that its question is asked, the probability for a careful volunteer
      (`{column}_probability_careful`) and for the whole population including bots (`{column}_probability`); and the
      proportions of volunteers asked, `{question}_proportion_volunteers_asked_careful` and
      `{question}_proportion_volunteers_asked`, in the part that the galaxy is shown in;
    - `volunteers.parquet`: care, leaning, whether a bot, whether not logged in, number of classifications;
    - `simulation.json`. All files state that they are simulated.

    Args:
        campaign: Name of the campaign whose images and questions are simulated, or path of its TOML file.
        n_galaxies: Number of galaxies.
        seed: Seed of all random numbers, 0 or more.
        workers: Number of processes. With more than one, a script must protect its entry point with
            `if __name__ == "__main__":`, because each worker imports it.
        out: Folder to write.
        images: Draw images, by far the slowest part.
        export: Write the classification and workflow exports, by far the largest files apart from images.
        galaxies_from: Folder of a finished simulation whose first `n_galaxies` galaxies are observed again by this
            campaign. Positions are measured again and identifiers are new (`source_id_str` in the truth contains the
            original ones).
        overwrite: Replace an earlier simulation.
        wait: Wait for another run that writes the same output to end, instead of stopping.
        progress: Function called as (stage, done, total) after each block of galaxies.

    Returns:
        The paths of the files.

    Raises:
        NotFoundError: The campaign or the folder `galaxies_from` does not exist.
        InputError: An argument is out of range, or `galaxies_from` is not a simulation of at least `n_galaxies`
            galaxies.
        OutputExistsError: `out` already exists.
        BusyError: Another run writes the same output, and `wait` is False.
        WriteError: `out` cannot be written. Finished images are kept, and the same call resumes.
    """
    about = campaign_of(campaign)
    if about.members:
        raise InputError(
            f"Campaign '{about.name}' combines other campaigns and does not have its own volunteers.",
            f"one of its members: {', '.join(about.members)}.",
            "Simulate its members one by one.",
        )
    _require_known(about)
    for name, value, minimum in (("n_galaxies", n_galaxies, 1), ("seed", seed, 0), ("workers", workers, 1)):
        if value < minimum:
            raise InputError(f"{name} must be an integer of at least {minimum}, got {value}.")
    facts: dict[str, object] = {"kind": "simulation", "simulator": SIMULATOR, **about.to_manifest()}
    facts |= {"n_galaxies": n_galaxies, "seed": seed, "images": images, "export": export}
    source: Path | None = None
    if galaxies_from is not None:
        source = Path(galaxies_from) / "truth.parquet"
        facts["galaxies_from"] = _source_facts(Path(galaxies_from), source, n_galaxies)

    folder = Path(out)
    work = files.work(folder, kind="simulation", begun=facts, overwrite=overwrite, wait=wait, progress=progress)
    with _disk_errors(folder), work as partial:
        job = Job(about, seed, n_galaxies, partial / "images" if images else None, export)
        if job.images is not None:
            job.images.mkdir(exist_ok=True)
        n_of_volunteer, n_of_part = np.zeros(N_VOLUNTEERS, np.int64), np.zeros(len(parts(job.tree)), np.int64)
        n_done = 0
        with contextlib.ExitStack() as stack:
            tables = {name: _Rows(partial / f"{name}.parquet", facts, stack) for name in _TABLES}
            csv: BinaryIO | None = None
            if export:
                csv = stack.enter_context(files.whole_file(partial / "classifications.csv"))
                csv.write(classification_header())
            for one in stack.enter_context(simulated_blocks(job, source, workers)):
                tables["votes"].add(one.votes)
                tables["truth"].add(one.truth)
                if csv is not None:
                    csv.write(one.classifications)
                n_of_volunteer += one.n_of_volunteer
                n_of_part += one.n_of_part
                n_done += len(one.votes)
                if progress is not None:
                    progress("Drawing galaxies", n_done, n_galaxies)
            tables["volunteers"].add(_volunteers(seed, n_of_volunteer))
            for table in tables.values():
                table.flush()
        if export:
            files.write_bytes(partial / "workflows.csv", workflow_export(about, n_galaxies, n_of_part))
        n_classifications = int(n_of_volunteer.sum())
        if hasattr(os, "sync"):  # not on Windows
            os.sync()  # images must be on the disk before the file that marks the simulation as finished
        files.write_json(partial / files.MARKS["simulation"], facts | {"n_classifications": n_classifications})
    return SimulateResult(folder, about.name, n_galaxies, n_classifications, seed)


def _require_known(campaign: Campaign) -> None:
    """Check that a user's campaign describes its survey, and that simulated volunteers know all its questions."""
    if not campaign.definitions:
        return
    view = survey_view("gz2")
    galaxy = draw_galaxy(np.random.default_rng(0), view)
    appearance = Appearance.of([galaxy], [visible(galaxy, view)])
    unknown = not_known(campaign.tree, appearance)
    missing: list[str] = []
    if not campaign.surveys or campaign.surveys[0].view is None:
        missing.append("the table [surveys.view]" if campaign.surveys else "the tables [[surveys]] and [surveys.view]")
    if unknown:
        missing.append(f"questions that simulated volunteers know: they do not know {', '.join(unknown)}")
    if missing:
        raise InputError(
            f"Campaign '{campaign.name}' cannot be simulated, because it lacks {'; and '.join(missing)}.",
            "a description of its survey, and questions and answers named like those of the campaigns of gzoo.",
            f"Add them to '{campaign.source}'; gz2.toml of gzoo is an example; `gzoo tree gz2` lists its questions.",
        )


def _volunteers(seed: int, n_classifications: IntArray) -> pa.RecordBatch:
    """Return the volunteers who made at least one classification, with their traits."""
    volunteers = pool(seed)
    active = np.flatnonzero(n_classifications)
    is_anonymous = volunteers.is_anonymous[active]
    columns: dict[str, object] = {"name": list(map(volunteer_name, active.tolist(), is_anonymous.tolist()))}
    for name in ("care", "leaning", "is_bot", "bot"):
        columns[name] = [getattr(KINDS[kind], name) for kind in volunteers.kind[active]]
    columns |= {"is_anonymous": is_anonymous, "n_classifications": n_classifications[active]}
    return pa.RecordBatch.from_pydict(columns)


def _source_facts(folder: Path, truth: Path, n: int) -> dict[str, object]:
    """Return the metadata of an earlier simulation, after checks that it is one and is large enough."""
    if not folder.is_dir():
        raise NotFoundError(
            f"Simulation folder not found: '{folder}'.", "", "Check the path passed to --galaxies-from."
        )
    mark = folder / files.MARKS["simulation"]
    if not mark.is_file() or not truth.is_file():
        raise InputError(
            f"'{folder}' is not a finished simulation: it lacks {mark.name} or {truth.name}.",
            "a folder made by `gzoo simulate`.",
            "Check the path passed to --galaxies-from.",
        )
    facts = files.read_json(mark)
    try:
        with pq.ParquetFile(truth) as table:
            names, n_rows = table.schema_arrow.names, table.metadata.num_rows
    except (OSError, pa.ArrowException) as error:
        raise_passing(truth, error)
        raise InputError(f"Cannot read '{truth}': {reason(error)}.", "", "Simulate the galaxies again.") from error
    for name in SOURCE_COLUMNS:
        if name not in names:
            expected = f"the truth of a simulation by this version of gzoo (simulator {SIMULATOR})."
            raise InputError(f"'{truth}' lacks the column '{name}'.", expected, "Simulate the galaxies again.")
    if n_rows < n:
        raise InputError(
            f"'{folder}' contains {n_rows} galaxies.", f"at least n_galaxies, which is {n}.", "Pass a smaller number."
        )
    return facts


class _Rows:
    """A Parquet file to which blocks are added, few of which are kept in memory."""

    def __init__(self, path: Path, facts: dict[str, object], open_files: contextlib.ExitStack) -> None:
        self._path, self._open_files = path, open_files
        self._metadata = {b"gzoo": json.dumps(facts, sort_keys=True).encode()}
        self._waiting: list[pa.RecordBatch] = []
        self._writer: pq.ParquetWriter | None = None

    def add(self, batch: pa.RecordBatch) -> None:
        self._waiting.append(batch)
        if sum(map(len, self._waiting)) >= _ROWS_IN_GROUP:
            self.flush()

    def flush(self) -> None:
        if self._waiting:
            table = pa.Table.from_batches(self._waiting).replace_schema_metadata(self._metadata)
            self._writer = self._writer or self._open_files.enter_context(files.write_parquet(self._path, table.schema))
            self._writer.write_table(table.combine_chunks())
        self._waiting = []


@contextlib.contextmanager
def _disk_errors(folder: Path) -> Generator[None]:
    """Turn errors of the disk and of workers into a clear message."""
    try:
        yield
    except BrokenProcessPool as error:
        raise GZooError(
            "A worker process was killed, probably because it ran out of memory.",
            "",
            "Rerun the command with fewer --workers; finished galaxies are kept.",
        ) from error
    except GZooError:
        raise
    except OSError as error:
        expected, hint = "", "Fix the cause, then rerun the same command, or choose another --out."
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            expected = "about 0.1 MB of free space per galaxy, half of it for the images."
            hint = "Free some space, then rerun the same command to resume, or choose another --out."
        message = f"Cannot write '{folder}': {error.strerror or reason(error)}."
        raise WriteError(message, expected, hint) from error
