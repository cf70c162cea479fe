"""A model of one's own: the example of the documentation runs, and what it writes is scored."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
import pytest
import torch

import gzoo
from gzoo import cli
from gzoo.errors import InputError, OutputExistsError

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_model.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("own_model", EXAMPLE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore:.*:Warning:lightning", "ignore:.*isinstance.treespec")
@pytest.mark.parametrize("loop", ["plain", pytest.param("lightning", marks=pytest.mark.slow)])
def test_the_example_trains_predicts_and_scores(
    example: ModuleType, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], loop: str,
) -> None:  # fmt: skip
    example.main(str(dataset), str(tmp_path / "p.parquet"), loop, epochs=3)
    said = capsys.readouterr().out
    losses = [float(one) for one in re.findall(r"epoch \d: ([\d.]+) nats", said)]
    assert len(losses) == 3
    assert losses[-1] < losses[0]
    keys, _ = gzoo.open_dataset(dataset).read_votes("test")
    assert pl.read_parquet(tmp_path / "p.parquet").select("dataset_name", "id_str").equals(keys)
    monkeypatch.setattr("sys.argv", ["gzoo", "score", str(tmp_path / "p.parquet"), str(dataset), "--json"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    scores = gzoo.score(tmp_path / "p.parquet", dataset)
    assert repr(scores) in said
    assert json.loads(capsys.readouterr().out)["overall"] == scores.to_dict()["overall"]


@pytest.mark.filterwarnings("ignore:.*:Warning:lightning", "ignore:.*isinstance.treespec")
def test_both_loops_of_the_example_train_alike(example: ModuleType, dataset: Path) -> None:
    def trained(loop: Callable[..., None]) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        batches = gzoo.loader(dataset, 16, example.SIZE, split="train", augment="average", seed=0)
        model = example.MyModel(batches.tree)
        loop(model, batches, 2)
        return model.state_dict()

    plain, other = trained(example.train_plainly), trained(example.train_with_lightning)
    for name, values in plain.items():
        torch.testing.assert_close(other[name], values)


def test_predictions_that_cannot_be_scored_are_not_written(tmp_path: Path) -> None:
    tree, path = gzoo.tree("gz_rings"), tmp_path / "p.parquet"
    keys = pl.DataFrame({"dataset_name": ["r", "r"], "id_str": ["a", "b"]})
    with pytest.raises(InputError, match=r"shape \(2, 3\)"):
        gzoo.write_predictions(path, keys, np.ones((2, 3)), tree)
    for bad in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(InputError, match="Galaxy 'b': a concentration of question 'ring'"):
            gzoo.write_predictions(path, keys, np.array([[1.0, 1.0], [bad, 1.0]]), tree)
    with pytest.raises(InputError, match="in_training_set has 1 values"):
        gzoo.write_predictions(path, keys, np.ones((2, 2)), tree, in_training_set=[True])
    with pytest.raises(InputError, match="'rong'"):
        gzoo.write_predictions(path, keys, np.ones((2, 2)), tree, questions=["rong"])
    assert not path.exists()
    gzoo.write_predictions(path, keys, np.ones((3, 2, 2)), tree, in_training_set=[True, False])
    assert pl.read_parquet(path)["in_training_set"].to_list() == [True, False]
    with pytest.raises(OutputExistsError):
        gzoo.write_predictions(path, keys, np.ones((2, 2)), tree)
