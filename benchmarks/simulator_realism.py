"""Differences between simulated and real Galaxy Zoo 2 images, by morphology and by measured quantity.

    python benchmarks/simulator_realism.py [--data ../shared/data] [--n 180]

The real images are the GZ2 sample in `../shared/data`. Galaxies are simulated until there are `--n` of each morphology,
which is determined from the probabilities of careful volunteers' answers as it was from the votes for the real images.
The two-sample Kolmogorov-Smirnov distance is printed for each morphology and quantity (0: same distribution, 1: no
overlap), and finally how well a random forest distinguishes real from simulated images.

Writes benchmarks/results/simulator_realism.json.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
from measuring import arguments, save
from PIL import Image
from scipy.stats import ks_2samp
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from gzoo.simulator.camera import draw_image, jpeg_bytes, visible
from gzoo.simulator.galaxies import Galaxy, draw_galaxy
from gzoo.simulator.perception import Appearance, careful_log_odds
from gzoo.simulator.survey import survey_view
from gzoo.simulator.volunteers import careful_probabilities
from gzoo.trees.campaign import tree

NUMBERS = ("background_mean", "background_rms", "central_brightness", "colour", "half_light_pixels", "jpeg_bytes")
KINDS = ("spiral", "elliptical", "edge-on", "merger")
CALIBRATION_SEED, BENCHMARK_SEED = 11, 12


def numbers_of(data: bytes) -> list[float]:
    """Return the quantities of an image in the order of `NUMBERS`; brightnesses are grey levels from 0 to 255."""
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(np.float32)
    grey = pixels.mean(axis=2)
    border = np.ones(grey.shape, bool)
    border[60:-60, 60:-60] = False
    sky = grey[border]
    # Other galaxies lie in the border too, so the brightest tenth is omitted.
    sky = sky[sky <= np.quantile(sky, 0.9)]
    background = float(sky.mean())
    rms = float(sky.std())
    distance = np.hypot(*(np.indices(grey.shape) - 211.5))
    centre = distance < 6
    inside = distance < 130
    light = np.clip(grey - np.median(sky), 0, None)
    ordered = np.argsort(distance[inside])
    growth = np.cumsum(light[inside][ordered])
    half = float(distance[inside][ordered][np.searchsorted(growth, 0.5 * growth[-1])])
    bright = (distance < 40) & (grey > background + 15)
    bright = bright if bright.sum() > 20 else centre
    mean = pixels[bright].mean(axis=0)
    colour = float((mean[0] - mean[2]) / mean.sum())
    return [background, rms, float(grey[centre].mean()), colour, half, float(len(data))]


def real(folder: Path) -> dict[str, npt.NDArray[np.float64]]:
    """Return the quantities of the real images of each morphology, one row per galaxy."""
    votes = pl.read_csv(folder / "votes.csv")
    return {
        kind: np.array(
            [
                numbers_of((folder / "images" / name).read_bytes())
                for name in votes.filter(pl.col("derived_label") == kind)["filename"]
            ]
        )
        for kind in KINDS
    }


def kinds_of(galaxies: Sequence[Galaxy]) -> list[str]:
    """Return the morphology of each galaxy, or "", by thresholds similar to those of the real sample."""
    questions, survey = tree("gz2"), survey_view("gz2")
    appearance = Appearance.of(galaxies, [visible(galaxy, survey) for galaxy in galaxies])
    chances = careful_probabilities(questions, careful_log_odds(questions, appearance))

    def chance(column: str) -> npt.NDArray[np.float64]:
        return chances[:, questions.columns.index(column)]

    smooth, featured = (chance(f"smooth-or-featured-gz2_{answer}") for answer in ("smooth", "featured-or-disk"))
    kinds = np.where(smooth > 0.75, "elliptical", "")
    kinds[(chance("has-spiral-arms-gz2_yes") > 0.6) & (featured > 0.1)] = "spiral"
    kinds[(chance("disk-edge-on-gz2_yes") > 0.6) & (featured > 0.2)] = "edge-on"
    kinds[(chance("odd-features-gz2_merger") > 0.5) & (chance("something-odd-gz2_yes") > 0.25)] = "merger"
    kinds[chance("smooth-or-featured-gz2_artifact") > 0.4] = ""
    return kinds.tolist()


def simulated(n: int, seed: int) -> dict[str, npt.NDArray[np.float64]]:
    """Return the quantities of the simulated images, n rows for each morphology."""
    survey, block = survey_view("gz2"), 200
    found: dict[str, list[list[float]]] = {kind: [] for kind in KINDS}
    for first in range(0, 200 * n, block):
        streams = [np.random.default_rng([seed, first + i]).spawn(2) for i in range(block)]
        galaxies = [draw_galaxy(galaxy_chance, survey) for galaxy_chance, _ in streams]
        for galaxy, (_, camera_chance), kind in zip(galaxies, streams, kinds_of(galaxies), strict=True):
            if kind and len(found[kind]) < n:
                found[kind].append(numbers_of(jpeg_bytes(draw_image(galaxy, survey, camera_chance))))
        if min(len(rows) for rows in found.values()) == n:
            break
    return {kind: np.array(rows) for kind, rows in found.items()}


def main() -> None:
    parser = arguments(__doc__, "simulator_realism.json")
    data = Path(__file__).parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=data, help="folder with gz2_sample (default: ../shared/data)")
    parser.add_argument("--n", type=int, default=180, help="simulated galaxies of each morphology (default: 180)")
    parser.add_argument("--seed", type=int, default=BENCHMARK_SEED, help=f"seed (default: {BENCHMARK_SEED})")
    options = parser.parse_args()
    truth, model = real(options.data / "gz2_sample"), simulated(options.n, options.seed)

    distances: dict[str, dict[str, float]] = {}
    print(f"{'kind':12s}{'n':>5s}" + "".join(f"{name:>20s}" for name in NUMBERS))
    for kind in KINDS:
        pairs = [(truth[kind][:, i], model[kind][:, i]) for i in range(len(NUMBERS))]
        distances[kind] = {name: float(ks_2samp(*pair).statistic) for name, pair in zip(NUMBERS, pairs, strict=True)}
        print(f"{kind:12s}{len(model[kind]):5d}" + "".join(f"{value:20.2f}" for value in distances[kind].values()))
        for words, which in (("  real", 0), ("  simulated", 1)):
            medians = (np.percentile(pair[which], (16, 50, 84)) for pair in pairs)
            print(f"{words:17s}" + "".join(f"{'/'.join(f'{value:.3g}' for value in one):>20s}" for one in medians))

    rows = np.concatenate([*truth.values(), *model.values()])
    is_real = np.repeat((True, False), (sum(map(len, truth.values())), sum(map(len, model.values()))))
    forest = RandomForestClassifier(300, min_samples_leaf=3, random_state=0, n_jobs=1)
    chance = cross_val_predict(forest, rows, is_real, cv=5, method="predict_proba")[:, 1]
    auc = float(roc_auc_score(is_real, chance))
    largest = max(max(one.values()) for one in distances.values())
    print(f"largest distance {largest:.2f}; ROC AUC of real or simulated {auc:.3f} (0.5: no difference)")
    record = {"distances": distances, "largest_distance": largest, "real_or_simulated_auc": auc}
    save(options, record | {"seed": options.seed, "n_each": options.n})


if __name__ == "__main__":
    main()
