"""Decision trees: the questions that volunteers are asked, and the answers that lead to them.

A tree is a directed acyclic graph. A question is asked of a volunteer who gave *any one* of its parent answers,
or of everyone when it has none. Columns of every matrix in gzoo follow `Tree.columns`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from gzoo.display import Sheet, Shown, field_values
from gzoo.errors import TreeError, choices, suggestion

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, repr=False)
class Question(Shown):
    """Question of a decision tree.

    Attributes:
        name: Name with the campaign's suffix, such as `smooth-or-featured-gz2`.
        answers: Short names of its answers, such as `("smooth", "featured-or-disk", "artifact")`.
        columns: Dataset columns of the answers, in the same order, such as `smooth-or-featured-gz2_smooth`.
        parents: Parent answers, as columns: any one of them leads to this question; empty for a root.
        multiple: Whether one volunteer may give several answers at once.
        is_published: Whether the published dataset has columns for it.
        grade: Evidence grade (READ, COUNTED, FITTED, INFERRED, GUESS).
        ordered: Its answers that are steps of one quantity, in its order, such as `("tight", "medium", "loose")`; those
            beside it, such as "cant-tell", are left out. Empty for questions without such an order.
    """

    name: str
    answers: tuple[str, ...]
    columns: tuple[str, ...]
    parents: tuple[str, ...] = ()
    multiple: bool = False
    is_published: bool = True
    grade: str = field(default="", compare=False)
    ordered: tuple[str, ...] = field(default=(), compare=False)

    def sheet(self) -> Sheet:
        """Return the answers."""
        return Sheet(
            f"Question {self.name}",
            {
                "asked": f"after {' or '.join(self.parents)}" if self.parents else "of everyone",
                "multiple choice": self.multiple or None,
                "ordered": " < ".join(self.ordered) or None,
                "published": self.is_published,
                "evidence": self.grade,
            },
            ("answer", "column"),
            list(zip(self.answers, self.columns, strict=True)),
        )

    @property
    def ordered_places(self) -> list[int]:
        """Positions of the ordered answers among all answers, in order."""
        return [self.answers.index(answer) for answer in self.ordered]

    @property
    def total_column(self) -> str:
        """Dataset column with the total votes on this question."""
        return f"{self.name}_total-votes"


@dataclass(frozen=True, repr=False)
class Tree(Shown):
    """Decision tree of a campaign: its questions as a directed acyclic graph.

    Attributes:
        name: Name of the tree, such as `gz2`.
        questions: Questions in the order of the dataset's columns, which may differ from the order of asking.
        unavailable: Answer columns of the campaign that this tree omits (see `is_published`).

    Raises:
        TreeError: A name is used twice, a parent is not an answer, the tree has a cycle, or one volunteer could give
            two parent answers of a question (its probability of being asked would not be their sum).

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
        for kind, items in (("question", names), ("answer column", list(self.columns))):
            twice = sorted({item for item in items if items.count(item) > 1})
            if twice:
                raise TreeError(
                    f"Tree '{self.name}' contains the {kind} '{twice[0]}' twice.",
                    f"each {kind} once.",
                    "Rename or remove one of them.",
                )
        for question in self.questions:
            if not question.columns or len(question.columns) != len(question.answers):
                raise TreeError(
                    f"Question '{question.name}' of tree '{self.name}' has {len(question.answers)} answers "
                    f"and {len(question.columns)} columns.",
                    "at least one answer, and one column for each.",
                    "Correct the campaign's TOML file.",
                )
            for parent in question.parents:
                if parent not in self._column_index and parent not in self.unavailable:
                    raise TreeError(
                        f"Parent '{parent}' of question '{question.name}' is not an answer of tree '{self.name}'.",
                        "answer columns of the same tree.",
                        "Correct the question's `parents`.",
                    )
        _ = self.ordered  # finds cycles
        for question in self.questions:
            # elsewhere an unavailable question may make its parents exclusive
            if question.name not in self.unreachable:
                self._check_parents_are_exclusive(question)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Answer columns of all questions, in order: the columns of every (galaxy, answer) array."""
        return tuple(column for question in self.questions for column in question.columns)

    @cached_property
    def concentrations(self) -> tuple[str, ...]:
        """Names of all concentrations of a prediction, in order: the columns of every (galaxy, concentration) array.

        Those of a question are together: one for each answer. A question that allows several answers has two for each,
        because a volunteer gives it or not, whatever the other answers: first those of giving them (the answer
        columns), then those of not giving them (`{column}_no`).
        """
        return tuple(
            name
            for question in self.questions
            for name in (*question.columns, *(f"{column}_no" for column in question.columns if question.multiple))
        )

    @cached_property
    def _concentration_slices(self) -> tuple[slice, ...]:
        sizes = [len(question.columns) * (1 + question.multiple) for question in self.questions]
        ends = np.cumsum(sizes).tolist()
        return tuple(slice(end - size, end) for size, end in zip(sizes, ends, strict=True))

    def concentration_slice(self, question: str) -> slice:
        """Return the positions of a question's concentrations in `concentrations`.

        >>> import gzoo
        >>> tree = gzoo.tree("gz_ferengi")
        >>> tree.concentrations[tree.concentration_slice("odd-features-ferengi")][::7]
        ('odd-features-ferengi_ring', 'odd-features-ferengi_ring_no')
        """
        return self._concentration_slices[self._index(question)]

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
        """Indices of the parent answers of each question, as far as this tree contains them."""
        return tuple(
            tuple(self._column_index[parent] for parent in question.parents if parent in self._column_index)
            for question in self.questions
        )

    @cached_property
    def _column_index(self) -> dict[str, int]:
        return {column: i for i, column in enumerate(self.columns)}

    def slice(self, question: str) -> slice:
        """Return the positions of a question's answers in `columns`."""
        i = self._index(question)
        return slice(self.starts[i], self.starts[i] + len(self.questions[i].columns))

    def question(self, name: str) -> Question:
        """Return the question of that name.

        Raises:
            TreeError: No question has this name.
        """
        return self.questions[self._index(name)]

    def _index(self, name: str) -> int:
        names = [question.name for question in self.questions]
        if name in names:
            return names.index(name)
        raise TreeError(
            f"Question '{name}' not found in tree '{self.name}'.", choices(names, name), suggestion(names, name)
        )

    @cached_property
    def ordered(self) -> tuple[Question, ...]:
        """Questions sorted so that each follows all questions that lead to it."""
        waiting = list(self.questions)
        done: list[Question] = []
        known = set(self.unavailable)
        while waiting:
            ready = [question for question in waiting if known.issuperset(question.parents)]
            if not ready:
                raise TreeError(
                    f"Tree '{self.name}' has a cycle among: {', '.join(question.name for question in waiting)}.",
                    "questions that do not lead back to themselves.",
                    "Correct the `parents` of one of them.",
                )
            waiting = [question for question in waiting if not known.issuperset(question.parents)]
            done += ready
            known.update(column for question in ready for column in question.columns)
        return tuple(done)

    @cached_property
    def unreachable(self) -> tuple[str, ...]:
        """Names of questions whose proportion of volunteers asked cannot be computed from this tree's answers.

        A parent answer, or one further up, is not in the dataset.
        """
        lost = set(self.unavailable)
        for question in self.ordered:
            if not lost.isdisjoint(question.parents):
                lost.update(question.columns)
        return tuple(question.name for question in self.questions if question.columns[0] in lost)

    def _question_of(self, column: str) -> Question:
        return self.questions[self.question_of_answer[self._column_index[column]]]

    def published(self) -> Tree:
        """Return the tree of the questions in the published dataset.

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
        """Questions by campaign, if a row contains several: their names end in the campaign's suffix.

        >>> import gzoo
        >>> list(gzoo.tree("gz_desi").parts), list(gzoo.tree("gz2").parts)
        (['dr12', 'dr5', 'dr8'], ['gz2'])
        """
        found: dict[str, list[Question]] = {}
        for question in self.questions:
            found.setdefault(question.name.rpartition("-")[2], []).append(question)
        if any(len(part) < 3 for part in found.values()):  # then the last part of a name is not a campaign
            return {self.name: self.questions}
        return {suffix: tuple(part) for suffix, part in found.items()}

    def totals(self, counts: npt.NDArray[np.integer]) -> IntArray:
        """Return the total votes on each question.

        For a question with a single answer per volunteer this is the sum of its counts. If several answers are allowed,
        it is the number of volunteers who gave a parent answer, and at least the largest count.

        Args:
            counts: Vote counts, shape (galaxy, answer).

        Returns:
            Total votes, shape (galaxy, question).
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
        """Return the proportion of volunteers asked each question.

        It is the sum over the question's parent answers of P(parent question asked) x P(parent answer); 1 for a
        root; NaN for a question in `unreachable`.

        Args:
            fractions: Probability of each answer, given that its question is asked, shape (galaxy, answer).

        Returns:
            Proportions, 0 to 1, shape (galaxy, question).

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
                # rounding may raise a sum of exclusive probabilities above 1
                proportion_asked[:, i] = np.minimum((proportion_asked[:, of] * fractions[:, parents]).sum(axis=1), 1.0)
        return proportion_asked

    def _check_parents_are_exclusive(self, question: Question) -> None:
        for i, first in enumerate(question.parents):
            for second in question.parents[:i]:
                if self._possible({first, second}):
                    raise TreeError(
                        f"Question '{question.name}' of tree '{self.name}' has the parents '{second}' and '{first}', "
                        "and one volunteer could give both answers.",
                        "parent answers that exclude each other, so that their probabilities can be added.",
                        "Remove one parent, or add the missing question between them.",
                    )

    def _possible(self, answers: set[str]) -> bool:
        """Return whether one volunteer could give all these answers."""
        chosen: dict[str, str] = {}
        for column in answers:
            question = self._question_of(column)
            if chosen.setdefault(question.name, column) != column and not question.multiple:
                return False
        for question in reversed(self.ordered):
            if question.name not in chosen or not question.parents:
                continue
            if not answers.isdisjoint(question.parents):
                continue  # already asked
            return any(self._possible(answers | {parent}) for parent in question.parents)
        return True

    def to_dict(self) -> dict[str, object]:
        """Return name and questions as JSON values, questions in dataset order."""
        return {"name": self.name, "questions": [field_values(one) for one in self.questions]}

    def sheet(self) -> Sheet:
        """Return the questions in the order of asking."""
        hidden = [question.name for question in self.questions if not question.is_published]
        return Sheet(
            f"Decision tree {self.name}: {len(self.questions)} questions, {len(self.columns)} answers",
            {"not published": hidden},
            ("question", "asked after", "answers"),
            [
                (
                    question.name,
                    self._parents_text(question) or "everyone",
                    f"{', '.join(question.answers)}{' (several)' if question.multiple else ''}",
                )
                for question in self.ordered
            ],
            "With all answers: print(tree.to_text()).",
        )

    def to_text(self) -> str:
        """Return the tree as text for a terminal."""
        number = {question.name: i for i, question in enumerate(self.ordered, 1)}
        width = max((len(answer) for question in self.questions for answer in question.answers), default=0)
        lines = [
            f"{self.name}: {len(self.questions)} questions, {len(self.columns)} answers",
            "Each answer is followed by the questions it leads to. () single choice, [] multiple choice.",
        ]
        for question in self.ordered:
            marks = [
                "multiple choice" if question.multiple else "",
                "" if question.is_published else "not in the published dataset",
                "proportion of volunteers asked unknown: a parent answer is not published"
                if question.is_published and question.name in self.published().unreachable
                else "",
            ]
            note = "; ".join(mark for mark in marks if mark)
            lines += ["", f"{number[question.name]:>3}. {question.name}" + (f"  ({note})" if note else "")]
            lines.append(
                f"       asked {f'after {self._parents_text(question)}' if question.parents else 'of everyone'}"
            )
            for answer, column in zip(question.answers, question.columns, strict=True):
                next_ones = [q for q in self.ordered if column in q.parents]
                where = ", ".join(f"{number[q.name]} {self._short(q)}" for q in next_ones)
                mark = "[]" if question.multiple else "()"
                lines.append(f"       {mark} " + (f"{answer:<{width}}  -> {where}" if where else answer))
        return "\n".join(lines)

    def _short(self, question: Question) -> str:
        return question.columns[0][: -len(question.answers[0]) - 1].removesuffix(f"-{self.name}")

    def _parents_text(self, question: Question) -> str:
        by_question: dict[str, list[str]] = {}
        for parent in question.parents:
            if parent in self._column_index:
                owner = self._question_of(parent)
                by_question.setdefault(owner.name, []).append(owner.answers[owner.columns.index(parent)])
        texts = [f"{name} = {' / '.join(answers)}" for name, answers in by_question.items()]
        texts += [f"{parent} (unpublished)" for parent in question.parents if parent not in self._column_index]
        return " or ".join(texts)

    def to_mermaid(self) -> str:
        """Return the tree as a Mermaid flowchart, which GitHub and the Hub render."""
        place = {question.name: f"q{i}" for i, question in enumerate(self.questions)}
        lines = ["flowchart TD"]
        for question in self.ordered:
            shape = '{{"%s"}}' if question.multiple else '["%s"]'
            lines.append(f"  {place[question.name]}{shape % _mermaid(question.name)}")
        for question in self.ordered:
            for parent in question.parents:
                if parent in self._column_index:
                    owner = self._question_of(parent)
                    answer = owner.answers[owner.columns.index(parent)]
                    lines.append(f'  {place[owner.name]} -->|"{_mermaid(answer)}"| {place[question.name]}')
        hidden = [place[question.name] for question in self.questions if not question.is_published]
        if hidden:
            lines += ["  classDef unpublished stroke-dasharray: 5 5", f"  class {','.join(hidden)} unpublished"]
        return "\n".join(lines)

    def to_json(self) -> str:
        """Return the tree as JSON, questions in dataset order."""
        return json.dumps(self.to_dict(), indent=2)


def union(name: str, trees: Sequence[Tree]) -> Tree:
    """Return the trees of several campaigns as one, as in a row of a merged dataset: each keeps its own root."""
    unavailable = frozenset(column for tree in trees for column in tree.unavailable)
    return Tree(name, tuple(question for tree in trees for question in tree.questions), unavailable)


def _mermaid(text: str) -> str:
    """Return text that a quoted Mermaid label shows literally, without markup, entities or line breaks."""
    safe = " ".join(text.split()).replace("&", "&amp;").replace("#", "&num;").replace("`", "&#96;")
    return safe.replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
