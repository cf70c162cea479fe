"""Decision trees: which questions volunteers are asked, after which answers.

A tree is a directed acyclic graph. A question is asked of a volunteer who gave *any one* of its parent answers,
or of everyone when it has none. Columns of every matrix in gzoo follow `Tree.columns`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from gzoo.errors import TreeError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Question:
    """One question of a tree.

    Attributes:
        name: The question with its Hub suffix, `smooth-or-featured-gz2`.
        answers: Short names of its answers, `("smooth", "featured-or-disk", "artifact")`.
        columns: The answers' dataset columns, in the same order, `smooth-or-featured-gz2_smooth`.
        parents: Columns of the answers that lead here, any one of them; empty for a root.
        multiple: Whether one volunteer may give several answers at once.
        is_published: Whether the published dataset has columns for it.
        grade: How well the facts are known (READ, COUNTED, FITTED, INFERRED, GUESS).
    """

    name: str
    answers: tuple[str, ...]
    columns: tuple[str, ...]
    parents: tuple[str, ...] = ()
    multiple: bool = False
    is_published: bool = True
    grade: str = ""

    @property
    def total_column(self) -> str:
        """Dataset column with the number of people who were asked."""
        return f"{self.name}_total-votes"


@dataclass(frozen=True)
class Tree:
    """The questions of one campaign as a graph.

    Attributes:
        name: The tree's name, `gz2`.
        questions: In the order of the dataset's columns, which need not be the order of asking.
        unavailable: Answer columns that the campaign has and this tree leaves out (see `is_published`).

    Raises:
        TreeError: A name twice, a parent that is no answer, a cycle, or a question with two parent answers
            that one volunteer could both give (its probability of being asked would not be their sum).

    >>> import gzoo
    >>> tree = gzoo.tree("gz2")
    >>> tree.questions[0].columns[0]
    'smooth-or-featured-gz2_smooth'
    >>> tree.question("bar-gz2").parents
    ('disk-edge-on-gz2_no',)
    """

    name: str
    questions: tuple[Question, ...]
    unavailable: frozenset[str] = field(default_factory=frozenset[str])

    def __post_init__(self) -> None:
        names = [question.name for question in self.questions]
        for what, items in (("question", names), ("answer column", list(self.columns))):
            twice = sorted({item for item in items if items.count(item) > 1})
            if twice:
                raise TreeError(
                    f"Tree '{self.name}' has the {what} '{twice[0]}' twice.",
                    f"Every {what} stands once.",
                    "Rename or remove one of them.",
                )
        for question in self.questions:
            if not question.columns or len(question.columns) != len(question.answers):
                raise TreeError(
                    f"Question '{question.name}' of tree '{self.name}' has {len(question.answers)} answers "
                    f"and {len(question.columns)} columns.",
                    "A question has at least one answer, and one column for each.",
                    "Mend the campaign's TOML file.",
                )
            for parent in question.parents:
                if parent not in self._place and parent not in self.unavailable:
                    raise TreeError(
                        f"Question '{question.name}' of tree '{self.name}' follows '{parent}', which is no answer.",
                        "Parents are answer columns of the same tree.",
                        "Mend the question's `parents`.",
                    )
        _ = self.ordered  # finds cycles
        for question in self.questions:
            if question.name not in self.unreachable:  # there a missing step of the walk may keep its parents apart
                self._refuse_compatible_parents(question)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Answer columns of all questions, in order: the columns of every (galaxy, answer) matrix."""
        return tuple(column for question in self.questions for column in question.columns)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Index of each question's first answer among `columns`."""
        return tuple(np.cumsum([0] + [len(question.columns) for question in self.questions])[:-1].tolist())

    @cached_property
    def question_of_answer(self) -> tuple[int, ...]:
        """Index of the question of each answer, shape (answer,)."""
        return tuple(i for i, question in enumerate(self.questions) for _ in question.columns)

    @cached_property
    def parents_of_question(self) -> tuple[tuple[int, ...], ...]:
        """For each question the indices of its parent answers that this tree has."""
        return tuple(
            tuple(self._place[parent] for parent in question.parents if parent in self._place)
            for question in self.questions
        )

    @cached_property
    def _place(self) -> dict[str, int]:
        return {column: i for i, column in enumerate(self.columns)}

    def slice(self, question: str) -> slice:
        """Where a question's answers stand among `columns`."""
        i = self._index(question)
        return slice(self.starts[i], self.starts[i] + len(self.questions[i].columns))

    def question(self, name: str) -> Question:
        """The question of that name.

        Raises:
            TreeError: There is none.
        """
        return self.questions[self._index(name)]

    def _index(self, name: str) -> int:
        for i, question in enumerate(self.questions):
            if question.name == name:
                return i
        raise TreeError(
            f"Tree '{self.name}' has no question '{name}'.",
            f"Its questions: {', '.join(question.name for question in self.questions)}.",
            "Use one of these names.",
        )

    @cached_property
    def ordered(self) -> tuple[Question, ...]:
        """The questions with every question after those that lead to it."""
        waiting = list(self.questions)
        done: list[Question] = []
        known = set(self.unavailable)
        while waiting:
            ready = [question for question in waiting if known.issuperset(question.parents)]
            if not ready:
                raise TreeError(
                    f"Tree '{self.name}' has a cycle among: {', '.join(question.name for question in waiting)}.",
                    "No question may lead back to itself.",
                    "Mend the `parents` of one of them.",
                )
            waiting = [question for question in waiting if not known.issuperset(question.parents)]
            done += ready
            known.update(column for question in ready for column in question.columns)
        return tuple(done)

    @cached_property
    def unreachable(self) -> tuple[str, ...]:
        """Names of questions whose probability of being asked cannot be known from this tree's answers alone.

        A parent answer, or one further up, is not in the dataset.
        """
        lost: set[str] = set()
        for question in self.ordered:
            for parent in question.parents:
                if parent in self.unavailable or self._question_of(parent).name in lost:
                    lost.add(question.name)
        return tuple(question.name for question in self.questions if question.name in lost)

    def _question_of(self, column: str) -> Question:
        return self.questions[self.question_of_answer[self._place[column]]]

    def published(self) -> Tree:
        """The tree of the questions that the published dataset carries.

        >>> import gzoo
        >>> tree = gzoo.tree("gz_hubble").published()
        >>> "bulge-size-hubble" in tree.unreachable  # clump-configuration_spiral leads to it, and is not published
        True
        """
        excluded = [question for question in self.questions if not question.is_published]
        unavailable = self.unavailable | {column for question in excluded for column in question.columns}
        return Tree(self.name, tuple(question for question in self.questions if question.is_published), unavailable)

    @cached_property
    def parts(self) -> Mapping[str, tuple[Question, ...]]:
        """Questions that are asked together, by the end of their names: a dataset may hold several campaigns in a row.

        >>> import gzoo
        >>> list(gzoo.tree("gz_desi").parts), list(gzoo.tree("gz2").parts)
        (['dr12', 'dr5', 'dr8'], ['gz2'])
        """
        found: dict[str, list[Question]] = {}
        for question in self.questions:
            found.setdefault(question.name.rpartition("-")[2], []).append(question)
        if any(len(part) < 3 for part in found.values()):  # then the ends say nothing
            return {self.name: self.questions}
        return {suffix: tuple(part) for suffix, part in found.items()}

    def totals(self, counts: npt.NDArray[np.integer]) -> IntArray:
        """Number of people who answered each question.

        For a question with one answer a person this is the sum of its counts. Where several answers are allowed it
        is the number of people who gave a parent answer, and at least the largest count.

        Args:
            counts: Votes, shape (galaxy, answer).

        Returns:
            Totals, shape (galaxy, question).
        """
        totals = np.empty((len(counts), len(self.questions)), np.int64, order="F")
        for i, question in enumerate(self.questions):
            own = counts[:, self.slice(question.name)]
            if question.multiple:
                asked = counts[:, list(self.parents_of_question[i])].sum(axis=1, dtype=np.int64)
                totals[:, i] = np.maximum(asked, own.max(axis=1))
            else:
                totals[:, i] = own.sum(axis=1, dtype=np.int64)
        return totals

    def proportion_asked(self, fractions: npt.NDArray[np.floating]) -> FloatArray:
        """Probability that a volunteer is asked each question.

        It is the sum over the question's parent answers of P(parent question asked) x P(parent answer); 1 for a
        root; NaN for a question in `unreachable`.

        Args:
            fractions: For each answer its probability given that its question is asked, shape (galaxy, answer).

        Returns:
            Shape (galaxy, question).

        >>> import gzoo, numpy as np
        >>> tree = gzoo.tree("gz_rings")
        >>> tree.proportion_asked(np.array([[0.3, 0.7]]))
        array([[1.]])
        """
        proportion_asked = np.ones((len(fractions), len(self.questions)))
        for question in self.ordered:
            i = self._index(question.name)
            if question.name in self.unreachable:
                proportion_asked[:, i] = np.nan
            elif question.parents:
                parents = list(self.parents_of_question[i])
                of = [self.question_of_answer[parent] for parent in parents]
                # rounding may carry a sum of exclusive probabilities past 1
                proportion_asked[:, i] = np.minimum((proportion_asked[:, of] * fractions[:, parents]).sum(axis=1), 1.0)
        return proportion_asked

    def _refuse_compatible_parents(self, question: Question) -> None:
        for i, first in enumerate(question.parents):
            for second in question.parents[:i]:
                if self._possible({first, second}):
                    raise TreeError(
                        f"Question '{question.name}' of tree '{self.name}' follows both '{second}' and '{first}', "
                        "and one volunteer could give both answers.",
                        "Parent answers exclude each other, so that the chance of being asked is their sum.",
                        "Remove one parent, or put the missing step of the walk into the tree.",
                    )

    def _possible(self, answers: set[str]) -> bool:
        """Whether one volunteer's walk could hold all these answers."""
        chosen: dict[str, str] = {}
        for column in answers:
            question = self._question_of(column)
            if chosen.setdefault(question.name, column) != column and not question.multiple:
                return False
        for question in reversed(self.ordered):
            if question.name not in chosen or not question.parents:
                continue
            if not answers.isdisjoint(question.parents):
                continue  # asked already
            return any(self._possible(answers | {parent}) for parent in question.parents)
        return True

    def to_text(self) -> str:
        """The tree for reading in a terminal."""
        number = {question.name: i for i, question in enumerate(self.ordered, 1)}
        width = max((len(answer) for question in self.questions for answer in question.answers), default=0)
        lines = [
            f"{self.name}: {len(self.questions)} questions, {len(self.columns)} answers",
            "Behind each answer: the questions that are asked because of it. () one answer, [] several allowed.",
        ]
        for question in self.ordered:
            marks = [
                "several answers allowed" if question.multiple else "",
                "" if question.is_published else "not in the published dataset",
                "chance of being asked not known from the published columns"
                if question.is_published and question.name in self.published().unreachable
                else "",
            ]
            note = "; ".join(mark for mark in marks if mark)
            lines += ["", f"{number[question.name]:>3}. {question.name}" + (f"  ({note})" if note else "")]
            lines.append("       asked of everyone" if not question.parents else f"       after {self._gate(question)}")
            for answer, column in zip(question.answers, question.columns, strict=True):
                next_ones = [q for q in self.ordered if column in q.parents]
                where = ", ".join(f"{number[q.name]} {self._short(q)}" for q in next_ones)
                lines.append(
                    f"       {'[]' if question.multiple else '()'} {answer:<{width}}  -> {where or '(nothing more)'}"
                )
        return "\n".join(lines)

    def _short(self, question: Question) -> str:
        return question.columns[0][: -len(question.answers[0]) - 1].removesuffix(f"-{self.name}")

    def _gate(self, question: Question) -> str:
        by_question: dict[str, list[str]] = {}
        for parent in question.parents:
            if parent in self._place:
                owner = self._question_of(parent)
                by_question.setdefault(owner.name, []).append(owner.answers[owner.columns.index(parent)])
        gates = [f"{name} = {' / '.join(answers)}" for name, answers in by_question.items()]
        gates += [f"{parent} (unpublished)" for parent in question.parents if parent not in self._place]
        return " or ".join(gates)

    def to_mermaid(self) -> str:
        """The tree as a Mermaid flowchart, which GitHub and the Hub draw."""
        place = {question.name: f"q{i}" for i, question in enumerate(self.questions)}
        lines = ["flowchart TD"]
        for question in self.ordered:
            shape = '{{"%s"}}' if question.multiple else '["%s"]'
            lines.append(f"  {place[question.name]}{shape % _mermaid(question.name)}")
        for question in self.ordered:
            for parent in question.parents:
                if parent in self._place:
                    owner = self._question_of(parent)
                    answer = owner.answers[owner.columns.index(parent)]
                    lines.append(f'  {place[owner.name]} -->|"{_mermaid(answer)}"| {place[question.name]}')
        hidden = [place[question.name] for question in self.questions if not question.is_published]
        if hidden:
            lines += ["  classDef unpublished stroke-dasharray: 5 5", f"  class {','.join(hidden)} unpublished"]
        return "\n".join(lines)

    def to_json(self) -> str:
        """The tree as JSON, questions in dataset order."""
        questions = [
            {
                "name": question.name,
                "answers": list(question.answers),
                "columns": list(question.columns),
                "parents": list(question.parents),
                "multiple": question.multiple,
                "is_published": question.is_published,
                "grade": question.grade,
            }
            for question in self.questions
        ]
        return json.dumps({"name": self.name, "questions": questions}, indent=2)


def union(name: str, trees: Sequence[Tree]) -> Tree:
    """Several campaigns' trees side by side, as one row of a union dataset has them: each keeps its own root."""
    unavailable = frozenset(column for tree in trees for column in tree.unavailable)
    return Tree(name, tuple(question for tree in trees for question in tree.questions), unavailable)


def _mermaid(text: str) -> str:
    """Text that a quoted Mermaid label shows as it is: no markup, no entity, no Markdown, no end of the line."""
    safe = " ".join(text.split()).replace("&", "&amp;").replace("#", "&num;").replace("`", "&#96;")
    return safe.replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
