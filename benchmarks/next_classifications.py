"""Number of classifications saved by `gzoo prioritize`.

    python benchmarks/next_classifications.py [--n 2000] [--seeds 4]

In a simulated campaign of Galaxy Zoo 2, the underlying vote fractions are known. Simulated volunteers (including
careless volunteers and bots, each in proportion to their classifications) classify galaxies. The j-th volunteer of a
galaxy is the same in each strategy. The strategies spend the same number of classifications on the same galaxies:

- equal: each galaxy gets one classification, then each gets a second one, and so on, as in real campaigns;
- random: each classification is of a random galaxy;
- prioritize: in each round, the first hundredth of the ranking gets one classification each, and the galaxies are
  ranked again; by information (the default of `gzoo prioritize`) and by error (`--criterion error`).

All end in the same posterior, computed from the same prediction and the votes. The error is the RMSE of the posterior
vote fractions over all galaxies and answers, weighted by the true proportion of volunteers asked. The result is the
number of classifications that `prioritize` needs to reach the error of another strategy after 5, 10, 20 or 30
classifications per galaxy, as a fraction of that number.

There are three predictions: "none" is the same Dirichlet distribution for each galaxy (fitted to the votes of other
galaxies); "groups" is a model that knows magnitude, size, axis ratio and colour with errors, groups galaxies by them,
and fits a Dirichlet distribution to the votes of other galaxies in each group; "good" is a model that knows the ground
truth with errors.

Writes benchmarks/results/next_classifications.json.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
from measuring import arguments, save
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
MAX = 160  # maximum number of classifications of a galaxy
BUDGETS = (5, 10, 20, 30)  # classifications per galaxy
N_TRAIN, TRAIN_VOTES = 10_000, 40
ROUND = 0.01  # fraction of the galaxies that are classified before they are ranked again


@dataclass(frozen=True)
class Sky:
    """Simulated galaxies, and the successive answers of their volunteers."""

    truth: FloatArray  # (galaxy, answer)
    proportion_asked: FloatArray  # (galaxy, question)
    given: np.ndarray  # (galaxy, classification, answer), boolean
    looks: FloatArray  # (galaxy, feature): input of a simple model
    log_odds: FloatArray  # (galaxy, answer)

    def counts(self, n: IntArray) -> IntArray:
        """Return the vote counts of the first `n` classifications of each galaxy, shape (galaxy, answer)."""
        return (self.given * (np.arange(self.given.shape[1]) < n[:, None])[:, :, None]).sum(axis=1)


def main() -> None:
    parser = arguments(__doc__, "next_classifications.json")
    parser.add_argument("--n", type=int, default=2000, help="number of galaxies (default: 2000)")
    parser.add_argument("--seeds", type=int, default=4, help="number of seeds (default: 4)")
    options = parser.parse_args()
    result: dict[str, object] = {"galaxies": options.n, "classifications per galaxy": BUDGETS}
    for seed in range(options.seeds):
        train = simulated(N_TRAIN, TRAIN_VOTES, seed=1000 + seed)
        sky = simulated(options.n, MAX, seed=seed)
        for name, concentrations in predicted(train, sky, seed).items():
            found = compared(sky, concentrations, seed)
            result[f"seed {seed}, prediction {name}"] = found
            print(seed, name, json.dumps(found, indent=2), flush=True)
    save(options, result)


def simulated(n: int, n_classifications: int, seed: int) -> Sky:
    """Simulate galaxies and the classifications of volunteers."""
    view, volunteers = survey_view("gz2"), pool(0)
    rng = np.random.default_rng([7, seed])
    galaxies = [draw_galaxy(rng, view) for _ in range(n)]
    appearance = Appearance.of(galaxies, [visible(galaxy, view) for galaxy in galaxies])
    log_odds = careful_log_odds(TREE, appearance)
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
    """Return the concentrations of each prediction, shape (galaxy, answer), fitted to the votes of other galaxies."""
    rng = np.random.default_rng([8, seed])
    votes = Votes(TREE, train.given.sum(axis=1))
    none = np.broadcast_to(fit_baseline(votes), sky.truth.shape)

    def by_groups(here: FloatArray, there: FloatArray, n_groups: int) -> FloatArray:
        centres, group = kmeans2(here, n_groups, minit="++", rng=rng)
        of_group = np.stack(
            [fit_baseline(votes.take(group == i)) if (group == i).any() else none[0] for i in range(n_groups)]
        )
        return of_group[vq(there, centres)[0]]

    # the ground truth with errors of 0.7 in the log-odds; answers of improbable questions have less weight
    weight = np.sqrt(train.proportion_asked.mean(axis=0))[list(TREE.question_of_answer)]
    here, there = (np.clip(one.log_odds, -5, 5) for one in (train, sky))
    here, there = ((one + rng.normal(0, 0.7, one.shape)) * weight for one in (here, there))
    return {
        "none": none,
        "groups": by_groups(train.looks, sky.looks, 60),
        "good": by_groups(here, there, 200),
    }


def compared(sky: Sky, concentrations: FloatArray, seed: int) -> dict[str, object]:
    """Return the errors of all strategies, and the classifications that `prioritize` needs."""
    n = len(sky.truth)
    rng = np.random.default_rng([9, seed])
    equal = [np.full(n, k) for k in range(max(BUDGETS) + 1)]
    random = np.cumsum(
        [np.zeros(n, int), *(np.bincount(rng.integers(0, n, n), minlength=n) for _ in range(max(BUDGETS)))], axis=0
    )
    equal_error = [error(sky, concentrations, k) for k in equal]
    random_error = [error(sky, concentrations, k) for k in random]
    found: dict[str, object] = {"error without classifications": round(equal_error[0], 5)}
    for budget in BUDGETS:
        errors = {"equal": round(equal_error[budget], 5), "random": round(random_error[budget], 5)}
        found[f"error, {budget} per galaxy"] = errors
    for by in CRITERIA:
        spent, ranked_error, most = chosen(sky, concentrations, max(BUDGETS), by)
        found[f"prioritize by {by}"] = {
            f"{budget} per galaxy": {
                "error": round(float(np.interp(budget, spent, ranked_error)), 5),
                "classifications relative to equal": fraction(spent, ranked_error, equal_error[budget], budget),
                "classifications relative to random": fraction(spent, ranked_error, random_error[budget], budget),
            }
            for budget in BUDGETS
        } | {"maximum number of classifications of a galaxy": most}
    return found


def fraction(spent: FloatArray, errors: FloatArray, wanted: float, budget: int) -> float | None:
    """Return the number of classifications at which the error is first as small, as a fraction of the budget."""
    there = np.flatnonzero(errors <= wanted)
    return round(float(spent[there[0]]) / budget, 3) if len(there) else None


def chosen(sky: Sky, concentrations: FloatArray, budget: int, by: str) -> tuple[FloatArray, FloatArray, int]:
    """Classify by ranking; return classifications per galaxy, errors, and the maximum number of classifications."""
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
        squares[best], brought[best] = state(sky, concentrations, counts, best, by)  # the others have not changed
        spent.append(given.sum() / n)
        errors.append(float(np.sqrt(squares.sum() / weight)))
    return np.array(spent), np.array(errors), int(given.max())


def state(
    sky: Sky, concentrations: FloatArray, counts: IntArray, rows: IntArray, by: str
) -> tuple[FloatArray, FloatArray]:
    """Return the weighted squared errors of some galaxies, and the expected gain of one more classification."""
    found = posterior(Votes(TREE, counts[rows]), concentrations[None, rows])
    weight = sky.proportion_asked[rows][:, list(TREE.question_of_answer)]
    return (weight * (found.fractions - sky.truth[rows]) ** 2).sum(axis=1), expected_gain(found, by).sum(axis=1)


def error(sky: Sky, concentrations: FloatArray, n: IntArray) -> float:
    """Return the weighted RMSE after `n` classifications of each galaxy."""
    found = posterior(Votes(TREE, sky.counts(n)), concentrations[None]).fractions
    weight = sky.proportion_asked[:, list(TREE.question_of_answer)]
    return float(np.sqrt((weight * (found - sky.truth) ** 2).sum() / weight.sum()))


if __name__ == "__main__":
    main()
