"""Walks: what one classification's annotations say in the words of the tree, with the fate of each annotation."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from gzoo.trees.tree import Tree
from gzoo.zooniverse.tasks import Entry
from gzoo.zooniverse.workflows import Version, plain

UNREADABLE = "annotations unreadable"
UNFINISHED = "unfinished"
NO_ANSWER = "no usable answer"
OTHER_ROW = "in a classification that is not used"

A_UNREADABLE = "annotation unreadable"
A_OTHER_TASK = "task not in that version of the workflow"
A_UNMAPPED = "task not in the mapping"
A_LEFT_OUT = "task left out in the mapping"
A_NOTHING = "no answer given"
A_UNKNOWN = "answer not known"
A_NO_COLUMN = "answer that the tree lacks"
A_SEVERAL = "several answers where the tree allows one"
A_TWICE = "question answered twice"
A_UNASKED = "question that none of the answers leads to"
NOTE_TICK = "ticks that are no answer of the tree, beside others that are"

_DEEPEST = 4
_MAX_ANNOTATIONS = 1000


@dataclass(frozen=True, slots=True)
class Walk:
    """What a classification's annotations came to.

    Attributes:
        problem: The rule that takes the whole classification, or "".
        detail: What stood there.
        given: Indices of the answers given.
        asked: Indices of the questions answered.
        n_annotations: How many annotations there were.
        lost: Rule -> annotations it took.
        n_notes: Ticks that were passed over in annotations that are used.
    """

    problem: str
    detail: str
    given: frozenset[int]
    asked: frozenset[int]
    n_annotations: int
    lost: Mapping[str, int]
    n_notes: int = 0


class Reader:
    """Reads annotations for one tree.

    Args:
        tree: The questions.
        entries: The mapping, by workflow, key and label of the task.
    """

    def __init__(self, tree: Tree, entries: Mapping[tuple[str, str, str], Entry]) -> None:
        self.tree = tree
        self.entries = entries
        self.place = {column: i for i, column in enumerate(tree.columns)}
        self.question = {question.name: i for i, question in enumerate(tree.questions)}
        self.order = [self.question[question.name] for question in tree.ordered]

    def read(self, text: str, version: Version) -> Walk:
        """The walk in a cell of the column `annotations`.

        Args:
            text: JSON.
            version: Of the workflow, that the row was made with.
        """
        try:
            value: object = json.loads(text)
        except (ValueError, RecursionError) as error:
            return _lost(UNREADABLE, f"annotations: {str(error)[:120]}")
        if not isinstance(value, list):
            return _lost(UNREADABLE, f"annotations: a {type(value).__name__}, not a list")
        annotations = list(_flat(cast("list[object]", value), 0))
        if len(annotations) > _MAX_ANNOTATIONS:
            return _lost(UNREADABLE, f"annotations: {len(annotations):,} of them")
        return self.walk(annotations, version)

    def walk(self, annotations: list[object], version: Version) -> Walk:
        """As `read`, of annotations that are parsed: objects with `task` and `value`."""
        lost: Counter[str] = Counter()
        n_notes = 0
        answers: dict[int, frozenset[int]] = {}
        torn: set[int] = set()
        following: dict[str, str] = {}
        for annotation in annotations:
            facts = cast("dict[str, object]", annotation) if isinstance(annotation, dict) else {}
            key = facts.get("task")
            if not isinstance(key, str):
                lost[A_UNREADABLE] += 1
                continue
            task = version.tasks.get(key)
            if task is None:
                lost[A_OTHER_TASK] += 1
                continue
            value = facts.get("value")
            labels = _labels(value, task.answers)
            if labels or (isinstance(value, list) and task.kind == "multiple"):
                following[key] = _after(labels, task.answers, task.following, task.following_task)
            entry = self.entries.get((version.workflow, key, task.label))
            if entry is None or not entry.question:
                lost[A_UNMAPPED if entry is None else A_LEFT_OUT] += 1
                continue
            question = self.question[entry.question]
            is_multiple = self.tree.questions[question].multiple
            if labels is None:
                lost[A_UNREADABLE] += 1
                continue
            if not labels and not (is_multiple and isinstance(value, list)):
                lost[A_NOTHING] += 1
                continue
            known = [entry.answers[label] for label in labels if label in entry.answers]
            columns = frozenset(self.place[column] for column in known if column)
            if labels and not columns:
                lost[A_NO_COLUMN if known else A_UNKNOWN] += 1
                continue
            if not is_multiple and (len(columns) > 1 or len(set(labels)) > 1):
                lost[A_SEVERAL] += 1
                continue
            if is_multiple and question in answers and isinstance(value, str):  # each tick a response of its own
                answers[question] |= columns
                continue
            if question in answers or question in torn:
                lost[A_TWICE] += 1
                if question in answers and answers[question] != columns:  # which one holds cannot be known
                    lost[A_TWICE] += 1
                    del answers[question]
                    torn.add(question)
                continue
            n_notes += len(set(labels)) - len(columns) if is_multiple else 0
            answers[question] = columns
        if _is_unfinished(version, following):
            return Walk(UNFINISHED, "a task that must be answered has no answer", frozenset(), frozenset(),
                        len(annotations), {})  # fmt: skip
        given: set[int] = set()
        asked: set[int] = set()
        for question in self.order:
            if question not in answers:
                continue
            if self.tree.questions[question].parents and given.isdisjoint(self.tree.parents_of_question[question]):
                lost[A_UNASKED] += 1
                continue
            asked.add(question)
            given |= answers[question]
        problem = "" if asked else NO_ANSWER
        said = ", ".join(f"{n} x {rule}" for rule, n in sorted(lost.items())) or "no annotation"
        return Walk(problem, "" if asked else said, frozenset(given), frozenset(asked), len(annotations), lost, n_notes)


def _lost(problem: str, detail: str) -> Walk:
    return Walk(problem, detail, frozenset(), frozenset(), 0, {})


def _flat(annotations: list[object], depth: int) -> Iterator[object]:
    """Annotations, those inside of a combined task one by one."""
    for one in annotations:
        value = cast("dict[str, object]", one).get("value") if isinstance(one, dict) else None
        inner = cast("list[object]", value) if isinstance(value, list) else []
        if inner and depth < _DEEPEST and all(isinstance(part, dict) and "task" in part for part in inner):
            yield from _flat(inner, depth + 1)
        else:
            yield one


def _labels(value: object, answers: tuple[str, ...]) -> list[str] | None:
    """Plain labels of the answers chosen; None for what is no choice of answers."""
    chosen = cast("list[object]", value) if isinstance(value, list) else [] if value is None or value == "" else [value]
    labels: list[str] = []
    for entry in chosen:
        facts = cast("dict[str, object]", entry) if isinstance(entry, dict) else {}
        one = facts.get("label", facts.get("value")) if facts else entry
        if isinstance(one, bool) or not isinstance(one, str | int):
            return None
        if isinstance(one, int):
            if not 0 <= one < len(answers):
                return None
            labels.append(answers[one])
        else:
            labels.append(plain(one))
    return labels


def _after(labels: list[str] | None, answers: tuple[str, ...], following: tuple[str, ...], otherwise: str) -> str:
    """The task that comes next."""
    if labels and len(labels) == 1 and labels[0] in answers:
        return following[answers.index(labels[0])] or otherwise
    return otherwise


def _is_unfinished(version: Version, following: Mapping[str, str]) -> bool:
    """Whether the walk breaks off at a task that must be answered."""
    key = version.first
    for _ in range(len(version.tasks) + 1):
        task = version.tasks.get(key)
        if task is None:
            return False
        if key not in following:
            return task.is_required
        key = following[key]
    return False
