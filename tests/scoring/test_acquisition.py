"""Acquisition functions: compared with their definitions, and better than classifying galaxies equally often."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betaln, xlogy

import gzoo
from gzoo.errors import InputError, OutputExistsError, TableError
from gzoo.scoring.acquisition import CRITERIA, error_reduction, expected_gain, information_gain
from gzoo.scoring.posterior import Posterior, posterior
from gzoo.trees.campaign import campaign
from gzoo.trees.tree import FloatArray, Question, Tree
from gzoo.votes.votes import Votes

# the predictions of these tests are invented, and catalogues say so
pytestmark = pytest.mark.filterwarnings(
    "ignore:The predictions do not agree with held-out votes:gzoo.errors.GZooWarning"
)


RINGS = gzoo.tree("gz_rings")
GZ2 = campaign("gz2").published_tree
SEEDS = st.integers(0, 10_000)


def variance(found: Posterior) -> FloatArray:
    """Variance of the vote fractions, summed over answers."""
    each = [found.product(i, i) - found.fractions[:, i] ** 2 for i in range(len(found.tree.columns))]
    return np.sum(each, axis=0)


def predictions(folder: Path, dataset: Path, name: str, split: str = "test") -> Path:
    keys, votes = gzoo.open_dataset(dataset).read_votes(split)
    rng = np.random.default_rng(len(name))
    values = {f"{column}_concentration": rng.uniform(0.5, 5, keys.height) for column in votes.tree.columns}
    keys.with_columns(**values).write_parquet(folder / name)
    return folder / name


@given(SEEDS, st.integers(1, 3), st.integers(2, 4))
@settings(deadline=None, max_examples=30)
def test_the_squared_error_falls_as_much_as_expected(seed: int, n_members: int, n_answers: int) -> None:
    """By definition: the mean over the possible answers, weighted by their probability."""
    rng = np.random.default_rng(seed)
    names = tuple("abcd"[:n_answers])
    tree = Tree("one", (Question("q", names, tuple(f"q_{name}" for name in names)),))
    predicted = np.exp(rng.normal(0, 1.5, (n_members, 3, n_answers)))
    counts = rng.poisson(2, (3, n_answers))
    now = posterior(Votes(tree, counts), predicted)
    after = np.zeros(3)
    for answer in range(n_answers):
        then = posterior(Votes(tree, counts + np.eye(n_answers, dtype=int)[answer]), predicted)
        after += now.fractions[:, answer] * variance(then)
    np.testing.assert_allclose(error_reduction(now)[:, 0], variance(now) - after, atol=1e-10)


def test_each_of_several_answers_is_a_separate_yes_or_no() -> None:
    ticks = Tree("ticks", (Question("q", ("a", "b"), ("q_a", "q_b"), multiple=True),))
    asked = np.array([[8], [3]])
    now = posterior(Votes(ticks, np.array([[3, 8], [0, 1]]), asked), np.array([[[0.5, 2.0], [1.0, 0.1]]]))
    twice = np.stack([now.alpha[0], now.beta[0]], axis=-1)  # (galaxy, answer, yes or no)
    alone = [posterior(Votes(RINGS, np.zeros((2, 2), np.int64)), twice[None, :, answer]) for answer in range(2)]
    np.testing.assert_allclose(information_gain(now), sum(information_gain(one) for one in alone))
    # a fraction and its complement have the same variance, which counts once here
    np.testing.assert_allclose(error_reduction(now), sum(error_reduction(one) / 2 for one in alone))


@given(SEEDS, st.integers(1, 3))
@settings(deadline=None, max_examples=20)
def test_information_is_that_of_the_answer_about_the_fraction(seed: int, n_members: int) -> None:
    """By definition, integrated over the vote fraction."""
    rng = np.random.default_rng(seed)
    predicted = np.exp(rng.uniform(0, 3, (n_members, 1, 2)))
    now = posterior(Votes(RINGS, np.zeros((1, 2), np.int64)), predicted)
    x = (np.arange(100_000) + 0.5) / 100_000
    density = np.mean(
        [np.exp((a - 1) * np.log(x) + (b - 1) * np.log1p(-x) - betaln(a, b)) for a, b in predicted[:, 0]], axis=0
    )
    density /= density.sum()
    p = (density * x).sum()
    expected = (density * (xlogy(x, x / p) + xlogy(1 - x, (1 - x) / (1 - p)))).sum()
    np.testing.assert_allclose(information_gain(now)[0, 0], expected, atol=1e-6)


@given(SEEDS)
@settings(deadline=None, max_examples=20)
def test_larger_concentrations_have_smaller_gains(seed: int) -> None:
    rng = np.random.default_rng(seed)
    predicted = np.exp(rng.normal(0, 1, (1, 4, len(GZ2.columns))))
    few = posterior(Votes(GZ2, np.zeros(predicted.shape[1:], np.int64)), predicted)
    many = posterior(Votes(GZ2, np.zeros(predicted.shape[1:], np.int64)), predicted * 10)
    for criterion in CRITERIA:
        assert (expected_gain(few, criterion) >= 0).all()
        assert (expected_gain(many, criterion) < expected_gain(few, criterion)).all()


def test_the_gain_of_huge_concentrations_is_accurate() -> None:
    predicted = np.full((1, 1, len(GZ2.columns)), 1e7)
    found = posterior(Votes(GZ2, np.zeros((1, len(GZ2.columns)), np.int64)), predicted)
    assert (expected_gain(found) >= 0).all()
    n_answers = np.array([len(question.columns) for question in GZ2.questions])
    np.testing.assert_allclose(information_gain(found)[0], (n_answers - 1) / (2 * n_answers * 1e7), rtol=1e-3)


def test_a_ranking_saves_classifications() -> None:
    """A short version of benchmarks/next_classifications.py."""
    rng = np.random.default_rng(4)
    n, rounds = 400, 10
    predicted = np.exp(rng.uniform(np.log(0.3), np.log(60), (n, 1))) * rng.dirichlet([1, 1], n)
    truth = rng.dirichlet([1, 1], n)
    fractions = rng.gamma(predicted + 1e-3)
    truth = fractions / fractions.sum(axis=1, keepdims=True)
    is_first = rng.random((n, 100)) < truth[:, :1]

    def error(n_given: np.ndarray) -> float:
        counts = (is_first & (np.arange(100) < n_given[:, None])).sum(axis=1)
        found = posterior(Votes(RINGS, np.column_stack([counts, n_given - counts])), predicted[None])
        return float(np.sqrt(((found.fractions - truth) ** 2).mean()))

    equal = error(np.full(n, rounds))
    for criterion in CRITERIA:
        n_given = np.zeros(n, np.int64)
        while error(n_given) > equal:
            counts = (is_first & (np.arange(100) < n_given[:, None])).sum(axis=1)
            found = posterior(Votes(RINGS, np.column_stack([counts, n_given - counts])), predicted[None])
            n_given[np.argsort(-expected_gain(found, criterion).sum(axis=1))[:20]] += 1
        assert n_given.sum() <= 0.75 * n * rounds, criterion


def test_the_least_certain_galaxy_is_ranked_first(dataset: Path, tmp_path: Path) -> None:
    path = predictions(tmp_path, dataset, "p.parquet")
    table = pl.read_parquet(path)
    values = table.select(pl.exclude("dataset_name", "id_str")).to_numpy().copy()
    values[3] *= 1000
    columns = {name: values[:, i] for i, name in enumerate(table.columns[2:])}
    table.with_columns(**{name: pl.Series(one) for name, one in columns.items()}).write_parquet(path)
    found = gzoo.prioritize([path], dataset, n=3, out=tmp_path / "ranking.csv")
    assert found.table.height == table.height
    assert found.table["expected_information_gain"].is_sorted(descending=True)
    assert found.table["id_str"][-1] == table["id_str"][3]
    assert (found.table["n_votes"] > 30).all()
    assert set(found.table["subtree"]) == {"gz2"}
    assert pl.read_csv(tmp_path / "ranking.csv").height == table.height
    assert len(found.to_dict()["galaxies"]) == 3  # type: ignore[arg-type]
    other = gzoo.prioritize([path], dataset, criterion="error").table
    assert other["id_str"][-1] == table["id_str"][3]
    assert not np.allclose(other["expected_error_reduction"], found.table["expected_information_gain"])


def test_invalid_arguments_are_rejected(dataset: Path, tmp_path: Path) -> None:
    path = predictions(tmp_path, dataset, "p.parquet")
    with pytest.raises(InputError, match="Unknown criterion 'luck'"):
        gzoo.prioritize([path], dataset, criterion="luck")
    with pytest.raises(InputError, match="n must be a positive integer"):
        gzoo.prioritize([path], dataset, n=0)
    gzoo.prioritize([path], dataset, out=tmp_path / "r.parquet")
    with pytest.raises(OutputExistsError, match="finished ranking"):
        gzoo.prioritize([path], dataset, out=tmp_path / "r.parquet")
    gzoo.prioritize([path], dataset, out=tmp_path / "r.parquet", overwrite=True)
    seen = predictions(tmp_path, dataset, "seen.parquet", "train")
    with pytest.raises(OutputExistsError, match="not a ranking that gzoo made"):
        gzoo.prioritize([path], dataset, out=seen, overwrite=True)
    with pytest.raises(TableError, match="that the model was trained on"):
        gzoo.prioritize([seen], dataset)


@pytest.mark.parametrize("name", ["gz_desi", "gz_hubble"])
def test_a_galaxy_is_ranked_in_the_subtree_with_its_votes(name: str, tmp_path: Path) -> None:
    made = gzoo.simulate(name, n_galaxies=40, images=False, export=False, out=tmp_path / "sky")
    gzoo.build(name, votes=made.votes, no_images=True, out=tmp_path / "dataset")
    opened = gzoo.open_dataset(tmp_path / "dataset")
    tree = opened.tree
    keys = pl.concat([opened.read_votes(split)[0] for split in opened.splits if split != "train"])
    rng = np.random.default_rng(0)
    values = {f"{column}_concentration": rng.uniform(0.5, 5, keys.height) for column in tree.columns}
    keys.with_columns(**values).write_parquet(tmp_path / "p.parquet")
    found = gzoo.prioritize([tmp_path / "p.parquet"], tmp_path / "dataset")
    truth = pl.read_parquet(made.truth).select("id_str", "asked_in")
    both = found.table.join(truth, on="id_str")
    assert both.height == keys.height
    assert (both["subtree"] == both["asked_in"].str.replace("gz_", "")).all()
    assert (both["question"].str.ends_with("-" + both["subtree"])).all()
    assert (both["n_votes"] > 0).all()
    assert found.excluded == tree.unreachable
    if name == "gz_hubble":
        assert "bar-hubble" in found.excluded
        assert "bar-hubble" not in set(both["question"])
        catalogue = gzoo.catalog(
            [tmp_path / "p.parquet"], tmp_path / "dataset", out=tmp_path / "c.csv", names="published"
        )
        assert "bar-hubble" in catalogue.proportion_asked_unknown
        written = pl.read_csv(tmp_path / "c.csv", infer_schema_length=None)
        assert written["bar-hubble_proportion_volunteers_asked"].is_null().all()
        assert written["bar-hubble_yes_posterior_mean"].is_not_null().all()
