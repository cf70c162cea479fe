"""Images and votes for the benchmarks of loading and training: a gz_evo record on disk, made once and kept.

    python benchmarks/corpora.py [--folder build/benchmarks]

Two corpora of 424 px JPEGs: `57 kB`, the simulator's images with noise added and at quality 95, about as large as
what surveys cut out; `13 kB`, as the simulator writes them, which is the size of the real images of Galaxy Zoo 2.
Votes are simulated ones of four campaigns in the proportions of the published dataset. Each corpus lies there twice,
the same galaxies in the same order:

- `record`: what `gzoo build` and `gzoo union gz_evo` make of them. It has 527 columns, those of gz_ukidss among them,
  which makes reading no easier.
- `peer`: its train split as a plain Parquet file with the 457 columns of the 63 questions and 194 answers that the
  peers train on, with counts, fractions and totals, in row groups of 100.

500 images and 4,000 rows of votes are simulated; galaxies beyond them repeat their content, under names and at places
of their own, and each image stands in the files as often as it is needed. Remove the folder to have them made anew.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from gzoo import build, files, open_dataset, simulate, union
from gzoo.dataset import schema
from gzoo.trees.campaign import campaign

FRACTIONS = {
    "gz_desi": 399_000,
    "gz2": 191_000,
    "gz_hubble": 96_400,
    "gz_candels": 48_100,
}  # rows of the published ones
N_IMAGES, N_VOTES = 500, 1_000  # simulated: images in all, rows of votes for each campaign
FOLDER = Path(__file__).parent.parent / "build" / "benchmarks"
TRAIN_FRACTION = 0.68  # at least that much of these places is train


@dataclass(frozen=True)
class Corpus:
    """What determines a corpus.

    Attributes:
        name: Size of an image.
        n: Galaxies in the train split, at least.
        noise: Standard deviation of the noise added to each colour, in grey levels.
        quality: Of the JPEG; None for the simulator's own file.
    """

    name: str
    n: int
    noise: float = 0.0
    quality: int | None = None


LARGE, SMALL = Corpus("57 kB", 10_000, noise=5.0, quality=95), Corpus("13 kB", 18_000)


@dataclass(frozen=True)
class Made:
    """A corpus on disk.

    Attributes:
        record: A gzoo dataset folder.
        peer: A Parquet file with the train split, as the peers have it.
        n: Galaxies in the train split.
        kilobytes: Mean size of an image.
    """

    record: Path
    peer: Path
    n: int
    kilobytes: float


def made(corpus: Corpus, folder: Path) -> Made:
    """The corpus in a folder, made if it is not there."""
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
    """Write the train split with the columns of the peers' campaigns; returns galaxies and bytes of images."""
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
    """Question -> its answers, as columns, of the questions that the peers train on."""
    carried = open_dataset(record).tree.questions
    return {one.name: list(one.columns) for one in carried if not one.name.endswith("-ukidss")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    options = parser.parse_args()
    for corpus in (LARGE, SMALL):
        print(made(corpus, options.folder))


if __name__ == "__main__":
    main()
