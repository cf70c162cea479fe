"""How quickly `gzoo explore` answers over HTTP, and how much memory it takes.

    python benchmarks/explore_speed.py [--quick]

100,000 galaxies with images (500 different ones) and 1,000,000 rows of votes without images, on 37 answers; a third of
the galaxies has no votes on each question but the first. A filter is asked with its count, the votes down the tree, the
first 60 rows and 30 histograms, by a server in a process of its own.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote, urlencode

import numpy as np
import polars as pl
import psutil

import gzoo
from gzoo.dataset.build import build

RESULTS = Path(__file__).parent / "results"
SERVE = """
import sys, gzoo
page = gzoo.explore(sys.argv[1], port=0, browser=False)
print(page.url, flush=True)
page.wait()
"""
TREE = gzoo.tree("gz2")
N_HISTOGRAMS, N_THUMBNAILS, N_USERS = 30, 100, 8


def votes_table(n: int, images: Sequence[str], rng: np.random.Generator) -> pl.DataFrame:
    """Random votes, of which a third of the galaxies has none on each question but the first."""
    columns: dict[str, object] = {
        "id_str": [f"made-{i:07d}" for i in range(n)],
        "ra": rng.uniform(0, 360, n),
        "dec": np.degrees(np.arcsin(rng.uniform(-0.2, 0.9, n))),
    }
    for question in TREE.published().questions:
        total = rng.integers(5, 50, n) * (1 if not question.parents else rng.choice([0, 1], n, p=[1 / 3, 2 / 3]))
        counts = rng.multinomial(total, rng.dirichlet(np.ones(len(question.columns))))
        columns |= {column: counts[:, i].astype(np.int32) for i, column in enumerate(question.columns)}
    if images:
        columns["filename"] = [images[i % len(images)] for i in range(n)]
    return pl.DataFrame(columns)


def made(folder: Path, n: int, n_images: int, rng: np.random.Generator) -> Path:
    """Build a dataset with images, or write one without as others publish them."""
    if not n_images:
        (folder / "data").mkdir()
        table = votes_table(n, [], rng).with_columns(dataset_name=pl.lit("gz2"))
        for question in TREE.published().questions:
            total = pl.sum_horizontal(question.columns).cast(pl.Int32)
            table = table.with_columns(total.alias(question.total_column)).with_columns(
                (pl.col(column) / pl.col(question.total_column)).cast(pl.Float32).alias(f"{column}_fraction")
                for column in question.columns
            )
        table.write_parquet(folder / "data" / "train-00000-of-00001.parquet")
        return folder
    from gzoo.simulator import simulate

    sky = simulate("gz2", n_galaxies=n_images, seed=0, out=folder / "sky")
    names = sorted(path.name for path in sky.images.iterdir())
    votes_table(n, names, rng).write_parquet(folder / "votes.parquet")
    build("gz2", votes=folder / "votes.parquet", images=sky.images, out=folder / "dataset")
    return folder / "dataset"


class Client:
    """One kept connection, as a browser has several of."""

    def __init__(self, url: str) -> None:
        self.connection = http.client.HTTPConnection(url.removeprefix("http://").rstrip("/"), timeout=60)

    def get(self, path: str) -> tuple[int, bytes, float]:
        """Return status, content and seconds of a request."""
        start = time.perf_counter()
        self.connection.request("GET", path)
        answer = self.connection.getresponse()
        content = answer.read()
        return answer.status, content, time.perf_counter() - start


def random_view(chance: random.Random) -> str:
    """A filter with one to three conditions, 30 histograms, and sometimes an order."""
    answers = [f"{q.name}.{a}" for q in TREE.published().questions for a in q.answers]
    parts = [
        f"{chance.choice(answers)} {chance.choice(['>', '<='])} {chance.random():.3f}"
        for _ in range(chance.randint(1, 3))
    ]
    query = {"q": " and ".join(parts), "n": "60", "cards": ",".join(answers[:N_HISTOGRAMS])}
    if chance.random() < 0.5:
        query["sort"] = "-" + chance.choice(answers[:6])
    return f"/api/view?{urlencode(query, quote_via=quote)}"


def cpu_seconds(process: psutil.Process) -> float:
    """Processor time that a process has used, which other work on the machine does not change much."""
    used = process.cpu_times()
    return used.user + used.system


def described(seconds: Sequence[float]) -> str:
    """Median and 95th percentile in ms."""
    return f"{np.median(seconds) * 1e3:7.1f} {np.quantile(seconds, 0.95) * 1e3:7.1f}"


def measured(dataset: Path, n_requests: int, n_random: int, has_images: bool) -> list[str]:
    """Measure one dataset."""
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", SERVE, str(dataset)], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            started = time.perf_counter()
            client, chance = Client(url), random.Random(1)
            for path in ("/gallery", "/page/app.js", "/api/about", "/api/view?n=60"):
                assert client.get(path)[0] == 200
            first = time.perf_counter() - started
            lines = [
                f"start of the server                          {started - start:7.2f} s",
                f"first page after that                        {first:7.2f} s",
            ]
            process = psutil.Process(server.pid)
            for _ in range(12):  # bins and orders are made when they are first asked for
                client.get(random_view(chance))
            used = cpu_seconds(process)
            views = [client.get(random_view(chance)) for _ in range(n_requests)]
            used = cpu_seconds(process) - used
            assert all(status == 200 for status, *_ in views)
            lines += [
                f"filter, tree, 60 rows, {N_HISTOGRAMS} histograms (ms)       {described([one[2] for one in views])}",
                f"processor time of the server for each (ms)   {used / n_requests * 1e3:7.1f}",
            ]
            if has_images:
                n = json.loads(client.get("/api/about")[1])["n"]
                rows = chance.sample(range(n), N_THUMBNAILS)
                both = []
                for _ in range(5):
                    begin = time.perf_counter()
                    assert all(client.get(f"/thumbnail/{row}")[0] == 200 for row in rows)
                    both.append(time.perf_counter() - begin)
                lines.append(f"{N_THUMBNAILS} thumbnails, one connection, warm (ms)       {described(both[1:])}")
            waits: list[float] = []

            def user(seed: int) -> None:
                own, mine = Client(url), random.Random(seed)
                for _ in range(max(n_requests // 4, 3)):
                    status, _, seconds = own.get(random_view(mine))
                    assert status == 200
                    waits.append(seconds)

            users = [threading.Thread(target=user, args=(i,)) for i in range(N_USERS)]
            for one in users:
                one.start()
            for one in users:
                one.join()
            lines += [
                f"the same, {N_USERS} users at once (ms)               {described(waits)}",
                f"load of the machine                            {os.getloadavg()[0]:7.1f}",
            ]
            client, before = Client(url), 0  # the server has closed the connection that was idle
            for i in range(n_random):
                path = f"/image/{chance.randrange(1000)}" if has_images and i % 2 else random_view(chance)
                assert client.get(path)[0] == 200
                if i == n_random // 5:
                    before = process.memory_info().rss
            after = process.memory_info().rss
            lines.append(
                f"memory after {n_random // 5:,} and {n_random:,} requests (MB) {before / 1e6:7.0f} {after / 1e6:7.0f}"
            )
        finally:
            server.terminate()
    return lines


def main() -> None:
    """Measure both datasets, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rows and requests, to see that it runs")
    parser.add_argument(
        "--only", choices=("images", "labels"), help="measure one of the two datasets, and keep nothing"
    )
    given = parser.parse_args()
    quick = given.quick
    rng = np.random.default_rng(0)
    sizes = [(2_000, 60), (5_000, 0)] if quick else [(100_000, 500), (1_000_000, 0)]
    lines = [f"gzoo explore over HTTP, {os.cpu_count()} cores; median and 95th percentile"]
    folder = Path(tempfile.mkdtemp(prefix="explore-"))
    try:
        for n, n_images in sizes:
            if given.only and given.only != ("images" if n_images else "labels"):
                continue
            own = folder / str(n)
            own.mkdir()
            lines += ["", f"{n:,} galaxies, {'with' if n_images else 'without'} images"]
            lines += measured(
                made(own, n, n_images, rng),
                6 if quick else 60,
                40 if quick else 10_000 if n_images else 300,
                bool(n_images),
            )
            print("\n".join(lines[-10:]), flush=True)
            shutil.rmtree(own)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if not quick and not given.only:
        (RESULTS / "explore_speed.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
