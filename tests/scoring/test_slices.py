"""Slices: every galaxy is in exactly one slice of each column, and slices contain what their names say."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gzoo.dataset.open import Dataset
from gzoo.errors import TableError
from gzoo.scoring.scores import compute
from gzoo.scoring.slices import MAX_VALUES, N_BINS, Slicing, slicings
from gzoo.trees.tree import Question, Tree
from gzoo.votes.votes import Votes

ONE = Tree("one", (Question("q", ("a", "b"), ("q_a", "q_b")),))
numbers = st.lists(st.none() | st.floats(allow_infinity=False) | st.integers(0, 3).map(float), max_size=60)
strings = st.lists(st.none() | st.sampled_from(["", "spiral", "ring"]) | st.text(max_size=3), max_size=60)


@given(numbers)
@example([2.0, 2.00001])
def test_numbers_are_divided_into_quarters(values: list[float | None]) -> None:
    slicing = Slicing("x", pl.Series(values, dtype=pl.Float64))
    parts = dict(slicing.parts())
    assert sorted(row for rows in parts.values() for row in rows.tolist()) == list(range(len(values)))
    assert len(parts) <= N_BINS + 1
    missing = [i for i, value in enumerate(values) if value is None or np.isnan(value)]
    assert parts.get("unknown", np.array([])).tolist() == missing


@given(strings)
def test_strings_are_divided_by_their_values(values: list[str | None]) -> None:
    parts = list(Slicing("x", pl.Series(values, dtype=pl.String)).parts())
    assert sorted(row for _, rows in parts for row in rows.tolist()) == list(range(len(values)))
    assert len(parts) <= MAX_VALUES + 2
    for name, rows in parts:
        if name == "spiral":
            assert {values[row] for row in rows.tolist()} == {"spiral"}


def test_the_slice_with_the_largest_error_comes_first() -> None:
    rng = np.random.default_rng(0)
    fraction = rng.uniform(0.3, 0.7, 400)
    is_bad = np.arange(400) % 2 == 0
    expected = fraction + np.where(is_bad, 0.2, 0.0)
    votes = Votes(ONE, np.stack([yes := rng.binomial(30, fraction), 30 - yes], axis=1))
    concentrations = 50 * np.stack([expected, 1 - expected], axis=1)
    kind = pl.Series(np.where(is_bad, "bad", "good"))
    scores = compute(votes, concentrations, np.ones(2), slices=[Slicing("kind", kind)])
    worst, best = scores.slices
    assert (worst["range"], best["range"], worst["n_galaxies"]) == ("bad", "good", 200)
    alone = compute(votes.take(np.flatnonzero(is_bad)), concentrations[is_bad], np.ones(2))
    assert worst["score"]["mse_noise_corrected"] == alone.overall["mse_noise_corrected"]
    assert worst["score"]["exceeds_noise"] is True
    assert best["score"]["exceeds_noise"] is False


def test_a_table_that_lists_a_galaxy_twice_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "more.csv").write_text("id_str,redshift\n1,0.1\n2,0.2\n1,0.3\n")
    keys = pl.DataFrame({"dataset_name": ["d"], "id_str": ["1"]})
    votes = Votes(ONE, np.array([[1, 2]]))
    with pytest.raises(TableError, match="galaxy '1' more than once"):
        slicings(cast(Dataset, None), keys, votes, ["redshift"], tmp_path / "more.csv")
    (tmp_path / "more.csv").write_text("id_str,redshift\n1,0.1\n2,0.2\n")
    found = slicings(cast(Dataset, None), keys, votes, ["redshift"], tmp_path / "more.csv")
    assert [one.column for one in found] == ["total votes", "redshift"]
    assert found[1].values.cast(pl.Float64).to_list() == [0.1]
