"""At which norm gradients should be clipped: validation loss and fraction of clipped steps, on simulated galaxies.

    python benchmarks/gradient_clipping.py [--encoder mobilenetv4_conv_small] [--galaxies 1200] [--seeds 2] [--quick]

Each training is one of `gzoo train` with another maximum norm; infinity does not clip. Trainings of one seed have the
same galaxies, initial weights and batches, so they differ by the clipping alone; how much they differ between seeds
says how much of that is chance.

Writes benchmarks/results/gradient_clipping.json.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from measuring import arguments, write

import gzoo
from gzoo.learn import fitting

NORMS = (1.0, 5.0, 25.0, float("inf"))


def main() -> None:
    parser = arguments(__doc__, "gradient_clipping.json")
    parser.add_argument("--quick", action="store_true", help="one epoch of 100 galaxies, and write only to --out")
    parser.add_argument("--encoder", default="mobilenetv4_conv_small", help="timm encoder")
    parser.add_argument("--galaxies", type=int, default=1_200, help="galaxies to simulate (default: 1,200)")
    parser.add_argument("--epochs", type=int, default=12, help="epochs (default: 12)")
    parser.add_argument("--seeds", type=int, default=2, help="trainings with each norm (default: 2)")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="peak learning rate (default: 1e-3)")
    options = parser.parse_args()
    if options.quick:
        options.galaxies, options.epochs, options.seeds = 100, 1, 1
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sky = gzoo.simulate("gz2", n_galaxies=options.galaxies, seed=3, out=folder / "sky")
        gzoo.build("gz2", votes=sky.votes, images=sky.images, out=folder / "galaxies")
        rows = [measured(folder, norm, seed, options) for seed in range(options.seeds) for norm in NORMS]
    settings = {name: getattr(options, name) for name in ("encoder", "galaxies", "epochs", "learning_rate")}
    write(options, {**settings, "size": 64, "batch": 32, "trainings": rows})


def measured(folder: Path, max_norm: float, seed: int, options: object) -> dict[str, object]:
    """Train once."""
    norms: list[float] = []
    clip = torch.nn.utils.clip_grad_norm_

    def recorded(parameters: object, _: float) -> torch.Tensor:
        norm = clip(parameters, max_norm)  # type: ignore[arg-type]
        norms.append(norm.item())
        return norm

    fitting.torch.nn.utils.clip_grad_norm_ = recorded  # type: ignore[assignment]
    try:
        made = gzoo.train(
            folder / "galaxies", out=folder / f"run-{max_norm}-{seed}", encoder=options.encoder, size=64,  # type: ignore[attr-defined]
            epochs=options.epochs, learning_rate=options.learning_rate, seed=seed, probe=False,  # type: ignore[attr-defined]
            cache_dir=folder / "cache",
        )  # fmt: skip
    finally:
        fitting.torch.nn.utils.clip_grad_norm_ = clip
    quartiles = np.quantile(norms, [0.05, 0.5, 0.95, 1]).round(2).tolist()
    row = {
        "seed": seed,
        "maximum norm": str(max_norm),
        "validation loss (nats)": round(made.best_loss, 4),
        "gain over the baseline (nats)": round(made.baseline_loss - made.best_loss, 4),
        "best epoch": made.best_epoch,
        "clipped steps": round(float(np.mean(np.array(norms) > max_norm)), 3),
        "norm: 5, 50, 95 percent, largest": quartiles,
    }
    print(row, flush=True)
    return row


if __name__ == "__main__":
    main()
