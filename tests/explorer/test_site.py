"""A static site: what it answers without a server is what the server answers, and any host of files shows it."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import shutil
import threading
from collections.abc import Generator, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from filter_oracle import FILTERS
from starlette.testclient import TestClient

import gzoo
from gzoo.errors import ExpressionError, InputError, OutputExistsError
from gzoo.explorer import SiteResult
from gzoo.explorer.labels import Labels

CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("Chromium is not installed", allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api")

QUERIES = [
    {},
    *({"q": text, "cards": "ra,bar.yes.model", "n": "400"} for text in FILTERS),
    {"sort": "-bar.yes", "n": "50"},
    {"sort": "bar.yes.model", "q": "bar.yes.model > 0.5 or bar.asked < 3", "n": "400"},
    {"sort": "-disagreement", "n": "400"},
    {"sort": "ra", "split": "test", "from": "3", "n": "4"},
    {"q": "not (bar.yes > 0.5 or ra is missing) and id_str contains '1'", "n": "400"},
    {"q": "0.2 < bar.yes <= 0.75 and split in ('train', 'test')", "n": "400"},
    {"q": "bar.yes.gap >= -0.2 and `bar-gz2.yes.model` != 1", "n": "400"},
    {"q": "bar.asked in (1, 2, 3.0, 4)", "n": "400"},
]
WRONG = ["bar.yes >", "bar.yess > 1", "(ra > 1", "ra > 'x'", "'open", "1 is missing", "ra + 1 > 2", "ra > 1e999"]


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A host of files."""

    def log_message(self, format: str, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def site(dataset: Path, predicted: Path, tmp_path_factory: pytest.TempPathFactory) -> SiteResult:
    made = gzoo.explore(predicted, dataset, export=tmp_path_factory.mktemp("site") / "a site", limit=2000)
    assert isinstance(made, SiteResult)
    return made


@pytest.fixture(scope="module")
def address(site: SiteResult) -> Iterator[str]:
    """The site under a path of a host, as most are."""
    handler = functools.partial(Quiet, directory=str(site.folder.parent))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/{quote(site.folder.name)}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        one = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield one
        one.close()


@contextlib.contextmanager
def opened(browser: Any, address: str, where: str = "", **context: Any) -> Generator[Any]:
    own = browser.new_context(**context)
    page, problems, hosts = own.new_page(), list[str](), set[str]()

    def complain(one: Any) -> None:
        problems.append(str(getattr(one, "text", one)))

    def note(one: Any) -> None:
        hosts.add(one.url.split("/")[2])

    page.on("console", complain)
    page.on("pageerror", complain)
    page.on("request", note)
    page.goto(address + where)
    page.wait_for_selector("main[aria-busy=false]")
    page.wait_for_selector(".loading", state="detached")
    yield page
    assert not problems
    assert len(hosts) == 1
    own.close()


def test_it_answers_what_the_server_answers(browser: Any, address: str, client: TestClient) -> None:
    ask = "([what, query]) => import('./page/static.js').then(one => one.answer(what, new URLSearchParams(query)))"
    with opened(browser, address) as page:
        for query in QUERIES:
            here = page.evaluate(ask, ["view", urlencode(query)])
            there = client.get("/api/view", params=query).json()
            assert {**here, "notes": there["notes"]} == there, query
        for text in WRONG:
            here, there = (
                page.evaluate(ask, ["view", urlencode({"q": text})]),
                client.get("/api/view", params={"q": text}),
            )
            assert here["refused"] == there.status_code == 400, text
            assert here["message"]
        identifier = there_id = client.get("/api/view").json()["rows"][2]["id"]
        query = {"id": identifier, "q": "ra > 10", "sort": "-bar.yes"}
        assert page.evaluate(ask, ["galaxy", urlencode(query)]) == client.get("/api/galaxy", params=query).json()
        assert page.evaluate(ask, ["sky", ""]) == client.get("/api/sky").json()
        assert page.evaluate(ask, ["row", "row=2"])["rows"][0]["id"] == there_id
        for query in ({"question": "bar-gz2"}, {"question": "bar-gz2", "answer": "no", "bin": "3"}):
            here, there = page.evaluate(ask, ["model", urlencode(query)]), client.get("/api/model", params=query).json()
            assert {**here, "scores": 0, "isUnfiltered": 0} == {**there, "scores": 0, "isUnfiltered": 0}
    for query in ("", "?q=" + quote("bar.yes > 0.25")):
        with opened(browser, address, f"#/model{query}") as page:
            page.wait_for_selector(".plots")
            assert ("The filter does not apply" in page.inner_text("main")) == bool(query)


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_view_opens_without_a_server(browser: Any, address: str, labels: Labels, theme: str) -> None:
    axe = (files("axe_playwright_python") / "axe.min.js").read_text("utf-8")
    name = labels.frame["id_str"][0]
    views = {"": ".tile", "#/overview": ".sky-map", "#/model": ".plots", f"#/galaxy/{name}": "h1"}
    for width in (1280, 400):
        size = {"width": width, "height": 860}
        for where, mark in views.items():
            with opened(browser, address, where, viewport=size, color_scheme=theme, bypass_csp=True) as page:
                page.wait_for_selector(mark)
                assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), where
                page.evaluate(axe)
                found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
                assert not [one["id"] for one in found if one["impact"] in {"serious", "critical"}], where


def test_the_address_is_the_view(browser: Any, address: str) -> None:
    with opened(browser, address, "#/gallery?q=" + quote("bar.yes > 0.25") + "&sort=-bar.yes") as page:
        n = page.inner_text(".topbar .count strong")
        page.locator(".window a.tile").first.click()
        page.wait_for_selector("h1")
        assert "#/galaxy/" in page.url
        page.reload()
        page.wait_for_selector("h1")
        page.go_back()
        page.wait_for_selector(".window a.tile")
        assert page.inner_text(".topbar .count strong") == n
        page.keyboard.press("s")
        with page.expect_download() as saving:
            page.get_by_text("CSV", exact=True).click()
        lines = Path(saving.value.path()).read_text("utf-8").splitlines()
        assert len(lines) == int(n) + 1
        assert "id_str" in lines[0].split(",")


def test_a_part_is_small_and_says_nothing_of_this_machine(dataset: Path, tmp_path: Path) -> None:
    made = gzoo.explore(dataset, export=tmp_path / "site", where="ra < 300", limit=7)
    assert isinstance(made, SiteResult)
    assert made.n_galaxies == 7 < made.n_of
    about = json.loads((made.folder / "data" / "site.json").read_text("utf-8"))["about"]
    assert about["n"] == 7
    assert len(list((made.folder / "image").iterdir())) == 7
    assert not [one for one in made.folder.rglob("*.json") if str(dataset.parent) in one.read_text("utf-8")]
    with pytest.raises(OutputExistsError):
        gzoo.explore(dataset, export=made.folder)
    again = gzoo.explore(dataset, export=made.folder, where="ra < 300", limit=7, overwrite=True)
    assert again.to_dict() == made.to_dict()


def test_wrong_arguments_are_refused(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "site"
    with pytest.raises(InputError, match="limit"):
        gzoo.explore(dataset, export=out, limit=2001)
    with pytest.raises(ExpressionError):
        gzoo.explore(dataset, export=out, where="nothing >")
    with pytest.raises(InputError, match="No galaxy"):
        gzoo.explore(dataset, export=out, where="ra > 361")
    for other in ({"labels": "l.csv", "classes": ["a"]}, {"embeddings": "e.parquet"}):
        with pytest.raises(InputError, match="exclude each other"):
            gzoo.explore(dataset, export=out, **other)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="--where requires --export"):
        gzoo.explore(dataset, where="ra > 1", browser=False, port=0)
    assert not out.exists()
