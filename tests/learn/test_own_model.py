"""A model of one's own: the example of the documentation runs, and what it writes is scored."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import gzoo
from gzoo.errors import InputError, OutputExistsError

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_model.py"


def test_the_example_trains_predicts_and_scores(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = importlib.util.spec_from_file_location("own_model", EXAMPLE)
    assert spec
    assert spec.loader
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    example.main(str(dataset), str(tmp_path / "p.parquet"), epochs=3)
    said = capsys.readouterr().out
    losses = [float(one) for one in re.findall(r"epoch \d: ([\d.]+) nats", said)]
    assert len(losses) == 3
    assert losses[-1] < losses[0]
    assert repr(gzoo.score(tmp_path / "p.parquet", dataset)) in said
    keys, _ = gzoo.open_dataset(dataset).read_votes("test")
    assert pl.read_parquet(tmp_path / "p.parquet").select("dataset_name", "id_str").equals(keys)


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
