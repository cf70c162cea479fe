"""Whether a build that is killed and started again writes the same bytes as an undisturbed build.

    python benchmarks/build_kills.py [--kills 50] [--n 1500] [--seed 0]

A simulated dataset of several shards is built in a separate process, which receives SIGKILL at a random moment of the
duration of an undisturbed build. Then the same command runs to its end. Every fifth build has two workers, and only the
process that leads them is killed. After each kill, the output folder must be absent or complete.

Writes benchmarks/results/build_kills.json.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measuring import arguments, write

from gzoo import files
from gzoo.simulator import simulate

BUILD = """
import sys
from gzoo.dataset import build, finalize
finalize.SHARD_BYTES = 1_500_000
if __name__ == "__main__":
    votes, images, out, workers = sys.argv[1:]
    build.build("gz2", votes=votes, images=images, out=out, workers=int(workers))
"""


def main() -> None:
    parser = arguments(__doc__, "build_kills.json")
    parser.add_argument("--kills", type=int, default=50, help="number of kills (default: 50)")
    parser.add_argument("--n", type=int, default=1500, help="number of galaxies (default: 1500)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments of the kills (default: 0)")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "build.py").write_text(BUILD)
        made = simulate("gz2", n_galaxies=options.n, export=False, workers=os.cpu_count() or 1, out=folder / "sky")
        command = [sys.executable, str(folder / "build.py"), str(made.votes), str(made.images)]
        seconds: dict[int, float] = {}
        for workers in (1, 2):
            begun = time.perf_counter()
            subprocess.run([*command, str(folder / f"undisturbed{workers}"), str(workers)], check=True)
            seconds[workers] = time.perf_counter() - begun
        expected = checksums(folder / "undisturbed1")
        outcomes = {"same bytes": 0, "different bytes": 0, "incomplete output folder": 0, "restart failed": 0}
        n_killed = n_there = 0
        if checksums(folder / "undisturbed2") != expected:
            outcomes["different bytes"] += 1
        for i in range(options.kills):
            workers = 2 if i % 5 == 4 else 1
            out = folder / "killed"
            process = subprocess.Popen([*command, str(out), str(workers)], stderr=subprocess.DEVNULL)
            time.sleep(chance.uniform(0.05, 1) * seconds[workers])
            if process.poll() is None:
                n_killed += 1
            process.send_signal(signal.SIGKILL)
            process.wait()
            if out.exists():
                n_there += 1
                if {one for one in checksums(out).items() if one[0] != files.BEGUN} != set(expected.items()):
                    outcomes["incomplete output folder"] += 1
            again = subprocess.run([*command, str(out), str(workers)], capture_output=True, text=True, check=False)
            if again.returncode and "contains a finished dataset" not in again.stderr:
                outcomes["restart failed"] += 1
                print(again.stderr)
            elif checksums(out) == expected:
                outcomes["same bytes"] += 1
            else:
                outcomes["different bytes"] += 1
            shutil.rmtree(out)
        left = [path.name for path in folder.iterdir() if path.name.startswith(".")]
    result = {
        "builds started": options.kills,
        "killed while running": n_killed,
        "output folder already complete": n_there,
        **outcomes,
        "temporary files left behind": left,
        "shards": len([name for name in expected if name.startswith("data/")]),
        "seconds of an undisturbed build": {f"{workers} workers": round(one, 1) for workers, one in seconds.items()},
    }
    write(options, result)


def checksums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 checksum of each file in a folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


if __name__ == "__main__":
    main()
