"""Likelihoods of vote counts, in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from scipy import optimize
from scipy.special import gammaln, psi, xlogy

from gzoo.errors import InputError
from gzoo.trees.tree import FloatArray, IntArray, Tree
from gzoo.votes.votes import Votes

BoolArray = npt.NDArray[np.bool_]

LOG_MIN, LOG_MAX = np.log(1e-3), np.log(1e5)  # of the baseline's concentrations
SERIES_FROM = 10.0  # from here on Stirling's series is exact to 1e-12
MAX_TABLE = 100_000


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
    alpha = np.asarray(concentration, dtype=np.float64)
    counts, volunteers = _checked(votes, alpha.shape, tree, totals)
    _refuse(~((alpha > 0) & np.isfinite(alpha)), alpha, tree, "Concentration", "A positive, finite number.")

    def cost(where: slice, rows: BoolArray, n: IntArray, is_multiple: bool) -> FloatArray:
        return question_nll(counts[rows, where], n, alpha[rows, where], is_multiple=is_multiple)

    return _each_question(volunteers, tree, cost)


def mixture_nll(
    votes: npt.ArrayLike,
    concentrations: npt.ArrayLike,
    tree: Tree,
    totals: npt.ArrayLike | None = None,
) -> FloatArray:
    """As `dirichlet_multinomial_nll`, for mixtures with equal weights: an ensemble, several heads or forward passes.

    Question by question: that the same member may be right on several questions of a galaxy is not rewarded.

    Args:
        votes: Whole counts, shape (galaxy, answer).
        concentrations: Positive, shape (member, galaxy, answer).
        tree: The questions.
        totals: As there.

    >>> import gzoo
    >>> mixture_nll([[1, 0]], [[[1.0, 1.0]], [[3.0, 1.0]]], gzoo.tree("gz_rings")).round(6)
    array([[0.470004]])
    """
    members = np.asarray(concentrations, dtype=np.float64)
    each = [dirichlet_multinomial_nll(votes, member, tree, totals) for member in members]
    return mixed(each)


def multinomial_nll(
    votes: npt.ArrayLike,
    fractions: npt.ArrayLike,
    tree: Tree,
    totals: npt.ArrayLike | None = None,
) -> FloatArray:
    """As `dirichlet_multinomial_nll`, for predicted fractions that state no doubt: a multinomial a question.

    Infinite where an answer with fraction 0 has votes.

    Args:
        votes: Whole counts, shape (galaxy, answer).
        fractions: Shares of those asked, same shape; those of a question add up to 1 (not where several answers are
            allowed: there each answer is a binomial).
        tree: The questions.
        totals: As there.

    >>> import gzoo
    >>> multinomial_nll([[2, 1]], [[0.5, 0.5]], gzoo.tree("gz_rings")).round(6)
    array([[0.980829]])
    """
    fractions = np.asarray(fractions, dtype=np.float64)
    counts, volunteers = _checked(votes, fractions.shape, tree, totals)
    _refuse(~((fractions >= 0) & (fractions <= 1)), fractions, tree, "Fraction", "A number from 0 to 1.")

    def cost(where: slice, rows: BoolArray, n: IntArray, is_multiple: bool) -> FloatArray:
        return fraction_nll(counts[rows, where], n, fractions[rows, where], is_multiple=is_multiple)

    return _each_question(volunteers, tree, cost)


def log_coefficient(votes: npt.ArrayLike, tree: Tree, totals: npt.ArrayLike | None = None) -> FloatArray:
    """Log of the number of orders in which the votes could have come, shape (galaxy, question).

    It is part of every log score here, depends on the votes alone, and so cancels in every difference. Programs that
    leave it out have scores lower by this much.

    >>> import gzoo
    >>> log_coefficient([[2, 1]], gzoo.tree("gz_rings")).round(6)
    array([[1.098612]])
    """
    counts, volunteers = _checked(votes, (len(np.asarray(votes)), len(tree.columns)), tree, totals)

    def coefficient(where: slice, rows: BoolArray, n: IntArray, is_multiple: bool) -> FloatArray:
        return question_log_coefficient(counts[rows, where], n, is_multiple=is_multiple)

    return _each_question(volunteers, tree, coefficient)


# ----------------------------------------------------------------------------------------------------
# One question, galaxies that were asked it


def question_nll(counts: IntArray, volunteers: IntArray, alpha: FloatArray, *, is_multiple: bool = False) -> FloatArray:
    """Negative log probability of one question's votes.

    Accurate to 1e-9 nats, or 1e-9 of the value, for concentrations of 1e-3 to 1e7 and counts to 10,000.

    Args:
        counts: Shape (galaxy, answer).
        volunteers: Asked, shape (galaxy,).
        alpha: Concentrations, shape (galaxy, answer), or (answer,) where all galaxies have the same.
        is_multiple: Whether one person may give several answers.

    Returns:
        Shape (galaxy,).

    >>> import numpy as np
    >>> question_nll(np.array([[1, 0]]), np.array([1]), np.array([[1.0, 3.0]])).round(6)
    array([1.386294])
    """
    coefficient = question_log_coefficient(counts, volunteers, is_multiple=is_multiple)
    if is_multiple:
        said, rest = counts, volunteers[:, None] - counts
        return (said * np.log1p(1 / alpha) + rest * np.log1p(alpha)).sum(axis=1) - coefficient
    if alpha.ndim == 1:  # then a table holds every value there is
        rising = np.zeros(len(counts))
        for i, one in enumerate(alpha.tolist()):
            rising += _of_table(counts[:, i], one)
        return _of_table(volunteers, float(alpha.sum())) - rising - coefficient
    return log_rising(alpha.sum(axis=1), volunteers) - log_rising(alpha, counts).sum(axis=1) - coefficient


def fraction_nll(
    counts: IntArray, volunteers: IntArray, fractions: FloatArray, *, is_multiple: bool = False
) -> FloatArray:
    """As `question_nll`, of a multinomial with the given shares."""
    cost = -xlogy(counts, fractions).sum(axis=1)
    if is_multiple:
        cost -= xlogy(volunteers[:, None] - counts, 1 - fractions).sum(axis=1)
    return cost - question_log_coefficient(counts, volunteers, is_multiple=is_multiple)


def beta_binomial_nll(said: IntArray, volunteers: IntArray, alpha: FloatArray, beta: FloatArray) -> FloatArray:
    """Negative log probability that `said` of `volunteers` gave an answer, its share being Beta(alpha, beta).

    It is what a Dirichlet-multinomial says of one answer against all others.

    >>> import numpy as np
    >>> beta_binomial_nll(np.array([1]), np.array([1]), np.array([1.0]), np.array([3.0])).round(6)
    array([1.386294])
    """
    rest = volunteers - said
    coefficient = log_factorial(volunteers) - log_factorial(said) - log_factorial(rest)
    return log_rising(alpha + beta, volunteers) - log_rising(alpha, said) - log_rising(beta, rest) - coefficient


def question_log_coefficient(counts: IntArray, volunteers: IntArray, *, is_multiple: bool = False) -> FloatArray:
    """Log multinomial coefficient of one question, shape (galaxy,)."""
    if is_multiple:
        each = log_factorial(volunteers)[:, None] - log_factorial(counts) - log_factorial(volunteers[:, None] - counts)
        return each.sum(axis=1)
    return log_factorial(volunteers) - log_factorial(counts).sum(axis=1)


def mixed(each: Sequence[FloatArray]) -> FloatArray:
    """Negative log of the mean probability of several members, from their own negative logs."""
    if len(each) == 1:
        return each[0]
    stack = np.stack(each)
    best = stack.min(axis=0)
    best = np.where(np.isfinite(best), best, 0.0)
    with np.errstate(divide="ignore"):  # a vote that no member thinks possible has probability 0
        return best - np.log(np.exp(best - stack).mean(axis=0))


def log_rising(a: FloatArray, k: IntArray) -> FloatArray:
    """Log of a (a + 1) ... (a + k - 1), to the last digits for all a > 0.

    A difference of two gammaln would lose them where a is large: there both are Stirling's series, and the large
    terms are subtracted on paper.
    """
    start, steps = np.broadcast_arrays(a, k)
    out = np.zeros(start.shape)
    some = steps > 0
    small = some & (start < SERIES_FROM)
    low = start[small]
    out[small] = gammaln(low + steps[small]) - gammaln(low)
    large = some & ~small
    low, step = start[large], steps[large].astype(np.float64)
    high = low + step
    out[large] = step * np.log(high) + ((low - 0.5) * np.log1p(step / low) - step) + (_tail(high) - _tail(low))
    return out


def log_factorial(n: IntArray) -> FloatArray:
    """Log of n!, from a table where it is short."""
    largest = int(n.max()) if n.size else 0
    if largest <= MAX_TABLE:
        return gammaln(np.arange(largest + 1) + 1.0)[n]
    return gammaln(n + 1.0)


def _of_table(k: IntArray, a: float) -> FloatArray:
    largest = int(k.max()) if k.size else 0
    if largest > MAX_TABLE:
        return log_rising(np.float64(a) * np.ones(k.shape), k)
    return log_rising(np.full(largest + 1, a), np.arange(largest + 1))[k]


def _tail(x: FloatArray) -> FloatArray:
    """What Stirling's formula for log gamma leaves out; for x of 10 or more to 1e-12."""
    y = 1 / (x * x)
    return (1 / 12 - y * (1 / 360 - y * (1 / 1260 - y / 1680))) / x


# ----------------------------------------------------------------------------------------------------
# Fractions and the baseline


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


def _fit_dirichlet(counts: IntArray) -> FloatArray:
    rows, weight = np.unique(counts, axis=0, return_counts=True)
    n = rows.sum(axis=1)

    def cost(log_alpha: FloatArray) -> tuple[float, FloatArray]:
        a = np.exp(log_alpha)
        a0 = a.sum()
        value = gammaln(a0 + n) - gammaln(a0) - (gammaln(a + rows) - gammaln(a)).sum(axis=1)
        slope = (psi(a0 + n) - psi(a0))[:, None] - (psi(a + rows) - psi(a))
        return float(weight @ value) / weight.sum(), (weight @ slope) * a / weight.sum()

    mean = (rows * weight[:, None]).sum(axis=0) + 0.5
    start = np.clip(np.log(mean / mean.sum() * 5), LOG_MIN, LOG_MAX)
    bounds: Sequence[tuple[float, float]] = [(float(LOG_MIN), float(LOG_MAX))] * rows.shape[1]
    found = optimize.minimize(cost, start, jac=True, method="L-BFGS-B", bounds=bounds)
    return np.exp(found.x)


# ----------------------------------------------------------------------------------------------------
# Checks


def _each_question(
    volunteers: IntArray, tree: Tree, cost: Callable[[slice, BoolArray, IntArray, bool], FloatArray]
) -> FloatArray:
    """A cost for each galaxy that was asked, 0 for the others; shape (galaxy, question)."""
    out = np.zeros(volunteers.shape)
    for i, question in enumerate(tree.questions):
        rows = volunteers[:, i] > 0
        out[rows, i] = cost(tree.slice(question.name), rows, volunteers[rows, i], question.multiple)
    return out


def _checked(
    votes: npt.ArrayLike, shape: tuple[int, ...], tree: Tree, totals: npt.ArrayLike | None
) -> tuple[IntArray, IntArray]:
    counts = _whole(votes, "Votes")
    if counts.ndim != 2 or counts.shape != shape or counts.shape[1] != len(tree.columns):
        raise InputError(
            f"Votes of shape {counts.shape} with concentrations of shape {shape}.",
            f"Both (galaxy, {len(tree.columns)}) for tree '{tree.name}'.",
            "Put the columns in the order of tree.columns.",
        )
    return counts, tree.totals(counts) if totals is None else Votes(tree, counts, _whole(totals, "Totals")).totals


def _refuse(bad: BoolArray, values: FloatArray, tree: Tree, what: str, expected: str) -> None:
    if bad.any():
        row, column = np.argwhere(bad)[0].tolist()
        raise InputError(
            f"{what} of galaxy {row}, {tree.columns[column]} is {values[row, column]}.",
            expected,
            "Check the predictions.",
        )


def _whole(numbers: npt.ArrayLike, what: str) -> IntArray:
    given = np.asarray(numbers)
    if not np.isfinite(given).all() or (given < 0).any() or (given != np.floor(given)).any():
        raise InputError(f"{what} hold numbers that no count of people can be.", "0, 1, 2, ...", "Use whole counts.")
    return given.astype(np.int64)
