"""Summary labels follow the answers with most votes, and need enough volunteers on that path."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gzoo
from gzoo import Votes, summary
from gzoo.errors import InputError
from gzoo.votes.summary import PUBLISHED


def votes_of(campaign: str, *galaxies: Mapping[str, int]) -> Votes:
    tree = gzoo.tree(campaign).published()
    counts = np.zeros((len(galaxies), len(tree.columns)), np.int64)
    for row, galaxy in zip(counts, galaxies, strict=True):
        for column, n in galaxy.items():
            row[tree.columns.index(column)] = n
    return Votes(tree, counts)


SMOOTH, FEATURED = "smooth-or-featured-gz2_smooth", "smooth-or-featured-gz2_featured-or-disk"
FACE_ON = {FEATURED: 30, "disk-edge-on-gz2_no": 28, "disk-edge-on-gz2_yes": 2}


@pytest.mark.parametrize(
    ("galaxy", "expected"),
    [
        ({SMOOTH: 30, "how-rounded-gz2_round": 30}, "smooth_round"),
        ({SMOOTH: 30, "how-rounded-gz2_in-between": 30}, "smooth_round"),
        ({SMOOTH: 30, "how-rounded-gz2_cigar": 20, "how-rounded-gz2_round": 10}, "smooth_cigar"),
        ({FEATURED: 30, "disk-edge-on-gz2_yes": 30}, "edge_on_disk"),
        (FACE_ON | {"has-spiral-arms-gz2_yes": 28, "bar-gz2_yes": 28}, "barred_spiral"),
        (FACE_ON | {"has-spiral-arms-gz2_yes": 28, "bar-gz2_no": 28}, "unbarred_spiral"),
        (FACE_ON | {"has-spiral-arms-gz2_no": 28, "bar-gz2_no": 28}, "featured_without_bar_or_spiral"),
        (FACE_ON | {"has-spiral-arms-gz2_no": 28, "bar-gz2_yes": 28}, ""),  # barred, without arms: no class of six
        ({"smooth-or-featured-gz2_artifact": 30}, ""),
        ({}, ""),
        # 15 of 30 is not more than half; those who said smooth count among the 30
        ({SMOOTH: 15, FEATURED: 15, "how-rounded-gz2_round": 15, "disk-edge-on-gz2_yes": 15}, ""),
        ({SMOOTH: 16, FEATURED: 14, "how-rounded-gz2_round": 16, "disk-edge-on-gz2_yes": 14}, "smooth_round"),
        # most say featured, so how round it is does not matter
        ({SMOOTH: 13, FEATURED: 17, "how-rounded-gz2_round": 13, "disk-edge-on-gz2_yes": 17}, "edge_on_disk"),
        # a question that is not on the path does not count, whatever its votes
        ({FEATURED: 30, "how-rounded-gz2_round": 30}, ""),
    ],
)
def test_the_published_rule(galaxy: Mapping[str, int], expected: str) -> None:
    assert summary(votes_of("gz2", galaxy)).tolist() == [expected]


def test_strong_and_weak_bars_are_bars_but_do_not_add_up() -> None:
    face_on = {"smooth-or-featured-dr5_featured-or-disk": 30, "disk-edge-on-dr5_no": 30, "has-spiral-arms-dr5_yes": 30}
    bars = [("bar-dr5_strong", "barred_spiral"), ("bar-dr5_weak", "barred_spiral"), ("bar-dr5_no", "unbarred_spiral")]
    for column, expected in bars:
        assert summary(votes_of("gz_desi", face_on | {column: 30})).tolist() == [expected]
    split = {"bar-dr5_strong": 9, "bar-dr5_weak": 9, "bar-dr5_no": 12}
    assert summary(votes_of("gz_desi", face_on | split)).tolist() == ["unbarred_spiral"]


def test_the_tree_version_with_most_votes_is_used() -> None:
    of_dr5 = {"smooth-or-featured-dr5_smooth": 10, "how-rounded-dr5_round": 10}
    of_dr8 = {"smooth-or-featured-dr8_smooth": 11, "how-rounded-dr8_cigar-shaped": 11}
    assert summary(votes_of("gz_desi", of_dr5, of_dr8, of_dr5 | of_dr8)).tolist() == [
        "smooth_round",
        "smooth_cigar",
        "smooth_cigar",
    ]


def test_clumps_are_between_features_and_disks() -> None:
    disk = {"smooth-or-featured-candels_features": 30, "disk-edge-on-candels_yes": 30}
    clumpy = summary(votes_of("gz_candels", disk | {"clumpy-appearance-candels_yes": 30}))
    smooth = summary(votes_of("gz_candels", disk | {"clumpy-appearance-candels_no": 30}))
    assert (clumpy.tolist(), smooth.tolist()) == ([""], ["edge_on_disk"])


@pytest.mark.parametrize("campaign", [one.name if hasattr(one, "name") else one for one in gzoo.campaigns()])
def test_every_campaign_has_summaries(campaign: str) -> None:
    tree = gzoo.tree(campaign).published()
    counts = np.random.default_rng(0).integers(0, 30, (200, len(tree.columns)))
    assert set(summary(Votes(tree, counts)).tolist()) <= {"", *PUBLISHED}


def test_custom_rules() -> None:
    votes = votes_of("gz2", {SMOOTH: 30, "how-rounded-gz2_in-between": 30}, {FEATURED: 20, "disk-edge-on-gz2_yes": 5})
    rule = {"round": ("how-rounded_round",), "oval": ("how-rounded_in-between",), "disk": ("disk-edge-on_yes",)}
    assert summary(votes, rule).tolist() == ["oval", ""]
    assert summary(votes, rule, min_proportion_asked=0.2).tolist() == ["oval", "disk"]
    with pytest.raises(InputError, match=r"Answer 'oval' not found for question 'how-rounded'"):
        summary(votes, {"oval": ("how-rounded_oval",)})


@given(seed=st.integers(0, 2**32 - 1), factor=st.integers(2, 5))
def test_scaling_all_votes_changes_nothing(seed: int, factor: int) -> None:
    tree = gzoo.tree("gz2").published()
    counts = np.random.default_rng(seed).poisson(8, (20, len(tree.columns)))
    assert summary(Votes(tree, counts)).tolist() == summary(Votes(tree, counts * factor)).tolist()
