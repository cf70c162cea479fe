"""The campaigns' TOML files agree with their sources, and are complete and graded."""

from __future__ import annotations

import json
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

import gzoo
from gzoo.dataset.schema import record
from gzoo.errors import GZooError, NotFoundError
from gzoo.trees.campaign import Campaign, campaign, campaigns, names
from gzoo.trees.tree import Tree

FACTS = Path(__file__).parents[3] / "shared" / "facts"
needs_facts = pytest.mark.skipif(not (FACTS / "trees.json").is_file(), reason=f"no facts at {FACTS}")

Block = dict[str, Any]
GRADES = {"READ", "COUNTED", "FITTED", "INFERRED", "GUESS"}

# campaign, tree's suffix -> the tree's name in trees.json
TREES = {
    ("gz2", "gz2"): "gz2",
    ("gz_hubble", "hubble"): "hubble",
    ("gz_candels", "candels"): "candels",
    ("gz_desi", "dr12"): "decals-dr12",
    ("gz_desi", "dr5"): "decals-dr5",
    ("gz_desi", "dr8"): "decals-dr8",
    ("gz_ukidss", "ukidss"): "ukidss",
    ("gz_h2o", "cd"): "cosmic-dawn",
    ("gz_jwst", "jwst"): "jwst-ceers",
    ("gz_jwst_cosmos", "jwst"): "jwst-cosmos",
    ("gz_euclid", "euclid"): "euclid",
    ("gz_rings", ""): "rings",
    ("gz_ferengi", "ferengi"): "ferengi",
}
# campaign: questions, answers, carried questions, carried answers, columns of the record
SIZES = {
    "gz2": (11, 37, 10, 30, 76),
    "gz_candels": (17, 50, 11, 32, 81),
    "gz_desi": (33, 119, 30, 98, 232),
    "gz_euclid": (14, 53, 13, 46, 5 + 2 * 46 + 13 + 1),
    "gz_evo": (90, 300, 73, 224, 527),
    "gz_ferengi": (18, 56, 18, 56, 5 + 2 * 56 + 18 + 1),
    "gz_h2o": (14, 52, 13, 45, 49),
    "gz_hubble": (18, 57, 13, 40, 99),
    "gz_jwst": (13, 46, 12, 39, 5 + 2 * 39 + 12 + 1),
    "gz_jwst_cosmos": (12, 43, 11, 36, 5 + 2 * 36 + 11 + 1),
    "gz_rings": (1, 2, 1, 2, 5 + 2 * 2 + 1 + 1),
    "gz_ukidss": (11, 37, 10, 30, 76),
}


def facts_of(name: str) -> Block:
    return tomllib.loads((resources.files("gzoo") / "trees" / "facts" / f"{name}.toml").read_text("utf-8"))


def tree_block(name: str, suffix: str) -> Block:
    return next(block for block in facts_of(name)["trees"] if block["suffix"] == suffix)


def stripped(column: str, suffix: str) -> str:
    """`bar-gz2_yes` -> `bar_yes`, as trees.json has it."""
    question, _, answer = column.partition("_")
    return f"{question.removesuffix(f'-{suffix}') if suffix else question}_{answer}"


def of_suffix(tree: Tree, suffix: str) -> list[gzoo.Question]:
    return [question for question in tree.questions if not suffix or question.name.endswith(f"-{suffix}")]


def test_every_tree_of_the_reference_is_compared() -> None:
    blocks = {(name, block["suffix"]) for name in names() for block in facts_of(name).get("trees", [])}
    assert blocks == set(TREES)


@needs_facts
@pytest.mark.parametrize(("where", "key"), TREES.items(), ids=TREES.values())
def test_trees_equal_the_reference(where: tuple[str, str], key: str) -> None:
    name, suffix = where
    facts = {one["question"]: one for one in json.loads((FACTS / "trees.json").read_text())[key]["questions"]}
    decided = {one["question"] for one in tree_block(name, suffix)["decisions"]}
    mine = {stripped(f"{one.name}_", suffix).removesuffix("_"): one for one in of_suffix(campaign(name).tree, suffix)}
    assert set(mine) == set(facts)
    for question, one in mine.items():
        fact = facts[question]
        assert {stripped(parent, suffix) for parent in one.parents} == set(fact["asked_after"]), question
        assert set(one.answers) == set(fact["answers"]), question
        assert [stripped(column, suffix) for column in one.columns] == [f"{question}_{a}" for a in one.answers]
        assert one.multiple == fact["multiple_choice"], question
        if fact.get("label_metadata_answers"):
            assert list(one.answers) == fact["label_metadata_answers"], question
        if one.is_published != fact["in_label_metadata"]:
            # FERENGI has no Hub card at all: one decision speaks of all its questions
            assert question in decided or (key == "ferengi" and "" in decided), question


@needs_facts
@pytest.mark.parametrize("name", ["gz2", "gz_candels", "gz_desi", "gz_hubble", "gz_ukidss", "gz_h2o", "gz_evo"])
def test_records_equal_the_cards(name: str) -> None:
    card = json.loads((FACTS / "cards" / f"{name}.json").read_text())
    assert record(campaign(name)).card_features() == card["columns"]


@needs_facts
@pytest.mark.parametrize("name", ["gz_euclid", "gz_jwst", "gz_jwst_cosmos"])
def test_columns_equal_the_label_lists(name: str) -> None:
    card = json.loads((FACTS / "cards" / f"{name}.json").read_text())
    assert list(campaign(name).published_tree.columns) == card["label_columns"]


def test_sizes_are_of_all_campaigns() -> None:
    assert tuple(SIZES) == names() == tuple(one.name for one in campaigns())


@pytest.mark.parametrize(("name", "sizes"), SIZES.items(), ids=SIZES)
def test_sizes(name: str, sizes: tuple[int, int, int, int, int]) -> None:
    one = campaign(name)
    assert sizes == (
        len(one.tree.questions),
        len(one.tree.columns),
        len(one.published_tree.questions),
        len(one.published_tree.columns),
        len(record(one).names),
    )


# What the votes themselves settled, and where the peers' lists err: these stand without the facts folder.
PARENTS = {
    "disk-edge-on-gz2": {"smooth-or-featured-gz2_featured-or-disk"},
    "bar-gz2": {"disk-edge-on-gz2_no"},
    "has-spiral-arms-gz2": {"disk-edge-on-gz2_no"},
    "bulge-size-gz2": {"disk-edge-on-gz2_no"},
    "spiral-winding-gz2": {"has-spiral-arms-gz2_yes"},
    "spiral-arm-count-gz2": {"has-spiral-arms-gz2_yes"},
    "something-odd-gz2": {"smooth-or-featured-gz2_smooth", "smooth-or-featured-gz2_featured-or-disk"},
    "odd-features-gz2": {"something-odd-gz2_yes"},
    "how-rounded-gz2": {"smooth-or-featured-gz2_smooth"},
    "bulge-shape-gz2": {"disk-edge-on-gz2_yes"},
    "merging-dr12": {"smooth-or-featured-dr12_smooth", "smooth-or-featured-dr12_featured-or-disk"},
    "spiral-winding-hubble": {"has-spiral-arms-hubble_yes", "clump-configuration-hubble_spiral"},
    "spiral-winding-candels": {"has-spiral-arms-candels_yes"},
    "clumps-cd": {"disk-edge-on-cd_no"},
    "clumps-jwst": {"smooth-or-featured-jwst_smooth", "smooth-or-featured-jwst_featured-or-disk"},
}


@pytest.mark.parametrize(("question", "parents"), PARENTS.items(), ids=PARENTS)
def test_known_parent_answers(question: str, parents: set[str]) -> None:
    trees = [one.tree for one in campaigns() if question in [other.name for other in one.tree.questions]]
    assert trees
    for tree in trees:
        assert set(tree.question(question).parents) == parents


def test_questions_with_boxes_are_multiple_choice() -> None:
    multiple = {
        question.name.rsplit("-", 1)[0] for one in campaigns() for question in one.tree.questions if question.multiple
    }
    assert multiple == {"odd-features", "rare-features"}


def test_columns_are_named_for_question_and_answer() -> None:
    for one in campaigns():
        for question in one.tree.questions:
            assert question.columns == tuple(f"{question.name}_{answer}" for answer in question.answers)


def test_each_tree_has_one_root_a_campaign() -> None:
    roots = {one.name: [q.name for q in one.tree.questions if not q.parents] for one in campaigns()}
    assert roots.pop("gz_desi") == [f"smooth-or-featured-{suffix}" for suffix in ("dr12", "dr5", "dr8")]
    assert len(roots.pop("gz_evo")) == 7
    assert {len(root) for root in roots.values()} == {1}


@pytest.mark.parametrize("name", names())
def test_every_block_has_grade_and_source(name: str) -> None:
    facts = facts_of(name)
    blocks = [facts["hub"], *facts.get("surveys", []), *facts.get("trees", [])]
    for block in blocks:
        assert block["grade"] in GRADES
        assert block["source"].strip()
    for tree in facts.get("trees", []):
        for question in tree["questions"]:
            assert question.get("grade", tree["grade"]) in GRADES
    for owner in (facts, *facts.get("trees", [])):
        for decision in owner.get("decisions", []):
            assert decision["decision"].strip()


@pytest.mark.parametrize("name", names())
def test_decisions_name_questions(name: str) -> None:
    """Questions of this campaign or, if it omits one, of a related campaign."""
    known = {q.columns[0].partition("_")[0] for one in campaigns() for q in one.tree.questions}
    known |= {question.rpartition("-")[0] for question in known}
    for decision in campaign(name).decisions:
        assert not decision.question or decision.question in known


@pytest.mark.parametrize("one", campaigns(), ids=names())
def test_papers_can_be_cited(one: Campaign) -> None:
    assert one.papers
    assert len({paper.key for paper in one.papers}) == len(one.papers)
    for paper in one.papers:
        assert paper.role in {"campaign", "survey", "dataset"}
        assert paper.authors
        assert paper.authors[0] in paper.reference
        assert str(paper.year) in paper.reference
        assert paper.title in paper.reference
        if paper.doi:
            assert paper.doi in paper.reference


def test_the_merged_campaign_is_its_members_side_by_side() -> None:
    evo = campaign("gz_evo")
    parts = [question.name for member in evo.members for question in campaign(member).tree.questions]
    assert [question.name for question in evo.tree.questions] == parts
    assert "clump-count-hubble" in [question.name for question in campaign("gz_hubble").published_tree.questions]
    assert "clump-count-hubble" not in [question.name for question in evo.published_tree.questions]
    members = {key for member in evo.members for key in [paper.key for paper in campaign(member).papers]}
    assert members <= {paper.key for paper in evo.papers}


def test_an_unknown_campaign_is_an_error() -> None:
    with pytest.raises(NotFoundError, match="Campaign not found: 'gz9'") as caught:
        gzoo.tree("gz9")
    assert isinstance(caught.value, GZooError)
    with pytest.raises(NotFoundError):
        campaign("../trees/facts/gz2")


@pytest.mark.parametrize("one", campaigns(), ids=names())
def test_records_describe_each_column_once(one: Campaign) -> None:
    columns = record(one)
    assert len(set(columns.names)) == len(columns.names)
    assert columns.arrow().names == list(columns.names)
    assert all(field.meaning.endswith(".") for field in columns.fields)
    features = json.loads(columns.arrow().metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"}
    assert features[one.published_tree.columns[0]] == {"dtype": "int32", "_type": "Value"}
    if one.hub.layout == "counts":
        assert not [name for name in columns.names if name.endswith(("_fraction", "_total-votes", "summary"))]
