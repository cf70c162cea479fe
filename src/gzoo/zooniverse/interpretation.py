"""Interpretation of annotations: the answers of one classification in terms of the tree, with unused ones counted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

from gzoo.trees.tree import Tree
from gzoo.zooniverse.tasks import Entry
from gzoo.zooniverse.workflows import Version, plain

UNREADABLE = "annotations unreadable"
UNFINISHED = "unfinished"
NO_ANSWER = "no usable answer"
TWICE_DIFFERENT = "question answered twice, differently"
OTHER_ROW = "in an unused classification"

A_UNREADABLE = "annotation unreadable"
A_OTHER_TASK = "task not in the workflow version"
A_UNMAPPED = "task not in the mapping"
A_EXCLUDED = "task excluded in the mapping"
A_NOTHING = "no answer given"
A_UNKNOWN = "unknown answer"
A_NO_COLUMN = "answer not in the tree"
A_SEVERAL = "several answers to a single-answer question"
A_TWICE = "question answered twice"
A_AFTER_TWICE = "question after one answered twice"
A_UNASKED = "question without its parent answer"
NOTE_TICK = "ticked boxes without an answer in the tree, next to valid ones"

_MAX_DEPTH = 4
_MAX_ANNOTATIONS = 1000


@dataclass(frozen=True, slots=True)
class Interpretation:
    """The answers in a classification's annotations.

    Attributes:
        problem: The rule that excludes the whole classification, or "".
        detail: The content that broke the rule.
        given: Indices of the answers given.
        asked: Indices of the questions answered.
        n_annotations: Number of annotations.
        lost: Rule -> annotations that it excluded.
        n_notes: Ticked boxes that were ignored in annotations that are used.
    """

    problem: str
    detail: str
    given: frozenset[int] = frozenset()
    asked: frozenset[int] = frozenset()
    n_annotations: int = 0
    lost: Mapping[str, int] = field(default_factory=dict[str, int])
    n_notes: int = 0


class AnnotationReader:
    """A reader of annotations for one tree.

    Args:
        tree: The decision tree.
        entries: The mapping, by workflow, key and label of the task.
    """

    def __init__(self, tree: Tree, entries: Mapping[tuple[str, str, str], Entry]) -> None:
        self._tree = tree
        self._entries = entries
        self._answer = {column: i for i, column in enumerate(tree.columns)}
        self._question = {question.name: i for i, question in enumerate(tree.questions)}
        self._order = [self._question[question.name] for question in tree.ordered]

    def read(self, text: str, version: Version) -> Interpretation:
        """Interpret a cell of the column `annotations`.

        Args:
            text: Content of the cell, JSON.
            version: Version of the workflow that the row was made with.
        """
        try:
            value: object = json.loads(text)
        except (ValueError, RecursionError) as error:
            return Interpretation(UNREADABLE, f"annotations: {str(error)[:120]}")
        if not isinstance(value, list):
            return Interpretation(UNREADABLE, f"annotations: a {type(value).__name__}, not a list")
        annotations = list(_flat(cast("list[object]", value), 0))
        if len(annotations) > _MAX_ANNOTATIONS:
            return Interpretation(UNREADABLE, f"annotations: {len(annotations):,} of them")
        return self._interpret(annotations, version)

    def _interpret(self, annotations: list[object], version: Version) -> Interpretation:
        lost: Counter[str] = Counter()
        n_notes = 0
        answers: dict[int, frozenset[int] | None] = {}  # None: answered twice in different ways
        following: dict[str, str] = {}
        for annotation in annotations:
            facts = cast("dict[str, object]", annotation) if isinstance(annotation, dict) else {}
            key, value = facts.get("task"), facts.get("value")
            task = version.tasks.get(key) if isinstance(key, str) else None
            if not isinstance(key, str) or task is None:
                lost[A_OTHER_TASK if isinstance(key, str) else A_UNREADABLE] += 1
                continue
            labels = _labels(value, task.answers)
            if labels or (isinstance(value, list) and task.kind == "multiple"):
                following[key] = _next_task(labels, task.answers, task.following, task.following_task)
            entry = self._entries.get((version.workflow, key, task.label))
            if entry is None or not entry.question:
                lost[A_UNMAPPED if entry is None else A_EXCLUDED] += 1
                continue
            question = self._question[entry.question]
            is_multiple = self._tree.questions[question].multiple
            columns, problem = self._columns(entry, labels, may_be_none=is_multiple and isinstance(value, list))
            if not problem and not is_multiple and (len(columns) > 1 or len(set(labels or ())) > 1):
                problem = A_SEVERAL
            if problem:
                lost[problem] += 1
                continue
            earlier = answers.get(question)
            if is_multiple and earlier is not None and isinstance(value, str):  # one response per ticked box
                answers[question] = earlier | columns
                continue
            if question in answers:
                lost[A_TWICE] += 1
                if earlier is not None and earlier != columns:  # which of the two was meant cannot be known
                    lost[A_TWICE] += 1
                    answers[question] = None
                continue
            n_notes += len(set(labels or ())) - len(columns) if is_multiple else 0
            answers[question] = columns
        twice = {question for question, columns in answers.items() if columns is None}
        if _is_unfinished(version, following):
            rule, detail = UNFINISHED, "a required task was not answered"
            if twice:  # so the annotations follow two ways through the tree, of which one seems unfinished
                names = ", ".join(self._tree.questions[question].name for question in sorted(twice))
                rule, detail = TWICE_DIFFERENT, f"two different answers to {names}"
            return Interpretation(rule, detail, n_annotations=len(annotations))
        given: set[int] = set()
        asked: set[int] = set()
        for question in self._order:
            columns = answers.get(question)
            if columns is None:
                continue
            parents = self._tree.parents_of_question[question]
            if self._tree.questions[question].parents and given.isdisjoint(parents):
                before = {self._tree.question_of_answer[parent] for parent in parents}
                is_after_twice = not before.isdisjoint(twice)
                lost[A_AFTER_TWICE if is_after_twice else A_UNASKED] += 1
                if is_after_twice:
                    twice.add(question)
                continue
            asked.add(question)
            given |= columns
        listed = ", ".join(f"{n} x {rule}" for rule, n in sorted(lost.items())) or "no annotation"
        problem, detail = ("", "") if asked else (TWICE_DIFFERENT if twice else NO_ANSWER, listed)
        return Interpretation(problem, detail, frozenset(given), frozenset(asked), len(annotations), lost, n_notes)

    def _columns(self, entry: Entry, labels: list[str] | None, *, may_be_none: bool) -> tuple[frozenset[int], str]:
        """Return the answers that were chosen, and the rule that excludes the annotation, or ""."""
        if labels is None:
            return frozenset(), A_UNREADABLE
        if not labels:
            return frozenset(), "" if may_be_none else A_NOTHING
        known = [entry.answers[label] for label in labels if label in entry.answers]
        columns = frozenset(self._answer[column] for column in known if column)
        return columns, "" if columns else A_NO_COLUMN if known else A_UNKNOWN


def _flat(annotations: list[object], depth: int) -> Iterator[object]:
    """Yield annotations, with those inside a combo task one by one."""
    for one in annotations:
        value = cast("dict[str, object]", one).get("value") if isinstance(one, dict) else None
        inner = cast("list[object]", value) if isinstance(value, list) else []
        if inner and depth < _MAX_DEPTH and all(isinstance(part, dict) and "task" in part for part in inner):
            yield from _flat(inner, depth + 1)
        else:
            yield one


def _labels(value: object, answers: tuple[str, ...]) -> list[str] | None:
    """Return the plain labels of the answers chosen, or None if the value is not a choice of answers."""
    chosen = cast("list[object]", value) if isinstance(value, list) else [] if value is None or value == "" else [value]
    labels: list[str] = []
    for entry in chosen:
        facts = cast("dict[str, object]", entry) if isinstance(entry, dict) else {}
        one = facts.get("label", facts.get("value")) if facts else entry
        if isinstance(one, bool) or not isinstance(one, str | int):
            return None
        if isinstance(one, int) and not 0 <= one < len(answers):
            return None
        labels.append(answers[one] if isinstance(one, int) else plain(one))
    return labels


def _next_task(labels: list[str] | None, answers: tuple[str, ...], following: tuple[str, ...], otherwise: str) -> str:
    if labels and len(labels) == 1 and labels[0] in answers:
        return following[answers.index(labels[0])] or otherwise
    return otherwise


def _is_unfinished(version: Version, following: Mapping[str, str]) -> bool:
    """Return whether the classification ends at a required task without an answer."""
    key = version.first
    for _ in range(len(version.tasks) + 1):
        task = version.tasks.get(key)
        if task is None:
            return False
        if key not in following:
            return task.is_required
        key = following[key]
    return False
