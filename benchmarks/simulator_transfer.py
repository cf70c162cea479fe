"""Whether a model trained on simulated galaxies alone separates smooth from featured real galaxies.

    python benchmarks/simulator_transfer.py [--data ../shared/data] [--n 2600] [--epochs 8] [--quick]

Galaxy Zoo 2 is simulated and a model is trained on the simulated images alone, once in colour and once in grey (each
within ten minutes on two cores). The model ranks the real images in `../shared/data`: those with a vote fraction of
"featured or disk" above 0.6 against those below 0.4. The result is the ROC AUC with a 95% bootstrap interval over
galaxies, compared with the AUC of two quantities that need no model: mean colour and size.

Writes benchmarks/results/simulator_transfer.json.
"""

from __future__ import annotations

import io
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from measuring import arguments, save
from PIL import Image
from simulator_realism import NUMBERS, numbers_of
from sklearn.metrics import roc_auc_score

from gzoo import build, train
from gzoo.learn.decoding import decode
from gzoo.learn.model import open_run
from gzoo.simulator import simulate

SEED = 21
CROP_PIXELS = 240  # the galaxy fills the middle third of an image
FEATURED = "smooth-or-featured-gz2_featured-or-disk"
SMOOTH, ARTIFACT = "smooth-or-featured-gz2_smooth", "smooth-or-featured-gz2_artifact"


def cropped(data: bytes, is_grey: bool) -> bytes:
    """Return the middle of an image as a JPEG file, optionally in grey."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    low, high = (image.width - CROP_PIXELS) // 2, (image.width + CROP_PIXELS) // 2
    image = image.crop((low, low, high, high))
    buffer = io.BytesIO()
    (image.convert("L").convert("RGB") if is_grey else image).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def interval(is_featured: npt.NDArray[np.bool_], rank: npt.NDArray[np.float64]) -> dict[str, float]:
    """Return the ROC AUC with a 95% bootstrap interval over galaxies."""
    rng = np.random.default_rng(0)
    resampled = [rng.integers(0, len(rank), len(rank)) for _ in range(1000)]
    low, high = np.percentile([roc_auc_score(is_featured[i], rank[i]) for i in resampled], (2.5, 97.5))
    return {"auc": float(roc_auc_score(is_featured, rank)), "low": float(low), "high": float(high)}


def predicted_fraction(run: Path, images: list[bytes]) -> npt.NDArray[np.float64]:
    """Return the model's predicted vote fraction of featured, relative to featured and smooth, shape (image,)."""
    model, _ = open_run(run)
    columns = model.design.columns
    batch = np.stack([decode(data, model.design.size) for data in images]).transpose(0, 3, 1, 2)
    with torch.inference_mode():
        parts = [model(torch.from_numpy(batch[i : i + 64].copy())) for i in range(0, len(batch), 64)]
    concentration = torch.cat(parts).double().numpy()
    featured, smooth = (concentration[:, columns.index(column)] for column in (FEATURED, SMOOTH))
    return featured / (featured + smooth)


def main() -> None:
    parser = arguments(__doc__, "simulator_transfer.json")
    data = Path(__file__).parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=data, help="folder with gz2_sample (default: ../shared/data)")
    parser.add_argument("--n", type=int, default=2600, help="number of simulated galaxies (default: 2600)")
    parser.add_argument("--epochs", type=int, default=8, help="training epochs (default: 8)")
    parser.add_argument("--size", type=int, default=64, help="image size in pixels (default: 64)")
    parser.add_argument("--encoder", default="resnet18", help="timm encoder (default: resnet18)")
    parser.add_argument("--workers", type=int, default=2, help="processes that simulate (default: 2)")
    parser.add_argument("--work", type=Path, help="folder to keep the simulation, datasets and runs in")
    parser.add_argument("--quick", action="store_true", help="use few galaxies, and write only to --out")
    options = parser.parse_args()
    if options.quick:
        options.n, options.epochs = 200, 2
    work = options.work or Path(tempfile.mkdtemp(prefix="gzoo-transfer-"))

    folder = options.data / "gz2_sample"
    votes = pl.read_csv(folder / "votes.csv")
    if options.quick:
        votes = votes.sample(150, seed=0)
    featured, smooth, artifact = (votes[column].to_numpy() for column in (FEATURED, SMOOTH, ARTIFACT))
    fraction = featured / (featured + smooth + artifact)
    clear = (fraction > 0.6) | (fraction < 0.4)
    is_featured = fraction[clear] > 0.6
    images = [(folder / "images" / name).read_bytes() for name in votes["filename"].to_numpy()[clear]]
    print(f"real galaxies: {len(images)}, featured: {is_featured.sum()}")

    shown = [np.asarray(Image.open(io.BytesIO(cropped(data, False)))).mean(axis=(0, 1)) for data in images]
    colour = np.array([red - blue for red, _, blue in shown])
    size = np.array([numbers_of(data)[NUMBERS.index("half_light_pixels")] for data in images])
    record: dict[str, object] = {
        "n_simulated": options.n,
        "epochs": options.epochs,
        "size_pixels": options.size,
        "encoder": options.encoder,
        "n_real": len(images),
        "mean_colour": interval(is_featured, -colour),
        "size": interval(is_featured, -size),  # image sizes scale with the galaxy, so small galaxies are not smoother
    }
    sky = simulate("gz2", n_galaxies=options.n, seed=SEED, workers=options.workers, out=work / "sky", export=False)
    for name in ("grey", "colour"):
        cropped_images = work / f"images-{name}"
        cropped_images.mkdir(exist_ok=True)
        for path in sky.images.iterdir():
            (cropped_images / path.name).write_bytes(cropped(path.read_bytes(), name == "grey"))
        build("gz2", votes=sky.votes, images=cropped_images, out=work / f"data-{name}", overwrite=True)
        started = time.perf_counter()
        run = work / f"run-{name}"
        train(
            work / f"data-{name}",
            out=run,
            encoder=options.encoder,
            size=options.size,
            crop=1,
            epochs=options.epochs,
            seed=SEED,
            overwrite=True,
        )
        rank = predicted_fraction(run, [cropped(data, name == "grey") for data in images])
        record[name] = interval(is_featured, rank) | {"training_seconds": time.perf_counter() - started}
        print(f"{name:12s} {record[name]}", flush=True)
        # The worst errors: featured galaxies with the lowest predictions, smooth ones with the highest.
        names = votes["filename"].to_numpy()[clear]
        order = np.argsort(np.where(is_featured, rank, 1 - rank))
        record[f"{name}_worst"] = [f"{names[i]} {fraction[clear][i]:.2f} {rank[i]:.2f}" for i in order[:16]]
    for name in ("mean_colour", "size"):
        print(f"{name:12s} {record[name]}")
    save(options, record)


if __name__ == "__main__":
    main()
