"""Speed of the simulator with a second worker, and its memory as a function of the number of galaxies.

    python benchmarks/simulator_scaling.py [--n 10000]

Galaxy Zoo 2 is simulated with images by one worker and by two. Then n and 4 n galaxies are simulated without images,
each in its own process, and the peak memories are compared.

Writes benchmarks/results/simulator_scaling.json.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measuring import arguments, write

from gzoo.simulator import simulate


def seconds(n: int, workers: int) -> float:
    """Return the seconds to simulate n galaxies with images."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        simulate("gz2", n_galaxies=n, seed=1, workers=workers, out=Path(folder) / "sky")
        return time.perf_counter() - start


def peak_megabytes(n: int) -> float:
    """Return the peak memory of a process that simulates n galaxies without images."""
    with tempfile.TemporaryDirectory() as folder:
        code = (
            "import re; from pathlib import Path; from gzoo.simulator import simulate\n"
            f"simulate('gz2', n_galaxies={n}, images=False, out={str(Path(folder) / 'sky')!r})\n"
            # a process inherits ru_maxrss from its parent, so VmHWM is used
            r"print(re.search(r'VmHWM:\s+(\d+)', Path('/proc/self/status').read_text())[1])"
        )
        said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
        return int(said) / 1024


def main() -> None:
    parser = arguments(__doc__, "simulator_scaling.json")
    parser.add_argument("--n", type=int, default=10000, help="number of galaxies (default: 10,000)")
    options = parser.parse_args()
    n = options.n
    times = {workers: seconds(n, workers) for workers in (1, 2)}
    peaks = {size: peak_megabytes(size) for size in (n, 4 * n)}
    result = {
        "galaxies": n,
        "images_per_second": {str(workers): n / taken for workers, taken in times.items()},
        "two_workers_over_one": times[1] / times[2],
        "peak_megabytes": {str(size): peak for size, peak in peaks.items()},
        "memory_growth": peaks[4 * n] / peaks[n],
    }
    write(options, result)


if __name__ == "__main__":
    main()
