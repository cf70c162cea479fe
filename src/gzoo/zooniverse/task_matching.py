"""Matching of the tasks of workflows with the questions of a tree, by their labels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from gzoo.trees.campaign import Campaign
from gzoo.trees.labels import answer_likeness, likeness, tokens
from gzoo.trees.tree import Question, Tree
from gzoo.votes.identifiers import identifier
from gzoo.zooniverse.tasks import SUBJECT, Entry, Tasks
from gzoo.zooniverse.workflows import ASKING, Workflows

_MIN_SCORE, _CLEAR_SCORE, _CLEAR_ANSWER, _CLEAR_LEAD = 0.45, 0.7, 0.75, 0.1
_CLEAR_QUESTION, _PERHAPS = 0.3, 0.65
_WEIGHT_OF_ANSWERS = 0.75


@dataclass(slots=True)
class _AskedTask:
    """A task in all its versions, with all labels that its answers ever had."""

    key: str
    label: str
    kind: str
    labels: dict[str, None]


@dataclass(frozen=True, slots=True)
class _Match:
    """How well a task matches a question."""

    score: float
    of_question: float
    columns: tuple[str, ...]
    by_elimination: str
    perhaps: tuple[str, ...]


_Found = dict[int, tuple[_Match, Question, str]]  # by the identity of the task; the string is the doubt


def propose_tasks(workflows: Workflows, campaign: Campaign, subjects: SubjectFields, names: Mapping[str, str]) -> Tasks:
    """Propose a mapping file from the labels of tasks and answers.

    Args:
        workflows: The versions that occur in the export.
        campaign: The campaign that the tasks belong to.
        subjects: The fields of the subjects.
        names: Number of a workflow -> its names, as far as known.
    """
    tree = campaign.tree
    entries: list[Entry] = []
    unmatched: dict[tuple[str, str, str], str] = {}
    for workflow in workflows.ids:
        asked = _tasks_of(workflows, workflow)
        named = " ".join([names.get(workflow, ""), *(version.name for version in workflows.of(workflow))])
        part, unclear = _best_part([one for one in asked if one.kind in ASKING and one.labels], tree, named)
        for one in asked:
            if id(one) in part:
                match, question, doubt = part[id(one)]
                answers = dict(zip(one.labels, match.columns, strict=True))
                entries.append(Entry(workflow, one.key, one.label, question.name, answers, doubt or unclear))
            else:
                why = "no question has similar labels" if one.labels else "it lacks answers"
                unmatched[workflow, one.key, one.label] = why if one.kind in ASKING else f"a task of type '{one.kind}'"
    found = {entry.question for entry in entries}
    not_found = tuple(question.name for question in tree.questions if question.name not in found)
    return Tasks(tuple(entries), subjects.chosen()[0], (), campaign.name, unmatched, not_found)


def _tasks_of(workflows: Workflows, workflow: str) -> list[_AskedTask]:
    found: dict[tuple[str, str], _AskedTask] = {}
    for version in workflows.of(workflow):
        for task in version.tasks.values():
            one = found.setdefault((task.key, task.label), _AskedTask(task.key, task.label, task.kind, {}))
            one.labels |= dict.fromkeys(label for label in task.answers if label)
    return sorted(found.values(), key=lambda one: _in_order(one.key))


def _in_order(key: str) -> tuple[int, str]:
    digits = key[1:]
    return (int(digits) if digits.isascii() and digits.isdigit() else 1 << 30, key)


def _best_part(asked: Sequence[_AskedTask], tree: Tree, workflow_name: str) -> tuple[_Found, str]:
    """Return the questions that a workflow asks, all of one part of the tree; and why the part is unclear, or ""."""
    judged: list[tuple[float, bool, str, _Found]] = []
    for suffix, questions in tree.parts.items():
        found = _assigned(asked, questions, suffix)
        is_named = suffix in re.findall(r"[a-z0-9]+", workflow_name.lower())
        judged.append((sum(match.score for match, _, _ in found.values()), is_named, suffix, found))
    judged.sort(key=lambda one: -round(one[0], 6))
    close = [one for one in judged if one[3] and one[0] >= judged[0][0] * (1 - _CLEAR_LEAD)] or judged[:1]
    named = [one for one in close if one[1]]
    best = named[0] if len(named) == 1 else close[0]
    others = " and ".join(one[2] for one in close if one is not best)
    unclear = f"{others} has the same questions: is this workflow {best[2]}?" if others and len(named) != 1 else ""
    return best[3], unclear


def _assigned(asked: Sequence[_AskedTask], questions: Sequence[Question], suffix: str) -> _Found:
    from scipy.optimize import linear_sum_assignment

    # A task with another label is the same question again, so only tasks with different keys compete for a question.
    keys = list(dict.fromkeys(one.key for one in asked))
    matches = [[_match(one, question, suffix) for question in questions] for one in asked]
    scores = np.zeros((len(keys), len(questions)))
    for one, row in zip(asked, matches, strict=True):
        k = keys.index(one.key)
        scores[k] = np.maximum(scores[k], [match.score for match in row])
    chosen = dict(zip(*(indices.tolist() for indices in linear_sum_assignment(-scores)), strict=True))
    found: _Found = {}
    for one, row in zip(asked, matches, strict=True):
        j = chosen.get(keys.index(one.key))
        if j is None:
            continue
        best = max(range(len(questions)), key=lambda other: row[other].score)
        if row[best].score > row[j].score + 0.2:
            j = best  # the key was used for another question in other versions
        match = row[j]
        if match.score < _MIN_SCORE:
            continue
        doubts: list[str] = []
        if match.score < _CLEAR_SCORE or match.of_question < _CLEAR_QUESTION:
            doubts.append(f"is this {questions[j].name}?")
        if match.by_elimination:
            doubts.append(match.by_elimination)
        doubts += [f"does {label!r} mean the same?" for label in match.perhaps]
        lost = [repr(label) for label, column in zip(one.labels, match.columns, strict=True) if not column]
        if lost:
            doubts.append(f"the tree lacks an answer for {', '.join(lost)}, whose votes are not counted")
        found[id(one)] = (match, questions[j], "; ".join(doubts))
    return found


def _match(one: _AskedTask, question: Question, suffix: str) -> _Match:
    from scipy.optimize import linear_sum_assignment

    labels = list(one.labels)
    words = tokens(question.name.removesuffix(f"-{suffix}"))
    likeness_of = np.array(
        [
            [max(_likeness(text, answer, words) for text in _variants(label)) for answer in question.answers]
            for label in labels
        ]
    )
    rows, columns = linear_sum_assignment(-likeness_of)
    chosen = [""] * len(labels)
    for i, j in zip(rows.tolist(), columns.tolist(), strict=True):
        if likeness_of[i, j] >= 0.6:
            chosen[i] = question.columns[j]
    for i in range(len(labels)):  # another label, in another version, of an answer that is matched already
        if not chosen[i] and likeness_of[i].max() >= _CLEAR_ANSWER:
            chosen[i] = question.columns[int(likeness_of[i].argmax())]
    by_elimination = ""
    open_labels = [i for i, column in enumerate(chosen) if not column]
    open_answers = [j for j, column in enumerate(question.columns) if column not in chosen]
    if len(open_labels) == len(open_answers) == 1 < len(labels):
        label, answer = labels[open_labels[0]], question.answers[open_answers[0]]
        if tokens(answer) != ("no",) or tokens(label)[:1] == ("no",):
            chosen[open_labels[0]] = question.columns[open_answers[0]]
            by_elimination = f"'{label}' is the only one left for {answer}"
    given = [column for column in chosen if column]
    n_labels = len(labels) - (len(given) - len(set(given)))  # labels of one answer count once
    of_answers = float(likeness_of[rows, columns].sum()) / max(n_labels, len(question.columns))
    of_question = max(likeness(tokens(text), words) for text in (one.label, one.key))
    score = _WEIGHT_OF_ANSWERS * min(1.0, of_answers) + (1 - _WEIGHT_OF_ANSWERS) * of_question
    if {*map(tokens, question.answers)} <= {("yes",), ("no",)} and of_question < _CLEAR_QUESTION:
        score = 0.0  # such answers fit any question
    perhaps = tuple(
        label
        for i, (label, column) in enumerate(zip(labels, chosen, strict=True))
        if column and 0.6 <= likeness_of[i, question.columns.index(column)] < _CLEAR_ANSWER
    )
    return _Match(score, of_question, tuple(chosen), by_elimination, perhaps)


def _likeness(label: str, answer: str, question: Sequence[str]) -> float:
    """Return the likeness as `answer_likeness` does, but let labels such as "Nothing unusual" match "none"."""
    words = tokens(label)
    is_none = answer in ("none", "neither") and words[:1] == ("no",)
    return max(answer_likeness(words, answer, question), _PERHAPS if is_none else 0.0)


def _variants(label: str) -> list[str]:
    """Return a label, and the label without explanation: "No - something else", "Neither (no tidal debris)"."""
    bare = re.sub(r"\([^)]*\)", " ", label).strip()
    return [text for text in dict.fromkeys([label, bare, re.split(r"\s[-\u2013:]\s", bare)[0].strip()]) if text]


_NAMES = {
    "id_str": ("id_str", "#id_str", "iauname", "name", "galaxy", "objid", "dr7objid", "dr8objid"),
    "source_id": ("source_id", "nsa_id", "objid", "brickid"),
    "image": ("filename", "file_name", "#filename", "image", "image_name", "location"),
    "ra": ("ra", "#ra", "ramean"),
    "dec": ("dec", "#dec", "decmean"),
}


@dataclass
class SubjectFields:
    """Which fields the subjects of an export have, over all subjects.

    Attributes:
        n: Number of subjects.
        n_filled: Field -> number of subjects in which it is not empty.
        identifiers: Field that may be an identifier -> its different values.
        refused: Field that may be an identifier -> a value that is refused, and why.
    """

    n: int = 0
    n_filled: Counter[str] = field(default_factory=Counter[str])
    identifiers: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    refused: dict[str, str] = field(default_factory=dict[str, str])

    def add(self, facts: Mapping[str, object]) -> None:
        """Add a subject, unless it has no fields."""
        if not facts:
            return
        self.n += 1
        filled = [key for key, value in facts.items() if value not in (None, "")]
        self.n_filled.update(filled)
        for key in filled:
            if _bare(key) in _NAMES["id_str"]:
                read = identifier(facts[key])
                self.identifiers.setdefault(key, set()).add(read.text)
                if read.problem:
                    self.refused.setdefault(key, f"'{str(facts[key])[:80]}' ({read.problem})")

    def chosen(self) -> tuple[dict[str, str], str]:
        """Return the fields that contain the identifier, image and position of the galaxy, and a doubt or ""."""
        found: dict[str, str] = {}
        for key, names in _NAMES.items():
            # some galaxies may lack a position; an identifier or an image must be everywhere
            least = self.n / 2 if key in ("ra", "dec") else self.n
            filled = sorted((name for name, n in self.n_filled.items() if n >= least), reverse=True)
            by_name = {_bare(name): name for name in filled}
            found[key] = next((by_name[name] for name in names if name in by_name), "")
        name, doubt = found["id_str"], ""
        n_values = len(self.identifiers.get(name, ()))
        if name and n_values < self.n:
            doubt = (
                f"Field '{name}' has {n_values:,} values for {self.n:,} subjects, so it does not identify them: "
                "subjects are counted by their own number."
            )
        if name in self.refused:
            such = self.refused[name]
            doubt = f"Field '{name}' has identifiers such as {such}: subjects are counted by their own number."
        if not name or doubt:
            found["id_str"] = SUBJECT
        if found["source_id"] == found["id_str"]:
            found["source_id"] = ""
        return found, doubt


def _bare(field_name: str) -> str:
    return field_name.strip().lstrip("!#/").lower()
