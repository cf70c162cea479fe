"""The screenshots of the page of `gzoo explore`, of what `gzoo demo` wrote.

    python docs/screenshots.py gzoo-demo [--all FOLDER] [--embeddings FILE]

Writes docs/how-to/explore-*.jpg. `--all` writes every view instead, on desktops and phones, light and dark, as PNG into
a folder, to be looked at after changes of the page. Playwright and Debian's chromium are needed.
"""

from __future__ import annotations

import argparse
import io
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

import gzoo

OUT = Path(__file__).parent / "how-to"
DESKTOP, PHONE = (1280, 820), (400, 860)
READY = (
    "[...document.images].every(one => one.complete) && !document.body.innerText.includes('Scoring the predictions')"
)
MAX_SECONDS = 60
SETTLED_MS = 500  # until what is drawn has appeared
BARRED = "gallery?q=bar.yes+%3E+0.6+and+bar.asked+%3E%3D+10&sort=-bar.yes&cards=has-spiral-arms.yes"


@contextmanager
def browser() -> Iterator[Browser]:
    """Start Debian's chromium."""
    path = shutil.which("chromium")
    if path is None:
        raise SystemExit("chromium is not installed: apt-get install chromium")
    with sync_playwright() as started:
        yield started.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])


def screenshot(browser: Browser, url: str, size: tuple[int, int], scheme: str, *, scale: float, whole: bool) -> bytes:
    """Return a view as PNG, once its images are there."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if scheme == "dark" else "light",
        device_scale_factor=scale,
        reduced_motion="reduce",
    )
    page = context.new_page()
    page.goto(url)
    page.wait_for_load_state("networkidle")
    page.evaluate("for (const one of document.images) one.loading = 'eager'")  # those outside the view would not load
    ends = time.monotonic() + MAX_SECONDS
    while not page.evaluate(READY):  # the page's security policy refuses `wait_for_function`
        if time.monotonic() > ends:
            raise SystemExit(f"{url} was not ready after {MAX_SECONDS} s")
        page.wait_for_timeout(100)
    page.wait_for_timeout(SETTLED_MS)
    made = page.screenshot(full_page=whole)
    context.close()
    return made


def spiral(folder: Path) -> str:
    """Return the galaxy of the test split on which the most volunteers saw spiral arms and a bar."""
    table = pl.read_parquet(sorted((folder / "data").glob("test-*")))
    seen = pl.min_horizontal("has-spiral-arms-gz2_yes_fraction", "bar-gz2_yes_fraction")
    return table.filter(pl.col("bar-gz2_total-votes") >= 20).sort(seen, descending=True)["id_str"][0]


def main() -> None:
    """Write the screenshots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path, help="folder of `gzoo demo`")
    parser.add_argument("--all", type=Path, metavar="FOLDER", help="write every view into this folder instead")
    parser.add_argument("--embeddings", type=Path, help="file of `gzoo embed` for map and neighbours")
    options = parser.parse_args()
    id_str = spiral(options.demo / "dataset")
    views = {
        "gallery": BARRED,
        "galaxy": f"galaxy/{id_str}",
        "model": "model?question=has-spiral-arms-gz2&answer=yes&bin=3",
        "overview": "overview",
        **({"map": "map"} if options.embeddings else {}),
    }
    shown = gzoo.explore(
        options.demo / "predictions.parquet",
        options.demo / "dataset",
        embeddings=options.embeddings,
        port=0,
        browser=False,
    )
    with browser() as opened:
        if options.all:
            options.all.mkdir(parents=True, exist_ok=True)
            for name, path in views.items():
                for size in (DESKTOP, PHONE):
                    for scheme in ("light", "dark"):
                        made = screenshot(opened, shown.url + path, size, scheme, scale=1, whole=name != "gallery")
                        (options.all / f"{name}-{size[0]}-{scheme}.png").write_bytes(made)
        else:
            for name, scheme in (("gallery", "light"), ("galaxy", "dark"), ("model", "light")):
                made = screenshot(opened, shown.url + views[name], DESKTOP, scheme, scale=1.25, whole=False)
                Image.open(io.BytesIO(made)).convert("RGB").save(OUT / f"explore-{name}.jpg", quality=85)
    shown.close()


if __name__ == "__main__":
    main()
