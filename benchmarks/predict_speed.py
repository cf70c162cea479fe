"""Galaxies that `gzoo predict` predicts in a second of one core, and what a prediction weighs.

    python benchmarks/predict_speed.py [--n 2000] [--encoder NAME] [--size PIXELS] [--out FILE]

The images are simulated, as large as those of campaigns (424 pixels). The recipe is that of `gzoo train` unless options
say otherwise; the model has hardly been trained, which does not change its speed. It averages over the eight
orientations of an image, as by default, or looks at one. One thread; the seconds are those of the processor, so that a
busy machine matters little. The time of a short prediction is subtracted, so that loading torch does not count.

Writes benchmarks/results/predict_speed.json.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import json
import resource
import tempfile
import time
from pathlib import Path

from measuring import arguments, write

import gzoo

N_SHORT = 100
VIEWS = (8, 1)


def main() -> None:
    parser = arguments(__doc__, "predict_speed.json")
    parser.add_argument("--n", type=int, default=2_000, help="number of galaxies (default: 2,000)")
    parser.add_argument("--encoder", help="encoder (default: that of gzoo train)")
    parser.add_argument("--size", type=int, help="pixels per side (default: those of gzoo train)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        made = gzoo.simulate("gz2", n_galaxies=options.n, seed=1, workers=2, export=False, out=work / "sky")
        gzoo.build("gz2", votes=made.votes, images=made.images, out=work / "galaxies")
        run = gzoo.train(
            work / "galaxies",
            out=work / "run",
            encoder=options.encoder,
            size=options.size,
            epochs=1,
            probe=False,
        ).run
        settings = json.loads((run / "run.json").read_text())["settings"]
        images = sorted(made.images.iterdir())
        short = work / "short"
        short.mkdir()
        for image in images[:N_SHORT]:
            (short / image.name).symlink_to(image)
        rates: dict[str, float] = {}
        for views in VIEWS:
            seconds: dict[str, float] = {}
            for name, source in (("warm", short), ("short", short), ("all", made.images)):
                began = time.process_time()
                gzoo.predict([run], source, out=work / f"{name}.parquet", views=views, overwrite=True)
                seconds[name] = time.process_time() - began
            rates["1 view" if views == 1 else f"{views} views"] = round(
                (len(images) - N_SHORT) / (seconds["all"] - seconds["short"]), 1
            )
        write(
            options,
            {
                **{name: settings[name] for name in ("encoder", "size", "crop")},
                "galaxies": len(images),
                "answers": len(gzoo.tree("gz2").columns),
                "galaxies a core second": rates,
                "bytes a galaxy": round((work / "all.parquet").stat().st_size / len(images)),
                "peak megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
            },
        )


if __name__ == "__main__":
    main()
