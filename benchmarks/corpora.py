"""Images and votes for the benchmarks of loading and training, created once and kept on disk as a gz_evo dataset.

    python benchmarks/corpora.py [--folder build/benchmarks] [--quick]

There are two corpora of 424 px JPEG images:

- `57 kB`: simulated images with added noise, at JPEG quality 95, about as large as cutouts from surveys;
- `13 kB`: simulated images without added noise, about as large as the real images of Galaxy Zoo 2.

The votes are simulated for four campaigns in the proportions of the published dataset. Each corpus is stored twice,
with the same galaxies in the same order:

- `record`: the dataset that `gzoo build` and `gzoo union` write. It has 527 columns, because those of gz_ukidss are
  included, which does not make reading faster.
- `peer`: its train split as a plain Parquet file in row groups of 100. It has 457 columns: vote counts, vote fractions
  and total votes of the 63 questions and 194 answers that the peers train on.

500 images and 4,000 rows of votes are simulated. Further galaxies repeat them with identifiers and positions of their
own, and each image is stored as often as it is used. To create the corpora again, remove the folder.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from measuring import FOLDER
from PIL import Image

from gzoo import build, files, open_dataset, simulate, union
from gzoo.dataset import schema
from gzoo.trees.campaign import campaign

FRACTIONS = {
    "gz_desi": 399_000,
    "gz2": 191_000,
    "gz_hubble": 96_400,
    "gz_candels": 48_100,
}  # rows of the published datasets
N_IMAGES, N_VOTES = 500, 1_000  # simulated images in total, simulated rows of votes of each campaign
N_QUICK = 128  # galaxies of a quick run
TRAIN_FRACTION = 0.68  # lower bound of the train fraction at these positions


@dataclass(frozen=True)
class Corpus:
    """What determines a corpus.

    Attributes:
        name: Mean size of an image.
        n: Minimum number of galaxies in the train split.
        noise: Standard deviation of the noise added to each band, in grey levels.
        quality: JPEG quality; None keeps the file that the simulator wrote.
    """

    name: str
    n: int
    noise: float = 0.0
    quality: int | None = None


LARGE, SMALL = Corpus("57 kB", 10_000, noise=5.0, quality=95), Corpus("13 kB", 18_000)


def quick(corpus: Corpus) -> Corpus:
    """Return a corpus with the same images and few galaxies."""
    return replace(corpus, n=N_QUICK)


@dataclass(frozen=True)
class Made:
    """A corpus on disk.

    Attributes:
        record: Dataset folder.
        peer: Parquet file with the train split, in the form that the peers read.
        n: Number of galaxies in the train split.
        kilobytes: Mean size of an image.
    """

    record: Path
    peer: Path
    n: int
    kilobytes: float


def made(corpus: Corpus, folder: Path) -> Made:
    """Return the corpus in a folder, and create it if it does not exist."""
    home = folder / f"{corpus.name.replace(' ', '-')}-{corpus.n}"
    work = home.with_suffix(".work")
    facts = home / "corpus.json"
    wanted = {"format": 1, **asdict(corpus)}
    if not facts.is_file() or json.loads(facts.read_text())["corpus"] != wanted:
        shutil.rmtree(home, ignore_errors=True)
        shutil.rmtree(work, ignore_errors=True)
        home.mkdir(parents=True)
        _record(corpus, work, home / "record")
        n, n_bytes = _peer(home / "record", home / "peer" / "train.parquet")
        shutil.rmtree(work)
        facts.write_text(json.dumps({"corpus": wanted, "n": n, "kilobytes": round(n_bytes / n / 1e3, 1)}))
    known = json.loads(facts.read_text())
    return Made(home / "record", home / "peer" / "train.parquet", known["n"], known["kilobytes"])


def _record(corpus: Corpus, work: Path, out: Path) -> None:
    sky = simulate(
        "gz2", n_galaxies=min(N_IMAGES, corpus.n), export=False, workers=os.cpu_count() or 1, out=work / "sky"
    )
    pool = work / "pool"
    pool.mkdir()
    chance = np.random.default_rng(0)
    for i, path in enumerate(sorted(sky.images.iterdir())):
        (pool / f"{i}.jpg").write_bytes(_image(path, corpus, chance))
    n, n_votes, start, parts = round(corpus.n / TRAIN_FRACTION), min(N_VOTES, corpus.n), 0, []
    for name, fraction in FRACTIONS.items():
        n_here = round(n * fraction / sum(FRACTIONS.values()))
        votes = pl.read_parquet(
            simulate(name, n_galaxies=n_votes, images=False, export=False, out=work / f"{name}-sky").votes
        )
        images = work / f"{name}-images"
        images.mkdir()
        numbers = range(start, start + n_here)
        for i in numbers:
            (images / f"g{i:07d}.jpg").hardlink_to(pool / f"{i % min(N_IMAGES, corpus.n)}.jpg")
        table = votes.drop("filename", strict=False)[[i % votes.height for i in range(n_here)]].with_columns(
            id_str=pl.Series([f"g{i:07d}" for i in numbers]),
            ra=pl.Series([i * 360 / n for i in numbers]),
            dec=pl.Series([(i * 7919 % n) * 120 / n - 60 for i in numbers]),
        )
        table.write_parquet(work / f"{name}.parquet")
        build(name, votes=work / f"{name}.parquet", images=[images], out=work / name)
        parts.append(work / name)
        start += n_here
    union(parts, out=out)


def _image(path: Path, corpus: Corpus, chance: np.random.Generator) -> bytes:
    if corpus.quality is None:
        return path.read_bytes()
    pixels = np.asarray(Image.open(path)).astype(np.float32)
    noisy = (pixels + chance.normal(0, corpus.noise, pixels.shape)).clip(0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noisy).save(buffer, "JPEG", quality=corpus.quality)
    return buffer.getvalue()


def _peer(record: Path, out: Path) -> tuple[int, int]:
    """Write the train split with the columns that the peers read; return the numbers of galaxies and image bytes."""
    out.parent.mkdir()
    fields = [field for field in schema.record(campaign("gz_evo")).fields if "-ukidss_" not in field.name]
    kept = schema.Record(tuple(fields))
    n = n_bytes = 0
    with pq.ParquetWriter(out, kept.arrow()) as writer:
        for path in files.shards(record, "train"):
            for batch in pq.ParquetFile(path).iter_batches(100, columns=list(kept.names)):
                table = pa.Table.from_batches([batch]).select(list(kept.names)).cast(kept.arrow())
                writer.write_table(table, row_group_size=100)
                n += len(batch)
                n_bytes += sum(len(one) for one in batch["image"].field("bytes").to_pylist())
    return n, n_bytes


def questions(record: Path) -> Mapping[str, list[str]]:
    """Return the answer columns of each question that the peers train on."""
    carried = open_dataset(record).tree.questions
    return {one.name: list(one.columns) for one in carried if not one.name.endswith("-ukidss")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the corpora are kept")
    parser.add_argument("--quick", action="store_true", help=f"create corpora of {N_QUICK} galaxies")
    options = parser.parse_args()
    for corpus in (LARGE, SMALL):
        print(made(quick(corpus) if options.quick else corpus, options.folder))


if __name__ == "__main__":
    main()
