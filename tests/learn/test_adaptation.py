"""What learns and at which rate; what does not learn stays as it is, to the last bit."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

import gzoo
from gzoo import files
from gzoo.dataset.open import open_dataset
from gzoo.errors import GZooWarning, InputError
from gzoo.learn import floors
from gzoo.learn.adaptation import Part, freeze, parameter_groups, parts_of, read_learn
from gzoo.learn.encoders import Design, encoder_blocks
from gzoo.learn.heads import VoteLoss
from gzoo.learn.loader import loader
from gzoo.learn.model import Model, open_run
from gzoo.learn.prediction import predict
from gzoo.learn.probe import Features, cross_predicted, fit_probe, solve
from gzoo.learn.training import TrainResult, train
from gzoo.scoring.intervals import as_value
from gzoo.scoring.scores import score

# small ones of the families that people use
ENCODERS = {
    "test_resnet": 32,
    "test_convnext": 32,
    "mobilenetv4_conv_small_035": 32,
    "test_vit": 160,
    "test_maxvit": 64,
}
SPLITS = ("train", "validation")
MEAN, STD = (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)


def model_of(encoder: str) -> Model:
    torch.manual_seed(0)
    arguments = {"img_size": 64} if encoder == "test_maxvit" else {}
    return Model(Design(encoder, ENCODERS[encoder], ("a", "b"), MEAN, STD, arguments))


def step(model: Model, parts: tuple[Part, ...]) -> dict[str, torch.Tensor]:
    """Train for one step; return by how much each tensor changed."""
    freeze(model, parts)
    optimizer = torch.optim.AdamW(parameter_groups(model, parts), lr=1.0, eps=0.0)
    for group in optimizer.param_groups:
        group["weight_decay"] = 0.0  # so that the step is the learning rate for every weight with a gradient
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    size = model.design.size
    image = torch.rand(4, 3, size, size, generator=torch.Generator().manual_seed(1))
    (model(image).log() * torch.tensor([1.0, 2.0])).square().sum().backward()
    for parameter in model.parameters():
        if parameter.grad is not None:  # the square of a smaller one is 0, and the step undefined
            parameter.grad = torch.where(parameter.grad.abs() < 1e-6, 1e-6, parameter.grad)
    optimizer.step()
    return {name: (value - before[name]).abs() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("encoder", ENCODERS)
def test_exactly_the_named_blocks_change(encoder: str) -> None:
    model = model_of(encoder)
    blocks = encoder_blocks(model.encoder)
    assert len(blocks) > 2
    assert sorted(itertools.chain(*blocks)) == sorted(name for name, _ in model.encoder.named_parameters())
    changes = step(model, parts_of(model, 2, 1e-3, is_trained=True))
    learning = {f"encoder.{name}" for block in blocks[-2:] for name in block} | {"head.weight", "head.bias"}
    for name, change in changes.items():
        if name in dict(model.named_parameters()):
            assert bool(change.any()) == (name in learning), name
        else:  # averages of batch normalisation, whose weights are in the same module
            module = name.rpartition(".")[0]
            assert bool(change.any()) == (f"{module}.weight" in learning), name


@pytest.mark.parametrize("encoder", ENCODERS)
def test_nothing_of_the_encoder_changes_where_only_the_head_learns(encoder: str) -> None:
    changes = step(model := model_of(encoder), parts_of(model, "head", 1e-3, is_trained=True))
    assert {name for name, change in changes.items() if change.any()} == {"head.weight", "head.bias"}


def test_each_part_moves_at_its_own_rate() -> None:
    model = model_of("test_convnext")
    parts = parts_of(model, "all", 1e-3, is_trained=True)
    n = len(parts) - 1
    assert [part.name for part in parts][:3] == ["head", f"block {n} of {n}", f"block {n - 1} of {n}"]
    assert [part.rate for part in parts] == pytest.approx([1e-3] + [1e-4 * 0.75**depth for depth in range(n)])
    changes = step(model, parts)
    for part in parts:  # the first step of Adam is the learning rate, whatever the gradient
        for name in part.parameters:
            assert float(changes[name].max()) == pytest.approx(part.rate, rel=0.02, abs=2e-7), name


def test_an_encoder_that_was_not_trained_learns_at_one_rate() -> None:
    model = model_of("test_convnext")
    parts = parts_of(model, "all", 1e-3, is_trained=False)
    assert {part.rate for part in parts} == {1e-3}
    groups = parameter_groups(model, parts)
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


def test_norms_biases_and_positions_do_not_decay() -> None:
    model = model_of("test_vit")
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for group in parameter_groups(model, parts_of(model, "all", 1e-3, is_trained=True)):
        for parameter in group["params"]:
            is_exempt = parameter.ndim < 2 or names[id(parameter)] in {"encoder.pos_embed", "encoder.cls_token"}
            assert (group["weight_decay"] == 0) == is_exempt


@pytest.mark.parametrize("learn", ["most", "0", -1, "1.5"])
def test_learn_is_all_head_or_a_number(learn: str | int) -> None:
    with pytest.raises(InputError, match=f"learn: '{learn}'"):
        read_learn(learn)
    assert read_learn("3") == 3


def test_more_blocks_than_there_are() -> None:
    with pytest.raises(InputError, match="has 10 blocks; 12 of them"):
        parts_of(model_of("test_convnext"), 12, 1e-3, is_trained=True)


# ----------------------------------------------------------------------------------------------------
# The probe


class SquaredLoss:
    def __call__(self, prediction: torch.Tensor, batch: object) -> torch.Tensor:
        return (prediction - batch["y"]).square().sum(dim=1)  # type: ignore[index]


def test_the_probe_is_ridge_regression_with_the_best_penalty() -> None:
    torch.manual_seed(0)
    x, weights = 5 + 3 * torch.randn(300, 6), torch.randn(6, 2)
    x[:, 5] = 7.0  # a feature that does not vary
    y = x @ weights + 2 * torch.randn(300, 2)
    train_set, held_out = (Features(x[part], {"y": y[part]}, ("g",) * 200) for part in (slice(200), slice(200, 300)))
    head = torch.nn.Linear(6, 2)
    found, attempts = solve(head, SquaredLoss(), train_set, held_out)
    mean, std = x[:200].mean(0), x[:200].std(0, correction=0)
    z, centre = ((x[:200] - mean) / std)[:, :5].double(), y[:200].double().mean(0)
    wanted = {}
    for attempt in attempts:
        gram = z.T @ z / 200 + attempt.penalty / 2 * torch.eye(5)
        solution = torch.linalg.solve(gram, z.T @ (y[:200].double() - centre) / 200)
        residual = y[:200].double() - centre - z @ solution
        assert attempt.train_loss == pytest.approx(float(residual.square().sum(1).mean()), rel=1e-4)
        wanted[attempt.validation_loss] = centre + ((x[200:] - mean) / std)[:, :5].double() @ solution
    with torch.no_grad():
        assert torch.allclose(found(x[200:]).double(), wanted[min(wanted)], atol=5e-3)
    assert not found.weight[:, 5].any()


def test_a_label_does_not_change_the_out_of_fold_prediction_of_its_own_galaxy() -> None:
    torch.manual_seed(0)
    x = torch.randn(23, 4)
    y, order, head = torch.arange(23.0)[:, None] + 100 * x[:, :1], torch.arange(23.0), torch.nn.Linear(4, 1)

    def predicted(label_of_7: float) -> dict[float, float]:
        labels = y.clone()
        labels[7] = label_of_7
        galaxies = Features(x, {"y": labels, "place": order}, tuple("g" * 23))
        found = cross_predicted(head, SquaredLoss(), galaxies, 0.1)
        assert torch.equal(found.labels["y"][:, 0], labels[found.labels["place"].long(), 0])
        return dict(zip(found.labels["place"].tolist(), found.predictions[:, 0].tolist(), strict=True))

    first, second = predicted(0.0), predicted(1e4)
    assert sorted(first) == order.tolist()
    same = {place for place in first if first[place] == second[place]}
    assert 7 in same
    assert len(same) in (4, 5)  # a fold: all others learned from it


def test_out_of_fold_predictions_of_two_galaxies() -> None:
    galaxies = Features(torch.tensor([[0.0], [1.0]]), {"y": torch.tensor([[3.0], [5.0]])}, ("a", "b"))
    found = cross_predicted(torch.nn.Linear(1, 1), SquaredLoss(), galaxies, 1.0)
    assert found.predictions[:, 0] == pytest.approx(8 - found.labels["y"][:, 0].numpy(), abs=1e-3)  # the other's


# ----------------------------------------------------------------------------------------------------
# Training


@pytest.fixture(scope="module")
def pretrained(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    out = tmp_path_factory.mktemp("pretrained") / "run"
    return train(dataset, out=out, encoder="test_resnet", size=32, epochs=1, seed=1)


@pytest.fixture(scope="module")
def probe(dataset: Path, pretrained: TrainResult) -> TrainResult:
    with (
        pytest.warns(GZooWarning, match=r"Only \d+ galaxies are labelled: only the head learns"),
        pytest.warns(GZooWarning, match="--augment and --learning-rate are not used"),
    ):
        return train(dataset, out=pretrained.run.with_name("probe"), from_=pretrained.run, learning_rate=0.1)


def encoder_state(run: Path) -> dict[str, torch.Tensor]:
    state = load_file(run / "model.safetensors")
    return {name: value for name, value in state.items() if name.startswith("encoder.")}


def test_a_probe_leaves_the_encoder_as_it_is(probe: TrainResult, pretrained: TrainResult) -> None:
    before, after = encoder_state(pretrained.run), encoder_state(probe.run)
    assert any(name.endswith("num_batches_tracked") for name in before)
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    metadata = files.read_json(probe.run / "run.json")
    assert metadata["settings"]["learn"] == "head"  # type: ignore[index]
    assert metadata["design"]["size"] == 32  # type: ignore[index]
    assert metadata["from"]["run_sha256"] == files.sha256(pretrained.run / "run.json")  # type: ignore[index]
    assert [part["learning_rate"] for part in metadata["learning"]] == [0.1, 0]  # type: ignore[union-attr]
    assert (probe.run / "metrics.csv").read_text().startswith("penalty,train_loss,validation_loss\n100.0,")
    assert json.dumps(probe.to_dict())


def test_the_recalibration_of_a_probe_is_fitted_to_training_galaxies_too(
    probe: TrainResult, pretrained: TrainResult
) -> None:
    def most(run: Path) -> int:
        questions = files.read_json(run / "run.json")["recalibration"]["questions"]  # type: ignore[index]
        return max(one["n_galaxies"] for one in questions.values())  # type: ignore[union-attr]

    assert most(pretrained.run) == pretrained.n_validation
    assert most(probe.run) == probe.n_train + probe.n_validation


def test_an_exported_encoder_is_adapted_like_its_run(
    probe: TrainResult, pretrained: TrainResult, dataset: Path
) -> None:
    made = gzoo.export(pretrained.run, out=pretrained.run.with_name("exported"), onnx=False)
    out = pretrained.run.with_name("probe-of-exported")
    with pytest.warns(GZooWarning, match=r"Only \d+ galaxies are labelled"):
        train(dataset, out=out, from_=made.path)
    assert (out / "model.safetensors").read_bytes() == (probe.run / "model.safetensors").read_bytes()


def test_a_probe_predicts_with_the_views_that_it_was_fitted_on(
    probe: TrainResult, dataset: Path, tmp_path: Path
) -> None:
    default = predict(probe.run, dataset, out=tmp_path / "default.parquet").path
    views = predict(probe.run, dataset, out=tmp_path / "views.parquet", views=8).path
    assert default.read_bytes() == views.read_bytes()
    assert score(default, dataset).n_galaxies > 0


def test_blocks_that_do_not_learn_stay_as_they_are(dataset: Path, pretrained: TrainResult) -> None:
    made = train(dataset, out=pretrained.run.with_name("last"), from_=pretrained.run, learn=1, epochs=2, probe=False)
    before, after = encoder_state(pretrained.run), encoder_state(made.run)
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == {name for name in before if name.startswith("encoder.layer4.")}
    assert made.learning[1].n_parameters > 0


def test_fine_tuning_resumes_with_the_same_weights(dataset: Path, pretrained: TrainResult, tmp_path: Path) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        if "epoch 2" in stage:
            raise KeyboardInterrupt

    def fine(out: Path, progress: object = None) -> TrainResult:
        return train(dataset, out=out, from_=pretrained.run, learn="all", epochs=2, probe=False, progress=progress)  # type: ignore[arg-type]

    whole = fine(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fine(tmp_path / "run", stop)
    fine(tmp_path / "run")
    weights = [(folder / "model.safetensors").read_bytes() for folder in (whole.run, tmp_path / "run")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"learn": "head"}, "learn is 'head', but the encoder is not trained"),
        ({"from_": "RUN", "encoder": "resnet18"}, "--from and --encoder both name an encoder"),
        ({"from_": "RUN", "pretrained": True}, "--from and --pretrained both name an encoder"),
        ({"from_": "RUN", "learn": 9}, "has 5 blocks; 9 of them cannot learn"),
        ({"learn": "some"}, "Invalid value for learn: 'some'"),
    ],
)
def test_settings_that_contradict_each_other(
    dataset: Path, pretrained: TrainResult, tmp_path: Path, settings: dict[str, object], words: str
) -> None:
    given = {name: pretrained.run if value == "RUN" else value for name, value in settings.items()}
    with pytest.raises(InputError, match=words):
        train(dataset, out=tmp_path / "run", **given)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_grey_scale_encoder_is_trained_and_used(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "grey").mkdir()
    module = timm.create_model("test_convnext", num_classes=0, in_chans=1)
    save_file(module.state_dict(), tmp_path / "grey" / "model.safetensors")
    config = {"architecture": "test_convnext", "pretrained_cfg": {"input_size": [3, 32, 32]}}
    (tmp_path / "grey" / "config.json").write_text(json.dumps(config))
    made = train(dataset, out=tmp_path / "run", from_=tmp_path / "grey", learn=2, epochs=1, probe=False)
    model = open_run(made.run)[0]
    assert model.design.channels == 1
    predict(made.run, dataset, out=tmp_path / "predictions.parquet")


# ----------------------------------------------------------------------------------------------------
# Floors


def test_training_ends_with_what_it_gained_over_a_probe(dataset: Path, pretrained: TrainResult) -> None:
    found = pretrained.floors
    n = pretrained.n_validation
    assert (found.n_galaxies, found.n_fitted) == (n, pretrained.n_train)
    assert files.read_json(pretrained.run / "run.json")["floors"] == found.to_dict()
    assert found.baseline_loss == pytest.approx(pretrained.baseline_loss, rel=1e-4)
    assert found.probe_loss is not None
    assert found.gain_over_probe is not None
    assert found.gain_over_probe["value"] == pytest.approx(found.probe_loss - found.loss, abs=1e-6)
    assert found.gain_over_baseline["value"] == pytest.approx(found.baseline_loss - found.loss, abs=1e-6)
    assert f"On {n} validation galaxies, the trained model gains " in found.description
    # the probe is that of the encoder before training, which is another one than after it
    model = open_run(pretrained.run)[0]
    loss, (own, other) = (
        VoteLoss(open_dataset(dataset).tree),
        (loader(dataset, 32, 32, split=split) for split in SPLITS),
    )
    after = fit_probe(model, loss, own, other)
    assert abs(float(after.losses.mean()) - found.probe_loss) > 1e-6


def test_a_probe_is_compared_with_the_baseline_only(probe: TrainResult) -> None:
    assert (probe.floors.probe_loss, probe.floors.gain_over_probe, probe.floors.n_fitted) == (None, None, 0)
    assert probe.floors.loss == pytest.approx(probe.best_loss, rel=1e-5)
    assert "the linear probe gains" in probe.floors.description


@pytest.mark.parametrize(
    ("over_probe", "over_baseline", "words"),
    [
        ((0.2, 0.1, 0.3), (0.5, 0.4, 0.6), "it started from: training paid."),
        ((0.2, -0.1, 0.5), (0.5, 0.4, 0.6), "not distinguishable from the probe: `--learn head` is enough."),
        ((-0.2, -0.3, -0.1), (0.5, 0.4, 0.6), "it is worse than the probe; use `--learn head`"),
        ((0.2, None, None), (0.5, 0.4, 0.6), "too few galaxies to tell them apart."),
        ((0.2, 0.1, 0.3), (0.1, -0.1, 0.3), "training paid; that is not distinguishable from the baseline."),
        (None, (0.1, -0.1, 0.3), r"over the baseline; that is not distinguishable from the baseline."),
    ],
)
def test_the_sentence_says_what_the_intervals_say(
    over_probe: tuple[float | None, ...] | None, over_baseline: tuple[float, ...], words: str
) -> None:
    probe, baseline = (each and as_value(*each) for each in (over_probe, over_baseline))
    sentence = floors._sentence(100, probe, baseline, "all", is_trained=True)  # type: ignore[arg-type]
    assert sentence.endswith(words) or words in sentence
    assert (" [" in sentence.split("probe")[0]) == (over_baseline[1] is not None)


def test_an_encoder_with_random_weights_is_not_advised_to_learn_its_head_alone() -> None:
    """`--learn head` needs a trained encoder."""
    baseline = as_value(0.5, 0.4, 0.6)
    for ends in ((0.2, -0.1, 0.5), (-0.2, -0.3, -0.1)):
        sentence = floors._sentence(100, as_value(*ends), baseline, "all", is_trained=False)
        assert "--learn" not in sentence
        assert sentence.endswith("train on more galaxies or for longer, or start from a trained encoder (`--from`).")
