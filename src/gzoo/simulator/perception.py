"""Perception: what a careful volunteer answers about a galaxy whose parameters are known.

The probability of each answer is a smooth function of the galaxy's parameters and of how far each part stands out
from the noise after blurring. Galaxies without visible structure are called smooth, as on the real site.

All arrays describe a block of galaxies, because one galaxy at a time would be slow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter

import numpy as np
import numpy.typing as npt

from gzoo.errors import InputError, choices
from gzoo.simulator.camera import Visibility
from gzoo.simulator.galaxies import CLUMP_ARRANGEMENTS, Galaxy
from gzoo.trees.tree import FloatArray, Question, Tree


@dataclass(frozen=True, slots=True)
class Appearance:
    """Parameters and visible parts of a block of galaxies, arrays of shape (galaxy,).

    Attributes:
        galaxy: Physical parameters, by the names of the fields of `Galaxy`.
        visibility: How far each part stands out, by the names of the fields of `Visibility`.
    """

    galaxy: Mapping[str, npt.NDArray[np.generic]]
    visibility: Mapping[str, FloatArray]

    @classmethod
    def of(cls, galaxies: Sequence[Galaxy], visibilities: Sequence[Visibility]) -> Appearance:
        """Return the appearance of galaxies, given one by one."""
        seen = {name: values.astype(np.float64) for name, values in _gather(Visibility, visibilities).items()}
        return cls(_gather(Galaxy, galaxies), seen)

    def __getitem__(self, name: str) -> FloatArray:
        return self.galaxy[name].astype(np.float64)

    def is_one_of(self, field: str, *values: str) -> FloatArray:
        """Return 1 where a string field has one of the values, else 0."""
        return np.isin(self.galaxy[field], values).astype(np.float64)


def _gather(kind: type, things: Sequence[object]) -> dict[str, npt.NDArray[np.generic]]:
    names = [field.name for field in fields(kind)]
    rows = map(attrgetter(*names), things)
    return {name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def careful_log_odds(tree: Tree, appearance: Appearance) -> FloatArray:
    """Return the log-odds, up to a constant per question, of each answer by a careful volunteer.

    Args:
        tree: The decision tree of any campaign.
        appearance: The galaxies.

    Returns:
        Shape (galaxy, answer).

    Raises:
        InputError: The tree has a question or an answer that simulated volunteers do not know.
    """
    evidence = _evidence(appearance)
    known: dict[str, dict[str, FloatArray]] = {}
    odds = np.empty((len(evidence["clarity"]), len(tree.columns)))
    for question in tree.questions:
        subject = _subject(question)
        if subject not in known:
            known[subject] = _ANSWERS[subject](evidence, appearance)
        for i, answer in enumerate(question.answers, start=tree.slice(question.name).start):
            name = _SAME.get(answer, answer)
            if name not in known[subject]:
                raise InputError(
                    f"Simulated volunteers do not know answer '{answer}' of question '{question.name}'.",
                    choices(known[subject], answer),
                    "Add the answer to gzoo/simulator/perception.py.",
                )
            odds[:, i] = known[subject][name]
    return odds


def not_known(tree: Tree, appearance: Appearance) -> list[str]:
    """Return the questions of a tree that simulated volunteers do not know, and the answers to others, as phrases.

    Args:
        tree: The decision tree of any campaign.
        appearance: Any galaxy.
    """
    evidence = _evidence(appearance)
    found: list[str] = []
    for question in tree.questions:
        try:
            known = _ANSWERS[_subject(question)](evidence, appearance)
        except InputError:
            found.append(f"question '{question.name}'")
            continue
        answers = [answer for answer in question.answers if _SAME.get(answer, answer) not in known]
        found += [f"answer '{answer}' of question '{question.name}'" for answer in answers]
    return found


def _subject(question: Question) -> str:
    """Return the subject of a question: the longest known name that it starts with."""
    about = [name for name in _ANSWERS if question.name == name or question.name.startswith(f"{name}-")]
    if not about:
        raise InputError(
            f"Simulated volunteers do not know question '{question.name}'.",
            choices(_ANSWERS, question.name),
            "Add the question to gzoo/simulator/perception.py.",
        )
    return max(about, key=len)


def suffix(question: Question) -> str:
    """Return the part of a campaign that a question belongs to, "dr5" for `bar-dr5`; "" for none."""
    return question.name.removeprefix(_subject(question)).removeprefix("-")


# Campaigns use several names for one answer.
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

# A leaning towards seeing less contradicts every answer about these subjects, except these answers.
_NOTHING_THERE = {"no", "none", "neither"}
_SIGNS = {
    *("clumpy-appearance", "clumps", "bar", "has-spiral-arms", "something-odd", "ring"),
    *("merging", "rare-features", "odd-features"),
}


def tilt(question: Question, answer: str) -> float:
    """Return how strongly a leaning towards seeing less lowers the log-odds of an answer."""
    if _SAME.get(answer, answer) == "featured-or-disk":
        return 1.0
    return 0.6 if _subject(question) in _SIGNS and answer not in _NOTHING_THERE else 0.0


def _step(value: FloatArray, middle: float, width: float) -> FloatArray:
    """Return a smooth step from 0 to 1 around `middle`."""
    return 1.0 / (1.0 + np.exp(-np.clip((value - middle) / width, -60.0, 60.0)))


def _noticed(evidence: FloatArray) -> FloatArray:
    """Return the log-odds that a part is reported: 4% without evidence, 29% at evidence 1, 82% at 3, 96% at 6."""
    return -3.2 + 3.4 * np.log1p(evidence)


def _seen(strength: FloatArray, visibility: FloatArray) -> FloatArray:
    """Return the evidence of a part: its strength, as far as it stands out from blur and noise."""
    return 8.0 * strength * visibility / (visibility + 2.0)


def _nearest(value: FloatArray, levels: Mapping[str, float], width: float | FloatArray) -> dict[str, FloatArray]:
    """Return the log-odds of answers on an ordinal scale: volunteers choose the level nearest to what they see."""
    return {answer: -0.5 * ((value - level) / width) ** 2 for answer, level in levels.items()}


_Evidence = dict[str, FloatArray]
_Answers = dict[str, FloatArray]


def _evidence(s: Appearance) -> _Evidence:
    """Return the evidence that a careful volunteer has, each array of shape (galaxy,).

    Parts of the galaxy are on a scale on which 1 is barely visible and 3 is obvious.
    """
    v = s.visibility
    is_star = s.is_one_of("artifact", "star", "saturation", "bad-zoom")
    there = 1.0 - is_star
    tilt = np.cos(np.radians(s["inclination"]))
    clarity = _step(np.log(np.maximum(v["resolution"], 1e-3)), np.log(2.2), 0.3)
    clarity *= there * _step(np.log(np.maximum(v["signal_to_noise"], 1e-3)), np.log(6.0), 0.4)
    disk_fraction = 1.0 - s["bulge_fraction"]
    disk = _step(disk_fraction, 0.35, 0.10)
    flat = there * disk * _step(tilt, 0.2, 0.05)  # neither bars nor arms are visible edge-on
    bulge = np.log(s["bulge_fraction"] / np.maximum(disk_fraction, 1e-3)) - 1.5 * np.exp(-v["bulge"])

    disk_ratio = np.hypot(tilt, 0.7 * s["disk_thickness"])
    ratio = s["bulge_fraction"] * s["bulge_axis_ratio"] + disk_fraction * disk_ratio
    blur = (1.06 / np.maximum(v["resolution"], 0.1)) ** 2
    axis_ratio = np.where(is_star > 0, 1.0, np.sqrt((ratio**2 + blur) / (1.0 + blur)))

    e = {
        "clarity": clarity,  # 0 to 1: how much of any structure can be resolved
        "disk": there * disk,  # 0 to 1: whether most of the light is in a disk
        "face_on": _step(tilt, 0.38, 0.10),  # 0 to 1
        "side_on": there * _step(-tilt, -0.25, 0.045),  # 0 to 1
        "axis_ratio": axis_ratio,  # of the outline, blur included
        "bulge": bulge,  # log of bulge over disk light, as seen
        "arms": flat * _seen(s["arm_strength"], v["arms"]),
        "bar": flat * _seen(s["bar_strength"], v["bar"]),
        "ring": there * _seen(s["ring_strength"], v["ring"]),
        "clumps": there * _seen(s["clump_strength"], v["clumps"]),
        "tails": there * _seen(np.maximum(s["disturbance"], s["tail_strength"]), v["tails"]),
        "companion": there * _seen(np.maximum(s["merger_strength"], 0.7 * s["companion_strength"]), v["companion"]),
        "dust": there * _seen(s["dust_strength"], v["dust"]),
        "arc": 5.0 * clarity * s["arc_strength"],
        "overlap": 8.0 * clarity * s["overlap_strength"],
        "is_star": is_star,  # 1 where the image shows an artifact instead of a galaxy
    }
    faint = [1.1 * e["ring"], 0.7 * e["clumps"], 0.8 * e["dust"], e["tails"], e["companion"], e["arc"]]
    return e | {"oddest": np.max([*faint, 0.6 * e["overlap"]], axis=0)}  # the strongest of the odd features


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


def _smooth_or_featured(e: _Evidence, s: Appearance) -> _Answers:
    # The strongest sign decides whether any is seen; the second strongest adds a little.
    edge = 4.5 * e["disk"] * e["side_on"] * e["clarity"]
    signs = [
        e["arms"],
        0.75 * e["bar"],
        edge,
        e["clumps"],
        0.8 * e["ring"],
        0.6 * e["dust"],
        0.45 * e["tails"],
        0.35 * e["companion"],
    ]
    ordered = np.sort(np.stack([*signs, 0.5 * e["arc"]]), axis=0)
    face_on = 0.6 * e["clarity"] * e["disk"] * e["face_on"]
    featured = -3.0 + 2.7 * np.log1p(ordered[-1]) + 0.7 * np.log1p(ordered[-2]) + face_on
    artifact = -3.4 + 0.9 * (1.0 - e["clarity"])
    for kind, odds in _ARTIFACT_ODDS.items():
        artifact = np.where(s.is_one_of("artifact", kind) > 0, odds, artifact)
    return {
        "smooth": np.zeros_like(featured),
        "featured-or-disk": np.where(e["is_star"] > 0, -1.5, featured),
        "artifact": artifact,
    }


def _bulge_shape(e: _Evidence, s: Appearance) -> _Answers:
    boxiness = s["bulge_boxiness"] * (0.4 + 0.6 * e["clarity"])
    round_ = 1.4 + 0.9 * e["bulge"] - 1.2 * boxiness
    boxy = -2.2 + 0.5 * e["bulge"] + 3.4 * boxiness
    none = -1.9 - 1.1 * e["bulge"]
    return {"round": round_, "boxy": boxy, "none": none, "yes": np.logaddexp(round_, boxy), "no": none}


def _bar(e: _Evidence, s: Appearance) -> _Answers:
    seen, strength = _noticed(e["bar"]), s["bar_strength"]
    strong, weak = seen + 5.0 * (strength - 0.65), seen + 0.3 - 2.0 * (strength - 0.5)
    return _yes(seen) | {"strong": strong, "weak": weak}


def _certainty(visibility: FloatArray) -> FloatArray:
    """Return how certain the details of a part are, 0.15 to 1."""
    return 0.15 + 0.85 * np.minimum(1.0, visibility / 3.0)


def _count(shown: FloatArray, sharpness: FloatArray) -> _Answers:
    """Return the log-odds of counts: volunteers count what they see, with errors of about one."""
    shown = np.clip(shown, 1, 5)
    names = ("1", "2", "3", "4", "more-than-4")
    return {name: -sharpness * np.abs(number - shown) for number, name in enumerate(names, start=1)}


def _arm_count(e: _Evidence, s: Appearance) -> _Answers:
    certainty, patchiness = _certainty(e["arms"]), s["arm_patchiness"]
    answers = _count(s["n_arms"], (0.6 + 3.2 * certainty) * (1.25 - 0.6 * patchiness))
    answers["2"] = answers["2"] + 0.7  # the typical spiral galaxy
    return answers | {"cant-tell": 0.8 - 2.4 * certainty + 1.2 * patchiness}


def _bulge_size(e: _Evidence, _: Appearance) -> _Answers:
    levels = {"dominant": 2.2, "large": 0.8, "obvious": 0.1, "moderate": -0.5, "just-noticeable": -1.6, "small": -1.9}
    answers = _nearest(e["bulge"], levels | {"none": -4.0}, 1.0)
    return answers | {"no": answers["none"]}


def _odd_features(e: _Evidence, s: Appearance) -> _Answers:
    return {
        "ring": _noticed(1.3 * e["ring"]),
        "lens-or-arc": _noticed(e["arc"]) - 0.8,
        "disturbed": _noticed(0.8 * e["tails"]) - 1.8,
        "irregular": _noticed(np.maximum(e["clumps"], 5.0 * e["clarity"] * s["irregularity"])),
        "other": -0.1 - 1.0 * np.log1p(e["oddest"]),
        "merger": _noticed(e["companion"]),
        "dust-lane": _noticed(e["dust"]) - 0.8,
        "overlapping": _noticed(e["overlap"]),
    }


def _rare_features(e: _Evidence, s: Appearance) -> _Answers:
    # All volunteers are asked, not only those who found something odd, so faint features are ticked less often.
    rare = {name: odds - 0.9 for name, odds in _odd_features(e, s).items()}
    return rare | {"other": np.full_like(e["clarity"], -2.8), "none": np.zeros_like(e["clarity"])}


def _merging(e: _Evidence, _: Appearance) -> _Answers:
    debris, companion = _noticed(e["tails"]), _noticed(1.3 * e["companion"])
    return {
        "none": np.zeros_like(debris),
        "minor-disturbance": debris + 0.5 - 0.25 * e["tails"],
        "major-disturbance": debris - 1.6 + 0.25 * e["tails"],
        "merger": companion,
        "tidal-debris": debris,
        "both": -1.5 + 0.5 * (debris + companion),
    }


def _clump_count(e: _Evidence, s: Appearance) -> _Answers:
    certainty = _certainty(e["clumps"])
    return _count(s["n_clumps"], 0.3 + 1.7 * certainty) | {"cant-tell": 0.6 - 2.2 * certainty + 0.15 * s["n_clumps"]}


def _clump_configuration(e: _Evidence, s: Appearance) -> _Answers:
    line, chain, cluster, spiral = (
        3.0 * _certainty(e["clumps"]) * s.is_one_of("clump_arrangement", one) for one in CLUMP_ARRANGEMENTS[1:]
    )
    spiral = spiral + 0.5 * np.log1p(e["arms"])
    return {"straight-line": line, "chain": chain, "cluster-or-irregular": cluster + 0.5, "spiral": spiral}


def _problem(_: _Evidence, s: Appearance) -> _Answers:
    answers = _artifact_answers(s, _PROBLEMS)
    return answers | {"zoom": answers["zoom"] - 0.3}


def _artifact_answers(s: Appearance, kinds: Mapping[str, str]) -> _Answers:
    """Return the log-odds of answers that each name some kinds of artifacts."""
    return {name: 3.0 * s.is_one_of("artifact", *those.split()) for name, those in kinds.items()}


_PROBLEMS = {"star": "star saturation", "artifact": "trail spikes scattered ghost ray other", "zoom": "bad-zoom"}
_ARTIFACTS = {
    **{"satellite": "trail", "diffraction": "spikes star"},
    **{kind: kind for kind in ("scattered", "ray", "saturation", "other", "ghost")},
}


def _yes(log_odds: FloatArray) -> _Answers:
    return {"yes": log_odds, "no": np.zeros_like(log_odds)}


_ANSWERS: Mapping[str, Callable[[_Evidence, Appearance], _Answers]] = {
    "smooth-or-featured": _smooth_or_featured,
    "how-rounded": lambda e, _: _nearest(e["axis_ratio"], {"round": 0.93, "in-between": 0.62, "cigar": 0.25}, 0.105),
    "disk-edge-on": lambda e, _: _yes(9.0 * (e["side_on"] - 0.5) * (0.4 + 0.6 * e["clarity"])),
    "bulge-shape": _bulge_shape,
    "edge-on-bulge": _bulge_shape,
    "bar": _bar,
    "has-spiral-arms": lambda e, _: _yes(_noticed(e["arms"]) + 0.4),
    "spiral-winding": lambda e, s: _nearest(
        s["arm_pitch"], {"tight": 13.0, "medium": 21.0, "loose": 31.0}, 5.0 / np.sqrt(_certainty(e["arms"]))
    ),
    "spiral-arm-count": _arm_count,
    "bulge-size": _bulge_size,
    "something-odd": lambda e, _: _yes(_noticed(e["oddest"]) - 0.4),
    "odd-features": _odd_features,
    "rare-features": _rare_features,
    "merging": _merging,
    "ring": lambda e, _: _yes(_noticed(e["ring"])),
    "clumps": lambda e, _: _yes(_noticed(e["clumps"])),
    "clumpy-appearance": lambda e, _: _yes(_noticed(e["clumps"])),
    "clump-count": _clump_count,
    "clump-configuration": _clump_configuration,
    "one-clump-brightest": lambda e, s: _yes(5.0 * _certainty(e["clumps"]) * (s["clump_lead"] - 0.5)),
    "brightest-clump-central": lambda e, s: _yes(5.0 * _certainty(e["clumps"]) * (s["clump_lead_is_central"] - 0.5)),
    "galaxy-symmetrical": lambda _, s: _yes(
        np.where(s["n_clumps"] > 0, 4.0 * (s["clump_symmetry"] - 0.55), 1.5 - 5.0 * s["disturbance"])
    ),
    "clumps-embedded-larger-object": lambda _, s: _yes(4.0 * (s["clump_embedding"] - 0.5)),
    "problem": _problem,
    "artifact": lambda _, s: _artifact_answers(s, _ARTIFACTS),
}
