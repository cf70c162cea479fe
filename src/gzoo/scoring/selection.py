"""Purity and completeness of selected galaxies, without binomial (vote sampling) noise.

A galaxy truly meets a condition if its underlying vote fractions do: the fractions, among the volunteers who are asked
a question, that infinitely many volunteers would give. They are not known, but their posterior is: from the prediction
and the votes of held-out galaxies. It gives the probability of each galaxy to meet the condition.

Which galaxies are selected is known, and given the data, galaxies meet the condition independently of each other. So
the numbers of those that do, among the selected and among the others, are sums of independent events. Their ratios are
purity (true / selected) and completeness (true and selected / true), and the intervals are prediction intervals of what
these ratios are in this very sample. They are as wrong as the model where it is not calibrated.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.special import betainc

from gzoo.dataset.expression import (
    And,
    Comparison,
    Constant,
    Membership,
    Name,
    Node,
    Not,
    Or,
    Test,
    Value,
    each_test,
    operands,
    replaced,
)
from gzoo.dataset.names import Quantity
from gzoo.scoring import intervals
from gzoo.scoring.intervals import as_value
from gzoo.scoring.posterior import Posterior
from gzoo.trees.tree import FloatArray

BoolArray = npt.NDArray[np.bool_]

N_DRAWS = 20_000  # of a number of galaxies
N_BINS = 256  # of their probabilities; within a bin, the variance of the number is at most 0.4% too large
WIDTH = 8  # standard deviations beyond which the distribution of a number is negligible
MAX_FRACTIONS_DRAWN = 20_000_000  # where no formula gives the probability
MIN_DRAWS, MAX_DRAWS = 40, 1000  # of the fractions of a galaxy


def is_on_fractions(test: Test, quantities: Mapping[str, Quantity]) -> bool:
    """Return whether a test compares vote fractions, voted or believed, with numbers or with those of other answers.

    Two fractions of the same answer differ by noise alone, so a comparison of them is not about the galaxy.
    """
    if not isinstance(test, Comparison | Membership):
        return False
    answers = [_answer(value, quantities) for value in operands(test) if isinstance(value, Name)]
    return bool(answers) and "" not in answers and len(set(answers)) == len(answers)


def _answer(name: Name, quantities: Mapping[str, Quantity]) -> str:
    quantity = quantities[name.text]
    return quantity.answer if quantity.is_fraction else ""


def divided(node: Node, quantities: Mapping[str, Quantity]) -> tuple[Node | None, Node | None]:
    """Return the part of a condition that defines the truth and the part that defines the population.

    The population are the galaxies that meet the parts, joined by `and`, without a test on fractions.
    """
    parts = node.parts if isinstance(node, And) else (node,)
    kinds = [any(is_on_fractions(test, quantities) for test in each_test(part)) for part in parts]
    truth = [part for part, kind in zip(parts, kinds, strict=True) if kind]
    rest = [part for part, kind in zip(parts, kinds, strict=True) if not kind]

    def joined(some: Sequence[Node]) -> Node | None:
        return (some[0] if len(some) == 1 else And(tuple(some))) if some else None

    return joined(truth), joined(rest)


def on_votes(node: Node, quantities: Mapping[str, Quantity]) -> Node:
    """Return a condition on the voted fractions of the answers whose fractions it tests, voted or believed."""

    def moved(value: Value) -> Value:
        if isinstance(value, Constant):
            return value
        one = quantities[value.text]
        return Name(f"{one.question}.{one.answer.removeprefix(f'{one.question}_')}", value.position)

    def of_test(test: Test) -> Node:
        if not is_on_fractions(test, quantities):
            return test
        if isinstance(test, Comparison):
            return Comparison(moved(test.left), test.operator, moved(test.right))
        return Membership(moved(test.value), test.choices) if isinstance(test, Membership) else test

    return replaced(node, of_test)


@dataclass(frozen=True)
class Truth:
    """A condition on the underlying vote fractions of some galaxies, which are known as far as a posterior tells.

    Attributes:
        node: The condition.
        quantities: Each name in it -> what it means.
        posterior: Posterior of the fractions.
        mask: Returns which galaxies meet a condition without tests on fractions, shape (galaxy,).
        n_draws: Draws of the fractions where no formula gives the probability.
        seed: Seed of these draws.
    """

    node: Node
    quantities: Mapping[str, Quantity]
    posterior: Posterior
    mask: Callable[[Node], BoolArray]
    n_draws: int = MAX_DRAWS
    seed: int = 0

    @cached_property
    def probability(self) -> FloatArray:
        """Probability that each galaxy truly meets the condition, shape (galaxy,).

        It is exact where each question is compared through one answer and appears in one place (up to rounding of the
        beta distribution), and otherwise the mean over `n_draws` draws.
        """
        return self._of(self.node, False)

    @property
    def n_galaxies(self) -> int:
        """Number of galaxies."""
        return self.posterior.alpha.shape[1]

    def _of(self, node: Node, negated: bool) -> FloatArray:
        parts = self._independent_parts(node)
        if not parts:
            return self.mask(Not(node) if negated else node).astype(np.float64)
        if isinstance(node, Not):
            return self._of(node.part, not negated)
        if isinstance(node, And | Or):
            groups = self._separated(node.parts)
            if len(groups) > 1:
                is_all = isinstance(node, And) != negated
                each = [self._of(some[0] if len(some) == 1 else type(node)(some), negated) for some in groups]
                return np.prod(each, axis=0) if is_all else 1 - np.prod([1 - one for one in each], axis=0)
        answers = {name for test in each_test(node) for name in self._answers(test)}
        is_plain = all(len(self._answers(test)) < 2 for test in each_test(node))
        return (
            self._by_cells(node, negated, answers.pop())
            if len(answers) == 1 and is_plain
            else self._drawn(node, negated)
        )

    def _answers(self, test: Test) -> list[str]:
        if not is_on_fractions(test, self.quantities):
            return []
        return [_answer(value, self.quantities) for value in operands(test) if isinstance(value, Name)]

    def _independent_parts(self, node: Node) -> frozenset[str]:
        """Return the questions that a condition depends on; answers, of questions that allow several of them."""
        tree = self.posterior.tree
        found: set[str] = set()
        for test in each_test(node):
            for column in self._answers(test):
                question = tree.questions[tree.question_of_answer[tree.columns.index(column)]]
                found.add(column if question.multiple else question.name)
        return frozenset(found)

    def _separated(self, parts: Sequence[Node]) -> list[tuple[Node, ...]]:
        """Return the parts in groups that do not depend on the same question."""
        groups: list[tuple[frozenset[str], tuple[Node, ...]]] = []
        for part in parts:
            keys, members = self._independent_parts(part), (part,)
            apart: list[tuple[frozenset[str], tuple[Node, ...]]] = []
            for others, some in groups:
                if keys & others:
                    keys, members = keys | others, (*some, *members)
                else:
                    apart.append((others, some))
            groups = [*apart, (keys, members)]
        return [members for _, members in groups]

    def _by_cells(self, node: Node, negated: bool, column: str) -> FloatArray:
        """Return the probability of a condition on one answer: between two numbers in it, nothing changes."""
        numbers = {
            float(value.value)
            for test in each_test(node)
            if is_on_fractions(test, self.quantities)
            for value in operands(test)
            if isinstance(value, Constant)
        }
        ends = [0.0, *sorted(number for number in numbers if 0 < number < 1), 1.0]
        below = [np.zeros(self.n_galaxies), *(self._cdf(column, end) for end in ends[1:-1]), np.ones(self.n_galaxies)]
        total = np.zeros(self.n_galaxies)
        for i in range(len(ends) - 1):
            inside = np.array((ends[i] + ends[i + 1]) / 2)  # no test is on the middle of a cell
            total += self._met(node, negated, {column: inside}) * (below[i + 1] - below[i])
        return np.clip(total, 0.0, 1.0)

    def _cdf(self, column: str, x: float) -> FloatArray:
        found, i = self.posterior, self.posterior.tree.columns.index(column)
        each = (found.weights[:, :, i] * betainc(found.alpha[:, :, i], found.beta[:, :, i], x)).sum(axis=0)
        return np.where(np.isfinite(each), each, found.fractions[:, i] <= x)  # a distribution at one point

    def _met(self, node: Node, negated: bool, fractions: Mapping[str, FloatArray]) -> BoolArray:
        """Return whether galaxies with such fractions meet the condition, or its opposite."""
        if isinstance(node, Not):
            return self._met(node.part, not negated, fractions)
        if isinstance(node, And | Or):
            parts = [self._met(part, negated, fractions) for part in node.parts]
            is_all = isinstance(node, And) != negated
            found = parts[0]
            for part in parts[1:]:
                found = found & part if is_all else found | part
            return found
        if not is_on_fractions(node, self.quantities):
            return self.mask(Not(node) if negated else node)
        return compared(node, self.quantities, fractions) != negated

    def _drawn(self, node: Node, negated: bool) -> FloatArray:
        tree, rng = self.posterior.tree, np.random.default_rng(self.seed)
        columns = sorted({column for test in each_test(node) for column in self._answers(test)})
        questions = sorted({tree.question_of_answer[tree.columns.index(column)] for column in columns})
        total = np.zeros(self.n_galaxies)
        for _ in range(self.n_draws):
            fractions: dict[str, FloatArray] = {}
            for question in questions:
                drawn = self._draw(question, rng)
                fractions |= dict(zip(tree.questions[question].columns, drawn.T, strict=True))
            total += self._met(node, negated, fractions)
        return total / self.n_draws

    def _draw(self, i: int, rng: np.random.Generator) -> FloatArray:
        """Return one draw of the fractions of question `i`, shape (galaxy, answer)."""
        found, question = self.posterior, self.posterior.tree.questions[i]
        own = found.tree.slice(question.name)
        alpha, beta, weights = (one[:, :, own] for one in (found.alpha, found.beta, found.weights))
        if len(alpha) == 1:
            chosen, others = alpha[0], beta[0]
        else:  # a member of the mixture, by its weight; of each answer where they are independent
            cumulated = np.cumsum(weights, axis=0)
            place = rng.random(cumulated.shape[1:] if question.multiple else (cumulated.shape[1], 1))
            member = np.minimum((place > cumulated).sum(axis=0), len(alpha) - 1)[None]
            chosen, others = (np.take_along_axis(one, member, axis=0)[0] for one in (alpha, beta))
        if question.multiple:
            return rng.beta(chosen, others)
        drawn = rng.standard_gamma(chosen)
        total = drawn.sum(axis=1, keepdims=True)
        return np.divide(drawn, total, out=np.full_like(drawn, 1 / drawn.shape[1]), where=total > 0)


def compared(test: Test, quantities: Mapping[str, Quantity], fractions: Mapping[str, FloatArray]) -> BoolArray:
    """Return the result of a test on fractions.

    Args:
        test: A test for which `is_on_fractions` is true.
        quantities: Each name in it -> what it means.
        fractions: Column of an answer -> fractions.
    """

    def of(value: Name | Constant) -> npt.ArrayLike:
        return fractions[quantities[value.text].answer] if isinstance(value, Name) else float(value.value)

    first, *others = map(of, operands(test))
    if isinstance(test, Comparison):
        return np.asarray(_COMPARE[test.operator](first, others[0]))
    return np.isin(np.asarray(first), np.asarray(others))


_COMPARE: Mapping[str, Callable[[npt.ArrayLike, npt.ArrayLike], npt.ArrayLike]] = {
    "<": np.less,
    ">": np.greater,
    "<=": np.less_equal,
    ">=": np.greater_equal,
    "=": np.equal,
    "!=": np.not_equal,
}


@dataclass(frozen=True, slots=True)
class Quality:
    """Purity and completeness of a selection, with prediction intervals.

    Attributes:
        purity: Fraction of the selected galaxies that truly meet the condition.
        completeness: Fraction of the galaxies that truly meet the condition that are selected.
    """

    purity: intervals.Value
    completeness: intervals.Value


def quality(probability: FloatArray, is_selected: BoolArray, *, level: float = 0.9) -> Quality:
    """Return expected purity and completeness of a selection, and the intervals that contain them.

    Args:
        probability: Probability that each galaxy of the population truly meets the condition, shape (galaxy,).
        is_selected: Whether it is selected, shape (galaxy,).
        level: Probability mass of the intervals, which are equal-tailed.

    >>> found = quality(np.repeat([0.9, 0.1], 500), np.repeat([True, False], 500))
    >>> [round(found.purity[end], 2) for end in ("value", "low", "high")]
    [0.9, 0.88, 0.92]
    """
    rng = np.random.default_rng(0)
    n_selected = int(is_selected.sum())
    n_true, n_missed = (_numbers(probability[one], rng) for one in (is_selected, ~is_selected))
    of_all = n_true + n_missed
    is_defined = of_all > 0
    return Quality(
        purity=_value(n_true[: N_DRAWS * (n_selected > 0)] / max(n_selected, 1), level),
        completeness=_value(n_true[is_defined] / of_all[is_defined], level),
    )


def _numbers(probability: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Return draws of how many of independent events happen, in a time that hardly grows with their number.

    The distribution of the number is the inverse Fourier transform of the product of the events' characteristic
    functions. It is computed where it is not negligible: within `WIDTH` standard deviations of the mean.
    """
    place = np.minimum((probability * N_BINS).astype(np.int64), N_BINS - 1)
    n = np.bincount(place, minlength=N_BINS)
    sums = np.bincount(place, probability, minlength=N_BINS)
    filled = n > 0
    n, p = n[filled], np.clip(sums[filled] / n[filled], 0.0, 1.0)
    deviation = float(np.sqrt((n * p * (1 - p)).sum()))
    length = min(int(n.sum()) + 1, int(2 * WIDTH * (deviation + 2)))
    start = min(max(int((n * p).sum() - length / 2), 0), int(n.sum()) + 1 - length)
    angle = np.exp(2j * np.pi * np.arange(length) / length)
    with np.errstate(divide="ignore"):  # a logarithm of 0 is a factor 0
        log = (n[:, None] * np.log(1 + p[:, None] * (angle - 1))).sum(axis=0)
    # number k is at k modulo `length`
    mass = np.maximum(np.fft.fft(np.exp(log)).real / length, 0.0)[(start + np.arange(length)) % length]
    cumulated = np.cumsum(mass)
    return start + np.searchsorted(cumulated / cumulated[-1], rng.random(N_DRAWS)).astype(np.float64)


def _value(draws: FloatArray, level: float) -> intervals.Value:
    if not len(draws):
        return as_value(None, None, None)
    # the ends are possible values, so that an interval of few galaxies never contains less than its level
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf").tolist()
    value = float(draws.mean())
    return as_value(value, min(low, value), max(high, value))


def against_votes(is_true: BoolArray, is_known: BoolArray, is_selected: BoolArray) -> tuple[float | None, float | None]:
    """Return purity and completeness if the votes are taken for the truth, noise and all.

    Args:
        is_true: Whether the voted fractions meet the condition, shape (galaxy,).
        is_known: Whether there are votes that decide it.
        is_selected: Whether the galaxy is selected.
    """
    n_selected, n_true = int((is_known & is_selected).sum()), int((is_known & is_true).sum())
    n_both = int((is_known & is_true & is_selected).sum())
    return (n_both / n_selected if n_selected else None, n_both / n_true if n_true else None)


def questions_of(node: Node, quantities: Mapping[str, Quantity]) -> Collection[str]:
    """Return the questions whose fractions a condition tests, in order of appearance."""
    named = (value for test in each_test(node) if is_on_fractions(test, quantities) for value in operands(test))
    return dict.fromkeys(quantities[value.text].question for value in named if isinstance(value, Name))
