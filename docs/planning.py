"""The tables of docs/how-to/plan-a-survey.md, computed from the results of benchmarks.

    python docs/planning.py            # write them into the page
    python docs/planning.py --check    # end with exit code 1 if the page has other ones

Each row is a measured number from a file in `benchmarks/results`, on the machine that the file names.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parent
PAGE, RESULTS = DOCS / "how-to" / "plan-a-survey.md", DOCS.parent / "benchmarks" / "results"
SURVEYS = {"8.7 million": 8.7e6, "1 billion": 1e9}
WORKERS = (1, 32, 256)
HOUR = 3600.0


@dataclass(frozen=True)
class Step:
    """A step of the work.

    Attributes:
        name: What it does.
        rate: Galaxies per second of one core.
        n_measured: Galaxies of the measurement.
        megabytes: Peak memory in MB.
        bytes_per_galaxy: Bytes on disk for each galaxy, beside its image; None if it writes none.
        source: File of the result.
        is_divided: Whether it can be divided among workers.
    """

    name: str
    rate: float
    n_measured: int
    megabytes: float
    bytes_per_galaxy: float | None
    source: str
    is_divided: bool


def steps() -> list[Step]:
    """Return the steps with their measured rates."""
    images = _read("build_speed")["at JPEG quality 97"]
    votes = _read("build_millions")
    predicted = _read("predict_speed")
    matched = _read("sky_match")["8,700,000 x 1,000,000, gzoo match"]
    selected = _read("selection_speed")
    n_votes, n_images = votes["vote rows"], images["pictures"]
    build, check = (votes["steps"][one] for one in ("build", "check"))
    cores = votes["machine"]["cores"]
    return [
        Step(
            *(
                "`gzoo build`, images decoded and checked",
                n_images / images["core seconds (median)"]["build"],
                n_images,
            ),
            *(images["peak megabytes"], None, "build_speed", True),
        ),
        Step(
            *("`gzoo build --headers-only`", n_images / images["core seconds (median)"]["build --headers-only"]),
            *(n_images, images["peak megabytes"], None, "build_speed", True),
        ),
        Step(
            *("`gzoo build --no-images`", n_votes / (build["minutes"] * 60 * cores), n_votes, build["peak megabytes"]),
            *(1e6 * votes["megabytes of the dataset"] / n_votes, "build_millions", False),
        ),
        Step(
            *("`gzoo check` of votes", n_votes / (check["minutes"] * 60 * cores), n_votes, check["peak megabytes"]),
            *(None, "build_millions", False),
        ),
        *(
            Step(
                f"`gzoo predict`, {views}, {predicted['encoder']} at {predicted['size']} px",
                *(rate, predicted["galaxies"], predicted["peak megabytes"], predicted["bytes a galaxy"]),
                *("predict_speed", True),
            )
            for views, rate in predicted["galaxies a core second"].items()
        ),
        *_embedding(),
        Step(
            *("`gzoo match` with a million others", n_votes / matched["CPU seconds"], n_votes),
            *(1e3 * matched["GB of memory at peak"], None, "sky_match", False),
        ),
        Step(
            *("`gzoo select`", selected["galaxies"] / selected["processor seconds"], selected["galaxies"]),
            *(selected["resident MB"], None, "selection_speed", False),
        ),
    ]


def _embedding() -> list[Step]:
    """Return the step of `gzoo embed`; none where it has not been measured."""
    if not (RESULTS / "embedding_speed.json").exists():
        return []
    found = _read("embedding_speed")
    (*_, peak) = found["peak MB"].values()
    return [
        Step(
            f"`gzoo embed` of 8 orientations, {found['encoder']} at {found['size']} px",
            found["throughput"]["galaxies per CPU second"]["embed"],
            *(found["images"], peak, found["bytes a galaxy"], "embedding_speed", True),
        )
    ]


def measured() -> str:
    """Return the table of rates."""
    rows = ["| step | galaxies per second and core | measured with | peak memory | bytes per galaxy | from |"]
    rows.append("|---|---|---|---|---|---|")
    for one in steps():
        weight = f"{one.bytes_per_galaxy:,.0f}" if one.bytes_per_galaxy is not None else "-"
        source = f"[{one.source}](../../benchmarks/results/{one.source}.json)"
        rows.append(
            f"| {one.name} | {_rounded(one.rate)} | {one.n_measured:,} galaxies | {one.megabytes / 1e3:.1f} GB "
            f"| {weight} | {source} |"
        )
    return "\n".join(rows)


def extrapolated() -> str:
    """Return the table of durations: galaxies / (rate x workers)."""
    found = steps()
    heads = [f"{name}, {n} worker{'s' * (n > 1)}" for name in SURVEYS for n in WORKERS]
    rows = [f"| step | {' | '.join(heads)} |", f"|---|{'---|' * len(heads)}"]
    for one in found:
        cells = []
        for n_galaxies in SURVEYS.values():
            for n_workers in WORKERS:
                is_possible = one.is_divided or n_workers == 1
                text = _duration(n_galaxies / one.rate / n_workers) if is_possible else "-"
                cells.append(f"**{text}**" if n_galaxies == one.n_measured and n_workers == 1 else text)
        rows.append(f"| {one.name} | {' | '.join(cells)} |")
    return "\n".join(rows)


def page(text: str) -> str:
    """Return the text of the page with new tables."""
    for name, table in (("measured", measured()), ("extrapolated", extrapolated())):
        text = re.sub(rf"(<!-- {name} -->).*?(<!-- end -->)", rf"\g<1>\n{table}\n\g<2>", text, flags=re.DOTALL)
    return text


def _read(name: str) -> dict:
    return json.loads((RESULTS / f"{name}.json").read_text("utf-8"))


def _rounded(rate: float) -> str:
    """Return a number with two significant digits, because machines differ by more.

    >>> _rounded(1095.5), _rounded(43.21)
    ('1,100', '43')
    """
    return f"{float(f'{rate:.2g}'):,.0f}"


def _duration(seconds: float) -> str:
    """Return a duration with two significant digits.

    >>> _duration(7943), _duration(900), _duration(9.2e6)
    ('2.2 h', '15 min', '110 days')
    """
    for unit, length in (("days", 24 * HOUR), ("h", HOUR), ("min", 60.0)):
        if seconds >= length * (2 if unit == "days" else 1):
            return f"{float(f'{seconds / length:.2g}'):,g} {unit}"
    return f"{float(f'{seconds:.2g}'):g} s"


def main() -> int:
    """Write the tables, or compare them."""
    old = PAGE.read_text("utf-8")
    new = page(old)
    if "--check" in sys.argv:
        return int(new != old)
    PAGE.write_text(new, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
