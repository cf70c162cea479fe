"""Prediction x votes: the posterior against what follows by hand, and the catalogue of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betaincinv, betaln

import gzoo
from gzoo.dataset.open import open_dataset
from gzoo.errors import InputError, NotFoundError, OutputExistsError, TableError
from gzoo.scoring.posterior import fit_worth, posterior
from gzoo.scoring.predictions import read_predictions
from gzoo.trees.campaign import campaign
from gzoo.trees.tree import FloatArray, IntArray, Question, Tree
from gzoo.votes.votes import Votes

RINGS = gzoo.tree("gz_rings")
GZ2 = campaign("gz2").published_tree
TICKS = Tree("ticks", (Question("q", ("a", "b"), ("q_a", "q_b"), multiple=True),))


def walked(tree: Tree, truth: FloatArray, n: int, rng: np.random.Generator) -> IntArray:
    counts = np.zeros(truth.shape, np.int64)
    for question in tree.ordered:
        parents = list(tree.parents_of_question[tree.questions.index(question)])
        asked = counts[:, parents].sum(axis=1) if question.parents else np.full(len(truth), n)
        counts[:, tree.slice(question.name)] = rng.multinomial(asked, truth[:, tree.slice(question.name)])
    return counts


def drawn(tree: Tree, concentrations: FloatArray, rng: np.random.Generator) -> FloatArray:
    fractions = rng.gamma(concentrations)
    for question in tree.questions:
        own = fractions[:, tree.slice(question.name)]
        own /= own.sum(axis=1, keepdims=True)
    return fractions


# ---- the distribution ------------------------------------------------------------------------------------------------


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=30)
def test_votes_add_to_concentrations(seed: int) -> None:
    rng = np.random.default_rng(seed)
    predicted = np.exp(rng.normal(0, 2, (1, 5, len(GZ2.columns))))
    counts = rng.poisson(3, predicted.shape[1:])
    found = posterior(Votes(GZ2, counts), predicted)
    for question in GZ2.questions:
        own = GZ2.slice(question.name)
        alpha = predicted[0, :, own] + counts[:, own]
        total = alpha.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(found.fractions[:, own], alpha / total)
        np.testing.assert_allclose(found.interval(0.9)[0][:, own], betaincinv(alpha, total - alpha, 0.05), atol=2e-4)
        np.testing.assert_allclose(found.interval(0.5)[1][:, own], betaincinv(alpha, total - alpha, 0.75), atol=2e-4)
    np.testing.assert_allclose(found.proportion_asked, GZ2.proportion_asked(found.fractions))


def test_without_votes_the_posterior_is_the_prediction_and_with_many_it_is_the_votes() -> None:
    counts = np.array([[0, 0], [300_000, 700_000]])
    found = posterior(Votes(RINGS, counts), np.array([[[1.0, 3.0], [1.0, 3.0]]]))
    np.testing.assert_allclose(found.fractions, [[0.25, 0.75], [0.3, 0.7]], atol=1e-5)
    low, high = found.interval(0.9)
    assert high[0, 0] - low[0, 0] > 0.5
    assert high[1, 0] - low[1, 0] < 0.002


def test_tiny_concentrations_beside_large_ones_keep_their_digits() -> None:
    found = posterior(Votes(RINGS, np.array([[0, 0]])), np.array([[[1e-7, 9e6]]]))
    np.testing.assert_allclose(found.beta, [[[9e6, 1e-7]]])


def test_members_of_a_mixture_count_by_how_well_they_held_the_votes() -> None:
    predicted = np.array([[[8.0, 2.0]], [[1.0, 1.0]], [[2.0, 30.0]]])
    counts = np.array([[2, 5]])
    found = posterior(Votes(RINGS, counts), predicted)
    x = np.linspace(0, 1, 200_001)[1:-1]
    prior = np.mean(
        [np.exp((a - 1) * np.log(x) + (b - 1) * np.log1p(-x) - betaln(a, b)) for a, b in predicted[:, 0]], axis=0
    )
    density = prior * x**2 * (1 - x) ** 5
    density /= density.sum()
    np.testing.assert_allclose(found.fractions[0, 0], (density * x).sum(), atol=1e-5)
    cumulated = np.cumsum(density)
    low, high = found.interval(0.9)
    np.testing.assert_allclose(low[0, 0], x[np.searchsorted(cumulated, 0.05)], atol=1e-3)
    np.testing.assert_allclose(high[0, 0], x[np.searchsorted(cumulated, 0.95)], atol=1e-3)


@pytest.mark.parametrize("name", ["gz2", "gz_desi", "gz_hubble"])
@pytest.mark.parametrize("n_members", [1, 2])
def test_the_chance_of_being_asked_has_the_mean_and_spread_of_draws(name: str, n_members: int) -> None:
    tree = campaign(name).published_tree
    rng = np.random.default_rng(1)
    predicted = np.exp(rng.normal(0, 1, (n_members, 1, len(tree.columns))))
    found = posterior(Votes(tree, np.zeros((1, len(tree.columns)), np.int64)), predicted)
    member = rng.integers(n_members, size=(40_000, len(tree.questions)))
    each = [drawn(tree, np.repeat(one, 40_000, axis=0), rng) for one in predicted]
    of = list(tree.question_of_answer)
    draws = tree.proportion_asked(np.take_along_axis(np.stack(each), member[None][:, :, of], axis=0)[0])
    known = [question.name not in tree.unreachable for question in tree.questions]
    assert np.isnan(found.proportion_asked[0]).tolist() == [not one for one in known]
    np.testing.assert_allclose(found.proportion_asked[0, known], draws.mean(axis=0)[known], atol=0.005)
    np.testing.assert_allclose(found.proportion_asked_variance[0, known], draws.var(axis=0)[known], atol=0.003)
    if n_members > 1:  # two peaks, which no Beta distribution has
        return
    low, high = found.proportion_asked_interval(0.9)
    for bound, q in ((low, 0.05), (high, 0.95)):
        np.testing.assert_allclose(bound[0, known], np.quantile(draws[:, known], q, axis=0), atol=0.03)


@pytest.mark.parametrize("worth", [1.0, 5.0, 40.0])
def test_what_odds_are_worth_is_found_in_the_votes(worth: float) -> None:
    rng = np.random.default_rng(2)
    fraction = rng.uniform(0.05, 0.95, (4000, 2))
    volunteers = np.full((4000, 1), 20)
    truth = rng.beta(worth * fraction, worth * (1 - fraction))
    votes = Votes(TICKS, rng.binomial(volunteers, truth), volunteers)
    odds = (fraction / (1 - fraction))[None]
    found = fit_worth(votes, odds)
    np.testing.assert_allclose(found, worth, rtol=0.15)
    of_two = fit_worth(votes, np.concatenate([odds, odds]))
    np.testing.assert_allclose(of_two, found, rtol=1e-3)
    low, high = posterior(votes, odds, found).interval(0.9)
    assert abs(((low <= truth) & (truth <= high)).mean() - 0.9) < 0.015


def test_odds_without_votes_are_worth_two() -> None:
    votes = Votes(TICKS, np.zeros((3, 2), np.int64), np.zeros((3, 1), np.int64))
    np.testing.assert_allclose(fit_worth(votes, np.ones((1, 3, 2))), 2.0, rtol=1e-3)
    found = posterior(votes, np.ones((1, 3, 2)))
    np.testing.assert_allclose(found.interval(0.9)[0], 0.05, atol=1e-4)  # as of a uniform distribution
    assert np.isnan(fit_worth(Votes(RINGS, np.array([[1, 2]])), np.ones((1, 1, 2)))).all()


@pytest.mark.parametrize(("n_answers", "n_members"), [(2, 1), (5, 1), (3, 2)])
def test_nine_of_ten_intervals_hold_the_truth(n_answers: int, n_members: int) -> None:
    """benchmarks/posterior_coverage.py does the same with more galaxies."""
    rng = np.random.default_rng(3)
    names = tuple("abcdef"[:n_answers])
    tree = Tree("one", (Question("q", names, tuple(f"q_{name}" for name in names)),))
    n = 6000
    predicted = np.exp(rng.uniform(0, np.log(100), (n_members, n, n_answers)))
    truth = drawn(tree, predicted[rng.integers(n_members, size=n), np.arange(n)], rng)
    counts = rng.multinomial(rng.integers(0, 41, n), truth)
    low, high = posterior(Votes(tree, counts), predicted).interval(0.9)
    column = rng.integers(n_answers, size=n)
    rows = np.arange(n)
    held = (low <= truth) & (truth <= high)
    assert abs(held[rows, column].mean() - 0.9) < 0.012  # 3 standard errors
    before = np.subtract(*reversed(posterior(Votes(tree, 0 * counts), predicted).interval(0.9)))
    assert (high - low).mean() < 0.95 * before.mean()  # votes narrow them


# ---- the catalogue ---------------------------------------------------------------------------------------------------


def predictions(folder: Path, dataset: Path, name: str, splits: tuple[str, ...] = ("test",), **more: object) -> Path:
    opened = open_dataset(dataset)
    keys = pl.concat([opened.read_votes(split)[0] for split in splits])
    rng = np.random.default_rng(len(name))
    values = {f"{column}_concentration": rng.uniform(0.5, 5, keys.height) for column in GZ2.columns}
    path = folder / name
    keys.with_columns(**values, **{key: pl.lit(value) for key, value in more.items()}).write_parquet(path)  # type: ignore[arg-type]
    return path


def test_a_catalogue_holds_what_is_known_of_each_galaxy(dataset: Path, tmp_path: Path) -> None:
    path = predictions(tmp_path, dataset, "p.parquet")
    made = gzoo.catalog([path], dataset, out=tmp_path / "c.parquet")
    table = pl.read_parquet(made.path)
    opened = open_dataset(dataset)
    keys, votes = opened.read_votes("test")
    assert made.n_galaxies == table.height == len(votes)
    assert made.n_with_votes == len(votes)
    assert table.select("dataset_name", "id_str").equals(keys)
    places = opened.positions("test")
    assert table.select("ra", "dec").equals(places.select("ra", "dec"))
    read = read_predictions(path, GZ2)
    found = posterior(votes, read.concentrations)
    for i, column in enumerate(GZ2.columns):
        np.testing.assert_allclose(table[f"{column}_posterior"].to_numpy(), found.fractions[:, i], rtol=1e-6)
        np.testing.assert_allclose(table[f"{column}_low"].to_numpy(), found.interval(0.9)[0][:, i], rtol=1e-5)
    for i, question in enumerate(GZ2.questions):
        np.testing.assert_allclose(
            table[f"{question.name}_proportion_volunteers_asked"].to_numpy(), found.proportion_asked[:, i], rtol=1e-6
        )
        assert table[question.total_column].to_list() == votes.totals[:, i].tolist()
    spans = [
        table[f"{question.name}_proportion_asked_high"] - table[f"{question.name}_proportion_asked_low"]
        for question in GZ2.questions
    ]
    assert spans[0].max() == 0  # everybody is asked the first question
    assert all(span.min() > 0 for span in spans[1:])
    about = json.loads(pq.read_schema(made.path).metadata[b"gzoo"])
    assert about["kind"] == "catalogue"
    assert about["predictions"][0]["file"] == "p.parquet"
    assert about["data_sha256"] == opened.digest
    assert about["is_simulated"] is made.is_simulated is True
    assert about["level"] == 0.9
    with pytest.raises(TableError, match="no column"):  # its votes would be scored twice
        read_predictions(made.path, GZ2)


def test_catalogues_of_all_kinds_hold_the_same(dataset: Path, tmp_path: Path) -> None:
    from gzoo.votes.tables import read_table

    path = predictions(tmp_path, dataset, "p.parquet")
    tables = [
        read_table(gzoo.catalog([path], dataset, out=tmp_path / f"c{ending}", level=0.5).path)
        for ending in (".parquet", ".csv", ".fits")
    ]
    first = tables[0]
    for other in tables[1:]:
        assert other.columns == first.columns
        for name in first.columns:
            if first.schema[name] == pl.String:
                assert other[name].fill_null("").to_list() == first[name].to_list()
            else:
                np.testing.assert_allclose(other[name].cast(pl.Float64), first[name].cast(pl.Float64), rtol=1e-6)
    from astropy.io import fits

    with fits.open(tmp_path / "c.fits") as file:
        assert json.loads(file[1].header["GZOO"])["level"] == 0.5


def test_intervals_are_as_wide_as_their_level(dataset: Path, tmp_path: Path) -> None:
    path = predictions(tmp_path, dataset, "p.parquet")
    tables = [
        pl.read_parquet(gzoo.catalog([path], dataset, out=tmp_path / f"{level}.parquet", level=level).path)
        for level in (0.5, 0.99)
    ]
    for column in GZ2.columns:
        assert (tables[1][f"{column}_low"] < tables[0][f"{column}_low"]).all()
        assert (tables[1][f"{column}_high"] > tables[0][f"{column}_high"]).all()
    for level in (0.0, 1.0, 90.0, float("nan")):
        with pytest.raises(InputError, match="level is"):
            gzoo.catalog([path], dataset, out=tmp_path / "x.parquet", level=level)


def test_galaxies_that_a_model_has_seen_are_refused(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "c.parquet"
    seen = predictions(tmp_path, dataset, "seen.parquet", ("train", "test"))
    with pytest.raises(TableError, match=r"seen\.parquet: the model was trained on .* whose votes would count twice"):
        gzoo.catalog([seen], dataset, out=out)
    told = predictions(tmp_path, dataset, "told.parquet", in_training_set=True)
    with pytest.raises(TableError, match="would count twice"):
        gzoo.catalog([told], dataset, out=out)
    assert not list(tmp_path.glob("*c.parquet*"))


def test_out_of_fold_predictions_are_united(dataset: Path, tmp_path: Path) -> None:
    """Each model has seen half of the train split; each file predicts all of it."""
    keys, _ = open_dataset(dataset).read_votes("train")
    half = pl.Series(np.arange(keys.height) % 2 == 0)
    paths: list[Path] = []
    for name, seen in (("a.parquet", half), ("bb.parquet", ~half)):
        path = predictions(tmp_path, dataset, name, ("train",))
        pl.read_parquet(path).with_columns(in_training_set=seen).write_parquet(path)
        paths.append(path)
    with pytest.raises(TableError, match=f"{int(half.sum())} galaxies"):
        gzoo.catalog(paths[:1], dataset, out=tmp_path / "c.parquet")
    made = gzoo.catalog(paths, dataset, out=tmp_path / "c.parquet")
    table = pl.read_parquet(made.path)
    assert sorted(table["id_str"]) == sorted(keys["id_str"])
    about = json.loads(pq.read_schema(made.path).metadata[b"gzoo"])
    assert [one["file"] for one in about["predictions"]] == ["a.parquet", "bb.parquet"]
    with pytest.raises(TableError, match=r"both predict galaxy .* by models that have not seen it"):
        gzoo.catalog([*paths, paths[0]], dataset, out=tmp_path / "d.parquet")


def test_fractions_alone_cannot_be_combined(dataset: Path, tmp_path: Path) -> None:
    path = predictions(tmp_path, dataset, "p.parquet")
    read = read_predictions(path, GZ2)
    fractions = {f"{column}_fraction": read.fractions[:, i] for i, column in enumerate(GZ2.columns)}
    read.keys.with_columns(**fractions).write_parquet(path)
    with pytest.raises(TableError, match="fractions only, which cannot be combined with votes"):
        gzoo.catalog([path], dataset, out=tmp_path / "c.parquet")


def test_questions_that_are_not_predicted_are_left_out_and_told(dataset: Path, tmp_path: Path) -> None:
    path = predictions(tmp_path, dataset, "p.parquet")
    table = pl.read_parquet(path)
    edge_on = GZ2.question("disk-edge-on-gz2")
    table.drop([f"{column}_concentration" for column in edge_on.columns]).write_parquet(path)
    made = gzoo.catalog([path], dataset, out=tmp_path / "c.parquet")
    assert made.not_predicted == (edge_on.name,)
    assert "bar-gz2" in made.proportion_asked_unknown
    catalogue = pl.read_parquet(made.path)
    assert not [name for name in catalogue.columns if name.startswith(edge_on.name)]
    assert catalogue["bar-gz2_proportion_volunteers_asked"].is_nan().all()
    assert catalogue["bar-gz2_yes_posterior"].is_finite().all()
    whole = predictions(tmp_path, dataset, "whole.parquet", ("validation",))
    with pytest.raises(TableError, match="predict different questions, such as disk-edge-on-gz2"):
        gzoo.catalog([path, whole], dataset, out=tmp_path / "d.parquet")


def test_nothing_else_is_overwritten(dataset: Path, tmp_path: Path) -> None:
    path = predictions(tmp_path, dataset, "p.parquet")
    before = path.read_bytes()
    with pytest.raises(OutputExistsError, match="something that gzoo did not make"):
        gzoo.catalog([path], dataset, out=path, overwrite=True)
    assert path.read_bytes() == before
    for ending in (".parquet", ".csv", ".fits"):
        out = tmp_path / f"c{ending}"
        gzoo.catalog([path], dataset, out=out)
        with pytest.raises(OutputExistsError, match="finished catalogue"):
            gzoo.catalog([path], dataset, out=out)
        gzoo.catalog([path], dataset, out=out, overwrite=True)
    (tmp_path / "notes.csv").write_text("mine")
    with pytest.raises(OutputExistsError):
        gzoo.catalog([path], dataset, out=tmp_path / "notes.csv", overwrite=True)
    with pytest.raises(InputError, match=r"ends in \.parquet"):
        gzoo.catalog([path], dataset, out=tmp_path / "c.txt")
    with pytest.raises(NotFoundError, match="There is no folder"):
        gzoo.catalog([path], dataset, out=tmp_path / "none" / "c.csv")
    with pytest.raises(InputError, match="no predictions"):
        gzoo.catalog([], dataset, out=tmp_path / "e.csv")


def test_a_catalogue_that_fails_leaves_nothing(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = predictions(tmp_path, dataset, "p.parquet")

    def fail(*_: object) -> None:
        raise OSError("the disk is on fire")

    monkeypatch.setattr("gzoo.scoring.posterior._batch", fail)
    for ending in (".parquet", ".csv", ".fits"):
        with pytest.raises(OSError, match="on fire"):
            gzoo.catalog([path], dataset, out=tmp_path / f"c{ending}")
    assert [one.name for one in tmp_path.iterdir()] == ["p.parquet"]
