"""Filters with the conditions that give the same galaxies in DuckDB, and identifiers that might be misread."""

from __future__ import annotations

from pathlib import Path

import duckdb

BAR = '"bar-gz2_yes_fraction" {} and not isnan("bar-gz2_yes_fraction")'
ROUND = '"how-rounded-gz2_round_fraction" {} and not isnan("how-rounded-gz2_round_fraction")'
# an expression, and the condition that asks DuckDB for the same galaxies
FILTERS = {
    "": "true",
    "bar.yes > 0.25": BAR.format("> 0.25"),
    "bar-gz2.yes <= 0.5 and bar.asked >= 3": BAR.format("<= 0.5") + ' and "bar-gz2_total-votes" >= 3',
    "not bar.yes > 0.25": BAR.format("<= 0.25"),
    "0.2 < how-rounded.round < 0.7": ROUND.format("> 0.2") + " and " + ROUND.format("< 0.7"),
    "bar.yes is missing": 'isnan("bar-gz2_yes_fraction")',
    "bar.yes is not missing and ra > 180": 'not isnan("bar-gz2_yes_fraction") and ra > 180 and not isnan(ra)',
    "bar-gz2_yes >= 2 or how-rounded.round > .9": f'"bar-gz2_yes" >= 2 or ({ROUND.format("> 0.9")})',
    "bar.yes.n in (0, 1, 2)": '"bar-gz2_yes" in (0, 1, 2)',
    "smooth-or-featured.smooth > smooth-or-featured.featured-or-disk": (
        '"smooth-or-featured-gz2_smooth" > "smooth-or-featured-gz2_featured-or-disk"'
    ),
    "id_str contains '1' and split = 'train'": "id_str like '%1%' and filename like '%train%'",
    "not (bar.yes > 0.5 or disk-edge-on.yes > 0.5)": (
        f"{BAR.format('<= 0.5')} and " + BAR.format("<= 0.5").replace("bar-gz2", "disk-edge-on-gz2")
    ),
}


def oracle(dataset: Path, where: str) -> set[str]:
    # copied to a table first: in a scan, DuckDB 2.0 takes statistics, which leave out NaN, for proof that there is none
    with duckdb.connect() as database:
        shards = f"read_parquet('{dataset}/data/*.parquet', filename=true)"
        database.execute(f"create table galaxies as select * exclude (image) from {shards}")
        return {name for (name,) in database.sql(f"select id_str from galaxies where {where}").fetchall()}


ODD = ["a'b\"c", "<script>alert(1)</script>", "../../etc/passwd", "100% sure?&x=1#y", "naïve ☄ galaxy", "{{7*7}}"]
