"""Where encoders come from: folders in timm's layout, runs, the Hub; what is refused."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import gzoo
from gzoo import files
from gzoo.errors import DatasetError, GZooError, GZooWarning, HubError, InputError, NotFoundError
from gzoo.learn.model import open_run
from gzoo.learn.starting import open_encoder, open_pretrained
from gzoo.learn.training import TrainResult, train
from loopback_hub import Client, LoopbackHub

TINY = "test_convnext"
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]


class Planted:
    """A pickle that leaves a file behind where it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.mark,)


def timm_folder(folder: Path, channels: int = 3, encoder: str = TINY, **changed: object) -> nn.Module:
    """An encoder as Zoobot's are published: also where it is grey-scale, the configuration says 3 channels."""
    folder.mkdir()
    torch.manual_seed(channels)
    module = timm.create_model(encoder, num_classes=0, in_chans=channels).eval()
    save_file(module.state_dict(), folder / "model.safetensors")
    about = {"input_size": [3, 32, 32], "mean": MEAN, "std": STD, "num_classes": 0, "classifier": "head.fc"}
    config = {"architecture": encoder, "num_classes": 0, "num_features": 64, "pretrained_cfg": about}
    (folder / "config.json").write_text(json.dumps({**config, **changed}))
    return module


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def trained(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    out = tmp_path_factory.mktemp("pretrained") / "run"
    return train(dataset, out=out, encoder=TINY, size=32, crop=1, epochs=1, seed=1, probe=False)


# ----------------------------------------------------------------------------------------------------
# Origins


def test_a_colour_encoder_of_timm_gives_its_own_features(tmp_path: Path, images: torch.Tensor) -> None:
    module = timm_folder(tmp_path / "colour", license="mit")
    found = open_encoder(tmp_path / "colour")
    assert (found.channels, found.size, found.mean) == (3, 32, tuple(MEAN))
    assert found.origin == {
        "kind": "folder",
        "name": "colour",
        "licence": "mit",
        "weights_sha256": files.sha256(tmp_path / "colour" / "model.safetensors"),
    }
    with torch.no_grad():
        wanted = module((images / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1))
        assert torch.equal(found.feature_extractor()(images), wanted)


def test_a_grey_encoder_under_a_configuration_of_three_channels(tmp_path: Path, images: torch.Tensor) -> None:
    module = timm_folder(tmp_path / "grey", channels=1)
    found = open_encoder(tmp_path / "grey")
    assert (found.channels, found.mean) == (1, (pytest.approx(0.5),))
    with torch.no_grad():
        wanted = module(((images / 255).mean(1, keepdim=True) - 0.5) / 0.25)
        assert torch.allclose(found.feature_extractor()(images), wanted, atol=1e-6)


def test_a_configuration_without_a_part_of_its_own_and_a_classifier(tmp_path: Path) -> None:
    timm_folder(tmp_path / "old")
    weights = load_file(tmp_path / "old" / "model.safetensors")
    save_file({**weights, "head.fc.weight": torch.zeros(3, 64)}, tmp_path / "old" / "model.safetensors")
    about = {"architecture": TINY, "input_size": [3, 32, 32], "mean": MEAN, "std": STD, "classifier": "head.fc"}
    (tmp_path / "old" / "config.json").write_text(json.dumps(about))
    (tmp_path / "old" / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n")
    found = open_encoder(tmp_path / "old")
    assert found.size == 32
    assert found.origin["licence"] == "cc-by-4.0"


def test_tensors_that_do_not_belong_to_the_encoder_are_named(tmp_path: Path) -> None:
    timm_folder(tmp_path / "more")
    weights = load_file(tmp_path / "more" / "model.safetensors")
    save_file({**weights, "decoder.weight": torch.zeros(3, 64)}, tmp_path / "more" / "model.safetensors")
    with pytest.warns(GZooWarning, match=r"1 tensors .* the first is 'decoder.weight'"):
        open_encoder(tmp_path / "more")


def test_the_encoder_of_a_run(trained: TrainResult, images: torch.Tensor) -> None:
    found, model = open_encoder(trained.run), open_run(trained.run)[0]
    with torch.no_grad():
        assert torch.equal(found.feature_extractor()(images), model.features(images))
    assert found.origin["kind"] == "run"
    assert found.origin["campaign"] == "gz2"
    assert found.origin["licence"] == "cc0-1.0"
    assert found.origin["run_sha256"] == files.sha256(trained.run / "run.json")


def test_an_exported_run_is_the_same_encoder_to_timm_and_to_us(
    trained: TrainResult, tmp_path: Path, images: torch.Tensor
) -> None:
    made = gzoo.export(trained.run, out=tmp_path / "encoder", onnx=False)
    model = open_run(trained.run)[0]
    module = timm.create_model(f"local-dir:{made.path}", pretrained=True).eval()
    design = model.design
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (design.mean, design.std))
    with torch.no_grad():
        wanted = model.features(images)
        assert torch.equal(module((images / 255 - mean) / std), wanted)
        assert torch.equal(open_encoder(made.path).feature_extractor()(images), wanted)
    with pytest.raises(GZooError, match="already contains a finished encoder"):
        gzoo.export(trained.run, out=made.path, onnx=False)


def test_models_on_the_hub_are_read_without_their_pickles(
    hub: LoopbackHub, client: Client, trained: TrainResult, tmp_path: Path
) -> None:
    timm_folder(tmp_path / "grey", channels=1)
    (tmp_path / "grey" / "README.md").write_text("---\nlicense: cc-by-nc-sa-4.0\n---\n# Encoder\n")
    (tmp_path / "grey" / "pytorch_model.bin").write_bytes(pickle.dumps(Planted(tmp_path / "mark")))
    repo = hub.add_repo("alice/grey", tmp_path / "grey", kind="model")
    hub.add_repo("alice/run", trained.run, kind="model")
    found = open_encoder("hf_hub:alice/grey")
    assert found.channels == 1
    assert found.origin["kind"] == "hub"
    assert found.origin["repository"] == "alice/grey"
    assert found.origin["commit"] == repo.head
    assert found.origin["licence"] == "cc-by-nc-sa-4.0"
    assert not hub.asked("pytorch_model")
    assert open_encoder("hf_hub:alice/run").origin["campaign"] == "gz2"
    hub.faults.clear()
    client.set_offline()
    with pytest.warns(GZooWarning, match="read from the cache"):
        again = open_encoder("hf_hub:alice/grey")
    assert again.origin == found.origin


def test_weights_of_timm_itself(hub: LoopbackHub, client: Client, tmp_path: Path) -> None:
    name = str(timm.get_pretrained_cfg(TINY).hf_hub_id)
    timm_folder(tmp_path / "own")
    repo = hub.add_repo(name, tmp_path / "own", kind="model")
    found = open_pretrained(TINY)
    assert (found.encoder, found.origin["name"], found.origin["commit"]) == (TINY, TINY, repo.head)


# ----------------------------------------------------------------------------------------------------
# What is refused


def other_format(folder: Path, run: Path) -> None:
    shutil.copytree(run, folder)
    files.write_json(folder / "run.json", {**files.read_json(folder / "run.json"), "format": "gzoo-run-1"})


def planted_weights(folder: Path, run: Path) -> None:
    timm_folder(folder)
    (folder / "model.safetensors").write_bytes(pickle.dumps(Planted(folder / "mark")))


def only_a_pickle(folder: Path, run: Path) -> None:
    timm_folder(folder)
    (folder / "model.safetensors").unlink()
    torch.save({"state": Planted(folder / "mark")}, folder / "pytorch_model.bin")


def without_a_tensor(folder: Path, run: Path) -> None:
    timm_folder(folder)
    weights = load_file(folder / "model.safetensors")
    save_file({name: value for name, value in weights.items() if "stem" not in name}, folder / "model.safetensors")


def not_a_number(folder: Path, run: Path) -> None:
    timm_folder(folder)
    weights = load_file(folder / "model.safetensors")
    weights["stem.0.bias"][0] = float("nan")
    save_file(weights, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda folder, run: timm_folder(folder, channels=5), InputError, "takes images of 5 channels"),
        (
            lambda folder, run: timm_folder(folder, architecture="test_convnxt"),
            InputError,
            "'test_convnxt' not found in timm.\n  Expected one of: test_convnext, ",
        ),
        (lambda folder, run: timm_folder(folder, architecture="resnet10t"), DatasetError, "lacks 'conv1.0.weight'"),
        (lambda folder, run: timm_folder(folder, architecture="test_convnext2"), DatasetError, "'test_convnext2'"),
        (
            lambda folder, run: timm_folder(folder, model_args={"checkpoint_path": "planted.pth"}),
            InputError,
            "cannot be built with the argument 'checkpoint_path'",
        ),
        (lambda folder, run: timm_folder(folder, pretrained_cfg={"std": [1, 0, 1]}), DatasetError, r"std is \[1, 0, 1"),
        (lambda folder, run: timm_folder(folder, pretrained_cfg=7), DatasetError, "pretrained_cfg is not an object"),
        (other_format, DatasetError, "has format 'gzoo-run-1'"),
        (planted_weights, DatasetError, "it is a pickle, which is never loaded"),
        (only_a_pickle, DatasetError, "Pickles such as 'pytorch_model.bin' are never loaded"),
        (without_a_tensor, DatasetError, r"lacks 'stem.0.weight' of the encoder 'test_convnext' \(4 of"),
        (not_a_number, DatasetError, "'stem.0.bias' in .* contains NaN"),
        (lambda folder, run: folder.mkdir(), DatasetError, "neither run.json nor config.json"),
        (lambda folder, run: None, NotFoundError, "Encoder not found"),
        (lambda folder, run: folder.write_bytes(b""), InputError, "is a file"),
    ],
)
def test_what_cannot_be_an_encoder_is_refused(
    trained: TrainResult,
    tmp_path: Path,
    make: Callable[[Path, Path], None],
    error: type[GZooError],
    words: str,
) -> None:
    make(tmp_path / "encoder", trained.run)
    with pytest.raises(error, match=words):
        open_encoder(tmp_path / "encoder")
    assert not list(tmp_path.rglob("mark"))  # nothing was unpickled


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("resnet18", "--encoder resnet18 --pretrained"),
        ("alice/galaxies", "Did you mean 'hf_hub:alice/galaxies'"),
        ("hf_hub:alice", "'hf_hub:alice' is not a model on the Hub"),
    ],
)
def test_a_name_that_is_no_place(source: str, words: str) -> None:
    with pytest.raises(GZooError, match=words):
        open_encoder(source)


def test_a_repository_without_safetensors(hub: LoopbackHub, client: Client) -> None:
    hub.add_repo("alice/old", {"config.json": "{}", "pytorch_model.bin": b"x"}, kind="model")
    with pytest.raises(HubError, match=r"no model.safetensors .* Pickles such as 'pytorch_model.bin' are never"):
        open_encoder("hf_hub:alice/old")
    with pytest.raises(HubError, match="Model 'alice/none' not found"):
        open_encoder("hf_hub:alice/none")
