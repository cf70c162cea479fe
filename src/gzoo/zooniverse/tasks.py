"""The mapping file of an export: which task of which workflow is which question, and which label which answer.

gzoo proposes it from the words and from the order of questions; a person confirms it.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np

from gzoo.errors import NotFoundError, TableError
from gzoo.trees.campaign import Campaign
from gzoo.trees.labels import answer_likeness, likeness, tokens
from gzoo.trees.tree import Question, Tree
from gzoo.zooniverse.workflows import ASKING, Task, Workflows

FIRST_LINE = "# Mapping file for gzoo, of a Zooniverse export"
SUBJECT = "subject_id"
SURE, CONFIRM = "sure", "CONFIRM"
_WORTH_A_LINE, _SURE_SCORE, _SURE_ANSWER, _CLEAR_LEAD = 0.45, 0.7, 0.75, 0.1
_SURE_QUESTION, _PERHAPS = 0.3, 0.65
_WEIGHT_OF_ANSWERS = 0.75
_FIELDS = ("id_str", "source_id", "image", "ra", "dec")


@dataclass(frozen=True, slots=True)
class Entry:
    """One task of one workflow, and what it is in the tree.

    Attributes:
        workflow: Number of the workflow.
        task: Key of the task, "T0"; of responses in JSON lines, the name of their question.
        label: The task's question as the site words it, plain; "" in JSON lines.
        question: Question of the tree; "" for a task that is left out.
        answers: Plain label -> answer column; "" for a label that the tree has no answer for.
        doubt: Why a person should look, or "".
    """

    workflow: str
    task: str
    label: str
    question: str
    answers: Mapping[str, str]
    doubt: str = ""


@dataclass(frozen=True, slots=True)
class Tasks:
    """A mapping file for an export.

    Attributes:
        entries: The tasks.
        fields: Which field of `subject_data` is the galaxy's "id_str", "source_id", "image", "ra", "dec"; "" for none.
            The value "subject_id" is the number of the subject itself.
        excluded: Workflows whose classifications are not to count.
        campaign: The campaign, for the file's first line.
        unmatched: Tasks for which no question was found -> why; for the file.
        not_found: Questions of the campaign that no task asks; for the file.
    """

    entries: tuple[Entry, ...]
    fields: Mapping[str, str] = field(default_factory=lambda: {"id_str": SUBJECT})
    excluded: tuple[str, ...] = ()
    campaign: str = ""
    unmatched: Mapping[tuple[str, str, str], str] = field(default_factory=dict[tuple[str, str, str], str])
    not_found: tuple[str, ...] = ()

    @property
    def doubts(self) -> tuple[str, ...]:
        """What a person must confirm."""
        return tuple(f"task {one.task} of workflow {one.workflow}: {one.doubt}" for one in self.entries if one.doubt)

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to confirm."""
        return not self.doubts

    @property
    def summary(self) -> str:
        """In a sentence or two, how far the proposal got."""
        n_sure = len([one for one in self.entries if not one.doubt])
        said = f"{n_sure} tasks found by their words"
        said += f", {len(self.doubts)} to confirm" if self.doubts else ""
        said += f"; {len(self.unmatched)} are no question of {self.campaign}" if self.unmatched else ""
        return said + (f". No task asks: {', '.join(self.not_found)}." if self.not_found else ".")

    def to_toml(self) -> str:
        """The mapping file."""
        lines = [
            f"{FIRST_LINE}, as {self.campaign}. Proposed by `gzoo mapping`.",
            "# Read it before you use it: what is marked CONFIRM the words leave in doubt.",
            "",
            '# Fields of subject_data; "subject_id" is the number of the subject itself.',
            *(f"{key} = {_quoted(self.fields.get(key, ''))}" for key in _FIELDS),
            "",
            "# Workflows whose classifications do not count, such as trials.",
            f"excluded = [{', '.join(map(_quoted, self.excluded))}]",
        ]
        for one in self.entries:
            lines += ["", f"# {CONFIRM}: {_words(one.doubt)}"] if one.doubt else [""]
            lines += [
                "[[task]]",
                f"workflow = {_quoted(one.workflow)}",
                f"task = {_quoted(one.task)}",
                f"label = {_quoted(one.label)}",
                f"question = {_quoted(one.question)}",
                "[task.answers]",
                *(
                    f"{_quoted(label)} = {_quoted(column)}" + ("" if column else "  # the tree has no such answer")
                    for label, column in one.answers.items()
                ),
            ]
        if self.unmatched:
            lines += ["", "# No question of the tree was found for:"]
            lines += [
                f"# workflow {_words(workflow)}, task {_words(task)}: {_words(label)} ({_words(why)})"
                for (workflow, task, label), why in self.unmatched.items()
            ]
        if self.not_found:
            lines += ["", "# No task asks:", *(f"# {_words(name)}" for name in self.not_found)]
        return "\n".join(lines) + "\n"

    @classmethod
    def read(cls, path: Path | str, tree: Tree) -> Tasks:
        """The mapping in a TOML file.

        Raises:
            NotFoundError: There is no such file.
            TableError: It is not TOML, or says what cannot be.
        """
        path = Path(path)
        if not path.is_file():
            raise NotFoundError(f"There is no mapping file {path}.", "A TOML file.", "Check --tasks.")
        try:
            facts = cast("dict[str, object]", tomllib.loads(path.read_bytes().decode("utf-8")))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise TableError(
                f"{path} is not TOML: {error}.", "A file as `gzoo mapping` proposes it.", "Mend the file."
            ) from error
        fields = {key: facts.pop(key, "") for key in _FIELDS}
        excluded, tasks = facts.pop("excluded", []), facts.pop("task", [])
        is_valid = (
            all(isinstance(value, str) for value in fields.values())
            and isinstance(excluded, list)
            and all(isinstance(one, str) for one in cast("list[object]", excluded))
            and isinstance(tasks, list)
            and all(isinstance(one, dict) for one in cast("list[object]", tasks))
            and not facts
        )
        if not is_valid:
            what = f"has {next(iter(facts))}" if facts else "has a value of the wrong kind"
            raise TableError(
                f"{path} {what}.",
                f"Texts for {', '.join(_FIELDS)}; a list of texts for excluded; [[task]] tables.",
                "Mend the file, or have it proposed again with `gzoo mapping`.",
            )
        entries = tuple(
            _entry(path, i, cast("dict[str, object]", one), tree)
            for i, one in enumerate(cast("list[object]", tasks), 1)
        )
        given = cast("dict[str, str]", fields)
        if not given["id_str"]:
            given["id_str"] = SUBJECT
        return cls(entries, given, tuple(cast("list[str]", excluded)))


def _entry(path: Path, i: int, facts: Mapping[str, object], tree: Tree) -> Entry:
    texts = {key: facts.get(key, "") for key in ("workflow", "task", "label", "question")}
    answers = facts.get("answers", {})
    is_valid = (
        all(isinstance(value, str) for value in texts.values())
        and isinstance(answers, dict)
        and all(isinstance(value, str) for value in cast("dict[str, object]", answers).values())
        and not set(facts) - {*texts, "answers"}
        and texts["workflow"]
        and texts["task"]
    )
    if not is_valid:
        raise TableError(
            f"{path}, [[task]] {i}: it cannot be understood.",
            "Texts workflow, task, label and question, and a table of texts [task.answers].",
            "Mend it.",
        )
    entry = Entry(**cast("dict[str, str]", texts), answers=cast("dict[str, str]", answers))
    names = [question.name for question in tree.questions]
    if entry.question and entry.question not in names:
        raise TableError(
            f"{path}, [[task]] {i}: '{entry.question}' is no question of {tree.name}.",
            f'One of {", ".join(names)}; or "" to leave the task out.',
            f"See `gzoo tree {tree.name}`.",
        )
    columns = tree.question(entry.question).columns if entry.question else ()
    for label, column in entry.answers.items():
        if column and column not in columns:
            raise TableError(
                f"{path}, [[task]] {i}: '{label}' is '{column}', which is no answer of '{entry.question}'.",
                f'One of {", ".join(columns)}; or "".',
                "Mend it.",
            )
    return entry


# --- the proposal -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Asked:
    """A task over all versions: the labels its answers ever had, and how often it was met."""

    workflow: str
    key: str
    label: str
    kind: str
    labels: dict[str, None]


@dataclass(frozen=True, slots=True)
class _Match:
    score: float
    of_question: float
    columns: tuple[str, ...]
    by_elimination: str
    perhaps: tuple[str, ...]


def propose_tasks(
    workflows: Workflows, campaign: Campaign, subjects: Sequence[Mapping[str, object]], names: Mapping[str, str]
) -> Tasks:
    """A mapping file, proposed from the words of tasks and answers.

    Args:
        workflows: The versions that were met.
        campaign: Whose tree the tasks belong to.
        subjects: `subject_data` of some subjects, for the names of their fields.
        names: Number of a workflow -> its names, as far as they are known.
    """
    tree = campaign.tree
    entries: list[Entry] = []
    unmatched: dict[tuple[str, str, str], str] = {}
    for workflow in workflows.ids:
        asked = _tasks_of(workflows, workflow)
        choosable = [one for one in asked if one.kind in ASKING and one.labels]
        for one in asked:
            if one not in choosable:
                unmatched[workflow, one.key, one.label] = (
                    f"a task of kind '{one.kind}'" if one.kind not in ASKING else "it has no answers"
                )
        named = " ".join([names.get(workflow, ""), *(version.name for version in workflows.of(workflow))])
        part, rest = _best_part(choosable, tree, named)
        for one in choosable:
            match, question, doubt = part.get(id(one), (None, None, ""))
            if match is None or question is None:
                unmatched[workflow, one.key, one.label] = "no question has such words"
                continue
            answers = dict(zip(one.labels, match.columns, strict=True))
            entries.append(Entry(workflow, one.key, one.label, question.name, answers, doubt or rest))
    found = {entry.question for entry in entries}
    not_found = tuple(question.name for question in tree.questions if question.name not in found)
    return Tasks(tuple(entries), _fields(subjects), (), campaign.name, unmatched, not_found)


def _tasks_of(workflows: Workflows, workflow: str) -> list[_Asked]:
    found: dict[tuple[str, str], _Asked] = {}
    for version in workflows.of(workflow):
        for task in version.tasks.values():
            one = found.setdefault((task.key, task.label), _Asked(workflow, task.key, task.label, task.kind, {}))
            one.labels |= dict.fromkeys(label for label in task.answers if label)
    return sorted(found.values(), key=lambda one: _in_order(one.key))


def _in_order(key: str) -> tuple[int, str]:
    digits = key[1:]
    return (int(digits) if digits.isascii() and digits.isdigit() else 1 << 30, key)


_Found = dict[int, tuple[_Match, Question, str]]


def _best_part(asked: Sequence[_Asked], tree: Tree, workflow_name: str) -> tuple[_Found, str]:
    """The questions that a workflow asks, all of one part of the tree; and why the part is in doubt, or ""."""
    judged: list[tuple[float, int, str, _Found]] = []
    for suffix, questions in tree.parts.items():
        found = _assigned(asked, questions, suffix)
        total = sum(match.score for match, _, _ in found.values())
        is_named = suffix in re.findall(r"[a-z0-9]+", workflow_name.lower())
        judged.append((total, int(is_named), suffix, found))
    judged.sort(key=lambda one: -round(one[0], 6))
    close = [one for one in judged if one[3] and one[0] >= judged[0][0] * (1 - _CLEAR_LEAD)] or judged[:1]
    named = [one for one in close if one[1]]
    best = named[0] if len(named) == 1 else close[0]
    others = " and ".join(one[2] for one in close if one is not best)
    doubt = f"{others} asks the same: is this workflow {best[2]}?" if others and len(named) != 1 else ""
    return best[3], doubt


def _assigned(asked: Sequence[_Asked], questions: Sequence[Question], suffix: str) -> _Found:
    from scipy.optimize import linear_sum_assignment

    if not asked:
        return {}
    # the same task in other words is the same question again: only other tasks compete for it
    keys = list(dict.fromkeys(one.key for one in asked))
    matches = {(i, j): _match(one, q, suffix) for i, one in enumerate(asked) for j, q in enumerate(questions)}
    scores = np.zeros((len(keys), len(questions)))
    for (i, j), match in matches.items():
        k = keys.index(asked[i].key)
        scores[k, j] = max(scores[k, j], match.score)
    chosen = dict(zip(*linear_sum_assignment(-scores), strict=True))
    found: _Found = {}
    for i, one in enumerate(asked):
        j = chosen.get(keys.index(one.key))
        if j is None:
            continue
        best = max(range(len(questions)), key=lambda other: matches[i, other].score)
        if matches[i, best].score > matches[i, int(j)].score + 0.2:
            j = best  # the key was used for another question in other versions
        match = matches[i, int(j)]
        if match.score < _WORTH_A_LINE:
            continue
        doubts: list[str] = []
        if match.score < _SURE_SCORE or match.of_question < _SURE_QUESTION:
            doubts.append(f"is this {questions[int(j)].name}?")
        if match.by_elimination:
            doubts.append(match.by_elimination)
        doubts += [f"does {label!r} say the same?" for label in match.perhaps]
        lost = [label for label, column in zip(one.labels, match.columns, strict=True) if not column]
        if lost:
            doubts.append(f"the tree has no answer for {', '.join(map(repr, lost))}, whose votes will not count")
        found[id(one)] = (match, questions[int(j)], "; ".join(doubts))
    return found


def _match(one: _Asked, question: Question, suffix: str) -> _Match:
    from scipy.optimize import linear_sum_assignment

    labels = list(one.labels)
    words = tokens(question.name.removesuffix(f"-{suffix}"))
    likes = np.array(
        [
            [max(_likeness(v, answer, words) for v in _variants(label)) for answer in question.answers]
            for label in labels
        ]
    )
    rows, columns = linear_sum_assignment(-likes)
    chosen = [""] * len(labels)
    used: set[int] = set()
    for i, j in zip(rows.tolist(), columns.tolist(), strict=True):
        if likes[i, j] >= 0.6:
            chosen[i] = question.columns[j]
            used.add(j)
    for i in range(len(labels)):  # another wording, of another version, of an answer that is matched already
        if not chosen[i] and likes[i].max() >= _SURE_ANSWER:
            chosen[i] = question.columns[int(likes[i].argmax())]
            used.add(int(likes[i].argmax()))
    by_elimination = ""
    open_labels = [i for i, column in enumerate(chosen) if not column]
    open_answers = [j for j in range(len(question.columns)) if j not in used]
    if len(open_labels) == len(open_answers) == 1 < len(labels) and (
        tokens(question.answers[open_answers[0]]) != ("no",) or tokens(labels[open_labels[0]])[:1] == ("no",)
    ):
        chosen[open_labels[0]] = question.columns[open_answers[0]]
        by_elimination = f"'{labels[open_labels[0]]}' is the only one left for {question.answers[open_answers[0]]}"
    of_answers = float(likes[rows, columns].sum()) / max(len(labels) - _n_repeats(chosen), len(question.columns))
    of_question = max(likeness(tokens(text), words) for text in (one.label, one.key))
    score = _WEIGHT_OF_ANSWERS * min(1.0, of_answers) + (1 - _WEIGHT_OF_ANSWERS) * of_question
    says_little = {*map(tokens, question.answers)} <= {("yes",), ("no",)}  # such answers fit any question
    if says_little and of_question < _SURE_QUESTION:
        score = 0.0
    perhaps = tuple(
        label
        for i, (label, column) in enumerate(zip(labels, chosen, strict=True))
        if column and 0.6 <= likes[i, question.columns.index(column)] < _SURE_ANSWER
    )
    return _Match(score, of_question, tuple(chosen), by_elimination, perhaps)


def _likeness(label: str, answer: str, question: Sequence[str]) -> float:
    """As `answer_likeness`; "Nothing unusual" may say none."""
    words = tokens(label)
    says_none = answer in ("none", "neither") and words[:1] == ("no",)
    return max(answer_likeness(words, answer, question), _PERHAPS if says_none else 0.0)


def _n_repeats(columns: Sequence[str]) -> int:
    given = [column for column in columns if column]
    return len(given) - len(set(given))


def _variants(label: str) -> list[str]:
    """A label as it stands, and without what explains it: "No - something else", "Neither (no tidal debris)"."""
    bare = re.sub(r"\([^)]*\)", " ", label).strip()
    return [text for text in dict.fromkeys([label, bare, re.split(r"\s[-\u2013:]\s", bare)[0].strip()]) if text]


_NAMES = {
    "id_str": ("id_str", "#id_str", "iauname", "name", "galaxy", "objid", "dr7objid", "dr8objid"),
    "source_id": ("source_id", "nsa_id", "objid", "brickid"),
    "image": ("filename", "file_name", "#filename", "image", "image_name", "location"),
    "ra": ("ra", "#ra", "ramean"),
    "dec": ("dec", "#dec", "decmean"),
}


def _fields(subjects: Iterable[Mapping[str, object]]) -> dict[str, str]:
    """Fields of the subjects that say who the galaxy is and where."""
    met = [one for one in subjects if one]
    everywhere = {key for key in (met[0] if met else {}) if all(one.get(key) not in (None, "") for one in met)}
    by_name = {key.strip().lstrip("!#/").lower(): key for key in sorted(everywhere, reverse=True)}
    found: dict[str, str] = {}
    for key, names in _NAMES.items():
        found[key] = next((by_name[name] for name in names if name in by_name), "")
    values = [str(one.get(found["id_str"])) for one in met] if found["id_str"] else []
    if not found["id_str"] or len(set(values)) < len(values):
        found["id_str"] = SUBJECT
    if found["source_id"] == found["id_str"]:
        found["source_id"] = ""
    return found


def _quoted(text: str) -> str:
    """A text as a TOML string (JSON's escapes are TOML's)."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _words(text: str) -> str:
    """In a comment, one line."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())[:200]


def task_of(entries: Mapping[tuple[str, str, str], Entry], workflow: str, task: Task) -> Entry | None:
    """What a task is, by its key and its words."""
    return entries.get((workflow, task.key, task.label))
