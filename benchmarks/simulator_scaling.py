"""What a second worker brings, and whether memory grows with the number of galaxies.

    python benchmarks/simulator_scaling.py [--n 10000]

Simulates Galaxy Zoo 2 with its images by one worker and by two; then 1x and 4x as many galaxies
without images, each in a process of its own, whose peak memory is compared. Writes
benchmarks/results/simulator_scaling.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gzoo.simulator import simulate


def seconds(n: int, workers: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        simulate("gz2", n_galaxies=n, seed=1, workers=workers, out=Path(folder) / "sky")
        return time.perf_counter() - start


def peak_megabytes(n: int) -> float:
    """Peak memory of a process that simulates n galaxies without images."""
    with tempfile.TemporaryDirectory() as folder:
        code = (
            "import re; from pathlib import Path; from gzoo.simulator import simulate\n"
            f"simulate('gz2', n={n}, images=False, out={str(Path(folder) / 'sky')!r})\n"
            # not ru_maxrss, which a process inherits from the one that started it
            r"print(re.search(r'VmHWM:\s+(\d+)', Path('/proc/self/status').read_text())[1])"
        )
        said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
        return int(said) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=10000)
    n = parser.parse_args().n
    times = {workers: seconds(n, workers) for workers in (1, 2)}
    peaks = {size: peak_megabytes(size) for size in (n, 4 * n)}
    result = {
        "galaxies": n,
        "images_per_second": {str(workers): n / taken for workers, taken in times.items()},
        "two_workers_over_one": times[1] / times[2],
        "peak_megabytes": {str(size): peak for size, peak in peaks.items()},
        "memory_growth": peaks[4 * n] / peaks[n],
        "python": platform.python_version(),
    }
    Path("benchmarks/results/simulator_scaling.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
