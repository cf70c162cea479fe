"""How many classifications does `next` save?

A simulated campaign of Galaxy Zoo 2 whose true fractions are known. Volunteers of the simulator (careless ones and
robots too, each in proportion to its clicks) look at a galaxy and walk down the tree; the j-th volunteer of a galaxy
is the same whoever asks for one. Ways to spend the same number of classifications on the same galaxies:

- equal: as campaigns do, every galaxy gets one, then every galaxy gets a second one, ...
- random: each classification is of a galaxy drawn at random;
- next: in each round the hundredth part of the galaxies, those first in the ranking, gets one, and the ranking is
  made anew; ranked by information (as `gzoo next` does by default) and by error (`--by error`).

All end in the same posterior, of the same prediction and the votes. The error is the root mean square of its
expected fractions minus the true ones, over all galaxies and answers, each weighted by the true probability of being
asked. The figure is the classifications that `next` needs to reach the error that the other way has after 5, 10, 20
or 30 classifications a galaxy, as a share of those.

Predictions: "none" is the same Dirichlet for each galaxy (fitted to the votes of other galaxies); "groups" is a
model that knows a galaxy's brightness, size, shape and colour with an error, groups the galaxies by them and fits a
Dirichlet to the votes of other galaxies in each group; "good" is one that knows the truth with an error of its own.

    python benchmarks/next_classifications.py [--n 2000] [--seeds 4]

Writes benchmarks/results/next_classifications.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from scipy.cluster.vq import kmeans2, vq

from gzoo.scoring.acquisition import CRITERIA, expected_gain
from gzoo.scoring.likelihood import fit_baseline
from gzoo.scoring.posterior import posterior
from gzoo.simulator.camera import visible
from gzoo.simulator.galaxies import draw_galaxy
from gzoo.simulator.perception import Appearance, careful_log_odds
from gzoo.simulator.survey import survey_view
from gzoo.simulator.volunteers import kind_probabilities, pool, population_probabilities
from gzoo.trees.campaign import campaign
from gzoo.trees.tree import FloatArray, IntArray
from gzoo.votes.votes import Votes

TREE = campaign("gz2").published_tree
MAX = 160  # classifications that a galaxy can get
BUDGETS = (5, 10, 20, 30)  # classifications a galaxy
N_TRAIN, TRAIN_VOTES = 10_000, 40
ROUND = 0.01  # share of the galaxies that are classified before the ranking is made anew


@dataclass(frozen=True)
class Sky:
    """Simulated galaxies, with what their volunteers say in turn."""

    truth: FloatArray  # (galaxy, answer)
    proportion_asked: FloatArray  # (galaxy, question)
    given: np.ndarray  # (galaxy, classification, answer), truth values
    looks: FloatArray  # (galaxy, feature): what a modest model sees
    log_odds: FloatArray  # (galaxy, answer)

    def counts(self, n: IntArray) -> IntArray:
        """Votes of the first `n` classifications of each galaxy, shape (galaxy, answer)."""
        return (self.given * (np.arange(self.given.shape[1]) < n[:, None])[:, :, None]).sum(axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=4)
    options = parser.parse_args()
    result: dict[str, object] = {"galaxies": options.n, "classifications a galaxy": BUDGETS}
    for seed in range(options.seeds):
        train = simulated(N_TRAIN, TRAIN_VOTES, seed=1000 + seed)
        sky = simulated(options.n, MAX, seed=seed)
        for name, concentrations in predicted(train, sky, seed).items():
            found = compared(sky, concentrations, seed)
            result[f"seed {seed}, prediction {name}"] = found
            print(seed, name, json.dumps(found, indent=2), flush=True)
    result["machine"] = {"cores": os.cpu_count(), "processor": platform.processor() or platform.machine()}
    result["versions"] = {name: version(name) for name in ("numpy", "scipy")} | {"python": platform.python_version()}
    path = Path(__file__).parent / "results" / "next_classifications.json"
    path.write_text(json.dumps(result, indent=2) + "\n")


def simulated(n: int, n_classifications: int, seed: int) -> Sky:
    view, volunteers = survey_view("gz2"), pool(0)
    rng = np.random.default_rng([7, seed])
    galaxies = [draw_galaxy(rng, view) for _ in range(n)]
    sights = Appearance.of(galaxies, [visible(galaxy, view) for galaxy in galaxies])
    log_odds = careful_log_odds(TREE, sights)
    chances = kind_probabilities(TREE, log_odds)
    truth, proportion_asked = population_probabilities(TREE, chances, volunteers.fractions)
    kind = rng.choice(
        len(volunteers.fractions), p=volunteers.fractions / volunteers.fractions.sum(), size=(n, n_classifications)
    )
    given = np.zeros((n, n_classifications, len(TREE.columns)), bool)
    for question in TREE.ordered:
        i, own = TREE.questions.index(question), TREE.slice(question.name)
        asked = (
            given[:, :, list(TREE.parents_of_question[i])].any(axis=2) if question.parents else np.ones_like(kind, bool)
        )
        galaxy, place = np.nonzero(asked)
        chance = np.cumsum(chances[galaxy, kind[galaxy, place], own], axis=1)
        choice = (chance[:, :-1] <= rng.random((len(galaxy), 1))).sum(axis=1)
        given[galaxy, place, own.start + choice] = True
    looks = np.column_stack(
        [
            [galaxy.magnitude for galaxy in galaxies],
            [np.log(galaxy.half_light_radius_arcsec) for galaxy in galaxies],
            [galaxy.axis_ratio for galaxy in galaxies],
            [
                galaxy.bulge_fraction * galaxy.bulge_colour + galaxy.disk_fraction * galaxy.disk_colour
                for galaxy in galaxies
            ],
        ]
    )
    looks = (looks - looks.mean(axis=0)) / looks.std(axis=0)
    return Sky(truth, proportion_asked, given, looks + rng.normal(0, 0.3, looks.shape), log_odds)


def predicted(train: Sky, sky: Sky, seed: int) -> dict[str, FloatArray]:
    """Concentrations of each prediction, shape (galaxy, answer): fitted to other galaxies' votes."""
    rng = np.random.default_rng([8, seed])
    votes = Votes(TREE, train.given.sum(axis=1))
    none = np.broadcast_to(fit_baseline(votes), sky.truth.shape)

    def by_groups(here: FloatArray, there: FloatArray, n_groups: int) -> FloatArray:
        centres, group = kmeans2(here, n_groups, minit="++", rng=rng)
        of_group = np.stack(
            [fit_baseline(votes.take(group == i)) if (group == i).any() else none[0] for i in range(n_groups)]
        )
        return of_group[vq(there, centres)[0]]

    # the truth as seen by one who errs by 0.7 in each log-odds, answers of unlikely questions weighing less
    weight = np.sqrt(train.proportion_asked.mean(axis=0))[list(TREE.question_of_answer)]
    here, there = (np.clip(one.log_odds, -5, 5) for one in (train, sky))
    here, there = ((one + rng.normal(0, 0.7, one.shape)) * weight for one in (here, there))
    return {
        "none": none,
        "groups": by_groups(train.looks, sky.looks, 60),
        "good": by_groups(here, there, 200),
    }


def compared(sky: Sky, concentrations: FloatArray, seed: int) -> dict[str, object]:
    n = len(sky.truth)
    rng = np.random.default_rng([9, seed])
    equal = [np.full(n, k) for k in range(max(BUDGETS) + 1)]
    random = np.cumsum(
        [np.zeros(n, int), *(np.bincount(rng.integers(0, n, n), minlength=n) for _ in range(max(BUDGETS)))], axis=0
    )
    equal_error = [error(sky, concentrations, k) for k in equal]
    random_error = [error(sky, concentrations, k) for k in random]
    found: dict[str, object] = {"error before any": round(equal_error[0], 5)}
    for budget in BUDGETS:
        errors = {"equal": round(equal_error[budget], 5), "random": round(random_error[budget], 5)}
        found[f"error, {budget} a galaxy"] = errors
    for by in CRITERIA:
        spent, next_error, most = chosen(sky, concentrations, max(BUDGETS), by)
        found[f"next by {by}"] = {
            f"{budget} a galaxy": {
                "error": round(float(np.interp(budget, spent, next_error)), 5),
                "needs, of equal": fraction(spent, next_error, equal_error[budget], budget),
                "needs, of random": fraction(spent, next_error, random_error[budget], budget),
            }
            for budget in BUDGETS
        } | {"most classifications of a galaxy": most}
    return found


def fraction(spent: FloatArray, errors: FloatArray, wanted: float, budget: int) -> float | None:
    """Classifications until the error is as small for the first time, as a share of the budget."""
    there = np.flatnonzero(errors <= wanted)
    return round(float(spent[there[0]]) / budget, 3) if len(there) else None


def chosen(sky: Sky, concentrations: FloatArray, budget: int, by: str) -> tuple[FloatArray, FloatArray, int]:
    n = len(sky.truth)
    at_once = max(1, round(ROUND * n))
    given = np.zeros(n, np.int64)
    counts = np.zeros(sky.truth.shape, np.int64)
    everyone = np.arange(n)
    squares, brought = state(sky, concentrations, counts, everyone, by)
    weight = sky.proportion_asked[:, list(TREE.question_of_answer)].sum()
    spent, errors = [0.0], [float(np.sqrt(squares.sum() / weight))]
    while given.sum() < budget * n:
        best = np.argpartition(np.where(given == MAX, 1.0, -brought), at_once - 1)[:at_once]
        counts[best] += sky.given[best, given[best]]
        given[best] += 1
        squares[best], brought[best] = state(sky, concentrations, counts, best, by)  # nothing else has changed
        spent.append(given.sum() / n)
        errors.append(float(np.sqrt(squares.sum() / weight)))
    return np.array(spent), np.array(errors), int(given.max())


def state(
    sky: Sky, concentrations: FloatArray, counts: IntArray, rows: IntArray, by: str
) -> tuple[FloatArray, FloatArray]:
    """Weighted squared error of some galaxies, and what one more classification would bring."""
    found = posterior(Votes(TREE, counts[rows]), concentrations[None, rows])
    weight = sky.proportion_asked[rows][:, list(TREE.question_of_answer)]
    return (weight * (found.fractions - sky.truth[rows]) ** 2).sum(axis=1), expected_gain(found, by).sum(axis=1)


def error(sky: Sky, concentrations: FloatArray, n: IntArray) -> float:
    found = posterior(Votes(TREE, sky.counts(n)), concentrations[None]).fractions
    weight = sky.proportion_asked[:, list(TREE.question_of_answer)]
    return float(np.sqrt((weight * (found - sky.truth) ** 2).sum() / weight.sum()))


if __name__ == "__main__":
    main()
