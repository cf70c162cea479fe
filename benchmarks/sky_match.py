"""Matching of large tables: pairs as astropy finds them, and the time and memory that both need.

    python benchmarks/sky_match.py [--n 1000000] [--quick]

Half of the positions are anywhere, a quarter at the poles, a quarter at ra 0; the other table is a jittered copy. A
second step matches 8.7 million rows with a million, in a process of its own. Writes benchmarks/results/sky_match.json.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
from measuring import arguments, write

from gzoo import sky

RUN = """
import resource, sys, warnings
warnings.simplefilter("ignore")
import gzoo
found = gzoo.match(sys.argv[1], sys.argv[2], out=sys.argv[3])
used = resource.getrusage(resource.RUSAGE_SELF)
print(found.n_a["matched"], used.ru_maxrss / 1e6, used.ru_utime + used.ru_stime)
"""


def positions(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    ra, dec = rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    quarter = n // 4
    dec[:quarter] = np.where(np.arange(quarter) % 2, 1, -1) * (90 - np.sqrt(rng.uniform(0, 4, quarter)))
    ra[quarter : 2 * quarter], dec[quarter : 2 * quarter] = rng.normal(0, 1, quarter) % 360, rng.normal(0, 1, quarter)
    return ra, dec


def jittered(ra: np.ndarray, dec: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    n = len(ra)
    return sky.shifted(ra, dec, rng.uniform(0, 360, n), rng.exponential(0.7 / 3600, n))


def main() -> None:
    parser = arguments(__doc__, "sky_match.json")
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--n-large", type=int, default=8_700_000)
    parser.add_argument("--quick", action="store_true", help="a hundredth of the rows")
    options = parser.parse_args()
    n, n_large = (options.n // 100, options.n_large // 100) if options.quick else (options.n, options.n_large)
    import astropy.units as u
    from astropy.coordinates import SkyCoord, search_around_sky

    rng = np.random.default_rng(0)
    one = positions(n, rng)
    other = jittered(*one, rng)
    began = time.process_time()
    found = sky.pairs_between(*one, *other)
    ours = time.process_time() - began
    coordinates = [SkyCoord(*both, unit="deg") for both in (one, other)]
    began = time.process_time()
    first, second, _, _ = search_around_sky(*coordinates, 2 * u.arcsec)
    theirs = time.process_time() - began
    order = np.lexsort((second, first))
    is_same = np.array_equal(found.first, first[order]) and np.array_equal(found.second, second[order])
    results: dict[str, object] = {
        f"{n:,} x {n:,}": {
            "pairs": len(found),
            "same pairs as astropy": bool(is_same),
            "CPU seconds": round(ours, 2),
            "CPU seconds of astropy": round(theirs, 2),
        }
    }
    print(results, flush=True)
    assert is_same
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        large = positions(n_large, rng)
        small = jittered(large[0][:n], large[1][:n], rng)
        for file, both in (("a.parquet", large), ("b.parquet", small)):
            pl.DataFrame({"ra": both[0], "dec": both[1]}).write_parquet(folder / file)
        words = [str(folder / file) for file in ("a.parquet", "b.parquet", "t.parquet")]
        done = subprocess.run([sys.executable, "-c", RUN, *words], capture_output=True, text=True, check=True)
        matched, memory, processor = map(float, done.stdout.split())
    results[f"{n_large:,} x {n:,}, gzoo match"] = {
        "matched": int(matched),
        "GB of memory at peak": round(memory, 2),
        "CPU seconds": round(processor, 1),
    }
    print(results, flush=True)
    if not options.quick:
        write(options, results)


if __name__ == "__main__":
    main()
