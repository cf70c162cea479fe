"""The tables of the page on planning a survey are those of the benchmarks' results."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "docs" / "planning.py"


@pytest.fixture(scope="module")
def planning() -> ModuleType:
    spec = importlib.util.spec_from_file_location("planning", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, "planning", module)
        spec.loader.exec_module(module)
        yield module


def test_the_page_has_the_tables_of_the_results(planning: ModuleType) -> None:
    text = planning.PAGE.read_text("utf-8")
    assert planning.page(text) == text
    assert planning.measured() in text


def test_durations_are_rate_times_galaxies(planning: ModuleType) -> None:
    assert planning._duration(8.7e6 / 1000) == "2.4 h"
    assert planning._duration(45) == "45 s"
    assert planning._duration(86400 * 30) == "30 days"
    assert planning._rounded(1095.5) == "1,100"
