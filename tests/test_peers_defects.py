"""Regression tests for defects that are known from other training and scoring programs."""

from __future__ import annotations

from pathlib import Path
from typing import get_type_hints

import numpy as np
import polars as pl
import pytest
import torch
from scipy import stats

import gzoo
from gzoo.dataset.open import open_dataset
from gzoo.errors import InputError, NonFiniteLossError, TableError
from gzoo.learn import training
from gzoo.learn.fitting import galaxy_losses
from gzoo.learn.heads import VoteLoss
from gzoo.learn.loader import Batch, loader
from gzoo.learn.losses import dirichlet_multinomial_nll as torch_nll
from gzoo.learn.model import Design, Model
from gzoo.learn.processes import ALONE
from gzoo.scoring import dirichlet_multinomial_nll, expected_fractions
from gzoo.scoring.calibration import calibration_of
from gzoo.scoring.classification import compute_classification
from gzoo.scoring.intervals import blocks
from gzoo.scoring.likelihood import multinomial_nll
from gzoo.scoring.predictions import Predictions, read_predictions
from gzoo.scoring.scores import compute
from gzoo.simulator import SimulateResult
from gzoo.trees.campaign import campaign
from gzoo.trees.tree import FloatArray, Question, Tree
from gzoo.votes.reading import read_votes
from gzoo.votes.votes import Votes

GZ2 = gzoo.tree("gz2")
RINGS = gzoo.tree("gz_rings")
DEEP = Tree(
    "deep",
    (
        Question("q", ("a", "b"), ("q_a", "q_b")),
        Question("r", ("s", "t", "u"), ("r_s", "r_t", "r_u"), ("q_a",)),
    ),
)


class ConstantModel(torch.nn.Module):
    """Model with the same prediction for every image."""

    def __init__(self, concentration: FloatArray) -> None:
        super().__init__()
        self.concentration = torch.nn.Parameter(torch.tensor(concentration))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.concentration.expand(len(image), -1)


# --- 1. a multinomial loss with the wrong sign and shape -------------------------------------------------------------


def test_losses_are_negative_log_probabilities_per_galaxy() -> None:
    counts, fractions = np.array([[7, 2], [0, 3]]), np.array([[0.7, 0.3], [0.4, 0.6]])
    wanted = -stats.multinomial.logpmf(counts, counts.sum(axis=1), fractions)
    found = multinomial_nll(counts, fractions, RINGS)
    assert found.shape == (2, 1)
    np.testing.assert_allclose(found[:, 0], wanted)
    as_dirichlet = torch_nll(torch.tensor(counts), torch.tensor(fractions * 1e9), RINGS)
    np.testing.assert_allclose(as_dirichlet[:, 0], wanted, atol=1e-5)


def test_predictions_closer_to_the_votes_have_a_smaller_loss() -> None:
    counts = torch.tensor([[30, 10]])
    for scale in (0.1, 1.0, 100.0):
        near, far = (torch_nll(counts, scale * torch.tensor([a]), RINGS) for a in ([3.0, 1.0], [1.0, 3.0]))
        assert near < far
    alpha = torch.tensor([[1.0, 1.0]], requires_grad=True)
    torch_nll(counts, alpha, RINGS).sum().backward()
    assert alpha.grad is not None
    assert alpha.grad[0, 0] < 0 < alpha.grad[0, 1]  # gradient descent moves towards the votes


# --- 2. a softmax before a cross-entropy that includes one -----------------------------------------------------------


def test_a_confident_correct_prediction_has_almost_no_loss() -> None:
    """Softmax twice leaves at least 1.044 nats in six classes."""
    counts = torch.tensor([[40, 0]])
    assert float(torch_nll(counts, torch.tensor([[9e6, 1e-7]]), RINGS)) < 1e-4
    names = ("a", "b", "c", "d", "e", "f")
    true = np.array(names * 10)
    sure = np.full((60, 6), 1e-9)
    sure[np.arange(60), np.tile(np.arange(6), 10)] = 1 - 5e-9
    entropy = compute_classification(true, true, names, blocks(60), sure).cross_entropy["value"]
    assert entropy is not None
    assert 0 < entropy < 1e-6


def test_predicted_fractions_reach_0_and_1() -> None:
    """A second softmax keeps six classes' probabilities between 0.07 and 0.36."""
    model = Model(Design("mobilenetv3_small_050", 32, RINGS.columns, (0.5,) * 3, (0.2,) * 3)).eval()
    image = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.copy_(torch.tensor([12.0, -12.0]))
        fraction = expected_fractions(model(image).double().numpy(), RINGS)[0]
    assert fraction[0] > 1 - 1e-6


# --- 3. augmented or incomplete validation, and the same training order in each epoch --------------------------------


def test_training_images_are_augmented_and_validation_images_are_not(dataset: Path) -> None:
    opened = open_dataset(dataset)
    train, _, validation, *_ = training._loaders(opened, 32, 8, "train", "proportional", 0, None, None, "raise", ALONE)
    for batch in validation:
        plain = loader(opened, len(batch["id_str"]), 32, split="validation", rows=batch["index"].numpy())
        assert torch.equal(next(iter(plain))["image"], batch["image"])
    for batch in train:
        plain = loader(opened, len(batch["id_str"]), 32, rows=batch["index"].numpy())
        difference = batch["image"] - next(iter(plain))["image"] / 255
        assert (difference.abs().flatten(1).amax(1) > 0.02).all()


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 1000])
def test_validation_includes_every_galaxy(dataset: Path, batch_size: int) -> None:
    opened = open_dataset(dataset)
    shown = [one for batch in loader(opened, batch_size, 8, split="validation") for one in batch["id_str"]]
    assert shown == opened.read_votes("validation")[0]["id_str"].to_list()


def test_each_epoch_has_another_order(dataset: Path) -> None:
    galaxies = loader(open_dataset(dataset), 5, 8, seed=0)
    epochs = [tuple(one for batch in galaxies for one in batch["id_str"]) for _ in range(4)]
    assert len(set(epochs)) == 4
    assert len({tuple(sorted(one)) for one in epochs}) == 1


# --- 4. concentrations clipped to 1 to 101, and NaN replaced by 1 ----------------------------------------------------


def test_concentrations_below_1_and_above_101_change_the_loss() -> None:
    counts = np.array([[40, 0], [0, 40]])
    split, even, firm = (dirichlet_multinomial_nll(counts, np.full((2, 2), a), RINGS).sum() for a in (0.05, 1.0, 101.0))
    assert split < even < firm  # volunteers agree with each other on each galaxy: a bimodal distribution
    half = np.array([[20, 20]] * 2)
    narrow, narrower = (dirichlet_multinomial_nll(half, np.full((2, 2), a), RINGS).sum() for a in (101.0, 1e5))
    assert narrower < narrow
    alpha = torch.tensor([[0.05, 3000.0]], requires_grad=True)
    torch_nll(torch.tensor([[5, 5]]), alpha, RINGS).sum().backward()
    assert alpha.grad is not None
    assert (alpha.grad != 0).all()


def test_a_model_can_predict_concentrations_below_1_and_above_101() -> None:
    baseline = np.array([1e-3, 1e5])
    model = Model(Design("mobilenetv3_small_050", 32, RINGS.columns, (0.5,) * 3, (0.2,) * 3), baseline).eval()
    with torch.no_grad():
        model.head.weight.zero_()
        predicted = model(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))[0].double().numpy()
    np.testing.assert_allclose(predicted, baseline, rtol=1e-3)


def test_nan_stops_training_and_scoring(tmp_path: Path) -> None:
    batch = Batch(
        image=torch.zeros(2, 3, 4, 4),
        votes=torch.ones(2, 2, dtype=torch.int64),
        totals=torch.full((2, 1), 2),
        index=torch.arange(2),
        id_str=["good", "bad"],
        seed=torch.arange(2),
    )
    with pytest.raises(NonFiniteLossError, match="good, bad"):
        galaxy_losses(ConstantModel(np.array([np.nan, 1.0])), VoteLoss(RINGS), batch, "validation")
    with pytest.raises(InputError, match="nan"):
        dirichlet_multinomial_nll([[1, 1]], [[np.nan, 1.0]], RINGS)
    path = tmp_path / "predictions.parquet"
    frame = {"id_str": ["1"], "ring_yes_concentration": [float("nan")], "ring_no_concentration": [1.0]}
    pl.DataFrame(frame).write_parquet(path)
    with pytest.raises(TableError, match="'1': ring_yes_concentration is nan"):
        read_predictions(path, RINGS)


# --- 5. only one parent answer per question, only one next question per answer ---------------------------------------


def test_questions_may_have_several_parent_answers() -> None:
    """Merging comes after smooth and after featured galaxies, never after an artifact; clumps after clumps."""
    hubble = campaign("gz_hubble").tree
    several = {question.name: question.parents for question in hubble.questions if len(question.parents) > 1}
    assert several
    for tree in (hubble, campaign("gz_candels").tree):
        clumpy = [question for question in tree.questions if "clump" in question.name and question.parents]
        assert len(clumpy) >= 3
        for question in clumpy:
            assert all(parent in tree.columns for parent in question.parents)
    candels = campaign("gz_candels").tree
    merging = next(question for question in candels.questions if question.name.startswith("merging"))
    assert len(merging.parents) > 1
    assert not any("artifact" in parent for parent in merging.parents)


def test_proportion_asked_adds_up_over_parents() -> None:
    odd = next(question for question in GZ2.questions if question.name.startswith("something-odd"))
    assert len(odd.parents) == 2
    fractions = np.zeros((1, len(GZ2.columns)))
    fractions[0, :3] = [0.5, 0.3, 0.2]
    parents = [GZ2.columns.index(parent) for parent in odd.parents]
    assert (
        GZ2.proportion_asked(fractions)[0, GZ2.questions.index(odd)]
        == pytest.approx(fractions[0, parents].sum())
        == 0.8
    )


# --- 6. weighted fractions times a total used as counts --------------------------------------------------------------


@pytest.mark.parametrize("kind", ["weighted", "debiased"])
def test_weighted_fractions_are_not_counts(tmp_path: Path, kind: str) -> None:
    names = {column: f"{column}_{kind}" for column in RINGS.columns}
    pl.DataFrame({"id_str": ["1"], **{name: [0.5] for name in names.values()}, "n": [31]}).write_csv(tmp_path / "t.csv")
    answers = "\n".join(f'"{column}" = "{name}"' for column, name in names.items())
    mapping = tmp_path / "columns.toml"
    mapping.write_text(f'values = "fractions"\n[answers]\n{answers}\n[totals]\n"ring" = "n"\n')
    with pytest.raises(TableError, match=kind):
        read_votes(tmp_path / "t.csv", campaign("gz_rings"), mapping)


def test_fractions_that_give_no_integer_are_not_counts(tmp_path: Path) -> None:
    """0.53 of 31 is 16.43 votes: that row is dropped with a reason; 16 of 31 is a count."""
    fractions = {"y": [0.53, 16 / 31], "n": [0.47, 15 / 31], "volunteers": [31, 31]}
    pl.DataFrame({"id_str": ["1", "2"], **fractions}).write_csv(tmp_path / "t.csv")
    mapping = tmp_path / "columns.toml"
    mapping.write_text(
        'values = "fractions"\n[answers]\n"ring_yes" = "y"\n"ring_no" = "n"\n[totals]\n"ring" = "volunteers"\n'
    )
    read = read_votes(tmp_path / "t.csv", campaign("gz_rings"), mapping)
    assert read.votes.counts.tolist() == [[16, 15]]
    assert read.dropped.select("id_str", "reason").rows() == [("1", "fraction x total not an integer")]
    with pytest.raises(InputError, match="vote count of galaxy 0, ring_yes"):
        dirichlet_multinomial_nll([[16.43, 14.57]], [[1.0, 1.0]], RINGS)


# --- 7. incompatible loader and model, and examples with missing imports ---------------------------------------------


def test_training_accepts_the_batches_of_the_loader(dataset: Path) -> None:
    opened = open_dataset(dataset)
    batch = next(iter(loader(opened, 4, 32)))
    assert set(batch) == set(get_type_hints(Batch)) - {"label"}  # which only a target has
    model, loss = ConstantModel(np.ones(len(opened.tree.columns))), VoteLoss(opened.tree)
    losses = galaxy_losses(model, loss, batch, "validation")
    assert torch.isfinite(losses).all()


def test_imports_of_the_readme_work() -> None:
    readme = Path(__file__).parents[1] / "README.md"
    imports = [
        line.strip()
        for block in readme.read_text("utf-8").split("```python")[1:]
        for line in block.partition("```")[0].splitlines()
        if line.strip().startswith(("import ", "from ")) and "gzoo" in line
    ]
    assert imports
    for line in imports:
        exec(line, {})


# --- 8. coverage of two-answer questions only, and equal weights of deep and root questions --------------------------


def deep_votes(n: int, seed: int = 0) -> tuple[Votes, FloatArray]:
    """Votes in which one of 50 galaxies has votes on the deep question."""
    rng = np.random.default_rng(seed)
    alpha = rng.gamma(2.0, 3.0, (n, 5)) + 0.1
    counts = np.zeros((n, 5), np.int64)
    for row, own in zip(counts, alpha, strict=True):
        row[:2] = rng.multinomial(30, rng.dirichlet(own[:2]))
        if rng.random() < 0.02:
            row[2:] = rng.multinomial(row[0], rng.dirichlet(own[2:]))
    return Votes(DEEP, counts, np.column_stack([counts[:, :2].sum(axis=1), counts[:, 2:].sum(axis=1)])), alpha


def test_coverage_is_reported_for_any_number_of_answers() -> None:
    votes, alpha = deep_votes(3000)
    n = len(votes)
    keys = pl.DataFrame({"dataset_name": ["d"] * n, "id_str": [str(i) for i in range(n)]})
    predictions = Predictions(DEEP, keys, "concentrations", alpha[None], ("q", "r"), np.zeros(n, bool), Path("p"))
    found = calibration_of(votes, predictions, blocks(n))["questions"]
    assert set(found) == {"q", "r"}
    for i, name in enumerate(("q", "r")):
        one = found[name]
        assert one["n_galaxies"] == (votes.totals[:, i] > 0).sum()
        assert one["pit"] is not None
        for curve in (one["central"], one["highest_density"]):
            assert curve is not None


def test_deep_questions_have_a_weight_between_0_and_that_of_the_root() -> None:
    votes, alpha = deep_votes(4000)
    wrong = alpha.copy()
    wrong[:, 2:] = alpha[:, [4, 2, 3]]
    right, worse = (compute(votes, each, np.ones(5)) for each in (alpha, wrong))
    n_root, n_deep = (right.questions[name]["n_galaxies"] for name in ("q", "r"))
    assert n_deep < n_root / 30

    def lost(part: str) -> float:
        values = [getattr(one, part)["log_likelihood_gain"]["value"] for one in (right, worse)]
        assert values[0] is not None
        assert values[1] is not None
        return float(values[0] - values[1])

    of_question = (right.questions["r"]["log_likelihood_gain"]["value"] or 0) - (
        worse.questions["r"]["log_likelihood_gain"]["value"] or 0
    )
    assert lost("overall") == pytest.approx(of_question * n_deep / n_root)
    fraction = np.sqrt(n_deep) / (np.sqrt(n_root) + np.sqrt(n_deep))
    assert lost("balanced") == pytest.approx(of_question * fraction)
    assert n_deep / n_root < fraction < 0.5


def test_predictions_of_other_galaxies_are_rejected(dataset: Path, sky: SimulateResult, tmp_path: Path) -> None:
    """A file for other galaxies or for another tree does not match the dataset."""
    path = tmp_path / "predictions.parquet"
    frame = {
        "id_str": ["of-another-survey"],
        **{f"{column}_concentration": [1.0] for column in GZ2.published().columns},
    }
    pl.DataFrame(frame).write_parquet(path)
    with pytest.raises(TableError, match="of-another-survey"):
        gzoo.score(path, dataset)
    with pytest.raises(TableError, match="not found"):
        read_predictions(path, RINGS)
