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
