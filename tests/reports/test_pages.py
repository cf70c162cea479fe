"""Every kind of report in a real browser, on a laptop and on a phone, light and dark."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import gzoo
from gzoo.dataset.open import open_dataset
from gzoo.errors import GZooWarning

CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("Chromium is not installed", allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api")

PAGES = ("score", "compare", "check", "ingest", "select")


@pytest.fixture(scope="module")
def pages(dataset: Path, sky: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one report of each kind."""
    folder = tmp_path_factory.mktemp("pages")
    opened, chance = open_dataset(dataset), np.random.default_rng(5)
    keys, votes = opened.read_votes("train")
    for name, noise in (("mine", 0.5), ("Zoobot, linear probe", 3.0)):
        values = 0.3 + 0.3 * votes.counts + chance.gamma(1.0, noise, votes.counts.shape)
        gzoo.write_predictions(folder / f"{name}.parquet", keys, values, opened.tree, in_training_set=False)
    both = sorted(folder.glob("*.parquet"))
    gzoo.score(both[1], dataset, report=folder / "score.html")
    gzoo.compare(both, dataset, report=folder / "compare.html")
    gzoo.check(dataset, report=folder / "check.html")
    with pytest.warns(GZooWarning, match="do not agree"):  # which the page must say, too
        gzoo.select(both[1:], dataset, where="smooth-or-featured.smooth > 0.4", report=folder / "select.html")
    gzoo.count(
        "gz2",
        classifications=sky.classifications,
        workflows=sky.workflows,
        out=folder / "votes.parquet",
        report=folder / "ingest.html",
    )
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        one = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield one
        one.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_every_report_can_be_read(browser: Any, pages: Path, tmp_path: Path, name: str, theme: str, width: int) -> None:
    path = pages / f"{name}.html"
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme, bypass_csp=True)
    page, problems, requested = context.new_page(), list[str](), set[str]()

    def complain(one: Any) -> None:
        problems.append(one.text)

    def note(one: Any) -> None:
        requested.add(one.url.partition(":")[0])

    page.on("console", complain)
    page.on("request", note)
    page.goto(path.as_uri())
    assert not problems
    assert requested <= {"file", "data"}
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "cut off at the right"
    page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text("utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    serious = [(one["id"], one["nodes"][0]["html"][:200]) for one in found if one["impact"] in {"serious", "critical"}]
    assert not serious
    for link in page.query_selector_all("a[download]")[:4]:
        with page.expect_download() as saving:
            link.evaluate("one => one.click()")
        target = tmp_path / saving.value.suggested_filename
        saving.value.save_as(target)
        if target.suffix == ".csv":
            assert pl.read_csv(target).width >= 2
        else:
            assert target.read_text("utf-8").startswith("<svg ")
    context.close()
