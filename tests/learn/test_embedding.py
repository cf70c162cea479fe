"""Embedding of images anywhere: the same vectors whole, resumed, from a run or the folder that is exported of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from PIL import Image

import gzoo
from gzoo.dataset.open import open_dataset
from gzoo.embeddings.table import open_embeddings
from gzoo.errors import DatasetError, GZooWarning, ImageError, InputError, MissingExtraError, NotFoundError
from gzoo.learn import parts
from gzoo.learn.decoding import decode
from gzoo.learn.embedding import embed, embed_images
from gzoo.learn.loader import loader
from gzoo.learn.model import open_run
from gzoo.learn.probe import features_of
from gzoo.simulator import SimulateResult


@pytest.fixture(scope="module")
def embedded(run: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Embeddings of all splits."""
    return embed(run, dataset, out=tmp_path_factory.mktemp("embedded") / "e.parquet", coordinates="pca").path


def vectors(path: Path) -> dict[str, np.ndarray]:
    found = open_embeddings(path)
    return dict(zip(found.keys["id_str"], found.vectors.astype(float), strict=True))


def test_vectors_are_the_mean_features_of_eight_orientations(embedded: Path, run: Path, dataset: Path) -> None:
    opened, found = open_dataset(dataset), open_embeddings(embedded)
    assert len(found) == sum(opened.n_galaxies.values())
    assert found.source.splits == opened.splits
    model, _ = open_run(run)
    own = features_of(model, loader(opened, 16, model.design.image_size, split="test"))
    of_id = vectors(embedded)
    for id_str, value in zip(own.ids, own.values.numpy(), strict=True):
        assert of_id[id_str] == pytest.approx(value, rel=2e-3, abs=2e-3)
    positions = pl.concat([opened.positions(split) for split in opened.splits])
    assert found.keys.equals(positions.select("dataset_name", "id_str"))
    assert found.table["ra"].to_list() == pytest.approx(positions["ra"].to_list(), nan_ok=True)
    assert found.source.is_simulated
    assert found.source.data == str(dataset)
    points = np.cov(found.coordinates.T)  # type: ignore[union-attr]
    assert points[0, 0] > points[1, 1] > 0
    assert abs(points[0, 1]) < 1e-3 * points[0, 0]
    assert found.source.variance is not None
    assert 1 > found.source.variance[0] > found.source.variance[1] > 0


@pytest.fixture(scope="module")
def images(sky: SimulateResult, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the images of the test split."""
    folder = tmp_path_factory.mktemp("images")
    for id_str in open_dataset(dataset).read_votes("test")[0]["id_str"]:
        shutil.copy(next(sky.images.rglob(f"{id_str}.*")), folder)
    return folder


def test_a_folder_turned_images_and_an_exported_encoder_give_the_same_vectors(
    run: Path, images: Path, embedded: Path, tmp_path: Path
) -> None:
    gzoo.export(run, out=tmp_path / "encoder")
    (tmp_path / "turned").mkdir()
    for path in images.iterdir():
        Image.open(path).rotate(90).save(tmp_path / "turned" / f"{path.stem}.png")
    wanted = vectors(embedded)
    sources = []
    for name, source, data in (
        ("folder", run, images), ("exported", tmp_path / "encoder", images), ("turned", run, tmp_path / "turned")
    ):  # fmt: skip
        made = embed(source, data, out=tmp_path / f"{name}.parquet")
        sources.append(open_embeddings(made.path).source)
        for id_str, value in vectors(made.path).items():
            assert value == pytest.approx(wanted[id_str], rel=0.02, abs=0.02), name
    assert sources[0].difference(sources[1]) == ""
    assert sources[1].run_sha256 is None
    assert sources[0].run_sha256


def test_the_encoder_sees_the_part_of_an_image_that_it_was_trained_on(run: Path, images: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    about = (run / "run.json").read_text()
    (tmp_path / "run" / "run.json").write_text(about.replace('"crop": 1.0', '"crop": 0.5'))
    for name in ("whole", "central"):
        (tmp_path / name).mkdir()
    for path in sorted(images.iterdir())[:3]:
        shutil.copy(path, tmp_path / "whole")
        pixels = decode(path.read_bytes(), 64)
        Image.fromarray(pixels[16:48, 16:48]).save(tmp_path / "central" / f"{path.stem}.png")
    cropped = embed(tmp_path / "run", tmp_path / "whole", views=2, out=tmp_path / "cropped.parquet").path
    wanted = vectors(embed(run, tmp_path / "central", views=2, out=tmp_path / "wanted.parquet").path)
    found = vectors(cropped)
    assert found.keys() == wanted.keys()
    assert all(np.array_equal(value, wanted[id_str]) for id_str, value in found.items())
    source = open_embeddings(cropped).source
    assert (source.preprocessing["size"], source.preprocessing["crop"]) == (32, 0.5)
    image = tmp_path / "whole" / f"{next(iter(found))}.jpg"
    again = embed_images(tmp_path / "run", [image], source, cropped)[0]
    assert again == pytest.approx(found[image.stem], rel=2e-3, abs=1e-6)  # steps of float16 are 6e-8 near zero


def test_an_interrupted_embedding_resumes_with_the_same_bytes(
    run: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PART_ROWS", 20)  # parts of galaxies of two splits
    embed(run, dataset, batch_size=8, views=2, out=tmp_path / "whole.parquet")

    def stop(stage: str, done: int, total: int) -> None:
        if done > 40:
            raise KeyboardInterrupt

    out = tmp_path / "e.parquet"
    with pytest.raises(KeyboardInterrupt):
        embed(run, dataset, batch_size=8, views=2, out=out, progress=stop)
    assert not out.exists()
    seen: list[int] = []
    embed(run, dataset, batch_size=8, views=2, out=out, progress=lambda stage, done, total: seen.append(done))
    assert min(seen) > 40
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert pq.ParquetFile(out).num_row_groups == 3


@pytest.fixture
def scheduler() -> Iterator[str]:
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, memory_limit=0
    ) as cluster:
        yield cluster.scheduler_address


@pytest.mark.slow
def test_two_dask_workers_write_the_same_bytes(
    run: Path, dataset: Path, tmp_path: Path, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PART_ROWS", 10)
    for name, where in (("whole", None), ("workers", scheduler)):
        embed(run, dataset, views=2, out=tmp_path / f"{name}.parquet", scheduler=where)
    assert (tmp_path / "workers.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_an_image_is_an_example(run: Path, images: Path, embedded: Path, tmp_path: Path) -> None:
    path = sorted(images.iterdir())[0]
    found = gzoo.similar(embedded, image=[path], run=run, k=1, sheet=tmp_path / "s.html")
    assert found.table["id_str"].to_list() == [path.stem]  # it finds itself
    assert found.table["score"][0] == pytest.approx(1, abs=1e-3)
    assert "image file" in (tmp_path / "s.html").read_text("utf-8")
    (tmp_path / "broken.jpg").write_bytes(path.read_bytes()[:200])
    (tmp_path / "text.png").write_text("none")
    for name in ("broken.jpg", "text.png"):
        with pytest.raises(ImageError, match=f"Image '.*{name}' cannot be an example: "):
            gzoo.similar(embedded, image=[tmp_path / name], run=run, k=1)
    with pytest.raises(NotFoundError, match=r"Cannot read the image '.*none\.jpg'"):
        gzoo.similar(embedded, image=tmp_path / "none.jpg", run=run, k=1)


def test_an_image_seen_by_another_encoder_is_refused(run: Path, images: Path, embedded: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    other = tmp_path / "other"
    shutil.copytree(run, other)
    weights = load_file(other / "model.safetensors")
    first = next(name for name in weights if name.startswith("encoder."))
    weights[first] = weights[first] + 0.1
    save_file(weights, other / "model.safetensors")
    like = open_embeddings(embedded).source
    path = sorted(images.iterdir())[0]
    with pytest.raises(DatasetError, match=r"was made by the encoder of '.*run', so.*\n(.|\n)*Pass --run .*run"):
        embed_images(other, [path], like, embedded)
    about = (other / "run.json").read_text().replace('"size": 32', '"size": 40')
    shutil.copy(run / "model.safetensors", other)
    (other / "run.json").write_text(about)
    with pytest.raises(DatasetError, match=r"with other preprocessing .size 32 instead of 40"):
        embed_images(other, [path], like, embedded)


def test_damaged_images_are_refused_or_skipped_with_a_count(run: Path, images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    shutil.copytree(images, folder)
    damaged = sorted(folder.iterdir())[1]
    damaged.write_bytes(damaged.read_bytes()[:300])
    with pytest.raises(ImageError, match=f"galaxy '{damaged.stem}': The image is corrupt"):
        embed(run, folder, views=1, out=tmp_path / "e.parquet")
    with pytest.warns(GZooWarning, match="1 images cannot be decoded"):
        made = embed(run, folder, views=1, out=tmp_path / "e.parquet", corrupt="skip")
    assert made.n_corrupt == open_embeddings(made.path).source.n_corrupt == 1
    assert damaged.stem not in vectors(made.path)


def test_what_cannot_be_embedded_is_one_error(
    run: Path, dataset: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "e.parquet"
    with pytest.raises(NotFoundError, match="Encoder not found"):
        embed(tmp_path / "none", dataset, out=out)
    with pytest.raises(NotFoundError, match="Split 'val' not found"):
        embed(run, dataset, split="val", out=out)
    with pytest.raises(InputError, match="no splits"):
        embed(run, images, split="test", out=out)
    with pytest.raises(InputError, match="not FITS"):
        embed(run, dataset, campaign="gz2", out=out)
    with pytest.raises(InputError, match="'umap'"):
        embed(run, images, coordinates="umap", out=out)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="views must be from 1 to 8"):
        embed(run, images, views=9, out=out)
    (tmp_path / "one").mkdir()
    shutil.copy(next(images.iterdir()), tmp_path / "one")
    with pytest.raises(InputError, match="map of 1 galaxies"):
        embed(run, tmp_path / "one", views=1, coordinates="pca", out=out)
    monkeypatch.setattr("gzoo.embeddings.coordinates.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="openTSNE"):
        embed(run, images, coordinates="tsne", out=out)


def test_fits_images_need_a_campaign(run: Path, tmp_path: Path) -> None:
    fits = pytest.importorskip("astropy.io.fits")
    gzoo.export(run, out=tmp_path / "encoder")
    (tmp_path / "images").mkdir()
    y, x = np.mgrid[-20:20, -20:20]
    bands = np.random.default_rng(0).normal(0, 0.02, (3, 40, 40)) + 5 * np.exp(-(x**2 + y**2) / 40)
    fits.PrimaryHDU(bands.astype(np.float32)).writeto(tmp_path / "images" / "g1.fits")
    with pytest.raises(InputError, match=r"'g1.fits' in .* the encoder does not say"):
        embed(tmp_path / "encoder", tmp_path / "images", out=tmp_path / "e.parquet")
    for name, source, campaign in (("a", run, None), ("b", tmp_path / "encoder", "gz2")):
        embed(source, tmp_path / "images", views=1, campaign=campaign, out=tmp_path / f"{name}.parquet")
    assert vectors(tmp_path / "a.parquet")["g1"] == pytest.approx(vectors(tmp_path / "b.parquet")["g1"])
    like = open_embeddings(tmp_path / "a.parquet").source
    again = embed_images(run, [tmp_path / "images" / "g1.fits"], like, tmp_path / "a.parquet")
    assert again[0] == pytest.approx(vectors(tmp_path / "a.parquet")["g1"], rel=2e-3, abs=2e-3)


@pytest.mark.slow
def test_a_map_by_tsne(run: Path, images: Path, dataset: Path, tmp_path: Path) -> None:
    pytest.importorskip("openTSNE")
    made = embed(run, dataset, views=1, coordinates="tsne", out=tmp_path / "e.parquet")
    found = open_embeddings(made.path).coordinates
    assert found is not None
    assert np.isfinite(found).all()
    assert made.coordinates == "tsne"
