"""Workflows: what the site asked, version by version.

The major version of a workflow changes with its tasks, the minor version with its labels. Both are strings, because
28.30 is not 28.3.
"""

from __future__ import annotations

import ast
import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import cast

from gzoo.errors import NotFoundError, TableError, reason

MAX_FILE = 1 << 28
MAX_LABEL = 300
ASKING = ("single", "multiple")  # types of tasks that have answers to choose from
_EXPECTED = (
    "a Zooniverse workflow export as CSV (Lab, 'Data exports', 'Request workflow export'), or versions of workflows "
    "as JSON."
)
_EXPORT_AGAIN = "Export it again from the Zooniverse Lab."
_CHECK_PATH = "Check the path passed to --workflows."
_IMAGE = re.compile(r"!\[[^\]]{0,500}\]\([^)]{0,2000}\)")
_LINK = re.compile(r"\[([^\]]{0,500})\]\([^)]{0,2000}\)")


@lru_cache(maxsize=10_000)
def plain(label: str) -> str:
    """Return a label without its markdown images, links and emphasis, in one line.

    >>> plain("![ring.png](https://x.example/ring.png) **Ring**")
    'Ring'
    """
    words = _LINK.sub(r"\1", _IMAGE.sub(" ", label))
    return " ".join(re.sub(r"[*_#`]{1,3}(?=\S)|(?<=\S)[*_`]{1,3}", "", words).split())[:MAX_LABEL]


@dataclass(frozen=True, slots=True)
class Task:
    """One question of a workflow, as it was worded in one version.

    Attributes:
        key: Key of the task, "T0".
        kind: "single", "multiple", or a type without answers to choose from ("drawing", "survey", "text").
        label: The question, in plain text.
        answers: Plain label of each answer, in order.
        following: Key of the task that follows each answer, "" for the end.
        following_task: Key of the task that follows whatever is answered, for tasks of type "multiple".
        is_required: Whether a volunteer must answer.
    """

    key: str
    kind: str
    label: str
    answers: tuple[str, ...]
    following: tuple[str, ...]
    following_task: str
    is_required: bool


@dataclass(frozen=True, slots=True)
class Version:
    """One version of one workflow.

    Attributes:
        workflow: Number of the workflow.
        name: Name of the workflow, "" if unknown.
        major: Version of the tasks.
        minor: Version of their labels.
        tasks: The tasks by key.
        first: Key of the first task.
    """

    workflow: str
    name: str
    major: str
    minor: str
    tasks: Mapping[str, Task]
    first: str


class Workflows:
    """All known versions of workflows.

    Args:
        versions: The versions in any order; of equal ones the first is used.
    """

    def __init__(self, versions: Iterable[Version]) -> None:
        self.versions: dict[tuple[str, str, str], Version] = {}
        for one in versions:
            self.versions.setdefault((one.workflow, one.major, one.minor), one)

    @property
    def ids(self) -> tuple[str, ...]:
        """The numbers of the workflows."""
        return tuple(dict.fromkeys(one.workflow for one in self.versions.values()))

    def of(self, workflow: str) -> tuple[Version, ...]:
        """Return the versions of one workflow, oldest first."""
        found = [one for one in self.versions.values() if one.workflow == workflow]
        return tuple(sorted(found, key=lambda one: (_number(one.major), _number(one.minor))))

    def find(self, workflow: str, version: str) -> Version | None:
        """Return a version, or the one with the same tasks and the nearest minor version; None without either.

        Args:
            workflow: Number of the workflow.
            version: Major and minor version, "28.30".
        """
        major, _, minor = version.partition(".")
        exact = self.versions.get((workflow, major, minor))
        same_tasks = [one for one in self.of(workflow) if one.major == major]
        return exact or min(
            reversed(same_tasks), key=lambda one: abs(_number(one.minor) - _number(minor)), default=None
        )


def read_workflows(path: Path | str) -> Workflows:
    """Read the versions in a workflow export.

    Args:
        path: The export as CSV; or one version, a list of versions or a response of the API
            (`{"workflow_versions": [...]}`) as JSON or as a Python literal.

    Raises:
        NotFoundError: The file does not exist.
        TableError: The file contains no workflow that can be read.
    """
    path = Path(path)
    if not path.is_file():
        raise NotFoundError(f"Workflow export not found: '{path}'.", _EXPECTED, _CHECK_PATH)
    if path.stat().st_size > MAX_FILE:
        raise TableError(f"'{path}' has {path.stat().st_size:,} bytes.", f"at most {MAX_FILE:,} bytes.", _CHECK_PATH)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"'{path}' is not UTF-8: byte {error.start + 1} is 0x{error.object[error.start]:02x}."
        raise TableError(message, _EXPECTED, _EXPORT_AGAIN) from error
    found = list(_structured(path, text) if text.lstrip()[:1] in ("[", "{") else _rows(path, text))
    if not found:
        raise TableError(f"'{path}' contains no workflow.", _EXPECTED, _CHECK_PATH)
    return Workflows(found)


def _rows(path: Path, text: str) -> Iterator[Version]:
    csv.field_size_limit(MAX_FILE)
    rows = csv.DictReader(io.StringIO(text, newline=""))
    missing = {"workflow_id", "version", "tasks", "strings"} - set(rows.fieldnames or ())
    if missing:
        raise TableError(
            f"'{path}' lacks the column {', '.join(sorted(missing))}.",
            _EXPECTED,
            "Check that it is the workflow export, not the classification export.",
        )
    for i, row in enumerate(rows, 1):
        where = f"{path}, row {i}"
        if None in row or None in row.values():  # type: ignore[comparison-overlap]
            n = len([one for one in row.values() if one is not None])
            message = f"{where} has too {'many' if None in row else 'few'} cells ({n}; the header has {len(row)})."
            raise TableError(message, "as many cells as column names.", _EXPORT_AGAIN)
        facts: dict[str, object] = {**row, "major": row["version"], "minor": row.get("minor_version")}
        for name in ("tasks", "strings"):
            try:
                facts[name] = json.loads(row[name] or "{}")
            except (ValueError, RecursionError) as error:
                message = f"{where}: column {name} is not JSON: {reason(error)}."
                raise TableError(message, "", _EXPORT_AGAIN) from error
        yield _version(where, facts)


def _structured(path: Path, text: str) -> Iterator[Version]:
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError) as problem:
        try:
            value = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise TableError(f"'{path}' is not JSON: {reason(problem)}.", _EXPECTED, _EXPORT_AGAIN) from problem
    if isinstance(value, dict):
        facts = cast("dict[str, object]", value)
        value = next((facts[key] for key in ("workflow_versions", "workflows") if key in facts), [facts])
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in cast("list[object]", value)):
        raise TableError(f"'{path}' is not a list of workflow versions.", _EXPECTED, _EXPORT_AGAIN)
    for i, one in enumerate(cast("list[dict[str, object]]", value), 1):
        links = one.get("links")
        linked = cast("dict[str, object]", links).get("workflow") if isinstance(links, dict) else None
        major, minor = one.get("major_number"), one.get("minor_number")
        if major is None:  # workflows from the API have both numbers in one string
            major, _, minor = str(one.get("version", "")).partition(".")
        own = {"workflow_id": linked or one.get("workflow_id") or one.get("id"), "major": major, "minor": minor}
        yield _version(f"{path}, version {i}", {**one, **own})


def _version(where: str, facts: Mapping[str, object]) -> Version:
    def text(name: str) -> str:
        value = facts.get(name)
        return "" if value is None else str(value).strip()

    tasks, strings = facts.get("tasks"), facts.get("strings")
    if not text("workflow_id") or not text("major") or not isinstance(tasks, dict):
        missing = "no tasks" if text("workflow_id") and text("major") else "no workflow number or no version"
        raise TableError(f"{where} has {missing}.", _EXPECTED, _EXPORT_AGAIN)
    labels = cast("dict[str, object]", strings) if isinstance(strings, dict) else {}
    listed = cast("dict[object, object]", tasks).items()
    found = {
        str(key): _task(str(key), cast("dict[str, object]", task), labels)
        for key, task in listed
        if isinstance(task, dict)
    }
    first = text("first_task") if text("first_task") in found else next(iter(found), "")
    return Version(text("workflow_id"), text("display_name"), text("major"), text("minor"), found, first)


def _task(key: str, task: Mapping[str, object], labels: Mapping[str, object]) -> Task:
    def label(value: object) -> str:
        text = str(value or "")
        return plain(str(labels.get(text, text)))

    listed = task.get("answers")
    answers = [
        cast("dict[str, object]", one)
        for one in (cast("list[object]", listed) if isinstance(listed, list) else [])
        if isinstance(one, dict)
    ]
    return Task(
        key=key,
        kind=str(task.get("type") or ""),
        label=label(task.get("question") or task.get("instruction")),
        answers=tuple(label(one.get("label")) for one in answers),
        following=tuple(str(one.get("next") or "") for one in answers),
        following_task=str(task.get("next") or ""),
        is_required=task.get("required") in (True, "true"),
    )


def _number(text: str) -> int:
    """Return a number for the order of versions; equality is always of strings."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1
