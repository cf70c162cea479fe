"""Exported ONNX files, computed by ONNX Runtime, beside the runs they were made of."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import polars as pl
import pytest
import timm
import torch

import gzoo
from gzoo.dataset.targets import Target
from gzoo.errors import InputError, MissingExtraError
from gzoo.learn.encoders import Design
from gzoo.learn.model import Model, open_run
from gzoo.learn.onnx_model import write_onnx
from gzoo.learn.prediction import Member, predict
from gzoo.learn.starting import open_encoder
from gzoo.scoring.recalibration import QuestionRecalibration, Recalibration
from gzoo.trees.campaign import campaign
from gzoo.trees.tree import Question

ABOUT = {"licence": "cc0-1.0", "run_sha256": "0"}
SIZE = {"test_vit": 160}
Arrays = dict[str, npt.NDArray[np.float32]]


def member(
    encoder: str,
    *,
    name: str = "gz2",
    target: Target | None = None,
    channels: int = 3,
    crop: float = 1.0,
    is_recalibrated: bool = True,
) -> Member:
    """A run with random weights, whose predictions differ much between images."""
    tree = campaign(name).published_tree
    torch.manual_seed(3)
    rng = np.random.default_rng(3)
    columns = target.columns if target else tree.concentrations
    mean, std = (0.2, 0.3, 0.1)[:channels], (0.1, 0.2, 0.3)[:channels]
    model = Model(Design(encoder, SIZE.get(encoder, 32), columns, mean, std, target=target, crop=crop)).eval()
    torch.nn.init.normal_(model.head.weight, std=0.5)

    def moved(question: Question) -> QuestionRecalibration:
        n = len(question.answers)
        factor, temperature = (tuple(rng.uniform(0.5, 2, n if question.multiple else 1)) for _ in range(2))
        return QuestionRecalibration(factor, temperature, tuple(rng.normal(size=n)), 100, None)

    found = Recalibration("concentrations", {one.name: moved(one) for one in tree.questions})
    of_target = {"temperature": 1.4, "std_factor": 1.7} if target and is_recalibrated else {}
    return Member(Path(), model, {}, {}, campaign(name), (), found if is_recalibrated else None, of_target)


def computed(path: Path, images: npt.NDArray[np.uint8]) -> Arrays:
    session = onnxruntime.InferenceSession(path)
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(None, {"images": images}), strict=True))


def galaxies(n: int, size: int) -> npt.NDArray[np.uint8]:
    rng = np.random.default_rng(n)
    return (rng.gamma(0.5, 60, (n, size, size, 3)) * rng.uniform(0.1, 2, (n, 1, 1, 3))).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("encoder", ["test_resnet", "test_convnext", "test_vit"])
def test_any_number_of_images_gives_the_concentrations_of_the_run(encoder: str, tmp_path: Path) -> None:
    run = member(encoder, is_recalibrated=False)
    made = write_onnx(tmp_path, run, ABOUT, None)
    assert made.n_images == 64
    assert max(made.largest_difference.values()) < 1e-4
    for n in (1, 4, 7):
        images = galaxies(n, run.model.design.size)
        found = computed(made.path, images)
        with torch.inference_mode():
            wanted = run.model(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
            features = run.model.features(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
        assert found["features"] == pytest.approx(features, abs=1e-4 * float(np.abs(features).max()))
        assert np.log(found["concentrations"]) == pytest.approx(np.log(wanted), abs=1e-4)
        assert n == 1 or np.ptp(np.log(wanted), axis=0).max() > 0.05  # else equal outputs would prove nothing


def test_several_answers_are_recalibrated_alike_and_images_cropped_and_made_grey_alike(tmp_path: Path) -> None:
    run = member("test_resnet", name="gz_ferengi", channels=1, crop=0.75)
    tree = run.campaign.published_tree
    assert any(one.multiple for one in tree.questions)
    made = write_onnx(tmp_path, run, ABOUT, None)
    assert made.columns["fractions"] == tuple(f"{name}_fraction" for name in tree.columns)
    assert max(made.largest_difference.values()) < 1e-4


@pytest.mark.parametrize("target", [Target("kind", "classes", ("a", "b", "c")), Target("flux", "value")])
def test_a_target_is_one_output(target: Target, tmp_path: Path) -> None:
    made = write_onnx(tmp_path, member("test_resnet", target=target), ABOUT, None)
    assert made.columns == {"prediction": target.columns}
    found = computed(made.path, galaxies(5, 32))["prediction"]
    assert found.shape == (5, len(target.columns))
    if target.kind == "classes":
        assert found.sum(axis=1) == pytest.approx(1)


def test_questions_that_the_run_did_not_learn_are_no_output(tmp_path: Path) -> None:
    run = member("test_resnet")
    left = run.campaign.published_tree.questions[2]
    some = replace(run, not_predicted=tuple(q.name for q in run.campaign.published_tree.questions if q != left))
    made = write_onnx(tmp_path, some, ABOUT, None)
    assert made.columns["fractions"] == tuple(f"{name}_fraction" for name in left.columns)
    none = replace(run, not_predicted=tuple(q.name for q in run.campaign.published_tree.questions))
    assert list(computed(write_onnx(tmp_path, none, ABOUT, None).path, galaxies(2, 32))) == ["features"]


def test_a_file_that_gives_other_numbers_than_the_run_is_refused(tmp_path: Path) -> None:
    run = member("test_resnet")

    class Unsteady(Model):  # whose conversion is that of another moment, as with code that the tracer does not see
        n = 0

        def features(self, image: torch.Tensor) -> torch.Tensor:
            self.n += 1
            return super().features(image) + float(self.n > 1)

    run.model.__class__ = Unsteady
    with pytest.raises(InputError, match=r"gives other .* than the run: they differ by") as found:
        write_onnx(tmp_path, run, ABOUT, None)
    assert "--no-onnx" in found.value.hint
    assert not list(tmp_path.iterdir())


def test_an_encoder_that_torch_cannot_convert_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = member("test_resnet")

    class Strange(Model):
        def features(self, image: torch.Tensor) -> torch.Tensor:
            features = super().features(image)
            return torch.special.bessel_j0(features)  # ONNX has no such function

    run.model.__class__ = Strange
    with pytest.raises(InputError, match=r"The encoder 'test_resnet' cannot be converted to ONNX: .*bessel"):
        write_onnx(tmp_path, run, ABOUT, None)
    assert capfd.readouterr() == ("", "")


def test_export_writes_what_predict_writes_and_timm_opens(run: Path, dataset: Path, tmp_path: Path) -> None:
    made = gzoo.export(run, out=tmp_path / "out")
    assert sorted(one.name for one in made.path.iterdir()) == [
        "README.md", "config.json", "model.onnx", "model.safetensors"
    ]  # fmt: skip
    assert made.onnx is not None
    assert made.onnx.path == made.path / "model.onnx"
    about = json.loads({one.key: one.value for one in onnx.load(made.onnx.path).metadata_props}["gzoo"])
    assert about["columns"] == {name: list(columns) for name, columns in made.onnx.columns.items()}
    assert (about["encoder"], about["size"], about["licence"]) == ("mobilenetv3_small_050", 32, "cc0-1.0")
    pixels = next(iter(gzoo.loader(dataset, batch_size=16, size=32, split="test")))["image"]
    found = computed(made.onnx.path, pixels.permute(0, 2, 3, 1).numpy())
    module = timm.create_model(f"local-dir:{made.path}", pretrained=True).eval()
    with torch.inference_mode():
        features = open_encoder(made.path).feature_extractor()(pixels)
        model = open_run(run)[0]
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (model.design.mean, model.design.std))
        assert torch.equal(module((pixels / 255 - mean) / std), features)
    assert found["features"] == pytest.approx(features.numpy(), abs=1e-4 * float(features.abs().max()))
    card = (made.path / "README.md").read_text("utf-8")
    assert "{" not in card.split("```bibtex")[0].replace('{"images": np.asarray(image)[None]}', "")
    assert all(f"`{name}`" in card for columns in made.onnx.columns.values() for name in columns)
    assert "must not be cited as an observation" in card
    if made.onnx.columns:  # of the same galaxies, from the same runs
        written = pl.read_parquet(predict(run, dataset, views=1, out=tmp_path / "p.parquet").path)
        wanted = written.select(made.onnx.columns["concentrations"]).to_numpy()
        assert np.log(found["concentrations"]) == pytest.approx(np.log(wanted), abs=1e-4)


def test_without_the_extra_the_hint_is_the_command_to_install_it(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'gzoo\[onnx\]'"):
        gzoo.export(run, out=tmp_path / "out")
    assert gzoo.export(run, out=tmp_path / "out", onnx=False).onnx is None
    assert "ONNX" not in (tmp_path / "out" / "README.md").read_text("utf-8")
