"""Classification and published protocols: each number equals its definition, computed in another way."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

import gzoo
from gzoo import cli
from gzoo.errors import InputError, TableError
from gzoo.scoring import classify, published
from gzoo.scoring.ceiling import possible_accuracy
from gzoo.scoring.classification import compute_classification, decals_confident, gz_evo, predicted_summary
from gzoo.scoring.intervals import Value, blocks
from gzoo.scoring.likelihood import expected_fractions
from gzoo.trees.tree import FloatArray, Question, Tree
from gzoo.votes.summary import PUBLISHED, summary
from gzoo.votes.votes import Votes

GZ2 = gzoo.tree("gz2").published()
CLASSES = ("a", "b", "c")


def voted(n: int, seed: int = 0, tree: Tree = GZ2, volunteers: int = 60) -> tuple[Votes, FloatArray]:
    """Votes drawn along the tree, and fractions near those they were drawn from."""
    rng = np.random.default_rng(seed)
    counts, near = np.zeros((n, len(tree.columns)), np.int64), np.ones((n, len(tree.columns)))
    for question in tree.ordered:
        where, parents = tree.slice(question.name), list(tree.parents_of_question[tree.questions.index(question)])
        asked = counts[:, parents].sum(axis=1) if parents else rng.integers(5, volunteers, n)
        fractions = rng.dirichlet(np.full(len(question.columns), 0.5), n)
        counts[:, where] = rng.multinomial(asked, fractions)
        near[:, where] = 30 * fractions + rng.gamma(1, 1, fractions.shape)
    return Votes(tree, counts), expected_fractions(near, tree)


def number(value: Value) -> float:
    assert value["value"] is not None
    assert value["low"] is not None
    assert value["high"] is not None
    assert value["low"] <= value["value"] <= value["high"]
    return value["value"]


def test_the_possible_accuracy_equals_a_simulation_of_single_volunteers() -> None:
    """Galaxies drawn from the predictions, volunteers who answer one by one, and labels made of their votes."""
    rng, n, repeats = np.random.default_rng(3), 30, 25
    alpha = rng.gamma(1.0, 2.0, (n, len(GZ2.concentrations))) + 0.2
    volunteers = rng.integers(3, 9, n)
    nobody = np.zeros((n, len(GZ2.columns)), np.int64)
    nobody[:, 0] = volunteers
    votes = Votes(GZ2, nobody)
    called = predicted_summary(expected_fractions(alpha, GZ2), votes)
    found = possible_accuracy(
        alpha[None],
        votes,
        called,
        blocks(n),
        label_of=summary,
        class_of=lambda one: predicted_summary(one, votes),
        n_drawn=12_000,
    )
    index = {column: i for i, column in enumerate(GZ2.columns)}
    hits, best, total = 0, 0, 0
    for _ in range(repeats):
        fractions, counts = np.zeros((2, n, len(GZ2.columns)))
        for row in range(n):
            for question in GZ2.questions:
                fractions[row, GZ2.slice(question.name)] = rng.dirichlet(alpha[row, GZ2.slice(question.name)])
            for _ in range(volunteers[row]):
                answered: set[str] = set()
                for question in GZ2.ordered:
                    if not question.parents or answered & set(question.parents):
                        answer = rng.choice(question.columns, p=fractions[row, GZ2.slice(question.name)])
                        answered.add(str(answer))
                        counts[row, index[str(answer)]] += 1
        labels = summary(Votes(GZ2, counts.astype(np.int64)))
        is_in = labels != ""
        hits += int((is_in & (labels == called)).sum())
        best += int((is_in & (labels == predicted_summary(fractions, votes))).sum())
        total += int(is_in.sum())
    assert 0.2 < number(found.if_calibrated) < number(found.ceiling) - 0.1 < 0.85
    for value, k in ((found.if_calibrated, hits), (found.ceiling, best)):
        assert number(value) == pytest.approx(k / total, abs=4 * math.sqrt(0.25 / total))


def test_the_ceiling_rises_to_1_with_the_number_of_votes() -> None:
    rng, n = np.random.default_rng(0), 200
    alpha = rng.gamma(1.0, 2.0, (2, n, len(GZ2.concentrations))) + 0.2  # a mixture of two members
    found: list[float] = []
    for volunteers in (3, 40, 4000):
        counts = np.zeros((n, len(GZ2.columns)), np.int64)
        counts[:, 0] = volunteers
        votes = Votes(GZ2, counts)
        possible = possible_accuracy(
            alpha, votes, np.full(n, "none"), blocks(n), label_of=summary,
            class_of=lambda one, votes=votes: predicted_summary(one, votes), seed=1, n_drawn=8_000,
        )  # fmt: skip
        assert possible.if_calibrated["value"] == 0.0
        found.append(number(possible.ceiling))
    assert found[0] < found[1] - 0.1 < found[2] - 0.2
    assert found[2] > 0.97


# --- classes ----------------------------------------------------------------------------------------------------------


def test_each_number_equals_its_definition() -> None:
    rng = np.random.default_rng(0)
    n = 400
    true = rng.choice(CLASSES, n, p=[0.6, 0.3, 0.1])
    probabilities = rng.dirichlet([1, 1, 1], n) + 2 * (true[:, None] == np.array(CLASSES))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    called = np.array(CLASSES)[probabilities.argmax(axis=1)]
    found = compute_classification(true, called, CLASSES, blocks(n), probabilities)
    pairs = Counter(zip(true.tolist(), called.tolist(), strict=True))
    size = Counter(true.tolist())
    assert number(found.accuracy) == pytest.approx(sum(pairs[one, one] for one in CLASSES) / n)
    assert number(found.balanced_accuracy) == pytest.approx(np.mean([pairs[c, c] / size[c] for c in CLASSES]))
    assert number(found.majority_class_accuracy) == pytest.approx(size["a"] / n)
    given = [probabilities[i, CLASSES.index(one)] for i, one in enumerate(true.tolist())]
    assert number(found.cross_entropy) == pytest.approx(-np.mean(np.log(given)))
    entropy = -sum(k / n * math.log(k / n) for k in size.values())
    assert number(found.cross_entropy_of_frequencies) == pytest.approx(entropy)
    for one in CLASSES:
        for other in CLASSES:
            cell = found.confusion[one][other]
            assert cell["n"] == pairs[one, other]
            assert number(cell["fraction"]) == pytest.approx(pairs[one, other] / size[one])


def test_intervals_cover_the_truth() -> None:
    """For accuracy, balanced accuracy and a cell, over 300 samples of a known population; 4 standard errors wide."""
    rng = np.random.default_rng(1)
    n = 250
    hits = {"a": 0.95, "b": 0.7, "c": 0.5}
    population = {"accuracy": 0.6 * 0.95 + 0.3 * 0.7 + 0.1 * 0.5, "balanced_accuracy": np.mean(list(hits.values()))}
    covered = {"accuracy": 0, "balanced_accuracy": 0, "cell": 0}
    for _ in range(300):
        true = rng.choice(CLASSES, n, p=[0.6, 0.3, 0.1])
        is_right = rng.random(n) < np.array([hits[one] for one in true.tolist()])
        called = np.where(is_right, true, "")
        found = compute_classification(true, called, CLASSES, blocks(n))
        values = {
            "accuracy": (found.accuracy, population["accuracy"]),
            "balanced_accuracy": (found.balanced_accuracy, population["balanced_accuracy"]),
            "cell": (found.confusion["b"]["b"]["fraction"], 0.7),
        }
        for name, (value, truth) in values.items():
            assert value["low"] is not None
            assert value["high"] is not None
            covered[name] += bool(value["low"] <= truth <= value["high"])
    assert all(0.89 < one / 300 < 0.995 for one in covered.values()), covered


def test_a_perfect_accuracy_has_an_interval() -> None:
    """An accuracy of 1 has an interval with a width."""
    true = np.array(["a", "b"] * 20)
    found = compute_classification(true, true, ("a", "b"), blocks(40))
    low = found.accuracy["low"]
    assert low == pytest.approx(0.912, abs=0.001)  # Wilson's, for 40 of 40


def test_zero_probability_of_the_true_class_is_reported() -> None:
    true = np.array(["a", "b"] * 10)
    probabilities = np.tile([1.0, 0.0], (20, 1))
    found = compute_classification(true, np.array(["a"] * 20), ("a", "b"), blocks(20), probabilities)
    assert found.cross_entropy["value"] is None
    assert found.n_zero_probability == 10


def test_the_observed_fractions_give_the_summary_of_the_votes() -> None:
    votes, _ = voted(300)
    assert (
        predicted_summary(np.nan_to_num(votes.fractions), votes) == summary(votes)
    ).mean() > 0.99  # halves may round
    assert set(summary(votes).tolist()) > set(PUBLISHED)


def test_the_predicted_summary_uses_the_galaxys_version_of_the_tree() -> None:
    tree = gzoo.tree("gz_desi").published()
    votes, fractions = voted(40, tree=tree)
    parts = list(tree.parts.values())
    counts = votes.counts.copy()
    own = np.arange(40) % len(parts)
    for i, part in enumerate(parts):
        for question in part:
            counts[own != i, tree.slice(question.name)] = 0
    one = Votes(tree, counts)
    called = predicted_summary(fractions, one)
    for i, part in enumerate(parts):
        alone = fractions.copy()
        for j, other in enumerate(parts):
            for question in other:
                if j != i:
                    alone[:, tree.slice(question.name)] = 1 / len(question.columns)
        assert (predicted_summary(alone, one)[own == i] == called[own == i]).all()
        assert part
    assert len(set(called.tolist())) > 2


Command = Callable[..., str]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """A function that runs a command and returns its standard output."""

    def run(*words: object) -> str:
        monkeypatch.setattr("sys.argv", ["gzoo", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 0
        return capsys.readouterr().out

    return run


def write(path: Path, dataset: Path, columns: Mapping[str, npt.NDArray[np.floating]], split: str = "test") -> Path:
    keys, _ = gzoo.open_dataset(dataset).read_votes(split)
    keys.with_columns(**{name: pl.Series(values) for name, values in columns.items()}).write_parquet(path)
    return path


def test_classes_from_files(dataset: Path, tmp_path: Path, command: Command) -> None:
    opened = gzoo.open_dataset(dataset)
    _, votes = opened.read_votes("test")
    labels = summary(votes)
    near = votes.counts + 0.1
    from_votes = write(
        tmp_path / "votes.parquet",
        dataset,
        {f"{column}_concentration": near[:, i] for i, column in enumerate(votes.tree.columns)},
    )
    found = classify(from_votes, dataset)
    assert found.derived_from == "votes"
    possible, ceiling = (one["value"] for one in (found.accuracy_if_calibrated, found.accuracy_ceiling))
    assert possible is not None
    assert ceiling is not None
    assert 0.5 < possible < ceiling + 0.02 < 1.02
    assert found.cross_entropy["value"] is None
    assert found.n_galaxies == (labels != "").sum()
    assert found.n_unlabelled == (labels == "").sum()
    assert (
        number(found.accuracy)
        == (predicted_summary(expected_fractions(near, votes.tree), votes) == labels)[labels != ""].mean()
    )
    classes = sorted({one for split in opened.splits for one in summary(opened.read_votes(split)[1]).tolist()} - {""})
    given = {f"{one}_probability": np.where(labels == one, 0.8, 0.2 / (len(classes) - 1)) for one in PUBLISHED}
    total = sum(given.values())
    labelled = write(tmp_path / "classes.parquet", dataset, {name: one / total for name, one in given.items()})
    found = classify(labelled, dataset)
    assert found.derived_from == "probabilities"
    assert found.accuracy_ceiling["value"] is None
    assert found.accuracy["value"] == 1.0
    assert found == gzoo.score(labelled, dataset, label="summary")
    assert "balanced accuracy" in command("score", labelled, dataset, "--label", "summary")


def test_invalid_labels_and_protocols_are_rejected(dataset: Path, tmp_path: Path) -> None:
    labelled = write(tmp_path / "p.parquet", dataset, {})
    with pytest.raises(TableError, match="'ra' has type Float64"):
        classify(labelled, dataset, label="ra")
    with pytest.raises(TableError, match="'nonsense' not found"):
        classify(labelled, dataset, label="nonsense")
    with pytest.raises(InputError, match="--protocol: 'gz-evil'"):
        published(labelled, dataset, protocol="gz-evil")
    with pytest.raises(InputError, match="--label and --protocol exclude"):
        gzoo.score(labelled, dataset, label="summary", protocol="gz-evo")  # type: ignore[call-overload]


# --- protocols --------------------------------------------------------------------------------------------------------


def test_gz_evo_equals_a_direct_computation() -> None:
    votes, fractions = voted(300)
    found = gz_evo(fractions, votes, blocks(len(votes)))
    rmse, mae = [], []
    for question in GZ2.questions:
        for column in question.columns:
            i = GZ2.columns.index(column)
            total = votes.counts[:, GZ2.slice(question.name)].sum(axis=1)
            error = (fractions[:, i] - votes.counts[:, i] / np.maximum(total, 1))[total >= 20]
            if len(error):
                rmse.append(np.sqrt(np.mean(error**2)))
                mae.append(np.mean(np.abs(error)))
    assert found.n_answers == len(rmse) > 20
    assert number(found.rmse) == pytest.approx(np.mean(rmse), rel=1e-12)
    assert number(found.mae) == pytest.approx(np.mean(mae), rel=1e-12)


def test_gz_evo_has_a_noise_floor() -> None:
    """A perfect model has the RMSE of the noise floor, and a noise-corrected RMSE of 0."""
    tree = Tree("one", (Question("q", ("a", "b"), ("q_a", "q_b")),))
    rng = np.random.default_rng(0)
    true = rng.beta(2, 2, 4000)
    volunteers = rng.integers(20, 41, 4000)
    first = rng.binomial(volunteers, true)
    votes = Votes(tree, np.column_stack([first, volunteers - first]))
    found = gz_evo(np.column_stack([true, 1 - true]), votes, blocks(4000))
    assert number(found.rmse) == pytest.approx(number(found.noise_floor), rel=0.03)
    assert found.rmse_noise_corrected["low"] == 0
    assert number(found.rmse_noise_corrected) < 0.015


def test_decals_confident_equals_a_direct_computation() -> None:
    votes, fractions = voted(500, volunteers=90)
    found = decals_confident(fractions, votes, blocks(len(votes))).questions
    for question in GZ2.questions:
        own = GZ2.slice(question.name)
        relevant, confident = [], []
        for row in range(len(votes)):
            classifications = max(votes.counts[row, GZ2.slice(one.name)].sum() for one in GZ2.questions)
            here = votes.counts[row, own]
            if classifications < 34 or here.sum() < classifications / 2:
                continue
            relevant.append(fractions[row, own].argmax() == here.argmax())
            if here.max() / here.sum() > 0.8:
                confident.append(relevant[-1])
        for name, rows in (("relevant", relevant), ("confident", confident)):
            one = found[question.name]["relevant" if name == "relevant" else "confident"]
            assert one["n_galaxies"] == len(rows)
            if rows:
                assert number(one["accuracy"]) == pytest.approx(np.mean(rows))
    assert sum(one["confident"]["n_galaxies"] for one in found.values()) > 100


@pytest.mark.parametrize("protocol", ["gz-evo", "decals-confident"])
def test_protocols_as_a_command(dataset: Path, tmp_path: Path, protocol: str, command: Command) -> None:
    _, votes = gzoo.open_dataset(dataset).read_votes("test")
    columns = {f"{name}_concentration": votes.counts[:, i] + 0.5 for i, name in enumerate(votes.tree.columns)}
    path = write(tmp_path / "p.parquet", dataset, columns)
    shown = command("score", path, dataset, "--protocol", protocol, "--json")
    assert json.loads(shown) == {**published(path, dataset, protocol=protocol).to_dict(), "warnings": []}
    assert command("score", path, dataset, "--protocol", protocol)
    seen = write(tmp_path / "seen.parquet", dataset, {}, "train")
    pl.read_parquet(seen).with_columns(
        **{f"{name}_fraction": pl.lit(1 / len(q.columns)) for q in votes.tree.questions for name in q.columns}
    ).write_parquet(seen)
    with pytest.raises(TableError, match="trained on"):
        published(seen, dataset, protocol=protocol)
