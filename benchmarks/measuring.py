"""Command lines, processes and result files of the benchmarks.

Every benchmark has `--out`, and some have `--quick`: a run that takes about a minute and shows that the benchmark
works. A quick run prints its result and writes it only where `--out` names a file.

The benchmarks of loading and training consist of steps, each a function in `gzoo_steps.py` (run by the Python that runs
the benchmark) or in `peer_steps.py` (run by the Python of the peers' environment, which `make .venv-peers/ready`
creates). Each step runs in a new process, so that the memory, threads and caches of one step do not affect the next.
A step prints its result as JSON.
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

HERE = Path(__file__).parent
FOLDER = HERE.parent / "build" / "benchmarks"
RESULTS = HERE / "results"
PEERS = HERE.parent / ".venv-peers" / "bin" / "python"
PACKAGES = (
    "gzoo", "astropy", "datasets", "distributed", "galsim", "hpgeom", "numpy", "pillow", "polars", "pyarrow",
    "scikit-learn", "scipy", "simplejpeg", "timm", "torch",
)  # fmt: skip

Step = Callable[..., object]


def step(name: str, **settings: object) -> dict[str, Any]:
    """Run a step of gzoo and return its result."""
    return _run(Path(sys.executable), HERE / "gzoo_steps.py", name, settings)


def peer_step(python: Path, name: str, **settings: object) -> dict[str, Any]:
    """Run a step of the peers and return its result."""
    return _run(python, HERE / "peer_steps.py", name, settings)


def serve(steps: Iterable[Step]) -> None:
    """Run the step that the command line names, and print its result."""
    by_name = {one.__name__: one for one in steps}
    result = by_name[sys.argv[1]](**json.loads(sys.argv[2]))
    print(json.dumps(result))


def _run(python: Path, script: Path, name: str, settings: Mapping[str, object]) -> dict[str, Any]:
    words = {key: str(value) if isinstance(value, Path) else value for key, value in settings.items()}
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # as in any installation, compiled modules are kept
    done = subprocess.run(
        [python, script, name, json.dumps(words)], capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        raise SystemExit(f"{script.name} {name} {words} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def arguments(doc: str | None, result: str) -> argparse.ArgumentParser:
    """Return a parser with `--out`; the module's docstring is the help text, `result` the default result file."""
    text = cleandoc(doc or "")
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help=f"result file (default: benchmarks/results/{result})")
    parser.set_defaults(result=RESULTS / result)
    return parser


def options(doc: str | None, result: str) -> argparse.ArgumentParser:
    """Return a parser with the options that the benchmarks of loading and training share."""
    parser = arguments(doc, result)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="folder that keeps images and caches between runs")
    parser.add_argument("--peers", type=Path, default=PEERS, help="Python of the peers' environment")
    parser.add_argument("--quick", action="store_true", help="use a few hundred galaxies, and write only to --out")
    return parser


def require_peers(python: Path) -> None:
    """Exit with an error message unless the peers' environment exists."""
    if not python.is_file():
        raise SystemExit(
            f"Python of the peers not found: '{python}'.\n"
            "Run `make .venv-peers/ready`, pass another Python with --peers, or pass --without-peers."
        )


def best(runs: Mapping[str, float]) -> tuple[str, float]:
    """Return the name and rate of the fastest."""
    return max(runs.items(), key=lambda one: one[1])


def middle(values: Iterable[float], digits: int = 1) -> float:
    """Return the rounded median."""
    return round(median(values), digits)


def asked(ratio: float, least: float) -> dict[str, object]:
    """Return a ratio, rounded down, with its target and whether it reaches the target."""
    return {"ratio": math.floor(ratio * 1000) / 1000, "asked": f"at least {least:g}", "holds": ratio >= least}


def write(given: argparse.Namespace, result: Mapping[str, object], *, peers: Mapping[str, str] | None = None) -> None:
    """Save a result and print it."""
    print(json.dumps(save(given, result, peers=peers), indent=2))


def save(
    given: argparse.Namespace, result: Mapping[str, object], *, peers: Mapping[str, str] | None = None
) -> dict[str, object]:
    """Add machine and versions to a result and write it to `--out`, by default to the benchmark's own result file."""
    full = {**result, "machine": machine(), "versions": versions(PACKAGES), **({"peers": peers} if peers else {})}
    path: Path | None = given.out or (None if getattr(given, "quick", False) else given.result)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(full, indent=2) + "\n", "utf-8")
    return full


def machine() -> dict[str, object]:
    """Return the number of cores and the name of the processor."""
    said = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    models = [line.partition(":")[2].strip() for line in said if line.startswith("model name")]
    return {"cores": len(os.sched_getaffinity(0)), "processor": (models or [platform.machine()])[0]}


def versions(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of Python and of those packages that are installed."""
    found: dict[str, str] = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return {**found, "python": platform.python_version()}
