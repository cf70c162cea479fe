"""Errors against the ground truth of a simulation, and the noise correction that estimates them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from gzoo.dataset.open import open_dataset
from gzoo.errors import TableError
from gzoo.scoring import expected_fractions, score
from gzoo.scoring.ground_truth import true_rmse
from gzoo.scoring.prediction_files import prediction_table, write_prediction_table
from gzoo.simulator import SimulateResult
from gzoo.trees.campaign import tree as tree_of


@pytest.fixture
def made(dataset: Path, sky: SimulateResult, tmp_path: Path) -> tuple[Path, Path, Path]:
    """Predictions equal to the ground truth except for noise, the dataset, and the ground truth."""
    truth = sky.truth
    opened = open_dataset(dataset)
    keys, _ = opened.read_votes("train")
    known = keys.join(pl.read_parquet(truth), on="id_str", maintain_order="left")
    probability = known.select(f"{column}_probability" for column in opened.tree.columns).to_numpy()
    noise = np.random.default_rng(0).gamma(20, 1 / 20, probability.shape)
    predictions = tmp_path / "predictions.parquet"
    write_prediction_table(predictions, prediction_table(keys, 50 * probability * noise, opened.tree), {})
    return predictions, dataset, truth


def test_true_error_equals_a_direct_computation(made: tuple[Path, Path, Path]) -> None:
    predictions, dataset, truth = made
    tree = tree_of("gz2").published()
    table = pl.read_parquet(predictions).join(pl.read_parquet(truth), on="id_str")
    votes = pl.read_parquet(
        dataset / "data" / "train-00000-of-00001.parquet", columns=["id_str", "bar-gz2_total-votes"]
    )
    table = table.join(votes, on="id_str").filter(pl.col("bar-gz2_total-votes") >= 2)
    errors = [
        table[f"{column}_fraction"] - table[f"{column}_probability"] for column in tree.question("bar-gz2").columns
    ]
    expected = float(np.sqrt(np.mean(np.square(np.array(errors)))))
    assert true_rmse(*made)["bar-gz2"] == pytest.approx(expected, rel=1e-6)


def test_the_noise_corrected_error_agrees_with_the_true_error(made: tuple[Path, Path, Path]) -> None:
    predictions, dataset, _ = made
    measured, true = score(predictions, dataset, include_trained_on=True).overall, true_rmse(*made)["overall"]
    raw, corrected = measured["rmse"]["value"], measured["rmse_noise_corrected"]
    assert raw is not None
    assert corrected["low"] is not None
    assert corrected["high"] is not None
    assert corrected["low"] <= true <= corrected["high"]
    assert raw > corrected["high"]


def test_the_ground_truth_of_another_simulation_is_rejected(made: tuple[Path, Path, Path], tmp_path: Path) -> None:
    predictions, dataset, truth = made
    other = tmp_path / "truth.parquet"
    pl.read_parquet(truth).with_columns(id_str=pl.lit("another-") + pl.col("id_str")).write_parquet(other)
    with pytest.raises(TableError, match="contains 0 of"):
        true_rmse(predictions, dataset, other)
    pl.read_parquet(truth).select("id_str").write_parquet(other)
    with pytest.raises(TableError, match="not found in"):
        true_rmse(predictions, dataset, other)


def test_fractions_in_prediction_files_are_the_expected_ones(made: tuple[Path, Path, Path]) -> None:
    tree = tree_of("gz2").published()
    table = pl.read_parquet(made[0])
    fractions = expected_fractions(table.select(f"{c}_concentration" for c in tree.columns).to_numpy(), tree)
    np.testing.assert_allclose(fractions, table.select(f"{c}_fraction" for c in tree.columns).to_numpy())
