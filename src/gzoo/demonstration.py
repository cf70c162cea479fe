"""The demo: the main verbs in sequence on simulated galaxies, ending with an HTML report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from gzoo import files
from gzoo.display import Shown
from gzoo.errors import InputError
from gzoo.files import Progress

MIN_GALAXIES = 100


@dataclass(frozen=True, slots=True, repr=False)
class DemoResult(Shown):
    """Result of `demo`.

    Attributes:
        folder: The folder that contains everything.
        report: The HTML report.
        n_galaxies: Number of simulated galaxies.
        n_test: Number of galaxies in the test split, which the scores describe.
        n_matched: Galaxies of the catalogue that match one of the table of true parameters by position.
        log_likelihood_gain: Overall log-likelihood gain over the baseline in nats per galaxy: value, low, high.
    """

    folder: Path
    report: Path
    n_galaxies: int
    n_test: int
    n_matched: int
    log_likelihood_gain: tuple[float, float, float]


def demo(
    *,
    out: Path | str = "gzoo-demo",
    n_galaxies: int = 1500,
    epochs: int = 12,
    encoder: str | None = None,
    size: int | None = None,
    seed: int = 0,
    workers: int = 2,
    overwrite: bool = False,
    wait: bool = False,
    progress: Progress | None = None,
) -> DemoResult:
    """Run the main verbs on simulated galaxies and write a report.

    An interrupted demo is resumed when it is called again with the same arguments.

    Args:
        out: Folder to write.
        n_galaxies: Number of galaxies to simulate, 100 or more.
        epochs: Number of training epochs.
        encoder: Name of a timm model; by default that of `train`.
        size: Width and height of the model's input images, pixels; by default those of `train`.
        seed: Seed of galaxies, volunteers and training.
        workers: Number of processes that draw images.
        overwrite: Replace an earlier demo.
        wait: Wait for another run that writes the same output to end, instead of stopping.
        progress: Function called as (stage, done, total).

    Raises:
        InputError: There are too few galaxies for training, validation and test.
        OutputExistsError: `out` already exists.
        BusyError: Another run writes the same output, and `wait` is False.
    """
    from gzoo.catalogs.catalog import catalog
    from gzoo.catalogs.crossmatch import match
    from gzoo.dataset.build import build
    from gzoo.learn.prediction import predict
    from gzoo.learn.training import train
    from gzoo.reports.score import write_report
    from gzoo.scoring.ground_truth import true_rmse
    from gzoo.scoring.scores import score
    from gzoo.simulator import simulate

    if n_galaxies < MIN_GALAXIES:
        raise InputError(
            f"n_galaxies must be at least {MIN_GALAXIES}, got {n_galaxies}.",
            "enough galaxies for every split.",
            "Increase --n-galaxies to 100 or more.",
        )

    def say(stage: str, done: int, total: int) -> None:
        if progress:
            progress(stage, done, total)

    settings = {"n_galaxies": n_galaxies, "epochs": epochs, "encoder": encoder, "size": size, "seed": seed}
    begun: dict[str, object] = {"command": "demo", **settings}
    out = Path(out)
    with files.work(out, kind="demo", begun=begun, overwrite=overwrite, wait=wait, progress=progress) as partial:
        sky, folder, run = partial / "simulation", partial / "dataset", partial / "run"
        predictions = partial / "predictions.parquet"
        if not sky.exists():
            simulate(
                "gz2",
                n_galaxies=n_galaxies,
                seed=seed,
                workers=workers,
                out=sky,
                progress=say,
            )
        if not folder.exists():
            build("gz2", votes=sky / "votes.parquet", images=sky / "images", out=folder, progress=say)
        if not run.exists():
            train(folder, out=run, encoder=encoder, size=size, epochs=epochs, seed=seed, progress=say)
        if not predictions.exists():
            predict(run, folder, split="test", out=predictions, progress=say)
        catalogue = partial / "catalogue.parquet"
        if not catalogue.exists():
            catalog([predictions], folder, out=catalogue, progress=say)
        matched = match(catalogue, sky / "truth.parquet", out=partial / "matches.parquet", overwrite=True)
        say("Scoring predictions", 0, 1)
        scores = score(predictions, folder)
        files.write_json(partial / "scores.json", scores.to_dict())
        trained, n_test = files.read_json(run / "run.json"), scores.n_galaxies
        design = cast("dict[str, object]", trained["design"])
        write_report(
            partial / "report.html",
            dataset=folder,
            predictions=predictions,
            scores=scores,
            title="Galaxy Zoo 2, simulated: observed and predicted vote fractions",
            metadata={
                "Simulated": f"{n_galaxies:,} galaxies",
                "Encoder": f"{design['encoder']}, {design['size']} x {design['size']} pixels, from random weights",
                "Training": f"{trained['n_train']:,} galaxies, best of {trained['n_epochs']} epochs",
                "Seed": str(seed),
            },
            true_errors=true_rmse(predictions, folder, sky / "truth.parquet"),
            overwrite=True,
        )
        say("Scoring predictions", 1, 1)
        files.write_json(partial / files.MARKS["demo"], begun)
    gain = scores.overall["log_likelihood_gain"]
    value, low, high = (float(gain[key] or 0.0) for key in ("value", "low", "high"))
    return DemoResult(out, out / "report.html", n_galaxies, n_test, matched.n_a["matched"], (value, low, high))
