"""Likelihoods of vote counts, in NumPy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import optimize
from scipy.special import gammaln, psi, xlogy

from gzoo.errors import InputError
from gzoo.trees.tree import FloatArray, IntArray, Tree
from gzoo.votes.votes import Votes

LOG_MIN, LOG_MAX = np.log(1e-3), np.log(1e5)  # range of the baseline's concentrations
SERIES_FROM = 10.0  # from here on Stirling's series is exact to 1e-12
MAX_TABLE = 100_000


def dirichlet_multinomial_nll(
    votes: npt.ArrayLike,
    concentration: npt.ArrayLike,
    tree: Tree,
    totals: npt.ArrayLike | None = None,
) -> FloatArray:
    """Return the negative log probability of the votes on each question, in nats.

    Given the total votes of a question, its vote counts have a Dirichlet-multinomial distribution with the
    concentrations of the answers; the multinomial coefficient is included. For a question that allows several answers,
    each answer is a beta-binomial of the total votes, with concentrations of giving it and of not giving it; the sum
    over the answers is a composite likelihood, because answers of one volunteer depend on each other. A question
    without votes costs exactly 0.

    Args:
        votes: Vote counts, shape (galaxy, answer), columns as in `tree.columns`.
        concentration: Positive concentrations, shape (galaxy, concentration), columns as in `tree.concentrations`: the
            same as `tree.columns` if no question allows several answers.
        tree: Decision tree.
        totals: Total votes, shape (galaxy, question); by default `tree.totals(votes)`.

    Returns:
        Negative log probabilities, shape (galaxy, question).

    Raises:
        InputError: The shapes differ, votes are not counts, totals contradict them, or concentrations are not positive.

    >>> import gzoo, numpy as np
    >>> dirichlet_multinomial_nll([[1, 0]], [[1.0, 1.0]], gzoo.tree("gz_rings")).round(6)
    array([[0.693147]])
    """
    return mixture_nll(votes, np.asarray(concentration, np.float64)[None], tree, totals)


def mixture_nll(
    votes: npt.ArrayLike,
    concentrations: npt.ArrayLike,
    tree: Tree,
    totals: npt.ArrayLike | None = None,
) -> FloatArray:
    """Return the same as `dirichlet_multinomial_nll` for a mixture of members with equal weights.

    Members are the models of an ensemble, several heads or several forward passes. The probabilities are averaged
    question by question: that one member may be right on several questions of a galaxy is not rewarded.

    Args:
        votes: Vote counts, shape (galaxy, answer).
        concentrations: Positive concentrations, shape (member, galaxy, concentration).
        tree: Decision tree.
        totals: Total votes, shape (galaxy, question); by default `tree.totals(votes)`.

    >>> import gzoo
    >>> mixture_nll([[1, 0]], [[[1.0, 1.0]], [[3.0, 1.0]]], gzoo.tree("gz_rings")).round(6)
    array([[0.470004]])
    """
    alpha = np.asarray(concentrations, dtype=np.float64)
    return _tree_nll(votes, alpha, tree, totals, (alpha > 0) & np.isfinite(alpha), is_fraction=False)


def multinomial_nll(
    votes: npt.ArrayLike,
    fractions: npt.ArrayLike,
    tree: Tree,
    totals: npt.ArrayLike | None = None,
) -> FloatArray:
    """Return the same as `dirichlet_multinomial_nll` for predicted fractions without uncertainty: multinomials.

    The result is infinite where an answer with fraction 0 has votes.

    Args:
        votes: Vote counts, shape (galaxy, answer).
        fractions: Predicted vote fractions, same shape; those of a question sum to 1 (unless it allows several
            answers: then each answer is a binomial).
        tree: Decision tree.
        totals: Total votes, shape (galaxy, question); by default `tree.totals(votes)`.

    >>> import gzoo
    >>> multinomial_nll([[2, 1]], [[0.5, 0.5]], gzoo.tree("gz_rings")).round(6)
    array([[0.980829]])
    """
    values = np.asarray(fractions, dtype=np.float64)[None]
    return _tree_nll(votes, values, tree, totals, (values >= 0) & (values <= 1), is_fraction=True)


def _tree_nll(
    votes: npt.ArrayLike,
    members: FloatArray,
    tree: Tree,
    totals: npt.ArrayLike | None,
    is_valid: npt.NDArray[np.bool_],
    *,
    is_fraction: bool,
) -> FloatArray:
    counts, volunteers = checked_votes(votes, tree, totals)
    names = tree.columns if is_fraction else tree.concentrations
    if members.shape[1:] != (len(counts), len(names)):
        raise InputError(
            f"Shapes differ: votes {counts.shape}, predictions {members.shape[1:]}.",
            f"votes (galaxy, {len(tree.columns)}) and predictions (galaxy, {len(names)}) for tree '{tree.name}', with "
            f"columns in the order of `tree.columns` and `tree.{'columns' if is_fraction else 'concentrations'}`.",
        )
    if not is_valid.all():
        member, row, column = np.argwhere(~is_valid)[0].tolist()
        raise InputError(
            f"The prediction for galaxy {row}, {names[column]} is {members[member, row, column]}.",
            "numbers from 0 to 1." if is_fraction else "positive, finite numbers.",
        )
    out = np.zeros(volunteers.shape)
    for i, question in enumerate(tree.questions):
        rows, where = volunteers[:, i] > 0, tree.slice(question.name)
        out[rows, i] = members_nll(
            counts[rows, where],
            volunteers[rows, i],
            members[:, rows, where if is_fraction else tree.concentration_slice(question.name)],
            is_fraction=is_fraction,
            is_multiple=question.multiple,
        )
    return out


def checked_votes(votes: npt.ArrayLike, tree: Tree, totals: npt.ArrayLike | None = None) -> tuple[IntArray, IntArray]:
    """Return vote counts and total votes as integers; the torch loss refuses what this refuses, in the same words.

    Args:
        votes: Vote counts, shape (galaxy, answer).
        tree: Decision tree.
        totals: Total votes, shape (galaxy, question); by default `tree.totals(votes)`.

    Raises:
        InputError: The shapes do not match the tree, votes are not counts, or totals contradict them.
    """
    counts = _counts(votes, "vote count", tree.columns, tree)
    if totals is None:
        return counts, tree.totals(counts)
    given = _counts(totals, "total", [question.name for question in tree.questions], tree)
    if len(given) != len(counts):
        raise InputError(f"There are votes of {len(counts)} galaxies and totals of {len(given)}.")
    starts = [tree.slice(question.name).start for question in tree.questions]
    is_wrong = given != np.add.reduceat(counts, starts, axis=1)
    for i, question in enumerate(tree.questions):
        if question.multiple:
            is_wrong[:, i] = given[:, i] < counts[:, tree.slice(question.name)].max(axis=1)
    if is_wrong.any():
        row, i = np.argwhere(is_wrong)[0].tolist()
        question = tree.questions[i]
        own = counts[row, tree.slice(question.name)].tolist()
        raise InputError(
            f"The total of galaxy {row}, {question.name} is {given[row, i]}, but its votes are {own}.",
            "at least the largest vote count." if question.multiple else "the sum of the votes.",
            "Omit the totals to have them computed.",
        )
    return counts, given


def _counts(numbers: npt.ArrayLike, what: str, names: Sequence[str], tree: Tree) -> IntArray:
    given = np.asarray(numbers)
    if given.ndim != 2 or given.shape[1] != len(names):
        raise InputError(
            f"The {what}s have shape {given.shape}.",
            f"(galaxy, {len(names)}), with the columns of tree '{tree.name}' in their order.",
        )
    is_count = given >= 0
    if given.dtype.kind == "f":
        is_count &= np.isfinite(given) & (given == np.floor(given))
    if not is_count.all():
        row, column = np.argwhere(~is_count)[0].tolist()
        raise InputError(
            f"The {what} of galaxy {row}, {names[column]} is {given[row, column]}.",
            "an integer, 0 or more.",
            "Use raw counts.",
        )
    return given.astype(np.int64)


# ----------------------------------------------------------------------------------------------------
# One question, for the galaxies with votes on it


def members_nll(
    counts: IntArray, totals: IntArray, members: FloatArray, *, is_fraction: bool, is_multiple: bool
) -> FloatArray:
    """Return the negative log probability of one question's votes for a mixture of predictions, shape (galaxy,).

    Args:
        counts: Vote counts, shape (galaxy, answer).
        totals: Total votes, shape (galaxy,).
        members: Concentrations, shape (member, galaxy, concentration), or fractions, shape (member, galaxy, answer).
        is_fraction: Whether the members are fractions.
        is_multiple: Whether a volunteer may give several answers.
    """
    nll = fraction_nll if is_fraction else question_nll
    return mixed([nll(counts, totals, member, is_multiple=is_multiple) for member in members])


def question_nll(counts: IntArray, totals: IntArray, alpha: FloatArray, *, is_multiple: bool = False) -> FloatArray:
    """Return the negative log probability of one question's votes, shape (galaxy,).

    Accurate to 1e-9 nats, or 1e-9 of the value, for concentrations of 1e-3 to 1e7 and counts up to 10,000.

    Args:
        counts: Vote counts, shape (galaxy, answer).
        totals: Total votes, shape (galaxy,).
        alpha: Concentrations, shape (galaxy, concentration), or (concentration,) if all galaxies have the same.
        is_multiple: Whether a volunteer may give several answers.

    >>> import numpy as np
    >>> question_nll(np.array([[1, 0]]), np.array([1]), np.array([[1.0, 3.0]])).round(6)
    array([1.386294])
    """
    if is_multiple:  # each answer is a question of its own: yes or no
        pairs = np.stack(giving(alpha), axis=-1)
        each = [
            question_nll(np.column_stack([counts[:, j], totals - counts[:, j]]), totals, pairs[..., j, :])
            for j in range(counts.shape[1])
        ]
        return np.sum(each, axis=0)
    coefficient = question_log_coefficient(counts, totals)
    if alpha.ndim == 1:  # a table of the few different counts is then much faster
        rising = np.zeros(len(counts))
        for i, one in enumerate(alpha.tolist()):
            rising += _log_rising_by_table(one, counts[:, i])
        return _log_rising_by_table(float(alpha.sum()), totals) - rising - coefficient
    return log_rising(alpha.sum(axis=1), totals) - log_rising(alpha, counts).sum(axis=1) - coefficient


def giving(alpha: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the concentrations of giving and of not giving each answer, for a question that allows several.

    Args:
        alpha: Concentrations of the question, shape (..., 2 x answer).

    Returns:
        Twice the shape (..., answer).
    """
    n = alpha.shape[-1] // 2
    return alpha[..., :n], alpha[..., n:]


def fraction_nll(counts: IntArray, totals: IntArray, fractions: FloatArray, *, is_multiple: bool = False) -> FloatArray:
    """Return the same as `question_nll` for a multinomial with the given fractions."""
    cost = -xlogy(counts, fractions).sum(axis=1)
    if is_multiple:
        cost -= xlogy(totals[:, None] - counts, 1 - fractions).sum(axis=1)
    return cost - question_log_coefficient(counts, totals, is_multiple=is_multiple)


def beta_binomial_nll(counts: IntArray, totals: IntArray, alpha: FloatArray, beta: FloatArray) -> FloatArray:
    """Return the negative log probability of the votes for one answer, whose fraction is distributed as Beta(a, b).

    This is the marginal distribution of a Dirichlet-multinomial for one answer against all others.

    >>> import numpy as np
    >>> beta_binomial_nll(np.array([1]), np.array([1]), np.array([1.0]), np.array([3.0])).round(6)
    array([1.386294])
    """
    rest = totals - counts
    coefficient = log_factorial(totals) - log_factorial(counts) - log_factorial(rest)
    return log_rising(alpha + beta, totals) - log_rising(alpha, counts) - log_rising(beta, rest) - coefficient


def question_log_coefficient(counts: IntArray, totals: IntArray, *, is_multiple: bool = False) -> FloatArray:
    """Return the log multinomial coefficient of one question, shape (galaxy,).

    It is part of every log-likelihood here, depends on the votes alone, and therefore cancels in every difference.
    """
    if is_multiple:
        each = log_factorial(totals)[:, None] - log_factorial(counts) - log_factorial(totals[:, None] - counts)
        return each.sum(axis=1)
    return log_factorial(totals) - log_factorial(counts).sum(axis=1)


def mixed(each: Sequence[FloatArray]) -> FloatArray:
    """Return the negative log of the mean probability of several members, from their own negative logs."""
    if len(each) == 1:
        return each[0]
    stack = np.stack(each)
    best = stack.min(axis=0)
    best = np.where(np.isfinite(best), best, 0.0)
    with np.errstate(divide="ignore"):  # votes that are impossible for every member have probability 0
        return best - np.log(np.exp(best - stack).mean(axis=0))


def log_rising(a: FloatArray, k: IntArray) -> FloatArray:
    """Return the log of a (a + 1) ... (a + k - 1), to the last digits for all a > 0.

    A difference of two gammaln loses these digits for large a. There both are Stirling's series, whose large terms
    are subtracted analytically.
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


def log_rising_slope(a: FloatArray, k: IntArray) -> FloatArray:
    """Return the derivative of `log_rising` by a: 1 / a + 1 / (a + 1) + ... + 1 / (a + k - 1), to the last digits."""
    start, steps = np.broadcast_arrays(a, k)
    out = np.zeros(start.shape)
    some = steps > 0
    small = some & (start < SERIES_FROM)
    low = start[small]
    out[small] = psi(low + steps[small]) - psi(low)
    large = some & ~small
    low, step = start[large], steps[large].astype(np.float64)
    high = low + step
    out[large] = np.log1p(step / low) + step / (2 * low * high) - (_slope_tail(high) - _slope_tail(low))
    return out


def _slope_tail(x: FloatArray) -> FloatArray:
    """Return the correction terms of Stirling's series of the digamma function; to 1e-12 for x of 10 or more."""
    y = 1 / (x * x)
    return y * (1 / 12 - y * (1 / 120 - y * (1 / 252 - y / 240)))


def _log_rising_by_table(a: float, k: IntArray) -> FloatArray:
    largest = int(k.max()) if k.size else 0
    if largest > MAX_TABLE:
        return log_rising(np.float64(a) * np.ones(k.shape), k)
    return log_rising(np.full(largest + 1, a), np.arange(largest + 1))[k]


def log_factorial(n: IntArray) -> FloatArray:
    """Return the log of n!, from a table if it is short."""
    largest = int(n.max()) if n.size else 0
    if largest <= MAX_TABLE:
        return gammaln(np.arange(largest + 1) + 1.0)[n]
    return gammaln(n + 1.0)


def _tail(x: FloatArray) -> FloatArray:
    """Return the correction terms of Stirling's formula for log gamma; to 1e-12 for x of 10 or more."""
    y = 1 / (x * x)
    return (1 / 12 - y * (1 / 360 - y * (1 / 1260 - y / 1680))) / x


# ----------------------------------------------------------------------------------------------------
# Fractions and the baseline


def question_fractions(alpha: FloatArray, *, is_multiple: bool) -> FloatArray:
    """Return the expected vote fractions of one question, shape (..., answer), from all of its concentrations."""
    if is_multiple:
        yes, no = giving(alpha)
        return yes / (yes + no)
    return alpha / alpha.sum(axis=-1, keepdims=True)


def expected_fractions(concentration: npt.ArrayLike, tree: Tree) -> FloatArray:
    """Return the expected vote fraction of each answer, shape (galaxy, answer).

    Args:
        concentration: Concentrations, shape (galaxy, concentration), columns as in `tree.concentrations`.
        tree: Decision tree.

    >>> import gzoo
    >>> expected_fractions([[1.0, 3.0]], gzoo.tree("gz_rings"))
    array([[0.25, 0.75]])
    """
    alpha = np.asarray(concentration, dtype=np.float64)
    fractions = np.empty((*alpha.shape[:-1], len(tree.columns)))
    for question in tree.questions:
        own = alpha[..., tree.concentration_slice(question.name)]
        fractions[..., tree.slice(question.name)] = question_fractions(own, is_multiple=question.multiple)
    return fractions


def sampling_noise(fractions: FloatArray, totals: IntArray) -> FloatArray:
    """Return an unbiased estimate of the variance of observed vote fractions, f(1-f)/(N-1), shape (galaxy, answer).

    Args:
        fractions: Observed vote fractions, shape (galaxy, answer).
        totals: Total votes, shape (galaxy, answer) or (galaxy, 1); at least 2 for a valid estimate.
    """
    return fractions * (1 - fractions) / np.maximum(totals - 1, 1)


def binomial_deviation(totals: IntArray, fraction: FloatArray) -> FloatArray:
    """Return the mean absolute difference of an observed and the underlying vote fraction (De Moivre 1730).

    Args:
        totals: Total votes, at least 1.
        fraction: Underlying vote fraction, broadcast against the total votes.

    >>> binomial_deviation(np.array([1, 2]), np.array([0.5, 0.5]))
    array([0.5 , 0.25])
    """
    n, p = np.broadcast_arrays(totals, np.clip(fraction, 0.0, 1.0))
    mode = np.minimum(np.floor(n * p).astype(np.int64), n - 1) + 1
    with np.errstate(divide="ignore", invalid="ignore"):
        log = log_factorial(n) - log_factorial(mode) - log_factorial(n - mode)
        log = log + mode * np.log(p) + (n - mode + 1) * np.log1p(-p)
    return np.where((p <= 0) | (p >= 1), 0.0, 2 * mode / n * np.exp(log))


def fit_baseline(votes: Votes) -> FloatArray:
    """Return the concentrations of a baseline that uses no images, fitted by maximum likelihood; (concentration,).

    There is one Dirichlet per question, the same for all galaxies; a question that allows several answers has a beta
    distribution per answer. A question without votes gets concentrations of 1. All are limited to 1e-3 to 1e5.

    Args:
        votes: Votes of the training set.
    """
    tree = votes.tree
    fitted = np.ones(len(tree.concentrations))
    for i, question in enumerate(tree.questions):
        asked = votes.totals[:, i] > 0
        if not asked.any():
            continue
        counts, n = votes.counts[asked, tree.slice(question.name)], votes.totals[asked, i]
        own = fitted[tree.concentration_slice(question.name)]
        if question.multiple:
            for j, (yes, no) in enumerate(zip(counts.T, (n[:, None] - counts).T, strict=True)):
                own[[j, counts.shape[1] + j]] = _fit_dirichlet(np.column_stack([yes, no]))
        else:
            own[:] = _fit_dirichlet(counts)
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
