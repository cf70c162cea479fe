"""Galaxies that `gzoo predict` predicts in a second of one core, and what a prediction weighs.

    python benchmarks/predict_speed.py [--n 2000] [--encoder resnet18] [--size 128] [--out FILE]

The images are simulated, as large as those of campaigns (424 pixels). The model has random weights, which are as fast
as others. One thread; the seconds are those of the processor, so that a busy machine matters little. The time of a
short prediction is subtracted, so that loading torch does not count.

Writes benchmarks/results/predict_speed.json.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import resource
import tempfile
import time
from pathlib import Path

from measuring import arguments, write

import gzoo

N_SHORT = 100


def main() -> None:
    parser = arguments(__doc__, "predict_speed.json")
    parser.add_argument("--n", type=int, default=2_000, help="number of galaxies (default: 2,000)")
    parser.add_argument("--encoder", default="resnet18", help="encoder (default: resnet18, that of gzoo train)")
    parser.add_argument("--size", type=int, default=128, help="pixels per side (default: 128, those of gzoo train)")
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
            crop=1,
            epochs=1,
            probe=False,
        ).run
        images = sorted(made.images.iterdir())
        short = work / "short"
        short.mkdir()
        for image in images[:N_SHORT]:
            (short / image.name).symlink_to(image)
        seconds: dict[str, float] = {}
        for name, source in (("warm", short), ("short", short), ("all", made.images)):
            began = time.process_time()
            gzoo.predict([run], source, out=work / f"{name}.parquet", recalibrate=True, views=1)
            seconds[name] = time.process_time() - began
        rate = (len(images) - N_SHORT) / (seconds["all"] - seconds["short"])
        write(
            options,
            {
                "encoder": options.encoder,
                "size": options.size,
                "galaxies": len(images),
                "answers": len(gzoo.tree("gz2").columns),
                "galaxies a core second": round(rate, 1),
                "bytes a galaxy": round((work / "all.parquet").stat().st_size / len(images)),
                "peak megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
            },
        )


if __name__ == "__main__":
    main()
