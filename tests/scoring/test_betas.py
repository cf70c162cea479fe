"""Quantiles of Beta distributions and their mixtures, against those of SciPy."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betainc, betaincinv, gammaincinv
from scipy.stats import norm

from gzoo.scoring.betas import mixture_quantile, quantile

LOGS = st.lists(st.tuples(st.floats(-20, 17), st.floats(-20, 17)), min_size=1, max_size=30)
LEVELS = st.sampled_from([0.005, 0.025, 0.05, 0.16, 0.5, 0.84, 0.95, 0.975, 0.995])


@given(LOGS, LEVELS)
@settings(deadline=None)
def test_quantiles_agree_with_scipy(logs: list[tuple[float, float]], q: float) -> None:
    a, b = np.exp(np.array(logs)).T
    exact = betaincinv(a, b, q)
    spread = np.sqrt(a * b / (a + b + 1)) / (a + b)
    assert (np.abs(quantile(a, b, q) - exact) <= 1e-4 + 1e-4 * spread).all()


def test_narrow_quantiles_are_accurate_relative_to_their_width() -> None:
    rng = np.random.default_rng(0)
    a, b = np.exp(rng.uniform(0, 16, (2, 20_000)))
    spread = np.sqrt(a * b / (a + b + 1)) / (a + b)
    for q in (0.025, 0.5, 0.95):
        assert (np.abs(quantile(a, b, q) - betaincinv(a, b, q)) / spread).max() < 1e-5


def test_quantiles_of_huge_parameters_are_finite_and_as_wide_as_they_should_be() -> None:
    """SciPy's own function returns NaN for some of them, from 7e15 on."""
    rng = np.random.default_rng(0)
    a, b = 10 ** rng.uniform(8, 19, (2, 2000))
    assert np.isnan(betaincinv(a, b, 0.05)).any()
    angle, width = np.arctan2(np.sqrt(a), np.sqrt(b)), 1 / (2 * np.sqrt(a + b + 1))
    for q in (0.005, 0.05, 0.5, 0.95, 0.995):
        normal = np.sin(angle + norm.ppf(q) * width) ** 2
        np.testing.assert_allclose(quantile(a, b, q), normal, rtol=1e-7)
    small = 10 ** rng.uniform(-3, 4, 2000)
    for q in (0.05, 0.5, 0.95):  # the other parameter is then that of a gamma distribution
        np.testing.assert_allclose(quantile(small, b * 1e3, q) * b * 1e3, gammaincinv(small, q), rtol=2e-3, atol=1e-4)


@given(st.integers(2, 5), st.integers(0, 1000), LEVELS)
@settings(deadline=None, max_examples=40)
def test_a_mixture_has_its_probability_below_its_quantile(n_members: int, seed: int, q: float) -> None:
    rng = np.random.default_rng(seed)
    a, b = np.exp(rng.normal(1.0, 2.0, (2, n_members, 50)))
    weights = rng.dirichlet(np.ones(n_members), 50).T
    found = mixture_quantile(weights, a, b, q)

    def below(x: np.ndarray) -> np.ndarray:
        return (weights * betainc(a, b, np.clip(x, 0, 1))).sum(axis=0)

    assert (below(found - 5e-6) <= q + 2e-4).all()
    assert (below(found + 5e-6) >= q - 2e-4).all()


def test_identical_members_have_the_quantile_of_one() -> None:
    a, b = np.array([[3.0, 0.01, 500.0]] * 3), np.array([[7.0, 0.02, 1e5]] * 3)
    weights = np.full((3, 3), 1 / 3)
    np.testing.assert_allclose(mixture_quantile(weights, a, b, 0.05), quantile(a[0], b[0], 0.05), atol=1e-6)
