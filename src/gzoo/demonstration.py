"""Demo: the main verbs in a row, on simulated galaxies, ending with a page to look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from gzoo import files
from gzoo.errors import InputError

if TYPE_CHECKING:
    import datasets

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What the demo made.

    Attributes:
        folder: Everything.
        report: The page to open.
        n_galaxies: Galaxies simulated.
        n_test: Galaxies of the test split, which the scores are of.
        log_likelihood_gain: Overall skill in nats per galaxy: value, low, high.
    """

    folder: Path
    report: Path
    n_galaxies: int
    n_test: int
    log_likelihood_gain: tuple[float, float, float]


def demo(
    *,
    out: Path | str = "gzoo-demo",
    n_galaxies: int = 1500,
    epochs: int = 16,
    encoder: str = "resnet18",
    size: int = 64,
    seed: int = 0,
    workers: int = 2,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> DemoResult:
    """Simulate, build, load, train, predict, score, report: the main job on the built-in default.

    Stopped half way, the same call goes on where it stopped.

    Args:
        out: The folder to make.
        n_galaxies: Galaxies to simulate.
        epochs: Of training.
        encoder: Name of a timm model.
        size: Width and height of the images that the model sees, in pixels.
        seed: Of galaxies, volunteers and training.
        workers: Processes that draw images.
        overwrite: Replace an earlier demo.
        progress: Called as (stage, done, total).

    Raises:
        InputError: Too few galaxies to train, validate and test on.
        OutputExistsError: `out` is taken.
    """
    from gzoo.dataset.build import build
    from gzoo.dataset.open import load, quietly
    from gzoo.learn.prediction import predict
    from gzoo.learn.training import train
    from gzoo.reports.score import write_report
    from gzoo.scoring.ground_truth import true_rmse
    from gzoo.scoring.scores import score
    from gzoo.simulator import simulate

    if n_galaxies < 100:
        raise InputError(
            f"n_galaxies is {n_galaxies}.",
            "At least 100, so that every split has galaxies.",
            "Give a larger --n-galaxies.",
        )
    say = progress or _silent
    begun: dict[str, object] = {
        "command": "demo",
        "n_galaxies": n_galaxies,
        "epochs": epochs,
        "encoder": encoder,
        "size": size,
        "seed": seed,
    }
    out = Path(out)
    with files.work(out, kind="demo", begun=begun, overwrite=overwrite) as partial:
        sky, folder, run = partial / "simulation", partial / "dataset", partial / "run"
        predictions, page = partial / "predictions.parquet", partial / "report.html"
        if not sky.exists():
            simulate(
                "gz2",
                n_galaxies=n_galaxies,
                seed=seed,
                workers=workers,
                out=sky,
                progress=lambda done, total: say("drawing", done, total),
            )
        if not folder.exists():
            build("gz2", votes=sky / "votes.parquet", images=sky / "images", out=folder, progress=say)
        with quietly():
            n_test = len(cast("datasets.Dataset", load(folder, split="test")))
        if not run.exists():
            train(folder, out=run, encoder=encoder, size=size, epochs=epochs, seed=seed, progress=say)
        if not predictions.exists():
            predict(run, folder, split="test", out=predictions, progress=say)
        say("scoring", 0, 1)
        scores = score(predictions, folder)
        files.write_json(partial / "scores.json", scores)
        trained = files.read_json(run / "run.json")
        write_report(
            page,
            folder=folder,
            predictions=predictions,
            scores=scores,
            title="Galaxy Zoo 2, simulated: what volunteers say and what a model expects",
            facts={
                "Galaxies": f"{n_galaxies:,} simulated; {n_test:,} scored, unseen in training",
                "Encoder": f"{encoder}, {size} x {size} pixels, from random weights",
                "Training": f"{trained['n_train']:,} galaxies, best of {trained['n_epochs']} epochs",
                "Seed": str(seed),
            },
            referee=true_rmse(predictions, folder, sky / "truth.parquet"),
            overwrite=True,
        )
        say("scoring", 1, 1)
        files.write_json(partial / files.MARKS["demo"], begun)
    log_likelihood_gain = scores["overall"]["log_likelihood_gain"]
    return DemoResult(
        out,
        out / "report.html",
        n_galaxies,
        n_test,
        (log_likelihood_gain["value"] or 0.0, log_likelihood_gain["low"] or 0.0, log_likelihood_gain["high"] or 0.0),
    )


def _silent(stage: str, done: int, total: int) -> None:
    pass
