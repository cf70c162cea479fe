"""Volunteers: what people answer about galaxies whose parameters are known.

What can be seen after blur and noise decides what a careful person says: the chance of each answer is a smooth
function of a galaxy's parameters and of how far each part stands out of the noise. What cannot be seen is called
smooth, as on the real site.

People are not alike. A volunteer has *care*, the share of questions that are answered by what is seen (the others get
any answer), and a *leaning*, log-odds in favour of seeing less. A few are robots. All come from one pool that the seed
alone decides, and a finite pool makes the population's chance of each answer exact: it is a sum over kinds of
volunteers, each weighted with its share of all clicks.

Every array here is of a block of galaxies, for one galaxy at a time would be slow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from operator import attrgetter

import numpy as np
import numpy.typing as npt

from gzoo.errors import InputError
from gzoo.simulator.camera import Visibility
from gzoo.simulator.galaxies import Galaxy
from gzoo.trees.tree import FloatArray, IntArray, Question, Tree

BoolArray = npt.NDArray[np.bool_]

N_VOLUNTEERS = 4096
N_SHIFTS = 64
"""The pool works in shifts; a galaxy meets at most one volunteer of each, so that nobody comes twice by chance."""
MAX_REPEATS = 3
"""At most so many of a galaxy's volunteers click on it a second time."""

# Share of clicks, even of the most careful, that have nothing to do with the galaxy: slips of the hand.
_SLIP = 0.01
# With several answers allowed: how often one is given at random, and how often "none" is ticked when nothing else is.
_RANDOM_TICK = 0.12
_TICKS_NONE = 0.9

_CARE = ((0.98, 0.25), (0.93, 0.33), (0.85, 0.25), (0.70, 0.12), (0.40, 0.05))  # (care, share of volunteers)
_LEANING = ((-1.2, 0.10), (-0.6, 0.22), (0.0, 0.36), (0.6, 0.22), (1.2, 0.10))
_BOTS = ("random", "first", "last")
_BOT_FRACTION, _BOT_ZEAL = 0.006, 3.0
_ANONYMOUS_FRACTION = 0.12
_SPREAD_OF_ACTIVITY = 1.5  # of log activity: a tenth of the volunteers does well over half of the work
_REPEAT_CHANCE = 0.008  # that a volunteer's click on a galaxy is followed by another one


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of volunteer.

    Attributes:
        care: Share of questions answered by what is seen; 0 for a robot.
        leaning: Log-odds in favour of seeing less: smooth, no bar, nothing odd.
        robot: "" for a person; "random" for one that clicks anything, "first" or "last" for one that always gives
            that answer.
    """

    care: float
    leaning: float
    bot: str = ""


KINDS = (
    *(Kind(care, leaning) for care, _ in _CARE for leaning, _ in _LEANING),
    *(Kind(0.0, 0.0, bot) for bot in _BOTS),
)


@dataclass(frozen=True, slots=True)
class Pool:
    """All volunteers there are, arrays of shape (volunteer,).

    Attributes:
        kind: Index into `KINDS`.
        is_anonymous: Whether the volunteer does not log in.
        activity: Share of all clicks, repeated clicks apart. Each shift (volunteers of equal `index // shift size`)
            has the same, and so has each leaning in each shift: shifts judge alike, so that the votes of a galaxy are
            nearly independent draws from the whole population (the variance of a fraction of 40 votes lacks 0.3 % of
            the binomial one, at most 2 % for answers that only robots like).
        fractions: Share of all clicks of each kind, shape (kind,).
    """

    kind: IntArray
    is_anonymous: BoolArray
    activity: FloatArray
    fractions: FloatArray


@cache
def pool(seed: int) -> Pool:
    """The volunteers of a seed: volunteer `j` of a seed is always the same.

    >>> bool(np.isclose(pool(0).fractions.sum(), 1.0))
    True
    """
    rng = np.random.default_rng([0x706F6F6C, seed])
    size = N_VOLUNTEERS // N_SHIFTS
    leanings = _in_fractions(np.array([fraction for _, fraction in _LEANING]), size)
    leaning = rng.permuted(np.tile(leanings, (N_SHIFTS, 1)), axis=1)
    care = np.searchsorted(np.cumsum([fraction for _, fraction in _CARE])[:-1], rng.random(leaning.shape), side="right")
    is_bot = rng.random(leaning.shape) < _BOT_FRACTION
    bot = len(_CARE) * len(_LEANING) + rng.integers(len(_BOTS), size=leaning.shape)
    kind = np.where(is_bot, bot, care * len(_LEANING) + leaning).ravel()
    is_anonymous = rng.random(N_VOLUNTEERS) < _ANONYMOUS_FRACTION

    activity = rng.lognormal(0.0, _SPREAD_OF_ACTIVITY, leaning.shape) * np.where(is_bot, _BOT_ZEAL, 1.0)
    for i, (_, fraction) in enumerate(_LEANING):
        group = np.where(leaning == i, activity, 0.0).sum(axis=1, keepdims=True)
        activity = np.where(leaning == i, activity * fraction / group / N_SHIFTS, activity)
    fractions = np.bincount(kind, weights=activity.ravel(), minlength=len(KINDS)).astype(np.float64)
    return Pool(kind.astype(np.int64), is_anonymous, activity.ravel(), fractions)


def _in_fractions(fractions: FloatArray, n: int) -> IntArray:
    """Indices 0, 1, ... repeated so that `n` of them have about these shares."""
    return np.searchsorted(np.cumsum(fractions)[:-1], (np.arange(n) + 0.5) / n, side="right")


@dataclass(frozen=True, slots=True)
class Part:
    """Questions that are asked together: one workflow.

    Attributes:
        name: Suffix of its questions, "dr5".
        questions: In the order of asking.
        fraction: Share of the campaign's galaxies that are shown in it.
        votes: Kinds of galaxies by number of votes: (share, fewest, most).
    """

    name: str
    questions: tuple[Question, ...]
    fraction: float
    votes: tuple[tuple[float, int, int], ...]

    @property
    def n_columns(self) -> int:
        """Number of answers."""
        return sum(len(question.columns) for question in self.questions)


# About 40 people saw each galaxy of the older campaigns (Willett et al. 2013, Simmons et al. 2017); from DECaLS DR5
# on many galaxies were retired early and the others went on to about 40 (Walmsley et al. 2022). The numbers of the
# newer campaigns are guesses in that spirit, and so are the shares.
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
    """The parts of a tree, each with its own root: one, except where a dataset holds several campaigns in a row.

    >>> from gzoo.trees.campaign import tree
    >>> [part.name for part in parts(tree("gz_desi"))]
    ['dr12', 'dr5', 'dr8']
    """
    roots: dict[str, str] = {}  # question -> its root; a question follows answers of one part only
    owner = {column: question.name for question in tree.questions for column in question.columns}
    for question in tree.ordered:
        roots[question.name] = roots[owner[question.parents[0]]] if question.parents else question.name
    found: list[Part] = []
    for root in dict.fromkeys(roots.values()):
        questions = tuple(question for question in tree.ordered if roots[question.name] == root)
        name = _suffix(questions[0]) or tree.name
        n_roots = len(set(roots.values()))
        fraction = _FRACTIONS.get(name, 1.0 / n_roots) if n_roots > 1 else 1.0
        found.append(Part(name, questions, fraction, _VOTES.get(name, _ABOUT_40)))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Clicks:
    """Classifications of a block of galaxies, in the order of galaxies and, for each, of time.

    Attributes:
        galaxy: Place of the galaxy in the block, shape (click,).
        number: Place of the click among the clicks on its galaxy, shape (click,).
        volunteer: Index into the pool, shape (click,).
        is_repeat: Whether the same volunteer clicked on the same galaxy before, shape (click,).
        given: Answers given, shape (click, answer).
    """

    galaxy: IntArray
    number: IntArray
    volunteer: IntArray
    is_repeat: BoolArray
    given: BoolArray

    def counts(self, n_galaxies: int) -> IntArray:
        """Votes: the people who gave each answer, first clicks only, shape (galaxy, answer).

        Robots count, for who they are is not known where real votes are counted.
        """
        counts = np.zeros((n_galaxies, self.given.shape[1]), np.int64)
        first = ~self.is_repeat
        starts = np.flatnonzero(np.diff(self.galaxy[first], prepend=-1))
        if len(starts):
            counts[self.galaxy[first][starts]] = np.add.reduceat(self.given[first].astype(np.int64), starts, axis=0)
        return counts


def click(
    tree: Tree, chances: FloatArray, volunteers: Pool, n_galaxies: int, rng: np.random.Generator
) -> tuple[IntArray, Clicks]:
    """Send volunteers down the tree.

    Galaxies differ in how many people they meet and, in a campaign of several parts, in the part they are shown in.
    Volunteers come in proportion to their activity: exactly so, for each shift has the same activity, a galaxy's
    shifts are drawn at random, and so is the person within a shift.

    All chance is drawn for the whole block whether there are `n_galaxies` in it or fewer, so that no galaxy's votes
    depend on how many others there are.

    Args:
        tree: The questions.
        chances: From `kind_chances`, shape (galaxy, kind, answer); more galaxies than `n_galaxies` are allowed.
        volunteers: The volunteers.
        n_galaxies: Galaxies of the block that are wanted.
        rng: The only source of chance, seeded for this block.

    Returns:
        The part of each galaxy, shape (galaxy,), and the clicks.
    """
    block = len(chances)
    all_parts = parts(tree)
    most = max(part.n_columns for part in all_parts)
    which = rng.random((block, 3))
    order = rng.random((block, N_SHIFTS)).argsort(axis=1)
    who = rng.random((block, N_SHIFTS))
    n_repeats = rng.poisson(_REPEAT_CHANCE, (block, N_SHIFTS))
    luck = rng.random((block, N_SHIFTS + MAX_REPEATS, most), np.float32)

    part = np.searchsorted(np.cumsum([one.fraction for one in all_parts])[:-1], which[:, 0], side="right")
    n_votes = np.zeros(block, np.int64)
    for i, one in enumerate(all_parts):
        crowd = np.searchsorted(np.cumsum([fraction for fraction, _, _ in one.votes])[:-1], which[:, 1], side="right")
        fewest, max_votes = np.array([row[1:] for row in one.votes]).T
        number = fewest[crowd] + np.floor(which[:, 2] * (max_votes - fewest + 1)[crowd]).astype(np.int64)
        n_votes = np.where(part == i, number, n_votes)

    n_repeats = (n_repeats * (np.arange(N_SHIFTS) < n_votes[:, None])).sum(axis=1)
    n_repeats = np.minimum(n_repeats, np.minimum(MAX_REPEATS, n_votes))
    n_clicks = (n_votes + n_repeats)[:n_galaxies]
    galaxy = np.repeat(np.arange(n_galaxies), n_clicks)
    number = np.arange(len(galaxy)) - np.repeat(np.cumsum(n_clicks) - n_clicks, n_clicks)
    is_repeat = number >= n_votes[galaxy]
    slot = np.where(is_repeat, number - n_votes[galaxy], number)  # who repeats: the first comers
    # Activities add up to the same in every shift, so a place on [0, 1) picks shift and person at once.
    place = (order[galaxy, slot] + who[galaxy, slot]) / N_SHIFTS
    volunteer = np.searchsorted(np.cumsum(volunteers.activity)[:-1], place, side="right")

    given = np.zeros((len(galaxy), len(tree.columns)), bool)
    kind = volunteers.kind[volunteer]
    for i, one in enumerate(all_parts):
        rows = np.flatnonzero(part[galaxy] == i)
        if len(rows):
            walk = _walk(tree, one, chances, galaxy[rows], kind[rows], luck[galaxy[rows], number[rows]])
            given[rows] = walk
    return part[:n_galaxies], Clicks(galaxy, number, volunteer, is_repeat, given)


def _walk(
    tree: Tree, part: Part, chances: FloatArray, galaxy: IntArray, kind: IntArray, luck: npt.NDArray[np.float32]
) -> BoolArray:
    given = np.zeros((len(galaxy), len(tree.columns)), bool)
    place = {column: i for i, column in enumerate(tree.columns)}
    start = 0
    for question in part.questions:
        own = tree.slice(question.name)
        n = own.stop - own.start
        asked = np.arange(len(galaxy))
        if question.parents:
            asked = np.flatnonzero(given[:, [place[parent] for parent in question.parents]].any(axis=1))
        chance = chances[galaxy[asked], kind[asked], own]
        dice = luck[asked, start : start + n]
        start += n
        if question.multiple:
            given[asked, own] = _ticks(question, chance, dice)
        else:
            choice = (np.cumsum(chance, axis=1)[:, :-1] <= dice[:, :1]).sum(axis=1)
            given[asked, own.start + choice] = True
    return given


def _ticks(question: Question, chance: FloatArray, dice: npt.NDArray[np.float32]) -> BoolArray:
    """Each answer by itself; "none" only by those who tick nothing else."""
    ticks = dice < chance
    if "none" in question.answers:
        none = question.answers.index("none")
        others = np.arange(len(question.answers)) != none
        nothing_else = np.prod(1.0 - chance[:, others], axis=1)
        ticks[:, none] = ~ticks[:, others].any(axis=1) & (dice[:, none] * nothing_else < chance[:, none])
    return ticks


def careful_chances(tree: Tree, log_odds: FloatArray) -> FloatArray:
    """The chance of each answer for a careful person without leaning who is asked its question.

    Args:
        tree: The questions.
        log_odds: From `careful_log_odds`, shape (galaxy, answer).

    Returns:
        Each above 0 and below 1, shape (galaxy, answer); they sum to 1 over the answers of a question unless it
        allows several.
    """
    return _chances(tree, log_odds[:, None, :], np.array([1.0 - _SLIP]))[:, 0]


def kind_chances(tree: Tree, log_odds: FloatArray) -> FloatArray:
    """The same for each kind of volunteer, shape (galaxy, kind, answer); a robot's may be 0 or 1."""
    tilt = np.array([_tilt(question, answer) for question in tree.questions for answer in question.answers])
    leanings = np.array([leaning for leaning, _ in _LEANING])
    leaned = log_odds[:, None, :] - leanings[:, None] * tilt
    of_volunteers = [_chances(tree, leaned, np.full(len(leanings), care * (1.0 - _SLIP))) for care, _ in _CARE]
    of_bots = _bot_chances(tree)
    same = np.broadcast_to(of_bots, (len(log_odds), *of_bots.shape))
    return np.concatenate([*of_volunteers, same], axis=1)


def population_chances(tree: Tree, chances: FloatArray, fractions: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The chance of each answer, given that its question is asked, for a click of the whole population.

    Those who are asked a deep question are not the average volunteer, so each kind counts by how often it gets there.

    Args:
        tree: The questions.
        chances: From `kind_chances`, shape (galaxy, kind, answer).
        fractions: Share of the clicks of each kind, shape (kind,).

    Returns:
        Chances, shape (galaxy, answer), and the chance of being asked (in a campaign of several parts: if the galaxy
        is shown in that part), shape (galaxy, question).
    """
    n_galaxies, n_kinds, n_answers = chances.shape
    proportion_asked = (
        tree.proportion_asked(chances.reshape(-1, n_answers)).reshape(n_galaxies, n_kinds, -1) * fractions[:, None]
    )
    of = list(tree.question_of_answer)
    asked = proportion_asked.sum(axis=1)
    return (proportion_asked[:, :, of] * chances).sum(axis=1) / asked[:, of], asked


def _chances(tree: Tree, log_odds: FloatArray, care: FloatArray) -> FloatArray:
    """Chances from log-odds of shape (galaxy, kind, answer) and care of shape (kind,)."""
    chances = np.empty(log_odds.shape)
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
        chances[:, :, tree.slice(question.name)] = seen
    return chances


@cache
def _bot_chances(tree: Tree) -> FloatArray:
    """Of each kind of robot, shape (robot, answer)."""
    n = len(tree.columns)
    of_random = _chances(tree, np.zeros((1, 1, n)), np.zeros(1))[0, 0]
    first, last = np.zeros((2, n))
    for question in tree.questions:
        own = tree.slice(question.name)
        first[own.start] = last[own.stop - 1] = 1.0
    return np.stack([{"random": of_random, "first": first, "last": last}[bot] for bot in _BOTS])


# ---- what a careful person sees --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sights:
    """What there is to see of a block of galaxies, arrays of shape (galaxy,).

    Attributes:
        galaxy: Physical parameters, by the names of `Galaxy`'s fields.
        visibility: How far each part stands out, by the names of `Visibility`'s fields.
    """

    galaxy: Mapping[str, npt.NDArray[np.generic]]
    visibility: Mapping[str, FloatArray]

    @classmethod
    def of(cls, galaxies: Sequence[Galaxy], visibilities: Sequence[Visibility]) -> Sights:
        """Gather single galaxies."""
        seen = {name: values.astype(np.float64) for name, values in _gather(Visibility, visibilities).items()}
        return cls(_gather(Galaxy, galaxies), seen)

    def __getitem__(self, name: str) -> FloatArray:
        return self.galaxy[name].astype(np.float64)

    def is_one_of(self, field: str, *values: str) -> FloatArray:
        """1 where a field of text has one of the values, else 0."""
        return np.isin(self.galaxy[field], values).astype(np.float64)


def _gather(kind: type, things: Sequence[object]) -> dict[str, npt.NDArray[np.generic]]:
    names = [field.name for field in fields(kind)]
    rows = map(attrgetter(*names), things)
    return {name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def careful_log_odds(tree: Tree, sights: Sights) -> FloatArray:
    """Log-odds, up to a constant per question, of each answer by a careful person who is asked it.

    Args:
        tree: The questions of any campaign.
        sights: The galaxies.

    Returns:
        Shape (galaxy, answer).

    Raises:
        InputError: The tree asks something that simulated volunteers were never taught.
    """
    evidence = _evidence(sights)
    known: dict[str, dict[str, FloatArray]] = {}
    n = len(evidence.clarity)
    odds = np.empty((n, len(tree.columns)))
    for question in tree.questions:
        subject = _subject(question)
        if subject not in known:
            known[subject] = _TAUGHT[subject](evidence, sights)
        for i, answer in enumerate(question.answers, start=tree.slice(question.name).start):
            name = _SAME.get(answer, answer)
            if name not in known[subject]:
                raise InputError(
                    f"Simulated volunteers know no answer '{answer}' to question '{question.name}'.",
                    f"They know: {', '.join(known[subject])}.",
                    "Teach them in gzoo/simulator/volunteers.py.",
                )
            odds[:, i] = known[subject][name]
    return odds


def _subject(question: Question) -> str:
    """What a question is about: the longest known name that it begins with."""
    about = [name for name in _TAUGHT if question.name == name or question.name.startswith(f"{name}-")]
    if not about:
        raise InputError(
            f"Simulated volunteers were never taught question '{question.name}'.",
            f"They know: {', '.join(_TAUGHT)}.",
            "Teach them in gzoo/simulator/volunteers.py.",
        )
    return max(about, key=len)


def _suffix(question: Question) -> str:
    return question.name.removeprefix(_subject(question)).removeprefix("-")


# Campaigns use several words for one answer.
_SAME = {
    "features": "featured-or-disk",
    "problem": "artifact",
    "star-artifact-zoom": "artifact",
    "completely": "round",
    "rounded": "round",
    "cigar-shaped": "cigar",
    "no-bulge": "none",
    "neither": "none",
    "bad-zoom": "zoom",
    "5-plus": "more-than-4",
}

# Subjects in which a leaning to see less speaks against every answer but these.
_NOTHING_THERE = {"no", "none", "neither"}
_SIGNS = {
    *("clumpy-appearance", "clumps", "bar", "has-spiral-arms", "something-odd", "ring"),
    *("merging", "rare-features", "odd-features"),
}


def _tilt(question: Question, answer: str) -> float:
    """How strongly a leaning speaks against an answer."""
    if _SAME.get(answer, answer) == "featured-or-disk":
        return 1.0
    return 0.6 if _subject(question) in _SIGNS and answer not in _NOTHING_THERE else 0.0


def _step(value: FloatArray, middle: float, width: float) -> FloatArray:
    """A smooth step from 0 to 1 around `middle`."""
    return 1.0 / (1.0 + np.exp(-np.clip((value - middle) / width, -60.0, 60.0)))


def _noticed(evidence: FloatArray) -> FloatArray:
    """Log-odds that a part is reported: 4 % where there is nothing, 29 % at evidence 1, 82 % at 3, 96 % at 6."""
    return -3.2 + 3.4 * np.log1p(evidence)


def _seen(strength: FloatArray, visibility: FloatArray) -> FloatArray:
    """Evidence of a part: how strong it is, so far as it stands out of blur and noise."""
    return 8.0 * strength * visibility / (visibility + 2.0)


def _nearest(value: FloatArray, rungs: Mapping[str, float], width: float | FloatArray) -> dict[str, FloatArray]:
    """Log-odds of answers that are rungs of a ladder: people pick the one nearest to what they see."""
    return {answer: -0.5 * ((value - rung) / width) ** 2 for answer, rung in rungs.items()}


@dataclass(frozen=True, slots=True)
class _Evidence:
    """What a careful person has to go by, arrays of shape (galaxy,).

    Parts of the galaxy are on a scale on which 1 is barely worth a word and 3 is plain.
    """

    clarity: FloatArray  # 0 to 1: how much of the structure, whatever it is, can be made out
    disk: FloatArray  # 0 to 1: whether most of the light is in a disk
    face_on: FloatArray  # 0 to 1
    side_on: FloatArray  # 0 to 1
    axis_ratio: FloatArray  # of the outline, blur included
    bulge: FloatArray  # log of bulge over disk light, as seen
    arms: FloatArray
    bar: FloatArray
    ring: FloatArray
    clumps: FloatArray
    tails: FloatArray
    companion: FloatArray
    dust: FloatArray
    arc: FloatArray
    overlap: FloatArray
    oddest: FloatArray
    is_star: FloatArray  # 1 where no galaxy is to be seen at all


def _evidence(s: Sights) -> _Evidence:
    v = s.visibility
    is_star = s.is_one_of("artifact", "star", "saturation", "bad-zoom")
    there = 1.0 - is_star
    tilt = np.cos(np.radians(s["inclination"]))
    clarity = _step(np.log(np.maximum(v["resolution"], 1e-3)), np.log(2.2), 0.3)
    clarity *= there * _step(np.log(np.maximum(v["signal_to_noise"], 1e-3)), np.log(6.0), 0.4)
    disk_fraction = 1.0 - s["bulge_fraction"]
    disk = _step(disk_fraction, 0.35, 0.10)
    flat = there * disk * _step(tilt, 0.2, 0.05)  # neither bars nor arms are seen from the side
    bulge = np.log(s["bulge_fraction"] / np.maximum(disk_fraction, 1e-3)) - 1.5 * np.exp(-v["bulge"])

    disk_ratio = np.hypot(tilt, 0.7 * s["disk_thickness"])
    ratio = s["bulge_fraction"] * s["bulge_axis_ratio"] + disk_fraction * disk_ratio
    blur = (1.06 / np.maximum(v["resolution"], 0.1)) ** 2
    axis_ratio = np.where(is_star > 0, 1.0, np.sqrt((ratio**2 + blur) / (1.0 + blur)))

    arms, bar = flat * _seen(s["arm_strength"], v["arms"]), flat * _seen(s["bar_strength"], v["bar"])
    ring, dust = there * _seen(s["ring_strength"], v["ring"]), there * _seen(s["dust_strength"], v["dust"])
    clumps = there * _seen(s["clump_strength"], v["clumps"])
    tails = there * _seen(np.maximum(s["disturbance"], s["tail_strength"]), v["tails"])
    companion = there * _seen(np.maximum(s["merger_strength"], 0.7 * s["companion_strength"]), v["companion"])
    arc, overlap = 5.0 * clarity * s["arc_strength"], 8.0 * clarity * s["overlap_strength"]
    return _Evidence(
        clarity=clarity,
        disk=there * disk,
        face_on=_step(tilt, 0.38, 0.10),
        side_on=there * _step(-tilt, -0.25, 0.045),
        axis_ratio=axis_ratio,
        bulge=bulge,
        arms=arms,
        bar=bar,
        ring=ring,
        clumps=clumps,
        tails=tails,
        companion=companion,
        dust=dust,
        arc=arc,
        overlap=overlap,
        oddest=np.max([1.1 * ring, 0.7 * clumps, 0.8 * dust, tails, companion, arc, 0.6 * overlap], axis=0),
        is_star=is_star,
    )


_Answers = dict[str, FloatArray]

_ARTIFACT_ODDS = {
    "star": 2.8,
    "saturation": 2.6,
    "spikes": 2.0,
    "bad-zoom": 1.8,
    "trail": 1.6,
    "scattered": 1.4,
    "ghost": 1.4,
    "other": 1.2,
    "ray": 0.6,
}


def _smooth_or_featured(e: _Evidence, s: Sights) -> _Answers:
    # the strongest sign settles whether any is seen; the next one helps a little
    edge = 4.5 * e.disk * e.side_on * e.clarity
    signs = [e.arms, 0.75 * e.bar, edge, e.clumps, 0.8 * e.ring, 0.6 * e.dust, 0.45 * e.tails, 0.35 * e.companion]
    ordered = np.sort(np.stack([*signs, 0.5 * e.arc]), axis=0)
    featured = -3.0 + 2.7 * np.log1p(ordered[-1]) + 0.7 * np.log1p(ordered[-2]) + 0.6 * e.clarity * e.disk * e.face_on
    artifact = -3.4 + 0.9 * (1.0 - e.clarity)
    for kind, odds in _ARTIFACT_ODDS.items():
        artifact = np.where(s.is_one_of("artifact", kind) > 0, odds, artifact)
    return {
        "smooth": np.zeros_like(featured),
        "featured-or-disk": np.where(e.is_star > 0, -1.5, featured),
        "artifact": artifact,
    }


def _how_rounded(e: _Evidence, _: Sights) -> _Answers:
    return _nearest(e.axis_ratio, {"round": 0.93, "in-between": 0.62, "cigar": 0.25}, 0.105)


def _disk_edge_on(e: _Evidence, _: Sights) -> _Answers:
    return _yes(9.0 * (e.side_on - 0.5) * (0.4 + 0.6 * e.clarity))


def _bulge_shape(e: _Evidence, s: Sights) -> _Answers:
    boxiness = s["bulge_boxiness"] * (0.4 + 0.6 * e.clarity)
    round_ = 1.4 + 0.9 * e.bulge - 1.2 * boxiness
    boxy = -2.2 + 0.5 * e.bulge + 3.4 * boxiness
    none = -1.9 - 1.1 * e.bulge
    return {"round": round_, "boxy": boxy, "none": none, "yes": np.logaddexp(round_, boxy), "no": none}


def _bar(e: _Evidence, s: Sights) -> _Answers:
    seen, strength = _noticed(e.bar), s["bar_strength"]
    strong, weak = seen + 5.0 * (strength - 0.65), seen + 0.3 - 2.0 * (strength - 0.5)
    return _yes(seen) | {"strong": strong, "weak": weak}


def _spiral_arms(e: _Evidence, _: Sights) -> _Answers:
    return _yes(_noticed(e.arms) + 0.4)


def _sure(visibility: FloatArray) -> FloatArray:
    """How sure one can be of the details of a part, 0.15 to 1."""
    return 0.15 + 0.85 * np.minimum(1.0, visibility / 3.0)


def _winding(e: _Evidence, s: Sights) -> _Answers:
    return _nearest(s["arm_pitch"], {"tight": 13.0, "medium": 21.0, "loose": 31.0}, 5.0 / np.sqrt(_sure(e.arms)))


def _count(shown: FloatArray, sharpness: FloatArray) -> _Answers:
    """People count what they see, one off at times."""
    shown = np.clip(shown, 1, 5)
    names = ("1", "2", "3", "4", "more-than-4")
    return {name: -sharpness * np.abs(number - shown) for number, name in enumerate(names, start=1)}


def _arm_count(e: _Evidence, s: Sights) -> _Answers:
    sure, patchiness = _sure(e.arms), s["arm_patchiness"]
    answers = _count(s["n_arms"], (0.6 + 3.2 * sure) * (1.25 - 0.6 * patchiness))
    answers["2"] = answers["2"] + 0.7  # the image of a spiral that everyone has in mind
    return answers | {"cant-tell": 0.8 - 2.4 * sure + 1.2 * patchiness}


def _bulge_size(e: _Evidence, _: Sights) -> _Answers:
    rungs = {"dominant": 2.2, "large": 0.8, "obvious": 0.1, "moderate": -0.5, "just-noticeable": -1.6, "small": -1.9}
    answers = _nearest(e.bulge, rungs | {"none": -4.0}, 1.0)
    return answers | {"no": answers["none"]}


def _something_odd(e: _Evidence, _: Sights) -> _Answers:
    return _yes(_noticed(e.oddest) - 0.4)


def _odd_features(e: _Evidence, s: Sights) -> _Answers:
    return {
        "ring": _noticed(1.3 * e.ring),
        "lens-or-arc": _noticed(e.arc) - 0.8,
        "disturbed": _noticed(0.8 * e.tails) - 1.8,
        "irregular": _noticed(np.maximum(e.clumps, 5.0 * e.clarity * s["irregularity"])),
        "other": -0.1 - 1.0 * np.log1p(e.oddest),
        "merger": _noticed(e.companion),
        "dust-lane": _noticed(e.dust) - 0.8,
        "overlapping": _noticed(e.overlap),
    }


def _rare_features(e: _Evidence, s: Sights) -> _Answers:
    # Everyone is asked, not only those who found something odd, so fewer tick what is hardly there.
    rare = {name: odds - 0.9 for name, odds in _odd_features(e, s).items()}
    return rare | {"other": np.full_like(e.clarity, -2.8), "none": np.zeros_like(e.clarity)}


def _merging(e: _Evidence, _: Sights) -> _Answers:
    debris, companion = _noticed(e.tails), _noticed(1.3 * e.companion)
    return {
        "none": np.zeros_like(debris),
        "minor-disturbance": debris + 0.5 - 0.25 * e.tails,
        "major-disturbance": debris - 1.6 + 0.25 * e.tails,
        "merger": companion,
        "tidal-debris": debris,
        "both": -1.5 + 0.5 * (debris + companion),
    }


def _ring(e: _Evidence, _: Sights) -> _Answers:
    return _yes(_noticed(e.ring))


def _clumpy(e: _Evidence, _: Sights) -> _Answers:
    return _yes(_noticed(e.clumps))


def _clump_count(e: _Evidence, s: Sights) -> _Answers:
    sure = _sure(e.clumps)
    return _count(s["n_clumps"], 0.3 + 1.7 * sure) | {"cant-tell": 0.6 - 2.2 * sure + 0.15 * s["n_clumps"]}


def _clump_configuration(e: _Evidence, s: Sights) -> _Answers:
    shapes = {"straight-line": "line", "chain": "chain", "cluster-or-irregular": "cluster", "spiral": "spiral"}
    answers = {name: 3.0 * _sure(e.clumps) * s.is_one_of("clump_arrangement", one) for name, one in shapes.items()}
    return answers | {
        "cluster-or-irregular": answers["cluster-or-irregular"] + 0.5,
        "spiral": answers["spiral"] + 0.5 * np.log1p(e.arms),
    }


def _one_clump_brightest(e: _Evidence, s: Sights) -> _Answers:
    return _yes(5.0 * _sure(e.clumps) * (s["clump_lead"] - 0.5))


def _brightest_clump_central(e: _Evidence, s: Sights) -> _Answers:
    return _yes(5.0 * _sure(e.clumps) * (s["clump_lead_is_central"] - 0.5))


def _symmetrical(_: _Evidence, s: Sights) -> _Answers:
    return _yes(np.where(s["n_clumps"] > 0, 4.0 * (s["clump_symmetry"] - 0.55), 1.5 - 5.0 * s["disturbance"]))


def _embedded(_: _Evidence, s: Sights) -> _Answers:
    return _yes(4.0 * (s["clump_embedding"] - 0.5))


def _problem(_: _Evidence, s: Sights) -> _Answers:
    kinds = {"star": ("star", "saturation"), "artifact": ("trail", "spikes", "scattered", "ghost", "ray", "other")}
    answers = {name: 3.0 * s.is_one_of("artifact", *those) for name, those in kinds.items()}
    return answers | {"zoom": 3.0 * s.is_one_of("artifact", "bad-zoom") - 0.3}


def _artifact(_: _Evidence, s: Sights) -> _Answers:
    kinds = {
        "satellite": ("trail",),
        "scattered": ("scattered",),
        "diffraction": ("spikes", "star"),
        "ray": ("ray",),
        "saturation": ("saturation",),
        "other": ("other",),
        "ghost": ("ghost",),
    }
    return {name: 3.0 * s.is_one_of("artifact", *those) for name, those in kinds.items()}


def _yes(log_odds: FloatArray) -> _Answers:
    return {"yes": log_odds, "no": np.zeros_like(log_odds)}


_TAUGHT: Mapping[str, Callable[[_Evidence, Sights], _Answers]] = {
    "smooth-or-featured": _smooth_or_featured,
    "how-rounded": _how_rounded,
    "disk-edge-on": _disk_edge_on,
    "bulge-shape": _bulge_shape,
    "edge-on-bulge": _bulge_shape,
    "bar": _bar,
    "has-spiral-arms": _spiral_arms,
    "spiral-winding": _winding,
    "spiral-arm-count": _arm_count,
    "bulge-size": _bulge_size,
    "something-odd": _something_odd,
    "odd-features": _odd_features,
    "rare-features": _rare_features,
    "merging": _merging,
    "ring": _ring,
    "clumps": _clumpy,
    "clumpy-appearance": _clumpy,
    "clump-count": _clump_count,
    "clump-configuration": _clump_configuration,
    "one-clump-brightest": _one_clump_brightest,
    "brightest-clump-central": _brightest_clump_central,
    "galaxy-symmetrical": _symmetrical,
    "clumps-embedded-larger-object": _embedded,
    "problem": _problem,
    "artifact": _artifact,
}
