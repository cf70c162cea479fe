"""Likelihoods of vote counts, in NumPy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import optimize
from scipy.special import betaln, gammaln, psi

from gzoo.errors import InputError
from gzoo.trees import FloatArray, Tree
from gzoo.votes import Votes

LOG_SMALLEST, LOG_LARGEST = np.log(1e-3), np.log(1e5)


def dirichlet_multinomial_nll(
    votes: npt.ArrayLike,
    concentration: npt.ArrayLike,
    tree: Tree,
    totals: npt.ArrayLike | None = None,
) -> FloatArray:
    """Negative log probability of the votes on each question, in nats.

    Given that N people answered a question, their votes are Dirichlet-multinomial with the answers' concentrations;
    the multinomial coefficient is included. Where several answers are allowed at once, each answer is a binomial of
    the people asked, with odds equal to its concentration. A question that nobody was asked costs exactly 0.

    Args:
        votes: Whole counts, shape (galaxy, answer), columns as `tree.columns`.
        concentration: Positive, same shape.
        tree: The questions.
        totals: People asked, shape (galaxy, question); by default `tree.totals(votes)`.

    Returns:
        Shape (galaxy, question).

    Raises:
        InputError: Shapes that do not fit, votes that are no whole counts, totals that do not fit them, or
            concentrations that are not positive numbers.

    >>> import gzoo, numpy as np
    >>> dirichlet_multinomial_nll([[1, 0]], [[1.0, 1.0]], gzoo.tree("gz_rings")).round(6)
    array([[0.693147]])
    """
    counts = _whole(votes, "Votes")
    alpha = np.asarray(concentration, dtype=np.float64)
    if counts.ndim != 2 or counts.shape != alpha.shape or counts.shape[1] != len(tree.columns):
        raise InputError(
            f"Votes of shape {counts.shape} with concentrations of shape {alpha.shape}.",
            f"Both (galaxy, {len(tree.columns)}) for tree '{tree.name}'.",
            "Put the columns in the order of tree.columns.",
        )
    if not (alpha > 0).all() or not np.isfinite(alpha).all():
        row, column = np.argwhere(~((alpha > 0) & np.isfinite(alpha)))[0]
        raise InputError(
            f"Concentration of galaxy {row}, {tree.columns[column]} is {alpha[row, column]}.",
            "A positive, finite number.",
            "Check the predictions.",
        )
    people = tree.totals(counts) if totals is None else Votes(tree, counts, _whole(totals, "Totals")).totals
    nll = np.zeros(people.shape)
    for i, question in enumerate(tree.questions):
        where = tree.slice(question.name)
        rows = people[:, i] > 0
        k, a, n = counts[rows, where], alpha[rows, where], people[rows, i]
        if question.multiple:
            said, rest = k, n[:, None] - k
            cost = (_log_factorial(said) + _log_factorial(rest) - _log_factorial(n)[:, None]) + (
                said * np.log1p(1 / a) + rest * np.log1p(a)
            )
            nll[rows, i] = cost.sum(axis=1)
        else:
            each = _log_factorial(k) - _log_rising(a, k)
            nll[rows, i] = each.sum(axis=1) - _log_factorial(n) + _log_rising(a.sum(axis=1), n)
    return nll


def expected_fractions(concentration: npt.ArrayLike, tree: Tree) -> FloatArray:
    """Expected share of the people asked who give each answer, shape (galaxy, answer).

    >>> import gzoo
    >>> expected_fractions([[1.0, 3.0]], gzoo.tree("gz_rings"))
    array([[0.25, 0.75]])
    """
    alpha = np.asarray(concentration, dtype=np.float64)
    fractions = np.empty_like(alpha)
    for question in tree.questions:
        own = alpha[:, tree.slice(question.name)]
        fractions[:, tree.slice(question.name)] = own / (
            1 + own if question.multiple else own.sum(axis=1, keepdims=True)
        )
    return fractions


def fit_baseline(votes: Votes) -> FloatArray:
    """Concentrations that know only how often each answer was given: one Dirichlet a question, by maximum likelihood.

    A question that nobody was asked gets concentration 1 for each answer. Concentrations stay within 1e-3 to 1e5.

    Args:
        votes: Of the training set.

    Returns:
        Shape (answer,).
    """
    tree = votes.tree
    fitted = np.ones(len(tree.columns))
    for i, question in enumerate(tree.questions):
        where = tree.slice(question.name)
        asked = votes.totals[:, i] > 0
        if not asked.any():
            continue
        counts, n = votes.counts[asked, where], votes.totals[asked, i]
        if question.multiple:
            fitted[where] = (counts.sum(axis=0) + 0.5) / ((n[:, None] - counts).sum(axis=0) + 0.5)
        else:
            fitted[where] = _fit_dirichlet(counts)
    return fitted


def _fit_dirichlet(counts: npt.NDArray[np.int64]) -> FloatArray:
    rows, weight = np.unique(counts, axis=0, return_counts=True)
    n = rows.sum(axis=1)

    def cost(log_alpha: FloatArray) -> tuple[float, FloatArray]:
        a = np.exp(log_alpha)
        a0 = a.sum()
        value = gammaln(a0 + n) - gammaln(a0) - (gammaln(a + rows) - gammaln(a)).sum(axis=1)
        slope = (psi(a0 + n) - psi(a0))[:, None] - (psi(a + rows) - psi(a))
        return float(weight @ value) / weight.sum(), (weight @ slope) * a / weight.sum()

    mean = (rows * weight[:, None]).sum(axis=0) + 0.5
    start = np.clip(np.log(mean / mean.sum() * 5), LOG_SMALLEST, LOG_LARGEST)
    bounds: Sequence[tuple[float, float]] = [(float(LOG_SMALLEST), float(LOG_LARGEST))] * rows.shape[1]
    found = optimize.minimize(cost, start, jac=True, method="L-BFGS-B", bounds=bounds)
    return np.exp(found.x)


def _whole(numbers: npt.ArrayLike, what: str) -> npt.NDArray[np.int64]:
    given = np.asarray(numbers)
    if not np.isfinite(given).all() or (given < 0).any() or (given != np.floor(given)).any():
        raise InputError(f"{what} hold numbers that no count of people can be.", "0, 1, 2, ...", "Use whole counts.")
    return given.astype(np.int64)


def _log_rising(a: FloatArray, k: npt.NDArray[np.int64]) -> FloatArray:
    """Log of a (a + 1) ... (a + k - 1); a difference of two gammaln would lose its digits where a is large."""
    some = np.maximum(k, 1)
    return np.where(k > 0, gammaln(some) - betaln(a, some), 0.0)


def _log_factorial(n: npt.NDArray[np.int64]) -> FloatArray:
    return gammaln(n + 1.0)
