"""Consistency weights and bot rules, tested on simulated volunteers of known type."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gzoo
from gzoo.simulator import SimulateResult, simulate
from gzoo.trees.campaign import campaign, tree
from gzoo.trees.tree import FloatArray
from gzoo.zooniverse import ExportFiles, consistency, ingest
from gzoo.zooniverse.classifications import Classifications
from gzoo.zooniverse.mapping import mapping


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SimulateResult:
    return simulate("gz2", n_galaxies=1200, seed=7, images=False, out=tmp_path_factory.mktemp("volunteers") / "sky")


@pytest.fixture(scope="module")
def read(made: SimulateResult) -> Classifications:
    """Some 49,000 classifications."""
    return ingest(ExportFiles(made.classifications, made.workflows), campaign("gz2")).classifications


@pytest.fixture(scope="module")
def volunteers(made: SimulateResult, read: Classifications) -> pl.DataFrame:
    """The known traits of each volunteer."""
    return pl.DataFrame({"name": read.names}).join(pl.read_parquet(made.volunteers), on="name", how="left")


def test_bots_are_detected_and_other_volunteers_are_not(read: Classifications, volunteers: pl.DataFrame) -> None:
    found = consistency.bots(read)
    is_bot = volunteers["is_bot"].to_numpy()
    assert (is_bot & found.is_judged).sum() >= 10
    assert found.any[is_bot & found.is_judged].mean() >= 0.95
    assert found.any[~is_bot & found.is_judged].mean() <= 0.01


def test_slow_bots_are_detected_by_their_answers(read: Classifications, volunteers: pl.DataFrame) -> None:
    found = consistency.bots(replace(read, seconds=np.full(len(read), np.nan)))
    is_bot = volunteers["is_bot"].to_numpy()
    assert not found.flags[consistency.FAST].any()
    assert found.any[is_bot & found.is_judged].mean() >= 0.75
    always_one = volunteers["bot"].is_in(["first", "last"]).to_numpy() & found.is_judged
    assert found.flags[consistency.SAME][always_one].mean() >= 0.9


def test_weighted_fractions_are_closer_to_careful_volunteers(
    read: Classifications, made: SimulateResult, volunteers: pl.DataFrame
) -> None:
    weights = np.where(consistency.bots(read).any, 0.0, consistency.consistency_weights(read))
    truth = read.galaxies.select("id_str").join(pl.read_parquet(made.truth), on="id_str", how="left")
    careful = truth.select(f"{one}_probability_careful" for one in read.tree.columns).to_numpy()
    gain = squares(read, np.ones(len(weights)), careful) - squares(read, weights, careful)
    error = gain.std(ddof=1) / len(gain) ** 0.5
    assert gain.mean() - 1.96 * error > 0
    assert weights[(volunteers["care"] >= 0.9).to_numpy()].mean() >= 0.9


def squares(read: Classifications, weights: FloatArray, careful: FloatArray) -> FloatArray:
    """Squared error of each galaxy on the first question."""
    fractions, _ = read.weighted(weights)
    return ((fractions - careful)[:, :3] ** 2).mean(axis=1)


def test_consistency_equals_willett_2013_by_hand() -> None:
    """Three volunteers say yes, one says no: kappa is (3/4 + 3/4) / 2 for yes and (1/4 + 1/4) / 2 for no."""
    patterns = np.array([[True, False], [False, True]])
    one = few(patterns, pattern=[0, 0, 0, 1], galaxy=[0, 0, 0, 0], volunteer=[0, 1, 2, 3])
    kappa = consistency.consistency(one, one.votes().fractions)
    assert kappa.tolist() == pytest.approx([0.75, 0.75, 0.75, 0.25])
    weights = np.minimum(1.0, (kappa / 0.6) ** 8.5)
    fractions, _ = one.weighted(weights)
    for _ in range(2):
        weights = np.minimum(1.0, (consistency.consistency(one, fractions) / 0.6) ** 8.5)
        fractions, _ = one.weighted(weights)
    assert consistency.consistency_weights(one).tolist() == pytest.approx(weights.tolist())


def few(patterns: np.ndarray, pattern: list[int], galaxy: list[int], volunteer: list[int]) -> Classifications:
    n, n_volunteers = len(pattern), max(volunteer) + 1
    return Classifications(
        tree("gz_rings"),
        pl.DataFrame({"id_str": [str(i) for i in range(max(galaxy) + 1)]}),
        patterns,
        np.ones((len(patterns), 1), bool),
        np.array(pattern),
        np.array(galaxy),
        np.array(volunteer),
        np.full(n, 5.0),
        tuple(map(str, range(n_volunteers))),
        np.zeros(n_volunteers, bool),
    )


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_equal_weights_change_nothing(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 30))
    who = data.draw(st.lists(st.integers(0, 4), min_size=n, max_size=n))
    where = data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    pattern = data.draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))
    weight = data.draw(st.floats(0.01, 100.0))
    one = few(np.eye(2, dtype=bool), pattern, where, who)
    fractions, effective = one.weighted(np.full(len(one.names), weight))
    votes = one.votes()
    np.testing.assert_allclose(fractions, votes.fractions, rtol=1e-12)
    np.testing.assert_allclose(effective, votes.totals, rtol=1e-9)
    assert votes.counts.sum() == n


def test_random_answers_keep_most_of_their_weight_on_real_votes(shared_data: Path, tmp_path: Path) -> None:
    """Consistency weights alone do not silence bots."""
    path = shared_data / "gz2_coadd" / "counts.csv"
    mapping(path, "gz2", out=tmp_path / "mapping.toml")
    fractions = gzoo.read_votes(path, campaign("gz2"), tmp_path / "mapping.toml").votes.fractions[:, :3]
    # the first question alone, by hand: (1 + 2 f) / 3 for the answer given, which is each in a third of the read
    kappa = float(np.nanmean((1 + 2 * fractions) / 3))
    assert 0.3 < (kappa / consistency.CONSISTENT) ** consistency.STEEPNESS < 0.9
