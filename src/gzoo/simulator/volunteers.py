"""Volunteers: simulated answers about galaxies whose parameters are known.

Volunteers differ. A volunteer has *care*, the fraction of questions that are answered by what is visible (the others
get a random answer), and a *leaning*, log-odds in favour of seeing less. A few are bots. All come from one pool that
depends only on the seed. Because the pool is finite, the population's probability of each answer is exact: a sum over
kinds of volunteers, each weighted with its fraction of all classifications.

All arrays describe a block of galaxies, because one galaxy at a time would be slow.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from gzoo.simulator.perception import suffix, tilt
from gzoo.trees.tree import FloatArray, IntArray, Question, Tree

BoolArray = npt.NDArray[np.bool_]

N_VOLUNTEERS = 4096
N_SHIFTS = 64
"""Parts of the pool. A galaxy is shown to at most one volunteer of each shift, so that no repeat is accidental."""
MAX_REPEATS = 3
"""Maximum number of volunteers per galaxy who classify it a second time."""

# Lapse rate: fraction of answers given at random, even by careful volunteers.
_LAPSE = 0.01
# If several answers are allowed: probability of a random tick, and of ticking "none" if nothing else is ticked.
_RANDOM_TICK = 0.12
_TICKS_NONE = 0.9

_CARE = ((0.98, 0.25), (0.93, 0.33), (0.85, 0.25), (0.70, 0.12), (0.40, 0.05))  # (care, fraction of volunteers)
_LEANING = ((-1.2, 0.10), (-0.6, 0.22), (0.0, 0.36), (0.6, 0.22), (1.2, 0.10))
_BOTS = ("random", "first", "last")
_BOT_FRACTION, _BOT_ACTIVITY = 0.006, 3.0
_ANONYMOUS_FRACTION = 0.12
_SPREAD_OF_ACTIVITY = 1.5  # of log activity: a tenth of the volunteers makes well over half of the classifications
_REPEAT_RATE = 0.008  # mean number of repeats per classification


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of volunteer.

    Attributes:
        care: Fraction of questions answered by what is visible; 0 for a bot.
        leaning: Log-odds in favour of seeing less: smooth, no bar, nothing odd.
        bot: "" for a human; "random" for a bot that answers at random, "first" or "last" for a bot that always gives
            that answer.
    """

    care: float
    leaning: float
    bot: str = ""

    @property
    def is_bot(self) -> bool:
        """Whether a program answers."""
        return self.bot != ""


KINDS = (
    *(Kind(care, leaning) for care, _ in _CARE for leaning, _ in _LEANING),
    *(Kind(0.0, 0.0, bot) for bot in _BOTS),
)


@dataclass(frozen=True, slots=True)
class Pool:
    """All volunteers, arrays of shape (volunteer,).

    Attributes:
        kind: Index into `KINDS`.
        is_anonymous: Whether the volunteer does not log in.
        activity: Fraction of all classifications, without repeats. All shifts (volunteers with equal
            `index // shift size`) have the same activity, and so has each leaning within them. Shifts therefore answer
            alike, and the votes of a galaxy are nearly independent draws from the whole population: the variance of a
            vote fraction of 40 votes is 0.3% below the binomial variance (at most 2% for answers that only bots give).
        fractions: Fraction of all classifications by each kind, shape (kind,).
    """

    kind: IntArray
    is_anonymous: BoolArray
    activity: FloatArray
    fractions: FloatArray


@cache
def pool(seed: int) -> Pool:
    """Return the volunteers of a seed; volunteer `j` of a seed is always the same.

    >>> bool(np.isclose(pool(0).fractions.sum(), 1.0))
    True
    """
    rng = np.random.default_rng([0x706F6F6C, seed])
    size = N_VOLUNTEERS // N_SHIFTS
    leanings = _drawn((fraction for _, fraction in _LEANING), (np.arange(size) + 0.5) / size)
    leaning = rng.permuted(np.tile(leanings, (N_SHIFTS, 1)), axis=1)
    care = _drawn((fraction for _, fraction in _CARE), rng.random(leaning.shape))
    is_bot = rng.random(leaning.shape) < _BOT_FRACTION
    bot = len(_CARE) * len(_LEANING) + rng.integers(len(_BOTS), size=leaning.shape)
    kind = np.where(is_bot, bot, care * len(_LEANING) + leaning).ravel()
    is_anonymous = rng.random(N_VOLUNTEERS) < _ANONYMOUS_FRACTION

    activity = rng.lognormal(0.0, _SPREAD_OF_ACTIVITY, leaning.shape) * np.where(is_bot, _BOT_ACTIVITY, 1.0)
    for i, (_, fraction) in enumerate(_LEANING):
        group = np.where(leaning == i, activity, 0.0).sum(axis=1, keepdims=True)
        activity = np.where(leaning == i, activity * fraction / group / N_SHIFTS, activity)
    fractions = np.bincount(kind, weights=activity.ravel(), minlength=len(KINDS)).astype(np.float64)
    return Pool(kind.astype(np.int64), is_anonymous, activity.ravel(), fractions)


def _drawn(fractions: Iterable[float], chances: FloatArray) -> IntArray:
    """Return for each number in [0, 1) an index 0, 1, ..., each with its fraction of all numbers."""
    return np.searchsorted(np.cumsum(list(fractions))[:-1], chances, side="right")


@dataclass(frozen=True, slots=True)
class Part:
    """Questions that are asked together: one workflow.

    Attributes:
        name: Suffix of its questions, "dr5".
        questions: The questions, in the order in which they are asked.
        fraction: Fraction of the campaign's galaxies that are shown in this part.
        votes: Groups of galaxies by number of votes: (fraction, minimum, maximum).
    """

    name: str
    questions: tuple[Question, ...]
    fraction: float
    votes: tuple[tuple[float, int, int], ...]


# About 40 volunteers saw each galaxy of the older campaigns (Willett et al. 2013, Simmons et al. 2017). From DECaLS DR5
# on, many galaxies were retired early and the others had about 40 votes (Walmsley et al. 2022). The numbers for the
# newer campaigns, and the fractions, are assumptions.
_ABOUT_40 = ((1.0, 33, 48),)
_MANY_WITH_5 = ((0.75, 3, 8), (0.25, 33, 44))
_VOTES = {
    "dr5": _MANY_WITH_5,
    "dr8": _MANY_WITH_5,
    "euclid": ((0.5, 4, 8), (0.5, 20, 30)),
    "rings": ((1.0, 8, 14),),
    "cd": ((1.0, 28, 42),),
}
_FRACTIONS = {"dr12": 0.25, "dr5": 0.5, "dr8": 0.25}


@cache
def parts(tree: Tree) -> tuple[Part, ...]:
    """Return the parts of a tree, each with its own root: one, unless a campaign consists of several in succession.

    >>> from gzoo.trees.campaign import tree
    >>> [part.name for part in parts(tree("gz_desi"))]
    ['dr12', 'dr5', 'dr8']
    """
    asked: dict[str, list[Question]] = {}  # root -> its questions
    root_of: dict[str, str] = {}  # answer column -> root; a question follows answers of one part only
    for question in tree.ordered:
        root = root_of[question.parents[0]] if question.parents else question.name
        asked.setdefault(root, []).append(question)
        root_of |= dict.fromkeys(question.columns, root)
    found: list[Part] = []
    for questions in asked.values():
        name = suffix(questions[0]) or tree.name
        fraction = _FRACTIONS.get(name, 1.0 / len(asked)) if len(asked) > 1 else 1.0
        found.append(Part(name, tuple(questions), fraction, _VOTES.get(name, _ABOUT_40)))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class DrawnClassifications:
    """Classifications of a block of galaxies, sorted by galaxy and time.

    Attributes:
        galaxy: Index of the galaxy in the block, shape (classification,).
        number: Index of the classification among those of its galaxy, shape (classification,).
        volunteer: Index into the pool, shape (classification,).
        is_repeat: Whether the same volunteer classified the same galaxy before, shape (classification,).
        given: Answers given, shape (classification, answer).
    """

    galaxy: IntArray
    number: IntArray
    volunteer: IntArray
    is_repeat: BoolArray
    given: BoolArray

    def counts(self, n_galaxies: int) -> IntArray:
        """Return the vote counts, without repeats, shape (galaxy, answer).

        Bots are counted, because nobody knows them where real votes are counted.
        """
        counts = np.zeros((n_galaxies, self.given.shape[1]), np.int64)
        first = ~self.is_repeat
        starts = np.flatnonzero(np.diff(self.galaxy[first], prepend=-1))
        if len(starts):
            counts[self.galaxy[first][starts]] = np.add.reduceat(self.given[first].astype(np.int64), starts, axis=0)
        return counts


def classify(
    tree: Tree, probabilities: FloatArray, volunteers: Pool, n_galaxies: int, rng: np.random.Generator
) -> tuple[IntArray, DrawnClassifications]:
    """Draw the classifications of a block of galaxies.

    Galaxies differ in the number of their volunteers and, in a campaign of several parts, in the part that they are
    shown in. Volunteers are drawn exactly in proportion to their activity: all shifts have the same activity, and a
    galaxy's shifts and the volunteer within each shift are random.

    Random numbers are drawn for the whole block even if it has fewer galaxies, so that the votes of a galaxy do not
    depend on the number of galaxies.

    Args:
        tree: The decision tree.
        probabilities: From `kind_probabilities`, shape (galaxy, kind, answer), of `n_galaxies` or more galaxies.
        volunteers: The volunteers.
        n_galaxies: Number of galaxies that are wanted.
        rng: Random number generator, seeded for this block.

    Returns:
        The part of each galaxy, shape (galaxy,), and the classifications.
    """
    block = len(probabilities)
    all_parts = parts(tree)
    most = max(sum(len(question.columns) for question in part.questions) for part in all_parts)
    which = rng.random((block, 3))
    order = rng.random((block, N_SHIFTS)).argsort(axis=1)
    who = rng.random((block, N_SHIFTS))
    n_repeats = rng.poisson(_REPEAT_RATE, (block, N_SHIFTS))
    luck = rng.random((block, N_SHIFTS + MAX_REPEATS, most), np.float32)

    part = _drawn((one.fraction for one in all_parts), which[:, 0])
    n_votes = np.zeros(block, np.int64)
    for i, one in enumerate(all_parts):
        fractions, fewest, max_votes = zip(*one.votes, strict=True)
        crowd, fewest, max_votes = _drawn(fractions, which[:, 1]), np.array(fewest), np.array(max_votes)
        number = fewest[crowd] + np.floor(which[:, 2] * (max_votes - fewest + 1)[crowd]).astype(np.int64)
        n_votes = np.where(part == i, number, n_votes)

    n_repeats = (n_repeats * (np.arange(N_SHIFTS) < n_votes[:, None])).sum(axis=1)
    n_repeats = np.minimum(n_repeats, np.minimum(MAX_REPEATS, n_votes))
    n_classifications = (n_votes + n_repeats)[:n_galaxies]
    galaxy = np.repeat(np.arange(n_galaxies), n_classifications)
    number = np.arange(len(galaxy)) - np.repeat(np.cumsum(n_classifications) - n_classifications, n_classifications)
    is_repeat = number >= n_votes[galaxy]
    slot = np.where(is_repeat, number - n_votes[galaxy], number)  # the first volunteers are those who repeat
    # All shifts have the same total activity, so one number in [0, 1) selects shift and volunteer together.
    position = (order[galaxy, slot] + who[galaxy, slot]) / N_SHIFTS
    volunteer = _drawn(volunteers.activity, position)

    given = np.zeros((len(galaxy), len(tree.columns)), bool)
    kind = volunteers.kind[volunteer]
    for i, one in enumerate(all_parts):
        rows = np.flatnonzero(part[galaxy] == i)
        if len(rows):
            given[rows] = _answer(tree, one, probabilities, galaxy[rows], kind[rows], luck[galaxy[rows], number[rows]])
    return part[:n_galaxies], DrawnClassifications(galaxy, number, volunteer, is_repeat, given)


def _answer(
    tree: Tree, part: Part, probabilities: FloatArray, galaxy: IntArray, kind: IntArray, luck: npt.NDArray[np.float32]
) -> BoolArray:
    given = np.zeros((len(galaxy), len(tree.columns)), bool)
    start = 0
    for question in part.questions:
        own = tree.slice(question.name)
        n = own.stop - own.start
        asked = np.arange(len(galaxy))
        if question.parents:
            asked = np.flatnonzero(given[:, np.isin(tree.columns, question.parents)].any(axis=1))
        probability = probabilities[galaxy[asked], kind[asked], own]
        dice = luck[asked, start : start + n]
        start += n
        if question.multiple:
            given[asked, own] = _ticks(question, probability, dice)
        else:
            choice = (np.cumsum(probability, axis=1)[:, :-1] <= dice[:, :1]).sum(axis=1)
            given[asked, own.start + choice] = True
    return given


def _ticks(question: Question, probability: FloatArray, dice: npt.NDArray[np.float32]) -> BoolArray:
    """Draw each answer independently, and "none" only if nothing else is ticked."""
    ticks = dice < probability
    if "none" in question.answers:
        none = question.answers.index("none")
        others = np.arange(len(question.answers)) != none
        nothing_else = np.prod(1.0 - probability[:, others], axis=1)
        ticks[:, none] = ~ticks[:, others].any(axis=1) & (dice[:, none] * nothing_else < probability[:, none])
    return ticks


def careful_probabilities(tree: Tree, log_odds: FloatArray) -> FloatArray:
    """Return the probability of each answer by a careful volunteer without leaning, given that its question is asked.

    Args:
        tree: The decision tree.
        log_odds: From `careful_log_odds`, shape (galaxy, answer).

    Returns:
        Each above 0 and below 1, shape (galaxy, answer); they sum to 1 over the answers of a question unless it
        allows several.
    """
    return _probabilities(tree, log_odds[:, None, :], np.array([1.0 - _LAPSE]))[:, 0]


def kind_probabilities(tree: Tree, log_odds: FloatArray) -> FloatArray:
    """Return the same for each kind of volunteer, shape (galaxy, kind, answer); for bots it may be 0 or 1."""
    tilts = np.array([tilt(question, answer) for question in tree.questions for answer in question.answers])
    leanings = np.array([leaning for leaning, _ in _LEANING])
    leaned = log_odds[:, None, :] - leanings[:, None] * tilts
    of_volunteers = [_probabilities(tree, leaned, np.full(len(leanings), care * (1.0 - _LAPSE))) for care, _ in _CARE]
    of_bots = _bot_probabilities(tree)
    same = np.broadcast_to(of_bots, (len(log_odds), *of_bots.shape))
    return np.concatenate([*of_volunteers, same], axis=1)


def population_probabilities(
    tree: Tree, probabilities: FloatArray, fractions: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the probability of each answer, given that its question is asked, over the whole population.

    Volunteers who are asked a question deep in the tree are not average, so each kind is weighted by how often it is
    asked.

    Args:
        tree: The decision tree.
        probabilities: From `kind_probabilities`, shape (galaxy, kind, answer).
        fractions: Fraction of the classifications by each kind, shape (kind,).

    Returns:
        Probabilities, shape (galaxy, answer), and the proportion of volunteers asked (in a campaign of several parts:
        of those to whom the galaxy is shown in that part), shape (galaxy, question).
    """
    n_galaxies, n_kinds, n_answers = probabilities.shape
    asked_of_kind = tree.proportion_asked(probabilities.reshape(-1, n_answers)).reshape(n_galaxies, n_kinds, -1)
    proportion_asked = asked_of_kind * fractions[:, None]
    of = list(tree.question_of_answer)
    asked = proportion_asked.sum(axis=1)
    return (proportion_asked[:, :, of] * probabilities).sum(axis=1) / asked[:, of], asked


def _probabilities(tree: Tree, log_odds: FloatArray, care: FloatArray) -> FloatArray:
    """Return probabilities from log-odds of shape (galaxy, kind, answer) and care of shape (kind,)."""
    found = np.empty(log_odds.shape)
    for question in tree.questions:
        own = log_odds[:, :, tree.slice(question.name)]
        if question.multiple:
            seen = care[:, None] / (1.0 + np.exp(-own)) + (1.0 - care[:, None]) * _RANDOM_TICK
            if "none" in question.answers:
                none = question.answers.index("none")
                seen[:, :, none] = 0.0
                seen[:, :, none] = _TICKS_NONE * np.prod(1.0 - seen, axis=2)
        else:
            weight = np.exp(own - own.max(axis=2, keepdims=True))
            weight /= weight.sum(axis=2, keepdims=True)
            seen = care[:, None] * weight + (1.0 - care[:, None]) / own.shape[2]
        found[:, :, tree.slice(question.name)] = seen
    return found


@cache
def _bot_probabilities(tree: Tree) -> FloatArray:
    """Return the probabilities of each kind of bot, shape (bot, answer)."""
    n = len(tree.columns)
    of_random = _probabilities(tree, np.zeros((1, 1, n)), np.zeros(1))[0, 0]
    first, last = np.zeros((2, n))
    first[list(tree.starts)] = last[[*(start - 1 for start in tree.starts[1:]), -1]] = 1.0
    return np.stack([of_random, first, last])  # in the order of `_BOTS`
