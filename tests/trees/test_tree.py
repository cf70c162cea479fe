"""Trees: the graph of questions, the chance of being asked, and how trees are shown."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import gzoo
from gzoo.errors import TreeError
from gzoo.trees.campaign import campaigns, names
from gzoo.trees.tree import FloatArray, Question, Tree, union

quick = settings(max_examples=60, deadline=None)


def question(name: str, answers: str = "yes no", after: str = "", *, multiple: bool = False) -> Question:
    """A question with answers and parent columns written in one line each."""
    kinds = tuple(answers.split())
    return Question(name, kinds, tuple(f"{name}_{kind}" for kind in kinds), tuple(after.split()), multiple)


@dataclass(frozen=True)
class Walks:
    """A tree as a volunteer meets it: each answer leads to at most one next question."""

    n_answers: tuple[int, ...]
    leads_to: dict[tuple[int, int], int | None]
    order: tuple[int, ...]

    def tree(self, hidden: frozenset[int] = frozenset()) -> Tree:
        questions = [
            question(f"q{i}", " ".join(f"a{j}" for j in range(n)), " ".join(self.parents(i)))
            for i, n in enumerate(self.n_answers)
        ]
        return Tree("walks", tuple(replace(questions[i], is_published=i not in hidden) for i in self.order))

    def parents(self, i: int) -> list[str]:
        return [f"q{of}_a{answer}" for (of, answer), to in self.leads_to.items() if to == i]

    def probability_of(self, asked: int, chance: dict[str, float]) -> float:
        """Sum over all whole walks that meet the question, each the product of its answers' chances."""

        def walk(at: int | None, so_far: float, met: bool) -> float:
            if at is None:
                return so_far if met else 0.0
            met = met or at == asked
            return sum(
                walk(self.leads_to[at, answer], so_far * chance[f"q{at}_a{answer}"], met)
                for answer in range(self.n_answers[at])
            )

        return walk(0, 1.0, False)


@st.composite
def walks(draw: st.DrawFn) -> Walks:
    """Questions lead only to later ones; those that no walk meets are dropped; dataset order is any."""
    n = draw(st.integers(1, 7))
    n_answers = [draw(st.integers(1, 4)) for _ in range(n)]
    leads_to = {
        (i, j): draw(st.one_of(st.none(), st.integers(i + 1, n - 1))) if i < n - 1 else None
        for i in range(n)
        for j in range(n_answers[i])
    }
    met = {0}
    for i in range(n):
        if i in met:
            met |= {to for j in range(n_answers[i]) if (to := leads_to[i, j]) is not None}
    new = {old: place for place, old in enumerate(sorted(met))}
    edges = {(new[i], j): None if to is None else new[to] for (i, j), to in leads_to.items() if i in met}
    return Walks(tuple(n_answers[i] for i in sorted(met)), edges, tuple(draw(st.permutations(range(len(met))))))


def fractions_of(tree: Tree, seed: int, n: int = 3) -> FloatArray:
    """Random probabilities, some of them 0 or 1, that add up to 1 within each question."""
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.dirichlet([0.3] * len(one.columns), n) for one in tree.questions])


@quick
@given(walks(), st.integers(0, 10**6))
def test_proportion_asked_is_the_sum_over_all_walks(walk: Walks, seed: int) -> None:
    tree = walk.tree()
    fractions = fractions_of(tree, seed)
    proportion_asked = tree.proportion_asked(fractions)
    assert proportion_asked.shape == (len(fractions), len(tree.questions))
    assert ((proportion_asked >= 0) & (proportion_asked <= 1)).all()
    for row, own in enumerate(fractions):
        chance = dict(zip(tree.columns, own, strict=True))
        for i, one in enumerate(tree.questions):
            assert proportion_asked[row, i] == pytest.approx(walk.probability_of(int(one.name[1:]), chance), abs=1e-12)


@quick
@given(walks(), st.integers(0, 10**6))
def test_proportion_asked_is_the_sum_over_parent_answers(walk: Walks, seed: int) -> None:
    tree = walk.tree()
    fractions = fractions_of(tree, seed)
    proportion_asked = dict(zip([one.name for one in tree.questions], tree.proportion_asked(fractions).T, strict=True))
    fraction = dict(zip(tree.columns, fractions.T, strict=True))
    for one in tree.questions:
        parents = [(column.partition("_")[0], column) for column in one.parents]
        expected = sum((proportion_asked[of] * fraction[column] for of, column in parents), np.zeros(len(fractions)))
        np.testing.assert_allclose(proportion_asked[one.name], expected if parents else 1.0, atol=1e-12)


@quick
@given(walks(), st.data())
def test_a_tree_without_some_questions_is_valid(walk: Walks, data: st.DataObject) -> None:
    """`carried` accepts every subset; where the way is not fully shown reach is NaN, elsewhere it is unchanged."""
    hidden = data.draw(st.frozensets(st.sampled_from(range(len(walk.n_answers)))))
    assume(len(hidden) < len(walk.n_answers))
    whole = walk.tree(hidden)
    part = whole.published()
    assert [one.name for one in part.questions] == [one.name for one in whole.questions if one.is_published]
    assert part.unavailable == set(whole.columns) - set(part.columns)

    def is_lost(name: str) -> bool:
        owners = {column.partition("_")[0] for column in whole.question(name).parents}
        return any(int(owner[1:]) in hidden or is_lost(owner) for owner in owners)

    assert set(part.unreachable) == {one.name for one in part.questions if is_lost(one.name)}
    fractions = fractions_of(whole, 1)
    known = part.proportion_asked(fractions[:, [whole.columns.index(column) for column in part.columns]])
    all_proportion_asked = whole.proportion_asked(fractions)
    for i, one in enumerate(part.questions):
        if one.name in part.unreachable:
            assert np.isnan(known[:, i]).all()
        else:
            np.testing.assert_allclose(
                known[:, i], all_proportion_asked[:, whole.questions.index(whole.question(one.name))]
            )
    for text in (part.to_text(), part.to_mermaid(), whole.to_text(), whole.to_mermaid()):
        assert all(one.name in text for one in part.questions)


@quick
@given(walks(), st.integers(1, 60))
def test_votes_of_walks_never_break_a_tree(walk: Walks, n_volunteers: int) -> None:
    """Count volunteers who each follow one path: totals are the volunteers who were asked the question."""
    tree = walk.tree()
    rng = np.random.default_rng(n_volunteers)
    counts = dict.fromkeys(tree.columns, 0)
    met = dict.fromkeys([one.name for one in tree.questions], 0)
    for _ in range(n_volunteers):
        at: int | None = 0
        while at is not None:
            answer = int(rng.integers(walk.n_answers[at]))
            met[f"q{at}"] += 1
            counts[f"q{at}_a{answer}"] += 1
            at = walk.leads_to[at, answer]
    votes = gzoo.Votes(tree, np.array([list(counts.values())]))
    assert votes.totals[0].tolist() == list(met.values())
    assert not votes.breaks.any()


ROOT = question("shape", "smooth disk star")
REJECTED = {
    "two questions asked after the same answer": (
        [ROOT, question("bar", "yes no", "shape_disk"), question("arms", "yes no", "shape_disk"),
         question("odd", "yes no", "bar_yes arms_yes")],
        ("odd", "bar_yes", "arms_yes"),
    ),
    "an answer and one that follows it": (
        [ROOT, question("bar", "yes no", "shape_disk"), question("odd", "yes no", "shape_disk bar_yes")],
        ("odd", "shape_disk", "bar_yes"),
    ),
    "an answer and one that follows it two steps on": (
        [ROOT, question("bar", "yes no", "shape_disk"), question("size", "big small", "bar_yes"),
         question("odd", "yes no", "size_big shape_disk")],
        ("odd", "shape_disk", "size_big"),
    ),
    "two answers of a question that allows several": (
        [ROOT, question("marks", "ring lens", "shape_disk", multiple=True),
         question("odd", "yes no", "marks_ring marks_lens")],
        ("odd", "marks_ring", "marks_lens"),
    ),
    "ways that part at a question that allows several": (
        [question("marks", "ring lens", multiple=True), question("size", "big", "marks_ring"),
         question("kind", "arc", "marks_lens"), question("odd", "yes no", "size_big kind_arc")],
        ("odd", "size_big", "kind_arc"),
    ),
    "two roots": (
        [ROOT, question("colour", "red blue"), question("odd", "yes no", "shape_disk colour_red")],
        ("odd", "shape_disk", "colour_red"),
    ),
    "the same parent twice": ([ROOT, question("odd", "yes no", "shape_disk shape_disk")], ("odd", "shape_disk")),
    "a cycle": (
        [ROOT, question("a", "yes no", "b_yes"), question("b", "yes no", "a_yes")],
        ("cycle among", "a", "b"),
    ),
    "a question after itself": ([ROOT, question("a", "yes no", "a_yes")], ("cycle", "a")),
    "an unknown parent": ([ROOT, question("odd", "yes no", "shape_disc")], ("odd", "shape_disc", "is not an answer")),
    "a question as parent": ([ROOT, question("odd", "yes no", "shape")], ("odd", "'shape'", "is not an answer")),
    "a question twice": ([ROOT, ROOT], ("question", "'shape'", "twice")),
    "a column twice": ([question("a", "yes yes")], ("answer column", "'a_yes'", "twice")),
    "no answers": ([ROOT, question("a", "")], ("'a'", "0 answers")),
    "more columns than answers": ([Question("a", ("x",), ("a_x", "a_y"))], ("'a'", "1 answers", "2 columns")),
}  # fmt: skip


@pytest.mark.parametrize(("questions", "words_of_message"), REJECTED.values(), ids=REJECTED)
def test_contradictions_are_rejected(questions: list[Question], words_of_message: tuple[str, ...]) -> None:
    for order in (questions, questions[::-1]):
        with pytest.raises(TreeError) as caught:
            Tree("test", tuple(order))
        for words in words_of_message:
            assert words in str(caught.value)
        assert "'test'" in str(caught.value)
        assert caught.value.expected
        assert caught.value.hint


ACCEPTED = {
    "two answers of one question": [ROOT, question("odd", "yes no", "shape_smooth shape_disk")],
    "ways that exclude each other": [
        ROOT,
        question("round", "yes no", "shape_smooth"),
        question("bar", "yes no", "shape_disk"),
        question("odd", "yes no", "round_yes round_no bar_yes"),
    ],
    "an answer and one behind another answer": [
        ROOT,
        question("bar", "yes no", "shape_disk"),
        question("odd", "yes no", "shape_smooth bar_yes"),
    ],
    "one answer of a question that allows several": [
        question("marks", "ring lens", multiple=True),
        question("odd", "yes no", "marks_ring"),
    ],
}


@pytest.mark.parametrize("questions", ACCEPTED.values(), ids=ACCEPTED)
def test_exclusive_parents_are_accepted(questions: list[Question]) -> None:
    tree = Tree("test", tuple(questions))
    assert {one.name for one in tree.ordered} == {one.name for one in questions}


def test_an_unpublished_question_may_make_parents_exclusive() -> None:
    whole = Tree(
        "test",
        (
            ROOT,
            replace(question("hidden", "yes no", "shape_disk"), is_published=False),
            question("bar", "yes no", "hidden_yes"),
            question("round", "yes no", "shape_smooth"),
            question("odd", "yes no", "bar_yes round_yes"),
        ),
    )
    assert whole.published().unreachable == ("bar", "odd")


def test_questions_may_be_asked_in_another_order_than_the_columns() -> None:
    tree = Tree("test", (question("odd", "yes no", "bar_yes"), question("bar", "yes no", "shape_disk"), ROOT))
    assert [one.name for one in tree.ordered] == ["shape", "bar", "odd"]
    assert tree.columns[:2] == ("odd_yes", "odd_no")
    proportion_asked = tree.proportion_asked(np.array([[0.5, 0.5, 0.4, 0.6, 0.2, 0.5, 0.3]]))
    np.testing.assert_allclose(proportion_asked, [[0.2, 0.5, 1.0]])


def test_totals_where_several_answers_are_allowed() -> None:
    tree = Tree("test", (ROOT, question("marks", "ring lens", "shape_smooth shape_disk", multiple=True)))
    counts = np.array([[3, 4, 9, 5, 6], [1, 0, 9, 2, 3], [0, 0, 0, 0, 0]])
    assert tree.totals(counts)[:, 1].tolist() == [7, 3, 0]  # those asked; at least the largest count
    assert tree.totals(counts)[:, 0].tolist() == [16, 10, 0]
    root = Tree("test", (question("marks", "ring lens", multiple=True),))
    assert root.totals(np.array([[5, 6]])).tolist() == [[6]]


def test_lookups() -> None:
    tree = gzoo.tree("gz2")
    for one in tree.questions:
        assert tree.columns[tree.slice(one.name)] == one.columns
        assert tree.question(one.name) is one
        assert {tree.question_of_answer[i] for i in range(*tree.slice(one.name).indices(99))} == {
            tree.questions.index(one)
        }
    with pytest.raises(TreeError, match="Question 'bar' not found"):
        tree.slice("bar")


def test_proportion_asked_is_unknown_after_an_unpublished_answer() -> None:
    whole = gzoo.tree("gz_hubble")
    part = whole.published()
    assert not whole.unreachable
    assert "bulge-size-hubble" in part.unreachable
    assert "how-rounded-hubble" not in part.unreachable
    proportion_asked = part.proportion_asked(fractions_of(part, 0))
    is_nan = dict(zip([one.name for one in part.questions], np.isnan(proportion_asked).all(axis=0), strict=True))
    assert is_nan == {one.name: one.name in part.unreachable for one in part.questions}
    assert np.isfinite(whole.proportion_asked(fractions_of(whole, 0))).all()


def test_merged_trees_stay_independent() -> None:
    both = union("both", [gzoo.tree("gz2"), gzoo.tree("gz_rings")])
    assert both.columns == gzoo.tree("gz2").columns + gzoo.tree("gz_rings").columns
    fractions = fractions_of(both, 3)
    n = len(gzoo.tree("gz2").columns)
    np.testing.assert_array_equal(
        both.proportion_asked(fractions)[:, :-1], gzoo.tree("gz2").proportion_asked(fractions[:, :n])
    )
    with pytest.raises(TreeError, match="twice"):
        union("twice", [gzoo.tree("gz2"), gzoo.tree("gz2")])


ALL = [tree for one in campaigns() for tree in (one.tree, one.published_tree)]
ALL_NAMES = [f"{name} {part}" for name in names() for part in ("complete", "published")]


@pytest.mark.parametrize("tree", ALL, ids=ALL_NAMES)
def test_text_lists_every_question_once_after_its_parent_answers(tree: Tree) -> None:
    text = tree.to_text()
    heads = re.findall(r"^ *\d+\. (\S+)", text, flags=re.M)
    assert heads == [one.name for one in tree.ordered]
    for one in tree.questions:
        block = text.split(f". {one.name}\n")[-1] if f". {one.name}\n" in text else text.split(f". {one.name}  (")[-1]
        block = block.split("\n\n")[0]
        assert all(re.search(rf"[)\]] {re.escape(answer)}( |$)", block, flags=re.M) for answer in one.answers)
        assert ("asked of everyone" in block) == (not one.parents)
        assert ("[] " in block) == one.multiple


@pytest.mark.parametrize("tree", ALL, ids=ALL_NAMES)
def test_json_round_trips(tree: Tree) -> None:
    facts = json.loads(tree.to_json())
    made = Tree(
        facts["name"],
        tuple(
            Question(**{key: tuple(value) if isinstance(value, list) else value for key, value in one.items()})
            for one in facts["questions"]
        ),
        tree.unavailable,
    )
    assert made == tree


@pytest.mark.parametrize("tree", ALL, ids=ALL_NAMES)
def test_mermaid_has_a_node_per_question_and_an_arrow_per_parent(tree: Tree) -> None:
    lines = tree.to_mermaid().splitlines()
    assert lines[0] == "flowchart TD"
    nodes = dict(re.findall(r'^  (q\d+)(?:\[|\{\{)"([^"]*)"(?:\]|\}\})$', "\n".join(lines), flags=re.M))
    assert sorted(nodes.values()) == sorted(one.name for one in tree.questions)
    arrows = re.findall(r'^  (q\d+) -->\|"([^"]*)"\| (q\d+)$', "\n".join(lines), flags=re.M)
    expected = [(column, one.name) for one in tree.questions for column in one.parents if column in tree.columns]
    assert sorted((f"{nodes[of]}_{answer}", nodes[to]) for of, answer, to in arrows) == sorted(expected)


HOSTILE = [
    'say "hi"',
    "<script>x</script>",
    "a & b",
    "#35;",
    "`code`",
    "two\nlines",
    '"]\n  evil["x"]',
    "a|b",
    "&quot;",
]


@pytest.mark.parametrize("label", HOSTILE)
def test_mermaid_escapes_labels(label: str) -> None:
    first = Question(label, (label, "other"), (f"{label}_x", "other"))
    drawn = Tree("test", (first, Question("next", ("x",), ("n_x",), (f"{label}_x",))))
    lines = drawn.to_mermaid().splitlines()
    assert len(lines) == 4  # nothing breaks out of its line
    for line, quotes in zip(lines, (0, 2, 2, 2), strict=True):
        assert line.count('"') == quotes
        inside = line.split('"')[1] if quotes else ""
        assert not set(inside) & set("<>`")
        assert "&" not in re.sub(r"&(quot|amp|lt|gt|num|#96);", "", inside)
    unescaped = lines[1].split('"')[1]
    for entity, sign in (("quot", '"'), ("lt", "<"), ("gt", ">"), ("num", "#"), ("#96", "`"), ("amp", "&")):
        unescaped = unescaped.replace(f"&{entity};", sign)
    assert unescaped == " ".join(label.split())


def test_an_empty_tree_has_text_and_json() -> None:
    nothing = Tree("none", ())
    assert "0 questions" in nothing.to_text()
    assert json.loads(nothing.to_json())["questions"] == []
