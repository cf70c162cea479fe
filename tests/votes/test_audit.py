"""Audits find the parent answers that votes agree with, and misnamed columns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_votes import STRIPE_82_COLUMNS, STRIPE_82_PARENTS, stripe_82, stripe_82_mapping

import gzoo
from gzoo import cli
from gzoo.dataset.audit import audit
from gzoo.errors import InputError
from gzoo.simulator import simulate
from gzoo.trees.campaign import campaign, tree
from gzoo.trees.tree import IntArray, Tree
from gzoo.votes.audit import Audit, audit_votes
from gzoo.votes.parents import ParentAnswers, infer_parents
from gzoo.votes.reading import read_votes
from gzoo.votes.votes import Votes

GZ2 = campaign("gz2")
FERENGI = campaign("gz_ferengi").tree
CLUMP_COUNTS = ["a60_1", "a50_2", "a51_3", "a52_4", "a53_more_than_4", "a54_cant_tell"]
FERENGI_ENDS = {  # as the table names its columns
    "smooth-or-featured": ("t01_smooth_or_features", ["a01_smooth", "a02_features_or_disk", "a03_star_or_artifact"]),
    "how-rounded": ("t07_rounded", ["a16_completely_round", "a17_in_between", "a18_cigar_shaped"]),
    "clumpy-appearance": ("t14_clumpy", ["a39_yes", "a40_no"]),
    "clump-count": ("t19_clumps_count", CLUMP_COUNTS),
    "odd-features": ("t08_odd_feature", ["a19_ring", "a20_lens", "a21_disturbed", "a22_irregular", "a23_other",
                                         "a24_merger", "a38_dustlane"]),
    "bulge-size": ("t05_bulge_prominence", ["a10_no_bulge", "a11_just_noticeable", "a12_obvious"]),
}  # fmt: skip


@pytest.fixture(scope="module")
def ferengi(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Audit:
    """The table of FERENGI galaxies, its columns taken for what they are named."""
    folder = tmp_path_factory.mktemp("ferengi")
    table = shared_data / "hubble_ferengi" / "votes_collated.csv"
    proposed = gzoo.mapping(table, "gz_ferengi")
    answers = dict(proposed.mapping.answers)  # pyright: ignore[reportAttributeAccessIssue]
    totals = dict(proposed.mapping.totals)  # pyright: ignore[reportAttributeAccessIssue]
    for question in ("clump-count", "odd-features", "bulge-size"):
        start, ends = FERENGI_ENDS[question]
        names = FERENGI.question(f"{question}-ferengi").columns
        answers |= {name: f"{start}_{end}_frac" for name, end in zip(names, ends, strict=True)}
        totals[f"{question}-ferengi"] = f"{start}_count"
    lines = ['id_str = "subject_id"', 'values = "fractions"', 'ignore = ["*"]', "[answers]"]
    lines += [f'"{name}" = "{column}"' for name, column in answers.items()]
    lines += ["[totals]", *(f'"{name}" = "{column}"' for name, column in totals.items())]
    (folder / "named.toml").write_text("\n".join(lines))
    return audit(table, "gz_ferengi", mapping=folder / "named.toml")


def test_parent_answers_of_ferengi_are_inferred(ferengi: Audit) -> None:
    """They agree with every row for 14 questions, and with all but one row for two."""
    assert ferengi.n_rows == ferengi.n_used == 8306
    right = next(one.columns for one in FERENGI.questions if one.name == "clump-count-ferengi")
    shifted = dict(zip(right, [right[-1], *right[:-1]], strict=True))  # what is named 2 holds 1
    judged = {one.question: one for one in ferengi.questions}
    with_parents = [one for one in FERENGI.questions if one.parents and one.name != "odd-features-ferengi"]
    assert len(with_parents) == 16
    fractions: list[float] = []
    for question in with_parents:
        found = judged[question.name]
        as_named = {next((name for name, held in shifted.items() if held == one), one) for one in question.parents}
        classes = [set(found.inferred_parents or ()), *map(set, found.equivalents)]
        assert as_named in classes, question.name
        assert found.is_certain
        fractions.append(found.inferred_fraction)
    assert sum(fraction == 1.0 for fraction in fractions) == 14
    in_all_but_one = {one.question for one in ferengi.questions if one.n_inconsistent == 1 and one.parents}
    assert in_all_but_one == {"clumpy-appearance-ferengi", "something-odd-ferengi"}
    assert all(fraction > 0.9998 - 1e-4 for fraction in fractions)


def test_shifted_clump_counts_of_ferengi_are_found(ferengi: Audit) -> None:
    found = ferengi.of("clump-count-ferengi").swap
    assert found is not None
    assert (found.kind, found.offset, found.is_only, found.fraction) == ("shift", 1, True, 1.0)
    assert found.answers["t19_clumps_count_a50_2_frac"] == "clump-count-ferengi_1"
    assert found.answers["t19_clumps_count_a60_1_frac"] == "clump-count-ferengi_cant-tell"
    assert "shifted by 1 position" in ferengi.of("clump-count-ferengi").description
    assert "the only shift that fits" in ferengi.of("clump-count-ferengi").description
    assert [one.question for one in ferengi.questions if one.swap] == ["clump-count-ferengi"]


def test_totals_of_ferengi_that_are_not_sums_are_reported(ferengi: Audit) -> None:
    found = ferengi.of("odd-features-ferengi")
    assert found.n_total_mismatches == 8306
    assert "not the sum of the answers" in found.description
    assert not ferengi.is_consistent


@pytest.fixture(scope="module")
def coadd(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return shared_data / "gz2_coadd" / "counts.csv", stripe_82_mapping(tmp_path_factory.mktemp("stripe82"))


def test_real_gz2_votes_agree_with_the_tree(coadd: tuple[Path, Path]) -> None:
    table, columns = coadd
    found = audit(table, "gz2", mapping=columns)
    assert found.is_consistent
    assert found.n_used == 19_761
    assert {one.verdict for one in found.questions} == {"consistent"}
    assert min(one.fraction for one in found.questions) >= 0.96
    for one in found.questions:
        assert set(one.parents) in [set(one.inferred_parents or ()), *map(set, one.equivalents)], one.question
    # the published facts, to three places: bar, winding, something-odd
    by_hand = {"bar": 0.99, "spiral-winding": 0.99, "something-odd": 0.961}
    raw = pl.read_csv(table)
    for question, parents in STRIPE_82_PARENTS.items():
        if question == "odd-features":
            continue
        asked = pl.sum_horizontal(stripe_82(question, answer) for answer in STRIPE_82_COLUMNS[question][1])
        led = pl.sum_horizontal(stripe_82(*parent.split("_")) for parent in parents)
        rows = raw.select(asked=asked, led=led).filter((pl.col("asked") > 0) | (pl.col("led") > 0))
        one = found.of(f"{question}-gz2")
        assert one.n_checked == rows.height
        assert one.n_inconsistent == rows.filter(pl.col("asked") != pl.col("led")).height
        if question in by_hand:
            assert one.fraction >= by_hand[question]


def test_parent_answers_of_the_label_lists_are_contradicted(coadd: tuple[Path, Path]) -> None:
    """The label lists of galaxy-datasets ask about the bar after featured, and about odd features always."""
    featured, ends = "smooth-or-featured-gz2_featured-or-disk", {"bar-gz2", "has-spiral-arms-gz2", "bulge-size-gz2"}
    questions = tuple(
        replace(one, parents=(featured,)) if one.name in ends
        else replace(one, parents=()) if one.name == "something-odd-gz2"
        else one
        for one in GZ2.tree.questions
    )  # fmt: skip
    found = audit(coadd[0], Tree("peers", questions), mapping=coadd[1])
    assert {one.question for one in found.questions if one.verdict == "contradicted"} == {*ends, "something-odd-gz2"}
    bar = found.of("bar-gz2")
    assert bar.inferred_parents == ("disk-edge-on-gz2_no",)
    assert 0.62 < bar.fraction < 0.66
    assert "only 62.7% of rows" in bar.description
    assert "disk-edge-on-gz2 = no" in bar.description
    assert 0.31 < found.of("something-odd-gz2").fraction < 0.33
    assert "smooth-or-featured-gz2 = smooth / featured-or-disk" in found.of("something-odd-gz2").description


def test_exchanged_columns_are_found(coadd: tuple[Path, Path], tmp_path: Path) -> None:
    text = coadd[1].read_text()
    for old, new in (("a04_yes", "@"), ("a05_no", "a04_yes"), ("@", "a05_no")):  # edge-on yes and no change places
        text = text.replace(old, new)
    (tmp_path / "wrong.toml").write_text(text)
    found = audit(coadd[0], "gz2", mapping=tmp_path / "wrong.toml").of("disk-edge-on-gz2")
    assert found.swap is not None
    assert found.swap.answers == {
        "t02_edgeon_a05_no_count": "disk-edge-on-gz2_no",
        "t02_edgeon_a04_yes_count": "disk-edge-on-gz2_yes",
    }


def corrupted(name: str, n: int, seed: int, folder: Path) -> tuple[IntArray, Tree]:
    """Simulated votes in which 5% of the rows are random."""
    made = simulate(name, n_galaxies=n, seed=seed, images=False, export=False, out=folder / f"{name}-{seed}")
    asked = tree(name)
    counts = pl.read_parquet(made.votes).select(asked.columns).to_numpy().astype(np.int64)
    rng = np.random.default_rng(seed)
    for row in rng.permutation(n)[: n // 20]:
        answers = rng.permutation(counts.shape[1])[: max(2, counts.shape[1] // 3)]
        counts[row, answers] = rng.integers(0, max(int(counts[row].max()), 1) + 1, len(answers))
    return counts, asked


SLOWER = [pytest.param(name, marks=pytest.mark.slow) for name in ("gz_hubble", "gz_desi")]


@pytest.mark.parametrize("name", ["gz_candels", *SLOWER])
def test_parent_answers_are_inferred_from_corrupted_votes(name: str, tmp_path: Path) -> None:
    counts, asked = corrupted(name, 2000, 11, tmp_path)
    questions = [(q.name, q.columns) for q in asked.questions]
    inferred = infer_parents(counts, asked.columns, questions, asked.totals(counts))
    missed = [
        (question.name, parents)
        for question, parents in zip(asked.questions, inferred, strict=True)
        if set(question.parents) not in [set(parents.answers), *map(set, parents.equivalents)]
    ]
    assert len(missed) <= 0.02 * len(inferred)
    assert not [parents for _, parents in missed if parents.is_certain]


@settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(11)), seed=st.integers(0, 5))
def test_the_order_of_questions_does_not_matter(order: list[int], seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    asked = GZ2.tree
    counts = random_votes(asked, 120, 30, rng)
    totals = asked.totals(counts)
    questions = [(asked.questions[i].name, asked.questions[i].columns) for i in order]
    shuffled = infer_parents(counts, asked.columns, questions, totals[:, order])
    straight = infer_parents(counts, asked.columns, [(q.name, q.columns) for q in asked.questions], totals)
    assert {one.question: _key(one) for one in shuffled} == {one.question: _key(one) for one in straight}


def _key(parents: ParentAnswers) -> tuple[float, int, frozenset[frozenset[str]]]:
    return parents.fraction, parents.n_checked, frozenset(map(frozenset, (parents.answers, *parents.equivalents)))


def random_votes(asked: Tree, n: int, n_votes: int, rng: np.random.Generator) -> IntArray:
    """Votes of volunteers who answer at random, with other probabilities for each galaxy."""
    counts = np.zeros((n, len(asked.columns)), np.int64)
    for row in counts:
        for question in asked.ordered:
            parents = list(asked.parents_of_question[asked.questions.index(question)])
            total = int(row[parents].sum()) if parents else n_votes
            row[asked.slice(question.name)] = rng.multinomial(total, rng.dirichlet(np.ones(len(question.columns))))
    return counts


def test_few_rows_give_no_verdict() -> None:
    counts = random_votes(GZ2.tree, 5, 30, np.random.default_rng(0))
    audits, _ = audit_votes(Votes(GZ2.tree, counts), [str(i) for i in range(5)])
    assert {one.verdict for one in audits} == {"unknown"}


def test_a_dataset_folder_is_audited(dataset: Path) -> None:
    found = audit(dataset)
    assert found.tree == "gz2"
    assert found.is_consistent
    assert found.n_used == 60
    assert audit(dataset, "gz2") == found
    with pytest.raises(InputError, match="not of"):
        audit(dataset, "gz_rings")
    with pytest.raises(InputError, match="does not apply"):
        audit(dataset, mapping=dataset)


def test_the_campaign_is_recognised_from_the_columns(tmp_path: Path) -> None:
    made = simulate("gz_candels", n_galaxies=40, images=False, export=False, out=tmp_path / "sky")
    assert audit(made.votes).tree == "gz_candels"
    pl.DataFrame({"id_str": ["a"], "b": [1]}).write_csv(tmp_path / "t.csv")
    with pytest.raises(InputError, match="are unknown"):
        audit(tmp_path / "t.csv")


def test_dropped_rows_are_counted(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id_str,ring_yes,ring_no\na,-1,1\n,1,1\n".replace("ring_", "ring-rings_"))
    columns = tree("gz_rings").columns
    (tmp_path / "t.csv").write_text(f"id_str,{columns[0]},{columns[1]}\na,-1,1\n,1,1\n")
    found = audit(tmp_path / "t.csv", "gz_rings")
    assert (found.n_rows, found.n_used, dict(found.n_dropped)) == (2, 0, {"count negative": 1, "identifier missing": 1})


def test_questions_without_parent_answers_in_the_table_are_not_checked(tmp_path: Path) -> None:
    counts = random_votes(GZ2.tree, 60, 30, np.random.default_rng(1))
    frame = pl.DataFrame({name: counts[:, i] for i, name in enumerate(GZ2.tree.columns)})
    kept = frame.select(pl.selectors.starts_with("smooth-or", "bar")).with_row_index("id_str")
    kept.write_csv(tmp_path / "t.csv")
    assert read_votes(tmp_path / "t.csv", GZ2).collected == ("smooth-or-featured-gz2", "bar-gz2")
    found = audit(tmp_path / "t.csv", "gz2")
    assert found.of("bar-gz2").verdict == "unknown"
    assert "cannot be checked" in found.of("bar-gz2").description
    assert "how-rounded-gz2" in found.not_collected


def test_the_exit_code_of_the_command_is_the_verdict(
    coadd: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["gzoo", "audit", str(coadd[0]), "gz2", "--mapping", str(coadd[1])]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0
    assert "consistent with the decision tree" in capsys.readouterr().out
    text = coadd[1].read_text().replace("a04_yes", "@").replace("a05_no", "a04_yes").replace("@", "a05_no")
    (tmp_path / "wrong.toml").write_text(text)
    monkeypatch.setattr("sys.argv", [*command[:-1], str(tmp_path / "wrong.toml"), "--json"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 1
    facts = json.loads(capsys.readouterr().out)
    assert facts["is_consistent"] is False
    assert facts["n_used"] == 19_761
