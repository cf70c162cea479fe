"""The site that `make docs` built: links lead somewhere, nothing comes from elsewhere, and everyone can read it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

SITE = Path(os.environ.get("GZOO_SITE", Path(__file__).parents[2] / "docs" / "build" / "html"))
CHROMIUM = shutil.which("chromium")
LOADED = {("link", "href"), ("script", "src"), ("img", "src"), ("source", "src"), ("iframe", "src")}
TUTORIALS = sorted((Path(__file__).parents[2] / "docs" / "tutorials").glob("*.md"))
PAGES = [
    *(f"tutorials/{one.stem}.html" for one in TUTORIALS),
    *("index.html", "getting-started/index.html", "how-to/plan-a-survey.html", "how-to/explore.html"),
    *("explanation/fine-tuning.html", "explanation/likelihood.html", "reference/commands/train.html"),
    *("reference/campaigns/gz2.html", "reference/json.html", "development/architecture.html", "search.html"),
]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not (SITE / "index.html").exists(), reason="make docs has not built the site"),
]


class Page(HTMLParser):
    """What a page names: its anchors, its links, and what the browser loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors, self.links, self.loaded = {"", "top"}, set[str](), set[str]()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.anchors |= {value for name in ("id", "name") if (value := found.get(name))}
        if tag == "a" and found.get("href"):
            self.links.add(found["href"] or "")
        is_hint = found.get("rel") in {"canonical", "author"}
        self.loaded |= {value for name, value in attrs if (tag, name) in LOADED and value and not is_hint}


@pytest.fixture(scope="module")
def site() -> dict[Path, Page]:
    pages = (path.resolve() for path in SITE.rglob("*.html") if "_static" not in path.parts)
    return {path: Page(path) for path in pages}


def test_internal_links_lead_to_a_page_and_a_place(site: dict[Path, Page]) -> None:
    wrong: set[tuple[str, str]] = set()
    for path, page in site.items():
        for link in page.links | page.loaded:
            address = urlsplit(link)
            if not (address.scheme or address.netloc):
                target = (path.parent / unquote(address.path)).resolve() if address.path else path
                place = unquote(address.fragment)
                if not target.exists() or (target in site and place not in site[target].anchors):
                    wrong.add((path.relative_to(SITE.resolve()).as_posix(), link))
    assert not wrong, sorted(wrong)


def test_pages_load_nothing_from_elsewhere(site: dict[Path, Page]) -> None:
    assert len(site) > 100
    assert not {one for page in site.values() for one in page.loaded if urlsplit(one).scheme not in {"", "data"}}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_everyone_can_read_tutorials_and_pages_of_every_section(browser: Any, theme: str, width: int) -> None:
    axe = (files("axe_playwright_python") / "axe.min.js").read_text("utf-8")
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
    requested, faults = set[str](), list[tuple[str, str, str]]()
    for name in PAGES:
        page = context.new_page()
        page.on("request", lambda one: requested.add(one.url.partition(":")[0]))
        page.goto((SITE / name).resolve().as_uri())
        if not page.evaluate("document.documentElement.scrollWidth <= innerWidth"):
            faults.append((name, "cut off at the right", ""))
        page.evaluate(axe)
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        serious = [one for one in found if one["impact"] in {"serious", "critical"}]
        faults += [(name, one["id"], one["nodes"][0]["html"][:160]) for one in serious]
        page.close()
    context.close()
    assert requested <= {"file", "data"}
    assert not faults
