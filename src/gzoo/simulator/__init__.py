"""A survey of galaxies that never were, whose true answers are known: the referee of everything else in gzoo.

Three parts: `galaxies` draws physical parameters, `camera` takes pictures of them, `volunteers` answers
questions about them. Camera and volunteers know a galaxy's parameters, and nothing of each other.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gzoo import store
from gzoo.campaign import tree as tree_of
from gzoo.errors import InputError
from gzoo.simulator.camera import jpeg_bytes, picture
from gzoo.simulator.galaxies import Galaxy, draw_galaxy
from gzoo.simulator.volunteers import answer_probabilities, cast_votes
from gzoo.trees import Tree

__all__ = ["Galaxy", "Simulated", "simulate"]

SIMULATOR = "gz2-1"
"""Name of this simulated sky; it changes whenever the same seed would give other files."""

_CAMPAIGN = "gz2"
_FEWEST_VOLUNTEERS, _MOST_VOLUNTEERS = 30, 50

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Simulated:
    """A finished simulation on disk.

    Attributes:
        folder: The folder that holds everything.
        campaign: The campaign whose questions were asked.
        n_galaxies: Number of galaxies.
        seed: What the chance came from.
    """

    folder: Path
    campaign: str
    n_galaxies: int
    seed: int

    @property
    def images(self) -> Path:
        """The folder of JPEG pictures, one `{id_str}.jpg` a galaxy."""
        return self.folder / "images"

    @property
    def votes(self) -> Path:
        """The Parquet file of vote counts, as one would have them of a real campaign."""
        return self.folder / "votes.parquet"

    @property
    def truth(self) -> Path:
        """The Parquet file of what no real campaign knows: parameters, probabilities and reach."""
        return self.folder / "truth.parquet"


def simulate(
    campaign: str = _CAMPAIGN,
    *,
    n: int,
    seed: int = 0,
    workers: int = 1,
    out: Path | str,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Simulated:
    """Simulate a campaign: pictures, votes and the truth behind them.

    Galaxy `i` of a seed is the same whatever `n` and `workers` are, and so are its picture's bytes. A
    simulation that was interrupted goes on where it stopped when it is called again with the same arguments.

    The folder holds `images/{id_str}.jpg` (424 pixels), `votes.parquet` (identifiers and a count per answer),
    `truth.parquet` (physical parameters, `{answer column}_probability` given that the question is asked, and
    `{question}_reach`, the chance of being asked) and `simulation.json`. All say that they are a simulation.

    Args:
        campaign: The campaign whose questions are asked; only "gz2" can be simulated.
        n: Number of galaxies.
        seed: What all chance comes from, at least 0.
        workers: Number of processes. With more than one, a script must guard its own start with
            `if __name__ == "__main__":`, for each worker imports it.
        out: The folder to make.
        overwrite: Replace an earlier simulation at `out`.
        progress: Called with (galaxies done, galaxies in all) after each galaxy.

    Returns:
        Where the files are.

    Raises:
        InputError: An argument is out of range, or the campaign cannot be simulated.
        OccupiedError: `out` holds something already.
    """
    if campaign != _CAMPAIGN:
        raise InputError(
            f"Campaign {campaign!r} cannot be simulated.",
            f"A campaign with a simulator: {_CAMPAIGN}.",
            "Use that one.",
        )
    _require(n, "n", 1)
    _require(seed, "seed", 0)
    _require(workers, "workers", 1)

    folder = Path(out)
    facts: dict[str, object] = {
        "kind": "simulation",
        "simulator": SIMULATOR,
        "campaign": campaign,
        "n": n,
        "seed": seed,
    }
    tree = tree_of(campaign)
    with store.work(folder, kind="simulation", begun=facts, overwrite=overwrite) as unfinished:
        images = unfinished / "images"
        images.mkdir(exist_ok=True)
        observed: list[_Observed] = []
        for one in _observe_all(tree, seed, n, workers, images):
            observed.append(one)
            if progress is not None:
                progress(len(observed), n)
        identifiers = [galaxy_id(seed, index) for index in range(n)]
        _write_table(unfinished / "votes.parquet", _votes(tree, campaign, identifiers, observed), facts)
        _write_table(unfinished / "truth.parquet", _truth(tree, identifiers, observed), facts)
        store.write_json(unfinished / store.MARKS["simulation"], facts)
    return Simulated(folder, campaign, n, seed)


def galaxy_id(seed: int, index: int) -> str:
    """The `id_str` of a simulated galaxy.

    >>> galaxy_id(0, 123)
    'simulated-0-000123'
    """
    return f"simulated-{seed}-{index:06d}"


@dataclass(frozen=True, slots=True)
class _Observed:
    """What is kept of one galaxy besides its picture; arrays of shape (answer,)."""

    galaxy: Galaxy
    probabilities: npt.NDArray[np.float64]
    votes: npt.NDArray[np.int64]


def _observe_all(tree: Tree, seed: int, n: int, workers: int, images: Path) -> Iterator[_Observed]:
    observe = partial(_observe, tree, seed, images)
    if workers == 1:
        yield from map(observe, range(n))
        return
    # Spawned workers start clean: forked ones would inherit the locks of whatever threads the caller runs.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(observe, range(n), chunksize=max(1, min(50, n // (4 * workers))))


def _observe(tree: Tree, seed: int, images: Path, index: int) -> _Observed:
    """Draw one galaxy, ask the volunteers, and take its picture unless an interrupted call has done so."""
    # A stream each, so that a change of the camera leaves galaxies and votes as they were.
    galaxy_chance, camera_chance, volunteer_chance = np.random.default_rng([seed, index]).spawn(3)
    galaxy = draw_galaxy(galaxy_chance)
    probabilities = answer_probabilities(galaxy, tree)
    n_volunteers = int(volunteer_chance.integers(_FEWEST_VOLUNTEERS, _MOST_VOLUNTEERS, endpoint=True))
    votes = cast_votes(tree, probabilities, n_volunteers, volunteer_chance)
    path = images / f"{galaxy_id(seed, index)}.jpg"
    if not path.exists():
        store.write_bytes(path, jpeg_bytes(picture(galaxy, camera_chance)))
    in_order = np.concatenate([probabilities[question.name] for question in tree.questions])
    return _Observed(galaxy, in_order, votes)


def _votes(tree: Tree, campaign: str, identifiers: list[str], observed: Sequence[_Observed]) -> pa.Table:
    counts = np.stack([one.votes for one in observed])
    totals = tree.totals(counts)
    columns: dict[str, object] = {
        "id_str": identifiers,
        "dataset_name": [f"{campaign}_simulated"] * len(identifiers),
        "ra": np.array([one.galaxy.ra for one in observed]),
        "dec": np.array([one.galaxy.dec for one in observed]),
        "filename": [f"{identifier}.jpg" for identifier in identifiers],
    }
    columns |= {column: counts[:, i].astype(np.int32) for i, column in enumerate(tree.columns)}
    # Elsewhere the total is the sum of the counts; here some people gave several answers and some none.
    columns |= {
        question.total_column: totals[:, i].astype(np.int32)
        for i, question in enumerate(tree.questions)
        if question.multiple
    }
    return pa.table(columns)


def _truth(tree: Tree, identifiers: list[str], observed: Sequence[_Observed]) -> pa.Table:
    probabilities = np.stack([one.probabilities for one in observed])
    reach = tree.reach(probabilities)
    columns: dict[str, object] = {"id_str": identifiers}
    for field in dataclasses.fields(Galaxy):
        columns[field.name] = np.array([getattr(one.galaxy, field.name) for one in observed])
    columns |= {f"{column}_probability": probabilities[:, i] for i, column in enumerate(tree.columns)}
    columns |= {f"{question.name}_reach": reach[:, i] for i, question in enumerate(tree.questions)}
    return pa.table(columns)


def _write_table(path: Path, table: pa.Table, facts: dict[str, object]) -> None:
    marked = table.replace_schema_metadata({b"gzoo": json.dumps(facts, sort_keys=True).encode()})
    with store.write_parquet(path, marked.schema) as writer:
        writer.write_table(marked)


def _require(value: int, name: str, least: int) -> None:
    if value < least:
        raise InputError(f"{name} is {value}.", f"A whole number of at least {least}.", f"Pass a larger {name}.")
