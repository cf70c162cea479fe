"""Proposals for tables as others have them: no suffix, floats, extra columns, one of several trees."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from _pytest.mark import ParameterSet

from gzoo.errors import GZooWarning, TableError
from gzoo.simulator import simulate
from gzoo.trees.campaign import campaign, names
from gzoo.votes.mapping import propose
from gzoo.votes.proposal import Proposal, patterns
from gzoo.votes.reading import read_votes
from gzoo.zooniverse.mapping import mapping

FAST = ("candels", "rings", "dr5")  # parts of trees


def trees() -> Iterator[ParameterSet]:
    for name in names():
        if not campaign(name).members:
            for part in campaign(name).tree.parts:
                yield pytest.param(name, part, marks=() if part in FAST else pytest.mark.slow)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], pl.DataFrame]:
    """Votes on 60 galaxies of a campaign."""

    @cache
    def votes(name: str) -> pl.DataFrame:
        out = tmp_path_factory.mktemp(name) / "sky"
        made = simulate(name, n_galaxies=60, seed=2, out=out, images=False, export=False, workers=1)
        return pl.read_parquet(made.votes)

    return votes


def as_others(votes: pl.DataFrame, name: str, part: str) -> tuple[pl.DataFrame, dict[str, str]]:
    """Return a table as Zoobot and catalogues have them, and the right answers."""
    table = {"iauname": votes["id_str"], "ra": votes["ra"], "dec": votes["dec"]}
    right: dict[str, str] = {}
    rng = np.random.default_rng(0)
    for question in campaign(name).tree.parts[part]:
        plain = question.name.removesuffix(f"-{part}")
        counts = [votes[column] for column in question.columns]
        known = votes[question.total_column] if question.total_column in votes.columns else None
        total = known if known is not None else pl.select(pl.sum_horizontal(counts)).to_series()
        table[f"{plain}_total-votes"] = total.cast(pl.Float64)
        for column, count in zip(question.columns, counts, strict=True):
            right[column] = f"{plain}_{column.removeprefix(f'{question.name}_')}"
            table[right[column]] = count.cast(pl.Float64)
            table[f"{right[column]}_fraction"] = count / total
            table[f"{right[column]}_prediction"] = pl.Series(rng.random(votes.height) * 40)
    return pl.DataFrame(table), right


@pytest.mark.parametrize(("name", "part"), trees())
def test_every_answer_of_every_tree_is_found(simulated: Callable[[str], pl.DataFrame], name: str, part: str) -> None:
    frame, right = as_others(simulated(name), name, part)
    found = propose(frame, campaign(name), Path(f"votes_{part}.parquet"))
    assert dict(found.mapping.answers) == right
    assert not found.not_found
    assert not found.alternatives
    assert found.part == (part if len(campaign(name).tree.parts) > 1 else "")
    assert found.mapping.id_str == "iauname"
    if len(right) > 2:
        assert {"*_fraction", "*_prediction"} <= set(found.mapping.ignore)


def test_trees_that_fit_equally_are_named(simulated: Callable[[str], pl.DataFrame], tmp_path: Path) -> None:
    frame, right = as_others(simulated("gz_desi"), "gz_desi", "dr8")
    frame.write_parquet(tmp_path / "votes.parquet")
    with pytest.warns(
        GZooWarning, match="The columns fit dr8 as well as dr5, because questions and answers are the same"
    ):
        found = mapping(tmp_path / "votes.parquet", "gz_desi", out=tmp_path / "map.toml")
    assert isinstance(found, Proposal)
    assert (found.part, found.alternatives, found.is_complete) == ("dr5", ("dr8",), False)
    text = (tmp_path / "map.toml").read_text()
    assert "replace '-dr5'" in text
    body = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    (tmp_path / "map.toml").write_text(body.replace("-dr5", "-dr8"))
    read = read_votes(tmp_path / "votes.parquet", campaign("gz_desi"), tmp_path / "map.toml")
    for column in right:
        i = read.votes.tree.columns.index(column)
        assert read.votes.counts[:, i].tolist() == simulated("gz_desi")[column].to_list()


def test_a_column_that_names_the_tree_decides(simulated: Callable[[str], pl.DataFrame]) -> None:
    frame, _ = as_others(simulated("gz_desi"), "gz_desi", "dr8")
    found = propose(frame.rename({"iauname": "dr8_id"}), campaign("gz_desi"), Path("votes.parquet"))
    assert (found.part, found.alternatives) == ("dr8", ())


@pytest.mark.parametrize("end", [".jpg", ".png", ".fits", ".FIT"])
def test_image_names_of_every_kind_and_splits_are_found(simulated: Callable[[str], pl.DataFrame], end: str) -> None:
    frame, _ = as_others(simulated("gz2"), "gz2", "gz2")
    n = frame.height
    frame = frame.with_columns(
        file_loc=pl.Series([f"a/{i}{end}" for i in range(n)]), split=pl.Series(["train", "test"] * (n // 2))
    )
    found = propose(frame, campaign("gz2"), Path("votes.parquet"))
    assert (found.mapping.image, found.split_column) == ("file_loc", "split")
    assert "--split-column" in found.to_toml()
    other = frame.with_columns(split=pl.Series(["a", "b"] * (n // 2)))
    assert propose(other, campaign("gz2"), Path("votes.parquet")).split_column == ""


def test_a_table_of_weighted_votes_alone_says_where_counts_are() -> None:
    columns = {f"{name}_weighted": [1.5] * 9 for name in campaign("gz2").tree.columns}
    frame = pl.DataFrame({"id_str": [str(i) for i in range(9)], **columns})
    with pytest.raises(TableError, match="weighted or debiased") as caught:
        propose(frame, campaign("gz2"), Path("votes.parquet"))
    assert "mwalmsley/gz2" in caught.value.hint


def test_weighted_votes_beside_few_counts_are_said(simulated: Callable[[str], pl.DataFrame]) -> None:
    frame, _ = as_others(simulated("gz2"), "gz2", "gz2")
    kept = [name for name in frame.columns if name.startswith(("iauname", "smooth-or"))]
    frame = frame.select(kept).with_columns(pl.lit(0.5).alias("bar_yes_debiased"))
    found = propose(frame, campaign("gz2"), Path("votes.parquet"))
    assert "weighted or debiased columns (1, such as bar_yes_debiased)" in found.unusable
    assert found.unusable in found.summary
    assert "mwalmsley/gz2" in found.to_toml()


def test_patterns_never_match_a_column_that_is_used() -> None:
    ignored: dict[str, str] = dict.fromkeys(("a_x", "b_x", "c_x", "d*_y"), "why")
    assert patterns(ignored, ["n"]) == {"*_x": "why (3 columns)", "d[*]_y": "why"}
    assert patterns(ignored, ["used_x"]) == {"a_x": "why", "b_x": "why", "c_x": "why", "d[*]_y": "why"}
