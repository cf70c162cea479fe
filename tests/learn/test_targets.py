"""Training on labels of one's own: classes and values, of the dataset or of a table beside it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import onnxruntime
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gzoo.dataset.build import build
from gzoo.dataset.open import open_dataset
from gzoo.dataset.targets import Target, read_labels
from gzoo.errors import DatasetError, GZooWarning, InputError, NotFoundError, OutputExistsError, TableError
from gzoo.learn.embedding import embed
from gzoo.learn.export import export
from gzoo.learn.heads import ValueHead
from gzoo.learn.loader import loader
from gzoo.learn.model import open_run
from gzoo.learn.prediction import predict
from gzoo.learn.starting import open_encoder
from gzoo.learn.training import train
from gzoo.scoring.comparison import compare
from gzoo.scoring.prediction_files import read_metadata, write_prediction_table
from gzoo.scoring.scores import score

N = 120
TINY = {"encoder": "resnet10t", "size": 32, "crop": 1, "batch_size": 16}
BRIGHT = np.random.default_rng(3).uniform(0, 1, N)


def image(brightness: float, i: int) -> bytes:
    out = io.BytesIO()
    noise = np.random.default_rng(i).normal(0, 10, (32, 32, 3))
    Image.fromarray((60 + 120 * brightness + noise).clip(0, 255).astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images whose brightness is the label: as a class (bright above 0.5) and as a number."""
    folder = tmp_path_factory.mktemp("bright")
    (folder / "images").mkdir()
    for i in range(N):
        (folder / "images" / f"g{i}.png").write_bytes(image(BRIGHT[i], i))
    label = [None if i == 5 else "bright" if one > 0.5 else "dark" for i, one in enumerate(BRIGHT)]
    columns = {"file": [f"g{i}.png" for i in range(N)], "kind": label, "flux": BRIGHT, "n": [i % 3 for i in range(N)],
               "yes": [i % 2 for i in range(N)], "half": [0.5 * (i % 2) for i in range(N)],
               "remark": [f"remark {i}" for i in range(N)], "rare": ["a"] * N}  # fmt: skip
    pl.DataFrame(columns).write_csv(folder / "bright.csv")
    build(labels=folder / "bright.csv", images=folder / "images", out=folder / "dataset")
    return folder / "dataset"


@pytest.fixture(scope="module")
def run(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "kind"
    train(dataset, target="kind", out=out, epochs=8, learning_rate=3e-3, **TINY)  # type: ignore[arg-type]
    return out


@pytest.fixture(scope="module")
def predictions(run: Path, dataset: Path) -> Path:
    return predict(run, dataset, out=run.with_name("kind.parquet")).path


def test_a_run_for_a_target_is_exported_with_its_classes(run: Path, dataset: Path) -> None:
    made = export(run, out=run.with_name("exported"))
    assert made.onnx is not None
    pixels = next(iter(loader(dataset, batch_size=200, size=32, split="test")))["image"]
    session = onnxruntime.InferenceSession(made.onnx.path)
    found = session.run(["prediction"], {"images": pixels.permute(0, 2, 3, 1).numpy()})[0]
    table = pl.read_parquet(predict(run, dataset, views=1, out=run.with_name("one-view.parquet")).path)
    assert found == pytest.approx(table.select(made.onnx.columns["prediction"]).to_numpy(), abs=1e-4)
    card = (made.path / "README.md").read_text("utf-8")
    assert "that predicts, from an image of a galaxy (32 x 32 pixels), `kind`." in card
    assert "`kind_bright_probability`, `kind_dark_probability`" in card


def test_classes_are_learned_and_predicted_in_the_documented_columns(
    run: Path, predictions: Path, dataset: Path
) -> None:
    table = pl.read_parquet(predictions)
    names = ["kind_bright_probability", "kind_dark_probability"]
    assert table.columns == ["dataset_name", "id_str", *names, "in_training_set"]
    assert np.allclose(table.select(names).sum_horizontal(), 1)
    found = score(predictions, dataset)
    assert found.target == "kind"
    assert found.log_likelihood_gain["low"] > 0
    assert found.classes["mean_auc"]["value"] > 0.9
    about = json.loads((run / "run.json").read_text("utf-8"))
    assert about["target"] == {"name": "kind", "kind": "classes", "classes": ["bright", "dark"]}
    assert sum(about["n_galaxies_by_class"].values()) == about["n_train"]
    assert about["data"]["n_galaxies_by_question"] == {}
    assert open_run(run)[0].design.target == Target("kind", "classes", ("bright", "dark"))


def test_a_value_has_a_mean_and_a_spread(dataset: Path, tmp_path: Path) -> None:
    made = train(dataset, target="flux", out=tmp_path / "run", epochs=1, **TINY)  # type: ignore[arg-type]
    table = pl.read_parquet(predict(tmp_path / "run", dataset, views=2, out=tmp_path / "flux.parquet").path)
    assert table.columns == ["dataset_name", "id_str", "flux_mean", "flux_std", "in_training_set"]
    assert (table["flux_std"] > 0).all()
    found = score(tmp_path / "flux.parquet", dataset)
    assert found.value["rmse"]["value"] < 0.5
    assert made.n_galaxies_by_class == {}


def test_labels_of_a_table_beside_the_dataset(dataset: Path, run: Path, predictions: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    rows = [{"id_str": f"g{i}", "mine": "x" if BRIGHT[i] > 0.5 else "y"} for i in range(0, N, 2)]
    pl.DataFrame([*rows, {"id_str": "g9999", "mine": "x"}]).write_csv(table)
    opened = open_dataset(dataset)
    with pytest.warns(GZooWarning, match="1 of 61 galaxies of .* are not in"):
        labels = read_labels(opened, "mine", table)
    assert labels.target == Target("mine", "classes", ("x", "y"))
    for split, values in labels.values.items():
        for id_str, value in zip(opened.positions(split)["id_str"], values, strict=True):
            i = int(id_str[1:])
            assert np.isnan(value) if i % 2 else value == (0 if BRIGHT[i] > 0.5 else 1)
    with pytest.warns(GZooWarning, match="not in"):
        made = train(dataset, target="mine", labels=table, out=tmp_path / "run", epochs=1, **TINY)  # type: ignore[arg-type]
    assert made.n_train == sum(made.n_galaxies_by_class.values()) < 60


@pytest.mark.parametrize(
    ("target", "kind", "classes"),
    [
        ("kind", "classes", ("bright", "dark")),
        ("flux", "value", ()),
        ("yes", "classes", ("0", "1")),
        ("n:classes", "classes", ("0", "1", "2")),
        ("n:value", "value", ()),
        ("half:classes", "classes", ("0", "0.5")),
    ],
)
def test_kind_of_a_target(dataset: Path, target: str, kind: str, classes: tuple[str, ...]) -> None:
    assert read_labels(open_dataset(dataset), target).target == Target(target.partition(":")[0], kind, classes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("n", r"3 different numbers of column 'n' .* may be classes or values"),
        ("half", r"2 different numbers of column 'half' .* may be classes or values"),
        ("kind:value", "are classes, such as 'bright'"),
        ("remark", r"120 different texts .* are not classes"),
        ("rare", "contains 1 classes"),
        ("knd", r"Column 'knd' not found[\s\S]*Did you mean 'kind'"),
    ],
)
def test_what_is_not_clear_is_refused(dataset: Path, tmp_path: Path, target: str, message: str) -> None:
    with pytest.raises((InputError, NotFoundError), match=message):
        train(dataset, target=target, out=tmp_path / "run", **TINY)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ({"id_str": ["g1"], "other": ["x"]}, NotFoundError, "Column 'mine' not found"),
        ({"id_str": ["a", "b"], "mine": ["x", "y"]}, TableError, "None of the 2 galaxies"),
        ({"id_str": ["g1", "g1"], "mine": ["x", "y"]}, TableError, "Galaxy 'g1' has different labels"),
        ({"id_str": ["g1", "g2"], "mine": ["", "nan"]}, InputError, "No galaxy has a label"),
        ({"id_str": ["g1", "g2"], "mine": [np.nan, np.nan]}, InputError, "No galaxy has a label"),
        ({"id_str": ["g1", "g2", "g3"], "mine": ["1.5", "2.5", "inf"]}, InputError, "Row 3 of .* is infinite"),
    ],
)
def test_labels_that_cannot_be_used(
    dataset: Path, tmp_path: Path, rows: dict[str, list[object]], error: type[Exception], message: str
) -> None:
    table = tmp_path / "labels.csv"
    pl.DataFrame(rows).write_csv(table)
    with pytest.raises(error, match=message):
        train(dataset, target="mine", labels=table, out=tmp_path / "run", **TINY)  # type: ignore[arg-type]


def test_a_class_missing_from_train_is_named(dataset: Path, tmp_path: Path) -> None:
    opened = open_dataset(dataset)
    test_ids = opened.positions("test")["id_str"].to_list()
    table = tmp_path / "labels.csv"
    label = ["rare" if f"g{i}" in test_ids[:2] else "ab"[i % 2] for i in range(N)]
    pl.DataFrame({"id_str": [f"g{i}" for i in range(N)], "mine": label}).write_csv(table)
    with pytest.raises(InputError, match=r"Class 'rare' of .* is missing among the training galaxies; 2 galaxies"):
        train(dataset, target="mine", labels=table, out=tmp_path / "run", **TINY)  # type: ignore[arg-type]


def test_votes_are_not_looked_for_in_a_dataset_of_labels(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="contains labels instead of votes: kind, flux"):
        train(dataset, out=tmp_path / "run", **TINY)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="requires --target"):
        train(dataset, labels=tmp_path / "labels.csv", out=tmp_path / "run", **TINY)  # type: ignore[arg-type]


def test_a_column_of_a_campaign_is_a_target_and_its_run_predicts_any_dataset(
    sky: object, dataset: Path, run: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    votes = request.getfixturevalue("dataset_of_votes")
    with pytest.warns(GZooWarning, match="are farther from those"):
        found = predict(run, votes, out=tmp_path / "there.parquet")
    assert "kind_dark_probability" in pl.read_parquet(found.path).columns
    with pytest.raises(DatasetError, match="contains labels"):
        predict(request.getfixturevalue("run_of_votes"), dataset, out=tmp_path / "wrong.parquet")


@pytest.fixture(scope="module")
def dataset_of_votes(tmp_path_factory: pytest.TempPathFactory, sky: object) -> Path:
    out = tmp_path_factory.mktemp("votes") / "dataset"
    build("gz2", votes=sky.votes, images=sky.images, out=out)  # type: ignore[attr-defined]
    return out


@pytest.fixture(scope="module")
def run_of_votes(dataset_of_votes: Path) -> Path:
    out = dataset_of_votes.with_name("run")
    train(dataset_of_votes, out=out, epochs=1, **TINY)  # type: ignore[arg-type]
    return out


def test_predictions_of_a_target_are_compared(run: Path, predictions: Path, dataset: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.parquet"
    names = ["kind_bright_probability", "kind_dark_probability"]
    table = pl.read_parquet(predictions)
    chance = np.random.default_rng(1).uniform(0.4, 0.6, table.height)
    columns = {names[0]: pl.Series(chance), names[1]: pl.Series(1 - chance)}
    write_prediction_table(other, table.with_columns(**columns).tail(-1), read_metadata(predictions))
    found = compare([predictions, other], dataset)
    pair = found.pairs[0]
    assert (found.n_galaxies, found.models["kind"]["n_unshared"]) == (table.height - 1, 1)
    assert list(pair["differences"]) == ["log_likelihood", "accuracy", "mean_auc", "brier"]
    assert pair["differences"]["log_likelihood"]["better_model"] == "kind"
    assert pair["differences"]["brier"]["value"] < 0 < pair["differences"]["log_likelihood"]["low"]
    scores = {name: one["scores"].values() for name, one in found.models.items()}
    for name, one in pair["differences"].items():
        assert one["value"] == pytest.approx(scores["kind"][name]["value"] - scores["other"][name]["value"])
    assert pair["description"].startswith("kind is better by ")
    assert found.to_polars().height == 4


def test_reports_of_targets(run: Path, predictions: Path, dataset: Path, tmp_path: Path) -> None:
    other = _copy(predictions, tmp_path / "<b>.parquet")
    found = score(predictions, dataset, report=tmp_path / "score.html")
    compare([predictions, other], dataset, report=tmp_path / "compare.html")
    page, compared = ((tmp_path / name).read_text("utf-8") for name in ("score.html", "compare.html"))
    assert f"{found.log_likelihood_gain['value']:.4f}" in page
    assert "The model is better than the baseline" in page
    assert "Confusion" in page
    assert "kind versus &lt;b&gt;: The predictions are equally good" in compared
    assert "<b>" not in compared
    with pytest.raises(OutputExistsError):
        score(predictions, dataset, report=tmp_path / "score.html")


def test_a_comparison_of_targets_refuses_what_is_not_comparable(
    predictions: Path, dataset: Path, tmp_path: Path
) -> None:
    named, certain = tmp_path / "flux.parquet", tmp_path / "certain.parquet"
    table = pl.read_parquet(predictions)
    about = {"target": {"name": "flux", "kind": "value", "classes": []}}
    mean = table.select("dataset_name", "id_str", "in_training_set", flux_mean=pl.lit(0.5), flux_std=pl.lit(1.0))
    write_prediction_table(named, mean, about)
    with pytest.raises(InputError, match="different targets: kind, flux"):
        compare([predictions, named], dataset)
    values = compare([named, _copy(named, tmp_path / "same.parquet")], dataset).pairs[0]
    assert list(values["differences"]) == ["log_likelihood", "mse"]
    assert values["description"] == "The predictions are equally good for every galaxy."
    columns = {"kind_bright_probability": pl.lit(1.0), "kind_dark_probability": pl.lit(0.0)}
    write_prediction_table(certain, table.with_columns(**columns), read_metadata(predictions))
    pair = compare([predictions, certain], dataset).pairs[0]
    assert pair["differences"]["log_likelihood"]["value"] is None
    assert pair["description"].startswith("kind is better: certain assigned probability 0 to the class of ")


def _copy(path: Path, other: Path) -> Path:
    other.write_bytes(path.read_bytes())
    return other


@given(low=st.floats(-1e3, 1e3), width=st.floats(1e-3, 1e3), factor=st.floats(-1e3, 1e3), place=st.floats(0.01, 0.99))
def test_a_predicted_mean_stays_near_the_range_of_the_training_labels(
    low: float, width: float, factor: float, place: float
) -> None:
    high = low + width
    center, spread = low + place * width, width / 3
    head = ValueHead(1, np.array([center, spread]), (low, high))
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0], [0.0]]))
    wanted = center + spread * factor  # what features far from those of all training galaxies may give
    mean, std = head(torch.tensor([[factor]]))[0].tolist()
    slack = 1e-4 * (abs(low) + width)
    assert low - 0.1 * width - slack <= mean <= high + 0.1 * width + slack
    assert std == pytest.approx(spread, rel=1e-4)
    if low <= wanted <= high:
        assert mean == pytest.approx(wanted, abs=slack)
    else:
        assert (mean <= low + slack) if wanted < low else (mean >= high - slack)


def test_labels_that_float32_cannot_tell_apart_are_predicted() -> None:
    low = 59_000.001  # a date, where float32 has steps of 0.004
    head = ValueHead(1, np.array([low + 5e-4, 3e-4]), (low, low + 1e-3))
    assert torch.isfinite(head(torch.tensor([[-1e6], [0.0], [1e6]]))).all()


def test_a_trained_encoder_is_adapted_to_a_target(
    run: Path, dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = open_run(run)[0].encoder.state_dict()
    with caplog.at_level("INFO", "gzoo"):
        train(dataset, target="flux", from_=run, learn="head", out=tmp_path / "head")
    assert "head     1,026      solved for" in caplog.text
    model = open_run(tmp_path / "head")[0]
    after = model.encoder.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    galaxies = pl.read_parquet(tmp_path / "head" / "training_galaxies.parquet").filter(role="train")["id_str"]
    fluxes = BRIGHT[galaxies.str.extract(r"(\d+)").cast(pl.Int64).to_numpy()]
    limits = [(one - fluxes.mean()) / fluxes.std() for one in (fluxes.min(), fluxes.max())]
    assert model.state_dict()["head.scale"][2:].tolist() == pytest.approx(limits, rel=1e-5)
    predict(tmp_path / "head", dataset, out=tmp_path / "flux.parquet")
    assert score(tmp_path / "flux.parquet", dataset).value["r2"]["value"] > 0.5
    caplog.clear()
    said: list[bool] = []

    def progress(stage: str, done: int, total: int) -> None:
        said.append("1,026      1.0e-03" in caplog.text)

    with caplog.at_level("INFO", "gzoo"):
        train(
            dataset, target="kind", from_=run, learn=1, out=tmp_path / "one", epochs=1, batch_size=16, progress=progress
        )
    assert said
    assert all(said)  # the rates are known before the training, not after it
    score(predict(tmp_path / "one", dataset, out=tmp_path / "one.parquet").path, dataset)


def test_accumulated_batches_are_a_larger_batch(dataset: Path, tmp_path: Path) -> None:
    settings = {"target": "kind", "encoder": "convnext_atto", "size": 32, "epochs": 1, "probe": False}
    train(dataset, out=tmp_path / "one", batch_size=26, **settings)  # type: ignore[arg-type]
    train(dataset, out=tmp_path / "two", batch_size=13, accumulate=2, **settings)  # type: ignore[arg-type]
    one, two = (pl.read_csv(tmp_path / name / "metrics.csv").row(0, named=True) for name in ("one", "two"))
    for name in ("train_loss", "validation_loss", "learning_rate"):
        assert one[name] == pytest.approx(two[name], abs=1e-4)


def test_epochs_are_logged_to_tensorboard(dataset: Path, tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train(dataset, target="kind", out=tmp_path / "run", epochs=2, probe=False, logger="tensorboard", **TINY)  # type: ignore[arg-type]
    events = reader.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    metrics = pl.read_csv(tmp_path / "run" / "metrics.csv")
    assert [each.step for each in events.Scalars("validation_loss")] == [1, 2]
    for name in ("validation_loss", "gain", "learning_rate"):
        assert [each.value for each in events.Scalars(name)] == pytest.approx(metrics[name].to_list())
    with pytest.raises(InputError, match="Invalid value for logger: 'mlflow'"):
        train(dataset, target="kind", out=tmp_path / "other", logger="mlflow", **TINY)  # type: ignore[arg-type]


def test_images_unlike_those_of_the_training_are_warned_of(run: Path, tmp_path: Path) -> None:
    (tmp_path / "noise").mkdir()
    for i in range(12):
        pixels = np.random.default_rng(i).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "noise" / f"{i}.png")
    with pytest.warns(GZooWarning, match=r"100\.0% of the images \(12 of 12\) are farther from those that the model"):
        found = predict(run, tmp_path / "noise", out=tmp_path / "noise.parquet")
    assert found.n_unfamiliar == (12,)
    assert read_metadata(found.path)["n_unfamiliar"] == [12]


def test_only_the_central_part_is_seen_when_images_are_cropped(dataset: Path, tmp_path: Path) -> None:
    train(dataset, out=tmp_path / "run", target="kind", epochs=1, probe=False, **{**TINY, "crop": 0.6})  # type: ignore[arg-type]
    model, about = open_run(tmp_path / "run")
    assert (model.design.crop, model.design.size, model.design.image_size) == (0.6, 32, 54)
    assert about["settings"]["crop"] == 0.6  # type: ignore[index]
    image = torch.rand(2, 3, 54, 54)
    other = image.clone()
    other[:, :, :11], other[..., -11:] = 0.0, 1.0
    assert torch.equal(model(image), model(other))
    assert not torch.equal(model(image), model(image.roll(4, 3)))
    with torch.inference_mode():
        batch = next(iter(loader(dataset, 64, 54, split="test")))
        expected, features = model(batch["image"]).softmax(dim=1), model.features(batch["image"])
    table = pl.read_parquet(predict(tmp_path / "run", dataset, views=1, out=tmp_path / "p.parquet").path)
    assert table["kind_bright_probability"].to_numpy() == pytest.approx(expected[:, 0].numpy(), abs=1e-4)
    embed(tmp_path / "run", dataset, split="test", views=1, out=tmp_path / "e.parquet")
    vectors = pl.read_parquet(tmp_path / "e.parquet")["vector"].to_numpy()
    assert vectors == pytest.approx(features.numpy(), abs=2e-3)
    export(tmp_path / "run", out=tmp_path / "encoder")
    assert [open_encoder(tmp_path / name).crop for name in ("run", "encoder")] == [0.6, 0.6]


@pytest.mark.parametrize("crop", [0.0, 1.5, float("nan")])
def test_a_crop_is_a_part_of_the_image(dataset: Path, tmp_path: Path, crop: float) -> None:
    with pytest.raises(InputError, match=r"crop must be from 0\.1 to 1"):
        train(dataset, target="kind", out=tmp_path / "run", **{**TINY, "crop": crop})  # type: ignore[arg-type]
