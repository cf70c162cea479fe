"""Confidence intervals: their coverage, their effective numbers of galaxies, and edge cases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gzoo.errors import InputError
from gzoo.scoring import intervals
from gzoo.scoring.bands import subset
from gzoo.scoring.intervals import Blocks, blocks, growth, ratio
from gzoo.trees.tree import FloatArray

seeds = st.integers(0, 10**6)


def corrected_errors(n: int, repetitions: int, seed: int, guessed: float = 0.05) -> FloatArray:
    """Squared errors minus sampling noise: a column per repetition, 2 to 40 votes, some predictions are guesses."""
    rng = np.random.default_rng(seed)
    shape = (n, repetitions)
    volunteers = np.clip(np.exp(rng.normal(2.2, 0.9, shape)).astype(np.int64), 2, 40)
    true = rng.beta(0.6, 1.2, shape)
    near = np.clip(true + rng.normal(0, 0.02, shape), 0, 1)
    expected = np.where(rng.random(shape) < guessed, rng.random(shape), near)
    voted = rng.binomial(volunteers, true) / volunteers
    return (expected - voted) ** 2 - voted * (1 - voted) / (volunteers - 1)


def test_values_are_ratios_of_sums() -> None:
    rng = np.random.default_rng(0)
    above, below = rng.normal(size=(70, 3)), rng.uniform(0.5, 2, (70, 3))
    for denominator in (below, below[:, :1]):
        found = ratio(above, denominator, blocks(70))
        np.testing.assert_allclose(found.value, above.sum(axis=0) / np.broadcast_to(denominator, (70, 3)).sum(axis=0))
        assert (found.low < found.value).all()
        assert (found.value < found.high).all()


@settings(max_examples=30, deadline=None)
@given(seeds, st.floats(1e-6, 1e6), st.floats(-5, 5))
def test_intervals_follow_scale_and_shift(seed: int, scale: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    above, below = rng.exponential(size=(60, 1)), rng.uniform(0.5, 2, (60, 1))
    plain = ratio(above, below, blocks(60), n_bootstrap=100)
    moved = ratio(scale * (above + shift * below), below, blocks(60), n_bootstrap=100)
    for end in ("value", "low", "high"):
        wanted = scale * (getattr(plain, end) + shift)
        np.testing.assert_allclose(getattr(moved, end), wanted, rtol=1e-4, atol=1e-4 * scale)
    turned = ratio(-above, below, blocks(60), n_bootstrap=100)
    np.testing.assert_allclose([turned.low, turned.high], [-plain.high, -plain.low], rtol=1e-5)


def test_galaxies_with_denominator_0_are_ignored() -> None:
    column = corrected_errors(400, 1, 3)
    beside = np.concatenate([column, np.zeros((200, 1))])
    taking_part = np.concatenate([np.ones((400, 1)), np.zeros((200, 1))])
    few, all_of_them = ratio(column, np.ones((400, 1)), blocks(400)), ratio(beside, taking_part, blocks(600))
    for name in ("value", "standard_error", "n_effective", "degrees"):
        np.testing.assert_allclose(getattr(few, name), getattr(all_of_them, name))
    width = (few.high - few.low)[0]
    assert (all_of_them.high - all_of_them.low)[0] == pytest.approx(width, rel=0.1)


@pytest.mark.parametrize(("n", "guessed"), [(500, 0.05), (500, 0.0), (1000, 0.05)])
def test_intervals_of_skewed_errors_cover_the_truth(n: int, guessed: float) -> None:
    """600 repetitions; the standard deviation of the coverage is 0.009."""
    truth = float(np.mean([corrected_errors(100_000, 1, 10_000 + i, guessed).mean() for i in range(20)]))
    columns = corrected_errors(n, 600, n, guessed)
    found = ratio(columns, np.ones((n, 1)), blocks(n))
    covered = ((found.low <= truth) & (truth <= found.high)).mean()
    assert 0.92 <= covered <= 0.98
    raw = ratio(np.abs(columns) + 0.01, np.ones((n, 1)), blocks(n))
    assert ((raw.low <= truth) & (truth <= raw.high)).mean() < 0.1


def test_both_ends_miss_equally_often() -> None:
    """Student's t misses above three to four times as often, which the transformation corrects."""
    truth = float(np.mean([corrected_errors(100_000, 1, 20_000 + i).mean() for i in range(20)]))
    found = ratio(corrected_errors(500, 1500, 5), np.ones((500, 1)), blocks(500))
    below, above = (truth < found.low).mean(), (truth > found.high).mean()
    assert 0.4 < below / above < 2.0
    plain = np.abs(truth - found.value) > 1.965 * found.standard_error
    student_above = (plain & (truth > found.value)).mean()
    assert student_above > 1.3 * above


def test_ratios_with_correlated_denominators_are_covered() -> None:
    rng = np.random.default_rng(2)
    weight = rng.integers(2, 41, (300, 600)).astype(np.float64)
    above = weight * rng.exponential(1.0, weight.shape) * (1 + 1 / weight)
    truth = 1 + 39 / sum(range(2, 41))
    found = ratio(above, weight, blocks(300))
    assert 0.92 <= ((found.low <= truth) & (truth <= found.high)).mean() <= 0.98


# --- the sky ------------------------------------------------------------------------------------------------------


def neighbours(n_cells: int, seed: int, per_cell: int = 15) -> tuple[FloatArray, Blocks]:
    """Errors that galaxies of a cell have partly in common; the truth is 1."""
    rng = np.random.default_rng(seed)
    place = np.repeat(np.arange(n_cells), per_cell)
    x = 0.5 * rng.exponential(1.0, n_cells)[place] + 0.5 * rng.exponential(1.0, len(place))
    return x[:, None], Blocks(place, n_cells, "sky cells")


@pytest.mark.parametrize(("n_cells", "method"), [(12, "t"), (40, "t"), (100, "bootstrap")])
def test_errors_in_common_with_neighbours_are_covered_only_by_cells(n_cells: int, method: str) -> None:
    covered = {"cells": 0, "galaxies": 0}
    for seed in range(300):
        x, cells = neighbours(n_cells, seed)
        for name, each in (("cells", cells), ("galaxies", blocks(len(x)))):
            found = ratio(x, np.ones(x.shape), each, n_bootstrap=400)
            covered[name] += bool(found.low[0] <= 1 <= found.high[0])
            assert name == "galaxies" or found.method == (method,)
    assert 0.89 <= covered["cells"] / 300 <= 0.985
    assert covered["galaxies"] / 300 < 0.75


def test_fewer_than_ten_cells_have_no_interval() -> None:
    x, cells = neighbours(9, 0)
    found = ratio(x, np.ones(x.shape), cells)
    assert found.method == ("",)
    assert np.isnan([found.low, found.high, found.standard_error]).all()
    value = found.of(0)
    assert value["value"] == pytest.approx(x.mean())
    assert value["low"] is value["high"] is None
    assert np.isnan(found.p_values()).all()


def test_the_number_of_effective_galaxies() -> None:
    even = ratio(np.random.default_rng(0).normal(size=(100, 1)), np.ones((100, 1)), blocks(100))
    assert even.n_effective[0] == pytest.approx(100)
    one_heavy = np.ones((100, 1))
    one_heavy[0] = 99.0
    heavy = ratio(np.random.default_rng(0).normal(size=(100, 1)) * one_heavy, one_heavy, blocks(100))
    assert heavy.n_effective[0] == pytest.approx(198**2 / (99**2 + 99))
    copies = np.repeat(np.random.default_rng(1).normal(size=(80, 1)), 5, axis=0)  # five times the same galaxy
    cells = Blocks(np.repeat(np.arange(80), 5), 80, "sky cells")
    assert ratio(copies, np.ones((400, 1)), cells).n_effective[0] == pytest.approx(80)


def test_cells_are_as_wide_as_possible_for_200_cells() -> None:
    rng = np.random.default_rng(0)
    wide = blocks(20_000, rng.uniform(100, 250, 20_000), rng.uniform(0, 60, 20_000))
    deep = blocks(3000, 150 + rng.uniform(-2, 2, 3000), 2 + rng.uniform(-2, 2, 3000))
    field = blocks(500, 53.1 + rng.uniform(-0.05, 0.05, 500), -27.8 + rng.uniform(-0.05, 0.05, 500))
    assert wide.kind == deep.kind == field.kind == "sky cells"
    assert wide.cell_arcmin == pytest.approx(110, abs=1)
    assert deep.n_blocks >= 200
    assert field.cell_arcmin == pytest.approx(3.4, abs=0.1)
    assert field.cell_arcmin < deep.cell_arcmin < wide.cell_arcmin
    assert field.n_blocks < 20
    assert (np.bincount(wide.labels, minlength=wide.n_blocks) > 0).all()


def in_fields(seed: int, n_fields: int, diameter: float, per_field: int = 30) -> tuple[FloatArray, Blocks]:
    """Errors with variance 1 of a field and 1 of a galaxy, and the blocks that their positions give."""
    rng = np.random.default_rng(seed)
    field = np.repeat(np.arange(n_fields), per_field)
    radius, angle = diameter / 2 * np.sqrt(rng.random(len(field))), rng.uniform(0, 2 * np.pi, len(field))
    dec = np.degrees(np.arcsin(rng.uniform(-0.9, 0.9, n_fields)))[field] + radius * np.sin(angle)
    ra = rng.uniform(0, 360, n_fields)[field] + radius * np.cos(angle) / np.cos(np.radians(dec))
    error = rng.standard_normal(n_fields)[field] + rng.standard_normal(len(field))
    return np.column_stack([error, error**2]), blocks(len(field), ra % 360, dec)


@pytest.mark.parametrize(("n_fields", "diameter"), [(30, 1.0), (100, 1.0), (100, 3.0)])
def test_errors_that_fields_share_are_covered(n_fields: int, diameter: float) -> None:
    """Fields are wider than the narrowest cells. A short version of benchmarks/sky_coverage.py."""
    held = np.zeros((2, 2), np.int64)
    for seed in range(100):
        columns, units = in_fields(seed, n_fields, diameter)
        for i, cells in enumerate((units, replace(units, wider=()))):
            found = ratio(columns, np.ones((len(columns), 1)), cells, n_bootstrap=100)
            held[i] += (found.low <= [0, 2]) & (found.high >= [0, 2])
    bias, mse = held[0].tolist()
    assert bias >= 89  # of 95 expected: three standard errors
    assert mse >= 86
    assert held[1, 0] < bias - 8  # without wider cells


def test_intervals_of_errors_that_are_not_shared_are_hardly_wider() -> None:
    widths: list[float] = []
    rng = np.random.default_rng(0)
    for _ in range(20):
        ra, dec = rng.uniform(0, 360, 4000), np.degrees(np.arcsin(rng.uniform(-1, 1, 4000)))
        found = ratio(rng.standard_normal((4000, 4)), np.ones((4000, 1)), blocks(4000, ra, dec), n_bootstrap=100)
        widths += ((found.high - found.low) / 2 / (1.96 / np.sqrt(4000))).tolist()
    assert 0.98 < np.mean(widths) < 1.25


def test_growing_standard_errors_are_found() -> None:
    called = {5: 0, 100: 0}
    for n_fields in called:
        for seed in range(40):
            columns, units = in_fields(seed, n_fields, 3.0, 100)
            called[n_fields] += growth(columns[:, 0], np.ones(len(columns)), units) is not None
    assert called[5] >= 30
    assert called[100] <= 6
    assert growth(np.ones(30), np.ones(30), blocks(30)) is None


def test_parts_of_the_galaxies_keep_the_wider_cells() -> None:
    columns, units = in_fields(0, 30, 1.0)
    rows = np.arange(0, len(columns), 3)
    one = np.ones((len(rows), 1))
    taken, numbered = (ratio(columns[rows], one, each) for each in (units.take(rows), subset(units, rows)))
    np.testing.assert_allclose([taken.low, taken.high], [numbered.low, numbered.high], rtol=1e-6)
    assert (taken.standard_error > ratio(columns[rows], one, replace(units, wider=()).take(rows)).standard_error).all()


def test_galaxies_without_a_position_are_blocks_of_their_own() -> None:
    ra, dec = np.repeat([10.0, 20.0], 10), np.zeros(20)
    ra[:3] = np.nan
    found = blocks(20, ra, dec)
    assert found.kind == "sky cells"
    assert sorted(np.bincount(found.labels).tolist(), reverse=True)[-3:] == [1, 1, 1]
    ra[:15] = np.nan
    assert blocks(20, ra, dec).kind == "galaxies"


# --- edges --------------------------------------------------------------------------------------------------------


def test_constant_columns_have_intervals_of_width_0() -> None:
    found = ratio(np.full((60, 2), [0.0, 0.5]), np.ones((60, 1)), blocks(60))
    assert found.low.tolist() == found.value.tolist() == found.high.tolist() == [0.0, 0.5]


@pytest.mark.parametrize("n", [0, 1, 9])
def test_few_galaxies_have_a_value_but_no_interval(n: int) -> None:
    found = ratio(np.ones((n, 1)), np.ones((n, 1)), blocks(n))
    assert (found.of(0)["value"] is None) == (n == 0)
    assert found.of(0)["low"] is found.of(0)["high"] is None


def test_one_different_galaxy_gives_a_wide_interval() -> None:
    """Many bootstrap samples do not contain it; the interval must still have a width."""
    column = np.zeros((500, 1))
    column[7] = 1.0
    found = ratio(column, np.ones((500, 1)), blocks(500))
    assert found.low[0] <= 0.0
    assert found.high[0] >= 0.0059  # the end of Student's t
    assert found.p_values()[0] > 0.05


def test_an_infinite_value_does_not_affect_other_columns() -> None:
    columns = np.random.default_rng(0).normal(size=(80, 2))
    plain = ratio(columns, np.ones((80, 1)), blocks(80))
    columns[3, 1] = -np.inf
    found = ratio(columns, np.ones((80, 1)), blocks(80))
    assert found.of(0) == plain.of(0)
    assert found.of(1) == {"value": None, "low": None, "high": None}


def test_different_shapes_are_rejected() -> None:
    for above, below, n in (((5, 2), (5, 3), 5), ((5, 2), (4, 1), 5), ((5, 2), (5, 2), 6)):
        with pytest.raises(InputError, match=r"\(5, 2\)"):
            ratio(np.ones(above), np.ones(below), blocks(n))


def test_many_galaxies_are_resampled_in_groups_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = corrected_errors(4000, 5, 1)
    one = np.ones((4000, 1))
    alone = ratio(columns, one, blocks(4000))
    monkeypatch.setattr(intervals, "MAX_UNITS", 1000)
    grouped = ratio(columns, one, blocks(4000))
    np.testing.assert_allclose(grouped.high - grouped.low, alone.high - alone.low, rtol=0.1)
    assert grouped.value.tolist() == alone.value.tolist()


def test_without_bootstrap_the_interval_is_students_t() -> None:
    found = ratio(corrected_errors(600, 2, 0), np.ones((600, 1)), blocks(600), n_bootstrap=0)
    assert found.method == ("t", "t")
    assert (found.high - found.low) / found.standard_error == pytest.approx(2 * 1.964, rel=0.05)


def test_the_same_seed_gives_the_same_interval() -> None:
    column = corrected_errors(100, 1, 0)
    first, again, other = (ratio(column, np.ones((100, 1)), blocks(100), seed=seed) for seed in (0, 0, 1))
    assert first.of(0) == again.of(0) != other.of(0)


def test_p_values_are_uniform_under_the_null_hypothesis_and_accurate_in_the_tails() -> None:
    rng = np.random.default_rng(4)
    null, one = rng.normal(size=(200, 3000)), np.ones((200, 1))
    p = ratio(null, one, blocks(200), n_bootstrap=20).p_values()
    for level in (0.5, 0.05, 0.01):
        assert (p < level).mean() == pytest.approx(level, abs=4 * np.sqrt(level / 3000))
    far = ratio(null[:, :1] + 1, one, blocks(200))
    assert 0 < far.p_values()[0] < 1e-12
