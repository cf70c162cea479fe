"""Volunteers: what people answer about a galaxy whose parameters are known.

The chance of each answer is a smooth function of the physical parameters and of how much of them seeing and
noise let one see. What cannot be seen is called smooth, as on the real site. No answer is ever certain or
impossible.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from gzoo.errors import InputError
from gzoo.simulator.galaxies import Galaxy
from gzoo.trees import Question, Tree

# Share of clicks that have nothing to do with the galaxy: slips, haste, another look at the same word.
_SLIP = 0.02


def answer_probabilities(galaxy: Galaxy, tree: Tree) -> dict[str, npt.NDArray[np.float64]]:
    """The chance of each answer for a volunteer who is asked the question.

    Args:
        galaxy: What the volunteers look at.
        tree: The questions, those of GZ2.

    Returns:
        For each question of the tree, by name, the probabilities in the order of `question.columns`, shape
        (answer,), each above 0 and below 1. They sum to 1 unless the question allows several answers.

    Raises:
        InputError: The tree asks something that simulated volunteers were never taught.
    """
    leanings = _leanings_for_a_star(galaxy) if galaxy.is_artifact else _leanings(galaxy)
    return {question.name: _probabilities(question, leanings) for question in tree.questions}


def cast_votes(
    tree: Tree,
    probabilities: Mapping[str, npt.NDArray[np.float64]],
    n_volunteers: int,
    rng: np.random.Generator,
) -> npt.NDArray[np.int64]:
    """Send volunteers down the tree and count their answers.

    A volunteer is asked a question that is a root, or that follows an answer he or she gave. Where several
    answers are allowed, each is given or not by itself, and a volunteer may give none.

    Args:
        tree: The questions.
        probabilities: For each question the chance of each answer, as from `answer_probabilities`.
        n_volunteers: Number of people.
        rng: The only source of chance.

    Returns:
        Number of people who gave each answer of `tree.columns`, shape (answer,).
    """
    gave: dict[str, npt.NDArray[np.bool_]] = {}
    for question in tree.ordered:
        asked = np.full(n_volunteers, not question.parents)
        for parent in question.parents:
            asked |= gave[parent]
        chances = probabilities[question.name]
        # Everyone draws, asked or not: new chances for one answer leave the luck of other questions alone.
        if question.multiple:
            given = rng.random((n_volunteers, len(chances))) < chances
        else:
            thresholds = np.cumsum(chances)[:-1]
            choice = np.searchsorted(thresholds, rng.random(n_volunteers), side="right")
            given = choice[:, None] == np.arange(len(chances))
        for i, column in enumerate(question.columns):
            gave[column] = asked & given[:, i]
    return np.array([gave[column].sum() for column in tree.columns], np.int64)


# A leaning is a log-odds up to a constant per question: answer -> number, larger for more likely.
_Leanings = dict[str, dict[str, float]]


def _probabilities(question: Question, leanings: _Leanings) -> npt.NDArray[np.float64]:
    stem = question.name.removesuffix("-gz2")
    known = leanings.get(stem, {})
    if set(known) != set(question.answers):
        raise InputError(
            f"Simulated volunteers cannot answer question '{question.name}' ({', '.join(question.answers)}).",
            f"They know these GZ2 questions: {', '.join(leanings)}.",
            "Simulate campaign 'gz2'.",
        )
    leaning = np.array([known[answer] for answer in question.answers])
    if question.multiple:
        return _SLIP / 2 + (1 - _SLIP) / (1 + np.exp(-leaning))
    weight = np.exp(leaning - leaning.max())
    return _SLIP / len(weight) + (1 - _SLIP) * weight / weight.sum()


def _step(value: float, middle: float, width: float) -> float:
    """A smooth step from 0 to 1 around `middle`."""
    return float(1 / (1 + np.exp(-(value - middle) / width)))


def clarity(galaxy: Galaxy) -> float:
    """How much of a galaxy's structure one can see, between 0 and 1.

    It falls as the blur approaches the galaxy's size, and as the galaxy sinks into the noise of the sky.
    """
    resolution = np.log(galaxy.radius_arcsec / galaxy.seeing_arcsec)
    return _step(float(resolution), np.log(4.2), 0.33) * _step(-galaxy.surface_brightness, -22.3, 0.35)


def _leanings(galaxy: Galaxy) -> _Leanings:
    seen = clarity(galaxy)
    tilt = float(np.cos(np.radians(galaxy.inclination)))
    side_on = _step(-tilt, -0.25, 0.045)
    face_on = _step(tilt, 0.38, 0.10)
    disk = _step(galaxy.disk_fraction, 0.35, 0.10)

    arms = seen * disk * face_on * galaxy.arm_strength if galaxy.n_arms else 0.0
    bar = seen * disk * face_on * _step(galaxy.bar_strength, 0.45, 0.10)
    clumps = seen * disk * galaxy.irregularity
    ring = seen * disk * _step(tilt, 0.25, 0.06) * galaxy.ring_strength
    dust = seen * disk * galaxy.dust_strength * max(0.15, side_on)
    tails = (0.3 + 0.7 * seen) * galaxy.disturbance
    merger = (0.35 + 0.65 * seen) * galaxy.companion_strength**0.5 * _step(-galaxy.companion_distance, -1.35, 0.2)
    arc = seen * galaxy.arc_strength

    # the strongest feature settles whether any is seen; the others help a little
    signs = sorted((1.7 * arms, 1.1 * bar, 1.1 * disk * side_on, clumps, ring, 0.8 * dust, 0.5 * tails, 0.5 * arc))
    featured = -1.9 + 5.2 * signs[-1] + 1.5 * signs[-2] + 0.9 * seen * disk * face_on
    oddest = max(1.1 * ring, clumps, dust, tails, merger, arc)

    flattening = _outline_axis_ratio(galaxy)
    bulge = float(np.log(galaxy.bulge_fraction / galaxy.disk_fraction))  # about -3 to 3 for disks
    pitch = galaxy.arm_pitch
    certainty = 0.6 + 2.6 * min(1.0, 1.6 * arms)
    return {
        "smooth-or-featured": {
            "smooth": 0.0,
            "featured-or-disk": featured,
            "artifact": -3.3 + 0.9 * (1 - seen),
        },
        "how-rounded": {
            "round": 20 * (flattening - 0.80),
            "in-between": 0.0,
            "cigar": -20 * (flattening - 0.42),
        },
        "disk-edge-on": {"yes": 9 * (side_on - 0.5), "no": 0.0},
        "bulge-shape": {
            "round": 1.4 + 0.9 * bulge - 1.2 * galaxy.bulge_boxiness,
            "boxy": -2.2 + 0.5 * bulge + 3.4 * galaxy.bulge_boxiness * (0.4 + 0.6 * seen),
            "no-bulge": -1.9 - 1.1 * bulge,
        },
        "bar": {"yes": -2.6 + 7.5 * bar, "no": 0.0},
        "has-spiral-arms": {"yes": -1.6 + 8.0 * arms, "no": 0.0},
        "spiral-winding": {
            "tight": certainty * (18 - pitch) / 5,
            "medium": 0.3,
            "loose": certainty * (pitch - 27) / 6,
        },
        "spiral-arm-count": _arm_count(galaxy, certainty),
        "bulge-size": {
            "dominant": 2.2 * (bulge - 0.9),
            "obvious": 1.0 + 0.9 * bulge,
            "just-noticeable": 0.4,
            "no": -1.3 * (bulge + 3.1),
        },
        "something-odd": {"yes": -3.2 + 6.5 * oddest, "no": 0.0},
        "odd-features": {
            "ring": -2.8 + 6.5 * ring,
            "lens-or-arc": -4.2 + 7.5 * arc,
            "disturbed": -3.0 + 4.5 * tails + 0.8 * merger,
            "irregular": -3.0 + 6.5 * clumps + 0.8 * tails,
            "other": -0.4 - 1.8 * oddest,
            "merger": -3.0 + 7.0 * merger + 1.0 * tails,
            "dust-lane": -3.2 + 8.0 * dust,
        },
    }


def _arm_count(galaxy: Galaxy, certainty: float) -> dict[str, float]:
    """People count the arms they see, one off at times, and say so when they cannot."""
    answers = ("1", "2", "3", "4", "more-than-4")
    sharpness = certainty * (1.25 - 0.6 * galaxy.arm_patchiness)
    shown = min(max(galaxy.n_arms, 1), 5)
    leaning = {answer: -sharpness * abs(count - shown) for count, answer in enumerate(answers, start=1)}
    leaning["2"] += 0.7  # the picture of a spiral that everyone has in mind
    return leaning | {"cant-tell": 1.1 - 0.9 * certainty + 1.2 * galaxy.arm_patchiness}


def _outline_axis_ratio(galaxy: Galaxy) -> float:
    """Short over long axis of the outline that one sees, blur included."""
    disk_ratio = float(np.hypot(np.cos(np.radians(galaxy.inclination)), 0.7 * galaxy.disk_thickness))
    ratio = galaxy.bulge_fraction * galaxy.bulge_axis_ratio + galaxy.disk_fraction * disk_ratio
    blur = (0.45 * galaxy.seeing_arcsec / galaxy.half_light_radius_arcsec) ** 2
    return float(np.sqrt((ratio**2 + blur) / (1 + blur)))


def _leanings_for_a_star(galaxy: Galaxy) -> _Leanings:
    """A bright star is a star to nearly everyone; the few who go on find something round and plain."""
    plain = replace(
        galaxy,
        bulge_fraction=0.9,
        inclination=0.0,
        n_arms=0,
        bar_strength=0.0,
        ring_strength=0.0,
        dust_strength=0.0,
        disturbance=0.0,
        irregularity=0.0,
        companion_strength=0.0,
        arc_strength=0.0,
    )
    return _leanings(plain) | {
        "smooth-or-featured": {"smooth": 0.0, "featured-or-disk": -1.5, "artifact": 2.6},
        "how-rounded": {"round": 3.0, "in-between": 0.0, "cigar": -3.0},
    }
