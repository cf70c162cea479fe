"""The mapping file of an export: which task of which workflow is which question, and which label is which answer.

gzoo proposes the file from the labels and the order of questions; a user confirms it.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from gzoo.display import Sheet, Shown, json_value
from gzoo.errors import NotFoundError, TableError, choices, reason, suggestion
from gzoo.trees.tree import Tree

FIRST_LINE = "# Mapping file for gzoo, of a Zooniverse export"
SUBJECT = "subject_id"
CONFIRM = "CONFIRM"
FIELDS = ("id_str", "source_id", "image", "ra", "dec")


@dataclass(frozen=True, slots=True)
class Entry:
    """One task of one workflow, and the question of the tree that it asks.

    Attributes:
        workflow: Number of the workflow.
        task: Key of the task, "T0"; for JSON lines the name of the question.
        label: The question as the site words it, in plain text; "" for JSON lines.
        question: Question of the tree; "" for an excluded task.
        answers: Plain label -> answer column; "" for a label without an answer in the tree.
        doubt: Why a user should check the entry, or "".
    """

    workflow: str
    task: str
    label: str
    question: str
    answers: Mapping[str, str]
    doubt: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class Tasks(Shown):
    """A mapping file for an export.

    Attributes:
        entries: The tasks.
        fields: Which field of `subject_data` is the galaxy's "id_str", "source_id", "image", "ra", "dec"; "" for none.
            The value "subject_id" means the number of the subject itself.
        excluded: Workflows whose classifications are not counted.
        campaign: The campaign, for the first line of the file.
        unmatched: Tasks that match no question -> why; for the file.
        not_found: Questions of the campaign that no task asks; for the file.
        unit: Unit of ra and dec, or "" for degrees, or hours and degrees where they are sexagesimal.
    """

    entries: tuple[Entry, ...]
    fields: Mapping[str, str] = field(default_factory=lambda: {"id_str": SUBJECT})
    excluded: tuple[str, ...] = ()
    campaign: str = ""
    unmatched: Mapping[tuple[str, str, str], str] = field(default_factory=dict[tuple[str, str, str], str])
    not_found: tuple[str, ...] = ()
    unit: str = ""

    def to_dict(self) -> dict[str, object]:
        """Return the tasks as JSON values.

        reason: Of a task that matches no question: why.
        """
        unmatched = [
            {"workflow": workflow, "task": task, "label": label, "reason": why}
            for (workflow, task, label), why in self.unmatched.items()
        ]
        known = {name: json_value(getattr(self, name)) for name in ("campaign", "fields", "excluded", "not_found")}
        return {**known, "entries": json_value(self.entries), "unmatched": unmatched, "is_complete": self.is_complete}

    def sheet(self) -> Sheet:
        """Return the tasks with their questions."""
        return Sheet(
            f"Mapping file of an export of {self.campaign}",
            {
                "found": self.summary,
                "fields": {key: one for key, one in self.fields.items() if one},
                "excluded workflows": self.excluded,
            },
            ("workflow", "task", "question", "label", "confirm"),
            [(one.workflow, one.task, one.question or "-", one.label, one.doubt) for one in self.entries],
        )

    @property
    def doubts(self) -> tuple[str, ...]:
        """What a user must confirm."""
        return tuple(f"task {one.task} of workflow {one.workflow}: {one.doubt}" for one in self.entries if one.doubt)

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to confirm."""
        return not self.doubts

    @property
    def summary(self) -> str:
        """What was matched, in one or two sentences."""
        n_sure = len(self.entries) - len(self.doubts)
        text = f"{n_sure} task{'s' * (n_sure != 1)} matched by their labels"
        text += f", {len(self.doubts)} to confirm" if self.doubts else ""
        text += f"; {len(self.unmatched)} match no question of {self.campaign}" if self.unmatched else ""
        return text + (f". Questions without a task: {', '.join(self.not_found)}." if self.not_found else ".")

    def to_toml(self) -> str:
        """Return the content of the mapping file."""
        lines = [
            f"{FIRST_LINE}, as {self.campaign}. Proposed by `gzoo mapping`.",
            f"# Review it before you use it: check the entries marked {CONFIRM}.",
            "",
            '# Fields of subject_data; "subject_id" is the number of the subject itself.',
            *(f"{key} = {_quoted(self.fields.get(key, ''))}" for key in FIELDS),
            *([f"unit = {_quoted(self.unit)}"] if self.unit else []),
            "",
            "# Workflows whose classifications are not counted, such as trials.",
            f"excluded = [{', '.join(map(_quoted, self.excluded))}]",
        ]
        for one in self.entries:
            lines += ["", f"# {CONFIRM}: {_comment(one.doubt)}"] if one.doubt else [""]
            texts = {"workflow": one.workflow, "task": one.task, "label": one.label, "question": one.question}
            lines += ["[[task]]", *(f"{key} = {_quoted(text)}" for key, text in texts.items()), "[task.answers]"]
            for label, column in one.answers.items():
                lines += [f"{_quoted(label)} = {_quoted(column)}{'' if column else '  # no such answer in the tree'}"]
        if self.unmatched:
            lines += ["", "# Tasks that match no question of the tree:"]
            for (workflow, task, label), why in self.unmatched.items():
                lines += [f"# workflow {_comment(workflow)}, task {_comment(task)}: {_comment(f'{label} ({why})')}"]
        if self.not_found:
            lines += ["", "# Questions without a task:", *(f"# {_comment(name)}" for name in self.not_found)]
        return "\n".join(lines) + "\n"

    @classmethod
    def read(cls, path: Path | str, tree: Tree) -> Tasks:
        """Read a mapping file.

        Args:
            path: The TOML file.
            tree: The decision tree that its questions belong to.

        Raises:
            NotFoundError: The file does not exist.
            TableError: The file is not TOML, or has a value that is not valid.
        """
        path = Path(path)
        if not path.is_file():
            raise NotFoundError(f"Mapping file not found: '{path}'.", "", "Check the path passed to --mapping.")
        try:
            facts = cast("dict[str, object]", tomllib.loads(path.read_bytes().decode("utf-8")))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise TableError(
                f"Mapping file '{path}' is not TOML: {reason(error)}.",
                "",
                "Fix the TOML syntax, or recreate the file with `gzoo mapping`.",
            ) from error
        fields = {key: facts.pop(key, "") for key in (*FIELDS, "unit")}
        excluded, tasks = facts.pop("excluded", []), facts.pop("task", [])
        if facts or not _are(str, [*fields.values()]) or not _are(str, excluded) or not _are(dict, tasks):
            what = f"an unknown key '{next(iter(facts))}'" if facts else "a value of the wrong type"
            raise TableError(
                f"Mapping file '{path}' has {what}.",
                f"strings for {', '.join(FIELDS)} and unit; a list of strings for excluded; [[task]] tables.",
                "Fix the file, or recreate it with `gzoo mapping`.",
            )
        listed = cast("list[dict[str, object]]", tasks)
        entries = tuple(_entry(f"{path}, [[task]] {i}", one, tree) for i, one in enumerate(listed, 1))
        given = cast("dict[str, str]", fields)
        unit = given.pop("unit")
        return cls(
            entries, given | {"id_str": given["id_str"] or SUBJECT}, tuple(cast("list[str]", excluded)), unit=unit
        )


def _are(kind: type, values: object) -> bool:
    return isinstance(values, list) and all(isinstance(one, kind) for one in cast("list[object]", values))


def _entry(where: str, facts: Mapping[str, object], tree: Tree) -> Entry:
    texts = {key: facts.get(key, "") for key in ("workflow", "task", "label", "question")}
    answers = facts.get("answers", {})
    is_valid = isinstance(answers, dict) and _are(str, [*texts.values(), *cast("dict[str, object]", answers).values()])
    if not is_valid or set(facts) - {*texts, "answers"} or not (texts["workflow"] and texts["task"]):
        raise TableError(
            f"{where} is not valid.",
            "strings workflow, task, label and question, and a table of strings [task.answers].",
            "Fix the entry, or recreate the file with `gzoo mapping`.",
        )
    entry = Entry(**cast("dict[str, str]", texts), answers=cast("dict[str, str]", answers))
    names = [question.name for question in tree.questions]
    if entry.question and entry.question not in names:
        raise TableError(
            f"{where}: '{entry.question}' is not a question of {tree.name}.",
            f'{choices(names, entry.question).removesuffix(".")}; or "" to exclude the task.',
            suggestion(names, entry.question, f"Run `gzoo tree {tree.name}` to list the questions."),
        )
    columns = tree.question(entry.question).columns if entry.question else ()
    for label, column in entry.answers.items():
        if column and column not in columns:
            raise TableError(
                f"{where}: '{column}' (for label '{label}') is not an answer of '{entry.question}'.",
                f'{choices(columns, column).removesuffix(".")}; or "".',
                suggestion(columns, column),
            )
    return entry


def _quoted(text: str) -> str:
    """Return a string in TOML (the escapes of JSON are valid in TOML)."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _comment(text: str) -> str:
    """Return text for a comment, in one line."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())[:300]
