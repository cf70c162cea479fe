"""Pages contain the numbers of a benchmark if there is a result, and none without one."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import pytest

EXTENSIONS = Path(__file__).parents[2] / "docs" / "extensions"


def test_results_are_in_the_page_and_nothing_is_without_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXTENSIONS)
    measured = importlib.import_module("gzoo_measured")
    (_, without), *_ = measured.parts(tmp_path)
    assert not re.search(r"\d", without)

    difference = {"mean": 0.0625, "low": 0.0125, "high": 0.1125}
    one = {"measure": "ROC AUC", "n_draws": 1, "probe": 0.875, "fine-tuned": 0.8125, "scratch": 0.7501}
    one |= {"probe - scratch": difference, "fine-tuned - probe": {"mean": -0.0625, "low": None, "high": None}}
    record = {"encoder": "an_encoder", "size_pixels": 64, "pretraining": {"n_train": 15000}}
    (tmp_path / "adaptation.json").write_text(json.dumps(record | {"results": {"disturbed, 100 labels": one}}), "utf-8")
    (_, text), *_ = measured.parts(tmp_path)
    row = "| disturbed, 100 labels | ROC AUC | 0.875 | 0.812 | 0.750 | +0.062 [+0.013, +0.113] | -0.062 |"
    assert row in text
    assert "15,000 galaxies" in text


def test_a_scaling_study_is_in_the_page_with_what_was_predicted_and_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(EXTENSIONS)
    measured = importlib.import_module("gzoo_measured")
    assert not re.search(r"\d", dict(measured.parts(tmp_path))["scaling.md"])

    value = {"value": 0.25, "low": 0.125, "high": 0.5}
    one = {"curve": {"exponent": value}, "predicted_loss": value, "expected_gain_of_ten_times_the_galaxies": value}
    one |= {"at_n_galaxies": 2048, "times_the_largest_fitted": 4.0, "reached_losses": [0.5, 0.75], "inside": "1 of 2"}
    record = {"image_size": 48, "floor": 20.5, "encoders": {"an_encoder": one}}
    (tmp_path / "scaling.json").write_text(json.dumps(record), "utf-8")
    text = dict(measured.parts(tmp_path))["scaling.md"]
    assert "| an_encoder | 0.250 [0.125, 0.500] | 0.25 [0.12, 0.50] | 0.50, 0.75 (1 of 2 inside) |" in text
    assert "2,048, 4 times as many" in text
