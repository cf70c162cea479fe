"""Steps in processes of their own, and where their figures go.

A benchmark is a row of steps, each a function in `gzoo_steps.py` (run by the Python that runs the benchmark) or in
`peer_steps.py` (run by the Python of the peers' environment, which `make .venv-peers/ready` makes). A step is started
anew each time, so that memory, threads and caches of one tell nothing of the other; what it returns comes back as JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from inspect import cleandoc
from pathlib import Path
from statistics import median
from typing import Any

from corpora import FOLDER

HERE = Path(__file__).parent
PEERS = HERE.parent / ".venv-peers" / "bin" / "python"
PACKAGES = ("gzoo", "torch", "timm", "simplejpeg", "datasets", "pyarrow", "polars", "numpy", "pillow")
PEER_PACKAGES = ("zoobot", "galaxy-datasets", "torch", "torchvision", "timm", "datasets", "pyarrow", "numpy", "pillow")

Step = Callable[..., object]


def step(name: str, **settings: object) -> dict[str, Any]:
    """What a step of gzoo's side returns."""
    return _run(Path(sys.executable), HERE / "gzoo_steps.py", name, settings)


def peer_step(python: Path, name: str, **settings: object) -> dict[str, Any]:
    """What a step of the peers' side returns."""
    return _run(python, HERE / "peer_steps.py", name, settings)


def serve(steps: Iterable[Step]) -> None:
    """Be the process of a step: do what the command line names, print what it returns."""
    by_name = {one.__name__: one for one in steps}
    result = by_name[sys.argv[1]](**json.loads(sys.argv[2]))
    print(json.dumps(result))


def _run(python: Path, script: Path, name: str, settings: Mapping[str, object]) -> dict[str, Any]:
    words = {key: str(value) if isinstance(value, Path) else value for key, value in settings.items()}
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # compiled modules are kept, as in any installation
    done = subprocess.run(
        [python, script, name, json.dumps(words)], capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        raise SystemExit(f"{script.name} {name} {words} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def options(doc: str, result: str) -> argparse.ArgumentParser:
    """A command line with what all these benchmarks take."""
    parser = argparse.ArgumentParser(description=cleandoc(doc), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where images and caches are kept between runs")
    parser.add_argument("--peers", type=Path, default=PEERS, help="Python of the peers' environment")
    parser.add_argument("--out", type=Path, default=HERE / "results" / result, help="where the figures go")
    return parser


def require_peers(python: Path) -> None:
    """Stop where there is no environment of the peers."""
    if not python.is_file():
        raise SystemExit(f"There is no {python}.\nMake it with `make .venv-peers/ready`, or name another with --peers.")


def best(runs: Mapping[str, float]) -> tuple[str, float]:
    """Name and figure of the fastest."""
    return max(runs.items(), key=lambda one: one[1])


def middle(values: Iterable[float], digits: int = 1) -> float:
    """The median, rounded."""
    return round(median(values), digits)


def asked(ratio: float, least: float) -> dict[str, object]:
    """A ratio, rounded down, beside what was asked of it."""
    return {"ratio": math.floor(ratio * 1000) / 1000, "asked": f"at least {least:g}", "holds": ratio >= least}


def write(path: Path, result: Mapping[str, object], *, peers: Mapping[str, str] | None = None) -> None:
    """Write figures with machine and versions, and print them."""
    full = {**result, "machine": machine(), "versions": versions(PACKAGES), **({"peers": peers} if peers else {})}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(full, indent=2) + "\n")
    print(json.dumps(full, indent=2))


def machine() -> dict[str, object]:
    """Cores and processor."""
    said = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    models = [line.partition(":")[2].strip() for line in said if line.startswith("model name")]
    return {"cores": len(os.sched_getaffinity(0)), "processor": (models or [platform.machine()])[0]}


def versions(names: Iterable[str]) -> dict[str, str]:
    """Versions of the packages that are there, and of Python."""
    found: dict[str, str] = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return {**found, "python": platform.python_version()}
