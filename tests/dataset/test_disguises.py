"""Galaxies in train, and copies of them in test whose positions are written in every way that tables are known to have.

Either `gzoo.leaks` finds all pairs, or it says why it may have missed some: never "no leak" without a warning.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

import gzoo
from gzoo.errors import GZooWarning, TableError
from gzoo.trees.campaign import campaign
from test_commands import Command

Numbers = npt.NDArray[np.float64]
N = 400
COLUMNS = campaign("gz_rings").published_tree.columns
pytestmark = pytest.mark.filterwarnings(
    "ignore::gzoo.errors.GZooWarning"
)  # pytest.warns looks for them where they must be


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


def galaxies() -> tuple[Numbers, Numbers]:
    rng = np.random.default_rng(0)
    return rng.uniform(0, 360, N), np.degrees(np.arcsin(rng.uniform(-1, 1, N)))


RA, DEC = galaxies()
HOURS = [f"{int(h):02d}:{int(h % 1 * 60):02d}:{h * 3600 % 60:07.4f}" for h in RA / 15]
ANGLES = [
    f"{'-' if d < 0 else '+'}{int(abs(d)):02d}:{int(abs(d) % 1 * 60):02d}:{abs(d) * 3600 % 60:06.3f}" for d in DEC
]
GAPS = np.arange(N) % 10 == 0


def build(folder: Path, split: str, ra: Any, dec: Any, unit: str = "", suffix: str = "csv", units: str = "") -> Path:
    """A dataset all of whose galaxies are in one split, from a table with these positions."""
    from astropy.table import Table

    columns = {"id_str": [f"{folder.name}-{i}" for i in range(N)], "split": [split] * N, "ra": ra, "dec": dec}
    columns |= {name: np.full(N, 3) for name in COLUMNS}
    table = folder.with_suffix(f".{suffix}")
    if suffix in ("csv", "parquet"):
        frame = pl.DataFrame(columns)
        frame.write_csv(table) if suffix == "csv" else frame.write_parquet(table)
    else:
        made = Table(columns)
        for name, one in zip(("ra", "dec"), units.split(), strict=True):
            made[name].unit = one
        made.write(table, **({"format": "votable"} if suffix == "vot" else {}))
    mapping = None
    if unit:
        mapping = folder.with_suffix(".toml")
        answers = "".join(f'"{name}" = "{name}"\n' for name in COLUMNS)
        mapping.write_text(f'id_str = "id_str"\nra = "ra"\ndec = "dec"\nunit = "{unit}"\n[answers]\n{answers}')
    gzoo.build("gz_rings", votes=table, no_images=True, out=folder, split_column="split", mapping=mapping)
    return folder


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("disguises") / "original", "train", RA, DEC)


DISGUISES: list[tuple[str, Any, Any, dict[str, str]]] = [
    ("degrees", RA, DEC, {}),
    ("float32", RA.astype(np.float32), DEC.astype(np.float32), {"suffix": "parquet"}),
    ("-180..180", np.where(RA > 180, RA - 360, RA), DEC, {}),
    ("exchanged", DEC, RA, {}),
    ("radians, FITS unit", np.radians(RA), np.radians(DEC), {"suffix": "fits", "units": "rad rad"}),
    ("hours, FITS unit", RA / 15, DEC, {"suffix": "fits", "units": "h deg"}),
    ("hours, ECSV unit", RA / 15, DEC, {"suffix": "ecsv", "units": "hourangle deg"}),
    ("arcmin, VOTable unit", RA * 60, DEC * 60, {"suffix": "vot", "units": "arcmin arcmin"}),
    ("radians, ECSV unit", np.radians(RA), np.radians(DEC), {"suffix": "ecsv", "units": "rad rad"}),
    ("radians, mapping", np.radians(RA), np.radians(DEC), {"unit": "rad"}),
    ("hours, mapping", RA / 15, DEC, {"unit": "hourangle"}),
    ("sexagesimal", HOURS, ANGLES, {}),
]


@pytest.mark.parametrize(("name", "ra", "dec", "how"), DISGUISES, ids=[one[0] for one in DISGUISES])
def test_all_pairs_are_found_where_the_unit_is_stated_or_clear(
    original: Path, tmp_path: Path, name: str, ra: Any, dec: Any, how: dict[str, str]
) -> None:
    found = gzoo.leaks([original, build(tmp_path / "copy", "test", ra, dec, **how)])
    assert found.pairs.height == N
    assert set(found.pairs["matched_by"]) == {"position"}
    pairs = zip(found.pairs["id_str"], found.pairs["other_id_str"], strict=True)
    assert all(one.partition("-")[2] == other.partition("-")[2] for one, other in pairs)


@pytest.mark.parametrize(
    ("ra", "dec", "n_pairs", "says"),
    [
        (np.where(GAPS, np.nan, RA), np.where(GAPS, np.nan, DEC), 360, "40 of 400 rows have no position"),
        (np.where(GAPS, -99, RA), np.where(GAPS, -99, DEC), 360, "40 of 400 rows have no position"),
        (np.where(GAPS, 0, RA), np.where(GAPS, 0, DEC), 360, "40 of 400 rows have no position"),
        (np.radians(RA), np.radians(DEC), 0, "would also fit radians"),
        (RA / 15, DEC, 0, "would also fit hours"),
        (np.full(N, 10.0), np.full(N, 5.0), 0, "all 400 positions are the same"),
        (np.full(N, 0.0), np.full(N, 0.0), 0, "400 of 400 rows have no position"),
        (np.full(N, np.nan), np.full(N, np.nan), 0, "400 of 400 rows have no position"),
        (RA, -DEC, 0, ""),  # no disguise: other galaxies on the same sky
    ],
    ids=["10% NaN", "-99", "0, 0", "radians", "hours", "constant", "all 0, 0", "all NaN", "others"],
)  # fmt: skip
def test_no_leak_is_never_said_without_a_warning(
    original: Path, tmp_path: Path, ra: Numbers, dec: Numbers, n_pairs: int, says: str
) -> None:
    found = gzoo.leaks([original, build(tmp_path / "copy", "test", ra, dec)])
    assert found.pairs.height == n_pairs
    assert any(says in text for text in found.warnings) if says else not found.warnings


def test_positions_exchanged_within_the_range_of_both_are_suspected(tmp_path: Path) -> None:
    ra, dec = np.random.default_rng(0).uniform(10, 80, (2, N))
    one = build(tmp_path / "one", "train", ra, dec)
    with pytest.warns(GZooWarning, match="400 positions of .* if ra and dec were exchanged"):
        assert not gzoo.leaks([one, build(tmp_path / "copy", "test", dec, ra)]).has_leaks


def test_union_warns_like_leaks(original: Path, tmp_path: Path) -> None:
    copy = build(tmp_path / "copy", "test", np.radians(RA), np.radians(DEC))
    with pytest.warns(GZooWarning, match="would also fit radians"):
        made = gzoo.union([original, copy], out=tmp_path / "merged", campaign="gz_rings")
    assert made.n_shared == made.n_repeated == 0
    assert any("would also fit radians" in text for text in made.warnings)
    far = build(tmp_path / "far", "test", RA % 20 + 100, DEC / 9 + 40)
    near = build(tmp_path / "near", "test", RA % 20 + 200, DEC / 9 - 40)
    with pytest.warns(GZooWarning, match="nowhere near each other"):
        gzoo.union([far, near], out=tmp_path / "fields", campaign="gz_rings")


def test_a_published_copy_with_impossible_positions_is_refused(original: Path, tmp_path: Path) -> None:
    """A folder without a manifest, as others publish them."""
    shard = next((original / "data").glob("train*.parquet"))
    (tmp_path / "published" / "data").mkdir(parents=True)
    rows = pl.read_parquet(shard).with_columns(ra=pl.col("ra") * 60, dec=pl.col("dec") * 60)
    rows.write_parquet(tmp_path / "published" / "data" / shard.name)
    with pytest.raises(TableError, match="positions cannot be read or are out of range"):
        gzoo.leaks([original, tmp_path / "published"])
    assert any(
        "out of range" in text for text in gzoo.leaks([tmp_path / "published"], allow_bad_positions=True).warnings
    )


def test_warnings_are_in_the_json_output(original: Path, tmp_path: Path, command: Command) -> None:
    copy = build(tmp_path / "copy", "test", np.full(N, 10.0), np.full(N, 5.0))
    said = command("leaks", str(original), str(copy), "--json")
    warned = json.loads(said.out)["warnings"]
    assert said.code == 0
    assert sum("all 400 positions are the same" in text for text in warned) == 1
    assert sum("400 of 400 positions of" in text for text in warned) == 1
    assert "Warning: " in said.err


def test_one_identifier_far_apart_is_said(tmp_path: Path, original: Path) -> None:
    other = build(tmp_path / "original", "test", np.roll(RA, 1), np.roll(DEC, 1))
    with pytest.warns(GZooWarning, match="400 pairs have one identifier, but are over 2 arcsec apart"):
        assert gzoo.leaks([original, other]).pairs.height == 2 * N


def test_build_stops_where_most_positions_cannot_be_used(tmp_path: Path) -> None:
    half = [one if i % 2 else "somewhere" for i, one in enumerate(HOURS)]
    with pytest.raises(TableError, match="200 of 400 positions cannot be read"):
        build(tmp_path / "copy", "test", half, ANGLES)
    options: dict[str, Any] = {"votes": tmp_path / "copy.csv", "no_images": True, "split_column": "split"}
    made = gzoo.build("gz_rings", out=tmp_path / "some", allow_bad_positions=True, **options)
    assert made.n_galaxies == {"test": 200}
    assert made.n_dropped == {"position cannot be read": 200}
    assert made.positions["n_unreadable"] == 200
    detail = pl.read_parquet(tmp_path / "some" / "dropped.parquet")["detail"][0]
    assert detail.startswith("ra = somewhere, dec = ")
