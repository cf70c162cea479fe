"""Prediction of images anywhere, by one run or several, whole or resumed."""

from __future__ import annotations

import itertools
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import torch
from distributed import LocalCluster
from PIL import Image

from gzoo import cli, files
from gzoo.dataset.open import open_dataset
from gzoo.errors import (
    BusyError,
    DatasetError,
    GZooWarning,
    ImageError,
    InputError,
    MissingExtraError,
    OutputExistsError,
)
from gzoo.learn import parts, prediction
from gzoo.learn.prediction import predict
from gzoo.scoring.predictions import read_predictions
from gzoo.scoring.scores import score
from gzoo.simulator import SimulateResult


def numbers(path: Path) -> pl.DataFrame:
    """Concentrations of a prediction file by identifier."""
    table = pl.read_parquet(path).sort("id_str")
    return table.select("id_str", pl.selectors.ends_with("_concentration"))


def equal(one: pl.DataFrame, other: pl.DataFrame, rel: float = 1e-5) -> bool:
    """Whether two tables of `numbers` agree."""
    values = [each.drop("id_str").cast(pl.Float64).to_numpy() for each in (one, other)]
    return one["id_str"].equals(other["id_str"]) and values[0] == pytest.approx(values[1], rel=rel, nan_ok=True)


@pytest.fixture(scope="module")
def images(sky: SimulateResult, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the images of the test split."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "below").mkdir()
    for i, id_str in enumerate(open_dataset(dataset).read_votes("test")[0]["id_str"]):
        source = next(sky.images.rglob(f"{id_str}.*"))
        shutil.copy(source, folder / ("below" if i % 2 else "") / source.name)
    return folder


@pytest.fixture(scope="module")
def of_dataset(run: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Predictions of the test split in 3 views."""
    return predict(run, dataset, views=3, out=tmp_path_factory.mktemp("predicted") / "p.parquet").path


def test_a_folder_and_an_archive_of_images_are_predicted_as_in_a_dataset(
    run: Path, images: Path, of_dataset: Path, tmp_path: Path
) -> None:
    made = predict(run, images, views=3, out=tmp_path / "folder.parquet")
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for path in images.rglob("*.jpg"):
            archive.write(path, path.name)
    predict(run, tmp_path / "images.zip", views=3, out=tmp_path / "zip.parquet")
    wanted = numbers(of_dataset)
    assert equal(numbers(tmp_path / "folder.parquet"), wanted)  # in any order, so views do not depend on rows
    assert equal(numbers(tmp_path / "zip.parquet"), wanted)
    table = pl.read_parquet(made.path)
    assert table.columns[0] == "id_str"
    assert table["in_training_set"].null_count() == table.height == made.n_galaxies
    assert not made.is_dataset


def test_the_first_view_is_the_image_as_stored_and_others_turn_it(run: Path, images: Path, tmp_path: Path) -> None:
    folders = [tmp_path / "as_stored", tmp_path / "turned"]
    for turns, folder in enumerate(folders):
        folder.mkdir()
        for path in images.rglob("*.jpg"):
            pixels = np.asarray(Image.open(path).convert("RGB").resize((32, 32)))
            Image.fromarray(np.rot90(pixels, turns).copy()).save(folder / f"{path.stem}.png")
    one, other = (_values(run, folder, tmp_path, views=1) for folder in folders)
    assert not equal(one, other, rel=1e-3)
    one, other = (_values(run, folder, tmp_path, views=8) for folder in folders)  # in all orientations
    assert equal(one, other, rel=1e-3)


def _values(run: Path, folder: Path, tmp_path: Path, views: int) -> pl.DataFrame:
    return numbers(
        predict(run, folder, views=views, out=tmp_path / "p.parquet", recalibrate=False, overwrite=True).path
    )


def test_fits_images_are_shown_as_build_shows_them(run: Path, tmp_path: Path) -> None:
    fits = pytest.importorskip("astropy.io.fits")
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-20:20, -20:20]
    bands = rng.normal(0, 0.02, (3, 40, 40)) + 5 * np.exp(-(x**2 + y**2) / 40)
    (tmp_path / "images").mkdir()
    fits.PrimaryHDU(bands.astype(np.float32)).writeto(tmp_path / "images" / "g1.fits")
    from gzoo.images.fits import render
    from gzoo.trees.campaign import campaign

    shown = render((tmp_path / "images" / "g1.fits").read_bytes(), "g1.fits", campaign("gz2").stretch)
    (tmp_path / "shown").mkdir()
    (tmp_path / "shown" / "g1.jpg").write_bytes(shown)
    for name in ("images", "shown"):
        predict(run, tmp_path / name, out=tmp_path / f"{name}.parquet")
    assert equal(numbers(tmp_path / "images.parquet"), numbers(tmp_path / "shown.parquet"))
    (tmp_path / "images" / "g2.fits").write_bytes(b"SIMPLE")
    with pytest.raises(ImageError, match=r"g2\.fits, galaxy 'g2': .*FITS"):
        predict(run, tmp_path / "images", out=tmp_path / "p.parquet")


def test_several_runs_are_a_mixture(run: Path, dataset: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(run, other)
    about = files.read_json(other / "run.json")
    files.write_json(other / "run.json", {**about, "recalibration": None})
    single = [predict(one, dataset, out=tmp_path / f"{one.name}.parquet").path for one in (run, other)]
    both = predict([run, other], dataset, out=tmp_path / "both.parquet").path
    tree = open_dataset(dataset).tree
    members = read_predictions(both, tree).values
    for i, path in enumerate(single):
        assert members[i] == pytest.approx(read_predictions(path, tree).values[0], nan_ok=True)
    fractions = [pl.read_parquet(path)["smooth-or-featured-gz2_smooth_fraction"].to_numpy() for path in (*single, both)]
    assert fractions[2] == pytest.approx((fractions[0] + fractions[1]) / 2)
    assert score(both, dataset).n_galaxies > 0
    metadata = json.loads(pq.read_schema(both).metadata[b"gzoo"])
    assert len(metadata["run_sha256"]) == 2
    assert [one["encoder"] for one in metadata["models"]] == [about["design"]["encoder"]] * 2
    assert {one["n_train"] for one in metadata["models"]} == {about["n_train"]}
    with pytest.raises(InputError, match="No run"):
        predict([], dataset, out=tmp_path / "none.parquet")


def test_an_interrupted_prediction_repeats_at_most_one_part(
    run: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PART_ROWS", 10)
    predict(run, dataset, split="train", batch_size=4, out=tmp_path / "whole.parquet")

    def stop(stage: str, done: int, total: int) -> None:
        if done > 20:
            raise KeyboardInterrupt

    out = tmp_path / "p.parquet"
    with pytest.raises(KeyboardInterrupt):
        predict(run, dataset, split="train", batch_size=4, out=out, progress=stop)
    assert not out.exists()
    with pytest.raises(OutputExistsError, match="unfinished work of another command that differs in views"):
        predict(run, dataset, split="train", batch_size=4, views=2, out=out)
    seen: list[int] = []
    predict(run, dataset, split="train", batch_size=4, out=out, progress=lambda stage, done, total: seen.append(done))
    assert min(seen) > 20
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert pq.ParquetFile(out).num_row_groups == -(-max(seen) // 10)
    assert {path.name for path in tmp_path.iterdir()} == {"p.parquet", "whole.parquet"}


def predict_on_workers(
    run: Path, dataset: Path, out: Path, monkeypatch: pytest.MonkeyPatch, n_workers: int, *, processes: bool
) -> tuple[Path, list[int]]:
    """Predict the train split in parts of 10 on Dask workers."""
    monkeypatch.setattr(parts, "PART_ROWS", 10)
    seen: list[int] = []
    with LocalCluster(
        n_workers=n_workers, threads_per_worker=2, processes=processes, protocol="tcp://", host="127.0.0.1",
        dashboard_address=None,
    ) as one:  # fmt: skip
        predict(run, dataset, split="train", batch_size=4, out=out, scheduler=one.scheduler_address,
                progress=lambda stage, done, total: seen.append(done))  # fmt: skip
    return out, seen


def test_a_dask_worker_writes_the_same_bytes(
    run: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, seen = predict_on_workers(run, dataset, tmp_path / "dask.parquet", monkeypatch, 1, processes=False)
    assert len(seen) == -(-max(seen) // 10)
    alone = predict(run, dataset, split="train", batch_size=4, out=tmp_path / "alone.parquet").path
    assert made.read_bytes() == alone.read_bytes()


@pytest.mark.slow
def test_two_dask_workers_write_the_same_bytes_as_one_process(
    run: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = predict_on_workers(run, dataset, tmp_path / "dask.parquet", monkeypatch, 2, processes=True)
    alone = predict(run, dataset, split="train", batch_size=4, out=tmp_path / "alone.parquet").path
    assert torch.get_num_threads() == 1  # as in the workers, so that sums have one order
    assert made.read_bytes() == alone.read_bytes()


def test_workers_that_read_other_data_or_have_other_packages_are_errors(
    run: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changing = itertools.count()
    with monkeypatch.context() as patched:
        patched.setattr(prediction._Predicting, "digest", property(lambda self: f"{next(changing)}"))
        with pytest.raises(DatasetError, match="worker reads another run or other data"):
            predict_on_workers(run, dataset, tmp_path / "p.parquet", monkeypatch, 1, processes=False)
    monkeypatch.setattr(parts, "version", lambda name: "0.0")
    with pytest.raises(MissingExtraError, match=r"A worker has gzoo .*started with gzoo 0\.0"):
        predict_on_workers(run, dataset, tmp_path / "p.parquet", monkeypatch, 1, processes=False)


def rewritten(published: Path, folder: Path, **columns: pl.Expr) -> Path:
    shutil.copytree(published, folder)
    path = files.shards(folder, "test")[0]
    pl.read_parquet(path).with_columns(**columns).write_parquet(path)
    return folder


@pytest.mark.parametrize(
    ("id_str", "words"),
    [
        (pl.when(pl.int_range(pl.len()) == 2).then(None).otherwise("id_str"), "row 2: id_str is null"),
        (pl.col("id_str").first(), "row 0: id_str '.*' occurs more than once"),
        (pl.int_range(pl.len()), "id_str' of '.*' has type Int64"),
    ],
)
def test_identifiers_are_checked_before_any_computing(
    run: Path, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, id_str: pl.Expr, words: str
) -> None:
    folder = rewritten(published, tmp_path / "gz2", id_str=id_str)
    monkeypatch.setattr(prediction, "concentrations", None)
    with pytest.raises(DatasetError, match=words):
        predict(run, folder, out=tmp_path / "p.parquet")


def test_a_split_without_rows_gives_an_empty_table(
    run: Path, dataset: Path, published: Path, of_dataset: Path, tmp_path: Path
) -> None:
    shutil.copytree(published, tmp_path / "gz2")
    path = files.shards(tmp_path / "gz2", "test")[0]
    pl.read_parquet(path)[:0].write_parquet(path)
    made = predict(run, tmp_path / "gz2", out=tmp_path / "p.parquet")
    assert made.n_galaxies == 0
    assert pl.read_parquet(made.path).schema == pl.read_parquet(of_dataset).schema


def test_damaged_images_are_refused_or_skipped_with_a_count(
    run: Path, images: Path, of_dataset: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    shutil.copytree(images, folder)
    damaged = sorted(folder.rglob("*.jpg"))[1]
    damaged.write_bytes(damaged.read_bytes()[:300])
    with pytest.raises(ImageError, match=f"{damaged}, galaxy '{damaged.stem}': The image is corrupt"):
        predict(run, folder, out=tmp_path / "p.parquet")
    with pytest.warns(GZooWarning, match=f"1 images cannot be decoded.*{damaged}"):
        made = predict(run, folder, out=tmp_path / "p.parquet", views=3, corrupt="skip", batch_size=1)
    assert made.n_corrupt == 1
    assert equal(numbers(made.path), numbers(of_dataset).filter(pl.col("id_str") != damaged.stem))
    with pytest.raises(InputError, match="corrupt"):
        predict(run, folder, out=tmp_path / "q.parquet", corrupt="drop")  # type: ignore[arg-type]


def test_what_is_no_image_and_no_dataset_is_refused(run: Path, images: Path, tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("a")
    with pytest.raises(InputError, match="none of its 1 files is an image"):
        predict(run, tmp_path / "text", out=tmp_path / "p.parquet")
    for name in ("a", "b"):
        (tmp_path / "two" / name).mkdir(parents=True)
        shutil.copy(next(images.rglob("*.jpg")), tmp_path / "two" / name / "g.jpg")
    with pytest.raises(InputError, match=r"'a/g.jpg' and 'b/g.jpg' in .* have the same identifier, 'g'"):
        predict(run, tmp_path / "two", out=tmp_path / "p.parquet")
    with pytest.raises(InputError, match="no splits"):
        predict(run, images, split="train", out=tmp_path / "p.parquet")


def test_one_prediction_writes_a_file_at_a_time(run: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.parquet"

    def again(*_: object) -> None:
        with pytest.raises(BusyError):
            predict(run, images, out=out)

    predict(run, images, out=out, progress=again)


def test_the_command_takes_several_runs(
    run: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["gzoo", "predict", run, run, images, "--out", tmp_path / "p.parquet", "--json"]
    monkeypatch.setattr("sys.argv", [str(word) for word in words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    found = json.loads(capsys.readouterr().out)
    assert found["n_galaxies"] == len(list(images.rglob("*.jpg")))
    assert found["n_corrupt"] == 0
