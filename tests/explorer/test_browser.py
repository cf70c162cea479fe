"""The page in a real browser: Debian's Chromium, driven by Playwright, one browser for all tests."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from filter_oracle import BAR, FILTERS, ODD, ROUND, oracle

import gzoo
from gzoo.explorer import ExploreResult

CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("Chromium is not installed", allow_module_level=True)

playwright = pytest.importorskip("playwright.sync_api")

DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 400, "height": 860}
TALL = {"width": 1280, "height": 3600}  # only the tiles near the window exist
VIEWS = {
    "gallery": "gallery",
    "filtered": "gallery?q=" + quote("bar.yes > 0.25 and ra > 10") + "&sort=-bar.yes&cards=how-rounded.round",
    "galaxy": "galaxy/{id}?q=" + quote("bar.asked >= 3"),
    "overview": "overview",
    "model": "model?question=smooth-or-featured-gz2&bin=3",
    "map": "map?shape=100.100.600.100.600.900",
}


@dataclass
class Tab:
    """A page of the browser, and what it complained about or asked for."""

    page: Any
    url: str
    problems: list[str] = field(default_factory=list)
    hosts: set[str | None] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.page.on("console", lambda one: one.type in {"error", "warning"} and self.problems.append(one.text))
        self.page.on("pageerror", lambda one: self.problems.append(str(one)))
        self.page.on("request", lambda one: self.hosts.add(urlsplit(one.url).hostname))

    def open(self, path: str) -> None:
        self.page.goto(self.url + path)
        self.settle()

    def settle(self) -> None:
        self.page.wait_for_timeout(60)  # the next frame of the page draws what the last input asked for
        self.page.wait_for_selector("main[aria-busy=false]")
        self.page.wait_for_selector(".loading", state="detached")
        self.page.wait_for_timeout(60)

    @property
    def count(self) -> int:
        return int(self.page.inner_text(".topbar .count strong").replace(",", ""))

    @property
    def address(self) -> str:
        return self.page.evaluate("location.pathname + location.search")

    @property
    def expression(self) -> str:
        return parse_qs(urlsplit(self.page.url).query).get("q", [""])[0]

    @property
    def tiles(self) -> set[str]:
        return set(self.page.eval_on_selector_all(".window a.tile", "all => all.map(one => one.title)"))

    def answer(self, question: str, answer: str) -> Any:
        item = self.page.locator("li.question").filter(has=self.page.get_by_title(question, exact=True))
        return item.locator("button.answer").filter(has_text=answer).first

    def drag(self, name: str, start: float, end: float) -> None:
        box = self.page.locator(f"section.card[aria-label='{name}'] .plot").bounding_box()
        at = [box["x"] + box["width"] * x for x in (start, (start + end) / 2, end)]
        self.page.mouse.move(at[0], box["y"] + 20)
        self.page.mouse.down()
        for x in at[1:]:
            self.page.mouse.move(x, box["y"] + 20)
        self.page.mouse.up()
        self.settle()

    def write(self, text: str) -> None:
        self.page.keyboard.press("/")
        self.page.keyboard.insert_text(text)
        self.page.keyboard.press("Escape")  # closes the list of names
        self.page.keyboard.press("Enter")
        self.settle()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        yield (one := started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]))
        one.close()


@pytest.fixture(scope="module")
def served(dataset: Path, predicted: Path, embeddings: Path) -> Iterator[ExploreResult]:
    page = gzoo.explore(predicted, dataset, embeddings=embeddings, port=0, browser=False)
    yield page
    page.close()


@pytest.fixture
def open_tab(browser: Any) -> Iterator[Callable[..., Tab]]:
    """Opens tabs that must not complain nor ask any other host."""
    opened: list[Tab] = []

    def new(served: ExploreResult, size: dict[str, int] = TALL, **options: Any) -> Tab:
        opened.append(Tab(browser.new_context(viewport=size, **options).new_page(), served.url))
        return opened[-1]

    yield new
    for one in opened:
        one.page.context.close()
        assert one.problems == []
        assert one.hosts <= {"127.0.0.1"}


def test_an_answer_filters_and_back_undoes_it(
    open_tab: Callable[..., Tab], served: ExploreResult, dataset: Path
) -> None:
    tab = open_tab(served)
    tab.open("gallery")
    assert tab.count == len(tab.tiles) == 60
    tab.answer("smooth-or-featured-gz2", "featured or disk").click()
    tab.settle()
    assert tab.expression == "smooth-or-featured.featured-or-disk > 0.5 and smooth-or-featured.asked >= 5"
    chosen = oracle(
        dataset,
        '"smooth-or-featured-gz2_featured-or-disk_fraction" > 0.5 and "smooth-or-featured-gz2_total-votes" >= 5',
    )
    assert tab.tiles == chosen
    assert tab.count == len(chosen)
    tab.page.go_back()
    tab.settle()
    assert (tab.count, tab.address) == (60, "/gallery")


@pytest.mark.slow
@pytest.mark.parametrize("expression", list(FILTERS)[1:7])
def test_a_written_expression_gives_the_rows_of_duckdb(
    open_tab: Callable[..., Tab], served: ExploreResult, dataset: Path, expression: str
) -> None:
    tab = open_tab(served)
    tab.open("gallery")
    tab.write(expression)
    assert tab.expression == expression
    assert tab.tiles == oracle(dataset, FILTERS[expression])


@pytest.mark.slow
def test_clicks_and_brushes_give_the_rows_of_duckdb(
    open_tab: Callable[..., Tab], served: ExploreResult, dataset: Path
) -> None:
    tab = open_tab(served)
    tab.open("gallery?cards=bar.yes,how-rounded.round")
    tab.drag("bar.yes", 0.2, 0.7)
    low, high = (float(one.split()[-1]) for one in tab.expression.split(" and "))
    assert (low, high) == pytest.approx((0.2, 0.7), abs=0.02)
    brushed = BAR.format(f">= {low}::float") + " and " + BAR.format(f"<= {high}::float")
    assert tab.tiles == oracle(dataset, brushed)
    tab.drag("how-rounded.round", 0.3, 1.0)
    third = tab.expression.split(" and ")[2]
    assert third.startswith("how-rounded.round >= ")
    both = f"{brushed} and {ROUND.format('>= ' + third.split()[-1] + '::float')}"
    assert tab.tiles == oracle(dataset, both)
    tab.page.get_by_role("button", name="test").first.click()
    tab.settle()
    test = oracle(dataset, f"{both} and filename like '%/test-%'")
    assert tab.tiles == test
    tab.page.reload()
    tab.settle()
    assert tab.tiles == test
    tab.answer("bar-gz2", "no").click()
    tab.settle()
    bars = '"bar-gz2_no_fraction" > 0.5 and not isnan("bar-gz2_no_fraction") and "bar-gz2_total-votes" >= 5'
    assert "bar.no > 0.5 and bar.asked >= 5" in tab.expression
    assert tab.tiles == oracle(
        dataset, f"{bars} and {ROUND.format('>= ' + third.split()[-1] + '::float')} and filename like '%/test-%'"
    )


@pytest.mark.slow
def test_the_address_keeps_the_view(open_tab: Callable[..., Tab], served: ExploreResult) -> None:
    tab = open_tab(served)
    tab.open("gallery")
    states = [(tab.address, tab.tiles)]
    for text in ("bar.asked >= 3", "bar.asked >= 3 and bar.yes > 0.2"):
        tab.write(text)
        states.append((tab.address, tab.tiles))
    tab.page.select_option("#sort", "-bar.yes")
    tab.settle()
    states.append((tab.address, tab.tiles))
    tab.page.keyboard.press("z")
    order = tab.page.eval_on_selector_all(".window a.tile", "all => all.map(one => one.title)")
    copied = tab.page.url
    for address, tiles in reversed(states[:-1]):
        tab.page.go_back()
        tab.settle()
        assert (tab.address, tab.tiles) == (address, tiles)
    for _ in states[1:]:
        tab.page.go_forward()
        tab.settle()
    assert tab.page.url == copied
    other = open_tab(served)
    other.page.goto(copied)
    other.settle()
    assert other.page.eval_on_selector_all(".window a.tile", "all => all.map(one => one.title)") == order
    assert other.page.evaluate("document.body.classList.contains('whole')")
    other.page.reload()
    other.settle()
    assert other.page.eval_on_selector_all(".window a.tile", "all => all.map(one => one.title)") == order


@pytest.mark.slow
def test_the_whole_page_works_by_keyboard(open_tab: Callable[..., Tab], served: ExploreResult) -> None:
    tab = open_tab(served)
    tab.open("gallery")
    press, focused = tab.page.keyboard.press, lambda: tab.page.evaluate("document.activeElement.title")
    press("t")  # the tree: arrows move, Enter chooses
    press("ArrowDown")
    press("Enter")
    tab.settle()
    assert tab.expression.startswith("smooth-or-featured.smooth > 0.5")
    press("/")
    tab.page.keyboard.type("bar.y")
    tab.page.wait_for_selector("#suggestions li:first-child:has-text('bar.yes')")
    press("ArrowDown")
    press("Enter")
    tab.page.keyboard.type(">= 0.1")
    press("Enter")
    tab.settle()
    assert tab.expression == "bar.yes >= 0.1"
    press("Escape")
    slider = tab.page.get_by_label("bar.yes from")
    slider.focus()
    press("ArrowRight")
    tab.settle()
    assert tab.expression == "bar.yes >= 0.11"
    tab.page.locator(".window a.tile[tabindex='0']").focus()
    first = focused()
    press("End")
    tab.settle()
    last = focused()
    assert last != first
    press("Enter")
    tab.settle()
    assert tab.page.inner_text("h1") == last
    press("k")
    tab.settle()
    assert tab.page.inner_text("h1") != last
    press("Escape")
    tab.settle()
    assert tab.address.startswith("/gallery")
    assert focused() == last  # the same place
    press("m")
    assert tab.page.locator(".pins a").count() == 1
    press("2")
    tab.settle()
    assert "classifications flow down" in tab.page.inner_text("h1")
    press("3")
    tab.settle()
    assert tab.page.inner_text("h1") == "Smooth or featured: smooth"
    press("s")
    tab.page.wait_for_selector("dialog")
    assert "gzoo select" in tab.page.inner_text("dialog pre")
    press("Escape")
    tab.page.wait_for_selector("dialog", state="detached")
    press("?")
    tab.page.uncheck("#letters")
    press("Escape")
    tab.page.wait_for_selector("dialog", state="detached")
    press("1")
    assert tab.address.startswith("/model")  # letters are off


@pytest.mark.slow
def test_a_wrong_expression_keeps_what_is_shown(open_tab: Callable[..., Tab], served: ExploreResult) -> None:
    tab = open_tab(served)
    tab.open("gallery?q=" + quote("bar.asked >= 3"))
    before = tab.tiles
    tab.write("bar.yess > 0.5")
    assert "Unknown name 'bar.yess'" in tab.page.inner_text("#problem")
    assert (tab.tiles, tab.expression) == (before, "bar.asked >= 3")
    tab.page.keyboard.press("Escape")
    tab.write("bar.yes > 0.5")
    assert tab.page.inner_text("#problem") == ""


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
def test_no_view_has_a_serious_fault_of_accessibility(
    open_tab: Callable[..., Tab], served: ExploreResult, labels: Any, view: str, theme: str
) -> None:
    axe = (files("axe_playwright_python") / "axe.min.js").read_text("utf-8")
    identifier = str(labels.frame["id_str"][int(labels.predicted.row[0])])
    for size in (DESKTOP, PHONE):
        # axe itself makes elements from text, which the page's policy forbids
        tab = open_tab(served, size, color_scheme=theme, bypass_csp=True)
        tab.open(VIEWS[view].format(id=identifier))
        tab.page.evaluate(axe)
        found = tab.page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        serious = [
            (one["id"], one["nodes"][0]["html"][:200], one["nodes"][0]["failureSummary"])
            for one in found
            if one["impact"] in {"serious", "critical"}
        ]
        assert not serious
        assert tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "cut off at the right"


def test_keys_label_the_galaxies_in_view(open_tab: Callable[..., Tab], dataset: Path, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    served = gzoo.explore(dataset, port=0, browser=False, labels=path, classes=["ring", "no ring"])
    try:
        tab = open_tab(served)
        tab.open("gallery")
        tab.page.keyboard.press("Shift+Digit2")  # all that are seen whole
        tab.page.wait_for_selector(".given")
        n = tab.page.locator(".given").count()
        assert n > 5
        tab.page.locator(".window a.tile").first.focus()
        tab.page.keyboard.press("Shift+Digit1")
        tab.page.locator(".given").get_by_text("ring", exact=True).wait_for()
        tab.page.keyboard.press("Enter")
        tab.settle()
        given = tab.page.locator("dl.facts dd").get_by_text("ring", exact=True)
        assert given.count() == 1
        tab.page.keyboard.press("Shift+Digit0")
        given.wait_for(state="detached")
        assert f"{n - 1} labels in labels.csv" in tab.page.inner_text("#header")
        lines = path.read_text("utf-8").splitlines()
        assert lines[0] == "dataset_name,id_str,label"
        assert len(lines) == n
        assert {line.rpartition(",")[2] for line in lines[1:]} == {"no ring"}
        assert not tab.problems
    finally:
        served.close()


def test_a_view_that_waits_says_so(open_tab: Callable[..., Tab], served: ExploreResult, labels: Any) -> None:
    tab, held = open_tab(served, PHONE), []
    tab.page.route("**/api/galaxy?*", lambda route: held.append(route))  # noqa: PLW0108
    tab.page.goto(f"{tab.url}galaxy/{labels.frame['id_str'][0]}")
    tab.page.wait_for_selector("#main .loading", state="visible")
    tab.page.wait_for_timeout(100)
    assert tab.page.inner_text("#main") == "Loading …"
    held[0].continue_()
    tab.settle()
    assert tab.page.inner_text("h1") == labels.frame["id_str"][0]


def inside_of(tab: Tab) -> set[str]:
    """The galaxies that the server gives for the shape in the address, asked without the page."""
    shape = parse_qs(urlsplit(tab.page.url).query).get("shape", [""])[0]
    return set(tab.page.request.get(f"{tab.url}download/galaxies.txt?shape={shape}").text().split())


@pytest.mark.slow
def test_a_shape_on_the_map_filters_the_gallery_and_back_undoes_it(
    open_tab: Callable[..., Tab], served: ExploreResult
) -> None:
    tab = open_tab(served)
    tab.open("map")
    assert tab.page.inner_text("aside .count").startswith("60 of 60")
    box = tab.page.locator(".map").bounding_box()
    corners = [(0.2, 0.15), (0.7, 0.2), (0.8, 0.7), (0.45, 0.5), (0.15, 0.8)]
    at = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    tab.page.mouse.move(*at[0])
    tab.page.mouse.down()
    for one in [*at[1:], at[0]]:
        tab.page.mouse.move(*one, steps=4)
    tab.page.mouse.up()
    tab.settle()
    wanted = inside_of(tab)
    assert 5 < len(wanted) < 55
    assert tab.page.inner_text("aside .count").startswith(f"{len(wanted)} of 60")
    tab.page.get_by_text("Show them in the gallery").click()
    tab.settle()
    assert (tab.tiles, tab.count) == (wanted, len(wanted))
    tab.page.reload()
    tab.settle()
    assert tab.tiles == wanted
    assert "Only galaxies inside a shape on the map" in tab.page.inner_text(".content")
    tab.page.get_by_role("button", name="remove it").click()
    tab.settle()
    assert tab.count == 60
    tab.page.go_back()
    tab.settle()
    assert tab.tiles == wanted
    tab.page.go_back()
    tab.page.go_back()
    tab.settle()
    assert tab.address == "/map"


@pytest.mark.slow
@pytest.mark.parametrize("has_canvas", [True, False])
def test_the_map_works_by_keyboard_and_without_a_canvas(
    open_tab: Callable[..., Tab], served: ExploreResult, has_canvas: bool
) -> None:
    tab = open_tab(served)
    if not has_canvas:
        tab.page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
    tab.open("gallery")
    tab.page.keyboard.press("4")
    tab.settle()
    tab.page.get_by_label("right").focus()
    for _ in range(5):
        tab.page.keyboard.press("PageDown")
    tab.settle()
    wanted = inside_of(tab)
    assert 0 < len(wanted) < 60
    assert tab.page.inner_text("aside .count").startswith(f"{len(wanted)} of 60")
    listed = tab.page.eval_on_selector_all(".map-view .strip a", "all => all.map(one => one.title)")
    assert set(listed) <= wanted
    tab.page.locator(".map-view .strip a").first.press("Enter")
    tab.settle()
    assert tab.page.inner_text("h1") == listed[0]
    tab.page.locator(".neighbours .tile").first.wait_for()
    neighbour = tab.page.locator(".neighbours .tile").first
    name = neighbour.get_attribute("title")
    neighbour.press("Enter")
    tab.settle()
    assert tab.page.inner_text("h1") == name


@pytest.mark.slow
def test_a_point_of_the_map_shows_and_opens_its_galaxy(open_tab: Callable[..., Tab], served: ExploreResult) -> None:
    tab = open_tab(served)
    tab.open("map")
    x, y = tab.page.evaluate(
        """async () => {
          const steps = new Uint16Array(await (await fetch("/map/places")).arrayBuffer());
          const isCentral = (one) => one > 20000 && one < 45000;
          const i = steps.findIndex((one, j) => j % 2 === 0 && isCentral(one) && isCentral(steps[j + 1]));
          return [steps[i] / 65534, 1 - steps[i + 1] / 65534];
        }"""
    )
    box = tab.page.locator(".map").bounding_box()
    place = box["x"] + x * box["width"], box["y"] + y * box["height"]
    tab.page.mouse.move(*place)
    tab.page.locator(".peek img").wait_for()
    row = tab.page.get_attribute(".peek img", "src").split("?")[0].rsplit("/", 1)[1]
    tab.page.mouse.down()
    tab.page.mouse.up()
    tab.page.wait_for_selector("h1")
    tab.settle()
    assert tab.page.get_attribute(".portrait img", "src").startswith(f"/image/{row}?")


@pytest.mark.slow
def test_odd_identifiers_are_shown_as_text(open_tab: Callable[..., Tab], odd: Path) -> None:
    served = gzoo.explore(odd, port=0, browser=False)
    try:
        tab = open_tab(served)
        tab.open("gallery")
        assert set(ODD) < tab.tiles
        for name in ODD:
            tab.page.locator(".window a.tile").filter(has=tab.page.get_by_alt_text(f"Galaxy {name}:")).first.click()
            tab.settle()
            assert tab.page.inner_text("h1") == name
            tab.page.reload()
            tab.settle()
            assert tab.page.inner_text("h1") == name
            tab.page.go_back()
            tab.settle()
    finally:
        served.close()


@pytest.mark.slow
def test_a_dataset_that_is_removed_gives_a_message(open_tab: Callable[..., Tab], dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(dataset, tmp_path / "galaxies")
    served = gzoo.explore(tmp_path / "galaxies", port=0, browser=False)
    try:
        tab = open_tab(served)
        tab.open("gallery")
        shutil.rmtree(tmp_path / "galaxies")
        tab.page.wait_for_timeout(1100)
        tab.page.keyboard.press("2")
        tab.page.wait_for_selector("#banner:not(:empty)")
        assert "run `gzoo explore` again" in tab.page.inner_text("#banner")
        # images that were not shown yet are refused, which the browser lists
        assert all("409 (Conflict)" in one for one in tab.problems)
        tab.problems.clear()
    finally:
        served.close()
